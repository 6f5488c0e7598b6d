//! The exchanges that show best what a verdict rests on.

use std::collections::{BTreeMap, HashMap};

use inferdiff_schemas::Exchange;
use inferdiff_schemas::run::verdicts::Telling;

use super::JudgeError;
use super::collect::StageData;
use super::rows::{Item, Source};
use super::sample::NoiseOf;
use super::scores::Asked;
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
) -> Result<Vec<Telling>, JudgeError> {
    let sign = if asked.metric.kind.lower_is_better() {
        -1.0
    } else {
        1.0
    };
    let lost = |s: &Scored| {
        let own = noise.get(&(s.request, s.item)).copied();
        let loss = sign * (own.unwrap_or(s.reference) - s.stage);
        loss * weighting.of(s.request, s.item).0
    };
    // An area is lost by no item alone: there the change of the score itself tells most.
    let of_all = scores.positive.is_some();
    let size = |s: &Scored| match of_all {
        true => (s.reference - s.stage).abs(),
        false => lost(s),
    };
    let mut largest: Most<()> = Most::default();
    let sizes = scores.items.iter().map(size).filter(|size| *size > 0.0);
    sizes.for_each(|size| largest.see((size, 0.0), || ()));
    // Of those that lose as much, the comparisons know of which the reference was surest.
    let Some(least) = largest.least() else {
        return Ok(Vec::new());
    };
    let may = scores.items.iter().filter(|s| size(s) >= least);
    let may: HashMap<(u32, u32), &Scored> = may.map(|s| ((s.request, s.item), s)).collect();
    let mut worst = Most::default();
    source.items(&data.name, &mut |output, item| {
        let scored = may.get(&(item.request, item.item));
        if let Some(s) = scored.filter(|_| output == asked.output) {
            worst.see((size(s), item.lead.unwrap_or(0.0)), || (item, **s));
        }
    })?;
    let told = worst.0.into_iter().map(|(_, (item, s))| {
        let label = source.labels.and_then(|l| l.get(s.request, s.item));
        let mut why = match &asked.metric.kind {
            Kind::Top1 | Kind::Flips { .. } => tops(&item),
            _ if !item.compared => "no answer that could be compared".to_owned(),
            _ => format!("score {:.6} became {:.6}", s.reference, s.stage),
        };
        if let Some(label) = label.filter(|_| scores.absolute) {
            why += &format!("; labelled {}", label.label);
        }
        tell(source, s.request, s.item, why)
    });
    Ok(told.collect())
}

/// The items beyond the tolerance whose answers differ most.
pub(super) fn by_tolerance(
    source: &Source<'_>,
    data: &StageData,
) -> Result<Vec<Telling>, JudgeError> {
    let mut worst: BTreeMap<String, Most<Item>> = BTreeMap::new();
    if data.beyond_tolerance > 0 {
        source.items(&data.name, &mut |output, item| {
            if !item.beyond {
                return;
            }
            // What could not be compared differs most.
            let by = (item.max_abs.unwrap_or(f64::INFINITY), 0.0);
            match worst.get_mut(output) {
                Some(of) => of.see(by, || item),
                None => worst.entry(output.to_owned()).or_default().see(by, || item),
            }
        })?;
    }
    // Of those that differ as much, an output's stand together: another exchange tells more than
    // another output of the same one.
    let mut all = Most::default();
    for (output, of) in worst {
        for (by, item) in of.0 {
            all.see(by, || (output.clone(), item));
        }
    }
    let told = all.0.into_iter().map(|(_, (output, i))| {
        let why = match i.max_abs {
            Some(most) => format!("output `{output}`: largest difference {most:.3e}"),
            None => format!("output `{output}`: no answer that could be compared"),
        };
        tell(source, i.request, i.item, why)
    });
    Ok(told.collect())
}

/// The [`MOST`] that are largest by two numbers, the largest first; of equals, those seen first.
struct Most<T>(Vec<((f64, f64), T)>);

impl<T> Default for Most<T> {
    fn default() -> Self {
        Self(Vec::with_capacity(MOST + 1))
    }
}

impl<T> Most<T> {
    fn see(&mut self, by: (f64, f64), what: impl FnOnce() -> T) {
        let larger = |of: &(f64, f64)| of.0.total_cmp(&by.0).then(of.1.total_cmp(&by.1)).is_ge();
        let at = self.0.partition_point(|(of, _)| larger(of));
        if at < MOST {
            self.0.insert(at, (by, what()));
            self.0.truncate(MOST);
        }
    }

    /// The first number of the last of them.
    fn least(&self) -> Option<f64> {
        self.0.last().map(|(by, _)| by.0)
    }
}

fn tops(i: &Item) -> String {
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

fn tell(source: &Source<'_>, request: u32, item: u32, why: String) -> Telling {
    let (recorder, seq) = source.requests.key(request);
    Telling {
        id: Exchange::id_of(recorder, seq),
        // Found for all that are named, at the end.
        client_request_id: None,
        item,
        why,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_largest_stay_as_a_stable_sort_has_them(
            all in prop::collection::vec((0u8..6, 0u8..3), 0..40),
        ) {
            let numbers = |(a, b): (u8, u8)| (f64::from(a), f64::from(b));
            let mut kept = Most::default();
            all.iter().enumerate().for_each(|(i, n)| kept.see(numbers(*n), || i));
            let mut sorted: Vec<usize> = (0..all.len()).collect();
            sorted.sort_by_key(|i| std::cmp::Reverse(all[*i]));
            sorted.truncate(MOST);
            let kept: Vec<usize> = kept.0.into_iter().map(|(_, i)| i).collect();
            prop_assert_eq!(kept, sorted);
        }
    }
}
