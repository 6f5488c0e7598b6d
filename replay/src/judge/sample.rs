//! What one metric sees of one stage: counts, Δ, and how sure one can be of it.

use std::collections::{BTreeMap, HashMap};

use super::weighting::{Key, Weighting};
use crate::metric::{Kind, Scored, Scores, auc};
use crate::verdict::{
    Cluster, ClusterEstimate, Seen, binomial_lower, binomial_upper, tango_interval,
};

/// Seed of the cluster bootstrap: the same run always gives the same verdicts.
const SEED: u64 = 0x1fe4_d1ff;

/// The score of the reference against itself, of items where that is not perfect.
pub(super) type NoiseOf = HashMap<(u32, u32), f64>;

/// What one metric sees of one stage.
pub(super) struct Sample {
    /// Scores are against labels or a user's numbers, not agreement with the reference.
    pub absolute: bool,
    pub n: u64,
    pub effective_n: f64,
    /// The metric of the reference; `None` where the metric is agreement with it.
    pub reference: Option<f64>,
    pub stage: f64,
    /// Oriented: negative is worse.
    pub delta: f64,
    /// Only the reference is right, only the stage is; `None` unless scores are right or wrong.
    pub pairs: Option<(u64, u64)>,
    pub flips: u64,
    pub ties: u64,
    pub unscored: u64,
    pub estimate: Estimate,
    /// Of the change beyond the reference's own noise, where that was seen to be any.
    pub excess: Option<Estimate>,
}

/// How Δ is bounded.
pub(super) enum Estimate {
    /// Independent pairs, right or wrong.
    Pairs { b: u64, c: u64, n: u64 },
    /// Independent items, flipped or not.
    Flips { k: u64, n: u64 },
    /// Clusters of items, or graded scores.
    Clusters(ClusterEstimate),
}

impl Estimate {
    pub fn interval(&self, confidence: f64) -> Option<[f64; 2]> {
        match self {
            Self::Pairs { b, c, n } => Some(tango_interval(*b, *c, *n, confidence)),
            // Agreement only ever falls: exact bounds of the flip rate, one on each side.
            Self::Flips { k, n } => {
                let one_sided = 0.5 + confidence / 2.0;
                let (upper, lower) = (
                    binomial_upper(*k, *n, one_sided),
                    binomial_lower(*k, *n, one_sided),
                );
                Some([-upper, -lower])
            }
            Self::Clusters(clusters) => clusters.interval(confidence),
        }
    }

    pub fn standard_error(&self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
        match self {
            Self::Pairs { b, c, n } => {
                let (b, c, n) = (*b as f64, *c as f64, *n as f64);
                ((b + c) - (c - b).powi(2) / n).max(0.0).sqrt() / n
            }
            Self::Flips { k, n } => {
                let (k, n) = (*k as f64, *n as f64);
                (k * (1.0 - k / n)).max(0.0).sqrt() / n
            }
            Self::Clusters(clusters) => clusters.standard_error,
        }
    }

    pub fn method(&self) -> &'static str {
        match self {
            Self::Pairs { .. } => "Tango score interval",
            Self::Flips { .. } => "Clopper-Pearson bounds of the flip rate",
            Self::Clusters(c) if c.is_bootstrap() => "cluster bootstrap",
            Self::Clusters(_) => "Clopper-Pearson bounds of the changed clusters",
        }
    }
}

impl Sample {
    /// Judges `scores`; `None` where there are none.
    pub fn new(
        scores: &Scores,
        kind: &Kind,
        weighting: &Weighting<'_>,
        noise: &NoiseOf,
    ) -> Option<Self> {
        let sign = if kind.lower_is_better() { -1.0 } else { 1.0 };
        let range = kind.range().map(|[low, high]| high - low);
        let (mut total, mut squares, mut reference, mut stage) = (0.0, 0.0, 0.0, 0.0);
        let (mut first, mut plain) = (None, scores.positive.is_none());
        let (mut b, mut c) = (0, 0);
        let (mut noisy_b, mut noisy_c) = (0, 0);
        let (mut last, mut single) = (None, true);
        let is_yes_or_no = |v: f64| v == 0.0 || v == 1.0;
        for s in &scores.items {
            let (w, key) = weighting.of(s.request, s.item);
            let own = own_score(s, noise);
            // Exchanges one after another, each seen once: each stands alone.
            single &= matches!(key, Key::Request(_)) && last.is_none_or(|last| last < key);
            last = Some(key);
            plain &= (*first.get_or_insert(w) - w).abs() <= 1e-12 * w;
            plain &= is_yes_or_no(s.reference) && is_yes_or_no(s.stage) && is_yes_or_no(own);
            b += u64::from(s.reference > s.stage);
            c += u64::from(s.stage > s.reference);
            noisy_b += u64::from(own > s.stage);
            noisy_c += u64::from(s.stage > own);
            total += w;
            squares += w * w;
            reference += w * s.reference;
            stage += w * s.stage;
        }
        first?;
        let n = scores.items.len() as u64;
        let count =
            |test: fn(&Scored) -> bool| scores.items.iter().filter(|s| test(s)).count() as u64;
        // Pairs that stand alone are counted; only others need their clusters.
        let groups = match plain && single {
            true => Vec::new(),
            false => clusters(scores, weighting, noise, sign),
        };
        plain &= single || groups.iter().all(|g| g.items == 1);
        let noisy = !scores.absolute && !noise.is_empty();
        let of = |change: fn(&Group) -> f64| {
            let clusters: Vec<Cluster> = groups
                .iter()
                .map(|g| Cluster {
                    weight: g.weight,
                    change: change(g),
                })
                .collect();
            Estimate::Clusters(ClusterEstimate::new(&clusters, range, SEED))
        };
        let mut out = Self {
            absolute: scores.absolute,
            n,
            effective_n: total * total / squares,
            reference: scores.absolute.then_some(reference / total),
            stage: stage / total,
            delta: sign * (stage - reference) / total,
            pairs: (scores.absolute && plain).then_some((b, c)),
            flips: count(|s| s.flip),
            ties: count(|s| s.tie),
            unscored: scores.unscored,
            estimate: match (plain, scores.absolute) {
                (true, true) => Estimate::Pairs { b, c, n },
                (true, false) => Estimate::Flips { k: b, n },
                _ => of(|g| g.change),
            },
            excess: noisy.then(|| match plain {
                true => Estimate::Pairs {
                    b: noisy_b,
                    c: noisy_c,
                    n,
                },
                false => of(|g| g.excess),
            }),
        };
        if let Some(positive) = &scores.positive {
            out.of_all(scores, positive, &members(scores, weighting))?;
        }
        Some(out)
    }

    /// A metric of all scores together: the AUC.
    fn of_all(&mut self, scores: &Scores, positive: &[bool], groups: &[Members]) -> Option<()> {
        let side = |of: fn(&Scored) -> f64| {
            auc::Auc::new(&scores.items.iter().map(of).collect::<Vec<_>>(), positive)
        };
        let (reference, stage) = (side(|s| s.reference), side(|s| s.stage));
        let mut weights = vec![0.0; scores.items.len()];
        for (i, w) in groups.iter().flatten() {
            weights[*i] = *w;
        }
        let (r, t) = (reference.at(&weights)?, stage.at(&weights)?);
        // One cluster moves the area by at most its shares of the positives and the negatives.
        let shares = |wanted: bool| {
            let of = |g: &Members| g.iter().filter(|(i, _)| positive[*i] == wanted).count();
            let all: usize = groups.iter().map(of).sum();
            #[expect(clippy::cast_precision_loss, reason = "counts of items")]
            groups
                .iter()
                .map(move |g| of(g) as f64 / all as f64)
                .collect::<Vec<f64>>()
        };
        let heaviest = shares(true)
            .into_iter()
            .zip(shares(false))
            .map(|(p, n)| p + n);
        #[expect(clippy::cast_precision_loss, reason = "a count of clusters")]
        let heaviest = heaviest.fold(0.0, f64::max) * groups.len() as f64;
        let differs = |g: &&Members| {
            let mut items = g.iter().map(|(i, _)| &scores.items[*i]);
            items.any(|s| s.stage.to_bits() != s.reference.to_bits())
        };
        let changed = groups.iter().filter(differs).count() as u64;
        let seen = Seen {
            delta: t - r,
            standard_error: 0.0,
            clusters: groups.len(),
            worse: changed,
            better: changed,
            changed,
            heaviest: Some(heaviest),
        };
        let mut drawn = vec![0.0; scores.items.len()];
        let mut resample = |of: &[usize]| {
            drawn.iter_mut().for_each(|w| *w = 0.0);
            for &g in of {
                groups[g].iter().for_each(|(i, w)| drawn[*i] += w);
            }
            match (reference.at(&drawn), stage.at(&drawn)) {
                (Some(r), Some(t)) => t - r,
                _ => f64::NAN,
            }
        };
        let mut estimate = ClusterEstimate::with(&seen, SEED, &mut resample);
        if let Some([low, high]) = estimate
            .interval(0.6827)
            .filter(|_| estimate.is_bootstrap())
        {
            estimate.standard_error = (high - low) / 2.0;
        }
        (self.reference, self.stage, self.delta) = (Some(r), t, t - r);
        self.estimate = Estimate::Clusters(estimate);
        Some(())
    }

    /// How many items one independent observation stands for.
    pub fn design(&self) -> f64 {
        match &self.estimate {
            #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
            Estimate::Clusters(c) => (self.n as f64 / c.clusters as f64).max(1.0),
            _ => 1.0,
        }
    }

    /// Whether an effect is shown at two-sided `confidence`. With labels or a user's numbers: Δ is
    /// past what either side changes by itself, on either side. Agreement: more than δ is lost
    /// beyond the noise.
    pub fn shows(&self, margin: f64, noise: f64, confidence: f64) -> bool {
        if self.absolute {
            let interval = self.estimate.interval(confidence);
            let past = interval.is_some_and(|[low, high]| high < -noise || low > noise);
            // The score interval alone is right on average: a few discordant pairs may exclude 0 in
            // slightly more than 5 % of runs. The exact sign test never does.
            let exact = self
                .pairs
                .is_none_or(|(b, c)| binomial_lower(b.max(c), b + c, 0.5 + confidence / 2.0) > 0.5);
            return past && exact;
        }
        let excess = self.excess.as_ref().unwrap_or(&self.estimate);
        excess
            .interval(confidence)
            .is_some_and(|[_, high]| high < -margin)
    }

    /// One minus the largest confidence at which an effect is shown.
    pub fn p_value(&self, margin: f64, noise: f64) -> f64 {
        let (mut low, mut high) = (0.0f64, 1.0f64);
        for _ in 0..40 {
            let p = 0.5 * (low + high);
            if self.shows(margin, noise, 1.0 - p) {
                high = p
            } else {
                low = p
            }
        }
        high
    }
}

/// What the reference scores against itself.
fn own_score(s: &Scored, noise: &NoiseOf) -> f64 {
    let own = noise.get(&(s.request, s.item)).copied();
    own.unwrap_or(s.reference)
}

/// Items that stand together, in sum.
#[derive(Default)]
struct Group {
    weight: f64,
    change: f64,
    excess: f64,
    items: u32,
}

impl Group {
    fn add(&mut self, other: &Self) {
        self.weight += other.weight;
        self.change += other.change;
        self.excess += other.excess;
        self.items += other.items;
    }
}

/// The clusters in the order of their keys.
fn clusters(scores: &Scores, weighting: &Weighting<'_>, noise: &NoiseOf, sign: f64) -> Vec<Group> {
    let mut named: BTreeMap<&str, Group> = BTreeMap::new();
    let mut alone: Vec<(u32, Group)> = Vec::new();
    for s in &scores.items {
        let (weight, key) = weighting.of(s.request, s.item);
        let item = Group {
            weight,
            change: weight * sign * (s.stage - s.reference),
            excess: weight * sign * (s.stage - own_score(s, noise)),
            items: 1,
        };
        match (key, alone.last_mut()) {
            (Key::Named(name), _) => named.entry(name).or_default().add(&item),
            // The items of an exchange mostly come one after another.
            (Key::Request(request), Some((last, group))) if *last == request => group.add(&item),
            (Key::Request(request), _) => alone.push((request, item)),
        }
    }
    if !alone.is_sorted_by_key(|(request, _)| *request) {
        alone.sort_by_key(|(request, _)| *request);
    }
    alone.dedup_by(|later, earlier| {
        let same = later.0 == earlier.0;
        if same {
            earlier.1.add(&later.1);
        }
        same
    });
    let alone = alone.into_iter().map(|(_, group)| group);
    named.into_values().chain(alone).collect()
}

/// The items of a cluster: index into the scores, and weight.
type Members = Vec<(usize, f64)>;

/// The items of each cluster, in the order of their keys.
fn members(scores: &Scores, weighting: &Weighting<'_>) -> Vec<Members> {
    let mut clusters: BTreeMap<Key<'_>, Members> = BTreeMap::new();
    for (i, s) in scores.items.iter().enumerate() {
        let (w, key) = weighting.of(s.request, s.item);
        clusters.entry(key).or_default().push((i, w));
    }
    clusters.into_values().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::requests::{Requests, place, tests::kept};

    /// Exchange `i / per`, item `i % per`, scores by `f`.
    fn scores(n: usize, per: usize, absolute: bool, f: impl Fn(usize) -> (f64, f64)) -> Scores {
        let items = (0..n).map(|i| {
            let (reference, stage) = f(i);
            Scored {
                request: place(i / per),
                item: (i % per) as u32,
                reference,
                stage,
                flip: reference != stage,
                tie: false,
            }
        });
        Scores {
            items: items.collect(),
            absolute,
            ..Scores::default()
        }
    }

    fn requests(n: usize, rate: impl Fn(usize) -> f64) -> (tempfile::TempDir, Requests) {
        kept((0..n).map(|i| inferdiff_schemas::Exchange {
            sample_rate: rate(i),
            ..inferdiff_schemas::Exchange::new(ulid::Ulid::nil(), i as u64)
        }))
    }

    fn sample(scores: &Scores, kind: &Kind, rate: impl Fn(usize) -> f64) -> Sample {
        let last = scores.items.last().unwrap().request;
        let (_folder, requests) = requests(last as usize + 1, rate);
        let weighting = Weighting::new(&requests, None, None).unwrap();
        Sample::new(scores, kind, &weighting, &NoiseOf::new()).unwrap()
    }

    fn uniform(seed: u64) -> f64 {
        let mut x = seed.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        x ^= x >> 31;
        x = x.wrapping_mul(0xBF58_476D_1CE4_E5B9);
        x ^= x >> 29;
        x = x.wrapping_mul(0x94D0_49BB_1331_11EB);
        x ^= x >> 32;
        (x >> 11) as f64 / (1u64 << 53) as f64
    }

    #[test]
    fn plain_pairs_get_tango_and_graded_or_grouped_ones_the_bootstrap() {
        let all = scores(400, 1, true, |i| (1.0, f64::from(u8::from(i % 20 != 0))));
        let s = sample(&all, &Kind::Top1, |_| 1.0);
        assert_eq!(s.pairs, Some((20, 0)));
        assert_eq!(s.estimate.method(), "Tango score interval");
        assert_eq!((s.effective_n, s.design()), (400.0, 1.0));
        let s = sample(&all, &Kind::Top1, |i| if i % 2 == 0 { 1.0 } else { 0.5 });
        assert_eq!(s.estimate.method(), "cluster bootstrap");
        assert!((s.effective_n - 360.0).abs() < 1e-9, "{}", s.effective_n);
        let few = scores(400, 1, false, |i| (1.0, if i == 3 { 0.7 } else { 1.0 }));
        let s = sample(&few, &Kind::Tau, |_| 1.0);
        let [low, high] = s.estimate.interval(0.90).unwrap();
        assert!(low < -0.01 && high >= 0.0, "{low} {high}");
        assert_eq!(
            sample(&few, &Kind::Mae, |_| 1.0).estimate.interval(0.9),
            None
        );
    }

    #[test]
    fn clusters_are_the_same_in_any_order_of_their_items() {
        let mut all = scores(60, 3, false, |i| (1.0, if i % 7 == 3 { 0.25 } else { 1.0 }));
        let (_folder, requests) = requests(20, |i| if i % 2 == 0 { 1.0 } else { 0.5 });
        let weighting = Weighting::new(&requests, None, None).unwrap();
        let of = |all: &Scores| {
            let groups = clusters(all, &weighting, &NoiseOf::new(), 1.0);
            let each = groups.iter().map(|g| (g.weight, g.change, g.items));
            each.collect::<Vec<_>>()
        };
        let in_order = of(&all);
        assert_eq!(in_order.len(), 20);
        assert!(in_order.iter().all(|g| g.2 == 3));
        let changed: f64 = in_order.iter().map(|g| g.1).sum();
        assert!(changed < -6.0, "{changed}");
        all.items
            .sort_by_key(|s| (s.item, s.request % 4, s.request));
        let mut mixed = of(&all);
        mixed.iter_mut().zip(&in_order).for_each(|(m, o)| {
            assert!((m.1 - o.1).abs() < 1e-12);
            m.1 = o.1;
        });
        assert_eq!(mixed, in_order);
        let sampled = Sample::new(&all, &Kind::Tau, &weighting, &NoiseOf::new()).unwrap();
        assert_eq!(sampled.design(), 3.0);
    }

    #[test]
    fn a_coin_flipping_reference_is_not_held_against_the_stage() {
        let all = scores(500, 1, false, |i| (1.0, f64::from(u8::from(i % 2 == 0))));
        let (_folder, requests) = requests(500, |_| 1.0);
        let weighting = Weighting::new(&requests, None, None).unwrap();
        let noise: NoiseOf = (0..500)
            .filter(|i| i % 4 < 2)
            .map(|i| ((i, 0), 0.0))
            .collect();
        let s = Sample::new(&all, &Kind::Top1, &weighting, &noise).unwrap();
        assert_eq!(s.flips, 250);
        assert!(
            {
                let raw = sample(&all, &Kind::Top1, |_| 1.0);
                raw.p_value(0.005, 0.0) < 1e-6
            },
            "raw flips are many"
        );
        assert!(s.p_value(0.005, 0.0) > 0.1, "but no more than noise");
    }

    #[test]
    fn auc_is_resampled_as_a_whole() {
        let positive: Vec<bool> = (0..600).map(|i| i % 3 == 0).collect();
        let of = |spoil: f64| {
            let mut all = scores(600, 1, true, |i| {
                let base = f64::from(u8::from(i % 3 == 0)) + 1.5 * uniform(i as u64);
                (base, base + spoil * uniform(i as u64 + 9999))
            });
            all.positive = Some(positive.clone());
            sample(&all, &Kind::Auc { index: None }, |_| 1.0)
        };
        let worse = of(3.0);
        assert!(
            worse.delta < -0.05 && worse.p_value(0.005, 0.0) < 0.01,
            "{}",
            worse.delta
        );
        let same = of(0.0);
        assert_eq!(same.delta, 0.0);
        let [low, high] = same.estimate.interval(0.9).unwrap();
        assert!(low < 0.0 && high > 0.0);
    }
}
