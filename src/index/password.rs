//! Password hashes in few bytes: of fifty million users they are most of the index.
//!
//! What has one of the two usual forms is kept as its bytes instead of its text (Argon2id 61 for 97,
//! bcrypt 42 for 60), if exactly the same text can be made of them again; anything else is kept as
//! text. SQLite itself tells which of the two a value is.

use base64ct::{Base64Bcrypt, Base64Unpadded, Encoding};
use rusqlite::types::{FromSqlError, ToSqlOutput, Value, ValueRef};

/// First byte of an Argon2id hash of version 19 with 16 bytes of salt and 32 of hash: memory,
/// iterations and parallelism as little-endian `u32` follow, salt, hash.
const ARGON2ID: u8 = 1;
/// First byte of a bcrypt hash: letter of the variant, cost, 16 bytes of salt, 23 of hash follow.
const BCRYPT: u8 = 2;

const ARGON2ID_BYTES: usize = 1 + 12 + 16 + 32;
const BCRYPT_BYTES: usize = 1 + 2 + 16 + 23;

/// How a hash's text is stored.
pub fn pack(text: &str) -> ToSqlOutput<'_> {
    match argon2id(text).or_else(|| bcrypt(text)) {
        Some(bytes) if unpack_bytes(&bytes).as_deref() == Some(text) => {
            ToSqlOutput::Owned(Value::Blob(bytes))
        }
        _ => ToSqlOutput::Borrowed(ValueRef::Text(text.as_bytes())),
    }
}

/// The text of a stored hash; none is none.
///
/// # Errors
/// The value is nothing that [`pack`] makes.
pub fn unpack(stored: ValueRef<'_>) -> Result<Option<String>, FromSqlError> {
    match stored {
        ValueRef::Null => Ok(None),
        ValueRef::Blob(bytes) => unpack_bytes(bytes).map(Some).ok_or(FromSqlError::InvalidType),
        text => text.as_str().map(|text| Some(text.to_owned())),
    }
}

fn argon2id(text: &str) -> Option<Vec<u8>> {
    let rest = text.strip_prefix("$argon2id$v=19$m=")?;
    let (memory, rest) = rest.split_once(",t=")?;
    let (iterations, rest) = rest.split_once(",p=")?;
    let (parallelism, rest) = rest.split_once('$')?;
    let (salt, hash) = rest.split_once('$')?;
    let mut bytes = vec![ARGON2ID];
    for number in [memory, iterations, parallelism] {
        bytes.extend_from_slice(&number.parse::<u32>().ok()?.to_le_bytes());
    }
    bytes.append(&mut Base64Unpadded::decode_vec(salt).ok()?);
    bytes.append(&mut Base64Unpadded::decode_vec(hash).ok()?);
    (bytes.len() == ARGON2ID_BYTES).then_some(bytes)
}

fn bcrypt(text: &str) -> Option<Vec<u8>> {
    let rest = text.strip_prefix("$2")?;
    let (variant, rest) = rest.split_once('$')?;
    let (cost, rest) = rest.split_once('$')?;
    let (salt, hash) = rest.split_at_checked(22)?;
    let mut bytes = vec![BCRYPT, *variant.as_bytes().first()?, cost.parse().ok()?];
    bytes.append(&mut Base64Bcrypt::decode_vec(salt).ok()?);
    bytes.append(&mut Base64Bcrypt::decode_vec(hash).ok()?);
    (bytes.len() == BCRYPT_BYTES).then_some(bytes)
}

fn unpack_bytes(bytes: &[u8]) -> Option<String> {
    match bytes {
        [ARGON2ID, rest @ ..] if bytes.len() == ARGON2ID_BYTES => {
            let (numbers, rest) = rest.split_at(12);
            let mut numbers = numbers.as_chunks::<4>().0.iter().map(|number| u32::from_le_bytes(*number));
            let [memory, iterations, parallelism] = [numbers.next()?, numbers.next()?, numbers.next()?];
            let (salt, hash) = rest.split_at(16);
            let [salt, hash] = [salt, hash].map(Base64Unpadded::encode_string);
            Some(format!("$argon2id$v=19$m={memory},t={iterations},p={parallelism}${salt}${hash}"))
        }
        [BCRYPT, variant, cost, rest @ ..] if bytes.len() == BCRYPT_BYTES => {
            let (salt, hash) = rest.split_at(16);
            let [salt, hash] = [salt, hash].map(Base64Bcrypt::encode_string);
            Some(format!("$2{}${cost:02}${salt}{hash}", char::from(*variant)))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn stored(text: &str) -> Value {
        match pack(text) {
            ToSqlOutput::Owned(value) => value,
            ToSqlOutput::Borrowed(value) => value.try_into().unwrap(),
            _ => panic!("neither"),
        }
    }

    fn again(text: &str) -> Option<String> {
        unpack(ValueRef::from(&stored(text))).unwrap()
    }

    #[test]
    fn usual_hashes_become_small_and_come_back() {
        let argon2 = "$argon2id$v=19$m=19456,t=2,p=1$gZiV/M1gPc22ElAH/Jh1Hw$CWOrkoo7oJBQ/iyh7uJ0LO2aLEfrHwTWllSAxT0zRno";
        let bcrypt = "$2b$10$N9qo8uLOickgx2ZMRZoMyeIjZAgcfl7p92ldGxad68LJZdL17lhWy";
        for (text, bytes) in [(argon2, ARGON2ID_BYTES), (bcrypt, BCRYPT_BYTES)] {
            assert!(matches!(stored(text), Value::Blob(blob) if blob.len() == bytes), "{text}");
            assert_eq!(again(text).as_deref(), Some(text));
        }
    }

    #[test]
    fn what_would_not_come_back_stays_text() {
        for text in [
            "",
            "plain",
            "$2b$010$N9qo8uLOickgx2ZMRZoMyeIjZAgcfl7p92ldGxad68LJZdL17lhWy",
            "$2bb$10$N9qo8uLOickgx2ZMRZoMyeIjZAgcfl7p92ldGxad68LJZdL17lhWy",
            "$2b$10$N9qo8uLOickgx2ZMRZoMyeIjZAgcfl7p92ldGxad68LJZdL17lhWz",
            "$argon2id$v=19$m=019456,t=2,p=1$gZiV/M1gPc22ElAH/Jh1Hw$CWOrkoo7oJBQ/iyh7uJ0LO2aLEfrHwTWllSAxT0zRno",
            "$argon2id$v=19$m=8,t=1,p=1$gZiV/M1gPc22ElAH/Jh1Hw$CWOrkoo7oJBQ",
        ] {
            assert!(matches!(stored(text), Value::Text(_)), "{text}");
            assert_eq!(again(text).as_deref(), Some(text));
        }
        assert_eq!(unpack(ValueRef::Null).unwrap(), None);
        assert!(unpack(ValueRef::Blob(b"?")).is_err());
    }

    proptest! {
        #[test]
        fn any_text_comes_back(text: String, salt: [u8; 16], hash: [u8; 32], numbers: [u32; 3]) {
            prop_assert_eq!(again(&text), Some(text));
            let [salt, hash] = [&salt[..], &hash[..]].map(Base64Unpadded::encode_string);
            let [memory, time, lanes] = numbers;
            let text = format!("$argon2id$v=19$m={memory},t={time},p={lanes}${salt}${hash}");
            prop_assert_eq!(again(&text), Some(text));
        }
    }
}
