//! Ranks: top-k, Kendall's τ-b, NDCG.

use std::cmp::Ordering;
use std::collections::HashSet;

/// Indices by falling value; ties to the lowest index, NaN last.
fn order(values: &[f64]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| match (values[a].is_nan(), values[b].is_nan()) {
        (false, false) => values[b].partial_cmp(&values[a]).unwrap_or(Ordering::Equal),
        (a, b) => a.cmp(&b),
    });
    order
}

/// Indices of the `k` largest elements; ties to the lowest index, NaN last.
pub fn top(values: &[f64], k: usize) -> Vec<usize> {
    let mut order = order(values);
    order.truncate(k);
    order
}

/// |A ∩ B| / |A ∪ B| of the sets of the `k` largest elements of both; 1 where both are empty.
pub fn jaccard_top(reference: &[f64], stage: &[f64], k: usize) -> f64 {
    let a: HashSet<usize> = top(reference, k).into_iter().collect();
    let b: HashSet<usize> = top(stage, k).into_iter().collect();
    let both = a.intersection(&b).count();
    let either = a.len() + b.len() - both;
    if either == 0 {
        return 1.0;
    }
    #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
    let share = both as f64 / either as f64;
    share
}

/// Kendall's τ-b, ties corrected; `None` where one side is constant, has fewer than two elements,
/// or any NaN: there is no order to speak of.
///
/// Source: M. G. Kendall, Biometrika 33 (1945) 239–251; O(n log n) after W. R. Knight, Journal of
/// the American Statistical Association 61 (1966) 436–439.
pub fn kendall_tau(x: &[f64], y: &[f64]) -> Option<f64> {
    let n = x.len();
    if n < 2 || n != y.len() || x.iter().chain(y).any(|v| v.is_nan()) {
        return None;
    }
    let by = |a: f64, b: f64| a.partial_cmp(&b).unwrap_or(Ordering::Equal);
    let mut pairs: Vec<(f64, f64)> = x.iter().copied().zip(y.iter().copied()).collect();
    pairs.sort_by(|a, b| by(a.0, b.0).then(by(a.1, b.1)));
    let mut ys: Vec<f64> = pairs.iter().map(|p| p.1).collect();
    let tied_x = tied(&pairs, |a, b| a.0 == b.0);
    let tied_both = tied(&pairs, |a, b| a == b);
    let discordant = sort_and_count(&mut ys);
    let tied_y = tied(&ys, |a, b| a == b);
    let total = pairs_of(n as u64);
    if total == tied_x || total == tied_y {
        return None;
    }
    #[expect(clippy::cast_precision_loss, reason = "pairs of one item's elements")]
    let f = |v: u64| v as f64;
    let difference = f(total + tied_both) - f(tied_x) - f(tied_y) - 2.0 * f(discordant);
    Some(difference / f(total - tied_x).sqrt() / f(total - tied_y).sqrt())
}

fn pairs_of(n: u64) -> u64 {
    n * n.saturating_sub(1) / 2
}

/// Pairs within runs of equal neighbours.
fn tied<T>(sorted: &[T], same: impl Fn(&T, &T) -> bool) -> u64 {
    sorted
        .chunk_by(same)
        .map(|run| pairs_of(run.len() as u64))
        .sum()
}

/// Sorts, and counts the pairs that stood in falling order (bottom-up merge sort).
fn sort_and_count(values: &mut Vec<f64>) -> u64 {
    let n = values.len();
    let mut swaps = 0;
    let mut width = 1;
    while width < n {
        let mut merged = Vec::with_capacity(n);
        for start in (0..n).step_by(2 * width) {
            let (middle, end) = ((start + width).min(n), (start + 2 * width).min(n));
            let (mut i, mut j) = (start, middle);
            while i < middle || j < end {
                if j == end || (i < middle && values[i] <= values[j]) {
                    merged.push(values[i]);
                    i += 1;
                } else {
                    swaps += (middle - i) as u64;
                    merged.push(values[j]);
                    j += 1;
                }
            }
        }
        *values = merged;
        width *= 2;
    }
    swaps
}

/// NDCG@k of the order that `scores` give to elements of gain `relevance` (0 or greater), tied
/// scores averaged; `None` where nothing is relevant or a score is NaN.
///
/// Source: K. Järvelin, J. Kekäläinen, ACM Transactions on Information Systems 20 (2002) 422–446;
/// ties after F. McSherry, M. Najork, ECIR 2008.
pub fn ndcg(relevance: &[f64], scores: &[f64], k: Option<usize>) -> Option<f64> {
    let n = relevance.len();
    if n != scores.len() || scores.iter().any(|s| s.is_nan()) {
        return None;
    }
    let k = k.unwrap_or(n).min(n);
    #[expect(clippy::cast_precision_loss, reason = "ranks are far below 2^53")]
    let discount = |rank: usize| {
        if rank < k {
            1.0 / ((rank + 2) as f64).log2()
        } else {
            0.0
        }
    };
    let ideal: f64 = order(relevance)
        .into_iter()
        .enumerate()
        .map(|(rank, i)| relevance[i] * discount(rank))
        .sum();
    if ideal <= 0.0 || !ideal.is_finite() {
        return None;
    }
    let mut gained = 0.0;
    let mut rank = 0;
    for run in order(scores).chunk_by(|&a, &b| scores[a] == scores[b]) {
        let discounts: f64 = (rank..rank + run.len()).map(discount).sum();
        let gains: f64 = run.iter().map(|&i| relevance[i]).sum();
        #[expect(clippy::cast_precision_loss, reason = "a count of elements")]
        let mean = gains / run.len() as f64;
        gained += mean * discounts;
        rank += run.len();
    }
    Some(gained / ideal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tau_by_its_definition() {
        // Every pair counted: 4 elements, one tie in x.
        let (x, y) = ([1.0, 1.0, 2.0, 3.0], [1.0, 2.0, 4.0, 3.0]);
        let tau = kendall_tau(&x, &y).unwrap();
        let (concordant, discordant): (f64, f64) = (4.0, 1.0);
        assert!((tau - (concordant - discordant) / (5.0f64 * 6.0).sqrt()).abs() < 1e-15);
        assert_eq!(kendall_tau(&[1.0, 1.0], &[1.0, 2.0]), None);
        assert_eq!(kendall_tau(&[1.0], &[1.0]), None);
        assert_eq!(kendall_tau(&[1.0, f64::NAN], &[1.0, 2.0]), None);
    }

    #[test]
    fn the_ideal_order_gains_all_and_a_tie_its_mean() {
        assert_eq!(ndcg(&[3.0, 2.0, 1.0], &[9.0, 8.0, 7.0], None), Some(1.0));
        let tied = ndcg(&[1.0, 0.0], &[5.0, 5.0], None).unwrap();
        assert!((tied - 0.5 * (1.0 + 1.0 / 3f64.log2())).abs() < 1e-15);
        assert_eq!(ndcg(&[0.0, 0.0], &[1.0, 2.0], None), None);
    }

    #[test]
    fn ties_go_to_the_lowest_index_and_nan_to_the_end() {
        assert_eq!(top(&[1.0, 3.0, 3.0, f64::NAN], 3), [1, 2, 0]);
        assert_eq!(
            jaccard_top(&[3.0, 2.0, 1.0], &[3.0, 1.0, 2.0], 2),
            1.0 / 3.0
        );
        assert_eq!(jaccard_top(&[], &[], 2), 1.0);
    }
}
