//! Items of one exchange stand together: the exchange is what was sampled.
//!
//! Rows of one exchange taken as independent gave 31 % false alarms; so where a cluster has more
//! than one item, or weights differ, Δ is a ratio over clusters and its interval a seeded bootstrap
//! of them.

use statrs::distribution::{ContinuousCDF, StudentsT};

use super::{binomial, normal_cdf};

/// One cluster: Σ weights and Σ weight × (stage − reference).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cluster {
    /// Σ w.
    pub weight: f64,
    /// Σ w·d, d between −range and range of the metric.
    pub change: f64,
}

const RESAMPLES: usize = 4000;
/// Draws of clusters over all resamples, at most: a million clusters are resampled less often,
/// and their interval is narrow then.
const DRAWS: usize = 400_000_000;
const FEWEST_RESAMPLES: usize = 1000;
/// With fewer changed clusters a resample that holds none of them is not rare, and the bootstrap
/// interval collapses to [0, 0].
pub const FEW: usize = 10;

/// What is known of Δ over clusters. Resampled once; asked at any confidence.
#[derive(Debug, Clone, PartialEq)]
pub struct ClusterEstimate {
    /// Δ.
    pub delta: f64,
    /// Standard error of Δ by linearisation (ratio estimator).
    pub standard_error: f64,
    /// Clusters.
    pub clusters: u64,
    /// Clusters in which anything changed.
    pub changed: u64,
    kind: Kind,
}

#[derive(Debug, Clone, PartialEq)]
enum Kind {
    /// Δ of every resample, sorted.
    Bootstrap(Vec<f64>),
    /// Exact bounds of how many clusters change, times the most that one can change Δ.
    FewChanged {
        worse: u64,
        better: u64,
        /// Clusters × the most that one of them can change Δ; `None` = without bound.
        heaviest: Option<f64>,
    },
}

/// What is known before anything is resampled.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Seen {
    /// Δ.
    pub delta: f64,
    /// Its standard error.
    pub standard_error: f64,
    /// Clusters.
    pub clusters: usize,
    /// Clusters that may have made it worse.
    pub worse: u64,
    /// Clusters that may have made it better.
    pub better: u64,
    /// Clusters in which anything changed.
    pub changed: u64,
    /// Clusters × the most that one of them can change Δ; `None` = without bound.
    pub heaviest: Option<f64>,
}

impl ClusterEstimate {
    /// Δ = Σ change / Σ weight. Resamples `clusters` (not empty) from `seed`; their order matters to
    /// the draw. `range`: the most that one item can change, `None` = without bound.
    pub fn new(clusters: &[Cluster], range: Option<f64>, seed: u64) -> Self {
        let total: f64 = clusters.iter().map(|c| c.weight).sum();
        let delta = clusters.iter().map(|c| c.change).sum::<f64>() / total;
        let squares = clusters
            .iter()
            .map(|c| (c.change - delta * c.weight).powi(2));
        let standard_error = squares.sum::<f64>().sqrt() / total;
        let share = clusters.iter().map(|c| c.weight).fold(0.0, f64::max) / total;
        let heaviest = range.map(|range| range * share * count(clusters.len()));
        let sign = |keep: fn(f64) -> bool| clusters.iter().filter(|c| keep(c.change)).count();
        let (worse, better) = (sign(|c| c < 0.0) as u64, sign(|c| c > 0.0) as u64);
        let seen = Seen {
            delta,
            standard_error,
            clusters: clusters.len(),
            worse,
            better,
            changed: worse + better,
            heaviest,
        };
        Self::with(&seen, seed, &mut |of| {
            let (mut weight, mut change) = (0.0, 0.0);
            for &i in of {
                weight += clusters[i].weight;
                change += clusters[i].change;
            }
            change / weight
        })
    }

    /// Of any statistic; `resample` computes it of these clusters, NaN where it does not exist.
    pub fn with(seen: &Seen, seed: u64, resample: &mut dyn FnMut(&[usize]) -> f64) -> Self {
        let n = seen.clusters;
        let kind = if seen.changed < FEW as u64 {
            Kind::FewChanged {
                worse: seen.worse,
                better: seen.better,
                heaviest: seen.heaviest,
            }
        } else {
            let resamples = (DRAWS / n).clamp(FEWEST_RESAMPLES, RESAMPLES);
            let mut random = SplitMix(seed);
            let mut drawn = vec![0; n];
            let mut draws: Vec<f64> = (0..resamples)
                .map(|_| {
                    drawn.iter_mut().for_each(|d| *d = random.below(n));
                    resample(&drawn)
                })
                .filter(|d| !d.is_nan())
                .collect();
            draws.sort_by(f64::total_cmp);
            Kind::Bootstrap(draws)
        };
        Self {
            delta: seen.delta,
            standard_error: seen.standard_error,
            clusters: n as u64,
            changed: seen.changed,
            kind,
        }
    }

    /// The interval of Δ at two-sided `confidence`; `None` where nothing bounds it (an unbounded
    /// metric with fewer than ten changed clusters).
    ///
    /// Bootstrap percentiles are those of T. Hesterberg, The American Statistician 69 (2015)
    /// 371–386: expanded as Student's t is wider than the normal, by the changed clusters.
    pub fn interval(&self, confidence: f64) -> Option<[f64; 2]> {
        match &self.kind {
            Kind::Bootstrap(draws) => {
                let tail = expanded((1.0 - confidence) / 2.0, self.changed);
                #[expect(
                    clippy::cast_precision_loss,
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "an index below 4000"
                )]
                let at = |p: f64| draws.get((p * (draws.len().max(1) - 1) as f64).round() as usize);
                Some([*at(tail)?, *at(1.0 - tail)?])
            }
            Kind::FewChanged {
                worse,
                better,
                heaviest,
            } => {
                let one_sided = 0.5 + confidence / 2.0;
                let bound =
                    |k: u64| heaviest.map(|h| h * binomial::upper(k, self.clusters, one_sided));
                Some([-bound(*worse)?, bound(*better)?])
            }
        }
    }

    /// The bootstrap stands, rather than the bound by changed clusters.
    pub fn is_bootstrap(&self) -> bool {
        matches!(self.kind, Kind::Bootstrap(_))
    }
}

/// The tail that a percentile interval of `n` samples must leave for Student's t to leave `tail`.
fn expanded(tail: f64, n: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
    let n = n.max(2) as f64;
    let t = StudentsT::new(0.0, 1.0, n - 1.0).expect("at least one degree of freedom");
    normal_cdf((n / (n - 1.0)).sqrt() * t.inverse_cdf(tail))
}

#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
fn count(n: usize) -> f64 {
    n as f64
}

/// Steele, Lea and Flood's SplitMix64: seeded, so that a verdict can be repeated.
pub(crate) struct SplitMix(pub u64);

impl SplitMix {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, n: usize) -> usize {
        usize::try_from((u128::from(self.next()) * n as u128) >> 64).expect("below n")
    }

    #[cfg(test)]
    pub fn uniform(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn simulate(r: &mut SplitMix, clusters: usize, items: usize, flip: f64) -> Vec<Cluster> {
        (0..clusters)
            .map(|_| {
                // A whole cluster flips together: the strongest correlation there is.
                let n = 1 + r.below(items);
                let u = r.uniform();
                let d = if u < flip {
                    -1.0
                } else if u < 2.0 * flip {
                    1.0
                } else {
                    0.0
                };
                Cluster {
                    weight: n as f64,
                    change: n as f64 * d,
                }
            })
            .collect()
    }

    #[test]
    fn correlated_items_raise_no_false_alarm() {
        let (mut alarms, mut runs) = (0, 0);
        for (clusters, items, flip) in [(60, 4, 0.1), (120, 8, 0.06), (200, 8, 0.03), (60, 8, 0.2)]
        {
            let mut r = SplitMix(clusters as u64 * 31);
            for seed in 0..250 {
                let e =
                    ClusterEstimate::new(&simulate(&mut r, clusters, items, flip), Some(1.0), seed);
                let [low, high] = e.interval(0.95).unwrap();
                runs += 1;
                alarms += i32::from(low > 0.0 || high < 0.0);
            }
        }
        println!("{alarms} false alarms in {runs} runs of whole clusters that change together");
        assert!(
            f64::from(alarms) <= 0.05 * f64::from(runs),
            "{alarms} of {runs}"
        );
    }

    #[test]
    fn nothing_changed_is_no_proof_that_nothing_changes() {
        let none = simulate(&mut SplitMix(1), 60, 4, 0.0);
        let [low, high] = ClusterEstimate::new(&none, Some(1.0), 1)
            .interval(0.90)
            .unwrap();
        assert!(high > 0.04 && low < -0.04, "{low} {high}");
        assert_eq!(ClusterEstimate::new(&none, None, 1).interval(0.90), None);
    }

    #[test]
    fn a_ruined_share_is_seen() {
        let mut all = simulate(&mut SplitMix(1), 200, 4, 0.0);
        for c in all.iter_mut().take(20) {
            c.change = -c.weight;
        }
        let e = ClusterEstimate::new(&all, Some(1.0), 1);
        assert!(e.is_bootstrap() && e.changed == 20);
        assert!(e.interval(0.95).unwrap()[1] < 0.0 && e.delta < -0.05);
    }

    #[test]
    fn single_items_get_an_interval_as_wide_as_the_score_interval() {
        let (mut ours, mut tangos) = (0.0, 0.0);
        for seed in 0..40 {
            let mut r = SplitMix(seed);
            let all = simulate(&mut r, 800, 1, 0.02);
            let e = ClusterEstimate::new(&all, Some(1.0), seed);
            let [low, high] = e.interval(0.95).unwrap();
            ours += high - low;
            let b = all.iter().filter(|c| c.change < 0.0).count() as u64;
            let c = all.iter().filter(|c| c.change > 0.0).count() as u64;
            let [low, high] = crate::verdict::tango_interval(b, c, 800, 0.95);
            tangos += high - low;
        }
        println!(
            "mean width {:.5}, score interval {:.5}",
            ours / 40.0,
            tangos / 40.0
        );
        assert!((ours / tangos - 1.0).abs() <= 0.10, "{}", ours / tangos);
    }
}
