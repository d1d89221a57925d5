//! What reaches the signer from outside and bears on its decisions: grants that end, lists, statements by others.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use audit::entry::Event;
use ed25519_dalek::{Signer as _, SigningKey};
use policy::conditions::Target;
use policy::names::{KeyName, ListName};
use proto::officers_client::OfficersClient;
use proto::{PendingRequest, ShowRequest, SubmitRequest};
use signer::config::Limits;
use signer::facts::sanctions::look;
use signer::log::Clock;
use statement::fact::{Entry, Fact, States};
use statement::sanctions::{self, Listed};
use statement::{Says, Signed, Statement, parse_coin};
use tonic::Code;

use crate::common::{
    Coin, FAR, Knobs, address, coin, header, order, own, policy_signatures, psbt, signed, stranger,
    to,
};
use crate::house::{House, said, until};

/// A signer whose policy and clock a test changes.
struct Desk {
    house: House,
    now: Arc<AtomicU64>,
}

impl Desk {
    /// Not open yet; `change` is done to the policy's text.
    async fn new(knobs: &Knobs, change: impl Fn(&str, u64) -> String) -> Self {
        let house = House::closed(knobs, Limits::default()).await;
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        let now = Arc::new(AtomicU64::new(u64::try_from(since.as_millis()).unwrap()));
        let desk = Self { house, now };
        desk.policy(2, |text| change(text, desk.now()));
        desk
    }

    /// Puts another policy into place.
    fn policy(&self, version: u64, change: impl Fn(&str) -> String) {
        let path = &self.house.config.policy;
        let text = change(&fs::read_to_string(path).unwrap());
        let before = format!("version = {}\n", version - 1);
        let text = text.replacen(&before, &format!("version = {version}\n"), 1);
        fs::write(path, &text).unwrap();
        fs::write(path.with_extension("toml.sig"), policy_signatures(&text)).unwrap();
    }

    async fn open(&mut self) {
        let now = Arc::clone(&self.now);
        self.house.open_at(Clock::from_fn(move || now.load(Ordering::Relaxed))).await;
    }

    fn now(&self) -> u64 {
        self.now.load(Ordering::Relaxed) / 1000
    }

    fn pass(&self, seconds: u64) {
        self.now.fetch_add(seconds * 1000, Ordering::Relaxed);
    }

    fn coin(&self, number: u64) -> Coin {
        coin(&self.house.descriptors.hot, false, 1, 500_000, number, 1)
    }

    /// A list of this age in seconds, by this key, put in its place as one does.
    fn put_list(&self, seed: u8, age: u64, entries: &[Listed]) {
        let network = asset::Network::Regtest.chain_id().to_string();
        let by = KeyName::parse("compliance").unwrap();
        let text = sanctions::text(&network, &by, self.now() - age, entries);
        let file = sanctions::to_file(&text, &key(seed).sign(text.as_bytes()).to_bytes());
        let path = self.house.config.sanctions.clone().unwrap();
        let fresh = path.with_extension("new");
        fs::write(&fresh, file).unwrap();
        fs::rename(fresh, path).unwrap();
    }

    /// One look by hand, as if the file had just changed.
    async fn look(&self) {
        let path = self.house.config.sanctions.clone().unwrap();
        look(&self.house.app(), &path, &mut None).await;
    }

    fn balanced(&self, seed: u8, age: u64) -> Signed {
        self.fact(seed, "auditor", age, States::Balanced { height: 7, block: [7; 32] })
    }

    /// An entry of the address book for customers.
    fn listed(&self, label: &str, whom: u8) -> States {
        States::Listed(Entry {
            list: list("customers"),
            label: label.to_owned(),
            target: Target::Address(address(&stranger(whom))),
            from_unix: 0,
            expires_unix: Some(self.now() + 10 * 86_400),
        })
    }

    fn unlisted(label: &str) -> States {
        States::Unlisted { list: list("customers"), label: label.to_owned() }
    }

    fn fact(&self, seed: u8, by: &str, age: u64, states: States) -> Signed {
        let fact = Fact {
            states,
            log: self.house.app().log.opening().origin.clone(),
            network: asset::Network::Regtest.chain_id().to_string(),
            by: KeyName::parse(by).unwrap(),
            made_unix: self.now() - age,
        };
        let statement = fact.encode();
        Signed { signature: key(seed).sign(&statement).to_bytes(), statement }
    }

    /// Dan takes acme's entry back.
    fn unlist(&self, nonce: u8) -> Signed {
        let said = Statement {
            says: Says::Unlist { list: list("customers"), label: "acme".to_owned() },
            log: self.house.app().log.opening().origin.clone(),
            network: asset::Network::Regtest.chain_id().to_string(),
            officer: KeyName::parse("dan").unwrap(),
            expires_unix: self.now() + 600,
            nonce: [nonce; 16],
        };
        let statement = said.encode();
        Signed { signature: key(63).sign(&statement).to_bytes(), statement }
    }

    async fn submit(&self, signed: &Signed) -> Vec<String> {
        let mut client = OfficersClient::new(self.house.channel("officers-desk").await);
        let Signed { statement, signature } = signed.clone();
        let request = SubmitRequest { statement, signature: signature.to_vec() };
        client.submit(request).await.map_or_else(|status| said(&status).1, |_| Vec::new())
    }

    /// Asks for a payout of 100,000 sat to this stranger, of a coin of its own; the codes, none if it was signed.
    async fn pay(&self, number: u64, to_whom: u8) -> Vec<String> {
        self.pay_sat(number, to_whom, 100_000).await
    }

    async fn pay_sat(&self, number: u64, to_whom: u8, sat: u64) -> Vec<String> {
        let coins = [self.coin(number)];
        let script = stranger(to_whom);
        let order = order(&format!("invoice-{number}"), sat, &address(&script), FAR);
        let change = own(&self.house.descriptors.hot, true, 0, 499_000 - sat);
        let outs = [to(script, sat), change];
        let mut header = header(&format!("p{number}"), "withdraw", "hot", &psbt(&coins, &outs));
        header.orders = vec![signed(&order)];
        match self.house.sign(header, &coins).await {
            Ok(_) => Vec::new(),
            Err(status) => {
                let (code, codes) = said(&status);
                assert!(matches!(code, Code::PermissionDenied | Code::FailedPrecondition));
                // Whoever asked was told nothing: the log knows the rule.
                if codes == ["policy-denied"] { self.house.rules_of(&status).await } else { codes }
            }
        }
    }
}

fn key(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
}

/// A policy that asks for facts on its payouts.
fn asking(asks: &str) -> Knobs {
    let public = |seed: u8| hex::encode(key(seed).verifying_key().to_bytes());
    let more = format!(
        "[[screener]]\nname = \"compliance\"\ned25519 = \"{}\"\n\
         [[reconciler]]\nname = \"auditor\"\ned25519 = \"{}\"\n\
         [[client]]\nname = \"officers-desk\"\nattest = []\nstatus = false\nofficers = true\n\
         [[require]]\nname = \"facts\"\nwhen = {{ lanes = [\"withdraw\"] }}\n{asks}\n",
        public(61),
        public(62)
    );
    Knobs { more, ..Knobs::default() }
}

#[tokio::test]
async fn a_sanctions_list_counts_once_the_log_has_it_and_until_it_is_old() {
    let mut desk = Desk::new(&asking("screened = \"24h\""), |text, _| text.to_owned()).await;
    let folder = desk.house.folder().join("lists");
    fs::create_dir_all(&folder).unwrap();
    desk.house.config.sanctions = Some(folder.join("sanctions"));
    desk.open().await;
    assert_eq!(desk.pay(1, 4).await, ["waiting", "screening"], "there is no list");

    // By nobody the policy knows, for another network, of the future: none is one.
    desk.put_list(60, 0, &[]);
    desk.look().await;
    fs::write(desk.house.config.sanctions.as_ref().unwrap(), "cofferdam-sanctions-v1\n").unwrap();
    desk.look().await;
    assert_eq!(desk.pay(1, 4).await, ["waiting", "screening"]);

    let begun = desk.house.log_size();
    let bad = parse_coin(&desk.coin(3).outpoint().to_string()).unwrap();
    let address = address(&stranger(5)).to_string();
    desk.put_list(61, 3_600, &[Listed::Address(address), Listed::Coin(bad)]);
    // The signer finds it by itself.
    let app = desk.house.app();
    until("the list counts", || app.log.read(|l| l.facts().sanctions().is_some())).await;
    drop(app);
    // What is folded may not be on the disk yet: answered is only what is.
    assert_eq!(desk.pay(2, 5).await, ["screening-hit"], "to whom is on it");
    let entries = desk.house.entries(begun).await;
    let read = entries.iter().find_map(|entry| match entry.event {
        Event::SanctionsRead { count: 2, made_unix, .. } => Some(made_unix),
        _ => None,
    });
    let made_unix = read.unwrap_or_else(|| panic!("{entries:?}"));
    assert_eq!(made_unix, desk.now() - 3_600);
    assert_eq!(desk.pay(1, 4).await, [""; 0], "the same request, now that there is one");
    assert_eq!(desk.pay(3, 4).await, ["screening-hit"], "with what is on it");

    // An older one does not take its place, nor does one as old.
    for age in [3_600, 7_200] {
        desk.put_list(61, age, &[]);
        desk.look().await;
    }
    assert_eq!(desk.pay(2, 5).await, ["screening-hit"]);
    desk.pass(24 * 3_600);
    assert_eq!(desk.pay(4, 4).await, ["waiting", "screening"], "it is 25 hours old");
    desk.put_list(61, 0, &[Listed::Script(stranger(6).into_bytes())]);
    desk.look().await;
    assert_eq!(desk.pay(4, 4).await, [""; 0]);
    assert_eq!(desk.pay(5, 6).await, ["screening-hit"]);

    // It is still there after a start, and no news.
    let read = |entries: &[audit::entry::Entry]| {
        entries.iter().filter(|e| matches!(e.event, Event::SanctionsRead { .. })).count()
    };
    desk.house.close().await;
    desk.open().await;
    assert_eq!(desk.pay(6, 6).await, ["screening-hit"]);
    assert_eq!(read(&desk.house.entries(begun).await), 2);
    // Without the file nobody knows what is on the list.
    desk.house.close().await;
    fs::remove_file(desk.house.config.sanctions.as_ref().unwrap()).unwrap();
    desk.open().await;
    assert_eq!(desk.pay(7, 4).await, ["waiting", "screening"]);
}

#[tokio::test]
async fn a_reconciler_says_that_the_books_balance_and_only_newer_words_follow() {
    let mut desk = Desk::new(&asking("books = \"6h\""), |text, _| text.to_owned()).await;
    desk.open().await;
    assert_eq!(desk.pay(1, 4).await, ["waiting", "books"]);
    assert_eq!(desk.submit(&desk.balanced(61, 0)).await, ["statement-signature"]);
    let elsewhere = Fact { log: "cofferdam/other".into(), ..fact(&desk.balanced(62, 0)) }.encode();
    let signature = key(62).sign(&elsewhere).to_bytes();
    let elsewhere = Signed { statement: elsewhere, signature };
    assert_eq!(desk.submit(&elsewhere).await, ["statement-elsewhere"]);

    let first = desk.balanced(62, 3_600);
    assert_eq!(desk.submit(&first).await, [""; 0]);
    assert_eq!(desk.pay(1, 4).await, [""; 0]);
    assert_eq!(desk.submit(&first).await, ["statement-used"]);
    assert_eq!(desk.submit(&desk.balanced(62, 7_200)).await, ["statement-used"]);
    desk.pass(6 * 3_600);
    assert_eq!(desk.pay(2, 4).await, ["waiting", "books"]);

    // As a file, and still there after a start.
    let inbox = desk.house.config.state_dir.join("inbox");
    fs::create_dir_all(&inbox).unwrap();
    fs::write(inbox.join("new"), desk.balanced(62, 0).to_file()).unwrap();
    fs::rename(inbox.join("new"), inbox.join("today.statement")).unwrap();
    let app = desk.house.app();
    let auditor = KeyName::parse("auditor").unwrap();
    let now = desk.now();
    let made = |ledger: &signer::ledger::Ledger| {
        ledger.facts().books_by(&auditor).is_some_and(|said| said.made_unix == now)
    };
    until("the file counts", || app.log.read(made)).await;
    drop(app);
    assert_eq!(desk.pay(2, 4).await, [""; 0]);
    desk.house.close().await;
    desk.open().await;
    assert_eq!(desk.pay(3, 4).await, [""; 0]);
}

/// A policy that pays those in the address book alone, and waits for dan above 150,000 sat.
fn booking() -> Knobs {
    let public = |seed: u8| hex::encode(key(seed).verifying_key().to_bytes());
    let more = format!(
        "[[book_key]]\nname = \"onboarding\"\ned25519 = \"{}\"\n\
         [[book_key]]\nname = \"other\"\ned25519 = \"{}\"\n\
         [[reconciler]]\nname = \"auditor\"\ned25519 = \"{}\"\n\
         [[officer]]\nname = \"dan\"\ndomain = \"oslo\"\ned25519 = \"{}\"\n\
         [[group]]\nname = \"desk\"\nmembers = [\"dan\"]\n\
         [[client]]\nname = \"officers-desk\"\nattest = []\nstatus = false\nofficers = true\n\
         [[list]]\nname = \"customers\"\nmatures = \"24h\"\nbook_keys = [\"onboarding\", \"other\"]\nentries = []\n\
         [[require]]\nname = \"large\"\nwhen = {{ lanes = [\"withdraw\"], above = \"150000 sat\" }}\napprovals = \"1 of desk\"\n\
         [[deny]]\nname = \"strangers\"\nwhen = {{ lanes = [\"withdraw\"], unlisted = [\"customers\"] }}\n",
        public(61),
        public(64),
        public(62),
        public(63)
    );
    Knobs { more, ..Knobs::default() }
}

const DAY: u64 = 24 * 3_600;

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "one entry's story")]
async fn only_who_is_in_the_address_book_long_enough_is_paid() {
    let mut desk = Desk::new(&booking(), |text, _| text.to_owned()).await;
    desk.open().await;
    assert_eq!(desk.pay(1, 4).await, ["deny-rule"]);
    let first = desk.fact(61, "onboarding", 0, desk.listed("acme", 4));
    let elsewhere = |change: &dyn Fn(&mut Fact)| {
        let mut fact = fact(&first);
        change(&mut fact);
        let statement = fact.encode();
        Signed { signature: key(61).sign(&statement).to_bytes(), statement }
    };
    let mainnet = asset::Network::Bitcoin.chain_id().to_string();
    for (bad, code) in [
        (desk.fact(62, "auditor", 0, desk.listed("acme", 4)), "statement-officer"),
        (desk.fact(62, "onboarding", 0, desk.listed("acme", 4)), "statement-signature"),
        (elsewhere(&|fact| fact.log = "cofferdam/other".into()), "statement-elsewhere"),
        (elsewhere(&|fact| fact.network.clone_from(&mainnet)), "statement-elsewhere"),
        (elsewhere(&|fact| fact.made_unix += 3_600), "statement-format"),
        (elsewhere(&|fact| entry_of(fact).list = list("others")), "statement-officer"),
        (elsewhere(&|fact| entry_of(fact).target = mainnets()), "statement-format"),
    ] {
        assert_eq!(desk.submit(&bad).await, [code]);
    }
    assert_eq!(desk.submit(&first).await, [""; 0]);
    assert_eq!(desk.submit(&first).await, ["statement-used"]);
    desk.pass(1);
    let hidden = desk.fact(61, "onboarding", 0, desk.listed("acme", 4));
    desk.pass(1);
    for (seed, by, whom, why) in
        [(61, "onboarding", 5, "the label stands for another"), (64, "other", 4, "another key's")]
    {
        let other = desk.fact(seed, by, 0, desk.listed("acme", whom));
        assert_eq!(desk.submit(&other).await, ["statement-other"], "{why}");
    }
    assert_eq!(desk.pay(1, 4).await, ["deny-rule"], "not mature, whatever was signed when");
    desk.pass(DAY - 3);
    assert_eq!(desk.pay(1, 4).await, ["deny-rule"], "a second too early");
    desk.pass(1);
    assert_eq!(desk.pay(1, 4).await, [""; 0]);
    assert_eq!(desk.pay(2, 5).await, ["deny-rule"]);
    // Attested again it stays as old as it is; what is older than that is nothing; a start changes nothing.
    let again = desk.fact(61, "onboarding", 0, desk.listed("acme", 4));
    assert_eq!(desk.submit(&again).await, [""; 0]);
    assert_eq!(desk.submit(&hidden).await, ["statement-other"]);
    desk.house.close().await;
    desk.open().await;
    assert_eq!(desk.pay(3, 4).await, [""; 0]);

    // Its key takes it back; nothing that was signed before brings it again.
    desk.pass(1);
    let unused = desk.fact(61, "onboarding", 0, desk.listed("acme", 4));
    desk.pass(1);
    let not_its = desk.fact(64, "other", 0, Desk::unlisted("acme"));
    assert_eq!(desk.submit(&not_its).await, ["statement-nothing"]);
    let gone = desk.fact(61, "onboarding", 0, Desk::unlisted("acme"));
    assert_eq!(desk.submit(&gone).await, [""; 0]);
    assert_eq!(desk.pay(4, 4).await, ["deny-rule"]);
    assert_eq!(desk.submit(&first).await, ["statement-used"]);
    assert_eq!(desk.submit(&unused).await, ["statement-other"]);
    desk.pass(1);
    let anew = desk.fact(61, "onboarding", 0, desk.listed("acme", 4));
    assert_eq!(desk.submit(&anew).await, [""; 0]);
    assert_eq!(desk.pay(4, 4).await, ["deny-rule"], "it begins anew");
    desk.pass(DAY);
    assert_eq!(desk.pay(4, 4).await, [""; 0]);

    // Any officer can take it back.
    let unused = desk.fact(61, "onboarding", 0, desk.listed("acme", 4));
    desk.pass(1);
    assert_eq!(desk.submit(&desk.unlist(1)).await, [""; 0]);
    assert_eq!(desk.submit(&desk.unlist(2)).await, [""; 0], "one may be under way");
    assert_eq!(desk.pay(5, 4).await, ["deny-rule"]);
    assert_eq!(desk.submit(&unused).await, ["statement-other"]);
    // It would have ended by itself as well.
    desk.pass(1);
    let last = desk.fact(61, "onboarding", 0, desk.listed("acme", 4));
    assert_eq!(desk.submit(&last).await, [""; 0]);
    desk.pass(10 * DAY);
    assert_eq!(desk.pay(5, 4).await, [""; 0]);
    desk.pass(1);
    assert_eq!(desk.pay(6, 4).await, ["deny-rule"]);
    desk.house.close().await;
    desk.open().await;
    assert_eq!(desk.pay(6, 4).await, ["deny-rule"]);
}

#[tokio::test]
async fn what_was_never_delivered_is_taken_back_and_grows_old() {
    let mut desk = Desk::new(&booking(), |text, _| text.to_owned()).await;
    desk.open().await;
    // Signed, taken back before it was delivered, and delivered.
    let early = desk.fact(61, "onboarding", 0, desk.listed("acme", 4));
    let others = desk.fact(64, "other", 0, desk.listed("acme", 5));
    desk.pass(1);
    let gone = desk.fact(61, "onboarding", 0, Desk::unlisted("acme"));
    assert_eq!(desk.submit(&gone).await, [""; 0]);
    assert_eq!(desk.submit(&gone).await, ["statement-used"]);
    desk.pass(1);
    for late in [&early, &others] {
        assert_eq!(desk.submit(late).await, ["statement-other"]);
    }
    // The same by an officer.
    let early = desk.fact(61, "onboarding", 0, desk.listed("acme", 4));
    desk.pass(1);
    assert_eq!(desk.submit(&desk.unlist(1)).await, [""; 0]);
    assert_eq!(desk.submit(&early).await, ["statement-other"]);
    desk.house.close().await;
    desk.open().await;
    assert_eq!(desk.submit(&early).await, ["statement-other"], "nor after a start");

    // What is delivered on the last day counts, and a second later nothing.
    let [first, second] =
        ["first", "second"].map(|label| desk.fact(61, "onboarding", 0, desk.listed(label, 4)));
    desk.pass(31 * DAY);
    assert_eq!(desk.submit(&first).await, [""; 0]);
    desk.pass(1);
    assert_eq!(desk.submit(&second).await, ["statement-other"]);
    desk.house.close().await;
    desk.open().await;
    let app = desk.house.app();
    let has =
        |label: &str| app.log.read(|l| l.facts().book().entry(&list("customers"), label).is_some());
    assert_eq!((has("first"), has("second"), has("acme")), (true, false, false));
}

#[tokio::test]
async fn a_screener_whose_key_ends_while_its_list_is_read_makes_none_count() {
    let ends = |text: &str, now: u64| {
        let ends = format!("name = \"compliance\"\nexpires_unix = {}\n", now + 50);
        text.replacen("name = \"compliance\"\n", &ends, 1)
    };
    let mut desk = Desk::new(&asking("screened = \"24h\""), ends).await;
    let (now, left) = (Arc::clone(&desk.now), Arc::new(AtomicU64::new(u64::MAX)));
    let looks = Arc::clone(&left);
    // After so many looks at it the clock has gone on.
    let clock = move || {
        let one = |left: u64| left.checked_sub(1);
        let passed = looks.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one).is_err();
        now.load(Ordering::Relaxed) + if passed { 100_000 } else { 0 }
    };
    desk.house.open_at(Clock::from_fn(clock)).await;
    // Nobody looks at it by itself.
    let path = desk.house.folder().join("sanctions");
    desk.house.config.sanctions = Some(path.clone());
    desk.put_list(61, 0, &[]);
    let app = desk.house.app();
    left.store(1, Ordering::Relaxed);
    look(&app, &path, &mut None).await;
    assert!(app.log.read(|ledger| ledger.facts().sanctions().is_none()));
    left.store(u64::MAX, Ordering::Relaxed);
    look(&app, &path, &mut None).await;
    assert!(app.log.read(|ledger| ledger.facts().sanctions().is_some()), "in time it counts");
}

#[tokio::test]
async fn a_key_that_ends_while_its_statement_waits_states_nothing() {
    let ends = |text: &str, now: u64| {
        let ends = format!("name = \"onboarding\"\nexpires_unix = {}\n", now + 50);
        text.replacen("name = \"onboarding\"\n", &ends, 1)
    };
    let mut desk = Desk::new(&booking(), ends).await;
    let (now, left) = (Arc::clone(&desk.now), Arc::new(AtomicU64::new(u64::MAX)));
    let looks = Arc::clone(&left);
    // After so many looks at it the clock has gone on.
    let clock = move || {
        let one = |left: u64| left.checked_sub(1);
        let passed = looks.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one).is_err();
        now.load(Ordering::Relaxed) + if passed { 100_000 } else { 0 }
    };
    desk.house.open_at(Clock::from_fn(clock)).await;
    let acme = desk.fact(61, "onboarding", 0, desk.listed("acme", 4));
    let app = desk.house.app();
    left.store(1, Ordering::Relaxed);
    let refused = signer::facts::hear::hear(&app, acme, "file").await.unwrap_err();
    assert_eq!(refused.reason.code(), "statement-officer");
    assert!(app.log.read(|ledger| ledger.facts().book().entries().next().is_none()));
}

#[tokio::test]
async fn an_entry_goes_with_its_key_and_is_shown_to_who_approves() {
    let mut desk = Desk::new(&booking(), |text, _| text.to_owned()).await;
    desk.open().await;
    let starting = |label: &str, days: u64| {
        let mut entry = desk.listed(label, 4);
        let States::Listed(inner) = &mut entry else { panic!() };
        (inner.from_unix, inner.expires_unix) = (desk.now() + days * DAY, None);
        entry
    };
    for early in ["early", "earlier"] {
        let early = desk.fact(61, "onboarding", 0, starting(early, 90));
        assert_eq!(desk.submit(&early).await, [""; 0]);
    }
    let entry = starting("acme", 2);
    let acme = desk.fact(61, "onboarding", 0, entry);
    assert_eq!(desk.submit(&acme).await, [""; 0]);
    let others = desk.fact(64, "other", 0, desk.listed("bank", 5));
    assert_eq!(desk.submit(&others).await, [""; 0]);
    desk.pass(DAY + 3_600);
    assert_eq!(desk.pay(1, 4).await, ["deny-rule"], "mature, and its day has not come");
    assert_eq!(desk.pay(2, 5).await, [""; 0]);
    desk.pass(DAY);
    assert_eq!(desk.pay(1, 4).await, [""; 0]);

    // Limits and approvals are those of any list.
    assert_eq!(desk.pay_sat(3, 4, 200_000).await, ["waiting", "approvals"]);
    let mut client = OfficersClient::new(desk.house.channel("officers-desk").await);
    let pending = client.pending(PendingRequest {}).await.unwrap().into_inner();
    let request_id = pending.waiting[0].request_id.clone();
    let shown = client.show(ShowRequest { request_id }).await.unwrap().into_inner();
    let [booked, _] = shown.booked.as_slice() else { panic!("{:?}", shown.booked) };
    assert_eq!(booked.address, address(&stranger(4)));
    assert_eq!((&booked.statement, &booked.signature[..]), (&acme.statement, &acme.signature[..]));
    assert_eq!(booked.since_unix, fact(&acme).made_unix);

    // A policy without the key drops what it attested, and having it again brings nothing back.
    desk.house.close().await;
    desk.policy(3, |text| text.replace("[\"onboarding\", \"other\"]", "[\"other\"]"));
    desk.open().await;
    assert_eq!(desk.pay(4, 4).await, ["deny-rule"]);
    assert_eq!(desk.pay(5, 5).await, [""; 0], "another key's stays");
    desk.pass(1);
    let more = desk.fact(61, "onboarding", 0, desk.listed("more", 6));
    assert_eq!(desk.submit(&more).await, ["statement-officer"], "it adds to no list");
    desk.house.close().await;
    desk.policy(4, |text| {
        text.replace("[\"other\"]\nentries", "[\"onboarding\", \"other\"]\nentries")
    });
    desk.open().await;
    assert_eq!(desk.pay(6, 4).await, ["deny-rule"]);
    assert_eq!(desk.submit(&acme).await, ["statement-used"]);
    // Another key under the same name is another key.
    desk.house.close().await;
    let public = |seed: u8| hex::encode(key(seed).verifying_key().to_bytes());
    desk.policy(5, |text| text.replace(&public(64), &public(65)));
    desk.open().await;
    assert_eq!(desk.pay(7, 5).await, ["deny-rule"]);
}

fn fact(signed: &Signed) -> Fact {
    Fact::parse(&signed.statement).unwrap()
}

#[tokio::test]
async fn a_client_and_an_order_key_do_nothing_after_their_ends() {
    let ends = |text: &str, now: u64| {
        let (client, key) = (now + 200, now + 100);
        text.replacen(
            "name = \"watcher-1\"\n",
            &format!("name = \"watcher-1\"\nexpires_unix = {client}\n"),
            1,
        )
        .replacen(
            "name = \"shop\"\n",
            &format!("name = \"shop\"\nexpires_unix = {key}\n"),
            1,
        )
    };
    let mut desk = Desk::new(&Knobs::default(), ends).await;
    desk.open().await;
    assert_eq!(desk.pay(1, 4).await, [""; 0]);
    desk.pass(150);
    assert_eq!(desk.pay(2, 4).await, ["order-key-expired"]);
    desk.pass(100);
    assert_eq!(desk.pay(3, 4).await, ["unknown-client"], "not even the status");
}

fn entry_of(fact: &mut Fact) -> &mut Entry {
    let States::Listed(entry) = &mut fact.states else { panic!("no entry") };
    entry
}

fn list(name: &str) -> ListName {
    ListName::parse(name).unwrap()
}

fn mainnets() -> Target {
    Target::Address("bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4".to_owned())
}
