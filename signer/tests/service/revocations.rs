//! Revocation lists that officers hand in while the signer runs: by enough of them, signed by the authority, and newer; also
//! when the one in force is expired and nobody else is served.

use audit::checkpoint::Checkpoint;
use audit::entry::{Entry, Event};
use policy::evidence::FreezeScope;
use policy::names::ClientName;
use proto::log_client::LogClient;
use proto::officers_client::OfficersClient;
use proto::signer_client::SignerClient;
use proto::{EntriesRequest, NewestRequest, PushRevocationsRequest, StatusRequest, SubmitRequest};
use sha2::{Digest as _, Sha256};
use signer::ledger::Ledger;
use statement::{Deed, NO_TOKEN, Says, Signed, Statement, Task, TimeIs};
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::approving::{Desk, now_ms, people, sign};
use crate::common::Knobs;
use crate::house::{House, said, until};
use crate::pki::Authority;
use crate::watching::{ask, free, number};
use crate::witnessing::{Scene, refused_for};

const GOVERNED: &str = "[governance]\ntighten = \"1 of treasury\"\nchange = \"2 of treasury\"\ndelay = \"48h\"\n\
    administer = \"2 of treasury\"\n";

/// List 1 of the authority, due in so many seconds.
pub(crate) fn with_list_due(house: &mut House, due: i64) {
    let path = house.folder().join("crl.pem");
    std::fs::write(&path, house.authority().list(1, &[], 3_600, due)).unwrap();
    house.config.tls.crl = Some(path);
}

impl Desk {
    async fn listed(knobs: &Knobs, due: i64) -> Self {
        Self::open_with(knobs, |house| with_list_due(house, due)).await
    }

    /// An officer's word for a list.
    fn word(&self, officer: &str, list: &str) -> Statement {
        let der = mtls::pushed::one(list.as_bytes()).unwrap();
        let deed = Deed::Revocations(Sha256::digest(&der).into());
        self.statement(officer, Says::Administer(Task { deed, token: NO_TOKEN.to_owned() }))
    }

    async fn push(&self, list: &str, statement: &Statement) -> Result<String, Status> {
        push(self.house.channel("officers-desk").await, list, sign(statement)).await
    }

    async fn refused_list(&self, list: &str, statement: &Statement, code: &str) {
        let before = self.house.app().log.status().head.size;
        let status = self.push(list, statement).await.unwrap_err();
        assert_eq!(said(&status).1, [code], "{status}");
        assert_eq!(self.house.log_size(), before + 1, "the refusal alone is written down");
    }
}

async fn push(channel: Channel, list: &str, signed: Signed) -> Result<String, Status> {
    let mut client = OfficersClient::new(channel);
    let Signed { statement, signature } = signed;
    let (list, signature) = (list.as_bytes().to_vec(), signature.to_vec());
    let request = PushRevocationsRequest { list, statement, signature };
    Ok(client.push_revocations(request).await?.into_inner().said)
}

async fn status(channel: &Channel) -> Result<(), Status> {
    SignerClient::new(channel.clone()).status(StatusRequest {}).await.map(drop)
}

#[tokio::test]
async fn one_officer_hands_a_list_in_and_it_ends_open_connections_also_after_a_restart() {
    let watched = free().await;
    let mut desk = Desk::open_with(&people(""), |house| {
        with_list_due(house, 3_600);
        house.config.metrics = Some(watched);
    })
    .await;
    // Due in an hour, made an hour ago: the first is an alarm, the second is none yet.
    let list_is = async |due: std::ops::Range<u64>, made: std::ops::Range<u64>| {
        let page = ask(watched, "GET /metrics HTTP/1.1").await;
        let of = |name: &str| number(&page, &format!("{name}{{number=\"0\"}}"));
        let now = now_ms() / 1_000;
        assert_eq!(number(&page, "cofferdam_crl_used"), 1);
        assert_eq!(number(&page, "cofferdam_crls"), 1);
        assert!(due.contains(&(of("cofferdam_crl_due_unix_seconds") - now)), "{page}");
        assert!(made.contains(&(now - of("cofferdam_crl_made_unix_seconds"))), "{page}");
    };
    list_is(3_000..3_601, 3_600..4_200).await;
    let good = desk.house.channel_numbered("watcher-1", 1).await.unwrap();
    let bad = desk.house.channel_numbered("watcher-1", 2).await.unwrap();
    status(&good).await.unwrap();
    status(&bad).await.unwrap();
    let ours = desk.house.authority();
    let list = ours.list(2, &[2], 60, 86_400);
    let answer = desk.push(&list, &desk.word("alice", &list)).await.unwrap();
    assert!(answer.contains("in force"), "{answer}");
    list_is(86_000..86_401, 60..600).await;
    // Not one good call fails.
    status(&good).await.unwrap();
    let ended = async {
        while status(&bad).await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), ended).await.unwrap();
    let shown = hex::encode(Sha256::digest(mtls::pushed::one(list.as_bytes()).unwrap()));
    let entries = desk.house.entries(0).await;
    assert!(entries.iter().any(|entry| matches!(
        &entry.event,
        Event::Administered { what, serial, .. } if what == "revocations" && *serial == shown
    )));
    desk.house.config.metrics = None;
    desk.reopen().await;
    assert!(match desk.house.channel_numbered("watcher-1", 2).await {
        Ok(channel) => status(&channel).await.is_err(),
        Err(_) => true,
    });
    status(&desk.house.channel_numbered("watcher-1", 1).await.unwrap()).await.unwrap();
}

#[tokio::test]
async fn a_list_needs_its_officers_its_authority_and_a_higher_number() {
    let desk = Desk::listed(&people(GOVERNED), 86_400).await;
    let ours = desk.house.authority();
    let list = |number| ours.list(number, &[2], 60, 86_400);
    let (second, third) = (list(2), list(3));
    // What is not newer or not ours, whoever says so.
    let (first, foreign) = (list(1), Authority::new().list(2, &[], 60, 86_400));
    for bad in [&first, &foreign, &ours.list(2, &[], 60, -1), &"nothing".to_owned()] {
        let statement = match mtls::pushed::one(bad.as_bytes()) {
            Ok(_) => desk.word("alice", bad),
            Err(_) => desk.word("alice", &second),
        };
        desk.refused_list(bad, &statement, "statement-list").await;
    }
    // Words for another list, for another signer, by nobody, too late.
    desk.refused_list(&second, &desk.word("alice", &third), "statement-other").await;
    let good = desk.word("alice", &second);
    let elsewhere = Statement { log: "cofferdam/other".into(), ..good.clone() };
    desk.refused_list(&second, &elsewhere, "statement-elsewhere").await;
    let ended = Statement { expires_unix: desk.now() - 1, ..good.clone() };
    desk.refused_list(&second, &ended, "statement-expired").await;
    let forged = Signed { signature: [7; 64], ..sign(&good) };
    let channel = desk.house.channel("officers-desk").await;
    let status = push(channel, &second, forged).await.unwrap_err();
    assert_eq!(said(&status).1, ["statement-signature"]);
    let channel = desk.house.channel("watcher-1").await;
    let status = push(channel, &second, sign(&good)).await.unwrap_err();
    assert_eq!(said(&status).1, ["officers-not-granted"]);
    // Without its list it says nothing.
    desk.refused(&good, "statement-nothing").await;
    // One is not enough, nor the same one twice; two are.
    let answer = desk.push(&second, &good).await.unwrap();
    assert!(answer.contains("2 of treasury"), "{answer}");
    let answer = desk.push(&second, &good).await.unwrap();
    assert!(answer.contains("2 of treasury"), "the same again, as after an error: {answer}");
    let answer = desk.push(&second, &desk.word("alice", &second)).await.unwrap();
    assert!(answer.contains("2 of treasury"), "{answer}");
    let answer = desk.push(&second, &desk.word("bob", &second)).await.unwrap();
    assert!(answer.contains("in force"), "{answer}");
    let task = |ledger: &Ledger| {
        let Says::Administer(task) = &good.says else { panic!() };
        ledger.people().task(task).len()
    };
    assert_eq!(desk.house.app().log.read(task), 0, "their words are used up");
}

#[tokio::test]
async fn when_the_list_is_expired_nobody_is_served_and_the_next_one_comes_in() {
    let desk = Desk::listed(&people(""), -60).await;
    let watcher = desk.house.channel_numbered("watcher-1", 1).await.unwrap();
    let refused = status(&watcher).await.unwrap_err();
    assert_eq!(
        (refused.code(), said(&refused).1),
        (Code::Unavailable, vec!["revocation-unknown".into()])
    );
    // What lets something happen, or sets the clock, waits for a list; an officer's freeze counts all the same.
    let free = Says::Free {
        client: ClientName::parse("watcher-1").unwrap(),
        lock: 1,
        reason: "it is mended".to_owned(),
    };
    let time = Says::Time(TimeIs { unix: desk.now(), doubt: 1 });
    for says in [Says::Unfreeze([7; 32]), free, time] {
        let Signed { statement, signature } = sign(&desk.statement("dan", says));
        let request = SubmitRequest { statement, signature: signature.to_vec() };
        let refused = desk.client().await.submit(request).await.unwrap_err();
        assert_eq!(said(&refused).1, ["revocation-unknown"], "{refused}");
    }
    let freeze = desk.statement("dan", Says::Freeze(FreezeScope::Everything));
    let Signed { statement, signature } = sign(&freeze);
    let mut client = desk.client().await;
    client.submit(SubmitRequest { statement, signature: signature.to_vec() }).await.unwrap();
    let app = desk.house.app();
    until("the freeze to hold", || app.log.read(|l| l.people().freezes().count()) == 1).await;
    let list = desk.house.authority().list(2, &[2], 60, 86_400);
    desk.push(&list, &desk.word("alice", &list)).await.unwrap();
    status(&watcher).await.unwrap();
}

#[tokio::test]
async fn lists_that_cannot_be_used_are_an_alarm_nobody_is_served_and_one_that_is_handed_in_ends_it()
{
    let watched = free().await;
    let desk = Desk::open_with(&people(""), |house| {
        let path = house.folder().join("crl.pem");
        std::fs::write(&path, "no list at all").unwrap();
        house.config.tls.crl = Some(path);
        house.config.metrics = Some(watched);
    })
    .await;
    let alarm = async || {
        let page = ask(watched, "GET /metrics HTTP/1.1").await;
        number(&page, "cofferdam_crl_used") == 1 && number(&page, "cofferdam_crls") == 0
    };
    assert!(
        include_str!("../../../docs/operations.md")
            .contains("| `cofferdam_crl_used == 1 and cofferdam_crls == 0` |")
    );
    assert!(alarm().await);
    let watcher = desk.house.channel_numbered("watcher-1", 1).await.unwrap();
    let refused = status(&watcher).await.unwrap_err();
    assert_eq!(
        (refused.code(), said(&refused).1),
        (Code::Unavailable, vec!["revocation-unknown".into()])
    );
    let list = desk.house.authority().list(2, &[2], 60, 86_400);
    desk.push(&list, &desk.word("alice", &list)).await.unwrap();
    status(&watcher).await.unwrap();
    assert!(!alarm().await, "the one that was handed in is in force");
}

/// An officer's word for a list, at the signer with this log.
fn word(log_key: &[u8; 32], officer: &str, nonce: u8, list: &str) -> Statement {
    let der = mtls::pushed::one(list.as_bytes()).unwrap();
    let deed = Deed::Revocations(Sha256::digest(&der).into());
    Statement {
        says: Says::Administer(Task { deed, token: NO_TOKEN.to_owned() }),
        log: audit::checkpoint::origin(log_key),
        network: asset::Network::Regtest.chain_id().to_string(),
        officer: policy::names::KeyName::parse(officer).unwrap(),
        expires_unix: now_ms() / 1_000 + 3_600,
        nonce: [nonce; 16],
    }
}

#[tokio::test]
async fn a_list_that_could_not_be_put_in_force_comes_in_by_the_same_words() {
    let mut desk = Desk::listed(&people(GOVERNED), 86_400).await;
    let list = desk.house.authority().list(2, &[2], 60, 86_400);
    let (alices, bobs) = (desk.word("alice", &list), desk.word("bob", &list));
    desk.push(&list, &alices).await.unwrap();
    // The disk takes nothing: what is written durably is written beside the file first.
    let aside = desk.house.config.state_dir.join("revocations.new");
    std::fs::create_dir(&aside).unwrap();
    desk.push(&list, &bobs).await.unwrap_err();
    desk.reopen().await;
    desk.push(&list, &bobs).await.unwrap_err();
    let app = desk.house.app();
    let Says::Administer(task) = bobs.says.clone() else { panic!() };
    let words = || app.log.read(|ledger| ledger.people().task(&task).len());
    assert_eq!(words(), 2, "both are written down once, and count");
    std::fs::remove_dir(&aside).unwrap();
    let answer = desk.push(&list, &alices).await.unwrap();
    assert!(answer.contains("in force"), "{answer}");
    assert_eq!(words(), 0);
    let bad = desk.house.channel_numbered("watcher-1", 2).await;
    assert!(match bad {
        Ok(channel) => status(&channel).await.is_err(),
        Err(_) => true,
    });
}

#[tokio::test]
async fn a_list_that_came_into_force_before_the_log_said_so_is_written_down_once() {
    let mut desk = Desk::listed(&people(GOVERNED), 86_400).await;
    let list = desk.house.authority().list(2, &[2], 60, 86_400);
    let bobs = desk.word("bob", &list);
    desk.push(&list, &desk.word("alice", &list)).await.unwrap();
    let aside = desk.house.config.state_dir.join("revocations.new");
    std::fs::create_dir(&aside).unwrap();
    desk.push(&list, &bobs).await.unwrap_err();
    std::fs::remove_dir(&aside).unwrap();
    // As after a crash between the disk and the log.
    std::fs::write(desk.house.config.state_dir.join("revocations.pem"), &list).unwrap();
    desk.reopen().await;
    let Says::Administer(task) = bobs.says.clone() else { panic!() };
    let app = desk.house.app();
    until("the log to say so", || app.log.read(|ledger| ledger.people().task(&task).is_empty()))
        .await;
    let status = desk.push(&list, &bobs).await.unwrap_err();
    assert_eq!(said(&status).1, ["statement-list"], "it is in force");
    let entries = desk.house.entries(0).await;
    let written = entries.iter().filter(
        |entry| matches!(&entry.event, Event::Administered { what, .. } if what == "revocations"),
    );
    assert_eq!(written.count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
#[allow(clippy::too_many_lines, reason = "two lists' story")]
async fn a_list_comes_in_while_the_one_before_keeps_the_witnesses_away() {
    let mut scene = Box::pin(Scene::with(1, people(GOVERNED))).await;
    with_list_due(&mut scene.house, -60);
    scene.serve();
    let witness = scene.witness("w1");
    let ours = scene.house.authority();
    let [second, third] = [2, 3].map(|number| ours.list(number, &[77], 60, 86_400));
    let said_by = |officer, nonce, list: &str| word(&scene.log_key, officer, nonce, list);
    // The signer waits for its witness, whom it does not let in. Officers are heard all the same, and nobody else.
    let desk = scene.channel("officers-desk").await;
    let good = said_by("alice", 1, &second);
    let codes = async |channel: Channel, signed: Signed| {
        said(&push(channel, &second, signed).await.unwrap_err()).1
    };
    let elsewhere = Statement { log: "cofferdam/other".into(), ..good.clone() };
    let ended = Statement { expires_unix: 1_700_000_000, ..good.clone() };
    let forged = Signed { signature: [7; 64], ..sign(&good) };
    let watcher = scene.channel("watcher-1").await;
    assert_eq!(codes(watcher, sign(&good)).await, ["officers-not-granted"]);
    assert_eq!(codes(desk.clone(), sign(&elsewhere)).await, ["statement-elsewhere"]);
    assert_eq!(codes(desk.clone(), sign(&ended)).await, ["statement-expired"]);
    assert_eq!(codes(desk.clone(), forged).await, ["statement-signature"]);
    let other = said_by("alice", 2, &third);
    assert_eq!(codes(desk.clone(), sign(&other)).await, ["statement-other"]);
    for _ in 0..2 {
        // Once is as good as twice.
        let answer = push(desk.clone(), &second, sign(&good)).await.unwrap();
        assert!(answer.contains("2 of treasury"), "{answer}");
    }
    let answer = push(desk.clone(), &second, sign(&said_by("bob", 1, &second))).await.unwrap();
    assert!(answer.contains("in force"), "{answer}");
    // The witness comes, the log opens, and what was said is written down.
    scene.sweeps_until(1, "signed once the witness is let in", Result::is_ok).await;
    let inbox = signer::officers::inbox::folder(&scene.house.config.state_dir);
    let left =
        || std::fs::read_dir(&inbox).unwrap().flatten().map(|e| e.path()).collect::<Vec<_>>();
    until("the inbox to be read", || left().is_empty()).await;

    // The witness goes while the signer serves: a list is in force before anybody has seen the entry.
    witness.abort();
    let waits = |answer: &Result<(), Status>| refused_for(answer, "witness-unavailable");
    scene.sweeps_until(2, "refused when the witness went", waits).await;
    let desk = scene.channel("officers-desk").await;
    let early = push(desk.clone(), &third, sign(&said_by("alice", 3, &third))).await.unwrap_err();
    assert_eq!(said(&early).1, ["witness-unavailable"]);
    let answer = push(desk.clone(), &third, sign(&said_by("bob", 3, &third))).await.unwrap();
    assert!(answer.contains("in force") && answer.contains("checkpoint"), "{answer}");
    let again = push(desk, &third, sign(&said_by("bob", 4, &third))).await.unwrap_err();
    assert_eq!(said(&again).1, ["statement-list"], "it is in force");
    // A word that comes late is kept as a file for as long as no checkpoint covers it.
    let late = inbox.join("late.statement");
    let bytes = sign(&said_by("alice", 5, &third)).to_file();
    std::fs::write(inbox.join("new"), bytes).unwrap();
    std::fs::rename(inbox.join("new"), &late).unwrap();
    // Looked at in the same look, or a later one, by its name after it.
    let nothing = inbox.join("nothing.statement");
    std::fs::write(&nothing, "nothing").unwrap();
    until("the file after it to be looked at", || !nothing.exists()).await;
    assert!(late.exists(), "no checkpoint covers it");
    let witness = scene.witness("w1");
    until("the file to be taken", || !late.exists()).await;
    assert!(!inbox.join("refused").join("late.statement").exists());
    scene.sweeps_until(2, "signed when it was back", Result::is_ok).await;
    // Both lists are in the log, by both officers each.
    let mut reader = LogClient::new(scene.channel("auditor-1").await);
    let note = reader.newest(NewestRequest {}).await.unwrap().into_inner().note;
    let origin = audit::checkpoint::origin(&scene.log_key);
    let size = Checkpoint::open(&note, &origin, &scene.log_key).unwrap().size;
    let (mut from, mut lists, mut words) = (0, Vec::new(), 0);
    while from < size {
        let page = EntriesRequest { from, most: 256 };
        for entry in reader.entries(page).await.unwrap().into_inner().entries {
            from += 1;
            match Entry::decode(&entry).unwrap().event {
                Event::Administered { what, serial, .. } if what == "revocations" => {
                    lists.push(serial);
                }
                Event::OfficerSaid { .. } | Event::OfficerSaidP256 { .. } => words += 1,
                _ => {}
            }
        }
    }
    let digest =
        |list: &String| hex::encode(Sha256::digest(mtls::pushed::one(list.as_bytes()).unwrap()));
    assert_eq!((lists, words), ([second, third].iter().map(digest).collect(), 5));
    scene.end().await;
    witness.abort();
}
