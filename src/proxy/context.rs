//! What connections share, and how an exchange is put on record.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use inferdiff_schemas::{Headers, Outcome, RawExchange};

use super::ProxyOptions;
use super::tap::{Tap, Ticket};
use super::tee::Tee;
use super::tls::Acceptor;
use super::upstream::Pool;

/// What connections share.
pub(super) struct Context {
    pub options: ProxyOptions,
    pub acceptor: Option<Acceptor>,
    pub pool: Pool,
    pub tap: Arc<dyn Tap>,
    pub stopping: tokio::sync::watch::Receiver<bool>,
}

/// When the request's first byte came, by both clocks.
#[derive(Clone, Copy)]
pub(super) struct Arrival {
    pub at: Instant,
    pub wall: SystemTime,
}

impl Arrival {
    /// Now.
    pub fn now() -> Self {
        Self {
            at: Instant::now(),
            wall: SystemTime::now(),
        }
    }
}

/// An exchange's request line and both heads, for the record.
#[derive(Default)]
pub(super) struct Heads {
    pub method: String,
    /// With its query.
    pub target: String,
    pub request: Headers,
    pub response: Headers,
}

/// How the exchange ended, for the record.
pub(super) struct End {
    pub outcome: Outcome,
    pub error: Option<String>,
    pub status: Option<u16>,
    pub first_byte: Option<Instant>,
}

impl End {
    /// It never got as far as an answer.
    pub fn failed(outcome: Outcome, error: impl ToString) -> Self {
        Self {
            outcome,
            error: Some(error.to_string()),
            status: None,
            first_byte: None,
        }
    }

    /// It was answered by us.
    pub fn answered(status: &str, outcome: Outcome, error: impl ToString) -> Self {
        Self {
            status: status.split(' ').next().and_then(|s| s.parse().ok()),
            first_byte: Some(Instant::now()),
            ..Self::failed(outcome, error)
        }
    }
}

/// Hands an ended exchange to the tap.
pub(super) fn record(
    context: &Context,
    ticket: Ticket,
    arrival: Arrival,
    heads: Heads,
    end: End,
    request: Tee,
    response: Tee,
) {
    let Some(budget) = context.tap.budget() else {
        return ticket.end_uncopied();
    };
    let (request_body, request_trailers, request_permit) = request.finish();
    let (response_body, response_trailers, response_permit) = response.finish();
    let nanos = |d: Duration| u64::try_from(d.as_nanos()).unwrap_or(u64::MAX);
    let wall = arrival
        .wall
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    let (path, query) = match heads.target.split_once('?') {
        Some((path, query)) => (path.to_owned(), Some(query.to_owned())),
        None => (heads.target, None),
    };
    let raw = RawExchange {
        seq: ticket.seq,
        arrived_at_ns: i64::try_from(wall.as_nanos()).unwrap_or(i64::MAX),
        first_byte_ns: end.first_byte.map(|t| nanos(t - arrival.at)),
        end_ns: nanos(arrival.at.elapsed()),
        method: heads.method,
        path,
        query,
        request_headers: heads.request,
        request_body,
        request_trailers,
        status: end.status,
        response_headers: heads.response,
        response_body,
        response_trailers,
        outcome: end.outcome,
        error: end.error,
        sample_rate: 1.0,
    };
    let mut permit = budget.permit();
    permit.absorb(request_permit);
    permit.absorb(response_permit);
    ticket.end(raw, permit);
}
