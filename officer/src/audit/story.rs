//! The rules between entries: what must have come before what, and which numbers must agree. It never looks at
//! bytes of the database, only at entries that were read.

use std::collections::{HashMap, HashSet};

use audit::attestation::{Leaf, verify_statement};
use audit::entry::{Attested, Entry, Event, PaidOrder, Spend};
use audit::keys_line::KeysLine;
use audit::tree::Tree;
use bitcoin::Txid;
use policy::intent::RequestId;
use policy::order::OrderRef;
use policy::p256::Point;
use policy::people::OfficerKey;
use sha2::{Digest as _, Sha256};
use statement::{Deed, NO_TOKEN, Unbinding, VersionName};

use super::coins::{self, SlotBytes};
use super::governed;
use super::people::People;
use super::pool::{Check, SignedBytes};

/// The state of keys that are used.
const ACTIVE: &str = "active";
/// The tier of wallets that are only watched.
const COLD: &str = "cold";

/// What the entries so far said, as far as later ones must agree with it.
#[derive(Clone, Debug, Default)]
pub struct Story {
    network: String,
    attestation_key: [u8; 32],
    last_ms: u64,
    policy: Option<u64>,
    /// The text of that policy, and what was proposed to follow one.
    governed: governed::Governed,
    wallets: HashMap<String, Imported>,
    requests: HashMap<[u8; 16], Request>,
    amounts: HashMap<SlotBytes, u128>,
    /// By the key that signed them, and id.
    orders: HashMap<([u8; 32], String), Payments>,
    attested: HashMap<String, HashSet<u32>>,
    roots: HashSet<[u8; 32]>,
    /// Keys that were born in the token.
    /// Clients that are locked, and by which entry.
    locked: std::collections::HashMap<String, u64>,
    born: HashSet<Vec<u8>>,
    people: People,
    /// The entry that began the doubt about the clock, if it is in doubt, and where it holds the time, Unix seconds.
    doubt: Option<(u64, u64)>,
    /// Whether the last entry's time is that of the one before: it also stands still while the clock is behind.
    stood: bool,
    /// An entry has said which keys it asks for: every later one must.
    says_keys: bool,
    unverified: u64,
    /// A signed transaction that is still to be checked against what was allowed.
    check: Option<Check>,
}

#[derive(Clone, Debug)]
struct Imported {
    tier: String,
    /// Those that were born in the token, in hex; none where there is a bundle.
    keys: Vec<String>,
    /// Its transactions carry signatures that the log alone cannot verify.
    taproot: bool,
    bundle: [u8; 32],
    records: [u32; 2],
    proven: [u32; 2],
    failed: [Option<u32>; 2],
}

#[derive(Clone, Debug, Default)]
struct Request {
    spend: Option<Txid>,
    spent: Option<Box<Spend>>,
    signed: bool,
}

/// Every transaction that pays one order.
#[derive(Clone, Debug)]
struct Payments {
    digest: [u8; 32],
    versions: Vec<Version>,
}

/// One of them, as a request was allowed it.
#[derive(Clone, Debug)]
struct Version {
    request: [u8; 16],
    slots: HashSet<SlotBytes>,
    /// What was signed, with signatures and without.
    signed: Option<VersionName>,
    /// Officers said that it can never confirm.
    unbound: bool,
}

impl Payments {
    /// Whether this was signed for the order and binds it.
    fn binds(&self, name: &VersionName) -> bool {
        self.versions.iter().any(|version| version.signed == Some(*name) && !version.unbound)
    }
}

impl Story {
    /// The signed transaction of the entry taken last, whose signatures are to be checked.
    pub(super) fn take_check(&mut self) -> Option<Check> {
        self.check.take()
    }

    /// How many taproot signatures were not: they are over the coins' scripts, which the log does not hold.
    #[must_use]
    pub fn unverified(&self) -> u64 {
        self.unverified
    }

    /// How many deeds about keys were done by nobody's word, in a log that may be from before officers were asked.
    #[must_use]
    pub fn unasked(&self) -> u64 {
        self.people.unasked()
    }

    /// How many statements of officers were verified.
    #[must_use]
    pub fn statements(&self) -> u64 {
        self.people.statements()
    }

    /// Takes the next entry.
    ///
    /// # Errors
    /// What it breaks.
    pub fn follow(&mut self, seq: u64, entry: &Entry) -> Result<(), String> {
        self.pass(entry.unix_ms)?;
        self.people.is_followed(&entry.event)?;
        if entry.event.begun().is_some() != (seq == 0) {
            return Err("`opened` is entry 0 and only that".to_owned());
        }
        match &entry.event {
            Event::Opened { .. } | Event::OpenedUnder { .. } => self.begin(&entry.event),
            Event::PolicyActivated { .. }
            | Event::PolicyProposed { .. }
            | Event::PolicyVetoed { .. }
            | Event::PolicyWithdrawn { .. } => self.policy(&entry.event),
            Event::WalletImported { wallet, descriptor, tier, bundle, external, change } => {
                self.import(wallet, descriptor, tier, *bundle, [*external, *change])
            }
            Event::RecordsReplaced { .. } => self.replace(&entry.event),
            Event::Proven { wallet, change, below } => self.prove(wallet, *change, *below),
            Event::ProofFailed { wallet, change, index, .. } => self.fail(wallet, *change, *index),
            Event::Admitted(admitted) => {
                match self.requests.insert(admitted.request, Request::default()) {
                    None => Ok(()),
                    Some(_) => Err("this request was admitted before".to_owned()),
                }
            }
            Event::Denied { request, policy, trace, .. } => {
                self.in_force(*policy)?;
                self.denied(request, trace)
            }
            Event::Spend(spend) => self.spend(spend),
            Event::SpendAgain { request, policy, trace } => {
                self.spend_again(request, *policy, trace)
            }
            Event::Signed { request, transaction } => {
                let taproot = |spend: &_| coins::check_taproot(transaction, spend);
                self.signed(seq, request, SignedBytes::Transaction(transaction.clone()), taproot)
            }
            Event::PartlySigned { request, psbt } => {
                let taproot = |_: &_| Err("a taproot wallet has no other signers".to_owned());
                self.signed(seq, request, SignedBytes::Psbt(psbt.clone()), taproot)
            }
            Event::Failed { request, .. } => match self.request(request)?.spend {
                Some(_) => Ok(()),
                None => Err("a request failed that was never allowed".to_owned()),
            },
            Event::Attested(attested) => self.attest(attested),
            Event::AttestationSigned { root, signature } => {
                if !self.roots.contains(root) {
                    return Err("a root was signed that no attested batch has".to_owned());
                }
                verify_statement(root, signature, &self.attestation_key).map_err(|e| e.to_string())
            }
            Event::TailSetAside { from, count, .. } if *from != seq || *count == 0 => {
                Err("it does not stand where what it set aside began".to_owned())
            }
            // Which state may follow which is the signer's to keep; it folds this log by the same rule.
            Event::Refused { .. }
            | Event::Service { .. }
            | Event::TailSetAside { .. }
            | Event::Waived { .. }
            | Event::TokenOperations { .. }
            | Event::TokenDistrusted { .. } => Ok(()),
            Event::KeyState { wallet, state, .. } if state == ACTIVE => {
                self.done(&format!("key-activate {wallet}"), None)
            }
            Event::KeyState { .. } => Ok(()),
            Event::PinChanged { serial } => self.people.end_pin(serial, self.last_ms / 1000),
            event => self.lock(seq, event),
        }
    }

    fn spend_again(
        &mut self,
        request: &[u8; 16],
        policy: u64,
        trace: &[String],
    ) -> Result<(), String> {
        self.in_force(policy)?;
        self.stated(None, trace)?;
        let request = self.request(request)?;
        match (request.spend, request.signed) {
            (Some(_), false) => Ok(()),
            _ => Err("a request was allowed again that waited for no signature".to_owned()),
        }
    }

    fn pass(&mut self, unix_ms: u64) -> Result<(), String> {
        if unix_ms < self.last_ms {
            return Err("its time is before that of the entry before".to_owned());
        }
        self.stood = unix_ms == self.last_ms;
        self.last_ms = unix_ms;
        Ok(())
    }

    fn begin(&mut self, event: &Event) -> Result<(), String> {
        let begun = event.begun().ok_or("it does not begin a log")?;
        self.people.begin(begun.origin, begun.network, begun.officers.is_some());
        begun.network.clone_into(&mut self.network);
        self.attestation_key = *begun.attestation_key;
        self.governed.begin(begun.origin, begun.officers_digest());
        Ok(())
    }

    fn activate(
        &mut self,
        version: u64,
        digest: &[u8; 32],
        text: &str,
        officers: &[String],
    ) -> Result<(), String> {
        if self.policy.is_some_and(|active| version <= active) {
            return Err(format!("policy version {version} is not above the one before"));
        }
        if <[u8; 32]>::from(Sha256::digest(text)) != *digest {
            return Err("the policy's digest is not that of its text".to_owned());
        }
        if officers.is_empty() {
            return Err("nobody signed this policy".to_owned());
        }
        let now = self.last_ms / 1000;
        // A clock in doubt holds the delay.
        let now = self.doubt.map_or(now, |(_, held)| now.min(held));
        self.governed.activate(&self.network, now, digest, text, officers)?;
        self.policy = Some(version);
        self.people.activate(text, self.last_ms / 1000);
        Ok(())
    }

    fn policy(&mut self, event: &Event) -> Result<(), String> {
        match event {
            Event::PolicyActivated { version, digest, text, officers } => {
                self.activate(*version, digest, text, officers)
            }
            _ => self.governed.follow(&self.network, self.last_ms / 1000, event),
        }
    }

    fn hear(&mut self, statement: &[u8], signature: &[u8], key: &OfficerKey) -> Result<(), String> {
        let when = (self.last_ms / 1000, self.stood);
        let orders = &self.orders;
        let is_bound = |unbinding: &Unbinding| {
            let OrderRef { key, id } = &unbinding.order;
            let payments = orders.get(&(*key, id.to_string()));
            unbinding.versions.iter().all(|name| payments.is_some_and(|paid| paid.binds(name)))
        };
        match self.people.hear(statement, signature, key, when, is_bound)? {
            Some((officer, policy)) => self.governed.object(&officer, &policy),
            None => Ok(()),
        }
    }

    fn import(
        &mut self,
        wallet: &str,
        descriptor: &str,
        tier: &str,
        bundle: [u8; 32],
        records: [u32; 2],
    ) -> Result<(), String> {
        self.people.done(Deed::Import(bundle), None, self.last_ms / 1000)?;
        let taproot = descriptor.starts_with("tr(");
        let (tier, proven, failed) = (tier.to_owned(), [0, 0], [None, None]);
        let keys = Vec::new();
        let imported = Imported { tier, keys, taproot, bundle, records, proven, failed };
        match self.wallets.insert(wallet.to_owned(), imported) {
            None => Ok(()),
            Some(_) => Err(format!("another wallet was imported over \"{wallet}\"")),
        }
    }

    /// A client is freed only by officers, from the entry that locked it. Other kinds of entry are about the token.
    fn lock(&mut self, seq: u64, event: &Event) -> Result<(), String> {
        match event {
            Event::ClientLocked { client, .. } => match self.locked.insert(client.clone(), seq) {
                None => Ok(()),
                Some(_) => Err("a client was locked twice".to_owned()),
            },
            Event::ClientFreed { officers, .. } if !self.people.may_free(officers) => {
                Err("a client was freed by nobody who may".to_owned())
            }
            Event::ClientFreed { client, lock, .. } => match self.locked.remove(client) {
                Some(entry) if entry == *lock => Ok(()),
                _ => Err("a client was freed that this entry did not lock".to_owned()),
            },
            event => self.key_in_token(seq, event),
        }
    }

    /// Something was done at the signer's machine; with any token where the entry names none.
    fn done(&mut self, task: &str, token: Option<&str>) -> Result<(), String> {
        self.people.done(Deed::parse(task)?, token, self.last_ms / 1000)
    }

    /// Keys that were born in the token or brought into it; no other kind of entry is known here.
    fn key_in_token(&mut self, seq: u64, event: &Event) -> Result<(), String> {
        match event {
            Event::TokenKeyMade { name, serial, public_key, .. }
                if self.born.insert(public_key.clone()) =>
            {
                self.done(&format!("token-key-generate {name}"), Some(serial))
            }
            Event::TokenKeyMade { .. } => Err("this key was made before".to_owned()),
            Event::TokenKeyState { name, state, .. } if state == ACTIVE => {
                self.done(&format!("token-key-activate {name}"), None)
            }
            Event::TokenKeyState { .. } => Ok(()),
            Event::KekImport { what, key, serial } => {
                let key = key.map(hex::encode).unwrap_or_default();
                match what.as_str() {
                    "opening" => self.done("kek-open", Some(serial)),
                    "imported" => self.done(&format!("kek-import {key}"), Some(serial)),
                    "forgotten" => self.done(&format!("kek-forget {key}"), Some(serial)),
                    _ => Ok(()),
                }
            }
            Event::TokenWalletBound { wallet, tier, keys, indexes, .. } => {
                self.bind(wallet, tier, keys, *indexes)
            }
            event => self.of_people(seq, event),
        }
    }

    /// What waits for officers, and what they said; no other kind of entry is known here.
    fn of_people(&mut self, seq: u64, event: &Event) -> Result<(), String> {
        let unix_s = self.last_ms / 1000;
        match event {
            Event::Awaiting(awaiting) => {
                coins::check_spend(&awaiting.spend)?;
                self.stated(Some(&awaiting.spend), &awaiting.spend.trace)?;
                if self.policy != Some(awaiting.spend.policy) {
                    return Err("a request waits under a policy that is not in force".to_owned());
                }
                self.request(&awaiting.spend.request)?;
                self.people.wait(awaiting)
            }
            Event::WaitEnded { request, .. } => self.people.end(*request),
            Event::Withheld { request, policy, reason, may_have_left } => {
                self.in_force(*policy)?;
                self.people.withhold(*request, &reason.code, *may_have_left)
            }
            Event::ClockDoubted { held_unix, .. } => {
                let again = self.doubt.replace((seq, *held_unix)).is_some();
                match again || *held_unix > unix_s {
                    true => Err("the clock was doubted twice, or from later on".to_owned()),
                    false => Ok(()),
                }
            }
            Event::ClockBelieved { doubt, policy, officers } => {
                self.in_force(*policy)?;
                if self.doubt.take().map(|(entry, _)| entry) != Some(*doubt) {
                    return Err("a doubt about the clock was settled that was not there".to_owned());
                }
                self.people.settle(*doubt, officers, unix_s)
            }
            Event::Considered(considered) => {
                coins::check_considered(considered)?;
                self.request(&considered.request).map(drop)
            }
            Event::OfficerSaid { statement, signature, key, .. } => {
                self.hear(statement, signature, &OfficerKey::Ed25519(*key))
            }
            Event::OfficerSaidP256 { statement, signature, key, .. } => {
                let point = key.as_slice().try_into().ok().and_then(Point::read);
                let point = point.ok_or("an officer's P-256 key is no point of the curve")?;
                self.hear(statement, signature, &OfficerKey::P256(point))
            }
            Event::Administered { what, serial, site } => {
                let deed = match what.as_str() {
                    "init" => Deed::Init,
                    "activate" => Deed::Activate(*site),
                    "pin-clear" => Deed::ClearPin(*site),
                    "pin-clear-last-try" => Deed::ClearPinLastTry(*site),
                    "token-clear" => Deed::ClearToken(*site),
                    "anchor-forget" => Deed::ForgetAnchor(*site),
                    "revocations" => {
                        return self.done(&format!("revocations {serial}"), Some(NO_TOKEN));
                    }
                    "set-pin" => return self.people.begin_pin(serial, unix_s),
                    "set-pin failed" => return self.people.fail_pin(serial),
                    _ => return Err("this program does not know what was done there".to_owned()),
                };
                self.people.done(deed, Some(serial), unix_s)
            }
            Event::SanctionsRead { .. } | Event::FactStated { .. } => {
                self.people.fact(event, unix_s)
            }
            event => self.enough_said(event),
        }
    }

    /// What officers let happen by their words alone, enough of them; no other kind of entry is known here.
    fn enough_said(&mut self, event: &Event) -> Result<(), String> {
        let unix_s = self.last_ms / 1000;
        match event {
            Event::FreezeLifted { freeze, policy, officers } => {
                self.in_force(*policy)?;
                self.people.lift(freeze, officers, unix_s)
            }
            Event::Unbound { key, id, versions, policy, officers } => {
                self.in_force(*policy)?;
                self.people.unbind((key, id), versions, officers, unix_s)?;
                self.unbind(*key, id, versions)
            }
            _ => Err("this program does not know what it says: use a newer one".to_owned()),
        }
    }

    /// Only keys that the log says were born in the token sign for a wallet without a bundle.
    fn bind(
        &mut self,
        wallet: &str,
        tier: &str,
        keys: &[Vec<u8>],
        indexes: u32,
    ) -> Result<(), String> {
        if keys.is_empty() || !keys.iter().all(|key| self.born.contains(key)) {
            return Err(format!("\"{wallet}\" was bound to a key that was never made"));
        }
        let bundle = [0; 32];
        if self.wallets.get(wallet).is_some_and(|before| before.bundle != bundle) {
            return Err(format!("\"{wallet}\" was imported, and then bound to other keys"));
        }
        let (tier, records, failed) = (tier.to_owned(), [indexes; 2], [None, None]);
        // No token signs taproot (PKCS#11 has no Schnorr signature).
        let (taproot, proven) = (false, records);
        let keys = keys.iter().map(hex::encode).collect();
        let bound = Imported { tier, keys, taproot, bundle, records, proven, failed };
        self.wallets.insert(wallet.to_owned(), bound);
        Ok(())
    }

    /// Another bundle of the same keys: no fewer records, and proven only where it was proven already.
    fn replace(&mut self, event: &Event) -> Result<(), String> {
        let Event::RecordsReplaced {
            wallet,
            before,
            bundle,
            external,
            change,
            external_proven,
            change_proven,
        } = event
        else {
            return Ok(());
        };
        let (records, proven) = ([*external, *change], [*external_proven, *change_proven]);
        self.people.done(Deed::Import(*bundle), None, self.last_ms / 1000)?;
        let imported = self.wallet(wallet)?;
        if imported.bundle != *before || bundle == before {
            return Err(format!("a bundle that \"{wallet}\" does not have was replaced"));
        }
        if imported.records.iter().zip(records).any(|(before, now)| now < *before) {
            return Err(format!("\"{wallet}\" has fewer records than before"));
        }
        if imported.proven.iter().zip(proven).any(|(before, now)| now > *before) {
            return Err(format!("\"{wallet}\" is proven further than it was"));
        }
        let (taproot, tier, bundle) = (imported.taproot, imported.tier.clone(), *bundle);
        let (keys, failed) = (Vec::new(), [None, None]);
        *imported = Imported { tier, keys, taproot, bundle, records, proven, failed };
        Ok(())
    }

    fn prove(&mut self, wallet: &str, change: bool, below: u32) -> Result<(), String> {
        let branch = usize::from(change);
        let imported = self.wallet(wallet)?;
        let records = imported.records.get(branch).copied().unwrap_or_default();
        let failed = imported.failed.get(branch).copied().flatten().unwrap_or(u32::MAX);
        let proven = imported.proven.get_mut(branch).ok_or("no such branch")?;
        if below < *proven || below > records {
            return Err(format!(
                "\"{wallet}\" is proven up to {below}, after {proven} of {records}"
            ));
        }
        if below > failed {
            return Err(format!("\"{wallet}\" is proven past index {failed}, which failed"));
        }
        *proven = below;
        Ok(())
    }

    fn fail(&mut self, wallet: &str, change: bool, index: u32) -> Result<(), String> {
        let imported = self.wallet(wallet)?;
        let failed = imported.failed.get_mut(usize::from(change)).ok_or("no such branch")?;
        *failed = Some(index);
        Ok(())
    }

    fn spend(&mut self, spend: &Spend) -> Result<(), String> {
        let coins = coins::check_spend(spend)?;
        self.stated(Some(spend), &spend.trace)?;
        self.in_force(spend.policy)?;
        for slot in &spend.slots {
            let bytes = coins::slot(&slot.slot)?;
            if *self.amounts.entry(bytes).or_insert(slot.amount) != slot.amount {
                return Err("an earlier entry says another amount for the same coin".to_owned());
            }
        }
        for order in &spend.orders {
            self.pay(order, spend.request, &coins.slots)?;
        }
        let request = self.request(&spend.request)?;
        if request.spend.is_some_and(|earlier| earlier != coins.txid) {
            return Err("the same request was allowed another transaction before".to_owned());
        }
        request.spend = Some(coins.txid);
        if !request.signed {
            // Kept only until it is signed: what a signature is checked against.
            request.spent = Some(Box::new(spend.clone()));
        }
        Ok(())
    }

    /// That by which something was decided must be the policy in force.
    fn in_force(&self, policy: u64) -> Result<(), String> {
        match self.policy == Some(policy) {
            true => Ok(()),
            false => Err(format!("policy {policy} decided, which is not in force")),
        }
    }

    fn denied(&mut self, request: &[u8; 16], trace: &[String]) -> Result<(), String> {
        self.stated(None, trace)?;
        self.request(request).map(drop)
    }

    /// A trace says which keys it asks for: of that wallet, of the tier that was imported, for as many inputs, and those that
    /// were bound. Older entries do not say it; once one has, every later one must.
    fn stated(&mut self, spend: Option<&Spend>, trace: &[String]) -> Result<(), String> {
        let Some(said) = KeysLine::of(trace)? else {
            return match self.says_keys {
                true => {
                    Err("it does not say which keys it asks for, as entries before it do".into())
                }
                false => Ok(()),
            };
        };
        self.says_keys = true;
        self.people.asks_for_keys();
        if spend.is_some_and(|spend| spend.wallet != said.wallet) {
            return Err(format!("it says that it asks for keys of \"{}\"", said.wallet));
        }
        if let Some(spent) = spend.map(|spend| spend.slots.len()).filter(|n| *n != said.inputs) {
            return Err(format!("it says that it has {} inputs, of {spent}", said.inputs));
        }
        let Some(imported) = self.wallets.get(said.wallet) else { return Ok(()) };
        let (wallet, tier) = (said.wallet, &imported.tier);
        // No cold wallet is asked for keys: what says so asks for none.
        if said.tier != tier && (spend.is_some() || said.tier != COLD) {
            let stated = said.tier;
            return Err(format!(
                "it says that \"{wallet}\" is {stated}, which was imported as {tier}"
            ));
        }
        let (named, more) = &said.keys;
        let bound = imported.keys.len();
        let all = named.len().saturating_add(*more) == bound
            && named.iter().all(|key| imported.keys.iter().any(|bound| bound == key));
        if bound > 0 && said.tier != COLD && !all {
            return Err(format!("it names other keys than \"{wallet}\" was bound to"));
        }
        Ok(())
    }

    /// An order may be paid again only by a transaction that cannot confirm beside any earlier one.
    fn pay(
        &mut self,
        PaidOrder { key, id, digest, .. }: &PaidOrder,
        request: [u8; 16],
        slots: &HashSet<SlotBytes>,
    ) -> Result<(), String> {
        let digest = *digest;
        let payments = self
            .orders
            .entry((*key, id.clone()))
            .or_insert_with(|| Payments { digest, versions: Vec::new() });
        if payments.digest != digest {
            return Err(format!("order {id} was paid before with other content"));
        }
        // The same request is the same transaction, and what came after it had to conflict with it.
        if payments.versions.iter().any(|earlier| earlier.request == request) {
            return Ok(());
        }
        let binding = payments.versions.iter().filter(|earlier| !earlier.unbound);
        if binding.into_iter().any(|earlier| earlier.slots.is_disjoint(slots)) {
            return Err(format!(
                "order {id} could be paid twice: an earlier transaction shares no coin"
            ));
        }
        payments.versions.push(Version {
            request,
            slots: slots.clone(),
            signed: None,
            unbound: false,
        });
        Ok(())
    }

    /// An order is bound no longer to what was signed for it by now, and to nothing else.
    fn unbind(&mut self, key: [u8; 32], id: &str, versions: &[[u8; 32]]) -> Result<(), String> {
        let none = "an order was unbound from what was never signed for it";
        let order = (key, id.to_owned());
        let payments = self.orders.get_mut(&order).ok_or(none)?;
        let mut requests = Vec::new();
        for version in versions {
            let bound = payments.versions.iter_mut();
            let bound = bound.filter(|known| {
                known.signed.is_some_and(|signed| signed.signed == *version) && !known.unbound
            });
            let mut bound = bound.peekable();
            if bound.peek().is_none() {
                return Err(none.to_owned());
            }
            for known in bound {
                known.unbound = true;
                requests.push(RequestId(known.request));
            }
        }
        self.people.unbound(&order, &requests);
        Ok(())
    }

    fn signed(
        &mut self,
        seq: u64,
        request: &[u8; 16],
        signed: SignedBytes,
        taproot: impl FnOnce(&Spend) -> Result<u64, String>,
    ) -> Result<(), String> {
        let request = self.request(request)?;
        if request.signed {
            return Err("this request was signed before".to_owned());
        }
        let spend = request.spent.take().ok_or("a transaction was signed that nobody allowed")?;
        request.signed = true;
        // That what was signed is what was allowed, and nothing else, is checked with its signatures.
        let (signed_digest, bare) =
            (Sha256::digest(signed.bytes()), Sha256::digest(&spend.transaction));
        let name = VersionName { signed: signed_digest.into(), bare: bare.into() };
        for order in &spend.orders {
            let payments = self.orders.get_mut(&(order.key, order.id.clone()));
            let versions = payments.into_iter().flat_map(|payments| &mut payments.versions);
            for version in versions.filter(|version| version.request == spend.request) {
                version.signed = Some(name);
            }
        }
        self.people.signed(&spend, self.last_ms / 1000)?;
        if self.wallets.get(&spend.wallet).is_some_and(|wallet| wallet.taproot) {
            let unverified = taproot(&spend)?;
            self.unverified = self.unverified.saturating_add(unverified);
            return Ok(());
        }
        self.check = Some(Check { seq, spend: *spend, signed });
        Ok(())
    }

    fn attest(&mut self, attested: &Attested) -> Result<(), String> {
        let network = self.network.clone();
        let proven = self.wallet(&attested.wallet)?.proven;
        let known = self.attested.entry(attested.wallet.clone()).or_default();
        let mut leaves = Vec::with_capacity(attested.claims.len());
        for claim in &attested.claims {
            if proven.first().is_none_or(|below| claim.index >= *below) {
                return Err(format!("index {} was attested before it was proven", claim.index));
            }
            if !known.insert(claim.index) {
                return Err(format!("index {} was attested before", claim.index));
            }
            let leaf = Leaf {
                network: network.clone(),
                wallet: attested.wallet.clone(),
                index: claim.index,
                address: claim.address.clone(),
                reference: claim.reference.clone(),
                expires_unix: claim.expires_unix,
            };
            leaves.push(leaf.hash().map_err(|error| error.to_string())?);
        }
        if leaves.is_empty() || Tree::build(leaves).root() != attested.root {
            return Err("the attested root is not that of its addresses".to_owned());
        }
        self.roots.insert(attested.root);
        Ok(())
    }

    fn wallet(&mut self, name: &str) -> Result<&mut Imported, String> {
        self.wallets.get_mut(name).ok_or_else(|| format!("wallet \"{name}\" was never imported"))
    }

    fn request(&mut self, id: &[u8; 16]) -> Result<&mut Request, String> {
        self.requests.get_mut(id).ok_or_else(|| "this request was never admitted".to_owned())
    }
}
