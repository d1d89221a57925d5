//! What officers handed in over the wire, at a start: the log has its text and who signed it, so that no file is asked, on whichever
//! machine the log is opened. It never counts a proposal that the policy in force does not give way to.

use audit::entry::Event;
use policy::Rules;
use policy::governance::Next;
use policy::names::KeyName;
use sha2::{Digest as _, Sha256};

use super::Proposed;
use crate::config::Config;
use crate::ledger::{Ledger, Proposal};
use crate::log::{Log, LogError, Step};
use crate::start::{StartError, activate};

/// What became of what was handed in and only tightens.
pub(super) enum Tightened {
    /// There is none: the policy in force stays.
    No(Rules),
    /// It is in force.
    Yes(Rules),
    /// It cannot be served on this machine, and the policy that it tightens must not be.
    Unserved(Rules, Proposed),
}

/// Puts into force what was handed in and provably only tightens.
pub(super) async fn tighten(
    log: &Log<Ledger>,
    config: &Config,
    now: Rules,
) -> Result<Tightened, StartError> {
    let Some(next @ Next::AtOnce(_)) = open(log, &now).await? else {
        return Ok(Tightened::No(now));
    };
    match activate(log, &config.state_dir, next.rules()).await {
        Ok(()) => Ok(Tightened::Yes(next.into_rules())),
        Err(error @ StartError::Log(_)) => Err(error),
        // It could be served when it came, perhaps on another machine.
        Err(error) => {
            tracing::error!(
                version = next.rules().version(),
                "ALARM: the policy that was handed in only tightens and cannot be served here, so nothing is signed: {error}"
            );
            let unserved = Some(error.to_string());
            let due = log.read(|ledger| ledger.proposal(next.rules().digest()));
            let due = due.map_or(0, |known| known.due_unix);
            Ok(Tightened::Unserved(now, Proposed { unserved, ..Proposed::of(&next, due) }))
        }
    }
}

/// What was handed in, is not vetoed, and may follow the policy in force.
pub(super) async fn open(log: &Log<Ledger>, now: &Rules) -> Result<Option<Next>, StartError> {
    let Some((digest, proposal)) = log.read(Ledger::pushed) else { return Ok(None) };
    let rules = reopen(log, &digest, &proposal, now).await?;
    let next = rules.and_then(|rules| now.gives_way(rules));
    Ok(next
        .inspect_err(|error| {
            tracing::error!("the policy that was handed in is passed over: {error}")
        })
        .ok())
}

/// As the log has it.
async fn reopen(
    log: &Log<Ledger>,
    digest: &[u8; 32],
    proposal: &Proposal,
    now: &Rules,
) -> Result<Result<Rules, policy::PolicyError>, LogError> {
    match log.entry(proposal.seq).await?.event {
        Event::PolicyProposed { text, officers, .. }
            if <[u8; 32]>::from(Sha256::digest(&text)) == *digest =>
        {
            let officers = officers.iter().filter_map(|name| KeyName::parse(name).ok()).collect();
            Ok(Rules::reopen(&text, officers, now.network()))
        }
        _ => Err(LogError::Missing(proposal.seq)),
    }
}

/// Whether a policy takes the place of one that is proposed. What only tightens does; anything else when its version is higher, but
/// for a recovery: those who are there for when keys are lost do not outdo those whose keys are not.
pub(super) fn gives_way(proposed: &Proposed, to: &Next) -> bool {
    let outdone = matches!(to, Next::Recovery(..)) && !proposed.recovery;
    let is_same = proposed.digest == *to.rules().digest();
    match to {
        _ if proposed.tightens || is_same => false,
        Next::AtOnce(_) => true,
        _ => !outdone && to.rules().version() > proposed.version,
    }
}

/// What was handed in comes into force no more, since `next` takes its place.
pub(super) async fn withdraw(log: &Log<Ledger>, next: &Next) -> Result<(), LogError> {
    if matches!(next, Next::AtOnce(_)) {
        // It ends all of them.
        return Ok(());
    }
    let gone = log.read(Ledger::pushed).map(|(digest, _)| Event::PolicyWithdrawn { digest });
    tracing::warn!("a proposed policy that came over the wire gives way to the policy file's");
    log.commit(|_| Step::write(gone.into_iter().collect(), ())).await.map(drop)
}
