//! A real signer's log decided again offline: by the policies that were in force nothing flips; by a draft, exactly what must.

use std::fs;
use std::path::PathBuf;

use audit::entry::Event;
use clap::Parser as _;
use ed25519_dalek::{Signer as _, SigningKey};
use officer::audit::live::Live;
use officer::audit::source::Source;
use officer::replay::explain::explain;
use officer::replay::simulate::Differs;
use policy::conditions::Target;
use policy::names::{KeyName, ListName};
use serde_json::Value;
use statement::fact::{Entry, Fact, States};
use statement::{Says, Signed};

use crate::approving::{Desk, TWO_SITES};
use crate::common::{
    FAR, address, coin, descriptor, header, order, own, psbt, signed, stranger, to,
};
use crate::house::said;

const AUDITOR: &str = "[[client]]\nname = \"auditor-1\"\nattest = []\nstatus = false\nlog = true\n";
const BALANCED: &str =
    "\n[[require]]\nname = \"balanced\"\nwhen = { lanes = [\"withdraw\"] }\nbooks = \"1d\"\n";

/// A log of every kind of decision, closed, and what is needed to read it.
struct Closed {
    desk: Desk,
    key: String,
    /// What the running signer's log says of the one that was approved.
    live: String,
}

/// What `officer` prints, and how it ends.
pub(crate) fn officer(arguments: &[&str]) -> (String, Option<Differs>) {
    let arguments = std::iter::once("officer").chain(arguments.iter().copied());
    let parsed = officer::cli::Officer::try_parse_from(arguments).unwrap();
    let mut out = Vec::new();
    let ended = officer::cli::run(parsed, &mut out);
    let text = String::from_utf8(out).unwrap();
    match ended {
        Ok(()) => (text, None),
        Err(error) => match error.downcast_ref::<Differs>() {
            Some(differs) => (text, Some(*differs)),
            None => panic!("{error:#}\n{text}"),
        },
    }
}

impl Closed {
    /// Payouts of 0.001 and 0.0005 BTC that are signed, one that is approved, one that waits, one that is denied, and a sweep
    /// to nobody the policy knows. The books balanced first.
    async fn new() -> Self {
        let public = hex::encode(reconciler().verifying_key().to_bytes());
        let reconciler = format!("[[reconciler]]\nname = \"auditor\"\ned25519 = \"{public}\"\n");
        let mut desk = Desk::new(&format!("{AUDITOR}{reconciler}{}{TWO_SITES}", book())).await;
        desk.submit_signed(balanced(&desk)).await.unwrap();
        desk.submit_signed(acme(&desk)).await.unwrap();
        desk.pay("small-1", 11, 50_000).await.unwrap();
        desk.pay("small-2", 12, 30_000).await.unwrap();
        // Denied by the lane's cap on a fee, and by nothing else.
        let status = desk.pay_with_fee("dear", 13, 40_000, 5_000).await.unwrap_err();
        desk.house.denied(&status, &["fee-percent"]).await;
        let again = desk.pay_with_fee("dear", 13, 40_000, 5_000).await.unwrap_err();
        desk.house.denied(&again, &["fee-percent"]).await;
        let told = desk.house.entries(0).await.into_iter();
        let told = told.filter(|entry| matches!(entry.event, Event::Considered(_)));
        assert_eq!(told.count(), 1, "what it would do is written down once");
        let status = desk.sweep_to_nobody(14).await.unwrap_err();
        assert!(said(&status).1.contains(&"sweep-external".to_owned()), "{status:?}");
        let large = desk.payout(1);
        desk.waits(&large, &["approvals"]).await;
        let about = desk.about().await;
        desk.say("alice", Says::Approve(about)).await.unwrap();
        desk.say("bob", Says::Approve(about)).await.unwrap();
        desk.pass(60);
        desk.ask(&large).await.unwrap();
        desk.pass(60);
        desk.waits(&desk.payout(2), &["approvals"]).await;
        // A refusal before any policy is no decision.
        desk.house
            .sign(header("none", "withdraw", "nowhere", &psbt(&[], &[])), &[])
            .await
            .unwrap_err();
        let Event::Opened { checkpoint_key, .. } = desk.house.entries(0).await.remove(0).event
        else {
            panic!("the log does not begin")
        };
        let key = hex::encode(checkpoint_key);
        let channel = desk.house.channel("auditor-1").await;
        let mut source = Source::Live(Box::new(Live::open(channel).await.unwrap()));
        let mut live = Vec::new();
        explain(&mut source, "p1", checkpoint_key, &[], true, &mut live).await.unwrap();
        let live = String::from_utf8(live).unwrap();
        desk.house.close().await;
        Self { desk, key, live }
    }

    fn policy(&self, change: impl Fn(String) -> String) -> PathBuf {
        let text = fs::read_to_string(&self.desk.house.config.policy).unwrap();
        let draft = self.desk.house.folder().join("draft.toml");
        fs::write(&draft, change(text)).unwrap();
        draft
    }

    fn simulate(&self, draft: &std::path::Path, more: &[&str]) -> (String, Option<Differs>) {
        let database = self.desk.house.config.database_url();
        let draft = draft.to_str().unwrap();
        let fixed = [
            "policy",
            "simulate",
            draft,
            "--database",
            &database,
            "--key",
            &self.key,
            "--since",
            "30d",
        ];
        officer(&[&fixed[..], more].concat())
    }

    fn flips(&self, draft: &std::path::Path) -> Vec<(String, String, String, Vec<String>)> {
        let (text, _) = self.simulate(draft, &["--json"]);
        let told: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(told["untold"], 0, "{text}");
        let string = |value: &Value| value.as_str().unwrap().to_owned();
        let line = |line: &Value| {
            let reasons = line["reasons"].as_array().unwrap().iter();
            let codes = reasons.map(|reason| string(&reason["code"])).collect();
            (string(&line["key"]), string(&line["was"]), string(&line["by_draft"]), codes)
        };
        told["lines"].as_array().unwrap().iter().map(line).collect()
    }
}

fn reconciler() -> SigningKey {
    SigningKey::from_bytes(&[62; 32])
}

fn balanced(desk: &Desk) -> Signed {
    fact(desk, "auditor", &reconciler(), States::Balanced { height: 7, block: [7; 32] })
}

fn book_key() -> SigningKey {
    SigningKey::from_bytes(&[64; 32])
}

/// A list that an address book adds to, which no rule asks.
fn book() -> String {
    let public = hex::encode(book_key().verifying_key().to_bytes());
    format!(
        "[[book_key]]\nname = \"onboarding\"\ned25519 = \"{public}\"\n\
         [[list]]\nname = \"customers\"\nmatures = \"1m\"\nbook_keys = [\"onboarding\"]\nentries = []\n"
    )
}

/// Whom the large payouts pay.
fn acme(desk: &Desk) -> Signed {
    let entry = Entry {
        list: ListName::parse("customers").unwrap(),
        label: "Acme Ltd".to_owned(),
        target: Target::Address(address(&stranger(4))),
        from_unix: 0,
        expires_unix: None,
    };
    fact(desk, "onboarding", &book_key(), States::Listed(entry))
}

fn fact(desk: &Desk, by: &str, key: &SigningKey, states: States) -> Signed {
    let fact = Fact {
        states,
        log: desk.house.app().log.opening().origin.clone(),
        network: asset::Network::Regtest.chain_id().to_string(),
        by: KeyName::parse(by).unwrap(),
        made_unix: desk.now(),
    };
    let statement = fact.encode();
    Signed { signature: key.sign(&statement).to_bytes(), statement }
}

impl Desk {
    /// To an address of a wallet that the policy does not have.
    async fn sweep_to_nobody(&self, number: u64) -> Result<(), tonic::Status> {
        let coins = [coin(&self.house.descriptors.deposits, false, 1, 500_000, number, 1)];
        let vault = own(&descriptor(3), false, 0, 499_000).script;
        let psbt = psbt(&coins, &[to(vault, 499_000)]);
        self.house.sign(header("lost", "sweep", "deposits", &psbt), &coins).await.map(drop)
    }

    async fn pay(&self, key: &str, number: u64, sat: u64) -> Result<Vec<u8>, tonic::Status> {
        self.pay_with_fee(key, number, sat, 1_000).await
    }

    /// One coin of 500,000, an order of its own, and change.
    async fn pay_with_fee(
        &self,
        key: &str,
        number: u64,
        sat: u64,
        fee: u64,
    ) -> Result<Vec<u8>, tonic::Status> {
        let coins = [coin(&self.house.descriptors.hot, false, 1, 500_000, number, 1)];
        let order = order(&format!("order-{key}"), sat, &address(&stranger(7)), FAR);
        let change = own(&self.house.descriptors.hot, true, 0, 500_000 - sat - fee);
        let mut header =
            header(key, "withdraw", "hot", &psbt(&coins, &[to(stranger(7), sat), change]));
        header.orders = vec![signed(&order)];
        Ok(self.house.sign(header, &coins).await?.transaction)
    }
}

/// What people are told of each kind of request.
fn explained(closed: &Closed) {
    let explain = |request: &str, more: &[&str]| {
        let database = closed.desk.house.config.database_url();
        let fixed = ["policy", "explain", request, "--database", &database, "--key", &closed.key];
        officer(&[&fixed[..], more].concat()).0
    };
    let signed = explain("small-1", &[]);
    for part in [
        "over        lane withdraw, wallet hot (token-hd)",
        "allowed by policy 2, computed here from the log",
        "pass per-transaction: external outputs come to 50000, the cap is 200000000",
        "limit       external-limit \"lane withdraw\", lane \"withdraw\", in 1 hour: 0 BTC used by others, 0.0005 BTC with this one",
        "0.0005 BTC to ",
        "order       order-small-1, signed by shop",
    ] {
        assert!(signed.contains(part), "{part}\n{signed}");
    }
    assert!(!signed.contains("asked again"), "{signed}");
    let denied = explain("dear", &[]);
    for part in [
        "denied by   fee-percent: the fee is 5000 for moving 40000, at most 5%",
        "to change: the fee must be lower, or officers sign a policy that lets it be higher",
        "asked again at the end of this log",
    ] {
        assert!(denied.contains(part), "{part}\n{denied}");
    }
    // Of the one that was approved the log has both decisions, and who said what; by its id as well as by its key.
    let told: Value = serde_json::from_str(&explain("p1", &["--json"])).unwrap();
    let verdicts: Vec<&str> = told["decisions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|d| d["verdict"].as_str().unwrap())
        .collect();
    assert_eq!((verdicts, told["ended"].as_str()), (vec!["waits", "allowed"], Some("signed")));
    assert_eq!(told["tier"], "token-hd");
    let need = &told["decisions"][0]["computed_here"]["needs"][0];
    assert_eq!(
        need["can_give"],
        serde_json::json!(["alice", "bob", "dan"]),
        "carol ordered it: {need}"
    );
    let id = told["request"].as_str().unwrap();
    assert_eq!(explain(id, &["--json"]), explain("p1", &["--json"]));
    assert_eq!(explain(id, &["--json"]), closed.live, "the same from the running signer");
    let database = closed.desk.house.config.database_url();
    let book = officer(&["log", "book", "--database", &database, "--key", &closed.key]).0;
    let paid = address(&stranger(4));
    assert!(book.contains(&format!("customers   Acme Ltd\n  address {paid}\n")), "{book}");
    assert!(book.contains("attested by onboarding, entry "), "{book}");
    let name = "who is      in the address book for list \"customers\", attested by onboarding: counts since ";
    let approved = explain("p1", &[]);
    let line = approved.lines().find(|line| line.contains(name));
    assert!(line.is_some_and(|line| line.ends_with(": \"Acme Ltd\"")), "{approved}");
    let waits: Value = serde_json::from_str(&explain("p2", &["--json"])).unwrap();
    assert_eq!(waits["now"]["verdict"], "waits");
    assert_eq!(waits["now"]["needs"][0]["quorum"], "2 of treasury, at most 1 of one domain");
    let text = explain("p2", &[]);
    assert!(text.contains("it waits since "), "{text}");
    assert!(text.contains("given by nobody; can still be given by alice, bob, dan"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn by_the_policy_in_force_nothing_flips_and_by_a_draft_exactly_what_must() {
    let closed = Closed::new().await;
    let closed = tokio::task::spawn_blocking(move || {
        check(&closed);
        explained(&closed);
        closed
    });
    drop(closed.await.unwrap());
}

#[expect(clippy::too_many_lines, reason = "one draft after the other")]
fn check(closed: &Closed) {
    let same = closed.policy(|text| text);
    let (text, ended) = closed.simulate(&same, &[]);
    assert_eq!(ended, None, "{text}");
    assert!(text.contains("decisions   8: 3 allowed, 2 waits, 3 denied"), "{text}");
    assert!(text.contains("1 requests in the whole log were refused before"), "{text}");

    let line = |key: &str, was: &str, by_draft: &str, codes: &[&str]| {
        let codes = codes.iter().map(|code| (*code).to_owned()).collect::<Vec<_>>();
        (key.to_owned(), was.to_owned(), by_draft.to_owned(), codes)
    };
    // A lower cap denies the first small payout and both large ones, whether they waited or were approved.
    let lower = closed.policy(|text| {
        text.replace("per_transaction = \"2 BTC\"", "per_transaction = \"0.0004 BTC\"")
    });
    let (text, _) = closed.simulate(&lower, &[]);
    assert!(text.contains("lane withdraw, wallet hot (token-hd)\n"), "{text}");
    let (json, _) = closed.simulate(&lower, &["--json"]);
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["lines"][0]["tier"], "token-hd");
    let cap = ["per-transaction"];
    assert_eq!(
        closed.flips(&lower),
        [
            line("small-1", "allowed", "denied", &cap),
            line("p1", "waits", "denied", &cap),
            line("p1", "allowed", "denied", &cap),
            line("p2", "waits", "denied", &cap),
        ]
    );
    assert_eq!(closed.simulate(&lower, &[]).1, Some(Differs::Flips(4)));
    // A window that the second small payout overruns: counted are those that really went out.
    let window = closed.policy(|text| {
        text.replace(
            "limits = [{ sum = ",
            "limits = [{ sum = \"60000 sat\", window = \"1m\" }, { sum = ",
        )
    });
    let codes = ["external-limit"];
    assert_eq!(
        closed.flips(&window),
        [
            line("small-2", "allowed", "denied", &codes),
            line("p1", "waits", "denied", &codes),
            line("p1", "allowed", "denied", &codes),
            line("p2", "waits", "denied", &codes),
        ]
    );
    // A looser fee, and a requirement for everything: the denied one would wait, and so would the small ones; what both
    // officers approved would go out under it as well.
    let other = closed.policy(|text| {
        text.replace("max_percent = \"5%\"", "max_percent = \"100%\"")
            .replace("above = \"0.0009 BTC\"", "above = \"0.0001 BTC\"")
    });
    let codes = ["approvals"];
    assert_eq!(
        closed.flips(&other),
        [
            line("small-1", "allowed", "waits", &codes),
            line("small-2", "allowed", "waits", &codes),
            line("dear", "denied", "waits", &codes),
            line("dear", "denied", "waits", &codes),
        ]
    );
    // Without the requirement, what waited is allowed at once.
    let none = closed.policy(|text| text.replace(TWO_SITES, ""));
    assert_eq!(
        closed.flips(&none),
        [line("p1", "waits", "allowed", &[]), line("p2", "waits", "allowed", &[])]
    );
    // A fact that no entry holds is not made up.
    let facts = closed.policy(|text| {
        format!("{text}\n[[require]]\nname = \"screened\"\nwhen = {{ lanes = [\"withdraw\"] }}\nscreened = \"1d\"\n")
    });
    let (text, ended) = closed.simulate(&facts, &[]);
    assert_eq!(ended, Some(Differs::Untold(3)), "{text}");
    assert!(
        text.contains("untold: whether screening stands in its way depends on facts that the log does not hold"),
        "{text}"
    );
    // Whom the address book has counts once mature, as it was then; by a key that the draft lacks, never.
    let strangers = "\n[[deny]]\nname = \"strangers\"\nwhen = { lanes = [\"withdraw\"], unlisted = [\"customers\"] }\n";
    let young = [
        line("small-1", "allowed", "denied", &["deny-rule"]),
        line("small-2", "allowed", "denied", &["deny-rule"]),
        line("p1", "waits", "denied", &["deny-rule"]),
    ];
    let known = closed.policy(|text| text + strangers);
    assert_eq!(closed.flips(&known), young);
    let none =
        "desk\"\ned25519 = \"fa4834147f6e690c3693eff61336046403cd8ae2a14f31b3c407358569239565\"\n";
    let unknown = closed.policy(|text| {
        let text = text.replace("book_keys = [\"onboarding\"]", "book_keys = [\"desk\"]");
        format!("{text}[[book_key]]\nname = \"{none}{strangers}")
    });
    let nobody = [
        line("p1", "allowed", "denied", &["deny-rule"]),
        line("p2", "waits", "denied", &["deny-rule"]),
    ];
    assert_eq!(closed.flips(&unknown), [&young[..], &nobody[..]].concat());
    // What the log holds counts: whoever stated it must be a reconciler of the draft as well.
    let (text, ended) = closed.simulate(&closed.policy(|text| text + BALANCED), &[]);
    assert_eq!(ended, None, "{text}");
    let unheard = closed.policy(|text| text.replace("\"auditor\"", "\"another\"") + BALANCED);
    let (text, ended) = closed.simulate(&unheard, &[]);
    assert_eq!(ended, Some(Differs::Untold(3)), "{text}");
    assert!(text.contains("untold: whether books stands in its way"), "{text}");
    // Where the draft knows a wallet more, that may be where a sweep to nobody went.
    let vault = closed.policy(|text| {
        let (name, descriptor) = ("vault", descriptor(3));
        format!(
            "{text}\n[[wallet]]\nname = {name:?}\ntier = \"cold\"\ndescriptor = {descriptor:?}\nindex_window = 100\n"
        )
        .replace("cold = \"cold\"", "cold = \"vault\"")
    });
    let (text, ended) = closed.simulate(&vault, &[]);
    assert_eq!(ended, Some(Differs::Untold(1)), "{text}");
    assert!(text.contains("untold: the draft names wallet \"vault\""), "{text}");
}
