//! `ceremony inspect`: verifies a bundle to its last byte and says what it holds. It needs no key and changes
//! nothing.

use std::fmt;
use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use bundle::{Bundle, Header, Scheme, Verifier, header};

use crate::Error;
use crate::new_file::file_error;

/// Verifies the whole file: header, every record and its public key, trailer, signature. `on_start` is told
/// how many records there are, `on_record` is called after each.
///
/// # Errors
/// [`Error::Bundle`] for the first thing that is wrong, [`Error::SelfCheck`] for a public key that is not the
/// account's.
pub fn inspect(
    path: &Path,
    on_start: impl FnOnce(u64),
    on_record: impl FnMut(),
) -> Result<Bundle, Error> {
    let file = File::open(path).map_err(|error| file_error(path, error))?;
    inspect_file(&file, on_start, on_record)
}

/// [`inspect`] for a file that is open, from its beginning.
pub(crate) fn inspect_file(
    file: &File,
    on_start: impl FnOnce(u64),
    mut on_record: impl FnMut(),
) -> Result<Bundle, Error> {
    let mut verifier = Verifier::new(BufReader::new(file))?;
    let (external, change) = (verifier.header().branch(false)?, verifier.header().branch(true)?);
    on_start(verifier.header().total());
    while let Some(record) = verifier.next_record()? {
        let branch = if record.change { &change } else { &external };
        if branch.public_key(record.index)? != record.public_key {
            return Err(Error::SelfCheck { change: record.change, index: record.index });
        }
        on_record();
    }
    Ok(verifier.finish()?)
}

/// What a bundle says about itself, for people.
pub struct Description<'a>(pub &'a Header);

impl fmt::Display for Description<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fields = self.0.fields();
        writeln!(f, "network       {} ({})", fields.network.name(), fields.network.caip2())?;
        let scheme = fields.kind.scheme;
        writeln!(f, "tier          {}", scheme.tier())?;
        writeln!(f, "scheme        {}, {}", scheme.name(), header::CURVE)?;
        writeln!(f, "account       {} of master {}", self.0.path(), fields.master)?;
        writeln!(f, "xpub          {}", fields.xpub)?;
        writeln!(f, "descriptor    {}", self.0.descriptor())?;
        let key = match scheme {
            Scheme::SealedAesGcm => "sealing key",
            // A key-encryption key.
            Scheme::AesKwp => "kek",
            _ => "wrapping key",
        };
        writeln!(f, "{key:<13} {}", hex::encode(fields.wrapping))?;
        if scheme.is_sealed() {
            writeln!(f, "indexes       all, from one sealed account")?;
        } else {
            writeln!(f, "external      {} records", fields.external)?;
            writeln!(f, "change        {} records", fields.change)?;
        }
        write!(f, "length        {} bytes", self.0.file_len())
    }
}
