//! `bench connect`: what of a server works, step by step, each with its time, and what to do about what
//! does not. Steps that need one that failed are left out; the others are tried.

use std::fmt;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::{Value, json};

use crate::args::{Common, addresses, listening};
use crate::clock::random;
use crate::duplex::Duplex;
use crate::http::{Answer, Client};
use crate::run::Failure;
use crate::tell;

/// Longest wait of a step.
const PATIENCE: Duration = Duration::from_secs(10);

/// Bytes of an answer that are shown.
const SAMPLE_BYTES: usize = 120;

/// Tests the connection as asked for, and writes the outcome where no load follows that has a report of
/// its own; whether everything worked.
pub fn test(asked: &Common) -> Result<bool, Failure> {
    let output = &asked.output;
    let alone = asked.users.is_none();
    if alone && (output.html.is_some() || !output.fail_if.is_empty()) {
        return Err(Failure::Usage("connect has charts and figures only with --users".to_owned()));
    }
    let outcome = match output.json_on_stdout() {
        false => run(&asked.server.target, &mut io::stdout()),
        true => run(&asked.server.target, &mut io::stderr()),
    };
    let outcome = outcome.map_err(Failure::Output)?;
    if let Some(path) = output.json.as_deref().filter(|_| alone) {
        tell::write_json(&outcome, path).map_err(Failure::Output)?;
    }
    Ok(outcome.works)
}

/// Says what works and what does not.
fn run<'a>(target: &'a str, out: &mut dyn Write) -> io::Result<Outcome<'a>> {
    writeln!(out, "Connection test of {target}\n")?;
    let mut screen = Screen { out, steps: vec![] };
    probe(target, &mut screen)?;
    let steps = screen.steps;
    let failed = steps.iter().filter(|step| step.works == Some(false)).count();
    match failed {
        0 => writeln!(out, "\nEverything works.")?,
        1 => writeln!(out, "\nOne step failed.")?,
        _ => writeln!(out, "\n{failed} steps failed.")?,
    }
    Ok(Outcome { target, works: failed == 0, steps })
}

/// The whole test.
#[derive(Debug, Serialize)]
struct Outcome<'a> {
    target: &'a str,
    works: bool,
    steps: Vec<Step>,
}

/// How one step went.
#[derive(Debug, Serialize)]
struct Step {
    step: &'static str,
    /// `None`: not tried, for one that it needs has failed.
    works: Option<bool>,
    ms: Option<f64>,
    /// What there is to say about it.
    told: String,
}

/// What went wrong, and what can be done about it.
struct Trouble {
    what: String,
    remedy: &'static str,
}

fn trouble(what: impl fmt::Display, remedy: &'static str) -> Trouble {
    Trouble { what: what.to_string(), remedy }
}

/// Of a step that worked: its outcome, and what to say about it.
type Done<T> = Result<(T, String), Trouble>;

struct Screen<'a> {
    out: &'a mut dyn Write,
    steps: Vec<Step>,
}

impl Screen<'_> {
    /// Tries a step and tells how it went.
    fn step<T>(&mut self, step: &'static str, act: impl FnOnce() -> Done<T>) -> io::Result<Option<T>> {
        let begun = Instant::now();
        let done = act();
        let ms = begun.elapsed().as_secs_f64() * 1e3;
        match done {
            Ok((outcome, told)) => {
                writeln!(self.out, "  ok    {step:<22} {ms:>9.2} ms   {told}")?;
                self.steps.push(Step { step, works: Some(true), ms: Some(ms), told });
                Ok(Some(outcome))
            }
            Err(Trouble { what, remedy }) => {
                let told = clean(&what);
                writeln!(self.out, "  FAIL  {step:<22} {ms:>9.2} ms   {told}")?;
                writeln!(self.out, "        → {remedy}")?;
                self.steps.push(Step { step, works: Some(false), ms: Some(ms), told });
                Ok(None)
            }
        }
    }

    fn skip(&mut self, steps: &[&'static str]) -> io::Result<()> {
        for step in steps {
            writeln!(self.out, "  -     {step:<22} {:>12}   not tried", "")?;
            self.steps.push(Step { step, works: None, ms: None, told: "not tried".to_owned() });
        }
        Ok(())
    }
}

/// Text from outside, without what could steer a terminal.
fn clean(text: &str) -> String {
    text.trim().chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

const TCP: &str = "TCP";
const HTTP: &str = "HTTP /health";
const SIGN_UP: &str = "sign up";
const LOG_IN: &str = "log in";
const WEBSOCKET: &str = "WebSocket + CONNECT";
const POLLING: &str = "long polling + CONNECT";
const ROUND_TRIP: &str = "message round trip";

fn probe(target: &str, screen: &mut Screen) -> io::Result<()> {
    let Some(address) = screen.step("address", || address(target))? else {
        return screen.skip(&[TCP, HTTP, SIGN_UP, LOG_IN, WEBSOCKET, POLLING, ROUND_TRIP]);
    };
    if screen.step(TCP, || tcp(address))?.is_none() {
        return screen.skip(&[HTTP, SIGN_UP, LOG_IN, WEBSOCKET, POLLING, ROUND_TRIP]);
    }
    if screen.step(HTTP, || health(address))?.is_none() {
        return screen.skip(&[SIGN_UP, LOG_IN, WEBSOCKET, POLLING, ROUND_TRIP]);
    }
    let mut rest = Rest { client: Client::with_patience(address, PATIENCE) };
    let name = format!("connection-test-{:08x}", random());
    if screen.step(SIGN_UP, || rest.sign_up(&name))?.is_none() {
        return screen.skip(&[LOG_IN, WEBSOCKET, POLLING, ROUND_TRIP]);
    }
    let Some(token) = screen.step(LOG_IN, || rest.log_in(&name))? else {
        return screen.skip(&[WEBSOCKET, POLLING, ROUND_TRIP]);
    };
    let duplex = screen.step(WEBSOCKET, || websocket(address, &token))?;
    screen.step(POLLING, || polling(address, &token))?;
    match duplex {
        Some(duplex) => screen.step(ROUND_TRIP, || rest.round_trip(&name, &token, duplex)).map(|_| ()),
        None => screen.skip(&[ROUND_TRIP]),
    }
}

fn address(target: &str) -> Done<SocketAddr> {
    let remedy =
        "write it as HOST:PORT, such as 127.0.0.1:4000; `getent hosts NAME` tells what a name means here";
    let all = addresses(target).map_err(|why| trouble(why, remedy))?;
    let told: Vec<String> = all.iter().map(SocketAddr::to_string).collect();
    let address = listening(&all);
    let used = if all.len() > 1 { format!("; using {address}") } else { String::new() };
    Ok((address, told.join(", ") + &used))
}

fn tcp(address: SocketAddr) -> Done<()> {
    match std::net::TcpStream::connect_timeout(&address, PATIENCE) {
        Ok(stream) => {
            let own = stream.local_addr().map(|own| format!("from {own}")).unwrap_or_default();
            Ok(((), own))
        }
        Err(why) if why.kind() == io::ErrorKind::ConnectionRefused => Err(trouble(
            why,
            "nothing listens there: start the server (`minitalk serve`), or give its address (--target)",
        )),
        Err(why) => Err(trouble(
            why,
            "a firewall may drop it, or the host is down: try from the server's own machine",
        )),
    }
}

fn health(address: SocketAddr) -> Done<()> {
    let answer = Client::with_patience(address, PATIENCE).get("/health", None).map_err(|why| {
        trouble(why, "what listens there does not speak HTTP: is this its plain HTTP port, not one of TLS?")
    })?;
    match answer.status {
        404 => Ok(((), "404: this server offers no /health, but speaks HTTP".to_owned())),
        200..=299 => Ok(((), answer.status.to_string())),
        _ => Err(trouble(
            told(&answer),
            "the server is not well, or a proxy before it finds none: see their logs",
        )),
    }
}

struct Rest {
    client: Client,
}

impl Rest {
    fn post(
        &mut self,
        path: &str,
        token: Option<&str>,
        body: &Value,
        remedy: &'static str,
    ) -> Result<(u16, Value), Trouble> {
        let answer = self.client.post(path, token, body.to_string().as_bytes()).map_err(|why| {
            trouble(
                format!("POST {path}: {why}"),
                "the server took the connection, but gave no answer: see its log",
            )
        })?;
        if !(200..300).contains(&answer.status) {
            return Err(trouble(format!("POST {path}: {}", told(&answer)), remedy));
        }
        let read = serde_json::from_slice(&answer.body);
        let body = read.map_err(|_| trouble(format!("POST {path}: no JSON in {}", told(&answer)), remedy))?;
        Ok((answer.status, body))
    }

    fn sign_up(&mut self, name: &str) -> Done<()> {
        let remedy = "the server does not take new users: is this a chat server, is its disk full, is a limit reached?";
        let (status, _) = self.post("/api/auth/signup", None, &credentials(name), remedy)?;
        Ok(((), format!("{status}, {name}")))
    }

    fn log_in(&mut self, name: &str) -> Done<String> {
        let remedy =
            "a user that was just made is not known: do several servers without common storage answer there?";
        let (status, answer) = self.post("/api/auth/login", None, &credentials(name), remedy)?;
        match answer["token"].as_str() {
            Some(token) => Ok((token.to_owned(), status.to_string())),
            None => Err(trouble("no token in the answer", remedy)),
        }
    }

    /// A room of one's own, a message into it, and its ack and delivery.
    fn round_trip(&mut self, name: &str, token: &str, mut duplex: Duplex) -> Done<()> {
        let remedy =
            "messages are taken, but not delivered to a member: see the server's log and `minitalk status`";
        let body = json!({"name": name});
        let (_, room) = self.post("/api/chatrooms", Some(token), &body, remedy)?;
        let room_id = room["roomId"].as_str().ok_or_else(|| trouble("the new room has no roomId", remedy))?;
        let begun = Instant::now();
        let sent = json!(["send_message", {"roomId": room_id, "content": name}]);
        duplex.say(&format!("421{sent}"));
        let (mut acked_ms, mut heard_ms) = (None, None);
        while acked_ms.is_none() || heard_ms.is_none() {
            let text = duplex.hear(begun + PATIENCE).map_err(|why| {
                let missing = if acked_ms.is_none() { "no ack" } else { "no delivery" };
                trouble(format!("{missing}: {why}"), remedy)
            })?;
            let now_ms = begun.elapsed().as_secs_f64() * 1e3;
            if text.starts_with("431[") {
                if !text.contains("\"ok\":true") {
                    return Err(trouble(
                        format!("refused: {text}"),
                        "the server says why; a limit may be reached",
                    ));
                }
                acked_ms = Some(now_ms);
            } else if text.starts_with("42[\"message\"") && text.contains(name) {
                heard_ms = Some(now_ms);
            }
        }
        let (acked, heard) = (acked_ms.unwrap_or_default(), heard_ms.unwrap_or_default());
        Ok(((), format!("ack after {acked:.2} ms, delivery after {heard:.2} ms")))
    }
}

fn websocket(address: SocketAddr, token: &str) -> Done<Duplex> {
    let remedy = "a proxy must pass the headers Upgrade and Connection on; the server must know the token";
    let deadline = Instant::now() + PATIENCE;
    let mut duplex = Duplex::open(address, token, deadline).map_err(|why| trouble(why, remedy))?;
    duplex.say("40");
    loop {
        let text = duplex.hear(deadline).map_err(|why| trouble(why, remedy))?;
        match text.get(..2) {
            Some("40") => return Ok((duplex, String::new())),
            Some("44") => return Err(trouble(format!("CONNECT was refused: {}", &text[2..]), remedy)),
            _ => {}
        }
    }
}

fn polling(address: SocketAddr, token: &str) -> Done<()> {
    let remedy = "the transport may be switched off, or requests of one session reach servers that don't share it; \
                  WebSocket alone is enough unless clients or --polling need this one";
    let mut client = Client::with_patience(address, PATIENCE);
    let mut path = format!("/socket.io/?EIO=4&transport=polling&token={token}");
    let open = body(client.get(&path, None), remedy)?;
    let sid = crate::packet::sid(open.as_bytes()).ok_or_else(|| trouble("no session was opened", remedy))?;
    path.push_str(&format!("&sid={sid}"));
    body(client.post(&path, None, b"40"), remedy)?;
    let connected = body(client.get(&path, None), remedy)?;
    match connected.starts_with("40") {
        true => Ok(((), String::new())),
        false => Err(trouble(format!("CONNECT was answered with {}", sample(connected.as_bytes())), remedy)),
    }
}

fn body(answer: io::Result<Answer>, remedy: &'static str) -> Result<String, Trouble> {
    let answer = answer.map_err(|why| trouble(why, remedy))?;
    match answer.status {
        200 => Ok(String::from_utf8_lossy(&answer.body).into_owned()),
        _ => Err(trouble(told(&answer), remedy)),
    }
}

fn credentials(name: &str) -> Value {
    json!({"username": name, "password": format!("Pw-{name}-1")})
}

fn told(answer: &Answer) -> String {
    format!("{} {}", answer.status, sample(&answer.body))
}

fn sample(body: &[u8]) -> String {
    String::from_utf8_lossy(&body[..body.len().min(SAMPLE_BYTES)]).into_owned()
}
