//! Which route of the Open Inference Protocol or of TensorFlow Serving a path is.

/// An inference route: `/v2/models/M[/versions/V]/infer`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Infer {
    /// Model, percent-decoded.
    pub model: String,
    /// Version, percent-decoded.
    pub version: Option<String>,
}

/// The inference route that a request path (without query) names, if it is one.
pub fn infer_route(path: &str) -> Option<Infer> {
    triton_route(path, "infer")
}

/// The route of a model, `/v2/models/M[/versions/V]`; `/infer` and `/ready` stand behind it.
pub fn model_route(model: &str, version: Option<&str>) -> String {
    let model = percent_encoded(model);
    match version {
        Some(version) => format!("/v2/models/{model}/versions/{}", percent_encoded(version)),
        None => format!("/v2/models/{model}"),
    }
}

/// A path segment of RFC 3986's unreserved characters.
pub fn percent_encoded(name: &str) -> String {
    name.bytes()
        .map(|b| match b {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                char::from(b).to_string()
            }
            _ => format!("%{b:02X}"),
        })
        .collect()
}

/// `/v2/models/M[/versions/V]/ACTION`.
pub(super) fn triton_route(path: &str, action: &str) -> Option<Infer> {
    let rest = path.strip_prefix("/v2/models/")?;
    let mut parts = rest.split('/');
    let model = percent_decoded(parts.next().filter(|m| !m.is_empty())?)?;
    match (parts.next()?, parts.next(), parts.next(), parts.next()) {
        (last, None, None, None) if last == action => Some(Infer {
            model,
            version: None,
        }),
        ("versions", Some(version), Some(last), None) if last == action && !version.is_empty() => {
            Some(Infer {
                model,
                version: Some(percent_decoded(version)?),
            })
        }
        _ => None,
    }
}

/// A TensorFlow Serving route: `/v1/models/M[/versions/V|/labels/L]:VERB`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Tfs {
    pub model: String,
    pub version: Option<String>,
    pub label: Option<String>,
    /// `classify` or `regress`, whose requests hold examples; else `predict`.
    pub examples: bool,
}

/// The TensorFlow Serving route that a request path names, if it is one.
pub(super) fn tfs_route(path: &str) -> Option<Tfs> {
    let (rest, verb) = path.strip_prefix("/v1/models/")?.rsplit_once(':')?;
    let examples = match verb {
        "predict" => false,
        "classify" | "regress" => true,
        _ => return None,
    };
    let mut parts = rest.split('/');
    let model = percent_decoded(parts.next().filter(|m| !m.is_empty())?)?;
    let (version, label) = match (parts.next(), parts.next(), parts.next()) {
        (None, None, None) => (None, None),
        (Some("versions"), Some(v), None) if !v.is_empty() => (Some(percent_decoded(v)?), None),
        (Some("labels"), Some(l), None) if !l.is_empty() => (None, Some(percent_decoded(l)?)),
        _ => return None,
    };
    Some(Tfs {
        model,
        version,
        label,
        examples,
    })
}

/// `%XX` undone; `None` where that is malformed or no UTF-8.
fn percent_decoded(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(b) = bytes.next() {
        if b != b'%' {
            out.push(b);
            continue;
        }
        let mut digit = || char::from(bytes.next()?).to_digit(16);
        let value = digit()? * 16 + digit()?;
        out.push(u8::try_from(value).ok()?);
    }
    String::from_utf8(out).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_inference_routes_are_inference() {
        let model = |p: &str| infer_route(p).map(|i| (i.model, i.version));
        assert_eq!(model("/v2/models/m/infer"), Some(("m".into(), None)));
        assert_eq!(
            model("/v2/models/a%20b/versions/3/infer"),
            Some(("a b".into(), Some("3".into())))
        );
        for path in [
            "/v2/models/m",
            "/v2/models/m/ready",
            "/v2/models//infer",
            "/v2/models/m/versions/infer",
            "/v2/models/m/infer/more",
            "/v2/models/%zz/infer",
            "/v2/models/%ff/infer",
            "/v1/models/m:predict",
            "/",
        ] {
            assert_eq!(model(path), None, "{path}");
        }
    }

    #[test]
    fn tensorflow_serving_names_a_version_or_a_label() {
        let of = |p: &str| tfs_route(p).map(|t| (t.model, t.version, t.label, t.examples));
        let text = |s: &str| Some(s.to_owned());
        assert_eq!(
            of("/v1/models/a:b:predict"),
            Some(("a:b".into(), None, None, false))
        );
        assert_eq!(
            of("/v1/models/m/versions/3:classify"),
            Some(("m".into(), text("3"), None, true))
        );
        assert_eq!(
            of("/v1/models/m/labels/canary:regress"),
            Some(("m".into(), None, text("canary"), true))
        );
        for path in [
            "/v1/models/m",
            "/v1/models/m/metadata",
            "/v1/models/:predict",
            "/v1/models/m/versions:predict",
            "/v1/models/m:explain",
        ] {
            assert_eq!(of(path), None, "{path}");
        }
    }
}
