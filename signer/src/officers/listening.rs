//! What one listener is told: whatever happens, and a heartbeat as often as it asked for one. It keeps nothing for who is slow,
//! holds no service open, and a heartbeat says only what is so at that moment.

use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, broadcast};
use tokio::time::{Interval, MissedTickBehavior, interval};
use tokio_stream::Stream;
use tokio_stream::wrappers::BroadcastStream;
use tokio_stream::wrappers::errors::BroadcastStreamRecvError;
use tonic::Status;

use super::notices::{Notice, missed, standing};
use crate::app::App;
use crate::refusal::{Reason, Refusal};

/// How often a heartbeat can be asked for, in seconds.
const BEAT_SECONDS: std::ops::RangeInclusive<u32> = 5..=3_600;

/// How much of the log there was at a heartbeat.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) struct Sizes {
    /// Durable entries.
    pub(super) entries: u64,
    /// Those that the newest checkpoint covers.
    pub(super) checkpoint: u64,
}

/// Holds its place until it is dropped. Without its service it ends.
pub(super) struct Listening {
    notices: BroadcastStream<Notice>,
    beat: Option<Interval>,
    app: Weak<App>,
    _place: OwnedSemaphorePermit,
}

/// Between two heartbeats, if any are wanted.
///
/// # Errors
/// [`Reason::BadRequest`] for more or fewer than there are.
pub(super) fn beat_every(seconds: u32) -> Result<Option<Duration>, Refusal> {
    match seconds {
        0 => Ok(None),
        seconds if BEAT_SECONDS.contains(&seconds) => Ok(Some(Duration::from_secs(seconds.into()))),
        _ => {
            let (least, most) = (BEAT_SECONDS.start(), BEAT_SECONDS.end());
            let text = format!("a heartbeat comes every {least} to {most} seconds, or never");
            Err(Refusal::new(Reason::BadRequest, text))
        }
    }
}

impl Listening {
    pub(super) fn new(
        app: &Arc<App>,
        notices: broadcast::Receiver<Notice>,
        every: Option<Duration>,
        place: OwnedSemaphorePermit,
    ) -> Self {
        let beat = every.map(|every| {
            let mut beat = interval(every);
            // One that is late is no two.
            beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
            beat
        });
        let (notices, app) = (BroadcastStream::new(notices), Arc::downgrade(app));
        Self { notices, beat, app, _place: place }
    }
}

/// That the service turns, and whether it would sign.
fn heartbeat(app: &App) -> (Notice, Sizes) {
    // As for the page of numbers: who holds the log's lock for ever stops this too.
    app.log.read(|_| ());
    let status = app.log.status();
    let sizes = Sizes { entries: status.head.size, checkpoint: status.checkpointed };
    let notice = match app.problem() {
        None => standing("heartbeat", "ready", "it would sign".to_owned()),
        Some(problem) => standing("heartbeat", "not-ready", problem),
    };
    (notice, sizes)
}

impl Stream for Listening {
    type Item = Result<(Notice, Sizes), Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        match Pin::new(&mut self.notices).poll_next(cx) {
            Poll::Ready(None) => return Poll::Ready(None),
            Poll::Ready(Some(heard)) => {
                let lagged = |BroadcastStreamRecvError::Lagged(count)| missed(count);
                let notice = heard.unwrap_or_else(lagged);
                return Poll::Ready(Some(Ok((notice, Sizes::default()))));
            }
            Poll::Pending => {}
        }
        match self.beat.as_mut().map(|beat| beat.poll_tick(cx)) {
            Some(Poll::Ready(_)) => {
                let app = self.app.upgrade();
                Poll::Ready(app.map(|app| Ok(heartbeat(&app))))
            }
            Some(Poll::Pending) | None => Poll::Pending,
        }
    }
}
