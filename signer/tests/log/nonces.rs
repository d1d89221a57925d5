//! The nonce index across restarts: what was released before is known again from the log alone, in both databases.

#[path = "../common/nonces.rs"]
mod made;

use made::{released, transaction};
use signer::ledger::Ledger;
use signer::ledger::nonces::Points;
use signer::log::{Log, Step, Store};

use crate::support::{Database, Token};

async fn open(db: &Database) -> Log<Ledger> {
    let store = Store::open(&db.url).await.unwrap();
    Log::open(store, Ledger::new(), db.settings(1, Token::Honest)).await.unwrap()
}

pub(crate) async fn a_nonce_used_before_a_restart_is_refused_after_it(db: Database) {
    db.begin().await.unwrap();
    let (first, second) = (transaction(&[(1, 7, 1, false)]), transaction(&[(2, 8, 1, false)]));
    for (request, transaction) in [(1, &first), (2, &second)] {
        let log = open(&db).await;
        // As the service does it: asked and written in one step.
        let step = |ledger: &Ledger| {
            assert!(!ledger.nonces().reuses(&Points::of(transaction)), "fresh");
            Step::write(released(request, transaction).to_vec(), ())
        };
        log.commit(step).await.unwrap();
        log.close().await.unwrap();
    }
    let log = open(&db).await;
    let reuses =
        |inputs: &[_]| log.read(|ledger| ledger.nonces().reuses(&Points::of(&transaction(inputs))));
    assert!(reuses(&[(3, 7, 1, false)]), "the first run's nonce over another coin");
    assert!(reuses(&[(3, 8, 2, false)]), "the second run's, by another key");
    assert!(reuses(&[(3, 9, 1, false), (4, 8, 1, false)]), "among fresh ones");
    assert!(!reuses(&[(3, 9, 1, false)]), "a fresh one");
    // The very same answer, asked for again, is no second signature.
    assert!(!log.read(|ledger| ledger.nonces().reuses(&Points::of(&first))));
    log.close().await.unwrap();
}
