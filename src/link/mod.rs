//! How any process talks to the storage writer: length-prefixed frames over one Unix stream socket.
//!
//! [`version`] tells which frames both ends know. [`frame`] holds what is said ([`arena`] of it what is about live challenges), [`codec`] the bytes, [`census`] what both ends make of one kind of it,
//! [`clock`] the time that both sides read alike. The worker's side of the conversation
//! (reconnecting, sending unanswered operations again) is in `worker/uplink`.

pub mod arena;
pub mod census;
pub mod clock;
pub mod codec;
pub mod frame;
pub mod version;
