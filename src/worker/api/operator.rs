//! What operators and load balancers ask. The supervisor knows the whole host; it is asked over its
//! control socket, so that any worker gives the same answer.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use minitalk_supervisor::{CONTROL_SOCKET, RUN_DIR, unix};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::Mutex;

use super::Rest;
use super::answer::Problem;
use crate::config::Config;

/// Longest wait for the supervisor's answer.
const TIMEOUT: Duration = Duration::from_secs(2);

/// Bytes of the supervisor's answer, at most.
const STATUS_BYTES: u64 = 16 << 20;

/// An answer is given again for this long; also how much later a load balancer hears of a change.
const FRESH: Duration = Duration::from_millis(200);

/// Time between two attempts to reach a supervisor that has many callers, or becomes another executable.
const RETRY: Duration = Duration::from_millis(5);

/// The host's status, or why there is none.
type Answer = Result<Arc<Value>, String>;

/// The supervisor's last answer. Whoever comes while it is asked waits for that answer, so that a
/// worker has one question open whatever the number of its callers.
#[derive(Default)]
pub struct Supervisor(Mutex<Option<(Instant, Answer)>>);

impl Supervisor {
    /// How the host is.
    pub async fn status(&self, config: &Config) -> Answer {
        let mut last = self.0.lock().await;
        if let Some((at, answer)) = &*last
            && at.elapsed() < FRESH
        {
            return answer.clone();
        }
        let asked = tokio::time::timeout(TIMEOUT, ask(config)).await;
        let answer = match asked {
            Ok(Ok(status)) => Ok(Arc::new(status)),
            Ok(Err(error)) => Err(format!("the supervisor does not answer: {error}")),
            Err(_) => Err("the supervisor does not answer in time".to_owned()),
        };
        *last = Some((Instant::now(), answer.clone()));
        answer
    }
}

/// This worker serves.
#[utoipa::path(get, path = "/health", tag = "operation", responses((status = 200, body = Value)))]
pub async fn health() -> Json<Value> {
    Json(json!({"status": "ok"}))
}

/// The whole host serves; otherwise the answer says why not.
#[utoipa::path(get, path = "/ready", tag = "operation",
    responses((status = 200, body = Value), (status = 503, body = Value)))]
pub async fn ready(State(rest): State<Rest>) -> (StatusCode, Json<Value>) {
    let reason = match rest.supervisor.status(&rest.app.config).await {
        Ok(status) if status["ready"] == true => {
            return (StatusCode::OK, Json(json!({"status": "ready", "warnings": warnings(&status)})));
        }
        Ok(status) => status["reason"].clone(),
        Err(reason) => json!(reason),
    };
    (StatusCode::SERVICE_UNAVAILABLE, Json(json!({"status": "not ready", "reason": reason})))
}

/// What should be looked at although the host serves: damaged files.
fn warnings(status: &Value) -> Vec<String> {
    let text = |found: &Value| {
        let what = found["what"].as_str().unwrap_or_default();
        format!(
            "{}:{}: byte {}: {what}",
            found["file"].as_str().unwrap_or_default(),
            found["line"],
            found["byte"]
        )
    };
    storage(status)["damage"].as_array().into_iter().flatten().map(text).collect()
}

/// The report of the storage writer.
fn storage(status: &Value) -> &Value {
    let processes = status["processes"].as_array().map(Vec::as_slice).unwrap_or_default();
    processes
        .iter()
        .find(|process| process["role"] == "storage")
        .map_or(&Value::Null, |found| &found["report"])
}

/// What the host is and does: processes, totals, queues, rates, files.
#[utoipa::path(get, path = "/api/stats", tag = "operation",
    responses((status = 200, body = Value), (status = 503, body = Problem)))]
pub async fn stats(State(rest): State<Rest>) -> (StatusCode, Json<Value>) {
    match rest.supervisor.status(&rest.app.config).await {
        Ok(status) => (StatusCode::OK, Json(shape(&status))),
        Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, Json(json!({"error": reason, "code": "INTERNAL"}))),
    }
}

async fn ask(config: &Config) -> io::Result<Value> {
    use io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof, WouldBlock};
    loop {
        match ask_once(config).await {
            Err(error)
                if matches!(error.kind(), WouldBlock | BrokenPipe | ConnectionReset | UnexpectedEof) =>
            {
                tokio::time::sleep(RETRY).await;
            }
            answered => return answered,
        }
    }
}

async fn ask_once(config: &Config) -> io::Result<Value> {
    let run_dir = config.data_dir.join(RUN_DIR);
    let mut stream = UnixStream::from_std(unix::connect_at_once(&run_dir, CONTROL_SOCKET)?)?;
    stream.write_all(b"status\n").await?;
    let mut answer = Vec::new();
    stream.take(STATUS_BYTES).read_to_end(&mut answer).await?;
    Ok(serde_json::from_slice(&answer)?)
}

/// The page of contract §8 out of the supervisor's status: totals beside the processes.
fn shape(status: &Value) -> Value {
    let processes = status["processes"].as_array().cloned().unwrap_or_default();
    let total = |name: &str| -> u64 {
        let of = |process: &Value| process[name].as_u64().or(process["report"][name].as_u64());
        processes.iter().filter_map(of).sum()
    };
    let report = storage(status);
    json!({
        "ready": status["ready"],
        "reason": status["reason"],
        "totals": {
            "connections": total("connections"),
            "accepted": total("accepted_total"),
            "messagesIn": total("messages_in_total"),
            "deliveries": total("deliveries_total"),
            "slowConsumers": total("slow_consumers_total"),
            "pingTimeouts": total("ping_timeouts_total"),
            "protocolViolations": total("violations_total"),
            "overloaded": total("overloaded_total"),
            "tokensExpired": total("tokens_expired_total"),
            "loggedOut": total("logged_out_total"),
            "challengeConnections": total("challenge_connections"),
            "ticketsIssued": report["challenges"]["tickets_issued_total"],
            "ticketsUsed": report["challenges"]["tickets_used_total"],
            "ticketsRefused": total("tickets_refused_total"),
            "challengeTimeouts": report["challenges"]["timeouts_total"],
            "searches": total("searches_total"),
            "searchesGivenUp": total("searches_given_up_total"),
            "restarts": total("restarts"),
            "rssBytes": total("rss_bytes"),
        },
        "queues": {
            "unanswered": total("unanswered"),
            "storage": report["queue"],
            "searches": total("searches"),
        },
        "rates": {
            "messagesInPerSecond": total("messages_in_per_s"),
            "deliveriesPerSecond": total("deliveries_per_s"),
        },
        "caches": caches(&processes),
        "position": report["position"],
        "files": report["files"],
        "disk": {"state": report["disk"], "freeBytes": report["disk_free_bytes"], "bytes": report["disk_bytes"]},
        "damage": report["damage"],
        "scrub": report["scrub"],
        "processes": processes,
    })
}

/// The processes' caches, each kind summed for the host.
fn caches(processes: &[Value]) -> Vec<Value> {
    let mut sums: BTreeMap<&str, [u64; CACHE_FIGURES.len()]> = BTreeMap::new();
    for cache in processes.iter().filter_map(|process| process["report"]["caches"].as_array()).flatten() {
        let sum = sums.entry(cache["name"].as_str().unwrap_or_default()).or_default();
        for (figure, sum) in CACHE_FIGURES.iter().zip(sum) {
            *sum += cache[figure].as_u64().unwrap_or(0);
        }
    }
    let summed = |(name, sum): (&str, [u64; CACHE_FIGURES.len()])| {
        let mut cache = serde_json::Map::from_iter([("name".to_owned(), name.into())]);
        cache.extend(CACHE_FIGURES.iter().zip(sum).map(|(figure, sum)| ((*figure).to_owned(), sum.into())));
        Value::Object(cache)
    };
    sums.into_iter().map(summed).collect()
}

/// What is known of a cache.
const CACHE_FIGURES: [&str; 4] = ["entries", "limit", "hits", "misses"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn caches_of_a_kind_are_summed() {
        let cache = |name: &str, hits: u64| json!({"name": name, "entries": 1, "limit": 10, "hits": hits, "misses": 2});
        let processes = [
            json!({"report": {"caches": [cache("users", 5), cache("rooms", 1)]}}),
            json!({"report": {"caches": [cache("users", 7)]}}),
            json!({"report": {}}),
        ];
        let rooms = json!({"name": "rooms", "entries": 1, "limit": 10, "hits": 1, "misses": 2});
        let users = json!({"name": "users", "entries": 2, "limit": 20, "hits": 12, "misses": 4});
        assert_eq!(caches(&processes), [rooms, users]);
    }
}
