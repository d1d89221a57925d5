//! Permits: only from a decision, only after its spend is durable.

#[path = "../../../policy/tests/common/mod.rs"]
mod policy_case;

use audit::entry::{Admitted, Event, Spend};
use policy::{Authorization, Decision};
use signer::log::{LogError, Step};

use crate::support::Database;
use policy_case::{Case, Knobs};

fn authorization() -> Authorization {
    match Case::sweep(&Knobs::default()).decide() {
        Decision::Allow(authorization) => authorization,
        other => panic!("{other:?}"),
    }
}

fn admitted(request: [u8; 16], digest: [u8; 32]) -> Event {
    let text = String::new;
    let (caller, key, lane, wallet) = (text(), text(), text(), text());
    Event::Admitted(Admitted { request, caller, key, lane, wallet, digest })
}

fn spend(request: [u8; 16]) -> Event {
    Event::Spend(Spend {
        request,
        policy: 1,
        lane: "sweep".to_owned(),
        wallet: "deposits".to_owned(),
        caller: "watcher-1".to_owned(),
        fee: 1,
        external: 0,
        slots: vec![],
        orders: vec![],
        change_index: None,
        cold_index: None,
        transaction: vec![],
        trace: vec![],
    })
}

pub(crate) async fn a_permit_follows_a_durable_spend(db: Database) {
    db.begin().await.unwrap();
    let log = db.open().await.unwrap();
    let grant = authorization();
    let (request, digest) = (grant.granted().request, grant.granted().digest);
    let events = vec![admitted(request.0, digest), spend(request.0)];
    let step = Step { events, grant: Some(grant), out: () };
    let (permit, ()) = log.commit(|_| step).await.unwrap();
    let permit = permit.unwrap();
    assert_eq!((permit.request(), *permit.digest()), (request, digest));
    assert_eq!(log.status().head.size, 3, "durable before the permit exists");
    // A retry of the same request: its spend is in the log already.
    let step = Step { events: vec![], grant: Some(authorization()), out: () };
    assert!(log.commit(|_| step).await.unwrap().0.is_some());
    log.close().await.unwrap();
}

pub(crate) async fn no_spend_no_permit(db: Database) {
    db.begin().await.unwrap();
    let log = db.open().await.unwrap();
    let request = authorization().granted().request;
    for events in [
        vec![],
        vec![admitted(request.0, [6; 32])],
        vec![spend([9; 16])],
        vec![admitted(request.0, [0; 32]), spend(request.0)],
    ] {
        let step = Step { events, grant: Some(authorization()), out: () };
        let refused = log.commit(|_| step).await;
        assert!(matches!(refused, Err(LogError::SpendMissing(r)) if r == request), "{refused:?}");
    }
    log.close().await.unwrap();
}
