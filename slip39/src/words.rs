//! The 1024 words of SLIP-39, in order. It never takes an abbreviation for a word.

use std::sync::LazyLock;

/// The official list: sorted, and no two words begin with the same four letters.
static WORDS: LazyLock<Vec<&str>> = LazyLock::new(|| include_str!("words.txt").lines().collect());

/// A word's number, in either case; `None` when it is not in the list.
pub(crate) fn index(word: &str) -> Option<u16> {
    let letters = || word.bytes().map(|byte| byte.to_ascii_lowercase());
    let place = WORDS.binary_search_by(|known| known.bytes().cmp(letters())).ok()?;
    u16::try_from(place).ok()
}

/// The word of a number below 1024.
pub(crate) fn word(index: u16) -> &'static str {
    WORDS.get(usize::from(index)).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use sha2::{Digest as _, Sha256};

    use super::*;

    #[test]
    fn the_official_list() {
        let text = include_str!("words.txt");
        assert_eq!(
            hex::encode(Sha256::digest(text)),
            "bcc4555340332d169718aed8bf31dd9d5248cb7da6e5d355140ef4f1e601eec3"
        );
        assert_eq!(WORDS.len(), 1024);
        assert!(WORDS.is_sorted());
        let heads: BTreeSet<&str> = WORDS.iter().map(|word| &word[..4]).collect();
        assert_eq!(heads.len(), 1024);
        for number in 0..1024 {
            assert_eq!(index(word(number)), Some(number));
        }
        assert_eq!(index("ACADEMIC"), Some(0));
        assert_eq!(index("acad"), None);
        assert_eq!(index(""), None);
    }
}
