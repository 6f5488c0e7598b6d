//! The runtime `endpoint`: any live server of the Open Inference Protocol, REST or gRPC, as a stage.
//!
//! `options` reads a ladder's keys, `rest` and `grpc` speak, `predictor` answers.

mod grpc;
mod link;
mod options;
mod predictor;
mod rest;

use inferdiff_replay::ladder::{Completed, Written};
use inferdiff_replay::runtime::{OpenError, Predictor, Runtime};
use inferdiff_schemas::run::ladder::Stage;

/// The `endpoint` runtime.
#[derive(Debug, Clone, Copy, Default)]
pub struct Endpoint;

impl Runtime for Endpoint {
    fn name(&self) -> &'static str {
        "endpoint"
    }

    fn keys(&self) -> &'static [&'static str] {
        &options::KEYS
    }

    fn complete(&self, written: &mut Written<'_>) -> Result<Completed, String> {
        options::complete(written)
    }

    fn open(&self, stage: &Stage) -> Result<Box<dyn Predictor>, OpenError> {
        Ok(Box::new(predictor::Live::open(stage)?))
    }
}
