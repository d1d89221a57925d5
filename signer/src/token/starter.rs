//! The starter as the signer sees it: a child process, made before the signer is confined, that starts token workers
//! for it ever after, since a sandbox is handed down and a worker needs what the signer must not have. It never
//! takes a program's name from here.

use std::fmt;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use token_wire::{StartAnswer, StartAsk};

use super::config::Source;
use super::spawn::{Process, arguments, follow_stderr};
use super::{TokenConfig, TokenError};

/// The line to the starter. When the last one is dropped, the starter ends.
#[derive(Clone)]
pub struct Starter {
    line: Arc<Mutex<UnixStream>>,
    socket: bool,
}

impl Starter {
    /// Starts the starter with the settings of one token, and says who it is. Call it before this process is
    /// confined. With `pin = "prompt"` the starter asks on the terminal.
    ///
    /// # Errors
    /// [`TokenError`] when the settings make no sense or the program is not there.
    pub fn start(config: &TokenConfig) -> Result<(Self, Child), TokenError> {
        let source = config.source()?;
        let (ours, theirs) = UnixStream::pair()
            .map_err(|error| TokenError::Unavailable(format!("no socket pair: {error}")))?;
        let program = config.program()?;
        let environment = match &source {
            Source::Spawn { env, .. } => env.clone(),
            Source::Connect { .. } => Default::default(),
        };
        let child = Command::new(&program)
            .arg("--starter")
            .args(arguments(&source, config))
            .env_clear()
            .envs(environment)
            .stdin(OwnedFd::from(theirs))
            .stdout(Stdio::null())
            .stderr(Stdio::inherit())
            .spawn()
            .map_err(|error| {
                TokenError::Unavailable(format!("cannot start {}: {error}", program.display()))
            })?;
        let socket = matches!(source, Source::Connect { .. });
        let starter = Self { line: Arc::new(Mutex::new(ours)), socket };
        // It answers once a PIN that is to be typed was typed; until then nothing else is said on the terminal.
        starter.ask(StartAsk::Look(0)).map_err(|error| gone(&error))?;
        Ok((starter, child))
    }

    /// A new worker.
    pub(super) fn start_worker(&self) -> Result<(UnixStream, Option<Process>), TokenError> {
        let (answer, fds) = self.ask(StartAsk::Start).map_err(|error| gone(&error))?;
        let mut fds = fds.into_iter();
        match (answer, fds.next()) {
            (StartAnswer::Started(0), Some(stream)) => Ok((UnixStream::from(stream), None)),
            (StartAnswer::Started(pid), Some(stream)) => {
                if let Some(stderr) = fds.next() {
                    follow_stderr(pid, File::from(stderr));
                }
                let process = Process::Started { starter: self.clone(), pid };
                Ok((UnixStream::from(stream), Some(process)))
            }
            (StartAnswer::Failed(number), _) => {
                let what = if self.socket { "reach" } else { "start" };
                let error = io::Error::from_raw_os_error(number);
                Err(TokenError::Unavailable(format!("cannot {what} a token worker: {error}")))
            }
            _ => Err(gone(&io::ErrorKind::InvalidData.into())),
        }
    }

    /// Whether it is gone, or nobody can say.
    pub(super) fn ended(&self, pid: u32) -> bool {
        !matches!(self.ask(StartAsk::Look(pid)), Ok((StartAnswer::Running, _)))
    }

    /// Kills it and says how it ended, if that is known.
    pub(super) fn kill(&self, pid: u32) -> Option<ExitStatus> {
        match self.ask(StartAsk::Kill(pid)) {
            Ok((StartAnswer::Ended(status), _)) => Some(ExitStatus::from_raw(status)),
            Ok(_) => None,
            Err(error) => {
                tracing::warn!("could not have a token worker killed: {error}");
                None
            }
        }
    }

    fn ask(&self, ask: StartAsk) -> io::Result<(StartAnswer, Vec<OwnedFd>)> {
        let line = self.line.lock().unwrap_or_else(PoisonError::into_inner);
        token_wire::ask_starter(&line, ask)
    }
}

impl fmt::Debug for Starter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Starter(..)")
    }
}

fn gone(error: &io::Error) -> TokenError {
    TokenError::Unavailable(format!(
        "the process that starts token workers is gone ({error}): restart the signer"
    ))
}
