//! Metrics: `name[@output][:key=value,…]`.

use inferdiff_schemas::run::ladder::MetricSpec;

use crate::ladder::nearest;

/// Metrics that this build knows.
pub const KNOWN: [&str; 1] = ["top1"];
/// δ of metrics bounded in [0, 1], unless given.
pub const DEFAULT_MARGIN: f64 = 0.005;

/// A metric as asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct Metric {
    /// `top1`.
    pub name: String,
    /// Output; `None` = the only one.
    pub output: Option<String>,
    /// δ.
    pub margin: f64,
}

impl Metric {
    /// Parses a metric.
    ///
    /// # Errors
    /// A sentence that names the nearest known metric, or what of it is not supported.
    pub fn parse(spec: &MetricSpec) -> Result<Self, String> {
        let text = spec.spec.as_str();
        let (head, options) = text
            .split_once(':')
            .map_or((text, None), |(h, o)| (h, Some(o)));
        let (name, output) = head
            .split_once('@')
            .map_or((head, None), |(n, o)| (n, Some(o)));
        if !KNOWN.contains(&name) {
            let hint = nearest(name, KNOWN.into_iter())
                .map_or_else(String::new, |n| format!(" Did you mean `{n}`?"));
            return Err(format!(
                "unknown metric `{text}`; known: {}.{hint}",
                KNOWN.join(", ")
            ));
        }
        if let Some(options) = options {
            return Err(format!(
                "metric `{text}`: `{name}` has no option `{options}`"
            ));
        }
        if output == Some("") {
            return Err(format!("metric `{text}` names no output after @"));
        }
        let margin = spec.margin.unwrap_or(DEFAULT_MARGIN);
        if !(margin > 0.0 && margin < 1.0) {
            return Err(format!(
                "metric `{text}`: margin {margin} must lie between 0 and 1"
            ));
        }
        Ok(Self {
            name: name.to_owned(),
            output: output.map(str::to_owned),
            margin,
        })
    }

    /// `top1@logits`.
    pub fn title(&self, output: &str) -> String {
        format!("{}@{output}", self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Metric, String> {
        Metric::parse(&MetricSpec {
            spec: text.to_owned(),
            margin: None,
        })
    }

    #[test]
    fn specs_are_read_or_refused_by_name() {
        assert_eq!(
            parse("top1@logits").unwrap().output.as_deref(),
            Some("logits")
        );
        assert_eq!(parse("top1").unwrap().margin, DEFAULT_MARGIN);
        assert!(parse("top-1").unwrap_err().contains("Did you mean `top1`?"));
        assert!(parse("top1:k=3").unwrap_err().contains("k=3"));
        assert!(parse("top1@").is_err());
    }
}
