//! A request that must wait: written down once, with all that people need to judge it, and ended when its time is up. It
//! never says yes or no.

use audit::entry::{Asked, Awaiting, Event, Reason as Said};
use policy::Waiting;
use policy::intent::{Intent, RequestId};
use policy::waiting::Requirement;
use statement::intent::PAPER_BYTES_MAX;

use super::hear::topic;
use super::paper;
use crate::app::App;
use crate::ledger::{Ledger, People, Wait};
use crate::log::LogError;
use crate::refusal::{Reason, Refusal};
use crate::request::SigningRequest;

/// No request waits longer than a week, nor longer than an order that it pays.
const WAIT_SECONDS_MAX: u64 = 7 * 86_400;

/// No more wait at once: people could not look through them.
const WAITS_MAX: usize = 1000;

/// Nor more than three quarters of those for one client, so that none keeps the others out for a week.
const WAITS_OF_EACH_MAX: usize = 750;

/// The wait of this very request under the policy in force, if it has begun and is not over. The canonical intent is
/// written again and compared: what people approved is what would be signed.
#[must_use]
pub fn current<'a>(
    app: &App,
    ledger: &'a Ledger,
    request: &SigningRequest,
    now_unix: u64,
) -> Option<&'a Wait> {
    let wait = ledger.people().wait(request.intent().request)?;
    let same = || {
        let (asked, expires) = (wait.asked_unix, wait.expires_unix);
        paper::write(request, &app.rules, &app.wallets, asked, expires).digest() == wait.intent
    };
    let is_current = wait.policy == paper::policy_ref(&app.rules) && now_unix <= wait.expires_unix;
    (is_current && same()).then_some(wait)
}

/// The entry with which it begins to wait.
///
/// # Errors
/// [`Reason::Oversize`] when people could not be shown all of it, [`Reason::Busy`] when too much waits.
pub fn begin(
    app: &App,
    ledger: &Ledger,
    request: &SigningRequest,
    waiting: &Waiting,
    now_unix: u64,
) -> Result<Event, Refusal> {
    has_room(ledger.people(), request.intent())?;
    let orders = request.intent().orders.iter().map(|order| order.order().expires_unix);
    let week = now_unix.saturating_add(WAIT_SECONDS_MAX);
    let expires_unix = orders.fold(week, u64::min);
    let paper = paper::write(request, &app.rules, &app.wallets, now_unix, expires_unix).encode();
    let too_large = || {
        let text = "this request waits for people, who could not be shown so many coins, outputs or parents: split it";
        Refusal::new(Reason::Oversize, text)
    };
    let shown = request.shown().ok_or_else(too_large)?;
    let intent = String::from_utf8(paper).ok().filter(|text| text.len() <= PAPER_BYTES_MAX);
    let asked = |requirement: &Requirement| Asked {
        rule: requirement.rule().to_string(),
        code: requirement.code().to_owned(),
        text: requirement.to_string(),
    };
    let trace = request.trace(&app.token.info().serial, &waiting.trace);
    Ok(Event::Awaiting(Awaiting {
        spend: request.reservation(app.rules.version(), trace),
        intent: intent.ok_or_else(too_large)?,
        psbt: shown.psbt,
        parents: shown.parents,
        orders: shown.orders,
        requirements: waiting.requirements.iter().map(asked).collect(),
        expires_unix,
    }))
}

/// Whether one more may begin to wait, beside all others and those of its client. What waited under another policy has its
/// place already.
fn has_room(people: &People, intent: &Intent) -> Result<(), Refusal> {
    let others = || people.waits().filter(|(request, _)| **request != intent.request);
    let own = others().filter(|(_, wait)| wait.caller == intent.caller);
    if others().count() < WAITS_MAX && own.count() < WAITS_OF_EACH_MAX {
        return Ok(());
    }
    let text = "too many requests wait for people already: try again later with the same key";
    Err(Refusal::new(Reason::Busy, text))
}

/// What a caller hears: that people or time are waited for, never who or until when.
#[must_use]
pub fn in_general(requirements: &[Requirement]) -> Vec<(&'static str, &'static str)> {
    let mut said = vec![(
        "waiting",
        "nothing is wrong with this request, and it is not allowed yet: ask again later with the same key",
    )];
    for requirement in requirements {
        let text = match requirement {
            Requirement::Approvals(_) => "it needs the approval of officers",
            Requirement::Delay(_) => "it has to wait for some time",
            Requirement::Hours(_) => "it is signed in office hours only",
            Requirement::Screening(_) => "destinations have to be screened against a newer list",
            Requirement::Books(_) => "the books have to be found balanced first",
            _ => "it needs something that the policy asks for",
        };
        if said.iter().all(|(code, _)| *code != requirement.code()) {
            said.push((requirement.code(), text));
        }
    }
    said
}

/// Ends every wait whose time is up, and gives back what it reserved.
///
/// # Errors
/// [`LogError`].
pub async fn end_expired(app: &App) -> Result<(), LogError> {
    let expired = |ledger: &Ledger| -> Vec<RequestId> {
        let now = ledger.not_before_latest(app.clock.unix_seconds());
        let waits = ledger.people().waits();
        waits.filter(|(_, wait)| now > wait.expires_unix).map(|(request, _)| *request).collect()
    };
    if app.log.read(|ledger| expired(ledger).is_empty()) {
        return Ok(());
    }
    let mut ended = Vec::new();
    let note = |ledger: &Ledger| {
        let expired = expired(ledger);
        ended = expired.iter().map(|request| topic(app, ledger, *request)).collect();
        expired
            .iter()
            .map(|request| over(*request, "expired", "nobody met its requirements in time"))
            .collect()
    };
    app.log.note(note).await?;
    for topic in ended {
        app.notices.tell("ended", topic, &[("expired", "it waits no longer")]);
    }
    Ok(())
}

/// The entry with which a wait ends.
pub(super) fn over(request: RequestId, code: &str, text: &str) -> Event {
    let reason = Said { code: code.to_owned(), text: text.to_owned() };
    Event::WaitEnded { request: request.0, reason }
}
