//! A runtime that fails when told to: what the tests of runner and judge cannot ask of a real one.
//!
//! It answers what the capture recorded (its inputs, where it recorded no answer), except where the
//! stage's `config` says otherwise:
//!
//! | key | value |
//! |---|---|
//! | `open.error` | `failed` or `unavailable`: opening ends so |
//! | `open.kind` | `crash`: the process dies while it opens |
//! | `fault.seq` | exchange numbers, comma-separated; none = every exchange |
//! | `fault.kind` | `error`, `crash`, `hang`, `nan` (first element of each float output) or `flip` (its sign bit) |
//! | `state` | `count`: one more output, `count`, says the how-manieth of its sequence the exchange is |
//! | `fault.seconds` | how long `hang` hangs, default 3600 |

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::str::FromStr;
use std::time::Duration;

use bytes::Bytes;
use inferdiff_schemas::run::evidence::{Evidence, Signature};
use inferdiff_schemas::run::ladder::{Stage, options_map};
use inferdiff_schemas::{Datatype, Tensor};
use serde::{Deserialize, Serialize};

use super::{InferError, OpenError, Predictor, Request, Runtime, recorded};
use crate::ladder::{Completed, Flat, Written};

/// The `scripted` runtime.
#[doc(hidden)]
#[derive(Debug, Clone, Copy, Default)]
pub struct Scripted;

/// The script.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Options {
    config: BTreeMap<String, String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Error,
    Crash,
    Hang,
    Nan,
    Flip,
}

struct ScriptedPredictor {
    kind: Option<Kind>,
    /// Empty: every exchange.
    seqs: BTreeSet<u64>,
    hang: Duration,
    /// Exchanges seen by sequence, where it counts.
    seen: Option<HashMap<String, i64>>,
}

impl Runtime for Scripted {
    fn name(&self) -> &'static str {
        "scripted"
    }

    fn advertised(&self) -> bool {
        false
    }

    fn keys(&self) -> &'static [&'static str] {
        &["config"]
    }

    fn complete(&self, written: &mut Written<'_>) -> Result<Completed, String> {
        let config = written.take::<Flat>("config")?.unwrap_or_default().0;
        Ok(Completed {
            options: options_map(&Options { config }),
            ..Completed::default()
        })
    }

    fn open(&self, stage: &Stage) -> Result<Box<dyn Predictor>, OpenError> {
        let Options { config } = stage.read_options().map_err(OpenError::Failed)?;
        let predictor = script(stage, &config).map_err(OpenError::Failed)?;
        let said = || format!("stage `{}` was told not to open", stage.name);
        match config.get("open.error").map(String::as_str) {
            Some("unavailable") => return Err(OpenError::Unavailable(said())),
            Some(_) => return Err(OpenError::Failed(said())),
            None => {}
        }
        if config.contains_key("open.kind") {
            std::process::abort();
        }
        Ok(Box::new(predictor))
    }
}

fn script(stage: &Stage, config: &BTreeMap<String, String>) -> Result<ScriptedPredictor, String> {
    let mut predictor = ScriptedPredictor {
        kind: None,
        seqs: BTreeSet::new(),
        hang: Duration::from_secs(3600),
        seen: None,
    };
    for (key, value) in config {
        let wrong = || format!("stage `{}`: config {key} = `{value}`", stage.name);
        match (key.as_str(), value.as_str()) {
            ("open.error", "failed" | "unavailable") | ("open.kind", "crash") => {}
            ("state", "count") => predictor.seen = Some(HashMap::new()),
            ("fault.kind", "error") => predictor.kind = Some(Kind::Error),
            ("fault.kind", "crash") => predictor.kind = Some(Kind::Crash),
            ("fault.kind", "hang") => predictor.kind = Some(Kind::Hang),
            ("fault.kind", "nan") => predictor.kind = Some(Kind::Nan),
            ("fault.kind", "flip") => predictor.kind = Some(Kind::Flip),
            ("fault.seq", list) => {
                let seqs = list.split(',').map(|n| u64::from_str(n.trim()));
                predictor.seqs = seqs.collect::<Result<_, _>>().map_err(|_| wrong())?;
            }
            ("fault.seconds", n) => {
                predictor.hang = Duration::from_secs(n.parse().map_err(|_| wrong())?);
            }
            _ => return Err(wrong()),
        }
    }
    Ok(predictor)
}

impl Predictor for ScriptedPredictor {
    fn signature(&self) -> Option<&Signature> {
        None
    }

    fn infer(&mut self, request: &Request<'_>) -> Result<Vec<Tensor>, InferError> {
        let mut outputs = match request.exchange.outputs {
            Some(_) => recorded::answer(request.exchange)?,
            None => request.inputs.to_vec(),
        };
        let seq = request.exchange.seq;
        if let (Some(seen), Some(id)) = (&mut self.seen, &request.exchange.sequence_id) {
            let count = seen.entry(id.clone()).or_default();
            *count += 1;
            let data = Bytes::copy_from_slice(&count.to_le_bytes());
            let count = Tensor::inline("count", Datatype::Int64, vec![1], data);
            outputs.push(count.expect("one element of eight bytes"));
        }
        let Some(kind) = self.kind else {
            return Ok(outputs);
        };
        if !self.seqs.is_empty() && !self.seqs.contains(&seq) {
            return Ok(outputs);
        }
        match kind {
            Kind::Error => Err(InferError::Engine(format!(
                "exchange {seq} was told to fail"
            ))),
            Kind::Crash => std::process::abort(),
            Kind::Hang => {
                std::thread::sleep(self.hang);
                Ok(outputs)
            }
            Kind::Nan | Kind::Flip => {
                outputs.iter_mut().for_each(|t| spoil(t, kind));
                Ok(outputs)
            }
        }
    }

    fn evidence(&self) -> Evidence {
        Evidence {
            runtime: "scripted".to_owned(),
            ..Evidence::default()
        }
    }

    fn keeps_state(&self) -> bool {
        self.seen.is_some()
    }
}

/// Changes the first element of a float tensor.
fn spoil(tensor: &mut Tensor, kind: Kind) {
    let nan: &[u8] = match tensor.datatype {
        Datatype::Fp16 => &[0x00, 0x7e],
        Datatype::Bf16 => &[0xc0, 0x7f],
        Datatype::Fp32 => &[0x00, 0x00, 0xc0, 0x7f],
        Datatype::Fp64 => &[0, 0, 0, 0, 0, 0, 0xf8, 0x7f],
        _ => return,
    };
    let Some(data) = &tensor.data else { return };
    let mut bytes = data.to_vec();
    let Some(first) = bytes.get_mut(..nan.len()) else {
        return;
    };
    if kind == Kind::Nan {
        first.copy_from_slice(nan);
    } else if let Some(high) = first.last_mut() {
        *high ^= 0x80;
    }
    tensor.data = Some(Bytes::from(bytes));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::testing::exchange;

    fn scripted(config: &[(&str, &str)]) -> Result<Box<dyn Predictor>, OpenError> {
        let pairs = config.iter();
        let config = pairs.map(|(k, v)| ((*k).into(), (*v).into())).collect();
        let stage = Stage {
            options: options_map(&Options { config }),
            ..Stage::bare("test", "scripted")
        };
        Scripted.open(&stage)
    }

    fn ask(predictor: &mut dyn Predictor, seq: u64) -> Result<Vec<u8>, InferError> {
        let mut exchange = exchange(seq);
        let one = Bytes::copy_from_slice(&1f32.to_le_bytes());
        exchange.outputs = Some(vec![
            Tensor::inline("y", Datatype::Fp32, vec![1], one).unwrap(),
        ]);
        let request = Request {
            exchange: &exchange,
            inputs: &[],
        };
        let outputs = predictor.infer(&request)?;
        Ok(outputs[0].data.as_ref().unwrap().to_vec())
    }

    #[test]
    fn faults_strike_the_exchanges_they_are_told_to_and_no_others() {
        let mut p = scripted(&[("fault.kind", "error"), ("fault.seq", "3, 5")]).unwrap();
        for seq in 1..=6 {
            assert_eq!(ask(p.as_mut(), seq).is_err(), seq == 3 || seq == 5, "{seq}");
        }
        let mut p = scripted(&[("fault.kind", "nan")]).unwrap();
        let bytes = ask(p.as_mut(), 1).unwrap();
        assert!(f32::from_le_bytes(bytes.try_into().unwrap()).is_nan());
        let mut p = scripted(&[("fault.kind", "flip")]).unwrap();
        assert_eq!(ask(p.as_mut(), 1).unwrap(), (-1f32).to_le_bytes());
        let mut p = scripted(&[]).unwrap();
        assert_eq!(ask(p.as_mut(), 1).unwrap(), 1f32.to_le_bytes());
    }

    #[test]
    fn opening_fails_as_told_and_scripts_are_read_strictly() {
        let error = |c: &[(&str, &str)]| scripted(c).err().unwrap();
        assert!(matches!(
            error(&[("open.error", "unavailable")]),
            OpenError::Unavailable(_)
        ));
        assert!(matches!(
            error(&[("open.error", "failed")]),
            OpenError::Failed(_)
        ));
        assert!(
            error(&[("fault.kind", "crsh")])
                .to_string()
                .contains("crsh")
        );
        assert!(error(&[("fault.seq", "3;5")]).to_string().contains("3;5"));
    }
}
