//! One table of the file while it is read: takes values out by key, remembers every mistake, and in the
//! end names the keys that nobody asked for.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::ops::{Range, RangeInclusive};
use std::time::Duration;

use toml_edit::{Item, TableLike};

use super::Mistake;
use super::duration;

/// Longest piece of a wrong value that a mistake repeats, in characters.
const SHOWN_CHARS: usize = 40;

/// What reading a file has brought to light.
pub(super) struct Findings<'a> {
    file: &'a str,
    text: &'a str,
    /// Each with its line.
    mistakes: Vec<(usize, Mistake)>,
    /// Line of each setting in the file, for checks that look at several.
    lines: BTreeMap<String, usize>,
}

/// A table and the keys asked of it so far.
pub(super) struct Section<'a, 't> {
    table: &'a dyn TableLike,
    /// `limits.`; empty at the top.
    prefix: String,
    known: Vec<&'static str>,
    findings: &'a mut Findings<'t>,
}

impl<'a> Findings<'a> {
    pub(super) fn new(file: &'a str, text: &'a str) -> Findings<'a> {
        Findings { file, text, mistakes: Vec::new(), lines: BTreeMap::new() }
    }

    /// A mistake at a place in the text.
    pub(super) fn add(&mut self, span: Option<Range<usize>>, key: &str, text: String) {
        let line = self.line(span);
        let place = format!("{}:{line}", self.file);
        self.mistakes.push((line, Mistake { place, key: key.to_owned(), text }));
    }

    /// All mistakes in the order of the file, and the line of each setting.
    pub(super) fn finish(mut self) -> (Vec<Mistake>, BTreeMap<String, usize>) {
        self.mistakes.sort_by_key(|(line, _)| *line);
        (self.mistakes.into_iter().map(|(_, mistake)| mistake).collect(), self.lines)
    }

    fn line(&self, span: Option<Range<usize>>) -> usize {
        let start = span.map_or(0, |span| span.start).min(self.text.len());
        1 + self.text.as_bytes()[..start].iter().filter(|byte| **byte == b'\n').count()
    }
}

impl<'a, 't> Section<'a, 't> {
    /// Reads a whole table: `read` asks for every key there is; what is left over is a mistake.
    pub(super) fn read(
        table: &'a dyn TableLike,
        prefix: String,
        findings: &'a mut Findings<'t>,
        read: impl FnOnce(&mut Section<'_, 't>),
    ) {
        let mut section = Section { table, prefix, known: Vec::new(), findings };
        read(&mut section);
        section.refuse_unknown();
    }

    /// A table within this one.
    pub(super) fn section(&mut self, key: &'static str, read: impl FnOnce(&mut Section<'_, 't>)) {
        let Some(item) = self.item(key) else { return };
        match item.as_table_like() {
            Some(table) => Section::read(table, format!("{}{key}.", self.prefix), self.findings, read),
            None => self.wrong(key, item, "a table"),
        }
    }

    /// A whole number.
    pub(super) fn number<T>(&mut self, key: &'static str, range: RangeInclusive<T>, into: &mut T)
    where
        T: TryFrom<i64> + PartialOrd + Display,
    {
        let expected = format!("a whole number from {} to {}", range.start(), range.end());
        let parse =
            |item: &Item| item.as_integer().and_then(|n| T::try_from(n).ok()).filter(|n| range.contains(n));
        self.value(key, &expected, parse, into);
    }

    /// A duration with its unit.
    pub(super) fn duration(
        &mut self,
        key: &'static str,
        range: RangeInclusive<Duration>,
        into: &mut Duration,
    ) {
        let (from, to) = (duration::show(*range.start()), duration::show(*range.end()));
        let expected = format!("a duration from \"{from}\" to \"{to}\"");
        let parse = |item: &Item| item.as_str().and_then(duration::parse).filter(|d| range.contains(d));
        self.value(key, &expected, parse, into);
    }

    /// `true` or `false`.
    pub(super) fn flag(&mut self, key: &'static str, into: &mut bool) {
        self.value(key, "true or false", Item::as_bool, into);
    }

    /// One of a few words.
    pub(super) fn choice<T: Copy>(&mut self, key: &'static str, words: &[(&str, T)], into: &mut T) {
        let quoted: Vec<String> = words.iter().map(|(word, _)| format!("\"{word}\"")).collect();
        let parse = |item: &Item| {
            let text = item.as_str()?;
            words.iter().find(|(word, _)| *word == text).map(|(_, value)| *value)
        };
        self.value(key, &quoted.join(" or "), parse, into);
    }

    /// Any text.
    pub(super) fn text(&mut self, key: &'static str, into: &mut String) {
        self.value(key, "a text in quotes", |item| item.as_str().map(str::to_owned), into);
    }

    /// Any text, which no mistake repeats.
    pub(super) fn secret(&mut self, key: &'static str, into: &mut String) {
        let Some(item) = self.item(key) else { return };
        match item.as_str() {
            Some(text) => text.clone_into(into),
            None => self.wrong_kind(key, item, "a text in quotes"),
        }
    }

    /// Texts that `parse` takes; an entry that it does not take is a mistake of its own.
    pub(super) fn list<T>(
        &mut self,
        key: &'static str,
        expected: &str,
        parse: impl Fn(&str) -> Option<T>,
        into: &mut Vec<T>,
    ) {
        let Some(item) = self.item(key) else { return };
        let Some(array) = item.as_array() else {
            return self.wrong(key, item, "a list of texts in brackets");
        };
        let mut values = Vec::with_capacity(array.len());
        for entry in array {
            if let Some(value) = entry.as_str().and_then(&parse) {
                values.push(value);
                continue;
            }
            let text = format!("expected {expected}, found {}", shown(&entry.to_string()));
            self.findings.add(entry.span(), &format!("{}{key}", self.prefix), text);
        }
        if values.len() == array.len() {
            *into = values;
        }
    }

    fn value<T>(
        &mut self,
        key: &'static str,
        expected: &str,
        parse: impl FnOnce(&Item) -> Option<T>,
        into: &mut T,
    ) {
        let Some(item) = self.item(key) else { return };
        match parse(item) {
            Some(value) => *into = value,
            None => self.wrong(key, item, expected),
        }
    }

    /// The entry of that key, which is known from now on.
    fn item(&mut self, key: &'static str) -> Option<&'a Item> {
        self.known.push(key);
        let (name, item) = self.table.get_key_value(key)?;
        let line = self.findings.line(name.span().or(item.span()));
        self.findings.lines.insert(format!("{}{key}", self.prefix), line);
        Some(item)
    }

    fn wrong(&mut self, key: &str, item: &Item, expected: &str) {
        match item.as_value() {
            Some(value) => {
                let text = format!("expected {expected}, found {}", shown(&value.to_string()));
                self.findings.add(item.span(), &format!("{}{key}", self.prefix), text);
            }
            None => self.wrong_kind(key, item, expected),
        }
    }

    fn wrong_kind(&mut self, key: &str, item: &Item, expected: &str) {
        let text = format!("expected {expected}, found: {}", item.type_name());
        self.findings.add(item.span(), &format!("{}{key}", self.prefix), text);
    }

    fn refuse_unknown(&mut self) {
        for (key, item) in self.table.iter() {
            if self.known.contains(&key) {
                continue;
            }
            let span = self.table.key(key).and_then(toml_edit::Key::span).or(item.span());
            let text = match nearest(key, &self.known) {
                Some(meant) => format!("unknown; did you mean {meant}?"),
                None => format!("unknown; there are: {}", self.known.join(", ")),
            };
            self.findings.add(span, &format!("{}{key}", self.prefix), text);
        }
    }
}

/// A value on one line, cut where it is long.
fn shown(value: &str) -> String {
    let value = value.split_whitespace().collect::<Vec<_>>().join(" ");
    match value.char_indices().nth(SHOWN_CHARS) {
        Some((end, _)) => format!("{}…", &value[..end]),
        None => value,
    }
}

/// The known key that somebody who typed `key` meant, if one is near.
fn nearest<'k>(key: &str, known: &[&'k str]) -> Option<&'k str> {
    let near = |name: &&str| distance(key, name) <= 1 + name.len() / 5;
    known.iter().copied().filter(|name| near(name)).min_by_key(|name| distance(key, name))
}

/// Letters to insert, delete or replace to make one text of the other (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_are_counted_in_letters() {
        for (a, b, expected) in [("", "", 0), ("a", "", 1), ("", "ab", 2), ("kitten", "sitting", 3)] {
            assert_eq!(distance(a, b), expected, "{a} {b}");
        }
    }

    #[test]
    fn near_misses_find_their_key_and_others_do_not() {
        let known = ["listen", "data_dir", "connections_per_worker"];
        assert_eq!(nearest("lisen", &known), Some("listen"));
        assert_eq!(nearest("data-dir", &known), Some("data_dir"));
        assert_eq!(nearest("connection_per_workers", &known), Some("connections_per_worker"));
        assert_eq!(nearest("port", &known), None);
    }
}
