//! Logs of governed policies: each follows the one before as that says, or the audit names the entry.

use audit::checkpoint::{Checkpoint, origin};
use audit::entry::{Entry, Event};
use audit::tree::{Frontier, leaf_hash};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signer as _, SigningKey};
use officer::audit::{At, Auditor, Report};
use policy::first::FirstOfficers;
use policy::names::{KeyName, WalletName};
use policy::sign_message;
use policy::signed::signature_line;
use sha2::{Digest as _, Sha256};
use statement::{Deed, Says, Statement, Task};
use tempfile::TempDir;

use crate::common::{Descriptors, Knobs, policy_text};
use crate::support::{NETWORK, admitted, key_hex, officer, opened, public, token};

const BEGUN: u64 = 1_767_225_600;
const HOUR: u64 = 3_600;
const OFFICERS: [(&str, u8); 3] = [("ada", 31), ("cyd", 32), ("eve", 33)];

/// What happened so many hours after the beginning.
type At0 = (u64, Event);

fn text(version: u64, fee_budget: u64) -> String {
    let wallets = Descriptors::fixed();
    let mut text = policy_text(&wallets, &Knobs { version, fee_budget, ..Knobs::default() });
    for (name, seed) in OFFICERS {
        let key = hex::encode(public(&SigningKey::from_bytes(&[seed; 32])));
        text +=
            &format!("[[officer]]\nname = \"{name}\"\ndomain = \"{name}\"\ned25519 = \"{key}\"\n");
    }
    text + "[[group]]\nname = \"board\"\nmembers = [\"ada\", \"cyd\", \"eve\"]\n[governance]\n\
            tighten = \"1 of board\"\nchange = \"2 of board\"\ndelay = \"48h\"\nveto = \"board\"\n"
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(ToString::to_string).collect()
}

fn digest(text: &str) -> [u8; 32] {
    Sha256::digest(text).into()
}

fn active(version: u64, text: &str, by: &[&str]) -> Event {
    Event::PolicyActivated {
        version,
        digest: digest(text),
        text: text.to_owned(),
        officers: names(by),
    }
}

fn proposed(version: u64, text: &str, hours: u64) -> Event {
    Event::PolicyProposed {
        version,
        digest: digest(text),
        text: text.to_owned(),
        officers: names(&["ada", "cyd"]),
        due_unix: BEGUN + hours * HOUR,
    }
}

fn vetoed(text: &str, by: &str) -> Event {
    Event::PolicyVetoed { digest: digest(text), officers: names(&[by]) }
}

fn withdrawn(text: &str) -> Event {
    Event::PolicyWithdrawn { digest: digest(text) }
}

fn pushed(text: &str, by: &[(&str, u8)]) -> Event {
    let line = |(name, seed): &(&str, u8)| {
        let signature = SigningKey::from_bytes(&[*seed; 32]).sign(&sign_message(text));
        signature_line(&KeyName::parse(name).unwrap(), &signature.to_bytes())
    };
    let (signatures, way) = (by.iter().map(line).collect(), "officers-desk".to_owned());
    Event::PolicyPushed { digest: digest(text), signatures, way }
}

/// The checkpoint over all of it.
fn last(entries: &[Vec<u8>], officers: Option<[u8; 32]>) -> String {
    let mut tree = Frontier::new();
    entries.iter().for_each(|entry| tree.append(leaf_hash(entry)));
    let origin = origin(&public(&token()));
    let checkpoint = Checkpoint { origin, size: tree.size(), root: tree.root(), officers };
    let signature = token().sign(checkpoint.text().as_bytes()).to_bytes();
    checkpoint.note(&public(&token()), &signature)
}

fn audit(story: &[At0]) -> Result<Report, (At, String)> {
    let entry = |(hours, event): &At0| {
        let unix_ms = (BEGUN + hours * HOUR) * 1_000;
        Entry { unix_ms, event: event.clone() }.encode().unwrap()
    };
    let entries: Vec<Vec<u8>> = story.iter().map(entry).collect();
    let officers = story.first().and_then(|(_, event)| event.begun()?.officers_digest());
    let mut auditor = Auditor::new(public(&token()), &[]);
    let run = || {
        for (seq, bytes) in (0..).zip(&entries) {
            auditor.entry(seq, bytes)?;
        }
        auditor.checkpoint(&last(&entries, officers))?;
        auditor.finish()
    };
    run().map_err(|fault| (fault.at, fault.why))
}

fn refused(story: &[At0], why: &str) {
    let (at, found) = audit(story).unwrap_err();
    let last = u64::try_from(story.len() - 1).unwrap();
    assert_eq!(at, At::Entry(last), "{found}");
    assert!(found.contains(why), "{found}");
}

#[test]
fn what_came_over_the_wire_is_signed_by_those_who_may_and_was_proposed() {
    let (first, looser, tighter) = (text(2, 50_000), text(4, 60_000), text(3, 40_000));
    let begun = [(0, opened()), (0, active(2, &first, &["zoe"]))];
    let after = |more: &[At0]| [begun.as_slice(), more].concat();
    let [ada, cyd, eve] = OFFICERS;
    let waits = (1, proposed(4, &looser, 49));
    let both = (1, pushed(&looser, &[ada, cyd]));
    audit(&after(&[waits.clone(), both.clone(), (49, active(4, &looser, &["ada", "cyd"]))]))
        .unwrap();
    // What tightens comes in at once, and is written down as proposed before.
    let Event::PolicyProposed { version, digest, text, .. } = proposed(3, &tighter, 0) else {
        unreachable!()
    };
    let (officers, due_unix) = (names(&["eve"]), BEGUN + HOUR);
    let at_once = (1, Event::PolicyProposed { version, digest, text, officers, due_unix });
    let comes = (1, active(3, &tighter, &["eve"]));
    audit(&after(&[at_once.clone(), (1, pushed(&tighter, &[eve])), comes])).unwrap();

    refused(&after(std::slice::from_ref(&both)), "was not proposed before");
    refused(&after(&[waits.clone(), both.clone(), both.clone()]), "or was pushed already");
    refused(&after(&[waits.clone(), (1, vetoed(&looser, "eve")), both]), "was not proposed before");
    refused(&after(&[waits.clone(), (1, pushed(&looser, &[ada]))]), "2 of board");
    refused(&after(&[at_once, (1, pushed(&tighter, &[]))]), "1 of board");
    let wrong = (1, pushed(&looser, &[ada, ("cyd", 31)]));
    refused(&after(&[waits.clone(), wrong]), "policy signatures line 2");
    let nobody = (1, pushed(&looser, &[ada, ("zoe", 40)]));
    refused(&after(&[waits, nobody]), "policy signatures line 2");
}

#[test]
fn policies_follow_one_another_as_the_one_before_says() {
    let (first, looser, tighter) = (text(2, 50_000), text(4, 60_000), text(3, 40_000));
    let begun = [(0, opened()), (0, active(2, &first, &["zoe"]))];
    let after = |more: &[At0]| [begun.as_slice(), more].concat();
    let waits = (1, proposed(4, &looser, 49));
    let goes = |hours| (hours, active(4, &looser, &["ada", "cyd"]));
    audit(&after(&[waits.clone(), goes(49)])).unwrap();
    refused(&after(&[waits.clone(), goes(48)]), "before it was due");
    refused(&after(&[(1, proposed(4, &looser, 48))]), "sooner than its delay");
    // It is this log's, or from before policies named one.
    let named = |text: &str, log: &str| {
        let head = format!("network = \"regtest\"\nlog = \"{log}\"\n");
        text.replacen("network = \"regtest\"\n", &head, 1)
    };
    let own = named(&tighter, &origin(&public(&token())));
    audit(&after(&[(1, active(3, &own, &["ada"]))])).unwrap();
    let foreign = named(&tighter, "cofferdam/0123456789abcdef");
    refused(&after(&[(1, active(3, &foreign, &["ada"]))]), "is for the log cofferdam/0123");
    let foreign = named(&looser, "cofferdam/0123456789abcdef");
    refused(&after(&[(1, proposed(4, &foreign, 49))]), "is for the log cofferdam/0123");
    // A clock in doubt holds the delay.
    let held = |hours| {
        let held_unix = BEGUN + hours * HOUR;
        (hours, Event::ClockDoubted { held_unix, reason: String::new() })
    };
    refused(&after(&[waits.clone(), held(2), goes(60)]), "before it was due");
    audit(&after(&[waits.clone(), held(49), goes(60)])).unwrap();
    refused(&after(&[goes(49)]), "not proposed first");
    // Withdrawn, or proposed under another policy: it waits anew.
    let gone = (2, withdrawn(&looser));
    refused(&after(&[waits.clone(), gone.clone(), goes(60)]), "not proposed first");
    audit(&after(&[waits.clone(), gone.clone(), (3, proposed(4, &looser, 51)), goes(60)])).unwrap();
    refused(&after(&[gone]), "withdrawn");
    let between = (2, active(3, &tighter, &["eve"]));
    refused(&after(&[waits.clone(), between.clone(), goes(60)]), "not proposed first");
    audit(&after(&[waits, between, (3, proposed(4, &looser, 51)), goes(60)])).unwrap();
}

/// An officer's signed veto.
fn says_veto(officer: &str, text: &str, hours: u64) -> At0 {
    said_of(officer, 90, Says::VetoPolicy(digest(text)), hours)
}

#[test]
fn a_policy_that_an_officer_signed_against_never_comes_into_force() {
    let (first, looser) = (text(2, 50_000), text(4, 60_000));
    let narrow = first.replacen("veto = \"board\"", "veto = \"watch\"", 1)
        + "[[group]]\nname = \"watch\"\nmembers = [\"eve\"]\n";
    let begun = |first| [(0, opened()), (0, active(2, first, &["zoe"]))];
    let waits = (1, proposed(4, &looser, 49));
    let goes = (49, active(4, &looser, &["ada", "cyd"]));
    let after = |more: &[At0]| [begun(&first).as_slice(), more].concat();
    let stops = says_veto("eve", &looser, 2);
    let event = (2, vetoed(&looser, "eve"));
    audit(&after(&[waits.clone(), stops.clone(), event.clone()])).unwrap();
    refused(&after(&[waits.clone(), stops.clone(), event, goes.clone()]), "vetoed");
    // Also where the signer kept quiet about what it had in hand.
    refused(&after(&[waits.clone(), stops.clone(), goes]), "vetoed");
    refused(&after(&[waits.clone(), stops.clone(), (3, withdrawn(&looser))]), "withdrawn");
    refused(&after(std::slice::from_ref(&stops)), "over nothing that was proposed");
    let by_another = [begun(&narrow).as_slice(), &[waits, says_veto("ada", &looser, 2)]].concat();
    refused(&by_another, "by nobody who may");
}

fn begun(text: &str) -> Event {
    let Event::Opened { origin, network, checkpoint_key, attestation_key, wrapping_fingerprint } =
        opened()
    else {
        unreachable!()
    };
    let officers = FirstOfficers::read(text).unwrap().text().to_owned();
    Event::OpenedUnder {
        origin,
        network,
        checkpoint_key,
        attestation_key,
        wrapping_fingerprint,
        officers,
    }
}

#[test]
fn the_first_policy_is_of_the_officers_that_the_log_began_with_and_by_them() {
    let (first, next) = (text(2, 50_000), text(3, 40_000));
    let other = first.replacen("[\"ada\", \"cyd\", \"eve\"]", "[\"ada\", \"cyd\"]", 1);
    let ungoverned = first.split("[governance]").next().unwrap().to_owned();
    let story = [
        (0, begun(&first)),
        (0, active(2, &first, &["ada", "cyd"])),
        (1, active(3, &next, &["eve"])),
    ];
    let report = audit(&story).unwrap();
    assert_eq!(report.officers, Some(FirstOfficers::read(&first).unwrap().digest()));
    refused(&[(0, begun(&first)), (0, active(2, &first, &["ada"]))], "signed by 2 of board");
    refused(&[(0, begun(&first)), (0, active(2, &first, &["zoe", "kim"]))], "signed by 2 of board");
    refused(&[(0, begun(&first)), (0, active(2, &other, &["ada", "cyd"]))], "began with");
    refused(&[(0, begun(&first)), (0, active(2, &ungoverned, &["ada", "cyd"]))], "[governance]");
}

#[test]
fn a_log_of_officers_is_decided_again_as_well() {
    let first = text(2, 50_000);
    let digest = FirstOfficers::read(&first).unwrap().digest();
    let story = [begun(&first), active(2, &first, &["ada", "cyd"])];
    let entry = |event| Entry { unix_ms: BEGUN * 1_000, event }.encode().unwrap();
    let entries: Vec<Vec<u8>> = story.into_iter().map(entry).collect();
    let mut file = "cofferdam-log-export-v1\n".to_owned();
    for (seq, bytes) in entries.iter().enumerate() {
        file += &format!("entry {seq} {}\n", STANDARD.encode(bytes));
    }
    file += &format!("checkpoint {}\n", STANDARD.encode(last(&entries, Some(digest))));
    let folder = TempDir::new().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    std::fs::write(path("log"), file).unwrap();
    std::fs::write(path("draft"), text(3, 40_000)).unwrap();
    let (draft, log, key) = (path("draft"), path("log"), key_hex());
    let said = officer(&["policy", "simulate", &draft, "--export", &log, "--key", &key]).unwrap();
    assert!(said.contains("decisions   0"), "{said}");
}

#[test]
fn every_checkpoint_carries_those_officers() {
    let first = text(2, 50_000);
    let digest = FirstOfficers::read(&first).unwrap().digest();
    let entry = Entry { unix_ms: BEGUN * 1_000, event: begun(&first) }.encode().unwrap();
    let note = |officers| last(std::slice::from_ref(&entry), officers);
    for (officers, holds) in [(Some(digest), true), (None, false), (Some([9; 32]), false)] {
        let mut auditor = Auditor::new(public(&token()), &[]);
        auditor.entry(0, &entry).unwrap();
        let taken = auditor.checkpoint(&note(officers));
        assert_eq!(taken.is_ok(), holds, "{taken:?}");
        // Also one that was kept elsewhere.
        let mut auditor = Auditor::new(public(&token()), &[note(officers)]);
        assert_eq!(auditor.entry(0, &entry).is_ok(), holds);
    }
}

/// An officer's word for something at the signer's machine, for an hour from so many hours after the beginning.
fn said(officer: &str, nonce: u8, deed: Deed, hours: u64) -> At0 {
    said_for("41fc", officer, nonce, deed, hours)
}

/// The same, with this token.
fn said_for(token_serial: &str, officer: &str, nonce: u8, deed: Deed, hours: u64) -> At0 {
    let says = Says::Administer(Task { deed, token: token_serial.to_owned() });
    said_of(officer, nonce, says, hours)
}

fn said_of(officer: &str, nonce: u8, says: Says, hours: u64) -> At0 {
    let seed = OFFICERS.iter().find(|(name, _)| *name == officer).unwrap().1;
    let key = SigningKey::from_bytes(&[seed; 32]);
    let statement = Statement {
        says,
        log: origin(&public(&token())),
        network: NETWORK.to_owned(),
        officer: KeyName::parse(officer).unwrap(),
        expires_unix: BEGUN + (hours + 1) * HOUR,
        nonce: [nonce; 16],
    };
    let bytes = statement.encode();
    let signature = key.sign(&bytes).to_bytes().to_vec();
    let (way, key) = ("file".to_owned(), public(&key));
    (hours, Event::OfficerSaid { statement: bytes, signature, key, way })
}

fn key_state(wallet: &str, state: &str) -> Event {
    let (wallet, state) = (wallet.to_owned(), state.to_owned());
    Event::KeyState { wallet, tier: "token-hd".to_owned(), state, reason: "why".to_owned() }
}

fn token_key(name: &str, serial: &str) -> Event {
    let (name, tier, serial) = (name.to_owned(), "token".to_owned(), serial.to_owned());
    Event::TokenKeyMade { name, tier, public_key: vec![2; 33], serial, attributes: vec![] }
}

fn token_key_state(name: &str, state: &str) -> Event {
    let (name, state) = (name.to_owned(), state.to_owned());
    Event::TokenKeyState { name, tier: "token".to_owned(), state, reason: "why".to_owned() }
}

fn kek(what: &str, key: Option<[u8; 32]>) -> Event {
    Event::KekImport { what: what.to_owned(), key, serial: "41fc".to_owned() }
}

/// Two of those who govern said that it may be done.
fn both(nonce: u8, deed: Deed, hours: u64) -> [At0; 2] {
    [said("ada", nonce, deed.clone(), hours), said("eve", nonce + 1, deed, hours)]
}

#[test]
fn keys_are_made_and_used_again_by_the_officers_that_the_policy_asks_and_stopped_by_anybody() {
    let asks = text(2, 50_000) + "administer = \"2 of board\"\n";
    let begun = [(0, opened()), (0, active(2, &asks, &["zoe"]))];
    let other = said("cyd", 9, Deed::MakeTokenKey(KeyName::parse("co-0").unwrap()), 1);
    let asked = (1, other.1);
    let after = |more: &[At0]| [begun.as_slice(), std::slice::from_ref(&asked), more].concat();
    let with = |deed, last: At0| after(&[both(1, deed, 1).as_slice(), &[last]].concat());
    let why = "without the officers";
    // What lets keys be used: by their names, each once; what stops them asks nobody.
    let (wallet, key) = (WalletName::parse("hot").unwrap(), KeyName::parse("co-1").unwrap());
    for (deed, event) in [
        (Deed::ActivateKeys(wallet), key_state("hot", "active")),
        (Deed::MakeTokenKey(key.clone()), token_key("co-1", "41fc")),
        (Deed::ActivateTokenKey(key), token_key_state("co-1", "active")),
        (Deed::OpenKek, kek("opening", None)),
        (Deed::ImportKek([8; 32]), kek("imported", Some([8; 32]))),
        (Deed::ForgetKek([8; 32]), kek("forgotten", Some([8; 32]))),
    ] {
        audit(&with(deed.clone(), (1, event.clone()))).unwrap();
        refused(&after(&[(1, event.clone())]), why);
        refused(&after(&[said("ada", 1, deed.clone(), 1), (1, event.clone())]), why);
        refused(&with(Deed::SetPin, (1, event.clone())), why);
        let again =
            [both(1, deed, 1).as_slice(), &[(1, event.clone()), (1, event.clone())]].concat();
        assert!(audit(&after(&again)).is_err());
        // A log that does not say that its program asked may be from before: that is counted, and no fault.
        let before = |more: &[At0]| [begun.as_slice(), &[(1, event.clone())], more].concat();
        assert_eq!(audit(&before(&[])).unwrap().unasked, 1);
        assert_eq!(audit(&before(std::slice::from_ref(&asked))).unwrap().unasked, 1);
    }
    // It says so by what officers signed, by the officers that it began under, and by decisions that say of which tier keys are.
    let done = (1, kek("opening", None));
    let trace = vec!["keys: hot is token-hd; 1 input by k at 0/0; token 41fc".to_owned()];
    let request = (1, admitted(1, "withdraw"));
    let denied = (1, Event::Denied { request: [1; 16], policy: 2, reasons: vec![], trace });
    let decided = [begun.as_slice(), &[request, denied, done.clone()]].concat();
    refused(&decided, why);
    let under = [(0, self::begun(&asks)), (0, active(2, &asks, &["ada", "cyd"])), done.clone()];
    refused(&under, why);
    let mut silent = decided.clone();
    let Event::Denied { trace, .. } = &mut silent[3].1 else { panic!("{silent:?}") };
    trace.clear();
    assert_eq!(audit(&silent).unwrap().unasked, 1);
    // Whatever was asked for from the first is asked for in every log.
    let site = |site| {
        let (what, serial, site) = ("activate".to_owned(), "41fc".to_owned(), [site; 16]);
        (1, Event::Administered { what, serial, site })
    };
    refused(&[begun.as_slice(), &[site(1), site(2)]].concat(), why);
    refused(&with(Deed::ImportKek([7; 32]), (1, kek("imported", Some([8; 32])))), why);
    for event in [
        key_state("hot", "suspended"),
        key_state("hot", "compromised"),
        token_key_state("co-1", "retired"),
        kek("closing", None),
        kek("closed", None),
    ] {
        audit(&after(&[(1, event)])).unwrap();
    }
}

#[test]
fn nothing_is_cleared_without_the_officers_that_the_policy_asks() {
    let asks = text(2, 50_000) + "administer = \"2 of board\"\n";
    let begun = [(0, opened()), (0, active(2, &asks, &["zoe"]))];
    let after = |more: &[At0]| [begun.as_slice(), more].concat();
    let why = "without the officers";
    let clear = |what: &str, site| {
        let (what, serial, site) = (what.to_owned(), "-".to_owned(), [site; 16]);
        (1, Event::Administered { what, serial, site })
    };
    for (deed, what) in [
        (Deed::ClearPin([5; 16]), "pin-clear"),
        (Deed::ClearPinLastTry([5; 16]), "pin-clear-last-try"),
        (Deed::ClearToken([5; 16]), "token-clear"),
        (Deed::ForgetAnchor([5; 16]), "anchor-forget"),
    ] {
        let both = [said_for("-", "ada", 1, deed.clone(), 1), said_for("-", "eve", 2, deed, 1)];
        audit(&after(&[both.as_slice(), &[clear(what, 5)]].concat())).unwrap();
        refused(&after(&[both.as_slice(), &[clear(what, 6)]].concat()), why);
        refused(&after(&[both[0].clone(), clear(what, 5)]), why);
        let twice = [both.as_slice(), &[clear(what, 5), clear(what, 5)]].concat();
        refused(&after(&twice), why);
    }
}

#[test]
fn nothing_is_done_at_the_machine_without_the_officers_that_the_policy_asks() {
    let asks = text(2, 50_000) + "administer = \"2 of board\"\n";
    let begun = [(0, opened()), (0, active(2, &asks, &["zoe"]))];
    let after = |more: &[At0]| [begun.as_slice(), more].concat();
    let at_pin = |what: &str, hours| {
        let (what, serial, site) = (what.to_owned(), "41fc".to_owned(), [0; 16]);
        (hours, Event::Administered { what, serial, site })
    };
    let begin = |hours| at_pin("set-pin", hours);
    let pin = |hours| (hours, Event::PinChanged { serial: "41fc".to_owned() });
    let import = |hours, bundle| {
        let (wallet, descriptor) = ("hot".to_owned(), "wpkh(…)".to_owned());
        let (tier, external, change) = ("token-hd".to_owned(), 1, 1);
        let bundle = [bundle; 32];
        (hours, Event::WalletImported { wallet, descriptor, tier, bundle, external, change })
    };
    let site = |hours, site| {
        let (what, serial, site) = ("activate".to_owned(), "41fc".to_owned(), [site; 16]);
        (hours, Event::Administered { what, serial, site })
    };
    let with = |deed, last: At0| after(&[both(1, deed, 1).as_slice(), &[last]].concat());
    let why = "without the officers";
    audit(&with(Deed::SetPin, pin(1))).unwrap();
    audit(&with(Deed::Import([7; 32]), import(1, 7))).unwrap();
    refused(&with(Deed::Import([7; 32]), import(1, 8)), why);
    refused(&with(Deed::SetPin, import(1, 7)), why);
    let apart = [
        said("ada", 1, Deed::Import([7; 32]), 1),
        said_for("52ab", "eve", 2, Deed::Import([7; 32]), 1),
    ];
    refused(&after(&[apart.as_slice(), &[import(1, 7)]].concat()), why);
    // A word counts for as long as the policy has its key.
    let across = |next: &str| {
        let both = both(1, Deed::Import([7; 32]), 49);
        let (waits, goes) = (proposed(4, next, 49), active(4, next, &["ada", "cyd"]));
        after(&[&[(1, waits)], both.as_slice(), &[(49, goes), (49, import(49, 7).1)]].concat())
    };
    let looser = text(4, 60_000) + "administer = \"2 of board\"\n";
    let [old, new] = [31, 44].map(|n| hex::encode(public(&SigningKey::from_bytes(&[n; 32]))));
    audit(&across(&looser)).unwrap();
    refused(&across(&looser.replace(&old, &new)), why);
    refused(&with(Deed::Import([7; 32]), import(9, 7)), why);
    refused(&with(Deed::SetPin, pin(9)), why);
    refused(&after(&[said("ada", 1, Deed::SetPin, 1), pin(1)]), why);
    // Once.
    let twice = [both(1, Deed::SetPin, 1).as_slice(), &[pin(1), pin(1)]].concat();
    refused(&after(&twice), why);
    // A change is begun in time, may end late, and ends once.
    let begun_pin =
        |more: &[At0]| after(&[both(1, Deed::SetPin, 1).as_slice(), &[begin(1)], more].concat());
    audit(&begun_pin(&[pin(9)])).unwrap();
    audit(&begun_pin(&[at_pin("set-pin failed", 1)])).unwrap();
    refused(&begun_pin(&[pin(9), pin(9)]), why);
    refused(&begun_pin(&[begin(1)]), why);
    refused(&begun_pin(&[at_pin("set-pin failed", 1), pin(1)]), why);
    refused(&with(Deed::SetPin, begin(9)), why);
    refused(&with(Deed::Import([7; 32]), begin(1)), why);
    refused(&with(Deed::SetPin, at_pin("set-pin failed", 1)), "not begun");
    // The first site is the one that was there.
    audit(&after(&[site(1, 1)])).unwrap();
    refused(&after(&[site(1, 1), site(1, 2)]), why);
    let by = both(1, Deed::Activate([2; 16]), 1);
    audit(&after(&[[site(1, 1)].as_slice(), &by, &[site(1, 2)]].concat())).unwrap();
    // Where nobody is asked, whoever is there does it.
    let quiet = text(2, 50_000);
    audit(&[(0, opened()), (0, active(2, &quiet, &["zoe"])), pin(1), import(1, 7)]).unwrap();
}

#[test]
fn a_veto_is_for_good() {
    let (first, looser, wider) = (text(2, 50_000), text(4, 60_000), text(3, 70_000));
    let begun = [(0, opened()), (0, active(2, &first, &["zoe"])), (0, proposed(4, &looser, 48))];
    let after = |more: &[At0]| [begun.as_slice(), more].concat();
    let no = (1, vetoed(&looser, "eve"));
    refused(&after(&[(1, vetoed(&looser, "zoe"))]), "nobody who may");
    refused(&after(&[no.clone(), (60, active(4, &looser, &["ada", "cyd"]))]), "vetoed");
    refused(&after(&[no.clone(), (2, withdrawn(&looser))]), "withdrawn");
    // Also where it would only tighten what came into force meanwhile.
    let meanwhile = [(1, proposed(3, &wider, 49)), (50, active(3, &wider, &["ada", "cyd"]))];
    let only_tightens = (51, active(4, &looser, &["ada"]));
    let quiet = [meanwhile.as_slice(), std::slice::from_ref(&only_tightens)].concat();
    audit(&after(&quiet)).unwrap();
    refused(&after(&[[no].as_slice(), &quiet].concat()), "vetoed");
}

#[test]
fn a_revoked_officer_does_not_stop_a_recovery() {
    let with = |version, fee_budget| {
        let text =
            text(version, fee_budget) + "recover = \"1 of board\"\nrecover_delay = \"14d\"\n";
        text.replacen("domain = \"eve\"\n", "domain = \"eve\"\nrevoked = true\n", 1)
    };
    let (first, next) = (with(2, 50_000), with(3, 60_000));
    let by = |officers: &[&str]| {
        let Event::PolicyProposed { version, digest, text, due_unix, .. } =
            proposed(3, &next, 14 * 24)
        else {
            unreachable!()
        };
        Event::PolicyProposed { version, digest, text, officers: names(officers), due_unix }
    };
    let story = |officers: &[&str], veto: &str| {
        let begun = [(0, opened()), (0, active(2, &first, &["zoe"]))];
        [begun.as_slice(), &[(0, by(officers)), (1, vetoed(&next, veto))]].concat()
    };
    audit(&story(&["cyd"], "ada")).unwrap();
    audit(&story(&["ada", "cyd"], "eve")).unwrap();
    refused(&story(&["cyd"], "eve"), "nobody who may");
}

/// What was cleared while no log could be opened is written down when one is, with its words: the signer takes none that ended more than
/// 31 days before. Nothing else may come so late.
#[test]
fn only_what_is_cleared_may_stand_in_the_log_a_month_after_its_words_ended() {
    const MONTH: u64 = 31 * 24;
    let asks = text(2, 50_000) + "administer = \"2 of board\"\n";
    let begun = [(0, opened()), (0, active(2, &asks, &["zoe"]))];
    let after = |more: &[At0]| [begun.as_slice(), more].concat();
    let deed = |what: &str, hours| {
        let (what, serial, site) = (what.to_owned(), "-".to_owned(), [5; 16]);
        (hours, Event::Administered { what, serial, site })
    };
    // Their words end two hours after the beginning.
    let words = |deed: &Deed, heard| {
        [("ada", 1), ("eve", 2)].map(|(officer, nonce)| {
            let (_, event) = said_for("-", officer, nonce, deed.clone(), 1);
            (heard, event)
        })
    };
    let story = |which: &Deed, heard, what, hours| {
        after(&[words(which, heard).as_slice(), &[deed(what, hours)]].concat())
    };
    for (which, what) in [
        (Deed::ClearPin([5; 16]), "pin-clear"),
        (Deed::ClearPinLastTry([5; 16]), "pin-clear-last-try"),
        (Deed::ClearToken([5; 16]), "token-clear"),
        (Deed::ForgetAnchor([5; 16]), "anchor-forget"),
    ] {
        audit(&story(&which, 2 + MONTH, what, 2 + MONTH)).unwrap();
        let (at, found) = audit(&story(&which, 3 + MONTH, what, 3 + MONTH)).unwrap_err();
        assert_eq!(at, At::Entry(2), "{found}");
        assert!(found.contains("had ended"), "{found}");
        // Heard in time, and done as late.
        audit(&story(&which, 1, what, 2 + MONTH)).unwrap();
        refused(&story(&which, 1, what, 3 + MONTH), "without the officers");
    }
    for (which, what) in [(Deed::Init, "init"), (Deed::Activate([5; 16]), "activate")] {
        let first = deed("activate", 0);
        let story = |heard, hours| {
            let said = words(&which, heard);
            after(&[std::slice::from_ref(&first), said.as_slice(), &[deed(what, hours)]].concat())
        };
        audit(&story(1, 3)).unwrap();
        refused(&story(1, 4), "without the officers");
        let (at, found) = audit(&story(3, 3)).unwrap_err();
        assert_eq!(at, At::Entry(3), "{found}");
        assert!(found.contains("had ended"), "{found}");
    }
}

#[test]
fn what_was_proposed_for_a_change_is_not_activated_as_a_recovery() {
    let with = |version, fee_budget| {
        text(version, fee_budget) + "recover = \"1 of board\"\nrecover_delay = \"14d\"\n"
    };
    let (first, next) = (with(2, 50_000), with(3, 60_000));
    let late = 15 * 24;
    let story = |by: &[&str]| {
        let begun = [(0, opened()), (0, active(2, &first, &["zoe"])), (0, proposed(3, &next, 48))];
        [begun.as_slice(), &[(late, active(3, &next, by))]].concat()
    };
    audit(&story(&["ada", "cyd"])).unwrap();
    refused(&story(&["cyd"]), "had not been proposed as that");
    // Proposed anew by those who recover, it is.
    let Event::PolicyProposed { version, digest, text, due_unix, .. } = proposed(3, &next, 14 * 24)
    else {
        unreachable!()
    };
    let recovery =
        Event::PolicyProposed { version, digest, text, officers: names(&["cyd"]), due_unix };
    let begun = [(0, opened()), (0, active(2, &first, &["zoe"])), (0, proposed(3, &next, 48))];
    let anew = [(0, withdrawn(&next)), (0, recovery), (late, active(3, &next, &["cyd"]))];
    audit(&[begun.as_slice(), &anew].concat()).unwrap();
}
