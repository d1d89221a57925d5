//! What the log says that officers said: every signature again, every statement once, and nothing given out that was frozen,
//! or without the approvals that its spend says were there. It never decides which rules should have asked.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use audit::entry::{Awaiting, Event, Spend};
use policy::Rules;
use policy::evidence::FreezeScope;
use policy::intent::RequestId;
use policy::names::{KeyName, OrderId, RuleName};
use policy::order::OrderRef;
use policy::people::OfficerKey;
use sha2::{Digest as _, Sha256};
use statement::{About, Deed, Paper, PolicyRef, Says, Signed, Statement, Task, TimeIs, Unbinding};

use super::facts::Facts;
use crate::policies;

/// An answer is written down up to a second after it was decided.
const GRACE_SECONDS: u64 = 1;

/// Something done at the signer's machine is written down when it is done: a large bundle is copied first.
const DOING_SECONDS: u64 = 3_600;

/// How far what an officer says of the time may be from the clock that it settles.
const APART_SECONDS: u64 = 600;

/// Everything that people had a part in.
#[derive(Clone, Debug, Default)]
pub(super) struct People {
    log: String,
    network: String,
    /// The policy in force; `None` when its text is none that this program reads.
    rules: Option<Rules>,
    waits: HashMap<RequestId, Wait>,
    nonces: HashSet<(KeyName, [u8; 16])>,
    /// What somebody said no to, for good: requests, and orders that nothing was signed for by then.
    refused: HashSet<RequestId>,
    called_off: HashSet<OrderName>,
    /// The requests that something was signed for which binds the order and may have been let out.
    paid: HashMap<OrderName, Vec<RequestId>>,
    /// What waited and was signed, and is not held back.
    leaving: HashMap<RequestId, Leaving>,
    /// Somebody said no to this one when it was signed: the next entry must hold it back.
    owed: Option<RequestId>,
    freezes: BTreeMap<[u8; 32], Frozen>,
    /// What may be done at the signer's machine, and by whose word.
    tasks: BTreeMap<Task, BTreeMap<KeyName, Word>>,
    /// What of which order is to bind it no longer, and by whose word.
    unbindings: BTreeMap<Unbinding, BTreeMap<KeyName, Word>>,
    /// Tokens whose PIN officers let be changed, and of which no entry says how that ended.
    pin_changes: BTreeSet<String>,
    /// Whether any site was said to serve.
    active: bool,
    /// Whether the log is by a program that asks officers for keys, as it does for imports.
    asks_for_keys: bool,
    /// Deeds about keys that nobody was asked for, in a log that does not say that its program asked.
    unasked: u64,
    statements: u64,
    /// What an officer last said of the time, and whether the log's own stood still then.
    times: BTreeMap<KeyName, (TimeIs, bool)>,
    facts: Facts,
}

/// An order's key and id.
type OrderName = ([u8; 32], String);

#[derive(Clone, Debug)]
struct Wait {
    paper: Paper,
    orders: Vec<OrderName>,
    /// By officer: until when, and by which statement.
    approvals: BTreeMap<KeyName, (u64, [u8; 32])>,
}

/// A request that waited and was signed, and what was said of it since.
#[derive(Clone, Debug)]
struct Leaving {
    intent: [u8; 32],
    policy: PolicyRef,
    orders: Vec<OrderName>,
    approvals: BTreeMap<KeyName, (u64, [u8; 32])>,
    /// As the entry names it that holds it back.
    back: BTreeSet<&'static str>,
}

#[derive(Clone, Debug)]
struct Frozen {
    scope: FreezeScope,
    lifting: BTreeMap<KeyName, Word>,
}

/// An officer's word: it counts for as long as the policy has the key that gave it.
#[derive(Clone, Copy, Debug)]
struct Word {
    until_unix: u64,
    key: OfficerKey,
}

impl People {
    /// How many statements were verified.
    pub(super) fn statements(&self) -> u64 {
        self.statements
    }

    /// How many deeds about keys were let pass, since the log may be from before officers were asked for them.
    pub(super) fn unasked(&self) -> u64 {
        self.unasked
    }

    pub(super) fn begin(&mut self, log: &str, network: &str, under_officers: bool) {
        log.clone_into(&mut self.log);
        network.clone_into(&mut self.network);
        self.asks_for_keys = under_officers;
    }

    /// The log shows that its program asks officers for deeds about keys.
    pub(super) fn asks_for_keys(&mut self) {
        self.asks_for_keys = true;
    }

    pub(super) fn activate(&mut self, text: &str, unix_s: u64) {
        self.rules = policies::view(text, None).ok();
        self.facts.activate(self.rules.as_ref(), unix_s);
    }

    /// Something was done at the signer's machine; with any token where the entry names none.
    pub(super) fn done(
        &mut self,
        deed: Deed,
        token: Option<&str>,
        unix_s: u64,
    ) -> Result<(), String> {
        let late = late(&deed, DOING_SECONDS);
        let counts = |rules: &Rules, (name, word): (&KeyName, &Word)| {
            let in_time = unix_s <= word.until_unix.saturating_add(late);
            in_time && has_key(rules, name, &word.key)
        };
        let (mut said, mut used) = (false, Vec::new());
        for (task, words) in &self.tasks {
            if task.deed == deed && token.is_none_or(|token| task.token == token) {
                // Words for one token are none for another.
                said |= self.rules.as_ref().is_some_and(|rules| {
                    let words = words.iter().filter(|word| counts(rules, *word));
                    rules.may_administer(&words.map(|(name, _)| name).collect())
                });
                used.push(task.clone());
            }
        }
        if matches!(deed, Deed::Revocations(_)) && used.is_empty() {
            return Err(format!("`{deed}` was done without any officer"));
        }
        // The first site under a policy that asks is the one that was there.
        let first = matches!(deed, Deed::Activate(_)) && !self.active;
        let asks = |rules: &Rules| !rules.may_administer(&BTreeSet::new());
        let enough = said || !self.rules.as_ref().is_some_and(asks);
        if !enough && !first && is_about_keys(&deed) && !self.asks_for_keys {
            self.unasked = self.unasked.saturating_add(1);
        } else if !enough && !first {
            return Err(format!("`{deed}` was done without the officers whom the policy asks"));
        }
        self.active |= matches!(deed, Deed::Activate(_));
        self.tasks.retain(|task, _| !used.contains(task));
        Ok(())
    }

    /// A token's PIN may be changed once from now on.
    pub(super) fn begin_pin(&mut self, serial: &str, unix_s: u64) -> Result<(), String> {
        self.done(Deed::SetPin, Some(serial), unix_s)?;
        self.pin_changes.insert(serial.to_owned());
        Ok(())
    }

    /// It was, however late that is known. Without such a beginning the words for it must be there.
    pub(super) fn end_pin(&mut self, serial: &str, unix_s: u64) -> Result<(), String> {
        match self.pin_changes.remove(serial) {
            true => Ok(()),
            false => self.done(Deed::SetPin, Some(serial), unix_s),
        }
    }

    /// It was not.
    pub(super) fn fail_pin(&mut self, serial: &str) -> Result<(), String> {
        match self.pin_changes.remove(serial) {
            true => Ok(()),
            false => Err("a change of the PIN failed that was not begun".to_owned()),
        }
    }

    /// A request waits: its intent is what its transaction does, as far as this entry can tell.
    pub(super) fn wait(&mut self, awaiting: &Awaiting) -> Result<(), String> {
        let Awaiting { spend, intent, expires_unix, .. } = awaiting;
        let paper = Paper::parse(intent.as_bytes()).map_err(|error| error.to_string())?;
        let rules = self.rules()?;
        let slots = spend.slots.iter().map(|slot| slot.amount);
        let same = [
            ("request", paper.request.0 == spend.request),
            ("client", paper.client.as_str() == spend.caller),
            ("lane", paper.lane.as_str() == spend.lane),
            ("wallet", paper.wallet.as_str() == spend.wallet),
            ("fee", paper.fee == spend.fee),
            ("inputs", paper.inputs.iter().map(|input| input.amount).eq(slots)),
            (
                "transaction",
                paper.transaction == <[u8; 32]>::from(Sha256::digest(&spend.transaction)),
            ),
            ("end", paper.expires_unix == *expires_unix),
            (
                "policy",
                paper.policy.version == rules.version() && paper.policy.digest == *rules.digest(),
            ),
        ];
        if let Some((what, _)) = same.iter().find(|(_, same)| !same) {
            return Err(format!("a request waits with another {what} in its intent"));
        }
        let wait = Wait { approvals: BTreeMap::new(), orders: names(spend), paper };
        self.waits.insert(wait.paper.request, wait);
        Ok(())
    }

    /// It waits no longer.
    pub(super) fn end(&mut self, request: [u8; 16]) -> Result<(), String> {
        let ended = self.waits.remove(&RequestId(request));
        ended.map(drop).ok_or_else(|| "a wait ended that had not begun".to_owned())
    }

    /// An officer said something: what is left to be looked at elsewhere is a veto over a policy, by whom and over which.
    pub(super) fn hear(
        &mut self,
        statement: &[u8],
        signature: &[u8],
        key: &OfficerKey,
        (unix_s, stood): (u64, bool),
        is_bound: impl Fn(&Unbinding) -> bool,
    ) -> Result<Option<(KeyName, [u8; 32])>, String> {
        let signature = signature.try_into().map_err(|_| "a signature is not 64 bytes")?;
        let signed = Signed { statement: statement.to_vec(), signature };
        let said = signed.verify(key).map_err(|error| error.to_string())?;
        self.counts(&said, key, unix_s)?;
        self.statements = self.statements.saturating_add(1);
        let (digest, officer, until) = (said.digest(), said.officer, said.expires_unix);
        let word = Word { until_unix: until, key: *key };
        match said.says {
            Says::Approve(about) => {
                self.about(&about)?.approvals.insert(officer, (until, digest));
            }
            Says::Reject(about) => self.object(&about, "rejected")?,
            Says::Veto(about) => self.object(&about, "vetoed")?,
            Says::Administer(task) => {
                self.asks_for_keys |= is_about_keys(&task.deed);
                self.tasks.entry(task).or_default().insert(officer, word);
            }
            Says::Revoke(approval) => {
                let other = |by: &KeyName, given: &[u8; 32]| *by != officer || *given != approval;
                for wait in self.waits.values_mut() {
                    wait.approvals.retain(|by, (_, given)| other(by, given));
                }
                for leaving in self.leaving.values_mut() {
                    let before = leaving.approvals.len();
                    leaving.approvals.retain(|by, (_, given)| other(by, given));
                    if leaving.approvals.len() < before {
                        leaving.back.insert("revoked");
                    }
                }
            }
            Says::Freeze(scope) => {
                self.freezes.insert(digest, Frozen { scope, lifting: BTreeMap::new() });
            }
            Says::Time(time) => {
                self.times.insert(officer, (time, stood));
            }
            Says::Unfreeze(freeze) => {
                let frozen = self.freezes.get_mut(&freeze);
                let frozen = frozen.ok_or("a freeze is to be lifted that is not there")?;
                frozen.lifting.insert(officer, word);
            }
            Says::Unbind { unbinding, .. } => {
                if !is_bound(&unbinding) {
                    return Err("an order is to be unbound from what does not bind it, or from what is another transaction by its second hash".to_owned());
                }
                self.unbindings.entry(unbinding).or_default().insert(officer, word);
            }
            Says::Unlist { list, label } => self.facts.unlist(list, label, unix_s),
            // Whoever is freed by it has an entry that names the officer.
            Says::Free { .. } => {}
            Says::VetoPolicy(policy) => return Ok(Some((officer, policy))),
        }
        Ok(None)
    }

    /// Somebody else stated something, or a list was read.
    pub(super) fn fact(&mut self, event: &Event, unix_s: u64) -> Result<(), String> {
        let (log, network) = (self.log.clone(), self.network.clone());
        let rules = self.rules.as_ref();
        let rules = rules.ok_or("the policy in force cannot be read, and facts count by it")?;
        self.facts.take(event, rules, (&log, &network), unix_s)?;
        self.statements = self.statements.saturating_add(1);
        Ok(())
    }

    /// Enough officers said so.
    pub(super) fn lift(
        &mut self,
        freeze: &[u8; 32],
        officers: &[String],
        unix_s: u64,
    ) -> Result<(), String> {
        let frozen = self.freezes.remove(freeze).ok_or("a freeze was lifted that is not there")?;
        let rules = self.rules()?;
        let said = |name: &&KeyName| {
            frozen.lifting.get(*name).is_some_and(|word| {
                let in_time = unix_s <= word.until_unix.saturating_add(GRACE_SECONDS);
                in_time && has_key(rules, name, &word.key)
            })
        };
        let named = officers.iter().filter_map(|name| KeyName::parse(name).ok());
        let named: Vec<KeyName> = named.collect();
        let by: BTreeSet<&KeyName> = named.iter().filter(said).collect();
        if by.len() != officers.len() || !rules.may_unfreeze(&by) {
            return Err("a freeze was lifted that not enough officers lifted".to_owned());
        }
        Ok(())
    }

    /// Enough officers said that an order may be paid beside these.
    pub(super) fn unbind(
        &mut self,
        (key, id): (&[u8; 32], &str),
        versions: &[[u8; 32]],
        officers: &[String],
        unix_s: u64,
    ) -> Result<(), String> {
        let id = OrderId::parse(id).map_err(|error| error.to_string())?;
        let order = OrderRef { key: *key, id };
        // What they signed names each version's second hash too, which was that of the one with the first.
        let is_of = |said: &Unbinding| {
            said.order == order && said.versions.iter().map(|said| &said.signed).eq(versions)
        };
        let words = self.unbindings.iter().find(|(said, _)| is_of(said));
        let (_, words) = words.ok_or("an order was unbound by nobody's word")?;
        let rules = self.rules()?;
        let said = |name: &&KeyName| {
            words.get(*name).is_some_and(|word| {
                let in_time = unix_s <= word.until_unix.saturating_add(GRACE_SECONDS);
                in_time && has_key(rules, name, &word.key)
            })
        };
        let named = officers.iter().filter_map(|name| KeyName::parse(name).ok());
        let named: Vec<KeyName> = named.collect();
        let by: BTreeSet<&KeyName> = named.iter().filter(said).collect();
        if by.len() != officers.len() || !rules.may_unbind(&by, key) {
            return Err("an order was unbound that not enough officers unbound".to_owned());
        }
        let is_used = |said: &Unbinding| {
            said.order == order
                && said.versions.iter().any(|version| versions.contains(&version.signed))
        };
        self.unbindings.retain(|said, _| !is_used(said));
        Ok(())
    }

    /// What was signed for these requests binds the order no longer: nothing that is paid anew stands for it.
    pub(super) fn unbound(&mut self, order: &OrderName, requests: &[RequestId]) {
        if let Some(paid) = self.paid.get_mut(order) {
            paid.retain(|paid| !requests.contains(paid));
        }
    }

    /// A client was freed by these: officers whose yes counts, where the policy names any.
    pub(super) fn may_free(&self, officers: &[String]) -> bool {
        let named = self.rules.as_ref().filter(|rules| !rules.people().is_empty());
        let may = |rules: &Rules, name: &String| {
            let officer = KeyName::parse(name).ok();
            let officer = officer.and_then(|name| rules.officer(&name));
            officer.is_some_and(|officer| !officer.revoked)
        };
        let all = named.is_none_or(|rules| officers.iter().all(|name| may(rules, name)));
        all && !officers.is_empty()
    }

    /// A doubt about the clock was settled, by somebody who may, and who said about the time that it is.
    pub(super) fn settle(
        &self,
        doubt: u64,
        officers: &[String],
        unix_s: u64,
    ) -> Result<(), String> {
        let rules = self.rules()?;
        let is_about = |time: &TimeIs, stood: bool| {
            // Where the clock was set back, entries go on at the time they had come to.
            let behind = stood || unix_s <= time.unix.saturating_add(APART_SECONDS + GRACE_SECONDS);
            behind && time.unix <= unix_s.saturating_add(APART_SECONDS)
        };
        let said = |name: &String| {
            let officer = KeyName::parse(name).ok();
            officer.is_some_and(|officer| {
                let said = self.times.get(&officer);
                said.is_some_and(|(time, stood)| time.doubt == doubt && is_about(time, *stood))
                    && rules.may_tell_time(&officer)
            })
        };
        match !officers.is_empty() && officers.iter().all(said) {
            true => Ok(()),
            false => Err("the clock is believed again by nobody's word who may say so".to_owned()),
        }
    }

    /// A transaction was given out: whoever had to approve it, by the rules that its spend says were met, had, and nothing
    /// of it was frozen.
    pub(super) fn signed(&mut self, spend: &Spend, unix_s: u64) -> Result<(), String> {
        self.is_free(spend)?;
        let orders = names(spend);
        if self.refused.contains(&RequestId(spend.request))
            || orders.iter().any(|order| self.called_off.contains(order))
        {
            return Err("it was signed although an officer had said no".to_owned());
        }
        for order in orders {
            self.paid.entry(order).or_default().push(RequestId(spend.request));
        }
        let wait = self.waits.remove(&RequestId(spend.request));
        if let Some(wait) = &wait {
            self.leave(wait);
        }
        let Some(rules) = self.rules.as_ref().filter(|rules| rules.version() == spend.policy)
        else {
            return Ok(());
        };
        let ordered = |key: &[u8; 32]| spend.orders.iter().any(|order| order.key == *key);
        let keys = rules.order_keys().iter().filter(|key| ordered(&key.public_key));
        let orderers: BTreeSet<&KeyName> = keys.filter_map(|key| key.officer.as_ref()).collect();
        let counts = |(officer, (until, _)): &(&KeyName, &(u64, [u8; 32]))| {
            let key = rules.officer(officer).map(|officer| officer.key);
            let own = matches!(key, Some(OfficerKey::Ed25519(key)) if ordered(&key));
            !own && !orderers.contains(officer) && unix_s <= until.saturating_add(GRACE_SECONDS)
        };
        let wait = wait.filter(|wait| wait.paper.policy.version == rules.version());
        let approvals = wait.iter().flat_map(|wait| &wait.approvals);
        let by: BTreeSet<&KeyName> = approvals.filter(counts).map(|(officer, _)| officer).collect();
        for rule in spend.trace.iter().filter_map(|line| approved(line)) {
            let name = RuleName::parse(rule).map_err(|error| error.to_string())?;
            if !rules.is_approved(&name, &by) {
                return Err(format!(
                    "it was signed without the approvals that \"{rule}\" asks for"
                ));
            }
        }
        Ok(())
    }

    fn leave(&mut self, wait: &Wait) {
        let leaving = Leaving {
            intent: wait.paper.digest(),
            policy: wait.paper.policy,
            orders: wait.orders.clone(),
            approvals: wait.approvals.clone(),
            back: BTreeSet::new(),
        };
        self.leaving.insert(wait.paper.request, leaving);
    }

    /// What is signed is held back from here on: somebody took back what it was signed by, or said no to it.
    pub(super) fn withhold(
        &mut self,
        request: [u8; 16],
        code: &str,
        may_have_left: bool,
    ) -> Result<(), String> {
        let leaving = self.leaving.remove(&RequestId(request));
        let leaving = leaving.ok_or("what is held back waited for nobody, or was not signed")?;
        if !leaving.back.contains(code) {
            return Err("it is held back by nobody's word".to_owned());
        }
        if may_have_left {
            return Ok(());
        }
        for order in leaving.orders {
            let paid = self.paid.entry(order.clone()).or_default();
            paid.retain(|paid| *paid != RequestId(request));
            if paid.is_empty() && code != "revoked" {
                self.called_off.insert(order);
            }
        }
        Ok(())
    }

    /// A no to what is signed is followed by the entry that holds it back.
    pub(super) fn is_followed(&mut self, event: &Event) -> Result<(), String> {
        let Some(owed) = self.owed.take() else { return Ok(()) };
        match event {
            Event::Withheld { request, .. } if *request == owed.0 => Ok(()),
            _ => Err("an officer said no to what is signed, and it is not held back".to_owned()),
        }
    }

    /// An officer said no: to what waits, or to what is signed.
    fn object(&mut self, about: &About, code: &'static str) -> Result<(), String> {
        let leaving = self.leaving.get_mut(&about.request);
        let is = |one: &&mut Leaving| one.intent == about.intent && one.policy == about.policy;
        if let Some(leaving) = leaving.filter(is) {
            leaving.back.insert(code);
            self.owed = Some(about.request);
            return Ok(());
        }
        let orders = self.about(about)?.orders.clone();
        let is_paid = |order: &OrderName| self.paid.get(order).is_some_and(|paid| !paid.is_empty());
        let off: Vec<OrderName> = orders.into_iter().filter(|order| !is_paid(order)).collect();
        self.called_off.extend(off);
        self.refused.insert(about.request);
        Ok(())
    }

    fn is_free(&self, spend: &Spend) -> Result<(), String> {
        let lanes = self.rules.iter().flat_map(|rules| rules.lanes());
        let mut lanes = lanes.filter(|lane| lane.name.as_str() == spend.lane);
        let evacuates = lanes.any(policy::rules::Lane::is_evacuation);
        let stops = |scope: &FreezeScope| match scope {
            FreezeScope::Everything => !evacuates,
            FreezeScope::Evacuation => evacuates,
            FreezeScope::Wallet(wallet) => !evacuates && wallet.as_str() == spend.wallet,
            FreezeScope::Lane(lane) => !evacuates && lane.as_str() == spend.lane,
            FreezeScope::Client(client) => !evacuates && client.as_str() == spend.caller,
            FreezeScope::Slot(coin) => {
                !evacuates && spend.slots.iter().any(|slot| slot.slot == coin.0)
            }
        };
        match self.freezes.values().find(|frozen| stops(&frozen.scope)) {
            None => Ok(()),
            Some(frozen) => Err(format!("it was signed while {} was frozen", frozen.scope)),
        }
    }

    /// Whether a statement is by an officer of the policy in force, for this log, in time, and new.
    fn counts(&mut self, said: &Statement, key: &OfficerKey, unix_s: u64) -> Result<(), String> {
        let officer = self.rules()?.officer(&said.officer).map(|officer| officer.key);
        if officer != Some(*key) {
            return Err(format!("\"{}\" has no such key in the policy in force", said.officer));
        }
        if said.log != self.log || said.network != self.network {
            return Err("a statement was taken that is for another signer".to_owned());
        }
        let late = match &said.says {
            Says::Administer(task) => late(&task.deed, GRACE_SECONDS),
            _ => GRACE_SECONDS,
        };
        // A no does not end by a log whose time is ahead.
        if said.says.is_yes() && unix_s > said.expires_unix.saturating_add(late) {
            return Err("a statement was taken that had ended".to_owned());
        }
        match self.nonces.insert((said.officer.clone(), said.nonce)) {
            true => Ok(()),
            false => Err("a statement was taken twice".to_owned()),
        }
    }

    fn about(&mut self, about: &About) -> Result<&mut Wait, String> {
        let wait = self.waits.get_mut(&about.request);
        let wait = wait.filter(|wait| {
            wait.paper.digest() == about.intent && wait.paper.policy == about.policy
        });
        wait.ok_or_else(|| {
            "a statement was taken about a request that does not wait like that".to_owned()
        })
    }

    fn rules(&self) -> Result<&Rules, String> {
        self.rules.as_ref().ok_or_else(|| {
            "the policy in force cannot be read, and people are asked by it".to_owned()
        })
    }
}

/// How long after its words a deed may stand in the log. What is cleared while no log is open is written when one opens; the
/// signer takes none that is older than this.
fn late(deed: &Deed, otherwise: u64) -> u64 {
    match deed {
        Deed::ClearPin(_)
        | Deed::ClearPinLastTry(_)
        | Deed::ClearToken(_)
        | Deed::ForgetAnchor(_) => 31 * 86_400,
        _ => otherwise,
    }
}

/// What programs did without asking that asked for everything else already. No other deed was ever done so.
fn is_about_keys(deed: &Deed) -> bool {
    match deed {
        Deed::ActivateKeys(_)
        | Deed::MakeTokenKey(_)
        | Deed::ActivateTokenKey(_)
        | Deed::OpenKek
        | Deed::ImportKek(_)
        | Deed::ForgetKek(_) => true,
        Deed::Init
        | Deed::Import(_)
        | Deed::SetPin
        | Deed::Activate(_)
        | Deed::Revocations(_)
        | Deed::ClearPin(_)
        | Deed::ClearPinLastTry(_)
        | Deed::ClearToken(_)
        | Deed::ForgetAnchor(_) => false,
    }
}

fn has_key(rules: &Rules, name: &KeyName, key: &OfficerKey) -> bool {
    rules.officer(name).is_some_and(|officer| officer.key == *key)
}

fn names(spend: &Spend) -> Vec<OrderName> {
    spend.orders.iter().map(|order| (order.key, order.id.clone())).collect()
}

/// The rule whose approvals a line of a trace says are there.
fn approved(line: &str) -> Option<&str> {
    let rest = line.strip_prefix("pass approvals: \"")?;
    rest.split_once('"').map(|(rule, _)| rule)
}
