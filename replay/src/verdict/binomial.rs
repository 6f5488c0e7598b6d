//! Clopper–Pearson bounds: exact, one-sided.

use statrs::function::beta::beta_reg;

/// The largest p that `k` of `n` does not contradict at one-sided `confidence`.
pub fn upper(k: u64, n: u64, confidence: f64) -> f64 {
    if k >= n {
        return 1.0;
    }
    #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
    quantile(k as f64 + 1.0, (n - k) as f64, confidence)
}

/// The smallest p that `k` of `n` does not contradict at one-sided `confidence`.
pub fn lower(k: u64, n: u64, confidence: f64) -> f64 {
    if k == 0 {
        return 0.0;
    }
    #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
    quantile(k as f64, (n - k) as f64 + 1.0, 1.0 - confidence)
}

fn quantile(a: f64, b: f64, p: f64) -> f64 {
    let (mut low, mut high) = (0.0, 1.0);
    for _ in 0..100 {
        let middle = 0.5 * (low + high);
        if beta_reg(a, b, middle) < p {
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
    fn no_flip_in_n_gives_the_rule_of_three() {
        assert!((upper(0, 898, 0.95) - (1.0 - 0.05f64.powf(1.0 / 898.0))).abs() < 1e-9);
        assert_eq!(lower(0, 898, 0.95), 0.0);
        assert!((lower(898, 898, 0.95) - 0.05f64.powf(1.0 / 898.0)).abs() < 1e-9);
        assert_eq!(upper(898, 898, 0.95), 1.0);
    }

    #[test]
    fn bounds_are_exact_tail_probabilities() {
        // P(X ≤ 3 | n = 50, p = upper) = 5 %.
        let p = upper(3, 50, 0.95);
        let choose = |k: u64| (1..=k).fold(1.0, |a, i| a * (51 - i) as f64 / i as f64);
        let tail: f64 = (0..=3)
            .map(|k| choose(k) * p.powi(k as i32) * (1.0 - p).powi(50 - k as i32))
            .sum();
        assert!((tail - 0.05).abs() < 1e-9);
    }
}
