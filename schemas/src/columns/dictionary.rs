//! Column chunks of values that mostly repeat: each once in a dictionary, and its place in it for each entry.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::Hash;

use parquet::errors::Result;
use parquet::file::metadata::ColumnChunkMetaData;
use parquet::schema::types::ColumnDescPtr;

use super::levels::{self, Levels};
use super::one_page::{Column, OnePage};
use super::pages::Output;

/// A column of a row group that grows entry by entry.
pub(super) struct Dictionary<K> {
    pub levels: Levels,
    /// Place in the dictionary of each entry that is a value.
    places: Vec<u32>,
    known: HashMap<K, u32>,
    /// The dictionary's values as PLAIN has them.
    page: Vec<u8>,
}

impl<K: Hash + Eq> Dictionary<K> {
    /// Without entries, of values with this definition level.
    pub fn new(value: u8) -> Self {
        Self {
            levels: Levels::new(value),
            places: Vec::new(),
            known: HashMap::new(),
            page: Vec::new(),
        }
    }

    /// The next entry, a value; `plain` appends a new one as PLAIN has it.
    pub fn append<Q>(&mut self, repetition: u8, value: &Q, plain: impl FnOnce(&mut Vec<u8>))
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned: Into<K>> + ?Sized,
    {
        let place = match self.known.get(value) {
            Some(place) => *place,
            None => {
                let new = u32::try_from(self.known.len()).expect("a row group has fewer rows");
                self.known.insert(value.to_owned().into(), new);
                plain(&mut self.page);
                new
            }
        };
        self.place(repetition, place);
    }

    /// The next entry, the value that came `before` values ago (1: the last).
    #[inline]
    pub fn repeat(&mut self, repetition: u8, before: usize) {
        let last = self.places.len().checked_sub(before);
        let last = last.map(|at| self.places[at]);
        self.place(repetition, last.expect("so many values came before"));
    }

    #[inline]
    fn place(&mut self, repetition: u8, place: u32) {
        self.levels.value(repetition);
        self.places.push(place);
    }

    /// No value came yet.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// The values, each once.
    pub fn known(&self) -> impl Iterator<Item = &K> {
        self.known.keys()
    }
}

impl<K: Hash + Eq> Column for Dictionary<K> {
    fn encode(
        &mut self,
        column: &ColumnDescPtr,
        out: &mut impl Output,
        scratch: &mut Vec<u8>,
    ) -> Result<ColumnChunkMetaData> {
        let entries = self.levels.begin_page(column, scratch);
        let known = self.known.len();
        if known > 0 {
            // A bit at least: not every reader takes none.
            let largest = (known as u64 - 1).max(1);
            let bits = u64::BITS - largest.leading_zeros();
            scratch.push(u8::try_from(bits).expect("places have 32 bits at most"));
            levels::hybrid(scratch, &self.places, bits as usize);
        }
        let page = OnePage {
            column,
            entries,
            // Without a value there is no dictionary.
            dictionary: (known > 0).then_some((self.page.as_slice(), known)),
            body: scratch,
        };
        let chunk = page.append(out);
        self.places.clear();
        self.known.clear();
        self.page.clear();
        chunk
    }
}
