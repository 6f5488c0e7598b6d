//! The answers stored in the capture: production itself.

use inferdiff_schemas::Tensor;
use inferdiff_schemas::run::evidence::{Evidence, Signature};
use inferdiff_schemas::run::ladder::Stage;

use super::{InferError, OpenError, Predictor, Request, Runtime};

/// The `recorded` runtime.
#[derive(Debug, Clone, Copy, Default)]
pub struct Recorded;

struct RecordedPredictor;

impl Runtime for Recorded {
    fn name(&self) -> &'static str {
        "recorded"
    }

    fn open(&self, _stage: &Stage) -> Result<Box<dyn Predictor>, OpenError> {
        Ok(Box::new(RecordedPredictor))
    }
}

impl Predictor for RecordedPredictor {
    fn signature(&self) -> Option<&Signature> {
        None
    }

    fn infer(&mut self, request: &Request<'_>) -> Result<Vec<Tensor>, InferError> {
        let e = request.exchange;
        match &e.outputs {
            Some(outputs) if outputs.iter().all(|t| t.data.is_some()) => Ok(outputs.clone()),
            Some(_) => Err(InferError::NoAnswer(
                "the recorded outputs carry no data".to_owned(),
            )),
            None => Err(InferError::NoAnswer(match (e.status, &e.decode_error) {
                (Some(status), _) if status != 200 => format!("production answered {status}"),
                (_, Some(why)) => format!("the recorded answer was not decoded: {why}"),
                _ => format!("no answer was recorded ({})", e.outcome.name()),
            })),
        }
    }

    fn evidence(&self) -> Evidence {
        Evidence {
            runtime: "recorded".to_owned(),
            ..Evidence::default()
        }
    }
}
