//! Answers that a run keeps of a chunk, given back in the order in which they were kept: that of the
//! chunk's exchanges, of which some may have none.

use std::iter::Peekable;

use inferdiff_schemas::run::RunFileError;
use inferdiff_schemas::run::ladder::Stage;
use inferdiff_schemas::run::layout::RunLayout;
use inferdiff_schemas::run::manifest::{Chunk, Manifest};
use inferdiff_schemas::run::outputs::OutputReader;
use inferdiff_schemas::{Exchange, Tensor};

/// Files of answers, read a few rows at a time.
pub(super) struct Stored {
    /// The first that has an answer gives it.
    layers: Vec<Peekable<OutputReader>>,
}

impl Stored {
    /// What the reference answered.
    pub fn reference(
        layout: &RunLayout,
        manifest: &Manifest,
        chunk: &Chunk,
    ) -> Result<Self, RunFileError> {
        let reference = &manifest.ladder.stages[0];
        Self::first(layout, manifest, reference, chunk)
    }

    /// What a stage answered first: what it kept, and the reference's answer wherever its bits are
    /// those.
    pub fn first(
        layout: &RunLayout,
        manifest: &Manifest,
        stage: &Stage,
        chunk: &Chunk,
    ) -> Result<Self, RunFileError> {
        let reference = &manifest.ladder.stages[0].name;
        let mut names = vec![&stage.name];
        names.extend((stage.name != *reference).then_some(reference));
        let open = |name: &&String| OutputReader::open(&layout.outputs(name, &chunk.name));
        let layers = names.iter().map(|name| open(name).map(Iterator::peekable));
        Ok(Self {
            layers: layers.collect::<Result<_, _>>()?,
        })
    }

    /// The answer to an exchange, where there is one. Exchanges must come in their order, and all of
    /// those that have answers.
    pub fn take(
        &mut self,
        exchange: &Exchange,
    ) -> Result<Option<Result<Vec<Tensor>, String>>, RunFileError> {
        let key = (exchange.recorder, exchange.seq);
        let mut found = None;
        for layer in &mut self.layers {
            let its = |row: &Result<_, _>| row.as_ref().map_or(true, |row| is(row, key));
            let row = layer.next_if(its).transpose()?;
            found = found.or(row.map(|row| row.answer));
        }
        Ok(found)
    }
}

fn is(row: &inferdiff_schemas::run::outputs::StoredAnswer, key: (ulid::Ulid, u64)) -> bool {
    (row.recorder, row.seq) == key
}
