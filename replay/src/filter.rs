//! `--where`: conditions that an exchange must meet, `KEY OP VALUE`.
//!
//! | key | compares | operators |
//! |---|---|---|
//! | `model`, `model_version` (`version`), `protocol`, `outcome`, `method`, `path`, `recorder`, `client_request_id` (`id`), `sequence_id`, `header:NAME`, `response_header:NAME` | text | `=` `!=` `~` (contains) |
//! | `status`, `grpc_status`, `seq` | a number; `status` also `5xx` | `=` `!=` `<` `<=` `>` `>=` |
//! | `time` (`arrived_at`) | RFC 3339, or a date (its midnight, UTC) | `<` `<=` `>` `>=` |
//!
//! What an exchange does not have equals nothing and contains nothing.

use std::borrow::Cow;
use std::cmp::Ordering;

use inferdiff_schemas::Exchange;

const TEXT: [&str; 9] = [
    "model",
    "model_version",
    "protocol",
    "outcome",
    "method",
    "path",
    "recorder",
    "client_request_id",
    "sequence_id",
];
const NUMBER: [&str; 3] = ["status", "grpc_status", "seq"];
const HEADERS: [&str; 2] = ["header:", "response_header:"];

/// One condition.
#[derive(Debug, Clone, PartialEq)]
pub struct Condition {
    key: String,
    operator: Operator,
    value: Value,
    text: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operator {
    Equal,
    Unequal,
    Contains,
    Less,
    AtMost,
    Greater,
    AtLeast,
}

#[derive(Debug, Clone, PartialEq)]
enum Value {
    Text(String),
    /// From, to (both inside): one number, or the hundred of `5xx`.
    Number(i128, i128),
}

impl Condition {
    /// Reads a condition.
    ///
    /// # Errors
    /// A sentence: no operator, an unknown key (with the nearest known one), an operator that the key
    /// does not have, a value that is none.
    pub fn parse(text: &str) -> Result<Self, String> {
        let fail = |why: String| format!("--where {text}: {why}");
        let at = text.find(['=', '!', '<', '>', '~']).ok_or_else(|| {
            fail("it has no operator; write KEY=VALUE, for example status=200".to_owned())
        })?;
        let (key, rest) = text.split_at(at);
        let operators = [
            ("!=", Operator::Unequal),
            ("<=", Operator::AtMost),
            (">=", Operator::AtLeast),
            ("=", Operator::Equal),
            ("<", Operator::Less),
            (">", Operator::Greater),
            ("~", Operator::Contains),
        ];
        let found = operators
            .iter()
            .find_map(|(sign, operator)| Some((*operator, rest.strip_prefix(sign)?)));
        let (operator, value) =
            found.ok_or_else(|| fail("`!` alone is no operator; there is `!=`".to_owned()))?;
        let (key, value) = (canonical(key.trim()), value.trim());
        let ordered = matches!(
            operator,
            Operator::Less | Operator::AtMost | Operator::Greater | Operator::AtLeast
        );
        let parsed = if key == "time" {
            if !ordered {
                return Err(fail("`time` has <, <=, > and >=".to_owned()));
            }
            let ns = time(value).map_err(fail)?;
            Value::Number(ns, ns)
        } else if NUMBER.contains(&&*key) {
            if operator == Operator::Contains {
                return Err(fail(format!("`{key}` is a number: it contains nothing")));
            }
            number(&key, value).map_err(fail)?
        } else if TEXT.contains(&&*key) || HEADERS.iter().any(|h| key.starts_with(h)) {
            if ordered {
                return Err(fail(format!("`{key}` is a text: it has =, != and ~")));
            }
            Value::Text(value.to_owned())
        } else {
            let known = TEXT.iter().chain(&NUMBER).chain(&HEADERS).copied();
            let known: Vec<_> = known.chain(["time"]).collect();
            let near = crate::ladder::hint(&key, known.iter().copied());
            return Err(fail(format!(
                "there is no key `{key}` (known: {}){near}",
                known.join(", ")
            )));
        };
        Ok(Self {
            key: key.into_owned(),
            operator,
            value: parsed,
            text: text.to_owned(),
        })
    }

    /// The condition as it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// True where the exchange meets it. Reads keys only, no tensor.
    pub fn holds(&self, e: &Exchange) -> bool {
        match &self.value {
            Value::Text(wanted) => {
                let found = field(e, &self.key);
                match self.operator {
                    Operator::Unequal => found.is_none_or(|f| f != *wanted),
                    Operator::Contains => found.is_some_and(|f| f.contains(wanted)),
                    _ => found.is_some_and(|f| f == *wanted),
                }
            }
            Value::Number(from, to) => {
                let Some(n) = quantity(e, &self.key) else {
                    return self.operator == Operator::Unequal;
                };
                let place = if n < *from {
                    Ordering::Less
                } else if n > *to {
                    Ordering::Greater
                } else {
                    Ordering::Equal
                };
                match self.operator {
                    Operator::Equal | Operator::Contains => place.is_eq(),
                    Operator::Unequal => place.is_ne(),
                    Operator::Less => place.is_lt(),
                    Operator::AtMost => place.is_le(),
                    Operator::Greater => place.is_gt(),
                    Operator::AtLeast => place.is_ge(),
                }
            }
        }
    }
}

fn canonical(key: &str) -> Cow<'_, str> {
    match key {
        "version" => "model_version".into(),
        "id" => "client_request_id".into(),
        "arrived_at" => "time".into(),
        other => other.into(),
    }
}

fn number(key: &str, value: &str) -> Result<Value, String> {
    if key == "status"
        && let Some(hundred) = value.strip_suffix("xx")
        && let Ok(n @ 1..=9) = hundred.parse::<i128>()
    {
        return Ok(Value::Number(100 * n, 100 * n + 99));
    }
    let n = value
        .parse()
        .map_err(|_| format!("`{value}` is no whole number"))?;
    Ok(Value::Number(n, n))
}

/// ns since the Unix epoch.
fn time(value: &str) -> Result<i128, String> {
    let instant = value.parse::<jiff::Timestamp>();
    let midnight = || {
        let date = value.parse::<jiff::civil::Date>().ok()?;
        let start = date.to_datetime(jiff::civil::Time::midnight());
        jiff::tz::TimeZone::UTC.to_timestamp(start).ok()
    };
    match instant.ok().or_else(midnight) {
        Some(t) => Ok(t.as_nanosecond()),
        None => Err(format!(
            "`{value}` is no time; write 2026-01-31T12:00:00Z or 2026-01-31"
        )),
    }
}

fn field<'a>(e: &'a Exchange, key: &str) -> Option<Cow<'a, str>> {
    let header = |fields: &'a [(String, String)], name: &str| {
        let found = fields.iter().find(|(n, _)| n.eq_ignore_ascii_case(name));
        found.map(|(_, v)| Cow::Borrowed(v.as_str()))
    };
    if let Some(name) = key.strip_prefix("header:") {
        return header(&e.request_headers, name);
    }
    if let Some(name) = key.strip_prefix("response_header:") {
        return header(&e.response_headers, name);
    }
    let owned = match key {
        "model" => &e.model,
        "model_version" => &e.model_version,
        "client_request_id" => &e.client_request_id,
        "sequence_id" => &e.sequence_id,
        "protocol" => return Some(Cow::Borrowed(&e.protocol)),
        "method" => return Some(Cow::Borrowed(&e.method)),
        "path" => return Some(Cow::Borrowed(&e.path)),
        "outcome" => return Some(Cow::Borrowed(e.outcome.name())),
        "recorder" => return Some(Cow::Owned(e.recorder.to_string())),
        _ => return None,
    };
    owned.as_deref().map(Cow::Borrowed)
}

fn quantity(e: &Exchange, key: &str) -> Option<i128> {
    match key {
        "status" => e.status.map(i128::from),
        "grpc_status" => e.grpc_status.map(i128::from),
        "seq" => Some(e.seq.into()),
        "time" => Some(e.arrived_at_ns.into()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use ulid::Ulid;

    use super::*;

    fn exchange() -> Exchange {
        Exchange {
            model: Some("digits".into()),
            model_version: Some("3".into()),
            status: Some(503),
            // 2026-01-31T12:00:00Z
            arrived_at_ns: 1_769_860_800_000_000_000,
            request_headers: vec![("X-Tenant".into(), "blue=1".into())],
            ..Exchange::new(Ulid::nil(), 41)
        }
    }

    #[test]
    fn each_operator_says_what_it_says() {
        let e = exchange();
        let holds = |text: &str| Condition::parse(text).unwrap().holds(&e);
        for yes in [
            "model=digits",
            "version=3",
            "model!=other",
            "model~git",
            "status=503",
            "status=5xx",
            "status!=2xx",
            "status>=500",
            "status<504",
            "seq>40",
            "seq<=41",
            "time>=2026-01-31",
            "time<2026-01-31T12:00:01+00:00",
            "header:x-tenant=blue=1",
            "header:absent!=x",
            "outcome=complete",
            "id!=7",
        ] {
            assert!(holds(yes), "{yes}");
        }
        for no in [
            "model=Digits",
            "version!=3",
            "model~x",
            "status=2xx",
            "status>503",
            "grpc_status=0",
            "time>2026-01-31T12:00:00Z",
            "header:absent~x",
            "sequence_id=1",
        ] {
            assert!(!holds(no), "{no}");
        }
    }

    #[test]
    fn what_cannot_be_meant_is_refused_in_words() {
        let why = |text: &str| Condition::parse(text).unwrap_err();
        assert!(why("digits").contains("KEY=VALUE"));
        assert!(why("modle=digits").contains("did you mean `model`?"));
        assert!(why("model>3").contains("is a text"));
        assert!(why("status~5").contains("is a number"));
        assert!(why("status=ok").contains("no whole number"));
        assert!(why("time=2026-01-31").contains("<, <=, > and >="));
        assert!(why("time>yesterday").contains("no time"));
        assert!(why("model!digits").contains("!="));
    }
}
