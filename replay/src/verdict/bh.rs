//! Benjamini and Hochberg's step-up procedure.

/// For each p-value, whether it is a discovery at false-discovery rate `q`.
///
/// Source: Y. Benjamini, Y. Hochberg, Journal of the Royal Statistical Society B 57 (1995) 289–300.
pub fn benjamini_hochberg(p_values: &[f64], q: f64) -> Vec<bool> {
    let mut order: Vec<usize> = (0..p_values.len()).collect();
    order.sort_by(|&a, &b| p_values[a].total_cmp(&p_values[b]));
    #[expect(clippy::cast_precision_loss, reason = "slices are few")]
    let line = |k: usize| q * (k + 1) as f64 / p_values.len() as f64;
    let last = (0..order.len())
        .rev()
        .find(|&k| p_values[order[k]] <= line(k));
    let mut out = vec![false; p_values.len()];
    for &i in order.iter().take(last.map_or(0, |k| k + 1)) {
        out[i] = true;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_that_holds_takes_all_smaller_ones_along() {
        // The example of the paper: 15 p-values, four discoveries.
        let p = [
            0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344, 0.0459, 0.3240, 0.4262,
            0.5719, 0.6528, 0.7590, 1.0,
        ];
        let found = benjamini_hochberg(&p, 0.05);
        assert_eq!(found.iter().filter(|f| **f).count(), 4);
        assert!(found[3] && !found[4]);
        // The second fails its own line, but the third holds.
        assert_eq!(
            benjamini_hochberg(&[0.01, 0.034, 0.04], 0.05),
            [true, true, true]
        );
        assert!(benjamini_hochberg(&[], 0.05).is_empty());
    }
}
