//! A policy that is proposed is shown, and stopped by one signed word: over the wire, by a file, and also while the signer serves
//! nothing but a reason.

use std::fs;
use std::time::Duration;

use audit::entry::Event;
use ed25519_dalek::Signer as _;
use policy::evidence::FreezeScope;
use policy::names::KeyName;
use policy::sign_message;
use proto::officers_client::OfficersClient;
use proto::{Notification, NotificationsRequest, PendingRequest, ProposedPolicy, SubmitRequest};
use sha2::{Digest as _, Sha256};
use statement::{Says, Signed, Statement};
use tonic::Status;

use crate::common::policy_signatures;
use crate::governing::{by, governed, key, later, settle, version, write};
use crate::house::{House, said, until};

/// Of the board, cyd has no veto.
fn text(house: &House, version: u64, fee_budget: u64) -> String {
    governed(house, version, fee_budget).replacen("veto = \"board\"", "veto = \"watch\"", 1)
        + "[[group]]\nname = \"watch\"\nmembers = [\"ada\", \"eve\"]\n\
           [[client]]\nname = \"officers-desk\"\nattest = []\nstatus = false\nofficers = true\n"
}

/// A signer under a governed policy, closed, in whose policy file another one waits to be proposed; and the SHA-256 of that.
async fn proposed() -> (House, [u8; 32]) {
    proposed_as(|looser| looser).await
}

async fn proposed_as(change: impl FnOnce(String) -> String) -> (House, [u8; 32]) {
    let mut house = House::new().await;
    house.close().await;
    let first = text(&house, 2, 50_000);
    write(&house, &first, &policy_signatures(&first));
    assert_eq!(version(&mut house, 0).await, 2);
    let looser = change(text(&house, 3, 60_000));
    write(&house, &looser, &by(&sign_message(&looser), &["cyd", "ada"]));
    (house, Sha256::digest(&looser).into())
}

fn statement(house: &House, officer: &str, nonce: u8, says: Says) -> Statement {
    Statement {
        says,
        log: house.descriptors.log.clone().unwrap(),
        network: asset::Network::Regtest.chain_id().to_string(),
        officer: KeyName::parse(officer).unwrap(),
        expires_unix: later(100).unix_seconds(),
        nonce: [nonce; 16],
    }
}

fn sign(statement: &Statement) -> Signed {
    let bytes = statement.encode();
    let signature = key(statement.officer.as_str()).sign(&bytes).to_bytes();
    Signed { signature, statement: bytes }
}

async fn submit(house: &House, statement: &Statement) -> Result<String, Status> {
    let mut client = OfficersClient::new(house.channel("officers-desk").await);
    let Signed { statement, signature } = sign(statement);
    let request = SubmitRequest { statement, signature: signature.to_vec() };
    Ok(client.submit(request).await?.into_inner().said)
}

async fn refused(house: &House, statement: &Statement, code: &str) {
    let status = submit(house, statement).await.unwrap_err();
    assert_eq!(said(&status).1, [code], "{statement:?}");
}

async fn pending(house: &House) -> Option<ProposedPolicy> {
    let mut client = OfficersClient::new(house.channel("officers-desk").await);
    client.pending(PendingRequest {}).await.unwrap().into_inner().proposed
}

/// One signed veto is in the log, and what it did right after it.
async fn is_logged(house: &House, policy: [u8; 32], by: &str) {
    let entries = house.entries(0).await;
    let found: Vec<usize> = (0..entries.len())
        .filter(|at| matches!(entries[*at].event, Event::PolicyVetoed { .. }))
        .collect();
    let [at] = found[..] else { panic!("{found:?}") };
    assert!(matches!(&entries[at].event, Event::PolicyVetoed { digest, officers }
        if *digest == policy && *officers == [by]));
    let Event::OfficerSaid { statement, .. } = &entries[at - 1].event else { panic!("{at}") };
    assert_eq!(Statement::parse(statement).unwrap().says, Says::VetoPolicy(policy));
}

#[tokio::test]
async fn a_proposed_policy_is_shown_and_vetoed_over_the_wire_at_once_and_for_good() {
    let (mut house, policy) = proposed().await;
    house.open().await;
    let shown = pending(&house).await.unwrap();
    assert_eq!((shown.digest.as_slice(), shown.version), (policy.as_slice(), 3));
    assert_eq!((shown.kind.as_str(), shown.vetoed), ("change", false));
    assert_eq!(shown.officers, ["ada", "cyd"]);
    assert_eq!(Some(shown.due_unix), house.app().next_policy_due_unix());
    let mut client = OfficersClient::new(house.channel("officers-desk").await);
    let mut heard =
        client.notifications(NotificationsRequest::default()).await.unwrap().into_inner();
    let notice = heard.message().await.unwrap().unwrap();
    assert_eq!((notice.kind.as_str(), notice.reasons[0].code.as_str()), ("proposed", "change"));
    assert!(notice.reasons[0].text.contains(&hex::encode(policy)), "{notice:?}");

    let veto = |officer, nonce| statement(&house, officer, nonce, Says::VetoPolicy(policy));
    refused(&house, &veto("cyd", 1), "statement-officer").await;
    refused(&house, &statement(&house, "ada", 2, Says::VetoPolicy([9; 32])), "statement-nothing")
        .await;
    let elsewhere = Statement { log: "cofferdam/other".into(), ..veto("ada", 3) };
    refused(&house, &elsewhere, "statement-elsewhere").await;
    let ended = Statement { expires_unix: 1_700_000_000, ..veto("ada", 4) };
    refused(&house, &ended, "statement-expired").await;
    let answer = submit(&house, &veto("eve", 5)).await.unwrap();
    assert!(answer.contains("never come into force"), "{answer}");

    // Without a restart, and no restart any more.
    assert!(pending(&house).await.unwrap().vetoed);
    assert_eq!(house.app().next_policy_due_unix(), None);
    let notice = heard.message().await.unwrap().unwrap();
    assert_eq!((notice.kind.as_str(), notice.reasons[0].code.as_str()), ("said", "veto-policy"));
    refused(&house, &veto("ada", 6), "statement-used").await;
    is_logged(&house, policy, "eve").await;
    drop((heard, client));
    house.close().await;
    assert_eq!(version(&mut house, 60).await, 2, "when it would be due");
}

/// The next that is heard; somebody who would hear nothing does not wait for ever.
async fn next(heard: &mut tonic::Streaming<Notification>) -> Notification {
    let next = tokio::time::timeout(Duration::from_secs(60), heard.message());
    next.await.expect("nothing is heard").unwrap().unwrap()
}

/// Begins to listen, and returns that with what it hears first.
async fn listen(house: &House) -> (tonic::Streaming<Notification>, Notification) {
    let mut client = OfficersClient::new(house.channel("officers-desk").await);
    let heard = client.notifications(NotificationsRequest::default()).await.unwrap();
    let mut heard = heard.into_inner();
    let first = next(&mut heard).await;
    (heard, first)
}

#[tokio::test]
async fn whoever_listens_later_is_told_what_is_still_proposed_and_never_what_is_over() {
    let (mut house, policy) = proposed().await;
    house.open().await;
    let shown = pending(&house).await.unwrap();
    let tells = |first: &Notification, digest: &[u8]| {
        let text = &first.reasons[0].text;
        assert_eq!((first.kind.as_str(), first.reasons[0].code.as_str()), ("proposed", "change"));
        assert!(text.contains(&hex::encode(digest)) && text.contains("version 3"), "{first:?}");
        assert!(text.contains("ada, cyd") && text.contains(&shown.due_unix.to_string()), "{text}");
    };
    // One that was there, is gone, and comes back; one beside it; and everybody after a restart.
    let (gone, first) = listen(&house).await;
    tells(&first, &policy);
    drop(gone);
    let (_back, first) = listen(&house).await;
    tells(&first, &policy);
    let (_beside, first) = listen(&house).await;
    tells(&first, &policy);
    house.close().await;
    house.open().await;
    let (mut there, first) = listen(&house).await;
    tells(&first, &policy);
    // Vetoed, it is told to nobody who comes: what such a one hears first is what happens then.
    submit(&house, &statement(&house, "eve", 1, Says::VetoPolicy(policy))).await.unwrap();
    let said = next(&mut there).await;
    assert_eq!((said.kind.as_str(), said.reasons[0].code.as_str()), ("said", "veto-policy"));
    let mut client = OfficersClient::new(house.channel("officers-desk").await);
    let mut late =
        client.notifications(NotificationsRequest::default()).await.unwrap().into_inner();
    submit(&house, &statement(&house, "ada", 2, Says::Freeze(FreezeScope::Everything)))
        .await
        .unwrap();
    let first = next(&mut late).await;
    assert_eq!(first.kind, "frozen", "{first:?}");
}

/// Time is believed, and the delay is over: the next start brings the policy in.
async fn due(house: &mut House) {
    house.open_at(later(60)).await;
    assert!(settle(house).await);
    house.close().await;
}

#[tokio::test]
async fn a_veto_that_lies_in_the_inbox_comes_before_a_policy_that_is_due() {
    let (mut house, policy) = proposed().await;
    assert_eq!(version(&mut house, 0).await, 2);
    due(&mut house).await;
    let inbox = signer::officers::inbox::folder(&house.config.state_dir);
    let drop_in = |name: &str, statement: &Statement| {
        fs::write(inbox.join(name), sign(statement).to_file()).unwrap();
    };
    // By nobody who may, and over another text: those stop nothing, and are set aside by whoever looks next.
    drop_in("a.statement", &statement(&house, "cyd", 1, Says::VetoPolicy(policy)));
    drop_in("b.statement", &statement(&house, "eve", 2, Says::VetoPolicy([9; 32])));
    drop_in("c.statement", &statement(&house, "ada", 3, Says::VetoPolicy(policy)));
    house.open_at(later(60)).await;
    assert_eq!(house.app().rules.version(), 2);
    assert!(!inbox.join("c.statement").exists());
    is_logged(&house, policy, "ada").await;
    house.close().await;
}

#[tokio::test]
async fn a_veto_is_kept_while_no_log_is_open_and_comes_before_a_policy_that_is_due() {
    let (mut house, policy) = proposed().await;
    assert_eq!(version(&mut house, 0).await, 2);
    due(&mut house).await;
    house.config.database = Some("sqlite:/nowhere/at/all/log.sqlite".to_owned());
    house.open().await;
    assert!(house.running().app().is_none());
    let veto = |officer, nonce| statement(&house, officer, nonce, Says::VetoPolicy(policy));
    // Whatever else officers say waits for the log, and so does everybody else.
    let lift = statement(&house, "ada", 1, Says::Unfreeze([7; 32]));
    refused(&house, &lift, "log-unavailable").await;
    refused(&house, &veto("cyd", 2), "statement-officer").await;
    let elsewhere = Statement { log: "cofferdam/other".into(), ..veto("ada", 3) };
    refused(&house, &elsewhere, "statement-elsewhere").await;
    // Nobody's word is crowded out, neither by one officer's many nor by whatever lies in the folder.
    for number in 0..9 {
        let other = statement(&house, "eve", 10 + number, Says::VetoPolicy([number; 32]));
        match submit(&house, &other).await {
            Ok(_) => assert!(number < 8, "{number}"),
            Err(status) => assert_eq!((number, said(&status).1), (8, vec!["busy".to_owned()])),
        }
    }
    crowd(&house);
    let long = veto("ada", 4);
    let answer = submit(&house, &long).await.unwrap();
    assert!(answer.starts_with("kept: "), "{answer}");
    // One that ends sooner, sent again by whoever has it, takes no other's place.
    let short = Statement { expires_unix: long.expires_unix - 3_600, ..veto("ada", 5) };
    let answer = submit(&house, &short).await.unwrap();
    assert!(answer.contains(&format!("by {} (Unix", long.expires_unix)), "{answer}");
    let kept = format!("veto-ada-{}.statement", hex::encode(policy));
    let kept = signer::officers::inbox::folder(&house.config.state_dir).join(kept);
    assert_eq!(fs::read(kept).unwrap(), sign(&long).to_file());
    stays_in_force(&mut house, policy).await;
}

#[tokio::test]
async fn a_desk_that_the_proposed_policy_drops_still_brings_a_veto_while_no_log_is_open() {
    let dropped = |looser: String| looser.replace("\"officers-desk\"", "\"another-desk\"");
    let (mut house, policy) = proposed_as(dropped).await;
    assert_eq!(version(&mut house, 0).await, 2);
    due(&mut house).await;
    house.config.database = Some("sqlite:/nowhere/at/all/log.sqlite".to_owned());
    house.open().await;
    let veto = statement(&house, "ada", 1, Says::VetoPolicy(policy));
    let answer = submit(&house, &veto).await.unwrap();
    assert!(answer.starts_with("kept: "), "{answer}");
    stays_in_force(&mut house, policy).await;
}

/// With its log again, and when the proposed policy would be due: ada's veto comes first.
async fn stays_in_force(house: &mut House, vetoed: [u8; 32]) {
    house.close().await;
    house.config.database = None;
    house.open_at(later(60)).await;
    assert_eq!(house.app().rules.version(), 2);
    is_logged(house, vetoed, "ada").await;
    house.close().await;
}

/// More files than are read at once, before all others by their names.
fn crowd(house: &House) {
    let inbox = signer::officers::inbox::folder(&house.config.state_dir);
    for number in 0..70 {
        fs::write(inbox.join(format!("a{number:02}.statement")), "no statement").unwrap();
    }
}

#[tokio::test]
async fn a_policy_that_is_due_waits_while_nobody_can_tell_whether_a_veto_lies_in_the_inbox() {
    let (mut house, _) = proposed().await;
    assert_eq!(version(&mut house, 0).await, 2);
    due(&mut house).await;
    crowd(&house);
    house.open_at(later(60)).await;
    assert_eq!(house.app().rules.version(), 2);
    // A signer that serves sets aside what is no statement.
    let inbox = signer::officers::inbox::folder(&house.config.state_dir);
    let left = || fs::read_dir(&inbox).unwrap().flatten().filter(|file| file.path().is_file());
    until("few enough", || left().count() < 60).await;
    house.close().await;
    assert_eq!(version(&mut house, 60).await, 3);
}

/// The words that were kept cannot be read: no veto is taken then, and everything else goes on.
#[tokio::test]
async fn a_signer_refuses_and_starts_also_when_the_kept_policy_cannot_be_read() {
    let (mut house, policy) = proposed().await;
    assert_eq!(version(&mut house, 0).await, 2);
    let kept = house.config.state_dir.join("policy-in-force.toml");
    fs::write(&kept, "this is no policy").unwrap();
    house.config.database = Some("sqlite:/nowhere/at/all/log.sqlite".to_owned());
    house.open().await;
    let veto = statement(&house, "ada", 1, Says::VetoPolicy(policy));
    refused(&house, &veto, "log-unavailable").await;
    house.close().await;
    house.config.database = None;
    assert_eq!(version(&mut house, 0).await, 2);
}
