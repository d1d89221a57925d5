//! A PSBT's maps as bytes: keys with their values, each key once. It knows no field's meaning.

use std::collections::HashSet;

/// One field.
pub(super) struct Entry<'a> {
    /// Type and key data.
    pub(super) key: &'a [u8],
    pub(super) value: &'a [u8],
}

/// The maps of a PSBT, one after another.
pub(super) struct Maps<'a>(&'a [u8]);

impl<'a> Maps<'a> {
    pub(super) fn of(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// The next map, to its end.
    pub(super) fn next(&mut self) -> Result<Vec<Entry<'a>>, String> {
        let (mut entries, mut keys) = (Vec::new(), HashSet::new());
        loop {
            let len = self.compact()?;
            if len == 0 {
                return Ok(entries);
            }
            let key = self.take(len)?;
            let len = self.compact()?;
            let value = self.take(len)?;
            if !keys.insert(key) {
                return Err("one of its maps has a key twice".to_owned());
            }
            entries.push(Entry { key, value });
        }
    }

    /// Nothing may follow the last map.
    pub(super) fn end(&self) -> Result<(), String> {
        if self.0.is_empty() { Ok(()) } else { Err(format!("{} bytes follow it", self.0.len())) }
    }

    /// What was not taken yet.
    pub(super) fn rest(&self) -> &'a [u8] {
        self.0
    }

    /// A compact size in its shortest form.
    pub(super) fn compact(&mut self) -> Result<u64, String> {
        let first = self.array::<1>()?;
        let (value, least) = match u8::from_le_bytes(first) {
            0xfd => (u64::from(u16::from_le_bytes(self.array()?)), 0xfd),
            0xfe => (u64::from(u32::from_le_bytes(self.array()?)), 0x1_0000),
            0xff => (u64::from_le_bytes(self.array()?), 0x1_0000_0000),
            small => (u64::from(small), 0),
        };
        if value < least {
            Err("a length is not in its shortest form".to_owned())
        } else {
            Ok(value)
        }
    }

    /// So many bytes.
    pub(super) fn take(&mut self, len: u64) -> Result<&'a [u8], String> {
        let taken = usize::try_from(len).ok().and_then(|len| self.0.split_at_checked(len));
        let (taken, rest) = taken.ok_or("it ends in the middle")?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let len = u64::try_from(N).unwrap_or(u64::MAX);
        self.take(len)?.try_into().map_err(|_| "it ends in the middle".to_owned())
    }
}

/// A number of maps: a compact size that fills its value.
pub(super) fn count(value: &[u8]) -> Result<usize, String> {
    let mut rest = Maps(value);
    let count = rest.compact()?;
    rest.end()?;
    usize::try_from(count).map_err(|_| "a count is too large".to_owned())
}

/// Writes one field.
pub(super) fn push(out: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    for bytes in [key, value] {
        out.extend_from_slice(&compact(bytes.len()));
        out.extend_from_slice(bytes);
    }
}

/// The shortest compact size.
pub(super) fn compact(len: usize) -> Vec<u8> {
    let size = bitcoin::VarInt(u64::try_from(len).unwrap_or(u64::MAX));
    bitcoin::consensus::serialize(&size)
}
