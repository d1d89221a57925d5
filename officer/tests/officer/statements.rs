//! Logs in which officers had a part: what they said is verified again, and nothing is signed without it.

use audit::entry::{Asked, Awaiting, Entry, Event, Spend};
use ed25519_dalek::{Signer as _, SigningKey};
use officer::audit::{At, Auditor, Report};
use policy::evidence::FreezeScope;
use policy::intent::RequestId;
use policy::names::{ClientName, KeyName, LaneName, WalletName};
use sha2::{Digest as _, Sha256};
use statement::intent::Input;
use statement::{About, Paper, PolicyRef, Says, Statement, TimeIs};

use crate::common::{self, Descriptors, Knobs};
use crate::support::{
    Lie, NETWORK, admitted, checkpoint, each_is_named, opened, public, signed, spend, token,
    unsigned,
};

fn key(name: &str) -> SigningKey {
    SigningKey::from_bytes(&[name.as_bytes()[0]; 32])
}

fn policy() -> String {
    let officer = |name: &str| {
        let public = hex::encode(public(&key(name)));
        format!("[[officer]]\nname = \"{name}\"\ndomain = \"{name}\"\ned25519 = \"{public}\"\n")
    };
    let more = [
        officer("alice").as_str(),
        officer("bob").as_str(),
        officer("eve").as_str(),
        "revoked = true\n",
        "[[group]]\nname = \"treasury\"\nmembers = [\"alice\", \"bob\"]\n",
        "[[require]]\nname = \"all\"\nwhen = { lanes = [\"withdraw\"] }\napprovals = \"1 of treasury\"\n",
    ]
    .concat();
    let head = "unfreeze = \"2 of treasury\"\n".to_owned();
    common::policy_text(&Descriptors::fixed(), &Knobs { head, more, ..Knobs::default() })
}

fn policy_ref() -> PolicyRef {
    PolicyRef { version: 1, digest: Sha256::digest(policy()).into() }
}

fn allowed() -> Spend {
    let trace = vec!["pass approvals: \"all\" is met".to_owned()];
    Spend { trace, ..spend(1, &[1, 2], &["invoice-1"]) }
}

fn paper() -> Paper {
    let spend = allowed();
    Paper {
        network: NETWORK.to_owned(),
        request: RequestId([1; 16]),
        client: ClientName::parse(&spend.caller).unwrap(),
        lane: LaneName::parse(&spend.lane).unwrap(),
        wallet: WalletName::parse(&spend.wallet).unwrap(),
        tier: "token-hd".to_owned(),
        transaction: Sha256::digest(&spend.transaction).into(),
        inputs: [1, 2]
            .map(|n: u8| Input { coin: format!("{}:{n}", hex::encode([n; 32])), amount: 100_000 })
            .into(),
        outputs: Vec::new(),
        fee: spend.fee,
        orders: Vec::new(),
        policy: policy_ref(),
        asked_unix: 1_767_225_600,
        expires_unix: 1_767_229_200,
    }
}

fn awaiting() -> Awaiting {
    Awaiting {
        spend: Spend { trace: Vec::new(), ..allowed() },
        intent: String::from_utf8(paper().encode()).unwrap(),
        psbt: Vec::new(),
        parents: Vec::new(),
        orders: Vec::new(),
        requirements: vec![Asked {
            rule: "all".to_owned(),
            code: "approvals".to_owned(),
            text: "1 of treasury".to_owned(),
        }],
        expires_unix: 1_767_229_200,
    }
}

fn says(officer: &str, nonce: u8, says: Says) -> Statement {
    Statement {
        says,
        log: audit::checkpoint::origin(&public(&token())),
        network: NETWORK.to_owned(),
        officer: KeyName::parse(officer).unwrap(),
        expires_unix: 1_767_229_200,
        nonce: [nonce; 16],
    }
}

fn heard(statement: &Statement) -> Event {
    let key = key(statement.officer.as_str());
    let bytes = statement.encode();
    Event::OfficerSaid {
        signature: key.sign(&bytes).to_bytes().to_vec(),
        statement: bytes,
        key: public(&key),
        way: "officers-desk".to_owned(),
    }
}

fn approval() -> Statement {
    let about =
        About { request: RequestId([1; 16]), intent: paper().digest(), policy: policy_ref() };
    says("alice", 1, Says::Approve(about))
}

fn story() -> Vec<Event> {
    vec![
        /* 0 */ opened(),
        /* 1 */
        Event::PolicyActivated {
            version: 1,
            digest: Sha256::digest(policy()).into(),
            text: policy(),
            officers: vec!["alice".to_owned()],
        },
        /* 2 */ admitted(1, "withdraw"),
        /* 3 */ Event::Awaiting(awaiting()),
        /* 4 */ heard(&approval()),
        /* 5 */ Event::Spend(allowed()),
        /* 6 */
        Event::Signed { request: [1; 16], transaction: signed(unsigned(&[1, 2], 199_000)) },
    ]
}

fn audit(story: &[Event]) -> Result<Report, (At, String)> {
    audit_at(story, |number| number)
}

/// With each entry so many seconds after the beginning.
fn audit_at(story: &[Event], second: impl Fn(u64) -> u64) -> Result<Report, (At, String)> {
    let entry = |(number, event): (u64, &Event)| {
        let unix_ms = 1_767_225_600_000 + second(number) * 1_000;
        Entry { unix_ms, event: event.clone() }.encode().unwrap()
    };
    let entries: Vec<Vec<u8>> = (0..).zip(story).map(entry).collect();
    let mut auditor = Auditor::new(public(&token()), &[]);
    let run = || {
        for (seq, bytes) in (0..).zip(&entries) {
            auditor.entry(seq, bytes)?;
        }
        auditor.checkpoint(&checkpoint(&entries, entries.len()))?;
        auditor.finish()
    };
    run().map_err(|fault| (fault.at, fault.why))
}

#[test]
fn what_was_approved_was_approved() {
    assert_eq!(audit(&story()).unwrap().statements, 1);
    let freeze = says("bob", 2, Says::Freeze(FreezeScope::Everything));
    let mut frozen = story();
    let lift = |officer, nonce| heard(&says(officer, nonce, Says::Unfreeze(freeze.digest())));
    let lifted = Event::FreezeLifted {
        freeze: freeze.digest(),
        policy: 1,
        officers: vec!["alice".to_owned(), "bob".to_owned()],
    };
    let between = [heard(&freeze), lift("alice", 3), lift("bob", 4), lifted];
    frozen.splice(5..5, between);
    assert_eq!(audit(&frozen).unwrap().statements, 4);
    let mut doubted = story();
    doubted.splice(5..5, settled("bob", 5));
    assert_eq!(audit(&doubted).unwrap().statements, 2);
    // Where the clock was set back, the log's time stands still until it has caught up.
    let mut behind = story();
    behind.splice(5..5, settled_at(1_767_222_000, "bob", 5));
    assert!(audit(&behind).unwrap_err().1.contains("nobody's word"));
    audit_at(&behind, |number| number.min(5)).unwrap();
}

/// It was signed, and then an officer's word held it back.
fn taken_back(says: Says, code: &str) -> Vec<Event> {
    let reason = audit::entry::Reason { code: code.to_owned(), text: String::new() };
    let withheld = Event::Withheld { request: [1; 16], policy: 1, reason, may_have_left: false };
    let mut story = story();
    story.extend([heard(&self::says("alice", 2, says)), withheld]);
    story
}

#[test]
fn what_is_signed_is_held_back_by_an_officers_word_alone_and_by_every_no() {
    let about = *approval().says.about().unwrap();
    let (no, revoke) = (Says::Reject(about), Says::Revoke(approval().digest()));
    audit(&taken_back(no.clone(), "rejected")).unwrap();
    audit(&taken_back(revoke.clone(), "revoked")).unwrap();
    let fault = |story: &[Event]| audit(story).unwrap_err().1;
    for (says, code) in [(no.clone(), "vetoed"), (no.clone(), "revoked"), (revoke, "rejected")] {
        let why = fault(&taken_back(says, code));
        assert!(why.contains("nobody's word") || why.contains("not held back"), "{why}");
    }
    let mut story = taken_back(no.clone(), "rejected");
    story.pop();
    story.push(Event::Service { state: "stopped".to_owned(), version: "1".to_owned() });
    assert!(fault(&story).contains("not held back"));
    let mut story = taken_back(no, "rejected");
    let Some(Event::Withheld { policy, .. }) = story.last_mut() else { panic!() };
    *policy = 2;
    assert!(fault(&story).contains("not in force"));
}

#[test]
fn a_client_is_freed_by_officers_whose_yes_counts() {
    let freed = |names: &[&str]| {
        let (client, reason) = ("watcher-1".to_owned(), String::new());
        let officers = names.iter().map(ToString::to_string).collect();
        let locked = Event::ClientLocked {
            client: client.clone(),
            refusals: 9,
            seconds: 60,
            codes: Vec::new(),
        };
        let mut story = story();
        story.extend([locked, Event::ClientFreed { client, lock: 7, officers, reason }]);
        audit(&story)
    };
    freed(&["alice"]).unwrap();
    for names in [&["eve"][..], &["mallory"], &["alice", "eve"], &[]] {
        let (at, why) = freed(names).unwrap_err();
        assert!(at == At::Entry(8) && why.contains("nobody who may"), "{names:?}: {why}");
    }
}

/// The clock was doubted by entry 5, and an officer spoke against the doubt of this one.
fn settled(officer: &str, doubt: u64) -> [Event; 3] {
    settled_at(1_767_225_600, officer, doubt)
}

/// The same, where they say that it is another time.
fn settled_at(unix: u64, officer: &str, doubt: u64) -> [Event; 3] {
    let time = Says::Time(TimeIs { unix, doubt });
    [
        Event::ClockDoubted { held_unix: 1_767_225_600, reason: String::new() },
        heard(&says(officer, 9, time)),
        Event::ClockBelieved { doubt: 5, policy: 1, officers: vec!["bob".to_owned()] },
    ]
}

const LIES: &[Lie] = &[
    ("nobody approved", |s| drop(s.remove(4)), 5, "without the approvals"),
    ("it did not even wait", |s| drop(s.drain(3..5)), 4, "without the approvals"),
    (
        "taken back",
        |s| s.insert(5, heard(&says("alice", 2, Says::Revoke(approval().digest())))),
        7,
        "without the approvals",
    ),
    (
        "somebody said no",
        |s| {
            let about = *approval().says.about().unwrap();
            s.insert(5, heard(&says("alice", 2, Says::Reject(about))));
        },
        7,
        "had said no",
    ),
    (
        "it waits no longer",
        |s| {
            let reason = audit::entry::Reason { code: "expired".to_owned(), text: String::new() };
            s.insert(5, Event::WaitEnded { request: [1; 16], reason });
        },
        7,
        "without the approvals",
    ),
    (
        "a forged signature",
        |s| {
            let Event::OfficerSaid { signature, .. } = &mut s[4] else { panic!() };
            signature[9] ^= 1;
        },
        4,
        "signature",
    ),
    (
        "another key",
        |s| {
            let Event::OfficerSaid { statement, signature, key, .. } = &mut s[4] else { panic!() };
            let mallory = self::key("mallory");
            *signature = mallory.sign(statement).to_bytes().to_vec();
            *key = public(&mallory);
        },
        4,
        "no such key",
    ),
    (
        "another signer's",
        |s| s[4] = heard(&Statement { log: "cofferdam/other".to_owned(), ..approval() }),
        4,
        "another signer",
    ),
    (
        "too late",
        |s| s[4] = heard(&Statement { expires_unix: 1_767_225_600, ..approval() }),
        4,
        "had ended",
    ),
    ("twice", |s| s.insert(5, heard(&approval())), 5, "twice"),
    (
        "about another intent",
        |s| {
            let about =
                About { request: RequestId([1; 16]), intent: [7; 32], policy: policy_ref() };
            s[4] = heard(&says("alice", 1, Says::Approve(about)));
        },
        4,
        "does not wait like that",
    ),
    (
        "while frozen",
        |s| s.insert(6, heard(&says("bob", 2, Says::Freeze(FreezeScope::Everything)))),
        7,
        "frozen",
    ),
    (
        "lifted by one",
        |s| {
            let freeze = says("bob", 2, Says::Freeze(FreezeScope::Everything));
            let lift = heard(&says("bob", 3, Says::Unfreeze(freeze.digest())));
            let lifted = Event::FreezeLifted {
                freeze: freeze.digest(),
                policy: 1,
                officers: vec!["alice".to_owned(), "bob".to_owned()],
            };
            s.splice(5..5, [heard(&freeze), lift, lifted]);
        },
        7,
        "not enough",
    ),
    (
        "lifted by a word whose key was replaced",
        |s| {
            let freeze = says("bob", 2, Says::Freeze(FreezeScope::Everything));
            let lift =
                |officer, nonce| heard(&says(officer, nonce, Says::Unfreeze(freeze.digest())));
            let [old, new] = ["alice", "zoe"].map(|name| hex::encode(public(&key(name))));
            let text = policy().replacen("version = 1", "version = 2", 1).replace(&old, &new);
            let activated = Event::PolicyActivated {
                version: 2,
                digest: Sha256::digest(&text).into(),
                text,
                officers: vec!["alice".to_owned()],
            };
            let lifted = Event::FreezeLifted {
                freeze: freeze.digest(),
                policy: 2,
                officers: vec!["alice".to_owned(), "bob".to_owned()],
            };
            let between = [heard(&freeze), lift("alice", 3), lift("bob", 4), activated, lifted];
            s.splice(5..5, between);
        },
        9,
        "not enough",
    ),
    (
        "the clock believed by a word that is later than it",
        |s| drop(s.splice(5..5, settled_at(1_767_226_300, "bob", 5))),
        7,
        "nobody's word",
    ),
    (
        "the clock believed by a word that is earlier than it",
        |s| drop(s.splice(5..5, settled_at(1_767_224_900, "bob", 5))),
        7,
        "nobody's word",
    ),
    (
        "the clock believed by nobody's word",
        |s| {
            let [doubted, _, believed] = settled("bob", 5);
            s.splice(5..5, [doubted, believed]);
        },
        6,
        "nobody's word",
    ),
    (
        "the clock believed by another's word",
        |s| drop(s.splice(5..5, settled("alice", 5))),
        7,
        "nobody's word",
    ),
    (
        "the clock believed by a word about another doubt",
        |s| drop(s.splice(5..5, settled("bob", 4))),
        7,
        "nobody's word",
    ),
    (
        "the clock believed without a doubt",
        |s| drop(s.splice(5..5, settled("bob", 5).into_iter().skip(1))),
        6,
        "not there",
    ),
    (
        "the clock held later than it was",
        |s| s.insert(5, Event::ClockDoubted { held_unix: 1_767_225_700, reason: String::new() }),
        5,
        "from later on",
    ),
    (
        "the clock believed by another policy",
        |s| {
            let [doubted, said, mut believed] = settled("bob", 5);
            let Event::ClockBelieved { policy, .. } = &mut believed else { panic!() };
            *policy = 2;
            s.splice(5..5, [doubted, said, believed]);
        },
        7,
        "not in force",
    ),
    (
        "lifted by another policy",
        |s| {
            let freeze = says("bob", 2, Says::Freeze(FreezeScope::Everything));
            let lift = |who, nonce| heard(&says(who, nonce, Says::Unfreeze(freeze.digest())));
            let officers = vec!["alice".to_owned(), "bob".to_owned()];
            let lifted = Event::FreezeLifted { freeze: freeze.digest(), policy: 2, officers };
            s.splice(5..5, [heard(&freeze), lift("alice", 3), lift("bob", 4), lifted]);
        },
        8,
        "not in force",
    ),
    (
        "another fee in the intent",
        |s| {
            let intent = Paper { fee: 1, ..paper() }.encode();
            let intent = String::from_utf8(intent).unwrap();
            s[3] = Event::Awaiting(Awaiting { intent, ..awaiting() });
        },
        3,
        "another fee",
    ),
];

#[test]
fn lies_about_officers_are_found() {
    each_is_named(LIES, story, audit);
}
