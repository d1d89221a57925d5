//! A snapshot: what the fold takes in of the log's first entries, condensed, in the state folder, with a head that the token
//! signed. It is never believed for more than that: whatever does not fit makes a start read the whole log instead.
//!
//! The data grows block by block of 64 entries, each with the root of its subtree; the head says how much of it counts, the
//! SHA-256 over that of each block, and the root of the tree over those entries. So whoever can write the state folder can
//! at most put an older snapshot of this token there, and rows that do not go on from it to the newest checkpoint are
//! noticed. What the token once signed is held against the rows while the signer runs: each block's SHA-256 is kept for that.

use std::fs::{File, OpenOptions};
use std::io::{BufReader, ErrorKind, Read, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Mutex, PoisonError};

use audit::Hash;
use audit::entry::{self, Entry};
use audit::history::{BLOCK, History};
use audit::note;
use ledger::Names;
use ledger::apart::Apart;
use ledger::condensed::{self, CONDENSED_VERSION};
use ledger::nonces::Nonces;
use sha2::{Digest as _, Sha256};

use super::Fold;
use super::inbox::Rows;

/// The data's name in the state folder.
pub(super) const DATA: &str = "snapshot.data";
/// The head's.
pub(super) const HEAD: &str = "snapshot";
/// The format of both.
const VERSION: u32 = 2;
/// More than 64 entries of the largest kind come to.
const BLOCK_BYTES_MAX: usize = 80 << 20;
/// More than any head.
const HEAD_BYTES_MAX: u64 = 8 << 10;
/// A block begins with its length.
const LENGTH: usize = 4;
/// Blocks that may wait to be folded, or so many times [`SHARE`] bytes of large ones.
const AHEAD: usize = 512;
const SHARE: usize = 64 << 10;
/// After this part of all entries room is made for the rest, as if that were like it.
const SAMPLE: usize = 16;

/// What the token signs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Head {
    /// The log's name.
    pub(super) origin: String,
    /// Entries.
    pub(super) size: u64,
    /// Root of the tree over them.
    pub(super) root: Hash,
    /// Bytes of data that count.
    pub(super) bytes: u64,
    /// SHA-256 over that of each block.
    pub(super) digest: Hash,
}

impl Head {
    /// No checkpoint begins like this, and no attestation.
    pub(super) fn text(&self) -> String {
        let Self { origin, size, bytes, .. } = self;
        let (root, digest) = (hex::encode(self.root), hex::encode(self.digest));
        format!("{}\nentries {size}\nroot {root}\nbytes {bytes}\nsha256 {digest}\n", first(origin))
    }

    /// Reads a head that this token signed for this log.
    fn open(signed: &str, origin: &str, key: &[u8; 32]) -> Result<Self, String> {
        let text = note::open(signed, origin, key).map_err(|error| error.to_string())?;
        let fields = text.strip_prefix(&first(origin));
        let fields = fields.ok_or("it is of another log or by another version of this program")?;
        let field = |name: &str| {
            let line = fields.lines().find_map(|line| line.strip_prefix(name));
            line.ok_or("its head is not whole")
        };
        let number = |name| field(name)?.parse().map_err(|_| "its head is not whole");
        let hash = |name| {
            let mut hash = Hash::default();
            let read = hex::decode_to_slice(field(name)?, &mut hash);
            read.map(|()| hash).map_err(|_| "its head is not whole")
        };
        let (size, bytes) = (number("entries ")?, number("bytes ")?);
        let (root, digest) = (hash("root ")?, hash("sha256 ")?);
        let head = Self { origin: origin.to_owned(), size, root, bytes, digest };
        if head.text() == text { Ok(head) } else { Err("its head is not whole".to_owned()) }
    }
}

/// With every version that decides what the bytes of the data mean.
fn first(origin: &str) -> String {
    format!("{origin}/snapshot\nversion {VERSION}.{CONDENSED_VERSION}.{}", entry::VERSION)
}

/// The head in the folder, if there is one.
pub(super) fn head(folder: &Path, origin: &str, key: &[u8; 32]) -> Result<Option<Head>, String> {
    let file = match there(&folder.join(HEAD)) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.to_string()),
    };
    let mut note = String::new();
    file.take(HEAD_BYTES_MAX).read_to_string(&mut note).map_err(|error| error.to_string())?;
    Head::open(&note, origin, key).map(Some)
}

/// A file that is there, and nothing else: no link, and nothing that one could wait for.
fn there(path: &Path) -> std::io::Result<File> {
    let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
    let mut options = OpenOptions::new();
    let file = options.read(true).custom_flags(flags.bits().cast_signed()).open(path)?;
    let found = file.metadata()?;
    if found.is_file() && found.nlink() == 1 {
        Ok(file)
    } else {
        Err(std::io::Error::other("it is no file of its own"))
    }
}

/// Both files in their folder: what was refuted is not there any more, and nothing takes its place while this process runs.
#[derive(Debug)]
pub(super) struct Shelf {
    folder: PathBuf,
    refuted: Mutex<bool>,
}

impl Shelf {
    pub(super) fn new(folder: PathBuf) -> Self {
        Self { folder, refuted: Mutex::new(false) }
    }

    /// The data, cut where it goes on; without bytes from its beginning, and without the head that spoke of the old one.
    /// Never while another process adds to it.
    pub(super) fn begin(&self, bytes: u64) -> std::io::Result<File> {
        let refuted = self.refuted.lock().unwrap_or_else(PoisonError::into_inner);
        must_stand(*refuted)?;
        let file = ours(&self.folder.join(DATA))?;
        rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive)?;
        if bytes == 0 {
            match std::fs::remove_file(self.folder.join(HEAD)) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                _ => File::open(&self.folder)?.sync_all()?,
            }
        }
        if file.metadata()?.len() < bytes {
            return Err(std::io::Error::other("it is shorter than its head says"));
        }
        file.set_len(bytes)?;
        Ok(file)
    }

    /// A new head, whole before it has its name, of data that somebody could find. Once it has its name, it is the head: a
    /// folder that was not flushed then may have the old one after a power cut, whose data is there, too.
    pub(super) fn put(&self, head: &str, data: &File) -> std::io::Result<()> {
        let refuted = self.refuted.lock().unwrap_or_else(PoisonError::into_inner);
        must_stand(*refuted)?;
        let fresh = self.folder.join(format!("{HEAD}.new"));
        let mut file = ours(&fresh)?;
        file.set_len(0)?;
        file.write_all(head.as_bytes())?;
        file.sync_all()?;
        if data.metadata()?.nlink() == 0 {
            return Err(std::io::Error::other("its data was removed"));
        }
        let folder = File::open(&self.folder)?;
        std::fs::rename(&fresh, self.folder.join(HEAD))?;
        if let Err(error) = folder.sync_all() {
            tracing::warn!(%error, "the snapshot's folder was not flushed");
        }
        Ok(())
    }

    /// The rows are not what they were, or this snapshot says something else: no start finds it again, and people find it
    /// under another name. Whether there was a head.
    pub(super) fn refute(&self, name: &str) -> std::io::Result<bool> {
        *self.refuted.lock().unwrap_or_else(PoisonError::into_inner) = true;
        let aside = |file: &str| {
            let aside = self.folder.join(format!("{file}.{name}"));
            match std::fs::rename(self.folder.join(file), aside) {
                Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
                renamed => renamed.map(|()| true),
            }
        };
        let there = aside(HEAD)?;
        aside(DATA)?;
        File::open(&self.folder)?.sync_all()?;
        Ok(there)
    }
}

fn must_stand(refuted: bool) -> std::io::Result<()> {
    if refuted {
        Err(std::io::Error::other("what it would go on from was refuted"))
    } else {
        Ok(())
    }
}

/// What lies there is ours or nothing: a link could have any file of ours cut off.
fn ours(path: &Path) -> std::io::Result<File> {
    let mut options = OpenOptions::new();
    let options = options.write(true).create(true).truncate(false).mode(0o600);
    options.custom_flags(rustix::fs::OFlags::NOFOLLOW.bits().cast_signed()).open(path)
}

/// Where the data goes on.
#[derive(Clone, Debug, Default)]
pub(super) struct Position {
    /// Entries.
    pub(super) size: u64,
    /// Bytes.
    pub(super) bytes: u64,
    /// Over the SHA-256 of each block.
    blocks: Sha256,
}

impl Position {
    /// Takes in a block that follows.
    pub(super) fn add(&mut self, block: &Digested) {
        self.size = self.size.saturating_add(BLOCK);
        self.bytes = self.bytes.saturating_add(block.bytes);
        self.blocks.update(block.digest);
    }

    /// What a head says of all of them.
    pub(super) fn digest(&self) -> Hash {
        self.blocks.clone().finalize().into()
    }
}

/// A block that is written, or was read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Digested {
    /// How long it is.
    pub(super) bytes: u64,
    /// Its SHA-256.
    pub(super) digest: Hash,
}

impl Digested {
    pub(super) fn of(block: &[u8]) -> Self {
        let bytes = u64::try_from(block.len()).unwrap_or(u64::MAX);
        Self { bytes, digest: Sha256::digest(block).into() }
    }
}

/// What is known of a snapshot that a log was opened from.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) position: Position,
    /// The SHA-256 of each block.
    pub(super) blocks: Vec<Hash>,
}

/// What a snapshot came to.
pub(super) struct Restored<S> {
    pub(super) state: S,
    pub(super) tree: History,
    pub(super) last_ms: u64,
    pub(super) kept: Kept,
}

/// Folds the data that a head speaks of: read, hashed, decoded and taken apart on one thread, which also remembers nonces, folded on this
/// one. The digest is looked at last, of the very bytes that were folded; nothing is returned before.
pub(super) fn restore<S: Fold>(folder: &Path, head: &Head) -> Result<Restored<S>, String> {
    let data = there(&folder.join(DATA)).map_err(|error| error.to_string())?;
    if data.metadata().map_err(|error| error.to_string())?.len() < head.bytes {
        return Err("its data is not whole".to_owned());
    }
    let data = BufReader::with_capacity(1 << 20, data.take(head.bytes));
    std::thread::scope(|scope| {
        let (blocks, decoded) = sync_channel(AHEAD);
        let sample = sample(head);
        let reading = scope.spawn(move || read::<S>(data, sample, &blocks));
        let folded = fold::<S>(&decoded, head);
        // Whoever still reads ends now, also when nobody takes any more.
        drop(decoded);
        let read = reading.join().map_err(|_| "it could not be read".to_owned())?;
        let (mut state, tree, last_ms) = folded?;
        let (kept, nonces) = read?;
        state.learn(nonces);
        if kept.position.bytes != head.bytes || kept.position.digest() != head.digest {
            return Err("its data is not what was signed".to_owned());
        }
        if tree.size() != head.size || tree.root() != head.root {
            return Err("its data is of other entries than was signed".to_owned());
        }
        Ok(Restored { state, tree, last_ms, kept })
    })
}

/// A block's root, and its entries; or nothing, so that a large block takes the room of several.
type Block = Option<(Hash, Vec<Apart>)>;

/// Entries after which room is made for the rest.
fn sample(head: &Head) -> u64 {
    u64::try_from(SAMPLE).ok().and_then(|sample| head.size.checked_div(sample)).unwrap_or(0)
}

fn read<S: Fold>(
    mut data: impl Read,
    sample: u64,
    blocks: &SyncSender<Block>,
) -> Result<(Kept, Nonces), String> {
    let (mut nonces, mut names) = (Nonces::default(), Names::default());
    let mut kept = Kept { position: Position::default(), blocks: Vec::new() };
    let mut buffer = Vec::new();
    loop {
        let mut length = [0; LENGTH];
        match data.read_exact(&mut length) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok((kept, nonces)),
            Err(error) => return Err(error.to_string()),
        }
        let after = usize::try_from(u32::from_le_bytes(length)).unwrap_or(usize::MAX);
        if after > BLOCK_BYTES_MAX {
            return Err("its data is not what was signed".to_owned());
        }
        buffer.resize(LENGTH.saturating_add(after), 0);
        let (front, rest) = buffer.split_at_mut(LENGTH);
        front.copy_from_slice(&length);
        data.read_exact(rest).map_err(|error| error.to_string())?;
        let digested = Digested::of(&buffer);
        let before = kept.position.size;
        kept.position.add(&digested);
        kept.blocks.push(digested.digest);
        if (before..kept.position.size).contains(&sample) {
            nonces.expect(SAMPLE);
        }
        let rest = buffer.get(LENGTH..).unwrap_or_default();
        let (root, entries) = rest.split_first_chunk::<32>().ok_or("its data is not whole")?;
        let mut entries = condensed::decode(entries).map_err(|error| error.to_string())?;
        entries.iter_mut().for_each(|entry| entry.move_points(&mut nonces));
        // What was decoded is given back here: memory that another thread gives back takes both of them longer.
        let entries = entries.into_iter().map(|entry| S::apart(entry, &mut names)).collect();
        let shares = after.checked_div(SHARE).unwrap_or(0).min(AHEAD);
        let sent = (0..shares).try_for_each(|_| blocks.send(None));
        if sent.and_then(|()| blocks.send(Some((*root, entries)))).is_err() {
            // Nobody takes any more: they know why.
            return Ok((kept, nonces));
        }
    }
}

fn fold<S: Fold>(blocks: &Receiver<Block>, head: &Head) -> Result<(S, History, u64), String> {
    let (mut state, mut tree, mut last_ms) = (S::default(), History::new(), 0);
    let sample = sample(head);
    for (root, entries) in blocks.iter().flatten() {
        let first = tree.size();
        let whole = u64::try_from(entries.len()) == Ok(BLOCK);
        if !whole || first >= head.size || !tree.append_block(root) {
            return Err("its data is of other entries than was signed".to_owned());
        }
        for (seq, entry) in (first..).zip(entries) {
            last_ms = last_ms.max(entry.unix_ms());
            state.restore_apart(seq, entry).map_err(|error| format!("entry {seq}: {error}"))?;
        }
        if (first..tree.size()).contains(&sample) {
            state.expect(SAMPLE);
        }
    }
    Ok((state, tree, last_ms))
}

/// One block as it lies in the data, of rows that were found to be those under this root.
pub(super) fn block(root: &Hash, rows: &Rows) -> Result<Vec<u8>, String> {
    let decode = |(_, bytes): &(i64, Vec<u8>)| Entry::decode(bytes).map(ledger::Condensed::of);
    let entries: Result<Vec<_>, _> = rows.iter().map(decode).collect();
    let entries = entries.map_err(|error| error.to_string())?;
    let encoded = condensed::encode(&entries).map_err(|error| error.to_string())?;
    let length = u32::try_from(encoded.len().saturating_add(root.len()));
    let mut bytes = length.map_err(|error| error.to_string())?.to_le_bytes().to_vec();
    bytes.extend_from_slice(root);
    bytes.extend_from_slice(&encoded);
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shelf() -> (tempfile::TempDir, Shelf) {
        let folder = tempfile::tempdir().unwrap();
        let shelf = Shelf::new(folder.path().to_owned());
        (folder, shelf)
    }

    #[test]
    fn nobody_cuts_what_another_adds_to() {
        let (folder, first) = shelf();
        let mut data = first.begin(0).unwrap();
        data.write_all(b"blocks").unwrap();
        let second = Shelf::new(folder.path().to_owned());
        assert!(second.begin(3).is_err());
        assert_eq!(std::fs::read(folder.path().join(DATA)).unwrap(), b"blocks");
        drop(data);
        second.begin(3).unwrap();
        assert_eq!(std::fs::read(folder.path().join(DATA)).unwrap(), b"blo");
        assert!(second.begin(4).is_err(), "nothing is made up");
    }

    #[test]
    fn a_head_is_of_data_that_is_there_and_was_not_refuted() {
        let (folder, shelf) = shelf();
        let data = shelf.begin(0).unwrap();
        shelf.put("one", &data).unwrap();
        std::fs::rename(folder.path().join(DATA), folder.path().join("kept")).unwrap();
        shelf.put("two", &data).unwrap();
        std::fs::remove_file(folder.path().join("kept")).unwrap();
        assert!(shelf.put("three", &data).is_err());
        assert_eq!(std::fs::read(folder.path().join(HEAD)).unwrap(), b"two");
        assert!(shelf.refute("aside").unwrap());
        assert_eq!(std::fs::read(folder.path().join("snapshot.aside")).unwrap(), b"two");
        assert!(shelf.put("four", &data).is_err() && shelf.begin(0).is_err());
        assert!(!shelf.refute("aside").unwrap(), "there was none");
    }

    /// A head without an end, a pipe that nobody writes to, a file with a second name.
    #[test]
    fn what_is_no_file_of_its_own_is_not_read() {
        let (folder, _) = shelf();
        let read = || head(folder.path(), "cofferdam/x", &[0; 32]);
        let path = folder.path().join(HEAD);
        assert!(matches!(read(), Ok(None)));
        for place in ["/dev/zero", "/dev/null"] {
            std::os::unix::fs::symlink(place, &path).unwrap();
            assert!(read().is_err());
            std::fs::remove_file(&path).unwrap();
        }
        let pipe = rustix::fs::Mode::RUSR;
        rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, pipe, 0).unwrap();
        assert_eq!(read().unwrap_err(), "it is no file of its own");
        std::fs::remove_file(&path).unwrap();
        std::fs::write(folder.path().join("other"), "x").unwrap();
        std::fs::hard_link(folder.path().join("other"), &path).unwrap();
        assert_eq!(read().unwrap_err(), "it is no file of its own");
    }
}
