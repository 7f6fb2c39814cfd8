//! Where messages stand in a file, packed: what the index keeps of a room.
//!
//! A run of places is one number for the first byte, then for each further message the distance of
//! its `seq` and of its byte from the one before, all as LEB128 varints: two to four bytes a message.

/// Where a message stands in its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Its number.
    pub seq: u64,
    /// Byte of the file where its line begins.
    pub byte: u64,
}

/// A place and the number of its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Located {
    /// Number of the file.
    pub segment: u64,
    /// Where in it.
    pub place: Place,
}

/// Packs places of one file in ascending order; the first one's `seq` is kept by the caller.
pub fn pack(places: &[Place]) -> Vec<u8> {
    let mut out = Vec::with_capacity(4 * places.len());
    if let Some(first) = places.first() {
        put(first.byte, &mut out);
    }
    for pair in places.windows(2) {
        put(pair[1].seq.saturating_sub(pair[0].seq), &mut out);
        put(pair[1].byte.saturating_sub(pair[0].byte), &mut out);
    }
    out
}

/// What [`pack`] has packed. Stops at what it can't have written.
pub fn unpack(first_seq: u64, bytes: &[u8]) -> Vec<Place> {
    let mut rest = bytes;
    let mut places = Vec::with_capacity(bytes.len() / 3 + 1);
    let Some(byte) = take(&mut rest) else {
        return places;
    };
    let mut last = Place { seq: first_seq, byte };
    places.push(last);
    while let (Some(seq), Some(byte)) = (take(&mut rest), take(&mut rest)) {
        last = Place { seq: last.seq.saturating_add(seq), byte: last.byte.saturating_add(byte) };
        places.push(last);
    }
    places
}

/// Appends a number as a varint.
pub fn put(mut number: u64, out: &mut Vec<u8>) {
    while number >= 0x80 {
        out.push(number.to_le_bytes()[0] | 0x80);
        number >>= 7;
    }
    out.push(number.to_le_bytes()[0]);
}

/// Takes a varint; `None`: there is none.
pub fn take(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn places_round_trip(first: u32, steps in prop::collection::vec((1u64..1 << 40, 1u64..1 << 40), 0..50)) {
            let mut places = vec![Place { seq: u64::from(first), byte: u64::from(first) * 7 }];
            for (seq, byte) in steps {
                let last = places[places.len() - 1];
                places.push(Place { seq: last.seq + seq, byte: last.byte + byte });
            }
            prop_assert_eq!(unpack(places[0].seq, &pack(&places)), places);
        }

        #[test]
        fn no_bytes_make_unpacking_panic(first: u64, bytes: Vec<u8>) {
            let _ = unpack(first, &bytes);
        }
    }

    #[test]
    fn neighbours_take_little_room() {
        let places: Vec<Place> = (0..1_000).map(|n| Place { seq: n + 1, byte: n * 300 }).collect();
        assert!(pack(&places).len() <= 3 * places.len());
        assert!(unpack(1, &[]).is_empty());
    }
}
