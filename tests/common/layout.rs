//! Makes the older JSON layout: `users.json`, `chatrooms.json`, `messages_1.json`, …, any number of
//! users, rooms and messages, the same for the same numbers.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::OnceLock;

use serde_json::{Value, json};

/// bcrypt of [`PASSWORD`] at the lowest cost, which all users share.
pub fn bcrypt() -> &'static str {
    static HASH: OnceLock<String> = OnceLock::new();
    HASH.get_or_init(|| bcrypt::hash_with_salt(PASSWORD, 4, *b"not random at al").unwrap().to_string())
}

/// The password of all users.
pub const PASSWORD: &str = "비밀번호 1";

/// How much there is.
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    /// Users.
    pub users: u64,
    /// Rooms.
    pub rooms: u64,
    /// Messages, evenly over the files.
    pub messages: u64,
    /// Files of messages.
    pub files: u64,
}

const WORDS: [&str; 6] =
    ["안녕하세요 🎉", "hello", "줄\n바꿈\t\"따옴표\"", "日本語 \\ /", "👩‍👩‍👧‍👦", "{\"},[{\"x\":1}"];

impl Layout {
    /// The name of a user, from 0.
    pub fn username(user: u64) -> String {
        match user % 3 {
            0 => format!("사용자{user}"),
            1 => format!("user{user}"),
            _ => format!("José 🎈 {user}"),
        }
    }

    fn time(step: u64) -> String {
        let seconds = step / 10;
        format!(
            "2024-{:02}-{:02}T{:02}:{:02}:{:02}.{}00Z",
            1 + seconds / 2_419_200 % 12,
            1 + seconds / 86_400 % 28,
            seconds / 3_600 % 24,
            seconds / 60 % 60,
            seconds % 60,
            step % 10
        )
    }

    /// A user; some have an id, of one kind or another, and fields that are known nowhere.
    pub fn user(self, user: u64) -> Value {
        let mut made = json!({
            "username": Layout::username(user),
            "password": bcrypt(),
            "createdAt": Layout::time(user),
        });
        match user % 5 {
            1 => made["id"] = json!(format!("507f1f77{user:x}")),
            2 => made["id"] = json!(user + 1_000),
            3 => made["createdAt"] = json!("2024-05-01T12:00:00+09:00"),
            4 => made["profile"] = json!({"userId": user, "tags": ["a", null, 1.5]}),
            _ => {}
        }
        made
    }

    /// A room's id.
    pub fn room_id(room: u64) -> String {
        format!("room-{room:04}")
    }

    /// Who is in a room, in order.
    pub fn participants(self, room: u64) -> Vec<u64> {
        (0..self.users.min(20)).map(|step| (room * 7 + step * 3) % self.users.max(1)).fold(
            Vec::new(),
            |mut users, user| {
                if !users.contains(&user) {
                    users.push(user);
                }
                users
            },
        )
    }

    /// A room.
    pub fn room(self, room: u64) -> Value {
        let participants = self.participants(room);
        let names: Vec<String> = participants.iter().copied().map(Layout::username).collect();
        json!({
            "roomId": Layout::room_id(room),
            "name": format!("방 {room} 🏠"),
            "createdBy": names[names.len() - 1],
            "participants": names,
            "createdAt": Layout::time(room * 3),
        })
    }

    /// A message.
    pub fn message(self, message: u64) -> Value {
        let room = message % self.rooms;
        let participants = self.participants(room);
        let sender = participants[usize::try_from(message / self.rooms).unwrap() % participants.len()];
        let word = WORDS[usize::try_from(message).unwrap() % WORDS.len()];
        let timestamp = Layout::time(message);
        let id = if message % 10 == 3 { json!(message) } else { json!(format!("{message:x}-메시지")) };
        let created_at =
            if message.is_multiple_of(4) { Layout::time(message + 1) } else { timestamp.clone() };
        json!({
            "id": id,
            "roomId": Layout::room_id(room),
            "sender": Layout::username(sender),
            "content": format!("{word} {message}"),
            "timestamp": timestamp,
            "createdAt": created_at,
        })
    }

    /// Which messages are in a file, from 1.
    pub fn messages_of(self, file: u64) -> std::ops::Range<u64> {
        let each = self.messages / self.files;
        let end = if file == self.files { self.messages } else { file * each };
        (file - 1) * each..end
    }

    /// Writes it all; some files pretty-printed, as `JSON.stringify(…, null, 2)` does.
    pub fn write(self, dir: &Path) {
        std::fs::create_dir_all(dir).unwrap();
        write_array(&dir.join("users.json"), true, (0..self.users).map(|user| self.user(user)));
        write_array(&dir.join("chatrooms.json"), false, (0..self.rooms).map(|room| self.room(room)));
        for file in 1..=self.files {
            let messages = self.messages_of(file).map(|message| self.message(message));
            write_array(&dir.join(format!("messages_{file}.json")), file % 2 == 0, messages);
        }
    }
}

fn write_array(path: &Path, pretty: bool, elements: impl Iterator<Item = Value>) {
    let mut out = BufWriter::new(File::create(path).unwrap());
    out.write_all(b"[").unwrap();
    for (at, element) in elements.enumerate() {
        if at > 0 {
            out.write_all(b",").unwrap();
        }
        if pretty {
            out.write_all(b"\n  ").unwrap();
            serde_json::to_writer_pretty(&mut out, &element).unwrap();
        } else {
            serde_json::to_writer(&mut out, &element).unwrap();
        }
    }
    out.write_all(b"]").unwrap();
    out.flush().unwrap();
}
