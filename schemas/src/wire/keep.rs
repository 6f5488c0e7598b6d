//! What of an exchange may be kept.

use bytes::Bytes;

use crate::exchange::Field;

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
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keep {
    /// Request header names, lower case.
    pub request_headers: Vec<String>,
    /// Response header names, lower case.
    pub response_headers: Vec<String>,
    /// Query keys.
    pub query_keys: Vec<String>,
    /// Raw bodies.
    pub bodies: BodyPolicy,
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
        }
    }
}

impl Keep {
    /// The headers of `all` that `allowed` names, in their order; values that are not UTF-8 have
    /// the offending bytes replaced.
    pub(super) fn headers(allowed: &[String], all: &[(String, Bytes)]) -> Vec<Field> {
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
