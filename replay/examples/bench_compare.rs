//! For `scripts/bench replay`: bytes of two tensors compared per second and core, all statistics,
//! one line for each size and set of instructions.
//!
//! `bench_compare SECONDS [TEXT]` (of each line; each line is the best of its rounds; those with the text)
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a measuring tool may fail loudly"
)]

use std::hint::black_box;
use std::time::{Duration, Instant};

use half::{bf16, f16};
use inferdiff_replay::compare::{Comparer, Level};
use inferdiff_schemas::Datatype;
use inferdiff_schemas::run::ladder::Tolerance;

/// Elements of an item: what a classifier answers, both sides of FP32 in the second-level cache, or only
/// in memory.
const SIZES: [(&str, usize); 3] = [("L1", 512), ("L2", 64 << 10), ("RAM", 32 << 20)];

fn main() {
    let seconds = std::env::args().nth(1).unwrap().parse().unwrap();
    let each = Duration::from_secs_f64(seconds);
    for (place, elements) in SIZES {
        let (reference, stage) = values(elements);
        for level in Level::available() {
            let encode = |v: &[f32]| v.iter().flat_map(|v| v.to_le_bytes()).collect();
            let sides = (encode(&reference), encode(&stage));
            measure((place, "FP32", level), Datatype::Fp32, &sides, each);
        }
        let level = Level::best();
        let encode = |v: &[f32]| {
            v.iter()
                .flat_map(|v| f16::from_f32(*v).to_le_bytes())
                .collect()
        };
        let sides = (encode(&reference), encode(&stage));
        measure((place, "FP16", level), Datatype::Fp16, &sides, each);
        let encode = |v: &[f32]| {
            v.iter()
                .flat_map(|v| bf16::from_f32(*v).to_le_bytes())
                .collect()
        };
        let sides = (encode(&reference), encode(&stage));
        measure((place, "BF16", level), Datatype::Bf16, &sides, each);
    }
}

/// What a model answers, and what it answers after an optimisation: every element differs a little.
fn values(elements: usize) -> (Vec<f32>, Vec<f32>) {
    let mut x = 88_172_645_463_325_252u64;
    let mut next = || {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        #[expect(clippy::cast_precision_loss, reason = "24 random bits")]
        let v = (x >> 40) as f32 / 8_388_608.0 - 1.0;
        v
    };
    let pair = |_| {
        let r = 4.0 * next();
        (r, r * (1.0 + 1e-3 * next()))
    };
    (0..elements).map(pair).unzip()
}

fn measure(
    (place, name, level): (&str, &str, Level),
    datatype: Datatype,
    (reference, stage): &(Vec<u8>, Vec<u8>),
    each: Duration,
) {
    let line = format!(
        "comparing {name} in {place} (2 x {} KiB), {}",
        reference.len() >> 10,
        level.name(),
    );
    if std::env::args()
        .nth(2)
        .is_some_and(|text| !line.contains(&text))
    {
        return;
    }
    let tolerance = Tolerance {
        rtol: 1e-3,
        atol: 1e-5,
    };
    let elements = reference.len() / datatype.size().unwrap();
    let bytes = reference.len() + stage.len();
    // Of a small tensor many in one round, so that the clock costs nothing.
    let times = ((64 << 20) / bytes).max(1);
    let mut comparer = Comparer::at(level);
    let mut best = f64::INFINITY;
    let started = Instant::now();
    while started.elapsed() < each {
        let round = Instant::now();
        for _ in 0..times {
            let sides = ((datatype, &**reference), (datatype, &**stage));
            black_box(comparer.item(elements, black_box(sides.0), sides.1, tolerance));
        }
        best = best.min(round.elapsed().as_secs_f64() / f64::from(u32::try_from(times).unwrap()));
    }
    #[expect(clippy::cast_precision_loss, reason = "a few hundred million")]
    let rate = bytes as f64 / best / 1e9;
    println!("{line}: {rate:.2} GB/s");
}
