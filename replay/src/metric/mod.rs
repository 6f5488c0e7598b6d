//! What people care about, as numbers per item (`docs/verdicts.md`, "Metrics").
//!
//! `stored answers → Row → Scored`. A metric never sees a runtime: it is computed when a run is
//! judged, from the answers that the run keeps.

pub(crate) mod auc;
mod command;
mod embedding;
mod evidence;
mod rank;
mod row;
mod score;
mod scorer;
mod spec;

pub use auc::auc;
pub use embedding::{cosine, recall};
pub use evidence::{choices, default_for, final_operators};
pub use rank::{jaccard_top, kendall_tau, ndcg, top};
pub use row::Row;
pub use score::common_prefix;
pub(crate) use scorer::uses_labels;
pub use scorer::{ItemAnswers, Scored, Scorer, Scores};
pub use spec::{DEFAULT_MARGIN, KNOWN, Kind, Metric};
