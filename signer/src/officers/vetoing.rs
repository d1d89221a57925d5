//! Vetoes over a policy that is proposed, as officers' statements: taken while the signer serves, and out of the inbox at a start,
//! before it is looked whether the proposal is due. It never asks by whose hands one came, and never takes one back.

use std::fs;
use std::path::{Path, PathBuf};

use audit::entry::Event;
use policy::Rules;
use policy::names::KeyName;
use policy::people::OfficerKey;
use statement::{Says, Signed, Statement};

use super::hear::{entry, in_time, verify_by};
use super::inbox;
use crate::app::App;
use crate::config::ConfigError;
use crate::governing::Proposed;
use crate::ledger::Ledger;
use crate::log::{Clock, Log, LogError, Step};
use crate::refusal::{Reason, Refusal};

/// How the names of those begin that are kept until a log is open.
const PREFIX: &str = "veto-";
/// So many of one officer are kept: there is seldom more than one policy to veto.
pub(super) const KEPT_MAX: usize = 8;

/// What is to be written beside the statement while the signer serves, and what came of it.
pub(super) fn veto(
    app: &App,
    ledger: &Ledger,
    officer: &KeyName,
    policy: &[u8; 32],
) -> Result<(Vec<Event>, String), Refusal> {
    // What is not known here may be a recovery, over which not everybody's veto counts.
    let proposed = app.upcoming.of(policy);
    if proposed.as_ref().is_some_and(|proposed| proposed.tightens) {
        let text = "that policy provably only tightens: it is in force from when it was handed in, and nobody can veto it";
        return Err(Refusal::new(Reason::StatementOther, text));
    }
    let recovery = proposed.is_none_or(|proposed| proposed.recovery);
    let vetoed = stops(&app.rules, ledger, officer, (policy, recovery))?;
    Ok((vec![vetoed], "that policy will never come into force".to_owned()))
}

/// Whether one of the statements in the inbox stops what is proposed. Those that do not are left to whoever looks there later.
///
/// # Errors
/// [`LogError`]; [`ConfigError::Read`] inside when nobody can tell what officers said.
pub(crate) async fn at_start(
    log: &Log<Ledger>,
    state_dir: &Path,
    now: &Rules,
    proposed: &Proposed,
    clock: &Clock,
) -> Result<Result<bool, ConfigError>, LogError> {
    let folder = inbox::folder(state_dir);
    let (files, more) = match candidates(&folder, &proposed.digest) {
        Ok(found) => found,
        Err(source) => return Ok(Err(ConfigError::Read { path: folder, source })),
    };
    let mut stopped = false;
    for file in files {
        let Some((signed, said, key)) = over(&file, now, &log.opening().origin) else { continue };
        let step = |ledger: &Ledger| match counts(ledger, now, &said, proposed, clock) {
            Ok(vetoed) => Step::write(vec![entry(&signed, &key, "file"), vetoed], true),
            Err(_) => Step::nothing(false),
        };
        if log.commit(step).await?.1 {
            stopped = true;
            tracing::warn!(officer = %said.officer, "the proposed policy is vetoed");
            // Read again, it would be set aside: it counts once.
            if let Err(error) = fs::remove_file(&file) {
                tracing::warn!("cannot remove {}: {error}", file.display());
            }
        }
    }
    if more && !stopped {
        // Nobody can tell then what officers said.
        let text = "more statements lie there than are read at once, and one may be a veto: take out what is none";
        let source = std::io::Error::other(text);
        return Ok(Err(ConfigError::Read { path: folder, source }));
    }
    Ok(Ok(stopped))
}

/// Those over this policy by their names, which a signer without a log gave them, however many others lie there, and the first few
/// of whatever else a person put there; and whether there is more.
fn candidates(folder: &Path, policy: &[u8; 32]) -> std::io::Result<(Vec<PathBuf>, bool)> {
    let dotted = format!(".{}", inbox::ENDING);
    let ours = format!("-{}{dotted}", hex::encode(policy));
    let mut others =
        inbox::named(folder, |name| name.ends_with(&dotted) && !name.ends_with(&ours))?;
    // However many freezes are kept, they are in no veto's way.
    others.retain(|path| !inbox::is_kept_freeze(path));
    let more = others.len() > inbox::FILES_MAX;
    others.sort();
    others.truncate(inbox::FILES_MAX);
    let mut files = inbox::named(folder, |name| name.ends_with(&ours))?;
    files.extend(others);
    Ok((files, more))
}

/// How a veto is called that is kept until a log is open.
pub(super) fn file_name(officer: &KeyName, policy: &[u8; 32]) -> String {
    format!("{PREFIX}{officer}-{}.{}", hex::encode(policy), inbox::ENDING)
}

/// Those of an officer that are kept.
pub(super) fn files_of(folder: &Path, officer: &KeyName) -> std::io::Result<Vec<PathBuf>> {
    let begins = format!("{PREFIX}{officer}-");
    let length = file_name(officer, &[0; 32]).len();
    inbox::named(folder, |name| name.starts_with(&begins) && name.len() == length)
}

/// The statement in a file, if it is a veto over a policy by an officer of these rules, for this log.
fn over(file: &Path, now: &Rules, log: &str) -> Option<(Signed, Statement, OfficerKey)> {
    let signed = inbox::read_statement(file).ok()?;
    let (said, key) = verify_by(now, log, &signed).ok()?;
    matches!(said.says, Says::VetoPolicy(_)).then_some((signed, said, key))
}

/// Whether it is in time, counts for the first time, and stops what is proposed.
fn counts(
    ledger: &Ledger,
    now: &Rules,
    said: &Statement,
    proposed: &Proposed,
    clock: &Clock,
) -> Result<Event, Refusal> {
    let at = clock.unix_seconds();
    in_time(said, at, ledger.not_before_latest(at))?;
    let used = ledger.people().is_used(&said.officer, said.nonce);
    if used || said.says != Says::VetoPolicy(proposed.digest) {
        return Err(Refusal::new(Reason::StatementOther, "it stops something else, or did before"));
    }
    stops(now, ledger, &said.officer, (&proposed.digest, proposed.recovery))
}

/// The entry by which a policy never comes into force, if it is proposed and this officer may stop it.
fn stops(
    rules: &Rules,
    ledger: &Ledger,
    officer: &KeyName,
    (policy, recovery): (&[u8; 32], bool),
) -> Result<Event, Refusal> {
    let refused = |reason, text: &str| Err(Refusal::new(reason, text));
    match ledger.proposal(policy) {
        None => {
            let text = "no policy with this SHA-256 is proposed: look at what is pending";
            return refused(Reason::StatementNothing, text);
        }
        Some(proposal) if proposal.vetoed => {
            return refused(Reason::StatementUsed, "that policy is vetoed already");
        }
        Some(_) => {}
    }
    if !rules.may_veto_policy(officer, recovery) {
        let text = format!("the policy in force gives \"{officer}\" no veto over this one");
        return refused(Reason::StatementOfficer, &text);
    }
    Ok(Event::PolicyVetoed { digest: *policy, officers: vec![officer.to_string()] })
}

#[cfg(test)]
mod tests {
    use policy::evidence::FreezeScope;

    use super::*;

    #[test]
    fn kept_freezes_are_in_no_vetos_way_however_many_they_are() {
        let folder = tempfile::tempdir().unwrap();
        let put = |name: &str, says: Says, number: u8| {
            let said = Statement {
                says,
                log: "cofferdam/here".into(),
                network: "bip122:0f9188f13cb7b2c71f2a335e3a4fc328".into(),
                officer: KeyName::parse("dan").unwrap(),
                expires_unix: 9,
                nonce: [number; 16],
            };
            let signed = Signed { statement: said.encode(), signature: [0; 64] };
            let path = folder.path().join(format!("{name}.statement"));
            fs::write(&path, signed.to_file()).unwrap();
            path
        };
        for number in 0..70 {
            put(&format!("freeze-dan-{number}"), Says::Freeze(FreezeScope::Everything), number);
        }
        // By hand, and under whatever name.
        let vetoes = ["freeze-not", "no"].map(|name| put(name, Says::VetoPolicy([7; 32]), 1));
        assert_eq!(candidates(folder.path(), &[7; 32]).unwrap(), (vetoes.to_vec(), false));
        for number in 0..70 {
            put(&format!("other-{number}"), Says::Freeze(FreezeScope::Everything), number);
        }
        assert!(candidates(folder.path(), &[7; 32]).unwrap().1);
    }
}
