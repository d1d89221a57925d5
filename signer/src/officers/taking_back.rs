//! What officers take back of what is signed and not let out yet: a no, or an approval without which too few are left. It holds the
//! answer back for good. It never calls back what was let out, and never says that it did.
//!
//! The moment is when the entry with the answer counts, as all witnesses that the policy requires saw it: nobody was told the
//! answer before, since it is told by those alone who waited for that. Here that is asked under the log's lock, and whoever tells
//! an answer looks under the same lock for what was said, last of all: either it finds this word, or this word is refused.

use std::collections::BTreeSet;

use audit::entry::{Event, Reason as Said};
use policy::intent::RequestId;
use policy::names::{KeyName, RuleName};
use statement::{About, Says};

use super::{hear, testify};
use crate::app::App;
use crate::ledger::{Ledger, Wait, Word};
use crate::refusal::{Reason, Refusal};

/// What is to be written beside a statement, and what came of it.
type Taken = (Vec<Event>, String);

/// The wait of the very request that a statement is about, if it is signed and not let out. The policy may have changed since:
/// this one waits for no other.
pub(super) fn leaving<'a>(app: &App, ledger: &'a Ledger, about: &About) -> Option<&'a Wait> {
    let wait = not_let_out(app, ledger, about.request)?;
    (wait.intent == about.intent && wait.policy == about.policy).then_some(wait)
}

/// What a request waited for that is signed and does not count.
fn not_let_out<'a>(app: &App, ledger: &'a Ledger, request: RequestId) -> Option<&'a Wait> {
    let answer = ledger.request(request)?.answer?;
    let wait = ledger.people().leaving(request)?;
    (app.log.counts() <= answer.seq).then_some(wait)
}

/// An officer said no to it, who may.
pub(super) fn objected(
    app: &App,
    ledger: &Ledger,
    request: RequestId,
    (what, officer): (&str, &KeyName),
) -> Taken {
    let text = format!("{officer} said no when it was signed and had not been let out");
    let may_have_left = may_have_left(app, ledger, request);
    let mut events = vec![withheld(app, request, (what, text), may_have_left)];
    if may_have_left {
        let said = "what is signed is told to nobody from here on; whether it was told before this signer's last start, nobody can say";
        return (events, said.to_owned());
    }
    let orders = ledger.people().leaving(request).map(|wait| wait.orders.as_slice());
    let about = (request, orders.unwrap_or_default());
    events.extend(hear::others_over(ledger, about, what, officer));
    (events, "what is signed will never be let out, nor its orders paid by another".to_owned())
}

/// An officer takes an approval back that a signed request has.
///
/// # Errors
/// [`Reason::StatementNothing`] when the answer was let out.
pub(super) fn revoked(
    app: &App,
    ledger: &Ledger,
    (request, given): (RequestId, &Word),
    now_unix: u64,
) -> Result<Taken, Refusal> {
    let Some(wait) = not_let_out(app, ledger, request) else {
        let text = "the request has its signatures, and they were let out: nothing calls that back";
        return Err(Refusal::new(Reason::StatementNothing, text));
    };
    let officer = &given.officer;
    if is_enough_without(app, (request, wait), given, now_unix) {
        return Ok((
            Vec::new(),
            "the approval counts no longer; what is signed has enough others".to_owned(),
        ));
    }
    let text =
        format!("{officer} took an approval back when it was signed and had not been let out");
    let event = withheld(app, request, ("revoked", text), may_have_left(app, ledger, request));
    Ok((vec![event], "what is signed is told to nobody from here on, for good".to_owned()))
}

/// Whether every rule that asks this officer has what it asks without this approval. Where none asks any more, nobody can say.
fn is_enough_without(
    app: &App,
    (request, wait): (RequestId, &Wait),
    without: &Word,
    now_unix: u64,
) -> bool {
    let about = |says: &Says| match says {
        Says::Approve(about) => {
            about.request == request && about.intent == wait.intent && about.policy == wait.policy
        }
        _ => false,
    };
    let orderers = app.rules.orderers(|key| wait.orders.iter().any(|order| order.key == *key));
    let others = wait.approvals.iter().filter(|other| other.officer != without.officer);
    let others = others.filter(|other| testify::holds(&app.rules, other, now_unix, about));
    let by: BTreeSet<&KeyName> =
        others.map(|other| &other.officer).filter(|officer| !orderers.contains(officer)).collect();
    let rules = wait.rules.iter().filter_map(|rule| RuleName::parse(rule).ok());
    let mut asking = rules.filter(|rule| app.rules.asks(rule, &without.officer)).peekable();
    asking.peek().is_some() && asking.all(|rule| app.rules.is_approved(&rule, &by))
}

/// Whether it may have counted before this signer's last start: from then on it counts anew.
fn may_have_left(app: &App, ledger: &Ledger, request: RequestId) -> bool {
    let answer = ledger.request(request).and_then(|request| request.answer);
    answer.is_none_or(|answer| answer.seq < app.log.opening().size)
}

fn withheld(app: &App, request: RequestId, (code, text): (&str, String), left: bool) -> Event {
    Event::Withheld {
        request: request.0,
        policy: app.rules.version(),
        reason: Said { code: code.to_owned(), text },
        may_have_left: left,
    }
}

/// What listeners hear of such an entry.
pub(super) fn told(event: &Event) -> Option<(RequestId, String, String)> {
    match event {
        Event::Withheld { request, reason, .. } => {
            Some((RequestId(*request), reason.code.clone(), reason.text.clone()))
        }
        _ => None,
    }
}
