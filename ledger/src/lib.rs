//! The log folded into memory: everything a decision may ask about the past. It is changed by entries alone,
//! never decides, and never reads a clock.
//!
//! Reading order: [`Ledger`] (which entry changes what), `condensed` (what of an entry it looks at), `spends` (what was signed: `coins`, conflict `sets`, `orders`, and as `evidence`), `sums`, `windows` and `payees` (what they come to, ready when asked for), `parents` (what is out, for change that pays for it),
//! `indexes` (how far own outputs have gone),
//! `attested` (addresses), `wallets` (imports and watermarks), `born` (the token's own keys), `keks`, `people` (what officers said, and what waits for them), `deeds` (what uses that up), `facts` (what others stated), `book` (whom they put into the address book, as `scripts`), `states`, `locks`, `clock` (whether time is believed), `listed` (since when destinations are known), [`nonces`] (no nonce signs twice).

mod fold;
pub mod condensed;
mod clock;
pub mod apart;
mod seeded;
mod numbers;
mod requests;
mod reservation;
mod payments;
mod spend;
mod spends;
mod coins;
mod sets;
mod orders;
mod evidence;
mod windows;
mod sums;
mod payees;
mod indexes;
mod attested;
mod wallets;
mod states;
mod locks;
mod born;
mod keks;
mod policies;
mod listed;
mod parents;
mod people;
mod deeds;
mod facts;
mod bare;
mod book;
mod scripts;
pub mod nonces;

use std::collections::{BTreeSet, HashMap};
use std::hash::{BuildHasher, Hash};

use asset::Amount;
use audit::entry::{self, Entry, Event};
use bitcoin::Transaction;
use policy::Evidence;
use policy::evidence::{Parent, Question};
use policy::intent::{Intent, RequestId, SlotId};
use policy::names::{ListName, OrderId, WalletName};
use policy::order::OrderRef;
use sha2::{Digest as _, Sha256};
use statement::{Deed, Says, Signed, Unbinding, VersionName};

pub use clock::Doubt;
pub use condensed::Condensed;
pub use fold::{Fold, FoldError};

pub use attested::{Attested, Batch, Leaf, Place};
pub use bare::{bare, bare_digest, bare_digest_of_psbt};
pub use book::{Book, BookEntry};
pub use born::{BornKey, BornKeys};
pub use facts::{Balanced, Facts, SanctionsRead};
pub use keks::{KekStep, Keks};
pub use locks::Locks;
pub use orders::Version;
pub use people::{Frozen, Objection, People, Wait, Withheld, Word};
pub use requests::{Answer, Request};
pub use reservation::Names;
pub use scripts::{booked_scripts, count as count_scripts, scripts};
pub use spends::{Given, Released};
pub use states::KeyState;
pub use wallets::{Imported, Imports};

pub use policies::{ActivePolicy, Proposal};

use apart::Apart;
use listed::Listings;
use nonces::{Nonces, Points};
use parents::Out;
use people::Waiting;
use requests::Requests;
use spends::Spends;
use wallets::Replaced;

/// The state. Memory grows with history, on purpose: an input costs about 130 bytes for ever, since the signer
/// never learns whether a transaction it signed still can confirm; a request about 100, an attested address
/// about 150. Ten million coins and a million addresses fit in 1.8 GB. A payout of its own, with its order and whom it pays,
/// is about a kilobyte in all; and each kind of question about windows, once asked, 12 bytes for each spend that is part of it.
#[derive(Debug, Default)]
pub struct Ledger {
    beginning: Option<Beginning>,
    policies: policies::Policies,
    listings: Listings,
    imports: Imports,
    key_states: states::KeyStates,
    born: born::BornKeys,
    keks: Keks,
    requests: Requests,
    spends: Spends,
    attested: Attested,
    locks: Locks,
    nonces: Nonces,
    parents: parents::Parents,
    people: People,
    clock: clock::Believed,
    facts: Facts,
    latest_unix: u64,
}

/// What entry 0 says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Beginning {
    /// CAIP-2 chain id.
    pub network: String,
    /// Raw Ed25519 key that signs attestations.
    pub attestation_key: [u8; 32],
    /// SHA-256 of the wrapping key's SubjectPublicKeyInfo.
    pub wrapping_fingerprint: [u8; 32],
    /// SHA-256 of the text about the officers that the first policy must have, where that was fixed.
    pub officers: Option<[u8; 32]>,
}

impl Ledger {
    /// Nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// What the log knows that bears on the intent, answering the policy's questions. What the intent's own
    /// request reserved earlier counts once.
    #[must_use]
    pub fn evidence(&self, intent: &Intent, questions: &[Question], now_unix: u64) -> Evidence {
        let proven = |wallet: &WalletName| self.imports.wallet(wallet).map(|w| w.proven(true));
        let evidence = self.spends.evidence(intent, questions, now_unix, proven);
        // What people said is added by whoever knows the policy's keys.
        evidence.time_held(self.clock.doubt().map(|doubt| doubt.held_unix))
    }

    /// Makes ready what questions like these need, which takes a walk through everything: the first who asks would wait for
    /// it otherwise.
    pub fn prepare(&self, questions: &[Question]) {
        self.spends.prepare(questions);
    }

    /// How many kinds of questions have no total ready, because there was no room for it: each takes a walk through everything.
    #[must_use]
    pub fn totals_given_up(&self) -> usize {
        self.spends.given_up()
    }

    /// How much of a rolling limit is used now, whoever asks next; `None` where no decision has asked for that total, which
    /// would have to be added up.
    #[must_use]
    pub fn used(&self, question: &Question, now_unix: u64) -> Option<Amount> {
        if !self.spends.keeps(question) {
            return None;
        }
        let answers = self.spends.answers(std::slice::from_ref(question), None, now_unix);
        // What nobody can tell is as good as used up.
        Some(answers.first().map_or(Amount::MAX, |answer| answer.others))
    }

    /// What was given out so far, as the question asks, whenever it was.
    #[must_use]
    pub fn paid(&self, question: &Question) -> Amount {
        self.spends.paid(question)
    }

    /// When this script was first paid, and when last, in Unix seconds.
    #[must_use]
    pub fn paid_when(&self, script: &[u8]) -> Option<(u64, u64)> {
        self.spends.paid_when(script)
    }

    /// The time to decide by: a clock that was set back does not make expired orders valid again.
    #[must_use]
    pub fn not_before_latest(&self, clock_unix: u64) -> u64 {
        clock_unix.max(self.latest_unix)
    }

    /// The doubt about the clock that nobody has settled.
    #[must_use]
    pub fn doubt(&self) -> Option<Doubt> {
        self.clock.doubt()
    }

    /// How far time has come for whoever waits: no further than where the clock came in doubt.
    #[must_use]
    pub fn waited_until(&self, clock_unix: u64) -> u64 {
        let now = self.not_before_latest(clock_unix);
        self.doubt().map_or(now, |doubt| now.min(doubt.held_unix))
    }

    /// When a signer that ran last wrote something, in Unix seconds.
    #[must_use]
    pub fn ran_unix(&self) -> u64 {
        self.clock.ran_unix()
    }

    /// For how many seconds of the last day nobody wrote, were a signer to start now.
    #[must_use]
    pub fn stood_still(&self, clock_unix: u64) -> u64 {
        self.clock.stood_still(self.not_before_latest(clock_unix))
    }

    /// When the last entry was written, in Unix seconds.
    #[must_use]
    pub fn latest_unix(&self) -> u64 {
        self.latest_unix
    }

    /// What entry 0 says; `None` only before it was folded.
    #[must_use]
    pub fn beginning(&self) -> Option<&Beginning> {
        self.beginning.as_ref()
    }

    /// The policy last put into force.
    #[must_use]
    pub fn policy(&self) -> Option<ActivePolicy> {
        self.policies.active()
    }

    /// A policy that was proposed, by the SHA-256 of its text.
    #[must_use]
    pub fn proposal(&self, digest: &[u8; 32]) -> Option<Proposal> {
        self.policies.proposal(digest)
    }

    /// Every policy that was proposed and may come into force, by the SHA-256 of its text.
    #[must_use]
    pub fn proposed(&self) -> Vec<[u8; 32]> {
        let open = self.policies.proposals().filter(|(_, proposal)| !proposal.vetoed);
        open.map(|(digest, _)| *digest).collect()
    }

    /// What was handed in over the wire and may come into force, by the SHA-256 of its text. There is one at most.
    #[must_use]
    pub fn pushed(&self) -> Option<([u8; 32], Proposal)> {
        let mut open = self.policies.proposals().filter(|(_, one)| one.pushed && !one.vetoed);
        open.next().map(|(digest, proposal)| (*digest, proposal.clone()))
    }

    /// When the last ten policies came into force that were handed in over the wire, Unix seconds, the latest last.
    pub fn pushed_times(&self) -> impl DoubleEndedIterator<Item = u64> + Clone + '_ {
        self.policies.pushed_times()
    }

    /// Every policy that was vetoed, by the SHA-256 of its text.
    #[must_use]
    pub fn vetoed(&self) -> Vec<[u8; 32]> {
        let vetoed = self.policies.proposals().filter(|(_, proposal)| proposal.vetoed);
        vetoed.map(|(digest, _)| *digest).collect()
    }

    /// Since when policies in force have had this list entry as it is, without a break.
    #[must_use]
    pub fn listed_since(&self, list: &ListName, label: &str) -> Option<u64> {
        self.listings.since(list, label)
    }

    /// Imported wallets.
    #[must_use]
    pub fn imports(&self) -> &Imports {
        &self.imports
    }

    /// What was said of a wallet's keys under this name; the signer's `Kin` knows their other names.
    #[must_use]
    pub fn key_state(&self, wallet: &WalletName) -> KeyState {
        self.key_states.of(wallet)
    }

    /// What may be done with a wallet's keys: what was said of the wallet and of each of the token's own keys in it,
    /// whatever is strictest.
    #[must_use]
    pub fn standing(&self, wallet: &WalletName) -> KeyState {
        let keys = self.imports.wallet(wallet).map(Imported::born).unwrap_or_default();
        let states = keys.iter().filter_map(|key| Some(self.born.key(key)?.state));
        states.fold(self.key_state(wallet), KeyState::strictest)
    }

    /// Keys that were born in the token.
    #[must_use]
    pub fn born(&self) -> &BornKeys {
        &self.born
    }

    /// Key-encryption keys that were imported.
    #[must_use]
    pub fn keks(&self) -> &Keks {
        &self.keks
    }

    /// A request that was readable.
    #[must_use]
    pub fn request(&self, id: RequestId) -> Option<Request> {
        self.requests.get(id).copied()
    }

    /// How far a request has come.
    #[must_use]
    pub fn given(&self, id: RequestId) -> Given {
        match self.requests.get(id).and_then(|request| request.answer) {
            Some(_) => Given::Signed,
            None if self.spends.contains(id) => Given::Allowed,
            None => Given::Nothing,
        }
    }

    /// How far an order has come, by whichever request.
    #[must_use]
    pub fn order(&self, order: &OrderRef) -> Given {
        self.spends.order(order)
    }

    /// Everything that was signed for an order, newest first.
    pub fn released(&self, order: &OrderRef) -> impl Iterator<Item = Released> {
        self.spends.released(order)
    }

    /// Everything that was allowed for an order, and whether it binds it still.
    pub fn versions(&self, order: &OrderRef) -> impl Iterator<Item = Version> {
        self.spends.versions(order)
    }

    /// What was signed for an order and binds it, as officers' statements name it.
    #[must_use]
    pub fn bound(&self, order: &OrderRef) -> BTreeSet<VersionName> {
        bound(&self.spends, &self.requests, order)
    }

    /// When an order ends, by the latest of its texts that something was allowed for, in Unix seconds.
    #[must_use]
    pub fn order_ends(&self, order: &OrderRef) -> Option<u64> {
        self.spends.orders.get(order).map(|paid| paid.expires_unix)
    }

    /// Whether something was signed for an order that binds it and may have been let out, by another request than this one.
    #[must_use]
    pub fn may_have_left(&self, order: &OrderRef, but: RequestId) -> bool {
        left(&self.spends, &self.people, order, Some(but))
    }

    /// Whether what was allowed for the request spends this coin.
    #[must_use]
    pub fn spends_coin(&self, request: RequestId, coin: &SlotId) -> bool {
        self.spends.spends_coin(request, coin)
    }

    /// Every order of this id that something was allowed for; each key has ids of its own.
    #[must_use]
    pub fn orders_named(&self, id: &OrderId) -> Vec<OrderRef> {
        self.spends.orders_named(id)
    }

    /// Attested addresses.
    #[must_use]
    pub fn attested(&self) -> &Attested {
        &self.attested
    }

    /// Clients that are locked out.
    #[must_use]
    pub fn locks(&self) -> &Locks {
        &self.locks
    }

    /// What officers said, and what waits for them.
    #[must_use]
    pub fn people(&self) -> &People {
        &self.people
    }

    /// What was stated by those whom the policy lets state facts.
    #[must_use]
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// The transaction that was given out lately and whose output this coin is.
    #[must_use]
    pub fn parent(&self, coin: SlotId, now_unix: u64) -> Option<Parent> {
        self.parents.of(coin, now_unix)
    }

    /// The nonce points of all released signatures.
    #[must_use]
    pub fn nonces(&self) -> &Nonces {
        &self.nonces
    }

    /// Highest index that a signed transaction paid to, on a wallet's change branch or a cold wallet's external.
    #[must_use]
    pub fn last_used(&self, wallet: &WalletName, change: bool) -> Option<u32> {
        self.spends.last_used(wallet, change)
    }

    /// A request was answered by a transaction with all its signatures.
    fn signed(&mut self, at: (u64, u64), id: RequestId, signed: &[u8]) -> Result<(), FoldError> {
        let read: Option<Transaction> = bitcoin::consensus::deserialize(signed).ok();
        let points = read.as_ref().map(Points::of).unwrap_or_default();
        let (bare, out) = (read.as_ref().map(bare_digest), read.as_ref().map(Out::of));
        self.answer(at, id, (Sha256::digest(signed).into(), bare), points, out)
    }

    /// A request was answered; of a transaction with all its signatures, which is out then, its change may pay for it.
    fn answer(
        &mut self,
        (seq, unix_s): (u64, u64),
        id: RequestId,
        (digest, bare): ([u8; 32], Option<[u8; 32]>),
        points: Points,
        out: Option<Out>,
    ) -> Result<(), FoldError> {
        let (fee, unordered) = self.spends.release(id, bare)?;
        let request = self.requests.admitted(id)?;
        if request.answer.is_some() {
            return Err(wrong("a request was answered twice"));
        }
        request.answer = Some(Answer { seq, digest });
        self.people.sign(id);
        self.nonces.learn(points);
        if let Some(out) = out {
            self.parents.add((id, out), fee, unordered, unix_s);
        }
        Ok(())
    }

    /// What waits for people, and what they said.
    fn of_people(&mut self, seq: u64, event: &Event, unix_s: u64) -> Result<(), FoldError> {
        match event {
            Event::Awaiting(awaiting) => {
                self.wait(seq, &awaiting.spend, Waiting::of(awaiting)?, unix_s)
            }
            Event::WaitEnded { request, .. } => {
                let request = RequestId(*request);
                if !self.people.end(request) {
                    return Err(wrong("a wait ended that had not begun"));
                }
                self.spends.wait_no_longer(request);
                Ok(())
            }
            Event::OfficerSaid { statement, signature, .. }
            | Event::OfficerSaidP256 { statement, signature, .. } => {
                let signature = signature.as_slice().try_into();
                let signature = signature.map_err(|_| wrong("a signature is not 64 bytes"))?;
                let signed = Signed { statement: statement.clone(), signature };
                let (spends, requests) = (&self.spends, &self.requests);
                let paid = |order: &OrderRef, people: &People| left(spends, people, order, None);
                let bound = |unbinding: &Unbinding| {
                    let bound = bound(spends, requests, &unbinding.order);
                    unbinding.versions.iter().all(|version| bound.contains(version))
                };
                if let Some(Says::Unlist { list, label }) =
                    self.people.hear(signed, unix_s, paid, bound)?
                {
                    let network = network(self.beginning.as_ref());
                    self.facts.unlist(list, label, network, unix_s);
                }
                Ok(())
            }
            Event::Withheld { request, reason, may_have_left, .. } => {
                let (spends, request) = (&self.spends, RequestId(*request));
                let paid =
                    |order: &OrderRef, people: &People| left(spends, people, order, Some(request));
                self.people.withhold(request, reason, *may_have_left, unix_s, paid)?;
                if !may_have_left {
                    self.spends.withhold(request);
                    self.parents.withhold(request);
                }
                Ok(())
            }
            Event::FreezeLifted { freeze, .. } => self.people.lift(freeze),
            Event::Unbound { key, id, versions, .. } => {
                let order = OrderRef { key: *key, id: name(OrderId::parse(id))? };
                let is = |request, version: &[u8; 32]| {
                    let answer = self.requests.get(request).and_then(|request| request.answer);
                    answer.is_some_and(|answer| answer.digest == *version)
                };
                self.spends.unbind(&order, versions, is)?;
                self.people.unbind(&order, versions);
                Ok(())
            }
            Event::Administered { what, serial, site } => {
                self.people.administer(what, serial, *site)
            }
            Event::SanctionsRead { .. } | Event::FactStated { .. } => {
                self.facts.take(seq, event, network(self.beginning.as_ref()), unix_s)
            }
            // A token's trust is the signer's own to keep: nothing that a decision asks about hangs on it.
            Event::TokenDistrusted { .. } => Ok(()),
            event => self.born_in_token(event),
        }
    }

    fn wait(
        &mut self,
        seq: u64,
        spend: &entry::Spend,
        waiting: Waiting,
        unix_s: u64,
    ) -> Result<(), FoldError> {
        let digest = self.tell(RequestId(spend.request))?;
        self.people.await_people(seq, spend, waiting)?;
        self.spends.wait(spend, digest, unix_s)
    }

    /// What became of keys that were born in the token; no other kind of entry is known here.
    fn born_in_token(&mut self, event: &Event) -> Result<(), FoldError> {
        match event {
            Event::TokenKeyMade { name, public_key, .. } => self.born.make(name, public_key),
            Event::TokenKeyState { name, state, .. } => self.born.set(name, state),
            Event::TokenWalletBound { wallet, descriptor, tier, keys, cloning_proof, indexes } => {
                let keys = self.born.known(keys)?;
                self.imports.bind(wallet, descriptor, tier, keys, *cloning_proof, *indexes)
            }
            _ => Err(wrong(
                "this program does not know this kind of entry: use the one that wrote it",
            )),
        }
    }

    /// What became of a wallet's records, or of the PIN; no other kind of entry is known here.
    fn of_wallet(&mut self, event: &Event) -> Result<(), FoldError> {
        match event {
            Event::WalletImported { wallet, descriptor, tier, bundle, external, change } => {
                self.people.done(&Deed::Import(*bundle));
                self.imports.import(wallet, descriptor, tier, *bundle, [*external, *change])
            }
            Event::RecordsReplaced {
                wallet,
                before,
                bundle,
                external,
                change,
                external_proven,
                change_proven,
            } => {
                self.people.done(&Deed::Import(*bundle));
                let external = Replaced { records: *external, proven: *external_proven };
                let change = Replaced { records: *change, proven: *change_proven };
                self.imports.replace(wallet, *before, *bundle, [external, change])
            }
            Event::PinChanged { serial } => {
                self.people.pin_changed(serial);
                self.keks.pin_changed(serial);
                Ok(())
            }
            Event::Proven { wallet, change, below } => self.imports.prove(wallet, *change, *below),
            Event::ProofFailed { wallet, change, index, reason } => {
                self.imports.fail(wallet, *change, *index, reason)
            }
            _ => Err(wrong("this entry is about no wallet")),
        }
    }

    /// The log holds what this request would do; its digest.
    fn tell(&mut self, id: RequestId) -> Result<[u8; 32], FoldError> {
        let request = self.requests.admitted(id)?;
        request.told = true;
        Ok(request.digest)
    }
}

impl Fold for Ledger {
    fn apply(&mut self, seq: u64, entry: &Entry) -> Result<(), FoldError> {
        let unix_s = entry.unix_ms.checked_div(1000).unwrap_or_default();
        self.latest_unix = self.latest_unix.max(unix_s);
        self.clock.take(seq, &entry.event, unix_s)?;
        if let Some(deed) = deeds::of(&entry.event)? {
            self.people.done(&deed);
        }
        match &entry.event {
            Event::Opened { .. } | Event::OpenedUnder { .. } => {
                self.beginning = entry.event.begun().map(|begun| Beginning {
                    network: begun.network.to_owned(),
                    attestation_key: *begun.attestation_key,
                    wrapping_fingerprint: *begun.wrapping_fingerprint,
                    officers: begun.officers_digest(),
                });
                Ok(())
            }
            Event::PolicyActivated { .. }
            | Event::PolicyProposed { .. }
            | Event::PolicyVetoed { .. }
            | Event::PolicyWithdrawn { .. }
            | Event::PolicyPushed { .. } => {
                self.policies.take(seq, &entry.event, unix_s)?;
                if let Event::PolicyActivated { text, .. } = &entry.event {
                    self.listings.activate(text, unix_s);
                    self.facts.activate(text, network(self.beginning.as_ref()), unix_s);
                }
                Ok(())
            }
            Event::WalletImported { .. }
            | Event::RecordsReplaced { .. }
            | Event::Proven { .. }
            | Event::ProofFailed { .. }
            | Event::PinChanged { .. } => self.of_wallet(&entry.event),
            Event::Admitted(asked) => self.requests.admit(RequestId(asked.request), asked.digest),
            Event::Denied { request, .. } | Event::Failed { request, .. } => {
                self.requests.admitted(RequestId(*request)).map(drop)
            }
            Event::Considered(considered) => self.tell(RequestId(considered.request)).map(drop),
            Event::Spend(spend) => {
                let digest = self.tell(RequestId(spend.request))?;
                self.spends.add(spend, digest, unix_s)
            }
            Event::SpendAgain { request, .. } => self.spends.again(RequestId(*request), unix_s),
            Event::Signed { request, transaction } => {
                self.signed((seq, unix_s), RequestId(*request), transaction)
            }
            Event::PartlySigned { request, psbt } => {
                let points = Points::of_psbt_bytes(psbt).unwrap_or_default();
                let digests = (Sha256::digest(psbt).into(), bare_digest_of_psbt(psbt));
                self.answer((seq, unix_s), RequestId(*request), digests, points, None)
            }
            Event::Attested(attested) => {
                self.attested.add(network(self.beginning.as_ref()), attested)
            }
            Event::AttestationSigned { root, signature } => self.attested.sign(root, signature),
            Event::KeyState { wallet, state, .. } => self.key_states.set(wallet, state),
            Event::ClientLocked { client, .. } => self.locks.lock(client, seq),
            Event::ClientFreed { client, lock, .. } => self.locks.free(client, *lock),
            // These change nothing that a decision asks about.
            Event::Refused { .. }
            | Event::Service { .. }
            | Event::TailSetAside { .. }
            | Event::TokenOperations { .. }
            | Event::Waived { .. }
            | Event::ClockDoubted { .. }
            | Event::ClockBelieved { .. } => Ok(()),
            Event::KekImport { what, key, serial } => self.keks.step(what, *key, serial),
            event => self.of_people(seq, event, unix_s),
        }
    }

    fn restore(&mut self, seq: u64, condensed: Condensed) -> Result<(), FoldError> {
        let apart = Apart::of(condensed, &mut self.spends.names);
        self.restore_apart(seq, apart)
    }

    fn apart(condensed: Condensed, names: &mut Names) -> Apart {
        Apart::of(condensed, names)
    }

    fn restore_apart(&mut self, seq: u64, apart: Apart) -> Result<(), FoldError> {
        let unix_s = apart.unix_ms().checked_div(1000).unwrap_or_default();
        if let Apart::Whole(Condensed::Entry(entry)) = &apart {
            return self.apply(seq, entry);
        }
        // Of the rest every entry is written by a signer that runs.
        self.latest_unix = self.latest_unix.max(unix_s);
        self.clock.ran(unix_s);
        match apart {
            Apart::Whole(Condensed::Entry(entry)) => self.apply(seq, &entry),
            Apart::Whole(Condensed::Awaiting { spend, waiting, .. }) => {
                self.wait(seq, &spend, waiting, unix_s)
            }
            Apart::Whole(Condensed::Answered { request, digest, bare, points, out, .. }) => {
                self.answer((seq, unix_s), RequestId(request), (digest, bare), points, out)
            }
            Apart::Admitted { request, digest, .. } => self.requests.admit(request, digest),
            Apart::Spend(apart::Spend { request, reservation, .. }) => {
                let digest = self.tell(request)?;
                self.spends.add_apart(request, reservation, digest, unix_s)
            }
            Apart::Answered { request, digests, out, .. } => {
                self.answer((seq, unix_s), request, digests, Points::default(), out)
            }
        }
    }

    fn expect(&mut self, times: usize) {
        self.requests.expect(times);
        self.spends.expect(times);
    }

    fn learn(&mut self, nonces: Nonces) {
        self.nonces.join(nonces);
    }

    fn spend_recorded(&self, request: RequestId, digest: &[u8; 32]) -> bool {
        self.requests.get(request).is_some_and(|r| r.digest == *digest)
            && self.spends.contains(request)
    }
}

/// Whether something was signed for the order that binds it and may have been let out, by another request than `but`. What pays
/// an order beside what it was unbound from is new money, and a no to that is for good.
fn left(spends: &Spends, people: &People, order: &OrderRef, but: Option<RequestId>) -> bool {
    spends.versions(order).filter(|version| version.signed && version.binds).any(|version| {
        let withheld = people.withheld(version.request);
        Some(version.request) != but && withheld.is_none_or(|withheld| withheld.may_have_left)
    })
}

/// What was signed for the order and binds it. What cannot be read has no name.
fn bound(spends: &Spends, requests: &Requests, order: &OrderRef) -> BTreeSet<VersionName> {
    let bound = spends.versions(order).filter(|version| version.signed && version.binds);
    let names = bound.filter_map(|version| {
        let answer = requests.get(version.request)?.answer?;
        Some(VersionName { signed: answer.digest, bare: version.bare? })
    });
    names.collect()
}

/// CAIP-2 id of the log's chain.
fn network(beginning: Option<&Beginning>) -> &str {
    beginning.map_or("", |beginning| &beginning.network)
}

/// Room for about so many times as many as there are; where there is not so much memory, as much as there will be.
fn expect<K: Hash + Eq, V, S: BuildHasher>(map: &mut HashMap<K, V, S>, times: usize) {
    // A little less: room for what does not come would be spread over, and take memory for nothing.
    let more = map.len().saturating_mul(times.saturating_sub(1)).saturating_mul(7) / 8;
    drop(map.try_reserve(more));
}

fn wrong(what: impl Into<String>) -> FoldError {
    FoldError(what.into())
}

fn name<T, E: std::fmt::Display>(parsed: Result<T, E>) -> Result<T, FoldError> {
    parsed.map_err(|error| wrong(error.to_string()))
}
