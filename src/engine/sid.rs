//! Session ids: who owns the session, where it lies there, and a secret.
//!
//! Any worker can receive a request of any session, so the id says whose it is. The secret is what
//! lets nobody speak in a session that is not theirs: 112 random bits.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::table::Key;

/// Bytes of an id before they are spelled.
const BYTES: usize = 24;

/// The part of an id that cannot be guessed.
pub type Secret = [u8; 14];

/// Name of a session: 32 characters of the base64url alphabet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sid {
    /// The engine that has the session.
    pub owner: u16,
    /// The session's row there.
    pub key: Key,
    /// What only its client knows.
    pub secret: Secret,
}

impl Sid {
    /// Reads an id. `None`: no engine has made it.
    pub fn parse(text: &str) -> Option<Sid> {
        let mut bytes = [0; BYTES];
        let len = URL_SAFE_NO_PAD.decode_slice(text, &mut bytes).ok()?;
        if len != BYTES || text.len() != BYTES / 3 * 4 {
            return None;
        }
        let [o0, o1, s0, s1, s2, s3, g0, g1, g2, g3, secret @ ..] = bytes;
        let key = Key {
            slot: u32::from_le_bytes([s0, s1, s2, s3]),
            generation: u32::from_le_bytes([g0, g1, g2, g3]),
        };
        Some(Sid { owner: u16::from_le_bytes([o0, o1]), key, secret })
    }
}

impl std::fmt::Display for Sid {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut bytes = Vec::with_capacity(BYTES);
        bytes.extend_from_slice(&self.owner.to_le_bytes());
        bytes.extend_from_slice(&self.key.slot.to_le_bytes());
        bytes.extend_from_slice(&self.key.generation.to_le_bytes());
        bytes.extend_from_slice(&self.secret);
        f.write_str(&URL_SAFE_NO_PAD.encode(bytes))
    }
}

/// A secret for a new session.
#[expect(
    clippy::expect_used,
    reason = "Linux has had getrandom(2) since 3.17; without it nothing here is safe"
)]
pub fn secret() -> Secret {
    let mut secret = Secret::default();
    getrandom::fill(&mut secret).expect("the kernel gives random bytes");
    secret
}

/// A name that says nothing, for a client's place in a namespace: 20 characters, 112 random bits.
pub fn anonymous() -> String {
    URL_SAFE_NO_PAD.encode(secret())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_spelled_is_read(owner: u16, slot: u32, generation: u32, secret: Secret) {
            let sid = Sid { owner, key: Key { slot, generation }, secret };
            prop_assert_eq!(Sid::parse(&sid.to_string()), Some(sid));
        }

        #[test]
        fn no_text_panics(text in ".{0,40}") {
            let _ = Sid::parse(&text);
        }

        #[test]
        fn one_id_has_one_spelling(text in "[A-Za-z0-9_-]{32}") {
            prop_assert_eq!(Sid::parse(&text).map(|sid| sid.to_string()), Some(text));
        }
    }
}
