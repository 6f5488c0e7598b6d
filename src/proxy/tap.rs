//! Where copies go: the seam between proxy and recorder.

use std::sync::Arc;

use inferdiff_schemas::{Headers, RawExchange};

use super::budget::{Budget, Permit};

/// An exchange that crossed, with the memory it holds.
#[derive(Debug)]
pub struct Taken {
    /// The exchange.
    pub raw: RawExchange,
    /// Its share of the budget; dropped when its rows are on disk.
    pub permit: Permit,
}

/// Takes copies. Calls must return at once.
pub trait Tap: Send + Sync + 'static {
    /// An exchange begins: its number.
    fn accept(&self) -> u64;

    /// The exchange ended and was copied.
    fn take(&self, taken: Taken);

    /// The exchange ended and was given up.
    fn give_up(&self, reason: &'static str);

    /// The budget of all copies; `None` = copy nothing.
    fn budget(&self) -> Option<&Arc<Budget>>;
}

/// An accepted exchange: ends as taken or given up, whatever becomes of its task.
pub struct Ticket {
    tap: Arc<dyn Tap>,
    /// The exchange's number.
    pub seq: u64,
    open: bool,
}

impl Ticket {
    /// Accepts an exchange.
    pub fn new(tap: &Arc<dyn Tap>) -> Self {
        Self {
            seq: tap.accept(),
            tap: tap.clone(),
            open: true,
        }
    }

    /// Ends it with a copy, or gives it up where the budget cannot hold even its head.
    pub fn end(mut self, raw: RawExchange, mut permit: Permit) {
        self.open = false;
        let heads = [
            &raw.request_headers,
            &raw.request_trailers,
            &raw.response_headers,
            &raw.response_trailers,
        ];
        let head: usize = heads.into_iter().map(Headers::held).sum();
        if permit.grow((head + raw.path.len() + 1024) as u64) {
            permit.hand_over();
            self.tap.take(Taken { raw, permit });
        } else {
            self.tap.give_up("memory_budget");
        }
    }

    /// Ends it without a copy because none was wanted.
    pub fn end_uncopied(mut self) {
        self.open = false;
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if self.open {
            self.tap.give_up("shutdown");
        }
    }
}
