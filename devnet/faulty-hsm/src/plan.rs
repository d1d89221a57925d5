//! What happens to this call: rules read anew when they changed, draws repeated for a seed, everything written down.
//! A rules file that cannot be read as rules ends the process at once: a test must not pass by a slip.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::abort;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::thread::sleep;
use std::time::Duration;

use crate::nonce::{self, Rig};
use crate::rules::{Fault, Rule, Rules, When};

/// What is left to do for the function itself.
#[derive(Clone, Copy)]
pub(crate) enum Step {
    /// Ask the real module.
    Pass,
    /// Ask it, and damage its answer.
    Damage(Fault),
    /// Answer so.
    Answer(u64),
}

struct Plan {
    dir: PathBuf,
    /// Tells one version of the file from another.
    version: Option<(u64, i64, i64)>,
    rules: Rules,
    /// How many processes came before this one.
    process: u64,
    /// Calls so far: all, and by rule since it was read.
    calls: u64,
    matched: BTreeMap<usize, u64>,
    /// Rules that go on until a call.
    stuck: Vec<usize>,
    noted: [File; 3],
}

/// Decides, writes down and does whatever can be done here: waiting, hanging, dying.
pub(crate) fn next(call: &str) -> Step {
    let Some(fault) = with(|plan| plan.draw(call)) else { return Step::Pass };
    match fault {
        Fault::Answer(code) => return Step::Answer(code),
        Fault::Delay(millis) => sleep(Duration::from_millis(millis)),
        Fault::Hang => loop {
            sleep(Duration::from_secs(3600));
        },
        Fault::Stop => signal(19),
        Fault::Crash => crash(),
        Fault::Abort => abort(),
        // SAFETY: ends the process at once, as it may always be.
        Fault::Exit => unsafe { _exit(9) },
        Fault::CrashAfter
        | Fault::Flip
        | Fault::Replay
        | Fault::Nonce(_)
        | Fault::Flags(_)
        | Fault::Lie(_) => return Step::Damage(fault),
    }
    Step::Pass
}

/// The number at which the real module has this mechanism, and the other way round. Of the rules as of the last call.
pub(crate) fn number(number: u64) -> u64 {
    with(|plan| {
        let swapped = plan.rules.swaps.iter().find_map(|[one, other]| match number {
            number if number == *one => Some(*other),
            number if number == *other => Some(*one),
            _ => None,
        });
        swapped.unwrap_or(number)
    })
}

/// To be called once the real module has answered.
pub(crate) fn done(step: Step) {
    if let Step::Damage(Fault::CrashAfter) = step {
        crash();
    }
}

/// Writes down that a key was used.
pub(crate) fn used(function: &str, key: &str) {
    with(|plan| plan.note(2, &format!("{function} 1 {key}")));
}

static LAST: Mutex<Vec<u8>> = Mutex::new(Vec::new());

/// A process that signed nothing yet has nothing to give again: the rule waits for one that has.
fn can(fault: Fault) -> bool {
    fault != Fault::Replay || !LAST.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
}

/// Remembers a signature.
pub(crate) fn keep(signature: &[u8]) {
    signature.clone_into(&mut LAST.lock().unwrap_or_else(PoisonError::into_inner));
}

/// Puts the last one in its place.
pub(crate) fn replay(signature: &mut [u8]) {
    let last = LAST.lock().unwrap_or_else(PoisonError::into_inner);
    if last.len() == signature.len() {
        signature.copy_from_slice(&last);
    }
}

/// Signs the digest again with a bad nonce.
pub(crate) fn spoil_nonce(digest: &[u8], signature: &mut [u8], rig: Rig) {
    let dir = with(|plan| plan.dir.clone());
    nonce::spoil(&dir, digest, signature, rig);
}

unsafe extern "C" {
    fn raise(signal: i32) -> i32;
    fn _exit(status: i32) -> !;
}

fn signal(number: i32) {
    // SAFETY: a signal to this process; what it does is what the rule asks for.
    unsafe { raise(number) };
}

/// Dies of a segmentation fault. A handler of the host's may take the first one for its own.
fn crash() -> ! {
    for _ in 0..3 {
        signal(11);
    }
    abort()
}

fn with<T>(work: impl FnOnce(&mut Plan) -> T) -> T {
    static PLAN: OnceLock<Mutex<Plan>> = OnceLock::new();
    let plan = PLAN.get_or_init(|| Mutex::new(Plan::begin().unwrap_or_else(|| abort())));
    work(&mut plan.lock().unwrap_or_else(PoisonError::into_inner))
}

impl Plan {
    fn begin() -> Option<Self> {
        let dir = PathBuf::from(std::env::var_os("FAULTY_DIR")?);
        let append = |name| OpenOptions::new().append(true).create(true).open(dir.join(name)).ok();
        let noted = [append("calls")?, append("faults")?, append("operations")?];
        let process = (0..).find(|number| claim(&dir, &format!("process-{number}")))?;
        Some(Self {
            dir,
            version: None,
            rules: Rules::default(),
            process,
            calls: 0,
            matched: BTreeMap::new(),
            stuck: Vec::new(),
            noted,
        })
    }

    fn draw(&mut self, call: &str) -> Option<Fault> {
        self.reread();
        self.note(0, call);
        self.calls = self.calls.wrapping_add(1);
        let rules = &self.rules.rules;
        self.stuck.retain(|at| rules.get(*at).and_then(|rule| rule.until.as_deref()) != Some(call));
        for at in 0..self.rules.rules.len() {
            let rule = self.rules.rules.get(at)?.clone();
            if rule.is_about(call) && can(rule.what) && self.happens(at, &rule) {
                if rule.until.is_some() && !self.stuck.contains(&at) {
                    self.stuck.push(at);
                }
                self.note(1, &format!("{call} {}", rule.name));
                return Some(rule.what);
            }
        }
        None
    }

    fn happens(&mut self, at: usize, rule: &Rule) -> bool {
        if self.stuck.contains(&at) {
            return true;
        }
        let count = self.matched.entry(at).or_insert(0);
        *count = count.wrapping_add(1);
        match rule.when {
            When::Always => true,
            When::Nth(number) => *count == number,
            When::Millionths(share) => self.dice(at) < share,
            When::Once => {
                let (_, seconds, nanos) = self.version.unwrap_or_default();
                claim(&self.dir, &format!("once-{seconds}-{nanos}-{at}"))
            }
        }
    }

    /// Below a million; the same for the same seed, process, call and rule (`splitmix64`).
    fn dice(&self, rule: usize) -> u64 {
        let mut mixed = self.rules.seed;
        for part in [self.process, self.calls, u64::try_from(rule).unwrap_or(0)] {
            mixed = (mixed ^ part).wrapping_add(0x9e37_79b9_7f4a_7c15);
            mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            mixed ^= mixed >> 31;
        }
        mixed.checked_rem(1_000_000).unwrap_or(0)
    }

    fn reread(&mut self) {
        let path = self.dir.join("rules");
        let version = fs::metadata(&path).ok().map(|m| (m.ino(), m.mtime(), m.mtime_nsec()));
        if version == self.version {
            return;
        }
        let text = fs::read_to_string(&path).unwrap_or_default();
        match Rules::parse(&text) {
            Ok(rules) => self.rules = rules,
            Err(line) => {
                self.note(1, &format!("no rule: {line}"));
                abort();
            }
        }
        self.version = version;
        self.matched.clear();
        self.stuck.clear();
    }

    /// One write for each line, so that those of several processes stay whole.
    fn note(&mut self, which: usize, line: &str) {
        let written =
            self.noted.get_mut(which).map(|file| file.write_all(format!("{line}\n").as_bytes()));
        if !matches!(written, Some(Ok(()))) {
            abort();
        }
    }
}

/// True for the one process that gets there first.
fn claim(dir: &Path, name: &str) -> bool {
    OpenOptions::new().write(true).create_new(true).open(dir.join(name)).is_ok()
}
