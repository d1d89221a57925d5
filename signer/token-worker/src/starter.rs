//! The starter: starts token workers for a signer that is confined and can start nothing itself, or connects to
//! those that somebody else starts. It knows one program, this one, with the settings it was given at its own start,
//! and never takes another from whoever asks. A PIN that a person typed is kept here, out of the signer's reach.

use std::io::{self, ErrorKind, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use token_wire::{StartAnswer, StartAsk};

use crate::args::Args;
use crate::pin::Pin;
use crate::prompt;

/// More workers than any signer has.
const WORKERS_MAX: usize = 128;
/// How long a killed process may take to be gone; one that a device holds on to is left to the system.
const DEATH: Duration = Duration::from_secs(2);

/// Answers until the signer closes its end. Workers end by themselves when theirs are closed.
pub(crate) fn run(signer: &UnixStream, args: &Args) -> anyhow::Result<()> {
    // Seen in lists of processes, so that nobody takes it for a worker.
    rustix::thread::set_name(c"token-starter").context("cannot name this process")?;
    let pin = match args.pin.pin_prompt {
        true => Some(prompt::ask(&format!("User PIN of token \"{}\"", args.token_label))?),
        false => None,
    };
    let mut starter = Starter { args, pin, workers: Vec::new() };
    while let Some(ask) = token_wire::next_ask(signer)? {
        match ask {
            StartAsk::Start => starter.start(signer)?,
            StartAsk::Kill(pid) => token_wire::answer(signer, starter.end(pid, true), &[])?,
            StartAsk::Look(pid) => token_wire::answer(signer, starter.end(pid, false), &[])?,
        }
    }
    Ok(())
}

struct Starter<'a> {
    args: &'a Args,
    pin: Option<Pin>,
    workers: Vec<Child>,
}

impl Starter<'_> {
    fn start(&mut self, signer: &UnixStream) -> io::Result<()> {
        let failed = |error: io::Error| {
            let number = error.raw_os_error().unwrap_or(unknown());
            token_wire::answer(signer, StartAnswer::Failed(number), &[])
        };
        if let Some(socket) = &self.args.connect {
            return match UnixStream::connect(socket) {
                Ok(stream) => {
                    token_wire::answer(signer, StartAnswer::Started(0), &[stream.as_fd()])
                }
                Err(error) => failed(error),
            };
        }
        match self.spawn() {
            Ok((socket, stderr, pid)) => {
                let mut fds: Vec<BorrowedFd<'_>> = vec![socket.as_fd()];
                fds.extend(stderr.as_ref().map(OwnedFd::as_fd));
                token_wire::answer(signer, StartAnswer::Started(pid), &fds)
            }
            Err(error) => failed(error),
        }
    }

    fn spawn(&mut self) -> io::Result<(UnixStream, Option<OwnedFd>, u32)> {
        if self.workers.len() >= WORKERS_MAX {
            return Err(ErrorKind::QuotaExceeded.into());
        }
        let (ours, theirs) = UnixStream::pair()?;
        let mut command = Command::new(std::env::current_exe()?);
        for argument in std::env::args_os().skip(1) {
            if argument == "--pin-prompt" {
                command.arg("--pin-handed");
            } else if argument != "--starter" {
                command.arg(argument);
            }
        }
        let stdout = match &self.pin {
            Some(pin) => Stdio::from(handed(pin)?),
            None => Stdio::null(),
        };
        command.stdin(OwnedFd::from(theirs)).stdout(stdout).stderr(Stdio::piped());
        let mut child = command.spawn()?;
        let pid = child.id();
        let stderr = child.stderr.take().map(OwnedFd::from);
        self.workers.push(child);
        Ok((ours, stderr, pid))
    }

    /// How a worker ended; it is forgotten once that was said.
    fn end(&mut self, pid: u32, kill: bool) -> StartAnswer {
        let Some(at) = self.workers.iter().position(|child| child.id() == pid) else {
            return StartAnswer::Failed(rustix::io::Errno::SRCH.raw_os_error());
        };
        let Some(child) = self.workers.get_mut(at) else { return StartAnswer::Running };
        let status = if kill { killed(child) } else { child.try_wait() };
        match status {
            Ok(None) => StartAnswer::Running,
            Ok(Some(status)) => {
                // Answered from what was just learnt.
                let _ = self.workers.swap_remove(at).wait();
                StartAnswer::Ended(status.into_raw())
            }
            Err(error) => StartAnswer::Failed(error.raw_os_error().unwrap_or(unknown())),
        }
    }
}

fn killed(child: &mut Child) -> io::Result<Option<ExitStatus>> {
    child.kill()?;
    let begun = Instant::now();
    while begun.elapsed() < DEATH {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        sleep(Duration::from_millis(1));
    }
    Ok(None)
}

/// A pipe with the PIN in it, and nobody at its other end. It is short enough to fit in at once.
fn handed(pin: &Pin) -> io::Result<OwnedFd> {
    let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    std::fs::File::from(writer).write_all(pin.bytes())?;
    Ok(reader)
}

fn unknown() -> i32 {
    rustix::io::Errno::IO.raw_os_error()
}
