//! For `scripts/bench replay`: makes a capture of random rows, and runs a bare `ort` loop over it.
//!
//! `bench_replay capture DIR REQUESTS BATCH WIDTH ROWS_OF_A_ROW_GROUP` · `bench_replay bare LIBRARY MODEL DIR` ·
//! `bench_replay read DIR`
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a measuring tool may fail loudly"
)]

use std::path::Path;
use std::sync::Arc;

use inferdiff_schemas::capture::{
    Capture, CaptureMeta, CaptureWriter, Ledger, Projection, RecorderMeta, WriterOptions,
};
use inferdiff_schemas::storage::Disk;
use inferdiff_schemas::{Datatype, Exchange, Tensor};
use ort::ep::CPU;
use ort::session::Session;
use ort::session::builder::GraphOptimizationLevel;
use ort::value::TensorRef;
use ulid::Ulid;

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let number = |i: usize| args[i].parse::<usize>().unwrap();
    match args[1].as_str() {
        "capture" => capture(
            Path::new(&args[2]),
            number(3),
            number(4),
            number(5),
            number(6),
        ),
        "bare" => bare(
            Path::new(&args[2]),
            Path::new(&args[3]),
            Path::new(&args[4]),
        ),
        "read" => read(Path::new(&args[2])),
        other => unreachable!("no command {other}"),
    }
}

fn capture(dir: &Path, requests: usize, batch: usize, width: usize, each: usize) {
    let recorder = Ulid::generate();
    let (meta, own) = (CaptureMeta::new(""), RecorderMeta::new(recorder, ""));
    let options = WriterOptions::default();
    let (mut writer, _) = CaptureWriter::open(Arc::new(Disk), dir, meta, own, options).unwrap();
    let mut ledger = Ledger::default();
    let mut x = 88_172_645_463_325_252u64;
    for seq in 0..requests as u64 {
        let data: Vec<u8> = (0..batch * width)
            .flat_map(|_| {
                x ^= x << 13;
                x ^= x >> 7;
                x ^= x << 17;
                #[expect(clippy::cast_precision_loss, reason = "24 random bits")]
                let v = (x >> 40) as f32 / 8_388_608.0 - 1.0;
                v.to_le_bytes()
            })
            .collect();
        let shape = vec![i64::try_from(batch).unwrap(), i64::try_from(width).unwrap()];
        let tensor = Tensor::inline("x", Datatype::Fp32, shape, data.into()).unwrap();
        let digest = inferdiff_schemas::digest::input_digest(std::slice::from_ref(&tensor));
        let exchange = Exchange {
            protocol: "oip-rest-binary".to_owned(),
            end_ns: 300_000,
            model: Some("mlp".to_owned()),
            input_digest: Some(digest),
            inputs: Some(vec![tensor]),
            ..Exchange::new(recorder, seq)
        };
        ledger.accepted += 1;
        ledger.in_flight += 1;
        writer.append(exchange);
        if (seq + 1).is_multiple_of(each as u64) {
            writer.checkpoint(&mut ledger).unwrap();
        }
    }
    writer.close(&mut ledger, String::new()).unwrap();
}

/// Two sessions with the options of the ladder's stages (off, all), over all inputs, borrowed; prints
/// CPU seconds of the loops alone: of both, and of each.
fn bare(library: &Path, model: &Path, dir: &Path) {
    let capture = Capture::open(Arc::new(Disk), dir).unwrap();
    let mut inputs = Vec::new();
    for segment in capture.segments() {
        for group in 0..segment.row_groups {
            for e in capture.read(segment, group, Projection::Full).unwrap() {
                let t = e.inputs.unwrap().remove(0);
                let values: Vec<f32> = t
                    .data
                    .unwrap()
                    .chunks_exact(4)
                    .map(|c| f32::from_le_bytes(c.try_into().unwrap()))
                    .collect();
                inputs.push((t.shape, values));
            }
        }
    }
    let environment = ort::init_from(library)
        .unwrap()
        .with_telemetry(false)
        .build()
        .unwrap();
    let mut seconds = Vec::new();
    let stages = [
        (GraphOptimizationLevel::Disable, "1"),
        (GraphOptimizationLevel::All, "0"),
    ];
    for (level, no_prepacking) in stages {
        let mut session = Session::builder(&environment)
            .unwrap()
            .with_optimization_level(level)
            .unwrap()
            .with_memory_pattern(false)
            .unwrap()
            .with_config_entry("session.disable_prepacking", no_prepacking)
            .unwrap()
            .with_execution_providers([CPU::default().with_arena_allocator(false).build()])
            .unwrap()
            .with_intra_threads(1)
            .unwrap()
            .commit_from_file(model)
            .unwrap();
        let before = cpu();
        for (shape, values) in &inputs {
            let input = TensorRef::from_array_view((shape.clone(), values.as_slice())).unwrap();
            let outputs = session.run(ort::inputs![input]).unwrap();
            std::hint::black_box(outputs[0].try_extract_tensor::<f32>().unwrap());
        }
        seconds.push(cpu() - before);
    }
    let each: Vec<String> = seconds.iter().map(f64::to_string).collect();
    println!(
        "{} {} {}",
        inputs.len(),
        seconds.iter().sum::<f64>(),
        each.join(" ")
    );
}

/// Every row as a stage process reads it; prints CPU seconds.
fn read(dir: &Path) {
    let before = cpu();
    let capture = Capture::open(Arc::new(Disk), dir).unwrap();
    for segment in capture.segments() {
        for span in segment.spans(0..segment.row_groups) {
            for rows in segment.stream(span, Projection::Tensors).unwrap() {
                std::hint::black_box(rows.unwrap());
            }
        }
    }
    println!("{}", cpu() - before);
}

/// User and system seconds of this process.
fn cpu() -> f64 {
    let text = std::fs::read_to_string("/proc/self/schedstat").unwrap();
    text.split(' ').next().unwrap().parse::<f64>().unwrap() / 1e9
}
