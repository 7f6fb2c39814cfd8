//! `minitalk status`: asks the supervisor over its control socket, so it works while the port does not.

use std::fmt::Write;
use std::io;
use std::time::Duration;

use clap::Args;
use minitalk_supervisor::ask_status;
use serde_json::Value;

use super::{DataArgs, Fault, show};
use crate::config::Environment;

/// `status`
#[derive(Debug, Args)]
pub struct StatusArgs {
    /// Answer in JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    data: DataArgs,
}

/// Longest wait for the supervisor, which does nothing that takes long.
const PATIENCE: Duration = Duration::from_secs(5);
/// Columns; the first two are words, the others numbers.
const HEADINGS: [&str; 9] =
    ["ROLE", "STATE", "ID", "PID", "UPTIME", "RESTARTS", "RSS", "CONNECTIONS", "WAITING"];
const WORD_COLUMNS: usize = 2;

pub(super) fn run(args: StatusArgs, environment: Environment<'_>) -> Result<u8, Fault> {
    let data_dir = args.data.data_dir(environment)?;
    let status = match ask_status(&data_dir, PATIENCE) {
        Ok(status) => status,
        Err(error) => match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                return Err(Fault::NotRunning { data_dir });
            }
            _ => return Err(Fault::NoAnswer { data_dir, error }),
        },
    };
    show(&if args.json { format!("{status}\n") } else { page(&status) })
}

/// The status for people: a headline, a table of processes, and under it the rates of what happens at all.
fn page(status: &Value) -> String {
    let mut page = headline(status);
    let processes = status["processes"].as_array().map(Vec::as_slice).unwrap_or_default();
    let mut rows = vec![HEADINGS.map(str::to_owned)];
    rows.extend(processes.iter().map(row));
    page += &table(&rows);
    for process in processes {
        let rates = process["rates"].as_object().into_iter().flatten();
        let rates: Vec<String> = rates.filter_map(|(name, rate)| told(name, rate.as_f64()?)).collect();
        if !rates.is_empty() {
            let (role, id) = (text(&process["role"]), text(&process["id"]));
            let _ = writeln!(page, "{role} {id}: {}", rates.join(", ")); // a String takes everything
        }
    }
    page
}

/// A rate, unless it is told as 0.0.
fn told(name: &str, rate: f64) -> Option<String> {
    (rate >= 0.05).then(|| format!("{name} {rate:.1}"))
}

fn headline(status: &Value) -> String {
    let listen: Vec<String> = status["listen"].as_array().into_iter().flatten().map(text).collect();
    let state = match status["reason"].as_str() {
        Some("") | None => "ready".to_owned(),
        Some(reason) => format!("not ready ({reason})"),
    };
    format!("{state}, on {}, data in {}\n", listen.join(", "), text(&status["data_dir"]))
}

fn row(process: &Value) -> [String; 9] {
    let report = &process["report"];
    let waiting = match text(&process["role"]).as_str() {
        "storage" => text(&report["queue"]),
        "worker" => text(&report["unanswered"]),
        _ => "-".to_owned(),
    };
    [
        text(&process["role"]),
        if process["ready"] == true { "ready" } else { "not ready" }.to_owned(),
        text(&process["id"]),
        text(&process["pid"]),
        uptime(process["uptime_s"].as_f64().unwrap_or(0.0)),
        text(&process["restarts"]),
        memory(process["rss_bytes"].as_u64().unwrap_or(0)),
        text(&process["connections"]),
        waiting,
    ]
}

fn table(rows: &[[String; 9]]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..HEADINGS.len()).map(width).collect();
    let mut table = String::new();
    for row in rows {
        let mut line = String::new();
        for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
            let _ = match column {
                0 => write!(line, "{cell:<width$}"),
                _ if column < WORD_COLUMNS => write!(line, "  {cell:<width$}"),
                _ => write!(line, "  {cell:>width$}"),
            };
        }
        table += line.trim_end();
        table.push('\n');
    }
    table
}

/// A text without its quotes, a number as it is, and `-` for nothing.
fn text(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// The two largest units.
fn uptime(seconds: f64) -> String {
    let whole = Duration::try_from_secs_f64(seconds).unwrap_or_default().as_secs();
    let (days, hours, minutes) = (whole / 86_400, whole / 3_600 % 24, whole / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds:.1}s"),
        (0, 0, _) => format!("{minutes}m{:02}s", whole % 60),
        (0, _, _) => format!("{hours}h{minutes:02}m"),
        _ => format!("{days}d{hours:02}h"),
    }
}

fn memory(bytes: u64) -> String {
    let tenths = bytes / (1 << 20) * 10 + bytes % (1 << 20) * 10 / (1 << 20);
    format!("{}.{} MiB", tenths / 10, tenths % 10)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_table_is_aligned_and_says_what_waits() {
        let status = json!({
            "ready": false, "reason": "worker 1 is not up", "listen": ["127.0.0.1:4000", "[::1]:4000"],
            "data_dir": "data/storage",
            "processes": [
                {"role": "supervisor", "id": 0, "pid": 7, "uptime_s": 12.34, "restarts": 0,
                 "rss_bytes": 3 << 20, "connections": 0, "ready": false, "report": {}, "rates": {}},
                {"role": "worker", "id": 10, "pid": 12345, "uptime_s": 90.0, "restarts": 2,
                 "rss_bytes": (10 << 20) + (1 << 19), "connections": 1000, "ready": true,
                 "report": {"unanswered": 5}, "rates": {"drained_per_s": 0.0, "messages_in_per_s": 12.0}},
            ],
        });
        assert_eq!(
            page(&status),
            "not ready (worker 1 is not up), on 127.0.0.1:4000, [::1]:4000, data in data/storage\n\
             ROLE        STATE      ID    PID  UPTIME  RESTARTS       RSS  CONNECTIONS  WAITING\n\
             supervisor  not ready   0      7   12.3s         0   3.0 MiB            0        -\n\
             worker      ready      10  12345   1m30s         2  10.5 MiB         1000        5\n\
             worker 10: messages_in_per_s 12.0\n"
        );
    }

    #[test]
    fn uptimes_keep_two_units() {
        for (seconds, shown) in
            [(0.04, "0.0s"), (59.9, "59.9s"), (61.0, "1m01s"), (3_700.0, "1h01m"), (90_000.0, "1d01h")]
        {
            assert_eq!(uptime(seconds), shown);
        }
    }
}
