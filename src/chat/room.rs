//! What happens to the membership of rooms.

use serde::{Deserialize, Serialize};

use super::UserId;

/// One change of a room's membership, in the order it was made durable.
///
/// Applying an event twice changes nothing, so a replay that overlaps what is known is harmless.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RoomEvent {
    /// The room exists from now on, with these members (the creator among them).
    Created {
        /// Whose room.
        room_id: String,
        /// All its members.
        members: Vec<UserId>,
    },
    /// These users, and no others, are new in the room (by invitation or by joining).
    Joined {
        /// Which room.
        room_id: String,
        /// The new members.
        users: Vec<UserId>,
    },
    /// This user is no longer in the room; the last one out deletes it.
    Left {
        /// Which room.
        room_id: String,
        /// Who left.
        user: UserId,
        /// No member remained, so the room is gone.
        deleted: bool,
    },
}
