//! What operators and load balancers ask. The supervisor knows the whole host; it is asked over its
//! control socket, so that any worker gives the same answer.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use minitalk_supervisor::{CONTROL_SOCKET, RUN_DIR, unix};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::Rest;
use crate::config::Config;

/// Longest wait for the supervisor's answer.
const TIMEOUT: std::time::Duration = std::time::Duration::from_secs(2);

/// Bytes of the supervisor's answer, at most.
const STATUS_BYTES: u64 = 16 << 20;

/// `GET /health`: this worker serves.
pub async fn health() -> Json<Value> {
    Json(json!({"status": "ok"}))
}

/// `GET /ready`: the whole host serves.
pub async fn ready(State(rest): State<Rest>) -> (StatusCode, Json<Value>) {
    let reason = match status(&rest.app.config).await {
        Ok(status) if status["ready"] == true => return (StatusCode::OK, Json(json!({"status": "ready"}))),
        Ok(status) => status["reason"].clone(),
        Err(error) => json!(format!("the supervisor does not answer: {error}")),
    };
    (StatusCode::SERVICE_UNAVAILABLE, Json(json!({"status": "not ready", "reason": reason})))
}

/// `GET /api/stats`
pub async fn stats(State(rest): State<Rest>) -> (StatusCode, Json<Value>) {
    match status(&rest.app.config).await {
        Ok(status) => (StatusCode::OK, Json(shape(&status))),
        Err(error) => {
            let reason = format!("the supervisor does not answer: {error}");
            (StatusCode::SERVICE_UNAVAILABLE, Json(json!({"error": reason, "code": "INTERNAL"})))
        }
    }
}

async fn status(config: &Config) -> std::io::Result<Value> {
    let run_dir = config.data_dir.join(RUN_DIR);
    let ask = async {
        let stream = unix::connect(&run_dir, CONTROL_SOCKET)?;
        stream.set_nonblocking(true)?;
        let mut stream = tokio::net::UnixStream::from_std(stream)?;
        stream.write_all(b"status\n").await?;
        let mut answer = Vec::new();
        stream.take(STATUS_BYTES).read_to_end(&mut answer).await?;
        serde_json::from_slice(&answer).map_err(std::io::Error::from)
    };
    tokio::time::timeout(TIMEOUT, ask)
        .await
        .map_err(|_| std::io::Error::from(std::io::ErrorKind::TimedOut))?
}

/// The page of contract §8 out of the supervisor's status: totals beside the processes.
fn shape(status: &Value) -> Value {
    let processes = status["processes"].as_array().cloned().unwrap_or_default();
    let total = |name: &str| -> u64 {
        let of = |process: &Value| process[name].as_u64().or(process["report"][name].as_u64());
        processes.iter().filter_map(of).sum()
    };
    let storage = processes.iter().find(|process| process["role"] == "storage");
    let report = storage.map(|process| process["report"].clone()).unwrap_or_default();
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
            "restarts": total("restarts"),
            "rssBytes": total("rss_bytes"),
        },
        "queues": {"unanswered": total("unanswered"), "storage": report["queue"]},
        "rates": {
            "messagesInPerSecond": total("messages_in_per_s"),
            "deliveriesPerSecond": total("deliveries_per_s"),
        },
        "position": report["position"],
        "files": report["files"],
        "processes": processes,
    })
}
