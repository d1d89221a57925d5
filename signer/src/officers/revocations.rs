//! A revocation list that officers hand in: signed by an authority of ours, newer than the one in force, and named by the
//! statements of as many officers as the policy has for what is done at the machine, one at least. It is in the log and on
//! the disk before it counts. It never takes a list away, and never looks at who brought it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use audit::entry::Event;
use mtls::pushed::{Offer, OfferError};
use policy::names::KeyName;
use sha2::{Digest as _, Sha256};
use statement::{Deed, NO_TOKEN, Says, Signed, Statement, Task};

use super::hear::{Heard, countable, entry, verify};
use super::holds;
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
    let deed = Deed::Revocations(Sha256::digest(&offer.list).into());
    let task = Task { deed, token: NO_TOKEN.to_owned() };
    if said.says != Says::Administer(task.clone()) {
        let text = format!("it does not say `{}`, which is this list", task.deed);
        return Err(Refusal::new(Reason::StatementOther, text));
    }
    let step = |ledger: &Ledger| {
        if let Err(refusal) = countable(app, ledger, &said) {
            return Step::nothing(Err(refusal));
        }
        let mut events = vec![entry(&signed, &key, way)];
        let enough = is_enough(app, ledger, &task, &said);
        if enough {
            events.push(in_force(&offer));
        }
        Step::write(events, Ok(enough))
    };
    let enough = app.log.commit(step).await?.1?;
    let heard = |said: String| Heard { statement: digest(&signed), said };
    if !enough {
        let quorum = app.rules.administer().map(ToString::to_string).unwrap_or_default();
        return Ok(heard(format!("written down; it takes effect once {quorum} said so")));
    }
    write_durably(&file_of(tls)?, offer.file.as_bytes())?;
    let looking = Arc::clone(tls);
    // Reading and verifying would hold up others.
    let looked = tokio::task::spawn_blocking(move || looking.look());
    looked.await.map_err(|error| Refusal::new(Reason::Internal, error.to_string()))?;
    if !tls.facts().lists.iter().flatten().any(|list| *list == offer.facts) {
        let text = "the list is written down and on the disk, and not in force: the service's log says which TLS file does not work";
        return Err(Refusal::new(Reason::Internal, text));
    }
    let text = format!("{}: a new revocation list is in force", said.officer);
    app.notices.tell("said", None, &[("revocations", &text)]);
    tracing::warn!(officer = %said.officer, way, list = hex::encode(Sha256::digest(&offer.list)), "a new revocation list is in force");
    Ok(heard("it is in force, for connections that are open as well".to_owned()))
}

/// Whether enough officers have said so, with this one. Where the policy asks nobody at the machine, one is.
fn is_enough(app: &App, ledger: &Ledger, task: &Task, said: &Statement) -> bool {
    let now = ledger.not_before_latest(app.clock.unix_seconds());
    let about = |says: &Says| matches!(says, Says::Administer(about) if about == task);
    let before = ledger.people().task(task).iter();
    let before = before.filter(|word| holds(&app.rules, word, now, about));
    let mut by: BTreeSet<&KeyName> = before.map(|word| &word.officer).collect();
    by.insert(&said.officer);
    app.rules.may_administer(&by)
}

fn in_force(offer: &Offer) -> Event {
    let serial = hex::encode(Sha256::digest(&offer.list));
    Event::Administered { what: "revocations".to_owned(), serial, site: [0; 16] }
}

fn file_of(tls: &mtls::Server) -> Result<PathBuf, Refusal> {
    let file = tls.handed_in().map(Path::to_owned);
    file.ok_or_else(|| refused(OfferError::Unused))
}

fn digest(signed: &Signed) -> [u8; 32] {
    Sha256::digest(&signed.statement).into()
}

fn refused(error: OfferError) -> Refusal {
    let reason = match error {
        OfferError::Unused => Reason::StatementNothing,
        _ => Reason::StatementList,
    };
    Refusal::new(reason, error.to_string())
}
