//! What a participant's WebSocket says (contract §5): read without believing that anything is there.

use std::borrow::Cow;

use serde::Deserialize;

/// Any message; which fields matter depends on its kind.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Heard<'a> {
    /// Its `type`.
    #[serde(rename = "type", borrow)]
    pub kind: Cow<'a, str>,
    /// Whom it is about; of `CONNECTED`, whom it is for.
    #[serde(default)]
    pub user_id: Option<u64>,
    /// Kilometres.
    #[serde(default)]
    pub distance: Option<f64>,
    /// Unix time in milliseconds.
    #[serde(default)]
    pub timestamp: Option<i64>,
    /// Of `USER_LEFT`.
    #[serde(default)]
    pub reason: Option<String>,
    /// Of `ERROR`.
    #[serde(default)]
    pub error_code: Option<String>,
    /// Of `CONNECTED`: who was there already, or the nearest of them.
    #[serde(default)]
    pub participants: Vec<Other>,
}

/// A participant in `CONNECTED`.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Other {
    /// The user's number.
    pub user_id: u64,
    /// Kilometres.
    pub distance: f64,
}

/// Reads a message, or says that it is none.
pub fn read(text: &[u8]) -> Result<Heard<'_>, String> {
    serde_json::from_slice(text).map_err(|why| format!("a message that is not of the contract: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_of_the_contract_are_read_and_others_are_not() {
        let text = r#"{"type":"CONNECTED","challengeId":4,"userId":2,"me":{"userId":2,"nickname":"가",
            "profileImage":null,"distance":0,"pace":0},"participants":[{"userId":1,"nickname":"나",
            "profileImage":null,"distance":0.5,"pace":6}],"timestamp":5}"#;
        let heard = read(text.as_bytes()).unwrap();
        assert_eq!((heard.kind.as_ref(), heard.user_id), ("CONNECTED", Some(2)));
        assert_eq!(heard.participants, [Other { user_id: 1, distance: 0.5 }]);
        let left = read(br#"{"type":"USER_LEFT","userId":3,"reason":"QUIT","timestamp":5}"#).unwrap();
        assert_eq!((left.user_id, left.reason.as_deref()), (Some(3), Some("QUIT")));
        for text in [&b"PONG"[..], b"{}", br#"{"type":1}"#, br#"{"type":"PONG","userId":"x"}"#, b"\xff"] {
            assert!(read(text).is_err());
        }
    }
}
