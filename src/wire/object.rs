//! JSON of exactly one kind: objects and nothing else, strings and nothing else.

use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

/// The text of a string; `None`: it is something else.
pub fn text(value: &RawValue) -> Option<String> {
    serde_json::from_str(value.get()).ok()
}

/// A struct that is read from an object only. By itself serde reads one from an array as well, field
/// by field; a client that sends an array means something else.
pub struct Object<T>(pub T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ObjectVisitor<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for ObjectVisitor<T> {
            type Value = Object<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Object<T>, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(Object)
            }
        }
        deserializer.deserialize_map(ObjectVisitor(PhantomData))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Deserialize)]
    struct Name {
        name: String,
    }

    #[test]
    fn arrays_are_not_objects() {
        let read = |text: &str| serde_json::from_str::<Object<Name>>(text).map(|object| object.0.name);
        assert_eq!(read(r#"{"name":"a"}"#).unwrap(), "a");
        for text in [r#"["a"]"#, "null", "1", r#""a""#, "{}"] {
            assert!(read(text).is_err(), "{text}");
        }
    }
}
