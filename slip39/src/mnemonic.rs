//! One share: its place in the set, its value, and both as words. It never shows its value but as words that are
//! asked for by name.

use std::fmt;

use zeroize::Zeroizing;

use crate::checksum::{self, ten_bits};
use crate::{Error, SECRET_LEN, SecretBytes, words};

/// Words besides the value's: four of parameters, three of checksum.
const OTHER_WORDS: usize = 4 + checksum::LEN;
const WORDS: std::ops::RangeInclusive<usize> = 20..=59;

/// What all shares of one split have in common. None of it is secret.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Set {
    /// Random number of 15 bits.
    pub identifier: u16,
    /// Whether the identifier stays out of the encryption.
    pub extendable: bool,
    /// `10,000 * 2^exponent` iterations of PBKDF2.
    pub iteration_exponent: u8,
    /// Groups needed.
    pub group_threshold: u8,
    /// Groups there are.
    pub group_count: u8,
}

/// One share.
#[derive(Clone, PartialEq, Eq)]
pub struct Mnemonic {
    pub(crate) set: Set,
    pub(crate) group: u8,
    pub(crate) member: u8,
    pub(crate) member_threshold: u8,
    pub(crate) value: SecretBytes,
}

impl Mnemonic {
    /// Reads words, in either case, between any white space.
    ///
    /// # Errors
    /// The first thing wrong: [`Error::WordCount`], [`Error::UnknownWord`], [`Error::Checksum`],
    /// [`Error::GroupThreshold`], [`Error::Padding`].
    pub fn parse(text: &str) -> Result<Self, Error> {
        let count = text.split_whitespace().count();
        let padding = padding_of(count).ok_or(Error::WordCount(count))?;
        let mut indices = Zeroizing::new(Vec::with_capacity(count));
        for (nth, word) in (1..).zip(text.split_whitespace()) {
            indices.push(words::index(word).ok_or(Error::UnknownWord(nth))?);
        }
        let (head, rest) = indices.split_first_chunk::<4>().ok_or(Error::WordCount(count))?;
        let (value, _) = rest.split_last_chunk::<3>().ok_or(Error::WordCount(count))?;
        let [first, second, third, fourth] = head.map(u32::from);
        let (id, place) = ((first << 10) | second, (third << 10) | fourth);
        let extendable = (id >> 4) & 1 == 1;
        if !checksum::verify(&indices, extendable) {
            return Err(Error::Checksum);
        }
        let set = Set {
            identifier: u16::try_from(id >> 5).unwrap_or_default(),
            extendable,
            iteration_exponent: nibble(id),
            group_threshold: nibble(place >> 12).saturating_add(1),
            group_count: nibble(place >> 8).saturating_add(1),
        };
        if set.group_threshold > set.group_count {
            return Err(Error::GroupThreshold);
        }
        Ok(Self {
            set,
            group: nibble(place >> 16),
            member: nibble(place >> 4),
            member_threshold: nibble(place).saturating_add(1),
            value: bytes_of(value, padding)?,
        })
    }

    /// The share as words, the only form that leaves a program.
    #[must_use]
    pub fn to_words(&self) -> Zeroizing<String> {
        let set = &self.set;
        let id = (u32::from(set.identifier) << 5)
            | (u32::from(set.extendable) << 4)
            | u32::from(set.iteration_exponent);
        let less_one = |count: u8| u32::from(count.saturating_sub(1));
        let place = (u32::from(self.group) << 16)
            | (less_one(set.group_threshold) << 12)
            | (less_one(set.group_count) << 8)
            | (u32::from(self.member) << 4)
            | less_one(self.member_threshold);
        let mut indices = Zeroizing::new(Vec::with_capacity(*WORDS.end()));
        indices.extend([id >> 10, id, place >> 10, place].map(ten_bits));
        append_value(&self.value, &mut indices);
        let checksum = checksum::create(&indices, set.extendable);
        indices.extend(checksum);

        // No word is longer than eight letters; a string that grew would leave copies behind.
        let mut text = Zeroizing::new(String::with_capacity(indices.len().saturating_mul(9)));
        for index in indices.iter() {
            if !text.is_empty() {
                text.push(' ');
            }
            text.push_str(words::word(*index));
        }
        text
    }

    /// The set it belongs to.
    #[must_use]
    pub fn set(&self) -> Set {
        self.set
    }

    /// The group's number, from 0.
    #[must_use]
    pub fn group(&self) -> u8 {
        self.group
    }

    /// The share's number in its group, from 0.
    #[must_use]
    pub fn member(&self) -> u8 {
        self.member
    }

    /// Shares of this group that are needed.
    #[must_use]
    pub fn member_threshold(&self) -> u8 {
        self.member_threshold
    }
}

impl fmt::Debug for Mnemonic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Mnemonic");
        shown.field("set", &self.set).field("group", &self.group).field("member", &self.member);
        shown.field("member_threshold", &self.member_threshold).finish_non_exhaustive()
    }
}

/// Zero bits before the value in a share of so many words; `None` when no share has so many.
fn padding_of(count: usize) -> Option<u32> {
    let value_words = count.checked_sub(OTHER_WORDS).filter(|_| WORDS.contains(&count))?;
    // A value is a multiple of 16 bits long.
    let padding = value_words.checked_mul(10)?.checked_rem(16)?;
    u32::try_from(padding).ok().filter(|padding| *padding <= 8)
}

fn bytes_of(words: &[u16], padding: u32) -> Result<SecretBytes, Error> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(*SECRET_LEN.end()));
    let (mut bits, mut waiting) = (0_u32, 0_u32);
    for (nth, word) in words.iter().enumerate() {
        bits = ((bits & 0xff) << 10) | u32::from(*word);
        waiting = waiting.saturating_add(10);
        if nth == 0 {
            waiting = waiting.saturating_sub(padding);
            if bits.checked_shr(waiting) != Some(0) {
                return Err(Error::Padding);
            }
        }
        while let Some(left) = waiting.checked_sub(8) {
            waiting = left;
            let byte = bits.checked_shr(waiting).unwrap_or_default() & 0xff;
            bytes.push(u8::try_from(byte).unwrap_or_default());
        }
    }
    Ok(bytes)
}

fn append_value(value: &[u8], words: &mut Vec<u16>) {
    let bits_over = value.len().wrapping_mul(8).checked_rem(10).unwrap_or_default();
    // Bits waiting before the first byte: the zeros that fill up the first word.
    let mut waiting = if bits_over == 0 { 0 } else { 10_usize.saturating_sub(bits_over) };
    let mut bits = 0_u32;
    for byte in value {
        bits = ((bits & 0x3ff) << 8) | u32::from(*byte);
        waiting = waiting.saturating_add(8);
        if let Some(left) = waiting.checked_sub(10) {
            waiting = left;
            let shift = u32::try_from(waiting).unwrap_or_default();
            words.push(ten_bits(bits.checked_shr(shift).unwrap_or_default()));
        }
    }
}

fn nibble(value: u32) -> u8 {
    u8::try_from(value & 15).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn share(value: &[u8]) -> Mnemonic {
        let set = Set {
            identifier: 0x7abc,
            extendable: true,
            iteration_exponent: 15,
            group_threshold: 3,
            group_count: 16,
        };
        let value = Zeroizing::new(value.to_vec());
        Mnemonic { set, group: 15, member: 9, member_threshold: 16, value }
    }

    #[test]
    fn every_length_there_and_back() {
        for len in (16..=64).step_by(2) {
            for byte in [0, 0x5a, 255] {
                let share = share(&vec![byte; len]);
                let words = share.to_words();
                assert_eq!(Mnemonic::parse(&words).unwrap(), share);
                assert_eq!(
                    Mnemonic::parse(&words.to_uppercase().replace(' ', "\n")).unwrap(),
                    share
                );
            }
        }
        assert_eq!(share(&[1; 16]).to_words().split(' ').count(), 20);
        assert_eq!(share(&[1; 32]).to_words().split(' ').count(), 33);
        assert_eq!(share(&[1; 64]).to_words().split(' ').count(), 59);
    }

    #[test]
    fn values_are_not_printed() {
        let shown = format!("{:?}", share(&[77; 16]));
        assert!(shown.contains("member: 9") && !shown.contains("77"), "{shown}");
    }

    #[test]
    fn counts_that_no_share_has() {
        for count in [0, 1, 19, 21, 24, 60, 1000] {
            let text = vec!["academic"; count].join(" ");
            assert_eq!(Mnemonic::parse(&text), Err(Error::WordCount(count)), "{count}");
        }
        let words = share(&[1; 16]).to_words();
        let unknown = words.replacen(words.split(' ').nth(6).unwrap(), "bitcoin", 1);
        assert!(matches!(Mnemonic::parse(&unknown), Err(Error::UnknownWord(_))));
    }
}
