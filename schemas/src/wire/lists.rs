//! Lists of numbers, taken out of a JSON text before the general parser reads it: it would look at
//! each of their bytes only to find their ends.

use std::sync::LazyLock;

use memchr::memmem::Finder;
use smallvec::SmallVec;

/// A text without its lists.
pub(super) struct Without<'t> {
    /// The text, in which each list that was taken out is an empty string.
    pub rest: String,
    /// Where those stand in `rest`, and the lists, in order.
    taken: SmallVec<[(usize, &'t str); 4]>,
}

/// What stands in the place of a list. Nothing that could follow a value goes on with a string, so a text
/// that was no JSON does not become JSON.
const MARK: &str = "\"\"";

/// A shorter list is read sooner than taken out.
const WORTH_IT: usize = 64;

static KEY: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new("\"data\""));

impl<'t> Without<'t> {
    /// Takes out what stands behind each key `data` and is as a long list without strings; `None` where
    /// there is no such thing. What is taken out need not be JSON, nor a list of numbers.
    ///
    /// In JSON the bytes `"data"` are a string of their own, unless the first quote is escaped: an
    /// unescaped one that ended a string could not be followed by a letter.
    pub fn new(text: &'t str) -> Option<Self> {
        let bytes = text.as_bytes();
        let mut without = Self {
            rest: String::new(),
            taken: SmallVec::new(),
        };
        let (mut copied, mut at) = (0, 0);
        while let Some(found) = KEY.find(&bytes[at..]) {
            let key = at + found;
            at = key + 6;
            if key > 0 && bytes[key - 1] == b'\\' {
                continue;
            }
            let Some(start) = skip(bytes, at, b':').and_then(|i| skip(bytes, i, b'[')) else {
                continue;
            };
            let start = start - 1;
            let Some(end) = end(bytes, start).filter(|end| end - start >= WORTH_IT) else {
                continue;
            };
            if without.taken.is_empty() {
                without
                    .rest
                    .reserve(text.len() - (end - start) + MARK.len());
            }
            without.rest.push_str(&text[copied..start]);
            let place = without.rest.len();
            without.taken.push((place, &text[start..end]));
            without.rest.push_str(MARK);
            (copied, at) = (end, end);
        }
        if without.taken.is_empty() {
            return None;
        }
        without.rest.push_str(&text[copied..]);
        Some(without)
    }

    /// How many lists there are.
    pub fn len(&self) -> usize {
        self.taken.len()
    }

    /// The list number `index` if `value`, a part of `rest`, is what stands for it.
    pub fn list(&self, index: usize, value: &str) -> Option<&'t str> {
        let &(place, list) = self.taken.get(index)?;
        let is_it = value.as_ptr().addr() == self.rest.as_ptr().addr() + place && value == MARK;
        is_it.then_some(list)
    }
}

/// The place behind `wanted`, if it comes next but for white space.
fn skip(bytes: &[u8], mut at: usize, wanted: u8) -> Option<usize> {
    while let Some(b' ' | b'\n' | b'\r' | b'\t') = bytes.get(at) {
        at += 1;
    }
    (bytes.get(at) == Some(&wanted)).then_some(at + 1)
}

/// The end of the list that begins at `start`, if no string comes before it.
fn end(bytes: &[u8], start: usize) -> Option<usize> {
    let mut depth = 0usize;
    for at in memchr::memchr3_iter(b'[', b']', b'"', &bytes[start..]) {
        match bytes[start + at] {
            b'[' => depth += 1,
            b']' if depth == 1 => return Some(start + at + 1),
            b']' => depth -= 1,
            _ => return None,
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A list's text, long enough, that holds `head`.
    fn long(head: &str) -> String {
        format!("[{head},{}]", vec!["1"; WORTH_IT / 2].join(","))
    }

    #[test]
    fn lists_behind_the_key_are_taken_out_and_nothing_else() {
        let (one, two) = (long("7"), long("[8],[9]"));
        for (text, rest, taken) in [
            (r#"{"data":ONE}"#, r#"{"data":""}"#, &[&one][..]),
            (
                "{\"data\" : \nTWO , \"data\":ONE}",
                "{\"data\" : \n\"\" , \"data\":\"\"}",
                &[&two, &one],
            ),
            (r#"{"data":[1]}"#, "", &[]),
            (r#"{"name":"data","x":ONE}"#, "", &[]),
            (r#"{"data":["a",ONE]}"#, "", &[]),
            (r#"{"data":7,"x":ONE}"#, "", &[]),
            (r#"{"say \"data":ONE}"#, "", &[]),
            (r#"{"data":[ONE"#, "", &[]),
            (r#"{"data":ONE5}"#, r#"{"data":""5}"#, &[&one]),
            ("", "", &[]),
        ] {
            let text = &text.replace("ONE", &one).replace("TWO", &two);
            let without = Without::new(text);
            let lists = without.iter().flat_map(|w| &w.taken).map(|(_, list)| *list);
            assert!(lists.eq(taken.iter().copied()), "{text}");
            assert_eq!(without.map_or_else(String::new, |w| w.rest), rest, "{text}");
        }
    }

    #[test]
    fn only_its_own_place_stands_for_a_list() {
        let list = long("7");
        let text = format!(r#"{{"a":"","data":{list}}}"#);
        let without = Without::new(&text).unwrap();
        let marks: Vec<_> = without.rest.match_indices(MARK).collect();
        let (other, own) = (marks[0].0, marks[1].0);
        let part = |at: usize, length: usize| &without.rest[at..at + length];
        assert_eq!(without.list(0, part(own, 2)), Some(&*list));
        assert_eq!(without.list(0, part(own, 3)), None);
        assert_eq!(without.list(0, part(other, 2)), None);
        assert_eq!(without.list(1, part(own, 2)), None);
    }
}
