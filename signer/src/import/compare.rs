//! How much of a bundle that was imported before is in the one that takes its place, byte for byte: so much stays
//! proven. It never believes the earlier file further than its digest in the log.

use std::fs::File;
use std::io::{self, BufReader};
use std::path::Path;

use bundle::{Bundle, Error, Verifier};

use super::{ImportError, file_error};
use crate::records::bundle_path;

/// What a bundle takes the place of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Kept {
    /// Digest of the earlier bundle.
    pub(super) before: [u8; 32],
    /// Below these indexes of both branches the records are the same bytes.
    pub(super) below: [u32; 2],
}

/// Compares the copy of `after` with that of the bundle named by `before`. An earlier copy that is gone or damaged
/// keeps nothing: its records are proven again. `None` when the earlier one is of another key of the wallet.
pub(super) fn compare(
    state_dir: &Path,
    before: [u8; 32],
    after: &Bundle,
) -> Result<Option<Kept>, ImportError> {
    let path = bundle_path(state_dir, after.digest());
    let mut file = File::open(&path).map_err(|error| file_error(&path, error))?;
    let below = match same_records(&bundle_path(state_dir, before), before, after, &mut file) {
        Ok(Some(below)) => below,
        Ok(None) => return Ok(None),
        Err(Trouble::Before(error)) => {
            tracing::warn!(
                "every record is proven again, the earlier bundle is of no use: {error}"
            );
            [0, 0]
        }
        Err(Trouble::After(source)) => return Err(ImportError::Bundle { path, source }),
    };
    Ok(Some(Kept { before, below }))
}

/// Which of the two files is to blame.
enum Trouble {
    Before(Error),
    After(Error),
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        Self::Before(error)
    }
}

fn same_records(
    path: &Path,
    digest: [u8; 32],
    after: &Bundle,
    file: &mut File,
) -> Result<Option<[u32; 2]>, Trouble> {
    let opened = File::open(path).map_err(Error::from)?;
    let mut before = Verifier::new(BufReader::new(opened))?;
    let (old, new) = (before.header().fields(), after.header().fields());
    let same_account = old.xpub == new.xpub;
    // The same bytes open with the same key only. (A sealed account's are bound to its bundle and never the same.)
    let same_key = (old.wrapping, old.kind, old.xpub) == (new.wrapping, new.kind, new.xpub);
    let (mut below, mut differs) = ([0, 0], [!same_key; 2]);
    while let Some(record) = before.next_record()? {
        let branch = usize::from(record.change);
        let (Some(below), Some(differs)) = (below.get_mut(branch), differs.get_mut(branch)) else {
            continue;
        };
        if *differs || record.index >= after.header().count(record.change) {
            continue;
        }
        let now = after.read(file, record.change, record.index).map_err(Trouble::After)?;
        *differs = now != record;
        if !*differs {
            *below = record.index.saturating_add(1);
        }
    }
    if before.finish()?.digest() != digest {
        return Err(io::Error::other("it is not the one that the log names").into());
    }
    Ok(same_account.then_some(below))
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Self::Before(error.into())
    }
}
