//! Files of one JSON array each, an element to a line.

use std::borrow::Cow;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::value::RawValue;

use crate::chat::name;
use crate::cli::import::fields::Fields;

/// Bytes gathered before they are written.
const WRITE_BYTES: usize = 1 << 20;

/// An array being written, under another name until it is whole.
pub struct ArrayFile {
    path: PathBuf,
    part: PathBuf,
    out: BufWriter<File>,
    elements: u64,
}

impl ArrayFile {
    /// Begins one.
    ///
    /// # Errors
    /// The disk refuses; so for all below.
    pub fn create(dir: &Path, name: &str) -> io::Result<ArrayFile> {
        let (path, part) = (dir.join(name), dir.join(format!("{name}.part")));
        let mut out = BufWriter::with_capacity(WRITE_BYTES, File::create_new(&part)?);
        out.write_all(b"[")?;
        Ok(ArrayFile { path, part, out, elements: 0 })
    }

    /// How many elements it has.
    pub fn elements(&self) -> u64 {
        self.elements
    }

    /// Adds an element.
    pub fn push(&mut self, object: &Object) -> io::Result<()> {
        self.out.write_all(if self.elements == 0 { b"\n" } else { b",\n" })?;
        self.out.write_all(&object.0)?;
        self.out.write_all(b"}")?;
        self.elements += 1;
        Ok(())
    }

    /// Ends it.
    pub fn finish(mut self) -> io::Result<()> {
        self.out.write_all(b"\n]\n")?;
        self.out.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
        fs::rename(self.part, self.path)
    }
}

/// An object being written, field by field.
#[derive(Default)]
pub struct Object(Vec<u8>);

impl Object {
    /// Empties it for the next one.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    fn key(&mut self, key: &str) {
        self.0.push(if self.0.is_empty() { b'{' } else { b',' });
        self.value(key);
        self.0.push(b':');
    }

    fn value<T: Serialize + ?Sized>(&mut self, value: &T) {
        // Writing to a vector can't fail, and no value here has keys that are not strings.
        let written = serde_json::to_writer(&mut self.0, value);
        debug_assert!(written.is_ok());
    }

    /// Adds a field, with what the original says of it, if it does.
    pub fn field<T: Serialize + ?Sized>(&mut self, key: &str, original: &mut Fields<'_>, value: &T) {
        let spelt = original.take(key);
        self.spelt(key, spelt, value);
    }

    /// Adds a field that lists names, as the original spells them if it lists just these.
    pub fn names(&mut self, key: &str, original: &mut Fields<'_>, names: &[String]) {
        let lists_these = |text: &&RawValue| {
            let spelt: Vec<Cow<'_, str>> = serde_json::from_str(text.get()).unwrap_or_default();
            spelt.len() == names.len() && spelt.iter().zip(names).all(|(one, other)| name::same(one, other))
        };
        let spelt = original.take(key).filter(lists_these);
        self.spelt(key, spelt, names);
    }

    fn spelt<T: Serialize + ?Sized>(&mut self, key: &str, spelt: Option<&RawValue>, value: &T) {
        self.key(key);
        match spelt {
            Some(text) => self.0.extend_from_slice(text.get().as_bytes()),
            None => self.value(value),
        }
    }

    /// Adds a field that only the original has, if it does.
    pub fn original(&mut self, key: &str, original: &mut Fields<'_>) {
        if let Some(text) = original.take(key) {
            self.key(key);
            self.0.extend_from_slice(text.get().as_bytes());
        }
    }

    /// Adds a field if it has a value, whatever the original says; else that is among the rest.
    pub fn optional<T: Serialize>(&mut self, key: &str, original: &mut Fields<'_>, value: Option<T>) {
        if let Some(value) = value {
            original.take(key);
            self.key(key);
            self.value(&value);
        }
    }

    /// Adds what else the original says.
    pub fn rest(&mut self, original: &Fields<'_>) {
        for (key, text) in original.iter() {
            self.key(key);
            self.0.extend_from_slice(text.as_bytes());
        }
    }
}
