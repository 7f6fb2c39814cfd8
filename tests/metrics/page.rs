//! The page, read: its metrics and samples.

use std::collections::BTreeMap;

use crate::common::{Server, until};

/// A page.
#[derive(Clone, Debug, PartialEq)]
pub struct Page {
    /// As it came.
    pub text: String,
    /// Kind of each metric that has a HELP and a TYPE line.
    pub kinds: BTreeMap<String, String>,
    /// In order.
    pub samples: Vec<Sample>,
}

/// Name, labels, value.
pub type Sample = (String, Vec<(String, String)>, f64);

impl Page {
    /// Asks for one.
    pub fn of(server: &Server) -> Page {
        let answer = server.get("/metrics", None);
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(answer.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
        Page::read(answer.text)
    }

    /// Waits for one on which that is so.
    pub fn when(server: &Server, what: &str, is_so: impl Fn(&Page) -> bool) -> Page {
        let mut last = Page::of(server);
        let found = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            until(what, || {
                last = Page::of(server);
                is_so(&last).then(|| last.clone())
            })
        }));
        found.unwrap_or_else(|_| panic!("waited in vain: {what}; the last page was\n{}", last.text))
    }

    fn read(text: String) -> Page {
        let (mut kinds, mut samples, mut helped) = (BTreeMap::new(), Vec::new(), String::new());
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                helped = rest.split_once(' ').expect("a sentence").0.to_owned();
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').expect("a kind");
                assert_eq!(name, helped, "HELP stands before TYPE");
                assert_eq!(kinds.insert(name.to_owned(), kind.to_owned()), None, "{name} comes twice");
            } else {
                let (name, value) = line.rsplit_once(' ').expect("a value");
                let (name, labels) = name.split_once('{').unwrap_or((name, "}"));
                let pairs = labels.trim_end_matches('}').split(',').filter(|pair| !pair.is_empty());
                let pair = |pair: &str| {
                    let (label, value) = pair.split_once('=').expect("a label");
                    (label.to_owned(), value.trim_matches('"').to_owned())
                };
                samples.push((name.to_owned(), pairs.map(pair).collect(), value.parse().expect("a number")));
            }
        }
        Page { text, kinds, samples }
    }

    /// The values of all samples of that name with these labels.
    pub fn values(&self, name: &str, labels: &[(&str, &str)]) -> Vec<f64> {
        let has = |given: &[(String, String)], (label, value): &(&str, &str)| {
            given.iter().any(|(other, found)| other == label && found == value)
        };
        let samples = self
            .samples
            .iter()
            .filter(|(other, given, _)| other == name && labels.iter().all(|label| has(given, label)));
        samples.map(|(_, _, value)| *value).collect()
    }

    /// Their sum; there must be one.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let values = self.values(name, labels);
        assert!(!values.is_empty(), "{name} {labels:?} is not in\n{}", self.text);
        values.iter().sum()
    }
}
