//! Who witnesses the log: machines elsewhere that remember how long it was, and how many of them must have before a
//! signature is released. It never lets two majorities be, of which one knows nothing of the other.

use alloc::format;
use alloc::vec::Vec;

use crate::document::ed25519;
use crate::names::ClientName;
use crate::raw::RawPolicy;
use crate::reader::Reader;
use crate::signed::PolicyError;

/// Each adds a line to every checkpoint.
const MAX_WITNESSES: usize = 16;

/// One of them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Witness {
    /// DNS name of its certificate, and the name it signs under.
    pub name: ClientName,
    /// Raw Ed25519 public key that it cosigns checkpoints with.
    pub public_key: [u8; 32],
}

/// Reads them, and how many are required.
pub(crate) fn read(
    reader: &Reader<'_>,
    raw: &RawPolicy,
    clients: &[ClientName],
) -> Result<(Vec<Witness>, usize), PolicyError> {
    let names = reader.definitions(raw.witness.iter().map(|w| &w.name), ClientName::parse)?;
    let mut witnesses: Vec<Witness> = Vec::new();
    for (name, raw) in names.into_iter().zip(&raw.witness) {
        let public_key = reader.value(&raw.ed25519, ed25519)?;
        if clients.contains(&name) {
            return Err(reader.fail(&raw.name, "a client is no witness of what it asked for"));
        }
        if let Some(same) = witnesses.iter().find(|other| other.public_key == public_key) {
            let reason = format!("witness \"{}\" has this key already", same.name);
            return Err(reader.fail(&raw.ed25519, reason));
        }
        if witnesses.len() >= MAX_WITNESSES {
            return Err(reader.fail(&raw.name, format!("at most {MAX_WITNESSES} witnesses")));
        }
        witnesses.push(Witness { name, public_key });
    }
    let required = match (&raw.witnesses_required, raw.witness.last()) {
        (None, None) => return Ok((witnesses, 0)),
        (None, Some(last)) => {
            let reason = "say how many must have seen a checkpoint: witnesses_required = …";
            return Err(reader.fail(&last.name, reason));
        }
        (Some(required), _) => required,
    };
    let count = usize::try_from(*required.get_ref()).unwrap_or(usize::MAX);
    // Otherwise a log that only some of them saw could be set back while the others vouch for it.
    if count > witnesses.len() || count.saturating_mul(2) <= witnesses.len() {
        let reason = format!(
            "more than half of the {} witnesses must be required, and no more than there are",
            witnesses.len()
        );
        return Err(reader.fail(required, reason));
    }
    Ok((witnesses, count))
}
