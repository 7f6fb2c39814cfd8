//! What a change of users or rooms does.
//!
//! Each entry is judged ([`super::judge`]) by the index as it stands in the open transaction, so it
//! sees what the entries before it did; then it becomes a record, which is applied to the index and encoded for
//! the log by the same steps whatever the change. Nothing here is durable yet.

use std::collections::{HashMap, HashSet};

use super::catchup::{self, RoomFrames};
use super::judge::{Ends, Failure, Judge, Judged};
use super::repeats;
use crate::chat::{Code, OpId, Refusal, UserId};
use crate::index::store::LogName;
use crate::journal::record::{self, Profile, RoomChange, RoomRecord, UserChange, UserRecord};
use crate::link::frame::{Change, NewPassword, NewRoom, NewUser, Outcome};

/// Changes that will be made durable together.
pub struct Step {
    /// The logs' ends behind them.
    pub ends: Ends,
    /// Lines for `users.jsonl`.
    pub users: Vec<u8>,
    /// Lines for `chatrooms.jsonl`.
    pub rooms: Vec<u8>,
    /// What workers will be told.
    pub frames: RoomFrames,
    /// Whose records begin at which byte of the lines.
    pub places: Vec<(LogName, OpId, u64)>,
    /// Users whose earlier tokens it ends.
    pub ended: Vec<UserId>,
}

/// Leaves with a refusal.
macro_rules! allowed {
    ($judged:expr) => {
        match $judged {
            Ok(value) => value,
            Err(refusal) => return Ok(Err(refusal)),
        }
    };
}

impl Step {
    /// Nothing yet.
    pub fn new(ends: Ends) -> Step {
        Step {
            ends,
            users: Vec::new(),
            rooms: Vec::new(),
            frames: RoomFrames::default(),
            places: Vec::new(),
            ended: Vec::new(),
        }
    }

    /// Judges a change and does what is allowed of it.
    ///
    /// # Errors
    /// The whole step must be given up.
    pub fn apply(&mut self, judge: &Judge<'_>, op: OpId, change: Change) -> Judged<Outcome> {
        match change {
            Change::CreateUsers(users) => self.create_users(judge, op, users).map(Ok),
            Change::SetPasswords(passwords) => self.set_passwords(judge, op, passwords),
            Change::SetLooks { user, nickname, profile_image } => {
                self.set_looks(judge, op, user, [nickname, profile_image])
            }
            Change::Revoke { user, generation } => self.revoke(judge, op, user, generation),
            Change::ChangePassword { password, generation } => {
                self.change_password(judge, op, password, generation)
            }
            Change::CreateRooms { creator, rooms } => self.create_rooms(judge, op, creator, rooms),
            Change::Invite { room_id, by, participants } => {
                if judge.did(op) {
                    return Ok(Ok(Outcome::Ok));
                }
                self.invite(judge, op, room_id, by, &participants)
            }
            Change::Join { room_id, user } => {
                if judge.did(op) {
                    return Ok(Ok(Outcome::Ok));
                }
                self.join(judge, op, room_id, user)
            }
            // Comes in a step of its own, which is not made of records.
            Change::DeleteUsers { .. } => Ok(Err(Refusal::new(Code::Internal, "Internal error"))),
            Change::Leave { room_id, user } => {
                if judge.did(op) {
                    return Ok(Ok(Outcome::Ok));
                }
                self.leave(judge, op, room_id, user)
            }
        }
    }

    fn create_users(&mut self, judge: &Judge<'_>, op: OpId, users: Vec<NewUser>) -> Result<Outcome, Failure> {
        let mut done: HashMap<String, UserId> =
            repeats::read::<UserRecord>(judge.paths[0], judge.repeats.find(LogName::Users, op), op)?
                .into_iter()
                .filter_map(|record| match record.change {
                    UserChange::Created(profile) => Some((profile.username, record.user_id)),
                    _ => None,
                })
                .collect();
        let mut outcomes = Vec::with_capacity(users.len());
        for NewUser { username, password, nickname, profile_image } in users {
            if let Some(number) = done.remove(&username) {
                outcomes.push(Ok(number));
                continue;
            }
            let user_id = self.ends.last_user + 1;
            let profile =
                Profile { username, password: Some(password), nickname, profile_image, source: None };
            let taken = judge.is_taken(&profile.username)?;
            if !taken && self.record_user(judge, op, user_id, UserChange::Created(profile))? {
                self.ends.last_user = user_id;
                outcomes.push(Ok(user_id));
            } else {
                outcomes.push(Err(Refusal::new(Code::UsernameTaken, "Username already exists")));
            }
        }
        Ok(Outcome::Users(outcomes))
    }

    /// Gives users other hashes of their passwords. One whose stored hash is no longer the one that is
    /// to be replaced keeps it, so a retry changes nothing.
    fn set_passwords(&mut self, judge: &Judge<'_>, op: OpId, passwords: Vec<NewPassword>) -> Judged<Outcome> {
        for NewPassword { user, replaces, password } in passwords {
            if judge.store.password(user)? == Some(Some(replaces)) {
                let change = UserChange::Password { text: password, generation: None };
                self.record_user(judge, op, user, change)?;
            }
        }
        Ok(Ok(Outcome::Ok))
    }

    /// Gives a user another nickname or picture: `None` leaves what there is.
    fn set_looks(
        &mut self,
        judge: &Judge<'_>,
        op: OpId,
        user: UserId,
        [nickname, profile_image]: [Option<Option<String>>; 2],
    ) -> Judged<Outcome> {
        let Some(known) = judge.store.looks(user)? else {
            return Ok(Err(ended()));
        };
        let looks =
            (nickname.unwrap_or_else(|| known.0.clone()), profile_image.unwrap_or_else(|| known.1.clone()));
        let done = !judge.repeats.find(LogName::Users, op).is_empty();
        if looks != known && !done {
            let (nickname, profile_image) = looks;
            self.record_user(judge, op, user, UserChange::Profile { nickname, profile_image })?;
        }
        Ok(Ok(Outcome::Ok))
    }

    /// Ends the tokens that a user has.
    fn revoke(&mut self, judge: &Judge<'_>, op: OpId, user: UserId, generation: u32) -> Judged<Outcome> {
        if let Some(done) = revoked_before(judge, op)? {
            return Ok(Ok(done));
        }
        // Whoever comes with an ended token is too late.
        let is_good = judge.store.generation(user)? == generation;
        let generation = generation.wrapping_add(1);
        if !is_good || !self.record_user(judge, op, user, UserChange::Revoked { generation })? {
            return Ok(Err(ended()));
        }
        Ok(Ok(Outcome::Revoked { generation }))
    }

    /// Gives a user another password and ends the tokens that they have, in one record.
    fn change_password(
        &mut self,
        judge: &Judge<'_>,
        op: OpId,
        password: NewPassword,
        generation: u32,
    ) -> Judged<Outcome> {
        if let Some(done) = revoked_before(judge, op)? {
            return Ok(Ok(done));
        }
        let NewPassword { user, replaces, password } = password;
        // The password is another one only with another generation, or when an outdated hash was replaced.
        if judge.store.generation(user)? != generation || judge.store.password(user)? != Some(Some(replaces))
        {
            return Ok(Err(ended()));
        }
        let generation = generation.wrapping_add(1);
        let change = UserChange::Password { text: password, generation: Some(generation) };
        self.record_user(judge, op, user, change)?;
        Ok(Ok(Outcome::Revoked { generation }))
    }

    /// `false`: the index refuses it (the name is taken), and nothing is recorded.
    fn record_user(
        &mut self,
        judge: &Judge<'_>,
        op: OpId,
        user_id: UserId,
        change: UserChange,
    ) -> Result<bool, Failure> {
        let rev = self.ends.users + 1;
        let record = UserRecord { rev, op, user_id, change, at: judge.now_ms, synced: judge.durable.users };
        if !judge.store.apply_user(&record)? {
            return Ok(false);
        }
        if record.change.generation().is_some() {
            self.frames.revoked = true;
            self.ended.push(user_id);
        }
        self.places.push((LogName::Users, op, self.users.len() as u64));
        record::encode(&record, &mut self.users);
        self.ends.users = rev;
        Ok(true)
    }

    fn create_rooms(
        &mut self,
        judge: &Judge<'_>,
        op: OpId,
        creator: UserId,
        rooms: Vec<NewRoom>,
    ) -> Judged<Outcome> {
        let done: HashSet<String> =
            repeats::read::<RoomRecord>(judge.paths[1], judge.repeats.find(LogName::Rooms, op), op)?
                .into_iter()
                .filter_map(|record| match record.change {
                    RoomChange::Created { room_id, .. } => Some(room_id),
                    _ => None,
                })
                .collect();
        if judge.store.user(creator)?.is_none() {
            return Ok(Err(Refusal::new(Code::Unauthorized, "There is no such user")));
        }
        let mut outcomes = Vec::with_capacity(rooms.len());
        for room in rooms {
            if done.contains(&room.room_id) {
                outcomes.push(Ok(()));
            } else {
                outcomes.push(self.create_room(judge, op, creator, room)?);
            }
        }
        Ok(Ok(Outcome::Rooms(outcomes)))
    }

    fn create_room(&mut self, judge: &Judge<'_>, op: OpId, creator: UserId, room: NewRoom) -> Judged<()> {
        let NewRoom { room_id, name, participants, open } = room;
        if judge.store.room(&room_id)?.is_some() {
            return Ok(Err(Refusal::new(Code::InvalidRequest, "A room of this id exists")));
        }
        let others = allowed!(judge.resolve(&participants)?);
        let mut members = vec![creator];
        members.extend(others.into_iter().filter(|user| *user != creator));
        allowed!(judge.check_room_for(&members)?);
        let change =
            RoomChange::Created { op, room_id, name, open, created_by: creator, members, source: None };
        self.record(judge, change).map(Ok)
    }

    fn invite(
        &mut self,
        judge: &Judge<'_>,
        op: OpId,
        room_id: String,
        by: UserId,
        participants: &[String],
    ) -> Judged<Outcome> {
        let room = allowed!(judge.room(&room_id)?);
        if !judge.store.is_member(room.key, by)? {
            return Ok(Err(Refusal::not_a_member()));
        }
        let mut users = Vec::new();
        for user in allowed!(judge.resolve(participants)?) {
            if !judge.store.is_member(room.key, user)? {
                users.push(user);
            }
        }
        allowed!(judge.check_room_for(&users)?);
        if !users.is_empty() {
            self.record(judge, RoomChange::Joined { op, room_id, users, by })?;
        }
        Ok(Ok(Outcome::Ok))
    }

    fn join(&mut self, judge: &Judge<'_>, op: OpId, room_id: String, user: UserId) -> Judged<Outcome> {
        let room = allowed!(judge.room(&room_id)?);
        if judge.store.is_member(room.key, user)? {
            return Ok(Ok(Outcome::Ok));
        }
        if !room.open {
            let text = "This chat room can only be entered by invitation";
            return Ok(Err(Refusal::new(Code::RoomNotOpen, text)));
        }
        allowed!(judge.check_room_for(&[user])?);
        self.record(judge, RoomChange::Joined { op, room_id, users: vec![user], by: user })?;
        Ok(Ok(Outcome::Ok))
    }

    fn leave(&mut self, judge: &Judge<'_>, op: OpId, room_id: String, user: UserId) -> Judged<Outcome> {
        let room = allowed!(judge.room(&room_id)?);
        if !judge.store.is_member(room.key, user)? {
            return Ok(Err(Refusal::not_a_member()));
        }
        let deleted = room.members == 1;
        self.record(judge, RoomChange::Left { op, room_id, user, deleted })?;
        Ok(Ok(Outcome::Ok))
    }

    fn record(&mut self, judge: &Judge<'_>, change: RoomChange) -> Result<(), Failure> {
        let op = change.op();
        let record = RoomRecord {
            rev: self.ends.rooms + 1,
            change,
            at: judge.now_ms,
            after_seq: judge.after_seq,
            synced: judge.durable.rooms,
        };
        judge.store.apply_room(&record)?;
        self.places.push((LogName::Rooms, op, self.rooms.len() as u64));
        record::encode(&record, &mut self.rooms);
        self.ends.rooms = record.rev;
        self.frames.push(record.rev, catchup::event(record.change));
        Ok(())
    }
}

fn ended() -> Refusal {
    Refusal::new(Code::Unauthorized, "Invalid or expired token")
}

/// What an operation that ends tokens was answered, if it was done before.
fn revoked_before(judge: &Judge<'_>, op: OpId) -> Result<Option<Outcome>, Failure> {
    let runs = judge.repeats.find(LogName::Users, op);
    let records = repeats::read::<UserRecord>(judge.paths[0], runs, op)?;
    let generation = records.iter().find_map(|record| record.change.generation());
    Ok(generation.map(|generation| Outcome::Revoked { generation }))
}
