//! One service as a child process that can be killed and started again. Never restarts it by itself.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::process::{Process, log_tail, signal};
use crate::programs::Programs;

/// How long a service may take to stop when asked.
const STOP_DEADLINE: Duration = Duration::from_secs(20);

/// A service, running or not.
#[derive(Debug)]
pub struct Service {
    name: &'static str,
    programs: Programs,
    config: PathBuf,
    log: PathBuf,
    process: Option<Process>,
    arguments: Vec<String>,
    environment: Vec<(&'static str, PathBuf)>,
}

impl Service {
    pub(super) fn new(
        name: &'static str,
        programs: Programs,
        config: PathBuf,
        log: PathBuf,
    ) -> Self {
        let (arguments, environment) = (Vec::new(), Vec::new());
        Self { name, programs, config, log, process: None, arguments, environment }
    }

    /// The same program with another configuration and log, which does not run.
    #[must_use]
    pub fn another(&self, config: PathBuf, log: PathBuf) -> Self {
        Self::new(self.name, self.programs.clone(), config, log)
    }

    /// What `serve` is told from the next start on.
    pub fn set_arguments(&mut self, arguments: &[&str]) {
        self.arguments = arguments.iter().map(|argument| (*argument).to_owned()).collect();
    }

    /// What its environment has more from the next start on.
    pub fn set_environment(&mut self, environment: Vec<(&'static str, PathBuf)>) {
        self.environment = environment;
    }

    /// Starts the service; it is not ready yet.
    pub fn start(&mut self) -> Result<()> {
        ensure!(self.process.is_none(), "{} is running already", self.name);
        let mut command: Command = self.programs.command(self.name);
        command.arg("serve").arg("--config").arg(&self.config).args(&self.arguments);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        self.process = Some(Process::spawn(self.name, command, &self.log)?);
        Ok(())
    }

    /// Kills the service's own process with SIGKILL, as a crash would.
    pub fn kill(&mut self) -> Result<()> {
        self.process.take().with_context(|| format!("{} is not running", self.name))?.kill()
    }

    /// Stops the service in an orderly way.
    pub fn stop(&mut self) -> Result<()> {
        let mut process =
            self.process.take().with_context(|| format!("{} is not running", self.name))?;
        let status = process.stop(STOP_DEADLINE)?;
        let status = status.with_context(|| format!("{} did not stop when asked", self.name))?;
        ensure!(status.success(), "{} stopped with {status}:\n{}", self.name, process.log_tail());
        Ok(())
    }

    /// Fails, with the end of its log, if the service is not running any more.
    pub fn check_running(&mut self) -> Result<()> {
        self.process
            .as_mut()
            .with_context(|| format!("{} is not running", self.name))?
            .check_running()
    }

    /// Kills the token workers that the service started and says how many; none while `hands_off` says so. They are
    /// halted first, so that what `hands_off` sees is still so when they die.
    pub fn kill_workers(&self, hands_off: impl Fn() -> bool) -> Result<usize> {
        let workers = self.workers()?;
        for pid in &workers {
            signal(*pid, "STOP")?;
        }
        let spared = hands_off();
        for pid in &workers {
            signal(*pid, if spared { "CONT" } else { "KILL" })?;
        }
        Ok(if spared { 0 } else { workers.len() })
    }

    /// Its own process id.
    pub fn id(&self) -> Result<u32> {
        let process = self.process.as_ref();
        Ok(process.with_context(|| format!("{} is not running", self.name))?.id())
    }

    /// The process ids of its token workers.
    pub fn workers(&self) -> Result<Vec<u32>> {
        descendants(self.id()?, "token-worker")
    }

    /// The last lines of its log.
    pub fn log_tail(&self) -> String {
        log_tail(&self.log)
    }

    /// The most memory the service's own process ever held, in KiB.
    pub fn peak_memory_kib(&self) -> Result<u64> {
        let process = self.process.as_ref();
        let process = process.with_context(|| format!("{} is not running", self.name))?;
        let status = std::fs::read_to_string(format!("/proc/{}/status", process.id()))?;
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let peak = peak.and_then(|rest| rest.trim().strip_suffix(" kB"));
        Ok(peak.context("no peak memory in the process's status")?.trim().parse()?)
    }

    /// The file with the service's own log lines.
    pub fn log(&self) -> &PathBuf {
        &self.log
    }

    /// The service's configuration file.
    pub fn config(&self) -> &PathBuf {
        &self.config
    }

    /// Lets the service outlive this process and returns its process id.
    pub fn leave_running(mut self) -> Result<u32> {
        self.process
            .take()
            .with_context(|| format!("{} is not running", self.name))?
            .leave_running()
    }
}

/// Process ids of the living descendants of `ancestor` called `name`.
fn descendants(ancestor: u32, name: &str) -> Result<Vec<u32>> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir("/proc").context("cannot list processes")? {
        let entry = entry?;
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        // `PID (NAME) STATE PARENT ...`; a process may end while we look, which is no error.
        let Ok(stat) = std::fs::read_to_string(entry.path().join("stat")) else { continue };
        let Some((start, rest)) = stat.rsplit_once(") ") else { continue };
        let called = start.split_once('(').map_or("", |(_, found)| found).to_owned();
        let parent = rest.split(' ').nth(1).and_then(|parent| parent.parse::<u32>().ok());
        let (Some(parent), false) = (parent, rest.starts_with('Z')) else { continue };
        all.push((pid, parent, called));
    }
    let mut family = vec![ancestor];
    let mut newest = family.clone();
    while !newest.is_empty() {
        let children = all.iter().filter(|(_, of, _)| newest.contains(of));
        newest = children.map(|(pid, _, _)| *pid).collect();
        family.extend(&newest);
    }
    let ours = all.iter().filter(|(pid, _, called)| family.contains(pid) && called == name);
    Ok(ours.map(|(pid, _, _)| *pid).collect())
}
