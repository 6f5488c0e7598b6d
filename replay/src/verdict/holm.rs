//! Holm's step-down procedure.

/// For each p-value: the confidence 1 − α/(m − k) at which it is to be shown, and whether the
/// procedure rejects it at family-wise `alpha`.
///
/// Source: S. Holm, Scandinavian Journal of Statistics 6 (1979) 65–70.
pub fn holm(p_values: &[f64], alpha: f64) -> Vec<(f64, bool)> {
    let mut order: Vec<usize> = (0..p_values.len()).collect();
    order.sort_by(|&a, &b| p_values[a].total_cmp(&p_values[b]));
    let mut out = vec![(1.0 - alpha, false); p_values.len()];
    let mut rejecting = true;
    for (k, &i) in order.iter().enumerate() {
        #[expect(clippy::cast_precision_loss, reason = "a ladder has few stages")]
        let level = alpha / (p_values.len() - k) as f64;
        rejecting = rejecting && p_values[i] <= level;
        out[i] = (1.0 - level, rejecting);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_down_and_stops_at_the_first_that_holds() {
        let rejected: Vec<bool> = holm(&[0.04, 0.001, 0.03, 0.012], 0.05)
            .into_iter()
            .map(|r| r.1)
            .collect();
        assert_eq!(rejected, [false, true, false, true]);
        assert_eq!(holm(&[], 0.05), []);
        assert!(holm(&[0.05], 0.05)[0].1);
    }
}
