//! Metrics as written: `name[@output][:key=value,…]`.

use std::collections::BTreeMap;
use std::str::FromStr;

use inferdiff_schemas::run::ladder::MetricSpec;

use crate::ladder::nearest;

/// Metrics that this build knows, in the order in which they are offered.
pub const KNOWN: [&str; 13] = [
    "top1",
    "flips",
    "topk",
    "threshold",
    "tau",
    "ndcg",
    "mae",
    "auc",
    "cosine",
    "recall",
    "exact",
    "prefix",
    "command",
];
/// δ of metrics bounded in [0, 1], unless given.
pub const DEFAULT_MARGIN: f64 = 0.005;

/// What is measured. Sources and formulas: `docs/verdicts.md`.
#[derive(Debug, Clone, PartialEq)]
pub enum Kind {
    /// The largest element is the label's, or the reference's.
    Top1,
    /// The largest element is the reference's, or the reference's lead is at most `above`.
    Flips {
        /// Largest minus second largest of the reference, at most which a flip does not count.
        above: f64,
    },
    /// The label is among the k largest; without labels the Jaccard index of both sets of k.
    TopK {
        /// How many.
        k: usize,
    },
    /// An element is at least `at`, where the label is not 0 or where the reference's is.
    Threshold {
        /// The threshold; at it counts as above.
        at: f64,
        /// Which element; `None` = every one must agree.
        index: Option<usize>,
    },
    /// Kendall's τ-b of the stage's elements against the reference's.
    Tau,
    /// Normalised discounted cumulative gain.
    Ndcg {
        /// Ranks that count; `None` = all.
        k: Option<usize>,
    },
    /// Mean |reference − stage|; with labels mean |answer − label|.
    Mae,
    /// Area under the ROC curve; needs labels.
    Auc {
        /// Which element is the score; `None` = the only one.
        index: Option<usize>,
    },
    /// Cosine of the stage's row and the reference's.
    Cosine,
    /// Share of the k nearest neighbours (by cosine, among all items) that stay.
    Recall {
        /// Neighbours.
        k: usize,
        /// Items asked for their neighbours, spread evenly.
        queries: usize,
    },
    /// Every bit is equal; with text labels the text is the label.
    Exact,
    /// Length of the common prefix over the longer length: where the first token diverges.
    Prefix,
    /// A program of the user's: rows in, one number per item out.
    Command {
        /// Program and arguments, split at spaces.
        run: Vec<String>,
        /// Seconds, after which it is stopped.
        timeout: f64,
        /// Smaller is better.
        lower_is_better: bool,
    },
}

impl Kind {
    /// The least and the greatest value of one item; `None` = unbounded.
    pub fn range(&self) -> Option<[f64; 2]> {
        match self {
            Self::Mae | Self::Command { .. } => None,
            Self::Tau | Self::Cosine => Some([-1.0, 1.0]),
            _ => Some([0.0, 1.0]),
        }
    }

    /// Smaller is better.
    pub fn lower_is_better(&self) -> bool {
        match self {
            Self::Mae => true,
            Self::Command {
                lower_is_better, ..
            } => *lower_is_better,
            _ => false,
        }
    }

    /// The answers themselves are needed, not only their comparisons.
    pub fn needs_outputs(&self) -> bool {
        !matches!(self, Self::Top1 | Self::Flips { .. } | Self::Exact)
    }
}

/// A metric as asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct Metric {
    /// `topk`.
    pub name: String,
    /// Its options as written, for its title.
    options: String,
    /// What it measures.
    pub kind: Kind,
    /// Output; `None` = the only one.
    pub output: Option<String>,
    /// δ; `None` = the metric is reported and not judged.
    pub margin: Option<f64>,
}

impl Metric {
    /// Parses a metric. δ is its own `margin` option, else `spec.margin`, else 0.005 where the
    /// metric is bounded in [0, 1].
    ///
    /// # Errors
    /// A sentence that names the nearest known metric or option, or the value that is wrong.
    pub fn parse(spec: &MetricSpec) -> Result<Self, String> {
        let text = spec.spec.as_str();
        let fail = |why: String| format!("metric `{text}`: {why}");
        let (head, options) = text.split_once(':').unwrap_or((text, ""));
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
        if output == Some("") {
            return Err(format!("metric `{text}` names no output after @"));
        }
        let mut given = Options::read(options).map_err(fail)?;
        let kind = given.kind(name).map_err(fail)?;
        let own: Option<f64> = given.take("margin").map_err(fail)?;
        given.finish(name).map_err(fail)?;
        let unit = kind.range() == Some([0.0, 1.0]);
        let margin = own.or(spec.margin).or(unit.then_some(DEFAULT_MARGIN));
        if let Some(margin) = margin
            && !(margin > 0.0 && margin.is_finite() && (margin < 1.0 || !unit))
        {
            let bound = if unit { "between 0 and 1" } else { "above 0" };
            return Err(fail(format!("margin {margin} must lie {bound}")));
        }
        Ok(Self {
            name: name.to_owned(),
            options: options.to_owned(),
            kind,
            output: output.map(str::to_owned),
            margin,
        })
    }

    /// `topk@logits:k=5`.
    pub fn title(&self, output: &str) -> String {
        let separator = if self.options.is_empty() { "" } else { ":" };
        format!("{}@{output}{separator}{}", self.name, self.options)
    }
}

/// `key=value` pairs not yet taken.
struct Options<'a>(BTreeMap<&'a str, &'a str>, Vec<&'static str>);

impl<'a> Options<'a> {
    fn read(text: &'a str) -> Result<Self, String> {
        let mut pairs = BTreeMap::new();
        for part in text.split(',').filter(|p| !p.is_empty()) {
            let (key, value) = part
                .split_once('=')
                .ok_or_else(|| format!("`{part}` is no key=value"))?;
            if pairs.insert(key, value).is_some() {
                return Err(format!("`{key}` is there twice"));
            }
        }
        Ok(Self(pairs, Vec::new()))
    }

    fn take<T: FromStr>(&mut self, key: &'static str) -> Result<Option<T>, String> {
        self.1.push(key);
        let Some(text) = self.0.remove(key) else {
            return Ok(None);
        };
        let value = text.parse().map_err(|_| format!("{key} = `{text}`"))?;
        Ok(Some(value))
    }

    /// A count of at least one.
    fn count(&mut self, key: &'static str) -> Result<Option<usize>, String> {
        match self.take(key)? {
            Some(0) => Err(format!("{key} = 0 must be at least 1")),
            other => Ok(other),
        }
    }

    fn kind(&mut self, name: &str) -> Result<Kind, String> {
        let missing = |key: &str| format!("it needs {key}=…");
        Ok(match name {
            "top1" => Kind::Top1,
            "flips" => Kind::Flips {
                above: match self.take("above")? {
                    Some(above) if above >= 0.0 => above,
                    Some(above) => return Err(format!("above = {above} must be 0 or greater")),
                    None => 0.0,
                },
            },
            "topk" => Kind::TopK {
                k: self.count("k")?.ok_or_else(|| missing("k"))?,
            },
            "threshold" => Kind::Threshold {
                at: match self.take("at")? {
                    Some(at) if f64::is_finite(at) => at,
                    _ => return Err(missing("at")),
                },
                index: self.take("index")?,
            },
            "tau" => Kind::Tau,
            "ndcg" => Kind::Ndcg {
                k: self.count("k")?,
            },
            "mae" => Kind::Mae,
            "auc" => Kind::Auc {
                index: self.take("index")?,
            },
            "cosine" => Kind::Cosine,
            "recall" => Kind::Recall {
                k: self.count("k")?.unwrap_or(10),
                queries: self.count("queries")?.unwrap_or(1000),
            },
            "exact" => Kind::Exact,
            "prefix" => Kind::Prefix,
            _ => self.command()?,
        })
    }

    fn command(&mut self) -> Result<Kind, String> {
        let run: Option<String> = self.take("run")?;
        let run: Vec<String> = run
            .unwrap_or_default()
            .split_whitespace()
            .map(str::to_owned)
            .collect();
        if run.is_empty() {
            return Err("it needs run=PROGRAM".to_owned());
        }
        let timeout = self.take("timeout")?.unwrap_or(600.0);
        if !(timeout > 0.0 && timeout <= 86_400.0) {
            return Err(format!("timeout = {timeout} must be seconds, up to 86400"));
        }
        let better: Option<String> = self.take("better")?;
        let lower_is_better = match better.as_deref() {
            None | Some("higher") => false,
            Some("lower") => true,
            Some(other) => return Err(format!("better = `{other}` must be higher or lower")),
        };
        Ok(Kind::Command {
            run,
            timeout,
            lower_is_better,
        })
    }

    fn finish(self, name: &str) -> Result<(), String> {
        let Some((key, value)) = self.0.first_key_value() else {
            return Ok(());
        };
        let hint = nearest(key, self.1.iter().copied())
            .map_or_else(String::new, |n| format!(" Did you mean `{n}`?"));
        let known = self.1.join(", ");
        Err(format!(
            "`{name}` has no option `{key}={value}` (known: {known}).{hint}"
        ))
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
        let top1 = parse("top1@logits").unwrap();
        assert_eq!(top1.output.as_deref(), Some("logits"));
        assert_eq!(top1.margin, Some(DEFAULT_MARGIN));
        assert!(parse("top-1").unwrap_err().contains("Did you mean `top1`?"));
        assert!(parse("top1:k=3").unwrap_err().contains("k=3"));
        assert!(parse("top1@").is_err());
        let topk = parse("topk@y:k=5,margin=0.02").unwrap();
        assert_eq!((topk.kind, topk.margin), (Kind::TopK { k: 5 }, Some(0.02)));
        assert!(parse("topk").unwrap_err().contains("needs k="));
        assert!(parse("topk:k=0").unwrap_err().contains("at least 1"));
        assert!(
            parse("threshold:att=1,at=0.5")
                .unwrap_err()
                .contains("`at`")
        );
        assert!(parse("threshold:at=nan").is_err());
        assert!(parse("top1:margin=1.5").unwrap_err().contains("between"));
        assert!(parse("topk:k=2,k=3").unwrap_err().contains("twice"));
    }

    #[test]
    fn unbounded_metrics_have_no_margin_of_their_own() {
        assert_eq!(parse("mae").unwrap().margin, None);
        assert_eq!(parse("cosine").unwrap().margin, None);
        assert_eq!(parse("mae:margin=3").unwrap().margin, Some(3.0));
        let command = parse("command@y:run=./score.py --fast,timeout=5,better=lower").unwrap();
        let Kind::Command {
            run,
            timeout,
            lower_is_better,
        } = command.kind
        else {
            panic!("a command");
        };
        assert_eq!(run, ["./score.py", "--fast"]);
        assert!(timeout == 5.0 && lower_is_better);
        assert!(parse("command").unwrap_err().contains("run=PROGRAM"));
        assert!(parse("command:run=x,better=best").is_err());
    }
}
