//! Starts a worker process, or connects to one somebody else starts. A worker gets a socket for its standard
//! input, the environment its settings name and nothing else of ours; what it says on its standard error goes
//! into the signer's own log.

use std::io::{BufRead, BufReader, Read};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};

use super::TokenError;
use super::config::Source;

/// Longest piece of a worker's standard error that is passed on as one line; a longer line is cut into such pieces.
const LINE_BYTES_MAX: u64 = 500;

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
