//! "Did you mean": the nearest known name.

/// The known name nearest to `name`, if one is near enough to be a slip.
pub fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    known
        .map(|k| {
            (
                strsim::jaro_winkler(&name.to_lowercase(), &k.to_lowercase()),
                k,
            )
        })
        .filter(|(score, _)| *score > 0.75)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, k)| k)
}

/// `; did you mean …?`, or nothing.
pub(crate) fn hint<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> String {
    nearest(name, known).map_or_else(String::new, |n| format!("; did you mean `{n}`?"))
}

/// Rewrites serde's "unknown field `x`, expected one of `a`, `b`" so that it names the nearest.
pub(super) fn with_hint(message: &str) -> String {
    let message = message.trim_end();
    let kind = ["unknown field", "unknown variant"]
        .into_iter()
        .find(|kind| message.starts_with(kind));
    let mut quoted = message.split('`').skip(1).step_by(2);
    let (Some(kind), Some(unknown)) = (kind, quoted.next()) else {
        return message.to_owned();
    };
    let known: Vec<&str> = quoted.collect();
    let what = if kind == "unknown field" {
        "key"
    } else {
        "value"
    };
    format!(
        "unknown {what} `{unknown}` (known here: {}){}",
        known.join(", "),
        hint(unknown, known.iter().copied())
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_find_their_word_and_strangers_find_none() {
        let known = ["graph_optimization", "prepacking", "threads"];
        let near = |name| nearest(name, known.into_iter());
        assert_eq!(near("graph_optimisation"), Some("graph_optimization"));
        assert_eq!(near("Prepack"), Some("prepacking"));
        assert_eq!(near("xyzzy"), None);
    }

    #[test]
    fn messages_of_another_kind_are_left_alone() {
        assert_eq!(with_hint("missing field `name`"), "missing field `name`");
        let told = with_hint("unknown field `nmae`, expected `name`");
        assert_eq!(
            told,
            "unknown key `nmae` (known here: name); did you mean `name`?"
        );
    }
}
