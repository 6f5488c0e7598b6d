//! What a stage process does.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use inferdiff_schemas::capture::{Capture, CaptureKey, Projection};
use inferdiff_schemas::run::evidence::{Evidence, Signature};
use inferdiff_schemas::run::ladder::Stage;
use inferdiff_schemas::run::layout::RunLayout;
use inferdiff_schemas::run::manifest::{Chunk, Manifest, StageState, StageStatus};
use inferdiff_schemas::run::outputs::{OutputBuffers, OutputWriter, StoredAnswer};
use inferdiff_schemas::run::{
    ComparisonBuffers, ComparisonWriter, RunFileError, read_json, write_json,
};
use inferdiff_schemas::storage::Disk;
use inferdiff_schemas::{Exchange, Tensor};

use super::pulse::Pulse;
use super::reading::{Reading, each};
use super::resolved::{self, Resolved};
use super::sequences::Sequences;
use super::stored::Stored;
use super::{StageMessage, Task, probe};
use crate::compare::{Compared, Comparer, compare_exchange};
use crate::mapping::{self, check_inputs, check_outputs};
use crate::runtime::{OpenError, Predictor, Runtimes};
use crate::source;

/// Does the task in this process: replays and compares every chunk of one stage that is not committed
/// yet, and commits `status.json` last; or replays one exchange alone.
///
/// # Errors
/// Only where the run's own files cannot be read or written (told as `Broken`, too); everything else
/// is in the status.
pub fn run_stage(
    run: &Path,
    name: &str,
    runtimes: &Runtimes,
    task: &Task,
    tell: &(dyn Fn(&StageMessage) + Sync),
) -> Result<StageStatus, RunFileError> {
    let pulse = Pulse::default();
    let ended = pulse.beside(tell, || work(run, name, runtimes, task, (&pulse, tell)));
    if let Err(e) = &ended {
        tell(&StageMessage::Broken { why: e.to_string() });
    }
    ended
}

type Tell<'a> = (&'a Pulse, &'a (dyn Fn(&StageMessage) + Sync));

fn work(
    run: &Path,
    name: &str,
    runtimes: &Runtimes,
    task: &Task,
    tell: Tell<'_>,
) -> Result<StageStatus, RunFileError> {
    let layout = RunLayout::new(run);
    let manifest: Manifest = read_json(&layout.manifest())?;
    let status = match Replay::open(&layout, &manifest, name, runtimes)? {
        Ok(mut replay) => match task {
            Task::Chunks { .. } if replay.part == Part::Probes => {
                probe::run(&mut replay, runtimes, tell.0)?
            }
            Task::Chunks { careful } => replay.run(*careful, tell)?,
            Task::Alone { chunk, id } => return replay.alone(chunk, id, tell),
        },
        Err(e) => {
            let state = match e {
                OpenError::Unavailable(_) => StageState::Unavailable,
                OpenError::Failed(_) => StageState::Failed,
            };
            StageStatus::without(state, e.to_string())
        }
    };
    write_json(&layout.status(name), &status)?;
    Ok(status)
}

/// Why there is nothing to replay with.
enum Unopened {
    Stage(OpenError),
    File(RunFileError),
}

impl From<OpenError> for Unopened {
    fn from(e: OpenError) -> Self {
        Self::Stage(e)
    }
}

impl From<RunFileError> for Unopened {
    fn from(e: RunFileError) -> Self {
        Self::File(e)
    }
}

/// What of a stage a process does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    /// Its answers.
    First,
    /// Its answers once more, against the first.
    Again,
    /// Its probes.
    Probes,
}

pub(super) struct Replay<'a> {
    pub layout: &'a RunLayout,
    pub manifest: &'a Manifest,
    pub stage: &'a Stage,
    /// The stage's name, or that of its part: where its files go.
    folder: String,
    part: Part,
    capture: Arc<Capture>,
    pub predictor: Box<dyn Predictor>,
    is_reference: bool,
    pub batch_axis: bool,
    open_seconds: f64,
    resolved: Resolved,
    /// Of a runtime that keeps state.
    sequences: Option<Sequences>,
    comparer: Comparer,
    /// Memory of what writes the comparisons and the answers of a chunk.
    buffers: (ComparisonBuffers, OutputBuffers),
}

impl<'a> Replay<'a> {
    fn open(
        layout: &'a RunLayout,
        manifest: &'a Manifest,
        name: &str,
        runtimes: &Runtimes,
    ) -> Result<Result<Self, OpenError>, RunFileError> {
        // Before anything is opened: a disk that cannot be read is no fault of the stage.
        let resolved = Resolved::read(layout, name)?;
        match Self::opened(layout, manifest, name, runtimes, resolved) {
            Ok(mut replay) => {
                if replay.predictor.keeps_state() {
                    replay.sequences = Some(replay.read_sequences()?);
                }
                Ok(Ok(replay))
            }
            Err(Unopened::Stage(e)) => Ok(Err(e)),
            Err(Unopened::File(e)) => Err(e),
        }
    }

    fn opened(
        layout: &'a RunLayout,
        manifest: &'a Manifest,
        name: &str,
        runtimes: &Runtimes,
        resolved: Resolved,
    ) -> Result<Self, Unopened> {
        let failed = |e: &dyn std::fmt::Display| OpenError::Failed(e.to_string());
        // A stage's name holds no slash.
        let (own, part) = match name.split_once('/') {
            None => (name, Part::First),
            Some((own, "probes")) => (own, Part::Probes),
            Some((own, _)) => (own, Part::Again),
        };
        let index = manifest.ladder.stages.iter().position(|s| s.name == own);
        let index = index.ok_or_else(|| failed(&format!("the run has no stage `{own}`")))?;
        let stage = &manifest.ladder.stages[index];
        let key = manifest.encryption_key.as_deref().map(CaptureKey::read);
        let key = key.transpose().map_err(|e| failed(&e))?;
        let disk = Arc::new(Disk);
        let capture = Capture::open_with_key(disk, &manifest.capture, key.as_ref())
            .map_err(|e| failed(&e))?;
        let started = Instant::now();
        let predictor = runtimes.open(stage)?;
        let open_seconds = started.elapsed().as_secs_f64();
        let evidence = predictor.evidence();
        write_json(&layout.evidence(name), &evidence)?;
        let is_reference = index == 0;
        if is_reference {
            let runtime = runtimes.of(stage)?;
            runtime
                .prove_off(stage, &evidence)
                .map_err(|e| failed(&e))?;
        }
        if let Some(signature) = predictor.signature() {
            check_inputs(signature, &manifest.inputs, &stage.inputs).map_err(|e| failed(&e))?;
        }
        let batch_axis = if is_reference {
            predictor.signature().is_some_and(Signature::has_batch_axis)
        } else {
            let reference = &manifest.ladder.stages[0].name;
            if !stage.outputs.is_empty() {
                let theirs: Evidence = read_json(&layout.evidence(reference))?;
                let own = predictor.signature();
                check_outputs(own, theirs.signature.as_ref(), &stage.outputs)
                    .map_err(|e| failed(&e))?;
            }
            let status: StageStatus = read_json(&layout.status(reference))?;
            status.batch_axis
        };
        Ok(Self {
            layout,
            manifest,
            stage,
            folder: name.to_owned(),
            part,
            capture: Arc::new(capture),
            predictor,
            is_reference,
            batch_axis,
            open_seconds,
            resolved,
            sequences: None,
            comparer: Comparer::default(),
            buffers: (ComparisonBuffers::default(), OutputBuffers::default()),
        })
    }

    fn read_sequences(&self) -> Result<Sequences, RunFileError> {
        let mut sequences = Sequences::default();
        for (i, chunk) in self.manifest.chunks.iter().enumerate() {
            let keys: Result<Vec<_>, _> = self.read(chunk, Projection::Keys)?.collect();
            sequences.add(i, keys?.iter());
        }
        Ok(sequences)
    }

    fn run(&mut self, careful: bool, (pulse, tell): Tell<'_>) -> Result<StageStatus, RunFileError> {
        let started = Instant::now();
        // The comparisons are written last, so they are the mark of a committed chunk.
        let is_open = |c: &&Chunk| !self.layout.comparisons(&self.folder, &c.name).exists();
        let open: Vec<&Chunk> = self.manifest.chunks.iter().filter(is_open).collect();
        let mut reading = self.reading(&open)?;
        let mut open = open.into_iter().peekable();
        for chunk in &self.manifest.chunks {
            if open.next_if(|next| next.name == chunk.name).is_some() {
                tell(&StageMessage::Begin {
                    chunk: chunk.name.clone(),
                });
                self.chunk(chunk, careful, &mut reading, (pulse, tell))?;
            } else {
                pulse.skip(chunk.exchanges());
            }
            tell(&StageMessage::Done {
                exchanges: pulse.done(),
            });
        }
        write_json(
            &self.layout.evidence(&self.folder),
            &self.predictor.evidence(),
        )?;
        Ok(StageStatus {
            state: StageState::Completed,
            reason: None,
            batch_axis: self.batch_axis,
            open_seconds: self.open_seconds,
            replay_seconds: started.elapsed().as_secs_f64(),
            deaths: Vec::new(),
        })
    }

    /// Replays one exchange and keeps its answer beside the chunks.
    fn alone(
        &mut self,
        chunk: &str,
        id: &str,
        (pulse, tell): Tell<'_>,
    ) -> Result<StageStatus, RunFileError> {
        let fail = |why: &str| RunFileError {
            action: "replay alone",
            path: id.into(),
            why: why.to_owned(),
            missing: false,
        };
        let found = self.manifest.chunks.iter().find(|c| c.name == chunk);
        let chunk = found.ok_or_else(|| fail("the run has no such chunk"))?;
        let is_it = |e: &Exchange| Exchange::id_of(e.recorder, e.seq) == id;
        let exchange = &self
            .exchanges(chunk)?
            .find(|e| e.as_ref().map_or(true, is_it))
            .ok_or_else(|| fail("the chunk has no such exchange"))??;
        tell(&StageMessage::Begin {
            chunk: chunk.name.clone(),
        });
        tell(&StageMessage::At { id: id.to_owned() });
        pulse.begin(exchange);
        let answer = self.answer(exchange);
        pulse.end();
        tell(&StageMessage::Done { exchanges: 1 });
        resolved::keep(self.layout, &self.folder, exchange, answer)?;
        Ok(StageStatus::without(StageState::Completed, String::new()))
    }

    fn chunk(
        &mut self,
        chunk: &Chunk,
        careful: bool,
        reading: &mut Reading,
        (pulse, tell): Tell<'_>,
    ) -> Result<(), RunFileError> {
        let mut reference = self.reference(chunk)?;
        let comparisons = self.layout.comparisons(&self.folder, &chunk.name);
        let mut rows = ComparisonWriter::create(&comparisons, std::mem::take(&mut self.buffers.0))?;
        let outputs = self.layout.outputs(&self.folder, &chunk.name);
        let mut kept = OutputWriter::create(&outputs, std::mem::take(&mut self.buffers.1))?;
        for exchanges in reading.chunk() {
            for exchange in &exchanges.map_err(|e| unreadable(self.manifest, &e))? {
                if careful {
                    let id = Exchange::id_of(exchange.recorder, exchange.seq);
                    tell(&StageMessage::At { id });
                }
                pulse.begin(exchange);
                self.exchange(exchange, &mut reference, &mut rows, &mut kept)?;
                pulse.end();
            }
        }
        let outputs = kept.commit()?;
        // Last, because it is the mark of a committed chunk.
        self.buffers = (rows.commit()?, outputs);
        Ok(())
    }

    /// Answers one exchange, compares, and keeps what is to be kept.
    fn exchange(
        &mut self,
        exchange: &Exchange,
        reference: &mut Option<Stored>,
        rows: &mut ComparisonWriter,
        kept: &mut OutputWriter,
    ) -> Result<(), RunFileError> {
        let answer = self.answer(exchange);
        let stage = answer.as_deref().map_err(String::as_str);
        let stored = reference.as_mut().map(|r| r.take(exchange)).transpose()?;
        let theirs = match &stored {
            None => stage,
            Some(Some(answer)) => answer.as_deref().map_err(String::as_str),
            Some(None) => Err("the reference's answer is missing from the run"),
        };
        let sides = Compared {
            exchange,
            reference: theirs,
            stage,
            batch_axis: self.batch_axis,
            items: self.items(exchange),
        };
        let tolerances = &self.manifest.ladder.tolerance;
        let equal = compare_exchange(&mut self.comparer, &sides, tolerances, &mut |row| {
            rows.push(row)
        })?;
        let first = self.part == Part::First;
        let keep = match self.manifest.keep_outputs.as_str() {
            "all" => first || !equal,
            "none" => self.is_reference && (first || !equal),
            _ => (self.is_reference && first) || !equal,
        };
        if keep {
            kept.push(StoredAnswer {
                recorder: exchange.recorder,
                seq: exchange.seq,
                answer,
            })?;
        }
        Ok(())
    }

    /// Starts to read these chunks, ahead of the engine.
    fn reading(&self, chunks: &[&Chunk]) -> Result<Reading, RunFileError> {
        let chunks = chunks.iter().map(|c| (*c).clone()).collect();
        let reading = Reading::start(Arc::clone(&self.capture), chunks, self.projection());
        reading.map_err(|e| unreadable(self.manifest, &e))
    }

    fn projection(&self) -> Projection {
        if self.predictor.reads_exchange() {
            Projection::Full
        } else {
            Projection::Tensors
        }
    }

    /// The exchanges of the chunk, in order.
    pub fn exchanges(
        &self,
        chunk: &Chunk,
    ) -> Result<impl Iterator<Item = Result<Exchange, RunFileError>> + use<'a>, RunFileError> {
        self.read(chunk, self.projection())
    }

    fn read(
        &self,
        chunk: &Chunk,
        projection: Projection,
    ) -> Result<impl Iterator<Item = Result<Exchange, RunFileError>> + use<'a>, RunFileError> {
        let manifest = self.manifest;
        let fail = |e: &dyn std::fmt::Display| unreadable(manifest, e);
        let batches = source::exchanges(&self.capture, chunk, projection);
        let exchanges = each(batches.map_err(|e| fail(&e))?);
        Ok(exchanges.map(move |e| e.map_err(|e| fail(&e))))
    }

    fn reference(&self, chunk: &Chunk) -> Result<Option<Stored>, RunFileError> {
        match self.part {
            Part::First if self.is_reference => Ok(None),
            Part::First => Stored::reference(self.layout, self.manifest, chunk).map(Some),
            _ => Stored::first(self.layout, self.manifest, self.stage, chunk).map(Some),
        }
    }

    fn answer(&mut self, exchange: &Exchange) -> Result<Vec<Tensor>, String> {
        let known = self.resolved.get(exchange);
        // State comes of replaying: only what would kill the process again is left out.
        let stateful = self.sequences.is_some() && exchange.sequence_id.is_some();
        if let Some(known) = known.filter(|_| !stateful || self.resolved.is_fault(exchange)) {
            return known.clone();
        }
        self.lead_in(exchange)?;
        self.ask(exchange)
    }

    /// The earlier exchanges of its sequence, where this process has not replayed them.
    fn lead_in(&mut self, exchange: &Exchange) -> Result<(), String> {
        let Some(sequences) = &mut self.sequences else {
            return Ok(());
        };
        for (chunk, keys) in sequences.before(exchange) {
            let earlier = self.exchanges(&self.manifest.chunks[chunk]);
            let earlier = earlier.map_err(|e| format!("its sequence cannot begin again: {e}"))?;
            for e in earlier {
                let e = e.map_err(|e| format!("its sequence cannot begin again: {e}"))?;
                if keys.contains(&(e.recorder, e.seq)) && !self.resolved.is_fault(&e) {
                    // What it answers is known or will be asked again.
                    let _ = self.ask(&e);
                }
            }
        }
        Ok(())
    }

    fn ask(&mut self, exchange: &Exchange) -> Result<Vec<Tensor>, String> {
        let inputs = exchange.inputs.as_deref().unwrap_or_default();
        mapping::infer(self.stage, self.predictor.as_mut(), exchange, inputs)
    }

    pub fn items(&self, exchange: &Exchange) -> u32 {
        let first = exchange.inputs.as_deref().and_then(<[_]>::first);
        let rows = first.and_then(|t| t.shape.first()).copied();
        if self.batch_axis {
            rows.and_then(|n| u32::try_from(n).ok()).unwrap_or(1)
        } else {
            1
        }
    }
}

fn unreadable(manifest: &Manifest, why: &dyn std::fmt::Display) -> RunFileError {
    RunFileError {
        action: "read",
        path: manifest.capture.clone(),
        why: why.to_string(),
        missing: false,
    }
}
