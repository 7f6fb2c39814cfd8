//! Entering the chat: who it is and which rooms it is in come from the index, on a thread of their
//! own, in pages; the loop only seats.
//!
//! A client's way in: [`begin`] holds its user in the hub, so that changes of membership find it from
//! then on; steps read what is missing and seat it, a bounded amount for all clients together, each
//! taking its turn; then the client is told. Meanwhile nothing is read from it, and it hears nothing:
//! what is published before it is told was said before it came.
//!
//! So entering costs in proportion to the user's own rooms, a user in very many rooms holds up neither
//! the loop nor those behind it, and at most a step's rooms are in memory on top of the seats.

use std::collections::VecDeque;

use crossbeam_channel::{Receiver, Sender, bounded};
use tokio::sync::oneshot;

use super::core::{App, Core};
use super::{deliver, recovery, session};
use crate::chat::UserId;
use crate::engine::table::{Key, Pause};
use crate::index::{IndexError, Reader, RoomIds};

/// Clients in one step.
const CLIENTS_PER_STEP: usize = 64;

/// Rooms read in one step: about half a millisecond of seating.
const ROOMS_PER_STEP: usize = 1_024;

/// Seats given in one step.
const SEATS_PER_STEP: usize = 8_192;

/// Clients on their way in. There are no more than connections.
#[derive(Default)]
pub struct Entries {
    waiting: VecDeque<Entry>,
    /// The thread has a step.
    reading: bool,
}

/// One client on its way in.
pub struct Entry {
    key: Key,
    number: UserId,
    name: String,
    /// The index knows the user by that number and name.
    known: bool,
}

/// What the thread is asked about one client.
struct Question {
    entry: Entry,
    after: Option<i64>,
}

/// What it found.
struct Answer {
    entry: Entry,
    after: Option<i64>,
    /// `None`: not looked at, the step was full.
    found: Option<Result<Found, IndexError>>,
}

enum Found {
    /// There is no such user.
    Nobody,
    /// There is; with the page of rooms that was asked for.
    User(Option<RoomIds>),
}

/// A step on its way to the thread, and where its answers go.
type Step = (Vec<Question>, oneshot::Sender<Vec<Answer>>);

/// The reading thread's front.
#[derive(Clone)]
pub struct Doorman(Sender<Step>);

impl Doorman {
    /// Starts the thread, which reads over a connection of its own.
    ///
    /// # Errors
    /// No thread can be started.
    pub fn start(index: Reader) -> std::io::Result<Doorman> {
        // There is one step at a time.
        let (steps, asked) = bounded(1);
        std::thread::Builder::new().name("entry".to_owned()).spawn(move || work(&index, &asked))?;
        Ok(Doorman(steps))
    }
}

fn work(index: &Reader, steps: &Receiver<Step>) {
    while let Ok((questions, reply)) = steps.recv() {
        let mut rooms = 0;
        let answer = |Question { entry, after }| {
            let found =
                (rooms < ROOMS_PER_STEP).then(|| look_up(index, &entry, after, ROOMS_PER_STEP - rooms));
            if let Some(Ok(Found::User(Some(page)))) = &found {
                rooms += page.room_ids.len();
            }
            Answer { entry, after, found }
        };
        // The worker may be on its way out.
        drop(reply.send(questions.into_iter().map(answer).collect()));
    }
}

fn look_up(index: &Reader, entry: &Entry, after: Option<i64>, limit: usize) -> Result<Found, IndexError> {
    if !entry.known && index.user_by_number(entry.number)?.is_none_or(|user| user.username != entry.name) {
        return Ok(Found::Nobody);
    }
    let page = after.map(|after| index.room_ids_of(entry.number, after, limit)).transpose()?;
    Ok(Found::User(page))
}

/// Sets a client on its way in.
pub fn begin(core: &mut Core, key: Key, number: UserId, name: String) {
    core.hub.begin(key.slot, number, &name);
    if let Some(conn) = core.engine.table.get(key) {
        conn.pause = Pause::Answering;
    }
    core.entries.waiting.push_back(Entry { key, number, name, known: false });
}

/// Starts the next step unless one is under way or nobody waits.
pub fn go_on(app: &App, core: &mut Core) {
    if core.entries.reading || core.entries.waiting.is_empty() {
        return;
    }
    let mut questions = Vec::new();
    while questions.len() < CLIENTS_PER_STEP
        && let Some(entry) = core.entries.waiting.pop_front()
    {
        if is_waiting(core, entry.key) {
            let after = core.hub.wanted_page(entry.key.slot);
            questions.push(Question { entry, after });
        }
    }
    core.entries.reading = true;
    let (reply, answers) = oneshot::channel();
    if app.doorman.0.try_send((questions, reply)).is_err() {
        tracing::error!("the thread that reads the rooms of those who enter is gone");
        return;
    }
    let app = app.clone();
    tokio::spawn(async move {
        if let Ok(answers) = answers.await {
            let mut core = app.core.lock();
            take_in(&mut core, answers);
            core.entries.reading = false;
            go_on(&app, &mut core);
            drop(core);
            app.wake.notify_one();
        }
    });
}

fn is_waiting(core: &mut Core, key: Key) -> bool {
    let conn = core.engine.table.get(key);
    conn.is_some_and(|conn| !conn.has_entered() && !conn.is_closing() && conn.pause == Pause::Answering)
}

fn take_in(core: &mut Core, answers: Vec<Answer>) {
    // Rooms are about to be added, and what was gathered was not said to those who enter now.
    deliver::hand_out(core);
    let (mut seats, mut back) = (SEATS_PER_STEP, Vec::new());
    for Answer { mut entry, after, found } in answers {
        let key = entry.key;
        if !is_waiting(core, key) {
            continue;
        }
        match found {
            None => {
                back.push(entry);
                continue;
            }
            Some(Ok(Found::User(page))) => {
                if let (Some(after), Some(page)) = (after, page) {
                    core.hub.learn_page(key.slot, after, &page.room_ids, page.next);
                }
                entry.known = true;
            }
            Some(Ok(Found::Nobody)) => {
                core.hub.disconnect(key.slot);
                session::not_believed(core, key);
                core.engine.resume_when_sent(key);
                continue;
            }
            Some(Err(error)) => {
                core.index_failed(key, &error);
                continue;
            }
        }
        if core.hub.seat_some(key.slot, &mut seats) {
            core.hub.rename(key.slot, &entry.name);
            recovery::enter(core, key, entry.number);
        } else {
            core.entries.waiting.push_back(entry);
        }
    }
    for entry in back.into_iter().rev() {
        core.entries.waiting.push_front(entry);
    }
}
