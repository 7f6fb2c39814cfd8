//! Tokens: HS256 JSON Web Tokens (RFC 7519) with a user's number and name.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};

use super::core::Presented;
use super::ids;
use crate::chat::UserId;

/// Makes and checks tokens with one secret.
pub struct Tokens {
    encoding: EncodingKey,
    decoding: DecodingKey,
    validation: Validation,
    ttl: Duration,
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
}

impl Tokens {
    /// Tokens signed with `secret` that are good for `ttl`.
    pub fn new(secret: &str, ttl: Duration) -> Tokens {
        let mut validation = Validation::new(Algorithm::HS256);
        validation.leeway = 0;
        Tokens {
            encoding: EncodingKey::from_secret(secret.as_bytes()),
            decoding: DecodingKey::from_secret(secret.as_bytes()),
            validation,
            ttl,
        }
    }

    /// A token for a user, from now on.
    ///
    /// # Errors
    /// The claims cannot be signed; a mistake of ours.
    pub fn issue(&self, number: UserId, username: &str) -> Result<String, jsonwebtoken::errors::Error> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs());
        self.issue_at(now, number, username)
    }

    fn issue_at(
        &self,
        iat: u64,
        number: UserId,
        username: &str,
    ) -> Result<String, jsonwebtoken::errors::Error> {
        let claims = Claims {
            sub: number,
            username: username.to_owned(),
            iat,
            exp: iat + self.ttl.as_secs(),
            jti: ids::session_id(),
        };
        jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &self.encoding)
    }

    /// What a token says, if it is ours and still good.
    pub fn check(&self, token: &str) -> Option<Claims> {
        jsonwebtoken::decode::<Claims>(token, &self.decoding, &self.validation).ok().map(|data| data.claims)
    }

    /// Whom a token presents.
    pub fn present(&self, token: &str) -> Presented {
        match self.check(token) {
            Some(claims) => Presented::User(claims.sub, claims.username),
            None => Presented::Refused,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_living_tokens_are_good() {
        let tokens = Tokens::new("secret", Duration::from_secs(60));
        let token = tokens.issue(7, "한글").unwrap();
        assert_eq!(tokens.present(&token), Presented::User(7, "한글".into()));
        assert_eq!(Tokens::new("other", Duration::from_secs(60)).present(&token), Presented::Refused);
        let none = "eyJhbGciOiJub25lIn0.eyJzdWIiOjcsInVzZXJuYW1lIjoieCIsImV4cCI6OTk5OTk5OTk5OX0.";
        for forged in ["", "x", "a.b.c", none, &token[..token.len() - 1]] {
            assert_eq!(tokens.present(forged), Presented::Refused, "{forged}");
        }
        let dead = tokens.issue_at(1_000_000_000, 7, "x").unwrap();
        assert_eq!(tokens.present(&dead), Presented::Refused);
    }
}
