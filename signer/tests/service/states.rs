//! States of keys: suspended and compromised ones sign and attest nothing, retired ones are swept out, and a restart knows.

use policy::names::WalletName;
use proto::{AddressClaim, AttestRequest, Standing, StatusRequest};
use signer::keys::{KeyError, set_state};
use signer::ledger::KeyState;
use tonic::{Code, Status};

use crate::common::{header, own, psbt};
use crate::house::{House, said, standing};
use crate::sweeping::deposits;

async fn set(house: &House, next: KeyState) -> Result<(), KeyError> {
    let app = house.app();
    let wallet = WalletName::parse("deposits").unwrap();
    set_state(&app.log, &app.rules, &app.kin, &wallet, next, "a test").await
}

async fn sweep(house: &House, key: &str) -> Option<(Code, Vec<String>)> {
    sweep_status(house, key).await.map(|status| said(&status))
}

async fn sweep_status(house: &House, key: &str) -> Option<Status> {
    let coins = deposits(house, 2);
    let outs = [own(&house.descriptors.cold, false, 0, 98_000)];
    let request = header(key, "sweep", "deposits", &psbt(&coins, &outs));
    house.sign(request, &coins).await.err()
}

async fn attest(house: &House, index: u32) -> Option<(Code, Vec<String>)> {
    let claim = AddressClaim { index, customer_reference: "c".into(), expires_unix: 0 };
    let request = AttestRequest { wallet: "deposits".into(), claims: vec![claim] };
    house.client("watcher-1").await.attest(request).await.err().map(|status| said(&status))
}

async fn shown(house: &House) -> String {
    let mut client = house.client("watcher-1").await;
    let status = client.status(StatusRequest {}).await.unwrap().into_inner();
    let mut wallets = status.wallets.into_iter();
    wallets.find(|wallet| wallet.name == "deposits").unwrap().key_state
}

fn no(reason: &str) -> Option<(Code, Vec<String>)> {
    Some((Code::FailedPrecondition, vec![reason.to_owned()]))
}

#[tokio::test]
async fn only_active_keys_are_used_and_retired_ones_are_swept_out() {
    let mut house = House::new().await;
    assert_eq!((sweep(&house, "s1").await, attest(&house, 0).await), (None, None));
    assert_eq!(shown(&house).await, "active");

    set(&house, KeyState::Suspended).await.unwrap();
    // The stored answer of an earlier call stays in the log as well.
    for (key, known) in [("s1", Standing::Signed), ("s2", Standing::NotSigned)] {
        let refused = sweep_status(&house, key).await.unwrap();
        assert_eq!(Some(said(&refused)), no("key-suspended"));
        assert_eq!(standing(&refused), known);
    }
    for index in [0, 1] {
        assert_eq!(attest(&house, index).await, no("key-suspended"));
    }
    house.close().await;
    house.open().await;
    assert_eq!(shown(&house).await, "suspended");
    assert_eq!(sweep(&house, "s2").await, no("key-suspended"));

    set(&house, KeyState::Active).await.unwrap();
    assert_eq!((sweep(&house, "s2").await, attest(&house, 1).await), (None, None));

    set(&house, KeyState::Retired).await.unwrap();
    assert_eq!((sweep(&house, "s3").await, attest(&house, 2).await), (None, no("key-retired")));
    for next in [KeyState::Active, KeyState::Suspended, KeyState::Retired] {
        assert!(matches!(set(&house, next).await, Err(KeyError::Transition { .. })), "{next}");
    }

    set(&house, KeyState::Compromised).await.unwrap();
    assert_eq!(sweep(&house, "s4").await, no("key-compromised"));
    assert_eq!(attest(&house, 3).await, no("key-compromised"));
    for next in KeyState::ALL {
        assert!(matches!(set(&house, next).await, Err(KeyError::Transition { .. })), "{next}");
    }
    assert_eq!(shown(&house).await, "compromised");
}

#[tokio::test]
async fn a_state_has_a_reason_and_a_wallet_with_keys() {
    let house = House::new().await;
    let app = house.app();
    let try_it = async |wallet: &str, reason: &str| {
        let wallet = WalletName::parse(wallet).unwrap();
        set_state(&app.log, &app.rules, &app.kin, &wallet, KeyState::Suspended, reason).await
    };
    for reason in ["", "  ", "two\nlines", &"x".repeat(201)] {
        assert!(matches!(try_it("deposits", reason).await, Err(KeyError::Reason)), "{reason:?}");
    }
    for wallet in ["cold", "nobody"] {
        assert!(matches!(try_it(wallet, "why").await, Err(KeyError::NoKeys(_))), "{wallet}");
    }
    assert_eq!(shown(&house).await, "active");
}
