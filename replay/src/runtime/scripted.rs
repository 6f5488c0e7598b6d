//! A runtime for tests: echoes its inputs as outputs and dies where it is told to.
//!
//! A process that dies inside an engine cannot be had on demand from a real one; everything else is
//! tested on real runtimes.

use inferdiff_schemas::Tensor;
use inferdiff_schemas::run::evidence::{Evidence, Signature};
use inferdiff_schemas::run::ladder::Stage;

use super::{InferError, OpenError, Predictor, Request, Runtime};

/// The `scripted` runtime; `config.abort_on` lists the numbers of exchanges that kill the process.
#[derive(Debug, Clone, Copy, Default)]
pub struct Scripted;

struct ScriptedPredictor {
    abort_on: Vec<u64>,
}

impl Runtime for Scripted {
    fn name(&self) -> &'static str {
        "scripted"
    }

    fn open(&self, stage: &Stage) -> Result<Box<dyn Predictor>, OpenError> {
        let list = stage.config.get("abort_on").map_or("", String::as_str);
        let abort_on = list
            .split(',')
            .filter(|s| !s.is_empty())
            .map(|s| {
                s.trim()
                    .parse()
                    .map_err(|e| OpenError::Failed(format!("abort_on: {e}")))
            })
            .collect::<Result<Vec<u64>, _>>()?;
        Ok(Box::new(ScriptedPredictor { abort_on }))
    }
}

impl Predictor for ScriptedPredictor {
    fn signature(&self) -> Option<&Signature> {
        None
    }

    fn infer(&mut self, request: &Request<'_>) -> Result<Vec<Tensor>, InferError> {
        if self.abort_on.contains(&request.exchange.seq) {
            std::process::abort();
        }
        Ok(request.inputs.to_vec())
    }

    fn evidence(&self) -> Evidence {
        Evidence {
            runtime: "scripted".to_owned(),
            ..Evidence::default()
        }
    }
}
