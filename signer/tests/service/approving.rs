//! What people have to do with a payout: it waits, they say yes or no, and what they say counts for that alone, once.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use audit::entry::{Awaiting, Entry, Event};
use ed25519_dalek::{Signer as _, SigningKey};
use policy::evidence::FreezeScope;
use policy::intent::RequestId;
use policy::names::{KeyName, LaneName, WalletName};
use policy::p256::lower;
use policy::people::OfficerKey;
use proto::officers_client::OfficersClient;
use proto::{
    PendingReply, PendingRequest, ShowOrderRequest, ShowRequest, SubmitRequest, WaitingRequest,
};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use signer::config::Limits;
use signer::log::Clock;
use statement::{About, Paper, PolicyRef, Says, Signed, Statement};
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::common::{
    Coin, FAR, Knobs, address, coin, header, order, own, psbt, signed, stranger, to,
};
use crate::house::{House, said, standing, until, write_policy};
use crate::sweeping::verify;

pub(crate) const TWO_SITES: &str = "[[require]]\nname = \"large\"\nwhen = { lanes = [\"withdraw\"], above = \"0.0009 BTC\" }\n\
    approvals = \"2 of treasury\"\nmax_per_domain = 1\n";
pub(crate) const SLOW: &str = "[[require]]\nname = \"slow\"\nwhen = { lanes = [\"withdraw\"] }\ndelay = \"1h\"\nveto = \"risk\"\n";

/// An officer's key, by the first letter of their name.
fn key(name: &str) -> SigningKey {
    SigningKey::from_bytes(&[name.as_bytes()[0]; 32])
}

/// Bob's is a P-256 key: RFC 6979, A.2.5.
fn bobs() -> EcdsaKeyPair {
    let hex = |text: &str| hex::decode(text).unwrap();
    let private = hex("c9afa9d845ba75166b5c215767b1d6934e50c3db36e89b127b8a622b120f6721");
    let public = hex("0460fed4ba255a9d31c961eb74c6356d68c049b8923b61fa6ce669622e60f29fb6\
                      7903fe1008b8bc99a41ae9e95628bc64f2f1b20c2d7e9f5177a3c294d4462299");
    let (algorithm, random) = (&ECDSA_P256_SHA256_FIXED_SIGNING, SystemRandom::new());
    EcdsaKeyPair::from_private_key_and_public_key(algorithm, &private, &public, &random).unwrap()
}

fn public(name: &str) -> OfficerKey {
    match name {
        "bob" => {
            let key = "0360fed4ba255a9d31c961eb74c6356d68c049b8923b61fa6ce669622e60f29fb6";
            OfficerKey::parse(key).unwrap()
        }
        name => OfficerKey::Ed25519(key(name).verifying_key().to_bytes()),
    }
}

/// Four officers on two sites; carol holds the key that orders.
pub(crate) fn people(rules: &str) -> Knobs {
    people_with(rules, public)
}

/// The same, with keys of one's own.
pub(crate) fn people_with(rules: &str, public: impl Fn(&str) -> OfficerKey) -> Knobs {
    let officer = |name: &str, domain: &str| {
        let public = public(name);
        let (kind, public) = (public.kind(), public.to_hex());
        format!("[[officer]]\nname = \"{name}\"\ndomain = \"{domain}\"\n{kind} = \"{public}\"\n")
    };
    let more = [
        officer("alice", "zurich"),
        officer("bob", "geneva"),
        officer("carol", "geneva"),
        officer("dan", "zurich"),
        "[[group]]\nname = \"treasury\"\nmembers = [\"alice\", \"bob\", \"carol\", \"dan\"]\n"
            .into(),
        "[[group]]\nname = \"risk\"\nmembers = [\"dan\"]\n".into(),
        "[[client]]\nname = \"officers-desk\"\nattest = []\nstatus = false\nofficers = true\n"
            .into(),
        rules.into(),
    ];
    Knobs {
        head: "unfreeze = \"2 of treasury\"\n".into(),
        orderer: Some("carol".into()),
        more: more.concat(),
        ..Knobs::default()
    }
}

/// A signer whose officers are asked, and a line to it.
pub(crate) struct Desk {
    pub(crate) house: House,
    pub(crate) now: Arc<AtomicU64>,
}

/// A payout of 100,000 sat of one coin.
pub(crate) struct Payout {
    pub(crate) key: String,
    pub(crate) coins: [Coin; 1],
    pub(crate) order: order::Order,
    pub(crate) change: u32,
}

impl Desk {
    pub(crate) async fn new(rules: &str) -> Self {
        Self::open(&people(rules)).await
    }

    pub(crate) async fn open(knobs: &Knobs) -> Self {
        Self::open_with(knobs, |_| ()).await
    }

    /// With a change of its configuration.
    pub(crate) async fn open_with(knobs: &Knobs, change: impl FnOnce(&mut House)) -> Self {
        let mut house = House::closed(knobs, Limits::default()).await;
        change(&mut house);
        let now = Arc::new(AtomicU64::new(now_ms()));
        house.open_at(clock(&now)).await;
        Self { house, now }
    }

    pub(crate) async fn reopen(&mut self) {
        self.house.close().await;
        self.house.open_at(clock(&self.now)).await;
    }

    pub(crate) fn pass(&self, seconds: u64) {
        self.now.fetch_add(seconds * 1000, Ordering::Relaxed);
    }

    pub(crate) fn now(&self) -> u64 {
        self.now.load(Ordering::Relaxed) / 1000
    }

    pub(crate) fn payout(&self, number: u64) -> Payout {
        let coins = [coin(&self.house.descriptors.hot, false, 1, 500_000, number, 1)];
        let order = order(&format!("invoice-{number}"), 100_000, &address(&stranger(4)), FAR);
        Payout { key: format!("p{number}"), coins, order, change: 0 }
    }

    pub(crate) async fn ask(&self, payout: &Payout) -> Result<Vec<u8>, Status> {
        let change = own(&self.house.descriptors.hot, true, payout.change, 399_000);
        let outs = [to(stranger(4), 100_000), change];
        let mut header = header(&payout.key, "withdraw", "hot", &psbt(&payout.coins, &outs));
        header.orders = vec![signed(&payout.order)];
        let reply = self.house.sign(header, &payout.coins).await?;
        verify(&reply.transaction, &payout.coins);
        Ok(reply.transaction)
    }

    /// It must wait, for these.
    pub(crate) async fn waits(&self, payout: &Payout, codes: &[&str]) {
        let status = self.ask(payout).await.unwrap_err();
        let (code, reasons) = said(&status);
        assert_eq!((code, &reasons[1..]), (Code::FailedPrecondition, strings(codes).as_slice()));
        assert_eq!(reasons[0], "waiting");
        assert_eq!(standing(&status), proto::Standing::NotSigned);
        for name in ["alice", "bob", "carol", "dan", "treasury", "risk"] {
            assert!(
                !format!("{status:?}").contains(name),
                "the caller is told of {name}: {status:?}"
            );
        }
    }

    pub(crate) async fn denied(&self, payout: &Payout, codes: &[&str]) {
        let status = self.ask(payout).await.unwrap_err();
        self.house.denied(&status, codes).await;
    }

    pub(crate) async fn client(&self) -> OfficersClient<Channel> {
        OfficersClient::new(self.house.channel("officers-desk").await)
    }

    pub(crate) async fn pending(&self) -> PendingReply {
        self.client().await.pending(PendingRequest {}).await.unwrap().into_inner()
    }

    pub(crate) async fn waiting(&self) -> WaitingRequest {
        let mut waiting = self.pending().await.waiting;
        assert_eq!(waiting.len(), 1);
        waiting.remove(0)
    }

    /// What an approval of the one that waits is about.
    pub(crate) async fn about(&self) -> About {
        self.about_of(&self.waiting().await).await
    }

    pub(crate) async fn about_of(&self, waiting: &WaitingRequest) -> About {
        let pending = self.pending().await;
        let policy = PolicyRef {
            version: pending.policy_version,
            digest: pending.policy_digest.try_into().unwrap(),
        };
        About {
            request: RequestId(waiting.request_id.clone().try_into().unwrap()),
            intent: waiting.intent_digest.clone().try_into().unwrap(),
            policy,
        }
    }

    pub(crate) fn statement(&self, officer: &str, says: Says) -> Statement {
        static NONCE: AtomicU64 = AtomicU64::new(1);
        let mut nonce = [0; 16];
        nonce[..8].copy_from_slice(&NONCE.fetch_add(1, Ordering::Relaxed).to_le_bytes());
        Statement {
            says,
            log: self.house.app().log.opening().origin.clone(),
            network: asset::Network::Regtest.chain_id().to_string(),
            officer: KeyName::parse(officer).unwrap(),
            expires_unix: self.now() + 600,
            nonce,
        }
    }

    pub(crate) async fn submit(&self, statement: &Statement) -> Result<String, Status> {
        self.submit_signed(sign(statement)).await
    }

    pub(crate) async fn submit_signed(&self, signed: Signed) -> Result<String, Status> {
        let Signed { statement, signature } = signed;
        let request = SubmitRequest { statement, signature: signature.to_vec() };
        let reply = self.client().await.submit(request).await?;
        Ok(reply.into_inner().said)
    }

    pub(crate) async fn say(&self, officer: &str, says: Says) -> Result<String, Status> {
        self.submit(&self.statement(officer, says)).await
    }

    pub(crate) async fn refused(&self, statement: &Statement, code: &str) {
        let status = self.submit(statement).await.unwrap_err();
        assert_eq!(said(&status).1, [code], "{statement:?}");
    }
}

pub(crate) fn sign(statement: &Statement) -> Signed {
    let bytes = statement.encode();
    let signature = match statement.officer.as_str() {
        "bob" => lower(&bobs_own(&bytes)),
        name => key(name).sign(&bytes).to_bytes(),
    };
    Signed { statement: bytes, signature }
}

/// One of the two that P-256 has for each.
fn bobs_own(bytes: &[u8]) -> [u8; 64] {
    bobs().sign(&SystemRandom::new(), bytes).unwrap().as_ref().try_into().unwrap()
}

pub(crate) fn clock(now: &Arc<AtomicU64>) -> Clock {
    let now = Arc::clone(now);
    Clock::from_fn(move || now.load(Ordering::Relaxed))
}

pub(crate) fn now_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    u64::try_from(since.as_millis()).unwrap()
}

fn strings(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

#[tokio::test]
async fn two_of_three_from_two_sites_and_never_who_ordered() {
    let desk = Desk::new(TWO_SITES).await;
    let payout = desk.payout(1);
    let size = desk.house.log_size();
    desk.waits(&payout, &["approvals"]).await;
    desk.waits(&payout, &["approvals"]).await;
    let entries = desk.house.entries(size).await;
    let says_tier = |asked: &Awaiting| asked.spend.trace[0].starts_with("keys: hot is token-hd; ");
    let is_wait = |entry: &&Entry| match &entry.event {
        Event::Awaiting(asked) => says_tier(asked),
        _ => false,
    };
    let waits = entries.iter().filter(is_wait).count();
    assert_eq!((entries.len(), waits), (2, 1), "asking again writes nothing: {entries:?}");

    let shown = desk.waiting().await;
    let request = ShowRequest { request_id: shown.request_id.clone() };
    let shown = desk.client().await.show(request.clone()).await.unwrap().into_inner();
    let paper = Paper::parse(&shown.intent).unwrap();
    assert_eq!((paper.fee, paper.outputs.len(), paper.orders.len()), (1_000, 2, 1));
    assert_eq!((shown.parents.len(), shown.orders.len()), (1, 1));
    assert_eq!((shown.history[0].times, shown.history[0].units.as_str()), (0, "0"));

    let about = desk.about().await;
    desk.say("alice", Says::Approve(about)).await.unwrap();
    desk.waits(&payout, &["approvals"]).await;
    // Twice by one officer is once; the other one of the same site does not count, nor does who ordered.
    desk.say("alice", Says::Approve(about)).await.unwrap();
    desk.say("dan", Says::Approve(about)).await.unwrap();
    desk.say("carol", Says::Approve(about)).await.unwrap();
    desk.waits(&payout, &["approvals"]).await;
    assert_eq!(desk.waiting().await.approvals.len(), 3);
    desk.say("bob", Says::Approve(about)).await.unwrap();
    let transaction = desk.ask(&payout).await.unwrap();
    assert_eq!(desk.ask(&payout).await.unwrap(), transaction, "the stored answer");
    assert_eq!(desk.client().await.show(request).await.unwrap_err().code(), Code::NotFound);

    // The next one goes to the same place, and what was approved before does not help it.
    let next = desk.payout(2);
    desk.waits(&next, &["approvals"]).await;
    let request = ShowRequest { request_id: desk.waiting().await.request_id };
    let shown = desk.client().await.show(request).await.unwrap().into_inner();
    assert_eq!((shown.history[0].times, shown.history[0].units.as_str()), (1, "100000"));
    desk.refused(&desk.statement("bob", Says::Approve(about)), "statement-nothing").await;
}

#[tokio::test]
async fn a_quarantined_coin_stays_until_enough_officers_release_it() {
    let desk = Desk::new("").await;
    let (payout, other) = (desk.payout(1), desk.payout(2));
    let coin = statement::parse_coin(&payout.coins[0].outpoint().to_string()).unwrap();
    let freeze = desk.statement("dan", Says::Freeze(FreezeScope::Slot(coin)));
    desk.submit(&freeze).await.unwrap();
    desk.denied(&payout, &["frozen"]).await;
    desk.ask(&other).await.unwrap();
    assert!(desk.pending().await.freezes[0].scope.starts_with("coin "));
    desk.say("alice", Says::Unfreeze(freeze.digest())).await.unwrap();
    desk.denied(&payout, &["frozen"]).await;
    desk.say("bob", Says::Unfreeze(freeze.digest())).await.unwrap();
    desk.ask(&payout).await.unwrap();
}

#[tokio::test]
async fn what_waits_is_reserved_until_it_is_over() {
    let mut knobs = people(TWO_SITES);
    knobs.limit = 150_000;
    let mut house = House::closed(&knobs, Limits::default()).await;
    let now = Arc::new(AtomicU64::new(now_ms()));
    house.open_at(clock(&now)).await;
    let desk = Desk { house, now };
    let (first, second) = (desk.payout(1), desk.payout(2));
    desk.waits(&first, &["approvals"]).await;
    desk.denied(&second, &["external-limit"]).await;
    // The same coin under another order is taken as well.
    let other = Payout { coins: first.coins.clone(), ..desk.payout(3) };
    let status = desk.ask(&other).await.unwrap_err();
    assert!(said(&status).1.contains(&"slot-signed".to_owned()), "{status:?}");
    let about = desk.about().await;
    desk.say("bob", Says::Reject(about)).await.unwrap();
    desk.denied(&first, &["rejected"]).await;
    desk.refused(&desk.statement("alice", Says::Approve(about)), "statement-nothing").await;
    desk.waits(&second, &["approvals"]).await;
    // A week later nobody cares any more, and the coins are free.
    desk.pass(6 * 86_400);
    assert_eq!(desk.pending().await.waiting.len(), 1);
    desk.pass(2 * 86_400);
    let app = desk.house.app();
    until("the wait is over", || app.log.read(|l| l.people().waits().count() == 0)).await;
    drop(app);
    desk.waits(&Payout { coins: second.coins.clone(), ..desk.payout(4) }, &["approvals"]).await;
}

#[tokio::test]
async fn an_approval_counts_for_one_intent_under_one_policy_at_one_signer_in_time_and_once() {
    let desk = Desk::new(TWO_SITES).await;
    let (payout, other) = (desk.payout(1), desk.payout(2));
    desk.waits(&other, &["approvals"]).await;
    let others = desk.about().await;
    desk.say("alice", Says::Reject(others)).await.unwrap();
    desk.waits(&payout, &["approvals"]).await;
    let about = desk.about().await;
    let good = || desk.statement("alice", Says::Approve(about));
    let approve = |about: About| desk.statement("alice", Says::Approve(about));
    for (statement, code) in [
        (approve(About { request: others.request, ..about }), "statement-nothing"),
        (approve(About { intent: others.intent, ..about }), "statement-other"),
        (
            approve(About { policy: PolicyRef { version: 1, ..about.policy }, ..about }),
            "statement-other",
        ),
        (
            approve(About { policy: PolicyRef { digest: [1; 32], ..about.policy }, ..about }),
            "statement-other",
        ),
        (Statement { log: "cofferdam/other".into(), ..good() }, "statement-elsewhere"),
        (Statement { network: "bip122:1".into(), ..good() }, "statement-elsewhere"),
        (Statement { expires_unix: desk.now() - 1, ..good() }, "statement-expired"),
        (Statement { expires_unix: desk.now() + 40 * 86_400, ..good() }, "statement-format"),
        (Statement { officer: KeyName::parse("mallory").unwrap(), ..good() }, "statement-officer"),
        (desk.statement("alice", Says::Veto(about)), "statement-officer"),
        (desk.statement("alice", Says::Revoke([7; 32])), "statement-nothing"),
        (desk.statement("alice", Says::Unfreeze([7; 32])), "statement-nothing"),
    ] {
        desk.refused(&statement, code).await;
    }
    let forged = Signed { signature: sign(&good()).signature, ..sign(&good()) };
    let status = desk.submit_signed(forged).await.unwrap_err();
    assert_eq!(said(&status).1, ["statement-signature"]);

    // Of the two that P-256 has for each, one is a signature.
    let bobs = desk.statement("bob", Says::Approve(about));
    let upper = loop {
        let signature = bobs_own(&bobs.encode());
        if lower(&signature) != signature {
            break Signed { signature, ..sign(&bobs) };
        }
    };
    let status = desk.submit_signed(upper).await.unwrap_err();
    assert_eq!(said(&status).1, ["statement-signature"]);
    // And what was said counts once, with whatever signature it comes again.
    desk.submit(&bobs).await.unwrap();
    let size = desk.house.log_size();
    desk.refused(&bobs, "statement-used").await;
    assert_ne!(sign(&bobs).signature, sign(&bobs).signature);
    let taken = |entry: &Entry| !matches!(entry.event, Event::Refused { .. });
    assert!(!desk.house.entries(size).await.iter().any(taken));
    assert_eq!(desk.waiting().await.approvals.len(), 1);
    desk.say("bob", Says::Revoke(bobs.digest())).await.unwrap();

    let alices = good();
    desk.submit(&alices).await.unwrap();
    desk.refused(&alices, "statement-used").await;
    // Taken back by who gave it, and nobody else.
    desk.refused(&desk.statement("bob", Says::Revoke(alices.digest())), "statement-nothing").await;
    desk.say("bob", Says::Approve(about)).await.unwrap();
    desk.say("alice", Says::Revoke(alices.digest())).await.unwrap();
    desk.waits(&payout, &["approvals"]).await;
    desk.refused(&alices, "statement-used").await;
    // Given again; but bob's ends before it is asked for.
    let long = Statement { expires_unix: desk.now() + 86_400, ..good() };
    desk.submit(&long).await.unwrap();
    desk.pass(3_600);
    desk.waits(&payout, &["approvals"]).await;
    desk.say("bob", Says::Approve(about)).await.unwrap();
    desk.ask(&payout).await.unwrap();
}

#[tokio::test]
async fn a_restart_forgets_nothing_and_another_policy_forgets_all() {
    let mut desk = Desk::new(TWO_SITES).await;
    let (payout, late) = (desk.payout(1), desk.payout(2));
    desk.waits(&payout, &["approvals"]).await;
    let about = desk.about().await;
    desk.say("alice", Says::Approve(about)).await.unwrap();
    desk.reopen().await;
    desk.say("bob", Says::Approve(about)).await.unwrap();
    desk.reopen().await;
    desk.ask(&payout).await.unwrap();

    desk.waits(&late, &["approvals"]).await;
    let about = desk.about().await;
    desk.say("alice", Says::Approve(about)).await.unwrap();
    desk.say("bob", Says::Approve(about)).await.unwrap();
    let wallets = desk.house.descriptors.clone();
    write_policy(&desk.house.config, &wallets, &Knobs { version: 3, ..people(TWO_SITES) });
    desk.reopen().await;
    desk.waits(&late, &["approvals"]).await;
    let anew = desk.about().await;
    assert_ne!(anew.intent, about.intent);
    desk.refused(&desk.statement("alice", Says::Approve(about)), "statement-other").await;
    desk.say("alice", Says::Approve(anew)).await.unwrap();
    desk.say("bob", Says::Approve(anew)).await.unwrap();
    desk.ask(&late).await.unwrap();
}

#[tokio::test]
async fn a_delay_passes_and_a_veto_ends_it() {
    let desk = Desk::new(SLOW).await;
    let (good, bad) = (desk.payout(1), desk.payout(2));
    desk.waits(&good, &["delay"]).await;
    desk.pass(3_500);
    desk.waits(&good, &["delay"]).await;
    desk.pass(200);
    desk.ask(&good).await.unwrap();

    desk.waits(&bad, &["delay"]).await;
    let about = desk.about().await;
    desk.refused(&desk.statement("alice", Says::Veto(about)), "statement-officer").await;
    desk.refused(&desk.statement("dan", Says::Reject(about)), "statement-officer").await;
    desk.say("dan", Says::Veto(about)).await.unwrap();
    desk.pass(4_000);
    desk.denied(&bad, &["vetoed"]).await;
    assert!(desk.pending().await.waiting.is_empty());
}

#[tokio::test]
async fn outside_of_office_hours_it_waits() {
    // 2026-01-03 was a Saturday.
    let rule = "[[require]]\nname = \"office\"\nwhen = { lanes = [\"withdraw\"] }\nhours = [\"mon-fri 09:00-17:00 +00:00\"]\n";
    let desk = Desk::new(rule).await;
    let day = desk.now() / 86_400 + 1;
    // 1970-01-01 was a Thursday.
    let weekday = (day + 3) % 7;
    let to_monday = (7 - weekday) % 7;
    let monday = (day + to_monday) * 86_400;
    let payout = desk.payout(1);
    desk.pass(monday + 8 * 3_600 - desk.now());
    desk.waits(&payout, &["hours"]).await;
    desk.pass(3_600);
    desk.ask(&payout).await.unwrap();
}

#[tokio::test]
async fn one_officer_freezes_and_two_lift_it() {
    let desk = Desk::new(TWO_SITES).await;
    let payout = desk.payout(1);
    desk.waits(&payout, &["approvals"]).await;
    let about = desk.about().await;
    desk.say("alice", Says::Approve(about)).await.unwrap();
    desk.say("bob", Says::Approve(about)).await.unwrap();
    let wallet = |name: &str| FreezeScope::Wallet(WalletName::parse(name).unwrap());
    let lane = |name: &str| FreezeScope::Lane(LaneName::parse(name).unwrap());
    desk.refused(&desk.statement("bob", Says::Freeze(wallet("hott"))), "statement-nothing").await;
    for scope in [FreezeScope::Everything, wallet("hot"), lane("withdraw")] {
        let freeze = desk.statement("dan", Says::Freeze(scope.clone()));
        desk.submit(&freeze).await.unwrap();
        desk.refused(&desk.statement("dan", Says::Freeze(scope)), "statement-used").await;
        desk.denied(&payout, &["frozen"]).await;
        assert_eq!(desk.pending().await.freezes.len(), 1);
        let lift = || Says::Unfreeze(freeze.digest());
        desk.say("dan", lift()).await.unwrap();
        desk.say("dan", lift()).await.unwrap();
        desk.denied(&payout, &["frozen"]).await;
        desk.say("carol", lift()).await.unwrap();
        assert!(desk.pending().await.freezes.is_empty());
        desk.refused(&desk.statement("alice", lift()), "statement-nothing").await;
    }
    // Evacuation, other wallets and other lanes are apart.
    for scope in [FreezeScope::Evacuation, wallet("deposits"), lane("sweep")] {
        desk.say("dan", Says::Freeze(scope)).await.unwrap();
    }
    desk.ask(&payout).await.unwrap();
}

#[tokio::test]
async fn a_file_in_the_inbox_freezes_without_any_connection() {
    let desk = Desk::new(TWO_SITES).await;
    let inbox = signer::officers::inbox::folder(&desk.house.config.state_dir);
    fs::create_dir_all(&inbox).unwrap();
    let put = |name: &str, bytes: &[u8]| {
        fs::write(inbox.join("new"), bytes).unwrap();
        fs::rename(inbox.join("new"), inbox.join(name)).unwrap();
    };
    let freeze = sign(&desk.statement("dan", Says::Freeze(FreezeScope::Everything)));
    let mut forged = freeze.clone();
    forged.signature[5] ^= 1;
    put("b.statement", &forged.to_file());
    put("c.statement", b"not a statement");
    fs::write(inbox.join("d.txt"), freeze.to_file()).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", inbox.join("e.statement")).unwrap();
    put("f.statement", &vec![b'x'; 1 << 20]);
    let refused = inbox.join("refused");
    let gone =
        |name: &str| !inbox.join(name).exists() && fs::symlink_metadata(inbox.join(name)).is_err();
    until("the bad files are set aside", || {
        ["b.statement", "c.statement", "e.statement", "f.statement"].iter().all(|name| gone(name))
    })
    .await;
    let why = |name: &str| fs::read_to_string(refused.join(name)).unwrap();
    assert!(why("b.statement.why").starts_with("statement-signature: "));
    assert!(why("c.statement.why").starts_with("statement-format: "));
    assert!(why("e.statement.why").starts_with("statement-format: "));
    assert!(desk.pending().await.freezes.is_empty());

    put("a.statement", &freeze.to_file());
    until("the freeze is taken in", || gone("a.statement")).await;
    desk.denied(&desk.payout(1), &["frozen"]).await;
    // The same file again counts no second time.
    put("a.statement", &freeze.to_file());
    until("the file is set aside", || gone("a.statement")).await;
    assert!(why("a.statement.why").starts_with("statement-used: "));
    assert!(inbox.join("d.txt").exists(), "what is no statement by its name is not touched");
}

#[tokio::test]
async fn what_officers_see_is_granted_by_the_policy() {
    let desk = Desk::new(TWO_SITES).await;
    for name in ["watcher-1", "payout-desk", "stranger"] {
        let mut client = OfficersClient::new(desk.house.channel(name).await);
        let wanted = if name == "stranger" { "unknown-client" } else { "officers-not-granted" };
        let codes = [
            client.pending(PendingRequest {}).await.map(drop).unwrap_err(),
            client.show(ShowRequest { request_id: vec![1; 16] }).await.map(drop).unwrap_err(),
            client.show_order(ShowOrderRequest::default()).await.map(drop).unwrap_err(),
            client.submit(SubmitRequest::default()).await.map(drop).unwrap_err(),
            client
                .notifications(proto::NotificationsRequest::default())
                .await
                .map(drop)
                .unwrap_err(),
        ];
        for status in codes {
            assert_eq!(said(&status), (Code::PermissionDenied, strings(&[wanted])));
        }
    }
}

#[tokio::test]
async fn officers_hear_what_happens() {
    let desk = Desk::new(TWO_SITES).await;
    let request = proto::NotificationsRequest::default();
    let mut heard = desk.client().await.notifications(request).await.unwrap().into_inner();
    let payout = desk.payout(1);
    desk.waits(&payout, &["approvals"]).await;
    let about = desk.about().await;
    desk.say("alice", Says::Approve(about)).await.unwrap();
    desk.say("dan", Says::Freeze(FreezeScope::Everything)).await.unwrap();
    desk.denied(&payout, &["frozen"]).await;
    for (kind, id) in [
        ("pending", about.request.0.to_vec()),
        ("said", about.request.0.to_vec()),
        ("frozen", Vec::new()),
        ("denied", about.request.0.to_vec()),
    ] {
        let notice = heard.message().await.unwrap().unwrap();
        assert_eq!((notice.kind.as_str(), &notice.request_id), (kind, &id), "{notice:?}");
        let under = (notice.policy_version, notice.policy_digest.try_into().unwrap());
        assert_eq!(under, (about.policy.version, about.policy.digest));
    }
}

/// From outside, over mutual TLS: it says that the signer is there, how long its log is, and whether it would sign.
#[tokio::test(flavor = "multi_thread")]
async fn who_asks_for_a_heartbeat_hears_one() {
    let desk = Desk::new(TWO_SITES).await;
    for heartbeat_seconds in [1, 4, 3_601, u32::MAX] {
        let wrong = proto::NotificationsRequest { heartbeat_seconds };
        let status = desk.client().await.notifications(wrong).await.map(drop).unwrap_err();
        assert_eq!(said(&status), (Code::InvalidArgument, strings(&["bad-request"])));
    }
    let silent = proto::NotificationsRequest::default();
    let mut silent = desk.client().await.notifications(silent).await.unwrap().into_inner();
    let asked = proto::NotificationsRequest { heartbeat_seconds: 5 };
    let begun = std::time::Instant::now();
    let mut heard = desk.client().await.notifications(asked).await.unwrap().into_inner();
    let ready = async |heard: &mut tonic::Streaming<proto::Notification>| {
        let notice = heard.message().await.unwrap().unwrap();
        assert_eq!(notice.kind, "heartbeat", "{notice:?}");
        assert!(notice.request_id.is_empty() && notice.wallet.is_empty());
        let status = desk.house.app().log.status();
        assert_eq!(notice.log_entries, status.head.size);
        assert_eq!(notice.checkpoint_entries, status.checkpointed);
        notice.reasons[0].code.clone()
    };
    // The first at once, the next when it is time for it.
    assert_eq!(ready(&mut heard).await, "ready");
    assert_eq!(ready(&mut heard).await, "ready");
    assert!(begun.elapsed() >= std::time::Duration::from_secs(5));
    desk.say("dan", Says::Freeze(FreezeScope::Everything)).await.unwrap();
    let frozen = heard.message().await.unwrap().unwrap();
    assert_eq!((frozen.kind.as_str(), frozen.log_entries), ("frozen", 0));
    // Who asked for none heard none.
    assert_eq!(silent.message().await.unwrap().unwrap().kind, "frozen");
}

/// The token takes its time; the officer does not.
#[tokio::test(flavor = "multi_thread")]
async fn a_freeze_holds_what_is_being_signed() {
    let mut house = House::closed(&people(TWO_SITES), Limits::default()).await;
    let folder = house.folder().join("faulty");
    fs::create_dir(&folder).unwrap();
    let token = &mut house.config.token;
    let real = token.module.replace(crate::token::PROGRAMS.join("libfaulty_hsm.so")).unwrap();
    token.env.insert("FAULTY_MODULE".into(), real.to_str().unwrap().into());
    token.env.insert("FAULTY_DIR".into(), folder.to_str().unwrap().into());
    let now = Arc::new(AtomicU64::new(now_ms()));
    house.open_at(clock(&now)).await;
    let desk = Desk { house, now };
    let payout = desk.payout(1);
    desk.waits(&payout, &["approvals"]).await;
    let about = desk.about().await;
    desk.say("alice", Says::Approve(about)).await.unwrap();
    desk.say("bob", Says::Approve(about)).await.unwrap();
    let freeze = desk.statement("dan", Says::Freeze(FreezeScope::Everything));
    fs::write(folder.join("rules"), "C_Sign always delay=300\n").unwrap();
    let app = desk.house.app();
    let allowed =
        || app.log.read(|ledger| ledger.given(about.request) == signer::ledger::Given::Allowed);
    let freezing = async {
        until("the payout is being signed", allowed).await;
        desk.submit(&freeze).await.unwrap();
    };
    let (asked, ()) = tokio::join!(desk.ask(&payout), freezing);
    desk.house.denied(&asked.unwrap_err(), &["frozen"]).await;
    fs::remove_file(folder.join("rules")).unwrap();
    desk.denied(&payout, &["frozen"]).await;
    for officer in ["alice", "bob"] {
        desk.say(officer, Says::Unfreeze(freeze.digest())).await.unwrap();
    }
    desk.ask(&payout).await.unwrap();
}
