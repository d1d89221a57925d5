//! Attestations: checked as a front end checks them, answered again, never given twice.

use audit::attestation::verify_address;
use proto::{AddressClaim, AttestReply, AttestRequest};
use tonic::{Code, Status};

use crate::common::{address, child};
use crate::house::{EXTERNAL, House, said};

async fn attest(
    house: &House,
    name: &str,
    wallet: &str,
    claims: &[(u32, &str)],
) -> Result<AttestReply, Status> {
    let claims = claims.iter().map(|(index, reference)| AddressClaim {
        index: *index,
        customer_reference: (*reference).to_owned(),
        expires_unix: 0,
    });
    let request = AttestRequest { wallet: wallet.to_owned(), claims: claims.collect() };
    house.client(name).await.attest(request).await.map(tonic::Response::into_inner)
}

fn check(house: &House, reply: &AttestReply, claims: &[(u32, &str)]) {
    let key = house.app().token.keys().attestation;
    assert_eq!(reply.attestations.len(), claims.len());
    for (attestation, (index, reference)) in reply.attestations.iter().zip(claims) {
        let leaf = verify_address(
            &attestation.leaf,
            attestation.position,
            attestation.tree_size,
            &attestation.path,
            &attestation.root,
            &attestation.signature,
            &key,
        )
        .unwrap();
        let expected = address(&child(&house.descriptors.deposits, false, *index).1);
        assert_eq!((leaf.index, leaf.reference.as_str()), (*index, *reference));
        assert_eq!((&leaf.address, &attestation.address), (&expected, &expected));
        assert_eq!(attestation.tier, "token-hd");
    }
}

#[tokio::test]
async fn a_batch_is_attested_and_answered_again() {
    let mut house = House::new().await;
    let claims = [(0, "alice"), (1, "bob"), (5, "carol")];
    let first = attest(&house, "watcher-1", "deposits", &claims).await.unwrap();
    check(&house, &first, &claims);
    house.close().await;
    house.open().await;
    let before = house.log_size();
    let again = attest(&house, "watcher-1", "deposits", &claims).await.unwrap();
    assert_eq!(again, first);
    assert_eq!(house.log_size(), before, "nothing new is written");
    // Old and new together: the old ones keep their batch.
    let mixed = [(1, "bob"), (7, "dora")];
    let reply = attest(&house, "watcher-1", "deposits", &mixed).await.unwrap();
    check(&house, &reply, &mixed);
    assert_eq!(reply.attestations[0].root, first.root);
    assert_eq!(reply.attestations[1].root, reply.root);
}

#[tokio::test]
async fn an_address_is_never_given_twice() {
    let house = House::new().await;
    attest(&house, "watcher-1", "deposits", &[(3, "alice")]).await.unwrap();
    let status =
        attest(&house, "watcher-1", "deposits", &[(4, "bob"), (3, "bob")]).await.unwrap_err();
    let (code, reasons) = said(&status);
    assert_eq!((code, reasons[0].as_str()), (Code::AlreadyExists, "address-already-attested"));
    assert_eq!(house.last_reasons().await, ["address-already-attested"]);
    // All or none: index 4 is still free.
    attest(&house, "watcher-1", "deposits", &[(4, "dora")]).await.unwrap();
    // An index of another wallet is another address.
    attest(&house, "watcher-1", "hot", &[(3, "bob")]).await.unwrap();
}

#[tokio::test]
async fn what_may_not_be_attested_is_refused() {
    let house = House::new().await;
    let long = "x".repeat(129);
    let many: Vec<(u32, &str)> = (0..1001).map(|index| (index, "")).collect();
    type Vector<'a> = (&'a str, &'a str, Vec<(u32, &'a str)>, Code, &'a str);
    let vectors: Vec<Vector<'_>> = vec![
        (
            "watcher-1",
            "deposits",
            vec![(EXTERNAL, "a")],
            Code::FailedPrecondition,
            "index-not-proven",
        ),
        ("watcher-1", "deposits", vec![(u32::MAX, "a")], Code::InvalidArgument, "bad-claim"),
        ("watcher-1", "deposits", vec![(1, "a"), (1, "a")], Code::InvalidArgument, "bad-claim"),
        ("watcher-1", "deposits", vec![(1, &long)], Code::InvalidArgument, "bad-claim"),
        ("watcher-1", "deposits", vec![(1, "a\u{202e}b")], Code::InvalidArgument, "bad-claim"),
        ("watcher-1", "deposits", vec![], Code::InvalidArgument, "bad-claim"),
        ("watcher-1", "deposits", many, Code::ResourceExhausted, "oversize"),
        ("watcher-1", "savings", vec![(1, "a")], Code::NotFound, "unknown-wallet"),
        ("watcher-1", "cold", vec![(1, "a")], Code::PermissionDenied, "attest-not-granted"),
        ("payout-desk", "deposits", vec![(1, "a")], Code::PermissionDenied, "attest-not-granted"),
        ("nobody", "deposits", vec![(1, "a")], Code::PermissionDenied, "unknown-client"),
    ];
    for (name, wallet, claims, code, reason) in vectors {
        let status = attest(&house, name, wallet, &claims).await.unwrap_err();
        let (found, reasons) = said(&status);
        assert_eq!((found, reasons[0].as_str()), (code, reason), "{name} {wallet} {claims:?}");
        assert_eq!(house.last_reasons().await, [reason]);
    }
}

/// What was attested before in several batches is answered with each batch's own tree, in the order asked for.
#[tokio::test]
async fn claims_of_several_batches_are_answered_together() {
    let house = House::new().await;
    let names: Vec<String> = (0..12).map(|index| format!("customer {index}")).collect();
    let claims: Vec<(u32, &str)> = (0..).zip(names.iter().map(String::as_str)).collect();
    for batch in claims.chunks(5) {
        attest(&house, "watcher-1", "deposits", batch).await.unwrap();
    }
    let mut mixed = claims;
    mixed.reverse();
    let reply = attest(&house, "watcher-1", "deposits", &mixed).await.unwrap();
    check(&house, &reply, &mixed);
    assert_eq!(reply.root, reply.attestations[0].root, "the newest batch");
}

/// A batch that only the log claims, with an address that is not ours: its root is never signed.
#[tokio::test]
async fn a_root_over_what_was_not_derived_here_is_not_signed() {
    use audit::attestation::Leaf;
    use audit::entry::{Attested, Claim, Event};
    let house = House::new().await;
    let app = house.app();
    let claim = Claim {
        index: 2,
        address: address(&crate::common::stranger(1)),
        reference: "mallory".to_owned(),
        expires_unix: 0,
    };
    let leaf = Leaf {
        network: app.rules.network().chain_id().to_string(),
        wallet: "deposits".to_owned(),
        index: claim.index,
        address: claim.address.clone(),
        reference: claim.reference.clone(),
        expires_unix: 0,
    };
    let root = audit::tree::Tree::build(vec![leaf.hash().unwrap()]).root();
    let attested = Attested {
        wallet: "deposits".to_owned(),
        caller: "watcher-1".to_owned(),
        root,
        claims: vec![claim],
    };
    app.log
        .commit(|_| signer::log::Step::write(vec![Event::Attested(attested)], ()))
        .await
        .unwrap();
    let size = house.log_size();
    let status = attest(&house, "watcher-1", "deposits", &[(2, "mallory")]).await.unwrap_err();
    assert_eq!(said(&status), (Code::Internal, vec!["internal".to_owned()]));
    let signed = |event: &Event| matches!(event, Event::AttestationSigned { .. });
    assert!(house.entries(size).await.iter().all(|entry| !signed(&entry.event)));
    assert!(app.log.read(|ledger| ledger.attested().by_root(&root).unwrap().signature.is_none()));
}

#[tokio::test]
async fn an_index_far_ahead_of_the_attested_ones_is_refused() {
    let house = House::new().await;
    let reason = async |index: u32| {
        let status = attest(&house, "watcher-1", "deposits", &[(index, "a")]).await.unwrap_err();
        assert_eq!(status.code(), Code::FailedPrecondition);
        said(&status).1
    };
    assert_eq!(reason(9_999).await, ["index-not-proven"]);
    assert_eq!(reason(10_000).await, ["attest-window"]);
    assert_eq!(house.last_reasons().await, ["attest-window"]);
    // Each attested one moves the window by one.
    attest(&house, "watcher-1", "deposits", &[(0, "a")]).await.unwrap();
    assert_eq!(reason(10_000).await, ["index-not-proven"]);
    assert_eq!(reason(10_001).await, ["attest-window"]);
}
