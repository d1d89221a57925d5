//! Revocation lists that officers hand in while the signer runs: by enough of them, signed by the authority, and newer; also
//! when the one in force is expired and nobody else is served.

use audit::entry::Event;
use proto::officers_client::OfficersClient;
use proto::signer_client::SignerClient;
use proto::{PushRevocationsRequest, StatusRequest, SubmitRequest};
use sha2::{Digest as _, Sha256};
use signer::ledger::Ledger;
use statement::{Deed, NO_TOKEN, Says, Signed, Statement, Task};
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::approving::{Desk, people, sign};
use crate::common::Knobs;
use crate::house::{House, said, until};
use crate::pki::Authority;

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
    let mut desk = Desk::listed(&people(""), 86_400).await;
    let good = desk.house.channel_numbered("watcher-1", 1).await.unwrap();
    let bad = desk.house.channel_numbered("watcher-1", 2).await.unwrap();
    status(&good).await.unwrap();
    status(&bad).await.unwrap();
    let ours = desk.house.authority();
    let list = ours.list(2, &[2], 60, 86_400);
    let answer = desk.push(&list, &desk.word("alice", &list)).await.unwrap();
    assert!(answer.contains("in force"), "{answer}");
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
    desk.refused_list(&second, &good, "statement-used").await;
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
    // An officer's freeze counts all the same.
    let freeze = desk.statement("dan", Says::Freeze(policy::evidence::FreezeScope::Everything));
    let Signed { statement, signature } = sign(&freeze);
    let mut client = desk.client().await;
    client.submit(SubmitRequest { statement, signature: signature.to_vec() }).await.unwrap();
    let app = desk.house.app();
    until("the freeze to hold", || app.log.read(|l| l.people().freezes().count()) == 1).await;
    let list = desk.house.authority().list(2, &[2], 60, 86_400);
    desk.push(&list, &desk.word("alice", &list)).await.unwrap();
    status(&watcher).await.unwrap();
}
