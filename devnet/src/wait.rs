//! Waiting for a condition with a deadline. Never a bare sleep that hopes.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// How often a condition is looked at.
const PAUSE: Duration = Duration::from_millis(50);

/// Asks `look` until it has an answer. `what` completes the sentence "waited N s for …".
/// An error counts as "not yet" and is told when the deadline passes.
pub async fn until<T, F: Future<Output = Result<Option<T>>>>(
    what: &str,
    deadline: Duration,
    mut look: impl FnMut() -> F,
) -> Result<T> {
    let begun = Instant::now();
    loop {
        let outcome = look().await;
        if let Ok(Some(found)) = outcome {
            return Ok(found);
        }
        if begun.elapsed() > deadline {
            match outcome {
                Err(error) => bail!("waited {} s for {what}; last: {error:#}", deadline.as_secs()),
                _ => bail!("waited {} s for {what}", deadline.as_secs()),
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}
