//! Everything a worker knows, behind one lock that is never contended.
//!
//! The runtime has one thread: the turn loop and the HTTP tasks take the lock in turn and never
//! hold it over an `await`. The lock exists because the HTTP library asks for shared state that
//! could be sent between threads.

use std::sync::Arc;
use std::time::Instant;

use mio::Token;
use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore};

use super::address::{Addresses, Held};
use super::answers;
use super::arena::Arena;
use super::arena::socket::{self, Racer};
use super::brake::Brake;
use super::counters::Counters;
use super::deliver::Plan;
use super::entry::{Doorman, Entries};
use super::expiry::{self, Expires};
use super::hub::Hub;
use super::ids;
use super::names::Names;
use super::reader::Turns;
use super::recovery::{self, Replay, Wish};
use super::relay::Relay;
use super::revoked::Revocations;
use super::search::Searches;
use super::session;
use super::token::{Known, Tokens};
use super::uplink::Uplink;
use crate::chat::{Paces, UserId};
use crate::config::{self, Config};
use crate::engine::door::Door;
use crate::engine::table::{Key, Pause};
use crate::engine::{Engine, Host, Message, PACKETS_FOR_ANYBODY, Raw};
use crate::index::challenges::ChallengeReader;
use crate::index::history::History;
use crate::index::{IndexError, Reader};
use crate::wire::frame::{Violation, close_code};
use crate::wire::local_time::Zone;
use crate::wire::recovery::Seals;

/// The poll's token of the link; connections use their slot.
pub const LINK: Token = Token(usize::MAX);

/// What tasks share.
#[derive(Clone)]
pub struct App {
    /// All state of the worker.
    pub core: Arc<Mutex<Core>>,
    /// The way into the core for requests on `/socket.io/`.
    pub door: Door<Core>,
    /// The way to sessions of other workers.
    pub relay: Relay,
    /// Number of this worker.
    pub worker: u16,
    /// Settings.
    pub config: Arc<Config>,
    /// Name of this host in ticket URLs.
    pub server_id: Arc<str>,
    /// Zone of the challenge surface's times.
    pub zone: Arc<Zone>,
    /// Makes and checks tokens.
    pub tokens: Arc<Tokens>,
    /// Counts connections by address.
    pub addresses: Arc<Addresses>,
    /// Slows down those who guess passwords.
    pub brake: Arc<Brake>,
    /// Wakes the turn loop after a task has left work for it.
    pub wake: Arc<Notify>,
    /// Reads the rooms of those who enter.
    pub doorman: Doorman,
    /// Bounds the reads that wait for the disk.
    pub reads: Arc<Turns>,
    /// Bounds the replays that are being read.
    pub replays: Arc<Semaphore>,
    /// The index, for reads that would hold up the loop.
    pub reader: Arc<Mutex<Reader>>,
    /// Where rooms' messages are.
    pub history: Arc<History>,
    /// The searching threads.
    pub searches: Searches,
}

/// All state of the worker.
pub struct Core {
    /// Settings.
    pub config: Arc<Config>,
    /// Makes and checks tokens.
    pub tokens: Arc<Tokens>,
    /// Makes and checks what clients come back with.
    pub seals: Seals,
    /// Counts connections by address.
    pub addresses: Arc<Addresses>,
    /// Slows down those who guess passwords.
    pub brake: Arc<Brake>,
    /// How fast users change rooms.
    pub changes: Paces,
    /// The connections.
    pub engine: Engine<Client>,
    /// Who hears what.
    pub hub: Hub,
    /// The link to the storage writer.
    pub uplink: Uplink,
    /// Short look-ups.
    pub index: Reader,
    /// Short look-ups about challenges.
    pub challenges: ChallengeReader,
    /// How far the ends of tokens were followed.
    pub revocations: Revocations,
    /// Users who called lately.
    pub names: Names,
    /// Clients on their way into the chat.
    pub entries: Entries,
    /// Reads of history that clients wait for; started after the turn.
    pub history: Vec<super::session::HistoryRead>,
    /// Clients that are to be told what they missed, or more of it; started after the turn.
    pub replays: Vec<Key>,
    /// Live challenges.
    pub arena: Arena,
    /// Messages gathered for the next hand-out, perhaps over several turns.
    pub plan: Plan,
    /// What operators watch.
    pub counters: Counters,
    /// Start of the worker, zero of its clocks.
    pub started: Instant,
}

/// What the chat keeps with a connection.
#[derive(Default)]
pub struct Client {
    /// How far it has come.
    pub standing: Standing,
    /// When its token ends.
    pub expires: Expires,
    /// Messages sent to the storage writer and not answered.
    pub unanswered: u16,
    /// The handshake was made by the JavaScript client, for certain.
    pub javascript: bool,
    /// Messages go out with their offset.
    pub offsets: bool,
    /// A WebSocket's place among the connections of its address, if those are counted. A request of
    /// long polling has its own.
    pub place: Option<Arc<Held>>,
}

/// How far a client has come into the chat.
pub enum Standing {
    /// It has not entered.
    Coming(Box<Hello>),
    /// Seated, and being told what it missed: what is published now is held.
    Replaying(Box<Replay>),
    /// Hears what is published.
    Live {
        /// [`Session::nonce`](crate::wire::recovery::Session::nonce); 0: it has no session to come
        /// back to.
        nonce: u64,
    },
    /// Not of the chat: a participant of a live challenge, or on the way to be one.
    Racing(Box<Racer>),
}

impl Default for Standing {
    fn default() -> Standing {
        Standing::Coming(Box::default())
    }
}

/// What a client has said on its way in.
#[derive(Debug, Default)]
pub struct Hello {
    /// Who it is, by the handshake request.
    pub presented: Presented,
    /// What its CONNECT packet asks for, once it is there.
    pub wish: Wish,
}

/// Who the handshake request said it was, by query or header.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Presented {
    /// Nobody: the CONNECT packet has to tell.
    #[default]
    Nothing,
    /// A user, by a token that was checked (or by name in open mode).
    User(Known),
    /// Somebody, with a ticket that is redeemed when the CONNECT packet is there.
    Ticket(u128),
    /// Somebody, with a token that is not good.
    Refused,
    /// Somebody whom the index could not be asked about.
    Unread,
}

impl Presented {
    /// Whom what should be a ticket presents.
    pub fn ticket(text: &str) -> Presented {
        ids::read_ticket(text).map_or(Presented::Refused, Presented::Ticket)
    }
}

impl Host for Core {
    type State = Client;

    fn engine(&mut self) -> &mut Engine<Client> {
        &mut self.engine
    }

    fn opened(&mut self, key: Key) {
        socket::opened(self, key);
    }

    fn gone(&mut self, key: Key) {
        self.hub.disconnect(key.slot);
        socket::gone(self, key);
    }

    fn broke(&mut self, key: Key, broken: &Violation) {
        // Where the server has no room the client is not to blame.
        if broken.code != close_code::TRY_AGAIN_LATER {
            socket::broke(self, key);
        }
    }

    fn packets_per_payload(state: &Client) -> usize {
        // The JavaScript client takes any number, and saves requests.
        if state.javascript { usize::MAX } else { PACKETS_FOR_ANYBODY }
    }

    fn marks_requests(state: &Client) -> bool {
        state.javascript
    }

    fn namespace(&self, name: &str) -> Option<u8> {
        (name == "/").then_some(session::CHAT)
    }

    fn connect(&mut self, key: Key, _: u8, auth: &str) -> Result<(), Violation> {
        session::connect(self, key, auth)
    }

    fn event(&mut self, key: Key, message: &Message<'_>) -> Result<(), Violation> {
        session::event(self, key, message)
    }

    fn left(&mut self, key: Key, _: u8) {
        session::leave(self, key);
    }

    fn raw(&mut self, key: Key, message: &Raw<'_>) -> Result<bool, Violation> {
        socket::heard(self, key, message)
    }

    fn attend(&mut self, key: Key) {
        expiry::attend(self, key);
        socket::attend(self, key);
    }

    fn upgraded(&mut self, key: Key, probe: Client) {
        if let Some(conn) = self.engine.table.get(key) {
            conn.state.place = probe.place;
        }
    }

    fn resumed(&mut self, key: Key) {
        session::run_deferred(self, key);
        recovery::go_on(self, key);
    }
}

impl Core {
    /// One answer less to wait for; reads on from the client if it was paused for that.
    pub fn answered(&mut self, key: Key) {
        let Some(conn) = self.engine.table.get(key) else {
            return;
        };
        let unanswered = conn.state.unanswered.saturating_sub(1);
        conn.state.unanswered = unanswered;
        match conn.pause {
            Pause::Backlog if unanswered <= config::UNANSWERED_PER_CONNECTION / 2 => {
                self.engine.resume_reading(key);
            }
            Pause::Deferred(_) if unanswered == 0 => self.engine.look_again(key),
            _ => {}
        }
    }

    /// The name of a user; `None`: there is no such user.
    ///
    /// # Errors
    /// The index can't be read.
    pub fn user_name(&mut self, number: UserId) -> Result<Option<Arc<str>>, IndexError> {
        self.names.name(number, &self.index)
    }

    /// Ends the connection of a client whom the index could not be asked about. Stock clients come again
    /// after this, and not after a refusal.
    pub fn index_failed(&mut self, key: Key, error: &IndexError) {
        answers::index_failed(error);
        self.close(key, close_code::TRY_AGAIN_LATER, "cannot read the index");
    }

    /// Microseconds since the worker started.
    pub fn now_us(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::table::Conn;

    #[test]
    fn an_idle_connection_is_a_small_row() {
        assert!(size_of::<Client>() <= 32, "{}", size_of::<Client>());
        assert!(size_of::<Conn<Client>>() <= 272, "{}", size_of::<Conn<Client>>());
    }
}
