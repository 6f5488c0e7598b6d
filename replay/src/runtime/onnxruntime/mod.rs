//! ONNX Runtime through `ort`, one library per process.
//!
//! `options` reads a ladder's keys, `library` loads, `session` turns a stage into a session, `providers` appends execution
//! providers, `names` and `proof` see to it that nothing is ignored in silence, `log`, `placement`
//! and `evidence` say what was really executed, `tensors`, `outputs` and `signature` cross the border of types,
//! `predictor` answers.

mod capi;
mod evidence;
mod library;
mod log;
mod names;
mod options;
mod outputs;
mod placement;
mod predictor;
mod proof;
mod providers;
mod session;
mod signature;
mod tensors;
mod value;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use inferdiff_schemas::run::evidence::Evidence;
use inferdiff_schemas::run::ladder::Stage;

pub use evidence::prove_off;
pub use library::{NAMED, locate};
pub use options::{GraphOptimization, OnnxOptions, Provider};

use super::{Need, OpenError, Predictor, Runtime};
use crate::ladder::{Completed, Written};

/// The `onnxruntime` runtime.
#[derive(Debug, Clone, Default)]
pub struct OnnxRuntime {
    /// Library used by stages that name none, if the caller found one.
    pub default_library: Option<PathBuf>,
    /// Libraries that ladders may call by name, where the caller found them.
    pub named: BTreeMap<String, PathBuf>,
}

impl Runtime for OnnxRuntime {
    fn name(&self) -> &'static str {
        "onnxruntime"
    }

    fn keys(&self) -> &'static [&'static str] {
        &options::KEYS
    }

    fn complete(&self, written: &mut Written<'_>) -> Result<Completed, String> {
        options::complete(written, self)
    }

    fn open(&self, stage: &Stage) -> Result<Box<dyn Predictor>, OpenError> {
        let stage = options::OnnxStage::of(stage)?;
        let library = stage.options.library.as_ref();
        let explicit = library.or(self.default_library.as_ref());
        let library = library::load(&locate(explicit.map(PathBuf::as_path), &[])?)?;
        Ok(Box::new(predictor::OnnxPredictor::open(library, &stage)?))
    }

    fn examine(&self) -> Vec<Need> {
        let explicit = self.default_library.as_deref();
        let library = locate(explicit, &[]).and_then(|path| library::load(&path));
        let (found, loaded) = match library {
            Ok(l) => (Ok(format!("{} at {}", l.version, l.path.display())), true),
            Err(e) => (Err(e.to_string()), false),
        };
        let mut needs = vec![Need {
            what: "library".to_owned(),
            found,
        }];
        if loaded {
            needs.extend(providers::examine());
        }
        // Where they lie only: one process has one library.
        needs.extend(NAMED.iter().map(|(name, _)| Need {
            what: (*name).to_owned(),
            found: match library::named(Path::new(name), &self.named) {
                Ok(place) => Ok(format!("at {}", place.unwrap_or_default().display())),
                Err(why) => Err(why),
            },
        }));
        needs
    }

    fn prove_off(&self, _stage: &Stage, evidence: &Evidence) -> Result<(), String> {
        prove_off(evidence)
    }
}
