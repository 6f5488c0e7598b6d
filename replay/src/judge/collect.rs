//! Sums up a run's comparisons: one record per stage, whatever the number of its rows.

use std::collections::BTreeMap;

use inferdiff_schemas::run::comparison::{Comparison, Outcome};
use inferdiff_schemas::run::evidence::Evidence;
use inferdiff_schemas::run::ladder::Stage;
use inferdiff_schemas::run::layout::RunLayout;
use inferdiff_schemas::run::manifest::StageStatus;
use inferdiff_schemas::run::read_json;
use inferdiff_schemas::run::verdicts::OutputSummary;

use super::JudgeError;
use super::named::Named;
use super::rows::{Row, Source, is_nobodys, optional};

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
    /// Judged items of each output that have a label.
    pub labelled: BTreeMap<String, u64>,
    /// Every row was compared and every bit is equal.
    pub all_bits_equal: bool,
    /// Items with a violation, or not compared although the reference answered.
    pub beyond_tolerance: u64,
    pub judged_items: u64,
    /// Rows with numbers; none means that nothing of the stage could be compared.
    pub compared_rows: u64,
    /// Exchanges with a recorded answer, and those of them reproduced bit for bit.
    pub production: Production,
    /// The first of the stage's own error texts.
    pub first_error: Option<String>,
    /// Folders whose answers are those that it is compared with; a later one's win.
    pub against: Vec<String>,
    /// Exchanges that stand out by name.
    pub named: Named,
}

/// How often production's answers were reproduced.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Production {
    pub of: u64,
    pub equal: u64,
}

impl StageData {
    /// How many items of an output were judged.
    pub fn items(&self, output: &str) -> u64 {
        let of = self.outputs.iter().find(|o| o.name == output);
        of.map_or(0, |o| o.items)
    }

    /// The names of the judged outputs, in their order.
    pub fn names(&self) -> Vec<&str> {
        let mut names: Vec<_> = self.outputs.iter().map(|o| o.name.as_str()).collect();
        names.sort_unstable();
        names
    }

    /// The output with the most judged items, of equals the last by name; "" where there is none.
    pub fn largest(&self) -> &str {
        let names = self.names().into_iter();
        names.max_by_key(|name| self.items(name)).unwrap_or("")
    }
}

/// Every stage of the ladder against the reference.
pub(super) fn collect(source: &Source<'_>) -> Result<Vec<StageData>, JudgeError> {
    let stages = &source.manifest.ladder.stages;
    let reference = &stages[0].name;
    let each = stages.iter().map(|stage| {
        let against = vec![reference.clone()];
        read(source, stage, stage.name.clone(), against)
    });
    each.collect()
}

/// The further processes of a stage, each against its own first answers.
pub(super) fn again(source: &Source<'_>, stage: &Stage) -> Result<Vec<StageData>, JudgeError> {
    let mut against = vec![source.manifest.ladder.stages[0].name.clone()];
    if stage.name != against[0] {
        against.push(stage.name.clone());
    }
    let mut found = Vec::new();
    for k in 1..source.manifest.asking.repeats.max(1) {
        let folder = RunLayout::again(&stage.name, k);
        let status: Option<StageStatus> = optional(read_json(&source.layout.status(&folder)))?;
        if status.is_some() {
            found.push(read(source, stage, folder, against.clone())?);
        }
    }
    Ok(found)
}

fn read(
    source: &Source<'_>,
    stage: &Stage,
    folder: String,
    against: Vec<String>,
) -> Result<StageData, JudgeError> {
    let mut data = StageData {
        is_recorded: stage.is_production(),
        stage: stage.clone(),
        status: optional(read_json(&source.layout.status(&folder)))?,
        evidence: optional(read_json(&source.layout.evidence(&folder)))?,
        outcomes: BTreeMap::new(),
        outputs: Vec::new(),
        labelled: BTreeMap::new(),
        all_bits_equal: true,
        beyond_tolerance: 0,
        judged_items: 0,
        compared_rows: 0,
        production: Production::default(),
        first_error: None,
        named: Named::default(),
        against,
        name: folder,
    };
    let folder = data.name.clone();
    let mut exchange: Option<Exchange> = None;
    source.rows(&folder, &mut |r| {
        match exchange.as_mut().filter(|e| e.request == r.request) {
            Some(same) => same.add(r.row),
            None => {
                let ended = exchange.replace(Exchange::new(&r));
                ended.into_iter().for_each(|e| e.count(&mut data));
            }
        }
        add(&mut data, source, &r);
        Ok(())
    })?;
    exchange.into_iter().for_each(|e| e.count(&mut data));
    Ok(data)
}

/// The rows of one exchange, which stand together.
struct Exchange {
    request: u32,
    worst: Outcome,
    production: Option<bool>,
}

impl Exchange {
    fn new(r: &Row<'_>) -> Self {
        Self {
            request: r.request,
            worst: r.row.outcome,
            production: r.row.production_equal,
        }
    }

    fn add(&mut self, row: &Comparison) {
        if self.worst == Outcome::Compared
            || (self.worst == Outcome::PartialOutput && row.outcome != Outcome::Compared)
        {
            self.worst = row.outcome;
        }
        let both = self.production.into_iter().chain(row.production_equal);
        self.production = both.reduce(|a, b| a && b);
    }

    fn count(self, data: &mut StageData) {
        match data.outcomes.get_mut(self.worst.name()) {
            Some(count) => *count += 1,
            None => drop(data.outcomes.insert(self.worst.name().to_owned(), 1)),
        }
        data.production.of += u64::from(self.production.is_some());
        data.production.equal += u64::from(self.production == Some(true));
    }
}

fn add(data: &mut StageData, source: &Source<'_>, r: &Row<'_>) {
    let row = r.row;
    data.named.see(row);
    if data.first_error.is_none() && row.outcome != Outcome::Compared {
        data.first_error.clone_from(&row.error);
    }
    if is_nobodys(row) {
        return;
    }
    data.all_bits_equal &= row.bits_equal && row.outcome == Outcome::Compared;
    let Some(item) = r.judged else { return };
    data.judged_items += 1;
    data.compared_rows += u64::from(item.compared);
    data.beyond_tolerance += u64::from(item.beyond);
    summarise(data, row, item.beyond);
    let label = source.labels.and_then(|l| l.get(item.request, item.item));
    if label.is_some() {
        match data.labelled.get_mut(&*row.output) {
            Some(count) => *count += 1,
            None => drop(data.labelled.insert(row.output.to_string(), 1)),
        }
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
