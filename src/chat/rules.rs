//! What a client's words must look like before anything is done with them.
//!
//! Each rule takes the raw value and answers the refusal that a client sees.

use super::{Code, Refusal, name};

/// Characters (Unicode scalar values) of a user name, composed, at most.
pub const USERNAME_CHARS: usize = 100;
/// Bytes of a password, at most: longer ones would only buy an attacker hashing time.
pub const PASSWORD_BYTES: usize = 1024;
/// Characters of a room's name, at most.
pub const ROOM_NAME_CHARS: usize = 200;
/// Bytes of a `clientId`, at most.
pub const CLIENT_ID_BYTES: usize = 128;
/// Bytes of a room id, at most (our own have 33; imported ones may differ).
pub const ROOM_ID_BYTES: usize = 128;
/// Characters of a nickname, at most.
pub const NICKNAME_CHARS: usize = 100;
/// Bytes of the address of a profile image, at most.
pub const PROFILE_IMAGE_BYTES: usize = 2_048;
/// Characters of a challenge's title, at most.
pub const TITLE_CHARS: usize = 200;
/// Characters of what is said about a challenge, at most.
pub const DESCRIPTION_CHARS: usize = 1_000;
/// Participants named in one call, at most.
pub const PARTICIPANTS_PER_CALL: usize = 100_000;

/// A user name: something visible, no control characters, not padded with white space.
pub fn username(name: &str) -> Result<(), Refusal> {
    name_like("username", &name::composed(name), USERNAME_CHARS)
}

/// A room's name: the same rule with its own length.
pub fn room_name(name: &str) -> Result<(), Refusal> {
    name_like("name", name, ROOM_NAME_CHARS)
}

/// A nickname: the rule of names with its own length.
pub fn nickname(name: &str) -> Result<(), Refusal> {
    name_like("nickname", name, NICKNAME_CHARS)
}

/// A challenge's title: the rule of names with its own length.
pub fn challenge_title(title: &str) -> Result<(), Refusal> {
    name_like("title", title, TITLE_CHARS)
}

/// The address of a profile image.
pub fn profile_image(address: &str) -> Result<(), Refusal> {
    if address.len() > PROFILE_IMAGE_BYTES || address.chars().any(char::is_control) {
        let message = format!("profileImage must not exceed {PROFILE_IMAGE_BYTES} bytes");
        return Err(Refusal::new(Code::InvalidRequest, message));
    }
    Ok(())
}

/// A password: anything from one byte up to [`PASSWORD_BYTES`].
pub fn password(password: &str) -> Result<(), Refusal> {
    if password.is_empty() {
        return Err(Refusal::new(Code::InvalidRequest, "username and password are required"));
    }
    if password.len() > PASSWORD_BYTES {
        return Err(Refusal::new(
            Code::InvalidRequest,
            format!("password must not exceed {PASSWORD_BYTES} bytes"),
        ));
    }
    Ok(())
}

/// A message's content: not empty, at most `max_chars` characters.
pub fn content(content: &str, max_chars: usize) -> Result<(), Refusal> {
    if content.is_empty() {
        return Err(Refusal::new(Code::InvalidRequest, "roomId and content are required"));
    }
    // A string has at most as many characters as bytes: most are done without counting.
    if content.len() > max_chars && content.chars().count() > max_chars {
        return Err(Refusal::new(
            Code::ContentTooLong,
            format!("content must not exceed {max_chars} characters"),
        ));
    }
    Ok(())
}

/// A `clientId`: 1 to [`CLIENT_ID_BYTES`] bytes.
pub fn client_id(id: &str) -> Result<(), Refusal> {
    if id.is_empty() || id.len() > CLIENT_ID_BYTES {
        let message = format!("clientId must have 1 to {CLIENT_ID_BYTES} bytes");
        return Err(Refusal::new(Code::InvalidRequest, message));
    }
    Ok(())
}

fn name_like(field: &str, name: &str, max_chars: usize) -> Result<(), Refusal> {
    let bad = |message: String| Err(Refusal::new(Code::InvalidRequest, message));
    if name.trim().is_empty() {
        return bad(format!("{field} is required"));
    }
    if name.chars().count() > max_chars {
        return bad(format!("{field} must not exceed {max_chars} characters"));
    }
    if name.trim() != name {
        return bad(format!("{field} must not begin or end with white space"));
    }
    if name.chars().any(char::is_control) {
        return bad(format!("{field} must not contain control characters"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_any_script_are_fine() {
        for name in ["a", "테스트유저1", "José", "🎉 party", "日本語"] {
            assert_eq!(username(name), Ok(()), "{name}");
        }
    }

    #[test]
    fn names_that_would_confuse_are_refused() {
        let long = "가".repeat(USERNAME_CHARS + 1);
        for name in ["", "  ", " a", "a ", "a\nb", "\u{0}", long.as_str()] {
            assert!(username(name).is_err(), "{name:?}");
        }
        assert_eq!(username(&"가".repeat(USERNAME_CHARS)), Ok(()));
        let apart = "\u{1100}\u{1161}";
        assert_eq!(username(&apart.repeat(USERNAME_CHARS)), Ok(()), "one syllable, however it is spelt");
        assert!(username(&apart.repeat(USERNAME_CHARS + 1)).is_err());
    }

    #[test]
    fn content_counts_characters_not_bytes() {
        assert_eq!(content(&"🎉".repeat(10), 10), Ok(()));
        assert!(content(&"🎉".repeat(11), 10).is_err());
    }

    #[test]
    fn content_says_something() {
        assert_eq!(content("", 10).map_err(|r| r.message), Err("roomId and content are required".into()));
        assert_eq!(content(" ", 10), Ok(()), "white space is for the client to judge");
    }
}
