//! The policy in force, in every status: its digest for whoever may ask, and its text, which is the one in the log, for those
//! alone who may read the rules anyway.

use audit::entry::Event;
use proto::officers_client::OfficersClient;
use proto::signer_client::SignerClient;
use proto::{PendingRequest, StatusReply, StatusRequest};
use sha2::{Digest as _, Sha256};
use signer::config::Limits;

use crate::common::Knobs;
use crate::house::House;

async fn status(house: &House, client: &str) -> StatusReply {
    let mut client = SignerClient::new(house.channel(client).await);
    client.status(StatusRequest {}).await.unwrap().into_inner()
}

#[tokio::test]
async fn every_status_shows_the_policy_in_force_and_its_rules_to_those_alone_who_may_read_them() {
    let grants = [("services", ""), ("desk", "officers = true\n"), ("auditor", "log = true\n")];
    let clients = grants.map(|(name, grant)| {
        format!("[[client]]\nname = \"{name}\"\nattest = []\nstatus = true\n{grant}")
    });
    let knobs = Knobs { more: clients.concat(), ..Knobs::default() };
    let mut house = House::closed(&knobs, Limits::default()).await;
    house.open().await;
    let text = house.entries(0).await.into_iter().rev().find_map(|entry| match entry.event {
        Event::PolicyActivated { text, .. } => Some(text),
        _ => None,
    });
    let text = text.unwrap();
    let digest = Sha256::digest(&text).to_vec();
    for (client, reads) in
        [("watcher-1", false), ("services", false), ("desk", true), ("auditor", true)]
    {
        let reply = status(&house, client).await;
        assert_eq!((reply.policy_version, &reply.policy_digest), (2, &digest), "{client}");
        assert_eq!(reply.policy_text, if reads { text.as_str() } else { "" }, "{client}");
    }
    let mut desk = OfficersClient::new(house.channel("desk").await);
    let pending = desk.pending(PendingRequest {}).await.unwrap().into_inner();
    assert_eq!((pending.policy_digest, pending.policy_text), (digest, text));
}
