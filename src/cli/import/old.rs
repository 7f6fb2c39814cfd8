//! The older layout: `users.json`, `chatrooms.json`, `messages_1.json`, `messages_2.json`, … in one
//! directory, each an array, as an earlier back end on Node wrote them.

use std::borrow::Cow;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use argon2::Params;
use argon2::password_hash::phc::PasswordHash;

use super::array::{Array, Element, Flaw};
use super::fields::{Fields, SOURCE_BYTES, Source, text};
use super::people::{Found, Given, NUMBER_MAX, People, Person};
use crate::chat::{name, rules};
use crate::config::MESSAGE_BYTES;
use crate::journal::record::Profile;
use crate::journal::stamp::Stamp;

/// Users' file.
pub const USERS: &str = "users.json";
/// Rooms' file.
pub const ROOMS: &str = "chatrooms.json";

/// The highest cost of a bcrypt hash: about two seconds a login, in which nobody else's is looked at.
const BCRYPT_COST: u32 = 15;

/// The most memory an Argon2id hash may want, in KiB.
const ARGON2_KIB: u32 = 1 << 20;

/// Bytes of a list of participants whose spelling is kept; of a longer one only who they are.
const SPELT_BYTES: usize = SOURCE_BYTES / 2;

/// Bytes of a message's id, at most.
const ID_BYTES: usize = 128;

/// The files of messages with their numbers, in order.
///
/// # Errors
/// The directory can't be listed.
pub fn message_files(dir: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir)? {
        let name = entry?.file_name();
        let digits = name.to_str().and_then(|name| name.strip_prefix("messages_")?.strip_suffix(".json"));
        if let Some(number) = digits.and_then(|digits| digits.parse::<u64>().ok()) {
            files.push((number, dir.join(&name)));
        }
    }
    files.sort();
    Ok(files)
}

/// The users of the older layout.
pub struct OldUsers {
    array: Array,
    stamp: Stamp,
}

impl OldUsers {
    /// From a file's beginning.
    ///
    /// # Errors
    /// It can't be read.
    pub fn open(path: &Path) -> io::Result<OldUsers> {
        Ok(OldUsers { array: Array::new(File::open(path)?), stamp: Stamp::default() })
    }
}

impl People for OldUsers {
    fn next(&mut self) -> io::Result<Option<Found>> {
        let stamp = &mut self.stamp;
        Ok(self.array.next_element()?.map(|next| {
            let element = next?;
            Ok((element.spot(), read(element, |fields| user(fields, stamp))?))
        }))
    }

    fn done(&self) -> u64 {
        self.array.done()
    }
}

/// Reads an element with `make`, whose words become a flaw at the element's beginning.
///
/// # Errors
/// A flaw.
pub fn read<'a, T>(
    element: Element<'a>,
    make: impl FnOnce(Fields<'a>) -> Result<T, String>,
) -> Result<T, Flaw> {
    let fields = Fields::read(element)?;
    make(fields).map_err(|what| element.spot().flaw(what))
}

fn user(mut fields: Fields<'_>, stamp: &mut Stamp) -> Result<Person, String> {
    let mut source = Source::default();
    let given = match fields.take("id") {
        None => Given::Nothing,
        Some(id) => {
            source.add("id", id.get());
            let number = id.get().parse().ok().filter(|number| (1..=NUMBER_MAX).contains(number));
            number.map_or(Given::Other, Given::Number)
        }
    };
    let username = fields.name("username", &mut source)?.into_owned();
    rules::username(&username).map_err(|refusal| refusal.message)?;
    let password = match fields.take("password") {
        None => return Err("password is missing".to_owned()),
        Some(value) if value.get() == "null" => None,
        Some(value) => {
            let hash = text(value).filter(|hash| is_hash(hash));
            Some(hash.ok_or("password is neither a hash of bcrypt nor of Argon2id")?.into_owned())
        }
    };
    let at = fields.time("createdAt", None, stamp, &mut source)?;
    for name in ["nickname", "profileImage"] {
        fields.keep_empty(name, &mut source);
    }
    let (nickname, profile_image) = looks(&mut fields)?;
    let source = fields.rest(source)?;
    Ok(Person { given, profile: Profile { username, password, nickname, profile_image, source }, at })
}

/// `nickname` and `profileImage`.
///
/// # Errors
/// They break the rules.
pub fn looks(fields: &mut Fields<'_>) -> Result<(Option<String>, Option<String>), String> {
    let nickname = fields.optional_text("nickname")?.filter(|name| !name.is_empty()).map(Cow::into_owned);
    let image = fields.optional_text("profileImage")?.filter(|image| !image.is_empty()).map(Cow::into_owned);
    check_looks(nickname.as_deref(), image.as_deref())?;
    Ok((nickname, image))
}

/// Checks a nickname and the address of an image.
///
/// # Errors
/// They break the rules.
pub fn check_looks(nickname: Option<&str>, image: Option<&str>) -> Result<(), String> {
    nickname.map_or(Ok(()), rules::nickname).map_err(|refusal| refusal.message)?;
    image.map_or(Ok(()), rules::profile_image).map_err(|refusal| refusal.message)
}

/// Whether logins can check it, and at a cost that a server can bear.
fn is_hash(hash: &str) -> bool {
    if !hash.starts_with("$2") {
        return PasswordHash::new(hash).is_ok_and(|hash| {
            hash.algorithm.as_str() == "argon2id"
                && Params::try_from(&hash).is_ok_and(|params| params.m_cost() <= ARGON2_KIB)
        });
    }
    let Some((variant, rest)) = hash[2..].split_once('$') else {
        return false;
    };
    let Some((cost, rest)) = rest.split_once('$') else {
        return false;
    };
    let known = matches!(variant, "a" | "b" | "y");
    let bearable = cost.len() == 2 && cost.parse().is_ok_and(|cost| (4..=BCRYPT_COST).contains(&cost));
    let digit = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'.' || byte == b'/';
    known && bearable && rest.len() == 53 && rest.bytes().all(digit)
}

/// A room of the older layout.
pub struct OldRoom {
    /// Its id.
    pub room_id: String,
    /// What users call it.
    pub name: String,
    /// Names of who is in it, in order.
    pub participants: Vec<String>,
    /// Name of who made it.
    pub created_by: String,
    /// Anybody may join; only an export of ours says it.
    pub open: bool,
    /// Unix time in milliseconds.
    pub at: i64,
    /// What else the original says.
    pub source: Option<String>,
}

/// Reads a room.
///
/// # Errors
/// What is wrong with it.
pub fn room(mut fields: Fields<'_>, stamp: &mut Stamp) -> Result<OldRoom, String> {
    let room_id = fields.text("roomId")?.into_owned();
    if room_id.is_empty() || room_id.len() > rules::ROOM_ID_BYTES {
        return Err(format!("roomId must have 1 to {} bytes", rules::ROOM_ID_BYTES));
    }
    let name = fields.text("name")?.into_owned();
    rules::room_name(&name).map_err(|refusal| refusal.message)?;
    let participants = fields.take("participants").ok_or("participants is missing")?;
    let spelt = participants.get();
    let participants: Vec<String> =
        serde_json::from_str(spelt).map_err(|_| "participants must be an array of user names".to_owned())?;
    let mut source = Source::default();
    if spelt.len() < SPELT_BYTES && !participants.iter().all(|named| name::is_composed(named)) {
        source.add("participants", spelt);
    }
    let created_by = fields.name("createdBy", &mut source)?.into_owned();
    let open = fields.take("open");
    if let Some(other) = open.filter(|open| open.get() != "true") {
        source.add("open", other.get());
    }
    let open = open.is_some_and(|open| open.get() == "true");
    let at = fields.time("createdAt", None, stamp, &mut source)?;
    let source = fields.rest(source)?;
    Ok(OldRoom { room_id, name, participants, created_by, open, at, source })
}

/// A message of the older layout.
pub struct OldMessage<'a> {
    /// Its id, as text.
    pub id: Cow<'a, str>,
    /// The room.
    pub room_id: Cow<'a, str>,
    /// The sender's name.
    pub sender: Cow<'a, str>,
    /// The text.
    pub content: Cow<'a, str>,
    /// The client's name for it; only an export of ours has it.
    pub client_id: Option<Cow<'a, str>>,
    /// Unix time in milliseconds.
    pub at: i64,
    /// What else the original says.
    pub source: Option<String>,
}

/// Reads a message.
///
/// # Errors
/// What is wrong with it.
pub fn message<'a>(
    mut fields: Fields<'a>,
    content_chars: usize,
    stamp: &mut Stamp,
) -> Result<OldMessage<'a>, String> {
    let mut source = Source::default();
    let value = fields.take("id").ok_or("id is missing")?;
    let id = match text(value) {
        Some(id) => id,
        None if matches!(value.get().as_bytes(), [b'-' | b'0'..=b'9', ..]) => {
            source.add("id", value.get());
            Cow::Borrowed(value.get())
        }
        None => return Err("id must be a string or a number".to_owned()),
    };
    if id.is_empty() || id.len() > ID_BYTES {
        return Err(format!("id must have 1 to {ID_BYTES} bytes"));
    }
    let room_id = fields.text("roomId")?;
    let sender = fields.name("sender", &mut source)?;
    let content = fields.text("content")?;
    // What an older back end has stored without text is part of its history.
    if !content.is_empty() {
        rules::content(&content, content_chars).map_err(|refusal| refusal.message)?;
    }
    if content.len() > MESSAGE_BYTES - 4_096 {
        return Err(format!("content must not exceed {} bytes", MESSAGE_BYTES - 4_096));
    }
    fields.keep_empty("clientId", &mut source);
    let client_id = fields.optional_text("clientId")?;
    client_id.as_deref().map_or(Ok(()), rules::client_id).map_err(|refusal| refusal.message)?;
    let at = fields.time("timestamp", None, stamp, &mut source)?;
    fields.time("createdAt", Some(at), stamp, &mut source)?;
    let source = fields.rest(source)?;
    Ok(OldMessage { id, room_id, sender, content, client_id, at, source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_hashes_that_a_login_can_check_are_taken() {
        let tail = "N9qo8uLOickgx2ZMRZoMyeIjZAgcfl7p92ldGxad68LJZdL17lhWy";
        for start in ["$2a$10$", "$2b$04$", "$2y$15$"] {
            assert!(is_hash(&format!("{start}{tail}")), "{start}");
        }
        for start in ["$2x$10$", "$2b$16$", "$2b$03$", "$2b$010$", "$2b$10", "$2b$10$x"] {
            assert!(!is_hash(&format!("{start}{tail}")), "{start}");
        }
        let salt = "$gZiV/M1gPc22ElAH/Jh1Hw$CWOrkoo7oJBQ/iyh7uJ0LO2aLEfrHwTWllSAxT0zRno";
        assert!(is_hash(&format!("$argon2id$v=19$m=19456,t=2,p=1{salt}")));
        assert!(!is_hash(&format!("$argon2id$v=19$m=4000000,t=2,p=1{salt}")));
        assert!(!is_hash(&format!("$argon2i$v=19$m=19456,t=2,p=1{salt}")));
        assert!(!is_hash("") && !is_hash("secret"));
    }
}
