//! Fields of a body, read so that no body costs much more memory than its bytes.
//!
//! A client may put anything where a name belongs, and a hundred thousand entries into one call. A
//! tree of JSON values costs many times its text, so nothing here makes one: what no rule could
//! accept is read past, and names are kept next to each other.

use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize, Serializer};
use serde_json::Number;

use super::rooms::invalid;
use crate::chat::{Refusal, name, rules};
use crate::config;

/// Bytes kept of a text: more than any rule accepts, so that what is too long stays too long.
const KEPT_BYTES: usize = 4 * rules::DESCRIPTION_CHARS + 1;

/// Characters kept of a name: more than any user's has, however it is spelt.
const NAME_CHARS: usize = name::SPELT_CHARS * rules::USERNAME_CHARS + 1;

/// UTF-8 takes up to 4 bytes a character.
const _: () = assert!(
    KEPT_BYTES > rules::PASSWORD_BYTES
        && KEPT_BYTES > rules::PROFILE_IMAGE_BYTES
        && KEPT_BYTES > 4 * rules::ROOM_NAME_CHARS
        && KEPT_BYTES > 4 * rules::USERNAME_CHARS
);

/// A field that ought to be a text or a flag and may be anything.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Field {
    /// `null`, or not there.
    #[default]
    Null,
    /// `true` or `false`.
    Flag(bool),
    /// A number.
    Number(Number),
    /// A text, or the beginning of one that is longer than any rule allows.
    Text(String),
    /// An array or an object, not kept.
    Nested,
}

/// As it came; what was not kept is `null`.
impl Serialize for Field {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Field::Null | Field::Nested => serializer.serialize_unit(),
            Field::Flag(flag) => serializer.serialize_bool(*flag),
            Field::Number(number) => number.serialize(serializer),
            Field::Text(text) => serializer.serialize_str(text),
        }
    }
}

impl<'de> Deserialize<'de> for Field {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Field, D::Error> {
        deserializer.deserialize_any(FieldVisitor)
    }
}

struct FieldVisitor;

impl<'de> Visitor<'de> for FieldVisitor {
    type Value = Field;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }
    fn visit_unit<E>(self) -> Result<Field, E> {
        Ok(Field::Null)
    }
    fn visit_bool<E>(self, flag: bool) -> Result<Field, E> {
        Ok(Field::Flag(flag))
    }
    fn visit_u64<E>(self, number: u64) -> Result<Field, E> {
        Ok(Field::Number(number.into()))
    }
    fn visit_i64<E>(self, number: i64) -> Result<Field, E> {
        Ok(Field::Number(number.into()))
    }
    fn visit_f64<E>(self, number: f64) -> Result<Field, E> {
        Ok(Number::from_f64(number).map_or(Field::Null, Field::Number))
    }
    fn visit_str<E>(self, text: &str) -> Result<Field, E> {
        let end = (KEPT_BYTES..text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(text.len());
        Ok(Field::Text(text[..end].to_owned()))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Field, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Field::Nested)
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Field, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Field::Nested)
    }
}

/// `participants`: user names, next to each other in one text.
#[derive(Debug, Default)]
pub struct Names {
    text: String,
    /// Where each name ends in `text`; a body is far shorter than a `u32` counts.
    ends: Vec<u32>,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Kind {
    /// `null`, or not there.
    #[default]
    Absent,
    Listed,
    /// More than a call may name.
    TooMany,
    /// Not a list, or not of texts only.
    Wrong,
}

impl Names {
    /// The names; `None`: there is no list.
    ///
    /// # Errors
    /// `INVALID_REQUEST`: it is no list of names, or too long.
    pub fn take(self) -> Result<Option<Vec<String>>, Refusal> {
        match self.kind {
            Kind::Absent => Ok(None),
            Kind::Listed => {
                let mut start = 0;
                let name = |end: &u32| {
                    let name = self.text[start..*end as usize].to_owned();
                    start = *end as usize;
                    name
                };
                Ok(Some(self.ends.iter().map(name).collect()))
            }
            Kind::TooMany => {
                Err(invalid(&format!("participants must not exceed {}", rules::PARTICIPANTS_PER_CALL)))
            }
            Kind::Wrong => Err(Names::wrong()),
        }
    }

    /// The refusal of what is no list of names.
    pub fn wrong() -> Refusal {
        invalid("participants must be an array of user names")
    }

    /// A longer name belongs to nobody; cut short, so does what is left of it.
    fn push(&mut self, name: &str) {
        let end = name.char_indices().nth(NAME_CHARS).map_or(name.len(), |(at, _)| at);
        self.text.push_str(&name[..end]);
        match u32::try_from(self.text.len()) {
            Ok(end) => self.ends.push(end),
            Err(_) => self.give_up(Kind::TooMany),
        }
    }

    fn give_up(&mut self, kind: Kind) {
        *self = Names { kind, ..Names::default() };
    }
}

impl<'de> Deserialize<'de> for Names {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Names, D::Error> {
        deserializer.deserialize_any(NamesVisitor)
    }
}

struct NamesVisitor;

impl NamesVisitor {
    const WRONG: Names = Names { text: String::new(), ends: Vec::new(), kind: Kind::Wrong };
}

impl<'de> Visitor<'de> for NamesVisitor {
    type Value = Names;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }
    fn visit_unit<E>(self) -> Result<Names, E> {
        Ok(Names::default())
    }
    fn visit_bool<E>(self, _: bool) -> Result<Names, E> {
        Ok(NamesVisitor::WRONG)
    }
    fn visit_u64<E>(self, _: u64) -> Result<Names, E> {
        Ok(NamesVisitor::WRONG)
    }
    fn visit_i64<E>(self, _: i64) -> Result<Names, E> {
        Ok(NamesVisitor::WRONG)
    }
    fn visit_f64<E>(self, _: f64) -> Result<Names, E> {
        Ok(NamesVisitor::WRONG)
    }
    fn visit_str<E>(self, _: &str) -> Result<Names, E> {
        Ok(NamesVisitor::WRONG)
    }
    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Names, A::Error> {
        FieldVisitor.visit_map(map).map(|_| NamesVisitor::WRONG)
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Names, A::Error> {
        let mut names = Names { kind: Kind::Listed, ..Names::default() };
        let mut count = 0;
        while seq.next_element_seed(NameSeed(&mut names))?.is_some() {
            count += 1;
            if count > rules::PARTICIPANTS_PER_CALL {
                names.give_up(Kind::TooMany);
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                break;
            }
        }
        names.text.shrink_to_fit();
        names.ends.shrink_to_fit();
        Ok(names)
    }
}

/// Adds one element to the names, unless one before was none.
struct NameSeed<'a>(&'a mut Names);

impl<'de> DeserializeSeed<'de> for NameSeed<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        let field = Field::deserialize(deserializer)?;
        match field {
            Field::Text(name) if self.0.kind == Kind::Listed => self.0.push(&name),
            Field::Text(_) => {}
            _ => self.0.give_up(Kind::Wrong),
        }
        Ok(())
    }
}

/// An entry of a batch call. One that is no object has no fields: it is refused, and no other entry with it.
pub struct Entry<T>(pub T);

impl<'de, T: Default + Deserialize<'de>> Deserialize<'de> for Entry<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Entry<T>, D::Error> {
        deserializer.deserialize_any(EntryVisitor(PhantomData))
    }
}

struct EntryVisitor<T>(PhantomData<T>);

impl<'de, T: Default + Deserialize<'de>> Visitor<'de> for EntryVisitor<T> {
    type Value = Entry<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }
    fn visit_unit<E>(self) -> Result<Entry<T>, E> {
        Ok(Entry(T::default()))
    }
    fn visit_bool<E>(self, _: bool) -> Result<Entry<T>, E> {
        Ok(Entry(T::default()))
    }
    fn visit_u64<E>(self, _: u64) -> Result<Entry<T>, E> {
        Ok(Entry(T::default()))
    }
    fn visit_i64<E>(self, _: i64) -> Result<Entry<T>, E> {
        Ok(Entry(T::default()))
    }
    fn visit_f64<E>(self, _: f64) -> Result<Entry<T>, E> {
        Ok(Entry(T::default()))
    }
    fn visit_str<E>(self, _: &str) -> Result<Entry<T>, E> {
        Ok(Entry(T::default()))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Entry<T>, A::Error> {
        FieldVisitor.visit_seq(seq)?;
        Ok(Entry(T::default()))
    }
    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Entry<T>, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map)).map(Entry)
    }
}

/// Reads the entries of a batch call. Of more than one call may carry just one is kept, so that the
/// call is refused and costs no more memory than one that is not.
pub fn entries<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Vec<T>, D::Error> {
    struct Entries<T>(PhantomData<T>);
    impl<'de, T: Deserialize<'de>> Visitor<'de> for Entries<T> {
        type Value = Vec<T>;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an array")
        }
        fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Vec<T>, A::Error> {
            let mut entries = Vec::new();
            while entries.len() <= config::BATCH_ENTRIES {
                match seq.next_element()? {
                    Some(entry) => entries.push(entry),
                    None => return Ok(entries),
                }
            }
            while seq.next_element::<IgnoredAny>()?.is_some() {}
            Ok(entries)
        }
    }
    deserializer.deserialize_seq(Entries(PhantomData))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(json: &str) -> Field {
        serde_json::from_str(json).unwrap()
    }

    fn names(json: &str) -> Result<Option<Vec<String>>, String> {
        serde_json::from_str::<Names>(json).unwrap().take().map_err(|refusal| refusal.message)
    }

    #[test]
    fn fields_are_shown_as_they_came_and_trees_are_not_kept() {
        for json in ["null", "true", "5", "-5", "1.5", "\"\"", "\"가 \\\"b\\\"\""] {
            assert_eq!(serde_json::to_string(&field(json)).unwrap(), json);
        }
        for json in ["[]", "{}", "[[[1,2],\"x\"]]", "{\"$ne\":{\"a\":[1]}}"] {
            assert_eq!(field(json), Field::Nested);
        }
    }

    #[test]
    fn a_long_text_is_kept_only_as_far_as_every_rule_still_refuses_it() {
        for letter in ["x", "é", "가", "🎉"] {
            let Field::Text(kept) = field(&format!("\"{}\"", letter.repeat(10_000))) else { panic!() };
            assert!(kept.len() < KEPT_BYTES + 4);
            assert!(rules::username(&kept).is_err());
            assert!(rules::room_name(&kept).is_err());
            assert!(rules::password(&kept).is_err());
        }
        let longest = "가".repeat(rules::ROOM_NAME_CHARS);
        assert_eq!(field(&format!("\"{longest}\"")), Field::Text(longest));
    }

    #[test]
    fn names_are_read_one_by_one() {
        assert_eq!(names("null"), Ok(None));
        assert_eq!(names("[]"), Ok(Some(vec![])));
        assert_eq!(names(r#"["a","","가"]"#), Ok(Some(vec!["a".into(), String::new(), "가".into()])));
        let long = names(&format!("[\"a\",\"{}\",\"b\"]", "가".repeat(5_000))).unwrap().unwrap();
        assert_eq!((long[1].chars().count(), long[2].as_str()), (NAME_CHARS, "b"));
        assert!(rules::username(&long[1]).is_err());
        let apart = "\u{1112}\u{1161}\u{11ab}".repeat(rules::USERNAME_CHARS);
        assert_eq!(names(&format!("[\"{apart}\"]")).unwrap().unwrap(), [apart]);
        for wrong in ["5", "-5", "1.5", "true", "\"a\"", "{\"0\":\"a\"}", "[\"a\",5]", "[[\"a\"]]", "[null]"]
        {
            assert_eq!(names(wrong), Err(Names::wrong().message), "{wrong}");
        }
    }

    #[test]
    fn an_entry_that_is_no_object_has_no_fields() {
        #[derive(Debug, Default, PartialEq, Deserialize)]
        struct Named {
            name: Field,
        }
        let read = |json: &str| serde_json::from_str::<Entry<Named>>(json).map(|entry| entry.0);
        assert_eq!(read(r#"{"name":"a"}"#).unwrap().name, Field::Text("a".into()));
        for json in ["null", "true", "5", "-5", "1.5", r#""a""#, r#"["a"]"#, "[[{}]]"] {
            assert_eq!(read(json).unwrap(), Named::default(), "{json}");
        }
        for broken in ["[", r#"{"name":"a""#, "{]", "nul"] {
            assert!(read(broken).is_err(), "{broken}");
        }
    }

    #[test]
    fn the_cap_holds_whatever_the_elements_are() {
        let most = rules::PARTICIPANTS_PER_CALL;
        for element in ["\"a\"", "5", "[[]]"] {
            let listed = |count| format!("[{}{element}]", format!("{element},").repeat(count - 1));
            let message = names(&listed(most + 1)).unwrap_err();
            assert!(message.contains("must not exceed"), "{element}: {message}");
        }
        let full = serde_json::from_str::<Names>(&format!("[{}\"a\"]", "\"a\",".repeat(most - 1))).unwrap();
        assert_eq!((full.ends.len(), full.text.capacity(), full.ends.capacity()), (most, most, most));
    }
}
