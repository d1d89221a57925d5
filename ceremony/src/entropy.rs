//! One pool of entropy for a whole ceremony: the system's, mixed with dice and files when they are given. It is
//! never weaker than its best part, and its formula can be followed by hand (`docs/ceremony.md`).
//!
//! ```text
//! pool         = SHA-512("cofferdam/ceremony/entropy/1" || os || SHA-512(dice) || SHA-512(file))
//! seed         = SHA-512("cofferdam/ceremony/seed/1" || pool), the first 32 bytes
//! shares, n-th = SHA-512("cofferdam/ceremony/shares/1" || pool || n), n of 8 bytes, big-endian, from 0
//! ```
//!
//! `os` is 64 bytes. The dice are their digits in ASCII, without white space; what is not given is left out.

use std::fmt;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::Path;

use zeroize::Zeroizing;

use crate::Error;
use crate::fresh::hash;
use crate::new_file::{NewFile, file_error};
use crate::secret::Secret;

/// Fewest rolls of a die that are taken: 100 are 258 bits.
pub const ROLLS_MIN: usize = 100;
/// Fewest bytes of a file that are taken.
pub const BYTES_MIN: usize = 32;
/// Longest file that is read.
const FILE_MAX: u64 = 1 << 20;

/// What people add to the system's entropy.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sources<'a> {
    /// A text of rolls: digits 1 to 6, white space between them as they like.
    pub dice: Option<&'a Path>,
    /// Any bytes.
    pub file: Option<&'a Path>,
}

/// Mixed entropy, and a stream of bytes for shares made of it.
pub struct Pool {
    pool: Secret<64>,
    block: Secret<64>,
    used: usize,
    next: u64,
    rehearsal: bool,
    sources: String,
}

impl Pool {
    /// Draws 64 bytes from the system and mixes the sources in.
    ///
    /// # Errors
    /// [`Error::Entropy`], [`Error::File`], [`Error::Source`] for rolls or bytes that are too few or no rolls.
    pub fn gather(sources: Sources<'_>) -> Result<Self, Error> {
        Self::mix(&Secret::<64>::from_os()?, sources)
    }

    /// The same, and writes the system's 64 bytes to a new private file, so that the formula can be followed by
    /// hand. Whoever has the file and the sources has the seed: no account on mainnet is made of such a pool.
    ///
    /// # Errors
    /// As [`gather`](Self::gather), and [`Error::Exists`].
    pub fn rehearse(sources: Sources<'_>, os_out: &Path) -> Result<Self, Error> {
        let os = Secret::<64>::from_os()?;
        let pool = Self::mix(&os, sources)?;
        let out = NewFile::create_private(os_out)?;
        out.file().write_all(os.as_ref()).map_err(|error| out.error(error))?;
        out.keep()?;
        Ok(Self { rehearsal: true, ..pool })
    }

    /// What it was mixed of, for people.
    pub(crate) fn sources(&self) -> String {
        let note =
            if self.rehearsal { " (a rehearsal: the system's part was written out)" } else { "" };
        format!("{}{note}", self.sources)
    }

    /// Whether the system's part was written to a file.
    pub(crate) fn is_rehearsal(&self) -> bool {
        self.rehearsal
    }

    fn mix(os: &Secret<64>, sources: Sources<'_>) -> Result<Self, Error> {
        let (mut mixed, mut names) = (vec![], "system".to_owned());
        if let Some(path) = sources.dice {
            let rolls = rolls(&read(path)?)?;
            names.push_str(&format!(", {} rolls of a die", rolls.len()));
            mixed.push(hash(&[&rolls]));
        }
        if let Some(path) = sources.file {
            let bytes = read(path)?;
            if bytes.len() < BYTES_MIN {
                return Err(Error::Source("the entropy file has fewer than 32 bytes"));
            }
            names.push_str(&format!(", a file of {} bytes", bytes.len()));
            mixed.push(hash(&[&bytes]));
        }
        let mut pieces: Vec<&[u8]> = vec![b"cofferdam/ceremony/entropy/1", os.as_ref()];
        pieces.extend(mixed.iter().map(|part| &part.as_ref()[..]));
        Ok(Self {
            pool: hash(&pieces),
            block: Secret::zeroed(),
            used: 64,
            next: 0,
            rehearsal: false,
            sources: names,
        })
    }

    /// The seed of the whole tree.
    pub(crate) fn seed(&self) -> Secret<32> {
        let hash = hash(&[b"cofferdam/ceremony/seed/1", self.pool.as_ref()]);
        Secret::of([&hash.as_ref()[..]])
    }
}

impl slip39::Entropy for Pool {
    fn fill(&mut self, out: &mut [u8]) {
        for byte in out {
            if self.used == 64 {
                let tag = b"cofferdam/ceremony/shares/1";
                self.block = hash(&[tag, self.pool.as_ref(), &self.next.to_be_bytes()]);
                // Sixteen groups of sixteen shares need a few thousand blocks.
                self.next = self.next.wrapping_add(1);
                self.used = 0;
            }
            *byte = self.block.as_ref().get(self.used).copied().unwrap_or_default();
            self.used = self.used.saturating_add(1);
        }
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pool")
    }
}

fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, Error> {
    let wrong = |error| file_error(path, error);
    let file = File::open(path).map_err(wrong)?;
    // Of its final size from the start: a buffer that grows leaves copies behind.
    let capacity = usize::try_from(FILE_MAX).unwrap_or_default().saturating_add(1);
    let mut bytes = Zeroizing::new(Vec::with_capacity(capacity));
    file.take(FILE_MAX.saturating_add(1)).read_to_end(&mut bytes).map_err(wrong)?;
    if bytes.len() < capacity { Ok(bytes) } else { Err(Error::Source("the file is over 1 MiB")) }
}

fn rolls(text: &[u8]) -> Result<Zeroizing<Vec<u8>>, Error> {
    let mut digits = Zeroizing::new(Vec::with_capacity(text.len()));
    digits.extend(text.iter().filter(|byte| !byte.is_ascii_whitespace()));
    if !digits.iter().all(|digit| (b'1'..=b'6').contains(digit)) {
        return Err(Error::Source("the dice file holds something that is not a roll, 1 to 6"));
    }
    if digits.len() < ROLLS_MIN {
        return Err(Error::Source("the dice file holds fewer than 100 rolls"));
    }
    Ok(digits)
}

#[cfg(test)]
mod tests {
    use slip39::Entropy as _;

    use super::*;

    fn folder() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("dice"), "123456 ".repeat(20) + "\n").unwrap();
        std::fs::write(folder.path().join("file"), [7; 32]).unwrap();
        folder
    }

    /// The numbers in `docs/ceremony.md`, made there with `sha512sum`.
    #[test]
    fn the_formula_followed_by_hand() {
        let folder = folder();
        let (dice, file) = (folder.path().join("dice"), folder.path().join("file"));
        let sources = Sources { dice: Some(&dice), file: Some(&file) };
        let mut pool = Pool::mix(&Secret::of([&[0x61; 64][..]]), sources).unwrap();
        assert_eq!(
            hex::encode(pool.seed().as_ref()),
            "aa53f4fc4bfef52025b4e50ac44739be3f0748220df9daba784126b5f353d1bd"
        );
        let mut stream = [0; 96];
        pool.fill(&mut stream[..1]);
        pool.fill(&mut stream[1..]);
        assert_eq!(
            hex::encode(&stream[..64]),
            "b10cb1ba3e0ce396873022c461dd1bf5b6a501ff3cb21641a85ba029b848a6d7\
             b7afd5465bfc45c0489af5bc1e5c2a3e0ab98d50bb8c0837df42077226923877"
        );
        assert_eq!(
            hex::encode(&stream[64..]),
            "20279b423526c543480956e227910beb5bf8a6161871362c59a9ccdbc54e87c8"
        );
    }

    #[test]
    fn every_source_counts() {
        let folder = folder();
        let (dice, file) = (folder.path().join("dice"), folder.path().join("file"));
        let os = Secret::of([&[1; 64][..]]);
        let seed = |sources| *Pool::mix(&os, sources).unwrap().seed().as_ref();
        let all = [
            seed(Sources::default()),
            seed(Sources { dice: Some(&dice), file: None }),
            seed(Sources { dice: None, file: Some(&file) }),
            seed(Sources { dice: Some(&dice), file: Some(&file) }),
        ];
        for (nth, one) in all.iter().enumerate() {
            assert!(all[..nth].iter().all(|other| other != one));
        }
        let drawn =
            || *Pool::gather(Sources { dice: Some(&dice), file: None }).unwrap().seed().as_ref();
        assert_ne!(drawn(), drawn());
    }

    #[test]
    fn too_little_is_refused() {
        let folder = folder();
        let bad = folder.path().join("bad");
        for text in [String::new(), "6".repeat(99), "1".repeat(100) + "7", "0".repeat(200)] {
            std::fs::write(&bad, text).unwrap();
            let sources = Sources { dice: Some(&bad), file: None };
            assert!(matches!(Pool::gather(sources), Err(Error::Source(_))));
        }
        for len in [31, 1 + (1 << 20)] {
            std::fs::write(&bad, vec![1; len]).unwrap();
            let sources = Sources { dice: None, file: Some(&bad) };
            assert!(matches!(Pool::gather(sources), Err(Error::Source(_))));
        }
    }
}
