//! A log's story by chance, in which every kind of entry may follow that the ledger folds. It never tells one that does not follow.

use std::collections::{BTreeMap, BTreeSet};

use asset::Network;
use audit::attestation;
use audit::entry::{
    self, Asked, Attested, Awaiting, Claim, Considered, Entry, Event, HeldOrder, KeyUse, Reason,
    SignedOrder, Spend, Whose,
};
use audit::tree::Tree;
use bitcoin::Psbt;
use bitcoin::consensus::serialize;
use policy::conditions::Target;
use policy::evidence::FreezeScope;
use policy::intent::RequestId;
use policy::names::{ClientName, KeyName, LaneName, ListName, OrderId};
use policy::order::OrderRef;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use secp256k1::{SECP256K1, SecretKey};
use sha2::{Digest as _, Sha256};
use statement::fact::{self, Fact, States};
use statement::intent::{Input, Output, To};
use statement::{
    About, Deed, Paper, PolicyRef, Says, Statement, Task, TimeIs, Unbinding, VersionName,
};

use crate::common::{Descriptors, Knobs, address, policy_text, stranger};
use crate::history::{Ask, LANES, lane, name};
use crate::properties::transaction;

const BOOK_KEY: [u8; 32] = [0x22; 32];
const SERIAL: &str = "41fc";

/// So many things that happen, one after the other.
pub(crate) fn story(seed: u64, steps: usize) -> Vec<Entry> {
    let mut story = Story::begin(StdRng::seed_from_u64(seed));
    for _ in 0..steps {
        story.unix_ms += story.random.gen_range(0..200_000);
        if story.random.gen_ratio(1, 15) {
            story.unix_ms += 86_400_000;
        }
        story.happen();
    }
    story.entries
}

/// What has to be known to tell what can follow.
struct Story {
    random: StdRng,
    entries: Vec<Entry>,
    unix_ms: u64,
    policy: u64,
    /// By digest: whether it was vetoed.
    proposed: BTreeMap<[u8; 32], bool>,
    /// What was handed in of these.
    pushed: BTreeSet<[u8; 32]>,
    requests: Vec<Request>,
    imported: Option<[u32; 2]>,
    bundle: u8,
    keys: u8,
    states: BTreeMap<String, &'static str>,
    locked: Option<u64>,
    doubt: Option<u64>,
    attested: u32,
    roots: Vec<[u8; 32]>,
    freezes: Vec<[u8; 32]>,
    approvals: Vec<[u8; 32]>,
    /// What was signed for the first of its orders, as it was answered.
    bound: Vec<(OrderRef, VersionName)>,
    said: u8,
    labels: Vec<String>,
    pin_changing: bool,
}

struct Request {
    ask: Ask,
    spent: bool,
    waits: Option<About>,
    answered: bool,
}

impl Story {
    fn begin(mut random: StdRng) -> Self {
        let [origin, network] = ["o".to_owned(), Network::Regtest.chain_id().to_string()];
        let (checkpoint_key, attestation_key) = ([1; 32], [2; 32]);
        let wrapping_fingerprint = [3; 32];
        let event = if random.r#gen() {
            Event::Opened { origin, network, checkpoint_key, attestation_key, wrapping_fingerprint }
        } else {
            let officers = "officers\n".to_owned();
            Event::OpenedUnder {
                origin,
                network,
                checkpoint_key,
                attestation_key,
                wrapping_fingerprint,
                officers,
            }
        };
        let unix_ms = 1_000_000_000;
        let mut story = Self {
            random,
            entries: vec![Entry { unix_ms, event }],
            unix_ms,
            policy: 0,
            proposed: BTreeMap::new(),
            pushed: BTreeSet::new(),
            requests: Vec::new(),
            imported: None,
            bundle: 1,
            keys: 0,
            states: BTreeMap::new(),
            locked: None,
            doubt: None,
            attested: 0,
            roots: Vec::new(),
            freezes: Vec::new(),
            approvals: Vec::new(),
            bound: Vec::new(),
            said: 0,
            labels: Vec::new(),
            pin_changing: false,
        };
        story.activate();
        story
    }

    fn write(&mut self, event: Event) {
        self.entries.push(Entry { unix_ms: self.unix_ms, event });
    }

    fn unix_s(&self) -> u64 {
        self.unix_ms / 1000
    }

    /// The number of the entry that is written next.
    fn next(&self) -> u64 {
        self.entries.len() as u64
    }

    fn one_of<T: Clone>(&mut self, all: &[T]) -> Option<T> {
        if all.is_empty() {
            return None;
        }
        Some(all[self.random.gen_range(0..all.len())].clone())
    }

    fn happen(&mut self) {
        match self.random.gen_range(0..22) {
            0..=3 => self.ask(),
            4..=6 => self.allow(),
            7..=9 => self.answer(),
            10 | 11 => self.wait(),
            12..=14 => self.speak(),
            15 => self.end_wait(),
            16 => self.of_wallets(),
            17 => self.of_keys(),
            18 => self.of_policies(),
            19 => self.state_facts(),
            20 => self.at_the_machine(),
            _ => self.besides(),
        }
    }

    fn ask(&mut self) {
        if self.requests.len() >= 200 {
            return;
        }
        let number = u8::try_from(self.requests.len()).unwrap();
        let random = &mut self.random;
        let coins = (0..random.gen_range(1..4)).map(|_| random.gen_range(0..30_u8)).collect();
        let mut coins: Vec<u8> = coins;
        coins.sort_unstable();
        coins.dedup();
        let orders = (0..3).filter(|_| random.gen_ratio(1, 4)).collect::<Vec<u8>>();
        let ask = Ask {
            request: number,
            lane: random.gen_range(0..2),
            coins,
            orders: orders.into_iter().map(|order| (order, random.r#gen())).collect(),
            fee: random.gen_range(0..50),
            external: random.gen_range(0..3) * 40,
            change: random.gen_ratio(1, 3).then_some(5),
            cold: random.gen_ratio(1, 3).then_some(7),
            repriced: random.gen_ratio(1, 9),
        };
        let (request, digest) = ([number; 16], ask.digest());
        let event = ask.admitted();
        self.write(event);
        let reasons = || vec![Reason { code: "a".to_owned(), text: "b".to_owned() }];
        let trace = vec!["a rule".to_owned()];
        match self.random.gen_range(0..5) {
            0 => self.write(Event::Denied { request, policy: 1, reasons: reasons(), trace }),
            1 => {
                let caller = "watcher-1".to_owned();
                let reasons = reasons();
                self.write(Event::Refused { request: Some(request), caller, digest, reasons });
            }
            2 => self.write(considered(request)),
            _ => {}
        }
        self.requests.push(Request { ask, spent: false, waits: None, answered: false });
    }

    /// One of the requests that are not answered.
    fn open(&mut self, is: impl Fn(&Request) -> bool) -> Option<usize> {
        let open = self.requests.iter().enumerate().filter(|(_, r)| !r.answered && is(r));
        let open: Vec<usize> = open.map(|(at, _)| at).collect();
        self.one_of(&open)
    }

    fn spend(&self, at: usize) -> Spend {
        let Event::Spend(mut spend) = self.requests[at].ask.spend() else { panic!() };
        // Of some nobody can tell whom they pay.
        if !at.is_multiple_of(7) {
            spend.transaction = serialize(&transaction(&spend, None));
        }
        (spend.policy, spend.trace) = (self.policy, vec!["a rule".to_owned()]);
        spend
    }

    fn allow(&mut self) {
        let Some(at) = self.open(|_| true) else { return };
        let request = [self.requests[at].ask.request; 16];
        if self.requests[at].spent && self.random.r#gen() {
            self.write(Event::SpendAgain { request, policy: self.policy, trace: Vec::new() });
        } else {
            let spend = self.spend(at);
            self.write(Event::Spend(spend));
            self.requests[at].spent = true;
        }
        if self.random.gen_ratio(1, 4) {
            let reason = Reason { code: "token".to_owned(), text: "it is away".to_owned() };
            self.write(Event::Failed { request, reason });
        }
    }

    fn answer(&mut self) {
        let Some(at) = self.open(|request| request.spent) else { return };
        let (spend, nonce) = (self.spend(at), self.requests[at].ask.request);
        let request = [nonce; 16];
        let made = transaction(&spend, Some(nonce));
        let event = match self.random.gen_range(0..4) {
            0 => {
                let mut psbt = Psbt::from_unsigned_tx(transaction(&spend, None)).unwrap();
                let signature = made.input[0].witness.nth(0).unwrap().to_vec();
                let signature = bitcoin::ecdsa::Signature::from_slice(&signature).unwrap();
                psbt.inputs[0].partial_sigs.insert(public(1).into(), signature);
                Event::PartlySigned { request, psbt: psbt.serialize() }
            }
            1 => Event::Signed { request, transaction: vec![1, 2, 3] },
            _ => Event::Signed { request, transaction: serialize(&made) },
        };
        let (Event::PartlySigned { psbt: bytes, .. } | Event::Signed { transaction: bytes, .. }) =
            &event
        else {
            panic!()
        };
        if let (Some(order), true) = (spend.orders.first(), bytes.len() > 3) {
            let order = OrderRef { key: order.key, id: OrderId::parse(&order.id).unwrap() };
            let bare = Sha256::digest(serialize(&transaction(&spend, None))).into();
            self.bound.push((order, VersionName { signed: Sha256::digest(bytes).into(), bare }));
        }
        self.write(event);
        self.requests[at].answered = true;
        if let Some(about) = self.requests[at].waits.take()
            && self.random.r#gen()
        {
            self.take_back(about);
        }
    }

    /// What is signed is given to nobody.
    fn take_back(&mut self, about: About) {
        let approval = self.approvals.last().copied();
        let (code, says) = match (self.random.gen_range(0..3), approval) {
            (0, Some(approval)) => ("revoked", Says::Revoke(approval)),
            (1, _) => ("vetoed", Says::Veto(about)),
            _ => ("rejected", Says::Reject(about)),
        };
        if self.said == u8::MAX {
            return;
        }
        self.say(says);
        let reason = Reason { code: code.to_owned(), text: "somebody".to_owned() };
        let (request, policy, may_have_left) =
            (about.request.0, self.policy, self.random.gen_ratio(1, 4));
        self.write(Event::Withheld { request, policy, reason, may_have_left });
    }

    fn wait(&mut self) {
        let Some(at) = self.open(|_| true) else { return };
        let policy = PolicyRef { version: self.policy, digest: digest(self.policy) };
        let (awaiting, about) = awaiting(self.spend(at), policy, self.unix_s());
        self.write(Event::Awaiting(awaiting));
        self.requests[at].waits = Some(about);
    }

    fn end_wait(&mut self) {
        let Some(at) = self.open(|request| request.waits.is_some()) else { return };
        let request = [self.requests[at].ask.request; 16];
        let reason = Reason { code: "expired".to_owned(), text: "too late".to_owned() };
        self.write(Event::WaitEnded { request, reason });
        self.requests[at].waits = None;
    }

    fn speak(&mut self) {
        if self.said == u8::MAX {
            return;
        }
        let waiting = self.open(|request| request.waits.is_some());
        let about = waiting.and_then(|at| self.requests[at].waits);
        let (approvals, freezes) = (self.approvals.clone(), self.freezes.clone());
        let says = match (self.random.gen_range(0..9), about) {
            (0 | 1, Some(about)) => Says::Approve(about),
            (2, Some(about)) => Says::Reject(about),
            (3, Some(about)) => Says::Veto(about),
            (4, _) => match self.one_of(&approvals) {
                Some(approval) => Says::Revoke(approval),
                None => return,
            },
            (5, _) => match self.one_of(&freezes) {
                Some(freeze) => Says::Unfreeze(freeze),
                None => return,
            },
            (6, _) => Says::Freeze(FreezeScope::Lane(lane(self.random.gen_range(0..2)))),
            (7, _) => Says::Administer(self.task()),
            (8, _) => match self.doubt {
                Some(doubt) => Says::Time(TimeIs { unix: self.unix_s(), doubt }),
                None => self.unlisting(),
            },
            _ => self.unlisting(),
        };
        self.say(says);
        if self.random.gen_ratio(1, 6)
            && let Some(freeze) = self.freezes.pop()
        {
            let officers = vec!["ada".to_owned()];
            self.write(Event::FreezeLifted { freeze, policy: self.policy, officers });
        }
    }

    /// An officer says so, and at times enough of them.
    fn unbind(&mut self) {
        if self.bound.is_empty() || self.said == u8::MAX {
            return;
        }
        let at = self.random.gen_range(0..self.bound.len());
        let (order, version) = self.bound[at].clone();
        let OrderRef { key, id } = order.clone();
        let (unbinding, reason) = (Unbinding { order, versions: vec![version] }, "dead".to_owned());
        self.say(Says::Unbind { unbinding, reason });
        if self.random.r#gen() {
            self.bound.remove(at);
            let (id, officers) = (id.to_string(), vec!["ada".to_owned()]);
            let (versions, policy) = (vec![version.signed], self.policy);
            self.write(Event::Unbound { key, id, versions, policy, officers });
        }
    }

    fn say(&mut self, says: Says) {
        self.said += 1;
        let statement = Statement {
            log: "o".to_owned(),
            network: Network::Regtest.chain_id().to_string(),
            officer: KeyName::parse(if self.random.r#gen() { "ada" } else { "bob" }).unwrap(),
            expires_unix: self.unix_s() + 1000,
            nonce: [self.said; 16],
            says,
        };
        match statement.says {
            Says::Approve(_) => self.approvals.push(statement.digest()),
            Says::Freeze(_) => self.freezes.push(statement.digest()),
            _ => {}
        }
        let (signature, way) = (vec![self.said; 64], "file".to_owned());
        let statement = statement.encode();
        let event = if self.random.r#gen() {
            Event::OfficerSaid { statement, signature, key: [4; 32], way }
        } else {
            Event::OfficerSaidP256 { statement, signature, key: vec![2; 33], way }
        };
        self.write(event);
    }

    fn unlisting(&self) -> Says {
        let label = self.labels.last().cloned().unwrap_or("nobody".to_owned());
        Says::Unlist { list: customers(), label }
    }

    fn task(&mut self) -> Task {
        let next = KeyName::parse(&format!("key-{}", self.keys)).unwrap();
        let deeds = [
            Deed::Init,
            Deed::Import([self.bundle; 32]),
            Deed::SetPin,
            Deed::Activate([5; 16]),
            Deed::ActivateKeys(name("deposits")),
            Deed::MakeTokenKey(next),
            Deed::OpenKek,
            Deed::ImportKek([6; 32]),
            Deed::Revocations([7; 32]),
        ];
        let deed = self.one_of(&deeds).unwrap();
        Task { deed, token: SERIAL.to_owned() }
    }

    fn of_wallets(&mut self) {
        let wallet = || "deposits".to_owned();
        let change = self.random.r#gen();
        let Some(proven) = self.imported else {
            self.write(Event::WalletImported {
                wallet: wallet(),
                descriptor: "wpkh(a)".to_owned(),
                tier: "token-hd".to_owned(),
                bundle: [self.bundle; 32],
                external: 100,
                change: 100,
            });
            self.imported = Some([0, 0]);
            return;
        };
        let so_far = proven[usize::from(change)];
        match self.random.gen_range(0..5) {
            0 | 1 if so_far < 99 => {
                self.write(Event::Proven { wallet: wallet(), change, below: so_far + 1 });
                self.imported.as_mut().unwrap()[usize::from(change)] += 1;
            }
            2 if so_far < 99 => {
                let (index, reason) = (99, "no".to_owned());
                self.write(Event::ProofFailed { wallet: wallet(), change, index, reason });
            }
            3 if self.bundle < u8::MAX => {
                let before = [self.bundle; 32];
                self.bundle += 1;
                self.write(Event::RecordsReplaced {
                    wallet: wallet(),
                    before,
                    bundle: [self.bundle; 32],
                    external: 100,
                    change: 100,
                    external_proven: proven[0],
                    change_proven: 0,
                });
                self.imported = Some([proven[0], 0]);
            }
            _ => {
                let [now, tier] = [self.state_of("deposits"), "token-hd".to_owned()];
                let (state, reason) = (now.clone(), "a test".to_owned());
                if !now.is_empty() {
                    self.write(Event::KeyState { wallet: wallet(), tier, state, reason });
                }
            }
        }
    }

    /// What keys of this name become; nothing when they stay for ever as they are.
    fn state_of(&mut self, keys: &str) -> String {
        let now = self.states.get(keys).copied().unwrap_or("active");
        let end = self.random.gen_ratio(1, 20);
        let next = match now {
            "active" => "suspended",
            "suspended" if end => "retired",
            "suspended" => "active",
            "retired" => "compromised",
            _ => "",
        };
        if !next.is_empty() {
            self.states.insert(keys.to_owned(), next);
        }
        next.to_owned()
    }

    fn of_keys(&mut self) {
        let text = |text: &str| text.to_owned();
        match self.random.gen_range(0..4) {
            0 | 1 if self.keys < 100 => {
                self.keys += 1;
                self.write(Event::TokenKeyMade {
                    name: format!("key-{}", self.keys),
                    tier: text("token"),
                    public_key: public(self.keys).serialize().to_vec(),
                    serial: text(SERIAL),
                    attributes: vec![text("CKA_LOCAL true")],
                });
            }
            2 if self.keys > 0 => {
                let name = format!("key-{}", self.random.gen_range(1..=self.keys));
                let (tier, state, reason) = (text("token"), self.state_of(&name), text("a test"));
                if !state.is_empty() {
                    self.write(Event::TokenKeyState { name, tier, state, reason });
                }
            }
            3 if self.keys > 0 => {
                let keys = (1..=self.keys).map(|key| public(key).serialize().to_vec());
                let (keys, cloned) = (keys.collect(), self.random.r#gen::<bool>());
                self.write(Event::TokenWalletBound {
                    wallet: text("vault"),
                    descriptor: text("d"),
                    tier: text("token"),
                    keys,
                    cloning_proof: cloned.then_some([7; 32]),
                    indexes: 9,
                });
            }
            _ => {
                let steps = ["opening", "opened", "importing", "imported", "closed", "forgotten"];
                let what = text(self.one_of(&steps).unwrap());
                self.write(Event::KekImport { what, key: Some([6; 32]), serial: text(SERIAL) });
            }
        }
    }

    fn activate(&mut self) {
        self.policy += 1;
        // Now with a book key, now with another list alone.
        let more = if self.policy.is_multiple_of(3) {
            String::new()
        } else {
            format!(
                "[[book_key]]\nname = \"onboarding\"\ned25519 = \"{}\"\n\
                 [[list]]\nname = \"customers\"\nmatures = \"24h\"\nbook_keys = [\"onboarding\"]\nentries = [\n\
                 {{ label = \"e{}\", script = \"{}\" }},\n]\n",
                hex::encode(BOOK_KEY),
                self.policy / 4,
                stranger(9).to_hex_string()
            )
        };
        let text = policy_text(&Descriptors::fixed(), &Knobs { more, ..Knobs::default() });
        let (version, officers) = (self.policy, vec!["ada".to_owned()]);
        self.write(Event::PolicyActivated { version, digest: digest(version), text, officers });
        self.proposed.retain(|_, vetoed| *vetoed);
    }

    fn of_policies(&mut self) {
        let open: Vec<_> = self.proposed.iter().filter(|(_, vetoed)| !**vetoed).collect();
        let open: Vec<[u8; 32]> = open.into_iter().map(|(digest, _)| *digest).collect();
        let officers = vec!["bob".to_owned()];
        match (self.random.gen_range(0..6), self.one_of(&open)) {
            (5, Some(digest)) if self.pushed.insert(digest) => {
                let (signatures, way) = (String::new(), "officers-desk".to_owned());
                self.write(Event::PolicyPushed { digest, signatures, way });
            }
            (0, Some(digest)) => {
                self.proposed.insert(digest, true);
                self.write(Event::PolicyVetoed { digest, officers });
            }
            (1, Some(digest)) => {
                self.proposed.remove(&digest);
                self.write(Event::PolicyWithdrawn { digest });
            }
            (2, _) => self.activate(),
            _ => {
                let digest = Sha256::digest(self.next().to_be_bytes()).into();
                self.proposed.insert(digest, false);
                self.write(Event::PolicyProposed {
                    version: self.policy + 1000,
                    digest,
                    text: "a policy".to_owned(),
                    officers,
                    due_unix: self.unix_s() + 5,
                });
            }
        }
    }

    fn state_facts(&mut self) {
        let made_unix = self.unix_s();
        let states = match self.random.gen_range(0..5) {
            0 => States::Balanced { height: self.next(), block: [1; 32] },
            1 if !self.labels.is_empty() => {
                let label = self.labels.pop().unwrap();
                States::Unlisted { list: customers(), label }
            }
            2 => {
                let (digest, by) = ([9; 32], "screener".to_owned());
                // Each is newer than the one before.
                let made_unix = self.next();
                let key = [8; 32];
                return self.write(Event::SanctionsRead { digest, made_unix, count: 3, by, key });
            }
            _ => {
                let label = format!("customer {}", self.next());
                self.labels.push(label.clone());
                let target = Target::Script(stranger(9).to_bytes());
                let (list, from_unix, expires_unix) = (customers(), 0, None);
                States::Listed(fact::Entry { list, label, target, from_unix, expires_unix })
            }
        };
        let balanced = matches!(states, States::Balanced { .. });
        let by = KeyName::parse(if balanced { "auditor" } else { "onboarding" }).unwrap();
        let network = Network::Regtest.chain_id().to_string();
        let fact = Fact { states, log: "o".to_owned(), network, by, made_unix };
        let (statement, signature) = (fact.encode(), vec![1; 64]);
        self.write(Event::FactStated { statement, signature, key: BOOK_KEY, way: "file".into() });
    }

    fn at_the_machine(&mut self) {
        let serial = || SERIAL.to_owned();
        let administered = |what: &str, serial: String, site| {
            let what = what.to_owned();
            Event::Administered { what, serial, site }
        };
        match self.random.gen_range(0..6) {
            0 => self.write(administered("init", serial(), [0; 16])),
            1 => self.write(administered("activate", serial(), [5; 16])),
            2 => self.write(administered("revocations", hex::encode([7; 32]), [0; 16])),
            3 => {
                self.write(administered("set-pin", serial(), [0; 16]));
                self.pin_changing = true;
            }
            4 if self.pin_changing => {
                self.write(administered("set-pin failed", serial(), [0; 16]));
                self.pin_changing = false;
            }
            _ => {
                self.write(Event::PinChanged { serial: serial() });
                self.pin_changing = false;
            }
        }
    }

    fn besides(&mut self) {
        let text = |text: &str| text.to_owned();
        match self.random.gen_range(0..11) {
            0 => {
                let state = self.one_of(&["started", "stopped", "opened"]).unwrap();
                self.write(Event::Service { state: text(state), version: text("0.1.0") });
            }
            1 => {
                let from = self.next();
                self.write(Event::TailSetAside { from, count: 2, digest: [1; 32] });
            }
            2 => self.write(Event::Waived { safeguard: text("root"), said: text("allow_root") }),
            3 => {
                let (function, key) = (text("C_Sign"), text("-"));
                let uses = vec![KeyUse { function, key, done: 3, unsure: 1 }];
                self.write(Event::TokenOperations { serial: text(SERIAL), uses, lost: 1 });
            }
            4 => match self.locked.take() {
                None => {
                    self.locked = Some(self.next());
                    let (client, codes) = (text("watcher-1"), vec![text("a")]);
                    self.write(Event::ClientLocked { client, refusals: 9, seconds: 9, codes });
                }
                Some(lock) => {
                    let (client, officers) = (text("watcher-1"), vec![text("ada")]);
                    self.write(Event::ClientFreed { client, lock, officers, reason: text("ok") });
                }
            },
            5 | 6 => match self.doubt.take() {
                None => {
                    self.doubt = Some(self.next());
                    let held_unix = self.unix_s();
                    self.write(Event::ClockDoubted { held_unix, reason: text("a jump") });
                }
                Some(doubt) => {
                    let (policy, officers) = (self.policy, vec![text("ada")]);
                    self.write(Event::ClockBelieved { doubt, policy, officers });
                }
            },
            7 if !self.roots.is_empty() => {
                let root = self.roots.pop().unwrap();
                self.write(Event::AttestationSigned { root, signature: vec![7; 64] });
            }
            9 => self.unbind(),
            8 => self.write(Event::TokenDistrusted {
                name: text("first"),
                label: text("l"),
                serial: text(SERIAL),
                what: text("w"),
                wallet: Some(text("deposits")),
                key: vec![2; 33],
                request: None,
                seen_unix: 1,
            }),
            _ => self.attest(),
        }
    }

    fn attest(&mut self) {
        let indexes = self.attested..self.attested + self.random.gen_range(1..4);
        self.attested = indexes.end + self.random.gen_range(0..2);
        let claim = |index: u32| Claim {
            index,
            address: format!("bcrt1q{index}"),
            reference: format!("customer {index}"),
            expires_unix: 0,
        };
        let claims: Vec<Claim> = indexes.map(claim).collect();
        let leaf = |claim: &Claim| attestation::Leaf {
            network: Network::Regtest.chain_id().to_string(),
            wallet: "deposits".to_owned(),
            index: claim.index,
            address: claim.address.clone(),
            reference: claim.reference.clone(),
            expires_unix: 0,
        };
        let leaves = claims.iter().map(|claim| leaf(claim).hash().unwrap()).collect();
        let root = Tree::build(leaves).root();
        self.roots.push(root);
        let [wallet, caller] = ["deposits", "watcher-1"].map(str::to_owned);
        self.write(Event::Attested(Attested { wallet, caller, root, claims }));
    }
}

/// Waits from now on, under this policy.
pub(crate) fn awaiting(spend: Spend, policy: PolicyRef, asked_unix: u64) -> (Awaiting, About) {
    let (expires_unix, address) = (asked_unix + 10_000, address(&stranger(1)));
    let paper = Paper {
        network: Network::Regtest.chain_id().to_string(),
        request: RequestId(spend.request),
        client: ClientName::parse(&spend.caller).unwrap(),
        lane: LaneName::parse(&spend.lane).unwrap(),
        wallet: name(&spend.wallet),
        tier: "token-hd".to_owned(),
        transaction: [6; 32],
        inputs: vec![Input { coin: format!("{}:0", hex::encode([7; 32])), amount: 5 }],
        outputs: vec![Output { amount: 4, to: To::External { address, label: None } }],
        fee: spend.fee,
        orders: Vec::new(),
        policy,
        asked_unix,
        expires_unix,
    };
    let text = |text: &str| text.to_owned();
    let (rule, code) = (format!("require-{}", spend.request[0]), text("approvals"));
    let awaiting = Awaiting {
        intent: String::from_utf8(paper.encode()).unwrap(),
        psbt: vec![8; 100],
        parents: vec![vec![9; 200]],
        orders: vec![SignedOrder { order: vec![1], signature: vec![2], signer: text("shop") }],
        requirements: vec![Asked { rule, code, text: text("one of them") }],
        expires_unix,
        spend,
    };
    (awaiting, About { request: paper.request, intent: paper.digest(), policy })
}

pub(crate) fn considered(request: [u8; 16]) -> Event {
    let held = HeldOrder { order: vec![1; 9], signer: "shop".to_owned(), key: [9; 32] };
    Event::Considered(Considered {
        request,
        transaction: vec![5; 50],
        vsize: 100,
        amounts: vec![1, 2],
        outputs: vec![Whose::Change(1), Whose::Cold("cold".to_owned(), 2), Whose::External(None)],
        orders: vec![held],
    })
}

fn customers() -> ListName {
    ListName::parse("customers").unwrap()
}

fn digest(policy: u64) -> [u8; 32] {
    Sha256::digest(format!("policy {policy}")).into()
}

fn public(number: u8) -> secp256k1::PublicKey {
    SecretKey::from_slice(&[number.max(1); 32]).unwrap().public_key(SECP256K1)
}

/// How many kinds there are. All zeros are an entry of any of them, with bytes after it.
pub(crate) fn kinds() -> usize {
    let is_one = |kind: &u8| {
        let bytes = [vec![entry::VERSION, 0, *kind], vec![0; 512]].concat();
        matches!(Entry::decode(&bytes), Ok(_) | Err(entry::EntryError::Trailing(_)))
    };
    (0..128).take_while(is_one).count()
}

/// Which kind an entry is of.
pub(crate) fn kind(entry: &Entry) -> usize {
    let bytes = Entry { unix_ms: 0, ..entry.clone() }.encode().unwrap();
    usize::from(bytes[2])
}

/// Who asks for what, in every lane.
pub(crate) fn asks() -> Vec<Ask> {
    let coins = (0..30).collect::<Vec<u8>>();
    let ask = |lane| Ask {
        request: 250,
        lane,
        coins: coins.clone(),
        orders: vec![(0, false), (1, true)],
        fee: 1,
        external: 40,
        change: Some(1),
        cold: Some(1),
        repriced: false,
    };
    (0..LANES.len()).map(ask).collect()
}
