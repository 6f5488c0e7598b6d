//! What the tests on a real ONNX Runtime share.
#![allow(dead_code, reason = "each test binary uses its own part of this")]

use std::path::{Path, PathBuf};

use bytes::Bytes;
use inferdiff_replay::runtime::{
    InferError, OnnxOptions, OnnxRuntime, OpenError, Predictor, Request, Runtime, locate,
};
use inferdiff_schemas::run::evidence::{Acted, Evidence, OptionEvidence};
use inferdiff_schemas::run::ladder::Stage;
use inferdiff_schemas::{Datatype, Exchange, Tensor};

/// The ONNX Runtime library of the tests: `INFERDIFF_TEST_ORT` (file or folder), else the one of the
/// workspace's `.venv`. A machine without it must not pass by skipping.
pub fn library() -> PathBuf {
    let explicit = std::env::var_os("INFERDIFF_TEST_ORT").map(PathBuf::from);
    let lib = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.venv/lib");
    let pythons = std::fs::read_dir(lib).into_iter().flatten().flatten();
    let candidates: Vec<PathBuf> = pythons
        .map(|p| p.path().join("site-packages/onnxruntime/capi"))
        .collect();
    match locate(explicit.as_deref(), &candidates) {
        Ok(path) => path,
        Err(e) => panic!(
            "the tests need a real ONNX Runtime: run scripts/setup, or set INFERDIFF_TEST_ORT ({e})"
        ),
    }
}

/// A small model of `replay/tests/models`.
pub fn model(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/models")
        .join(name)
        .with_extension("onnx")
}

/// The reference stage of the built-in ladder, on a model of the tests.
pub fn stage(model_name: &str) -> Stage {
    with(model_name, |_| {})
}

/// The reference stage with other options.
pub fn with(model_name: &str, change: impl FnOnce(&mut OnnxOptions)) -> Stage {
    let mut options = OnnxOptions {
        library: Some(library()),
        deterministic: true,
        ..OnnxOptions::default()
    };
    change(&mut options);
    options.over(Stage {
        model: Some(model(model_name)),
        ..Stage::bare("test", "onnxruntime")
    })
}

/// Opens a stage.
pub fn open(stage: &Stage) -> Result<Box<dyn Predictor>, OpenError> {
    OnnxRuntime::default().open(stage)
}

/// Opens a stage that must fail, and says why it did.
pub fn refused(stage: &Stage) -> OpenError {
    open(stage).err().expect("the stage must not open")
}

/// The evidence of an opened stage.
pub fn evidence(stage: &Stage) -> Evidence {
    open(stage).unwrap().evidence()
}

/// One option of the evidence.
pub fn option<'e>(evidence: &'e Evidence, name: &str) -> &'e OptionEvidence {
    let found = evidence.options.iter().find(|o| o.option == name);
    found.unwrap_or_else(|| panic!("no evidence of {name}: {:?}", evidence.options))
}

/// Whether an option acted.
pub fn acted(evidence: &Evidence, name: &str) -> Acted {
    option(evidence, name).acted
}

/// Runs one request.
pub fn infer(predictor: &mut dyn Predictor, inputs: &[Tensor]) -> Result<Vec<Tensor>, InferError> {
    predictor.infer(&Request {
        exchange: &Exchange::new(ulid::Ulid::nil(), 1),
        inputs,
    })
}

/// A tensor.
pub fn tensor(name: &str, datatype: Datatype, shape: &[i64], data: impl Into<Bytes>) -> Tensor {
    Tensor::inline(name, datatype, shape.to_vec(), data.into()).unwrap()
}

/// An FP32 tensor.
pub fn floats(name: &str, shape: &[i64], values: &[f32]) -> Tensor {
    let data: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    tensor(name, Datatype::Fp32, shape, data)
}

/// Numbers that are spread and not round, for models whose answer must not be trivial.
pub fn spread(n: usize) -> Vec<f32> {
    (0..n).map(|i| (i as f32 * 0.37).sin() * 1.7).collect()
}
