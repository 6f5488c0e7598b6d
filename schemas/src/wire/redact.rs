//! What of the tensors may be kept: each is kept, replaced by a keyed hash, or dropped.

use ring::hmac;

use super::Keep;
use crate::digest::input_digest;
use crate::exchange::Exchange;
use crate::tensor::{Payload, Tensor};

/// The key under which a hashed tensor's parameters hold its hash: HMAC-SHA-256 (RFC 2104) of its
/// data, in hexadecimal.
pub const HASH_PARAMETER: &str = "inferdiff_hmac_sha256";

/// What becomes of a tensor's data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TensorPolicy {
    /// It is kept.
    #[default]
    Keep,
    /// A keyed hash takes its place: equal data can be told, data cannot be guessed from it.
    Hash,
    /// Name, type and shape alone are kept.
    Drop,
}

/// Policies by tensor name. The tensor's own name decides before any pattern, the longest pattern
/// before shorter ones, whatever their order; what nothing matches is kept.
#[derive(Debug, Clone, Default)]
pub struct TensorRules {
    rules: Vec<(String, TensorPolicy)>,
    key: Option<hmac::Key>,
}

impl TensorRules {
    /// Rules `(pattern, policy)`, where `*` in a pattern stands for anything. `key`: the secret of
    /// hashes.
    ///
    /// # Errors
    /// A rule hashes and there is no key.
    pub fn new(rules: Vec<(String, TensorPolicy)>, key: Option<&[u8]>) -> Result<Self, String> {
        if key.is_none()
            && let Some((name, _)) = rules.iter().find(|(_, p)| *p == TensorPolicy::Hash)
        {
            return Err(format!(
                "tensor `{name}` is to be hashed and there is no key: give one"
            ));
        }
        Ok(Self {
            rules,
            key: key.map(|key| hmac::Key::new(hmac::HMAC_SHA256, key)),
        })
    }

    /// What becomes of the tensor of that name.
    pub fn of(&self, name: &str) -> TensorPolicy {
        let matching = self.rules.iter().filter(|(p, _)| matches(p, name));
        let rule = matching.max_by_key(|(p, _)| (!p.contains('*'), p.len()));
        rule.map_or(TensorPolicy::Keep, |(_, policy)| *policy)
    }

    /// True where some tensor may not be kept.
    fn redacts(&self) -> bool {
        self.rules.iter().any(|(_, p)| *p != TensorPolicy::Keep)
    }

    /// True where the tensor was not kept.
    fn apply(&self, tensor: &mut Tensor) -> bool {
        let policy = self.of(&tensor.name);
        if policy == TensorPolicy::Keep {
            return false;
        }
        let data = tensor.data.take();
        if let (TensorPolicy::Hash, Some(key), Some(data)) = (policy, &self.key, &data) {
            let hash = hmac::sign(key, data);
            let hex: String = hash.as_ref().iter().map(|b| format!("{b:02x}")).collect();
            tensor.parameters = Some(with_parameter(tensor.parameters.as_deref(), &hex));
        }
        // What was never there (shared memory, over the limit) stays what it is.
        if data.is_some() {
            tensor.payload = match policy {
                TensorPolicy::Hash => Payload::Hashed,
                _ => Payload::Dropped,
            };
        }
        true
    }
}

/// True where `name` is `pattern`, in which `*` stands for any run of characters.
fn matches(pattern: &str, name: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else {
        return pattern == name;
    };
    let Some(left) = name.strip_prefix(first) else {
        return false;
    };
    let ends = left.char_indices().map(|(i, _)| i).chain([left.len()]);
    ends.into_iter().any(|i| matches(rest, &left[i..]))
}

fn with_parameter(parameters: Option<&str>, hash: &str) -> String {
    let parsed = parameters.and_then(|p| serde_json::from_str(p).ok());
    let mut object: serde_json::Map<String, serde_json::Value> = parsed.unwrap_or_default();
    object.insert(HASH_PARAMETER.to_owned(), hash.into());
    serde_json::Value::Object(object).to_string()
}

/// Takes out of a decoded exchange what may not be kept. Where a tensor was taken out, or where the
/// exchange was not decoded whole and might hold such a tensor, no raw body and no piece of one
/// (decoders quote what they do not understand) is kept.
pub(super) fn redact(keep: &Keep, row: &mut Exchange) {
    if !keep.tensors.redacts() {
        return;
    }
    let mut taken = false;
    for tensor in row.inputs.iter_mut().chain(&mut row.outputs).flatten() {
        taken |= keep.tensors.apply(tensor);
    }
    if taken && let Some(inputs) = &row.inputs {
        row.input_digest = Some(input_digest(inputs));
    }
    let undecoded = row.inputs.is_none() || row.outputs.is_none() || row.decode_error.is_some();
    if taken || undecoded {
        row.request_body = None;
        row.response_body = None;
    }
    if row.decode_error.is_some() {
        row.decode_error =
            Some("not decoded; the reason is not kept, since it may quote a tensor".to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::Datatype;
    use bytes::Bytes;
    use ulid::Ulid;

    fn row() -> Exchange {
        let tensor = |name: &str, data: &'static [u8]| {
            let shape = vec![i64::try_from(data.len()).unwrap()];
            Tensor::inline(name, Datatype::Uint8, shape, Bytes::from_static(data)).unwrap()
        };
        let inputs = vec![tensor("pixels", b"image"), tensor("user_id", b"secret")];
        Exchange {
            input_digest: Some(input_digest(&inputs)),
            inputs: Some(inputs),
            outputs: Some(vec![tensor("user_name", b"secret")]),
            request_body: Some(Bytes::from_static(b"secret")),
            ..Exchange::new(Ulid::nil(), 0)
        }
    }

    fn keep(rules: &[(&str, TensorPolicy)]) -> Keep {
        let rules = rules.iter().map(|(n, p)| ((*n).to_owned(), *p)).collect();
        Keep {
            tensors: TensorRules::new(rules, Some(b"a key of some length")).unwrap(),
            ..Keep::default()
        }
    }

    #[test]
    fn patterns_match_whole_names() {
        assert!(matches("user_*", "user_id") && matches("*", "") && matches("a*c*", "abcd"));
        assert!(!matches("user_*", "a_user_id") && !matches("a", "ab") && !matches("*b", "abc"));
    }

    #[test]
    fn dropped_and_hashed_tensors_leave_no_data_and_no_body() {
        let rules = [
            ("user_*", TensorPolicy::Drop),
            ("*", TensorPolicy::Keep),
            ("user_id", TensorPolicy::Hash),
        ];
        let mut row = row();
        let before = row.input_digest;
        redact(&keep(&rules), &mut row);
        assert!(!format!("{row:?}").contains("secret"));
        let inputs = row.inputs.as_ref().unwrap();
        assert_eq!(inputs[0].data.as_deref(), Some(b"image".as_slice()));
        assert_eq!(
            (inputs[1].payload, &inputs[1].data),
            (Payload::Hashed, &None)
        );
        // RFC 2104 by Python's hmac: hmac.new(b"a key of some length", b"secret", "sha256").
        let expected = "d6a833416295938782f33273b2f403a65f2430ad04292c7bc5b5fb553464e2de";
        let parameters = inputs[1].parameters.as_ref().unwrap();
        assert!(parameters.contains(expected), "{parameters}");
        assert_eq!(row.outputs.unwrap()[0].payload, Payload::Dropped);
        assert_ne!(row.input_digest, before, "what is hashed does not enter it");
        assert_eq!(row.request_body, None);
    }

    #[test]
    fn what_could_not_be_decoded_is_not_kept_raw() {
        let mut row = row();
        (row.inputs, row.outputs) = (None, None);
        row.decode_error = Some("request: invalid value \"secret\"".to_owned());
        redact(&keep(&[("user_*", TensorPolicy::Drop)]), &mut row);
        assert!(!format!("{row:?}").contains("secret"));
    }

    #[test]
    fn without_rules_nothing_changes_and_a_hash_needs_a_key() {
        let mut changed = row();
        redact(&keep(&[]), &mut changed);
        assert_eq!(changed, row());
        let rules = vec![("x".to_owned(), TensorPolicy::Hash)];
        assert!(
            TensorRules::new(rules, None)
                .unwrap_err()
                .contains("no key")
        );
    }
}
