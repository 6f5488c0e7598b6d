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

/// Rewrites serde's "unknown field" message so that it names the nearest known key.
pub(super) fn with_hint(message: &str) -> String {
    let mut quoted = message.split('`').skip(1).step_by(2);
    if !message.contains("unknown field") && !message.contains("unknown variant") {
        return message.to_owned();
    }
    let Some(unknown) = quoted.next() else {
        return message.to_owned();
    };
    match nearest(unknown, quoted) {
        Some(near) => format!("{}\ndid you mean `{near}`?", message.trim_end()),
        None => message.to_owned(),
    }
}
