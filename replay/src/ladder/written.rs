//! A stage's own keys on their way into its runtime.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde_json::Map;

use super::{criteria, suggest};

/// One key as written.
#[derive(Debug, Clone)]
pub(super) struct Key {
    /// Line of the text that it stands in, from 1.
    pub line: usize,
    pub value: toml::Value,
}

/// Keys by name.
#[derive(Debug, Clone, Default)]
pub(super) struct Keys(pub BTreeMap<String, Key>);

impl Keys {
    /// Takes a key out; `None` where nobody said it.
    pub fn take<T: DeserializeOwned>(&mut self, key: &str) -> Result<Option<T>, String> {
        let Some(written) = self.0.remove(key) else {
            return Ok(None);
        };
        let read: Result<T, toml::de::Error> = T::deserialize(written.value);
        read.map(Some).map_err(|e| {
            let why = suggest::with_hint(e.message());
            format!("line {}: `{key}`: {why}", written.line)
        })
    }
}

/// The keys of a stage that its runtime reads, inherited ones included. A runtime takes each by
/// name; that it takes all of them is checked afterwards.
#[derive(Debug)]
pub struct Written<'a> {
    pub(super) keys: Keys,
    /// Relative paths begin here.
    pub(super) folder: &'a Path,
    /// Model of stages that name none.
    pub(super) model: Option<&'a Path>,
}

impl Written<'_> {
    /// Takes a key out; `None` where nobody said it.
    ///
    /// # Errors
    /// A value of another kind, in words, with its line and the nearest known name.
    pub fn take<T: DeserializeOwned>(&mut self, key: &str) -> Result<Option<T>, String> {
        self.keys.take(key)
    }

    /// A path inside a value, made relative to the ladder's file.
    pub fn at(&self, path: &Path) -> PathBuf {
        self.folder.join(path)
    }

    /// Takes a path out, made relative to the ladder's file; nothing is looked at.
    ///
    /// # Errors
    /// As [`Self::take`].
    pub fn path(&mut self, key: &str) -> Result<Option<PathBuf>, String> {
        let path: Option<PathBuf> = self.take(key)?;
        Ok(path.map(|p| self.folder.join(p)))
    }

    /// Takes the path of a file out, absolute; it must be there.
    ///
    /// # Errors
    /// As [`Self::take`]; there is no such file.
    pub fn file(&mut self, key: &str) -> Result<Option<PathBuf>, String> {
        let path = self.path(key)?;
        path.map(|p| criteria::existing(key, &p)).transpose()
    }

    /// The path of the stage's model: its own `model`, else the ladder's, else `--model`'s; nothing
    /// is looked at.
    ///
    /// # Errors
    /// There is none.
    pub fn model_path(&mut self) -> Result<PathBuf, String> {
        let own = self.path("model")?;
        own.or(self.model.map(Path::to_path_buf))
            .ok_or_else(|| "it has no model: give --model FILE or write model = \"…\"".to_owned())
    }

    /// The stage's model, absolute, which must be a file.
    ///
    /// # Errors
    /// There is none, or no such file.
    pub fn model(&mut self) -> Result<PathBuf, String> {
        let path = self.model_path()?;
        criteria::existing("model", &path)
    }
}

/// What a runtime made of a stage's keys.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Completed {
    /// Model, absolute, where the runtime has one.
    pub model: Option<PathBuf>,
    /// Files whose bytes decide what the stage answers, absolute, the model's among them.
    pub files: Vec<PathBuf>,
    /// The runtime's options, complete.
    pub options: Map<String, serde_json::Value>,
}
