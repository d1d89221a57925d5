//! Counts what each client asked for that can never be right, and says when it is too much. It never counts a limit, a fee
//! or a fault of our own, and never forgets within its window.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::num::NonZeroU32;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use policy::Finding;
use policy::RuleId;

use crate::config::Limits;
use crate::refusal::{Class, Reason};

/// Names counted at once. All of them have certificates; beyond that, the one that was quiet for longest is forgotten.
const NAMES_MAX: usize = 256;

/// The counts.
#[derive(Debug)]
pub struct Abuse {
    refusals: u32,
    seconds: u32,
    clients: Mutex<HashMap<String, VecDeque<(Instant, &'static str)>>>,
}

/// A client that asked too often.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Excess {
    /// How often within the window.
    pub refusals: u32,
    /// The window.
    pub seconds: u32,
    /// What for.
    pub codes: Vec<String>,
}

impl Abuse {
    /// With these limits.
    #[must_use]
    pub fn new(limits: &Limits) -> Self {
        Self::within(limits.structural_refusals, limits.structural_seconds)
    }

    /// So many within so many seconds.
    #[must_use]
    pub(crate) fn within(refusals: NonZeroU32, seconds: NonZeroU32) -> Self {
        Self { refusals: refusals.get(), seconds: seconds.get(), clients: Mutex::default() }
    }

    /// Counts one more; says so if it is too much, and begins anew.
    pub fn count(&self, client: &str, code: &'static str) -> Option<Excess> {
        self.count_at(client, code, Instant::now())
    }

    fn count_at(&self, client: &str, code: &'static str, now: Instant) -> Option<Excess> {
        let window = Duration::from_secs(self.seconds.into());
        let most = usize::try_from(self.refusals).unwrap_or(usize::MAX);
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if clients.len() >= NAMES_MAX && !clients.contains_key(client) {
            let last = |seen: &VecDeque<(Instant, &str)>| seen.back().map(|(at, _)| *at);
            let quiet = clients.iter().min_by_key(|(_, seen)| last(seen));
            if let Some(quiet) = quiet.map(|(name, _)| name.clone()) {
                clients.remove(&quiet);
            }
        }
        let seen = clients.entry(client.to_owned()).or_default();
        seen.push_back((now, code));
        while seen.front().is_some_and(|(at, _)| now.saturating_duration_since(*at) > window) {
            seen.pop_front();
        }
        if seen.len() < most {
            return None;
        }
        let seen = clients.remove(client)?;
        let codes: BTreeSet<&str> = seen.iter().map(|(_, code)| *code).collect();
        Some(Excess {
            refusals: self.refusals,
            seconds: self.seconds,
            codes: codes.into_iter().map(str::to_owned).collect(),
        })
    }
}

/// Whether nobody who asks honestly gets this: what was sent, or was asked for, can never be right.
#[must_use]
pub fn is_structural(reason: Reason) -> bool {
    match reason.class() {
        // What officers say badly is no reason to keep their next word out.
        _ if reason.code().starts_with("statement-") || reason == Reason::PolicyUnfit => false,
        // What a grant leaves of its lane may be granted anew: nobody who asked before is locked out of every lane for it.
        Class::Invalid | Class::NotGranted => {
            !matches!(reason, Reason::ClientLocked | Reason::GrantWallet | Reason::GrantExpired)
        }
        Class::NotFound => true,
        Class::Exhausted => reason == Reason::Oversize,
        Class::Exists
        | Class::Precondition
        | Class::Unavailable
        | Class::Deadline
        | Class::Internal => false,
    }
}

/// The first of a denial's findings that is no limit, no fee and no matter of time or of what happened before. Each is told
/// to the caller: nobody is locked out for what they were bidden to ask again.
#[must_use]
pub fn structural(findings: &[Finding]) -> Option<&'static str> {
    let never_right = |rule: RuleId| {
        matches!(
            rule,
            RuleId::UnknownLane
                | RuleId::LaneCaller
                | RuleId::LaneWallet
                | RuleId::NoInputs
                | RuleId::DuplicateInput
                | RuleId::WrongAsset
                | RuleId::EmptyOutput
                | RuleId::Unbalanced
                | RuleId::SlotRepriced
                | RuleId::SweepExternal
                | RuleId::SweepOrder
                | RuleId::ColdWallet
                | RuleId::WithdrawCold
                | RuleId::NoOrder
                | RuleId::OutputUnordered
                | RuleId::OrderMismatch
                | RuleId::OrderUnpaid
                | RuleId::OrderTwice
                | RuleId::OrderChanged
                | RuleId::ConsolidateOnly
                | RuleId::EvacuateOnly
                | RuleId::BumpOwn
        )
    };
    findings.iter().map(|finding| finding.rule).find(|rule| never_right(*rule)).map(RuleId::code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_within_the_window_are_too_much_and_the_count_begins_anew() {
        let some = |number| std::num::NonZeroU32::new(number).unwrap();
        let (structural_refusals, structural_seconds) = (some(3), some(10));
        let limits = Limits { structural_refusals, structural_seconds, ..Limits::default() };
        let abuse = Abuse::new(&limits);
        let begun = Instant::now();
        let count = |client: &str, code, after| {
            abuse.count_at(client, code, begun + Duration::from_secs(after))
        };
        assert_eq!(count("a", "bad-psbt", 0), None);
        assert_eq!(count("b", "bad-psbt", 0), None);
        assert_eq!(count("a", "bad-psbt", 6), None);
        // The first is too long ago by then.
        assert_eq!(count("a", "no-fee", 12), None);
        let excess = count("a", "bad-psbt", 15).unwrap();
        assert_eq!((excess.refusals, excess.codes), (3, vec!["bad-psbt".into(), "no-fee".into()]));
        assert_eq!(count("a", "bad-psbt", 15), None);
    }

    #[test]
    fn names_do_not_fill_memory() {
        let abuse = Abuse::new(&Limits::default());
        for number in 0..2_000 {
            abuse.count(&format!("client-{number}"), "bad-psbt");
        }
        assert!(abuse.clients.lock().unwrap().len() <= NAMES_MAX);
    }

    #[test]
    fn what_locks_a_caller_out_is_told() {
        let mut counted = 0;
        for rule in RuleId::ALL {
            let (verdict, text) = (policy::reason::Verdict::Deny, String::new());
            let code = structural(&[Finding { rule: *rule, verdict, text, name: None }]);
            assert!(code.is_none() || crate::hidden::is_told(*rule), "{rule}");
            counted += usize::from(code.is_some());
        }
        assert!(counted > 0);
    }

    #[test]
    fn what_is_left_of_a_grant_is_not_abuse_and_what_a_lane_never_had_is() {
        let code = |rule| {
            let (verdict, text) = (policy::reason::Verdict::Deny, String::new());
            structural(&[Finding { rule, verdict, text, name: None }])
        };
        for rule in [RuleId::GrantWallet, RuleId::GrantOrderKey, RuleId::GrantExpired] {
            assert_eq!(code(rule), None, "{rule}");
        }
        assert_eq!(code(RuleId::LaneWallet), Some("lane-wallet"));
        assert_eq!(code(RuleId::LaneCaller), Some("lane-caller"));
    }

    #[test]
    fn limits_and_our_own_faults_are_not_abuse() {
        for reason in [
            Reason::BadPsbt,
            Reason::ForeignInput,
            Reason::UnknownLane,
            Reason::LaneCaller,
            Reason::LaneWallet,
        ] {
            assert!(is_structural(reason), "{reason}");
        }
        for reason in [
            Reason::Busy,
            Reason::TokenUnavailable,
            Reason::Deadline,
            Reason::InputNotProven,
            Reason::IdempotencyKeyReused,
            Reason::ClientLocked,
            Reason::GrantExpired,
            Reason::GrantWallet,
        ] {
            assert!(!is_structural(reason), "{reason}");
        }
    }
}
