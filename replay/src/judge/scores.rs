//! Scores of every metric and stage, from comparisons where they say enough, else from the answers
//! that the run keeps.

use std::collections::HashMap;

use inferdiff_schemas::Tensor;
use inferdiff_schemas::run::layout::RunLayout;
use inferdiff_schemas::run::manifest::Manifest;
use inferdiff_schemas::run::outputs::OutputReader;
use inferdiff_schemas::run::requests::RequestRow;
use ulid::Ulid;

use super::JudgeError;
use super::collect::{Index, ItemData, StageData, optional};
use crate::labels::{Joined, LabelKind, LabelValue};
use crate::metric::{ItemAnswers, Kind, Metric, Row, Scored, Scorer, Scores};

/// A metric with the output that it is about.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    pub metric: Metric,
    pub output: String,
}

impl Asked {
    pub fn title(&self) -> String {
        self.metric.title(&self.output)
    }

    fn needs_outputs(&self, labels: Option<LabelKind>) -> bool {
        let text = self.metric.kind == Kind::Exact && labels == Some(LabelKind::Text);
        self.metric.kind.needs_outputs() || text
    }
}

/// What scoring reads.
pub(super) struct Source<'a> {
    pub layout: &'a RunLayout,
    pub manifest: &'a Manifest,
    pub requests: &'a [RequestRow],
    pub index: &'a Index<'a>,
    pub labels: Option<&'a Joined>,
    pub batch_axis: bool,
}

type Answers = HashMap<(Ulid, u64), Result<Vec<Tensor>, String>>;

impl Source<'_> {
    /// One stage's scores, in the order of `asked`.
    pub fn scores(&self, stage: &StageData, asked: &[Asked]) -> Result<Vec<Scores>, JudgeError> {
        let kind = self.labels.map(|l| l.kind);
        let mut from_outputs: Vec<(usize, Scorer<'_>)> = Vec::new();
        let mut out = Vec::with_capacity(asked.len());
        for (i, a) in asked.iter().enumerate() {
            let items = stage.items.get(&a.output).map_or(&[][..], Vec::as_slice);
            if a.needs_outputs(kind) {
                let scorer = Scorer::new(&a.metric, &a.output, kind);
                from_outputs.push((i, scorer.map_err(JudgeError::Criterion)?));
                out.push(Scores::default());
            } else {
                out.push(self.compared(a, items)?);
            }
        }
        if from_outputs.is_empty() {
            return Ok(out);
        }
        self.stored(stage, asked, &mut from_outputs)?;
        for (i, scorer) in from_outputs {
            let fail = |why| JudgeError::Criterion(format!("stage `{}`: {why}", stage.name));
            out[i] = scorer.finish().map_err(fail)?;
        }
        Ok(out)
    }

    /// Top-1, flips and equality: the comparisons hold them.
    fn compared(&self, asked: &Asked, items: &[ItemData]) -> Result<Scores, JudgeError> {
        let kind = &asked.metric.kind;
        let labelled = crate::metric::uses_labels(kind, self.labels.map(|l| l.kind));
        let labelled = labelled
            .map_err(|why| JudgeError::Criterion(format!("metric `{}`: {why}", asked.title())))?;
        if *kind != Kind::Exact && items.iter().all(|i| i.classes < 2 || i.reference.is_none()) {
            return Err(JudgeError::Criterion(format!(
                "metric `{}`: output `{}` has no items of two or more numbers to choose from",
                asked.metric.name, asked.output
            )));
        }
        let mut scores = Scores {
            absolute: labelled,
            ..Scores::default()
        };
        for item in items {
            let label = self
                .labels
                .and_then(|l| l.by_item.get(&(item.request, item.item)));
            // Without a comparison there is no agreement. With one, two items that both hold NaN
            // agree: neither has a top-1, and with labels neither is right.
            let agree = match kind {
                Kind::Exact => item.compared && item.bits_equal,
                Kind::Flips { above } => {
                    let led = item.lead.is_some_and(|lead| lead <= *above);
                    item.compared && (item.stage == item.reference || led)
                }
                _ => item.compared && item.stage == item.reference,
            };
            let yes = |holds: bool| f64::from(u8::from(holds));
            let (reference, stage) = match (labelled, label) {
                (true, None) => continue,
                (true, Some(label)) => {
                    let right = |top: Option<u32>| {
                        top.is_some_and(|t| label.label == LabelValue::Class(t.into()))
                    };
                    (yes(right(item.reference)), yes(right(item.stage)))
                }
                _ => (1.0, yes(agree)),
            };
            scores.items.push(Scored {
                request: item.request,
                item: item.item,
                reference,
                stage,
                flip: !agree,
                tie: item.tie && *kind != Kind::Exact,
            });
        }
        Ok(scores)
    }

    /// Metrics that look at the answers. Equal bits are the reference's answer, whatever was kept.
    fn stored(
        &self,
        stage: &StageData,
        asked: &[Asked],
        scorers: &mut [(usize, Scorer<'_>)],
    ) -> Result<(), JudgeError> {
        let mut items: HashMap<(&str, usize), Vec<&ItemData>> = HashMap::new();
        for (output, of) in &stage.items {
            for item in of {
                items.entry((output, item.request)).or_default().push(item);
            }
        }
        let mut lost = 0u64;
        for chunk in &self.manifest.chunks {
            let mut theirs = Answers::new();
            for of in &stage.against {
                let Some(kept) = self.answers(of, &chunk.name)? else {
                    return Err(JudgeError::Criterion(format!(
                        "the answers of the stage `{of}` are gone from the run"
                    )));
                };
                theirs.extend(kept);
            }
            let own = self.answers(&stage.name, &chunk.name)?.unwrap_or_default();
            let mut order: Vec<(usize, &(Ulid, u64))> = theirs
                .keys()
                .filter_map(|key| Some((self.index.get(key)?, key)))
                .collect();
            order.sort_unstable();
            for (request, key) in order {
                let Ok(tensors) = &theirs[key] else { continue };
                for (i, scorer) in scorers.iter_mut() {
                    let output = asked[*i].output.as_str();
                    for item in items.get(&(output, request)).into_iter().flatten() {
                        let cut = |tensors: &[Tensor]| {
                            let tensor = tensors.iter().find(|t| t.name == output)?;
                            Row::cut(tensor, item.item, self.batch_axis)
                        };
                        let Some(r) = cut(tensors) else { continue };
                        let t = match own.get(key) {
                            _ if item.bits_equal => Some(r.clone()),
                            Some(answer) => answer.as_deref().ok().and_then(cut),
                            None if item.compared => {
                                lost += 1;
                                continue;
                            }
                            None => None,
                        };
                        let label = self
                            .labels
                            .and_then(|l| l.by_item.get(&(request, item.item)));
                        let answers = ItemAnswers {
                            request,
                            recorder: key.0,
                            seq: key.1,
                            item: item.item,
                            label,
                            reference: &r,
                            stage: t.as_ref(),
                        };
                        scorer.add(&answers).map_err(JudgeError::Criterion)?;
                    }
                }
            }
        }
        if lost > 0 {
            let titles: Vec<_> = scorers.iter().map(|(i, _)| asked[*i].title()).collect();
            return Err(JudgeError::Criterion(format!(
                "metric {} needs the answers of stage `{}`, and those of {lost} items were not \
                 kept (--keep-outputs {}): replay with --keep-outputs differing",
                titles.join(", "),
                stage.name,
                self.manifest.keep_outputs
            )));
        }
        Ok(())
    }

    fn answers(&self, stage: &str, chunk: &str) -> Result<Option<Answers>, JudgeError> {
        let stored = OutputReader::open(&self.layout.outputs(stage, chunk));
        let Some(stored) = optional(stored)? else {
            return Ok(None);
        };
        let each = stored.map(|s| s.map(|s| ((s.recorder, s.seq), s.answer)));
        Ok(Some(each.collect::<Result<_, _>>()?))
    }

    /// A row of each output of the reference, and whether every row of it sums to one.
    pub fn samples(&self) -> Result<Vec<(String, Row, bool)>, JudgeError> {
        let reference = &self.manifest.ladder.stages[0].name;
        let mut out: Vec<(String, Row, bool)> = Vec::new();
        // The first chunk is evidence enough for a default, and cheap.
        let Some(chunk) = self.manifest.chunks.first() else {
            return Ok(out);
        };
        let answers = self.answers(reference, &chunk.name)?.unwrap_or_default();
        for tensor in answers.values().filter_map(|a| a.as_ref().ok()).flatten() {
            let rows = tensor.shape.first().copied().unwrap_or(1);
            for item in 0..u32::try_from(rows).unwrap_or(1) {
                let Some(row) = Row::cut(tensor, item, self.batch_axis) else {
                    break;
                };
                let sums = is_distribution(&row);
                match out.iter_mut().find(|(name, ..)| *name == tensor.name) {
                    Some((.., all)) => *all &= sums,
                    None => out.push((tensor.name.clone(), row, sums)),
                }
            }
        }
        out.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(out)
    }
}

/// Two or more numbers, none negative, that sum to one within the precision of a narrow float.
fn is_distribution(row: &Row) -> bool {
    let Some(values) = row.numbers().filter(|_| row.datatype.name().contains("FP")) else {
        return false;
    };
    let sum: f64 = values.iter().sum();
    values.len() >= 2 && values.iter().all(|v| *v >= 0.0) && (sum - 1.0).abs() <= 1e-3
}
