//! `[models]` against a capture: which exchanges are whose.

use std::path::Path;
use std::sync::Arc;

use inferdiff_replay::filter::Condition;
use inferdiff_replay::ladder::OfModel;
use inferdiff_replay::source;
use inferdiff_schemas::capture::Capture;
use inferdiff_schemas::run::layout::RunLayout;
use inferdiff_schemas::storage::Disk;

use super::replay::ReplayArgs;
use super::{Failure, encryption_key};

/// What an exchange of this model meets, as `--where` writes it.
pub(super) fn conditions(one: &OfModel) -> Vec<String> {
    let mut out = vec![format!("model={}", one.name)];
    out.extend(one.version.iter().map(|v| format!("model_version={v}")));
    out
}

/// Every exchange that could be replayed must be of one of the models, and each of them must have
/// some. What no table can claim (it names no version) is told: a line each.
pub(super) fn check(
    args: &ReplayArgs,
    each: &[OfModel],
    filter: &[Condition],
) -> Result<Vec<String>, Failure> {
    let fail = |why: String| Failure::usage(format!("ladder {}: [models]: {why}", args.ladder));
    if RunLayout::new(&args.run).manifest().exists() {
        let run = args.run.display();
        return Err(fail(format!(
            "{run} is a run of one model: give --run another folder"
        )));
    }
    let captured = captured(&args.capture, args.encryption_key.as_deref(), filter)?;
    let shown = |model: &str, version: &str| match version {
        "" => format!("`{model}`"),
        version => format!("`{model}` version {version}"),
    };
    let (mut strange, mut untold) = (Vec::new(), Vec::new());
    for ((model, version), n) in &captured {
        let named: Vec<_> = each.iter().filter(|o| o.name == *model).collect();
        let own = |o: &&OfModel| o.version.as_deref().is_none_or(|v| v == version);
        if named.iter().any(own) {
            continue;
        }
        if !named.is_empty() && version.is_empty() {
            untold.push(format!(
                "{n} exchanges of model `{model}` are left out: nothing names their version"
            ));
        } else {
            strange.push(format!("{n} exchanges are of {}", shown(model, version)));
        }
    }
    if !strange.is_empty() {
        return Err(fail(format!(
            "{}, which no table names; name it, or leave it out with --where",
            strange.join(", ")
        )));
    }
    for one in each {
        let versions = captured.keys().filter(|(model, version)| {
            *model == one.name && one.version.as_ref().is_none_or(|v| v == version)
        });
        let versions: Vec<_> = versions.map(|(_, version)| version.as_str()).collect();
        let version = one.version.as_deref().unwrap_or_default();
        if versions.is_empty() {
            let of = shown(&one.name, version);
            return Err(fail(format!("`{}`: no exchange is of {of}", one.label)));
        }
        // What names no version stands for any.
        let versions: Vec<_> = versions.into_iter().filter(|v| !v.is_empty()).collect();
        if versions.len() > 1 {
            return Err(fail(format!(
                "`{}`: model `{}` has the versions {}: give each a table with its `version`",
                one.label,
                one.name,
                versions.join(", ")
            )));
        }
    }
    Ok(untold)
}

type Captured = std::collections::BTreeMap<(String, String), u64>;

fn captured(path: &Path, key: Option<&Path>, filter: &[Condition]) -> Result<Captured, Failure> {
    let key = encryption_key(key)?;
    let capture =
        Capture::open_with_key(Arc::new(Disk), path, key.as_ref()).map_err(Failure::usage)?;
    source::models(&capture, filter).map_err(Failure::usage)
}
