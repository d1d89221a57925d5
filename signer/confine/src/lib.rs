//! What signer and token worker do to themselves before they touch a secret: hard to look into, few files, few
//! system calls. It never widens anything: a process that was confined stays so, and so does all it starts.
//!
//! Reading order: [`process`] (cores, tracing, root), [`Confinement`] (what a process may still do), [`files`]
//! (landlock), [`calls`] (seccomp), [`locked`] (memory for secrets).

pub mod process;
pub mod files;
pub mod calls;
pub mod locked;
#[cfg(test)]
mod smaps;

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

pub use locked::Locked;
pub use process::{harden, refuse_root};

/// What is done where the kernel cannot confine.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Mode {
    /// Confine, and say what the kernel lacks.
    #[default]
    On,
    /// Confine, and refuse to go on when the kernel lacks something.
    Required,
    /// Do not confine. Said by somebody in so many words.
    Off,
}

/// Whom a process may reach of its own accord.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reach {
    /// Nobody: a signer with SQLite. It cannot connect at all.
    Nobody,
    /// Sockets of this machine's file system: a signer with PostgreSQL there, or the daemon of a local token.
    Local,
    /// The same, and this TCP port: a signer with PostgreSQL over TCP.
    Port(u16),
    /// The same, and any TCP or UDP port: a worker with a network HSM. Which addresses, the firewall says.
    Network,
}

/// Everything a process may still do once it is confined.
#[derive(Clone, Debug)]
pub struct Confinement {
    /// Whom it may reach.
    pub reach: Reach,
    /// The TCP ports it may listen on, if it listens at all; 0 is any.
    pub listen: Vec<u16>,
    /// Files, and folders with all they hold, that it may read. What is not there is left out.
    pub read: Vec<PathBuf>,
    /// Those it may also write, make and remove.
    pub write: Vec<PathBuf>,
}

/// What came of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Report {
    /// One line each: what the kernel lacks; nothing when all of it holds.
    pub lacking: Vec<String>,
}

/// Why a process is not confined.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfineError {
    /// Root was not allowed.
    #[error(
        "this runs as root, who may undo most of what protects it: run it as a user of its own, or say {0}"
    )]
    Root(&'static str),
    /// A system call about this process failed.
    #[error("cannot {what}: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
    /// The kernel lacks what the settings require.
    #[error("the settings require a sandbox, and this kernel lacks: {0}")]
    Lacking(String),
    /// Landlock refused its own rules.
    #[error("landlock: {0}")]
    Files(#[from] landlock::RulesetError),
    /// The filter could not be made.
    #[error("seccomp: {0}")]
    Calls(#[from] seccompiler::BackendError),
}

impl Confinement {
    /// Confines the calling thread and all it starts from now on, for good. Call it before there is a second one.
    ///
    /// # Errors
    /// [`ConfineError`], above all when `mode` requires what the kernel lacks.
    pub fn enforce(&self, mode: Mode) -> Result<Report, ConfineError> {
        if mode == Mode::Off {
            return Ok(Report { lacking: vec!["the settings turn the sandbox off".to_owned()] });
        }
        let mut lacking = Vec::new();
        // Files first: the calls that landlock needs are not allowed afterwards.
        lacking.extend(files::enforce(self)?);
        lacking.extend(calls::enforce(self)?);
        if mode == Mode::Required && !lacking.is_empty() {
            return Err(ConfineError::Lacking(lacking.join("; ")));
        }
        Ok(Report { lacking })
    }
}

impl FromStr for Mode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "on" => Ok(Self::On),
            "required" => Ok(Self::Required),
            "off" => Ok(Self::Off),
            other => Err(format!("a sandbox is \"on\", \"required\" or \"off\", not \"{other}\"")),
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::On => "on",
            Self::Required => "required",
            Self::Off => "off",
        })
    }
}
