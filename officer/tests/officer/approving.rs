//! What waits for officers, decoded by two programs that share no code for it: they agree, and a service that lies about
//! a byte of it is caught.

use bitcoin::psbt::Psbt;
use bitcoin::{Amount, Transaction};
use ed25519_dalek::{Signer as _, SigningKey};
use policy::Rules;
use policy::conditions::Target;
use policy::evidence::FreezeScope;
use policy::names::{ClientName, KeyName, ListName};
use proto::ShowReply;
use signer::officers::paper;
use signer::request::{Draft, asked};
use signer::wallets::Wallets;
use statement::fact::{Entry, Fact, States};
use statement::intent::To;
use statement::{Paper, Says, Signed};

use crate::common::{
    self, Coin, Descriptors, FAR, Knobs, Out, address, coin, header, order, own, signed, stranger,
    to,
};
use crate::support::officer as run;
use officer::approvals::decode::decode;

/// A policy by which payouts wait, and which has a name for one destination.
fn rules() -> Rules {
    let bank = address(&stranger(4));
    let more = format!(
        "[[officer]]\nname = \"alice\"\ndomain = \"zurich\"\ned25519 = \"{}\"\n\
         [[group]]\nname = \"treasury\"\nmembers = [\"alice\"]\n\
         [[book_key]]\nname = \"desk\"\ned25519 = \"{}\"\n\
         [[book_key]]\nname = \"other\"\ned25519 = \"{}\"\n\
         [[list]]\nname = \"customers\"\nmatures = \"24h\"\nbook_keys = [\"desk\"]\nentries = []\n\
         [[list]]\nname = \"banks\"\nentries = [{{ label = \"Bank of Zurich\", address = \"{bank}\" }}]\n\
         [[require]]\nname = \"all\"\nwhen = {{}}\napprovals = \"1 of treasury\"\n",
        hex::encode(common::officer().verifying_key().to_bytes()),
        public(64),
        public(65)
    );
    common::rules(&Descriptors::fixed(), &Knobs { more, ..Knobs::default() })
}

/// A lane that carries what is out.
const BUMP: &str = "[[bump]]\nname = \"bump\"\nclients = [\"payout-desk\"]\nwallets = [\"hot\"]\n\
    package = { max_total = \"11500 sat\", max_feerate = \"100 sat/vB\" }\n\
    fee = { max_total = \"0.01 BTC\", max_feerate = \"100 sat/vB\", max_percent = \"20%\" }\n\
    fee_budget = [{ sum = \"15000 sat\", window = \"1d\" }]\n\
    [[limit]]\nname = \"day\"\nby = \"global\"\nwindow = \"1d\"\nsum = \"130000 sat\"\n";

fn key(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
}

fn public(seed: u8) -> String {
    hex::encode(key(seed).verifying_key().to_bytes())
}

/// An entry of the address book for an address, as the service shows it.
fn booked(shown: &str, by: &str, seed: u8, list: &str, target: &str, log: &str) -> proto::Booked {
    let entry = Entry {
        list: ListName::parse(list).unwrap(),
        label: "Acme Ltd".into(),
        target: Target::Address(target.to_owned()),
        from_unix: 0,
        expires_unix: None,
    };
    let fact = Fact {
        states: States::Listed(entry),
        log: log.to_owned(),
        network: asset::Network::Regtest.chain_id().to_string(),
        by: KeyName::parse(by).unwrap(),
        made_unix: 1,
    };
    let statement = fact.encode();
    let signature = key(seed).sign(&statement).to_bytes().to_vec();
    proto::Booked { address: shown.to_owned(), statement, signature, since_unix: 1_000 }
}

#[test]
fn a_name_in_the_address_book_is_shown_only_as_its_key_attested_it() {
    let (rules, mut shown) = payout();
    shown.log = "cofferdam/one".into();
    let (paid, other) = (address(&stranger(5)), address(&stranger(6)));
    let with = |booked: proto::Booked| ShowReply { booked: vec![booked], ..shown.clone() };
    let honest = booked(&paid, "desk", 64, "customers", &paid, "cofferdam/one");
    let decoded = decode(&with(honest.clone()), &rules).unwrap();
    let [named] = decoded.booked.as_slice() else { panic!() };
    assert_eq!((named.address.as_str(), named.entry.label.as_str()), (paid.as_str(), "Acme Ltd"));
    assert_eq!((named.by.as_str(), named.counts_unix), ("desk", 1_000 + 86_400));
    let lies = [
        ("a key of nobody", booked(&paid, "desk", 66, "customers", &paid, "cofferdam/one")),
        ("a key for no list", booked(&paid, "other", 65, "customers", &paid, "cofferdam/one")),
        ("another list", booked(&paid, "desk", 64, "banks", &paid, "cofferdam/one")),
        ("another log", booked(&paid, "desk", 64, "customers", &paid, "cofferdam/two")),
        ("another address", booked(&paid, "desk", 64, "customers", &other, "cofferdam/one")),
        ("another label", {
            let text = String::from_utf8(honest.statement.clone()).unwrap();
            let statement = text.replace("Acme Ltd", "Bank Ltd").into_bytes();
            proto::Booked { statement, ..honest }
        }),
    ];
    for (what, lie) in lies {
        let said = decode(&with(lie), &rules).expect_err(what).to_string();
        assert!(said.contains("DOES NOT HOLD"), "{what}: {said}");
    }
}

/// What an honest service shows, made by the signer's own code.
fn honest(rules: &Rules, lane: &str, coins: &[Coin], outs: &[Out]) -> ShowReply {
    let wallet = if lane == "sweep" { "deposits" } else { "hot" };
    let mut header = header("k1", lane, wallet, &common::psbt(coins, outs));
    if lane == "withdraw" {
        header.orders = vec![signed(&order("invoice-7", 100_000, &address(&stranger(4)), FAR))];
    }
    let wallets = Wallets::new(rules).unwrap();
    let asked = asked(ClientName::parse("watcher-1").unwrap(), "k1").unwrap();
    let mut draft = Draft::read(asked, &header, rules, &wallets).unwrap();
    for coin in coins {
        draft.add_parent(&coin.parent_bytes()).unwrap();
    }
    let request = draft.prove(rules, &wallets, [100, 100]).unwrap();
    let paper = paper::write(&request, rules, &wallets, 1_767_225_000, 1_767_225_600);
    let shown = request.shown().unwrap();
    let order = |order: audit::entry::SignedOrder| proto::SignedOrder {
        order: order.order,
        signature: order.signature,
        signer: order.signer,
    };
    ShowReply {
        intent: paper.encode(),
        psbt: shown.psbt,
        parents: shown.parents,
        orders: shown.orders.into_iter().map(order).collect(),
        ..ShowReply::default()
    }
}

fn payout() -> (Rules, ShowReply) {
    let rules = rules();
    let shown = payout_under(&rules);
    (rules, shown)
}

fn payout_under(rules: &Rules) -> ShowReply {
    let wallets = Descriptors::fixed();
    let coins =
        [coin(&wallets.hot, false, 1, 300_000, 1, 2), coin(&wallets.hot, true, 3, 200_000, 2, 1)];
    let outs = [
        to(stranger(4), 100_000),
        to(stranger(5), 50_000),
        own(&wallets.hot, true, 2, 200_000),
        own(&wallets.cold, false, 7, 149_000),
    ];
    honest(rules, "withdraw", &coins, &outs)
}

/// Nobody approves what the policy grants the client no more: not its wallet, nor these orders, nor at this time.
#[test]
fn what_a_client_is_not_granted_of_a_lane_is_not_approved() {
    let lane = "clients = [\"watcher-1\"]\nwallets = [\"hot\"]\norder_keys = [\"shop\"]";
    let text = rules().text().to_owned();
    let other =
        format!("[[order_key]]\nname = \"other\"\ned25519 = \"{}\"\n[[client]]", public(66));
    let text = text.replacen("[[client]]", &other, 1);
    let under = |part: &str| {
        let narrowed = format!(
            "clients = [{{ name = \"watcher-1\", {part} }}]\nwallets = [\"hot\", \"deposits\"]\norder_keys = [\"shop\", \"other\"]"
        );
        assert!(text.contains(lane));
        let rules = common::rules_of(&text.replacen(lane, &narrowed, 1));
        decode(&payout_under(&rules), &rules).map(drop).map_err(|error| format!("{error:#}"))
    };
    assert_eq!(
        under("wallets = [\"hot\"], order_keys = [\"shop\"], expires_unix = 4000000000"),
        Ok(())
    );
    // To the second, by when it was asked.
    assert_eq!(under("expires_unix = 1767225000"), Ok(()));
    for (part, expected) in [
        ("expires_unix = 1767224999", "ended at 1767224999"),
        ("wallets = [\"deposits\"]", "no lane \"withdraw\" on wallet \"hot\""),
        ("order_keys = [\"other\"]", "bring orders by other keys alone on lane \"withdraw\""),
        ("expires_unix = 5", "ended at 5"),
    ] {
        let said = under(part).unwrap_err();
        assert!(said.contains(expected), "{part}: {said}");
    }
}

/// What the service alone says of a request, who asked and on which lane, is held against the policy.
#[test]
fn a_lane_that_the_policy_does_not_have_for_a_client_and_a_wallet_is_not_approved() {
    let (rules, shown) = payout();
    let claimed = String::from_utf8(shown.intent.clone()).unwrap();
    for (line, instead, expected) in [
        ("lane: withdraw\n", "lane: withdrew\n", "the policy has no lane \"withdrew\""),
        ("lane: withdraw\n", "lane: sweep\n", "no lane \"sweep\" on wallet \"hot\""),
        (
            "client: watcher-1\n",
            "client: payout-desk\n",
            "grants client \"payout-desk\" no lane \"withdraw\" on wallet \"hot\"",
        ),
    ] {
        assert!(claimed.contains(line), "{claimed}");
        let intent = claimed.replacen(line, instead, 1).into_bytes();
        let error = decode(&ShowReply { intent, ..shown.clone() }, &rules).expect_err(instead);
        assert!(format!("{error:#}").contains(expected), "{instead}: {error:#}");
    }
}

/// Whoever may bring orders by some keys alone may do nothing without one.
#[test]
fn what_pays_no_order_is_not_approved_for_a_client_with_keys_of_its_own() {
    let wallets = Descriptors::fixed();
    let coins = [coin(&wallets.hot, true, 3, 200_000, 2, 1)];
    let outs = [own(&wallets.hot, true, 4, 190_000)];
    let under = |clients: &str| {
        let lane = BUMP.replacen("[\"payout-desk\"]", clients, 1);
        let rules = common::rules_of(&format!("{}{lane}", rules().text()));
        let shown = honest(&rules, "bump", &coins, &outs);
        decode(&shown, &rules).map(drop).map_err(|error| format!("{error:#}"))
    };
    assert_eq!(under("[\"watcher-1\"]"), Ok(()));
    assert_eq!(under("[{ name = \"watcher-1\", expires_unix = 4000000000 }]"), Ok(()));
    let said = under("[{ name = \"watcher-1\", order_keys = [\"shop\"] }]").unwrap_err();
    assert!(said.contains("bring orders by other keys alone on lane \"bump\""), "{said}");
}

#[test]
fn two_programs_write_the_same_intent() {
    let (rules, shown) = payout();
    let decoded = decode(&shown, &rules).unwrap();
    let labels: Vec<_> = decoded.paper.outputs.iter().map(|output| output.to.clone()).collect();
    assert!(
        matches!(&labels[0], To::External { label: Some(name), .. } if name == "Bank of Zurich")
    );
    assert!(matches!(&labels[1], To::External { label: None, .. }));
    assert!(matches!(&labels[2], To::Change { index: 2 }));
    assert!(matches!(&labels[3], To::Cold { index: 7, .. }));
    assert_eq!((decoded.paper.fee, decoded.paper.orders.len()), (1_000, 1));

    let wallets = Descriptors::fixed();
    let coins = [coin(&wallets.deposits, false, 5, 60_000, 3, 3)];
    let outs = [own(&wallets.cold, false, 0, 59_000)];
    let rules = self::rules();
    decode(&honest(&rules, "sweep", &coins, &outs), &rules).unwrap();
}

#[test]
fn a_service_that_lies_about_the_transaction_is_caught() {
    let (rules, honest) = payout();
    let change = |change: &dyn Fn(&mut Psbt)| {
        let mut psbt = Psbt::deserialize(&honest.psbt).unwrap();
        change(&mut psbt);
        ShowReply { psbt: psbt.serialize(), ..honest.clone() }
    };
    let parent = |change: &dyn Fn(&mut Transaction)| {
        let mut parent: Transaction = bitcoin::consensus::deserialize(&honest.parents[0]).unwrap();
        change(&mut parent);
        let mut parents = honest.parents.clone();
        parents[0] = bitcoin::consensus::serialize(&parent);
        ShowReply { parents, ..honest.clone() }
    };
    let said = |change: &dyn Fn(&mut Paper)| {
        let mut paper = Paper::parse(&honest.intent).unwrap();
        change(&mut paper);
        ShowReply { intent: paper.encode(), ..honest.clone() }
    };
    let lies = [
        ("amount", change(&|psbt| psbt.unsigned_tx.output[0].value = Amount::from_sat(100_001))),
        ("destination", change(&|psbt| psbt.unsigned_tx.output[0].script_pubkey = stranger(6))),
        ("change", change(&|psbt| psbt.unsigned_tx.output[2].script_pubkey = stranger(6))),
        ("cold", change(&|psbt| psbt.unsigned_tx.output[3].script_pubkey = stranger(6))),
        ("where change is", change(&|psbt| psbt.outputs[2].bip32_derivation.clear())),
        (
            "one coin less",
            change(&|psbt| {
                psbt.unsigned_tx.input.pop();
                psbt.inputs.pop();
            }),
        ),
        (
            "lock time",
            change(&|psbt| {
                psbt.unsigned_tx.lock_time = bitcoin::absolute::LockTime::from_height(1).unwrap()
            }),
        ),
        ("a coin's worth", parent(&|parent| parent.output[1].value = Amount::from_sat(299_999))),
        ("no parent", ShowReply { parents: honest.parents[..1].to_vec(), ..honest.clone() }),
        ("no order", ShowReply { orders: Vec::new(), ..honest.clone() }),
        ("fee", said(&|paper| paper.fee = 999)),
        ("amount said", said(&|paper| paper.outputs[0].amount = 99_999)),
        (
            "a name",
            said(&|paper| {
                let To::External { label, .. } = &mut paper.outputs[1].to else { panic!() };
                *label = Some("Bank of Basel".into());
            }),
        ),
        (
            "an address",
            said(&|paper| {
                let To::External { address: to, .. } = &mut paper.outputs[0].to else { panic!() };
                *to = address(&stranger(6));
            }),
        ),
        ("stranger as change", said(&|paper| paper.outputs[1].to = To::Change { index: 1 })),
        ("order", said(&|paper| paper.orders.clear())),
        ("policy", said(&|paper| paper.policy.version = 9)),
        ("tier", said(&|paper| paper.tier = "cold".into())),
        ("lane", said(&|paper| paper.lane = policy::names::LaneName::parse("sweep").unwrap())),
        ("client", said(&|paper| paper.client = ClientName::parse("payout-desk").unwrap())),
    ];
    for (what, lie) in lies {
        assert!(decode(&lie, &rules).is_err(), "{what}");
    }
    let mut order = honest.clone();
    order.orders[0].signature[3] ^= 1;
    assert!(decode(&order, &rules).is_err(), "order's signature");
}

/// Every byte of what is shown, the service's own words apart: who asked, on which lane, since when.
#[test]
fn no_byte_of_transaction_or_parents_can_be_changed() {
    let (rules, honest) = payout();
    let digest = decode(&honest, &rules).unwrap().paper.digest();
    for at in 0..honest.psbt.len() {
        let mut lie = honest.clone();
        lie.psbt[at] ^= 1;
        // What stands beside the transaction may change where nothing is decided by it.
        if let Ok(decoded) = decode(&lie, &rules) {
            assert_eq!(decoded.paper.digest(), digest, "byte {at}");
            assert_eq!(decoded.paper.encode(), honest.intent, "byte {at}");
        }
    }
    for number in 0..honest.parents.len() {
        for at in 0..honest.parents[number].len() {
            let mut lie = honest.clone();
            lie.parents[number][at] ^= 1;
            assert!(decode(&lie, &rules).is_err(), "parent {number}, byte {at}");
        }
    }
    for at in 0..honest.intent.len() {
        let mut lie = honest.clone();
        lie.intent[at] ^= 1;
        if let Ok(decoded) = decode(&lie, &rules) {
            // Not told by any transaction; a statement about it names another digest, and counts for nothing.
            assert_ne!(decoded.paper.digest(), digest, "byte {at}");
        }
    }
}

/// Certificates and network are gone: a file, an officer's key and the settings are enough.
#[test]
fn a_freeze_needs_no_connection() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    std::fs::write(path("passphrase"), "correct horse battery\n").unwrap();
    let (key, passphrase) = (path("alice.key"), path("passphrase"));
    let made = run(&["keygen", "--out", &key, "--name", "alice", "--passphrase-file", &passphrase]);
    let public =
        made.unwrap().lines().last().unwrap().split_whitespace().last().unwrap().to_owned();
    let kept = std::fs::read_to_string(&key).unwrap();
    assert!(kept.starts_with("cofferdam-ed25519-key-v2\n") && !kept.contains("seed"), "{kept}");

    let more =
        format!("[[officer]]\nname = \"alice\"\ndomain = \"zurich\"\ned25519 = \"{public}\"\n");
    let text = common::policy_text(&Descriptors::fixed(), &Knobs { more, ..Knobs::default() });
    std::fs::write(path("policy.toml"), text).unwrap();
    let settings = "signer = \"https://localhost:1\"\nlog = \"cofferdam/9f3a\"\npolicy = \"policy.toml\"\nkey = \"alice.key\"\n";
    let settings = format!("{settings}passphrase_file = \"passphrase\"\n");
    std::fs::write(path("officer.toml"), &settings).unwrap();
    let (config, file) = (path("officer.toml"), path("freeze.statement"));
    let freeze = ["freeze", "wallet", "hot", "--config", &config, "--yes", "--offline", &file];
    assert!(run(&freeze).unwrap().contains("written to"));
    assert!(run(&freeze).unwrap_err().contains("is there already"));

    let public = policy::people::OfficerKey::parse(&public).unwrap();
    let signed = Signed::from_file(&std::fs::read(&file).unwrap()).unwrap();
    let said = signed.verify(&public).unwrap();
    let hot = policy::names::WalletName::parse("hot").unwrap();
    assert_eq!(said.says, Says::Freeze(FreezeScope::Wallet(hot)));
    assert_eq!((said.log.as_str(), said.officer.as_str()), ("cofferdam/9f3a", "alice"));

    std::fs::write(path("passphrase"), "correct horse batterz\n").unwrap();
    assert!(
        run(&["freeze", "everything", "--config", &config, "--yes", "--offline", &path("b")])
            .unwrap_err()
            .contains("another passphrase")
    );
    assert!(run(&["pending", "--config", &config]).unwrap_err().contains("--offline"));
}
