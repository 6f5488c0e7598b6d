//! Tango's score interval for the difference of paired proportions.
//!
//! Source: T. Tango, "Equivalence test and confidence interval for the difference in proportions
//! for the paired-sample design", Statistics in Medicine 17 (1998) 891–908. Chosen over Wald and
//! Agresti–Min for its coverage where one cell is empty (`docs/verdicts.md`).

use super::normal_quantile;

/// Interval of Δ = (c − b)/n at two-sided `confidence`; `b` = only the reference is right, `c` =
/// only the stage is, `n` = pairs. Δ < 0 is worse.
pub fn interval(b: u64, c: u64, n: u64, confidence: f64) -> [f64; 2] {
    if n == 0 {
        return [-1.0, 1.0];
    }
    #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
    let (b, c, n) = (b as f64, c as f64, n as f64);
    let z = normal_quantile(0.5 + confidence / 2.0);
    let estimate = (c - b) / n;
    // The statistic falls with Δ: one root on each side of the estimate.
    let lower = root(|d| statistic(b, c, n, d) - z, -1.0, estimate);
    let upper = root(|d| statistic(b, c, n, d) + z, estimate, 1.0);
    [lower, upper]
}

/// The score statistic of Δ = d, with the restricted maximum-likelihood estimate of p(b).
fn statistic(b: f64, c: f64, n: f64, d: f64) -> f64 {
    let w = -c - b + (2.0 * n - c + b) * d;
    let v = -b * d * (1.0 - d);
    let p = ((w * w - 8.0 * n * v).max(0.0).sqrt() - w) / (4.0 * n);
    let variance = n * (2.0 * p + d * (1.0 - d));
    let distance = c - b - n * d;
    if variance > 0.0 {
        distance / variance.sqrt()
    } else if distance == 0.0 {
        0.0
    } else {
        distance.signum() * f64::INFINITY
    }
}

/// Where a falling function crosses zero. Bisection: it needs no derivative and cannot diverge.
fn root(f: impl Fn(f64) -> f64, mut low: f64, mut high: f64) -> f64 {
    for _ in 0..80 {
        let middle = 0.5 * (low + high);
        if f(middle) > 0.0 {
            low = middle
        } else {
            high = middle
        }
    }
    0.5 * (low + high)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_satisfy_their_equation_and_closed_forms() {
        // The limits are where the statistic is ±z.
        let z = normal_quantile(0.975);
        for (b, c, n) in [(1, 0, 44), (9, 2, 50), (3, 40, 1000), (0, 7, 7)] {
            let [low, high] = interval(b, c, n, 0.95);
            let at = |d: f64| statistic(b as f64, c as f64, n as f64, d);
            assert!(low <= -1.0 + 1e-9 || (at(low) - z).abs() < 1e-6, "{low}");
            assert!(high >= 1.0 - 1e-9 || (at(high) + z).abs() < 1e-6, "{high}");
        }
        // No discordant pair: z²/(n+z²).
        let z2 = normal_quantile(0.95).powi(2);
        let [low, high] = interval(0, 0, 898, 0.90);
        assert!((high - z2 / (898.0 + z2)).abs() < 1e-9 && (low + high).abs() < 1e-9);
        let mirrored = interval(7, 3, 100, 0.95);
        let back = interval(3, 7, 100, 0.95);
        assert!((mirrored[0] + back[1]).abs() < 1e-9 && (mirrored[1] + back[0]).abs() < 1e-9);
    }

    /// Exact coverage: every (b, c) weighted by its trinomial probability.
    fn coverage(n: u64, pb: f64, pc: f64) -> f64 {
        let ln_factorial = |k: u64| statrs::function::gamma::ln_gamma(k as f64 + 1.0);
        let term = |k: u64, p: f64| if k == 0 { 0.0 } else { k as f64 * p.ln() };
        let delta = pc - pb;
        let most = |p: f64| ((n as f64 * p + 12.0 * (n as f64 * p).sqrt() + 12.0) as u64).min(n);
        let (mut covered, mut total) = (0.0, 0.0);
        for b in 0..=if pb == 0.0 { 0 } else { most(pb) } {
            for c in 0..=if pc == 0.0 { 0 } else { most(pc).min(n - b) } {
                let rest = n - b - c;
                let ln = ln_factorial(n) - ln_factorial(b) - ln_factorial(c) - ln_factorial(rest)
                    + term(b, pb)
                    + term(c, pc)
                    + term(rest, 1.0 - pb - pc);
                let p = ln.exp();
                total += p;
                if p > 1e-9 {
                    let [low, high] = interval(b, c, n, 0.95);
                    covered += if low <= delta && delta <= high {
                        p
                    } else {
                        0.0
                    };
                }
            }
        }
        assert!((total - 1.0).abs() < 1e-6);
        covered
    }

    #[test]
    fn coverage_holds_where_one_cell_is_empty() {
        let mut all = Vec::new();
        for n in [100, 500, 2000] {
            for expected in [1.0, 2.0, 3.0, 5.0, 20.0] {
                let pb = expected / n as f64;
                for pc in [0.0, pb / 4.0, pb] {
                    all.push((coverage(n, pb, pc), n, pb, pc));
                }
            }
        }
        let worst = all.iter().min_by(|a, b| a.0.total_cmp(&b.0)).unwrap();
        let mean = all.iter().map(|c| c.0).sum::<f64>() / all.len() as f64;
        println!(
            "coverage of the 95 % interval: mean {mean:.4}, least {:.4} at n={} p_b={} p_c={}",
            worst.0, worst.1, worst.2, worst.3
        );
        assert!(
            mean >= 0.95 && worst.0 >= 0.93,
            "mean {mean}, worst {worst:?}"
        );
    }
}
