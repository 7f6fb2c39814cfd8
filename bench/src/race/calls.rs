//! The calls a member makes over REST before it can connect (contract §5), and those that make and look
//! at a challenge.

use std::net::SocketAddr;

use serde_json::{Value, json};

use crate::args;
use crate::http::{Answer, Client};

/// Characters of a refusal's message that are told; more would make a kind of error of each member.
const REASON_CHARS: usize = 120;

/// Places on a page of a ranking, and pages that are read at most.
const RANKING_PAGE: usize = 100;
const RANKING_PAGES_MAX: usize = 100_000;

/// Lengths of courses in km, by their codes (contract §5).
const COURSES: [(&str, f64); 14] = [
    ("M100", 0.1),
    ("M500", 0.5),
    ("ONE", 1.0),
    ("TWO", 2.0),
    ("THREE", 3.0),
    ("FOUR", 4.0),
    ("FIVE", 5.0),
    ("SIX", 6.0),
    ("SEVEN", 7.0),
    ("EIGHT", 8.0),
    ("NINE", 9.0),
    ("TEN", 10.0),
    ("FIFTEEN", 15.0),
    ("HALF", 21.0975),
];

/// What lets a member in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admission {
    /// Where the WebSocket is.
    pub address: SocketAddr,
    /// Its path, with the ticket.
    pub path: String,
}

/// What is known of a challenge.
#[derive(Clone, Debug, PartialEq)]
pub struct Challenge {
    /// Its number.
    pub id: u64,
    /// `RECRUITING`, `READY`, `RUNNING` or `DONE`.
    pub status: String,
    /// Length of its course, in km.
    pub course_km: f64,
}

/// A place of a ranking.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The user's number.
    pub user: u64,
    /// `RUNNING`, `COMPLETED`, `DISCONNECTED` and so on.
    pub status: String,
}

/// The length of a course, by its code.
pub fn course_km(code: &str) -> Option<f64> {
    COURSES.iter().find(|(name, _)| *name == code).map(|(_, km)| *km)
}

/// All codes, to be told.
pub fn course_codes() -> String {
    COURSES.map(|(name, _)| name).join(", ")
}

/// Logs a member in without a password; gives its token.
pub fn login(client: &mut Client, member: u64) -> Result<String, String> {
    let path = format!("/api/v1/auth/test-login?memberId={member}");
    let mut data = ask(client.post(&path, None, b""))?;
    match data["accessToken"].take() {
        Value::String(token) => Ok(token),
        _ => Err("an answer without accessToken".to_owned()),
    }
}

/// Lets a member take part; `false`: it did already.
pub fn join(
    client: &mut Client,
    challenge: u64,
    token: &str,
    password: Option<&str>,
) -> Result<bool, String> {
    let body = match password {
        Some(password) => json!({"password": password}).to_string(),
        None => "{}".to_owned(),
    };
    let answer = client.post(&format!("/api/v1/challenges/{challenge}/join"), Some(token), body.as_bytes());
    match answer {
        Ok(Answer { status: 409, .. }) => Ok(false),
        answer => ask(answer).map(|_| true),
    }
}

/// Asks for a ticket. `known` is where the last one's WebSocket was, so that a name is looked up once.
pub fn enter(
    client: &mut Client,
    challenge: u64,
    token: &str,
    known: &mut Option<(String, SocketAddr)>,
) -> Result<Admission, String> {
    let data = ask(client.post(&format!("/api/v1/challenges/{challenge}/enter"), Some(token), b"{}"))?;
    let (Some(ticket), Some(url)) = (data["ticket"].as_str(), data["wsUrl"].as_str()) else {
        return Err("an answer without ticket or wsUrl".to_owned());
    };
    let (host, path) = split_url(url)?;
    let address = match known {
        Some((name, address)) if name == host => *address,
        _ => {
            let address = args::target(&format!("http://{host}")).map_err(|why| format!("wsUrl: {why}"))?;
            *known = Some((host.to_owned(), address));
            address
        }
    };
    let joint = if path.contains('?') { '&' } else { '?' };
    Ok(Admission { address, path: format!("{path}{joint}ticket={ticket}") })
}

/// Makes a challenge that starts at a moment, given as UTC.
pub fn create(
    client: &mut Client,
    token: &str,
    distance: &str,
    members: usize,
    start_at: &str,
) -> Result<Challenge, String> {
    let body = json!({
        "title": "minitalk bench challenge", "description": "", "maxParticipants": members, "startAt": start_at,
        "distance": distance, "isPrivate": false, "password": null, "isBroadcast": false,
    });
    let answer = client.post("/api/v1/admin/challenges", Some(token), body.to_string().as_bytes());
    described(&ask(answer)?)
}

/// Looks at a challenge.
pub fn show(client: &mut Client, token: &str, challenge: u64) -> Result<Challenge, String> {
    described(&ask(client.get(&format!("/api/v1/challenges/{challenge}"), Some(token)))?)
}

/// The whole ranking of a challenge, page by page; `None`: the server has no rankings,
/// or of another form; the contract asks for none.
pub fn ranking(client: &mut Client, token: &str, challenge: u64) -> Result<Option<Vec<Place>>, String> {
    let mut places = vec![];
    for page in 0..RANKING_PAGES_MAX {
        let path = format!("/api/v1/challenges/{challenge}/ranking?page={page}&size={RANKING_PAGE}");
        let answer = client.get(&path, Some(token));
        if let Ok(Answer { status: 404 | 405, .. }) = answer {
            return Ok(None);
        }
        let data = ask(answer)?;
        let place = |place: &Value| {
            let status = place["status"].as_str().unwrap_or_default().to_owned();
            Some(Place { user: place["userId"].as_u64()?, status })
        };
        let read = data["content"].as_array().and_then(|content| content.iter().map(place).collect());
        let Some(read) = read else { return Ok(None) };
        let read: Vec<Place> = read;
        places.extend(read);
        if data["hasNext"] != true {
            return Ok(Some(places));
        }
    }
    Err(format!("a ranking of more than {RANKING_PAGES_MAX} pages"))
}

fn described(data: &Value) -> Result<Challenge, String> {
    let found = || {
        let code = data["distance"].as_str()?;
        let (id, status) = (data["challengeId"].as_u64()?, data["status"].as_str()?.to_owned());
        Some(Challenge { id, status, course_km: course_km(code)? })
    };
    found().ok_or_else(|| "an answer without a known challengeId, status or distance".to_owned())
}

/// The `data` of a good answer; of another one its status and reason.
fn ask(answer: std::io::Result<Answer>) -> Result<Value, String> {
    let Answer { status, body } = answer.map_err(|why| why.to_string())?;
    let mut body: Value = serde_json::from_slice(&body).unwrap_or_default();
    if !(200..300).contains(&status) || body["isSuccess"] != true {
        let reason: String =
            body["message"].as_str().unwrap_or_default().chars().take(REASON_CHARS).collect();
        return Err(format!("{status} {reason}").trim_end().to_owned());
    }
    Ok(body["data"].take())
}

/// Host and path of a `ws://` URL.
fn split_url(url: &str) -> Result<(&str, &str), String> {
    let rest = url.strip_prefix("ws://").ok_or("wsUrl is not ws://, and TLS is not spoken here")?;
    match rest.find('/') {
        Some(at) => Ok(rest.split_at(at)),
        None => Err("wsUrl has no path".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_split() {
        assert_eq!(split_url("ws://h:1/ws/a?b=c"), Ok(("h:1", "/ws/a?b=c")));
        assert!(split_url("wss://h/ws").is_err() && split_url("ws://h").is_err());
        assert_eq!((course_km("HALF"), course_km("MARATHON")), (Some(21.0975), None));
    }

    #[test]
    fn answers_are_taken_by_their_envelope() {
        let answer = |status, body: &str| ask(Ok(Answer { status, body: body.as_bytes().to_vec() }));
        assert_eq!(answer(201, r#"{"isSuccess":true,"data":{"a":1}}"#), Ok(json!({"a": 1})));
        let full = r#"{"isSuccess":false,"code":400,"message":"full"}"#;
        assert_eq!(answer(400, full), Err("400 full".to_owned()));
        assert_eq!(answer(502, "<html>"), Err("502".to_owned()));
        assert_eq!(answer(200, "{}"), Err("200".to_owned()));
    }
}
