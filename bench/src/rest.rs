//! Makes the users and rooms of a run over REST.
//!
//! Names carry the run's random number, so one living server can be measured again and again. One
//! user more than asked for owns the rooms and never connects: a room's creator is always in it.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::greet;
use crate::http::{Answer, Client};
use crate::live::{Audience, Progress, Snapshot, Step, Totals};
use crate::plan::Plan;

/// Users in one call.
const USERS_PER_CALL: usize = 200;

/// Calls under way at once, so that a server that hashes passwords can use two cores.
const CALLS: usize = 2;

/// Participants in one call; rooms are put together until they hold about so many.
const PARTICIPANTS_PER_CALL: usize = 10_000;

/// How often the batches are looked at; an answer is told at once, and between answers ten times a second.
const LOOK: Duration = Duration::from_millis(5);
const TELL_LOOKS: u32 = 20;

/// Bytes of an unexpected answer that are told.
const SAMPLE_BYTES: usize = 200;

/// What to do about a server that answers something else.
const REMEDY: &str = "is this a chat server? `minitalk bench connect` says what of it works";

/// What was made.
pub struct Population {
    /// Token of each user of the plan, in order.
    pub tokens: Vec<String>,
    /// Id of each room of the plan, in order.
    pub room_ids: Vec<String>,
    /// How fast it went.
    pub pace: Pace,
}

/// Users and rooms made per second.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Pace {
    /// Users signed up per second.
    pub signups_per_s: f64,
    /// Users logged in per second.
    pub logins_per_s: f64,
    /// Rooms made per second; 0 when there are none.
    pub rooms_per_s: f64,
}

#[derive(Deserialize)]
struct Login {
    username: String,
    token: String,
}

#[derive(Deserialize)]
struct MadeRoom {
    #[serde(rename = "roomId")]
    room_id: String,
    name: String,
}

/// Signs up and logs in all users and makes all rooms, or says what the server did not do.
pub fn populate(plan: &Plan, audience: &mut Audience) -> Result<Population, String> {
    let names: Vec<String> = (0..=plan.users).map(|user| plan.name_of(user)).collect(); // the last is the owner
    let mut pace = Pace::default();
    let mut news = News::new(Step::SignUp, names.len(), audience);
    in_batches(plan.target, &names, "/api/auth/signup-batch", |_: Value| Ok(()), &mut news)?;
    pace.signups_per_s = news.per_s();
    let mut news = News::new(Step::LogIn, names.len(), audience);
    let read = |mut answer: Value| {
        serde_json::from_value::<Vec<Login>>(answer["results"].take()).map_err(|why| why.to_string())
    };
    let mut logins: HashMap<String, String> =
        in_batches(plan.target, &names, "/api/auth/login-batch", read, &mut news)?
            .into_iter()
            .flatten()
            .map(|login| (login.username, login.token))
            .collect();
    pace.logins_per_s = news.per_s();
    let mut tokens = names
        .iter()
        .map(|name| logins.remove(name).ok_or_else(|| format!("the server gave {name} no token")))
        .collect::<Result<Vec<_>, _>>()?;
    let owner = tokens.pop().unwrap_or_default();
    let mut news = News::new(Step::Rooms, plan.rooms as usize, audience);
    let room_ids = make_rooms(plan, &names, &owner, &mut news)?;
    pace.rooms_per_s = news.per_s();
    Ok(Population { tokens, room_ids, pace })
}

/// Tells the audience how far one kind of call is.
struct News<'a, 'b> {
    step: Step,
    total: u64,
    done: u64,
    begun: Instant,
    audience: &'a mut Audience<'b>,
}

impl<'a, 'b> News<'a, 'b> {
    fn new(step: Step, total: usize, audience: &'a mut Audience<'b>) -> News<'a, 'b> {
        News { step, total: total as u64, done: 0, begun: Instant::now(), audience }
    }

    fn tell(&mut self, done: u64) {
        self.done = done;
        let elapsed_s = self.begun.elapsed().as_secs_f64();
        let progress = Progress { done, total: self.total, elapsed_s };
        let totals = &Totals::default();
        (self.audience)(&Snapshot { step: self.step, progress, row: None, totals });
    }

    fn per_s(&self) -> f64 {
        self.done as f64 / self.begun.elapsed().as_secs_f64().max(1e-9)
    }
}

/// Posts all names in batches over a few connections; gives what `read` makes of each answer.
fn in_batches<T: Send>(
    target: SocketAddr,
    names: &[String],
    path: &str,
    read: impl Fn(Value) -> Result<T, String> + Sync,
    news: &mut News,
) -> Result<Vec<T>, String> {
    let batches: Vec<&[String]> = names.chunks(USERS_PER_CALL).collect();
    let done = AtomicU64::new(0);
    let one_line = |first: usize| {
        let mut client = Client::new(target);
        let own = batches.iter().skip(first).step_by(CALLS);
        own.map(|batch| {
            let made = read(post(&mut client, path, None, &credentials(batch))?)?;
            done.fetch_add(batch.len() as u64, SeqCst);
            Ok(made)
        })
        .collect::<Result<Vec<T>, String>>()
    };
    thread::scope(|scope| {
        let lines: Vec<_> = (0..CALLS.min(batches.len()))
            .map(|first| {
                let one_line = &one_line;
                scope.spawn(move || one_line(first))
            })
            .collect();
        let mut looks = 0;
        while !lines.iter().all(thread::ScopedJoinHandle::is_finished) {
            let now = done.load(SeqCst);
            if now != news.done || looks % TELL_LOOKS == 0 {
                news.tell(now);
            }
            looks += 1;
            thread::sleep(LOOK);
        }
        news.tell(done.load(SeqCst));
        let mut all = vec![];
        for line in lines {
            all.extend(line.join().unwrap_or_else(|_| Err("a thread of the load tester panicked".into()))?);
        }
        Ok(all)
    })
}

fn credentials(names: &[String]) -> Value {
    let users: Vec<Value> =
        names.iter().map(|name| json!({"username": name, "password": password(name)})).collect();
    json!({ "users": users })
}

fn password(name: &str) -> String {
    format!("Pw-{name}-1")
}

fn make_rooms(plan: &Plan, names: &[String], owner: &str, news: &mut News) -> Result<Vec<String>, String> {
    let mut client = Client::new(plan.target);
    let mut made = HashMap::new();
    let room_name = |room: u32| greet::room_name(plan.run, room);
    let per_call = PARTICIPANTS_PER_CALL.div_ceil(plan.users.div_ceil(plan.rooms.max(1)).max(1) as usize);
    let rooms: Vec<u32> = (0..plan.rooms).collect();
    for batch in rooms.chunks(per_call) {
        let described = batch.iter().map(|&room| {
            let members =
                names[..plan.users as usize].iter().skip(room as usize).step_by(plan.rooms as usize);
            json!({"name": room_name(room), "participants": members.collect::<Vec<_>>()})
        });
        let body = json!({"rooms": described.collect::<Vec<_>>()});
        let mut answer = post(&mut client, "/api/chatrooms-batch", Some(owner), &body)?;
        let created: Vec<MadeRoom> =
            serde_json::from_value(answer["created"].take()).map_err(|why| why.to_string())?;
        made.extend(created.into_iter().map(|room| (room.name, room.room_id)));
        news.tell(made.len() as u64);
    }
    let missing = |room| format!("the server did not make room {}", room_name(room));
    rooms.iter().map(|&room| made.remove(&room_name(room)).ok_or_else(|| missing(room))).collect()
}

/// The begin of an answer, on one line.
fn sample(body: &[u8]) -> String {
    let begin = String::from_utf8_lossy(&body[..body.len().min(SAMPLE_BYTES)]);
    begin.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// One call that must succeed for every entry.
fn post(client: &mut Client, path: &str, token: Option<&str>, body: &Value) -> Result<Value, String> {
    let text = serde_json::to_vec(body).map_err(|why| why.to_string())?;
    let Answer { status, body } =
        client.post(path, token, &text).map_err(|why| format!("POST {path}: {why}"))?;
    if !(200..300).contains(&status) {
        return Err(format!("POST {path} was answered with {status}: {}; {REMEDY}", sample(&body)));
    }
    let answer: Value = serde_json::from_slice(&body).map_err(|why| {
        format!("POST {path} was not answered with JSON ({why}): {}; {REMEDY}", sample(&body))
    })?;
    match answer["errors"].as_array().and_then(|errors| errors.first()) {
        Some(first) => Err(format!("POST {path} was refused in part: {first}")),
        None => Ok(answer),
    }
}
