//! The fields of one JSON object: those that are known are taken, the rest is kept as it came.

use std::borrow::Cow;
use std::fmt;

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::array::{Element, Flaw};
use crate::chat::name;
use crate::journal::stamp::{self, Stamp};

/// Bytes of what no field of ours can hold, at most, of one element.
pub const SOURCE_BYTES: usize = 256 << 10;

/// The fields of an object in order, with their values' text.
#[derive(Default)]
pub struct Fields<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de> Deserialize<'de> for Fields<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pairs;
        impl<'de> Visitor<'de> for Pairs {
            type Value = Fields<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut fields = Vec::with_capacity(8);
                while let Some(Key(key)) = map.next_key()? {
                    fields.push((key, map.next_value()?));
                }
                Ok(Fields(fields))
            }
        }
        deserializer.deserialize_map(Pairs)
    }
}

/// Borrowed where nothing in it is escaped.
#[derive(Deserialize)]
struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'a> Fields<'a> {
    /// Reads an element.
    ///
    /// # Errors
    /// It is no object, or not UTF-8; the flaw names the byte.
    pub fn read(element: Element<'a>) -> Result<Fields<'a>, Flaw> {
        let Element { bytes, byte, number } = element;
        let flaw = |at: usize, what: String| Flaw { byte: byte + at as u64, number, what };
        let text =
            std::str::from_utf8(bytes).map_err(|error| flaw(error.valid_up_to(), "not UTF-8".to_owned()))?;
        serde_json::from_str(text).map_err(|error| {
            let before: usize =
                text.split_inclusive('\n').take(error.line().saturating_sub(1)).map(str::len).sum();
            let at = (before + error.column().saturating_sub(1)).min(text.len());
            let what = error.to_string();
            let what = what.split(" at line ").next().unwrap_or_default().to_owned();
            flaw(if error.is_data() { 0 } else { at }, what)
        })
    }

    /// A field; of several of one name the last, as everywhere in JSON.
    pub fn take(&mut self, name: &str) -> Option<&'a RawValue> {
        let mut found = None;
        self.0.retain(|(key, value)| {
            let hit = key == name;
            if hit {
                found = Some(*value);
            }
            !hit
        });
        found
    }

    /// Keeps what the original says in a field that says nothing to us (`null`, an empty text) and so would be
    /// lost.
    pub fn keep_empty(&self, name: &str, source: &mut Source) {
        let said = self.0.iter().rfind(|(key, _)| key == name);
        if let Some((_, value)) = said.filter(|(_, value)| matches!(value.get(), "null" | "\"\"")) {
            source.add(name, value.get());
        }
    }

    /// The fields of an object's text.
    ///
    /// # Errors
    /// It is no object.
    pub fn parse(text: &'a str) -> Result<Fields<'a>, serde_json::Error> {
        serde_json::from_str(text)
    }

    /// What is left, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &'a str)> {
        self.0.iter().map(|(key, value)| (&**key, value.get()))
    }

    /// A text that must be there.
    pub fn text(&mut self, name: &str) -> Result<Cow<'a, str>, String> {
        let value = self.take(name).ok_or_else(|| format!("{name} is missing"))?;
        text(value).ok_or_else(|| format!("{name} must be a string"))
    }

    /// A user's name, composed, that must be there; another spelling goes to `source`.
    pub fn name(&mut self, field: &str, source: &mut Source) -> Result<Cow<'a, str>, String> {
        let value = self.take(field).ok_or_else(|| format!("{field} is missing"))?;
        let spelt = text(value).ok_or_else(|| format!("{field} must be a string"))?;
        match name::composed(&spelt) {
            Cow::Borrowed(_) => Ok(spelt),
            Cow::Owned(composed) => {
                source.add(field, value.get());
                Ok(Cow::Owned(composed))
            }
        }
    }

    /// A text that may be missing or null.
    pub fn optional_text(&mut self, name: &str) -> Result<Option<Cow<'a, str>>, String> {
        match self.take(name) {
            None => Ok(None),
            Some(value) if value.get() == "null" => Ok(None),
            Some(value) => text(value).map(Some).ok_or_else(|| format!("{name} must be a string")),
        }
    }

    /// A time that must be there, in Unix milliseconds: RFC 3339, or a number of such milliseconds. Its
    /// text goes to `source` unless it is what the log's spelling of it says, or of `implied`, if that is
    /// given: the time that stands for it where there is nothing in `source`.
    pub fn time(
        &mut self,
        name: &str,
        implied: Option<i64>,
        stamp: &mut Stamp,
        source: &mut Source,
    ) -> Result<i64, String> {
        let value = self.take(name).ok_or_else(|| format!("{name} is missing"))?;
        let text = text(value);
        let ms = match &text {
            Some(text) => stamp::parse(text),
            None => value.get().parse().ok(),
        };
        let bad = || format!("{name} is not a time");
        let ms = ms.ok_or_else(bad)?;
        let spelt = stamp.text(ms);
        if stamp::parse(spelt) != Some(ms) {
            return Err(bad()); // Outside the years 0 to 9999.
        }
        let same = text.as_deref() == Some(spelt) && implied.is_none_or(|implied| implied == ms);
        if !same {
            source.add(name, value.get());
        }
        Ok(ms)
    }

    /// The rest, added to what is kept of the original.
    pub fn rest(self, mut source: Source) -> Result<Option<String>, String> {
        for (key, value) in self.0 {
            source.add(&key, value.get());
        }
        source.finish()
    }
}

/// The text of a string; `None`: it is something else.
pub fn text(value: &RawValue) -> Option<Cow<'_, str>> {
    let inside = value.get().strip_prefix('"')?.strip_suffix('"')?;
    if inside.contains('\\') {
        serde_json::from_str(value.get()).ok().map(Cow::Owned)
    } else {
        Some(Cow::Borrowed(inside))
    }
}

/// What is kept of an original beside its record: the text of a JSON object.
#[derive(Default)]
pub struct Source(String);

impl Source {
    /// Adds a field with its value's text.
    pub fn add(&mut self, key: &str, value: &str) {
        self.0.push(if self.0.is_empty() { '{' } else { ',' });
        // Text is always written as JSON.
        self.0.push_str(&serde_json::to_string(key).unwrap_or_default());
        self.0.push(':');
        self.0.push_str(value);
    }

    fn finish(mut self) -> Result<Option<String>, String> {
        if self.0.is_empty() {
            return Ok(None);
        }
        self.0.push('}');
        if self.0.len() > SOURCE_BYTES {
            return Err(format!("more than {SOURCE_BYTES} bytes of fields that are not known here"));
        }
        Ok(Some(self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn element(text: &str) -> Element<'_> {
        Element { bytes: text.as_bytes(), byte: 100, number: 3 }
    }

    #[test]
    fn known_fields_are_taken_and_the_rest_is_kept() {
        let text =
            "{\"a\":\"1\", \"x\" : [1,\n 2.50], \"a\":\"\\ud55c글\", \"t\":\"2026-01-01T09:00:00+09:00\"}";
        let mut fields = Fields::read(element(text)).unwrap();
        assert_eq!(fields.text("a").unwrap(), "한글");
        assert_eq!(fields.text("b").unwrap_err(), "b is missing");
        let mut source = Source::default();
        let ms = fields.time("t", None, &mut Stamp::default(), &mut source).unwrap();
        assert_eq!(ms, 1_767_225_600_000);
        let kept = fields.rest(source).unwrap().unwrap();
        assert_eq!(kept, "{\"t\":\"2026-01-01T09:00:00+09:00\",\"x\":[1,\n 2.50]}");
    }

    #[test]
    fn a_time_as_the_log_spells_it_needs_no_second_copy() {
        let mut fields = Fields::read(element(r#"{"t":"2026-01-01T00:00:00.007Z"}"#)).unwrap();
        let mut source = Source::default();
        assert_eq!(fields.time("t", None, &mut Stamp::default(), &mut source), Ok(1_767_225_600_007));
        assert_eq!(fields.rest(source), Ok(None));
        let mut fields = Fields::read(element(r#"{"t":"2026-01-01T00:00:00.007Z"}"#)).unwrap();
        let mut source = Source::default();
        assert_eq!(fields.time("t", Some(0), &mut Stamp::default(), &mut source), Ok(1_767_225_600_007));
        assert_eq!(fields.rest(source), Ok(Some(r#"{"t":"2026-01-01T00:00:00.007Z"}"#.to_owned())));
        for bad in [r#"{"t":"yesterday"}"#, r#"{"t":null}"#, r#"{"t":1e3}"#, r#"{"t":999999999999999}"#] {
            let mut fields = Fields::read(element(bad)).unwrap();
            let read = fields.time("t", None, &mut Stamp::default(), &mut Source::default());
            assert_eq!(read, Err("t is not a time".to_owned()), "{bad}");
        }
    }

    #[test]
    fn flaws_name_their_byte() {
        let byte = |bytes: &[u8]| {
            let flaw = Fields::read(Element { bytes, byte: 100, number: 3 }).err().unwrap();
            assert_eq!(flaw.number, 3);
            flaw.byte
        };
        assert_eq!(byte(b"{\"a\":\"\xff\"}"), 106);
        assert_eq!(byte(b"12"), 100);
        assert_eq!(byte(b"{\"a\":\n nul}"), 110);
    }
}
