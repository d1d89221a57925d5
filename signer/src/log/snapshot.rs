//! A snapshot: what the fold takes in of the log's first entries, condensed, in the state folder, with a head that the token
//! signed. It is never believed for more than that: whatever does not fit makes a start read the whole log instead.
//!
//! The data grows block by block of 64 entries, each with the root of its subtree; the head says how much of it counts, the
//! SHA-256 over that of each block, and the root of the tree over those entries. So whoever can write the state folder can
//! at most put an older snapshot of this token there, and rows that do not go on from it to the newest checkpoint are
//! noticed. What the token once signed is held against the rows while the signer runs: each block's SHA-256 is kept for that.

use std::fs::{File, OpenOptions};
use std::io::{BufReader, ErrorKind, Read, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Mutex, PoisonError};

use audit::Hash;
use audit::entry::{self, Entry};
use audit::history::{BLOCK, History};
use audit::note;
use ledger::condensed::{self, CONDENSED_VERSION, Condensed};
use ledger::nonces::Nonces;
use sha2::{Digest as _, Sha256};

use super::Fold;
use super::writer::Rows;

/// The data's name in the state folder.
pub(super) const DATA: &str = "snapshot.data";
/// The head's.
pub(super) const HEAD: &str = "snapshot";
/// What is added to both names once the rows say something else.
const FALSE: &str = "false";
/// The format of both.
const VERSION: u32 = 2;
/// More than 64 entries of the largest kind come to.
const BLOCK_BYTES_MAX: usize = 80 << 20;
/// A block begins with its length.
const LENGTH: usize = 4;
/// Blocks that may wait to be folded.
const AHEAD: usize = 512;

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
    match std::fs::read_to_string(folder.join(HEAD)) {
        Ok(note) => Head::open(&note, origin, key).map(Some),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.to_string()),
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
    pub(super) fn begin(&self, bytes: u64) -> std::io::Result<File> {
        let refuted = self.refuted.lock().unwrap_or_else(PoisonError::into_inner);
        must_stand(*refuted)?;
        if bytes == 0 {
            match std::fs::remove_file(self.folder.join(HEAD)) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                _ => File::open(&self.folder)?.sync_all()?,
            }
        }
        let mut file = ours(&self.folder.join(DATA))?;
        file.set_len(bytes)?;
        std::io::Seek::seek(&mut file, std::io::SeekFrom::End(0))?;
        Ok(file)
    }

    /// A new head, whole before it has its name.
    pub(super) fn put(&self, head: &str) -> std::io::Result<()> {
        let refuted = self.refuted.lock().unwrap_or_else(PoisonError::into_inner);
        must_stand(*refuted)?;
        let fresh = self.folder.join(format!("{HEAD}.new"));
        let mut file = ours(&fresh)?;
        file.set_len(0)?;
        file.write_all(head.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&fresh, self.folder.join(HEAD))?;
        File::open(&self.folder)?.sync_all()
    }

    /// The rows say something else than this snapshot: no start finds it again, and people find it under another name.
    pub(super) fn refute(&self) -> std::io::Result<()> {
        *self.refuted.lock().unwrap_or_else(PoisonError::into_inner) = true;
        for name in [HEAD, DATA] {
            let aside = self.folder.join(format!("{name}.{FALSE}"));
            std::fs::rename(self.folder.join(name), aside)?;
        }
        File::open(&self.folder)?.sync_all()
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
    bytes: u64,
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

/// Folds the data that a head speaks of: read, hashed and decoded on one thread, which also remembers nonces, folded on this one. The digest is looked at
/// last, of the very bytes that were folded; nothing is returned before.
pub(super) fn restore<S: Fold>(folder: &Path, head: &Head) -> Result<Restored<S>, String> {
    let data = File::open(folder.join(DATA)).map_err(|error| error.to_string())?;
    let data = BufReader::with_capacity(1 << 20, data.take(head.bytes));
    std::thread::scope(|scope| {
        let (blocks, decoded) = sync_channel(AHEAD);
        let reading = scope.spawn(move || read(data, &blocks));
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

/// A block's root, and its entries.
type Block = (Hash, Vec<Condensed>);

fn read(mut data: impl Read, blocks: &SyncSender<Block>) -> Result<(Kept, Nonces), String> {
    let mut nonces = Nonces::default();
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
        kept.position.add(&digested);
        kept.blocks.push(digested.digest);
        let rest = buffer.get(LENGTH..).unwrap_or_default();
        let (root, entries) = rest.split_first_chunk::<32>().ok_or("its data is not whole")?;
        let mut entries = condensed::decode(entries).map_err(|error| error.to_string())?;
        entries.iter_mut().for_each(|entry| entry.move_points(&mut nonces));
        if blocks.send((*root, entries)).is_err() {
            // Nobody takes any more: they know why.
            return Ok((kept, nonces));
        }
    }
}

fn fold<S: Fold>(blocks: &Receiver<Block>, head: &Head) -> Result<(S, History, u64), String> {
    let (mut state, mut tree, mut last_ms) = (S::default(), History::new(), 0);
    for (root, entries) in blocks {
        let first = tree.size();
        let whole = u64::try_from(entries.len()) == Ok(BLOCK);
        if !whole || first >= head.size || !tree.append_block(root) {
            return Err("its data is of other entries than was signed".to_owned());
        }
        for (seq, entry) in (first..).zip(entries) {
            last_ms = last_ms.max(entry.unix_ms());
            state.restore(seq, entry).map_err(|error| format!("entry {seq}: {error}"))?;
        }
    }
    Ok((state, tree, last_ms))
}

/// One block as it lies in the data, of rows that were found to be those under this root.
pub(super) fn block(root: &Hash, rows: &Rows) -> Result<Vec<u8>, String> {
    let decode = |(_, bytes): &(i64, Vec<u8>)| Entry::decode(bytes).map(Condensed::of);
    let entries: Result<Vec<_>, _> = rows.iter().map(decode).collect();
    let entries = entries.map_err(|error| error.to_string())?;
    let encoded = condensed::encode(&entries).map_err(|error| error.to_string())?;
    let length = u32::try_from(encoded.len().saturating_add(root.len()));
    let mut bytes = length.map_err(|error| error.to_string())?.to_le_bytes().to_vec();
    bytes.extend_from_slice(root);
    bytes.extend_from_slice(&encoded);
    Ok(bytes)
}
