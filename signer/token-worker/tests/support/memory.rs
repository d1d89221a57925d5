//! Looks for secrets in a process's whole memory, as somebody with root's rights could: shared by tests that include
//! this file. It never changes a byte of the process.
#![allow(dead_code, clippy::indexing_slicing, clippy::arithmetic_side_effects, reason = "tests")]

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Mappings of the kernel's, which hold nothing of the process.
const KERNELS: [&str; 3] = ["[vvar", "[vdso", "[vsyscall"];
const PAGE: usize = 4096;
/// Read at a time.
const CHUNK: usize = 1 << 20;

/// Byte strings to look for, each with a name.
#[derive(Default)]
pub(crate) struct Needles {
    named: Vec<(String, Vec<u8>)>,
    /// By their first two bytes.
    begin: BTreeMap<[u8; 2], Vec<usize>>,
    longest: usize,
}

/// One place where one was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hit {
    pub(crate) name: String,
    pub(crate) address: u64,
    /// A file's name, `[heap]`, `[stack]`, or nothing.
    pub(crate) mapping: String,
}

impl Needles {
    /// One more: as it is, in hex, in base64, and from its last byte to its first, as libsecp256k1 and OpenSSL hold
    /// numbers. Eight bytes at least: shorter ones are found by accident.
    pub(crate) fn add(&mut self, name: &str, bytes: &[u8]) {
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let reversed: Vec<u8> = bytes.iter().rev().copied().collect();
        for needle in [bytes, hex.as_bytes(), base64(bytes).as_bytes(), &reversed] {
            self.add_text(name, needle);
        }
    }

    /// One more, as it is alone.
    pub(crate) fn add_text(&mut self, name: &str, needle: &[u8]) {
        assert!(needle.len() >= 8, "{name} is too short to be looked for");
        self.begin.entry([needle[0], needle[1]]).or_default().push(self.named.len());
        self.longest = self.longest.max(needle.len());
        self.named.push((name.to_owned(), needle.to_vec()));
    }

    /// The names of those that lie in these bytes.
    pub(crate) fn names_in(&self, bytes: &[u8]) -> Vec<&str> {
        let pieces = (0..bytes.len()).step_by(CHUNK);
        let found = pieces.flat_map(|at| self.find(&bytes[at..]));
        found.map(|(_, number)| self.named[number].0.as_str()).collect()
    }

    /// Every place in the process's memory where one of them lies. Fails where some of it could not be read.
    pub(crate) fn scan(&self, pid: u32) -> Vec<Hit> {
        let (maps, memory) = Memory::of(pid);
        let (mut hits, mut seen, mut unread) = (Vec::new(), 0, Vec::new());
        for (from, to, mapping) in maps.lines().filter_map(readable) {
            let mut buffer = vec![0_u8; CHUNK + self.longest];
            for at in (from..to).step_by(CHUNK) {
                let wanted = usize::try_from(to - at).unwrap().min(buffer.len());
                let missing = memory.read_pages(&mut buffer[..wanted], at);
                seen += wanted.saturating_sub(missing.len() * PAGE);
                unread.extend(missing.into_iter().map(|page| (page, mapping.clone())));
                // Pieces overlap, so that nothing is cut in two; what begins in the overlap is the next one's.
                for (offset, number) in self.find(&buffer[..wanted]) {
                    let address = at + u64::try_from(offset).unwrap();
                    let name = self.named[number].0.clone();
                    hits.push(Hit { name, address, mapping: mapping.clone() });
                }
            }
        }
        assert!(seen > 1 << 20, "only {seen} bytes of process {pid} could be read");
        // The kernel's own pages cannot be read; a page that is neither in memory nor swapped out holds nothing, be it that
        // its mapping has gone meanwhile or that it guards a stack.
        unread.retain(|(_, mapping)| !KERNELS.iter().any(|kernels| mapping.starts_with(kernels)));
        unread.retain(|(page, _)| memory.holds(*page));
        assert_eq!(unread, [], "memory of process {pid} that could not be read");
        hits
    }

    fn find(&self, bytes: &[u8]) -> Vec<(usize, usize)> {
        let mut first = [false; 256];
        self.begin.keys().for_each(|start| first[usize::from(start[0])] = true);
        let mut found = Vec::new();
        for (at, byte) in bytes.iter().enumerate().take(CHUNK) {
            if !first[usize::from(*byte)] {
                continue;
            }
            let Some(start) = bytes[at..].first_chunk::<2>() else { continue };
            for number in self.begin.get(start).into_iter().flatten() {
                if bytes[at..].starts_with(&self.named[*number].1) {
                    found.push((at, *number));
                }
            }
        }
        found
    }
}

/// Without padding: what is encoded alone ends so, or goes on with one.
fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let bits = (0..3).fold(0, |bits, at| {
            bits << 8 | usize::from(group.get(at).copied().unwrap_or_default())
        });
        for sextet in 0..=group.len() {
            text.push(char::from(LETTERS[bits >> (18 - 6 * sextet) & 63]));
        }
    }
    text
}

/// A process's memory and what is known of its pages. The kernel shows that of a process which hides it to root alone; others ask sudo, piece by piece.
enum Memory {
    Opened { memory: File, pages: File },
    BySudo { memory: PathBuf, pages: PathBuf },
}

impl Memory {
    /// With the list of what is mapped where.
    fn of(pid: u32) -> (String, Self) {
        let folder = PathBuf::from(format!("/proc/{pid}"));
        let [maps, memory, pages] = ["maps", "mem", "pagemap"].map(|name| folder.join(name));
        let opened = fs::read_to_string(&maps)
            .and_then(|maps| Ok((maps, File::open(&memory)?, File::open(&pages)?)));
        match opened {
            Ok((maps, memory, pages)) => (maps, Self::Opened { memory, pages }),
            Err(error) if error.kind() == ErrorKind::PermissionDenied => {
                let maps = sudo(Command::new("cat").arg(maps));
                let Some(maps) = maps else {
                    panic!(
                        "only root may read another process's memory: run this test as root, or run `sudo -v` first"
                    )
                };
                (String::from_utf8(maps).unwrap(), Self::BySudo { memory, pages })
            }
            Err(error) => panic!("process {pid}: {error}"),
        }
    }

    /// Reads all of it, and says which pages could not be; those are zero.
    fn read_pages(&self, buffer: &mut [u8], at: u64) -> Vec<u64> {
        let (mut done, mut missing) = (0, Vec::new());
        while done < buffer.len() {
            let here = at + u64::try_from(done).unwrap();
            match self.read_at(&mut buffer[done..], here) {
                Some(count) if count > 0 => done += count,
                _ => {
                    missing.push(here);
                    let next = (done + PAGE).min(buffer.len());
                    buffer[done..next].fill(0);
                    done = next;
                }
            }
        }
        missing
    }

    fn read_at(&self, buffer: &mut [u8], at: u64) -> Option<usize> {
        match self {
            Self::Opened { memory, .. } => memory.read_at(buffer, at).ok(),
            Self::BySudo { memory, .. } => by_sudo(memory, buffer, at),
        }
    }

    /// Whether there is anything in a page: it is in memory, or swapped out.
    fn holds(&self, page: u64) -> bool {
        let mut entry = [0; 8];
        let at = page / u64::try_from(PAGE).unwrap() * 8;
        let read = match self {
            Self::Opened { pages, .. } => pages.read_at(&mut entry, at).ok(),
            Self::BySudo { pages, .. } => by_sudo(pages, &mut entry, at),
        };
        // Behind the last mapping there are no entries.
        read == Some(entry.len()) && u64::from_le_bytes(entry) >> 62 != 0
    }
}

fn by_sudo(path: &Path, buffer: &mut [u8], at: u64) -> Option<usize> {
    let mut dd = Command::new("dd");
    dd.arg(format!("if={}", path.display())).arg(format!("bs={}", buffer.len()));
    dd.arg(format!("skip={at}")).args(["count=1", "iflag=skip_bytes", "status=none"]);
    let bytes = sudo(&dd)?;
    buffer.get_mut(..bytes.len())?.copy_from_slice(&bytes);
    Some(bytes.len())
}

/// What a command writes when root runs it. It never asks for a password.
fn sudo(command: &Command) -> Option<Vec<u8>> {
    let mut sudo = Command::new("sudo");
    sudo.arg("-n").arg(command.get_program()).args(command.get_args());
    let output = sudo.output().ok()?;
    output.status.success().then_some(output.stdout)
}

/// Start, end and name of a mapping that the process itself can read.
fn readable(line: &str) -> Option<(u64, u64, String)> {
    let mut fields = line.splitn(6, ' ');
    let (from, to) = fields.next()?.split_once('-')?;
    let rights = fields.next()?;
    let name = fields.nth(3).unwrap_or("").trim().to_owned();
    let number = |text| u64::from_str_radix(text, 16).ok();
    rights.starts_with('r').then_some((number(from)?, number(to)?, name))
}
