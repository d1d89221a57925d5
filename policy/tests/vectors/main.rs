//! One denying vector for every rule, and what is allowed beside it; `docs/reasons.md` explains each code. The vectors are in
//! files by what they are about.
#![allow(
    unreachable_pub,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::arithmetic_side_effects,
    reason = "a test fails by panicking"
)]

#[path = "../common/mod.rs"]
mod common;
mod bumping;
mod coins;
mod granting;
mod inward;
mod making;
mod money;
mod paying;
mod requiring;
mod stopping;
mod structure;
mod texts;

use common::{Case, Knobs};
use making::{Sound, Vector, foreign, withdraw};
use policy::{Decision, RuleId};

fn denied() -> impl Iterator<Item = &'static Vector> {
    [
        bumping::DENIED,
        coins::DENIED,
        granting::DENIED,
        inward::DENIED,
        money::DENIED,
        paying::DENIED,
        requiring::DENIED,
        stopping::DENIED,
        structure::DENIED,
    ]
    .into_iter()
    .flatten()
}

fn allowed() -> impl Iterator<Item = &'static Sound> {
    [
        bumping::ALLOWED,
        coins::ALLOWED,
        granting::ALLOWED,
        inward::ALLOWED,
        money::ALLOWED,
        paying::ALLOWED,
        requiring::ALLOWED,
        stopping::ALLOWED,
        structure::ALLOWED,
    ]
    .into_iter()
    .flatten()
}

/// What is not denied, and not allowed yet.
fn waiting() -> impl Iterator<Item = &'static Vector> {
    [inward::WAITING, requiring::WAITING].into_iter().flatten()
}

#[test]
fn every_waiting_vector_waits_for_its_requirements() {
    for (name, case, expected) in waiting() {
        let (found, decision) = (case().reasons(), case().decide());
        assert!(matches!(decision, Decision::Await(_)), "{name}: {decision:?}");
        assert_eq!(found, *expected, "{name}: {decision:?}");
    }
}

#[test]
fn every_denied_vector_is_denied_for_its_reasons() {
    for (name, case, expected) in denied() {
        let mut expected = expected.to_vec();
        expected.sort();
        assert_eq!(case().reasons(), expected, "{name}: {:?}", case().decide());
    }
}

#[test]
fn every_allowed_vector_is_allowed() {
    for (name, case) in allowed() {
        assert_eq!(case().reasons(), [], "{name}: {:?}", case().decide());
    }
}

/// On both sides: a vector that the rule lets pass, and one that it does not.
#[test]
fn every_rule_has_vectors_and_a_line() {
    let passed: std::collections::BTreeSet<RuleId> = allowed()
        .flat_map(|(name, case)| {
            match case().decide() {
                Decision::Allow(authorization) => authorization.into_parts().trace,
                other => panic!("{name}: {other:?}"),
            }
            .findings()
            .iter()
            .map(|finding| finding.rule)
            .collect::<Vec<_>>()
        })
        .collect();
    let page = include_str!("../../../docs/reasons.md");
    for rule in RuleId::ALL {
        let line = format!("\n| `{rule}` | ");
        assert_eq!(page.matches(&line).count(), 1, "docs/reasons.md needs one line for {rule}");
        let vector = denied().chain(waiting()).any(|(_, _, expected)| expected.contains(rule));
        assert!(vector, "no denying vector for {rule}");
        assert!(passed.contains(rule), "no allowing vector for {rule}");
    }
}

#[test]
fn an_authorization_says_what_it_is_about() {
    let case = Case::sweep(&Knobs::default());
    let Decision::Allow(authorization) = case.decide() else { panic!("must be allowed") };
    assert_eq!(authorization.granted().digest, case.intent.digest);
    let granted = authorization.into_parts();
    assert_eq!(granted.request, case.intent.request);
    assert_eq!(granted.policy_version, case.rules.version());
    assert_eq!(granted.trace.denials().count(), 0);
    assert!(
        granted
            .trace
            .lines()
            .iter()
            .any(|line| line.starts_with("pass fee-budget: 5000 in 3600 s"))
    );
}

#[test]
fn a_flood_of_outputs_is_one_line_in_the_trace() {
    let case = withdraw(|c| c.intent.transfers.extend((0..2_000).map(|_| foreign(9, 1))));
    let Decision::Deny(denial) = case.decide() else { panic!("must be denied") };
    assert!(denial.trace.findings().len() < 50);
    let text = &denial.reasons.iter().find(|f| f.rule == RuleId::OutputUnordered).unwrap().text;
    assert!(text.ends_with("(2000 of 2003 outputs fail)"), "{text}");
}
