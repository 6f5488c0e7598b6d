//! A stage whose engine lives in another language: a Python process behind two pipes.
//!
//! `frame` is the protocol, `shared` carries large inputs beside it, `process` one Python process with its log, `worker` keeps one alive:
//! it starts it, opens the stage in it, asks it, names its death and starts it again. The Python
//! side is `scripts/workers/`; its sources are part of this binary and travel in the first frame, so
//! that an installed binary needs nothing but an interpreter.

mod death;
mod frame;
mod log;
mod process;
mod shared;
#[cfg(test)]
mod tests;
#[allow(
    clippy::module_inception,
    reason = "the worker of the module of workers"
)]
mod worker;

pub(super) use worker::{Opened, Source, Worker};
