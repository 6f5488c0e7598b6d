//! Any bytes are decoded or refused, by every decoder: the fuzz targets under random and damaged
//! bodies, on stable Rust. `scripts/fuzz` drives the same functions with libFuzzer.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail loudly")]

mod common;

use std::path::Path;
use std::sync::OnceLock;

use inferdiff_schemas::capture::{Ledger, WriterOptions};
use inferdiff_schemas::fuzz::{run, targets};
use inferdiff_schemas::{Datatype, Exchange, Tensor};
use proptest::prelude::*;
use ulid::Ulid;

/// Every golden body, whatever its protocol.
fn golden() -> &'static [Vec<u8>] {
    static BODIES: OnceLock<Vec<Vec<u8>>> = OnceLock::new();
    BODIES.get_or_init(|| {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/wire");
        let mut paths: Vec<_> = std::fs::read_dir(root)
            .unwrap()
            .map(|e| e.unwrap().path())
            .filter(|p| p.is_dir())
            .flat_map(|folder| std::fs::read_dir(folder).unwrap())
            .map(|e| e.unwrap().path())
            .filter(|p| p.extension().is_some_and(|e| e != "json"))
            .collect();
        paths.sort();
        assert!(paths.len() > 40);
        paths.iter().map(|p| std::fs::read(p).unwrap()).collect()
    })
}

/// The bytes of one sealed segment.
fn segment() -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let recorder = Ulid::from_parts(1, 1);
    let mut writer = common::open_writer(dir.path(), recorder, WriterOptions::default());
    let mut ledger = Ledger::default();
    for seq in 0..3 {
        let x = Tensor::inline("x", Datatype::Uint8, vec![2], vec![1, 2].into()).unwrap();
        let exchange = Exchange {
            inputs: Some(vec![x]),
            ..Exchange::new(recorder, seq)
        };
        common::accept(&mut writer, &mut ledger, exchange);
    }
    writer
        .close(&mut ledger, "2026-01-01T00:00:00Z".to_owned())
        .unwrap();
    let sealed = std::fs::read_dir(dir.path())
        .unwrap()
        .map(|e| e.unwrap().path())
        .find(|p| p.extension().is_some_and(|e| e == "parquet"));
    std::fs::read(sealed.unwrap()).unwrap()
}

fn every_target(data: &[u8]) {
    for (name, target) in targets() {
        let result = std::panic::catch_unwind(|| target(data));
        assert!(result.is_ok(), "{name} failed on {data:?}");
    }
}

#[test]
fn every_golden_body_in_every_decoder() {
    for body in golden() {
        every_target(body);
    }
    assert!(run("footer", &segment()));
    assert!(!run("no such target", b""));
}

/// For `scripts/fuzz`: the one seed that no script can make.
#[test]
#[ignore = "writes fuzz/corpus/footer"]
fn write_the_footer_seed() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus/footer");
    std::fs::create_dir_all(&dir).unwrap();
    std::fs::write(dir.join("segment"), segment()).unwrap();
}

proptest! {
    #[test]
    fn any_bytes(data in prop::collection::vec(any::<u8>(), 0..200)) {
        every_target(&data);
    }

    #[test]
    fn any_json(data in r#"(\{|\[|\}|\]|,|:|"[a-z_]{0,4}"|"inputs"|"instances"|"tensor"|"key"|"value"|"b64"|NaN|-?[0-9]{1,20}|1e999|null|true| ){0,24}"#) {
        every_target(data.as_bytes());
    }

    #[test]
    fn golden_bodies_with_any_damage(
        which in any::<prop::sample::Index>(),
        at in any::<prop::sample::Index>(),
        with in any::<u8>(),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut body = which.get(golden()).clone();
        if !body.is_empty() {
            let at = at.index(body.len());
            body[at] = with;
            every_target(&body);
            body.truncate(cut.index(body.len()));
            every_target(&body);
        }
    }
}
