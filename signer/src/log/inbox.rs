//! What the log's writer is asked, and how long what is asked waits for others to share its flushes. It never keeps anything
//! waiting for something that is not under way.

use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use super::checkpoints::Coverage;
use super::error::StoreError;

/// Commits that may wait; more wait outside, holding nothing.
pub(super) const QUEUE_COMMITS_MAX: usize = 1024;
/// How long entries wait for the note of a checkpoint that is being made, which costs no flush of its own then; a busy token
/// takes some 50 ms for one. A token that takes longer must not keep refusals from being written.
const NOTE_WAIT: Duration = Duration::from_millis(150);
/// Where a note alone costs a flush, and has come a while after the last commits were written, it may wait for others to share its
/// transaction: no longer than this, nor than that while, and only where so many commits came together lately. Where nobody came
/// along, the next note does not wait; where nothing came for `LATELY`, none does.
const SHARE_WAIT_MAX: Duration = Duration::from_millis(100);
const NOTE_SLOW: Duration = Duration::from_millis(4);
const SHARING_COMMITS: usize = 8;
const SHARED_COMMITS: usize = 32;
const NOTES_AFTER_VAIN: u32 = 1;
const LATELY: Duration = Duration::from_secs(1);

/// Entries as they are stored: their numbers and their bytes.
pub(super) type Rows = Vec<(i64, Vec<u8>)>;

/// What the writer is asked.
pub(super) enum Message {
    /// Entries of one commit, in order after all queued before; none: answer when those are durable.
    Entries { entries: Vec<Vec<u8>>, durable: oneshot::Sender<()> },
    /// The bytes of one durable entry, if it is there.
    Read { seq: u64, found: oneshot::Sender<Result<Option<Vec<u8>>, StoreError>> },
    /// So many rows as they lie there, also edited ones.
    Page { from: u64, most: u64, found: oneshot::Sender<Result<Rows, StoreError>> },
    /// The leaf hashes of an old block, if they were kept.
    Leaves { block: u64, found: oneshot::Sender<Result<Option<Vec<u8>>, StoreError>> },
    /// A signed checkpoint.
    Checkpoint { size: u64, note: String, stored: oneshot::Sender<()> },
    /// The same with witnesses' cosignatures. Nobody waits for it: it goes to the disk with what is written next.
    Cosigned { size: u64, note: String },
    /// Write what is queued, close the database, end.
    Close { closed: oneshot::Sender<()> },
}

/// Where messages come from.
pub(super) struct Inbox {
    pub(super) queue: mpsc::Receiver<Message>,
    coverage: watch::Receiver<Coverage>,
    /// Whether notes wait for others.
    shares: bool,
    /// When commits were written last, and how many came together lately.
    last: Option<(Instant, usize)>,
    /// For how many notes nobody is waited for.
    vain: u32,
    /// How long the messages at hand wait.
    waits: Waits,
}

/// How long the messages at hand wait.
struct Waits {
    /// For the note that is being made.
    note: Instant,
    /// For others to come along with a note, and how many commits there were before: once known, if at all.
    company: Option<Option<(Instant, usize)>>,
}

/// What there is to do with the messages at hand.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Taken {
    /// To be written.
    Group,
    /// Somebody only asks: is answered, and the others go on waiting.
    Asked,
    /// No more will come.
    Ended,
}

impl Inbox {
    /// `shares` where a note that is written alone costs a flush.
    pub(super) fn new(
        queue: mpsc::Receiver<Message>,
        coverage: watch::Receiver<Coverage>,
        shares: bool,
    ) -> Self {
        let waits = Waits { note: Instant::now(), company: None };
        Self { queue, coverage, shares, last: None, vain: 0, waits }
    }

    /// A small group among large ones is load all the same: how many came lately fades by a quarter a group, and is
    /// forgotten where nothing came for a while.
    pub(super) fn wrote(&mut self, commits: usize) {
        if commits > 0 {
            let lately = self.last.filter(|(at, _)| at.elapsed() < LATELY).map_or(0, |(_, n)| n);
            let faded = lately.saturating_sub(lately.div_ceil(4));
            self.last = Some((Instant::now(), commits.max(faded)));
        }
    }

    /// Takes all that is there at once: this is what makes groups. While a checkpoint over what is written, `size`
    /// entries, is being made, new ones wait for its note and are written with it: they need the next checkpoint anyhow,
    /// which is made no sooner. What was taken before and not written is among the messages still.
    pub(super) async fn take(&mut self, messages: &mut Vec<Message>, size: u64) -> Taken {
        if messages.is_empty() {
            if self.queue.recv_many(messages, QUEUE_COMMITS_MAX).await == 0 {
                return Taken::Ended;
            }
            let now = Instant::now();
            self.waits = Waits { note: now.checked_add(NOTE_WAIT).unwrap_or(now), company: None };
        }
        while note_is_due(&self.coverage.borrow_and_update(), size)
            && messages.iter().all(Message::can_wait)
        {
            let left = QUEUE_COMMITS_MAX.saturating_sub(messages.len());
            tokio::select! {
                biased;
                () = tokio::time::sleep_until(self.waits.note) => break,
                changed = self.coverage.changed() => if changed.is_err() { break },
                more = self.queue.recv_many(messages, left) => if more == 0 { break },
            }
        }
        let noted = messages.iter().any(|message| matches!(message, Message::Checkpoint { .. }));
        if self.shares && noted {
            self.share(messages).await;
        }
        if messages.iter().any(Message::only_asks) { Taken::Asked } else { Taken::Group }
    }

    /// Waits a little for others to come along with a note.
    async fn share(&mut self, messages: &mut Vec<Message>) {
        let company = match self.waits.company {
            Some(company) => company,
            None => self.company(messages),
        };
        self.waits.company = Some(company);
        let Some((until, before)) = company else { return };
        self.gather(messages, until).await;
        if Instant::now() >= until && commits(messages) == before {
            self.vain = NOTES_AFTER_VAIN;
        }
    }

    /// Until when a note waits for company, and how many commits there are before.
    fn company(&mut self, messages: &[Message]) -> Option<(Instant, usize)> {
        let (written, lately) = self.last?;
        let patience = self.patience(written.elapsed(), lately)?;
        Some((Instant::now().checked_add(patience)?, commits(messages)))
    }

    /// How long a note waits that took so long, where so many commits came together lately.
    fn patience(&mut self, took: Duration, lately: usize) -> Option<Duration> {
        if !(NOTE_SLOW..LATELY).contains(&took) || lately < SHARING_COMMITS {
            return None;
        }
        if let Some(left) = self.vain.checked_sub(1) {
            self.vain = left;
            return None;
        }
        Some(took.min(SHARE_WAIT_MAX))
    }

    /// Takes whoever comes until then; no longer once enough came, or somebody who only asks.
    async fn gather(&mut self, messages: &mut Vec<Message>, until: Instant) {
        while messages.len() < SHARED_COMMITS && messages.iter().all(Message::can_share) {
            let left = QUEUE_COMMITS_MAX.saturating_sub(messages.len());
            tokio::select! {
                biased;
                () = tokio::time::sleep_until(until) => break,
                more = self.queue.recv_many(messages, left) => if more == 0 { break },
            }
        }
    }
}

pub(super) fn commits(messages: &[Message]) -> usize {
    messages.iter().filter(|message| message.is_commit()).count()
}

/// Whether a checkpoint is on its way, or follows the one that witnesses are asked about; not where there was none the last time.
fn note_is_due(coverage: &Coverage, size: u64) -> bool {
    coverage.counts() < size && coverage.problem.is_none()
}

impl Message {
    /// Whether it may wait for a note; for what witnesses said nobody waits anyhow.
    fn can_wait(&self) -> bool {
        matches!(self, Self::Entries { .. } | Self::Cosigned { .. })
    }

    /// Whether it asks for rows that were written long ago: a checkpoint may wait for the answer.
    pub(super) fn only_asks(&self) -> bool {
        matches!(self, Self::Page { .. } | Self::Leaves { .. })
    }

    /// Whether it may wait a little longer for others; not what only asks.
    fn can_share(&self) -> bool {
        self.can_wait() || matches!(self, Self::Checkpoint { .. })
    }

    fn is_commit(&self) -> bool {
        matches!(self, Self::Entries { .. })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries() -> Message {
        Message::Entries { entries: vec![vec![1]], durable: oneshot::channel().0 }
    }

    fn note() -> Message {
        Message::Checkpoint { size: 1, note: String::new(), stored: oneshot::channel().0 }
    }

    fn inbox() -> (mpsc::Sender<Message>, Inbox) {
        let (queue, receiver) = mpsc::channel(64);
        let (_, coverage) = watch::channel(Coverage::default());
        (queue, Inbox::new(receiver, coverage, true))
    }

    #[test]
    fn a_note_waits_for_company_only_under_load() {
        let ms = Duration::from_millis;
        let (_queue, mut inbox) = inbox();
        assert_eq!(inbox.patience(ms(6), 7), None, "few callers");
        assert_eq!(inbox.patience(ms(3), 20), None, "a quick note");
        assert_eq!(inbox.patience(ms(6), 8), Some(ms(6)), "no longer than the note took");
        assert_eq!(inbox.patience(ms(160), 8), Some(SHARE_WAIT_MAX));
        assert_eq!(inbox.patience(LATELY, 8), None, "long ago");
    }

    #[test]
    fn a_small_group_among_large_ones_is_load_for_a_while() {
        let (_queue, mut inbox) = inbox();
        let mut lately = Vec::new();
        for commits in [16, 1, 1, 0, 1, 1, 1, 1, 1, 1] {
            inbox.wrote(commits);
            lately.extend(inbox.last.map(|(_, lately)| lately));
        }
        assert_eq!(lately, [16, 12, 9, 9, 6, 4, 3, 2, 1, 1]);
        inbox.last = Instant::now().checked_sub(LATELY).map(|at| (at, 1_000));
        inbox.wrote(1);
        assert_eq!(inbox.last.map(|(_, lately)| lately), Some(1), "that was long ago");
    }

    #[test]
    fn commits_and_cosignatures_wait_for_a_note_until_all_counts() {
        let covered = |size, witnessed| Coverage { size, witnessed, ..Coverage::default() };
        assert!(note_is_due(&covered(3, None), 5), "the token is asked");
        assert!(
            note_is_due(&covered(5, Some(3)), 5),
            "witnesses are asked, and the next one follows"
        );
        assert!(!note_is_due(&covered(5, None), 5));
        assert!(!note_is_due(&covered(5, Some(5)), 5));
        let problem = Some(super::super::checkpoints::Problem::Token(String::new()));
        assert!(
            !note_is_due(&Coverage { problem, ..covered(3, None) }, 5),
            "there was none last time"
        );
        let cosigned = Message::Cosigned { size: 3, note: String::new() };
        let read = Message::Read { seq: 0, found: oneshot::channel().0 };
        assert!(entries().can_wait() && cosigned.can_wait());
        assert!(!note().can_wait() && !read.can_wait());
        assert!(note().can_share() && !read.can_share());
    }

    #[tokio::test]
    async fn a_note_that_waited_in_vain_spares_the_next_ones_that() {
        let (queue, mut inbox) = inbox();
        let slow = || Instant::now().checked_sub(Duration::from_millis(6)).map(|at| (at, 20));
        let mut messages = vec![note()];
        inbox.last = slow();
        inbox.share(&mut messages).await;
        assert_eq!((messages.len(), inbox.vain), (1, NOTES_AFTER_VAIN));
        queue.send(entries()).await.unwrap();
        for left in (0..NOTES_AFTER_VAIN).rev() {
            inbox.last = slow();
            inbox.waits.company = None;
            inbox.share(&mut messages).await;
            assert_eq!((messages.len(), inbox.vain), (1, left), "nobody is waited for");
        }
        inbox.last = slow();
        inbox.waits.company = None;
        inbox.share(&mut messages).await;
        assert_eq!((messages.len(), inbox.vain), (2, 0));
    }

    #[tokio::test]
    async fn a_note_that_costs_no_flush_waits_for_nobody() {
        for (shares, vain) in [(true, NOTES_AFTER_VAIN), (false, 0)] {
            let (queue, receiver) = mpsc::channel(64);
            let (_covered, coverage) = watch::channel(Coverage::default());
            let mut inbox = Inbox::new(receiver, coverage, shares);
            inbox.last = Instant::now().checked_sub(Duration::from_millis(6)).map(|at| (at, 20));
            queue.send(note()).await.unwrap();
            assert_eq!(inbox.take(&mut Vec::new(), 0).await, Taken::Group);
            assert_eq!(inbox.vain, vain, "it waited in vain, or not at all");
        }
    }

    #[tokio::test]
    async fn whoever_only_asks_or_is_one_of_enough_ends_the_wait() {
        let long = || Instant::now().checked_add(Duration::from_secs(3_600)).unwrap();
        let (queue, mut inbox) = inbox();
        let mut messages = vec![note()];
        queue.send(entries()).await.unwrap();
        queue.send(Message::Read { seq: 0, found: oneshot::channel().0 }).await.unwrap();
        inbox.gather(&mut messages, long()).await;
        assert_eq!(messages.len(), 3);
        let mut messages = vec![note()];
        for _ in 1..SHARED_COMMITS {
            queue.send(entries()).await.unwrap();
        }
        inbox.gather(&mut messages, long()).await;
        assert_eq!(messages.len(), SHARED_COMMITS);
    }

    #[tokio::test]
    async fn whoever_asks_for_rows_is_answered_while_entries_wait_for_a_note() {
        let (queue, receiver) = mpsc::channel(64);
        let (covered, coverage) = watch::channel(Coverage::default());
        let mut inbox = Inbox::new(receiver, coverage, true);
        let page = || Message::Page { from: 0, most: 1, found: oneshot::channel().0 };
        let leaves = Message::Leaves { block: 0, found: oneshot::channel().0 };
        let mut messages = Vec::new();
        queue.send(entries()).await.unwrap();
        for asks in [page(), leaves, page()] {
            queue.send(asks).await.unwrap();
            assert_eq!(inbox.take(&mut messages, 5).await, Taken::Asked);
            let left = messages.extract_if(.., |message| message.only_asks()).count();
            assert_eq!((left, messages.len()), (1, 1), "and the entries wait on");
        }
        covered.send_replace(Coverage { size: 5, ..Coverage::default() });
        queue.send(note()).await.unwrap();
        assert_eq!(inbox.take(&mut messages, 5).await, Taken::Group);
        assert_eq!(messages.len(), 1, "nothing more is waited for once all counts");
    }
}
