//! Exchanges that stand out by name: without an answer that could be compared, or with other
//! non-finite values than the reference.

use std::collections::HashMap;

use inferdiff_schemas::Exchange;
use inferdiff_schemas::run::comparison::{Comparison, Outcome};
use inferdiff_schemas::run::requests::RequestColumns;
use inferdiff_schemas::run::verdicts::{NamedExchange, Verdicts};
use ulid::Ulid;

use super::JudgeError;
use crate::requests::Requests;

/// So many are named; the rest is counted. All of them are in the comparisons.
const MOST: usize = 20;

/// Those of one stage.
#[derive(Debug, Default)]
pub(super) struct Named {
    /// In the order of the capture.
    pub first: Vec<NamedExchange>,
    /// How many there are in all.
    pub all: u64,
    last: Option<(Ulid, u64)>,
}

impl Named {
    /// Takes a row; rows of one exchange come one after another, and the first that stands out
    /// speaks for it.
    pub fn see(&mut self, row: &Comparison) {
        let why = match row.outcome {
            Outcome::PartialOutput => return,
            Outcome::Compared if row.nonfinite_mismatches == 0 => return,
            Outcome::Compared => format!(
                "output `{}`, item {}: {} elements are finite on one side only, the first at {}",
                row.output,
                row.item,
                row.nonfinite_mismatches,
                row.worst_index.unwrap_or_default()
            ),
            Outcome::MissingOutput => format!("output `{}` is missing", row.output),
            _ => row.error.clone().unwrap_or_default(),
        };
        let key = (row.recorder, row.seq);
        if self.last == Some(key) {
            return;
        }
        self.last = Some(key);
        self.all += 1;
        if self.first.len() < MOST {
            self.first.push(NamedExchange {
                id: Exchange::id_of(row.recorder, row.seq),
                client_request_id: None,
                outcome: match row.outcome {
                    Outcome::Compared => "nonfinite".to_owned(),
                    other => other.name().to_owned(),
                },
                why,
            });
        }
    }
}

/// Gives every exchange that the verdicts name the id by which its client knows it.
pub(super) fn client_ids(requests: &Requests, verdicts: &mut Verdicts) -> Result<(), JudgeError> {
    let mut wanted: HashMap<(Ulid, u64), Vec<&mut Option<String>>> = HashMap::new();
    let named = verdicts.stages.iter_mut().flat_map(|stage| {
        let named = stage
            .named
            .iter_mut()
            .map(|n| (&n.id, &mut n.client_request_id));
        let by_metric = stage.metrics.iter_mut().flat_map(|m| &mut m.telling);
        let telling = stage.telling.iter_mut().chain(by_metric);
        named.chain(telling.map(|t| (&t.id, &mut t.client_request_id)))
    });
    for (id, to) in named {
        if let Some(key) = Exchange::key_of(id) {
            wanted.entry(key).or_default().push(to);
        }
    }
    if wanted.is_empty() {
        return Ok(());
    }
    for row in requests.read(RequestColumns::Ids)? {
        let row = row?;
        let to = wanted.remove(&(row.recorder, row.seq));
        let to = to.into_iter().flatten();
        to.for_each(|to| to.clone_from(&row.client_request_id));
    }
    Ok(())
}
