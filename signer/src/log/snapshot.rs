//! A snapshot: what the fold takes in of the log's first entries, condensed, in the state folder, with a head that the token
//! signed. It is never believed for more than that: whatever does not fit makes a start read the whole log instead.
//!
//! The data grows block by block of 64 entries, each with the root of its subtree; the head says how much of it counts, its
//! SHA-256, and the root of the tree over those entries. So whoever can write the state folder can at most put an older
//! snapshot of this token there, and rows that do not go on from it to the newest checkpoint are noticed.

use std::fs::File;
use std::io::{BufReader, ErrorKind, Read};
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use audit::Hash;
use audit::history::{BLOCK, History};
use audit::note;
use ledger::condensed::{self, CONDENSED_VERSION, Condensed};
use sha2::{Digest as _, Sha256};

use super::Fold;

/// The data's name in the state folder.
pub(super) const DATA: &str = "snapshot.data";
/// The head's.
pub(super) const HEAD: &str = "snapshot";
/// The format of both.
const VERSION: u32 = 1;
/// More than 64 entries of the largest kind come to.
const BLOCK_BYTES_MAX: usize = 80 << 20;
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
    /// Their SHA-256.
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

fn first(origin: &str) -> String {
    format!("{origin}/snapshot\nversion {VERSION}.{CONDENSED_VERSION}")
}

/// The head in the folder, if there is one.
pub(super) fn head(folder: &Path, origin: &str, key: &[u8; 32]) -> Result<Option<Head>, String> {
    match std::fs::read_to_string(folder.join(HEAD)) {
        Ok(note) => Head::open(&note, origin, key).map(Some),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.to_string()),
    }
}

/// Where the data goes on.
#[derive(Clone, Debug, Default)]
pub(super) struct Position {
    /// Entries.
    pub(super) size: u64,
    /// Bytes.
    pub(super) bytes: u64,
    /// Over those bytes.
    pub(super) hasher: Sha256,
}

impl Position {
    /// Takes in bytes that follow.
    pub(super) fn add(&mut self, bytes: &[u8]) {
        self.bytes = self.bytes.saturating_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        self.hasher.update(bytes);
    }
}

/// What a snapshot came to.
pub(super) struct Restored<S> {
    pub(super) state: S,
    pub(super) tree: History,
    pub(super) last_ms: u64,
    pub(super) position: Position,
}

/// Folds the data that a head speaks of: read, hashed and decoded on one thread, folded on this one. The digest is looked at
/// last, of the very bytes that were folded; nothing is returned before.
pub(super) fn restore<S: Fold>(folder: &Path, head: &Head) -> Result<Restored<S>, String> {
    let data = File::open(folder.join(DATA)).map_err(|error| error.to_string())?;
    let data = BufReader::with_capacity(1 << 20, data.take(head.bytes));
    std::thread::scope(|scope| {
        let (blocks, decoded) = sync_channel(AHEAD);
        let reading = scope.spawn(move || read(data, &blocks));
        let folded = fold(&decoded, head);
        // Whoever still reads ends now, also when nobody takes any more.
        drop(decoded);
        let read = reading.join().map_err(|_| "it could not be read".to_owned())?;
        let (state, tree, last_ms) = folded?;
        let mut position = read?;
        position.size = tree.size();
        let digest: Hash = position.hasher.clone().finalize().into();
        if position.bytes != head.bytes || digest != head.digest {
            return Err("its data is not what was signed".to_owned());
        }
        if tree.size() != head.size || tree.root() != head.root {
            return Err("its data is of other entries than was signed".to_owned());
        }
        Ok(Restored { state, tree, last_ms, position })
    })
}

/// A block's root, and its entries.
type Block = (Hash, Vec<Condensed>);

fn read(mut data: impl Read, blocks: &SyncSender<Block>) -> Result<Position, String> {
    let mut position = Position::default();
    let mut buffer = Vec::new();
    loop {
        let mut length = [0; 4];
        match data.read_exact(&mut length) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(position),
            Err(error) => return Err(error.to_string()),
        }
        position.add(&length);
        let length = usize::try_from(u32::from_le_bytes(length)).unwrap_or(usize::MAX);
        if length > BLOCK_BYTES_MAX {
            return Err("its data is not what was signed".to_owned());
        }
        buffer.resize(length, 0);
        data.read_exact(&mut buffer).map_err(|error| error.to_string())?;
        position.add(&buffer);
        let (root, entries) = buffer.split_first_chunk::<32>().ok_or("its data is not whole")?;
        let entries = condensed::decode(entries).map_err(|error| error.to_string())?;
        if blocks.send((*root, entries)).is_err() {
            // Nobody takes any more: they know why.
            return Ok(position);
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

/// One block as it lies in the data.
pub(super) fn block(root: &Hash, entries: &[Condensed]) -> Result<Vec<u8>, String> {
    let encoded = condensed::encode(entries).map_err(|error| error.to_string())?;
    let length = u32::try_from(encoded.len().saturating_add(root.len()));
    let mut bytes = length.map_err(|error| error.to_string())?.to_le_bytes().to_vec();
    bytes.extend_from_slice(root);
    bytes.extend_from_slice(&encoded);
    Ok(bytes)
}
