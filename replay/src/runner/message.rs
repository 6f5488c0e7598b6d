//! What orchestrator and stage process say to each other.

use serde::{Deserialize, Serialize};

/// What a stage process is asked to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Task {
    /// Every chunk that is not committed yet.
    Chunks {
        /// Name each exchange before it is replayed.
        careful: bool,
    },
    /// One exchange in a process of its own; its answer is kept beside the chunks.
    Alone {
        /// Chunk that holds it.
        chunk: String,
        /// The exchange.
        id: String,
    },
}

/// What a stage process tells the orchestrator, one JSON line each.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StageMessage {
    /// The chunk is about to be replayed.
    Begin {
        /// Chunk.
        chunk: String,
    },
    /// The exchange is about to be replayed (only where asked to tell).
    At {
        /// `<recorder>-<seq>`.
        id: String,
    },
    /// Told several times a second, whatever the engine does.
    Pulse {
        /// The exchange that is being replayed; none while opening, reading or writing.
        at: Option<String>,
        /// For how long nothing has moved.
        ms: u64,
        /// Exchanges done so far.
        done: u64,
    },
    /// A chunk is committed.
    Done {
        /// Exchanges done so far.
        exchanges: u64,
    },
    /// A file of the run cannot be written or read: the stage cannot go on.
    Broken {
        /// Why.
        why: String,
    },
}
