//! Every built-in rule by a stable code, and what each said about one intent. It never decides.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

use crate::names::RuleName;

macro_rules! rules {
    ($($(#[$doc:meta])* $name:ident = $code:literal,)*) => {
        /// A rule. Codes are stable: callers and dashboards rely on them; `docs/reasons.md` lists them all.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        #[non_exhaustive]
        pub enum RuleId {
            $($(#[$doc])* $name,)*
        }

        impl RuleId {
            /// Every rule.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The stable code.
            #[must_use]
            pub const fn code(self) -> &'static str {
                match self { $(Self::$name => $code,)* }
            }
        }
    };
}

rules! {
    /// The lane must be in the policy.
    UnknownLane = "unknown-lane",
    /// The caller must be granted the lane.
    LaneCaller = "lane-caller",
    /// The lane must be allowed to spend the wallet.
    LaneWallet = "lane-wallet",
    /// The lane's own end must not have passed.
    LaneExpired = "lane-expired",
    /// The caller's grant of the lane must let it spend the wallet.
    GrantWallet = "grant-wallet",
    /// The caller's grant of the lane must let it bring these orders, and there must be some.
    GrantOrderKey = "grant-order-key",
    /// The caller's grant of the lane must not have ended.
    GrantExpired = "grant-expired",
    /// What the caller was granted must not have ended.
    ClientExpired = "client-expired",
    /// Something must be spent.
    NoInputs = "no-inputs",
    /// No slot may be listed twice.
    DuplicateInput = "duplicate-input",
    /// Everything must be in the network's own asset.
    WrongAsset = "wrong-asset",
    /// No output may be worth nothing.
    EmptyOutput = "empty-output",
    /// Few outputs to ourselves, so that coins are not ground to dust.
    OwnOutputs = "own-outputs",
    /// Every sum must be computable.
    Overflow = "overflow",
    /// Inputs must equal outputs and fee.
    Unbalanced = "unbalanced",
    /// The log must have answered everything the rules ask.
    MissingEvidence = "missing-evidence",
    /// Own outputs must stay near the indexes used so far, and near those used a day ago.
    IndexWindow = "index-window",
    /// Change must go to a proven record.
    IndexUnproven = "index-unproven",
    /// A slot is worth what was first proven for it.
    SlotRepriced = "slot-repriced",
    /// A signed slot may only be signed again where at most one of the transactions can confirm and nothing new leaves.
    SlotSigned = "slot-signed",
    /// Only so many different transactions are signed over one slot in a rolling day.
    SlotVersions = "slot-versions",
    /// A sweep pays nobody else.
    SweepExternal = "sweep-external",
    /// A sweep pays no orders.
    SweepOrder = "sweep-order",
    /// A sweep goes to the lane's own cold wallet.
    ColdWallet = "cold-wallet",
    /// A sweep brings at least the lane's share to cold storage.
    ColdShare = "cold-share",
    /// A withdrawal does not touch cold storage.
    WithdrawCold = "withdraw-cold",
    /// A withdrawal pays at least one order.
    NoOrder = "no-order",
    /// Every external output pays an order.
    OutputUnordered = "output-unordered",
    /// An output pays its order to the unit.
    OrderMismatch = "order-mismatch",
    /// Every order is paid.
    OrderUnpaid = "order-unpaid",
    /// No order is paid or listed twice.
    OrderTwice = "order-twice",
    /// The order's key may order on this lane and from this wallet.
    OrderSigner = "order-signer",
    /// The order's key must not have ended.
    OrderKeyExpired = "order-key-expired",
    /// The order must still be valid, unless this replaces a transaction for it that is out already.
    OrderExpired = "order-expired",
    /// An order's id stands for the same bytes of its signer's for ever.
    OrderChanged = "order-changed",
    /// A paid order may only be signed again in a transaction that conflicts with every earlier one.
    OrderPaid = "order-paid",
    /// The fee is at most the lane's absolute cap.
    FeeTotal = "fee-total",
    /// The fee is at most the lane's rate cap.
    FeeRate = "fee-rate",
    /// The fee is at most the lane's share of what moves.
    FeePercent = "fee-percent",
    /// Fees stay within every rolling budget.
    FeeBudget = "fee-budget",
    /// External outputs together stay under the lane's cap.
    PerTransaction = "per-transaction",
    /// External outputs to one destination stay under the lane's cap.
    PerDestination = "per-destination",
    /// What leaves stays within every rolling limit.
    ExternalLimit = "external-limit",
    /// A consolidation pays change of its own wallet, and nothing else.
    ConsolidateOnly = "consolidate-only",
    /// A consolidation makes fewer coins.
    ConsolidateFewer = "consolidate-fewer",
    /// An evacuation pays the lane's own cold wallet, and nothing else.
    EvacuateOnly = "evacuate-only",
    /// A bump pays again what is out already, or spends change of ours that is.
    BumpNothing = "bump-nothing",
    /// A bump that replaces spends no coin that what it replaces does not; a child none that another lane signed for.
    BumpCoins = "bump-coins",
    /// A bump pays more than what it replaces that is out; a child also a higher rate than each parent.
    BumpFee = "bump-fee",
    /// A child that pays for its parents goes to change of its own wallet, and nowhere else.
    BumpOwn = "bump-own",
    /// Child and parents together stay under the lane's caps.
    BumpPackage = "bump-package",
    /// Nothing that officers froze moves.
    Frozen = "frozen",
    /// What the policy denies is never signed.
    DenyRule = "deny-rule",
    /// What leaves stays within every limit's sum.
    LimitSum = "limit-sum",
    /// Transactions stay within every limit's count.
    LimitCount = "limit-count",
    /// No officer whom a requirement asks has rejected it.
    Rejected = "rejected",
    /// No officer who may veto it has.
    Vetoed = "vetoed",
    /// No destination and no coin is on the sanctions list.
    ScreeningHit = "screening-hit",
    /// Enough officers have approved.
    Approvals = "approvals",
    /// The delay is over.
    Delay = "delay",
    /// It is office hours.
    Hours = "hours",
    /// The sanctions list is new enough.
    Screening = "screening",
    /// The books were found balanced not long ago.
    Books = "books",
}

impl fmt::Display for RuleId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

/// What a rule says of an intent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Nothing against it.
    Pass,
    /// Not yet.
    Wait,
    /// No.
    Deny,
}

/// What one rule said.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Finding {
    /// The rule.
    pub rule: RuleId,
    /// What it says of the intent.
    pub verdict: Verdict,
    /// The facts it looked at, as a sentence for people.
    pub text: String,
    /// What the policy calls its own rule that speaks against the intent, or holds it; of built-in rules there is no name.
    pub name: Option<RuleName>,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = match self.verdict {
            Verdict::Pass => "pass",
            Verdict::Wait => "wait",
            Verdict::Deny => "deny",
        };
        write!(f, "{verdict} {}: {}", self.rule, self.text)
    }
}

/// Every rule looked at and what it said, in the order of looking.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Trace {
    findings: Vec<Finding>,
}

impl Trace {
    /// Everything.
    #[must_use]
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }

    /// Only what speaks against the intent.
    pub fn denials(&self) -> impl Iterator<Item = &Finding> {
        self.of(Verdict::Deny)
    }

    /// Only what is not met yet.
    pub fn waits(&self) -> impl Iterator<Item = &Finding> {
        self.of(Verdict::Wait)
    }

    fn of(&self, verdict: Verdict) -> impl Iterator<Item = &Finding> {
        self.findings.iter().filter(move |finding| finding.verdict == verdict)
    }

    /// One line each, for the log.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        self.findings.iter().map(ToString::to_string).collect()
    }

    /// Notes what a rule said, with the facts it looked at.
    pub(crate) fn check(&mut self, rule: RuleId, passed: bool, text: impl Into<String>) {
        let verdict = if passed { Verdict::Pass } else { Verdict::Deny };
        self.findings.push(Finding { rule, verdict, text: text.into(), name: None });
    }

    /// Notes what is not met yet.
    pub(crate) fn wait(&mut self, rule: RuleId, text: impl Into<String>) {
        self.findings.push(Finding { rule, verdict: Verdict::Wait, text: text.into(), name: None });
    }

    /// Notes one rule over many things: how many there are, or what is wrong with the first that fails. One
    /// line whatever their number, so that a request cannot flood the log.
    pub(crate) fn each<T>(
        &mut self,
        rule: RuleId,
        what: &str,
        things: impl IntoIterator<Item = T>,
        wrong: impl Fn(T) -> Option<String>,
    ) {
        let (mut all, mut failed, mut first) = (0_usize, 0_usize, None);
        for thing in things {
            all = all.saturating_add(1);
            if let Some(text) = wrong(thing) {
                failed = failed.saturating_add(1);
                first = first.or(Some(text));
            }
        }
        match first {
            // Of hundreds of rules most are about one thing: without the formatter.
            None if all == 1 => self.check(rule, true, ["1 ", what].concat()),
            None => self.check(rule, true, format!("{all} {what}")),
            Some(text) => self.deny(rule, format!("{text} ({failed} of {all} {what} fail)")),
        }
    }

    /// Notes what the policy calls the rule that the last finding is by, where that says anything against the intent.
    pub(crate) fn by(&mut self, name: &RuleName) {
        if let Some(last) = self.findings.last_mut().filter(|last| last.verdict != Verdict::Pass) {
            last.name = Some(name.clone());
        }
    }

    /// Notes a denial.
    pub(crate) fn deny(&mut self, rule: RuleId, text: impl Into<String>) {
        self.check(rule, false, text);
    }
}
