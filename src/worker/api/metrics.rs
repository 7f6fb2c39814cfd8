//! The host's figures as one page for Prometheus, out of one answer of the supervisor: whichever worker is
//! asked, the page is the same.
//!
//! What stands on it is listed in [`families`]; this file reads that from the supervisor's status. Figures of
//! a process that is being replaced are left out, and [counted](host) as missing.

mod families;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Number, Value, json};

use self::families::{FAMILIES, Family, Figure, Of};
use super::Rest;
use crate::metrics::page::{CONTENT_TYPE, Label, Page};

/// The figures of the whole host, for Prometheus.
#[utoipa::path(get, path = "/metrics", tag = "operation", responses(
    (status = 200, description = "Text format 0.0.4", body = String, content_type = "text/plain"),
    (status = 503, description = "The reason why there are none", body = String, content_type = "text/plain")))]
pub async fn metrics(State(rest): State<Rest>) -> Response {
    match rest.supervisor.status(&rest.app.config).await {
        Ok(status) => ([(header::CONTENT_TYPE, CONTENT_TYPE)], page(&status)).into_response(),
        Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, reason).into_response(),
    }
}

/// The same as `/metrics`, where the older back end has it.
#[utoipa::path(get, path = "/actuator/prometheus", tag = "operation", responses(
    (status = 200, description = "Text format 0.0.4", body = String, content_type = "text/plain"),
    (status = 503, description = "The reason why there are none", body = String, content_type = "text/plain")))]
pub async fn prometheus(rest: State<Rest>) -> Response {
    metrics(rest).await
}

/// Something that has figures: its labels and where they are.
struct Row<'a> {
    labels: Vec<(&'static str, String)>,
    figures: &'a Value,
}

fn page(status: &Value) -> String {
    let processes = status["processes"].as_array().map(Vec::as_slice).unwrap_or_default();
    // One that lets its clients go has the labels of its successor, whose figures begin anew.
    let stays = |process: &&Value| process["leaving"] != true;
    let processes: Vec<Value> = processes.iter().filter(stays).cloned().collect();
    let processes = processes.as_slice();
    let of_role =
        |role: &str| -> Vec<&Value> { processes.iter().filter(|process| process["role"] == role).collect() };
    let host = host(status, processes);
    let mut page = Page::default();
    for family in FAMILIES {
        let rows: Vec<Row<'_>> = match family.of {
            Of::Host => vec![Row { labels: Vec::new(), figures: &host }],
            Of::Process => processes.iter().map(process).collect(),
            Of::Worker => of_role(WORKER).into_iter().map(worker).collect(),
            Of::Storage => {
                let storage = of_role("storage").into_iter();
                storage.map(|process| Row { labels: Vec::new(), figures: &process["report"] }).collect()
            }
        };
        page.metric(family.name, family.kind, family.help);
        rows.iter().for_each(|row| write(&mut page, family, row));
    }
    page.finish()
}

const WORKER: &str = "worker";

/// What is known of the host itself.
fn host(status: &Value, processes: &[Value]) -> Value {
    let workers = processes.iter().filter(|process| process["role"] == WORKER).count();
    let is_missing = |process: &&Value| {
        let reports = process["role"] != "supervisor";
        process["usage"].is_null() || reports && process["report"].as_object().is_none_or(|it| it.is_empty())
    };
    let supervisor = processes.iter().find(|process| process["role"] == "supervisor");
    json!({
        "here": true,
        "ready": status["ready"],
        "start_time_s": supervisor.map(|supervisor| &supervisor["usage"]["start_time_s"]),
        "workers": workers,
        "missing": processes.iter().filter(is_missing).count(),
    })
}

fn process(process: &Value) -> Row<'_> {
    let role = process["role"].as_str().unwrap_or_default();
    let mut labels = vec![("role", role.to_owned())];
    if role == WORKER {
        labels.push((WORKER, process["id"].to_string()));
    }
    Row { labels, figures: process }
}

fn worker(process: &Value) -> Row<'_> {
    Row { labels: vec![(WORKER, process["id"].to_string())], figures: &process["report"] }
}

/// The samples of one metric in one row.
fn write(page: &mut Page, family: &Family, row: &Row<'_>) {
    let labels: Vec<Label<'_>> = row.labels.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let mut sample = |more: &[Label<'_>], value: Option<Number>| {
        if let Some(value) = value {
            page.sample(family.name, &[&labels, more].concat(), &value);
        }
    };
    let at = |path: &str| row.figures.pointer(path).unwrap_or(&Value::Null);
    match family.figure {
        Figure::One(path) => sample(&[], number(at(path))),
        Figure::By(label, values) => {
            values.iter().for_each(|(value, path)| sample(&[(label, value)], number(at(path))));
        }
        Figure::Is(path, wanted) => {
            sample(&[], at(path).as_str().map(|found| u64::from(found == wanted).into()));
        }
        Figure::Each(path, label, field) => {
            for item in at(path).as_array().into_iter().flatten() {
                sample(&[(label, item["name"].as_str().unwrap_or_default())], number(&item[field]));
            }
        }
        Figure::Histogram(path) => page.histogram(family.name, &labels, at(path)),
    }
}

fn number(value: &Value) -> Option<Number> {
    match value {
        Value::Number(number) => Some(number.clone()),
        Value::Bool(yes) => Some(u64::from(*yes).into()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    fn has(page: &str, line: &str) -> bool {
        page.lines().any(|other| other == line)
    }

    #[test]
    fn names_keep_to_the_convention() {
        let mut names = HashSet::new();
        for Family { name, kind, help, .. } in FAMILIES {
            assert!(names.insert(name), "{name} is there twice");
            assert!(name.starts_with("minitalk_"), "{name}");
            assert_eq!(name.ends_with("_total"), *kind == crate::metrics::page::Kind::Counter, "{name}");
            assert!(!help.is_empty() && help.ends_with('.'), "{name}");
        }
    }

    #[test]
    fn figures_have_the_labels_of_their_process() {
        let usage = json!({"cpu_seconds": 1.5, "start_time_s": 100.25, "open_fds": 7, "max_fds": 9});
        let caches = json!([{"name": "users", "entries": 1, "limit": 5, "hits": 2, "misses": 3}]);
        let status = json!({"ready": false, "processes": [
            {"role": "supervisor", "id": 0, "ready": true, "usage": usage, "report": {}},
            {"role": "storage", "id": 0, "ready": true, "usage": usage, "report": {"disk": "full", "queue": 3}},
            {"role": "worker", "id": 0, "ready": true, "usage": usage, "report": {
                "link": "up", "websocket_connections": 4, "polling_connections": 2, "caches": caches,
                "delivery": {"le": [1.0], "counts": [1, 0], "sum": 0.5},
            }},
            {"role": "worker", "id": 1, "ready": false, "usage": null, "report": {}, "restarts": 8},
        ]});
        let page = page(&status);
        for line in [
            "minitalk_ready 0",
            "minitalk_workers 2",
            "minitalk_scrape_errors 1",
            "minitalk_start_time_seconds 100.25",
            "minitalk_process_up{role=\"supervisor\"} 1",
            "minitalk_process_up{role=\"worker\",worker=\"1\"} 0",
            "minitalk_process_restarts_total{role=\"worker\",worker=\"1\"} 8",
            "minitalk_process_cpu_seconds_total{role=\"storage\"} 1.5",
            "minitalk_connections{worker=\"0\",transport=\"polling\"} 2",
            "minitalk_link_up{worker=\"0\"} 1",
            "minitalk_cache_misses_total{worker=\"0\",cache=\"users\"} 3",
            "minitalk_delivery_seconds_bucket{worker=\"0\",le=\"+Inf\"} 1",
            "minitalk_storage_writable 0",
            "minitalk_storage_queue_operations 3",
        ] {
            assert!(has(&page, line), "{line} is not in\n{page}");
        }
        assert!(!page.contains("minitalk_process_open_fds{role=\"worker\",worker=\"1\"}"), "{page}");
    }
}
