//! Open Inference Protocol v2 REST: requests and responses, JSON with or without binary blobs.
//!
//! Sources: the protocol's REST specification ("Inference"), and the binary tensor data extension.

use std::borrow::Cow;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::lists::Without;
use super::text::{Bare, readable};
use super::{BinaryHeader, MAX_TENSORS, WireError, capped, data, numbers};
use crate::tensor::{Datatype, Payload, Tensor};

/// An output that a request names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestedOutput {
    /// Name.
    pub name: String,
    /// `parameters.binary_data`: `None` where the request leaves it to `binary_data_output`.
    pub binary: Option<bool>,
}

/// A decoded inference request.
#[derive(Debug, Clone, PartialEq)]
pub struct OipRequest {
    /// The client's id.
    pub id: Option<String>,
    /// Parameters as a JSON object.
    pub parameters: Option<String>,
    /// `parameters.sequence_id`, numbers in decimal.
    pub sequence_id: Option<String>,
    /// `parameters.binary_data_output`.
    pub binary_output: bool,
    /// Inputs.
    pub inputs: Vec<Tensor>,
    /// Outputs asked for by name; `None` = all.
    pub outputs: Option<Vec<RequestedOutput>>,
}

/// A decoded inference response.
#[derive(Debug, Clone, PartialEq)]
pub struct OipResponse {
    /// Version that answered.
    pub model_version: Option<String>,
    /// Outputs.
    pub outputs: Vec<Tensor>,
}

#[derive(Deserialize)]
struct Request<'a> {
    id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    parameters: Option<&'a RawValue>,
    #[serde(borrow)]
    inputs: Vec<WireTensor<'a>>,
    #[serde(borrow)]
    outputs: Option<Vec<WireOutput<'a>>>,
}

#[derive(Deserialize)]
struct Response<'a> {
    model_version: Option<Cow<'a, str>>,
    #[serde(borrow)]
    outputs: Vec<WireTensor<'a>>,
}

#[derive(Deserialize)]
struct WireOutput<'a> {
    name: Cow<'a, str>,
    #[serde(borrow)]
    parameters: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct WireTensor<'a> {
    name: Cow<'a, str>,
    shape: Vec<i64>,
    datatype: Cow<'a, str>,
    #[serde(borrow)]
    parameters: Option<&'a RawValue>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
}

/// The parameters that decide how bytes are read; all others are only kept.
#[derive(Deserialize, Default)]
struct Meaning {
    binary_data_size: Option<u64>,
    binary_data: Option<bool>,
    binary_data_output: Option<bool>,
    shared_memory_region: Option<serde_json::Value>,
    sequence_id: Option<serde_json::Value>,
}

impl Meaning {
    fn of(parameters: Option<&RawValue>) -> Result<Self, WireError> {
        match parameters {
            None => Ok(Self::default()),
            Some(raw) => {
                serde_json::from_str(raw.get()).map_err(|e| WireError(format!("parameters: {e}")))
            }
        }
    }
}

/// The sequence that a `sequence_id` parameter names: a string, or a number in decimal.
pub(super) fn sequence_id(value: serde_json::Value) -> Option<String> {
    match value {
        serde_json::Value::String(s) if !s.is_empty() => Some(s),
        // Triton reads 0 as "not part of a sequence".
        serde_json::Value::Number(n) if n.as_u64() != Some(0) => Some(n.to_string()),
        _ => None,
    }
}

/// Decodes a request body.
///
/// # Errors
/// Anything that the body claims and does not hold.
pub fn decode_request(body: &Bytes, header: BinaryHeader) -> Result<OipRequest, WireError> {
    read(body, header, request)
}

/// Reads a body without its lists, or as a whole where that fails: then there is something to say, or a
/// list that is no tensor's.
fn read<T>(
    body: &Bytes,
    header: BinaryHeader,
    decode: impl Fn(&str, Option<&Without<'_>>, &Bytes) -> Result<T, WireError>,
) -> Result<T, WireError> {
    let (json, blobs) = split(body, header)?;
    let text = readable(&json, Bare::Quoted)?;
    if let Some(without) = Without::new(&text)
        && let Ok(decoded) = decode(&without.rest, Some(&without), &blobs)
    {
        return Ok(decoded);
    }
    decode(&text, None, &blobs)
}

fn request(
    text: &str,
    without: Option<&Without<'_>>,
    blobs: &Bytes,
) -> Result<OipRequest, WireError> {
    let request: Request<'_> = serde_json::from_str(text).map_err(WireError::new)?;
    let meaning = Meaning::of(request.parameters)?;
    let outputs = request.outputs.map(|outputs| {
        outputs
            .into_iter()
            .map(|o| {
                let binary = Meaning::of(o.parameters)?.binary_data;
                Ok(RequestedOutput {
                    name: o.name.into_owned(),
                    binary,
                })
            })
            .collect::<Result<Vec<_>, WireError>>()
    });
    Ok(OipRequest {
        id: request.id.map(Cow::into_owned),
        sequence_id: meaning.sequence_id.and_then(sequence_id),
        binary_output: meaning.binary_data_output.unwrap_or(false),
        parameters: request.parameters.map(|p| p.get().to_owned()),
        inputs: tensors(request.inputs, without, blobs)?,
        outputs: outputs.transpose()?,
    })
}

/// Decodes the body of a 200 response.
///
/// # Errors
/// Anything that the body claims and does not hold.
pub fn decode_response(body: &Bytes, header: BinaryHeader) -> Result<OipResponse, WireError> {
    read(body, header, response)
}

fn response(
    text: &str,
    without: Option<&Without<'_>>,
    blobs: &Bytes,
) -> Result<OipResponse, WireError> {
    let response: Response<'_> = serde_json::from_str(text).map_err(WireError::new)?;
    Ok(OipResponse {
        model_version: response
            .model_version
            .map(Cow::into_owned)
            .filter(|v| !v.is_empty()),
        outputs: tensors(response.outputs, without, blobs)?,
    })
}

fn split(body: &Bytes, header: BinaryHeader) -> Result<(Bytes, Bytes), WireError> {
    match header {
        BinaryHeader::AllJson => Ok((body.clone(), Bytes::new())),
        BinaryHeader::Json(n) if n <= body.len() => Ok((body.slice(..n), body.slice(n..))),
        BinaryHeader::Json(n) => Err(WireError(format!(
            "the JSON header claims {n} bytes but the body has {}",
            body.len()
        ))),
        BinaryHeader::RawInput => Err(WireError::new(
            "a raw single input (header length 0) needs the model's metadata to be decoded",
        )),
    }
}

/// Decodes the tensors; `without` holds the lists of a text that was read without them. An error then
/// only says that the whole text must be read.
fn tensors(
    wire: Vec<WireTensor<'_>>,
    without: Option<&Without<'_>>,
    blobs: &Bytes,
) -> Result<Vec<Tensor>, WireError> {
    let mut at = 0usize;
    let mut lists = 0;
    if wire.len() > MAX_TENSORS {
        return Err(WireError(format!("more than {MAX_TENSORS} tensors")));
    }
    let mut out = Vec::with_capacity(wire.len());
    for w in wire {
        let meaning = Meaning::of(w.parameters)?;
        let fail = |why: String| WireError(format!("tensor `{}`: {why}", w.name));
        let datatype = Datatype::from_name(&w.datatype)
            .ok_or_else(|| fail(format!("unknown datatype `{}`", w.datatype)))?;
        let mut tensor = Tensor {
            name: w.name.clone().into_owned(),
            message: 0,
            datatype,
            parameters: w.parameters.map(|p| p.get().to_owned()),
            payload: Payload::Inline,
            data: None,
            shape: w.shape,
        };
        // Before any data is read: a shape that lies must not cost memory.
        tensor.elements()?;
        tensor.data = match (meaning.binary_data_size, w.data) {
            (Some(size), _) => {
                let end = usize::try_from(size)
                    .ok()
                    .and_then(|size| at.checked_add(size));
                let Some(end) = end.filter(|&end| end <= blobs.len()) else {
                    let left = blobs.len() - at;
                    return Err(fail(format!(
                        "binary_data_size is {size} but {left} bytes are left"
                    )));
                };
                let blob = blobs.slice(at..end);
                at = end;
                Some(blob)
            }
            (None, Some(raw)) => {
                let shape = &tensor.shape;
                let data = if let Some(list) = without.and_then(|w| w.list(lists, raw.get())) {
                    lists += 1;
                    numbers::decode(list, datatype, shape)
                        .ok_or_else(|| fail("its data are no plain numbers".into()))?
                } else {
                    data::decode(raw, datatype, shape, data::Style::Plain).map_err(|e| fail(e.0))?
                };
                Some(data.into())
            }
            (None, None) if meaning.shared_memory_region.is_some() => {
                tensor.payload = Payload::Shm;
                None
            }
            (None, None) => return Err(fail("it has neither data nor binary_data_size".into())),
        };
        tensor.check()?;
        out.push(capped(tensor));
    }
    // One that stands elsewhere (in parameters, say) belongs to the text.
    if lists != without.map_or(0, Without::len) {
        return Err(WireError::new("a list that is no tensor's data"));
    }
    if at != blobs.len() {
        return Err(WireError(format!(
            "{} bytes follow the last tensor",
            blobs.len() - at
        )));
    }
    Ok(out)
}

/// True where a body is decoded alike with its lists taken out and by the general parser alone.
pub(crate) fn reads_alike(body: &Bytes, header: BinaryHeader) -> bool {
    let Ok((json, blobs)) = split(body, header) else {
        return true;
    };
    let Ok(text) = readable(&json, Bare::Quoted) else {
        return true;
    };
    // Errors too, and NaN as the bytes that it is.
    decode_request(body, header) == request(&text, None, &blobs)
        && decode_response(body, header) == response(&text, None, &blobs)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn alike(text: &str) -> bool {
        reads_alike(
            &Bytes::copy_from_slice(text.as_bytes()),
            BinaryHeader::AllJson,
        )
    }

    #[test]
    fn lists_that_stand_elsewhere_are_left_where_they_are() {
        // Longer than what is left to the general parser.
        let long = |text: String| text.replace("[1,2]", &format!("[{}1,2]", " ".repeat(64)));
        let x = r#"{"name":"x","shape":[2],"datatype":"FP32","data":[1,2]}"#;
        for text in [
            format!(r#"{{"inputs":[{x}],"parameters":{{"data":[1,2]}}}}"#),
            format!(r#"{{"parameters":{{"data":[1,2]}},"inputs":[{x}]}}"#),
            format!(r#"{{"inputs":[{x}],"other":{{"data":[1,2]}}}}"#),
            format!(r#"{{"inputs":[{x},{x}],"outputs":[{{"name":"y","data":[1,2]}}]}}"#),
            x.replace("[1,2]", "[1,2]5"),
            format!(r#"{{"inputs":[{}]}}"#, x.replace("[1,2]", "[1,2].5")),
            format!(
                r#"{{"inputs":[{}]}}"#,
                x.replace("[1,2]", "[1,2],\"data\":[1,2]")
            ),
            format!(r#"{{"inputs":[{}]}}"#, x.replace("[1,2]", "\"\"")),
            format!(
                r#"{{"inputs":[{}]}}"#,
                x.replace("\"data\"", "\"\\u0064ata\"")
            ),
            format!(r#"{{"inputs":[{}]}}"#, x.replace("[1,2]", "[NaN,2]")),
            format!(r#"{{"inputs":[{}]}}"#, x.replace("FP32", "BOOL")),
        ] {
            assert!(alike(&text), "{text}");
            let text = long(text);
            assert!(alike(&text), "{text}");
        }
        let stored = format!(r#"{{"inputs":[{x}],"parameters":{{"data":[1,2]}}}}"#);
        let request = decode_request(&long(stored).into(), BinaryHeader::AllJson).unwrap();
        let kept = long(r#"{"data":[1,2]}"#.to_owned());
        assert_eq!(request.parameters, Some(kept));
    }

    proptest! {
        #[test]
        fn with_and_without_lists_a_body_is_the_same(
            tensors in prop::collection::vec(
                (
                    prop::sample::select(vec!["FP32", "INT8", "BYTES", "BOOL", "FP16"]),
                    prop::collection::vec(prop::sample::select(vec![
                        "1", "-2", "3.25", "1e3", "\"a\"", "true", "[1]", "[\"data\"]", "300",
                    ]), 0..4),
                    prop::sample::select(vec!["\"data\"", "\"data\" ", "\"\\u0064ata\"", "\"Data\""]),
                    prop::sample::select(vec![
                        "", ",\"parameters\":{\"data\":[1SPACE]}", ",\"data\":[1SPACE]", ",\"x\":\"data\"",
                    ]),
                ),
                0..4,
            ),
            cut in any::<prop::sample::Index>(),
            junk in prop::sample::select(vec!["", "", "", "]", "[", "\"", "5", ",", "{", "\\"]),
        ) {
            let tensors: Vec<_> = tensors.iter().map(|(datatype, values, key, more)| {
                // Longer than what is left to the general parser.
                let space = " ".repeat(64);
                let (n, values) = (values.len(), values.join(",") + &space);
                let more = more.replace("SPACE", &space);
                format!(r#"{{"name":"t","shape":[{n}],"datatype":"{datatype}",{key}:[{values}]{more}}}"#)
            }).collect();
            let list = tensors.join(", ");
            for text in [format!(r#"{{"inputs":[{list}]}}"#), format!(r#"{{"outputs":[{list}]}}"#)] {
                let at = cut.index(text.len() + 1);
                let text = format!("{}{junk}{}", &text[..at], &text[at..]);
                prop_assert!(alike(&text), "{}", text);
            }
        }
    }
}
