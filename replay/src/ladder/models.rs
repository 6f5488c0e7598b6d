//! `[models]`: one ladder for each model of a capture that holds several.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use inferdiff_schemas::run::ladder::Ladder;
use serde::Deserialize;

use super::file::{File, Metric, Stage};
use super::hint;
use super::resolve::folder_name;
use super::written::Key;

/// `[models.LABEL]` as written.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Table {
    /// The model as the capture names it; the label where nobody says.
    name: Option<String>,
    /// Its version; any where nobody says.
    version: Option<String>,
    /// Model of stages that name none.
    model: Option<PathBuf>,
    /// Models of stages by the stage's name, in place of their own.
    #[serde(default)]
    stages: BTreeMap<String, PathBuf>,
    /// In place of the ladder's.
    metric: Option<Vec<Metric>>,
}

/// One model of a capture and the ladder that it goes down.
#[derive(Debug, Clone, PartialEq)]
pub struct OfModel {
    /// Names the folder of its run.
    pub label: String,
    /// The model as the capture names it.
    pub name: String,
    /// Only this version; `None` = any.
    pub version: Option<String>,
    /// Its ladder.
    pub ladder: Ladder,
}

/// What a ladder file says.
#[derive(Debug, Clone, PartialEq)]
pub enum Resolved {
    /// One ladder for the one model of a capture.
    One(Box<Ladder>),
    /// `[models]`: one for each.
    Each(Vec<OfModel>),
}

/// The file as it is for one model.
pub(super) fn file_of(label: &str, table: &Table, all: &File) -> Result<File, String> {
    folder_name("[models] label", label)?;
    let mut file = File {
        models: BTreeMap::new(),
        ..all.clone()
    };
    file.model = table.model.clone().or(file.model);
    if let Some(metric) = &table.metric {
        file.metric = metric.clone();
    }
    Ok(file)
}

/// Puts the models that `[models.LABEL.stages]` names into their stages.
pub(super) fn put_models(
    label: &str,
    models: &BTreeMap<String, PathBuf>,
    stages: &mut [Stage],
) -> Result<(), String> {
    for (name, model) in models {
        let Some(stage) = stages.iter_mut().find(|s| s.name == *name) else {
            let near = hint(name, stages.iter().map(|s| s.name.as_str()));
            return Err(format!(
                "[models.{label}.stages]: there is no stage `{name}`{near}"
            ));
        };
        let value = toml::Value::String(path_text(model)?);
        stage.own.insert("model".to_owned(), Key { line: 0, value });
    }
    Ok(())
}

fn path_text(path: &Path) -> Result<String, String> {
    let text = path.to_str();
    text.map(str::to_owned)
        .ok_or_else(|| format!("{} is no UTF-8", path.display()))
}

impl Table {
    pub(super) fn stages(&self) -> &BTreeMap<String, PathBuf> {
        &self.stages
    }

    /// Which exchanges are its: model and version.
    pub(super) fn of(&self, label: &str) -> (String, Option<String>) {
        let name = self.name.clone().unwrap_or_else(|| label.to_owned());
        (name, self.version.clone())
    }
}

/// Two tables must not claim the same exchanges.
pub(super) fn apart(each: &[OfModel]) -> Result<(), String> {
    for (i, one) in each.iter().enumerate() {
        for other in &each[..i] {
            let versions = [&one.version, &other.version];
            let overlap = versions.contains(&&None) || one.version == other.version;
            if one.name == other.name && overlap {
                return Err(format!(
                    "[models]: `{}` and `{}` both claim model `{}`: give each a `version` of its own",
                    other.label, one.label, one.name
                ));
            }
        }
    }
    Ok(())
}
