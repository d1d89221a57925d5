//! What officers said, as evidence for one decision: every signature is verified again, by the key that the policy in
//! force has. It never counts what was said about another intent, another policy, or by somebody who is no officer any more.

use policy::Evidence;
use policy::Rules;
use policy::evidence::{Approval, Freeze, Objection};
use statement::Says;

use super::wait;
use crate::app::App;
use crate::ledger::{Ledger, Word};
use crate::request::SigningRequest;

/// Adds it to what the log says otherwise.
#[must_use]
pub fn testify(
    app: &App,
    ledger: &Ledger,
    request: &SigningRequest,
    evidence: Evidence,
    now_unix: u64,
) -> Evidence {
    let people = ledger.people();
    let wait = wait::current(app, ledger, request, now_unix);
    let approvals = wait.map(|wait| {
        let holds = |given: &&Word| {
            let about = |says: &Says| match says {
                Says::Approve(about) => {
                    about.request == request.intent().request
                        && about.intent == wait.intent
                        && about.policy == wait.policy
                }
                _ => false,
            };
            holds(&app.rules, given, now_unix, about)
        };
        let approval = |given: &Word| Approval {
            officer: given.officer.clone(),
            at_unix: given.at_unix,
            expires_unix: given.expires_unix,
        };
        wait.approvals.iter().filter(holds).map(approval).collect()
    });
    let objections = |veto: bool| {
        let all = people.objections(request.intent().request).iter();
        let these = all.filter(|objection| objection.veto == veto);
        these
            .map(|objection| Objection {
                officer: objection.officer.clone(),
                at_unix: objection.at_unix,
            })
            .collect::<Vec<_>>()
    };
    let freezes = people.freezes().map(|(_, frozen)| Freeze {
        scope: frozen.scope.clone(),
        officer: frozen.officer.clone(),
        at_unix: frozen.at_unix,
    });
    evidence
        .approvals(approvals.unwrap_or_default())
        .rejections(objections(false))
        .vetoes(objections(true))
        .freezes(freezes.collect())
        .asked_unix(wait.map(|wait| wait.asked_unix))
}

/// Whether a statement that was taken in still counts: by the officer's key in this policy, in time, about this.
pub(crate) fn holds(
    rules: &Rules,
    given: &Word,
    now_unix: u64,
    about: impl FnOnce(&Says) -> bool,
) -> bool {
    let Some(officer) = rules.officer(&given.officer) else { return false };
    let said = given.signed.verify(&officer.key);
    now_unix <= given.expires_unix
        && said.is_ok_and(|said| said.officer == given.officer && about(&said.says))
}
