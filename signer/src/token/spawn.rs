//! Starts a worker process, or connects to one somebody else starts: itself, or through the starter once this process
//! is confined. A worker gets a socket for its standard input, the environment its settings name and nothing else
//! of ours; what it says on its standard error goes into the signer's own log.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, ExitStatus, Stdio};

use super::config::{NewPin, Source};
use super::starter::Starter;
use super::{TokenConfig, TokenError};

/// Longest piece of a worker's standard error that is passed on as one line; a longer line is cut into such pieces.
const LINE_BYTES_MAX: u64 = 500;

/// A worker process: our own child, or the starter's.
pub(super) enum Process {
    Own(Child),
    Started { starter: Starter, pid: u32 },
}

impl Process {
    /// Whether it is gone, or nobody can say.
    pub(super) fn ended(&mut self) -> bool {
        match self {
            Self::Own(child) => !matches!(child.try_wait(), Ok(None)),
            Self::Started { starter, pid } => starter.ended(*pid),
        }
    }

    /// Kills it and says how it ended.
    pub(super) fn kill(self) -> Option<ExitStatus> {
        match self {
            Self::Own(mut child) => {
                if let Err(error) = child.kill() {
                    tracing::warn!("could not kill a token worker: {error}");
                }
                child.wait().ok()
            }
            Self::Started { starter, pid } => starter.kill(pid),
        }
    }
}

/// A worker's end of the line, and the process if it is ours to end.
pub(super) fn open(
    source: &Source,
    config: &TokenConfig,
) -> Result<(UnixStream, Option<Process>), TokenError> {
    if let Some(starter) = &config.starter {
        return starter.start_worker();
    }
    match source {
        Source::Connect { socket } => {
            let stream = UnixStream::connect(socket).map_err(|error| {
                TokenError::Unavailable(format!(
                    "cannot reach a token worker at {}: {error}",
                    socket.display()
                ))
            })?;
            Ok((stream, None))
        }
        Source::Spawn { pin_file: None, .. } => Err(TokenError::Config(
            "only a starter can ask for the PIN: run the signer's own program".to_owned(),
        )),
        Source::Spawn { program, env, .. } => {
            let (ours, theirs) = UnixStream::pair()
                .map_err(|error| TokenError::Unavailable(format!("no socket pair: {error}")))?;
            let mut child = Command::new(program)
                .args(arguments(source, config))
                .env_clear()
                .envs(env)
                .stdin(OwnedFd::from(theirs))
                .stdout(Stdio::null())
                .stderr(Stdio::piped())
                .spawn()
                .map_err(|error| {
                    TokenError::Unavailable(format!("cannot start {}: {error}", program.display()))
                })?;
            if let Some(stderr) = child.stderr.take() {
                follow_stderr(child.id(), stderr);
            }
            Ok((ours, Some(Process::Own(child))))
        }
    }
}

/// The command line of a worker; where its PIN lies, but never a PIN.
pub(super) fn arguments(source: &Source, config: &TokenConfig) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = Vec::new();
    let mut say = |name: &str, value: &std::ffi::OsStr| {
        arguments.extend([OsString::from(name), value.to_owned()]);
    };
    match source {
        Source::Connect { socket } => say("--connect", socket.as_os_str()),
        Source::Spawn { module, label, pin_file, .. } => {
            say("--module", module.as_os_str());
            say("--token-label", label.as_ref());
            if let Some(pin_file) = pin_file {
                say("--pin-file", pin_file.as_os_str());
            }
            say("--sandbox", config.sandbox.to_string().as_ref());
            say("--reach", config.reach.argument().as_ref());
            for file in &config.module_files {
                say("--module-file", file.as_os_str());
            }
            match &config.new_pin {
                Some(NewPin::File(file)) => say("--new-pin-file", file.as_os_str()),
                Some(NewPin::Prompt) => arguments.push("--new-pin-prompt".into()),
                Some(NewPin::Tried) => arguments.push("--new-pin-tried".into()),
                None => {}
            }
            if let Some(file) = &config.new_pin_for {
                arguments.extend(["--new-pin-for".into(), file.into()]);
            }
            if pin_file.is_none() {
                arguments.push("--pin-prompt".into());
            }
        }
    }
    // Who runs the signer as root has been asked about it there.
    if confine::process::is_root() {
        arguments.push("--allow-root".into());
    }
    arguments
}

/// Passes a worker's words on until it ends.
pub(super) fn follow_stderr(pid: u32, stderr: impl Read + Send + 'static) {
    let follow = move || {
        let mut from = BufReader::new(stderr);
        while let Some(line) = next_line(&mut from) {
            tracing::warn!(worker = pid, "{line}");
        }
    };
    let spawned = std::thread::Builder::new().name(format!("worker-{pid}-stderr")).spawn(follow);
    if let Err(error) = spawned {
        tracing::warn!(worker = pid, "its messages will be lost: {error}");
    }
}

/// The next line, or as much of it as may be held at once; nothing at the end.
fn next_line(from: &mut impl BufRead) -> Option<String> {
    let mut line = Vec::new();
    let count = from.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line).ok()?;
    (count > 0).then(|| String::from_utf8_lossy(&line).trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_without_an_end_is_passed_on_in_pieces() {
        let mut endless = BufReader::new(std::io::repeat(b'x'));
        for _ in 0..3 {
            assert_eq!(next_line(&mut endless).unwrap().len(), 500);
        }
        let mut words = &b"one\n\ntwo"[..];
        let lines: Vec<String> = std::iter::from_fn(|| next_line(&mut words)).collect();
        assert_eq!(lines, ["one", "", "two"]);
    }
}
