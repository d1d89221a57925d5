//! A child process that dies with its owner, even when the owner is killed with SIGKILL.
//! Never leaves a service behind unless told to by `Process::leave_running`.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

/// Reads until its input closes, which the kernel does when the owner dies, then kills the child's group.
const WATCHDOG: &str = r#"
trap "" INT TERM HUP
while read -r line; do [ "$line" = done ] && exit 0; done
kill -9 "-$1" 2>/dev/null
exit 0
"#;

/// A running child in a process group of its own, watched over by a small shell.
#[derive(Debug)]
pub struct Process {
    name: String,
    log: PathBuf,
    child: Child,
    watchdog: Child,
    leash: Option<ChildStdin>,
}

impl Process {
    /// Starts `command` with its output appended to `log`.
    pub fn spawn(name: &str, mut command: Command, log: &Path) -> Result<Self> {
        let output = OpenOptions::new()
            .create(true)
            .append(true)
            .open(log)
            .with_context(|| format!("could not open {}", log.display()))?;
        let child = command
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .process_group(0)
            .spawn()
            .with_context(|| format!("could not start {name}: {:?}", command.get_program()))?;
        let mut watchdog = Command::new("sh")
            .args(["-c", WATCHDOG, "watchdog", &child.id().to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .context("could not start sh")?;
        let leash = watchdog.stdin.take();
        Ok(Self { name: name.to_owned(), log: log.to_owned(), child, watchdog, leash })
    }

    /// The child's process id, which is its group's too.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Where the child's output goes.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// How the child ended, or `None` while it runs.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// Fails, with the end of the child's log, if it is no longer running.
    pub fn check_running(&mut self) -> Result<()> {
        match self.ended()? {
            None => Ok(()),
            Some(status) => {
                bail!("{} ended ({status}); its log ends:\n{}", self.name, self.log_tail())
            }
        }
    }

    /// Kills the child alone with SIGKILL, as a crash would, and reaps it. Its own children are left to notice.
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill().with_context(|| format!("could not kill {}", self.name))?;
        self.child.wait()?;
        Ok(())
    }

    /// Asks the child to stop with SIGTERM and waits; kills it when the deadline passes.
    pub fn stop(&mut self, deadline: Duration) -> Result<Option<ExitStatus>> {
        if let Some(status) = self.ended()? {
            return Ok(Some(status));
        }
        signal(self.id(), "TERM")?;
        let begun = Instant::now();
        while begun.elapsed() < deadline {
            if let Some(status) = self.ended()? {
                return Ok(Some(status));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        self.kill()?;
        Ok(None)
    }

    /// Lets the child outlive its owner and returns its process id.
    pub fn leave_running(mut self) -> Result<u32> {
        if let Some(mut leash) = self.leash.take() {
            leash.write_all(b"done\n")?;
        }
        self.watchdog.wait()?;
        Ok(self.id())
    }

    /// The last lines the child wrote.
    pub fn log_tail(&self) -> String {
        log_tail(&self.log)
    }
}

/// Sends a signal by name. The shell's own `kill` does it: a fresh machine has no other.
pub fn signal(pid: u32, name: &str) -> Result<()> {
    let mut shell = Command::new("sh");
    shell.args(["-c", r#"kill -s "$1" "$2""#, "kill", name, &pid.to_string()]);
    shell.stderr(Stdio::null()).status().context("could not start sh").map(drop)
}

/// The last lines of a log file.
pub fn log_tail(log: &Path) -> String {
    let text = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    let skipped = lines.len().saturating_sub(30);
    lines.get(skipped..).unwrap_or_default().join("\n")
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(leash) = self.leash.take() {
            drop(leash); // the watchdog now kills the whole group, the child's own children included
            let _ = self.watchdog.wait();
            let _ = self.child.kill(); // should the watchdog itself have been killed
            let _ = self.child.wait();
        }
    }
}
