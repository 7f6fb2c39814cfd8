//! Names drawn at random: sessions, rooms, this process.

/// 20 characters of the base64url alphabet: 120 random bits.
pub fn session_id() -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    random::<20>().iter().map(|byte| char::from(ALPHABET[usize::from(byte & 63)])).collect()
}

/// A room's id: 32 lower-case hexadecimal digits, 128 random bits.
pub fn room_id() -> String {
    format!("{:032x}", u128::from_ne_bytes(random()))
}

/// Tells a session from its user's other ones; not 0.
pub fn session_nonce() -> u64 {
    u64::from_ne_bytes(random()).max(1)
}

/// Tells this process from every other that ever was or will be a worker.
pub fn instance() -> u64 {
    u64::from_ne_bytes(random())
}

#[expect(
    clippy::expect_used,
    reason = "Linux has had getrandom(2) since 3.17; without it nothing here is safe"
)]
fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the kernel gives random bytes");
    bytes
}
