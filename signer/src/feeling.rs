//! Counts denials of which callers hear nothing but that there was one: so many in a while may be somebody who feels for a limit. It
//! raises an alarm for officers, and never keeps anybody from asking: who hits a limit honestly is bidden to ask again.

use std::sync::atomic::{AtomicU64, Ordering};

use policy::Finding;

use crate::abuse::{Abuse, Excess};
use crate::config::Limits;
use crate::hidden::is_told;

/// The counts.
#[derive(Debug)]
pub struct Feeling {
    denials: Abuse,
    alarms: AtomicU64,
}

impl Feeling {
    /// With these limits.
    #[must_use]
    pub fn new(limits: &Limits) -> Self {
        let denials = Abuse::within(limits.hidden_denials, limits.hidden_denials_seconds);
        Self { denials, alarms: AtomicU64::new(0) }
    }

    /// Counts a denial, unless it names what the caller can mend; says so if there were too many, and begins anew.
    pub fn count(&self, client: &str, reasons: &[Finding]) -> Option<Excess> {
        if reasons.iter().any(|finding| is_told(finding.rule)) {
            return None;
        }
        let code = reasons.first()?.rule.code();
        let excess = self.denials.count(client, code)?;
        self.alarms.fetch_add(1, Ordering::Relaxed);
        Some(excess)
    }

    /// How often there were too many, since this signer's start.
    #[must_use]
    pub fn alarms(&self) -> u64 {
        self.alarms.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use policy::RuleId;
    use policy::reason::Verdict;

    use super::*;

    #[test]
    fn what_a_caller_can_mend_is_no_feeling_for_limits() {
        let hidden_denials = NonZeroU32::new(3).unwrap();
        let feeling = Feeling::new(&Limits { hidden_denials, ..Limits::default() });
        let finding =
            |rule| Finding { rule, verdict: Verdict::Deny, text: String::new(), name: None };
        let (limit, fee) = (finding(RuleId::LimitSum), finding(RuleId::FeeBudget));
        for _ in 0..10 {
            let told = [finding(RuleId::IndexWindow), limit.clone()];
            assert_eq!(feeling.count("a", &told), None);
        }
        assert_eq!(feeling.count("a", std::slice::from_ref(&limit)), None);
        assert_eq!(feeling.count("b", std::slice::from_ref(&fee)), None);
        assert_eq!(feeling.count("a", std::slice::from_ref(&fee)), None);
        assert_eq!(feeling.alarms(), 0);
        let excess = feeling.count("a", &[limit]).unwrap();
        assert_eq!((excess.refusals, excess.seconds), (3, 3_600));
        assert_eq!(excess.codes, ["fee-budget", "limit-sum"]);
        assert_eq!(feeling.alarms(), 1);
        assert_eq!(feeling.count("a", &[fee]), None, "it begins anew");
    }
}
