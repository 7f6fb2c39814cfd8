//! A token's end while its socket lives: a warning before, a chance to bring another, then the end.
//!
//! A connection's row has the Unix second of its token's end and nothing else; the engine's wheel asks
//! when that, or the warning, is due ([`attend`]). Which of both it is follows from the time that is left,
//! so that a clock that is set meanwhile costs at most one warning too many.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use super::answers::index_failed;
use super::commands;
use super::core::{Core, Standing};
use super::session;
use super::token::Pass;
use crate::chat::{Code, Refusal};
use crate::engine::Host;
use crate::engine::table::Key;
use crate::journal::stamp::Stamp;
use crate::wire::events;
use crate::wire::frame::close_code;
use crate::wire::socketio::write;

/// Pause before looking again whether a client has been let in, which it must be to be warned.
const NOT_YET: Duration = Duration::from_secs(1);

/// Unix seconds of the end of a token; 0: there is none, or not in this century.
pub type Expires = u32;

/// Starts, or sets anew, the clock of a client that has shown a token.
pub fn begin(core: &mut Core, key: Key, pass: Pass) {
    if let Some(conn) = core.engine.table.get(key) {
        conn.state.expires = Expires::try_from(pass.expires).unwrap_or(0);
    }
    arm(core, key);
}

fn arm(core: &mut Core, key: Key) {
    let wait = left(core, key).map(|left| left - core.config.auth.expiry_warning.min(left / 2));
    core.engine.attend_after(key, wait);
}

/// Time that a client has left; `None`: it has no end.
fn left(core: &mut Core, key: Key) -> Option<Duration> {
    let expires = core.engine.table.get(key)?.state.expires;
    let end = UNIX_EPOCH + Duration::from_secs(expires.into());
    (expires > 0).then(|| end.duration_since(SystemTime::now()).unwrap_or_default())
}

/// Warns a client, or ends its stay, whichever is due.
pub fn attend(core: &mut Core, key: Key) {
    let Some(left) = left(core, key) else {
        return;
    };
    if left.is_zero() {
        core.counters.tokens_expired += 1;
        let refusal = Refusal::new(Code::TokenExpired, "The token has expired");
        return end(core, key, &refusal, "token expired");
    }
    if left > core.config.auth.expiry_warning {
        return arm(core, key);
    }
    let Some(conn) = core.engine.table.get(key) else {
        return;
    };
    if !matches!(conn.state.standing, Standing::Live { .. }) {
        return core.engine.attend_after(key, Some(left.min(NOT_YET)));
    }
    let argument = json!({"expiresAt": rfc3339(conn.state.expires)});
    core.push_with(key, |out| events::event("auth_expiring", &argument, out));
    core.engine.attend_after(key, Some(left));
}

/// A client brings another token for its user; the answer says until when it may stay.
///
/// # Errors
/// The token is not good, or somebody else's, or can't be looked up at this moment.
pub fn refresh(core: &mut Core, key: Key, token: &str, ack: Option<u64>) -> Result<(), Refusal> {
    let user = core.hub.number(key.slot);
    let known = session::believed(core, token)
        .map_err(|error| index_failed(&error))?
        .ok_or_else(|| Refusal::new(Code::Unauthorized, "Invalid or expired token"))?;
    if user != Some(known.number) {
        return Err(Refusal::new(Code::Forbidden, "The token is another user's"));
    }
    begin(core, key, known.pass);
    let Some(conn) = core.engine.table.get(key) else {
        return Ok(());
    };
    let expires_at = match conn.state.expires {
        0 => Value::Null,
        expires => rfc3339(expires).into(),
    };
    if let Some(ack) = ack {
        let acked = json!({"ok": true, "expiresAt": expires_at});
        core.push_with(key, |out| events::ack_with(ack, &acked, out));
    }
    Ok(())
}

/// Tells a client why it may not stay, and closes its connection.
pub fn end(core: &mut Core, key: Key, refusal: &Refusal, reason: &str) {
    let answered = match core.engine.table.get(key).map(|conn| &conn.state.standing) {
        None | Some(Standing::Racing(_)) => return,
        Some(Standing::Coming(_)) => false,
        Some(Standing::Replaying(replay)) => replay.is_answered(),
        Some(Standing::Live { .. }) => true,
    };
    if answered {
        commands::refuse(core, key, None, refusal);
        core.push_with(key, |out| write::disconnect("/", out));
    } else {
        session::refuse(core, key, session::NOT_BELIEVED);
    }
    core.close(key, close_code::NOT_BELIEVED, reason);
}

fn rfc3339(seconds: Expires) -> String {
    Stamp::default().text(i64::from(seconds) * 1_000).to_owned()
}
