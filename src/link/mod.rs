//! How any process talks to the storage writer: length-prefixed frames over one Unix stream socket.
//!
//! [`frame`] holds what is said, [`codec`] the bytes. The worker's side of the conversation
//! (reconnecting, sending unanswered operations again) is in `worker/uplink`.

pub mod codec;
pub mod frame;
