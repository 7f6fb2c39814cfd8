//! What is said and who may hear it: identifiers, messages, room events, limits and refusals.
//!
//! Pure: no I/O, no clock, no JSON text. Everything here can be named by the wire, the link, the
//! journal and the roles, and names none of them.

mod fading;
pub mod id;
pub mod late;
pub mod name;
pub mod pace;
pub mod refusal;
pub mod room;
pub mod rules;

pub use id::{OpId, UserId};
pub use pace::{Pace, Paces};
pub use refusal::{Code, Refusal};
pub use room::RoomEvent;
