//! What a caller hears of a denial: what it can mend in its own request or grants by name, and of everything else that the policy
//! weighs one code that is always the same. It never tells which limit, list or freeze it was, nor how much was left.

use policy::intent::RequestId;
use policy::{Finding, RuleId};

/// The one code for every rule that callers do not hear of.
pub const HIDDEN: &str = "policy-denied";

/// Whether a caller hears this rule by its name: such a rule speaks of what the caller sent or was granted, of its own
/// coins and orders, or of what it must know to ask right. A rule nobody thought of here is not told.
#[must_use]
pub fn is_told(rule: RuleId) -> bool {
    matches!(
        rule,
        RuleId::UnknownLane
            | RuleId::LaneCaller
            | RuleId::LaneWallet
            | RuleId::LaneExpired
            | RuleId::GrantWallet
            | RuleId::GrantExpired
            | RuleId::ClientExpired
            | RuleId::NoInputs
            | RuleId::DuplicateInput
            | RuleId::WrongAsset
            | RuleId::EmptyOutput
            | RuleId::OwnOutputs
            | RuleId::Overflow
            | RuleId::Unbalanced
            | RuleId::MissingEvidence
            | RuleId::IndexWindow
            | RuleId::IndexUnproven
            | RuleId::SlotRepriced
            | RuleId::SlotSigned
            | RuleId::SlotVersions
            | RuleId::SweepExternal
            | RuleId::SweepOrder
            | RuleId::ColdWallet
            | RuleId::WithdrawCold
            | RuleId::NoOrder
            | RuleId::OutputUnordered
            | RuleId::OrderMismatch
            | RuleId::OrderUnpaid
            | RuleId::OrderTwice
            | RuleId::OrderExpired
            | RuleId::OrderChanged
            | RuleId::OrderPaid
            | RuleId::ConsolidateOnly
            | RuleId::ConsolidateFewer
            | RuleId::EvacuateOnly
            | RuleId::BumpNothing
            | RuleId::BumpCoins
            | RuleId::BumpFee
            | RuleId::BumpOwn
    )
}

/// What callers are told by its code alone: the sentence names rules, windows and totals, and is for the operators.
const MISSING: &str = "the log has no one answer to what the rules ask: this is a fault, not a limit; tell the operators";

/// Codes and sentences for the caller. While something is wrong that it can mend, it hears of nothing else: a request that
/// could never be signed is no way to feel for a limit.
#[must_use]
pub fn for_caller(request: RequestId, reasons: &[Finding]) -> Vec<(&'static str, String)> {
    let mut told: Vec<_> = reasons
        .iter()
        .filter(|finding| is_told(finding.rule))
        .map(|finding| (finding.rule.code(), sentence(finding)))
        .collect();
    // Once, however many rules asked.
    let mut missing = false;
    told.retain(|(_, text)| text != MISSING || !std::mem::replace(&mut missing, true));
    if !told.is_empty() {
        return told;
    }
    let id = hex::encode(request.0);
    let text = format!(
        "the policy does not allow this request; officers find the rules under its id {id}. The same key may be asked again \
         later, and is decided anew"
    );
    vec![(HIDDEN, text)]
}

fn sentence(finding: &Finding) -> String {
    match finding.rule {
        RuleId::MissingEvidence => MISSING.to_owned(),
        _ => finding.text.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(rule: RuleId) -> Finding {
        let text = format!("{rule}: 19.5 BTC of 20 BTC");
        Finding { rule, verdict: policy::reason::Verdict::Deny, text, name: None }
    }

    #[test]
    fn what_maps_the_policy_out_is_one_answer_whatever_it_was() {
        let request = RequestId([7; 16]);
        let hidden: Vec<_> = RuleId::ALL.iter().filter(|rule| !is_told(**rule)).collect();
        let one = for_caller(request, &[finding(RuleId::LimitSum)]);
        assert_eq!(one[0].0, HIDDEN);
        assert!(one[0].1.contains(&"07".repeat(16)), "{one:?}");
        for rule in &hidden {
            assert_eq!(for_caller(request, &[finding(**rule)]), one, "{rule}");
        }
        let all: Vec<_> = hidden.into_iter().map(|rule| finding(*rule)).collect();
        assert_eq!(for_caller(request, &all), one);
    }

    #[test]
    fn what_the_log_does_not_answer_is_told_in_the_same_words_whatever_was_asked() {
        let request = RequestId([7; 16]);
        for text in ["", "limit \"night\" in 24 hours", "rule \"large\"", "19.5 BTC of 20 BTC"] {
            let missing = Finding { text: text.to_owned(), ..finding(RuleId::MissingEvidence) };
            let told = for_caller(request, &[missing.clone(), missing]);
            assert_eq!(told, [("missing-evidence", MISSING.to_owned())], "{text}");
        }
    }

    #[test]
    fn what_is_held_back_without_a_decision_has_the_same_code() {
        assert_eq!(crate::refusal::Reason::PolicyDenied.code(), HIDDEN);
    }

    #[test]
    fn a_request_that_is_wrong_by_itself_feels_for_no_limit() {
        let request = RequestId([7; 16]);
        let wrong = finding(RuleId::IndexWindow);
        let alone = for_caller(request, std::slice::from_ref(&wrong));
        assert_eq!(alone[0].0, "index-window");
        assert_eq!(for_caller(request, &[finding(RuleId::FeeBudget), wrong]), alone);
    }

    #[test]
    fn the_page_says_who_hears_what() {
        let page = include_str!("../../docs/reasons.md");
        let (told, hidden) = page.split_once("### Told to officers alone").unwrap();
        let (hidden, _) = hidden.split_once("\n## ").unwrap();
        assert!(told.contains(&format!("| `{HIDDEN}` |")));
        for rule in RuleId::ALL {
            let line = format!("\n| `{rule}` |");
            let waits =
                matches!(rule.code(), "approvals" | "delay" | "hours" | "screening" | "books");
            let place = if is_told(*rule) { told } else { hidden };
            assert!(waits || place.contains(&line), "{rule} has no line where it belongs");
        }
    }
}
