//! Clients of `rust_socketio`, as `tests/e2e/lib/driven.mjs` asks for them: commands come as lines of
//! JSON, what the clients hear goes out the same way.
//!
//! `{id, do: "open", url, transport, token, place, since}`, `{id, do: "emit", event, data}`,
//! `{id, do: "ask", ask, event, data}`, `{id, do: "close"}`; out come `{id, told: "connect"}`,
//! `{id, told: "event", name, args}`, `{id, told: "ack", ask, args}`, `{id, told: "failed", why}`.

use std::collections::HashMap;
use std::io::{BufRead, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use rust_socketio::asynchronous::{Client, ClientBuilder, ReconnectSettings};
use rust_socketio::{Event, Payload, TransportType};
use serde_json::{Value, json};

const ACK_TIMEOUT: Duration = Duration::from_secs(30);

fn tell(id: u64, told: &str, more: Value) {
    let mut line = json!({"id": id, "told": told});
    if let (Value::Object(line), Value::Object(more)) = (&mut line, more) {
        line.extend(more);
    }
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

fn arguments(payload: Payload) -> Value {
    match payload {
        Payload::Text(values) => values.into(),
        other => json!([format!("{other:?}")]),
    }
}

fn text<'a>(command: &'a Value, field: &str) -> &'a str {
    command[field].as_str().unwrap_or_default()
}

async fn open(id: u64, command: &Value) -> Option<Client> {
    let token = text(command, "token").to_owned();
    let mut builder = ClientBuilder::new(text(command, "url"))
        .reconnect_delay(50, 200)
        .reconnect_on_disconnect(true)
        .transport_type(match text(command, "transport") {
            "polling" => TransportType::Polling,
            "websocket" => TransportType::Websocket,
            _ => TransportType::WebsocketUpgrade,
        });
    let place = text(command, "place");
    // In the query it is part of the address.
    if place == "header" {
        builder = builder.opening_header("authorization", format!("Bearer {token}"));
    }
    let mut auth = json!({});
    if place == "auth" {
        auth["token"] = token.into();
        builder = builder.auth(auth.clone());
    }
    let last = Arc::new(AtomicU64::new(0));
    let heard = last.clone();
    let client = builder
        .on_any(move |event, payload, _| {
            let args = arguments(payload);
            if let Some(seq) = args[0]["seq"].as_u64() {
                heard.store(seq, Ordering::Relaxed);
            }
            let name = event.to_string();
            Box::pin(async move { tell(id, "event", json!({"name": name, "args": args})) })
        })
        // One name for the server's event and for the library's own troubles, which come as words.
        .on(Event::Error, move |payload, _| {
            let more = json!({"name": "error", "args": arguments(payload)});
            Box::pin(async move { tell(id, "event", more) })
        })
        .on(Event::Connect, move |_, _| Box::pin(async move { tell(id, "connect", json!({})) }))
        .on_reconnect(move || {
            let (mut auth, last) = (auth.clone(), last.load(Ordering::Relaxed));
            Box::pin(async move {
                let mut settings = ReconnectSettings::new();
                auth["since"] = last.into();
                settings.auth(auth);
                settings
            })
        })
        .connect()
        .await;
    client.map_err(|error| tell(id, "failed", json!({"why": error.to_string()}))).ok()
}

async fn act(id: u64, command: &Value, client: &OnceLock<Client>) {
    if text(command, "do") == "open" {
        if let Some(opened) = open(id, command).await {
            let _ = client.set(opened);
        }
        return;
    }
    let Some(client) = client.get() else {
        return tell(id, "failed", json!({"why": "it is not open"}));
    };
    let (event, data) = (text(command, "event").to_owned(), command["data"].clone());
    let done = match text(command, "do") {
        "emit" => client.emit(event, data).await,
        "ask" => {
            let ask = command["ask"].clone();
            let acked = move |payload: Payload, _: Client| {
                let more = json!({"ask": ask, "args": arguments(payload)});
                Box::pin(async move { tell(id, "ack", more) }) as _
            };
            client.emit_with_ack(event, data, ACK_TIMEOUT, acked).await
        }
        _ => client.disconnect().await,
    };
    if let Err(error) = done {
        tell(id, "failed", json!({"why": error.to_string()}));
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let (commands, mut asked) = tokio::sync::mpsc::channel::<Value>(64);
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            let Ok(command) = serde_json::from_str(&line) else { break };
            if commands.blocking_send(command).is_err() {
                break;
            }
        }
        std::process::exit(0);
    });
    // Each client does one thing after the other; no client waits for another.
    let mut clients = HashMap::new();
    while let Some(command) = asked.recv().await {
        let id = command["id"].as_u64().unwrap_or_default();
        let queue = clients.entry(id).or_insert_with(|| {
            let (queue, mut commands) = tokio::sync::mpsc::channel::<Value>(64);
            tokio::spawn(async move {
                let client = OnceLock::new();
                while let Some(command) = commands.recv().await {
                    act(id, &command, &client).await;
                }
            });
            queue
        });
        if queue.send(command).await.is_err() {
            return;
        }
    }
}
