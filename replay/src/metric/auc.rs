//! Area under the ROC curve.

/// Weighted AUC: the chance that a positive item scores above a negative one, ties counted half.
/// Orders are kept so that weights can change (bootstrap) without sorting again.
///
/// Source: J. A. Hanley, B. J. McNeil, Radiology 143 (1982) 29–36 (the Mann–Whitney form).
#[derive(Debug, Clone, PartialEq)]
pub struct Auc {
    /// Items by rising score, in runs of equal score.
    runs: Vec<Vec<usize>>,
    positive: Vec<bool>,
}

impl Auc {
    /// Sorts `scores`; NaN scores lowest, as an answer that can decide nothing.
    pub fn new(scores: &[f64], positive: &[bool]) -> Self {
        let mut order: Vec<usize> = (0..scores.len()).collect();
        let key = |i: usize| {
            let s = scores[i];
            // −0 and 0 are one score.
            if s.is_nan() {
                f64::NEG_INFINITY
            } else {
                s + 0.0
            }
        };
        order.sort_by(|&a, &b| key(a).total_cmp(&key(b)));
        let runs = order
            .chunk_by(|&a, &b| key(a) == key(b))
            .map(<[usize]>::to_vec)
            .collect();
        Self {
            runs,
            positive: positive.to_vec(),
        }
    }

    /// The area under these weights; `None` where one class has no weight.
    pub fn at(&self, weights: &[f64]) -> Option<f64> {
        let (mut below, mut area, mut positives) = (0.0, 0.0, 0.0);
        for run in &self.runs {
            let (mut p, mut n) = (0.0, 0.0);
            for &i in run {
                if self.positive[i] {
                    p += weights[i];
                } else {
                    n += weights[i];
                }
            }
            area += p * (below + 0.5 * n);
            below += n;
            positives += p;
        }
        (below > 0.0 && positives > 0.0).then(|| area / (below * positives))
    }
}

/// AUC of `scores`; `None` where one class is missing.
pub fn auc(scores: &[f64], positive: &[bool], weights: &[f64]) -> Option<f64> {
    Auc::new(scores, positive).at(weights)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_its_definition() {
        let (scores, positive) = ([0.1, 0.4, 0.4, 0.8], [false, true, false, true]);
        // Pairs: (0.4,0.1)=1, (0.4,0.4)=½, (0.8,0.1)=1, (0.8,0.4)=1.
        assert_eq!(auc(&scores, &positive, &[1.0; 4]), Some(3.5 / 4.0));
        assert_eq!(auc(&scores, &[true; 4], &[1.0; 4]), None);
        assert_eq!(auc(&[], &[], &[]), None);
    }
}
