//! Tokens: HS256 JSON Web Tokens (RFC 7519) with a user's number and name; and what is left of one once
//! it was checked, a [`Pass`].

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};

use super::core::Presented;
use super::ids;
use crate::chat::UserId;
use crate::index::Revocation;

/// Makes and checks tokens with one secret.
pub struct Tokens {
    encoding: EncodingKey,
    decoding: DecodingKey,
    validation: Validation,
    ttl: Duration,
}

/// How long somebody who has shown a token, or a ticket in its place, is believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pass {
    /// Unix seconds of the token's end; [`Pass::NEVER`]: there was no token.
    pub expires: u64,
    /// Unix seconds of the token's making.
    pub issued: u64,
    /// [`Claims::generation`]
    pub generation: Option<u32>,
}

impl Pass {
    /// Of a [`Pass`] that does not end.
    pub const NEVER: u64 = u64::MAX;

    /// Of a user who is believed by name.
    pub fn without_token(generation: u32) -> Pass {
        Pass { expires: Pass::NEVER, issued: 0, generation: Some(generation) }
    }

    /// Whether it is still good after what was revoked. A token that somebody else made does not say its
    /// generation; it ends with those that could have been made in the same second.
    pub fn survives(&self, revocation: &Revocation) -> bool {
        match self.generation {
            Some(generation) => generation == revocation.generation,
            None if revocation.generation == 0 => true,
            None => i64::try_from(self.issued).is_ok_and(|issued| issued > revocation.at_ms / 1_000),
        }
    }

    /// As the payload of a ticket.
    pub fn pack(&self) -> Vec<u8> {
        // A few numbers; writing to a vector can't fail.
        postcard::to_allocvec(self).unwrap_or_default()
    }

    /// Out of the payload of a ticket.
    pub fn unpack(payload: &[u8]) -> Option<Pass> {
        postcard::from_bytes(payload).ok()
    }
}

/// A user who has shown who they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// Number.
    pub number: UserId,
    /// Name.
    pub name: String,
    /// How long that is believed.
    pub pass: Pass,
}

impl From<Claims> for Known {
    fn from(claims: Claims) -> Known {
        let Claims { sub, username, iat, exp, generation, .. } = claims;
        Known { number: sub, name: username, pass: Pass { expires: exp, issued: iat, generation } }
    }
}

/// What a token says.
#[derive(Debug, Serialize, Deserialize)]
pub struct Claims {
    /// The user's number.
    pub sub: UserId,
    /// The user's name.
    pub username: String,
    /// Unix seconds of its making.
    pub iat: u64,
    /// Unix seconds of its end.
    pub exp: u64,
    /// Its own name.
    pub jti: String,
    /// How often all tokens of the user had been ended before it was made: finer than `iat`, whose seconds
    /// can't tell what was before from what came after. Others that know the secret leave it out.
    #[serde(rename = "gen", default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<u32>,
}

impl Tokens {
    /// Tokens signed with `secret` that are good for `ttl`.
    pub fn new(secret: &str, ttl: Duration) -> Tokens {
        let mut validation = Validation::new(Algorithm::HS256);
        validation.leeway = 0;
        // Ours don't have it; others that know the secret may.
        validation.validate_nbf = true;
        Tokens {
            encoding: EncodingKey::from_secret(secret.as_bytes()),
            decoding: DecodingKey::from_secret(secret.as_bytes()),
            validation,
            ttl,
        }
    }

    /// A token of that generation for a user, from now on.
    ///
    /// # Errors
    /// The claims cannot be signed; a mistake of ours.
    pub fn issue(
        &self,
        number: UserId,
        username: &str,
        generation: u32,
    ) -> Result<String, jsonwebtoken::errors::Error> {
        self.issue_at(unix_now(), number, username, generation)
    }

    fn issue_at(
        &self,
        iat: u64,
        number: UserId,
        username: &str,
        generation: u32,
    ) -> Result<String, jsonwebtoken::errors::Error> {
        let claims = Claims {
            sub: number,
            username: username.to_owned(),
            iat,
            exp: iat + self.ttl.as_secs(),
            jti: ids::session_id(),
            generation: Some(generation),
        };
        jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &self.encoding)
    }

    /// What a token says, if it is ours and still good.
    pub fn check(&self, token: &str) -> Option<Claims> {
        jsonwebtoken::decode::<Claims>(token, &self.decoding, &self.validation).ok().map(|data| data.claims)
    }

    /// Whom a token presents; a ticket may stand in its place.
    pub fn present(&self, token: &str) -> Presented {
        if let Some(ticket) = ids::read_ticket(token) {
            return Presented::Ticket(ticket);
        }
        self.check(token).map_or(Presented::Refused, |claims| Presented::User(claims.into()))
    }
}

/// Unix seconds.
pub fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_living_tokens_are_good() {
        let tokens = Tokens::new("secret", Duration::from_secs(60));
        let token = tokens.issue(7, "한글", 0).unwrap();
        let Presented::User(known) = tokens.present(&token) else { panic!("refused") };
        assert_eq!((known.number, known.name.as_str()), (7, "한글"));
        let ticket = ids::ticket();
        assert_eq!(tokens.present(&ids::ticket_text(ticket)), Presented::Ticket(ticket));
        assert_eq!(Tokens::new("other", Duration::from_secs(60)).present(&token), Presented::Refused);
        let none = "eyJhbGciOiJub25lIn0.eyJzdWIiOjcsInVzZXJuYW1lIjoieCIsImV4cCI6OTk5OTk5OTk5OX0.";
        for forged in ["", "x", "a.b.c", none, &token[..token.len() - 1]] {
            assert_eq!(tokens.present(forged), Presented::Refused, "{forged}");
        }
        let dead = tokens.issue_at(1_000_000_000, 7, "x", 0).unwrap();
        assert_eq!(tokens.present(&dead), Presented::Refused);
    }

    #[test]
    fn a_token_is_not_good_before_its_time() {
        let tokens = Tokens::new("secret", Duration::from_secs(60));
        let now = unix_now();
        for (nbf, good) in [(now - 1, true), (now + 3_600, false)] {
            let claims = serde_json::json!({
                "sub": 7, "username": "x", "iat": now, "exp": now + 7_200, "jti": "x", "nbf": nbf,
            });
            let token = jsonwebtoken::encode(&Header::default(), &claims, &tokens.encoding).unwrap();
            assert_eq!(tokens.check(&token).is_some(), good, "{nbf}");
        }
    }

    #[test]
    fn a_revocation_ends_what_was_made_before_it_and_nothing_else() {
        let pass = |issued, generation| Pass { expires: Pass::NEVER, issued, generation };
        let none = Revocation::default();
        let revoked = Revocation { generation: 2, at_ms: 1_000_500, rev: 9 };
        for (pass, revocation, survives) in [
            (pass(0, Some(0)), none, true),
            (pass(0, None), none, true),
            // Of data that is no longer there.
            (pass(2_000, Some(1)), none, false),
            // In the second of the revocation the generation decides.
            (pass(1_000, Some(1)), revoked, false),
            (pass(1_000, Some(2)), revoked, true),
            (pass(2_000, Some(1)), revoked, false),
            // Those of others, the second.
            (pass(999, None), revoked, false),
            (pass(1_000, None), revoked, false),
            (pass(1_001, None), revoked, true),
            (pass(u64::MAX, None), revoked, false),
        ] {
            assert_eq!(pass.survives(&revocation), survives, "{pass:?} {revocation:?}");
            assert_eq!(Pass::unpack(&pass.pack()), Some(pass));
        }
    }
}
