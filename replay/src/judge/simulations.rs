//! The rules under simulated traffic whose truth is known. Every figure that `docs/verdicts.md` gives
//! is printed by `cargo test --workspace --lib simulations -- --nocapture`.

use inferdiff_schemas::Exchange;
use inferdiff_schemas::run::ladder::MetricSpec;
use ulid::Ulid;

use super::*;
use crate::metric::{Metric, Scored};
use crate::requests::{Requests, tests::kept};
use crate::verdict::{SplitMix, tango_interval};

/// Traffic: exchanges of `per` items, `together` exchanges of one user.
#[derive(Clone, Copy)]
struct Traffic {
    exchanges: usize,
    per: usize,
    together: usize,
    /// A whole user changes together: the strongest correlation there is.
    shared: bool,
}

impl Traffic {
    /// Independent single items.
    fn plain(n: usize) -> Self {
        Self {
            exchanges: n,
            per: 1,
            together: 1,
            shared: false,
        }
    }

    fn exchanges(self) -> impl Iterator<Item = Exchange> {
        (0..self.exchanges).map(move |i| Exchange {
            request_headers: vec![("user".into(), (i / self.together).to_string())],
            ..Exchange::new(Ulid::nil(), i as u64)
        })
    }

    fn requests(self) -> (tempfile::TempDir, Requests) {
        kept(self.exchanges())
    }

    /// Scores in which an item (or a whole user) is lost with chance `p_b` and gained with `p_c`.
    fn scores(self, r: &mut SplitMix, p_b: f64, p_c: f64, absolute: bool) -> Scores {
        let mut out = Scores {
            absolute,
            ..Scores::default()
        };
        let mut u = 0.0;
        for request in 0..self.exchanges {
            for item in 0..self.per {
                let first = item == 0 && request % self.together == 0;
                if first || !self.shared {
                    u = r.uniform();
                }
                let (reference, stage) = match u {
                    u if u < p_b => (1.0, 0.0),
                    u if u < p_b + p_c => (0.0, 1.0),
                    _ => (1.0, 1.0),
                };
                out.items.push(Scored {
                    request: request as u32,
                    item: item as u32,
                    reference,
                    stage,
                    flip: reference != stage,
                    tie: false,
                });
            }
        }
        out
    }

    fn sample(self, scores: &Scores, requests: &Requests) -> Sample {
        let by = (self.together > 1).then_some("header:user");
        let weighting = Weighting::new(requests, by, None).unwrap();
        Sample::new(scores, &Kind::Top1, &weighting, &NoiseOf::new()).unwrap()
    }
}

fn top1() -> Asked {
    Asked {
        metric: Metric::parse(&MetricSpec {
            spec: "top1@y".into(),
            margin: None,
        })
        .unwrap(),
        output: "y".into(),
    }
}

/// The verdicts of several stages of one run, by the product's own rules.
fn verdicts(asked: &Asked, margin: f64, samples: Vec<Sample>) -> Vec<MetricVerdict> {
    let mut asked = asked.clone();
    asked.metric.margin = Some(margin);
    let asked = &asked;
    let judged: Vec<Judged<'_>> = samples
        .into_iter()
        .map(|sample| Judged {
            stage: 1,
            asked,
            p_value: Some(sample.p_value(margin, 0.0)),
            sample,
            noise: None,
            slices: Vec::new(),
            telling: Vec::new(),
        })
        .collect();
    let family: Vec<f64> = judged.iter().filter_map(|j| j.p_value).collect();
    let corrected = holm(&family, ALPHA);
    let each = judged.into_iter().zip(corrected);
    each.map(|(j, c)| j.decide(Some(c))).collect()
}

fn blames(v: &MetricVerdict) -> bool {
    matches!(v.verdict, Some(Verdict::Affects | Verdict::MayAffect))
}

/// Runs in which any of `stages` harmless stages is blamed.
fn false_alarms(traffic: Traffic, stages: usize, rate: f64, runs: u64) -> u64 {
    let asked = top1();
    let (_folder, requests) = traffic.requests();
    let mut r = SplitMix(traffic.exchanges as u64 * 31 + traffic.per as u64);
    let alarms = (0..runs).filter(|_| {
        let samples = (0..stages).map(|_| {
            let scores = traffic.scores(&mut r, rate / 2.0, rate / 2.0, true);
            traffic.sample(&scores, &requests)
        });
        verdicts(&asked, 0.005, samples.collect())
            .iter()
            .any(blames)
    });
    alarms.count() as u64
}

#[test]
fn harmless_stages_are_blamed_in_at_most_five_runs_of_a_hundred() {
    let traffic = |exchanges, per, together, shared| Traffic {
        exchanges,
        per,
        together,
        shared,
    };
    for (name, traffic, stages, rate, runs) in [
        ("labelled", Traffic::plain(1000), 1, 0.03, 2000),
        ("labelled, seven stages", Traffic::plain(600), 7, 0.04, 400),
        ("few changes", Traffic::plain(1000), 1, 0.004, 2000),
        (
            "four items an exchange",
            traffic(150, 4, 1, false),
            1,
            0.05,
            300,
        ),
        (
            "four that change together",
            traffic(200, 4, 1, true),
            1,
            0.08,
            300,
        ),
        (
            "users of five exchanges",
            traffic(400, 1, 5, true),
            1,
            0.2,
            300,
        ),
        (
            "users of five, two items",
            traffic(300, 2, 5, true),
            1,
            0.3,
            300,
        ),
    ] {
        let alarms = false_alarms(traffic, stages, rate, runs);
        println!("{name}: {alarms} false alarms in {runs} runs");
        assert!(alarms * 100 <= 5 * runs, "{name}: {alarms} of {runs}");
    }
}

#[test]
fn unlabelled_flips_within_the_margin_are_not_held_against_a_stage() {
    let (traffic, asked) = (Traffic::plain(2000), top1());
    let (_folder, requests) = traffic.requests();
    let mut r = SplitMix(5);
    let alarms = (0..1000).filter(|_| {
        // As many flips as are accepted, and not one more.
        let scores = traffic.scores(&mut r, 0.005, 0.0, false);
        let sample = traffic.sample(&scores, &requests);
        verdicts(&asked, 0.005, vec![sample]).iter().any(blames)
    });
    let alarms = alarms.count();
    println!("flips at the margin: {alarms} false alarms in 1000 runs");
    assert!(alarms <= 50);
}

/// How often the 95 % interval of clustered traffic holds the truth.
#[test]
fn intervals_over_clusters_hold_the_truth() {
    let mut all = Vec::new();
    for (together, shared) in [(3, false), (3, true)] {
        for expected in [1.0, 3.0, 5.0, 14.0, 30.0] {
            for share in [0.0, 0.5] {
                let traffic = Traffic {
                    exchanges: 240,
                    per: 1,
                    together,
                    shared,
                };
                let units = if shared { 80.0 } else { 240.0 };
                let (p_b, p_c) = (expected / units, share * expected / units);
                let (_folder, requests) = traffic.requests();
                let mut r = SplitMix(expected as u64 + 7 * u64::from(shared));
                let runs = 120;
                let covered = (0..runs).filter(|_| {
                    let scores = traffic.scores(&mut r, p_b, p_c, true);
                    let sample = traffic.sample(&scores, &requests);
                    let [low, high] = sample.estimate.interval(0.95).unwrap();
                    (low..=high).contains(&(p_c - p_b))
                });
                let coverage = covered.count() as f64 / f64::from(runs);
                all.push((coverage, shared, expected, share));
            }
        }
    }
    let mean = all.iter().map(|c| c.0).sum::<f64>() / all.len() as f64;
    let least = all.iter().min_by(|a, b| a.0.total_cmp(&b.0)).unwrap();
    println!(
        "coverage over clusters: mean {mean:.4}, least {:.4}",
        least.0
    );
    assert!(
        mean >= 0.95 && least.0 >= 0.93,
        "mean {mean}, least {least:?}"
    );
}

/// How often a run of the size that an inconclusive one names decides.
fn power(
    traffic: Traffic,
    (p_b, p_c): (f64, f64),
    absolute: bool,
    margin: f64,
    runs: u64,
) -> (u64, f64) {
    let asked = top1();
    let mut r = SplitMix(traffic.exchanges as u64);
    let (_folder, requests) = traffic.requests();
    // A small run whose numbers happen to be the true ones names the size.
    let named = loop {
        let scores = traffic.scores(&mut r, p_b, p_c, absolute);
        let sample = traffic.sample(&scores, &requests);
        let truth = (p_c - p_b, (p_b + p_c) * sample.n as f64);
        let near = |a: f64, b: f64| (a - b).abs() <= 0.6 / sample.n as f64;
        let changed = scores.items.iter().filter(|s| s.flip).count() as f64;
        if near(sample.delta, truth.0) && (changed - truth.1).abs() <= 0.6 {
            let verdict = verdicts(&asked, margin, vec![sample]).remove(0);
            break verdict.n_to_decide.expect("the small run decides nothing");
        }
    };
    let large = Traffic {
        exchanges: (named as usize).div_ceil(traffic.per),
        ..traffic
    };
    let (_folder, requests) = large.requests();
    let decided = (0..runs).filter(|_| {
        let scores = large.scores(&mut r, p_b, p_c, absolute);
        let sample = large.sample(&scores, &requests);
        let verdict = verdicts(&asked, margin, vec![sample]).remove(0);
        verdict.verdict != Some(Verdict::Inconclusive)
    });
    (named, decided.count() as f64 / runs as f64)
}

#[test]
fn the_size_that_is_named_decides_in_four_runs_of_five() {
    let clustered = Traffic {
        exchanges: 100,
        per: 4,
        together: 1,
        shared: false,
    };
    for (name, traffic, rates, absolute, margin, runs) in [
        (
            "labelled, no effect",
            Traffic::plain(400),
            (0.01, 0.01),
            true,
            0.005,
            100,
        ),
        (
            "labelled, harm",
            Traffic::plain(400),
            (0.0225, 0.01),
            true,
            0.005,
            100,
        ),
        (
            "labelled, breaks some",
            Traffic::plain(400),
            (0.0025, 0.0),
            true,
            0.005,
            100,
        ),
        (
            "four items an exchange",
            clustered,
            (0.01, 0.01),
            true,
            0.02,
            60,
        ),
        (
            "unlabelled, few flips",
            Traffic::plain(400),
            (0.0025, 0.0),
            false,
            0.005,
            100,
        ),
        (
            "unlabelled, many flips",
            Traffic::plain(200),
            (0.01, 0.0),
            false,
            0.005,
            100,
        ),
    ] {
        let (named, power) = power(traffic, rates, absolute, margin, runs);
        println!(
            "{name}: {named} items are named and decide in {:.0} % of runs",
            100.0 * power
        );
        assert!(power >= 0.80, "{name}: {power} at {named}");
    }
}

#[test]
fn intervals_are_as_wide_as_the_score_interval() {
    // Single items whose weights differ by a hair take the bootstrap; the score interval knows them too.
    let (traffic, mut r) = (Traffic::plain(800), SplitMix(3));
    let (_folder, requests) = kept(traffic.exchanges().map(|e| Exchange {
        sample_rate: if e.seq == 0 { 0.999 } else { 1.0 },
        ..e
    }));
    let (mut ours, mut scores_own) = (0.0, 0.0);
    for _ in 0..60 {
        let scores = traffic.scores(&mut r, 0.03, 0.02, true);
        let sample = traffic.sample(&scores, &requests);
        assert_eq!(sample.estimate.method(), "cluster bootstrap");
        let [low, high] = sample.estimate.interval(0.95).unwrap();
        ours += high - low;
        let count = |test: fn(&Scored) -> bool| scores.items.iter().filter(|s| test(s)).count();
        let b = count(|s| s.reference > s.stage) as u64;
        let c = count(|s| s.stage > s.reference) as u64;
        let [low, high] = tango_interval(b, c, 800, 0.95);
        scores_own += high - low;
    }
    println!(
        "mean width over the score interval's: {:.3}",
        ours / scores_own
    );
    assert!((ours / scores_own - 1.0).abs() <= 0.10);
}

#[test]
fn slices_that_do_not_differ_stand_out_seldom() {
    let mut r = SplitMix(17);
    let (mut wrong, runs, slices) = (0, 100, 12);
    for _ in 0..runs {
        let p_values: Vec<f64> = (0..slices)
            .map(|_| {
                let traffic = Traffic::plain(300);
                let scores = traffic.scores(&mut r, 0.02, 0.02, true);
                traffic
                    .sample(&scores, &traffic.requests().1)
                    .p_value(0.005, 0.0)
            })
            .collect();
        wrong += usize::from(benjamini_hochberg(&p_values, ALPHA).contains(&true));
    }
    println!("{wrong} of {runs} runs name one of {slices} slices that do not differ");
    assert!(wrong * 100 <= 5 * runs);
}
