//! What must still be met before an intent may be signed, typed and in words. It never says how to meet it without
//! the people or the time that the policy names.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use crate::names::{KeyName, RuleName};
use crate::people::{Quorum, Share};
use crate::reason::{Finding, RuleId, Trace};

/// The answer "not yet".
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Waiting {
    /// Everything that must be met; never empty. They add up.
    pub requirements: Vec<Requirement>,
    /// Every rule looked at.
    pub trace: Trace,
}

impl Waiting {
    /// What is waited for, as rules and sentences.
    #[must_use]
    pub fn findings(&self) -> Vec<Finding> {
        self.trace.waits().cloned().collect()
    }

    /// When it may be looked at again, if nothing but time is waited for.
    #[must_use]
    pub fn until_unix(&self) -> Option<u64> {
        let times = self.requirements.iter().map(|requirement| match requirement {
            Requirement::Delay(delay) if !delay.held => Some(delay.until_unix),
            Requirement::Hours(hours) if !hours.held => Some(hours.opens_unix),
            _ => None,
        });
        times.collect::<Option<Vec<_>>>()?.into_iter().max()
    }
}

/// One thing that must be met before an intent may be signed.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Requirement {
    /// People must approve.
    Approvals(Approvals),
    /// Time must pass.
    Delay(Delay),
    /// It must be office hours.
    Hours(Opening),
    /// Destinations must be screened against a newer list.
    Screening(Fresh),
    /// The books must be found balanced again.
    Books(Fresh),
}

/// Who must approve, and who did.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Approvals {
    /// Which rule asks: a requirement, or the lane itself.
    pub rule: RuleName,
    /// What it asks.
    pub quorum: Quorum,
    /// For each way, each of its shares and how many of it are there.
    pub ways: Vec<Vec<Progress>>,
    /// Whose approvals count now.
    pub given: Vec<KeyName>,
    /// Who can still give one: not those who ordered it.
    pub can_give: Vec<KeyName>,
}

/// How far one share of a quorum is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Progress {
    /// The share.
    pub share: Share,
    /// How many people of its groups have approved.
    pub given: u32,
}

/// Time that must pass.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Delay {
    /// Which rule asks.
    pub rule: RuleName,
    /// When it is over, if nothing holds it.
    pub until_unix: u64,
    /// Whether it has begun: it begins when the log says that the intent waits.
    pub begun: bool,
    /// The clock is in doubt, and holds it.
    pub held: bool,
}

/// Office hours to wait for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Opening {
    /// Which rule asks.
    pub rule: RuleName,
    /// When they begin.
    pub opens_unix: u64,
    /// The clock is in doubt, and nobody knows whether it is office hours.
    pub held: bool,
}

/// A fact that must be newer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fresh {
    /// Which rule asks.
    pub rule: RuleName,
    /// How old it is; `None`: there is none.
    pub age_seconds: Option<u64>,
    /// How old it may be.
    pub most_seconds: u64,
}

impl Requirement {
    /// The rule, whose code is stable: `approvals`, `delay`, `hours`, `screening` or `books`.
    #[must_use]
    pub fn rule_id(&self) -> RuleId {
        match self {
            Self::Approvals(_) => RuleId::Approvals,
            Self::Delay(_) => RuleId::Delay,
            Self::Hours(_) => RuleId::Hours,
            Self::Screening(_) => RuleId::Screening,
            Self::Books(_) => RuleId::Books,
        }
    }

    /// The stable code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        self.rule_id().code()
    }

    /// The policy's rule that asks for it.
    #[must_use]
    pub fn rule(&self) -> &RuleName {
        match self {
            Self::Approvals(approvals) => &approvals.rule,
            Self::Delay(delay) => &delay.rule,
            Self::Hours(opening) => &opening.rule,
            Self::Screening(fresh) | Self::Books(fresh) => &fresh.rule,
        }
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\" asks for ", self.rule())?;
        match self {
            Self::Approvals(approvals) => {
                let (given, can) = (names(&approvals.given), names(&approvals.can_give));
                write!(f, "{}: given by {given}; can still be given by {can}", approvals.quorum)
            }
            Self::Delay(Delay { held: true, .. }) => {
                f.write_str("a delay, which a clock in doubt holds")
            }
            Self::Delay(Delay { begun: false, .. }) => f.write_str("a delay, which begins now"),
            Self::Delay(delay) => write!(f, "a delay until {}", delay.until_unix),
            Self::Hours(Opening { held: true, .. }) => {
                f.write_str("office hours, and the clock is in doubt")
            }
            Self::Hours(opening) => {
                write!(f, "office hours, which begin at {}", opening.opens_unix)
            }
            Self::Screening(fresh) => write!(f, "a sanctions list {fresh}"),
            Self::Books(fresh) => write!(f, "a statement that the books balance, {fresh}"),
        }
    }
}

impl fmt::Display for Fresh {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.age_seconds {
            Some(age) => write!(f, "at most {} s old: it is {age} s old", self.most_seconds),
            None => write!(f, "at most {} s old: there is none", self.most_seconds),
        }
    }
}

fn names(names: &[KeyName]) -> String {
    if names.is_empty() {
        return "nobody".into();
    }
    let names: Vec<&str> = names.iter().map(KeyName::as_str).collect();
    names.join(", ")
}
