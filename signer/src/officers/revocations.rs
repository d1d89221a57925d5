//! A revocation list that officers hand in: signed by an authority of ours, newer than the one in force, and named by the
//! statements of as many officers as the policy has for what is done at the machine, one at least. What they said is in the log
//! and the list on the disk before it counts. It never takes a list away, and never looks at who brought it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use audit::entry::Event;
use mtls::pushed::{Offer, OfferError};
use policy::Rules;
use policy::names::KeyName;
use sha2::{Digest as _, Sha256};
use statement::{Deed, NO_TOKEN, Says, Signed, Statement, Task};

use super::hear::{Heard, countable, entry, in_time, not_revoked, verify};
use super::holds;
use super::notices::Topic;
use crate::app::App;
use crate::ledger::Ledger;
use crate::log::Step;
use crate::refusal::{Reason, Refusal};
use crate::token::write_durably;

/// Where they lie, in the state folder.
#[must_use]
pub fn file(state_dir: &Path) -> PathBuf {
    state_dir.join("revocations.pem")
}

/// Takes one officer's word for a list in, with the list, and puts the list into force once enough have said so.
/// One call at a time: the caller sees to that.
///
/// The words are durable in the log first, then the list is on the disk and in force, then the log says so, which alone uses the
/// words up, and last a checkpoint covers it all. Cut off anywhere, the list is in force after a restart, or what was said
/// counts still: the same call again goes on from there. It waits for no checkpoint and no witness, who may be kept
/// away by the list before.
///
/// # Errors
/// [`Refusal`] saying why list or word do not count.
pub async fn push(
    app: &App,
    tls: &Arc<mtls::Server>,
    list: &[u8],
    signed: Signed,
    way: &str,
) -> Result<Heard, Refusal> {
    let offer = tls.offered(list).map_err(refused)?;
    let (said, key) = verify(app, &signed)?;
    let task = about(&said, Sha256::digest(&offer.list).into())?;
    let heard = |said: String| Heard { statement: digest(&signed), said };
    if !write_down(app, &said, entry(&signed, &key, way), &task).await? {
        app.log.commit(|_| Step::nothing(())).await?;
        return Ok(heard(lacking(&app.rules)));
    }
    put(tls, &offer).await?;
    app.log.note(|ledger| in_force(app, ledger, &task)).await?;
    let text = format!("{}: a new revocation list is in force", said.officer);
    app.notices.tell("said", Topic::NONE, &[("revocations", &text)]);
    tracing::warn!(officer = %said.officer, way, list = %task.deed, "a new revocation list is in force");
    let mut text = IN_FORCE.to_owned();
    if let Err(error) = app.log.commit(|_| Step::nothing(())).await {
        text = format!(
            "{text}; what you said is written down, and not under a checkpoint yet: {error}"
        );
    }
    Ok(heard(text))
}

/// What an officer said for a list that came into force while no log was open: it is written down now, under a checkpoint.
///
/// # Errors
/// [`Refusal`] where that list is not in force, the word does not count, or no checkpoint covers it yet: then it is to be heard
/// again.
pub(super) async fn hear_late(
    app: &App,
    state_dir: &Path,
    signed: Signed,
) -> Result<Heard, Refusal> {
    let (said, key) = verify(app, &signed)?;
    let kept = kept(state_dir)?;
    let task = match &said.says {
        Says::Administer(task) if kept.contains(task) => task.clone(),
        _ => {
            let text = "this statement comes with its list: officer crl push LIST";
            return Err(Refusal::new(Reason::StatementNothing, text));
        }
    };
    // Heard by an earlier try, which no checkpoint covered.
    let known = app.log.read(|ledger| ledger.people().is_used(&said.officer, said.nonce));
    if !known {
        write_down(app, &said, entry(&signed, &key, "file"), &task).await?;
    }
    app.log.note(|ledger| in_force(app, ledger, &task)).await?;
    app.log.commit(|_| Step::nothing(())).await?;
    let said = "written down; the list is in force".to_owned();
    Ok(Heard { statement: digest(&signed), said })
}

/// Writes down that lists are in force whose words nothing used up: whoever put them there was cut off.
///
/// # Errors
/// [`Refusal`] when nothing can be written.
pub(super) async fn settle(app: &App, state_dir: &Path) -> Result<(), Refusal> {
    // What cannot be read is said where it is looked at for use.
    for task in kept(state_dir).unwrap_or_default() {
        if app.log.read(|ledger| !in_force(app, ledger, &task).is_empty()) {
            app.log.note(|ledger| in_force(app, ledger, &task)).await?;
        }
    }
    Ok(())
}

/// What officers say for the lists that were handed in.
fn kept(state_dir: &Path) -> Result<Vec<Task>, Refusal> {
    let kept = mtls::pushed::handed_in(&file(state_dir));
    let kept = kept.map_err(|error| Refusal::new(Reason::Internal, error.to_string()))?;
    let task = |list| Task {
        deed: Deed::Revocations(Sha256::digest(list).into()),
        token: NO_TOKEN.to_owned(),
    };
    Ok(kept.iter().map(task).collect())
}

/// Writes an officer's word down, durably, and returns whether enough have said so now. One that is there and was not used up
/// is not written again: an earlier try was cut off.
async fn write_down(
    app: &App,
    said: &Statement,
    word: Event,
    task: &Task,
) -> Result<bool, Refusal> {
    let mut enough = Ok(false);
    let step = |ledger: &Ledger| {
        let is_enough = is_enough(app, ledger, task, Some(said));
        let mut words = ledger.people().task(task).iter();
        let again = words.any(|word| word.statement == said.digest());
        let now = ledger.not_before_latest(app.clock.unix_seconds());
        let counts = match again {
            true => in_time(said, now, now).and_then(|()| not_revoked(&app.rules, said)),
            false => countable(app, ledger, said),
        };
        match counts {
            Ok(()) => {
                enough = Ok(is_enough);
                if again { Vec::new() } else { vec![word] }
            }
            Err(refusal) => {
                enough = Err(refusal);
                Vec::new()
            }
        }
    };
    app.log.note(step).await?;
    enough
}

/// Puts a list on the disk and into force.
pub(super) async fn put(tls: &Arc<mtls::Server>, offer: &Offer) -> Result<(), Refusal> {
    let file = tls.handed_in().ok_or_else(|| refused(OfferError::Unused))?;
    write_durably(file, offer.file.as_bytes())?;
    let looking = Arc::clone(tls);
    // Reading and verifying would hold up others.
    let looked = tokio::task::spawn_blocking(move || looking.look());
    looked.await.map_err(|error| Refusal::new(Reason::Internal, error.to_string()))?;
    if tls.facts().lists.iter().flatten().any(|list| *list == offer.facts) {
        return Ok(());
    }
    let text = "the list is on the disk and not in force: the service's log says why; hand it in again with the same statement when that is mended";
    Err(Refusal::new(Reason::Internal, text))
}

/// What is said to officers whose list is in force.
pub(super) const IN_FORCE: &str = "it is in force, for connections that are open as well";

/// What is said while more of them must say so.
pub(super) fn lacking(rules: &Rules) -> String {
    let quorum = rules.administer().map(ToString::to_string).unwrap_or_default();
    format!("written down; it takes effect once {quorum} said so")
}

/// The task that a statement is for, which must be this list.
pub(super) fn about(said: &Statement, list: [u8; 32]) -> Result<Task, Refusal> {
    let task = Task { deed: Deed::Revocations(list), token: NO_TOKEN.to_owned() };
    if said.says == Says::Administer(task.clone()) {
        return Ok(task);
    }
    let text = format!("it does not say `{}`, which is this list", task.deed);
    Err(Refusal::new(Reason::StatementOther, text))
}

/// Whether enough officers have said so, with this one if there is one. Where the policy asks nobody at the machine, one is.
fn is_enough(app: &App, ledger: &Ledger, task: &Task, said: Option<&Statement>) -> bool {
    let now = ledger.not_before_latest(app.clock.unix_seconds());
    let about = |says: &Says| matches!(says, Says::Administer(about) if about == task);
    let before = ledger.people().task(task).iter();
    let before = before.filter(|word| holds(&app.rules, word, now, about));
    let mut by: BTreeSet<&KeyName> = before.map(|word| &word.officer).collect();
    by.extend(said.map(|said| &said.officer));
    !by.is_empty() && app.rules.may_administer(&by)
}

/// That it is in force, once: nothing where its words are used up, as somebody else wrote it meanwhile.
fn in_force(app: &App, ledger: &Ledger, task: &Task) -> Vec<Event> {
    if !is_enough(app, ledger, task, None) {
        return Vec::new();
    }
    let serial = match task.deed {
        Deed::Revocations(list) => hex::encode(list),
        _ => String::new(),
    };
    vec![Event::Administered { what: "revocations".to_owned(), serial, site: [0; 16] }]
}

pub(super) fn digest(signed: &Signed) -> [u8; 32] {
    Sha256::digest(&signed.statement).into()
}

pub(super) fn refused(error: OfferError) -> Refusal {
    let reason = match error {
        OfferError::Unused => Reason::StatementNothing,
        _ => Reason::StatementList,
    };
    Refusal::new(reason, error.to_string())
}
