//! What a witness keeps: it cosigns what grew by a path and nothing else, has remembered before it answers whatever happens to
//! it, and without its memory it does not run.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use audit::Hash;
use audit::checkpoint::{Checkpoint, origin};
use audit::cosignature;
use audit::proof::consistency;
use audit::tree::Frontier;
use officer::witness::memory::{Memory, Refusal};
use tempfile::TempDir;

use crate::support::{officer, public, token};

const NOW: u64 = 1_767_225_600;
/// The child's folder.
const DIR: &str = "COFFERDAM_TEST_WITNESS";
/// Sizes that the child is shown, one after the other.
const SIZES: [u64; 4] = [3, 5, 12, 13];

/// Leaves of a log; two logs part at the first one that differs.
fn leaves(size: u64, parts_at: u64) -> Vec<Hash> {
    let leaf = |number: u64| {
        let byte = u8::try_from(number).unwrap();
        if number < parts_at { [byte; 32] } else { [255 - byte; 32] }
    };
    (0..size).map(leaf).collect()
}

fn root(leaves: &[Hash]) -> Hash {
    let mut tree = Frontier::new();
    leaves.iter().for_each(|leaf| tree.append(*leaf));
    tree.root()
}

/// A checkpoint over these, by the token.
fn note(leaves: &[Hash]) -> String {
    use ed25519_dalek::Signer as _;
    let (origin, size) = (origin(&public(&token())), u64::try_from(leaves.len()).unwrap());
    let checkpoint = Checkpoint { origin, size, root: root(leaves), officers: None };
    let signature = token().sign(checkpoint.text().as_bytes()).to_bytes();
    checkpoint.note(&public(&token()), &signature)
}

/// What proves that they grew from so many.
fn path(from: u64, leaves: &[Hash]) -> Vec<Hash> {
    let spans = consistency(from, u64::try_from(leaves.len()).unwrap()).unwrap();
    let at = |number: u64| usize::try_from(number).unwrap();
    spans.into_iter().map(|span| root(&leaves[at(span.start)..at(span.end)])).collect()
}

/// A witness that saw a log of so many entries, in a folder of its own.
fn witness(sizes: &[u64]) -> (TempDir, PathBuf, Memory) {
    let folder = TempDir::new().unwrap();
    let dir = folder.path().join("w1");
    Memory::make(&dir, "w1", public(&token())).unwrap();
    let mut memory = Memory::open(&dir).unwrap();
    for size in sizes {
        grow(&mut memory, *size).unwrap();
    }
    (folder, dir, memory)
}

/// It is shown a log that grew from the one it saw.
fn grow(memory: &mut Memory, size: u64) -> Result<String, Refusal> {
    let leaves = leaves(size, u64::MAX);
    memory.cosign(&note(&leaves), &path(memory.size(), &leaves), NOW)
}

#[test]
fn a_log_that_grew_is_cosigned_by_its_path_and_a_fork_of_any_size_raises_the_alarm() {
    let (_folder, dir, mut memory) = witness(&[3, 5, 12]);
    let seen = memory.note().to_owned();
    let (own, fork) = (leaves(12, u64::MAX), leaves(12, 11));
    let parted = leaves(20, 11);
    // Of equal size and another root; longer, by its own true path; shorter; grown, by a path of another size or by none.
    let true_path = path(12, &leaves(20, u64::MAX));
    assert!(true_path.len() > 1, "a path with something in it");
    let lies: [(&[Hash], Vec<Hash>); 6] = [
        (&fork, Vec::new()),
        (&fork, path(5, &fork)),
        (&parted, path(12, &parted)),
        (&own[..8], Vec::new()),
        (&leaves(20, u64::MAX), path(11, &leaves(20, u64::MAX))),
        (&leaves(20, u64::MAX), true_path[1..].to_vec()),
    ];
    for (shown, by) in &lies {
        let refused = memory.cosign(&note(shown), by, NOW).unwrap_err();
        let Refusal::NotGrown { seen: 12, said, evidence } = &refused else { panic!("{refused}") };
        assert_eq!(*said, u64::try_from(shown.len()).unwrap());
        assert!(refused.to_string().starts_with("ALARM"), "{refused}");
        let kept = fs::read_to_string(evidence).unwrap();
        assert!(kept.contains(&seen) && kept.contains(&note(shown)), "both are evidence: {kept}");
        assert_eq!(memory.note(), seen);
        assert_eq!(Memory::open(&dir).unwrap().note(), seen, "nor on the disk");
    }
    let line = grow(&mut memory, 20).unwrap();
    let memory = Memory::open(&dir).unwrap();
    assert_eq!((memory.size(), memory.note().ends_with(&line)), (20, true));
    cosignature::verify(memory.note(), "w1", &memory.public()).unwrap();
}

#[test]
fn a_witness_whose_memory_is_lost_damaged_or_of_another_refuses_to_run() {
    let (_folder, dir, memory) = witness(&[3, 5]);
    let (path, whole) = (dir.join("memory"), fs::read(dir.join("memory")).unwrap());
    let (_other_folder, other, _) = witness(&[3, 5, 12]);
    drop(memory);
    // As a person runs it, who has nobody to visit.
    let run = || {
        let dir = dir.to_str().unwrap();
        officer(&["witness", "show", "--dir", dir]).unwrap_err()
    };
    let refuses = |what: &str, bytes: Option<&[u8]>| {
        match bytes {
            Some(bytes) => fs::write(&path, bytes).unwrap(),
            None => fs::remove_file(&path).unwrap(),
        }
        let refused = format!("{:#}", Memory::open(&dir).map(drop).unwrap_err());
        assert!(refused.contains("lost its memory"), "{what}: {refused}");
    };
    for at in 0..whole.len() {
        let mut damaged = whole.clone();
        damaged[at] ^= 1;
        refuses("a byte", Some(&damaged));
    }
    // The last byte is the end of a line that is whole.
    for length in 0..whole.len() - 1 {
        refuses("torn", Some(&whole[..length]));
    }
    refuses("of another witness", Some(&fs::read(other.join("memory")).unwrap()));
    refuses("too long", Some(&vec![b'x'; 1 << 20]));
    refuses("gone", None);
    let said = run();
    assert!(said.contains("lost its memory"), "{said}");
    // It never begins anew by itself.
    assert!(!path.exists());
    fs::write(&path, &whole).unwrap();
    assert_eq!(Memory::open(&dir).unwrap().size(), 5);
}

/// Not a test of its own: a witness that says each line once it has it, as its visits do.
#[test]
fn child_that_cosigns() {
    let Ok(dir) = std::env::var(DIR) else { return };
    let mut memory = Memory::open(Path::new(&dir)).unwrap();
    let say = |text: String| std::io::stdout().write_all(text.as_bytes()).unwrap();
    for size in SIZES {
        if size > memory.size() {
            match grow(&mut memory, size) {
                Ok(line) => say(format!("said {size} {line}")),
                Err(error) => return say(format!("refused {error}\n")),
            }
        }
    }
    std::process::exit(0);
}

fn child(dir: &Path, inject: &str, calls: &str) -> Output {
    let (trace, inject) = (format!("trace={calls}"), format!("inject={calls}:{inject}"));
    let mut command = Command::new("strace");
    command.args(["-f", "-qq", "-o", "/dev/null", "-e", &trace, "-e", &inject]);
    // What the memory is made of, and nothing that the program does besides.
    for path in [dir.join("memory"), dir.join("memory.new"), dir.to_owned()] {
        command.arg("-P").arg(path);
    }
    command.arg("--");
    command.arg(std::env::current_exe().unwrap());
    command.args(["--exact", "witnessing::child_that_cosigns", "--nocapture"]);
    command.env(DIR, dir).output().expect("strace is installed: apt-get install strace")
}

/// What it said last is remembered, whole, and it goes on from there.
fn remembers(dir: &Path, output: &Output, at: &str) {
    let text = String::from_utf8_lossy(&output.stdout);
    let mut said = text.lines().filter_map(|line| line.strip_prefix("said ")?.split_once(' '));
    let last = said.next_back().map(|(size, line)| (size.parse::<u64>().unwrap(), line.to_owned()));
    let mut memory = Memory::open(dir).unwrap_or_else(|error| panic!("{at}: {error:#}"));
    if let Some((size, line)) = last {
        assert!(memory.size() >= size, "{at}: it said {size} and remembers {}", memory.size());
        assert!(memory.size() > size || memory.note().contains(&line), "{at}");
    }
    grow(&mut memory, 14).unwrap();
}

#[test]
fn what_it_answered_it_remembers_when_it_is_killed_or_fails_at_any_call() {
    let (mut killed, mut refused) = (0, 0);
    for calls in ["openat", "write", "fsync", "rename"] {
        for how in ["signal=KILL", "error=EIO"] {
            let mut point = 1;
            loop {
                let (_folder, dir, _) = witness(&[]);
                let output = child(&dir, &format!("{how}:when={point}"), calls);
                let at = format!("{how} at {calls} number {point}");
                remembers(&dir, &output, &at);
                let text = String::from_utf8_lossy(&output.stdout);
                killed += usize::from(how == "signal=KILL" && !output.status.success());
                refused += usize::from(text.contains("refused what was seen"));
                // Every call was as it should be.
                if output.status.success() && text.contains("said 13 ") {
                    break;
                }
                point += 1;
            }
            assert!(point > SIZES.len(), "{how} at {calls}: {point} only");
        }
    }
    println!("a witness killed at {killed} calls, and refusing for {refused} errors");
    assert!(killed > 20 && refused > 8, "{killed} {refused}");
}
