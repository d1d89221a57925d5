//! A policy and what it says of a request on the log as it was. It never gives leave: what `policy` allows here is dropped.

use std::collections::{BTreeSet, HashMap};

use ledger::{Balanced, Ledger, Wait};
use policy::conditions::Target;
use policy::evidence::{
    Approval, Booked, Books, Freeze, ListQuestion, Listed, Listing, Objection, Screening,
};
use policy::facts::Stated;
use policy::intent::{Destination, SlotId, Transfer};
use policy::names::{KeyName, ListName, WalletName};
use policy::{
    Decision, Evidence, Finding, Intent, Requirement, RuleId, Rules, Trace, decide, reason,
};
use statement::PolicyRef;

use super::places::Places;
use crate::approvals::booked;
use crate::policies::{bitcoin_network, scripts};

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

    /// The codes that only one of both has.
    fn differs_in(&self, other: &Self) -> String {
        let (these, those) = (self.codes(), other.codes());
        let codes: Vec<&str> = these.symmetric_difference(&those).copied().collect();
        codes.join(", ")
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

    /// What it says, on the log as it is, of a request some of whose coins are `change`. `in_force` is the policy that was: where this is another one, what people said
    /// counts as if they had said it under this one, and a list's entry is new unless that one had it too. Of a sanctions
    /// list the log does not hold what is on it: nothing counts as screened.
    pub(crate) fn weigh(
        &self,
        ledger: &Ledger,
        (intent, change): (&Intent, &[SlotId]),
        in_force: &Rules,
        now_unix: u64,
    ) -> Weighed {
        let facts = (None, self.books(ledger, now_unix));
        self.weigh_with(ledger, (intent, change), in_force, now_unix, facts)
    }

    /// Why nobody can tell what it says: with a sanctions list that names nobody, and with balanced books where nobody of
    /// this policy stated any, it says something else.
    pub(crate) fn cannot_tell(
        &self,
        ledger: &Ledger,
        asked: (&Intent, &[SlotId]),
        in_force: &Rules,
        now_unix: u64,
    ) -> Option<String> {
        let told = self.weigh(ledger, asked, in_force, now_unix);
        let screening = Screening { digest: [0; 32], listed_unix: now_unix, hits: 0 };
        // A statement that the log has counts as it is.
        let books = self.books(ledger, now_unix);
        let books = books.unwrap_or(Books { height: 0, at_unix: now_unix });
        let facts = (Some(screening), Some(books));
        let fresh = self.weigh_with(ledger, asked, in_force, now_unix, facts);
        (fresh.verdict != told.verdict).then(|| {
            format!(
                "whether {} stands in its way depends on facts that the log does not hold",
                told.differs_in(&fresh)
            )
        })
    }

    /// The newest statement of balanced books in the log, by a reconciler of this policy.
    fn books(&self, ledger: &Ledger, now_unix: u64) -> Option<Books> {
        let counts = |(by, said): &(&KeyName, &Balanced)| {
            self.rules.fact_key(Stated::Books, by, now_unix) == Some(said.key)
        };
        let stated = ledger.facts().books().filter(counts).map(|(_, said)| said);
        let newest = stated.max_by_key(|said| said.made_unix)?;
        Some(Books { height: newest.height, at_unix: newest.made_unix })
    }

    fn weigh_with(
        &self,
        ledger: &Ledger,
        (intent, change): (&Intent, &[SlotId]),
        in_force: &Rules,
        now_unix: u64,
        (screening, books): (Option<Screening>, Option<Books>),
    ) -> Weighed {
        let questions = self.rules.questions(intent);
        let evidence = ledger.evidence(intent, &questions, ledger.waited_until(now_unix));
        let evidence = evidence.listings(self.listings(ledger, intent, in_force, now_unix));
        let evidence = evidence.screening(screening).books(books);
        let parents = change.iter().filter_map(|coin| ledger.parent(*coin, now_unix));
        let evidence = evidence.parents(parents.collect());
        let evidence = evidence.booked(self.booked(ledger, intent, in_force, now_unix));
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
                let findings =
                    vec![Finding { rule, verdict: reason::Verdict::Deny, text, name: None }];
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
        if let Some(wallet) = cold.chain([&intent.wallet]).find(differs) {
            return Some(format!("wallet \"{wallet}\" has other addresses in the draft"));
        }
        // To whom an output goes that pays nobody's order may be known to the draft.
        let unknown =
            |transfer: &Transfer| matches!(&transfer.to, Destination::External { order: None, .. });
        let mut added = self.rules.wallets().iter().map(|wallet| &wallet.name).filter(differs);
        let wallet = added.next().filter(|_| intent.transfers.iter().any(unknown))?;
        Some(format!(
            "the draft names wallet \"{wallet}\", whose addresses the policy in force did not know, and one of its outputs may be there"
        ))
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

    /// What the address book has, by keys of this policy. Where another one was in force and had not let a key add to a
    /// list, nothing by that key was there.
    fn booked(
        &self,
        ledger: &Ledger,
        intent: &Intent,
        in_force: &Rules,
        now_unix: u64,
    ) -> Vec<Booked> {
        let questions = self.rules.list_questions(intent);
        let book = ledger.facts().book();
        let booked = questions.iter().flat_map(|question| {
            book.answer(question, |by, key| {
                let has = |rules: &Rules| {
                    let list = rules.list(&question.list);
                    list.is_some_and(|list| list.book_keys.contains(by))
                        && rules.fact_key(Stated::Book, by, now_unix) == Some(key)
                };
                has(&self.rules) && has(in_force)
            })
        });
        booked.collect()
    }

    /// What an address is called: by a list of this policy, or by the address book, whose entries count only under their
    /// keys and once they have matured.
    pub(super) fn names(&self, ledger: &Ledger, script: &[u8], now_unix: u64) -> Vec<String> {
        let mut names = Vec::new();
        for list in self.rules.lists() {
            let question = ListQuestion { list: list.name.clone(), script: script.to_vec() };
            let labels = self.labels.get(&question).into_iter().flatten();
            names.extend(labels.map(|label| format!("\"{label}\" of list \"{}\"", list.name)));
            for (label, entry) in ledger.facts().book().of(&question) {
                let is_key =
                    self.rules.fact_key(Stated::Book, &entry.by, now_unix) == Some(entry.key);
                let counts = is_key && list.book_keys.contains(&entry.by);
                let counts_unix = booked::counts(entry.since_unix, entry.from_unix, list);
                let waited = ledger.waited_until(now_unix);
                let state = match counts {
                    true => booked::state(counts_unix, entry.expires_unix, waited, now_unix),
                    false => "by a key that counts no longer".to_owned(),
                };
                names.push(format!(
                    "in the address book for list \"{}\", attested by {}: {state}: \"{label}\"",
                    list.name, entry.by
                ));
            }
        }
        names
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
