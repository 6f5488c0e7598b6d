//! What a stage of this runtime may say.

use std::collections::BTreeMap;
use std::path::PathBuf;

use http::{HeaderName, HeaderValue};
use inferdiff_replay::ladder::{Completed, Written};
use inferdiff_schemas::run::ladder::options_map;
use inferdiff_schemas::wire::carries_credentials;
use serde::{Deserialize, Serialize};

use crate::proxy::Upstream;

/// The ladder's keys of this runtime.
pub(super) const KEYS: [&str; 6] = [
    "url",
    "model_name",
    "model_version",
    "binary",
    "trust",
    "headers",
];

/// Which form of the protocol an endpoint speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Rest,
    Grpc,
}

/// The value of a header.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, expecting = "a text or { env = \"VARIABLE\" }")]
pub(super) enum Value {
    Text(String),
    /// Of a variable of the environment, read when the stage opens and kept nowhere.
    Secret {
        env: String,
    },
}

/// Options of a stage, complete.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct EndpointOptions {
    pub url: String,
    pub model_name: String,
    /// `None`: the server chooses.
    pub model_version: Option<String>,
    /// REST: whether tensors travel as blobs; `None`: where the server says that it can.
    pub binary: Option<bool>,
    /// Certificates that are trusted instead of the system's.
    pub trust: Option<PathBuf>,
    pub headers: BTreeMap<String, Value>,
}

/// The ladder's keys → options. Nobody is asked yet.
pub(super) fn complete(written: &mut Written<'_>) -> Result<Completed, String> {
    let needed = |key: &str, example: &str| format!("it has no `{key}`: write {key} = {example}");
    let url: Option<String> = written.take("url")?;
    let url = url.ok_or_else(|| needed("url", "\"http://host:8000\" or \"grpc://host:8001\""))?;
    let name: Option<String> = written.take("model_name")?;
    let options = EndpointOptions {
        url,
        model_name: name.ok_or_else(|| needed("model_name", "\"its name on the server\""))?,
        model_version: written.take("model_version")?,
        binary: written.take("binary")?,
        trust: written.file("trust")?,
        headers: written.take("headers")?.unwrap_or_default(),
    };
    let (form, _) = options.upstream()?;
    if form == Form::Grpc && options.binary.is_some() {
        return Err("`binary` means nothing over gRPC, where tensors are always raw".to_owned());
    }
    options.check_headers()?;
    Ok(Completed {
        options: options_map(&options),
        ..Completed::default()
    })
}

impl EndpointOptions {
    /// How the endpoint speaks and where it is.
    pub fn upstream(&self) -> Result<(Form, Upstream), String> {
        let told = |why: String| format!("`url`: {why}");
        let (form, url) = match self.url.split_once("://") {
            Some(("http" | "https", _)) => (Form::Rest, self.url.clone()),
            Some(("grpc", rest)) => (Form::Grpc, format!("http://{rest}")),
            Some(("grpcs", rest)) => (Form::Grpc, format!("https://{rest}")),
            _ => {
                return Err(told(format!(
                    "{}: it must begin with http://, https://, grpc:// or grpcs://",
                    self.url
                )));
            }
        };
        let upstream = Upstream::parse(&url, self.trust.as_deref()).map_err(told)?;
        Ok((form, upstream))
    }

    fn check_headers(&self) -> Result<(), String> {
        for (name, value) in &self.headers {
            let named: Result<HeaderName, _> = name.parse();
            named.map_err(|_| format!("`headers`: `{name}` is no name of a header"))?;
            match value {
                Value::Text(_) if carries_credentials(name) => {
                    return Err(format!(
                        "`headers.{name}` would stand in run.json for everybody to read: write \
                         {name} = {{ env = \"VARIABLE\" }}"
                    ));
                }
                Value::Text(text) => {
                    HeaderValue::from_str(text).map_err(|e| format!("`headers.{name}`: {e}"))?;
                }
                Value::Secret { .. } => {}
            }
        }
        Ok(())
    }

    /// The headers with their values.
    ///
    /// # Errors
    /// A variable that is not set, or whose value no header can carry.
    pub fn read_headers(&self) -> Result<Vec<(HeaderName, HeaderValue)>, String> {
        let each = self.headers.iter().map(|(name, value)| {
            let text = match value {
                Value::Text(text) => text.clone(),
                Value::Secret { env } => std::env::var(env)
                    .map_err(|_| format!("`headers.{name}`: the variable {env} is not set"))?,
            };
            let fail = |_| format!("`headers.{name}`: its value is none that a header can carry");
            let mut value = HeaderValue::from_str(&text).map_err(fail)?;
            value.set_sensitive(true);
            let name = HeaderName::from_bytes(name.as_bytes()).map_err(|e| e.to_string())?;
            Ok((name, value))
        });
        each.collect()
    }
}
