//! Exchanges that wait for the next checkpoint.

use super::turns::{TURN, Turns};
use crate::Exchange;

/// Exchanges, and what a checkpoint must know of all of them: to look at each again would fetch it from
/// memory once more.
#[derive(Default)]
pub(super) struct Buffer {
    exchanges: Vec<Exchange>,
    /// Bytes that they hold in memory.
    pub weight: u64,
    /// Bytes of their tensors and bodies.
    pub payload: u64,
    /// Those whose books are closed: a long stream has several rows and is one exchange.
    pub ended: u64,
}

impl Buffer {
    pub fn push(&mut self, exchange: Exchange) {
        let payload = payload(&exchange);
        self.weight += payload + overhead(&exchange);
        self.payload += payload;
        self.ended += u64::from(exchange.last);
        self.exchanges.push(exchange);
    }

    pub fn exchanges(&self) -> &[Exchange] {
        &self.exchanges
    }

    /// Empties it, and gives its room back unless that is to be kept. What exchanges hold are many small
    /// pieces: with `turns` for others in between.
    pub fn clear(&mut self, keep: bool, turns: Turns) {
        while !self.exchanges.is_empty() {
            let left = self.exchanges.len().saturating_sub(TURN);
            self.exchanges.truncate(left);
            turns.end_one();
        }
        let exchanges = match keep {
            true => std::mem::take(&mut self.exchanges),
            false => Vec::new(),
        };
        *self = Self {
            exchanges,
            ..Self::default()
        };
    }

    /// Bytes of its empty places.
    pub fn spare(&self) -> u64 {
        let empty = self.exchanges.capacity() - self.exchanges.len();
        (empty * size_of::<Exchange>()) as u64
    }
}

impl FromIterator<Exchange> for Buffer {
    fn from_iter<I: IntoIterator<Item = Exchange>>(all: I) -> Self {
        let mut buffer = Self::default();
        all.into_iter().for_each(|e| buffer.push(e));
        buffer
    }
}

/// Bytes that an exchange holds in memory: payloads, and what its structs, names and their
/// allocations take.
pub fn weight(exchange: &Exchange) -> u64 {
    payload(exchange) + overhead(exchange)
}

/// What its structs, names and their allocations take.
fn overhead(exchange: &Exchange) -> u64 {
    // Each of the many short strings costs an allocation of its own.
    const STRINGS: usize = 512;
    const FIELD: usize = 128;
    let tensors = [&exchange.inputs, &exchange.outputs]
        .into_iter()
        .flatten()
        .flatten();
    let described: usize = tensors
        .map(|t| {
            let parameters = t.parameters.as_ref().map_or(0, String::len);
            size_of::<crate::Tensor>() + t.name.len() + parameters + 8 * t.shape.len() + 64
        })
        .sum();
    let fields = exchange.request_headers.len() + exchange.response_headers.len();
    let messages = [&exchange.request_messages, &exchange.response_messages];
    let messages = messages.into_iter().flatten().map(Vec::len).sum::<usize>();
    let texts = [
        &exchange.parameters,
        &exchange.decode_error,
        &exchange.error,
    ];
    let texts: usize = texts.into_iter().flatten().map(String::len).sum();
    let rest = size_of::<Exchange>()
        + STRINGS
        + FIELD * fields
        + size_of::<crate::exchange::Message>() * messages
        + texts
        + described;
    rest as u64
}

/// Bytes of tensors and bodies.
fn payload(exchange: &Exchange) -> u64 {
    let tensors = [&exchange.inputs, &exchange.outputs]
        .into_iter()
        .flatten()
        .flatten();
    let bodies = [&exchange.request_body, &exchange.response_body];
    let data = tensors
        .map(|t| t.data.as_ref())
        .chain(bodies.into_iter().map(Option::as_ref));
    data.flatten().map(|b| b.len() as u64).sum()
}
