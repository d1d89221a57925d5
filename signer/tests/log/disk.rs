//! A folder as the disk may hold it after a power cut: what was synced for certain, of the rest any part. Strict on
//! purpose: a file's sync says nothing of its name, and names come or not, one by one.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};

use rand::Rng as _;
use rand::rngs::StdRng;

/// Power cuts tear writes at such borders.
const SECTOR: usize = 512;

/// What strace saw, in order.
#[derive(Debug)]
pub(crate) enum Seen {
    /// A file was opened; `new` if it may have been made, `cut` if it was emptied.
    Opened {
        name: String,
        new: bool,
        cut: bool,
    },
    Written {
        name: String,
        at: Option<usize>,
        bytes: Vec<u8>,
    },
    Cut {
        name: String,
        length: usize,
    },
    Renamed {
        from: String,
        to: String,
    },
    Removed {
        name: String,
    },
    /// A file's sync, or the folder's for an empty name.
    Synced {
        name: String,
    },
    /// What the script said to its caller.
    Said(Vec<u8>),
}

#[derive(Clone, Debug)]
enum Change {
    Write { file: usize, at: usize, bytes: Vec<u8> },
    Cut { file: usize, length: usize },
    Name { name: String, file: Option<usize> },
    Rename { from: String, to: String, file: usize },
}

/// Names and contents: those on the disk for certain, and what has happened to them since.
#[derive(Clone, Debug, Default)]
pub(crate) struct Disk {
    names: BTreeMap<String, usize>,
    files: Vec<Vec<u8>>,
    pending: Vec<Change>,
    /// As the program sees it.
    now: BTreeMap<String, usize>,
    /// Where the next plain write goes.
    cursors: HashMap<String, usize>,
}

impl Disk {
    pub(crate) fn of(folder: &Path) -> Self {
        let mut disk = Self::default();
        for entry in fs::read_dir(folder).unwrap().flatten() {
            let name = entry.file_name().into_string().unwrap();
            disk.names.insert(name, disk.files.len());
            disk.files.push(fs::read(entry.path()).unwrap());
        }
        disk.now = disk.names.clone();
        disk
    }

    pub(crate) fn unsynced(&self) -> usize {
        self.pending.len()
    }

    /// Whether all that was written to this file is on the disk for certain.
    pub(crate) fn is_synced(&self, name: &str) -> bool {
        let file = self.now.get(name).copied();
        !self.pending.iter().any(|change| match change {
            Change::Write { file: changed, .. } | Change::Cut { file: changed, .. } => {
                Some(*changed) == file
            }
            Change::Name { .. } | Change::Rename { .. } => false,
        })
    }

    pub(crate) fn happen(&mut self, seen: &Seen) {
        match seen {
            Seen::Opened { name, new, cut } => {
                self.cursors.insert(name.clone(), 0);
                if *new && !self.now.contains_key(name) {
                    let file = self.files.len();
                    self.files.push(Vec::new());
                    self.now.insert(name.clone(), file);
                    self.pending.push(Change::Name { name: name.clone(), file: Some(file) });
                } else if *cut {
                    self.pending.push(Change::Cut { file: self.now[name], length: 0 });
                }
            }
            Seen::Written { name, at, bytes } => {
                let cursor = self.cursors.entry(name.clone()).or_default();
                let (file, bytes) = (self.now[name], bytes.clone());
                let at = at.unwrap_or(*cursor);
                *cursor = at + bytes.len();
                self.pending.push(Change::Write { file, at, bytes });
            }
            Seen::Cut { name, length } => {
                self.pending.push(Change::Cut { file: self.now[name], length: *length });
            }
            Seen::Renamed { from, to } => {
                let file = self.now.remove(from).unwrap();
                self.now.insert(to.clone(), file);
                let (from, to) = (from.clone(), to.clone());
                self.pending.push(Change::Rename { from, to, file });
            }
            Seen::Removed { name } => {
                self.now.remove(name);
                self.pending.push(Change::Name { name: name.clone(), file: None });
            }
            Seen::Synced { name } => self.sync(name),
            Seen::Said(_) => {}
        }
    }

    fn sync(&mut self, name: &str) {
        let synced = self.now.get(name).copied();
        let pending = std::mem::take(&mut self.pending);
        for change in pending {
            let sure = match &change {
                Change::Write { file, .. } | Change::Cut { file, .. } => Some(*file) == synced,
                Change::Name { .. } | Change::Rename { .. } => name.is_empty(),
            };
            if sure { self.apply(change) } else { self.pending.push(change) }
        }
    }

    fn apply(&mut self, change: Change) {
        match change {
            Change::Write { file, at, bytes } => {
                let file = &mut self.files[file];
                let end = at + bytes.len();
                file.resize(file.len().max(end), 0);
                file[at..end].copy_from_slice(&bytes);
            }
            Change::Cut { file, length } => self.files[file].resize(length, 0),
            Change::Name { name, file: Some(file) } => {
                self.names.insert(name, file);
            }
            Change::Name { name, file: None } => {
                self.names.remove(&name);
            }
            Change::Rename { from, to, file } => {
                self.names.remove(&from);
                self.names.insert(to, file);
            }
        }
    }

    /// The disk once the power is back: of what was not synced any part may be there.
    pub(crate) fn after_power_cut(mut self, random: &mut StdRng) -> Self {
        // Sometimes all, sometimes nothing, mostly some.
        let share = [0.0, 0.3, 0.5, 0.8, 1.0][random.gen_range(0..5)];
        for change in std::mem::take(&mut self.pending) {
            match change {
                Change::Write { file, at, bytes } if random.gen_bool(0.2) => {
                    for (number, sector) in bytes.chunks(SECTOR).enumerate() {
                        if random.gen_bool(share) {
                            let (at, bytes) = (at + number * SECTOR, sector.to_vec());
                            self.apply(Change::Write { file, at, bytes });
                        }
                    }
                }
                change if random.gen_bool(share) => self.apply(change),
                _ => {}
            }
        }
        self
    }

    pub(crate) fn write_to(&self, folder: &Path) {
        for (name, file) in &self.names {
            fs::write(folder.join(name), &self.files[*file]).unwrap();
        }
    }
}

/// Reads what `strace -f -y -xx` wrote, as far as it is about files in `folder` or lines that were said.
pub(crate) fn parse(log: &str, folder: &Path) -> Vec<Seen> {
    let mut begun: HashMap<&str, &str> = HashMap::new();
    let mut seen = Vec::new();
    for line in log.lines() {
        let (thread, rest) = line.split_once(' ').unwrap();
        let rest = rest.trim_start();
        if let Some(start) = rest.strip_suffix(" <unfinished ...>") {
            begun.insert(thread, start);
        } else if let Some((_, end)) = rest.strip_prefix("<... ").and_then(|r| r.split_once('>')) {
            let whole = format!("{}{end}", begun.remove(thread).unwrap());
            seen.extend(call(&whole, folder));
        } else {
            seen.extend(call(rest, folder));
        }
    }
    seen
}

fn call(text: &str, folder: &Path) -> Option<Seen> {
    let (call, rest) = text.split_once('(')?;
    // Results are aligned: there may be more than one space.
    let (arguments, result) = rest.rsplit_once(" = ")?;
    let arguments = arguments.trim_end().strip_suffix(')')?;
    if result.starts_with('-') {
        return None;
    }
    let parts: Vec<&str> = arguments.split(", ").collect();
    let inside = |path: PathBuf| Some(path.strip_prefix(folder).ok()?.to_str()?.to_owned());
    let quoted = |at: usize| inside(path(parts.get(at)?.trim_matches('"')));
    let opened = || inside(path(parts.first()?.split_once('<')?.1.trim_end_matches('>')));
    let bytes = || Some(unhex(parts.get(1)?.trim_matches('"')));
    match call {
        "openat" => {
            let has = |flag| parts.get(2).is_some_and(|flags| flags.contains(flag));
            let name = quoted(1).filter(|name| !name.is_empty())?;
            Some(Seen::Opened { name, new: has("O_CREAT"), cut: has("O_TRUNC") })
        }
        "write" if opened().is_none() => {
            let bytes = bytes()?;
            bytes.starts_with(b"said ").then_some(Seen::Said(bytes))
        }
        "write" => Some(Seen::Written { name: opened()?, at: None, bytes: bytes()? }),
        "pwrite64" => {
            let at = parts.get(3)?.parse().unwrap();
            Some(Seen::Written { name: opened()?, at: Some(at), bytes: bytes()? })
        }
        "ftruncate" => Some(Seen::Cut { name: opened()?, length: parts.get(1)?.parse().unwrap() }),
        "rename" => Some(Seen::Renamed { from: quoted(0)?, to: quoted(1)? }),
        "unlink" => Some(Seen::Removed { name: quoted(0)? }),
        "fsync" | "fdatasync" => Some(Seen::Synced { name: opened()? }),
        other => panic!("nobody asked for {other}"),
    }
}

fn path(text: &str) -> PathBuf {
    String::from_utf8(unhex(text)).unwrap().into()
}

fn unhex(text: &str) -> Vec<u8> {
    assert!(!text.contains("..."), "strace cut it");
    hex::decode(text.replace("\\x", "")).unwrap()
}
