//! How many items would decide.

use super::normal_quantile;

/// Chance that a sample of the named size decides, if what was seen is what there is.
const POWER: f64 = 0.80;
/// The equivalence test may fail on two sides.
const POWER_TWO_SIDED: f64 = 0.90;

/// What is known so far.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SoFar {
    /// Items.
    pub n: u64,
    /// Δ, or minus the flip rate.
    pub delta: f64,
    /// Its standard error.
    pub standard_error: f64,
    /// Δ below 0 cannot be told from noise unless it is past this: 0 with labels, δ without.
    pub null: f64,
    /// Accepted change.
    pub margin: f64,
    /// Two-sided confidence at which an effect must be shown.
    pub confidence: f64,
    /// Items that one independent observation stands for (1 where items are independent).
    pub design: f64,
}

/// The n at which, with a chance of 80 %, either the 90 % interval lies inside ±δ or the interval at
/// `confidence` excludes the null: n·(z·se/h)², h being the distance to δ or to the null. Where
/// nothing changed yet the score interval's own width decides. `None` where no n would.
///
/// Source: the usual normal approximation; checked by simulation (`docs/verdicts.md`).
pub fn n_to_decide(so_far: &SoFar) -> Option<u64> {
    #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
    let n = so_far.n as f64;
    let shift = so_far.delta.abs();
    let z_equal = normal_quantile(0.95) + normal_quantile(POWER_TWO_SIDED);
    let z_effect = normal_quantile(0.5 + so_far.confidence / 2.0) + normal_quantile(POWER);
    // One change in n is the least that can be ruled out.
    let se = so_far.standard_error.max(so_far.design.sqrt() / n);
    let by = |h: f64, z: f64| (h > 0.0).then(|| n * (z * se / h).powi(2));
    // With a handful of changes a score interval is longer on the far side than the normal: it
    // moves its centre by z²/n.
    let z2 = normal_quantile(0.95).powi(2);
    let equal = by(so_far.margin - shift, z_equal)
        .map(|m| m + so_far.design * z2 / (so_far.margin - shift).max(1e-12));
    let effect = by(shift - so_far.null, z_effect)
        .map(|m| m + so_far.design * z2 / (shift - so_far.null).max(1e-12));
    let n = equal.into_iter().chain(effect).reduce(f64::min)?;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "checked below 2^53"
    )]
    (n < 9e15).then(|| (n.ceil() as u64).max(so_far.n + 1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verdict::clusters::SplitMix;
    use crate::verdict::tango_interval;

    /// How often a sample of `n` items decides, in truth `(p_b, p_c)`.
    fn power(n: u64, p_b: f64, p_c: f64, margin: f64) -> f64 {
        let mut r = SplitMix(n ^ 77);
        let runs = 300;
        let decided = (0..runs).filter(|_| {
            let (mut b, mut c) = (0, 0);
            for _ in 0..n {
                let u = r.uniform();
                b += u64::from(u < p_b);
                c += u64::from(u >= p_b && u < p_b + p_c);
            }
            let narrow = tango_interval(b, c, n, 0.90);
            let wide = tango_interval(b, c, n, 0.95);
            let equivalent = narrow[0] > -margin && narrow[1] < margin;
            equivalent || wide[1] < 0.0 || wide[0] > 0.0
        });
        decided.count() as f64 / f64::from(runs)
    }

    #[test]
    fn the_named_n_decides_four_times_of_five() {
        let mut least = (1.0, 0.0, 0.0, 0);
        for (p_b, p_c) in [
            (0.002, 0.0),
            (0.004, 0.0),
            (0.004, 0.002),
            (0.01, 0.01),
            (0.02, 0.01),
            (0.02, 0.017),
            (0.003, 0.003),
        ] {
            let (n, margin) = (400u64, 0.005);
            let (b, c) = (n as f64 * p_b, n as f64 * p_c);
            let delta = p_c - p_b;
            let named = n_to_decide(&SoFar {
                n,
                delta,
                standard_error: ((b + c) - (c - b).powi(2) / n as f64).sqrt() / n as f64,
                null: 0.0,
                margin,
                confidence: 0.95,
                design: 1.0,
            });
            let named = named.unwrap();
            let power = power(named, p_b, p_c, margin);
            println!("p_b {p_b} p_c {p_c}: {named} items decide with a chance of {power:.2}");
            if power < least.0 {
                least = (power, p_b, p_c, named);
            }
        }
        assert!(least.0 >= 0.80, "{least:?}");
    }

    #[test]
    fn nothing_decides_what_lies_on_the_border() {
        let so_far = |delta: f64, null: f64| SoFar {
            n: 100,
            delta,
            standard_error: 0.01,
            null,
            margin: 0.005,
            confidence: 0.95,
            design: 1.0,
        };
        assert_eq!(n_to_decide(&so_far(-0.005, 0.005)), None);
        assert!(n_to_decide(&so_far(-0.05, 0.0)).unwrap() > 100);
        let lone = n_to_decide(&so_far(0.0, 0.0)).unwrap();
        let clustered = SoFar {
            design: 4.0,
            standard_error: 0.02,
            ..so_far(0.0, 0.0)
        };
        assert!(n_to_decide(&clustered).unwrap() > 3 * lone);
    }
}
