//! Which exchanges are recorded: a share of them, the same share everywhere.
//!
//! The choice is a hash of a key (XXH3-64, seed 0) below `rate` × 2⁶⁴: recorders that share a
//! capture, and recorders of other services that see the same header, choose alike.

use inferdiff_schemas::xxh3::hash64;
use inferdiff_schemas::{Exchange, RawExchange};

/// What is sampled.
#[derive(Debug, Clone, PartialEq)]
pub struct Sampling {
    /// Share of the exchanges, in (0, 1].
    pub rate: f64,
    /// The request header whose value decides; without it, each exchange is chosen by itself.
    pub by: Option<String>,
}

impl Default for Sampling {
    fn default() -> Self {
        Self {
            rate: 1.0,
            by: None,
        }
    }
}

impl Sampling {
    /// What can be told before decoding: `Some` = decided.
    ///
    /// A sequence is recorded whole or not at all, so its id decides where there is one; where a
    /// body may hold one, it must be decoded first.
    pub fn before_decoding(&self, raw: &RawExchange) -> Option<bool> {
        if self.rate >= 1.0 {
            return Some(true);
        }
        const KEY: &[u8] = b"sequence_id";
        let coded = ["content-encoding", "grpc-encoding"]
            .iter()
            .any(|name| raw.request_header(name).is_some());
        if coded || memchr::memmem::find(&raw.request_body.data, KEY).is_some() {
            return None;
        }
        let value = self.by.as_deref().and_then(|by| raw.request_header(by));
        value.map(|value| self.chooses("header", value))
    }

    /// The choice for a decoded exchange; `value`: that of the deciding header.
    pub fn of(&self, exchange: &Exchange, value: Option<&str>) -> bool {
        match (&exchange.sequence_id, value) {
            _ if self.rate >= 1.0 => true,
            (Some(id), _) => {
                let model = exchange.model.as_deref().unwrap_or_default();
                self.chooses(model, id)
            }
            (None, Some(value)) => self.chooses("header", value),
            (None, None) => self.chooses("id", &exchange.id),
        }
    }

    fn chooses(&self, kind: &str, key: &str) -> bool {
        let hash = hash64(format!("{kind}\0{key}").as_bytes());
        #[expect(
            clippy::cast_precision_loss,
            reason = "53 of 64 bits are more than any rate needs"
        )]
        let place = hash as f64 / (u64::MAX as f64 + 1.0);
        place < self.rate
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ulid::Ulid;

    fn half() -> Sampling {
        Sampling {
            rate: 0.5,
            by: Some("x-user".to_owned()),
        }
    }

    #[test]
    fn the_share_is_the_rate_and_the_choice_does_not_change() {
        let sampling = Sampling {
            rate: 0.1,
            by: None,
        };
        let e = |seq| Exchange::new(Ulid::nil(), seq);
        let chosen = (0..100_000)
            .filter(|&seq| sampling.of(&e(seq), None))
            .count();
        // Binomial: 10000 ± 95 (one sigma); six sigmas either way.
        assert!((9_430..=10_570).contains(&chosen), "{chosen}");
        assert_eq!(sampling.of(&e(7), None), sampling.of(&e(7), None));
        assert!(Sampling::default().of(&e(7), None));
    }

    #[test]
    fn one_header_value_or_one_sequence_is_chosen_whole() {
        let choices = |make: &dyn Fn(u64) -> Exchange, value: Option<&str>| {
            let all = (0..200).map(|seq| half().of(&make(seq), value));
            all.collect::<std::collections::BTreeSet<_>>().len()
        };
        let plain = |seq| Exchange::new(Ulid::nil(), seq);
        assert_eq!(choices(&plain, None), 2, "each by itself");
        assert_eq!(choices(&plain, Some("alice")), 1);
        let sequence = |seq| Exchange {
            sequence_id: Some("42".to_owned()),
            ..plain(seq)
        };
        assert_eq!(choices(&sequence, None), 1);
        // The sequence decides even where its requests carry other header values.
        let values: std::collections::BTreeSet<bool> = (0..200)
            .map(|n| half().of(&sequence(n), Some(&format!("user{n}"))))
            .collect();
        assert_eq!(values.len(), 1);
    }
}
