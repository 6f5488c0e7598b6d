//! A stage once more, in fresh processes: what differs from its own first answers is its noise.

use std::collections::HashMap;

use inferdiff_schemas::Tensor;
use inferdiff_schemas::run::ladder::Stage;
use inferdiff_schemas::run::layout::RunLayout;
use inferdiff_schemas::run::manifest::{Chunk, Manifest, StageState, StageStatus};
use inferdiff_schemas::run::outputs::OutputReader;
use inferdiff_schemas::run::{ComparisonColumns, ComparisonReader, RunFileError, read_json};
use ulid::Ulid;

use super::orchestrate::PRODUCTION;

/// Answers by exchange.
pub(super) type Answers = HashMap<(Ulid, u64), Result<Vec<Tensor>, String>>;

/// What a stage's folder keeps of a chunk.
fn kept(layout: &RunLayout, stage: &str, chunk: &Chunk) -> Result<Answers, RunFileError> {
    let stored = OutputReader::open(&layout.outputs(stage, &chunk.name))?;
    let each = stored.map(|s| s.map(|s| ((s.recorder, s.seq), s.answer)));
    each.collect()
}

/// What a stage answered first: what it kept, and the reference's answer wherever its bits are those.
pub(super) fn first_answers(
    layout: &RunLayout,
    manifest: &Manifest,
    stage: &Stage,
    chunk: &Chunk,
) -> Result<Answers, RunFileError> {
    let reference = &manifest.ladder.stages[0].name;
    let mut answers = kept(layout, reference, chunk)?;
    if stage.name != *reference {
        answers.extend(kept(layout, &stage.name, chunk)?);
    }
    Ok(answers)
}

/// A stage's first answers are all known.
pub(super) fn knows_its_answers(manifest: &Manifest, stage: &Stage) -> bool {
    manifest.keep_outputs != "none" || stage.name == manifest.ladder.stages[0].name
}

/// The further processes of a run whose stages have all ended: the reference until it was replayed
/// as often as asked, each stage whose bits differ once more, and the probes of each stage.
pub(super) fn wanted(layout: &RunLayout, manifest: &Manifest) -> Result<Vec<String>, RunFileError> {
    let asking = &manifest.asking;
    let mut names = Vec::new();
    for (i, stage) in manifest.ladder.stages.iter().enumerate() {
        // Recorded answers are looked up: they cannot be asked again.
        if stage.runtime == PRODUCTION || !completed(layout, &stage.name) {
            continue;
        }
        if i == 0 {
            names.extend((1..asking.repeats).map(|k| RunLayout::again(&stage.name, k)));
        } else if asking.repeats > 1
            && knows_its_answers(manifest, stage)
            && differs(layout, manifest, &stage.name)?
        {
            names.push(RunLayout::again(&stage.name, 1));
        }
        if !asking.probes.is_empty() {
            names.push(RunLayout::probing(&stage.name));
        }
    }
    Ok(names)
}

fn completed(layout: &RunLayout, stage: &str) -> bool {
    let status: Result<StageStatus, _> = read_json(&layout.status(stage));
    status.is_ok_and(|s| s.state == StageState::Completed)
}

fn differs(layout: &RunLayout, manifest: &Manifest, stage: &str) -> Result<bool, RunFileError> {
    for chunk in &manifest.chunks {
        let path = layout.comparisons(stage, &chunk.name);
        for row in ComparisonReader::open(&path, ComparisonColumns::Judged)? {
            if !row?.bits_equal {
                return Ok(true);
            }
        }
    }
    Ok(false)
}
