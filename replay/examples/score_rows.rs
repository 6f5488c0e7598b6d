//! Computes metrics and statistics of rows that a stranger's library computes too
//! (`tests/python/test_metrics.py`): one JSON case per line in, one answer per line out.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a testing tool may fail loudly"
)]

use std::io::BufRead;

use inferdiff_replay::labels::{Label, LabelKind, LabelValue};
use inferdiff_replay::metric::{ItemAnswers, Metric, Row, Scorer, auc};
use inferdiff_replay::verdict::{
    benjamini_hochberg, binomial_lower, binomial_upper, holm, tango_interval,
};
use inferdiff_schemas::Datatype;
use inferdiff_schemas::run::ladder::MetricSpec;
use serde::Deserialize;
use serde_json::{Value, json};
use ulid::Ulid;

/// Rows are little-endian bytes in hex; `null` where a side gave no answer.
#[derive(Deserialize)]
struct Case {
    spec: String,
    datatype: String,
    shape: Vec<i64>,
    reference: Vec<String>,
    stage: Vec<Option<String>>,
    labels: Option<Vec<Value>>,
    weights: Option<Vec<f64>>,
}

#[derive(Deserialize)]
#[serde(tag = "statistic", rename_all = "snake_case")]
enum Statistic {
    Binomial {
        k: u64,
        n: u64,
        confidence: f64,
    },
    Tango {
        b: u64,
        c: u64,
        n: u64,
        confidence: f64,
    },
    Holm {
        p: Vec<f64>,
        alpha: f64,
    },
    BenjaminiHochberg {
        p: Vec<f64>,
        q: f64,
    },
}

fn main() {
    for line in std::io::stdin().lock().lines() {
        let value: Value = serde_json::from_str(&line.unwrap()).unwrap();
        let answer = if value.get("statistic").is_some() {
            statistic(serde_json::from_value(value).unwrap())
        } else {
            score(&serde_json::from_value(value).unwrap()).unwrap_or_else(|e| json!({"error": e}))
        };
        println!("{answer}");
    }
}

fn statistic(of: Statistic) -> Value {
    match of {
        Statistic::Binomial { k, n, confidence } => json!([
            binomial_lower(k, n, confidence),
            binomial_upper(k, n, confidence)
        ]),
        Statistic::Tango {
            b,
            c,
            n,
            confidence,
        } => json!(tango_interval(b, c, n, confidence)),
        Statistic::Holm { p, alpha } => {
            json!(holm(&p, alpha).iter().map(|h| h.1).collect::<Vec<_>>())
        }
        Statistic::BenjaminiHochberg { p, q } => json!(benjamini_hochberg(&p, q)),
    }
}

fn score(case: &Case) -> Result<Value, String> {
    let metric = Metric::parse(&MetricSpec {
        spec: case.spec.clone(),
        margin: None,
    })?;
    let labels: Option<Vec<Label>> = case.labels.as_ref().map(|all| {
        let label = |v: &Value| match (v.as_i64(), v.as_f64()) {
            (Some(class), _) => LabelValue::Class(class),
            (None, Some(score)) => LabelValue::Score(score),
            _ => LabelValue::Text(v.as_str().unwrap().to_owned()),
        };
        let each = all.iter().map(|v| Label {
            label: label(v),
            weight: 1.0,
            cluster: None,
        });
        each.collect()
    });
    let kind = labels.as_ref().map(|l| match l[0].label {
        LabelValue::Class(_) => LabelKind::Class,
        LabelValue::Score(_) => LabelKind::Score,
        LabelValue::Text(_) => LabelKind::Text,
    });
    let row = |hex: &String| Row {
        datatype: Datatype::from_name(&case.datatype).unwrap(),
        shape: case.shape.clone(),
        data: (0..hex.len() / 2)
            .map(|i| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).unwrap())
            .collect(),
    };
    let mut scorer = Scorer::new(&metric, "y", kind)?;
    for (i, (reference, stage)) in case.reference.iter().zip(&case.stage).enumerate() {
        let (reference, stage) = (row(reference), stage.as_ref().map(row));
        scorer.add(&ItemAnswers {
            request: u32::try_from(i).unwrap(),
            recorder: Ulid::nil(),
            seq: i as u64,
            item: 0,
            label: labels.as_ref().map(|l| &l[i]),
            reference: &reference,
            stage: stage.as_ref(),
        })?;
    }
    let scores = scorer.finish()?;
    let area = scores.positive.as_ref().map(|positive| {
        let ones = vec![1.0; scores.items.len()];
        let weights = case.weights.as_ref().unwrap_or(&ones);
        let of = |side: &dyn Fn(usize) -> f64| {
            let values: Vec<f64> = (0..scores.items.len()).map(side).collect();
            auc(&values, positive, weights)
        };
        [
            of(&|i| scores.items[i].reference),
            of(&|i| scores.items[i].stage),
        ]
    });
    let items: Vec<_> = scores
        .items
        .iter()
        .map(|s| json!([s.request, s.reference, s.stage]))
        .collect();
    Ok(json!({"items": items, "unscored": scores.unscored, "auc": area}))
}
