//! The replayed exchanges of a run: their keys in memory, everything else in the run's file, read
//! when it is asked for. A run of millions of exchanges must be judged on a small machine.

use std::cell::OnceCell;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

use inferdiff_schemas::run::RunFileError;
use inferdiff_schemas::run::requests::{RequestColumns, RequestReader};
use ulid::Ulid;

/// The exchanges of `requests.parquet`, by their place in it: 8 bytes each, and a little for each
/// change of the recorder or the sampling rate.
pub(crate) struct Requests {
    path: PathBuf,
    seqs: Vec<u64>,
    recorders: Runs<Ulid>,
    rates: Runs<f64>,
    /// Made when it is first asked: rows in the order of the requests do not ask.
    places: OnceCell<HashMap<(Ulid, u64), u32>>,
}

impl Requests {
    /// Reads the keys.
    ///
    /// # Errors
    /// [`RunFileError`].
    pub fn open(path: &Path) -> Result<Self, RunFileError> {
        let (mut seqs, mut recorders, mut rates) = (Vec::new(), Runs::new(), Runs::new());
        for row in RequestReader::open(path, RequestColumns::Keys)? {
            let row = row?;
            recorders.push(row.recorder);
            rates.push(row.sample_rate);
            seqs.push(row.seq);
        }
        Ok(Self {
            path: path.to_owned(),
            seqs,
            recorders,
            rates,
            places: OnceCell::new(),
        })
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.seqs.len()
    }

    /// Recorder and number of the exchange at a place.
    pub fn key(&self, place: u32) -> (Ulid, u64) {
        (self.recorders.at(place), self.seqs[place as usize])
    }

    /// The probability with which it was sampled.
    pub fn sample_rate(&self, place: u32) -> f64 {
        self.rates.at(place)
    }

    /// Each sampling rate, with the first place that has it.
    pub fn sample_rates(&self) -> impl Iterator<Item = (u32, f64)> + '_ {
        self.rates.0.iter().copied()
    }

    /// Where an exchange stands.
    pub fn find(&self, key: &(Ulid, u64)) -> Option<u32> {
        let places = self.places.get_or_init(|| {
            let all = 0..place(self.len());
            all.map(|at| (self.key(at), at)).collect()
        });
        places.get(key).copied()
    }

    /// Where an exchange stands that most likely is the one at `near` or soon after it: rows about
    /// exchanges stand in the order of the exchanges, of which some have none.
    pub fn find_near(&self, key: &(Ulid, u64), near: u32) -> Option<u32> {
        const SOON: usize = 1000;
        let from = near as usize;
        let seqs = self.seqs.iter().skip(from).take(SOON).enumerate();
        let mut same = seqs.filter(|(_, seq)| **seq == key.1);
        let at = same.find_map(|(i, _)| {
            let at = place(from + i);
            (self.key(at) == *key).then_some(at)
        });
        at.or_else(|| self.find(key))
    }

    /// All of them in order, with what is asked for of each.
    ///
    /// # Errors
    /// [`RunFileError`].
    pub fn read(&self, columns: RequestColumns) -> Result<RequestReader, RunFileError> {
        RequestReader::open(&self.path, columns)
    }
}

/// The place of the n-th exchange.
pub(crate) fn place(n: usize) -> u32 {
    u32::try_from(n).expect("a run holds fewer than 2^32 exchanges")
}

/// Values that mostly are those before them: each with the first place that has it.
struct Runs<T>(Vec<(u32, T)>, u32);

impl<T: Copy + PartialEq> Runs<T> {
    fn new() -> Self {
        Self(Vec::new(), 0)
    }

    fn push(&mut self, value: T) {
        if self.0.last().is_none_or(|(_, last)| *last != value) {
            self.0.push((self.1, value));
        }
        self.1 = place(self.1 as usize + 1);
    }

    fn at(&self, place: u32) -> T {
        let after = self.0.partition_point(|(first, _)| *first <= place);
        self.0[after - 1].1
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use inferdiff_schemas::Exchange;
    use inferdiff_schemas::run::requests::{RequestRow, RequestWriter};
    use proptest::prelude::*;

    use super::*;

    /// A run's requests, in a file that goes when the folder is dropped.
    pub(crate) fn kept(rows: impl IntoIterator<Item = Exchange>) -> (tempfile::TempDir, Requests) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("requests.parquet");
        let mut writer = RequestWriter::create(&path).unwrap();
        for e in rows {
            writer.push(&RequestRow::of(e)).unwrap();
        }
        writer.commit().unwrap();
        let requests = Requests::open(&path).unwrap();
        (folder, requests)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn every_exchange_has_its_key_its_rate_and_its_place(
            all in prop::collection::vec((0u128..3, 1u8..4), 1..60),
            many in prop::bool::ANY,
        ) {
            // More than one row group, now and then.
            let repeats = if many { 9000 / all.len() } else { 1 };
            let all: Vec<_> = all.iter().cycle().take(all.len() * repeats).collect();
            let exchange = |(i, (recorder, rate)): (usize, &&(u128, u8))| Exchange {
                sample_rate: 1.0 / f64::from(*rate),
                client_request_id: (i % 2 == 0).then(|| format!("c{i}")),
                ..Exchange::new(Ulid(*recorder), i as u64 * 7)
            };
            let (_folder, requests) = kept(all.iter().enumerate().map(exchange));
            prop_assert_eq!(requests.len(), all.len());
            let mut ids = requests.read(RequestColumns::Ids).unwrap();
            for (i, (recorder, rate)) in all.iter().enumerate() {
                let (at, key) = (place(i), (Ulid(*recorder), i as u64 * 7));
                prop_assert_eq!(requests.key(at), key);
                prop_assert_eq!(requests.sample_rate(at), 1.0 / f64::from(*rate));
                prop_assert_eq!(requests.find(&key), Some(at));
                prop_assert_eq!(requests.find_near(&key, at.saturating_sub(1)), Some(at));
                let id = ids.next().unwrap().unwrap().client_request_id;
                prop_assert_eq!(id, (i % 2 == 0).then(|| format!("c{i}")));
            }
            prop_assert!(ids.next().is_none());
            prop_assert_eq!(requests.find(&(Ulid(9), 0)), None);
        }
    }
}
