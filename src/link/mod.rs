//! How any process talks to the storage writer: length-prefixed frames over one Unix stream socket.
//!
//! [`frame`] holds what is said, [`codec`] the bytes, [`census`] what both ends make of one kind of it. The
//! worker's side of the conversation
//! (reconnecting, sending unanswered operations again) is in `worker/uplink`.

pub mod census;
pub mod codec;
pub mod frame;
