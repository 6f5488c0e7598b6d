//! Reads a run's comparisons into what judging needs: compact, one record per item and output.

use std::cell::OnceCell;
use std::collections::{BTreeMap, HashMap};

use inferdiff_schemas::run::comparison::{Comparison, Outcome};
use inferdiff_schemas::run::evidence::Evidence;
use inferdiff_schemas::run::ladder::Stage;
use inferdiff_schemas::run::layout::RunLayout;
use inferdiff_schemas::run::manifest::{Manifest, StageStatus};
use inferdiff_schemas::run::requests::RequestRow;
use inferdiff_schemas::run::verdicts::OutputSummary;
use inferdiff_schemas::run::{read_comparisons, read_json};
use ulid::Ulid;

use super::JudgeError;
use super::named::Named;

/// Everything judged of one stage.
pub(super) struct StageData {
    pub name: String,
    pub stage: Stage,
    pub is_recorded: bool,
    pub status: Option<StageStatus>,
    pub evidence: Option<Evidence>,
    /// Exchanges by outcome (the worst of their rows).
    pub outcomes: BTreeMap<String, u64>,
    pub outputs: Vec<OutputSummary>,
    /// Items by output, in the order of the capture.
    pub items: BTreeMap<String, Vec<ItemData>>,
    /// Every row was compared and every bit is equal.
    pub all_bits_equal: bool,
    /// Items with a violation, or not compared although the reference answered.
    pub beyond_tolerance: u64,
    pub judged_items: u64,
    /// Rows with numbers; none means that nothing of the stage could be compared.
    pub compared_rows: u64,
    /// Exchanges with a recorded answer → reproduced bit for bit.
    pub production: HashMap<usize, bool>,
    /// The first of the stage's own error texts.
    pub first_error: Option<String>,
    /// Folders whose answers are those that it is compared with; a later one's win.
    pub against: Vec<String>,
    /// Exchanges that stand out by name.
    pub named: Named,
}

/// One item of one output.
#[derive(Debug, Clone, Copy)]
pub(super) struct ItemData {
    /// Index into the run's requests.
    pub request: usize,
    pub item: u32,
    pub reference: Option<u32>,
    pub stage: Option<u32>,
    /// The two answers could be compared.
    pub compared: bool,
    pub tie: bool,
    /// Every bit is equal.
    pub bits_equal: bool,
    /// Beyond the tolerance, or not compared.
    pub beyond: bool,
    /// Largest difference.
    pub max_abs: Option<f64>,
    /// Largest minus second largest of the reference.
    pub lead: Option<f64>,
    /// Scalars, BYTES: there is no largest element to speak of.
    pub classes: u64,
}

/// Where the requests of a run stand. Made when it is first asked: rows in the order of the requests
/// do not ask.
pub(super) struct Index<'a> {
    requests: &'a [RequestRow],
    places: OnceCell<HashMap<(Ulid, u64), usize>>,
}

impl<'a> Index<'a> {
    pub fn new(requests: &'a [RequestRow]) -> Self {
        let places = OnceCell::new();
        Self { requests, places }
    }

    pub fn get(&self, key: &(Ulid, u64)) -> Option<usize> {
        let places = self.places.get_or_init(|| {
            let each = self.requests.iter().enumerate();
            each.map(|(i, r)| ((r.recorder, r.seq), i)).collect()
        });
        places.get(key).copied()
    }
}

/// The requests, and where each stands.
pub(super) type Requests<'a> = (&'a [RequestRow], &'a Index<'a>);

/// Every stage of the ladder against the reference.
pub(super) fn collect(
    layout: &RunLayout,
    manifest: &Manifest,
    requests: Requests<'_>,
) -> Result<Vec<StageData>, JudgeError> {
    let reference = &manifest.ladder.stages[0].name;
    let each = manifest.ladder.stages.iter().map(|stage| {
        let against = vec![reference.clone()];
        read(
            (layout, manifest, requests),
            stage,
            stage.name.clone(),
            against,
        )
    });
    each.collect()
}

/// The further processes of a stage, each against its own first answers.
pub(super) fn again(
    layout: &RunLayout,
    manifest: &Manifest,
    requests: Requests<'_>,
    stage: &Stage,
) -> Result<Vec<StageData>, JudgeError> {
    let mut against = vec![manifest.ladder.stages[0].name.clone()];
    if stage.name != against[0] {
        against.push(stage.name.clone());
    }
    let mut found = Vec::new();
    for k in 1..manifest.asking.repeats.max(1) {
        let folder = RunLayout::again(&stage.name, k);
        let status: Option<StageStatus> = optional(read_json(&layout.status(&folder)))?;
        if status.is_some() {
            found.push(read(
                (layout, manifest, requests),
                stage,
                folder,
                against.clone(),
            )?);
        }
    }
    Ok(found)
}

fn read(
    (layout, manifest, requests): (&RunLayout, &Manifest, Requests<'_>),
    stage: &Stage,
    folder: String,
    against: Vec<String>,
) -> Result<StageData, JudgeError> {
    let mut data = StageData {
        is_recorded: stage.is_production(),
        stage: stage.clone(),
        status: optional(read_json(&layout.status(&folder)))?,
        evidence: optional(read_json(&layout.evidence(&folder)))?,
        outcomes: BTreeMap::new(),
        outputs: Vec::new(),
        items: BTreeMap::new(),
        all_bits_equal: true,
        beyond_tolerance: 0,
        judged_items: 0,
        compared_rows: 0,
        production: HashMap::new(),
        first_error: None,
        named: Named::default(),
        against,
        name: folder,
    };
    let mut cursor = 0;
    for chunk in &manifest.chunks {
        let path = layout.comparisons(&data.name, &chunk.name);
        let Some(rows) = optional(read_comparisons(&path))? else {
            continue;
        };
        add(&mut data, &rows, requests, &mut cursor);
    }
    Ok(data)
}

pub(super) fn optional<T>(
    read: Result<T, inferdiff_schemas::run::RunFileError>,
) -> Result<Option<T>, JudgeError> {
    match read {
        Ok(value) => Ok(Some(value)),
        Err(e) if e.missing => Ok(None),
        Err(e) => Err(e.into()),
    }
}

/// The request of a row. Rows stand in the order of the requests, so that it mostly is the one of the
/// row before (`cursor`) or the next.
fn request_of(
    row: &Comparison,
    (requests, index): Requests<'_>,
    cursor: &mut usize,
) -> Option<usize> {
    let key = (row.recorder, row.seq);
    let is = |at: &usize| {
        let request = requests.get(*at);
        request.is_some_and(|r| (r.recorder, r.seq) == key)
    };
    let near = [*cursor, *cursor + 1].into_iter().find(is);
    let found = near.or_else(|| index.get(&key));
    *cursor = found.unwrap_or(*cursor);
    found
}

fn add(
    data: &mut StageData,
    rows: &[Comparison],
    (requests, index): Requests<'_>,
    cursor: &mut usize,
) {
    // The rows of an exchange stand together.
    let mut worst: Vec<(usize, Outcome)> = Vec::new();
    for row in rows {
        let Some(request) = request_of(row, (requests, index), cursor) else {
            continue;
        };
        match worst.last_mut().filter(|(last, _)| *last == request) {
            None => worst.push((request, row.outcome)),
            Some((_, entry)) => {
                if *entry == Outcome::Compared
                    || (*entry == Outcome::PartialOutput && row.outcome != Outcome::Compared)
                {
                    *entry = row.outcome;
                }
            }
        }
        data.named.see(row, &requests[request]);
        if data.first_error.is_none() && row.outcome != Outcome::Compared {
            data.first_error.clone_from(&row.error);
        }
        if let Some(equal) = row.production_equal {
            *data.production.entry(request).or_insert(true) &= equal;
        }
        // Nobody answered, or nobody asked: there is nothing to compare and nothing to hold against
        // the stage.
        if matches!(row.outcome, Outcome::BothFailed | Outcome::PartialOutput) {
            continue;
        }
        data.all_bits_equal &= row.bits_equal && row.outcome == Outcome::Compared;
        if row.outcome == Outcome::ReferenceFailed {
            continue;
        }
        data.judged_items += 1;
        data.compared_rows += u64::from(row.outcome == Outcome::Compared);
        let beyond = row.violations > 0 || row.outcome != Outcome::Compared;
        data.beyond_tolerance += u64::from(beyond);
        summarise(data, row, beyond);
        let item = ItemData {
            request,
            item: row.item,
            reference: row.reference_top1,
            stage: row.stage_top1,
            compared: row.outcome == Outcome::Compared,
            tie: row.reference_tie || row.stage_tie,
            bits_equal: row.bits_equal,
            beyond,
            max_abs: row.max_abs,
            lead: row.reference_margin,
            classes: row.shape.iter().map(|d| d.unsigned_abs()).product(),
        };
        match data.items.get_mut(&*row.output) {
            Some(items) => items.push(item),
            None => drop(data.items.insert(row.output.to_string(), vec![item])),
        }
    }
    for (_, outcome) in worst {
        *data.outcomes.entry(outcome.name().to_owned()).or_default() += 1;
    }
}

fn summarise(data: &mut StageData, row: &Comparison, beyond: bool) {
    let at = data
        .outputs
        .iter()
        .position(|o| *o.name == *row.output)
        .unwrap_or_else(|| {
            data.outputs.push(OutputSummary {
                name: row.output.to_string(),
                items: 0,
                bit_equal: 0,
                max_abs: None,
                rel_l2: None,
                min_cosine: None,
                max_ulp: None,
                items_beyond_tolerance: 0,
                nonfinite_mismatches: 0,
                error_ratio: None,
            });
            data.outputs.len() - 1
        });
    let o = &mut data.outputs[at];
    let most = |a: Option<f64>, b: Option<f64>| a.into_iter().chain(b).reduce(f64::max);
    o.items += 1;
    o.bit_equal += u64::from(row.bits_equal);
    o.max_abs = most(o.max_abs, row.max_abs);
    o.rel_l2 = most(o.rel_l2, row.rel_l2);
    o.min_cosine = o.min_cosine.into_iter().chain(row.cosine).reduce(f64::min);
    o.max_ulp = o.max_ulp.into_iter().chain(row.max_ulp).max();
    o.items_beyond_tolerance += u64::from(beyond);
    o.nonfinite_mismatches += row.nonfinite_mismatches;
}
