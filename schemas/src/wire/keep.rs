//! What of an exchange may be kept.

use super::redact::TensorRules;
use crate::exchange::Field;
use crate::headers::Headers;

/// Which raw bodies a capture keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum BodyPolicy {
    /// Only bodies that could not be decoded into tensors.
    #[default]
    Undecoded,
    /// Every body.
    All,
    /// No body.
    None,
}

/// What of an exchange may be kept. Nothing else reaches the disk.
///
/// The default lists name no credential, no cookie and no query key.
#[derive(Debug, Clone)]
pub struct Keep {
    /// Request header names, lower case.
    pub request_headers: Vec<String>,
    /// Response header names, lower case.
    pub response_headers: Vec<String>,
    /// Query keys.
    pub query_keys: Vec<String>,
    /// Raw bodies.
    pub bodies: BodyPolicy,
    /// Tensors.
    pub tensors: TensorRules,
}

impl Default for Keep {
    fn default() -> Self {
        let list = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect();
        Self {
            request_headers: list(&[
                "accept-encoding",
                "content-encoding",
                "content-type",
                "grpc-encoding",
                "inference-header-content-length",
                "traceparent",
                "user-agent",
                "x-request-id",
            ]),
            response_headers: list(&[
                "content-encoding",
                "content-length",
                "content-type",
                "grpc-encoding",
                "inference-header-content-length",
            ]),
            query_keys: Vec::new(),
            bodies: BodyPolicy::default(),
            tensors: TensorRules::default(),
        }
    }
}

/// Headers that are never kept, whatever is asked: they carry credentials.
const CREDENTIALS: [&str; 8] = [
    "authorization",
    "proxy-authorization",
    "cookie",
    "set-cookie",
    "x-api-key",
    "api-key",
    "x-auth-token",
    "x-amz-security-token",
];

/// Whether a header carries credentials.
pub fn carries_credentials(header: &str) -> bool {
    CREDENTIALS.contains(&header.to_ascii_lowercase().as_str())
}

impl Keep {
    /// Keeps one more header, of requests and of answers.
    ///
    /// # Errors
    /// It carries credentials.
    pub fn header(&mut self, name: &str) -> Result<(), String> {
        let name = name.to_ascii_lowercase();
        if carries_credentials(&name) {
            return Err(format!("`{name}` carries credentials and is never kept"));
        }
        for list in [&mut self.request_headers, &mut self.response_headers] {
            if !list.contains(&name) {
                list.push(name.clone());
            }
        }
        Ok(())
    }

    /// The headers of `all` that `allowed` names, in their order; values that are not UTF-8 have
    /// the offending bytes replaced.
    pub(super) fn headers(allowed: &[String], all: &Headers) -> Vec<Field> {
        all.iter()
            .filter(|(name, _)| allowed.iter().any(|a| a.eq_ignore_ascii_case(name)))
            .map(|(name, value)| {
                let value = String::from_utf8_lossy(value.trim_ascii()).into_owned();
                (name.to_ascii_lowercase(), value)
            })
            .collect()
    }

    /// The allowed `key=value` pairs of a query, as sent.
    pub(super) fn query(&self, query: &str) -> Option<String> {
        let allowed = |pair: &&str| {
            let key = pair.split_once('=').map_or(*pair, |(key, _)| key);
            self.query_keys.iter().any(|k| k == key)
        };
        let kept: Vec<&str> = query.split('&').filter(allowed).collect();
        (!kept.is_empty()).then(|| kept.join("&"))
    }
}
