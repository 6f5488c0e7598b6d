//! The exchanges that show best what a verdict rests on.

use std::collections::HashMap;

use inferdiff_schemas::Exchange;
use inferdiff_schemas::run::verdicts::Telling;

use super::collect::{ItemData, StageData};
use super::sample::NoiseOf;
use super::scores::{Asked, Source};
use super::weighting::Weighting;
use crate::metric::{Kind, Scored, Scores};

/// So many are named.
const MOST: usize = 10;

/// The items on which a metric loses most beyond their own noise; of equal losses, those of which the
/// reference was surest.
pub(super) fn by_metric(
    (source, weighting): (&Source<'_>, &Weighting<'_>),
    data: &StageData,
    (scores, asked): (&Scores, &Asked),
    noise: &NoiseOf,
) -> Vec<Telling> {
    let sign = if asked.metric.kind.lower_is_better() {
        -1.0
    } else {
        1.0
    };
    let items = data.items.get(&asked.output).map_or(&[][..], Vec::as_slice);
    let items: HashMap<(usize, u32), &ItemData> =
        items.iter().map(|i| ((i.request, i.item), i)).collect();
    let lost = |s: &Scored| {
        let own = noise.get(&(s.request, s.item)).copied();
        let loss = sign * (own.unwrap_or(s.reference) - s.stage);
        loss * weighting.of(s.request, s.item).0
    };
    let lead = |s: &Scored| items.get(&(s.request, s.item)).and_then(|i| i.lead);
    // An area is lost by no item alone: there the change of the score itself tells most.
    let of_all = scores.positive.is_some();
    let size = |s: &Scored| match of_all {
        true => (s.reference - s.stage).abs(),
        false => lost(s),
    };
    let mut worst: Vec<(f64, f64, &Scored)> = scores
        .items
        .iter()
        .map(|s| (size(s), lead(s).unwrap_or(0.0), s))
        .filter(|(size, ..)| *size > 0.0)
        .collect();
    worst.sort_by(|a, b| b.0.total_cmp(&a.0).then(b.1.total_cmp(&a.1)));
    let told = worst.into_iter().take(MOST).map(|(_, _, s)| {
        let item = items.get(&(s.request, s.item));
        let label = source
            .labels
            .and_then(|l| l.by_item.get(&(s.request, s.item)));
        let mut why = match (item, &asked.metric.kind) {
            (Some(i), Kind::Top1 | Kind::Flips { .. }) => tops(i),
            (Some(i), _) if !i.compared => "no answer that could be compared".to_owned(),
            _ => format!("score {:.6} became {:.6}", s.reference, s.stage),
        };
        if let Some(label) = label.filter(|_| scores.absolute) {
            why += &format!("; labelled {}", label.label);
        }
        tell(source, s.request, s.item, why)
    });
    told.collect()
}

/// The items beyond the tolerance whose answers differ most.
pub(super) fn by_tolerance(source: &Source<'_>, data: &StageData) -> Vec<Telling> {
    let all = data.items.iter();
    let all = all.flat_map(|(output, items)| items.iter().map(move |i| (output, i)));
    let mut worst: Vec<(&String, &ItemData)> = all.filter(|(_, i)| i.beyond).collect();
    // What could not be compared differs most.
    let size = |i: &ItemData| i.max_abs.unwrap_or(f64::INFINITY);
    worst.sort_by(|a, b| size(b.1).total_cmp(&size(a.1)));
    let told = worst.into_iter().take(MOST).map(|(output, i)| {
        let why = match i.max_abs {
            Some(most) => format!("output `{output}`: largest difference {most:.3e}"),
            None => format!("output `{output}`: no answer that could be compared"),
        };
        tell(source, i.request, i.item, why)
    });
    told.collect()
}

fn tops(i: &ItemData) -> String {
    let name = |top: Option<u32>| top.map_or_else(|| "none".to_owned(), |t| t.to_string());
    let lead = i
        .lead
        .map_or_else(String::new, |lead| format!(", which led by {lead:.4}"));
    match i.compared {
        true => format!(
            "largest was {}{lead}, became {}",
            name(i.reference),
            name(i.stage)
        ),
        false => format!(
            "largest was {}{lead}; no answer that could be compared",
            name(i.reference)
        ),
    }
}

fn tell(source: &Source<'_>, request: usize, item: u32, why: String) -> Telling {
    let request = &source.requests[request];
    Telling {
        id: Exchange::id_of(request.recorder, request.seq),
        client_request_id: request.client_request_id.clone(),
        item,
        why,
    }
}
