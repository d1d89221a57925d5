//! Writes into the log what the token did with its keys, so that a vendor's own audit log can be held against it
//! (docs/log.md). It never counts anything itself: the workers do.

use std::sync::Arc;
use std::time::Duration;

use crate::app::App;
use crate::log::Step;

/// How often it is looked whether the token did anything.
const COUNT_EVERY: Duration = Duration::from_secs(60);

/// Counts until it is stopped.
pub(crate) async fn run(app: Arc<App>) {
    loop {
        tokio::time::sleep(COUNT_EVERY).await;
        count(&app).await;
    }
}

/// Writes down what the token did since the last count, if that is more than checkpoints.
pub async fn count(app: &App) {
    let (operations, state_dir) = app.token.operations();
    if !operations.is_worth_an_entry(state_dir) {
        return;
    }
    let events = operations.take(state_dir);
    match app.log.commit(|_| Step::write(events, ())).await {
        Ok(_) => operations.written(),
        Err(error) => {
            tracing::error!("what the token did could not be logged: {error}");
            operations.put_back();
        }
    }
}
