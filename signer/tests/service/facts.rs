//! What reaches the signer from outside and bears on its decisions: grants that end, lists, statements by others.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use audit::entry::Event;
use ed25519_dalek::{Signer as _, SigningKey};
use policy::names::KeyName;
use proto::SubmitRequest;
use proto::officers_client::OfficersClient;
use signer::config::Limits;
use signer::facts::sanctions::look;
use signer::log::Clock;
use statement::fact::{Fact, States};
use statement::sanctions::{self, Listed};
use statement::{Signed, parse_coin};
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
        let path = &desk.house.config.policy;
        let text = change(&fs::read_to_string(path).unwrap(), desk.now());
        let text = text.replacen("version = 1\n", "version = 2\n", 1);
        fs::write(path, &text).unwrap();
        fs::write(path.with_extension("toml.sig"), policy_signatures(&text)).unwrap();
        desk
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
        let fact = Fact {
            states: States::Balanced { height: 7, block: [7; 32] },
            log: self.house.app().log.opening().origin.clone(),
            network: asset::Network::Regtest.chain_id().to_string(),
            by: KeyName::parse("auditor").unwrap(),
            made_unix: self.now() - age,
        };
        let statement = fact.encode();
        Signed { signature: key(seed).sign(&statement).to_bytes(), statement }
    }

    async fn submit(&self, signed: &Signed) -> Vec<String> {
        let mut client = OfficersClient::new(self.house.channel("officers-desk").await);
        let Signed { statement, signature } = signed.clone();
        let request = SubmitRequest { statement, signature: signature.to_vec() };
        client.submit(request).await.map_or_else(|status| said(&status).1, |_| Vec::new())
    }

    /// Asks for a payout of 100,000 sat to this stranger, of a coin of its own; the codes, none if it was signed.
    async fn pay(&self, number: u64, to_whom: u8) -> Vec<String> {
        let coins = [self.coin(number)];
        let script = stranger(to_whom);
        let order = order(&format!("invoice-{number}"), 100_000, &address(&script), FAR);
        let change = own(&self.house.descriptors.hot, true, 0, 399_000);
        let outs = [to(script, 100_000), change];
        let mut header = header(&format!("p{number}"), "withdraw", "hot", &psbt(&coins, &outs));
        header.orders = vec![signed(&order)];
        match self.house.sign(header, &coins).await {
            Ok(_) => Vec::new(),
            Err(status) => {
                let (code, codes) = said(&status);
                assert!(matches!(code, Code::PermissionDenied | Code::FailedPrecondition));
                codes
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
