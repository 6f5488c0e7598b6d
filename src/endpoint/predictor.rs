//! A live server as a predictor.

use std::collections::BTreeMap;
use std::time::Duration;

use inferdiff_replay::runtime::{InferError, OpenError, Predictor, Request};
use inferdiff_schemas::Tensor;
use inferdiff_schemas::run::evidence::{Acted, Evidence, OptionEvidence, Signature, TensorSpec};
use inferdiff_schemas::run::ladder::Stage;
use inferdiff_schemas::wire::{self, Ask};
use tokio::runtime;

use super::link::{Broken, Link, Server};
use super::options::{EndpointOptions, Form};

/// How long a server may take to say who it is. Inference has the run's own limit.
const PATIENCE: Duration = Duration::from_secs(10);

/// A live server.
pub(super) struct Live {
    // Dropped before the event loop that drives it.
    link: Link,
    events: runtime::Runtime,
    options: EndpointOptions,
    form: Form,
    binary: bool,
    server: Server,
    signature: Option<Signature>,
    warnings: Vec<String>,
    /// Answers by the version that gave them.
    versions: BTreeMap<String, u64>,
}

impl Live {
    pub fn open(stage: &Stage) -> Result<Self, OpenError> {
        let options: EndpointOptions = stage.read_options().map_err(OpenError::Failed)?;
        let (form, _) = options.upstream().map_err(OpenError::Failed)?;
        let mut link = Link::new(&options).map_err(OpenError::Failed)?;
        let events = runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|e| OpenError::Failed(format!("no event loop: {e}")))?;
        let asked = events.block_on(async {
            tokio::time::timeout(PATIENCE, introduced(&mut link, &options)).await
        });
        let Introduced {
            server,
            signature,
            warnings,
        } = asked
            .map_err(|_| {
                let seconds = PATIENCE.as_secs();
                OpenError::Unavailable(format!("{} said nothing for {seconds} s", options.url))
            })?
            .map_err(|broken| OpenError::Unavailable(broken.words().to_owned()))?;
        Ok(Self {
            link,
            events,
            form,
            binary: options.binary.unwrap_or(server.binary),
            options,
            server,
            signature,
            warnings,
            versions: BTreeMap::new(),
        })
    }

    fn shown(&self) -> Vec<OptionEvidence> {
        let acted = |option: &str, requested: String, shown_by: String| OptionEvidence {
            option: option.to_owned(),
            requested,
            acted: Acted::Acted,
            shown_by,
        };
        let who = format!("{} {} answered", self.server.name, self.server.version);
        let mut out = vec![acted("url", self.options.url.clone(), who)];
        let name = self.options.model_name.clone();
        out.push(acted(
            "model_name",
            name,
            "the server says that it is ready".to_owned(),
        ));
        if let Some(version) = &self.options.model_version {
            let others: Vec<_> = self.versions.keys().filter(|v| *v != version).collect();
            let (acted, shown_by) = match (self.versions.is_empty(), others.first()) {
                (true, _) => (Acted::Unobservable, "no answer named a version".to_owned()),
                (_, None) => (Acted::Acted, "every answer that names a version".to_owned()),
                (_, Some(other)) => (Acted::DidNotAct, format!("version {other} answered")),
            };
            out.push(OptionEvidence {
                option: "model_version".to_owned(),
                requested: version.clone(),
                acted,
                shown_by,
            });
        }
        if self.form == Form::Rest {
            let (sent, why) = match (self.binary, self.options.binary) {
                (true, None) => ("true", "the server lists binary_tensor_data"),
                (false, None) => ("false", "the server does not list binary_tensor_data"),
                (true, _) => ("true", "requests were sent as blobs"),
                (false, _) => ("false", "requests were sent as JSON"),
            };
            out.push(acted("binary", sent.to_owned(), why.to_owned()));
        }
        out
    }
}

struct Introduced {
    server: Server,
    signature: Option<Signature>,
    warnings: Vec<String>,
}

async fn introduced(link: &mut Link, options: &EndpointOptions) -> Result<Introduced, Broken> {
    let (name, version) = (&options.model_name, options.model_version.as_deref());
    let mut warnings = Vec::new();
    let server = match link.server().await {
        Ok(server) => server,
        Err(broken @ Broken::Connection(_)) => return Err(broken),
        Err(broken) => {
            warnings.push(format!(
                "the server does not say who it is: {}",
                broken.words()
            ));
            Server::default()
        }
    };
    link.ready(name, version).await?;
    let signature = match link.metadata(name, version).await {
        Ok(told) => signature(told),
        Err(broken @ Broken::Connection(_)) => return Err(broken),
        Err(broken) => {
            let why = broken.words();
            warnings.push(format!(
                "the server tells no inputs and outputs of `{name}`: {why}"
            ));
            None
        }
    };
    Ok(Introduced {
        server,
        signature,
        warnings,
    })
}

/// A signature that lists something; a server may list nothing of a model whose tensors it does not
/// know.
fn signature(told: wire::Signature) -> Option<Signature> {
    let specs = |tensors: Vec<wire::TensorMetadata>| -> Vec<TensorSpec> {
        let each = tensors.into_iter().map(|t| {
            // No dimension at all: a scalar is rarer than a server that does not know.
            let shape = t.shape.unwrap_or_default();
            TensorSpec {
                name: t.name,
                datatype: t.datatype.name().to_owned(),
                unknown_rank: shape.is_empty(),
                shape,
            }
        });
        each.collect()
    };
    let signature = Signature {
        inputs: specs(told.inputs),
        outputs: specs(told.outputs),
    };
    let listed = !signature.inputs.is_empty() && !signature.outputs.is_empty();
    listed.then_some(signature)
}

impl Predictor for Live {
    fn signature(&self) -> Option<&Signature> {
        self.signature.as_ref()
    }

    fn infer(&mut self, request: &Request<'_>) -> Result<Vec<Tensor>, InferError> {
        let ask = Ask {
            model: &self.options.model_name,
            version: self.options.model_version.as_deref(),
            id: &request.exchange.id,
            parameters: request.exchange.parameters.as_deref(),
            inputs: request.inputs,
        };
        let answered = self.events.block_on(self.link.infer(&ask, self.binary))?;
        if let Some(version) = answered.version {
            *self.versions.entry(version).or_default() += 1;
        }
        let missing = answered.outputs.iter().find(|t| t.data.is_none());
        if let Some(t) = missing {
            let kind = t.payload.name();
            let why = format!("output `{}` came without its data ({kind})", t.name);
            return Err(InferError::Engine(why));
        }
        Ok(self.ordered(answered.outputs))
    }

    fn evidence(&self) -> Evidence {
        let mut warnings = self.warnings.clone();
        if self.versions.len() > 1 {
            let each = self
                .versions
                .iter()
                .map(|(v, n)| format!("{v} ({n} times)"));
            let each: Vec<_> = each.collect();
            warnings.push(format!(
                "the model's version changed while it was asked: {}",
                each.join(", ")
            ));
        }
        let version = format!("{} {}", self.server.name, self.server.version);
        Evidence {
            runtime: "endpoint".to_owned(),
            version: Some(version.trim().to_owned()).filter(|v| !v.is_empty()),
            signature: self.signature.clone(),
            options: self.shown(),
            warnings,
            ..Evidence::default()
        }
    }

    /// A stateful model gets the sequence with its parameters, from the beginning.
    fn keeps_state(&self) -> bool {
        true
    }
}

impl Live {
    /// In the signature's order: servers may answer in any.
    fn ordered(&self, mut outputs: Vec<Tensor>) -> Vec<Tensor> {
        if let Some(signature) = &self.signature {
            let place = |t: &Tensor| {
                let named = signature.outputs.iter().position(|o| o.name == t.name);
                named.unwrap_or(usize::MAX)
            };
            outputs.sort_by_key(place);
        }
        outputs
    }
}
