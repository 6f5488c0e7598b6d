//! Embeddings: cosine, and whether neighbours stay neighbours.

use std::collections::HashSet;

/// Cosine of two vectors, scaled by their largest magnitude first so that squares neither overflow
/// nor vanish. Both zero: 1; one zero: 0; never clamped. `None` with anything non-finite.
pub fn cosine(a: &[f64], b: &[f64]) -> Option<f64> {
    if a.len() != b.len() || a.iter().chain(b).any(|v| !v.is_finite()) {
        return None;
    }
    let largest = |v: &[f64]| v.iter().fold(0.0f64, |m, x| m.max(x.abs()));
    let (ma, mb) = (largest(a), largest(b));
    if ma == 0.0 || mb == 0.0 {
        return Some(f64::from(u8::from(ma == mb)));
    }
    let (mut dot, mut aa, mut bb) = (0.0, 0.0, 0.0);
    for (x, y) in a.iter().zip(b) {
        let (x, y) = (x / ma, y / mb);
        dot += x * y;
        aa += x * x;
        bb += y * y;
    }
    Some(dot / (aa.sqrt() * bb.sqrt()))
}

/// For each query (an index into the items): the share of its `k` nearest neighbours by cosine
/// among all other items, in `reference`, that are also among its `k` nearest in `stage`. A zero
/// vector is at a right angle to everything; ties go to the lowest index.
pub fn recall(reference: &[Vec<f64>], stage: &[Vec<f64>], k: usize, queries: &[usize]) -> Vec<f64> {
    let (a, b) = (unit(reference), unit(stage));
    let k = k.min(reference.len().saturating_sub(1));
    queries
        .iter()
        .map(|&q| {
            if k == 0 {
                return 1.0;
            }
            let wanted: HashSet<usize> = nearest(&a, q, k).into_iter().collect();
            let found = nearest(&b, q, k);
            let kept = found.iter().filter(|i| wanted.contains(i)).count();
            #[expect(clippy::cast_precision_loss, reason = "a count of neighbours")]
            let share = kept as f64 / k as f64;
            share
        })
        .collect()
}

fn unit(rows: &[Vec<f64>]) -> Vec<Vec<f64>> {
    rows.iter()
        .map(|row| {
            let largest = row.iter().fold(0.0f64, |m, x| m.max(x.abs()));
            let largest = if largest > 0.0 { largest } else { 1.0 };
            let squares: f64 = row.iter().map(|x| (x / largest).powi(2)).sum();
            let norm = if squares > 0.0 { squares.sqrt() } else { 1.0 };
            row.iter().map(|x| x / largest / norm).collect()
        })
        .collect()
}

fn nearest(units: &[Vec<f64>], query: usize, k: usize) -> Vec<usize> {
    let of = &units[query];
    let mut by: Vec<(f64, usize)> = units
        .iter()
        .enumerate()
        .filter(|(i, _)| *i != query)
        .map(|(i, u)| (of.iter().zip(u).map(|(x, y)| x * y).sum(), i))
        .collect();
    let closer = |a: &(f64, usize), b: &(f64, usize)| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1));
    if k < by.len() {
        by.select_nth_unstable_by(k, closer);
        by.truncate(k);
    }
    by.into_iter().map(|(_, i)| i).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cosine_of_huge_tiny_and_zero_vectors() {
        assert!((cosine(&[1e300, 1e300], &[1e-300, 0.0]).unwrap() - 0.5f64.sqrt()).abs() < 1e-15);
        assert_eq!(cosine(&[0.0], &[0.0]), Some(1.0));
        assert_eq!(cosine(&[0.0], &[1.0]), Some(0.0));
        assert_eq!(cosine(&[f64::NAN], &[1.0]), None);
    }

    #[test]
    fn a_rotated_space_keeps_its_neighbours_and_a_shuffled_one_does_not() {
        let rows: Vec<Vec<f64>> = (0..40)
            .map(|i| vec![f64::from(i).sin(), f64::from(i * i).cos(), 1.0])
            .collect();
        let turned: Vec<Vec<f64>> = rows.iter().map(|r| vec![r[1], -r[0], r[2] * 1.0]).collect();
        let queries: Vec<usize> = (0..40).collect();
        assert!(
            recall(&rows, &turned, 5, &queries)
                .iter()
                .all(|&v| v == 1.0)
        );
        let mut shuffled = rows.clone();
        shuffled.reverse();
        let kept: f64 = recall(&rows, &shuffled, 5, &queries).iter().sum();
        assert!(kept < 20.0, "{kept}");
        assert_eq!(recall(&rows[..1], &rows[..1], 5, &[0]), [1.0]);
    }
}
