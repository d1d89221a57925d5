//! What officers can stop while the signer serves nothing but a reason: a freeze is kept, and holds before anybody is served.

use std::fs;

use policy::evidence::FreezeScope;
use policy::intent::SlotId;
use policy::names::LaneName;
use prost::Message as _;
use statement::{Says, Statement};

use crate::approving::{Desk, clock};
use crate::house::said;

const NOWHERE: &str = "sqlite:/nowhere/at/all/log.sqlite";

async fn begin(desk: &mut Desk, database: Option<&str>) {
    desk.house.close().await;
    desk.house.config.database = database.map(str::to_owned);
    desk.house.open_at(clock(&desk.now)).await;
}

#[tokio::test]
async fn a_freeze_is_kept_while_no_log_is_open_and_holds_before_anybody_is_served() {
    let mut desk = Desk::new("").await;
    let payout = desk.payout(1);
    let freeze = |officer, scope| desk.statement(officer, Says::Freeze(scope));
    let everything = freeze("dan", FreezeScope::Everything);
    let elsewhere = Statement { log: "cofferdam/other".into(), ..everything.clone() };
    let ended = Statement { expires_unix: 1_700_000_000, ..everything.clone() };
    let unknown = freeze("dan", FreezeScope::Lane(LaneName::parse("nowhere").unwrap()));
    let lift = desk.statement("alice", Says::Unfreeze(everything.digest()));
    let coin = |number| freeze("dan", FreezeScope::Slot(SlotId([number; 36])));
    let coins: Vec<Statement> = (0..65).map(coin).collect();
    begin(&mut desk, Some(NOWHERE)).await;
    assert!(desk.house.running().app().is_none());
    desk.refused(&elsewhere, "statement-elsewhere").await;
    desk.refused(&ended, "statement-expired").await;
    desk.refused(&unknown, "statement-nothing").await;
    desk.refused(&lift, "log-unavailable").await;
    let mut forged = crate::approving::sign(&everything);
    forged.signature[9] ^= 1;
    let status = desk.submit_signed(forged).await.unwrap_err();
    assert_eq!(said(&status).1, ["statement-signature"]);
    // What stops all of it has its place, whatever else one officer froze, and however much lies in the folder.
    for (number, coin) in coins.iter().enumerate() {
        match desk.submit(coin).await {
            Ok(_) => assert!(number < 64, "{number}"),
            Err(status) => assert_eq!((number, said(&status).1), (64, vec!["busy".to_owned()])),
        }
    }
    let inbox = signer::officers::inbox::folder(&desk.house.config.state_dir);
    for number in 0..70 {
        for name in ["a", "freeze-a"] {
            fs::write(inbox.join(format!("{name}{number:02}.statement")), "no statement").unwrap();
        }
    }
    for _ in 0..2 {
        let answer = desk.submit(&everything).await.unwrap();
        assert!(answer.starts_with("kept: everything is frozen when"), "{answer}");
    }
    begin(&mut desk, None).await;
    let frozen = |ledger: &signer::ledger::Ledger| {
        let freezes = ledger.people().freezes().map(|(_, frozen)| frozen.scope.clone());
        freezes.collect::<Vec<_>>()
    };
    let frozen = desk.house.app().log.read(frozen);
    assert!(frozen.len() == 65 && frozen.contains(&FreezeScope::Everything), "{frozen:?}");
    desk.denied(&payout, &["frozen"]).await;
}

/// Without a log nobody can tell which of two counted before.
#[tokio::test]
async fn a_freeze_that_counted_and_was_lifted_neither_keeps_another_out_nor_takes_its_place() {
    let mut desk = Desk::new("").await;
    let payout = desk.payout(1);
    let everything = |desk: &Desk| desk.statement("dan", Says::Freeze(FreezeScope::Everything));
    let mut lasting = everything(&desk);
    lasting.expires_unix += 30 * 86_400;
    desk.submit(&lasting).await.unwrap();
    let mut frozen = lasting.clone();
    for is_first in [true, false] {
        for officer in ["alice", "carol"] {
            desk.say(officer, Says::Unfreeze(frozen.digest())).await.unwrap();
        }
        frozen = everything(&desk);
        begin(&mut desk, Some(NOWHERE)).await;
        let (first, last) = if is_first { (&lasting, &frozen) } else { (&frozen, &lasting) };
        for freeze in [first, last, first] {
            let answer = desk.submit(freeze).await.unwrap();
            assert!(answer.contains(&format!(" {} ", freeze.expires_unix)), "{answer}");
        }
        begin(&mut desk, None).await;
        let by = |ledger: &signer::ledger::Ledger| {
            ledger.people().freezes().map(|(statement, _)| *statement).collect::<Vec<_>>()
        };
        assert_eq!(desk.house.app().log.read(by), [frozen.digest()], "{is_first}");
        desk.denied(&payout, &["frozen"]).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn one_freeze_sent_many_times_at_once_is_one_file() {
    let mut desk = Desk::new("").await;
    let everything = desk.statement("dan", Says::Freeze(FreezeScope::Everything));
    begin(&mut desk, Some(NOWHERE)).await;
    let client = desk.client().await;
    let mut sent = tokio::task::JoinSet::new();
    for _ in 0..64 {
        let signed = crate::approving::sign(&everything);
        let (statement, signature) = (signed.statement, signed.signature.to_vec());
        let mut client = client.clone();
        sent.spawn(async move {
            client.submit(proto::SubmitRequest { statement, signature }).await.map(drop)
        });
    }
    for answer in sent.join_all().await {
        answer.unwrap();
    }
    let inbox = signer::officers::inbox::folder(&desk.house.config.state_dir);
    assert_eq!(fs::read_dir(inbox).unwrap().count(), 1);
}

#[tokio::test]
async fn a_freeze_that_cannot_be_kept_is_told_the_way_of_the_inbox() {
    let mut desk = Desk::new("").await;
    let everything = desk.statement("dan", Says::Freeze(FreezeScope::Everything));
    fs::remove_file(desk.house.config.state_dir.join("policy-in-force.toml")).unwrap();
    begin(&mut desk, Some(NOWHERE)).await;
    let status = desk.submit(&everything).await.unwrap_err();
    assert_eq!(said(&status).1, ["log-unavailable"]);
    let refusal = proto::Refusal::decode(status.details()).unwrap();
    let (text, inbox) = (&refusal.reasons[0].text, desk.house.config.state_dir.join("inbox"));
    assert!(text.contains("--offline") && text.contains(inbox.to_str().unwrap()), "{text}");
}
