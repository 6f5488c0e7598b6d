//! A bare exchange for the tests of runtimes.

use inferdiff_schemas::Exchange;
use ulid::Ulid;

pub(super) fn exchange(seq: u64) -> Exchange {
    Exchange {
        status: Some(200),
        ..Exchange::new(Ulid::nil(), seq)
    }
}
