//! One name, however it is spelt.
//!
//! The same letters can arrive as different characters: most systems compose them (NFC), a Mac takes file names
//! and what is copied from them apart (NFD), so that one Hangul syllable is two or three characters. To its owner
//! that is one name. Users' names are therefore stored composed, and looked for in every spelling that a name
//! stored before that rule may have. See Unicode Standard Annex 15.

use std::borrow::Cow;
use std::iter;

use unicode_normalization::{UnicodeNormalization, is_nfc};

/// Characters that one composed character may arrive as, at most (U+1F82 and some more do).
pub const SPELT_CHARS: usize = 4;

/// A name as it is stored: in NFC.
pub fn composed(name: &str) -> Cow<'_, str> {
    if name.is_ascii() || is_nfc(name) { Cow::Borrowed(name) } else { Cow::Owned(name.nfc().collect()) }
}

/// Whether a name is spelt as it is stored.
pub fn is_composed(name: &str) -> bool {
    matches!(composed(name), Cow::Borrowed(_))
}

/// Whether two texts are one name.
pub fn same(one: &str, other: &str) -> bool {
    one == other || !(one.is_ascii() && other.is_ascii()) && composed(one) == composed(other)
}

/// How a name may be stored, the likeliest first: as it came (older data may have two users of one name,
/// each of whom is meant by their own spelling), composed, and taken apart.
pub fn spellings(name: &str) -> impl Iterator<Item = Cow<'_, str>> {
    let others = (!name.is_ascii()).then(|| {
        let (nfc, nfd): (String, String) = (name.nfc().collect(), name.nfd().collect());
        let nfd = Some(nfd).filter(|nfd| nfd != name && *nfd != nfc);
        [Some(nfc).filter(|nfc| nfc != name), nfd]
    });
    iter::once(Cow::Borrowed(name)).chain(others.into_iter().flatten().flatten().map(Cow::Owned))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NFC: &str = "김é";
    const NFD: &str = "\u{1100}\u{1175}\u{11b7}e\u{301}";
    /// Composed in part, as some keyboards do.
    const MIXED: &str = "김e\u{301}";

    #[test]
    fn every_spelling_is_stored_as_one() {
        for spelling in [NFC, NFD, MIXED] {
            assert_eq!(composed(spelling), NFC);
            assert!(same(spelling, NFC) && same(NFD, spelling) && !same(spelling, "김e"));
        }
        assert!(matches!(composed("plain"), Cow::Borrowed("plain")));
        // The Kelvin sign is a letter, an old Hangul letter and a wide letter are not others.
        assert_eq!(composed("\u{212a}"), "K");
        assert_eq!(composed("ㄱＡ"), "ㄱＡ");
    }

    #[test]
    fn each_is_looked_for_as_it_came_and_then_as_it_may_be_stored() {
        let of = |name| spellings(name).map(Cow::into_owned).collect::<Vec<_>>();
        assert_eq!(of("plain"), ["plain"]);
        assert_eq!(of("🎉"), ["🎉"]);
        assert_eq!(of(NFC), [NFC, NFD]);
        assert_eq!(of(NFD), [NFD, NFC]);
        assert_eq!(of(MIXED), [MIXED, NFC, NFD]);
    }

    #[test]
    fn the_longest_spelling_is_four_characters() {
        let apart = |letter: char| iter::once(letter).nfd().count();
        assert_eq!(('\0'..=char::MAX).map(apart).max(), Some(SPELT_CHARS));
    }
}
