//! Scores of every metric and stage, from comparisons where they say enough, else from the answers
//! that the run keeps.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use inferdiff_schemas::Tensor;
use inferdiff_schemas::run::outputs::OutputReader;
use ulid::Ulid;

use super::JudgeError;
use super::collect::StageData;
use super::rows::{Item, Source, optional};
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

type Answers = HashMap<(Ulid, u64), Result<Vec<Tensor>, String>>;

impl Source<'_> {
    /// One stage's scores, in the order of `asked`.
    pub fn scores(&self, stage: &StageData, asked: &[Asked]) -> Result<Vec<Scores>, JudgeError> {
        let kind = self.labels.map(|l| l.kind);
        let mut from_outputs: Vec<(usize, Scorer<'_>)> = Vec::new();
        let mut from_rows: Vec<(usize, Agreement<'_>)> = Vec::new();
        for (i, a) in asked.iter().enumerate() {
            if a.needs_outputs(kind) {
                let scorer = Scorer::new(&a.metric, &a.output, kind);
                from_outputs.push((i, scorer.map_err(JudgeError::Criterion)?));
            } else {
                from_rows.push((i, Agreement::new(a, self.labels)?));
            }
        }
        let mut out = vec![Scores::default(); asked.len()];
        if !from_rows.is_empty() {
            self.items(&stage.name, &mut |output, item| {
                let of = from_rows.iter_mut().map(|(_, a)| a);
                of.filter(|a| a.asked.output == output)
                    .for_each(|a| a.add(item));
            })?;
        }
        for (i, agreement) in from_rows {
            out[i] = agreement.finish()?;
        }
        if !from_outputs.is_empty() {
            self.stored(stage, asked, &mut from_outputs)?;
        }
        for (i, scorer) in from_outputs {
            let fail = |why| JudgeError::Criterion(format!("stage `{}`: {why}", stage.name));
            out[i] = scorer.finish().map_err(fail)?;
        }
        Ok(out)
    }

    /// Metrics that look at the answers. Equal bits are the reference's answer, whatever was kept.
    fn stored(
        &self,
        stage: &StageData,
        asked: &[Asked],
        scorers: &mut [(usize, Scorer<'_>)],
    ) -> Result<(), JudgeError> {
        let (mut lost, mut near) = (0u64, 0);
        for chunk in &self.manifest.chunks {
            let mut items: BTreeMap<u32, Vec<(Arc<str>, Item)>> = BTreeMap::new();
            self.rows_of(&stage.name, chunk, &mut near, &mut |r| {
                if let Some(item) = r.judged {
                    let of = items.entry(r.request).or_default();
                    of.push((Arc::clone(&r.row.output), item));
                }
                Ok(())
            })?;
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
            for (&request, of) in &items {
                let key = self.requests.key(request);
                let Some(Ok(tensors)) = theirs.get(&key) else {
                    continue;
                };
                for (i, scorer) in scorers.iter_mut() {
                    let output = asked[*i].output.as_str();
                    for (_, item) in of.iter().filter(|(of, _)| **of == *output) {
                        let cut = |tensors: &[Tensor]| {
                            let tensor = tensors.iter().find(|t| t.name == output)?;
                            Row::cut(tensor, item.item, self.batch_axis)
                        };
                        let Some(r) = cut(tensors) else { continue };
                        let t = match own.get(&key) {
                            _ if item.bits_equal => Some(r.clone()),
                            Some(answer) => answer.as_deref().ok().and_then(cut),
                            None if item.compared => {
                                lost += 1;
                                continue;
                            }
                            None => None,
                        };
                        let answers = ItemAnswers {
                            request,
                            recorder: key.0,
                            seq: key.1,
                            item: item.item,
                            label: self.labels.and_then(|l| l.get(request, item.item)),
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

/// Top-1, flips and equality: the comparisons hold them.
struct Agreement<'a> {
    asked: &'a Asked,
    labels: Option<&'a Joined>,
    scores: Scores,
    /// Some item has two or more numbers to choose from.
    choice: bool,
}

impl<'a> Agreement<'a> {
    fn new(asked: &'a Asked, labels: Option<&'a Joined>) -> Result<Self, JudgeError> {
        let labelled = crate::metric::uses_labels(&asked.metric.kind, labels.map(|l| l.kind));
        let labelled = labelled
            .map_err(|why| JudgeError::Criterion(format!("metric `{}`: {why}", asked.title())))?;
        Ok(Self {
            asked,
            labels,
            scores: Scores {
                absolute: labelled,
                ..Scores::default()
            },
            choice: false,
        })
    }

    fn add(&mut self, item: Item) {
        let kind = &self.asked.metric.kind;
        self.choice |= item.classes >= 2 && item.reference.is_some();
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
        let (reference, stage) = match (self.scores.absolute, self.labels) {
            (true, labels) => {
                let Some(label) = labels.and_then(|l| l.get(item.request, item.item)) else {
                    return;
                };
                let right = |top: Option<u32>| {
                    top.is_some_and(|t| label.label == LabelValue::Class(t.into()))
                };
                (yes(right(item.reference)), yes(right(item.stage)))
            }
            _ => (1.0, yes(agree)),
        };
        self.scores.items.push(Scored {
            request: item.request,
            item: item.item,
            reference,
            stage,
            flip: !agree,
            tie: item.tie && *kind != Kind::Exact,
        });
    }

    fn finish(self) -> Result<Scores, JudgeError> {
        let metric = &self.asked.metric;
        if metric.kind != Kind::Exact && !self.choice {
            return Err(JudgeError::Criterion(format!(
                "metric `{}`: output `{}` has no items of two or more numbers to choose from",
                metric.name, self.asked.output
            )));
        }
        Ok(self.scores)
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
