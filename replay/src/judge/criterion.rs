//! By what a run is judged: the metrics asked for, a default with its evidence, or the tolerance.

use std::collections::BTreeMap;

use inferdiff_schemas::run::ladder::MetricSpec;

use super::collect::StageData;
use super::rows::Source;
use super::scores::Asked;
use super::{JudgeError, JudgeOptions};
use crate::metric::{Metric, choices, default_for, final_operators};

/// The metrics, and in words why these.
pub(super) fn criterion(
    source: &Source<'_>,
    options: &JudgeOptions,
    reference: &StageData,
) -> Result<(Vec<Asked>, String), JudgeError> {
    let fail = JudgeError::Criterion;
    let given = if options.metrics.is_empty() {
        &source.manifest.ladder.metrics
    } else {
        &options.metrics
    };
    let mut words = None;
    let mut specs: Vec<MetricSpec> = given.clone();
    if specs.is_empty() && !source.manifest.ladder.tolerance.is_empty() && source.labels.is_none() {
        // What somebody wrote down goes before what we would choose.
        return Ok((
            Vec::new(),
            "the ladder's tolerance, as asked for".to_owned(),
        ));
    }
    if specs.is_empty() {
        let (found, why) = evidence(source)?;
        words = Some(why);
        specs = found;
    }
    for spec in &mut specs {
        spec.margin = options.margin.or(spec.margin);
    }
    let mut asked: Vec<Asked> = Vec::new();
    for spec in &specs {
        let metric = Metric::parse(spec).map_err(fail)?;
        let output = output_of(&metric, reference)?;
        let one = Asked { metric, output };
        if asked.iter().any(|a| a.title() == one.title()) {
            return Err(fail(format!("metric `{}` is there twice", one.title())));
        }
        asked.push(one);
    }
    let words = words.unwrap_or_else(|| {
        let titles: Vec<_> = asked.iter().map(Asked::title).collect();
        format!("{}, as asked for", titles.join(", "))
    });
    Ok((asked, words))
}

/// A default per output that has evidence for one; where none has, the metrics to choose from.
fn evidence(source: &Source<'_>) -> Result<(Vec<MetricSpec>, String), JudgeError> {
    let samples = source.samples()?;
    let reference = &source.manifest.ladder.stages[0];
    let model = reference
        .model
        .as_ref()
        .filter(|_| reference.runtime.starts_with("onnx"));
    let operators: BTreeMap<String, String> = model
        .and_then(|m| std::fs::read(m).ok())
        .map_or_else(BTreeMap::new, |bytes| final_operators(&bytes));
    let kind = source.labels.map(|l| l.kind);
    let (mut specs, mut words, mut open) = (Vec::new(), Vec::new(), Vec::new());
    for (output, row, sums_to_one) in &samples {
        let operator = operators.get(output).map(String::as_str);
        match default_for(operator, *sums_to_one, kind, row) {
            Some((spec, why)) => {
                let (name, options) = spec.split_once(':').unwrap_or((spec, ""));
                let separator = if options.is_empty() { "" } else { ":" };
                let spec = format!("{name}@{output}{separator}{options}");
                words.push(format!("{spec}, because {why}"));
                specs.push(MetricSpec { spec, margin: None });
            }
            None => open.push(format!(
                "{output}: {}",
                choices(row, kind.is_some()).join(", ")
            )),
        }
    }
    // Labels belong to one output; where several could take them, the user must say which.
    if specs.len() > 1 && kind.is_some() {
        let outputs: Vec<_> = samples.iter().map(|(name, ..)| name.as_str()).collect();
        return Err(JudgeError::Criterion(format!(
            "labels fit several outputs: name one with --metric top1@OUTPUT ({})",
            outputs.join(", ")
        )));
    }
    if specs.is_empty() {
        if kind.is_some() {
            return Err(JudgeError::Criterion(format!(
                "nothing says which metric the labels are for: name one with --metric ({})",
                open.join("; ")
            )));
        }
        return Ok((
            specs,
            format!(
                "tolerance only; metrics that could be chosen: {}",
                open.join("; ")
            ),
        ));
    }
    Ok((specs, format!("default {}", words.join("; "))))
}

/// The output that a metric is about.
fn output_of(metric: &Metric, reference: &StageData) -> Result<String, JudgeError> {
    let fail = |why: String| {
        Err(JudgeError::Criterion(format!(
            "metric `{}`: {why}",
            metric.name
        )))
    };
    let names = reference.names();
    let list = || names.join(", ");
    match (&metric.output, names.as_slice()) {
        (Some(wanted), _) if names.contains(&wanted.as_str()) => Ok(wanted.clone()),
        (Some(wanted), _) => fail(format!(
            "there is no output `{wanted}`; there are {}",
            list()
        )),
        (None, [only]) => Ok((*only).to_owned()),
        (None, []) => fail("the reference answered nothing".to_owned()),
        (None, _) => fail(format!("name one of the outputs with @: {}", list())),
    }
}
