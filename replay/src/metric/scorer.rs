//! From answers to scores: one metric over the items of one stage.

use ulid::Ulid;

use super::command::Command;
use super::{Kind, Metric, Row, embedding, score};
use crate::labels::{Label, LabelKind, LabelValue};

/// One item as both sides answered it.
#[derive(Debug, Clone, Copy)]
pub struct ItemAnswers<'a> {
    /// Place in the run's requests.
    pub request: u32,
    /// Recorder of the exchange.
    pub recorder: Ulid,
    /// Number of the exchange.
    pub seq: u64,
    /// Row of the batch axis.
    pub item: u32,
    /// Its label.
    pub label: Option<&'a Label>,
    /// The reference's answer.
    pub reference: &'a Row,
    /// The stage's; `None` where it gave none.
    pub stage: Option<&'a Row>,
}

/// One item as a metric sees it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scored {
    /// Place in the run's requests.
    pub request: u32,
    /// Row of the batch axis.
    pub item: u32,
    /// The reference's score (its perfect score where the metric is agreement).
    pub reference: f64,
    /// The stage's score.
    pub stage: f64,
    /// The answers differ in what the metric looks at.
    pub flip: bool,
    /// The largest value occurs more than once, on either side.
    pub tie: bool,
}

/// All scores of one metric and stage.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Scores {
    /// Items in the order of the capture.
    pub items: Vec<Scored>,
    /// Scores are against labels, or a user's numbers: a change of them is a change of the metric.
    pub absolute: bool,
    /// Which items are positive, where the metric is the AUC of all scores.
    pub positive: Option<Vec<bool>>,
    /// Items that the stage did not answer and whose metric has no worst value.
    pub unscored: u64,
}

/// Computes one metric, item by item.
#[derive(Debug)]
pub struct Scorer<'a> {
    metric: &'a Metric,
    labelled: bool,
    scores: Scores,
    embeddings: Option<[Vec<Vec<f64>>; 2]>,
    command: Option<Command>,
    unfit: Option<(u64, String)>,
    seen: u64,
}

impl<'a> Scorer<'a> {
    /// Starts; `labels` is the kind of labels, where there are any.
    ///
    /// # Errors
    /// Why the metric and the labels do not fit each other, or why a command cannot start.
    pub fn new(
        metric: &'a Metric,
        output: &str,
        labels: Option<LabelKind>,
    ) -> Result<Self, String> {
        let labelled = uses_labels(&metric.kind, labels)
            .map_err(|why| format!("metric `{}`: {why}", metric.title(output)))?;
        let command = match &metric.kind {
            Kind::Command { run, timeout, .. } => Some(Command::new(run, *timeout, output)?),
            _ => None,
        };
        let absolute = labelled || command.is_some();
        let positive = matches!(metric.kind, Kind::Auc { .. }).then(Vec::new);
        Ok(Self {
            metric,
            labelled,
            scores: Scores {
                absolute,
                positive,
                ..Scores::default()
            },
            embeddings: matches!(metric.kind, Kind::Recall { .. }).then(Default::default),
            command,
            unfit: None,
            seen: 0,
        })
    }

    /// Adds an item. One that does not fit is counted; [`Self::finish`] refuses then.
    ///
    /// # Errors
    /// A command's input could not be written.
    pub fn add(&mut self, item: &ItemAnswers<'_>) -> Result<(), String> {
        if self.labelled && item.label.is_none() {
            return Ok(());
        }
        self.seen += 1;
        if let Err(why) = self.score(item)? {
            let why = format!("exchange {} item {}: {why}", item.seq, item.item);
            self.unfit.get_or_insert((0, why)).0 += 1;
        }
        Ok(())
    }

    /// Outer errors end everything, inner ones are of this item.
    fn score(&mut self, item: &ItemAnswers<'_>) -> Result<Result<(), String>, String> {
        if let Some(command) = &mut self.command {
            return match item.stage {
                None => {
                    self.scores.unscored += 1;
                    Ok(Ok(()))
                }
                Some(stage) => {
                    command.add(item, stage)?;
                    self.push(item, 0.0, 0.0);
                    Ok(Ok(()))
                }
            };
        }
        if let Some([reference, stages]) = &mut self.embeddings {
            let of = |row: &Row| score::numbers(row);
            return match (of(item.reference), item.stage.map(of).transpose()) {
                (Err(why), _) | (_, Err(why)) => Ok(Err(why)),
                (Ok(r), Ok(t)) => {
                    // Without an answer an item is nobody's neighbour.
                    let t = t.filter(|t| t.len() == r.len());
                    stages.push(t.unwrap_or_else(|| vec![0.0; r.len()]));
                    reference.push(r);
                    self.push(item, 1.0, f64::from(u8::from(item.stage.is_some())));
                    Ok(Ok(()))
                }
            };
        }
        let kind = &self.metric.kind;
        let worst = kind.range().map(|[worst, _]| worst);
        let (r, t) = match (self.labelled, item.label) {
            (true, Some(label)) => {
                let of = |row: &Row| score::against_label(kind, row, &label.label);
                let r = match of(item.reference) {
                    Ok(r) => r,
                    Err(why) => return Ok(Err(why)),
                };
                // A stage's answer of another shape is a wrong one; the reference's is a misfit.
                (r, item.stage.and_then(|row| of(row).ok()))
            }
            _ => {
                let perfect = f64::from(u8::from(!kind.lower_is_better()));
                let whole = score::agreement(kind, item.reference, item.reference);
                if let Err(why) = whole {
                    return Ok(Err(why));
                }
                let t = item
                    .stage
                    .map(|t| score::agreement(kind, item.reference, t));
                (perfect, t.and_then(Result::ok))
            }
        };
        if let (Some(positive), Some(label)) = (&mut self.scores.positive, item.label) {
            positive.push(label.label != LabelValue::Class(0));
            // NaN ranks below every score: an answer that is none must not look like a low one.
            self.push(item, r, t.unwrap_or(f64::NAN));
            return Ok(Ok(()));
        }
        match t.filter(|t| !t.is_nan()).or(worst).filter(|_| !r.is_nan()) {
            // The reference itself has no score here, or the stage has and no worst one exists.
            None => self.scores.unscored += 1,
            Some(t) => self.push(item, r, t),
        }
        Ok(Ok(()))
    }

    fn push(&mut self, item: &ItemAnswers<'_>, reference: f64, stage: f64) {
        self.scores.items.push(Scored {
            request: item.request,
            item: item.item,
            reference,
            stage,
            flip: reference != stage,
            tie: false,
        });
    }

    /// The scores.
    ///
    /// # Errors
    /// A sentence: items that do not fit (counted, the first named), or what a command did wrong.
    pub fn finish(mut self) -> Result<Scores, String> {
        if let Some((n, first)) = self.unfit {
            return Err(format!(
                "metric `{}` does not fit {n} of {} items; {first}",
                self.metric.name, self.seen
            ));
        }
        if let Some(command) = self.command {
            let [reference, stage] = command.finish()?;
            for ((item, r), t) in self.scores.items.iter_mut().zip(reference).zip(stage) {
                (item.reference, item.stage, item.flip) = (r, t, r != t);
            }
        }
        if let (Some([reference, stage]), Kind::Recall { k, queries }) =
            (&self.embeddings, &self.metric.kind)
        {
            let lengths = reference.iter().map(Vec::len);
            if let (Some(least), Some(most)) = (lengths.clone().min(), lengths.max())
                && least != most
            {
                return Err(format!(
                    "metric `recall`: embeddings have {least} to {most} elements, not one length"
                ));
            }
            let n = reference.len();
            let asked: Vec<usize> = (0..n.min(*queries))
                .map(|i| i * n / n.min(*queries))
                .collect();
            let kept = embedding::recall(reference, stage, *k, &asked);
            let items = std::mem::take(&mut self.scores.items);
            self.scores.items = asked
                .iter()
                .zip(kept)
                .map(|(&i, share)| {
                    // An item without an answer has no neighbours.
                    let stage = share.min(items[i].stage);
                    let flip = stage != 1.0;
                    Scored {
                        stage,
                        flip,
                        ..items[i]
                    }
                })
                .collect();
        }
        Ok(self.scores)
    }
}

/// Whether a metric is scored against these labels.
///
/// # Errors
/// Why they do not fit each other.
pub(crate) fn uses_labels(kind: &Kind, labels: Option<LabelKind>) -> Result<bool, String> {
    let needs_class = matches!(
        kind,
        Kind::Top1
            | Kind::TopK { .. }
            | Kind::Ndcg { .. }
            | Kind::Threshold { .. }
            | Kind::Auc { .. }
    );
    match (kind, labels) {
        (Kind::Auc { .. }, None) => Err("it needs labels (--labels FILE)".to_owned()),
        (_, Some(LabelKind::Class)) if needs_class => Ok(true),
        (_, Some(other)) if needs_class => Err(format!(
            "it needs integer labels, the label column holds {}",
            other.words()
        )),
        (Kind::Mae, Some(LabelKind::Score)) | (Kind::Exact, Some(LabelKind::Text)) => Ok(true),
        _ => Ok(false),
    }
}
