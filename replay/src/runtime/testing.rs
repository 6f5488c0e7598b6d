//! A bare stage and a bare exchange for the tests of runtimes.

use std::collections::BTreeMap;

use inferdiff_schemas::run::ladder::{GraphOptimization, Stage};
use inferdiff_schemas::{Exchange, Outcome};
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
        recorder: Ulid::nil(),
        seq,
        id: Exchange::id_of(Ulid::nil(), seq),
        part: 0,
        last: true,
        arrived_at_ns: 0,
        first_byte_ns: None,
        end_ns: 0,
        protocol: "oip-rest".into(),
        model: None,
        model_version: None,
        client_request_id: None,
        sequence_id: None,
        traceparent: None,
        method: "POST".into(),
        path: String::new(),
        query: None,
        status: Some(200),
        grpc_status: None,
        grpc_message: None,
        outcome: Outcome::Complete,
        error: None,
        request_headers: Vec::new(),
        response_headers: Vec::new(),
        parameters: None,
        requested_outputs: None,
        input_digest: None,
        inputs: None,
        outputs: None,
        request_messages: None,
        response_messages: None,
        request_body: None,
        response_body: None,
        decode_error: None,
        sample_rate: 1.0,
    }
}
