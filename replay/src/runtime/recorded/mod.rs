//! Answers that were given before: those stored in the capture, which are production's, or those of a
//! stage of another run.

mod run;

use inferdiff_schemas::run::evidence::{Acted, Evidence, OptionEvidence, Signature};
use inferdiff_schemas::run::ladder::Stage;
use inferdiff_schemas::{Exchange, Outcome, Tensor};
use serde_json::Map;

use self::run::{Answers, From};
use super::{InferError, OpenError, Predictor, Request, Runtime};
use crate::ladder::{Completed, Written};

/// The `recorded` runtime. It has no model; its one key, `from`, names another run's stage.
#[derive(Debug, Clone, Copy, Default)]
pub struct Recorded;

/// The ladder's key.
const FROM: &str = "from";

/// The capture's own answers.
struct Production;

/// Another run's.
struct OfRun {
    answers: Answers,
    evidence: Evidence,
}

impl Runtime for Recorded {
    fn name(&self) -> &'static str {
        "recorded"
    }

    fn reads_inputs(&self) -> bool {
        false
    }

    fn keys(&self) -> &'static [&'static str] {
        &[FROM]
    }

    fn complete(&self, written: &mut Written<'_>) -> Result<Completed, String> {
        let Some(text) = written.take::<String>(FROM)? else {
            return Ok(Completed::default());
        };
        let mut from = From::parse(&text)?;
        let folder = written.at(&from.run);
        from.run = std::fs::canonicalize(&folder)
            .map_err(|e| format!("`from`: there is no run at {}: {e}", folder.display()))?;
        from.check()?;
        let text = format!("{}#{}", from.run.display(), from.stage);
        Ok(Completed {
            model: None,
            files: from.files().to_vec(),
            options: Map::from_iter([(FROM.to_owned(), text.into())]),
        })
    }

    fn open(&self, stage: &Stage) -> Result<Box<dyn Predictor>, OpenError> {
        let Some(text) = stage.options.get(FROM).and_then(|v| v.as_str()) else {
            return Ok(Box::new(Production));
        };
        let opened = From::parse(text).and_then(Answers::open);
        let (answers, manifest) = opened.map_err(OpenError::Failed)?;
        let evidence = Evidence {
            runtime: "recorded".to_owned(),
            version: Some(manifest.version),
            options: vec![OptionEvidence {
                option: FROM.to_owned(),
                requested: text.to_owned(),
                acted: Acted::Acted,
                shown_by: format!(
                    "the answers of that run, made {} of capture {}",
                    manifest.created, manifest.capture_digest
                ),
            }],
            cpu: manifest
                .environment
                .get("cpu")
                .cloned()
                .into_iter()
                .collect(),
            ..Evidence::default()
        };
        Ok(Box::new(OfRun { answers, evidence }))
    }
}

impl Predictor for OfRun {
    fn signature(&self) -> Option<&Signature> {
        None
    }

    fn reads_exchange(&self) -> bool {
        false
    }

    fn infer(&mut self, request: &Request<'_>) -> Result<Vec<Tensor>, InferError> {
        self.answers.of(request.exchange)
    }

    fn evidence(&self) -> Evidence {
        self.evidence.clone()
    }
}

impl Predictor for Production {
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
