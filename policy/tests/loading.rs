//! A policy is loaded strictly or not at all: every refusal names its line, and only a quorum makes rules.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::arithmetic_side_effects,
    reason = "a test fails by panicking"
)]

mod common;

use asset::Network;
use common::{Knobs, NOW, load, officer, order, policy_text, public};
use ed25519_dalek::{Signer as _, SigningKey};
use order::OrderError;
use policy::names::{ClientName, KeyName, WalletName};
use policy::people::OfficerKey;
use policy::rules::{LaneKind, Tier};
use policy::signed::{MAX_SIGNATURES, MAX_TEXT, check, signature_line};
use policy::{OrderRefusal, PolicyError, SignedPolicy, sign_message};
use proptest::prelude::*;

const EXAMPLE: &str = include_str!("../examples/policy.toml");

fn text() -> String {
    policy_text(&Knobs::default())
}

/// The line and the reason of a refused text.
fn refused(text: &str) -> (usize, String) {
    match check(text, Network::Regtest) {
        Err(PolicyError::Text { line, reason }) => (line, reason),
        other => panic!("{other:?} for\n{text}"),
    }
}

#[test]
fn the_example_loads() {
    let rules = load(EXAMPLE);
    assert_eq!((rules.version(), rules.network()), (1, Network::Regtest));
    assert_eq!(rules.text(), EXAMPLE);
    let wallet = |name: &str| rules.wallet(&WalletName::parse(name).unwrap()).unwrap();
    assert_eq!(wallet("deposits").tier, Tier::TokenHd);
    assert_eq!(wallet("cold").tier, Tier::Cold);
    assert!(rules.lanes().iter().any(|lane| matches!(lane.kind, LaneKind::Sweep { .. })));
    assert!(rules.lanes().iter().any(|lane| matches!(lane.kind, LaneKind::Withdraw { .. })));
}

/// Whatever line is left out or written twice, the rest is not a policy; only `per_destination` is optional.
#[test]
fn every_line_is_needed_once() {
    let text = text();
    let lines: Vec<&str> = text.lines().collect();
    for (position, line) in lines.iter().enumerate() {
        let mut without = lines.clone();
        without.remove(position);
        let without = check(&without.join("\n"), Network::Regtest);
        let optional = line.starts_with("per_destination");
        assert_eq!(without.is_ok(), optional, "without line {}: {line}", position + 1);

        let mut twice = lines.clone();
        twice.insert(position, line);
        let twice = check(&twice.join("\n"), Network::Regtest);
        assert!(matches!(twice, Err(PolicyError::Text { .. })), "twice: {line}");
    }
}

/// Where coins hang on one token's keys, officers sign what proves the clone.
#[test]
fn a_wallet_of_the_tokens_own_keys_may_name_a_cloning_proof() {
    let text = text().replacen("tier = \"token-hd\"", "tier = \"token\"", 1);
    let first = |text: &str| {
        let rules = load(text);
        let wallet = rules.wallets().iter().find(|wallet| wallet.tier == Tier::Token);
        wallet.unwrap().cloning_proof
    };
    assert_eq!(first(&text), None);
    let with = |proof: &str| {
        let line = format!("index_window = 20\ncloning_proof = \"{proof}\"");
        text.replacen("index_window = 20", &line, 1)
    };
    assert_eq!(first(&with(&"ab".repeat(32))), Some([0xab; 32]));
    for wrong in ["", "ab", &"AB".repeat(32), &"ab".repeat(33)] {
        assert!(refused(&with(wrong)).1.contains("64 lowercase hex digits"), "{wrong}");
    }
}

#[test]
fn an_unknown_key_is_refused_on_its_line_wherever_it_stands() {
    let text = text();
    let lines: Vec<&str> = text.lines().collect();
    for position in 1..=lines.len() {
        let mut more = lines.clone();
        more.insert(position, "colour = 1");
        let (line, reason) = refused(&more.join("\n"));
        assert_eq!(line, position + 1, "{reason}");
        assert!(reason.contains("unknown field `colour`"), "{reason}");
    }
}

const LIMITS: &str = "limits = [{ sum = \"3000000 sat\", window = \"3600s\" }, { sum = \"9000000 sat\", window = \"86400s\" }]";

/// What stands in a sound policy, what is put there instead, and what the refusal says.
const OUT_OF_BOUNDS: &[(&str, &str, &str)] = &[
    ("version = 3", "version = 0", "versions begin at 1"),
    ("version = 3", "version = -1", "invalid value"),
    ("version = 3", "version = 3.0", "invalid type"),
    ("\"regtest\"", "\"bitcoin\"", "this policy is for bitcoin, and this signer is for regtest"),
    ("\"regtest\"", "\"mainnet\"", "is not a network"),
    ("\"hot\"\ntier", "\"deposits\"\ntier", "is there twice"),
    ("name = \"hot\"", "name = \"h ot\"", "is not a name"),
    ("tier = \"cold\"", "tier = \"frozen\"", "a tier is"),
    ("wpkh(hot)#", "wpkh(deposits)#", "wallet \"deposits\" has this descriptor already"),
    ("wpkh(hot)#qqqqqqqq", "wpkh(hot)", "ends with # and its checksum"),
    ("wpkh(hot)#qqqqqqqq", "wpkh(h ot)#qqqqqqqq", "visible characters"),
    ("wpkh(hot)#qqqqqqqq", "<long>", "at most 1024"),
    ("index_window = 20", "index_window = 20\ncloning_proof = \"00\"", "lost with their token"),
    ("index_window = 20", "index_window = 0", "an index window is from"),
    ("index_window = 20", "index_window = 10001", "an index window is from"),
    ("index_window = 20", "index_window = 4294967296", "invalid value"),
    ("ed25519 = \"", "ed25519 = \"00", "64 lowercase hex digits"),
    ("ed25519 = \"e", "ed25519 = \"E", "64 lowercase hex digits"),
    ("attest = [\"deposits\"]", "attest = [\"cold\"]", "is not defined"),
    ("attest = [\"deposits\"]", "attest = [\"deposits\", \"deposits\"]", "is there twice"),
    ("status = true", "status = 1", "invalid type"),
    ("clients = [\"watcher-1\"]", "clients = []", "name at least one"),
    ("clients = [\"watcher-1\"]", "clients = [\"watcher-2\"]", "\"watcher-2\" is not defined"),
    ("clients = [\"watcher-1\"]", "clients = [\"watcher-1\", \"watcher-1\"]", "is there twice"),
    ("clients = [\"watcher-1\"]", "clients = [1]", "a client's name, or a table with it"),
    ("clients = [\"watcher-1\"]", "clients = \"watcher-1\"", "invalid type"),
    (
        "clients = [\"watcher-1\"]",
        "clients = [\"watcher-1\", { name = \"watcher-1\", wallets = [\"deposits\"] }]",
        "\"watcher-1\" is there twice",
    ),
    ("clients = [\"watcher-1\"]", "clients = [{ name = \"watcher-1\" }]", "this narrows nothing"),
    (
        "clients = [\"watcher-1\"]",
        "clients = [{ wallets = [\"deposits\"] }]",
        "missing field `name`",
    ),
    (
        "clients = [\"watcher-1\"]",
        "clients = [{ name = \"watcher-2\", expires_unix = 1 }]",
        "\"watcher-2\" is not defined",
    ),
    (
        "clients = [\"watcher-1\"]",
        "clients = [{ name = \"watcher-1\", expires_unix = 1, wallet = [] }]",
        "unknown field `wallet`",
    ),
    (
        "clients = [\"watcher-1\"]",
        "clients = [{ name = \"watcher-1\", expires_unix = \"2027-01-01T00:00:00Z\" }]",
        "invalid type",
    ),
    (
        "clients = [\"watcher-1\"]",
        "clients = [{ name = \"watcher-1\", wallets = [] }]",
        "name at least one",
    ),
    (
        "clients = [\"watcher-1\"]",
        "clients = [{ name = \"watcher-1\", wallets = [\"deposits\", \"deposits\"] }]",
        "is there twice",
    ),
    (
        "clients = [\"watcher-1\"]",
        "clients = [{ name = \"watcher-1\", wallets = [\"hot\"] }]",
        "this lane does not have \"hot\"",
    ),
    (
        "clients = [\"watcher-1\"]",
        "clients = [{ name = \"watcher-1\", wallets = [\"cold\"] }]",
        "\"cold\" is not defined",
    ),
    (
        "clients = [\"watcher-1\"]",
        "clients = [{ name = \"watcher-1\", order_keys = [\"shop\"] }]",
        "this lane pays no orders",
    ),
    (
        "clients = [\"payout-desk\"]",
        "clients = [{ name = \"payout-desk\", order_keys = [] }]",
        "name at least one",
    ),
    (
        "clients = [\"payout-desk\"]",
        "clients = [{ name = \"payout-desk\", order_keys = [\"shop\", \"shop\"] }]",
        "is there twice",
    ),
    (
        "clients = [\"payout-desk\"]",
        "clients = [{ name = \"payout-desk\", order_keys = [\"shop\", \"other\"] }]",
        "this lane does not have \"other\"",
    ),
    (
        "clients = [\"payout-desk\"]",
        "clients = [{ name = \"payout-desk\", order_keys = [\"nobody\"] }]",
        "\"nobody\" is not defined",
    ),
    ("wallets = [\"deposits\"]", "wallets = [\"cold\"]", "is not defined"),
    ("wallets = [\"deposits\"]", "wallets = [\"deposits\", \"deposits\"]", "is there twice"),
    ("cold = \"cold\"", "cold = \"hot\"", "is not defined"),
    ("min_cold_share = \"90%\"", "min_cold_share = \"0%\"", "brings nothing to cold"),
    ("min_cold_share = \"90%\"", "min_cold_share = \"101%\"", "too large"),
    ("min_cold_share = \"90%\"", "min_cold_share = 90", "invalid type"),
    ("order_keys = [\"shop\"]", "order_keys = [\"shopp\"]", "is not defined"),
    ("name = \"withdraw\"", "name = \"sweep\"", "is there twice"),
    ("per_transaction = \"1500000 sat\"", "per_transaction = \"0 sat\"", "more than nothing"),
    ("per_transaction = \"1500000 sat\"", "per_transaction = \"1500000\"", "write the unit"),
    ("per_transaction = \"1500000 sat\"", "per_transaction = \"1 ETH\"", "not a unit"),
    ("per_transaction = \"1500000 sat\"", "per_transaction = 1500000", "invalid type"),
    ("per_destination = \"1000000 sat\"", "per_destination = \"1e6 sat\"", "exponents"),
    (LIMITS, "limits = []", "from 1 to 8 rolling windows"),
    (LIMITS, "<many>", "from 1 to 8 rolling windows"),
    ("\"9000000 sat\", window = \"86400s\"", "\"9000000 sat\", window = \"1h\"", "is there twice"),
    ("\"9000000 sat\", window = \"86400s\"", "\"9000000 sat\", window = \"59s\"", "write a window"),
    (
        "\"9000000 sat\", window = \"86400s\"",
        "\"9000000 sat\", window = \"367d\"",
        "write a window",
    ),
    ("\"9000000 sat\", window = \"86400s\"", "\"9000000 sat\", window = \"1\"", "write a window"),
    (
        "\"9000000 sat\", window = \"86400s\"",
        "\"9000000 sat\", window = \"1.5d\"",
        "write a window",
    ),
    ("max_feerate = \"20 sat/vB\"", "max_feerate = \"20 sat\"", "not a unit"),
    ("max_percent = \"2%\"", "max_percent = \"2\"", "write the unit"),
    ("max_percent = \"2%\"", "max_percent = \"2%\", max = 1", "unknown field `max`"),
    ("[[sweep]]", "[[sweeep]]", "unknown field `sweeep`"),
    ("version = 3", "version = 3\nversion = 3", "duplicate key"),
    ("version = 3", "version = ", "string values must be quoted"),
];

#[test]
fn each_value_out_of_bounds_is_refused_on_its_line() {
    let long = format!("wpkh({})#qqqqqqqq", "k".repeat(1_024));
    let many = format!("limits = [{}]", ["{ sum = \"1 sat\", window = \"1h\" }"; 9].join(", "));
    for (from, to, expected) in OUT_OF_BOUNDS {
        let to = &to.replace("<long>", &long).replace("<many>", &many);
        let text = text();
        assert!(text.contains(from), "{from}");
        let changed = text.replacen(from, to, 1);
        let (line, reason) = refused(&changed);
        assert!(reason.contains(expected), "{to}: {reason}");
        let first = text[..text.find(from).unwrap()].matches('\n').count() + 1;
        let last = first + to.matches('\n').count();
        assert!((first..=last).contains(&line), "{to}: line {line} is not in {first}..={last}");
    }
}

/// Each entry of a lane's clients, and each name in it, on its own line.
#[test]
fn a_grant_is_refused_where_it_is_wrong() {
    let (before, after) = ("clients = [\"payout-desk\"]", "clients = [\n\"watcher-1\",\nENTRY,\n]");
    let text = text().replacen(before, after, 1);
    let first = text[..text.find("ENTRY").unwrap()].matches('\n').count() + 1;
    for (entry, line, expected) in [
        ("\"nobody\"", 0, "\"nobody\" is not defined"),
        ("\"watcher-1\"", 0, "\"watcher-1\" is there twice"),
        ("{ name = \"payout-desk\" }", 0, "this narrows nothing"),
        ("{\nname = \"watcher-1\",\nwallets = [\"hot\"] }", 0, "\"watcher-1\" is there twice"),
        ("{\nname = \"nobody\",\nwallets = [\"hot\"] }", 1, "\"nobody\" is not defined"),
        ("{ name = \"payout-desk\",\nwallets = [\"hot\",\n\"deposits\"] }", 2, "does not have"),
        ("{ name = \"payout-desk\",\norder_keys = [\"other\"] }", 1, "does not have \"other\""),
        ("{ name = \"payout-desk\",\ncolour = 1 }", 1, "unknown field `colour`"),
    ] {
        let (found, reason) = refused(&text.replace("ENTRY", entry));
        assert!(reason.contains(expected), "{entry}: {reason}");
        assert_eq!(found, first + line, "{entry}: {reason}");
    }
}

#[test]
fn a_grant_narrows_what_a_client_may_do_on_one_lane() {
    let narrow = "clients = [\"watcher-1\", { name = \"payout-desk\", wallets = [\"hot\"], order_keys = [\"shop\"], expires_unix = 5 }]";
    let rules = load(&text().replacen("clients = [\"payout-desk\"]", narrow, 1));
    let lane = rules.lanes().iter().find(|lane| lane.name.as_str() == "withdraw").unwrap();
    let client = |text: &str| ClientName::parse(text).unwrap();
    let (hot, deposits) =
        (WalletName::parse("hot").unwrap(), WalletName::parse("deposits").unwrap());
    let grant = lane.grant(&client("payout-desk")).unwrap();
    assert_eq!((grant.spends(&hot), grant.spends(&deposits)), (true, false));
    assert_eq!((grant.brings(&name("shop")), grant.brings(&name("other"))), (true, false));
    assert_eq!((grant.ended(5), grant.ended(6)), (None, Some(5)));
    let whole = lane.grant(&client("watcher-1")).unwrap();
    assert!(whole.spends(&deposits) && whole.brings(&name("other")));
    assert_eq!(whole.ended(u64::MAX), None);
    assert_eq!(lane.grant(&client("nobody")), None);
    // A bump lane lists no keys: it pays again whatever went out, and a client can be pinned to any of the policy's.
    let pinned = "clients = [{ name = \"payout-desk\", order_keys = [\"other\"] }]";
    let bump = common::BUMP.replacen("clients = [\"payout-desk\"]", pinned, 1);
    assert!(check(&(text() + &bump), Network::Regtest).is_ok());
    for lane in ["consolidate", "evacuate"] {
        let more =
            if lane == "evacuate" { "cold = \"cold\"\napprovals = \"1 of risk\"\n" } else { "" };
        let other = bump.replacen("[[bump]]", &format!("[[{lane}]]"), 1);
        let other = other.replacen(
            "package = { max_total = \"12000 sat\", max_feerate = \"16 sat/vB\" }\n",
            more,
            1,
        );
        let (_, reason) = refused(&(text() + &common::people() + &other));
        assert!(reason.contains("this lane pays no orders"), "{lane}: {reason}");
    }
}

proptest! {
    /// Whatever is written, it is read or refused, never more; and what one officer signed is only that text.
    #[test]
    fn no_text_panics(place in any::<prop::sample::Index>(), with in any::<char>(), cut in any::<bool>()) {
        let text = text();
        let (before, after) = text.split_at(place.index(text.len()));
        let after = if cut { &after[1..] } else { after };
        let changed = format!("{before}{with}{after}");
        let _ = check(&changed, Network::Regtest);
        let signatures = line("ada", 1, &text);
        let officers = [(name("ada"), pinned(&officer(1)))];
        let signed = SignedPolicy { text: &changed, signatures: &signatures };
        prop_assert_eq!(signed.verify(&officers, 1, Network::Regtest).is_ok(), changed == text);
    }
}

#[test]
fn windows_and_lists_are_bounded() {
    for window in ["60s", "1m", "1h", "366d"] {
        let text = text().replace("window = \"86400s\"", &format!("window = \"{window}\""));
        let twice = window == "1h";
        assert_eq!(check(&text, Network::Regtest).is_err(), twice, "{window}");
    }
    let clients: String = (0..1_100)
        .map(|n| format!("[[client]]\nname = \"c{n}\"\nattest = []\nstatus = false\n"))
        .collect();
    let (_, reason) = refused(&text().replacen("[[client]]", &format!("{clients}[[client]]"), 1));
    assert!(reason.contains("more than 1024 entries"), "{reason}");
    let long = format!("{}#{}", text(), "-".repeat(MAX_TEXT));
    assert!(matches!(check(&long, Network::Regtest), Err(PolicyError::TooLong { .. })));
}

fn name(text: &str) -> KeyName {
    KeyName::parse(text).unwrap()
}

fn pinned(key: &SigningKey) -> OfficerKey {
    OfficerKey::Ed25519(public(key))
}

fn line(officer_name: &str, seed: u8, text: &str) -> String {
    signature_line(&name(officer_name), &officer(seed).sign(&sign_message(text)).to_bytes())
}

#[test]
fn only_a_quorum_of_pinned_officers_makes_rules() {
    let text = text();
    let officers =
        [("ada", 1), ("bob", 2), ("eve", 3)].map(|(n, seed)| (name(n), pinned(&officer(seed))));
    let verify = |signatures: &str, quorum| {
        SignedPolicy { text: &text, signatures }.verify(&officers, quorum, Network::Regtest)
    };
    let (ada, bob) = (line("ada", 1, &text), line("bob", 2, &text));
    let rules = verify(&format!("{bob}{ada}"), 2).unwrap();
    assert_eq!(rules.officers(), [name("ada"), name("bob")]);
    assert_eq!(verify(&ada, 1).unwrap().officers(), [name("ada")]);
    assert_eq!(verify(&ada, 2).unwrap_err(), PolicyError::Quorum { signed: 1, quorum: 2 });
    assert_eq!(verify("", 1).unwrap_err(), PolicyError::Quorum { signed: 0, quorum: 1 });

    let refused =
        |signatures: &str, at: usize, expected: &str| match verify(signatures, 1).unwrap_err() {
            PolicyError::Signatures { line, reason } => {
                assert_eq!(line, at, "{reason}");
                assert!(reason.contains(expected), "{reason}");
            }
            other => panic!("{other}"),
        };
    refused(&format!("{ada}{ada}"), 2, "signed twice");
    refused(&line("mallory", 9, &text), 1, "not pinned");
    refused(&format!("{ada}{}", line("bob", 1, &text)), 2, "not by this officer over this text");
    refused(&line("ada", 1, &text.replace("version = 3", "version = 4")), 1, "over this text");
    refused("ada", 1, "write an officer's name");
    refused("ada !!", 1, "not base64");
    refused("ada AAAA", 1, "64 bytes");
    refused(&format!("\n{ada}"), 1, "write an officer's name");
    let flood = "a".repeat(MAX_SIGNATURES + 1);
    assert!(matches!(verify(&flood, 1), Err(PolicyError::TooLong { .. })));
}

#[test]
fn a_signature_over_the_bare_text_is_none() {
    let text = text();
    let bare = officer(1).sign(text.as_bytes()).to_bytes();
    let signatures = signature_line(&name("ada"), &bare);
    let officers = [(name("ada"), pinned(&officer(1)))];
    let refused = SignedPolicy { text: &text, signatures: &signatures }.verify(
        &officers,
        1,
        Network::Regtest,
    );
    assert!(matches!(refused, Err(PolicyError::Signatures { .. })));
}

#[test]
fn pinned_officers_must_make_sense() {
    let text = text();
    let signatures = line("ada", 1, &text);
    let verify = |officers: &[(KeyName, OfficerKey)], quorum| {
        let signed = SignedPolicy { text: &text, signatures: &signatures };
        signed.verify(officers, quorum, Network::Regtest).map(drop)
    };
    let ada = (name("ada"), pinned(&officer(1)));
    let is_refused = |result| matches!(result, Err(PolicyError::Officers(_)));
    assert!(is_refused(verify(std::slice::from_ref(&ada), 0)));
    assert!(is_refused(verify(std::slice::from_ref(&ada), 2)));
    assert!(is_refused(verify(&[], 1)));
    assert!(is_refused(verify(&[ada.clone(), (name("alias"), ada.1)], 2)), "one person, two names");
    assert!(is_refused(verify(&[ada.clone(), (name("ada"), pinned(&officer(2)))], 1)));
    let mut weak = [0; 32];
    weak[0] = 1;
    assert!(is_refused(verify(&[ada, (name("bob"), OfficerKey::Ed25519(weak))], 1)));
}

#[test]
fn a_signed_policy_for_another_network_makes_no_rules() {
    let text = text();
    let signatures = line("ada", 1, &text);
    let officers = [(name("ada"), pinned(&officer(1)))];
    let refused =
        SignedPolicy { text: &text, signatures: &signatures }.verify(&officers, 1, Network::Signet);
    assert!(matches!(refused, Err(PolicyError::Text { line: 2, .. })), "{refused:?}");
}

#[test]
fn grants_are_what_is_written_and_nothing_else() {
    let rules = load(&text());
    let client = |text: &str| ClientName::parse(text).unwrap();
    let wallet = |text: &str| WalletName::parse(text).unwrap();
    assert!(rules.may_attest(&client("watcher-1"), &wallet("deposits")));
    assert!(!rules.may_attest(&client("watcher-1"), &wallet("hot")));
    assert!(!rules.may_attest(&client("payout-desk"), &wallet("deposits")));
    assert!(!rules.may_attest(&client("nobody"), &wallet("deposits")));
    assert!(rules.may_read_status(&client("watcher-1")));
    assert!(!rules.may_read_status(&client("payout-desk")));
    assert!(rules.knows(&client("payout-desk")));
    assert!(!rules.knows(&client("nobody")));
    assert_eq!(rules.wallet(&wallet("nothing")), None);
}

#[test]
fn orders_are_verified_against_the_pinned_key() {
    let rules = load(&text());
    let verified = order(&rules, "a", 5);
    let bytes = verified.order().encode();
    assert_eq!(verified.signer().as_str(), "shop");
    assert_eq!(verified.digest(), &verified.order().digest());
    assert_eq!(verified.order().expires_unix, NOW + 3_600);

    let signature = verified.order().sign(&officer(7));
    let refusal =
        |signature: &[u8], signer| rules.verify_order(&bytes, signature, signer).unwrap_err();
    assert_eq!(refusal(&signature, "nobody").code(), "order-key");
    assert_eq!(refusal(&signature, "other"), OrderRefusal::Order(OrderError::Signature));
    assert_eq!(refusal(&[0; 64], "shop").code(), "order-signature");
    let text = b"cofferdam-order-v1\n";
    let signature = officer(7).sign(text).to_bytes();
    assert_eq!(rules.verify_order(text, &signature, "shop").unwrap_err().code(), "order-format");
}
