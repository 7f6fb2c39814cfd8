//! What a client on its way in asks for: to be told from where, and with offsets or without.

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::config::Recovery;
use crate::wire::object::text;
use crate::wire::recovery::{Owner, Seals, Session};

/// What a CONNECT packet may say about coming back, as it stands there: who sends it need not have
/// logged in, and a tree of JSON values costs many times its text.
#[derive(Debug, Default, Deserialize)]
pub struct Asked<'a> {
    #[serde(borrow)]
    pid: Option<&'a RawValue>,
    #[serde(borrow)]
    offset: Option<&'a RawValue>,
    #[serde(borrow)]
    since: Option<&'a RawValue>,
    #[serde(borrow)]
    recovery: Option<&'a RawValue>,
}

/// What a client on its way in is to get.
#[derive(Debug, Default)]
pub struct Wish {
    /// Who it is.
    pub(super) owner: Owner,
    /// The session it goes on with.
    pub(super) session: Option<Session>,
    /// The last message it has heard, or does not want; `None`: it wants none of the past.
    pub(super) from: Option<u64>,
    /// Offsets with its messages.
    pub(super) offsets: bool,
}

/// Reads what a client asks for.
///
/// # Errors
/// A sentence for its CONNECT_ERROR.
pub fn wish(
    seals: &Seals,
    mode: Recovery,
    javascript: bool,
    owner: Owner,
    asked: &Asked<'_>,
) -> Result<Wish, &'static str> {
    let wanted = match asked.recovery.map(RawValue::get) {
        None => None,
        Some("true") => Some(true),
        Some("false") => Some(false),
        Some(_) => return Err("recovery must be true or false"),
    };
    let since = asked.since.map(number).transpose()?;
    let offsets = wanted.unwrap_or(match mode {
        Recovery::Always => true,
        Recovery::Auto => javascript || asked.pid.is_some(),
        Recovery::Explicit => asked.pid.is_some(),
    });
    if offsets && let Some((session, from)) = resumed(seals, owner, asked) {
        return Ok(Wish { owner, session: Some(session), from: Some(from), offsets });
    }
    Ok(Wish { owner, session: None, from: since, offsets })
}

fn number(since: &RawValue) -> Result<u64, &'static str> {
    let number = match text(since) {
        Some(text) => text.parse().ok(),
        None => serde_json::from_str(since.get()).ok(),
    };
    number.ok_or("since must be the seq of a message, a whole number")
}

/// The session that pid and offset name, and the last message heard in it: if both are ours and the
/// session is the user's, and as old as the tokens that are good.
fn resumed(seals: &Seals, owner: Owner, asked: &Asked<'_>) -> Option<(Session, u64)> {
    let session = seals.read_pid(&text(asked.pid?)?).filter(|session| session.owner == owner)?;
    let heard = match asked.offset {
        // Nothing yet.
        None => session.start,
        Some(offset) => seals.read_offset(&text(offset)?)?,
    };
    // A client that begins a new session keeps the offset of the one before until it hears something.
    Some((session, heard.max(session.start)))
}

impl Wish {
    /// Whether the client has heard of messages that have not come here yet.
    pub fn is_ahead_of(&self, seq: u64) -> bool {
        self.from.is_some_and(|from| from > seq)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    const OWNER: Owner = Owner { user: 7, generation: 1 };

    fn ask(mode: Recovery, javascript: bool, payload: Value) -> Result<Wish, &'static str> {
        let payload = payload.to_string();
        let asked: Asked<'_> = serde_json::from_str(&payload).unwrap();
        wish(&Seals::new("secret"), mode, javascript, OWNER, &asked)
    }

    fn offset(seq: u64) -> String {
        let mut text = Vec::new();
        Seals::new("secret").offset(seq, &mut text);
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn offsets_go_to_those_that_ask_and_those_that_are_certain() {
        use Recovery::{Always, Auto, Explicit};
        for (mode, javascript, payload, expected) in [
            (Auto, true, serde_json::json!({}), true),
            (Auto, false, serde_json::json!({}), false),
            (Explicit, true, serde_json::json!({}), false),
            (Always, false, serde_json::json!({}), true),
            (Auto, false, serde_json::json!({"pid": "x"}), true),
            (Explicit, false, serde_json::json!({"recovery": true}), true),
            (Always, true, serde_json::json!({"recovery": false, "pid": "x"}), false),
            (Auto, false, serde_json::json!({"since": 5}), false),
        ] {
            assert_eq!(
                ask(mode, javascript, payload.clone()).unwrap().offsets,
                expected,
                "{mode:?} {payload}"
            );
        }
    }

    #[test]
    fn what_is_brought_says_from_where() {
        let pid = |owner| Seals::new("secret").pid(&Session { owner, start: 10, nonce: 3 });
        let from = |payload: Value| {
            let wish = ask(Recovery::Auto, true, payload).unwrap();
            (wish.session.is_some(), wish.from)
        };
        let (own, other) = (pid(OWNER), pid(Owner { user: 8, ..OWNER }));
        let [older, newer] = [0, 2].map(|generation| pid(Owner { generation, ..OWNER }));
        assert_eq!(from(serde_json::json!({"pid": own})), (true, Some(10)), "nothing was heard");
        assert_eq!(from(serde_json::json!({"pid": own, "offset": offset(12)})), (true, Some(12)));
        assert_eq!(from(serde_json::json!({"pid": own, "offset": offset(9)})), (true, Some(10)), "older");
        assert_eq!(from(serde_json::json!({"pid": own, "offset": offset(12), "since": 5})), (true, Some(12)));
        for broken in [
            serde_json::json!({"pid": other, "offset": offset(12)}),
            serde_json::json!({"pid": older, "offset": offset(12)}),
            serde_json::json!({"pid": newer, "offset": offset(12)}),
            serde_json::json!({"pid": own, "offset": "c.000000000000"}),
            serde_json::json!({"pid": own, "offset": 12}),
            serde_json::json!({"pid": 5}),
            serde_json::json!({"pid": own, "recovery": false}),
            serde_json::json!({"offset": offset(12)}),
        ] {
            assert_eq!(from(broken.clone()), (false, None), "{broken}");
        }
        assert_eq!(from(serde_json::json!({"pid": other, "since": "5"})), (false, Some(5)));
    }

    #[test]
    fn mistakes_are_named() {
        for since in
            [serde_json::json!(-1), serde_json::json!(0.5), serde_json::json!(" 1"), serde_json::json!([])]
        {
            assert!(ask(Recovery::Auto, true, serde_json::json!({"since": since})).is_err());
        }
        assert!(ask(Recovery::Auto, true, serde_json::json!({"recovery": 1})).is_err());
        assert!(ask(Recovery::Auto, true, serde_json::json!({"since": null, "recovery": null})).is_ok());
    }
}
