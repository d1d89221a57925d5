//! A policy and what it says of a request on the log as it was. It never gives leave: what `policy` allows here is dropped.

use std::collections::{BTreeSet, HashMap};
use std::str::FromStr as _;

use bitcoin::Address;
use bitcoin::address::NetworkUnchecked;
use ledger::{Ledger, Wait};
use miniscript::{Descriptor, DescriptorPublicKey};
use policy::conditions::Target;
use policy::evidence::{Approval, Freeze, ListQuestion, Listed, Listing, Objection};
use policy::intent::Destination;
use policy::names::{ListName, WalletName};
use policy::{
    Decision, Evidence, Finding, Intent, Requirement, RuleId, Rules, Trace, decide, reason,
};
use statement::PolicyRef;

use super::places::Places;
use crate::policies::bitcoin_network;

/// A policy that decides.
pub(crate) struct Bench {
    pub(crate) rules: Rules,
    pub(super) places: Places,
    /// Which entries of which list stand for a script.
    labels: HashMap<ListQuestion, Vec<String>>,
}

/// What came of a request.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Verdict {
    Allowed,
    Waits,
    Denied,
}

/// What a policy says of a request, and on what evidence.
pub(crate) struct Weighed {
    pub(crate) verdict: Verdict,
    /// Every rule that denies, or that is not met.
    pub(crate) findings: Vec<Finding>,
    /// What must be met.
    pub(crate) requirements: Vec<Requirement>,
    pub(crate) trace: Trace,
    pub(crate) evidence: Evidence,
}

impl Verdict {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::Waits => "waits",
            Self::Denied => "denied",
        }
    }
}

impl Weighed {
    /// The codes of everything that stands in the way.
    pub(crate) fn codes(&self) -> BTreeSet<&'static str> {
        self.findings.iter().map(|finding| finding.rule.code()).collect()
    }

    /// Whether what is in the way is nothing but facts that a log does not hold.
    pub(crate) fn rests_on_what_is_not_there(&self) -> bool {
        let is_fact = |finding: &Finding| {
            matches!(finding.rule, RuleId::Screening | RuleId::ScreeningHit | RuleId::Books)
        };
        !self.findings.is_empty() && self.findings.iter().all(is_fact)
    }
}

impl Bench {
    /// A policy of a log for this network, as the signer reads it.
    pub(crate) fn new(text: &str, network: &str) -> Result<Self, String> {
        let mut networks = asset::Network::ALL.into_iter();
        let network = networks.find(|known| known.chain_id().to_string() == network);
        let network = network.ok_or("the log is for a network that this program does not know")?;
        let rules = Rules::reopen(text, Vec::new(), network).map_err(|error| error.to_string())?;
        let (places, labels) = (Places::new(&rules)?, labels(&rules)?);
        Ok(Self { rules, places, labels })
    }

    pub(super) fn network(&self) -> bitcoin::Network {
        bitcoin_network(self.rules.network())
    }

    /// What it says, on the log as it is. `in_force` is the policy that was: where this is another one, what people said
    /// counts as if they had said it under this one, and a list's entry is new unless that one had it too.
    pub(crate) fn weigh(
        &self,
        ledger: &Ledger,
        intent: &Intent,
        in_force: &Rules,
        now_unix: u64,
    ) -> Weighed {
        let questions = self.rules.questions(intent);
        let evidence = ledger.evidence(intent, &questions, ledger.waited_until(now_unix));
        let evidence = evidence.listings(self.listings(ledger, intent, in_force, now_unix));
        let wait = self.wait(ledger, intent, in_force, now_unix);
        let evidence = self.people(ledger, intent, evidence, wait);
        let decision = decide(intent, &evidence, &self.rules, now_unix);
        let (verdict, findings, requirements, trace) = match decision {
            Decision::Allow(granted) => {
                let trace = granted.granted().trace.clone();
                (Verdict::Allowed, Vec::new(), Vec::new(), trace)
            }
            Decision::Await(waiting) => {
                (Verdict::Waits, waiting.findings(), waiting.requirements, waiting.trace)
            }
            Decision::Deny(denial) => (Verdict::Denied, denial.reasons, Vec::new(), denial.trace),
        };
        // A no is for good, also once nothing asks for a yes any more.
        match ledger.people().no_to(intent) {
            Some((no, what)) if verdict != Verdict::Denied => {
                let rule = if no.veto { RuleId::Vetoed } else { RuleId::Rejected };
                let text = format!("officer \"{}\" said no to {what}", no.officer);
                let findings = vec![Finding { rule, verdict: reason::Verdict::Deny, text }];
                let (verdict, requirements) = (Verdict::Denied, Vec::new());
                Weighed { verdict, findings, requirements, trace, evidence }
            }
            _ => Weighed { verdict, findings, requirements, trace, evidence },
        }
    }

    /// Why this policy cannot be asked about a request that was sorted by the wallets of another.
    pub(crate) fn cannot_judge(&self, intent: &Intent, in_force: &Rules) -> Option<String> {
        let cold = intent.transfers.iter().filter_map(|transfer| match &transfer.to {
            Destination::Cold { wallet, .. } => Some(wallet),
            _ => None,
        });
        let differs = |wallet: &&WalletName| {
            let of = |rules: &Rules| rules.wallet(wallet).map(|wallet| wallet.descriptor.clone());
            of(&self.rules).is_some_and(|descriptor| Some(descriptor) != of(in_force))
        };
        let wallet = cold.chain([&intent.wallet]).find(differs)?;
        Some(format!("wallet \"{wallet}\" has other addresses in the draft"))
    }

    fn listings(
        &self,
        ledger: &Ledger,
        intent: &Intent,
        in_force: &Rules,
        now_unix: u64,
    ) -> Vec<Listing> {
        let target = |rules: &Rules, list: &ListName, label: &str| -> Option<Target> {
            let mut entries = rules.list(list)?.entries.iter();
            Some(entries.find(|entry| entry.label == label)?.target.clone())
        };
        let since = |list: &ListName, label: &str| {
            let same = target(&self.rules, list, label) == target(in_force, list, label);
            same.then(|| ledger.listed_since(list, label)).flatten().unwrap_or(now_unix)
        };
        let answer = |question: ListQuestion| {
            let labels = self.labels.get(&question).map_or(&[][..], Vec::as_slice);
            let listed = |label: &String| Listed {
                label: label.clone(),
                since_unix: since(&question.list, label),
            };
            let entries = labels.iter().map(listed).collect();
            Listing { question, entries }
        };
        self.rules.list_questions(intent).into_iter().map(answer).collect()
    }

    /// The wait of this request that counts by this policy.
    fn wait<'a>(
        &self,
        ledger: &'a Ledger,
        intent: &Intent,
        in_force: &Rules,
        now_unix: u64,
    ) -> Option<&'a Wait> {
        let wait = ledger.people().wait(intent.request)?;
        let asked = PolicyRef { version: in_force.version(), digest: *in_force.digest() };
        (wait.policy == asked && now_unix <= wait.expires_unix).then_some(wait)
    }

    fn people(
        &self,
        ledger: &Ledger,
        intent: &Intent,
        evidence: Evidence,
        wait: Option<&Wait>,
    ) -> Evidence {
        let mut approvals = Vec::new();
        for given in wait.iter().flat_map(|wait| &wait.approvals) {
            let officer = self.rules.officer(&given.officer);
            if officer.is_some_and(|officer| given.signed.verify(&officer.key).is_ok()) {
                let (officer, at_unix) = (given.officer.clone(), given.at_unix);
                approvals.push(Approval { officer, at_unix, expires_unix: given.expires_unix });
            }
        }
        let objections = |veto: bool| {
            let all = ledger.people().objections(intent.request).iter();
            let these = all.filter(|no| no.veto == veto);
            let no = |no: &ledger::Objection| Objection {
                officer: no.officer.clone(),
                at_unix: no.at_unix,
            };
            these.map(no).collect()
        };
        let freezes = ledger.people().freezes().map(|(_, frozen)| Freeze {
            scope: frozen.scope.clone(),
            officer: frozen.officer.clone(),
            at_unix: frozen.at_unix,
        });
        evidence
            .approvals(approvals)
            .rejections(objections(false))
            .vetoes(objections(true))
            .freezes(freezes.collect())
            .asked_unix(wait.map(|wait| wait.asked_unix))
    }
}

fn labels(rules: &Rules) -> Result<HashMap<ListQuestion, Vec<String>>, String> {
    let mut labels: HashMap<ListQuestion, Vec<String>> = HashMap::new();
    for list in rules.lists() {
        for entry in &list.entries {
            for script in scripts(&entry.target, bitcoin_network(rules.network()))? {
                let question = ListQuestion { list: list.name.clone(), script };
                labels.entry(question).or_default().push(entry.label.clone());
            }
        }
    }
    Ok(labels)
}

fn scripts(target: &Target, network: bitcoin::Network) -> Result<Vec<Vec<u8>>, String> {
    match target {
        Target::Script(script) => Ok(vec![script.clone()]),
        Target::Address(text) => {
            let address = Address::<NetworkUnchecked>::from_str(text).ok();
            let address = address.and_then(|address| address.require_network(network).ok());
            let address = address.ok_or_else(|| format!("\"{text}\" is no address here"))?;
            Ok(vec![address.script_pubkey().into_bytes()])
        }
        Target::Descriptor { descriptor, indexes } => {
            let wrong = |error: miniscript::Error| error.to_string();
            let whole = Descriptor::<DescriptorPublicKey>::from_str(descriptor).map_err(wrong)?;
            let mut all = Vec::new();
            for branch in whole.into_single_descriptors().map_err(wrong)? {
                for index in 0..*indexes {
                    let derived = branch.at_derivation_index(index).map_err(|e| e.to_string())?;
                    all.push(derived.script_pubkey().into_bytes());
                }
            }
            Ok(all)
        }
    }
}
