//! What inputs say of keys, taken out of a PSBT as bytes. A key that is only compared with one of ours need not be a
//! point, and finding out is most of the work of reading a large PSBT. It never judges what is said.

use bitcoin::bip32::{ChildNumber, DerivationPath, Fingerprint, KeySource};

use super::MAGIC;
use super::maps::{Entry, Maps, push};

/// `PSBT_IN_BIP32_DERIVATION` (BIP-174).
const DERIVATION: u8 = 0x06;
/// `PSBT_IN_TAP_BIP32_DERIVATION` (BIP-371).
const TAP_DERIVATION: u8 = 0x16;
/// `PSBT_IN_TAP_INTERNAL_KEY` (BIP-371).
const TAP_INTERNAL: u8 = 0x17;

/// The keys that an input names.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Named {
    /// As BIP-174 writes them: each compressed, or not, with where it is said to come from.
    pub origins: Vec<(Vec<u8>, KeySource)>,
    /// Taproot's, without parity.
    pub taproot: Vec<TaprootKey>,
    /// Taproot's internal key.
    pub internal: Option<[u8; 32]>,
}

/// A key of taproot that an input names.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TaprootKey {
    /// Its X coordinate.
    pub key: [u8; 32],
    /// In how many leaves it is said to be.
    pub leaves: u64,
    /// Where it is said to come from.
    pub source: KeySource,
}

/// The same PSBT of version 0 without what its inputs say of keys, and that of each input.
pub(super) fn apart(first: &[u8]) -> Result<(Vec<u8>, Vec<Named>), String> {
    let body = first.strip_prefix(&MAGIC).ok_or("it does not begin as one")?;
    let mut maps = Maps::of(body);
    let global = maps.next()?;
    let inputs = inputs(&global)?;
    let mut rest = MAGIC.to_vec();
    rest.reserve(body.len());
    copy(&mut rest, &global);
    let mut named = Vec::new();
    // A map takes a byte at least, so that a count that lies ends with the bytes.
    for _ in 0..inputs {
        let mut input = Named::default();
        let mut others = Vec::new();
        for entry in maps.next()? {
            if !input.take(&entry)? {
                others.push(entry);
            }
        }
        copy(&mut rest, &others);
        named.push(input);
    }
    rest.extend_from_slice(maps.rest());
    Ok((rest, named))
}

impl Named {
    /// Whether it is about a key, and kept here.
    fn take(&mut self, entry: &Entry<'_>) -> Result<bool, String> {
        let Some((kind, data)) = entry.key.split_first() else { return Ok(false) };
        match *kind {
            DERIVATION => {
                if ![33, 65].contains(&data.len()) {
                    return Err(format!("a key of {} bytes has an origin", data.len()));
                }
                self.origins.push((data.to_vec(), source(entry.value)?));
            }
            TAP_DERIVATION => {
                let key = data.try_into();
                let key = key.map_err(|_| format!("a taproot key has {} bytes", data.len()))?;
                let mut value = Maps::of(entry.value);
                let leaves = value.compact()?;
                let bytes = leaves.checked_mul(32).ok_or("it ends in the middle")?;
                let _hashes = value.take(bytes)?;
                self.taproot.push(TaprootKey { key, leaves, source: source(value.rest())? });
            }
            TAP_INTERNAL => {
                let key = entry.value.try_into().ok().filter(|_| data.is_empty());
                self.internal = Some(key.ok_or("an internal key does not have 32 bytes")?);
            }
            _ => return Ok(false),
        }
        Ok(true)
    }
}

/// How many inputs the unsigned transaction says it has: its version, then their number.
fn inputs(global: &[Entry<'_>]) -> Result<u64, String> {
    let transaction = global.iter().find(|entry| entry.key == [0]);
    let transaction = transaction.ok_or("it has no unsigned transaction")?;
    let mut fields = Maps::of(transaction.value);
    let _version = fields.take(4)?;
    fields.compact()
}

/// Fingerprint and steps, four bytes each.
fn source(value: &[u8]) -> Result<KeySource, String> {
    let wrong = || format!("the origin of a key has {} bytes", value.len());
    let (fingerprint, path) = value.split_first_chunk::<4>().ok_or_else(wrong)?;
    let (steps, []) = path.as_chunks::<4>() else { return Err(wrong()) };
    let steps = steps.iter().map(|step| ChildNumber::from(u32::from_le_bytes(*step)));
    Ok((Fingerprint::from(*fingerprint), DerivationPath::from_iter(steps)))
}

fn copy(out: &mut Vec<u8>, map: &[Entry<'_>]) {
    for entry in map {
        push(out, entry.key, entry.value);
    }
    out.push(0);
}
