//! Starts a worker process, or connects to one somebody else starts. A worker gets a socket for its standard
//! input, the environment its settings name and nothing else of ours; what it says on its standard error goes
//! into the signer's own log.

use std::io::{BufRead, BufReader};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};

use super::TokenError;
use super::config::Source;

/// Longest line of a worker's standard error that is passed on.
const LINE_CHARS_MAX: usize = 500;

/// A worker's end of the line, and the process if it is ours.
pub(super) fn open(source: &Source) -> Result<(UnixStream, Option<Child>), TokenError> {
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
        Source::Spawn { program, module, label, pin_file, env } => {
            let (ours, theirs) = UnixStream::pair()
                .map_err(|error| TokenError::Unavailable(format!("no socket pair: {error}")))?;
            let mut child = Command::new(program)
                .arg("--module")
                .arg(module)
                .arg("--token-label")
                .arg(label)
                .arg("--pin-file")
                .arg(pin_file)
                .env_clear()
                .envs(env)
                .stdin(OwnedFd::from(theirs))
                .stdout(Stdio::null())
                .stderr(Stdio::piped())
                .spawn()
                .map_err(|error| {
                    TokenError::Unavailable(format!("cannot start {}: {error}", program.display()))
                })?;
            follow_stderr(&mut child);
            Ok((ours, Some(child)))
        }
    }
}

/// Passes a worker's words on until it ends.
fn follow_stderr(child: &mut Child) {
    let pid = child.id();
    let Some(stderr) = child.stderr.take() else { return };
    let follow = move || {
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            let line: String = line.chars().take(LINE_CHARS_MAX).collect();
            tracing::warn!(worker = pid, "{line}");
        }
    };
    let spawned = std::thread::Builder::new().name(format!("worker-{pid}-stderr")).spawn(follow);
    if let Err(error) = spawned {
        tracing::warn!(worker = pid, "its messages will be lost: {error}");
    }
}
