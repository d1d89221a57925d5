//! Landlock: which files and TCP ports this process can still reach. It never grants what the user could not do
//! anyway.

use std::path::PathBuf;

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible as _, LandlockStatus,
    NetPort, PathBeneath, PathFd, Ruleset, RulesetAttr as _, RulesetCreated,
    RulesetCreatedAttr as _, RulesetError, RulesetStatus, Scope,
};

use crate::{ConfineError, Confinement, Reach};

/// The newest version of landlock that is asked for; an older kernel does what it can, and says so.
const NEWEST: ABI = ABI::V6;

/// Everybody may read these: libraries, names, time zones. Nothing secret lies there.
const COMMON: [&str; 13] = [
    "/usr/lib",
    "/usr/lib64",
    "/lib",
    "/lib64",
    "/usr/share/zoneinfo",
    "/etc/localtime",
    "/etc/ld.so.cache",
    "/etc/nsswitch.conf",
    "/etc/hosts",
    "/etc/host.conf",
    "/etc/resolv.conf",
    "/etc/gai.conf",
    "/dev/urandom",
];

/// Confines the calling thread; returns what the kernel lacks.
pub(crate) fn enforce(allowed: &Confinement) -> Result<Option<String>, ConfineError> {
    let rules = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(NEWEST))?;
    let rules = match allowed.reach {
        Reach::Network => rules.handle_access(AccessNet::BindTcp)?,
        _ => rules.handle_access(AccessNet::from_all(NEWEST))?,
    };
    // Abstract sockets belong to nobody; signals reach only what this process starts from here on.
    let rules = rules.scope(Scope::from_all(NEWEST))?.create()?;
    let common = COMMON.map(PathBuf::from);
    let read = AccessFs::from_read(NEWEST) & !AccessFs::Execute;
    let rules = beneath(rules, common.iter().chain(&allowed.read), read)?;
    // Nothing that is written can be run, and nothing can be made that is no file or folder.
    let never = AccessFs::Execute | AccessFs::MakeBlock | AccessFs::MakeChar | AccessFs::MakeSock;
    let rules = beneath(rules, &allowed.write, AccessFs::from_all(NEWEST) & !never)?;
    let null = [PathBuf::from("/dev/null")];
    let rules = beneath(rules, &null, AccessFs::ReadFile | AccessFs::WriteFile)?;
    let rules = ports(rules, allowed)?;
    let status = rules.restrict_self()?;
    Ok(match (status.landlock, status.ruleset) {
        (LandlockStatus::NotEnabled, _) => Some("landlock (not enabled)".to_owned()),
        (LandlockStatus::NotImplemented, _) => Some("landlock (not built in)".to_owned()),
        (LandlockStatus::Available { effective_abi, .. }, RulesetStatus::PartiallyEnforced) => {
            Some(format!("parts of landlock (it has version {effective_abi:?}, of {NEWEST:?})"))
        }
        (_, RulesetStatus::NotEnforced) => Some("landlock".to_owned()),
        _ => None,
    })
}

fn ports(mut rules: RulesetCreated, allowed: &Confinement) -> Result<RulesetCreated, RulesetError> {
    for port in &allowed.listen {
        rules = rules.add_rule(NetPort::new(*port, AccessNet::BindTcp))?;
    }
    if let Reach::Port(port) = allowed.reach {
        rules = rules.add_rule(NetPort::new(port, AccessNet::ConnectTcp))?;
    }
    Ok(rules)
}

/// Allows this much on each path that is there.
fn beneath<'a>(
    mut rules: RulesetCreated,
    paths: impl IntoIterator<Item = &'a PathBuf>,
    access: BitFlags<AccessFs>,
) -> Result<RulesetCreated, RulesetError> {
    for path in paths {
        // Not there, or not ours to open: then there is nothing to allow either.
        let Ok(opened) = PathFd::new(path) else { continue };
        let access = if path.is_dir() { access } else { access & AccessFs::from_file(NEWEST) };
        rules = rules.add_rule(PathBeneath::new(opened, access))?;
    }
    Ok(rules)
}
