//! How often the disk is asked to flush: by the signer, counted from outside by `strace`, and by somebody who flushes
//! once for each denial. It never changes what the signer does, but slows it; nothing is timed meanwhile.

use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use devnet::wait;

/// What one denial writes, about: two entries.
const DENIAL_BYTES: usize = 512;
/// Groups without which a count says nothing.
const GROUPS_MIN: u64 = 20;
const ATTACHED_DEADLINE: Duration = Duration::from_secs(20);

/// Appends and flushes, one after the other; how many, and how long they took.
pub(crate) fn one_by_one(dir: &Path, count: u32) -> Result<(u32, Duration)> {
    let path = dir.join("one-by-one");
    let mut file = OpenOptions::new().create(true).append(true).open(&path)?;
    let bytes = [0x5a; DENIAL_BYTES];
    let begin = Instant::now();
    for _ in 0..count {
        file.write_all(&bytes)?;
        file.sync_data()?;
    }
    let took = begin.elapsed();
    fs::remove_file(path)?;
    Ok((count, took))
}

/// A running count.
pub(crate) struct Counting {
    strace: Child,
    log: PathBuf,
}

/// Flushes by what they were of.
pub(crate) struct Flushes {
    database: u64,
    state: u64,
    other: u64,
    /// Checkpoints that were kept: groups whose entries counted from then on.
    groups: u64,
}

impl Counting {
    /// Looks over the signer's shoulder; nothing where that cannot be done.
    pub(crate) async fn start(signer: u32, dir: &Path) -> Result<Option<Self>> {
        let log = dir.join("flushes");
        let started = Command::new("strace")
            .args(["--follow-forks", "--quiet=all", "--decode-fds=path"])
            .args(["--trace=fsync,fdatasync,sync_file_range,msync,syncfs,sync"])
            .arg("--output")
            .arg(&log)
            .args(["--attach", &signer.to_string()])
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let Ok(strace) = started else { return Ok(None) };
        let mut counting = Self { strace, log };
        let status = format!("/proc/{signer}/status");
        let attached = wait::until("strace to look", ATTACHED_DEADLINE, || {
            let ended = counting.strace.try_wait();
            let traced = fs::read_to_string(&status);
            async move {
                let traced = traced?.lines().any(|line| {
                    line.strip_prefix("TracerPid:").is_some_and(|pid| pid.trim() != "0")
                });
                let ended = ended?.is_some();
                Ok((traced || ended).then_some(!ended))
            }
        });
        Ok(attached.await?.then_some(counting))
    }

    /// Lets go and counts.
    pub(crate) async fn stop(mut self) -> Result<Flushes> {
        let interrupted =
            Command::new("kill").args(["-INT", &self.strace.id().to_string()]).status()?;
        ensure!(interrupted.success(), "strace did not hear that it should end");
        self.strace.wait()?;
        let mut names = Vec::new();
        for line in fs::read_to_string(&self.log)?.lines() {
            // A call that another thread interrupted is shown twice.
            if line.contains("resumed>") || !line.contains("sync") {
                continue;
            }
            let file = line.split_once('<').and_then(|(_, rest)| rest.split_once('>'));
            let (file, _) = file.with_context(|| format!("which file was flushed? {line}"))?;
            let name = Path::new(file).file_name().unwrap_or_default();
            names.push(name.to_string_lossy().into_owned());
        }
        Ok(Flushes::of(whole(&names)))
    }
}

fn keeps_checkpoint(name: &str) -> bool {
    name.starts_with("checkpoint")
}

/// Without the groups that had begun before, or had not ended when nobody looked any more: after the first checkpoint that was
/// kept, up to the last.
fn whole(names: &[String]) -> &[String] {
    let kept = |name: &String| keeps_checkpoint(name);
    let (Some(first), Some(last)) = (names.iter().position(kept), names.iter().rposition(kept))
    else {
        return &[];
    };
    names.get(first.saturating_add(1)..=last).unwrap_or_default()
}

impl Flushes {
    fn of(names: &[String]) -> Self {
        let sum = |wanted: &dyn Fn(&str) -> bool| {
            let count = names.iter().filter(|name| wanted(name)).count();
            u64::try_from(count).unwrap_or(u64::MAX)
        };
        let database = sum(&|name| name.starts_with("log.sqlite"));
        let groups = sum(&keeps_checkpoint);
        let state = sum(&|name| keeps_checkpoint(name) || name == "state");
        let all = sum(&|_| true);
        Self { database, state, other: all.saturating_sub(database).saturating_sub(state), groups }
    }

    /// A group, in thousandths; none where there were too few groups to say.
    pub(crate) fn permille(&self) -> Option<u128> {
        let all = self.database.saturating_add(self.state).saturating_add(self.other);
        let permille = u128::from(all).saturating_mul(1000).checked_div(u128::from(self.groups));
        permille.filter(|_| self.groups >= GROUPS_MIN)
    }
}

impl fmt::Display for Flushes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { database, state, other, groups } = self;
        write!(
            f,
            "{database} of the database, {state} of the state folder, {other} others, {groups} groups"
        )
    }
}
