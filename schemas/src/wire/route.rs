//! Which route of the Open Inference Protocol a path is.

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
    let rest = path.strip_prefix("/v2/models/")?;
    let mut parts = rest.split('/');
    let model = percent_decoded(parts.next().filter(|m| !m.is_empty())?)?;
    match (parts.next()?, parts.next(), parts.next(), parts.next()) {
        ("infer", None, None, None) => Some(Infer {
            model,
            version: None,
        }),
        ("versions", Some(version), Some("infer"), None) if !version.is_empty() => Some(Infer {
            model,
            version: Some(percent_decoded(version)?),
        }),
        _ => None,
    }
}

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
}
