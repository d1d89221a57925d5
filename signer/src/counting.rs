//! Writes into the log what the token did with its keys, so that a vendor's own audit log can be held against it
//! (docs/log.md). It never counts anything itself: the workers do.

use std::sync::Arc;
use std::time::Duration;

use audit::entry::Event;

use crate::app::App;
use crate::ledger::Ledger;
use crate::log::{LogError, Step};
use crate::start::{note_waived, of_workers};

/// How often it is looked whether the token did anything, in looks at what the checkpoints cover.
const LOOKS: u32 = 60;
/// How often that is looked at: a signer that is killed meanwhile may count something twice.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Counts until it is stopped, which it may be anywhere.
pub(crate) async fn run(app: Arc<App>) {
    loop {
        for _ in 0..LOOKS {
            tokio::time::sleep(LOOK_EVERY).await;
            look(&app);
        }
        count(&app).await;
    }
}

/// Writes down what the token did since the last count, if that is more than checkpoints and the last count is there to stay.
pub async fn count(app: &App) {
    look(app);
    // A worker that came since may have been started otherwise than those before.
    if let Err(error) = note_waived(&app.log, of_workers(&app.token)).await {
        tracing::error!("what a token worker goes without could not be logged: {error}");
    }
    let (operations, state_dir) = app.token.operations();
    operations.adopt(state_dir);
    if !operations.is_worth_an_entry() {
        return;
    }
    let step = |_: &Ledger| Step::write(operations.hand_over(), ());
    let error = match app.log.commit(step).await {
        Ok(_) => return operations.written(),
        Err(error) => error,
    };
    tracing::error!("what the token did could not be logged under a checkpoint: {error}");
    match error {
        // It is written, and the next checkpoint covers it.
        LogError::Uncovered(_) | LogError::Unwitnessed(_) => {
            operations.durable(app.log.status().head.size);
            look(app);
        }
        _ => operations.put_back(),
    }
}

/// Writes down the rest and `last`, without waiting for a checkpoint.
///
/// # Errors
/// [`LogError`] when the log does not take it.
pub(crate) async fn count_last(app: &App, last: Event) -> Result<(), LogError> {
    look(app);
    let (operations, state_dir) = app.token.operations();
    operations.adopt(state_dir);
    let step = |_: &Ledger| operations.hand_over().into_iter().chain([last]).collect();
    app.log.note(step).await?;
    operations.durable(app.log.status().head.size);
    Ok(())
}

/// The log is closed: what no checkpoint covers is set aside by the next start, which counts it.
pub(crate) fn end(app: &App) {
    look(app);
    let (operations, _) = app.token.operations();
    operations.put_back();
}

/// Forgets what a checkpoint covers. Witnesses need not have seen it: a restart keeps it.
fn look(app: &App) {
    let (operations, _) = app.token.operations();
    operations.covered(app.log.status().checkpointed);
}
