//! One process per stage: the orchestrator plans and starts them, each replays and compares.
//!
//! `source → Stage on Runtime → Comparison`, committed chunk by chunk.

mod again;
mod ahead;
mod coalesce;
mod folder;
mod message;
mod orchestrate;
mod probe;
mod process;
mod pulse;
mod reading;
mod resolved;
mod sequences;
mod stage;
mod stored;
mod suspects;

pub use message::{StageMessage, Task};
pub use orchestrate::{Event, Launch, RunError, RunRequest, prepare, replay};
pub use stage::run_stage;
