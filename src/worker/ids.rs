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

/// A ticket's id: a random UUID (RFC 9562, version 4), 122 random bits.
pub fn ticket() -> u128 {
    const VERSION_4: u128 = 4 << 76;
    const VARIANT: u128 = 2 << 62;
    u128::from_ne_bytes(random()) & !(0xf << 76) & !(3 << 62) | VERSION_4 | VARIANT
}

/// A ticket as clients see it.
pub fn ticket_text(ticket: u128) -> String {
    let mut text = format!("{ticket:032x}");
    for at in UUID_HYPHENS {
        text.insert(at, '-');
    }
    text
}

/// The ticket that a text is; `None`: it is no ticket. A token never is one: it has full stops.
pub fn read_ticket(text: &str) -> Option<u128> {
    let fits = |(at, byte): (usize, u8)| match byte {
        b'-' => UUID_HYPHENS.contains(&at),
        _ => byte.is_ascii_hexdigit() && !UUID_HYPHENS.contains(&at),
    };
    let is_one = text.len() == UUID_CHARS && text.bytes().enumerate().all(fits);
    is_one.then(|| u128::from_str_radix(&text.replace('-', ""), 16).ok()).flatten()
}

const UUID_CHARS: usize = 36;

/// Where hyphens stand in the text of a UUID, ascending.
const UUID_HYPHENS: [usize; 4] = [8, 13, 18, 23];

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tickets_are_uuids_and_come_back() {
        for _ in 0..1_000 {
            let ticket = ticket();
            let text = ticket_text(ticket);
            assert!(text.as_bytes()[14] == b'4' && b"89ab".contains(&text.as_bytes()[19]), "{text}");
            assert_eq!(read_ticket(&text), Some(ticket));
            assert_eq!(read_ticket(&text.to_uppercase()), Some(ticket));
        }
        let good = ticket_text(7);
        assert_eq!(good, "00000000-0000-0000-0000-000000000007");
        for bad in [
            "",
            "7",
            "a.b.c",
            &good[1..],
            &good.replace('-', "0"),
            &good.replace('7', "+"),
            &good.replace('7', "é"),
        ] {
            assert_eq!(read_ticket(bad), None, "{bad}");
        }
    }
}
