//! The other side of the comparison: bare loops over as many sessions as the signer has workers. They do what a
//! sweep cannot do without, and nothing else. Never used for coins.

use std::io::{BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

/// Loops that do as many signatures as a sweep has inputs.
pub(crate) trait Bare {
    /// What they call and nothing else.
    fn name(&self) -> &str;

    /// Has `count` signatures made and verified over all sessions; says how many were, and how long the slowest took.
    fn run(&mut self, count: u32) -> Result<(u32, Duration)>;
}

/// Most signatures that are handed out at once: whoever is done takes more, and ever fewer towards the end, so that no
/// session is left with work while another has none.
const CHUNK: u32 = 8;

/// Numbers that are still to be done.
pub(crate) struct Work {
    next: Mutex<u32>,
    count: u32,
    sessions: u32,
}

impl Work {
    pub(crate) fn new(count: u32, sessions: u32) -> Self {
        Self { next: Mutex::new(0), count, sessions }
    }

    /// First number and count of the next few, if there are any.
    pub(crate) fn take(&self) -> Option<(u32, u32)> {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let (first, left) = (*next, self.count.saturating_sub(*next));
        let share = left.checked_div(self.sessions.saturating_mul(2)).unwrap_or_default();
        let few = share.clamp(1, CHUNK).min(left);
        *next = first.saturating_add(few);
        (few > 0).then_some((first, few))
    }
}

/// The token's calls: `bare_loop`, one process and session each.
pub(crate) struct TokenCalls {
    name: String,
    loops: Vec<(Child, BufReader<std::process::ChildStdout>)>,
}

impl TokenCalls {
    /// With children wrapped by this scheme, and no other.
    pub(crate) fn children(dir: &Path, scheme: &str, sessions: u32) -> Result<Self> {
        let bundle = dir.join("ceremony").join("deposits.bundle");
        let bundle = bundle.to_str().context("the folder's name is not UTF-8")?;
        let name = format!("the token's calls ({scheme}) and libsecp256k1 verifying");
        Self::start(dir, name, &["--bundle", bundle, "--scheme", scheme], sessions)
    }

    /// With a key that was born in the token.
    pub(crate) fn born(dir: &Path, key: &str, sessions: u32) -> Result<Self> {
        let name = "the token's calls (its own key) and libsecp256k1 verifying".to_owned();
        Self::start(dir, name, &["--token-key", key], sessions)
    }

    fn start(dir: &Path, name: String, keys: &[&str], sessions: u32) -> Result<Self> {
        let config = std::fs::read_to_string(dir.join("signer").join("signer.toml"))?;
        let config: toml::Table = config.parse()?;
        let token = config.get("token").context("signer.toml has no [token]")?;
        let field = |name: &str| {
            let value = token.get(name).and_then(toml::Value::as_str);
            value.with_context(|| format!("signer.toml: [token] {name}"))
        };
        let conf = token.get("env").and_then(|env| env.get("SOFTHSM2_CONF"));
        let conf = conf.and_then(toml::Value::as_str).context("no SOFTHSM2_CONF")?;
        let program = std::env::current_exe()?.with_file_name("bare_loop");
        let start = |_| {
            let mut child = Command::new(&program)
                .env("SOFTHSM2_CONF", conf)
                .args(["--module", field("module")?, "--token-label", field("label")?])
                .args(["--pin-file", field("pin_file")?])
                .args(keys)
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .with_context(|| format!("cannot run {}", program.display()))?;
            let mut said = BufReader::new(child.stdout.take().context("no output")?);
            ensure!(line(&mut said)? == "ready", "the bare loop did not start");
            Ok((child, said))
        };
        let loops = (0..sessions).map(start).collect::<Result<_>>()?;
        Ok(Self { name, loops })
    }
}

impl Bare for TokenCalls {
    fn name(&self) -> &str {
        &self.name
    }

    fn run(&mut self, count: u32) -> Result<(u32, Duration)> {
        let work = Work::new(count, u32::try_from(self.loops.len())?);
        let begin = Instant::now();
        let done = thread::scope(|scope| {
            let work = &work;
            let sessions: Vec<_> = self
                .loops
                .iter_mut()
                .map(|one| scope.spawn(move || keep_busy(one, work)))
                .collect();
            let joined = sessions
                .into_iter()
                .map(|session| session.join().map_err(|_| anyhow::anyhow!("a thread panicked"))?);
            joined.sum::<Result<u32>>()
        })?;
        Ok((done, begin.elapsed()))
    }
}

/// Always hands out the next few before it waits for the last, so that the session never waits.
fn keep_busy(
    (child, said): &mut (Child, BufReader<std::process::ChildStdout>),
    work: &Work,
) -> Result<u32> {
    let stdin = child.stdin.as_mut().context("no input")?;
    let (mut done, mut waiting) = (0_u32, 0_u32);
    loop {
        let next = work.take();
        if let Some((first, count)) = next {
            writeln!(stdin, "{first} {count}")?;
            waiting = waiting.saturating_add(1);
        }
        if waiting > 1 || (next.is_none() && waiting > 0) {
            done = done.saturating_add(line(said)?.parse().context("not a number")?);
            waiting = waiting.saturating_sub(1);
        } else if next.is_none() {
            return Ok(done);
        }
    }
}

impl Drop for TokenCalls {
    fn drop(&mut self) {
        for (child, _) in &mut self.loops {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn line(from: &mut impl std::io::BufRead) -> Result<String> {
    let mut text = String::new();
    ensure!(from.read_line(&mut text)? > 0, "the bare loop ended");
    Ok(text.trim().to_owned())
}
