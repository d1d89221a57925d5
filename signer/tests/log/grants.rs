//! Permits: only from a decision, only after its spend is durable and under a checkpoint.

#[path = "../../../policy/tests/common/mod.rs"]
mod policy_case;

use audit::entry::{Admitted, Event, Spend};
use policy::{Authorization, Decision};
use signer::log::{LogError, Step};

use crate::support::{Database, Token, Toy};
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

/// The token signs no checkpoint: no permit, and the reservation stays until a restart shows that nothing rests on it.
pub(crate) async fn no_checkpoint_no_permit(db: Database) {
    db.filled(1).await;
    let grant = authorization();
    let (request, digest) = (grant.granted().request, grant.granted().digest);
    let step = |grant| Step {
        events: vec![admitted(request.0, digest), spend(request.0)],
        grant: Some(grant),
        out: (),
    };
    let log = db.open_with(1, Token::Silent).await.unwrap();
    let refused = log.commit(|_| step(grant)).await;
    assert!(matches!(refused, Err(LogError::Uncovered(_))), "{refused:?}");
    let again = Step { events: vec![], grant: Some(authorization()), out: () };
    let refused = log.commit(|_| again).await;
    assert!(matches!(refused, Err(LogError::Uncovered(_))), "{refused:?}");
    drop(log);
    let log = db.open_with(1, Token::Honest).await.unwrap();
    assert_eq!(log.opening().set_aside, 2);
    assert!(!log.read(|state: &Toy| signer::log::Fold::spend_recorded(state, request, &digest)));

    db.becomes(Token::Silent);
    log.commit(|_| step(authorization())).await.unwrap_err();
    db.becomes(Token::Honest);
    // A retry after the token came back finds the reservation, now covered.
    let again = Step { events: vec![], grant: Some(authorization()), out: () };
    let (permit, ()) = match log.commit(|_| again).await {
        Err(LogError::Uncovered(_)) => {
            let again = Step { events: vec![], grant: Some(authorization()), out: () };
            log.commit(|_| again).await.unwrap()
        }
        other => other.unwrap(),
    };
    assert_eq!(permit.unwrap().request(), request);
    assert_eq!(log.status().checkpointed, log.status().head.size);
    log.close().await.unwrap();
}
