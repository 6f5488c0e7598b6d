//! Tables of options for somebody else's keys.
//!
//! Runtimes take text for everything and have dots in their keys. TOML has numbers and booleans and
//! reads a bare dotted key as a nested table, so that `session.set_denormal_as_zero = true` written
//! without quotes must mean what it says.

use std::collections::BTreeMap;

use serde::de::Error;
use serde::{Deserialize, Deserializer};

/// Key → text. Nested tables are joined with dots, booleans are "1" and "0".
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Flat(pub BTreeMap<String, String>);

/// For fields of a runtime's own types.
///
/// # Errors
/// Values that are neither text nor numbers nor booleans, keys that are there twice.
pub(crate) fn flat<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<BTreeMap<String, String>, D::Error> {
    Flat::deserialize(deserializer).map(|flat| flat.0)
}

impl<'de> Deserialize<'de> for Flat {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let table = toml::Table::deserialize(deserializer)?;
        let mut flat = BTreeMap::new();
        flatten("", table, &mut flat).map_err(D::Error::custom)?;
        Ok(Self(flat))
    }
}

fn flatten(
    prefix: &str,
    table: toml::Table,
    flat: &mut BTreeMap<String, String>,
) -> Result<(), String> {
    for (key, value) in table {
        let key = format!("{prefix}{key}");
        let text = match value {
            toml::Value::Table(inner) => {
                flatten(&format!("{key}."), inner, flat)?;
                continue;
            }
            toml::Value::String(text) => text,
            toml::Value::Integer(n) => n.to_string(),
            toml::Value::Float(n) => n.to_string(),
            toml::Value::Boolean(on) => if on { "1" } else { "0" }.to_owned(),
            other => {
                return Err(format!(
                    "`{key}` is a {}; options are text, numbers or booleans",
                    other.type_str()
                ));
            }
        };
        if flat.insert(key.clone(), text).is_some() {
            return Err(format!("`{key}` is there twice"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flat(text: &str) -> Result<Vec<(String, String)>, String> {
        let flat: Result<Flat, _> = toml::from_str(text);
        flat.map(|f| f.0.into_iter().collect())
            .map_err(|e| e.message().to_owned())
    }

    #[test]
    fn bare_dotted_keys_and_plain_values_mean_what_they_say() {
        let text = "a.b.c = true\n\"a.b.d\" = \"x\"\na.e = 3\nf = 0.5\n";
        let pair = |k: &str, v: &str| (k.to_owned(), v.to_owned());
        assert_eq!(
            flat(text).unwrap(),
            [
                pair("a.b.c", "1"),
                pair("a.b.d", "x"),
                pair("a.e", "3"),
                pair("f", "0.5")
            ]
        );
        assert!(flat("a = [1]\n").unwrap_err().contains("`a` is a array"));
        assert!(
            flat("a.b = 1\n\"a.b\" = 2\n")
                .unwrap_err()
                .contains("twice")
        );
    }
}
