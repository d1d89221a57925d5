//! Shares of the seed: made, checked and handed over before anything relies on them. It never shows one by itself
//! and never overwrites a file.

use std::io::Write as _;
use std::path::PathBuf;

use slip39::{Mnemonic, Passphrase, Recovery, Scheme};

use crate::Error;
use crate::entropy::Pool;
use crate::new_file::NewFile;
use crate::secret::Secret;
use crate::transcript::Transcript;

/// How the seed is to be backed up.
#[derive(Debug)]
pub struct Backup {
    /// Groups and thresholds.
    pub scheme: Scheme,
    /// Encrypts the seed before it is shared; without it the shares alone are enough.
    pub passphrase: Passphrase,
    /// What seed and shares are made of.
    pub pool: Pool,
}

/// Proof that the shares are with people or in files. The files vanish again unless the ceremony succeeds.
pub struct HandedOver(Vec<NewFile>);

impl HandedOver {
    /// People have read and written down every one of them.
    #[must_use]
    pub fn to_people() -> Self {
        Self(Vec::new())
    }

    /// Writes every share to a new file of its own that only its owner may read, in order.
    ///
    /// # Errors
    /// [`Error::ShareFiles`] when the number of files is not that of the shares, [`Error::Exists`],
    /// [`Error::File`].
    pub fn to_files(shares: &[Vec<Mnemonic>], paths: &[PathBuf]) -> Result<Self, Error> {
        let all: Vec<&Mnemonic> = shares.iter().flatten().collect();
        if all.len() != paths.len() {
            return Err(Error::ShareFiles { shares: all.len(), files: paths.len() });
        }
        let mut files = Vec::with_capacity(paths.len());
        for (share, path) in all.into_iter().zip(paths) {
            let file = NewFile::create_private(path)?;
            let words = share.to_words();
            let written = file.file().write_all(words.as_bytes());
            written
                .and_then(|()| file.file().write_all(b"\n"))
                .map_err(|error| file.error(error))?;
            files.push(file);
        }
        Ok(Self(files))
    }

    /// The files, none of them kept yet.
    pub(crate) fn files(self) -> Vec<NewFile> {
        self.0
    }
}

impl Backup {
    /// What people may know about it.
    pub(crate) fn describe(&self, transcript: &mut Transcript) {
        transcript.note("entropy", &self.pool.sources());
        let (need, of) = (self.scheme.group_threshold(), self.scheme.groups().len());
        transcript.note("shares", &format!("SLIP-39, {need} of {of} groups"));
        for (nth, group) in (1..).zip(self.scheme.groups()) {
            transcript.note("group", &format!("{nth}: {} of {}", group.threshold, group.count));
        }
        let encrypted = if self.passphrase.is_empty() { "none" } else { "yes" };
        transcript.note("passphrase", encrypted);
    }

    /// Makes the seed and its shares, and joins all of them again before anybody sees one.
    pub(crate) fn make(&mut self) -> Result<(Secret<32>, Vec<Vec<Mnemonic>>), Error> {
        let seed = self.pool.seed();
        let shares = slip39::split(seed.as_ref(), &self.passphrase, &self.scheme, &mut self.pool)?;
        // With every share given, the joining also checks that each of them agrees with the others.
        let mut recovery = Recovery::new();
        for share in shares.iter().flatten() {
            recovery.add(Mnemonic::parse(&share.to_words())?)?;
        }
        if recovery.recover(&self.passphrase)?.as_slice() == seed.as_ref() {
            Ok((seed, shares))
        } else {
            Err(Error::ReadBack)
        }
    }
}
