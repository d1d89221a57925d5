//! The one decision: intent, evidence, rules and the time go in, an answer comes out. It never asks anything else.

use alloc::vec::Vec;

use crate::evidence::Evidence;
use crate::intent::{Intent, RequestId};
use crate::reason::{Finding, Trace};
use crate::rules::Rules;
use crate::{fees, lane, slots, structure, sweep, withdraw};

/// The answer.
#[derive(Debug)]
#[must_use]
pub enum Decision {
    /// No, and why.
    Deny(Denial),
    /// Not yet: these must be met first.
    Await(Vec<Requirement>),
    /// Yes, once.
    Allow(Authorization),
}

/// Why not.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Denial {
    /// Every rule that speaks against it; never empty.
    pub reasons: Vec<Finding>,
    /// Every rule looked at.
    pub trace: Trace,
}

/// Something people must do before an intent may be allowed. No rule asks for one yet, so there is none.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Requirement {}

/// Leave to sign one transaction, once. Only [`decide`] makes it, and it cannot be copied.
#[derive(Debug)]
#[must_use]
pub struct Authorization {
    granted: Granted,
}

/// What an [`Authorization`] was about.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Granted {
    /// The request.
    pub request: RequestId,
    /// The canonical request's digest.
    pub digest: [u8; 32],
    /// The policy that allowed it.
    pub policy_version: u64,
    /// Every rule looked at and what it said.
    pub trace: Trace,
}

impl Authorization {
    /// What it is about.
    #[must_use]
    pub fn granted(&self) -> &Granted {
        &self.granted
    }

    /// Uses it up.
    #[must_use]
    pub fn into_parts(self) -> Granted {
        self.granted
    }
}

/// Decides. Every rule is looked at, so that a denial names all reasons at once; their order means nothing.
pub fn decide(intent: &Intent, evidence: &Evidence, rules: &Rules, now_unix: u64) -> Decision {
    let mut trace = Trace::default();
    let totals = structure::check(intent, evidence, rules, &mut trace);
    slots::check(intent, evidence, &mut trace);
    if let Some(lane) = lane::check(intent, rules, now_unix, &mut trace) {
        sweep::check(intent, lane, totals.as_ref(), &mut trace);
        withdraw::check(intent, evidence, rules, lane, now_unix, &mut trace);
        fees::check(intent, evidence, lane, totals.as_ref(), &mut trace);
    }
    let reasons: Vec<Finding> = trace.denials().cloned().collect();
    if reasons.is_empty() {
        let (request, digest) = (intent.request, intent.digest);
        let granted = Granted { request, digest, policy_version: rules.version(), trace };
        Decision::Allow(Authorization { granted })
    } else {
        Decision::Deny(Denial { reasons, trace })
    }
}
