//! The rules between entries: what must have come before what, and which numbers must agree. It never looks at
//! bytes of the database, only at entries that were read.

mod wallets;
mod requests;
mod people;

use std::collections::{HashMap, HashSet};

use audit::attestation::verify_statement;
use audit::entry::{Entry, Event};
use sha2::{Digest as _, Sha256};

use super::coins::{self, SlotBytes};
use super::governed;
use super::people::People;
use super::pool::{Check, SignedBytes};
use requests::{Payments, Request};
use wallets::Imported;

/// The state of keys that are used.
const ACTIVE: &str = "active";

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
    /// Clients that are locked, and by which entry.
    locked: HashMap<String, u64>,
    /// Keys that were born in the token.
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
            | Event::PolicyWithdrawn { .. }
            | Event::PolicyPushed { .. } => self.policy(&entry.event),
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

    /// That by which something was decided must be the policy in force.
    fn in_force(&self, policy: u64) -> Result<(), String> {
        match self.policy == Some(policy) {
            true => Ok(()),
            false => Err(format!("policy {policy} decided, which is not in force")),
        }
    }
}
