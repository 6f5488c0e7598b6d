//! Nothing inherited, nothing implied: what `run.json` keeps.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

use inferdiff_schemas::run::ladder::{Labels, Ladder, MetricSpec};

use super::models::{OfModel, Resolved};
use super::{BUILTIN, LadderError, builtin, criteria, file, hint, models, stage};
use crate::runtime::Runtimes;

/// What the command line says beside the ladder; it wins over the file.
#[derive(Debug, Clone, Default)]
pub struct Given {
    /// Model of stages that name none.
    pub model: Option<PathBuf>,
    /// Metrics, in place of the file's where there are any.
    pub metrics: Vec<MetricSpec>,
    /// Labels, in place of the file's.
    pub labels: Option<Labels>,
}

/// [`resolve_each`] for whoever takes one ladder.
///
/// # Errors
/// As there, and where the file has `[models]`.
pub fn resolve(name: &str, given: &Given, runtimes: &Runtimes) -> Result<Ladder, LadderError> {
    match resolve_each(name, given, runtimes)? {
        Resolved::One(ladder) => Ok(*ladder),
        Resolved::Each(_) => Err(LadderError {
            place: name.to_owned(),
            why: "it has [models], which only `replay` reads".to_owned(),
        }),
    }
}

/// Reads a built-in ladder by name or a file by path, and resolves it. Relative paths in a file are
/// relative to that file. Each runtime reads its own keys. Everything that can be wrong without
/// running anything is found here.
///
/// # Errors
/// [`LadderError`]: no such ladder, unknown keys (with the nearest known one), inheritance in a
/// circle, repeated or unusable names, files that are not there, criteria that cannot be read.
pub fn resolve_each(
    name: &str,
    given: &Given,
    runtimes: &Runtimes,
) -> Result<Resolved, LadderError> {
    let fail = |why: String| LadderError {
        place: name.to_owned(),
        why,
    };
    let (text, folder) = read(name).map_err(&fail)?;
    let ladder = file::File::parse(&text).map_err(&fail)?;
    if ladder.models.is_empty() {
        let none = BTreeMap::new();
        let one = resolved(name, ladder, ("", &none), &folder, given, runtimes);
        return one.map(|l| Resolved::One(Box::new(l))).map_err(&fail);
    }
    if given.model.is_some() {
        return Err(fail(
            "it has [models], one model file for each: leave --model out".to_owned(),
        ));
    }
    let each = ladder.models.iter().map(|(label, table)| {
        let file = models::file_of(label, table, &ladder)?;
        let stages = (label.as_str(), table.stages());
        let ladder = resolved(name, file, stages, &folder, given, runtimes)
            .map_err(|why| format!("[models.{label}]: {why}"))?;
        let (name, version) = table.of(label);
        Ok(OfModel {
            label: label.clone(),
            name,
            version,
            ladder,
        })
    });
    let each = each.collect::<Result<Vec<_>, _>>().map_err(&fail)?;
    models::apart(&each).map_err(&fail)?;
    Ok(Resolved::Each(each))
}

fn read(name: &str) -> Result<(String, PathBuf), String> {
    if let Some(text) = builtin::text(name) {
        return Ok((text.to_owned(), PathBuf::from(".")));
    }
    let path = Path::new(name);
    let text = std::fs::read_to_string(path).map_err(|e| {
        let known = BUILTIN.map(|(n, _)| n);
        format!(
            "cannot read it: {e}. Built-in ladders: {}{}",
            known.join(", "),
            hint(name, known.into_iter())
        )
    })?;
    let folder = path.parent().map_or_else(PathBuf::new, Path::to_path_buf);
    Ok((text, folder))
}

fn resolved(
    name: &str,
    ladder: file::File,
    (label, models): (&str, &BTreeMap<String, PathBuf>),
    folder: &Path,
    given: &Given,
    runtimes: &Runtimes,
) -> Result<Ladder, String> {
    let mut written = match &ladder.base {
        Some(base) => based(base)?,
        None => Vec::new(),
    };
    written.extend(ladder.stage);
    if written.is_empty() {
        return Err("it has no [[stage]]; the first one is the reference".to_owned());
    }
    names(&written)?;
    models::put_models(label, models, &mut written)?;
    let model = given.model.clone().or(ladder.model.map(|m| folder.join(m)));
    let mut stages = Vec::with_capacity(written.len());
    for one in &written {
        let flat = flatten(one, &written, &mut vec![one.name.clone()])?;
        let complete = stage::complete(one, flat, folder, model.as_deref(), runtimes);
        stages.push(complete.map_err(|why| format!("stage `{}`: {why}", one.name))?);
    }
    let labels = given.labels.clone().or(ladder.labels.map(|l| Labels {
        file: folder.join(l.file),
        key: l.key,
    }));
    let metrics = criteria::metrics(ladder.metric)?;
    Ok(Ladder {
        name: name.to_owned(),
        stages,
        metrics: if given.metrics.is_empty() {
            metrics
        } else {
            given.metrics.clone()
        },
        tolerance: criteria::tolerance(ladder.tolerance)?,
        labels: labels.map(criteria::labels).transpose()?,
    })
}

/// The stages of the built-in ladder that a file builds on.
fn based(base: &str) -> Result<Vec<file::Stage>, String> {
    let text = builtin::text(base).ok_or_else(|| {
        let known = BUILTIN.map(|(n, _)| n);
        format!(
            "base: there is no built-in ladder `{base}` (known: {}){}",
            known.join(", "),
            hint(base, known.into_iter())
        )
    })?;
    Ok(file::File::parse(text)?.stage)
}

fn names(stages: &[file::Stage]) -> Result<(), String> {
    let mut seen = HashSet::new();
    for stage in stages {
        let name = stage.name.as_str();
        folder_name("stage name", name)?;
        if !seen.insert(name) {
            return Err(format!(
                "two stages are called `{name}` (those of `base` count too)"
            ));
        }
    }
    Ok(())
}

/// A name that a folder of the run can have.
pub(super) fn folder_name(what: &str, name: &str) -> Result<(), String> {
    let usable = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    // A name of dots alone would leave the run's folder.
    if !name.chars().all(usable) || name.starts_with('.') || name.is_empty() {
        return Err(format!(
            "{what} `{name}` must be letters, digits, `.`, `_`, `-` and not begin with `.`: it names a \
             folder"
        ));
    }
    Ok(())
}

/// A stage with everything that it inherits, over any number of parents.
fn flatten(
    stage: &file::Stage,
    all: &[file::Stage],
    chain: &mut Vec<String>,
) -> Result<file::Stage, String> {
    let Some(parent) = &stage.inherits else {
        return Ok(stage.clone());
    };
    if chain.contains(parent) {
        chain.push(parent.clone());
        return Err(format!("stages inherit in a circle: {}", chain.join(" → ")));
    }
    let found = all.iter().find(|s| s.name == *parent).ok_or_else(|| {
        format!(
            "stage `{}` inherits from `{parent}`, which is not there{}",
            stage.name,
            hint(parent, all.iter().map(|s| s.name.as_str()))
        )
    })?;
    chain.push(parent.clone());
    let parent = flatten(found, all, chain)?;
    Ok(stage.clone().over(&parent))
}

#[cfg(test)]
mod tests;
