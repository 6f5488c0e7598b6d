//! A bare stage and a bare exchange for the tests of runtimes.

use std::collections::BTreeMap;

use inferdiff_schemas::Exchange;
use inferdiff_schemas::run::ladder::{GraphOptimization, Stage};
use ulid::Ulid;

pub(super) fn stage(runtime: &str) -> Stage {
    Stage {
        name: "test".into(),
        runtime: runtime.into(),
        model: None,
        library: None,
        graph_optimization: GraphOptimization::Off,
        prepacking: false,
        memory_optimization: false,
        threads: 1,
        deterministic: false,
        providers: Vec::new(),
        config: BTreeMap::new(),
        disabled_passes: Vec::new(),
        optional: false,
        outputs: BTreeMap::new(),
    }
}

pub(super) fn exchange(seq: u64) -> Exchange {
    Exchange {
        status: Some(200),
        ..Exchange::new(Ulid::nil(), seq)
    }
}
