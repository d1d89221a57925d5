//! What each script gets of a transaction, in one piece of memory. It never tells change from what leaves: nobody asks about
//! our own scripts.

use asset::Amount;
use audit::entry;
use bitcoin::Transaction;

/// Base units, the script's length, the script; one output after the other.
#[derive(Debug, Default)]
pub(super) struct Payments(Box<[u8]>);

impl Payments {
    /// Of what would be spent; none: nobody can tell.
    pub(super) fn of(entry: &entry::Spend) -> Option<Self> {
        if entry.external == 0 {
            return Some(Self::default());
        }
        let transaction: Transaction = bitcoin::consensus::deserialize(&entry.transaction).ok()?;
        let mut packed = Vec::with_capacity(entry.transaction.len());
        for output in &transaction.output {
            let script = output.script_pubkey.as_bytes();
            packed.extend_from_slice(&output.value.to_sat().to_le_bytes());
            packed.extend_from_slice(&u32::try_from(script.len()).ok()?.to_le_bytes());
            packed.extend_from_slice(script);
        }
        Some(Self(packed.into()))
    }

    /// Scripts, and what each got.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&[u8], Amount)> {
        let mut rest = self.0.as_ref();
        std::iter::from_fn(move || {
            let (units, after) = rest.split_first_chunk()?;
            let (length, after) = after.split_first_chunk()?;
            let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
            let (script, after) = after.split_at_checked(length)?;
            rest = after;
            Some((script, Amount::from_units(u64::from_le_bytes(*units).into())))
        })
    }
}
