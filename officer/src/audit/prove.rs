//! Proofs that one entry is in a log, as files that need neither the log nor its database (c2sp.org/tlog-proof). It never
//! proves about rows that the token did not sign for.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use audit::Hash;
use audit::checkpoint::{Checkpoint, origin};
use audit::entry::Entry;
use audit::note::NOTE_BYTES_MAX;
use audit::proof::PROOF_HASHES_MAX;
use audit::tree::{Tree, leaf_hash, verify_inclusion};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::show;
use super::source::{Record, Source};

const FIRST_LINE: &str = "c2sp.org/tlog-proof@v1";

/// `officer log prove`: proves that an entry is in the log as the newest checkpoint has it.
///
/// # Errors
/// When there is no such entry, or the log is not what was signed.
pub async fn prove(
    source: &mut Source,
    key: [u8; 32],
    number: u64,
    file: &Path,
    out: &mut impl Write,
) -> Result<()> {
    let newest = source.newest_checkpoint().await?;
    let (_, note) = newest.context("the log has no checkpoint: nothing can be proven")?;
    let checkpoint = Checkpoint::open(&note, &origin(&key), &key)?;
    let size = checkpoint.size;
    ensure!(number < size, "the newest checkpoint covers {size} entries, counted from 0");
    let (mut leaves, mut entry) = (Vec::new(), Vec::new());
    while let Some(record) = source.next().await? {
        let Record::Entry { bytes, .. } = record else { continue };
        let at = u64::try_from(leaves.len()).unwrap_or(u64::MAX);
        if at >= size {
            break;
        }
        leaves.push(leaf_hash(&bytes));
        if at == number {
            entry = bytes;
        }
    }
    let tree = Tree::build(leaves);
    ensure!(
        tree.root() == checkpoint.root,
        "the token signed other entries than these: run `officer log verify`"
    );
    let path = tree.path(usize::try_from(number)?).context("there is no such entry")?;
    let mut text = format!("{FIRST_LINE}\nextra {}\nindex {number}\n", STANDARD.encode(entry));
    path.iter().for_each(|hash| text.push_str(&format!("{}\n", STANDARD.encode(hash))));
    let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(file);
    let mut made =
        made.with_context(|| format!("cannot make {} (nothing is overwritten)", file.display()))?;
    made.write_all(format!("{text}\n{note}").as_bytes())?;
    made.sync_all()?;
    writeln!(out, "entry {number} of {size} proven in {}", file.display())?;
    Ok(())
}

/// Checks such a file, and shows the entry.
///
/// # Errors
/// When it is not one, or proves nothing about this entry.
pub fn check(file: &Path, key: [u8; 32], out: &mut impl Write) -> Result<()> {
    let shown = file.display();
    let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {shown}"))?;
    let Proof { entry, index, path, note } =
        Proof::read(&text).with_context(|| format!("{shown} is no proof"))?;
    let checkpoint = Checkpoint::open(note, &origin(&key), &key)?;
    let leaf = leaf_hash(&entry);
    ensure!(
        verify_inclusion(&leaf, index, checkpoint.size, &path, &checkpoint.root),
        "{shown} does not prove that this entry is in the log"
    );
    writeln!(out, "{}", show::line(index, &Entry::decode(&entry)?))?;
    writeln!(
        out,
        "log         {}\nThis is entry {index}, counted from 0, of the {} that the pinned key signed for.",
        checkpoint.origin, checkpoint.size
    )?;
    Ok(())
}

struct Proof<'a> {
    entry: Vec<u8>,
    index: u64,
    path: Vec<Hash>,
    note: &'a str,
}

impl<'a> Proof<'a> {
    fn read(text: &'a str) -> Result<Self> {
        let (head, note) = text.split_once("\n\n").context("no empty line")?;
        ensure!(note.len() <= NOTE_BYTES_MAX, "its checkpoint is too long");
        let mut lines = head.lines();
        ensure!(lines.next() == Some(FIRST_LINE), "its first line is not {FIRST_LINE}");
        let extra = lines.next().and_then(|line| line.strip_prefix("extra "));
        let entry = STANDARD.decode(extra.context("it does not hold the entry")?)?;
        let digits = lines.next().and_then(|line| line.strip_prefix("index "));
        let digits = digits.context("it has no index")?;
        let index: u64 = digits.parse()?;
        ensure!(index.to_string() == digits, "its index has signs or leading zeros");
        let mut path = Vec::new();
        for line in lines {
            ensure!(path.len() < PROOF_HASHES_MAX, "its path is too long");
            let hash = Hash::try_from(STANDARD.decode(line)?);
            path.push(hash.ok().context("a hash is not 32 bytes")?);
        }
        Ok(Self { entry, index, path, note })
    }
}
