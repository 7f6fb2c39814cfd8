//! What docs/metrics.md says is on the page, and nothing else.

use std::collections::{BTreeMap, BTreeSet};

use crate::common::{Options, Server, until};
use crate::page::Page;

/// Figures that the calls of a test change by themselves, or the machine does.
const RESTLESS: [&str; 6] = [
    "minitalk_process_cpu_seconds_total",
    "minitalk_process_resident_memory_bytes",
    "minitalk_process_open_fds",
    "minitalk_http_connections",
    "minitalk_storage_disk_free_bytes",
    "minitalk_storage_disk_bytes",
];

/// A metric as the documentation has it: its kind and its labels.
type Documented = BTreeMap<String, (String, BTreeSet<String>)>;

/// The tables' rows: name, kind, labels, what it is.
fn documented() -> Documented {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/metrics.md")).unwrap();
    let cells = |line: &str| -> Vec<String> {
        line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect()
    };
    let rows = text.lines().filter(|line| line.starts_with("| `minitalk_")).map(cells);
    let unquoted = |text: &str| text.trim_matches('`').to_owned();
    let labels = |text: &str| text.split(", ").filter(|name| !name.is_empty()).map(unquoted).collect();
    rows.map(|row| (unquoted(&row[0]), (row[1].clone(), labels(&row[2])))).collect()
}

#[test]
fn the_page_is_what_is_documented() {
    let mut server = Server::start(&Options::default());
    let page =
        Page::when(&server, "all have reported", |page| page.sum("minitalk_scrape_errors", &[]) == 0.0);
    let documented = documented();
    let kinds: BTreeMap<String, String> =
        documented.iter().map(|(name, (kind, _))| (name.clone(), kind.clone())).collect();
    assert_eq!(page.kinds, kinds);
    for (name, (kind, labels)) in &documented {
        let sample = if kind == "histogram" { format!("{name}_bucket") } else { name.clone() };
        let of_name: Vec<_> = page.samples.iter().filter(|(other, ..)| *other == sample).collect();
        assert!(!of_name.is_empty(), "{name} has no sample");
        for (_, given, _) in of_name {
            let mut given: BTreeMap<&str, &str> =
                given.iter().map(|(label, value)| (label.as_str(), value.as_str())).collect();
            if kind == "histogram" {
                assert!(given.remove("le").is_some(), "{name}");
            }
            // Only workers have a number.
            if given.get("role").is_some_and(|role| *role != "worker") {
                given.insert("worker", "");
            }
            let given: BTreeSet<String> = given.keys().map(|label| (*label).to_owned()).collect();
            assert_eq!(given, *labels, "labels of {name}");
        }
    }
    server.stop();
}

#[test]
fn every_worker_gives_the_same_page() {
    let mut server = Server::start(&Options::default());
    let users = server.new_users("user", 3);
    server.new_room(&users, "talk");
    let calm = |text: &str| {
        let is_calm = |line: &&str| !RESTLESS.iter().any(|name| line.starts_with(name));
        text.lines().filter(is_calm).map(str::to_owned).collect::<Vec<_>>()
    };
    Page::when(&server, "the room is made and reported", |page| {
        page.sum("minitalk_storage_log_records", &[("log", "chatrooms")]) == 1.0
    });
    // Once everything is reported, nothing changes any more, whoever is asked.
    until("twenty pages in a row are the same", || {
        let paths = ["/metrics", "/actuator/prometheus"].into_iter().cycle().take(20);
        let pages: Vec<Vec<String>> = paths.map(|path| calm(&server.get(path, None).text)).collect();
        assert!(pages[0].len() > 100, "{pages:?}");
        pages.iter().all(|page| *page == pages[0]).then_some(())
    });
    server.stop();
}
