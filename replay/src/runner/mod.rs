//! One process per stage: the orchestrator plans and starts them, each replays and compares.
//!
//! `source → Stage on Runtime → Comparison`, committed chunk by chunk.

mod orchestrate;
mod process;
mod stage;

pub use orchestrate::{Event, Launch, RunError, RunRequest, replay};
pub use stage::{StageMessage, run_stage};
