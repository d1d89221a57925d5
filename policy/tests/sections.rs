//! People, lists, limits, requirements and denials are read strictly: every refusal names its line.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::arithmetic_side_effects,
    reason = "a test fails by panicking"
)]

mod common;

use asset::Network;
use common::{HOUR, Knobs, NOW, load, officer, people, policy_text, public};
use policy::conditions::Target;
use policy::people::OfficerKey;
use policy::signed::{check, listed};
use policy::{PolicyError, Rules};

const SECTIONS: &str = r#"
[[evacuate]]
name = "escape"
clients = ["payout-desk"]
wallets = ["hot"]
cold = "cold"
approvals = "2 of treasury and 1 of risk"
max_per_domain = 1
fee = { max_total = "1 BTC", max_feerate = "9 sat/vB", max_percent = "9%" }
fee_budget = [{ sum = "1 BTC", window = "1d" }]
[[list]]
name = "partners"
matures = "24h"
entries = [
    { label = "the exchange", address = "bcrt1qexchange" },
    { label = "raw", script = "0014aa", expires_unix = 1 },
    { label = "fund", descriptor = "wpkh(fund)#qqqqqqqq", indexes = 9 },
]
[[limit]]
name = "often"
lanes = ["withdraw"]
by = "orderer"
window = "1m"
count = 10
sum = "7 BTC"
[[require]]
name = "large"
when = { lanes = ["withdraw"], wallets = ["hot"], clients = ["payout-desk"], order_keys = ["shop"], unlisted = ["partners"], above = "2 BTC", window = "2h", by = "lane" }
approvals = "1 of treasury or 2 of treasury + risk"
delay = "3h"
veto = "risk"
hours = ["mon-wed,fri 09:00-17:00 -03:30"]
screened = "4h"
books = "5h"
[[screener]]
name = "desk"
ed25519 = "70df9e2279adbec6d12bf2921184c9222eb24ed852005bf640139f52e59cd9ae"
expires_unix = 5
[[book_key]]
name = "desk"
ed25519 = "fa4834147f6e690c3693eff61336046403cd8ae2a14f31b3c407358569239565"
[[list]]
name = "customers"
book_keys = ["desk"]
entries = []
[[reconciler]]
name = "auditor"
ed25519 = "f95c6a5dff031fac7b1a6a54b6610caeb83b39f7e8a66be16ff5faa4a511ed2d"
[[deny]]
name = "never"
when = { listed = ["partners"] }
"#;

fn text() -> String {
    policy_text(&Knobs::default()) + &people() + SECTIONS
}

fn refused(text: &str) -> (usize, String) {
    match check(text, Network::Regtest) {
        Err(PolicyError::Text { line, reason }) => (line, reason),
        other => panic!("{other:?} for\n{text}"),
    }
}

/// What stands in a sound policy, what is put there instead, and what the refusal says.
const OUT_OF_BOUNDS: &[(&str, &str, &str)] = &[
    ("book_keys = [\"desk\"]", "book_keys = [\"auditor\"]", "\"auditor\" is not defined"),
    ("book_keys = [\"desk\"]", "book_keys = []", "name at least one"),
    (
        "when = { listed = [\"partners\"] }",
        "when = { listed = [\"partners\", \"customers\"] }",
        "only ask who is not on it",
    ),
    (
        "fa4834147f6e690c3693eff61336046403cd8ae2a14f31b3c407358569239565",
        "ea4a6c63e29c520abef5507b132ec5f9954776aebebe7b92421eea691446d22c",
        "order key \"shop\" has this key",
    ),
    (
        "fa4834147f6e690c3693eff61336046403cd8ae2a14f31b3c407358569239565",
        "f95c6a5dff031fac7b1a6a54b6610caeb83b39f7e8a66be16ff5faa4a511ed2d",
        "reconciler \"auditor\" has this key",
    ),
    (
        "[[book_key]]\nname = \"desk\"",
        "[[book_key]]\nname = \"payout-desk\"",
        "who asks for payouts attests no destinations",
    ),
    ("name = \"auditor\"\n", "name = \"auditor\"\nofficer = \"ada\"\n", "unknown field"),
    ("f95c6a5dff031fac", "015c6a5dff031fac", "an Ed25519 public key"),
    (
        "f95c6a5dff031fac7b1a6a54b6610caeb83b39f7e8a66be16ff5faa4a511ed2d",
        "70df9e2279adbec6d12bf2921184c9222eb24ed852005bf640139f52e59cd9ae",
        "screener \"desk\" has this key",
    ),
    (
        "f95c6a5dff031fac7b1a6a54b6610caeb83b39f7e8a66be16ff5faa4a511ed2d",
        "ea4a6c63e29c520abef5507b132ec5f9954776aebebe7b92421eea691446d22c",
        "order key \"shop\" has this key",
    ),
    ("unlisted = [\"partners\"], above", "unscreened = \"1s\", above", "from 60s to 366d"),
    ("name = \"bob\"", "name = \"ada\"", "\"ada\" is there twice"),
    ("domain = \"lima\"", "domain = \"L i\"", "is not a name"),
    ("domain = \"lima\"\n", "domain = \"lima\"\np256 = \"02\"\n", "either ed25519 or p256"),
    ("domain = \"lima\"\ned25519", "domain = \"lima\"\np256", "66 lowercase hex digits"),
    ("members = [\"dan\", \"eve\"]", "members = []", "name at least one"),
    ("members = [\"dan\", \"eve\"]", "members = [\"dan\", \"who\"]", "\"who\" is not defined"),
    ("members = [\"dan\", \"eve\"]", "members = [\"dan\", \"dan\"]", "is there twice"),
    ("approvals = \"2 of treasury and 1 of risk\"\n", "", "missing field `approvals`"),
    ("\"2 of treasury and 1 of risk\"", "\"0 of treasury\"", "no share of a quorum"),
    ("\"2 of treasury and 1 of risk\"", "\"02 of treasury\"", "no share of a quorum"),
    ("\"2 of treasury and 1 of risk\"", "\"65 of treasury\"", "no share of a quorum"),
    ("\"2 of treasury and 1 of risk\"", "\"2 of  treasury\"", "no share of a quorum"),
    ("\"2 of treasury and 1 of risk\"", "\"2 of treasury, 1 of risk\"", "no share of a quorum"),
    ("\"2 of treasury and 1 of risk\"", "\"\"", "no share of a quorum"),
    ("\"2 of treasury and 1 of risk\"", "\"2 of risk + risk\"", "names a group twice"),
    ("\"2 of treasury and 1 of risk\"", "\"2 of board\"", "group \"board\" is not defined"),
    ("\"2 of treasury and 1 of risk\"", "\"3 of risk\"", "nobody could ever give \"3 of risk\""),
    ("\"2 of treasury and 1 of risk\"", "\"3 of treasury\"", "too many of them in one domain"),
    ("\"2 of treasury and 1 of risk\"", "\"1 of risk or 3 of risk\"", "nobody could ever give"),
    ("max_per_domain = 1", "max_per_domain = 0", "at most none"),
    ("matures = \"24h\"", "matures = \"0h\"", "write a window"),
    ("label = \"raw\"", "label = \"the exchange\"", "is there twice"),
    ("label = \"raw\"", "label = \"\"", "a label is 1 to 64"),
    ("label = \"raw\"", "label = \" raw\"", "a label is 1 to 64"),
    ("label = \"raw\"", "label = \"r\u{e4}w\"", "a label is 1 to 64"),
    ("address = \"bcrt1qexchange\"", "", "one of address, script and descriptor"),
    ("address = \"bcrt1qexchange\"", "address = \"bc1 q\"", "letters and digits"),
    ("script = \"0014aa\"", "address = \"bcrt1qexchange\"", "is in the list already"),
    ("script = \"0014aa\"", "script = \"0014AA\"", "lowercase hex"),
    ("script = \"0014aa\"", "script = \"\"", "1 to 83 bytes"),
    ("script = \"0014aa\"", "script = \"0014aa\", indexes = 1", "only a descriptor has indexes"),
    (", indexes = 9", "", "how many indexes"),
    (", indexes = 9", ", indexes = 1001", "from 1 to 1000 indexes"),
    ("#qqqqqqqq\", indexes = 9", "\", indexes = 9", "its checksum"),
    ("name = \"never\"", "name = \"large\"", "\"large\" is there twice"),
    ("lanes = [\"withdraw\"]\nby", "lanes = []\nby", "name at least one"),
    ("lanes = [\"withdraw\"]\nby", "lanes = [\"withdrew\"]\nby", "is not defined"),
    ("by = \"orderer\"", "by = \"officer\"", "by is \"orderer\""),
    ("by = \"orderer\"\n", "", "missing field `by`"),
    ("window = \"1m\"", "window = \"59s\"", "write a window"),
    ("window = \"1m\"", "window = \"91d\"", "at most 90d"),
    ("count = 10\nsum = \"7 BTC\"\n", "", "a sum, a count, or both"),
    ("count = 10", "count = 0", "at most no transaction"),
    ("sum = \"7 BTC\"", "sum = \"0 BTC\"", "more than nothing"),
    (
        "when = { lanes = [\"withdraw\"], wallets",
        "when = { lane = [\"withdraw\"], wallets",
        "unknown field `lane`",
    ),
    ("wallets = [\"hot\"], clients", "wallets = [\"cold\"], clients", "\"cold\" is not defined"),
    (
        "clients = [\"payout-desk\"], order_keys",
        "clients = [\"desk\"], order_keys",
        "is not defined",
    ),
    ("order_keys = [\"shop\"], unlisted", "order_keys = [\"shops\"], unlisted", "is not defined"),
    ("unlisted = [\"partners\"]", "unlisted = [\"friends\"]", "\"friends\" is not defined"),
    (
        "unlisted = [\"partners\"]",
        "listed = [\"partners\"], unlisted = [\"partners\"]",
        "listed or unlisted",
    ),
    ("above = \"2 BTC\", ", "", "say above which amount"),
    (", by = \"lane\" }", " }", "say by what"),
    ("window = \"2h\", ", "", "say over which window"),
    ("delay = \"3h\"\n", "", "a veto needs a delay"),
    ("delay = \"3h\"", "delay = \"3\"", "write a window"),
    ("veto = \"risk\"", "veto = \"ada\"", "\"ada\" is not defined"),
    (
        "approvals = \"1 of treasury or 2 of treasury + risk\"",
        "max_per_domain = 1",
        "there are none",
    ),
    ("[\"mon-wed,fri 09:00-17:00 -03:30\"]", "[]", "from 1 to 8 ranges"),
    ("mon-wed,fri 09:00-17:00 -03:30", "mon-wed,tue 09:00-17:00 -03:30", "hours are written"),
    ("mon-wed,fri 09:00-17:00 -03:30", "wed-mon 09:00-17:00 -03:30", "hours are written"),
    ("mon-wed,fri 09:00-17:00 -03:30", "mon-mon 09:00-17:00 -03:30", "hours are written"),
    ("mon-wed,fri 09:00-17:00 -03:30", "mon 17:00-09:00 -03:30", "hours are written"),
    ("mon-wed,fri 09:00-17:00 -03:30", "mon 09:00-09:00 -03:30", "hours are written"),
    ("mon-wed,fri 09:00-17:00 -03:30", "mon 09:00-24:01 -03:30", "hours are written"),
    ("mon-wed,fri 09:00-17:00 -03:30", "mon 09:60-17:00 -03:30", "hours are written"),
    ("mon-wed,fri 09:00-17:00 -03:30", "mon 9:00-17:00 -03:30", "hours are written"),
    ("mon-wed,fri 09:00-17:00 -03:30", "mon 09:00-17:00 03:30", "hours are written"),
    ("mon-wed,fri 09:00-17:00 -03:30", "mon 09:00-17:00 +14:01", "hours are written"),
    ("mon-wed,fri 09:00-17:00 -03:30", "mon 09:00-17:00 UTC", "hours are written"),
    ("mon-wed,fri 09:00-17:00 -03:30", "mon  09:00-17:00 -03:30", "hours are written"),
    ("when = { listed = [\"partners\"] }", "when = {}", "this would deny everything"),
    ("when = { listed = [\"partners\"] }\n", "", "missing field `when`"),
];

#[test]
fn each_value_out_of_bounds_is_refused_on_its_line() {
    for (from, to, expected) in OUT_OF_BOUNDS {
        let text = text();
        assert!(text.contains(from), "{from}");
        let (line, reason) = refused(&text.replacen(from, to, 1));
        assert!(reason.contains(expected), "{from} -> {to}: {reason}");
        // A section that lacks something is refused at its head.
        let first = text[..text.find(from).unwrap()].matches('\n').count() + 1;
        let head = text[..text.find(from).unwrap()].rfind("[[").unwrap();
        let head = text[..head].matches('\n').count() + 1;
        let last = first + to.matches('\n').count();
        assert!((head..=last).contains(&line), "{to}: line {line} is not in {head}..={last}");
    }
}

#[test]
fn an_unknown_key_is_refused_wherever_it_stands() {
    let text = text();
    let lines: Vec<&str> = text.lines().collect();
    let begin = policy_text(&Knobs::default()).lines().count();
    let list = lines.iter().position(|line| *line == "entries = [").unwrap();
    for position in (begin..=lines.len()).filter(|at| !(list + 1..list + 5).contains(at)) {
        let mut more = lines.clone();
        more.insert(position, "colour = 1");
        let (line, reason) = refused(&more.join("\n"));
        assert_eq!(line, position + 1, "{reason}");
        assert!(reason.contains("unknown field `colour`"), "{reason}");
    }
}

#[test]
fn a_requirement_that_asks_for_nothing_is_none() {
    let nothing = text() + "[[require]]\nname = \"nothing\"\nwhen = {}\n";
    let (line, reason) = refused(&nothing);
    assert!(reason.contains("a requirement asks for approvals"), "{reason}");
    assert_eq!(line, nothing.lines().count() - 1);
}

/// One person is never two: not by two names for one key, and not by an order key that is an officer's.
#[test]
fn nobody_is_two_people() {
    let hex =
        |seed: u8| public(&officer(seed)).iter().map(|b| format!("{b:02x}")).collect::<String>();
    let twice = text().replacen(&hex(22), &hex(21), 1);
    assert!(refused(&twice).1.contains("officer \"ada\" has this key already"));

    let shop = hex(7);
    let same = text().replacen(&hex(21), &shop, 1);
    assert!(refused(&same).1.contains("this is the key of officer \"ada\""));
    let key = format!("ed25519 = \"{shop}\"\n");
    let wrong = same.replacen(&key, &format!("{key}officer = \"bob\"\n"), 1);
    assert!(refused(&wrong).1.contains("this is the key of officer \"ada\""));
    let right = same.replacen(&key, &format!("{key}officer = \"ada\"\n"), 1);
    let rules = load(&right);
    assert_eq!(rules.order_keys()[0].officer.as_ref().unwrap().as_str(), "ada");
    let unknown = text().replacen(&key, &format!("{key}officer = \"who\"\n"), 1);
    assert!(refused(&unknown).1.contains("\"who\" is not defined"));
}

#[test]
fn what_is_written_is_what_is_read() {
    let rules = load(&text());
    let require = &rules.requires()[0];
    assert_eq!(
        require.approvals.as_ref().unwrap().to_string(),
        "1 of treasury or 2 of treasury + risk"
    );
    assert_eq!((require.delay_seconds, require.books_seconds), (Some(3 * HOUR), Some(5 * HOUR)));
    assert_eq!(require.hours[0].to_string(), "mon-wed,fri 09:00-17:00 -03:30");
    assert_eq!(rules.lists()[1].matures_seconds, 24 * HOUR);
    assert_eq!(rules.lists()[0].book_keys[0].as_str(), "desk");
    assert!(matches!(rules.people()[0].key, OfficerKey::Ed25519(_)));
    assert_eq!(rules.denies()[0].name.as_str(), "never");
    assert_eq!(rules.limits()[0].count, Some(10));

    let p256 = "p256 = \"036b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296\"";
    let line = format!("ed25519 = \"{}\"", hex::encode(public(&officer(21))));
    let rules = load(&text().replacen(&line, p256, 1));
    assert!(rules.people().iter().any(|officer| matches!(officer.key, OfficerKey::P256(_))));
    // A secret and its negative are one person's.
    let negative = p256.replacen("\"03", "\"02", 1);
    let both = text().replacen(&line, p256, 1);
    let other = format!("ed25519 = \"{}\"", hex::encode(public(&officer(22))));
    assert!(both.contains(&other));
    let (_, reason) = refused(&both.replacen(&other, &negative, 1));
    assert!(reason.contains("has this key already"), "{reason}");
    // The x of no point; nobody could ever sign.
    let nobody = format!("p256 = \"02{:064x}\"", 1);
    let (_, reason) = refused(&text().replacen(&line, &nobody, 1));
    assert!(reason.contains("of a valid point"), "{reason}");
    // Orders and checkpoints are signed with Ed25519: neither section knows another kind.
    for section in ["[[order_key]]\nname = \"p\"\n", "[[witness]]\nname = \"p\"\n"] {
        let (_, reason) = refused(&format!("{}\n{section}{p256}\n", text()));
        assert!(reason.contains("p256"), "{reason}");
    }
}

/// Nothing of the new sections depends on where they stand.
#[test]
fn the_order_of_sections_means_nothing() {
    let parts = |text: &str| -> Vec<String> {
        text.split("[[").skip(1).map(|part| format!("[[{part}\n")).collect()
    };
    let mut turned = parts(&(people() + SECTIONS));
    turned.reverse();
    let turned = policy_text(&Knobs::default()) + &turned.concat();
    let facts = |rules: &Rules| {
        let of = (rules.people().to_vec(), rules.groups().to_vec(), rules.lists().to_vec());
        (of, rules.limits().to_vec(), rules.requires().to_vec(), rules.denies().to_vec())
    };
    assert_eq!(facts(&load(&turned)), facts(&load(&text())));
}

#[test]
fn a_text_tells_its_lists_to_whoever_remembers_them() {
    let found = listed(&text());
    let labels: Vec<&str> = found.iter().map(|(_, label, _)| label.as_str()).collect();
    assert_eq!(labels, ["the exchange", "raw", "fund"]);
    assert!(found.iter().all(|(list, _, _)| list.as_str() == "partners"));
    assert_eq!(found[1].2, Target::Script(vec![0, 0x14, 0xaa]));
    assert_eq!(listed("version = 1"), []);
}

#[test]
fn hours_open_and_close_to_the_minute() {
    let hours = |text: &str| {
        let rules = load(&self::text().replacen("mon-wed,fri 09:00-17:00 -03:30", text, 1));
        rules.requires()[0].hours[0].clone()
    };
    // NOW is Monday, 29 December 2025, 09:20 UTC.
    let monday = NOW - 9 * HOUR - 20 * 60;
    let office = hours("mon-fri 09:00-17:00 +01:00");
    for (unix, open, opens) in [
        (monday + 8 * HOUR - 1, false, monday + 8 * HOUR),
        (monday + 8 * HOUR, true, monday + 8 * HOUR),
        (monday + 16 * HOUR - 1, true, monday + 16 * HOUR - 1),
        (monday + 16 * HOUR, false, monday + 32 * HOUR),
        (monday + 4 * 24 * HOUR + 16 * HOUR, false, monday + 7 * 24 * HOUR + 8 * HOUR),
    ] {
        assert_eq!((office.is_open(unix), office.opens(unix)), (open, opens), "{unix}");
    }
    // Ahead of UTC a day begins the evening before; behind it, a day ends the morning after.
    assert!(hours("tue 00:00-24:00 +14:00").is_open(monday + 10 * HOUR));
    assert!(!hours("tue 00:00-24:00 +14:00").is_open(monday + 10 * HOUR - 1));
    assert!(hours("sun 00:00-24:00 -14:00").is_open(monday + 14 * HOUR - 1));
    assert!(!hours("sun 00:00-24:00 -14:00").is_open(monday + 14 * HOUR));
    let once = hours("mon 09:20-09:21 +00:00");
    assert!(once.is_open(NOW) && once.is_open(NOW + 59) && !once.is_open(NOW + 60));
    assert_eq!(once.opens(NOW + 60), NOW + 7 * 24 * HOUR);
    assert!(!once.is_open(u64::MAX) && once.opens(u64::MAX) == u64::MAX);
}

#[test]
fn a_label_is_of_a_few_visible_characters() {
    for label in ["a", "the exchange", "~!", &"x".repeat(64)] {
        assert!(policy::conditions::is_label(label), "{label}");
    }
    for label in ["", " ", " a", "a ", "a\tb", "a\nb", "café", "a\u{7f}", &"x".repeat(65)] {
        assert!(!policy::conditions::is_label(label), "{label:?}");
    }
}
