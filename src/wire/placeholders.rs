//! Whether the placeholders in a packet's JSON name attachments that it has.
//!
//! Nothing is kept of what is read: a tree of JSON values costs up to eighty times its text.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

/// Marks an object as a placeholder, when it is `true`.
const MARK: &str = "_placeholder";

/// Names the attachment, from 0.
const NUMBER: &str = "num";

/// Whether every placeholder in a packet's JSON names one of its attachments. What is no JSON, or
/// deeper than 127 levels, does not fit.
pub fn attachments_fit(data: &str, attachments: usize) -> bool {
    let mut reader = serde_json::Deserializer::from_str(data);
    let read = Within(attachments).deserialize(&mut reader);
    read.is_ok_and(|found| found.fits) && reader.end().is_ok()
}

/// Reads any value; knows how many attachments there are.
#[derive(Clone, Copy)]
struct Within(usize);

/// What matters of a value.
#[derive(Clone, Copy)]
struct Found {
    /// All placeholders within name attachments.
    fits: bool,
    /// It is `true`.
    is_true: bool,
    /// It is the number of an attachment.
    is_attachment: bool,
}

const NOTHING: Found = Found { fits: true, is_true: false, is_attachment: false };

impl<'de> DeserializeSeed<'de> for Within {
    type Value = Found;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Found, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Within {
    type Value = Found;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }
    fn visit_unit<E>(self) -> Result<Found, E> {
        Ok(NOTHING)
    }
    fn visit_bool<E>(self, is_true: bool) -> Result<Found, E> {
        Ok(Found { is_true, ..NOTHING })
    }
    fn visit_u64<E>(self, number: u64) -> Result<Found, E> {
        let is_attachment = usize::try_from(number).is_ok_and(|number| number < self.0);
        Ok(Found { is_attachment, ..NOTHING })
    }
    fn visit_i64<E>(self, _: i64) -> Result<Found, E> {
        Ok(NOTHING)
    }
    fn visit_f64<E>(self, _: f64) -> Result<Found, E> {
        Ok(NOTHING)
    }
    fn visit_str<E: de::Error>(self, _: &str) -> Result<Found, E> {
        Ok(NOTHING)
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Found, A::Error> {
        let mut fits = true;
        while let Some(element) = seq.next_element_seed(self)? {
            fits &= element.fits;
        }
        Ok(Found { fits, ..NOTHING })
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Found, A::Error> {
        // Of several fields of one name the last counts, as everywhere in JSON.
        let (mut marked, mut named, mut fits) = (false, false, true);
        while let Some(Key(key)) = map.next_key()? {
            let field = map.next_value_seed(self)?;
            fits &= field.fits;
            match &*key {
                MARK => marked = field.is_true,
                NUMBER => named = field.is_attachment,
                _ => {}
            }
        }
        // What else is in a placeholder is thrown away with it.
        Ok(Found { fits: if marked { named } else { fits }, ..NOTHING })
    }
}

/// Borrowed where nothing in it is escaped.
#[derive(Deserialize)]
#[serde(transparent)]
struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_name_attachments_that_are_there() {
        let data = r#"["e",{"deep":[{"_placeholder":true,"num":1}]},{"_placeholder":true,"num":0}]"#;
        assert!(attachments_fit(data, 2));
        assert!(!attachments_fit(data, 1));
        for number in ["-1", "0.5", "\"0\"", "null", "18446744073709551616"] {
            let data = format!("[\"e\",{{\"_placeholder\":true,\"num\":{number}}}]");
            assert!(!attachments_fit(&data, 9), "{data}");
        }
        assert!(!attachments_fit(&format!("{}{}", "[".repeat(10_000), "]".repeat(10_000)), 1), "too deep");
    }

    #[test]
    fn of_several_fields_the_last_counts() {
        assert!(attachments_fit(r#"[{"_placeholder":true,"num":7,"num":0}]"#, 1));
        assert!(!attachments_fit(r#"[{"num":0,"_placeholder":true,"num":7}]"#, 1));
        assert!(attachments_fit(r#"[{"_placeholder":true,"_placeholder":1,"num":7}]"#, 1));
        assert!(!attachments_fit("[1] x", 1));
    }
}
