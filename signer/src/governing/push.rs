//! A policy that officers hand in over the wire: weighed as a start weighs its file, written into the log as proposed with the
//! officers' signatures, and put into force by a start alone, which follows at once where it provably only tightens. It never looks
//! at who brought it, and never takes one that the policy in force does not give way to.

use std::path::Path;
use std::sync::Arc;

use audit::entry::Event;
use policy::governance::Next;
use policy::{PolicyError, SignedPolicy};
use sha2::{Digest as _, Sha256};

use super::{Proposed, alarm, is_alike, proposal, pushed, rate, said, weigh};
use crate::app::{App, blocking};
use crate::ledger::{Ledger, Proposal};
use crate::log::{LogError, Step};
use crate::refusal::{Reason, Refusal};
use crate::start::servable;

/// What is handed in.
pub struct HandedIn {
    /// The text.
    pub text: String,
    /// One line per officer.
    pub signatures: String,
    /// Nothing but what provably only tightens is taken.
    pub only_tightening: bool,
}

/// What came of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Taken {
    /// SHA-256 of the text.
    pub digest: [u8; 32],
    /// Its version.
    pub version: u64,
    /// `tightening`, `change` or `recovery`; empty where it is in force.
    pub kind: &'static str,
    /// It comes into force no sooner, Unix seconds; 0 where it is.
    pub due_unix: u64,
    /// In a sentence.
    pub said: String,
}

/// Takes it in. One call at a time, to its end: the caller sees to that, also where whoever called goes away.
///
/// Proposal and signatures are one step of the log, and count once a checkpoint covers them; nothing else is written. Cut off
/// before, there is no trace of it; cut off later, the next start goes on from there, on whichever machine.
///
/// # Errors
/// [`Refusal`] saying why it is not taken. Then nothing is changed.
pub async fn push(
    app: &Arc<App>,
    state_dir: &Path,
    handed_in: HandedIn,
    way: &str,
) -> Result<Taken, Refusal> {
    let digest: [u8; 32] = Sha256::digest(&handed_in.text).into();
    if digest == *app.rules.digest() {
        let said = "it is in force already".to_owned();
        return Ok(Taken { digest, version: app.rules.version(), kind: "", due_unix: 0, said });
    }
    if handed_in.signatures.trim().is_empty() {
        // Before a long text is read for nothing.
        return Err(Refusal::new(Reason::PolicyFollows, "nobody signed it"));
    }
    let only_tightening = handed_in.only_tightening;
    let weighed = Weighed::of(app, state_dir, handed_in).await?;
    if only_tightening && !matches!(weighed.next, Next::AtOnce(_)) {
        return Err(Refusal::new(Reason::RevocationUnknown, mtls::caller::UNKNOWN_TEXT));
    }
    may_be_proposed(app, &weighed.next)?;
    let mut shown = None;
    let step = |ledger: &Ledger| match weighed.entries(app, ledger, way) {
        Ok(events) => {
            shown = show(app, ledger, &weighed.next, &events);
            Step::write(events, Ok(()))
        }
        Err(refusal) => Step::nothing(Err(refusal)),
    };
    let committed = app.log.commit(step).await;
    // Told also while witnesses or the token are away: it is written, and its delay goes on.
    let holds = committed.as_ref().map_or_else(LogError::is_written, |_| true);
    match shown {
        Some(shown) if holds => tell(app, &weighed.next, &shown.proposed, way),
        Some(shown) => shown.take_back(app),
        None => {}
    }
    committed?.1?;
    let proposal = app.log.read(|ledger| ledger.proposal(&digest));
    let Some(proposal) = proposal.filter(|proposal| !proposal.vetoed) else {
        return Err(vetoed());
    };
    let proposed = Proposed::of(&weighed.next, proposal.due_unix);
    let said = match weighed.next {
        Next::AtOnce(_) => "written down: it is in force as soon as this signer has started anew under it, in a moment; requests that come before that are told to try again".to_owned(),
        _ => format!(
            "proposed, as a {}: it comes into force at {} (Unix seconds), unless it is vetoed",
            proposed.kind(),
            proposal.due_unix
        ),
    };
    let (version, kind, due_unix) = (proposed.version, proposed.kind(), proposed.due_unix);
    Ok(Taken { digest, version, kind, due_unix, said })
}

/// What those see who look, from the step on that writes it down.
struct Shown {
    proposed: Proposed,
    before: (Option<Proposed>, Option<u64>),
    shut: bool,
}

/// Shows what these entries propose, under the log's lock: nobody finds the one without the other. What tightens lets nobody in any
/// more.
fn show(app: &App, ledger: &Ledger, next: &Next, events: &[Event]) -> Option<Shown> {
    if events.is_empty() {
        return None;
    }
    let new = events.iter().find_map(|event| match event {
        Event::PolicyProposed { due_unix, .. } => Some(*due_unix),
        _ => None,
    });
    let known = || ledger.proposal(next.rules().digest()).map(|known| known.due_unix);
    let proposed = Proposed::of(next, new.or_else(known)?);
    let shut = proposed.tightens && !app.gate.is_shut();
    if shut {
        app.gate.shut();
    }
    let before = app.upcoming.set(proposed.clone());
    Some(Shown { proposed, before, shut })
}

impl Shown {
    /// It was not written down.
    fn take_back(self, app: &App) {
        app.upcoming.replace(self.before);
        if self.shut {
            app.gate.reopen();
        }
    }
}

/// Whoever listens hears of it.
fn tell(app: &App, next: &Next, proposed: &Proposed, way: &str) {
    let (version, digest) = (proposed.version, hex::encode(proposed.digest));
    let names: Vec<String> = proposed.officers.iter().map(ToString::to_string).collect();
    match next {
        Next::AtOnce(_) => tracing::warn!(
            version,
            digest,
            way,
            "a policy was handed in that provably only tightens: the signer starts anew under it"
        ),
        Next::After(..) => said(next.rules(), proposed.due_unix),
        Next::Recovery(..) => {
            alarm(next.rules());
            said(next.rules(), proposed.due_unix);
        }
    }
    for notice in crate::officers::grpc::proposal(app) {
        app.notices.tell(notice.kind, notice.topic, &notice.reasons);
    }
    tracing::info!(version, way, officers = names.join(", "), "a policy was handed in");
}

/// A policy that may follow, and what is to be written of it.
struct Weighed {
    next: Next,
    signatures: String,
    /// It is proposed already, by as many: its delay goes on.
    known: bool,
}

impl Weighed {
    /// Reading and comparing policies would hold up others.
    async fn of(app: &Arc<App>, state_dir: &Path, handed_in: HandedIn) -> Result<Self, Refusal> {
        let (app, state_dir) = (Arc::clone(app), state_dir.to_owned());
        blocking(move || {
            let HandedIn { text, signatures, .. } = handed_in;
            let signed = SignedPolicy { text: &text, signatures: &signatures };
            let next = weigh(&app.log, &app.rules, &signed).map_err(refused)?;
            let rules = next.rules();
            rate::changes_something(&app.rules, rules)?;
            let fits = app.log.read(|ledger| servable(ledger, &state_dir, rules));
            fits.map_err(|error| {
                let text = format!("it could not be served here: {error}");
                Refusal::new(Reason::PolicyFollows, text)
            })?;
            let before = app.log.read(|ledger| ledger.proposal(rules.digest()));
            let known = before.is_some_and(|before| is_alike(&app.rules, rules, &before));
            Ok(Self { next, signatures, known })
        })
        .await
    }

    /// What else is proposed gives way, in the same step.
    fn entries(&self, app: &App, ledger: &Ledger, way: &str) -> Result<Vec<Event>, Refusal> {
        let digest = *self.next.rules().digest();
        rate::may_tighten(ledger, &app.rules, &self.next, app.clock.unix_seconds())?;
        let pushed = || Event::PolicyPushed {
            digest,
            signatures: self.signatures.clone(),
            way: way.to_owned(),
        };
        let withdrawn = |digest| Event::PolicyWithdrawn { digest };
        let open = ledger.proposed().into_iter();
        let mut events: Vec<Event> = open.filter(|other| *other != digest).map(withdrawn).collect();
        match ledger.proposal(&digest) {
            Some(Proposal { vetoed: true, .. }) => return Err(vetoed()),
            Some(Proposal { pushed: true, .. }) if self.known => {}
            // From now on it does not hang on the policy file.
            Some(_) if self.known => events.push(pushed()),
            before => {
                events.extend(before.map(|_| withdrawn(digest)));
                events.push(proposal(ledger, &self.next, &app.clock));
                events.push(pushed());
            }
        }
        Ok(events)
    }
}

/// Whether it may take the place of what is proposed already.
fn may_be_proposed(app: &App, next: &Next) -> Result<(), Refusal> {
    let Some(before) = app.open_proposal() else { return Ok(()) };
    if before.digest == *next.rules().digest() || pushed::gives_way(&before, next) {
        return Ok(());
    }
    if let Some(why) = &before.unserved {
        let text = format!(
            "version {} only tightens and cannot be served on this machine, and nothing comes before it: {why}",
            before.version
        );
        return Err(Refusal::new(Reason::PolicyFollows, text));
    }
    if before.tightens {
        let text = "another policy comes into force right now: try again in a moment";
        return Err(Refusal::new(Reason::Busy, text));
    }
    let text = format!(
        "version {} is proposed, as a {}: only a higher version takes its place, and no recovery that of a change; or veto it first",
        before.version,
        before.kind()
    );
    Err(Refusal::new(Reason::PolicyFollows, text))
}

fn vetoed() -> Refusal {
    let text =
        "this policy was vetoed, for good: give the text another version, and have it signed";
    Refusal::new(Reason::PolicyFollows, text)
}

fn refused(error: PolicyError) -> Refusal {
    let reason = match error {
        PolicyError::Governance(_) => Reason::PolicyFollows,
        _ => Reason::PolicyUnfit,
    };
    Refusal::new(reason, error.to_string())
}
