//! One policy gives way to the next: only to what enough officers of the one in force signed, at once where it only
//! tightens, after a delay otherwise, and never to one that somebody who may has vetoed.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a test fails by panicking"
)]

mod common;

use std::collections::BTreeSet;

use common::{Knobs, load, officer, people, policy_text};
use ed25519_dalek::Signer as _;
use policy::first::FirstOfficers;
use policy::governance::{Next, veto_message};
use policy::names::KeyName;
use policy::p256::lower;
use policy::signed::signature_line;
use policy::{PolicyError, Rules, SignedPolicy, sign_message};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};

const GOVERNANCE: &str = "[governance]\ntighten = \"1 of treasury + risk\"\nchange = \"2 of treasury and 1 of risk\"\nmax_per_domain = 1\ndelay = \"48h\"\nveto = \"risk\"\n";
const SEEDS: [(&str, u8); 5] = [("ada", 21), ("bob", 22), ("cyd", 23), ("dan", 24), ("eve", 25)];

fn text(version: u64, max_total: u128) -> String {
    let knobs = Knobs { max_total, extra: people() + GOVERNANCE, ..Knobs::default() };
    policy_text(&knobs).replacen("version = 3", &format!("version = {version}"), 1)
}

fn signatures(message: &[u8], names: &[&str]) -> String {
    let seed = |name: &str| SEEDS.iter().find(|(known, _)| *known == name).unwrap().1;
    let line = |name: &&str| {
        let signature = officer(seed(name)).sign(message).to_bytes();
        signature_line(&KeyName::parse(name).unwrap(), &signature)
    };
    names.iter().map(line).collect()
}

fn next(now: &Rules, text: &str, by: &[&str]) -> Result<Next, PolicyError> {
    now.next(&SignedPolicy { text, signatures: &signatures(&sign_message(text), by) })
}

fn refused(result: Result<Next, PolicyError>) -> String {
    match result {
        Err(PolicyError::Governance(text)) => text,
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_only_tightens_takes_effect_at_once_by_the_small_quorum() {
    let now = load(&text(3, 10_000));
    let tighter = text(4, 9_000);
    for by in [&["ada"][..], &["eve"], &["ada", "cyd", "eve"]] {
        let Next::AtOnce(rules) = next(&now, &tighter, by).unwrap() else { panic!("{by:?}") };
        assert_eq!((rules.version(), rules.officers().len()), (4, by.len()));
    }
    assert!(refused(next(&now, &tighter, &[])).contains("1 of treasury + risk, or 2 of treasury"));
}

#[test]
fn anything_else_needs_the_big_quorum_and_the_delay() {
    let now = load(&text(3, 10_000));
    let looser = text(4, 10_001);
    // Two of treasury and one of risk, from three sites: ada or bob of Zurich, cyd of Oslo, so eve of Lima.
    let Next::After(rules, delay) = next(&now, &looser, &["ada", "cyd", "eve"]).unwrap() else {
        panic!("at once")
    };
    assert_eq!((rules.version(), delay), (4, 48 * 3_600));
    for by in [
        &["ada"][..],
        &["ada", "eve"],
        &["ada", "bob", "eve"],
        &["ada", "cyd", "dan"],
        &["ada", "bob", "cyd"],
    ] {
        assert!(refused(next(&now, &looser, by)).contains("must be signed by"), "{by:?}");
    }
}

#[test]
fn governors_are_changed_by_the_big_quorum_alone() {
    let now = load(&text(3, 10_000));
    for (from, to) in [
        ("delay = \"48h\"", "delay = \"96h\""),
        ("tighten = \"1 of", "tighten = \"2 of"),
        ("members = [\"dan\", \"eve\"]", "members = [\"eve\"]"),
        ("cold = \"cold\"", "cold = \"vault\""),
    ] {
        let changed = text(4, 9_000).replacen(from, to, 1);
        assert_ne!(changed, text(4, 9_000), "{from}");
        refused(next(&now, &changed, &["ada"]));
        let signed = next(&now, &changed, &["bob", "cyd", "eve"]).unwrap();
        assert!(matches!(signed, Next::After(..)), "{from}");
    }
    let ungoverned = text(4, 9_000).replacen(GOVERNANCE, "", 1);
    let all = ["ada", "bob", "cyd", "dan", "eve"];
    assert!(refused(next(&now, &ungoverned, &all)).contains("governed by nobody"));
}

#[test]
fn versions_rise_and_signatures_hold() {
    let now = load(&text(3, 10_000));
    for version in [1, 2, 3] {
        assert!(refused(next(&now, &text(version, 9_000), &["ada"])).contains("does not follow"));
    }
    let (one, other) = (text(4, 9_000), text(5, 9_000));
    // Signatures over another text, or by somebody who is no officer of the policy in force.
    let foreign = signatures(&sign_message(&other), &["ada"]);
    let error = now.next(&SignedPolicy { text: &one, signatures: &foreign }).unwrap_err();
    assert!(matches!(error, PolicyError::Signatures { line: 1, .. }), "{error}");
    let key = officer(1).sign(&sign_message(&one)).to_bytes();
    let stranger = signature_line(&KeyName::parse("zoe").unwrap(), &key);
    now.next(&SignedPolicy { text: &one, signatures: &stranger }).unwrap_err();
    // The officers of the next policy have no say in it.
    let hex = |seed| -> String {
        common::public(&officer(seed)).iter().map(|b| format!("{b:02x}")).collect()
    };
    let taken = one.replacen(&hex(21), &hex(99), 1);
    assert_ne!(taken, one);
    let own = officer(99).sign(&sign_message(&taken)).to_bytes();
    let own = signature_line(&KeyName::parse("ada").unwrap(), &own);
    now.next(&SignedPolicy { text: &taken, signatures: &own }).unwrap_err();
}

/// RFC 6979, A.2.5.
fn p256_key() -> (EcdsaKeyPair, String) {
    let hex = |text: &str| hex::decode(text).unwrap();
    let private = hex("c9afa9d845ba75166b5c215767b1d6934e50c3db36e89b127b8a622b120f6721");
    let x = "60fed4ba255a9d31c961eb74c6356d68c049b8923b61fa6ce669622e60f29fb6";
    let y = "7903fe1008b8bc99a41ae9e95628bc64f2f1b20c2d7e9f5177a3c294d4462299";
    let (public, random) = (hex(&format!("04{x}{y}")), SystemRandom::new());
    let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
    let pair = EcdsaKeyPair::from_private_key_and_public_key(algorithm, &private, &public, &random);
    (pair.unwrap(), format!("03{x}"))
}

fn p256_line(name: &str, message: &[u8]) -> (String, String) {
    let signed = p256_key().0.sign(&SystemRandom::new(), message).unwrap();
    let low = lower(&signed.as_ref().try_into().unwrap());
    let n = hex::decode("ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551");
    let (mut upper, mut borrowed) = (low, 0);
    for (at, byte) in n.unwrap().into_iter().enumerate().rev() {
        let rest = 256 + i32::from(byte) - i32::from(low[32 + at]) - borrowed;
        upper[32 + at] = u8::try_from(rest % 256).unwrap();
        borrowed = i32::from(rest < 256);
    }
    let line = |signature: &[u8; 64]| signature_line(&KeyName::parse(name).unwrap(), signature);
    (line(&low), line(&upper))
}

#[test]
fn officers_with_p256_keys_govern_and_veto_like_all_others() {
    let eve = format!("ed25519 = \"{}\"", hex::encode(common::public(&officer(25))));
    let with_p256 = |version, fee| {
        let text = text(version, fee);
        assert!(text.contains(&eve));
        text.replacen(&eve, &format!("p256 = \"{}\"", p256_key().1), 1)
    };
    let now = load(&with_p256(3, 10_000));
    let looser = with_p256(4, 10_001);
    let message = sign_message(&looser);
    let others = signatures(&message, &["ada", "cyd"]);
    let (low, upper) = p256_line("eve", &message);
    let by = |signatures: &str| now.next(&SignedPolicy { text: &looser, signatures });
    assert!(matches!(by(&format!("{others}{low}")).unwrap(), Next::After(..)));
    // The other half of the same signature is none, so nobody has two.
    for wrong in [format!("{others}{upper}"), format!("{others}{low}{upper}")] {
        assert!(matches!(by(&wrong).unwrap_err(), PolicyError::Signatures { line: 3 | 4, .. }));
    }
    assert!(matches!(by(&format!("{others}{low}{low}")), Err(PolicyError::Signatures { .. })));
    let (veto, _) = p256_line("eve", &veto_message(&looser));
    let vetoed = SignedPolicy { text: &looser, signatures: &veto };
    let vetoed = now.vetoed_by(&vetoed, &[], false).unwrap();
    assert_eq!(vetoed, [KeyName::parse("eve").unwrap()]);
}

#[test]
fn a_veto_is_by_the_vetoing_group_and_over_this_text() {
    let now = load(&text(3, 10_000));
    let looser = text(4, 10_001);
    let veto = |message: &[u8], by: &[&str]| {
        now.vetoed_by(
            &SignedPolicy { text: &looser, signatures: &signatures(message, by) },
            &[],
            false,
        )
    };
    assert_eq!(veto(&veto_message(&looser), &["eve"]).unwrap(), [KeyName::parse("eve").unwrap()]);
    assert!(veto(&veto_message(&looser), &[]).unwrap().is_empty());
    veto(&veto_message(&looser), &["ada"]).unwrap_err();
    veto(&veto_message(&text(5, 10_001)), &["eve"]).unwrap_err();
    veto(&sign_message(&looser), &["eve"]).unwrap_err();
    // What vetoed an earlier policy has done its work, and says nothing of this one.
    let other = text(5, 10_001);
    let stale = signatures(&veto_message(&other), &["dan"]);
    let both = stale.clone() + &signatures(&veto_message(&looser), &["eve"]);
    let digest = *load(&other).digest();
    let by = |signatures: &str| {
        now.vetoed_by(&SignedPolicy { text: &looser, signatures }, &[digest], false).unwrap()
    };
    assert!(by(&stale).is_empty());
    assert_eq!(by(&both), [KeyName::parse("eve").unwrap()]);
}

#[test]
fn a_policy_without_governance_gives_way_to_none_by_itself() {
    let now = load(&policy_text(&Knobs::default()));
    assert!(refused(next(&now, &text(4, 9_000), &["ada"])).contains("who may change it"));
}

#[test]
fn the_first_policy_has_the_officers_a_signer_began_with_and_is_signed_by_them() {
    let first = text(3, 10_000);
    let officers = FirstOfficers::read(&(people() + GOVERNANCE)).unwrap();
    assert_eq!(officers.count(), SEEDS.len());
    // The sections alone, or the whole policy: one text.
    assert_eq!(FirstOfficers::read(&first).unwrap(), officers);
    assert_eq!(load(&first).officers_text().unwrap(), officers.text());
    assert!(officers.text().starts_with("cofferdam-officers-v1\nofficer ada of zurich: ed25519 "));
    let (network, digest) = (load(&first).network(), officers.digest());
    let begins = |text: &str, by: &[&str]| {
        let signatures = signatures(&sign_message(text), by);
        Rules::first(&SignedPolicy { text, signatures: &signatures }, network, &digest)
    };
    let rules = begins(&first, &["ada", "cyd", "eve"]).unwrap();
    assert_eq!(rules.officers().len(), 3);
    for by in [&[][..], &["ada"], &["ada", "bob", "eve"], &["ada", "cyd", "dan"]] {
        let refused = begins(&first, by).unwrap_err();
        assert!(
            matches!(&refused, PolicyError::First(why) if why.contains("signed by")),
            "{refused}"
        );
    }
    for (from, to) in [
        ("delay = \"48h\"", "delay = \"49h\""),
        ("tighten = \"1 of", "tighten = \"2 of"),
        ("members = [\"dan\", \"eve\"]", "members = [\"eve\"]"),
        ("domain = \"zurich\"", "domain = \"bern\""),
        ("veto = \"risk\"\n", ""),
        (GOVERNANCE, ""),
    ] {
        let changed = first.replacen(from, to, 1);
        assert_ne!(changed, first, "{from}");
        let refused = begins(&changed, &["ada", "cyd", "eve"]).unwrap_err();
        assert!(matches!(refused, PolicyError::First(_)), "{from}: {refused}");
    }
    // Another text by nobody who is one of them.
    let mallory = signature_line(
        &KeyName::parse("ada").unwrap(),
        &officer(66).sign(&sign_message(&first)).to_bytes(),
    );
    let forged = SignedPolicy { text: &first, signatures: &mallory };
    Rules::first(&forged, network, &digest).unwrap_err();
}

#[test]
fn an_officers_file_is_read_strictly() {
    let file = people() + GOVERNANCE;
    FirstOfficers::read(&file).unwrap();
    for wrong in [
        people(),
        file.replacen("[governance]", "[governence]", 1),
        file.replacen("name = \"ada\"", "name = \"ada\"\nrank = 1", 1),
        file.clone() + "[[client]]\nname = \"c\"\nattest = []\nstatus = true\n",
        file.replacen("change = \"2 of treasury", "change = \"9 of treasury", 1),
    ] {
        assert_ne!(wrong, file);
        FirstOfficers::read(&wrong).unwrap_err();
    }
}

#[test]
fn who_is_asked_at_the_machine_is_said_by_a_quorum_that_can_be_met() {
    let quiet = load(&text(3, 10_000));
    assert!(quiet.administer().is_none() && quiet.may_administer(&[].into()));
    let asks = text(4, 10_000) + "administer = \"2 of treasury\"\n";
    let rules = load(&asks);
    let names = ["ada", "bob", "cyd", "eve"].map(|name| KeyName::parse(name).unwrap());
    let [ada, bob, cyd, eve] = &names;
    assert!(rules.may_administer(&[ada, cyd].into()));
    for few in [vec![], vec![ada], vec![ada, eve], vec![ada, bob]] {
        assert!(!rules.may_administer(&few.into_iter().collect()));
    }
    // It is part of who governs: brought in and taken away by the big quorum alone.
    refused(next(&quiet, &asks, &["ada"]));
    refused(next(&rules, &text(5, 9_000), &["ada"]));
    assert!(matches!(next(&rules, &text(5, 9_000), &["ada", "cyd", "eve"]), Ok(Next::After(..))));
    let never = asks.replacen("administer = \"2 of", "administer = \"4 of", 1);
    policy::signed::check(&never, rules.network()).unwrap_err();
}

#[test]
fn who_unbinds_an_order_is_said_by_a_quorum_that_leaves_out_whoever_ordered() {
    let quiet = load(&text(3, 10_000));
    let names = ["ada", "bob", "cyd", "eve"].map(|name| KeyName::parse(name).unwrap());
    let [ada, bob, cyd, eve] = &names;
    let everybody = || names.iter().collect::<BTreeSet<_>>();
    // Without it nobody can, however many they are.
    assert!(quiet.unbind().is_none() && !quiet.may_unbind(&everybody(), &[7; 32]));
    let asks = text(4, 10_000) + "unbind = \"2 of treasury\"\n";
    let rules = load(&asks);
    assert!(rules.may_unbind(&[ada, cyd].into(), &[7; 32]));
    assert!(rules.asks_to_unbind(ada) && !rules.asks_to_unbind(eve));
    // Of one site two count as one.
    for few in [vec![], vec![ada], vec![ada, eve], vec![ada, bob]] {
        assert!(!rules.may_unbind(&few.into_iter().collect(), &[7; 32]));
    }
    // Whoever holds the key that ordered counts for nothing there.
    let key = rules.order_keys()[0].public_key;
    let own = asks.replacen("[[order_key]]\n", "[[order_key]]\nofficer = \"ada\"\n", 1);
    assert_ne!(own, asks);
    assert!(rules.may_unbind(&[ada, cyd].into(), &key));
    assert!(!load(&own).may_unbind(&[ada, cyd].into(), &key));
    assert!(load(&own).may_unbind(&[bob, cyd].into(), &key));
    // It is part of who governs: brought in, changed and taken away by the big quorum alone, after its delay.
    let all = ["ada", "cyd", "eve"];
    refused(next(&quiet, &asks, &["ada"]));
    assert!(matches!(next(&quiet, &asks, &all), Ok(Next::After(..))));
    let more = asks.replacen("version = 4", "version = 5", 1).replacen(
        "2 of treasury\"\n",
        "1 of treasury\"\n",
        1,
    );
    for changed in [text(5, 10_000), more] {
        refused(next(&rules, &changed, &["ada"]));
        assert!(matches!(next(&rules, &changed, &all), Ok(Next::After(..))));
    }
    let never = asks.replacen("unbind = \"2 of", "unbind = \"4 of", 1);
    policy::signed::check(&never, rules.network()).unwrap_err();
}

fn revoked(text: &str, name: &str) -> String {
    let at = format!("name = \"{name}\"\n");
    let changed = text.replacen(&at, &(at.clone() + "revoked = true\n"), 1);
    assert_ne!(changed, text, "{name}");
    changed
}

#[test]
fn an_officer_is_revoked_at_once_by_the_small_quorum_and_his_yes_counts_no_more() {
    let now = load(&text(3, 10_000));
    let without = revoked(&text(4, 10_000), "bob");
    let by_two = next(&now, &without, &["dan", "eve"]).unwrap();
    assert!(matches!(by_two, Next::AtOnce(_)));
    // A stolen key alone revokes nobody, and neither does it with one that counts no more.
    assert!(refused(next(&now, &without, &["eve"])).contains("two people, since it revokes one"));
    let one_gone = load(&revoked(&text(3, 10_000), "dan"));
    let both_gone = revoked(&revoked(&text(4, 10_000), "dan"), "bob");
    refused(next(&one_gone, &both_gone, &["dan", "eve"]));
    assert!(matches!(next(&one_gone, &both_gone, &["ada", "eve"]), Ok(Next::AtOnce(_))));
    let now = load(&without);
    // And nobody whose yes is gone says what time it is.
    let told = |rules: &policy::Rules| rules.may_tell_time(&KeyName::parse("bob").unwrap());
    assert!(told(&load(&text(3, 10_000))) && !told(&now));
    let looser = revoked(&text(5, 10_001), "bob");
    refused(next(&now, &looser, &["bob", "cyd", "eve"]));
    assert!(matches!(next(&now, &looser, &["ada", "cyd", "eve"]), Ok(Next::After(..))));
    let back = text(5, 10_000);
    refused(next(&now, &back, &["ada"]));
    refused(next(&now, &back, &["bob"]));
    // Not so many that a quorum could never be met again, and not beside anything else that governs.
    let too_many = revoked(&revoked(&text(4, 10_000), "dan"), "eve");
    policy::signed::check(&too_many, now.network()).unwrap_err();
    let moved = without.replacen("domain = \"oslo\"", "domain = \"bern\"", 1);
    assert_ne!(moved, without);
    refused(next(&load(&text(3, 10_000)), &moved, &["eve"]));
    // His no still counts.
    let now = load(&revoked(&text(3, 10_000), "dan"));
    let looser = revoked(&text(4, 10_001), "dan");
    let no = signatures(&veto_message(&looser), &["dan"]);
    let no = SignedPolicy { text: &looser, signatures: &no };
    assert_eq!(now.vetoed_by(&no, &[], false).unwrap().len(), 1);
    assert!(now.vetoed_by(&no, &[], true).unwrap().is_empty(), "but over a recovery");
    let may = |name: &str| {
        let officer = KeyName::parse(name).unwrap();
        [false, true].map(|recovery| now.may_veto_policy(&officer, recovery))
    };
    assert_eq!([may("dan"), may("eve"), may("ada")], [[true, false], [true; 2], [false; 2]]);
}

/// A version that leaves no room above it would be the last, also for those who would revoke or recover.
#[test]
fn a_version_leaves_room_for_others() {
    let now = load(&text(3, 10_000));
    let step = policy::governance::VERSION_STEP_MAX;
    assert!(matches!(next(&now, &text(3 + step, 9_000), &["eve"]), Ok(Next::AtOnce(_))));
    refused(next(&now, &text(4 + step, 9_000), &["eve"]));
    refused(next(
        &now,
        &text(i64::MAX.unsigned_abs(), 9_000),
        &["ada", "bob", "cyd", "dan", "eve"],
    ));
}

#[test]
fn when_too_many_keys_are_lost_the_recovering_quorum_has_its_own_longer_way() {
    let with =
        |version, max| text(version, max) + "recover = \"2 of risk\"\nrecover_delay = \"14d\"\n";
    let now = load(&with(3, 10_000));
    let looser = with(4, 10_001);
    let found = next(&now, &looser, &["dan", "eve"]).unwrap();
    assert!(matches!(found, Next::Recovery(_, 1_209_600)), "{found:?}");
    // Who fills the usual quorum as well takes the usual way; too few take none; and what tightens is quicker by others.
    assert!(matches!(next(&now, &looser, &["ada", "cyd", "dan", "eve"]), Ok(Next::After(..))));
    refused(next(&now, &looser, &["eve"]));
    assert!(matches!(next(&now, &with(4, 9_000), &["dan", "eve"]), Ok(Next::AtOnce(_))));
    for wrong in [
        with(4, 1).replacen("recover_delay = \"14d\"", "recover_delay = \"6d\"", 1),
        with(4, 1).replacen("delay = \"48h\"", "delay = \"8d\"", 1),
        with(4, 1).replacen("recover_delay = \"14d\"\n", "", 1),
        with(4, 1).replacen("recover = \"2 of risk\"\n", "", 1),
    ] {
        policy::signed::check(&wrong, now.network()).unwrap_err();
    }
}

#[test]
fn a_governed_policy_is_for_the_one_signer_whose_log_it_names() {
    let (here, there) = ("cofferdam/0123456789abcdef", "cofferdam/fedcba9876543210");
    let named = |text: String, log: &str| {
        let head = format!("network = \"regtest\"\nlog = \"{log}\"\n");
        text.replacen("network = \"regtest\"\n", &head, 1)
    };
    let (own, others) = (named(text(3, 10_000), here), named(text(3, 10_000), there));
    let elsewhere = |text: &str| match load(text).is_for(here) {
        Err(PolicyError::Elsewhere(why)) => why,
        other => panic!("{other:?}"),
    };
    load(&own).is_for(here).unwrap();
    assert!(elsewhere(&others).contains(there));
    // As they were before: refused, and it says what to do.
    let why = elsewhere(&text(3, 10_000));
    assert!(why.contains("names no log") && why.contains(&format!("log = \"{here}\"")), "{why}");
    // Nobody's to govern, nobody's to bring in by anybody else's word: but if it names one, it is meant.
    let quiet = policy_text(&Knobs::default());
    load(&quiet).is_for(here).unwrap();
    assert!(elsewhere(&named(quiet, there)).contains(there));
    // The signature is over the name as well: nobody makes one signer's policy another's.
    let signed = signatures(&sign_message(&others), &["ada", "cyd", "eve"]);
    let moved = others.replacen(there, here, 1);
    let now = load(&text(2, 20_000));
    now.next(&SignedPolicy { text: &moved, signatures: &signed }).unwrap_err();
    // From a policy of before the next may say whose it is; once said, it stays.
    assert!(matches!(next(&now, &own, &["ada"]).unwrap(), Next::AtOnce(_)));
    let now = load(&own);
    for changed in [text(4, 9_000), named(text(4, 9_000), there)] {
        assert!(refused(next(&now, &changed, &["ada", "cyd", "eve"])).contains("for the log"));
    }
    next(&now, &named(text(4, 9_000), here), &["ada"]).unwrap();
    for bad in ["", "two words", &"x".repeat(129)] {
        policy::signed::check(&named(text(3, 10_000), bad), load(&own).network()).unwrap_err();
    }
}

/// A log that begins under the officers of a shipped policy takes it as its first one, signed by them.
#[test]
fn what_is_shipped_is_a_first_policy() {
    let shipped = [
        (include_str!("../examples/policy.toml"), asset::Network::Regtest),
        (include_str!("../../deploy/policy.toml"), asset::Network::Signet),
    ];
    for (shipped, network) in shipped {
        let line = "# log = \"cofferdam/…\"";
        assert!(shipped.contains(line));
        let text = shipped.replacen(line, "log = \"cofferdam/0123456789abcdef\"", 1);
        let sign = |officers: &[(&str, u8)]| -> String {
            let line = |(name, seed): &(&str, u8)| {
                let key = ed25519_dalek::SigningKey::from_bytes(&[*seed; 32]);
                let signature = ed25519_dalek::Signer::sign(&key, &policy::sign_message(&text));
                policy::signed::signature_line(
                    &KeyName::parse(name).unwrap(),
                    &signature.to_bytes(),
                )
            };
            officers.iter().map(line).collect()
        };
        let fixed = policy::first::FirstOfficers::read(shipped).unwrap().digest();
        let first = |signatures: String| {
            let signed = SignedPolicy { text: &text, signatures: &signatures };
            Rules::first(&signed, network, &fixed)
        };
        let rules = first(sign(&[("ada", 21), ("bob", 22), ("cyd", 23)])).unwrap();
        rules.is_for("cofferdam/0123456789abcdef").unwrap();
        assert!(first(sign(&[("bob", 22), ("eve", 25), ("cyd", 23)])).is_err(), "two of one site");
    }
}
