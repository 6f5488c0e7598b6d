//! What one metric sees of one stage: counts, Δ, and how sure one can be of it.

use std::collections::HashMap;

use inferdiff_schemas::run::requests::RequestRow;

use super::collect::ItemData;
use super::weight;
use crate::labels::Joined;
use crate::verdict::{
    Cluster, ClusterEstimate, binomial_lower, binomial_upper, paired_p_value, tango_interval,
};

/// Seed of the cluster bootstrap: the same run always gives the same verdicts.
const SEED: u64 = 0x1fe4_d1ff;

/// What one metric sees of one stage.
pub(super) struct Sample {
    pub labelled: bool,
    pub n: u64,
    /// Weighted fractions right (labelled), or agreement (unlabelled, stage only).
    pub reference: Option<f64>,
    pub stage: f64,
    pub delta: f64,
    pub b: u64,
    pub c: u64,
    pub flips: u64,
    pub ties: u64,
    /// Of exchanges, where items stand in clusters or weights differ; none where plain pairs do.
    clusters: Option<ClusterEstimate>,
}

impl Sample {
    /// Counts `items`; with labels only the labelled ones.
    pub fn new(items: &[ItemData], requests: &[RequestRow], labels: Option<&Joined>) -> Self {
        let mut s = Self {
            labelled: labels.is_some(),
            n: 0,
            reference: None,
            stage: 0.0,
            delta: 0.0,
            b: 0,
            c: 0,
            flips: 0,
            ties: 0,
            clusters: None,
        };
        let (mut total, mut reference_right, mut stage_right) = (0.0, 0.0, 0.0);
        let mut clusters: HashMap<String, (Cluster, u64)> = HashMap::new();
        let mut first_weight = None;
        let mut weighted = false;
        for item in items {
            let label = labels.and_then(|l| l.by_item.get(&(item.request, item.item)));
            if labels.is_some() && label.is_none() {
                continue;
            }
            let w = weight(&requests[item.request]) * label.map_or(1.0, |l| l.weight);
            weighted |= (*first_weight.get_or_insert(w) - w).abs() > 1e-12 * w;
            // Without a comparison there is no agreement. With one, two items that both hold NaN agree:
            // neither has a top-1, and with labels neither is right.
            let agree = item.compared && item.stage == item.reference;
            let (r, t) = match label {
                Some(l) => {
                    let right = |top: Option<u32>| top.is_some_and(|t| i64::from(t) == l.label);
                    (right(item.reference), right(item.stage))
                }
                None => (true, agree),
            };
            s.n += 1;
            s.flips += u64::from(!agree);
            s.ties += u64::from(item.tie);
            s.b += u64::from(r && !t);
            s.c += u64::from(t && !r);
            total += w;
            reference_right += w * f64::from(u8::from(r));
            stage_right += w * f64::from(u8::from(t));
            let key = label
                .and_then(|l| l.cluster.as_ref().map(|c| format!("c{c}")))
                .unwrap_or_else(|| format!("r{}", item.request));
            let (cluster, count) = clusters.entry(key).or_insert((
                Cluster {
                    weight: 0.0,
                    change: 0.0,
                },
                0,
            ));
            cluster.weight += w;
            cluster.change += w * (f64::from(u8::from(t)) - f64::from(u8::from(r)));
            *count += 1;
        }
        if s.n == 0 {
            return s;
        }
        s.reference = s.labelled.then_some(reference_right / total);
        s.stage = stage_right / total;
        s.delta = (stage_right - reference_right) / total;
        if weighted || clusters.values().any(|(_, count)| *count > 1) {
            let mut keyed: Vec<(String, Cluster)> = clusters
                .into_iter()
                .map(|(key, (cluster, _))| (key, cluster))
                .collect();
            // The bootstrap draws by position, so the order must not be the hash map's.
            keyed.sort_by(|a, b| a.0.cmp(&b.0));
            let clusters: Vec<Cluster> = keyed.into_iter().map(|(_, cluster)| cluster).collect();
            s.clusters = Some(ClusterEstimate::new(&clusters, SEED));
        }
        s
    }

    pub fn interval(&self, confidence: f64) -> [f64; 2] {
        if let Some(clusters) = &self.clusters {
            return clusters.interval(confidence);
        }
        if self.labelled {
            return tango_interval(self.b, self.c, self.n, confidence);
        }
        // Agreement only ever falls: exact bounds of the flip rate, one on each side.
        let one_sided = 0.5 + confidence / 2.0;
        [
            -binomial_upper(self.b, self.n, one_sided),
            -binomial_lower(self.b, self.n, one_sided),
        ]
    }

    /// Of "no effect": Δ = 0 with labels, a flip rate of at most δ without.
    pub fn p_value(&self, margin: f64) -> f64 {
        if self.labelled {
            return match &self.clusters {
                None => paired_p_value(self.b, self.c),
                Some(clusters) => clusters.p_value(),
            };
        }
        // The confidence at which the lower bound reaches δ, by bisection.
        let (mut low, mut high) = (0.0f64, 1.0f64);
        for _ in 0..40 {
            let p = 0.5 * (low + high);
            if -self.interval(1.0 - p)[1] > margin {
                high = p
            } else {
                low = p
            }
        }
        high
    }

    pub fn method(&self) -> &'static str {
        match (self.clusters.is_none(), self.labelled) {
            (true, true) => "Tango score interval",
            (true, false) => "Clopper-Pearson bounds of the flip rate",
            (false, _) => "cluster bootstrap",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::labels::Label;

    fn item(
        request: usize,
        reference: Option<u32>,
        stage: Option<u32>,
        compared: bool,
    ) -> ItemData {
        ItemData {
            request,
            item: 0,
            reference,
            stage,
            compared,
            tie: false,
            classes: 10,
        }
    }

    fn requests(n: u64) -> Vec<RequestRow> {
        let exchange = |seq| inferdiff_schemas::Exchange::new(ulid::Ulid::nil(), seq);
        (0..n).map(|seq| RequestRow::of(&exchange(seq))).collect()
    }

    #[test]
    fn a_stage_that_lacks_an_answer_is_wrong_where_the_reference_is_right() {
        let items = [
            item(0, Some(3), None, false),
            item(1, Some(4), Some(4), true),
        ];
        let label = |label| Label {
            label,
            weight: 1.0,
            cluster: None,
        };
        let labels = Joined {
            by_item: HashMap::from([((0, 0), label(3)), ((1, 0), label(4))]),
            unmatched_rows: 0,
            duplicates: 0,
        };
        let s = Sample::new(&items, &requests(2), Some(&labels));
        assert_eq!((s.n, s.b, s.c, s.flips), (2, 1, 0, 1));
        let s = Sample::new(&items, &requests(2), None);
        assert_eq!((s.n, s.b, s.flips), (2, 1, 1));
    }

    #[test]
    fn nan_agrees_with_nan_and_with_nothing_else() {
        let items = [
            item(0, None, None, true),
            item(1, None, None, false),
            item(2, None, Some(1), true),
            item(3, Some(1), None, true),
        ];
        let s = Sample::new(&items, &requests(4), None);
        assert_eq!((s.n, s.flips, s.b), (4, 3, 3));
    }
}
