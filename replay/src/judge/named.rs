//! Exchanges that stand out by name: without an answer that could be compared, or with other
//! non-finite values than the reference.

use inferdiff_schemas::Exchange;
use inferdiff_schemas::run::comparison::{Comparison, Outcome};
use inferdiff_schemas::run::requests::RequestRow;
use inferdiff_schemas::run::verdicts::NamedExchange;
use ulid::Ulid;

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
    pub fn see(&mut self, row: &Comparison, request: &RequestRow) {
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
                client_request_id: request.client_request_id.clone(),
                outcome: match row.outcome {
                    Outcome::Compared => "nonfinite".to_owned(),
                    other => other.name().to_owned(),
                },
                why,
            });
        }
    }
}
