//! The other side of the comparison: bare loops over as many sessions as the signer has workers. They do what a
//! sweep cannot do without, and nothing else.

use std::io::{BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

/// One process and session each.
pub(crate) struct Bare(Vec<(Child, BufReader<std::process::ChildStdout>)>);

impl Bare {
    pub(crate) fn start(dir: &Path, sessions: usize) -> Result<Self> {
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
        let bundle = dir.join("ceremony").join("deposits.bundle");
        let start = |_| {
            let mut child = Command::new(&program)
                .env("SOFTHSM2_CONF", conf)
                .args(["--module", field("module")?, "--token-label", field("label")?])
                .args(["--pin-file", field("pin_file")?])
                .arg("--bundle")
                .arg(&bundle)
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .with_context(|| format!("cannot run {}", program.display()))?;
            let mut said = BufReader::new(child.stdout.take().context("no output")?);
            ensure!(line(&mut said)? == "ready", "the bare loop did not start");
            Ok((child, said))
        };
        (0..sessions).map(start).collect::<Result<_>>().map(Self)
    }

    /// Does `count` records over all sessions and says how long the slowest took.
    pub(crate) fn run(&mut self, count: u32) -> Result<Duration> {
        let sessions = u32::try_from(self.0.len())?;
        let share = count.div_ceil(sessions);
        let mut first = 0_u32;
        let begin = Instant::now();
        for (child, _) in &mut self.0 {
            let stdin = child.stdin.as_mut().context("no input")?;
            writeln!(stdin, "{first} {}", share.min(count.saturating_sub(first)))?;
            first = first.saturating_add(share);
        }
        for (_, said) in &mut self.0 {
            line(said)?;
        }
        Ok(begin.elapsed())
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        for (child, _) in &mut self.0 {
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
