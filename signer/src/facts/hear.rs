//! One stated fact: verified by the key that the policy in force has for whoever states it, held against what was stated
//! before, written down, once. It never looks at how it came.

use audit::entry::Event;
use policy::conditions::List;
use policy::facts::Stated;
use policy::names::{KeyName, ListName};
use statement::Signed;
use statement::fact::{AHEAD_SECONDS, Entry, Fact, States};

use crate::app::{App, blocking};
use crate::gate;
use crate::ledger::Ledger;
use crate::ledger::booked_scripts;
use crate::log::{LogError, Step};
use crate::officers::hear::Heard;
use crate::officers::notices::Topic;
use crate::refusal::{Reason, Refusal};

/// Takes a fact in. `way` is a client's name, or `file`.
///
/// # Errors
/// [`Refusal`] saying why it does not count.
pub async fn hear(app: &App, signed: Signed, way: &str) -> Result<Heard, Refusal> {
    let claimed = Fact::parse(&signed.statement)
        .map_err(|error| Refusal::new(Reason::StatementFormat, error.to_string()))?;
    let stated = match claimed.states {
        States::Balanced { .. } => Stated::Books,
        States::Listed(_) | States::Unlisted { .. } => Stated::Book,
    };
    let now = app.log.read(|ledger| ledger.not_before_latest(app.clock.unix_seconds()));
    let nobody = || {
        let (by, version) = (&claimed.by, app.rules.version());
        let text =
            format!("policy version {version} lets nobody \"{by}\" state this, or no longer");
        Refusal::new(Reason::StatementOfficer, text)
    };
    let key = app.rules.fact_key(stated, &claimed.by, now).ok_or_else(nobody)?;
    let fact = signed
        .verify_fact(&key)
        .map_err(|error| Refusal::new(Reason::StatementSignature, error.to_string()))?;
    elsewhere(app, &fact)?;
    match &fact.states {
        States::Balanced { .. } => {}
        States::Listed(entry) => {
            adds(app, &entry.list, &fact.by)?;
            listable(app, entry).await?;
        }
        States::Unlisted { list, .. } => adds(app, list, &fact.by)?,
    }
    // The key may have ended while this waited for its turn.
    let taken = |ledger: &Ledger| {
        if app.is_tightened(ledger) {
            return Err(gate::shut());
        }
        let now = ledger.not_before_latest(app.clock.unix_seconds());
        match app.rules.fact_key(stated, &fact.by, now) == Some(key) {
            true => take(ledger, &fact, now),
            false => Err(nobody()),
        }
    };
    let mut told = None;
    let step = |ledger: &Ledger| match taken(ledger) {
        Ok(sentence) => {
            told = Some(sentence.clone());
            let event = Event::FactStated {
                statement: signed.statement.clone(),
                signature: signed.signature.to_vec(),
                key,
                way: way.to_owned(),
            };
            Step::write(vec![event], Ok(sentence))
        }
        Err(refusal) => Step::nothing(Err(refusal)),
    };
    let committed = app.log.commit(step).await;
    // Told also while witnesses or the token are away, as officers' words are.
    let holds = committed.as_ref().map_or_else(LogError::is_written, |_| true);
    if let Some(sentence) = told.filter(|_| holds) {
        app.notices.tell("fact", Topic::NONE, &[(fact.states.verb(), &sentence)]);
        tracing::info!(by = %fact.by, way, "stated {}: {sentence}", fact.states.verb());
    }
    committed?.1.map(|sentence| Heard { statement: fact.digest(), said: sentence })
}

fn elsewhere(app: &App, fact: &Fact) -> Result<(), Refusal> {
    let log = &app.log.opening().origin;
    let network = app.rules.network().chain_id().to_string();
    for (what, found, ours) in [("log", &fact.log, log), ("network", &fact.network, &network)] {
        if found != ours {
            let text = format!("it is for the {what} {found}, and this signer's is {ours}");
            return Err(Refusal::new(Reason::StatementElsewhere, text));
        }
    }
    Ok(())
}

/// What an entry says is said for a list that its key may add to.
fn adds(app: &App, list: &ListName, by: &KeyName) -> Result<(), Refusal> {
    let adds = |known: &List| known.name == *list && known.book_keys.contains(by);
    match app.rules.lists().iter().any(adds) {
        true => Ok(()),
        false => {
            let text = format!("the policy in force has no list \"{list}\" that \"{by}\" adds to");
            Err(Refusal::new(Reason::StatementOfficer, text))
        }
    }
}

/// An entry stands for something on this network.
async fn listable(app: &App, entry: &Entry) -> Result<(), Refusal> {
    let (network, target) = (app.rules.network().chain_id().to_string(), entry.target.clone());
    let derive = move || match booked_scripts(&target, &network) {
        Ok(_) => Ok(()),
        Err(reason) => Err(Refusal::new(Reason::StatementFormat, reason)),
    };
    blocking(derive).await
}

/// Whether it may be taken in now, and what comes of it.
fn take(ledger: &Ledger, fact: &Fact, now: u64) -> Result<String, Refusal> {
    let facts = ledger.facts();
    let made = fact.made_unix;
    if made > now.saturating_add(AHEAD_SECONDS) {
        let text = format!("it was made at {made}, and it is {now}: a clock is wrong");
        return Err(Refusal::new(Reason::StatementFormat, text));
    }
    let used = || {
        let text = "it is no newer than what was stated before: state it anew";
        Refusal::new(Reason::StatementUsed, text)
    };
    if facts.is_taken(&fact.digest()) {
        return Err(used());
    }
    match &fact.states {
        States::Balanced { height, .. } => {
            if facts.books_by(&fact.by).is_some_and(|last| made <= last.made_unix) {
                return Err(used());
            }
            Ok(format!("the books balance up to block {height}, as of {made}"))
        }
        States::Listed(entry) => {
            if let Some(objection) = facts.book().objection(entry, &fact.by, made, now) {
                return Err(Refusal::new(Reason::StatementOther, objection));
            }
            Ok(format!("\"{}\" is in the book of list \"{}\"", entry.label, entry.list))
        }
        States::Unlisted { list, label } => {
            match facts.book().holds_on(list, label, &fact.by, made) {
                Some(objection) => Err(Refusal::new(Reason::StatementNothing, objection)),
                None => Ok(taken_back(ledger, list, label)),
            }
        }
    }
}

/// What it comes to that a label is taken back.
pub(crate) fn taken_back(ledger: &Ledger, list: &ListName, label: &str) -> String {
    match ledger.facts().book().entry(list, label) {
        Some(_) => format!("\"{label}\" is no longer in the book of list \"{list}\""),
        None => format!(
            "the book of list \"{list}\" has no \"{label}\": nothing of that label that was signed by now counts"
        ),
    }
}
