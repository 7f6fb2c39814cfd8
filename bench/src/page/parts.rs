//! What the pages of all reports are made of: the document, its sections, tables and figures, and how numbers are
//! spelt in them.

use std::fs;
use std::io;
use std::path::Path;

use crate::chart::{COLOURS, Shape, exact};
use crate::charts::Figure;
use crate::escape::escape;
use crate::fail_if::Judged;
use crate::hdr::Percentiles;

const MIB: f64 = 1024.0 * 1024.0;
const DAY_S: u64 = 86_400;

/// Writes a page to a file.
pub fn save(page: &str, path: &Path) -> io::Result<()> {
    let named = |why: io::Error| io::Error::new(why.kind(), format!("{}: {why}", path.display()));
    fs::write(path, page).map_err(named)
}

/// A whole document around its content.
pub fn document(title: &str, content: &str) -> String {
    let (title, style) = (escape(title), include_str!("page.css"));
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\"/>\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n\
         <title>{title}: load test</title>\n<style>\n{style}</style>\n</head>\n<body>\n{content}</body>\n</html>\n"
    )
}

/// The name of the load, and what it was.
pub fn heading(name: &str, about: &str) -> String {
    let (name, about) = (escape(name), escape(about));
    format!("<h1>Load test “{name}”</h1>\n<p class=\"soft\">{about}</p>\n")
}

/// What was found, first in a word. `exit_code` is that of the command: 1 for a fault or a broken threshold, 2 for
/// what could not be judged in full. Faults: lost, duplicated, out of order, foreign, unanswered.
pub fn verdict_of(correct: bool, exit_code: u8, faults: [u64; 5], lines: &[String]) -> String {
    let [lost, duplicated, out_of_order, foreign, unanswered] = faults.map(grouped);
    let counts = format!(
        "{lost} lost, {duplicated} duplicated, {out_of_order} out of order, {foreign} foreign, \
         {unanswered} unanswered"
    );
    let (class, word) = match (correct, exit_code) {
        (false, _) => ("bad", "Not correct"),
        (true, 1) => ("bad", "Correct, but a threshold is broken"),
        (true, 0) => ("good", "Correct"),
        _ => ("warn", "No fault seen, but not judged in full"),
    };
    let lines: String =
        lines.iter().map(|line| format!("<p class=\"soft\">{}</p>\n", escape(line))).collect();
    format!(
        "<section class=\"verdict {class}\"><strong>{word}</strong>\n<p>{counts}</p>\n{lines}</section>\n"
    )
}

/// A section, unless there is nothing in it.
pub fn section(title: &str, content: &str) -> String {
    if content.is_empty() { String::new() } else { format!("<h2>{title}</h2>\n{content}") }
}

/// A table of texts; a column whose head begins with `#` holds numbers. Empty without rows.
pub fn table(head: &[&str], rows: Vec<Vec<String>>) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let class = |column: usize| match head.get(column) {
        Some(name) if name.starts_with('#') => " class=\"n\"",
        _ => "",
    };
    let cells = |tag: &str, cells: &[String]| {
        let cell =
            |(column, text): (usize, &String)| format!("<{tag}{}>{}</{tag}>", class(column), escape(text));
        format!("<tr>{}</tr>\n", cells.iter().enumerate().map(cell).collect::<String>())
    };
    let names: Vec<String> = head.iter().map(|name| name.trim_start_matches('#').to_owned()).collect();
    let head =
        if names.is_empty() { String::new() } else { format!("<thead>{}</thead>", cells("th", &names)) };
    let body: String = rows.iter().map(|row| cells("td", row)).collect();
    format!("<div class=\"wide\"><table>{head}<tbody>\n{body}</tbody></table></div>\n")
}

/// A row of two cells.
pub fn row(name: &str, value: impl Into<String>) -> Vec<String> {
    vec![name.to_owned(), value.into()]
}

/// Tables of two columns beside each other, by name; those without rows are left out.
pub fn side_by_side(tables: Vec<(&str, Vec<Vec<String>>)>) -> String {
    let tables = tables.into_iter().filter(|(_, rows)| !rows.is_empty());
    let one = |(name, rows): (&str, Vec<Vec<String>>)| {
        format!("<div><h3>{name}</h3>\n{}</div>\n", table(&[], rows))
    };
    format!("<h2>All figures</h2>\n<div class=\"pair\">\n{}</div>\n", tables.map(one).collect::<String>())
}

/// What the run was to be failed for, if for anything.
pub fn threshold_table(judged: &[Judged]) -> String {
    let rows: String = judged
        .iter()
        .map(|judged| {
            let (class, state) = match judged.broken {
                Some(true) => ("bad", "broken"),
                Some(false) => ("good", "kept"),
                None => ("warn", "not judged"),
            };
            let found = judged.found.map_or_else(|| "no such figure".to_owned(), exact);
            let condition = escape(&judged.condition);
            format!("<tr><td>{condition}</td><td class=\"n\">{found}</td><td class=\"{class}\">{state}</td></tr>\n")
        })
        .collect();
    if rows.is_empty() {
        return String::new();
    }
    let head = "<thead><tr><th>fails if</th><th class=\"n\">found</th><th>verdict</th></tr></thead>";
    section(
        "Thresholds",
        &format!("<div class=\"wide\"><table>{head}<tbody>\n{rows}</tbody></table></div>\n"),
    )
}

/// Distributions that are not empty, by name.
pub fn latency_table(kinds: &[(&str, &Percentiles)]) -> String {
    let row = |(name, found): &(&str, &Percentiles)| {
        let Percentiles { count, mean, p50, p90, p99, p99_9, p99_99, max } = **found;
        let mut cells = vec![(*name).to_owned(), grouped(count)];
        cells.extend([mean, p50, p90, p99, p99_9, p99_99, max].map(two));
        cells
    };
    let rows = kinds.iter().filter(|(_, found)| found.count > 0).map(row).collect();
    let head = ["ms", "#count", "#mean", "#p50", "#p90", "#p99", "#p99.9", "#p99.99", "#max"];
    section("Latencies", &table(&head, rows))
}

/// Charts, each with its legend and note.
pub fn over_time(figures: &[Figure]) -> String {
    let drawn: String = figures.iter().map(figure).collect();
    format!("<h2>Over time</h2>\n<div class=\"charts\">\n{drawn}</div>\n")
}

/// A chart with its legend and note.
fn figure(figure: &Figure) -> String {
    let chart = &figure.chart;
    let entry = |(place, line): (usize, &crate::chart::Line)| {
        let (class, path) = match line.shape {
            Shape::Line => ("line", "M1 5H25"),
            Shape::Columns => ("columns", "M2 1H24V9H2Z"),
        };
        let swatch = format!(
            "<svg viewBox=\"0 0 26 10\" aria-hidden=\"true\"><path class=\"{class} s{}\" d=\"{path}\"/></svg>",
            place % COLOURS
        );
        format!("<li>{swatch}{}</li>", escape(&line.name))
    };
    let legend: String = chart.lines.iter().enumerate().map(entry).collect();
    let legend = if legend.is_empty() { legend } else { format!("<ul>{legend}</ul>\n") };
    let (title, note) = (escape(&chart.title), escape(figure.note));
    format!(
        "<figure>\n<h3>{title}</h3>\n{legend}<div class=\"chart\">{}</div>\n<figcaption>{note}</figcaption>\n</figure>\n",
        chart.svg()
    )
}

/// With two digits behind the point.
pub fn two(value: f64) -> String {
    format!("{value:.2}")
}

/// A share of 1.
pub fn percent(share: f64) -> String {
    format!("{} %", exact(share * 100.0))
}

/// A size in memory.
pub fn mib(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / MIB)
}

/// With a thin space between thousands.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            out.push('\u{202f}');
        }
        out.push(digit);
    }
    out
}

/// A moment in UTC, to the second. Howard Hinnant's `civil_from_days`, for days since 1970.
pub fn date(unix_ms: u64) -> String {
    let second = unix_ms / 1000;
    let days = second / DAY_S + 719_468; // since 0000-03-01
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153; // months since March
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute, rest) = (second / 3600 % 24, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{rest:02}")
}
