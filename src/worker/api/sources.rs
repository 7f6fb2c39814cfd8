//! Where attempts to log in come from.

use std::net::IpAddr;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;

use super::super::address::Peer;
use super::super::answers::internal;
use super::super::brake::{Attempt, Source};
use super::super::session;
use super::Rest;
use super::answer::ApiError;
use super::caller::bearer;
use crate::chat::name;

/// Where the attempts of one call come from.
pub struct Sources {
    /// As it is counted.
    address: IpAddr,
    /// A good token that came along is this user's.
    token_of: Option<String>,
}

impl Sources {
    /// An attempt to log in under a name.
    pub fn attempt(&self, name: &str) -> Attempt {
        let own = self.token_of.as_deref().is_some_and(|token_of| name::same(token_of, name));
        Attempt {
            name: name::composed(name).into_owned(),
            source: Source { address: self.address, with_token: own },
        }
    }
}

impl FromRequestParts<Rest> for Sources {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, rest: &Rest) -> Result<Self, ApiError> {
        let Peer(peer) = *parts.extensions.get::<Peer>().ok_or_else(internal)?;
        let address = rest.app.addresses.caller(peer, &parts.headers);
        let known = match bearer(&parts.headers) {
            Some(token) => session::believed(&mut rest.app.core.lock(), token)?,
            None => None,
        };
        Ok(Sources { address, token_of: known.map(|known| known.name) })
    }
}
