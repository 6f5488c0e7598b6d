//! The answers stored in the capture: production itself.

use inferdiff_schemas::run::evidence::{Evidence, Signature};
use inferdiff_schemas::run::ladder::Stage;
use inferdiff_schemas::{Exchange, Outcome, Tensor};

use super::{InferError, OpenError, Predictor, Request, Runtime};
use crate::ladder::{Completed, Written};

/// The `recorded` runtime. It has no model and no options.
#[derive(Debug, Clone, Copy, Default)]
pub struct Recorded;

struct RecordedPredictor;

impl Runtime for Recorded {
    fn name(&self) -> &'static str {
        "recorded"
    }

    fn reads_inputs(&self) -> bool {
        false
    }

    fn complete(&self, _written: &mut Written<'_>) -> Result<Completed, String> {
        Ok(Completed::default())
    }

    fn open(&self, _stage: &Stage) -> Result<Box<dyn Predictor>, OpenError> {
        Ok(Box::new(RecordedPredictor))
    }
}

impl Predictor for RecordedPredictor {
    fn signature(&self) -> Option<&Signature> {
        None
    }

    fn reads_exchange(&self) -> bool {
        false
    }

    fn infer(&mut self, request: &Request<'_>) -> Result<Vec<Tensor>, InferError> {
        answer(request.exchange)
    }

    fn evidence(&self) -> Evidence {
        Evidence {
            runtime: "recorded".to_owned(),
            ..Evidence::default()
        }
    }
}

/// The recorded answer, or why there is none.
pub(super) fn answer(exchange: &Exchange) -> Result<Vec<Tensor>, InferError> {
    let Some(outputs) = &exchange.outputs else {
        return Err(InferError::NoAnswer(why_none(exchange)));
    };
    match outputs.iter().find(|t| t.data.is_none()) {
        None => Ok(outputs.clone()),
        Some(t) => Err(InferError::NoAnswer(format!(
            "the data of the recorded output `{}` was not kept ({})",
            t.name,
            t.payload.name()
        ))),
    }
}

/// The nearest cause first: what happened on the wire, what production said, what we could not read.
fn why_none(exchange: &Exchange) -> String {
    let words = exchange
        .error
        .as_deref()
        .or(exchange.decode_error.as_deref());
    let words = words.map_or_else(String::new, |w| format!(": {w}"));
    if exchange.outcome != Outcome::Complete {
        return format!(
            "no whole answer was recorded ({}){words}",
            exchange.outcome.name()
        );
    }
    match exchange.status {
        Some(status) if !(200..300).contains(&status) => {
            format!("production answered with status {status}{words}")
        }
        _ if exchange.decode_error.is_some() => {
            format!("the recorded answer could not be decoded{words}")
        }
        _ => format!("no answer was recorded{words}"),
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use inferdiff_schemas::{Datatype, Payload};

    use super::*;
    use crate::runtime::testing::exchange;

    fn ask(exchange: &Exchange) -> Result<Vec<Tensor>, InferError> {
        let mut predictor = Recorded.open(&Stage::bare("test", "recorded")).unwrap();
        assert!(predictor.signature().is_none());
        predictor.infer(&Request {
            exchange,
            inputs: &[],
        })
    }

    fn why(change: impl FnOnce(&mut Exchange)) -> String {
        let mut exchange = exchange(1);
        change(&mut exchange);
        match ask(&exchange) {
            Err(InferError::NoAnswer(why)) => why,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_recorded_answer_is_the_answer() {
        let mut e = exchange(1);
        let y = Tensor::inline("y", Datatype::Uint8, vec![2], Bytes::from_static(&[1, 2])).unwrap();
        e.outputs = Some(vec![y.clone()]);
        assert_eq!(ask(&e), Ok(vec![y.clone()]));
        let lost = Tensor {
            payload: Payload::Dropped,
            data: None,
            ..y
        };
        e.outputs = Some(vec![lost]);
        let told = ask(&e).unwrap_err().to_string();
        assert!(told.contains("`y`") && told.contains("dropped"), "{told}");
    }

    #[test]
    fn where_there_is_none_it_is_said_why() {
        assert!(why(|e| e.status = Some(503)).contains("status 503"));
        let told = why(|e| {
            e.outcome = Outcome::UpstreamUnreachable;
            e.status = Some(502);
            e.error = Some("connection refused".into());
        });
        assert!(told.contains("upstream_unreachable") && told.contains("connection refused"));
        let told = why(|e| e.decode_error = Some("outputs: no shape".into()));
        assert!(told.contains("not be decoded: outputs: no shape"), "{told}");
        assert!(why(|_| {}).contains("no answer"));
    }
}
