//! How identifiers and times are spelt in a line.

use std::fmt;

use crate::chat::OpId;
use crate::journal::stamp::{self, Stamp};

/// Sixteen lower-case hexadecimal digits.
pub fn hex(number: u64) -> Hex {
    let mut digits = [0; 16];
    for (byte, pair) in number.to_be_bytes().iter().zip(digits.chunks_exact_mut(2)) {
        pair.copy_from_slice(&[DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
    }
    Hex(digits)
}

const DIGITS: &[u8; 16] = b"0123456789abcdef";

/// Digits of a number.
pub struct Hex([u8; 16]);

impl Hex {
    /// Its bytes: ASCII.
    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

/// Writes an `OpId` as its text; by hand, since every message has one.
pub fn op_text<S: serde::Serializer>(op: &OpId, serializer: S) -> Result<S::Ok, S::Error> {
    let mut text = [b'-'; 33];
    text[..16].copy_from_slice(hex(op.instance).as_bytes());
    let count = hex(op.count);
    let zeros = usize::try_from(op.count.leading_zeros() / 4).unwrap_or(0).min(15);
    let digits = &count.as_bytes()[zeros..];
    let end = 17 + digits.len();
    text[17..end].copy_from_slice(digits);
    // Hexadecimal digits and a hyphen are ASCII.
    serializer.serialize_str(std::str::from_utf8(&text[..end]).unwrap_or_default())
}

/// Reads an `OpId` from its text.
pub fn text_op<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<OpId, D::Error> {
    deserializer.deserialize_str(Text(|text| text.parse().ok()))
}

/// Writes a Unix time in milliseconds as its text.
pub fn ms_text<S: serde::Serializer>(ms: &i64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(Stamp::default().text(*ms))
}

/// Reads a Unix time in milliseconds from its text.
pub fn text_ms<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<i64, D::Error> {
    deserializer.deserialize_str(Text(stamp::parse))
}

/// A Unix time in milliseconds, spelt as its text; for fields that not every record has.
#[derive(Clone, Copy)]
pub struct Ms(pub i64);

impl serde::Serialize for Ms {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        ms_text(&self.0, serializer)
    }
}

impl<'de> serde::Deserialize<'de> for Ms {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Ms, D::Error> {
        text_ms(deserializer).map(Ms)
    }
}

/// Reads an `OpId`, if there is one, from its text.
pub fn text_some_op<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<OpId>, D::Error> {
    text_op(deserializer).map(Some)
}

/// Reads a value from a string without keeping the string.
struct Text<T>(fn(&str) -> Option<T>);

impl<T> serde::de::Visitor<'_> for Text<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an operation's id or a time, as text")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<T, E> {
        (self.0)(text).ok_or_else(|| E::invalid_value(serde::de::Unexpected::Str(text), &self))
    }
}
