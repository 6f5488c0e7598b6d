//! Proof that an option acted, by sessions without it.
//!
//! ONNX Runtime takes any pass name and any configuration key in silence. What a session shows of
//! its optimisation (passes that ran and hit, constants that they removed, nodes that remained) is
//! compared with a session that lacks just the one option. The sessions are opened one after the
//! other before the stage's own, so that a large model is in memory once.

use std::collections::{BTreeMap, BTreeSet};

use inferdiff_schemas::run::evidence::{Acted, OptionEvidence, Pass, Placement};

use super::library::Library;
use super::names::{RULE_TRANSFORMER, RULES};
use super::options::{GraphOptimization, OnnxOptions, OnnxStage};
use super::session::{self, Opened};
use crate::ladder::hint;
use crate::runtime::OpenError;

/// What a session shows of its optimisation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Trace {
    passes: Vec<Pass>,
    removed: Vec<String>,
    placement: Vec<Placement>,
}

impl Trace {
    pub fn of(opened: &Opened) -> Self {
        Self {
            passes: opened.log.passes(),
            removed: opened.log.removed(),
            placement: opened.placement.clone(),
        }
    }

    fn ran(&self, name: &str) -> bool {
        self.passes.iter().any(|p| p.name == name)
    }

    fn names(&self) -> BTreeSet<&str> {
        self.passes.iter().map(|p| p.name.as_str()).collect()
    }

    fn hits(&self) -> BTreeSet<&str> {
        let hits = self.passes.iter().filter(|p| p.hit);
        hits.map(|p| p.name.as_str()).collect()
    }

    fn nodes(&self) -> usize {
        self.placement.iter().map(|p| p.nodes.len()).sum()
    }

    /// What is seen here and not there, in words; `None` where both show the same.
    fn differs_from(&self, other: &Self) -> Option<String> {
        let list = |set: Vec<&&str>| set.into_iter().copied().collect::<Vec<_>>().join(", ");
        let mut seen = Vec::new();
        let mut only = |what: &str, ours: &BTreeSet<&str>, theirs: &BTreeSet<&str>| {
            let only: Vec<_> = ours.difference(theirs).collect();
            if !only.is_empty() {
                seen.push(format!("{what} {}", list(only)));
            }
        };
        only("with the option ran", &self.names(), &other.names());
        only("without it ran", &other.names(), &self.names());
        only("with the option hit", &self.hits(), &other.hits());
        only("without it hit", &other.hits(), &self.hits());
        if self.placement != other.placement {
            seen.push(format!(
                "with the option {} nodes remained to be placed, without it {}",
                self.nodes(),
                other.nodes()
            ));
        }
        if self.removed != other.removed {
            seen.push(format!(
                "with the option {} constants were removed, without it {}",
                self.removed.len(),
                other.removed.len()
            ));
        }
        // The same passes may hit more or less often.
        if seen.is_empty() && self.passes != other.passes {
            seen.push("passes hit in other rounds".to_owned());
        }
        (!seen.is_empty()).then(|| seen.join("; "))
    }
}

/// Sessions that lack one option each.
pub(super) struct Without {
    /// No pass disabled; `None` where none is.
    all_passes: Option<Trace>,
    /// One disabled name left in, for names that no log knows.
    rule: BTreeMap<String, Trace>,
    /// One configuration entry left out.
    config: BTreeMap<String, Trace>,
}

/// Opens what must be compared with. None where the stage asks for nothing that needs proof.
pub(super) fn probe(library: &Library, stage: &OnnxStage) -> Result<Without, OpenError> {
    let trace = |stage: &OnnxStage| session::open(library, stage).map(|o| Trace::of(&o));
    let asked = &stage.options;
    let mut without = Without {
        all_passes: None,
        rule: BTreeMap::new(),
        config: BTreeMap::new(),
    };
    if !asked.disabled_passes.is_empty() {
        let all = trace(&stage.with(|o| o.disabled_passes.clear()))?;
        for name in asked.disabled_passes.iter().filter(|n| !all.ran(n)) {
            let lacking = stage.with(|o| o.disabled_passes.retain(|n| n != name));
            without.rule.insert(name.clone(), trace(&lacking)?);
        }
        without.all_passes = Some(all);
    }
    for key in asked.config.keys() {
        let lacking = stage.with(|o| drop(o.config.remove(key)));
        without.config.insert(key.clone(), trace(&lacking)?);
    }
    Ok(without)
}

impl Without {
    /// Evidence of each disabled pass.
    ///
    /// # Errors
    /// A name that disabled nothing, with the nearest name that would have.
    pub fn disabled(
        &self,
        library: &Library,
        stage: &OnnxStage,
        with: &Trace,
    ) -> Result<Vec<OptionEvidence>, OpenError> {
        let Some(all) = &self.all_passes else {
            return Ok(Vec::new());
        };
        let mut out = Vec::new();
        for name in &stage.options.disabled_passes {
            let (acted, shown_by) = if all.ran(name) {
                if with.ran(name) {
                    return Err(OpenError::Failed(format!(
                        "stage `{}`: ONNX Runtime ran `{name}` although it was disabled: it is \
                         mandatory, take it out of disabled_passes",
                        stage.name
                    )));
                }
                let would = if all.hits().contains(name.as_str()) {
                    "hits"
                } else {
                    "changes nothing"
                };
                (
                    Acted::Acted,
                    format!(
                        "with every pass enabled it runs and {would}; it is not in this \
                             session's log"
                    ),
                )
            } else {
                match self.rule.get(name).and_then(|t| with.differs_from(t)) {
                    Some(shown) => (Acted::Acted, format!("disabling it shows: {shown}")),
                    None if RULES.contains(&name.as_str()) && all.ran(RULE_TRANSFORMER) => (
                        Acted::Unobservable,
                        format!(
                            "it is a rule of {RULE_TRANSFORMER}, whose log names no rules, and \
                             nothing changes where it is enabled"
                        ),
                    ),
                    None => return Err(unknown(library, stage, name)),
                }
            };
            out.push(OptionEvidence {
                option: format!("disabled_passes.{name}"),
                requested: "disabled".to_owned(),
                acted,
                shown_by,
            });
        }
        Ok(out)
    }

    /// Evidence of each configuration entry.
    pub fn config(&self, asked: &OnnxOptions, with: &Trace) -> Vec<OptionEvidence> {
        let entries = asked.config.iter();
        entries
            .map(|(key, value)| {
                let shown = self.config.get(key).and_then(|t| with.differs_from(t));
                let (acted, shown_by) = match shown {
                    Some(shown) => (Acted::Acted, shown),
                    None => (
                        Acted::Unobservable,
                        "ONNX Runtime takes any key in silence; passes, constants and nodes are \
                         the same without it"
                            .to_owned(),
                    ),
                };
                OptionEvidence {
                    option: format!("config.{key}"),
                    requested: value.clone(),
                    acted,
                    shown_by,
                }
            })
            .collect()
    }
}

/// No such pass runs: at this level, or at all.
fn unknown(library: &Library, stage: &OnnxStage, name: &str) -> OpenError {
    let everything = stage.with(|o| {
        o.graph_optimization = GraphOptimization::All;
        o.disabled_passes.clear();
    });
    let passes = session::open(library, &everything).map(|o| o.log.passes());
    let passes = passes.unwrap_or_default();
    let mut known: BTreeSet<&str> = passes.iter().map(|p| p.name.as_str()).collect();
    known.extend(RULES);
    let level = stage.options.graph_optimization.name();
    let why = if known.contains(name) {
        format!("it runs at a higher level only, and this stage is at `{level}`: leave it out")
    } else {
        format!(
            "this ONNX Runtime has none of that name{} (it would ignore it in silence)",
            hint(name, known.iter().copied())
        )
    };
    OpenError::Failed(format!(
        "stage `{}`: disabled_passes: `{name}`: {why}",
        stage.name
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trace(passes: &[(&str, bool)], nodes: usize) -> Trace {
        let pass = |(name, hit): &(&str, bool)| Pass {
            name: (*name).into(),
            hit: *hit,
            count: None,
        };
        Trace {
            passes: passes.iter().map(pass).collect(),
            removed: Vec::new(),
            placement: vec![Placement {
                provider: "CPUExecutionProvider".into(),
                nodes: vec!["n".into(); nodes],
            }],
        }
    }

    #[test]
    fn a_difference_is_told_in_words_and_equality_is_none() {
        let base = trace(&[("A", true), ("B", false)], 3);
        assert_eq!(base.differs_from(&base), None);
        let other = trace(&[("B", true)], 2);
        let told = base.differs_from(&other).unwrap();
        assert!(told.contains("with the option ran A"), "{told}");
        assert!(told.contains("without it hit B"), "{told}");
        assert!(told.contains("3 nodes"), "{told}");
        let rounds = trace(&[("A", false), ("A", true), ("B", false)], 3);
        assert!(base.differs_from(&rounds).is_some());
    }
}
