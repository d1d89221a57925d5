//! How a serving signer comes to another policy: by those whom the one in force names, and by nobody who edits its files.

use std::fs;
use std::sync::Arc;

use audit::checkpoint::Checkpoint;
use audit::entry::Event;
use ed25519_dalek::{Signer as _, SigningKey};
use policy::first::FirstOfficers;
use policy::governance::veto_message;
use policy::names::KeyName;
use policy::sign_message;
use policy::signed::signature_line;
use proto::NotificationsRequest;
use proto::officers_client::OfficersClient;
use sha2::{Digest as _, Sha256};
use signer::begin;
use signer::doctor::{self, Finding, Level};
use signer::log::{Clock, Step};
use signer::start::{open_log, open_token};
use statement::{Says, Signed, Statement, TimeIs};

use crate::common::{Knobs, policy_signatures, policy_text};
use crate::house::{House, until};
use crate::watching::{ask, free, number};

const HOUR: u64 = 3_600;
const OFFICERS: [(&str, u8, &str); 3] =
    [("ada", 31, "zurich"), ("cyd", 32, "oslo"), ("eve", 33, "lima")];

pub(crate) fn key(name: &str) -> SigningKey {
    let seed = OFFICERS.iter().find(|(known, ..)| *known == name).unwrap().1;
    SigningKey::from_bytes(&[seed; 32])
}

pub(crate) fn governed(house: &House, version: u64, fee_budget: u64) -> String {
    let knobs = Knobs { version, fee_budget, ..Knobs::default() };
    let mut text = policy_text(&house.descriptors, &knobs);
    for (name, _, site) in OFFICERS {
        let key = hex::encode(key(name).verifying_key().to_bytes());
        text +=
            &format!("[[officer]]\nname = \"{name}\"\ndomain = \"{site}\"\ned25519 = \"{key}\"\n");
    }
    text + "[[group]]\nname = \"board\"\nmembers = [\"ada\", \"cyd\", \"eve\"]\n\
            [governance]\ntighten = \"1 of board\"\nchange = \"2 of board\"\nmax_per_domain = 1\ndelay = \"48h\"\nveto = \"board\"\n"
}

pub(crate) fn write(house: &House, text: &str, signatures: &str) {
    fs::write(&house.config.policy, text).unwrap();
    fs::write(house.config.policy.with_extension("toml.sig"), signatures).unwrap();
}

pub(crate) fn by(message: &[u8], names: &[&str]) -> String {
    let line = |name: &&str| {
        signature_line(&KeyName::parse(name).unwrap(), &key(name).sign(message).to_bytes())
    };
    names.iter().map(line).collect()
}

/// The machine's time, so many hours later.
pub(crate) fn later(hours: u64) -> Clock {
    let clock = Clock::system();
    Clock::from_fn(move || clock.unix_ms() + hours * HOUR * 1_000)
}

/// An officer says what time it is, if the clock is in doubt; whether it was.
pub(crate) async fn settle(house: &House) -> bool {
    let app = house.app();
    let Some(doubt) = app.log.read(signer::ledger::Ledger::doubt) else { return false };
    let now = app.clock.unix_seconds();
    let statement = Statement {
        says: Says::Time(TimeIs { unix: now, doubt: doubt.seq }),
        log: app.log.opening().origin.clone(),
        network: asset::Network::Regtest.chain_id().to_string(),
        officer: KeyName::parse("ada").unwrap(),
        expires_unix: now + 600,
        nonce: [u8::try_from(doubt.seq % 256).unwrap(); 16],
    };
    let bytes = statement.encode();
    let signed = Signed { signature: key("ada").sign(&bytes).to_bytes(), statement: bytes };
    let folder = signer::officers::inbox::folder(&house.config.state_dir);
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("time.new"), signed.to_file()).unwrap();
    fs::rename(folder.join("time.new"), folder.join("time.statement")).unwrap();
    until("the clock to be believed", || app.log.read(signer::ledger::Ledger::doubt).is_none())
        .await;
    true
}

/// The policy in force; a clock in doubt holds the next one back until an officer has said what time it is.
pub(crate) async fn version(house: &mut House, hours: u64) -> u64 {
    house.open_at(later(hours)).await;
    if settle(house).await {
        house.close().await;
        house.open_at(later(hours)).await;
    }
    let version = house.app().rules.version();
    house.close().await;
    version
}

/// Why it does not start.
async fn refusal(house: &House, hours: u64) -> String {
    match signer::serve::run(&house.config, later(hours)).await {
        Ok(_) => panic!("it started"),
        Err(error) => error.to_string(),
    }
}

#[tokio::test]
async fn a_governed_policy_gives_way_to_what_its_officers_signed_alone() {
    let mut house = House::new().await;
    house.close().await;
    let first = governed(&house, 2, 50_000);
    write(&house, &first, &policy_signatures(&first));
    assert_eq!(
        version(&mut house, 0).await,
        2,
        "the configuration's officers bring the first one in"
    );

    // From now on they have no say, whatever the configuration names.
    let tighter = governed(&house, 3, 40_000);
    write(&house, &tighter, &policy_signatures(&tighter));
    assert!(refusal(&house, 0).await.contains("policy signatures line 1"));
    write(&house, &tighter, "");
    assert!(refusal(&house, 0).await.contains("1 of board"));
    write(&house, &tighter, &by(&sign_message(&tighter), &["eve"]));
    assert_eq!(version(&mut house, 0).await, 3, "it only tightens: one is enough, at once");

    let looser = governed(&house, 4, 60_000);
    write(&house, &looser, &by(&sign_message(&looser), &["eve"]));
    assert!(refusal(&house, 0).await.contains("2 of board"));
    write(&house, &looser, &by(&sign_message(&looser), &["eve", "ada"]));
    assert_eq!(version(&mut house, 0).await, 3, "proposed");
    assert_eq!(version(&mut house, 47).await, 3, "the delay is not over");
    house.open_at(later(47)).await;
    assert!(house.app().upcoming.next_unix().is_some());
    let proposals = house.entries(0).await.into_iter().filter(|entry| {
        matches!(&entry.event, Event::PolicyProposed { version: 4, officers, .. } if officers.len() == 2)
    });
    assert_eq!(proposals.count(), 1, "restarts propose nothing again");
    house.close().await;
    assert_eq!(policy_seen(&house).await.level, Level::Warning, "not in force yet");
    assert_eq!(version(&mut house, 49).await, 4);
    // The configuration's officers did not sign it, and the doctor asks the log who had to.
    let seen = policy_seen(&house).await;
    assert_eq!(seen.level, Level::Well, "{}", seen.text);
    assert!(seen.text.contains("version 4, the one in force by the log"), "{}", seen.text);
    house.open_at(later(49)).await;
    let seen = policy_seen(&house).await;
    assert!(seen.text.contains("the one in force at the running signer"), "{}", seen.text);
}

/// What the doctor says of the policy.
async fn policy_seen(house: &House) -> Finding {
    let seen = doctor::examine(&house.config).await.findings;
    let mut seen = seen.into_iter().filter(|found| found.area == "policy");
    let only = seen.next().unwrap();
    assert_eq!(seen.next(), None);
    only
}

#[tokio::test]
async fn a_policy_signed_for_another_signer_with_the_same_officers_is_not_taken() {
    let mut house = House::new().await;
    house.close().await;
    let own = house.descriptors.log.clone().unwrap();
    let line = format!("log = {own:?}\n");
    let replayed = |text: &str| text.replacen(&line, "log = \"cofferdam/0123456789abcdef\"\n", 1);
    let unnamed = |text: &str| text.replacen(&line, "", 1);
    // The first one, by the configuration's officers, and every later one by those of the policy in force.
    let first = governed(&house, 2, 50_000);
    let later = governed(&house, 3, 40_000);
    let refuses = async |house: &House, text: &str, sign: &dyn Fn(&str) -> String| {
        write(house, &replayed(text), &sign(&replayed(text)));
        let why = refusal(house, 0).await;
        assert!(why.contains("is for the one with log cofferdam/0123456789abcdef"), "{why}");
        write(house, &unnamed(text), &sign(&unnamed(text)));
        let why = refusal(house, 0).await;
        assert!(why.contains("names no log") && why.contains(&own), "{why}");
        // A signature over another's text is none over this one's.
        write(house, text, &sign(&replayed(text)));
        assert!(refusal(house, 0).await.contains("policy signatures line 1"));
    };
    refuses(&house, &first, &|text| policy_signatures(text)).await;
    write(&house, &first, &policy_signatures(&first));
    assert_eq!(version(&mut house, 0).await, 2);
    let board = |text: &str| by(&sign_message(text), &["ada", "cyd", "eve"]);
    write(&house, &replayed(&later), &board(&replayed(&later)));
    let why = refusal(&house, 0).await;
    assert!(why.contains("for the log cofferdam/0123456789abcdef"), "{why}");
    write(&house, &unnamed(&later), &board(&unnamed(&later)));
    assert!(refusal(&house, 0).await.contains("for the log none"));
    write(&house, &later, &board(&later));
    assert_eq!(version(&mut house, 0).await, 3);
}

/// What an older program proposed, under a policy that named no log either, goes its way; a new one like it does not.
#[tokio::test]
async fn a_proposal_from_before_policies_named_their_log_comes_into_force_and_no_other_does() {
    let mut house = House::new().await;
    house.close().await;
    let line = format!("log = {:?}\n", house.descriptors.log.clone().unwrap());
    let unnamed = |version, budget| governed(&house, version, budget).replacen(&line, "", 1);
    let (first, proposed, other) = (unnamed(2, 50_000), unnamed(4, 60_000), unnamed(5, 60_000));
    let digest = |text: &str| <[u8; 32]>::from(Sha256::digest(text));
    let signers = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
    let due_unix = later(48).unix_seconds();
    let written = vec![
        Event::PolicyActivated {
            version: 2,
            digest: digest(&first),
            text: first.clone(),
            officers: signers(&["zoe"]),
        },
        Event::PolicyProposed {
            version: 4,
            digest: digest(&proposed),
            text: proposed.clone(),
            officers: signers(&["ada", "cyd"]),
            due_unix,
        },
    ];
    let token = open_token(&house.config, house.config.token.clone()).await.unwrap();
    let log = open_log(&house.config, &token, Clock::system()).await.unwrap();
    log.commit(|_| Step::write(written, ())).await.unwrap();
    log.close().await.unwrap();
    drop(log);
    Arc::into_inner(token).unwrap().stop().await;
    write(&house, &proposed, &by(&sign_message(&proposed), &["ada", "cyd"]));
    assert_eq!(version(&mut house, 47).await, 2, "it waits for its delay");
    assert_eq!(version(&mut house, 49).await, 4);
    // Nobody proposed this one while that was done.
    write(&house, &other, &by(&sign_message(&other), &["ada", "cyd"]));
    let why = refusal(&house, 49).await;
    assert!(why.contains("names no log"), "{why}");
    let named = governed(&house, 5, 60_000);
    write(&house, &named, &by(&sign_message(&named), &["ada", "cyd"]));
    assert_eq!(version(&mut house, 49).await, 5, "that it names its log only tightens");
}

#[tokio::test]
async fn a_vetoed_policy_never_comes_into_force() {
    let mut house = House::new().await;
    house.close().await;
    let first = governed(&house, 2, 50_000);
    write(&house, &first, &policy_signatures(&first));
    assert_eq!(version(&mut house, 0).await, 2);
    let looser = governed(&house, 3, 60_000);
    write(&house, &looser, &by(&sign_message(&looser), &["cyd", "ada"]));
    let veto = house.config.policy.with_extension("toml.veto");
    // Not a veto over this text, yet perhaps meant for it: it stops no start, and nothing changes.
    fs::write(&veto, by(&veto_message(&first), &["eve"])).unwrap();
    for hours in [0, 60] {
        house.open_at(later(hours)).await;
        assert_eq!((house.app().rules.version(), house.app().upcoming.next_unix()), (2, None));
        house.close().await;
    }
    fs::write(&veto, by(&veto_message(&looser), &["eve"])).unwrap();
    assert_eq!(version(&mut house, 60).await, 2);
    // Also without the file: it is in the log.
    fs::remove_file(&veto).unwrap();
    assert_eq!(version(&mut house, 60).await, 2);
    // What comes after it is another matter, also with the file that did its work beside it.
    fs::write(&veto, by(&veto_message(&looser), &["eve"])).unwrap();
    let other = governed(&house, 4, 65_000);
    write(&house, &other, &by(&sign_message(&other), &["cyd", "eve"]));
    assert_eq!(version(&mut house, 60).await, 2);
    assert_eq!(version(&mut house, 60 + 49).await, 4);
}

#[tokio::test]
async fn a_veto_holds_also_when_the_policy_would_only_tighten_by_then() {
    let mut house = House::new().await;
    house.close().await;
    let first = governed(&house, 2, 50_000);
    write(&house, &first, &policy_signatures(&first));
    assert_eq!(version(&mut house, 0).await, 2);
    let vetoed = governed(&house, 4, 60_000);
    let signatures = by(&sign_message(&vetoed), &["cyd", "ada"]);
    write(&house, &vetoed, &signatures);
    let veto = house.config.policy.with_extension("toml.veto");
    fs::write(&veto, by(&veto_message(&vetoed), &["eve"])).unwrap();
    assert_eq!(version(&mut house, 0).await, 2);
    let wider = governed(&house, 3, 70_000);
    write(&house, &wider, &by(&sign_message(&wider), &["cyd", "ada"]));
    assert_eq!(version(&mut house, 1).await, 2);
    assert_eq!(version(&mut house, 50).await, 3);
    // Against that one it only tightens, and would be in force at once.
    write(&house, &vetoed, &signatures);
    fs::remove_file(&veto).unwrap();
    assert_eq!(version(&mut house, 51).await, 3);
}

#[tokio::test]
async fn a_proposal_that_went_away_or_waited_under_another_policy_waits_anew() {
    let mut house = House::new().await;
    house.close().await;
    let first = governed(&house, 2, 50_000);
    write(&house, &first, &policy_signatures(&first));
    assert_eq!(version(&mut house, 0).await, 2);
    let looser = governed(&house, 4, 60_000);
    let signatures = by(&sign_message(&looser), &["cyd", "ada"]);
    write(&house, &looser, &signatures);
    assert_eq!(version(&mut house, 0).await, 2);
    write(&house, &first, "");
    assert_eq!(version(&mut house, 40).await, 2, "withdrawn");
    write(&house, &looser, &signatures);
    assert_eq!(version(&mut house, 49).await, 2, "proposed anew");
    // What waited under one policy does not come into force under the next, however long ago it was proposed.
    let tighter = governed(&house, 3, 45_000);
    write(&house, &tighter, &by(&sign_message(&tighter), &["eve"]));
    assert_eq!(version(&mut house, 50).await, 3);
    write(&house, &looser, &signatures);
    assert_eq!(version(&mut house, 99).await, 3, "proposed once more");
    assert_eq!(version(&mut house, 99 + 47).await, 3);
    assert_eq!(version(&mut house, 99 + 49).await, 4);
    house.open_at(later(99 + 49)).await;
    let entries = house.entries(0).await.into_iter();
    let withdrawn = entries.filter(|entry| matches!(entry.event, Event::PolicyWithdrawn { .. }));
    assert_eq!(withdrawn.count(), 2);
    house.close().await;
}

#[tokio::test]
async fn a_policy_that_could_not_be_served_is_not_even_proposed() {
    let mut house = House::new().await;
    house.close().await;
    let first = governed(&house, 2, 50_000);
    write(&house, &first, &policy_signatures(&first));
    assert_eq!(version(&mut house, 0).await, 2);
    let looser = governed(&house, 3, 60_000);
    let no_descriptor = looser.replacen(&house.descriptors.cold, "wpkh(nothing)#xxxxxxxx", 1);
    let of_other_keys = looser.replacen(&house.descriptors.hot, &crate::common::descriptor(9), 1);
    let hot = "name = \"hot\"\ntier = ";
    let tiers = [format!("{hot}\"token-hd\""), format!("{hot}\"sealed-hd\"")];
    let of_another_tier = looser.replacen(&tiers[0], &tiers[1], 1);
    assert_ne!(of_another_tier, looser);
    for (text, why) in [
        (no_descriptor, "\"cold\""),
        (of_other_keys, "another descriptor"),
        (of_another_tier, "was imported as token-hd, and the policy calls it sealed-hd"),
    ] {
        write(&house, &text, &by(&sign_message(&text), &["cyd", "ada"]));
        let refusal = refusal(&house, 0).await;
        assert!(refusal.contains(why), "{refusal}");
    }
    write(&house, &first, "");
    house.open_at(later(1)).await;
    let mut entries = house.entries(0).await.into_iter();
    assert!(!entries.any(|entry| matches!(entry.event, Event::PolicyProposed { .. })));
    house.close().await;
}

#[tokio::test]
async fn the_first_policy_is_by_the_officers_that_the_log_began_with() {
    let mut house = House::new().await;
    let keys = house.app().token.keys();
    house.close().await;
    // The same token, and a log that begins anew.
    let state = house.folder().join("begun");
    fs::create_dir(&state).unwrap();
    fs::copy(house.config.state_dir.join("token-keys.toml"), state.join("token-keys.toml"))
        .unwrap();
    house.config.state_dir = state.clone();
    let first = governed(&house, 1, 50_000);
    let officers = state.join("officers.toml");
    fs::write(&officers, &first[first.find("[[officer]]").unwrap()..]).unwrap();
    let fixed = begin::officers(&house.config, Some(&officers)).unwrap();
    let mut shown = Vec::new();
    begin::log(&house.config, &keys, fixed.as_ref(), &mut shown).await.unwrap();
    // Again, also without saying under whom; under others never.
    begin::log(&house.config, &keys, None, &mut shown).await.unwrap();
    let shown = String::from_utf8(shown).unwrap();
    let digest = hex::encode(FirstOfficers::read(&first).unwrap().digest());
    assert_eq!(shown.matches(&digest[..4]).count(), 2, "{shown}");
    let others = FirstOfficers::read(&first.replacen("48h", "49h", 1)).unwrap();
    let refused = begin::log(&house.config, &keys, Some(&others), &mut Vec::new()).await;
    assert!(refused.unwrap_err().to_string().contains("for ever"));

    // The configuration's officers have no say, nor has anybody else.
    write(&house, &first, &policy_signatures(&first));
    assert!(refusal(&house, 0).await.contains("policy signatures line 1"));
    let other = first.replacen("veto = \"board\"", "", 1);
    write(&house, &other, &by(&sign_message(&other), &["ada", "cyd"]));
    assert!(refusal(&house, 0).await.contains("the signer began with the officers"));
    write(&house, &first, &by(&sign_message(&first), &["ada"]));
    assert!(refusal(&house, 0).await.contains("2 of board"));
    write(&house, &first, &by(&sign_message(&first), &["ada", "cyd"]));
    house.open_at(later(0)).await;
    let (app, newest) = (house.app(), house.app().log.newest());
    assert_eq!(app.rules.version(), 1);
    let origin = audit::checkpoint::origin(&keys.checkpoint);
    let checkpoint = Checkpoint::open(&newest, &origin, &keys.checkpoint).unwrap();
    assert_eq!(checkpoint.officers, fixed.map(|fixed| fixed.digest()));
    drop(app);
    house.close().await;
}

#[tokio::test]
async fn a_stolen_key_is_revoked_at_once_and_replaced_by_a_recovery_it_cannot_stop() {
    let mut house = House::new().await;
    house.close().await;
    let text = |house: &House, version| {
        governed(house, version, 50_000) + "recover = \"1 of board\"\nrecover_delay = \"14d\"\n"
    };
    let revoked =
        |text: String| text.replacen("name = \"eve\"\n", "name = \"eve\"\nrevoked = true\n", 1);
    let first = text(&house, 2);
    write(&house, &first, &policy_signatures(&first));
    assert_eq!(version(&mut house, 0).await, 2);
    // Two of the others are enough. Of what she signs nothing counts from then on.
    let without = revoked(text(&house, 3));
    write(&house, &without, &by(&sign_message(&without), &["ada"]));
    assert_eq!(version(&mut house, 0).await, 2, "by one alone nobody is revoked at once");
    write(&house, &without, &by(&sign_message(&without), &["ada", "cyd"]));
    assert_eq!(version(&mut house, 0).await, 3);
    let own = revoked(text(&house, 4)).replacen("50000 sat", "40000 sat", 2);
    write(&house, &own, &by(&sign_message(&own), &["eve"]));
    assert!(refusal(&house, 0).await.contains("1 of board"));

    // Her no still counts, and stops that she is replaced in the usual way.
    let other = hex::encode(SigningKey::from_bytes(&[77; 32]).verifying_key().to_bytes());
    let hers = hex::encode(key("eve").verifying_key().to_bytes());
    let replaced = |version| text(&house, version).replacen(&hers, &other, 1);
    let (usual, recovery) = (replaced(4), replaced(5));
    let veto = house.config.policy.with_extension("toml.veto");
    write(&house, &usual, &by(&sign_message(&usual), &["ada", "cyd"]));
    fs::write(&veto, by(&veto_message(&usual), &["eve"])).unwrap();
    assert_eq!(version(&mut house, 1).await, 3);
    assert_eq!(version(&mut house, 60).await, 3, "vetoed");
    // Those who are left recover, slower, and not to be stopped by the key that is to go.
    write(&house, &recovery, &by(&sign_message(&recovery), &["cyd"]));
    fs::write(&veto, by(&veto_message(&recovery), &["eve"])).unwrap();
    let days = 14 * 24;
    for hours in [60, 60 + 49, 60 + 200, 60 + days - 1] {
        assert_eq!(version(&mut house, hours).await, 3, "{hours}");
    }
    assert_eq!(version(&mut house, 60 + days + 1).await, 5);
}

#[tokio::test]
async fn anybody_else_who_may_stops_a_recovery() {
    let mut house = House::new().await;
    house.close().await;
    let text = |version, fee_budget| {
        governed(&house, version, fee_budget)
            + "recover = \"1 of board\"\nrecover_delay = \"7d\"\n"
            + "[[client]]\nname = \"officers-desk\"\nattest = []\nstatus = false\nofficers = true\n"
    };
    let (first, looser) = (text(2, 50_000), text(3, 60_000));
    write(&house, &first, &policy_signatures(&first));
    assert_eq!(version(&mut house, 0).await, 2);
    write(&house, &looser, &by(&sign_message(&looser), &["cyd"]));
    alarmed(&mut house).await;
    let veto = house.config.policy.with_extension("toml.veto");
    fs::write(veto, by(&veto_message(&looser), &["ada"])).unwrap();
    assert_eq!(version(&mut house, 100).await, 2);
    assert_eq!(version(&mut house, 200).await, 2);
}

/// Who may change it proposed it, for two days; that those in the safe sign it as well makes no recovery of that.
#[tokio::test]
async fn other_signatures_make_no_recovery_of_what_was_proposed_otherwise() {
    let mut house = House::new().await;
    house.close().await;
    let text = |house: &House, version, fee_budget| {
        governed(house, version, fee_budget) + "recover = \"1 of board\"\nrecover_delay = \"7d\"\n"
    };
    let revoked =
        |text: String| text.replacen("name = \"eve\"\n", "name = \"eve\"\nrevoked = true\n", 1);
    let first = revoked(text(&house, 2, 50_000));
    write(&house, &first, &policy_signatures(&first));
    assert_eq!(version(&mut house, 0).await, 2);
    let looser = revoked(text(&house, 3, 60_000));
    let proposed = async |house: &House| {
        let entries = house.entries(0).await;
        entries.iter().filter(|e| matches!(e.event, Event::PolicyProposed { .. })).count()
    };
    write(&house, &looser, &by(&sign_message(&looser), &["ada", "cyd"]));
    assert_eq!(version(&mut house, 0).await, 2, "proposed");
    write(&house, &looser, &by(&sign_message(&looser), &["cyd"]));
    assert_eq!(version(&mut house, 1).await, 2, "proposed anew");
    for hours in [49, 7 * 24] {
        assert_eq!(version(&mut house, hours).await, 2, "{hours}: the other delay is not over");
    }
    house.open_at(later(7 * 24)).await;
    assert_eq!(proposed(&house).await, 2, "restarts propose nothing again");
    house.close().await;
    // The other way round as well: by those who may change it, after their delay from then on.
    write(&house, &looser, &by(&sign_message(&looser), &["ada", "cyd"]));
    assert_eq!(version(&mut house, 7 * 24).await, 2);
    assert_eq!(version(&mut house, 7 * 24 + 2).await, 2);
    assert_eq!(version(&mut house, 9 * 24 + 1).await, 3);
}

/// As long as a recovery is proposed, whoever watches or begins to listen hears of it.
async fn alarmed(house: &mut House) {
    let address = free().await;
    house.config.metrics = Some(address);
    house.open().await;
    assert_eq!(house.app().rules.version(), 2);
    let page = ask(address, "GET /metrics HTTP/1.1").await;
    assert_eq!(number(&page, "cofferdam_recovery_proposed"), 1);
    let due = house.app().upcoming.next_unix().unwrap();
    assert_eq!(number(&page, "cofferdam_policy_due_unix_seconds"), due);
    let mut client = OfficersClient::new(house.channel("officers-desk").await);
    let mut heard =
        client.notifications(NotificationsRequest::default()).await.unwrap().into_inner();
    let notice = heard.message().await.unwrap().unwrap();
    assert_eq!((notice.kind.as_str(), notice.reasons[0].code.as_str()), ("alarm", "recovery"));
    assert!(notice.reasons[0].text.contains(&due.to_string()), "{notice:?}");
    drop((heard, client));
    house.config.metrics = None;
    house.close().await;
}
