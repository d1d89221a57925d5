//! What this process gives up before it loads the module: every file, socket and system call that neither module nor
//! PIN need. It never touches the module.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use confine::{ConfineError, Confinement, Reach, Report};
use rustix::mm::{MlockAllFlags, mlockall};
use rustix::process::{Resource, getrlimit};

use crate::args::{Args, ModuleReach};
use crate::pin;

/// What modules read that are given nothing else: OpenSSL's settings, who they are, what processor they run on.
const READ: [&str; 8] = [
    "/opt",
    "/etc/ssl",
    "/etc/passwd",
    "/etc/group",
    "/proc/self",
    "/proc/cpuinfo",
    "/sys/devices/system/cpu",
    "/usr/share/p11-kit",
];

/// Variables that a shell or systemd sets.
const NOT_THE_MODULES: [&str; 6] =
    ["HOME", "PWD", "OLDPWD", "SHELL", "TMPDIR", "CREDENTIALS_DIRECTORY"];

/// Confines this process for good.
pub(crate) fn confine(args: &Args) -> Result<Report, ConfineError> {
    // What the module holds of PIN and keys stays out of the swap, where the limits allow to lock all there is.
    if getrlimit(Resource::Memlock).current.is_none() {
        let _ = mlockall(MlockAllFlags::CURRENT | MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT);
    }
    confinement(args, std::env::vars_os()).enforce(args.sandbox)
}

/// What a worker may still do. The module's own files are what its environment names, SoftHSM's token folder,
/// and what the settings add.
fn confinement(
    args: &Args,
    environment: impl Iterator<Item = (OsString, OsString)>,
) -> Confinement {
    let mut read: Vec<PathBuf> = READ.iter().map(PathBuf::from).collect();
    read.push(args.module());
    read.extend(pin::place(&args.pin));
    let mut write = args.module_files.clone();
    for (name, value) in environment {
        let named = PathBuf::from(value);
        // What a login or a unit says of the user is not the module's.
        let users = NOT_THE_MODULES.iter().any(|user| name == *user);
        if users || !named.is_absolute() || named == Path::new("/") {
            continue;
        }
        if name == "SOFTHSM2_CONF" {
            write.extend(softhsm_tokens(&named));
        }
        if named.is_dir() { write.push(named) } else { read.push(named) }
    }
    let reach = match args.reach {
        ModuleReach::Local => Reach::Local,
        ModuleReach::Network => Reach::Network,
    };
    Confinement { reach, listen: Vec::new(), read, write }
}

/// Where SoftHSM keeps its tokens, by its configuration.
fn softhsm_tokens(configuration: &Path) -> Option<PathBuf> {
    let text = std::fs::read_to_string(configuration).ok()?;
    let value = |line: &str| {
        let (name, value) = line.split_once('=')?;
        (name.trim() == "directories.tokendir").then(|| PathBuf::from(value.trim()))
    };
    text.lines().find_map(value).filter(|folder| folder.is_absolute())
}
