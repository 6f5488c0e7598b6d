//! Header fields as they were sent, in one piece of memory.

use std::ops::Range;

/// Names keep their case; values may be any bytes; order and repetition are kept.
///
/// Made on the proxy's thread and dropped on the recorder's, for every exchange: a text and a list of
/// places in it, whatever the number of fields.
#[derive(Clone, Default)]
pub struct Headers {
    text: Vec<u8>,
    fields: Vec<Place>,
}

#[derive(Clone, Copy)]
struct Place {
    name: [u32; 2],
    value: [u32; 2],
}

impl Headers {
    /// The fields whose names and values stand in `text` at these places. A place beyond its end, or
    /// beyond 4 GiB, is none.
    pub fn within(
        text: Vec<u8>,
        places: impl IntoIterator<Item = (Range<usize>, Range<usize>)>,
    ) -> Self {
        let end = text.len();
        let ends = |r: Range<usize>| {
            let valid = r.start <= r.end && r.end <= end;
            let start = u32::try_from(r.start).ok().filter(|_| valid)?;
            Some([start, u32::try_from(r.end).ok()?])
        };
        let fields = places.into_iter().filter_map(|(name, value)| {
            let (name, value) = (ends(name)?, ends(value)?);
            Some(Place { name, value })
        });
        Self {
            fields: fields.collect(),
            text,
        }
    }

    /// None yet, and memory for so many fields and the bytes of their names and values.
    pub fn with_capacity(fields: usize, bytes: usize) -> Self {
        Self {
            text: Vec::with_capacity(bytes),
            fields: Vec::with_capacity(fields),
        }
    }

    /// Appends a field. One that would end beyond 4 GiB is passed over.
    pub fn push(&mut self, name: &str, value: &[u8]) {
        let at = |n: usize| u32::try_from(n);
        let start = self.text.len();
        let middle = start + name.len();
        let (Ok(start), Ok(middle), Ok(end)) = (at(start), at(middle), at(middle + value.len()))
        else {
            return;
        };
        self.text.extend_from_slice(name.as_bytes());
        self.text.extend_from_slice(value);
        self.fields.push(Place {
            name: [start, middle],
            value: [middle, end],
        });
    }

    fn bytes(&self, [start, end]: [u32; 2]) -> &[u8] {
        let text = self.text.get(start as usize..end as usize);
        text.expect("every place was inside the text when it was taken")
    }

    /// Names and values in their order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.fields.iter().map(|field| {
            // A name that is no text matches no other.
            let name = std::str::from_utf8(self.bytes(field.name)).unwrap_or_default();
            (name, self.bytes(field.value))
        })
    }

    /// The first field of that name, ASCII case ignored, without surrounding white space, if it is
    /// valid UTF-8.
    pub fn get(&self, name: &str) -> Option<&str> {
        let wanted = |f: &&Place| self.bytes(f.name).eq_ignore_ascii_case(name.as_bytes());
        let field = self.fields.iter().find(wanted)?;
        let value = std::str::from_utf8(self.bytes(field.value)).ok()?;
        Some(value.trim_ascii())
    }

    /// Number of fields.
    pub fn len(&self) -> usize {
        self.fields.len()
    }

    /// Without fields.
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    /// Bytes of memory that they take.
    pub fn held(&self) -> usize {
        self.text.capacity() + self.fields.capacity() * size_of::<Place>()
    }
}

impl<N: AsRef<str>, V: AsRef<[u8]>> FromIterator<(N, V)> for Headers {
    fn from_iter<T: IntoIterator<Item = (N, V)>>(fields: T) -> Self {
        let mut headers = Self::default();
        for (name, value) in fields {
            headers.push(name.as_ref(), value.as_ref());
        }
        headers
    }
}

impl PartialEq for Headers {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl std::fmt::Debug for Headers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let shown = self.iter().map(|(n, v)| (n, String::from_utf8_lossy(v)));
        f.debug_list().entries(shown).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_come_back_as_they_were() {
        let text = b"POST / HTTP/1.1\r\nA: x\r\nb:\xff\r\n".to_vec();
        let taken = Headers::within(text, [(17..18, 20..21), (23..24, 25..26), (1..2, 30..99)]);
        let pushed: Headers = [("A", &b"x"[..]), ("b", &b"\xff"[..])]
            .into_iter()
            .collect();
        assert_eq!(taken, pushed);
        assert_eq!(
            (taken.len(), taken.get("a"), taken.get("b")),
            (2, Some("x"), None)
        );
        assert_ne!(taken, Headers::default());
        assert!(format!("{taken:?}").contains("\"A\""));
    }
}
