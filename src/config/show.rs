//! The settings in effect as a configuration file, each with where it came from.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use serde_json::{Map, Value};

use super::{Config, duration};

/// Settings of which only is said that they are there.
const SECRETS: [&str; 1] = ["auth.jwt_secret"];
const HIDDEN: &str = "(hidden)";

/// Where settings came from: `FILE:LINE`, a variable or a flag. Those that are not here are defaults.
pub type Origins = BTreeMap<String, String>;

/// A whole file, with the origin behind each line. Secrets are masked.
pub fn show(config: &Config, origins: &Origins) -> String {
    let mut page = String::new();
    if let Ok(Value::Object(settings)) = serde_json::to_value(config) {
        table(&settings, "", origins, &mut page);
    }
    page
}

/// The settings of one table, then its tables.
fn table(settings: &Map<String, Value>, name: &str, origins: &Origins, page: &mut String) {
    let key = |short: &str| if name.is_empty() { short.to_owned() } else { format!("{name}.{short}") };
    if !name.is_empty() {
        let _ = writeln!(page, "\n[{name}]"); // a String takes everything
    }
    let mut tables = Vec::new();
    for (short, value) in settings {
        let key = key(short);
        match (text(&key, value), value) {
            (Some(text), _) => {
                let origin = origins.get(&key).map_or("default", String::as_str);
                let _ = writeln!(page, "{:<44} # {origin}", format!("{short} = {text}"));
            }
            (None, Value::Object(inner)) => tables.push((key, inner)),
            (None, _) => {}
        }
    }
    for (name, inner) in tables {
        table(inner, &name, origins, page);
    }
}

/// A value as the file has it; none: a table.
pub(super) fn text(key: &str, value: &Value) -> Option<String> {
    match value {
        Value::String(secret) if SECRETS.contains(&key) && !secret.is_empty() => {
            Some(toml_edit::Value::from(HIDDEN).to_string())
        }
        Value::String(text) => Some(toml_edit::Value::from(text.as_str()).to_string()),
        Value::Array(entries) => {
            let entries: Vec<String> = entries.iter().filter_map(|entry| text(key, entry)).collect();
            Some(format!("[{}]", entries.join(", ")))
        }
        Value::Object(fields) => {
            let (secs, nanos) = (fields.get("secs")?.as_u64()?, fields.get("nanos")?.as_u64()?);
            let time = Duration::from_secs(secs) + Duration::from_nanos(nanos);
            Some(format!("\"{}\"", duration::show(time)))
        }
        other => Some(other.to_string()),
    }
}
