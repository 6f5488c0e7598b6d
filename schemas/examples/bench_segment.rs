//! What recording costs in CPU: `cargo run --release -p inferdiff-schemas --example bench_segment`
//!
//! `bench_segment [DIR] [keep]`: captures go below DIR (default: the target directory, since a
//! file system in memory would measure another thing) and are removed unless `keep` is said.
//!
//! Prints user and system time of the process per exchange, the median of the rounds, apart:
//! the input digest, a checkpoint into a storage that forgets (encoding and our own copies), and
//! one to disk (that, the page cache and `fdatasync`). Making the exchanges is not counted.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    reason = "a measuring tool may fail loudly, and its numbers are small"
)]

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use inferdiff_schemas::capture::{
    CaptureMeta, CaptureWriter, Ledger, RecorderMeta, SyncPolicy, WriterOptions,
};
use inferdiff_schemas::digest::input_digest;
use inferdiff_schemas::storage::{Disk, Entry, ReadFile, Storage, WriteFile};
use inferdiff_schemas::{Datatype, Exchange, Tensor};
use rustix::time::{ClockId, clock_gettime};
use ulid::Ulid;

// The allocator of the product: buffers of this size are mapped and unmapped by others.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const ROUNDS: usize = 9;

/// One workload: what an exchange carries and how many make a checkpoint.
struct Load {
    name: &'static str,
    input: i64,
    output: i64,
    per_checkpoint: u64,
    checkpoints: usize,
}

const LOADS: [Load; 2] = [
    Load {
        name: "602 kB binary",
        input: 3 * 224 * 224,
        output: 1000,
        per_checkpoint: 55,
        checkpoints: 4,
    },
    Load {
        name: "small, 1000 a checkpoint",
        input: 64,
        output: 10,
        per_checkpoint: 1000,
        checkpoints: 16,
    },
];

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let root = args.first().map_or_else(target, PathBuf::from);
    let keep = args.iter().any(|a| a == "keep");
    println!("CPU µs per exchange, median of {ROUNDS} (least)");
    println!(
        "{:26}{:>18}{:>18}{:>18}{:>18}",
        "", "input digest", "no storage", "disk, no sync", "disk"
    );
    for load in &LOADS {
        let mut times = [const { Vec::new() }; 4];
        // In turn, so that a noisy neighbour hits all of them.
        for round in 0..ROUNDS {
            let dir = root.join(format!("bench-{}-{round}", Ulid::generate()));
            let disk: Arc<dyn Storage> = Arc::new(Disk);
            times[0].push(digest(load));
            times[1].push(record(load, Arc::new(Forget), &dir, SyncPolicy::Seal, keep));
            times[2].push(record(load, disk.clone(), &dir, SyncPolicy::Seal, keep));
            times[3].push(record(load, disk, &dir, SyncPolicy::Checkpoint, keep));
        }
        print!("{:26}", load.name);
        for mut t in times {
            t.sort_by(f64::total_cmp);
            print!("{:>18}", format!("{:.2} ({:.2})", t[ROUNDS / 2], t[0]));
        }
        println!();
    }
}

/// `target/`, above the example's own binary.
fn target() -> PathBuf {
    let own = std::env::current_exe().unwrap();
    own.ancestors().nth(3).unwrap().to_owned()
}

/// CPU time of the whole process in µs.
fn cpu() -> f64 {
    let t = clock_gettime(ClockId::ProcessCPUTime);
    t.tv_sec as f64 * 1e6 + t.tv_nsec as f64 / 1e3
}

/// A fresh buffer, as a connection's are.
fn floats(n: i64, seed: u64) -> Bytes {
    let mut x = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut out = Vec::with_capacity(usize::try_from(n).unwrap() * 4);
    for _ in 0..n / 2 {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        out.extend_from_slice(&x.to_le_bytes());
    }
    out.into()
}

fn exchange(load: &Load, recorder: Ulid, seq: u64) -> Exchange {
    let tensor = |name: &str, n, seed| {
        Tensor::inline(name, Datatype::Fp32, vec![1, n], floats(n, seed)).unwrap()
    };
    let input = tensor("input", load.input, seq);
    Exchange {
        arrived_at_ns: 1_790_000_000_000_000_000 + i64::try_from(seq * 31_003).unwrap(),
        first_byte_ns: Some(812_345 + seq * 7919 % 100_000),
        end_ns: 912_345 + seq * 7907 % 100_000,
        protocol: "oip-rest-binary".into(),
        model: Some("resnet50".into()),
        model_version: Some("1".into()),
        client_request_id: Some(format!("request-{seq}")),
        method: "POST".into(),
        path: "/v2/models/resnet50/infer".into(),
        status: Some(200),
        request_headers: vec![("content-type".into(), "application/octet-stream".into())],
        response_headers: vec![("content-type".into(), "application/octet-stream".into())],
        input_digest: Some([7; 16]),
        inputs: Some(vec![input]),
        outputs: Some(vec![tensor("output", load.output, seq + 1)]),
        ..Exchange::new(recorder, seq)
    }
}

fn digest(load: &Load) -> f64 {
    let recorder = Ulid::generate();
    let made: Vec<_> = (0..load.per_checkpoint)
        .map(|seq| exchange(load, recorder, seq))
        .collect();
    let begun = cpu();
    for e in &made {
        std::hint::black_box(input_digest(e.inputs.as_deref().unwrap()));
    }
    (cpu() - begun) / made.len() as f64
}

fn record(load: &Load, storage: Arc<dyn Storage>, dir: &Path, sync: SyncPolicy, keep: bool) -> f64 {
    let recorder = Ulid::generate();
    let (meta, own) = (CaptureMeta::new(""), RecorderMeta::new(recorder, ""));
    let options = WriterOptions {
        sync,
        ..WriterOptions::default()
    };
    let (mut writer, _) = CaptureWriter::open(storage, dir, meta, own, options).unwrap();
    let (mut ledger, mut spent, mut seq) = (Ledger::default(), 0.0, 0);
    for _ in 0..load.checkpoints {
        for _ in 0..load.per_checkpoint {
            ledger.accepted += 1;
            ledger.in_flight += 1;
            writer.append(exchange(load, recorder, seq));
            seq += 1;
        }
        let begun = cpu();
        writer.checkpoint(&mut ledger).unwrap();
        spent += cpu() - begun;
    }
    writer.close(&mut ledger, String::new()).unwrap();
    assert_eq!(ledger.recorded, seq);
    if !keep {
        let _ = std::fs::remove_dir_all(dir);
    }
    spent / seq as f64
}

/// Takes everything and keeps only what opening a capture reads back: nothing.
struct Forget;
struct Forgotten;

impl WriteFile for Forgotten {
    fn is_linked(&self) -> io::Result<bool> {
        Ok(true)
    }
    fn write_all(&mut self, _: &[u8]) -> io::Result<()> {
        Ok(())
    }
    fn sync(&mut self) -> io::Result<()> {
        Ok(())
    }
    fn truncate(&mut self, _: u64) -> io::Result<()> {
        Ok(())
    }
}

impl Storage for Forget {
    fn free_bytes(&self, path: &Path) -> io::Result<u64> {
        Disk.free_bytes(path)
    }
    fn create_dir(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }
    fn create(&self, _: &Path) -> io::Result<Box<dyn WriteFile>> {
        Ok(Box::new(Forgotten))
    }
    fn open_locked(&self, _: &Path) -> io::Result<Option<Box<dyn WriteFile>>> {
        Ok(None)
    }
    fn open(&self, _: &Path) -> io::Result<Box<dyn ReadFile>> {
        Err(io::ErrorKind::NotFound.into())
    }
    fn rename(&self, _: &Path, _: &Path) -> io::Result<()> {
        Ok(())
    }
    fn remove(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }
    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }
    fn list(&self, _: &Path) -> io::Result<Vec<Entry>> {
        Ok(Vec::new())
    }
}
