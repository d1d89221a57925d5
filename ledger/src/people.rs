//! What officers said and what waits for them: requests with their approvals, objections, freezes. It never forgets a
//! statement, so that none counts twice, and never looks at a policy.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};

use audit::entry::{self, Reason};
use policy::evidence::FreezeScope;
use policy::intent::{Intent, RequestId};
use policy::names::{ClientName, KeyName, WalletName};
use policy::order::{OrderRef, VerifiedOrder};
use serde::{Deserialize, Serialize};
use statement::{About, Deed, PolicyRef, Says, Signed, Statement, Task, Unbinding};

use super::orders::order_ref;
use super::{FoldError, wrong};

/// So many of those that were signed last are remembered with what was said of them: far more than are ever signed and not
/// yet let out at one time. It may only ever rise, since logs hold what was written by it.
const LEAVING_MAX: usize = 1024;

/// Everything that people had a part in.
#[derive(Debug, Default)]
pub struct People {
    waits: BTreeMap<RequestId, Wait>,
    /// What waited and was signed, newest last. Whether it was let out since is not the log's to say.
    leaving: VecDeque<(RequestId, Wait)>,
    /// What was signed and is given to nobody, for good.
    withheld: BTreeMap<RequestId, Withheld>,
    objections: HashMap<RequestId, Vec<Objection>>,
    /// Orders that nothing was signed for when somebody said no to a request that pays them.
    called_off: HashMap<OrderRef, Objection>,
    freezes: BTreeMap<[u8; 32], Frozen>,
    /// What may be done at the signer's machine, by whose word.
    tasks: BTreeMap<Task, Vec<Word>>,
    /// What of which order is to bind it no longer, by whose word.
    unbindings: BTreeMap<Unbinding, Vec<Word>>,
    /// Tokens whose PIN may be changed, since the words for it were used up, and of which no entry says how that ended.
    pin_changes: BTreeSet<String>,
    /// Sites that may serve, each with one token.
    sites: BTreeSet<([u8; 16], String)>,
    nonces: HashSet<(KeyName, [u8; 16])>,
}

/// A request that waits, or waited and is being signed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Wait {
    /// Number of the entry that holds all of it.
    pub seq: u64,
    /// Who asked.
    pub caller: ClientName,
    /// Whose coins it asks to spend.
    pub wallet: WalletName,
    /// SHA-256 of its canonical intent.
    pub intent: [u8; 32],
    /// The policy it waits under.
    pub policy: PolicyRef,
    /// Since when.
    pub asked_unix: u64,
    /// Until when.
    pub expires_unix: u64,
    /// The orders that it pays.
    pub orders: Vec<OrderRef>,
    /// Names of the rules that asked for something when it began.
    pub rules: Vec<String>,
    /// Who approved it. An officer who did twice counts once.
    pub approvals: Vec<Word>,
}

/// What is remembered of an entry about a request that waits, beside its spend.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Waiting {
    /// SHA-256 of the canonical intent.
    intent: [u8; 32],
    /// SHA-256 of the policy's text; its version is the spend's.
    policy: [u8; 32],
    asked_unix: u64,
    expires_unix: u64,
    rules: Vec<String>,
}

impl Waiting {
    /// Of such an entry, whose canonical intent must be that of its spend.
    pub(super) fn of(awaiting: &entry::Awaiting) -> Result<Self, FoldError> {
        let paper = statement::Paper::parse(awaiting.intent.as_bytes())
            .map_err(|error| wrong(error.to_string()))?;
        let same = paper.request == RequestId(awaiting.spend.request)
            && paper.policy.version == awaiting.spend.policy
            && paper.expires_unix == awaiting.expires_unix;
        if !same {
            return Err(wrong("a request waits with the canonical intent of another"));
        }
        Ok(Self {
            intent: paper.digest(),
            policy: paper.policy.digest,
            asked_unix: paper.asked_unix,
            expires_unix: paper.expires_unix,
            rules: awaiting.requirements.iter().map(|asked| asked.rule.clone()).collect(),
        })
    }
}

/// An approval, or one officer's word that a freeze may be lifted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Word {
    /// SHA-256 of the statement.
    pub statement: [u8; 32],
    /// Who.
    pub officer: KeyName,
    /// When it was written down.
    pub at_unix: u64,
    /// Unix seconds after which it counts no longer.
    pub expires_unix: u64,
    /// The statement itself, to be verified once more whenever it counts.
    pub signed: Signed,
}

/// A request that was signed, and whose answer is given to nobody.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Withheld {
    /// What it waited for, and who approved it.
    pub wait: Wait,
    /// Since when.
    pub at_unix: u64,
    /// By what kind of word: `rejected`, `vetoed` or `revoked`.
    pub code: String,
    /// Whose.
    pub text: String,
    /// Nobody can tell whether it was given out before.
    pub may_have_left: bool,
}

/// An officer's no to a request, for good.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Objection {
    /// Who.
    pub officer: KeyName,
    /// When it was written down.
    pub at_unix: u64,
    /// Whether it was a veto.
    pub veto: bool,
}

/// A freeze in force.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Frozen {
    /// What.
    pub scope: FreezeScope,
    /// By whom.
    pub officer: KeyName,
    /// Since when.
    pub at_unix: u64,
    /// Who says that it may be lifted.
    pub lifting: Vec<Word>,
}

impl People {
    /// The request, if it waits or waited and has no answer yet.
    #[must_use]
    pub fn wait(&self, request: RequestId) -> Option<&Wait> {
        self.waits.get(&request)
    }

    /// Every one of them.
    pub fn waits(&self) -> impl Iterator<Item = (&RequestId, &Wait)> {
        self.waits.iter()
    }

    /// What it waited for, if it waited, and was signed not long ago, and is not withheld.
    #[must_use]
    pub fn leaving(&self, request: RequestId) -> Option<&Wait> {
        self.leaving.iter().find(|(id, _)| *id == request).map(|(_, wait)| wait)
    }

    /// Since when and why its answer is given to nobody.
    #[must_use]
    pub fn withheld(&self, request: RequestId) -> Option<&Withheld> {
        self.withheld.get(&request)
    }

    /// Everything that is given to nobody.
    pub fn all_withheld(&self) -> impl Iterator<Item = (&RequestId, &Withheld)> {
        self.withheld.iter()
    }

    /// Whose coins a request asks to spend that waits, or waited and was signed not long ago or is given to nobody.
    #[must_use]
    pub fn wallet(&self, request: RequestId) -> Option<&WalletName> {
        let withheld = || self.withheld(request).map(|withheld| &withheld.wait);
        let wait = self.wait(request).or_else(|| self.leaving(request)).or_else(withheld);
        wait.map(|wait| &wait.wallet)
    }

    /// Who said no to a request.
    #[must_use]
    pub fn objections(&self, request: RequestId) -> &[Objection] {
        self.objections.get(&request).map(Vec::as_slice).unwrap_or_default()
    }

    /// The no that a request meets, and to what it was said: to itself, or to another that would have paid the same order
    /// first.
    #[must_use]
    pub fn no_to(&self, intent: &Intent) -> Option<(&Objection, String)> {
        if let Some(no) = self.objections(intent.request).first() {
            return Some((no, "this request".to_owned()));
        }
        let mut orders = intent.orders.iter().map(VerifiedOrder::reference);
        orders.find_map(|order| {
            let no = self.called_off.get(&order)?;
            Some((no, format!("order {order}, under another request")))
        })
    }

    /// Who said no to an order for good.
    #[must_use]
    pub fn called_off(&self, order: &OrderRef) -> Option<&Objection> {
        self.called_off.get(order)
    }

    /// Every freeze in force, by SHA-256 of its statement.
    pub fn freezes(&self) -> impl Iterator<Item = (&[u8; 32], &Frozen)> {
        self.freezes.iter()
    }

    /// The freeze with this statement.
    #[must_use]
    pub fn freeze(&self, statement: &[u8; 32]) -> Option<&Frozen> {
        self.freezes.get(statement)
    }

    /// The request that has this approval, and the approval; also where it was signed not long ago.
    #[must_use]
    pub fn approval(&self, statement: &[u8; 32]) -> Option<(RequestId, &Word)> {
        let leaving = self.leaving.iter().map(|(request, wait)| (request, wait));
        self.waits.iter().chain(leaving).find_map(|(request, wait)| {
            let given = wait.approvals.iter().find(|given| given.statement == *statement)?;
            Some((*request, given))
        })
    }

    /// Who said that this may be done at the signer's machine, and was not used up.
    #[must_use]
    pub fn task(&self, task: &Task) -> &[Word] {
        self.tasks.get(task).map(Vec::as_slice).unwrap_or_default()
    }

    /// Who said that an order may be unbound from these, where not enough did so far.
    #[must_use]
    pub fn unbinding(&self, unbinding: &Unbinding) -> &[Word] {
        self.unbindings.get(unbinding).map(Vec::as_slice).unwrap_or_default()
    }

    /// Every one of them.
    pub fn unbindings(&self) -> impl Iterator<Item = (&Unbinding, &Vec<Word>)> {
        self.unbindings.iter()
    }

    /// Sites that may serve, each with one token's serial number.
    #[must_use]
    pub fn sites(&self) -> &BTreeSet<([u8; 16], String)> {
        &self.sites
    }

    /// Whether a change of this token's PIN was begun that no entry ended.
    #[must_use]
    pub fn is_pin_changing(&self, serial: &str) -> bool {
        self.pin_changes.contains(serial)
    }

    /// It was done: what was said for it is used up.
    pub(super) fn done(&mut self, deed: &Deed) {
        self.tasks.retain(|task, _| task.deed != *deed);
    }

    /// The PIN was changed. A program from before such a change was begun by an entry used the words up with this one.
    pub(super) fn pin_changed(&mut self, serial: &str) {
        if !self.pin_changes.remove(serial) {
            self.done(&Deed::SetPin);
        }
    }

    /// What was done at the signer's machine.
    pub(super) fn administer(
        &mut self,
        what: &str,
        serial: &str,
        site: [u8; 16],
    ) -> Result<(), FoldError> {
        match what {
            "init" => self.done(&Deed::Init),
            "activate" => {
                self.done(&Deed::Activate(site));
                self.sites.insert((site, serial.to_owned()));
            }
            "set-pin" => {
                self.tasks.remove(&Task { deed: Deed::SetPin, token: serial.to_owned() });
                self.pin_changes.insert(serial.to_owned());
            }
            // By the SHA-256 of the list: it has to do with no token.
            "revocations" => match Deed::parse(&format!("revocations {serial}")) {
                Ok(deed) => self.done(&deed),
                Err(reason) => return Err(wrong(reason)),
            },
            "pin-clear" => self.done(&Deed::ClearPin(site)),
            "pin-clear-last-try" => self.done(&Deed::ClearPinLastTry(site)),
            "token-clear" => self.done(&Deed::ClearToken(site)),
            "anchor-forget" => self.done(&Deed::ForgetAnchor(site)),
            "set-pin failed" if self.pin_changes.remove(serial) => {}
            _ => return Err(wrong("this program does not know what was done there")),
        }
        Ok(())
    }

    /// Whether this officer used this nonce before.
    #[must_use]
    pub fn is_used(&self, officer: &KeyName, nonce: [u8; 16]) -> bool {
        self.nonces.contains(&(officer.clone(), nonce))
    }

    /// A request waits from now on; what was said of it under another policy is void.
    pub(super) fn await_people(
        &mut self,
        seq: u64,
        spend: &entry::Spend,
        waiting: Waiting,
    ) -> Result<(), FoldError> {
        let orders = spend.orders.iter().map(order_ref);
        let caller = ClientName::parse(&spend.caller).map_err(|error| wrong(error.to_string()))?;
        let wallet = WalletName::parse(&spend.wallet).map_err(|error| wrong(error.to_string()))?;
        let wait = Wait {
            seq,
            caller,
            wallet,
            intent: waiting.intent,
            policy: PolicyRef { version: spend.policy, digest: waiting.policy },
            asked_unix: waiting.asked_unix,
            expires_unix: waiting.expires_unix,
            orders: orders.collect::<Result<_, _>>()?,
            rules: waiting.rules,
            approvals: Vec::new(),
        };
        self.waits.insert(RequestId(spend.request), wait);
        Ok(())
    }

    /// It waits no longer; whether it did.
    pub(super) fn end(&mut self, request: RequestId) -> bool {
        self.waits.remove(&request).is_some()
    }

    /// It was signed. What waited for people is remembered: until it is let out they may take back what they said.
    pub(super) fn sign(&mut self, request: RequestId) {
        let Some(wait) = self.waits.remove(&request) else { return };
        if self.leaving.len() >= LEAVING_MAX {
            self.leaving.pop_front();
        }
        self.leaving.push_back((request, wait));
    }

    /// It was signed, and is given to nobody. A no calls off those of its orders for which nothing else was let out, unless
    /// this may have been.
    pub(super) fn withhold(
        &mut self,
        request: RequestId,
        reason: &Reason,
        may_have_left: bool,
        at_unix: u64,
        is_paid: impl Fn(&OrderRef, &Self) -> bool,
    ) -> Result<(), FoldError> {
        let is_no = match reason.code.as_str() {
            "rejected" | "vetoed" => true,
            "revoked" => false,
            _ => return Err(wrong("this program does not know why a signature is held back")),
        };
        let place = self.leaving.iter().position(|(id, _)| *id == request);
        let (_, wait) = place
            .and_then(|place| self.leaving.remove(place))
            .ok_or_else(|| wrong("a signature is held back that nobody was asked for lately"))?;
        let no = self.objections(request).last().cloned();
        if let (true, false, Some(no)) = (is_no, may_have_left, no) {
            let off: Vec<OrderRef> =
                wait.orders.iter().filter(|order| !is_paid(order, self)).cloned().collect();
            for order in off {
                self.called_off.entry(order).or_insert_with(|| no.clone());
            }
        }
        let (code, text) = (reason.code.clone(), reason.text.clone());
        let withheld = Withheld { wait, at_unix, code, text, may_have_left };
        self.withheld.insert(request, withheld);
        Ok(())
    }

    /// Takes in what an officer said. A no calls off those orders of its request that nothing was signed for; what is to be
    /// unbound binds its order, and is what both of its hashes say. What is
    /// about nothing here is given back.
    pub(super) fn hear(
        &mut self,
        signed: Signed,
        unix_s: u64,
        is_paid: impl Fn(&OrderRef, &Self) -> bool,
        is_bound: impl Fn(&Unbinding) -> bool,
    ) -> Result<Option<Says>, FoldError> {
        let said = Statement::parse(&signed.statement).map_err(|error| wrong(error.to_string()))?;
        if !self.nonces.insert((said.officer.clone(), said.nonce)) {
            return Err(wrong("an officer's statement was counted twice"));
        }
        let (statement, officer) = (said.digest(), said.officer);
        let given = |officer| Word {
            statement,
            officer,
            at_unix: unix_s,
            expires_unix: said.expires_unix,
            signed: signed.clone(),
        };
        match said.says {
            Says::Approve(about) => {
                let wait = self.waiting(&about)?;
                wait.approvals.retain(|earlier| earlier.officer != officer);
                wait.approvals.push(given(officer));
            }
            Says::Reject(about) => self.object(&about, officer, unix_s, false, is_paid)?,
            Says::Veto(about) => self.object(&about, officer, unix_s, true, is_paid)?,
            Says::Revoke(approval) => {
                let leaving = self.leaving.iter_mut().map(|(_, wait)| wait);
                let waits = self.waits.values_mut().chain(leaving);
                for approvals in waits.map(|wait| &mut wait.approvals) {
                    approvals.retain(|g| g.statement != approval || g.officer != officer);
                }
            }
            // What it settles has an entry of its own.
            Says::Time(_) | Says::VetoPolicy(_) | Says::Free { .. } => {}
            Says::Freeze(scope) => {
                let frozen = Frozen { scope, officer, at_unix: unix_s, lifting: Vec::new() };
                self.freezes.insert(statement, frozen);
            }
            Says::Unfreeze(freeze) => {
                let frozen = self.freezes.get_mut(&freeze);
                let frozen = frozen.ok_or_else(|| wrong("there is no such freeze to lift"))?;
                frozen.lifting.retain(|earlier| earlier.officer != officer);
                frozen.lifting.push(given(officer));
            }
            Says::Administer(task) => {
                let words = self.tasks.entry(task).or_default();
                words.retain(|earlier| earlier.officer != officer);
                words.push(given(officer));
            }
            Says::Unbind { unbinding, .. } => {
                if !is_bound(&unbinding) {
                    return Err(wrong("an officer would unbind an order from what is not bound"));
                }
                let words = self.unbindings.entry(unbinding).or_default();
                words.retain(|earlier| earlier.officer != officer);
                words.push(given(officer));
            }
            said @ Says::Unlist { .. } => return Ok(Some(said)),
        }
        Ok(None)
    }

    /// Enough officers said so: what was said of any of these is used up.
    pub(super) fn unbind(&mut self, order: &OrderRef, versions: &[[u8; 32]]) {
        self.unbindings.retain(|said, _| {
            said.order != *order
                || said.versions.iter().all(|version| !versions.contains(&version.signed))
        });
    }

    /// Enough officers said so.
    pub(super) fn lift(&mut self, freeze: &[u8; 32]) -> Result<(), FoldError> {
        let lifted = self.freezes.remove(freeze);
        lifted.map(drop).ok_or_else(|| wrong("a freeze was lifted that is not there"))
    }

    fn object(
        &mut self,
        about: &About,
        officer: KeyName,
        at_unix: u64,
        veto: bool,
        is_paid: impl Fn(&OrderRef, &Self) -> bool,
    ) -> Result<(), FoldError> {
        let objection = Objection { officer, at_unix, veto };
        let is = |wait: &&Wait| wait.intent == about.intent && wait.policy == about.policy;
        // What comes of one to what is signed, the entry behind it says.
        if self.leaving(about.request).filter(is).is_none() {
            let orders = self.waiting(about)?.orders.clone();
            let off: Vec<OrderRef> =
                orders.into_iter().filter(|order| !is_paid(order, self)).collect();
            for order in off {
                self.called_off.entry(order).or_insert_with(|| objection.clone());
            }
        }
        self.objections.entry(about.request).or_default().push(objection);
        Ok(())
    }

    fn waiting(&mut self, about: &About) -> Result<&mut Wait, FoldError> {
        let wait = self.waits.get_mut(&about.request);
        let wait = wait.filter(|wait| wait.intent == about.intent && wait.policy == about.policy);
        wait.ok_or_else(|| wrong("an officer spoke of a request that does not wait like that"))
    }
}
