//! Follows the node's best chain by parent hash, one block and one transaction at a time, and its mempool. It
//! never skips a block, never undoes one before the node shows another in its place, and never trusts that it
//! still knows the mempool after a restart.

mod status;
mod memory;
mod turn;
mod again;
mod mempool;

use std::sync::Arc;
use std::time::Duration;

use bitcoin::constants::genesis_block;
use bitcoin::hashes::Hash as _;
use bitcoin::{Block, BlockHash};
use tokio::sync::{Notify, watch};

pub use self::status::{FollowError, FollowSettings, Handle, Status};

use self::memory::Memory;
use crate::book::Book;
use crate::deposit::BlockRef;
use crate::node::{Node, NodeError, Tip};
use crate::rows::{block_hash, height};
use crate::scan::scan;
use crate::store::{Store, StoreError};

/// Blocks fetched side by side while catching up.
const AHEAD: u32 = 8;
/// Longest pause between attempts while the node is away.
const BACK_OFF_MAX: Duration = Duration::from_secs(10);

/// What a step did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// There is more to do at once.
    More,
    /// The node was caught between two states; look again after a pause.
    Again,
    /// Nothing to do until the node has news.
    Idle,
}

/// The one that follows.
#[derive(Debug)]
pub struct Follower {
    node: Node,
    store: Store,
    book: Book,
    settings: FollowSettings,
    memory: Option<Memory>,
    right_chain: bool,
    /// Why old blocks cannot be read again.
    stuck: Option<String>,
    nudge: Arc<Notify>,
    status: watch::Sender<Status>,
}

impl Follower {
    /// Prepares to follow; nothing happens until [`Follower::run`] or [`Follower::step`].
    #[must_use]
    pub fn new(node: Node, store: Store, book: Book, settings: FollowSettings) -> (Self, Handle) {
        let (status, receiver) = watch::channel(Status::default());
        let nudge = Arc::new(Notify::new());
        let handle = Handle { nudge: nudge.clone(), status: receiver };
        let memory = None;
        let (right_chain, stuck) = (false, None);
        (Self { node, store, book, settings, memory, right_chain, stuck, nudge, status }, handle)
    }

    /// Follows until `stop` says so. Failures are waited out, with growing pauses.
    pub async fn run(mut self, mut stop: watch::Receiver<bool>) {
        let mut pause = self.settings.poll;
        while !*stop.borrow() {
            match self.step().await {
                Ok(Step::More) => {
                    pause = self.settings.poll;
                    continue;
                }
                Ok(Step::Again | Step::Idle) => pause = self.settings.poll,
                Err(error) => {
                    self.failed(&error);
                    pause = pause.saturating_mul(2).min(BACK_OFF_MAX);
                }
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.nudge.notified() => {}
                changed = stop.changed() => if changed.is_err() { return },
            }
        }
    }

    /// One step: the next few blocks, or one reorganisation, or a look at the mempool; and a few old blocks where
    /// some are to be read again.
    ///
    /// # Errors
    /// [`FollowError`]; everything before the failure is kept, nothing of it is half done.
    pub async fn step(&mut self) -> Result<Step, FollowError> {
        let mut memory = match self.memory.take() {
            Some(memory) => memory,
            None => Memory::load(&self.store, self.settings.max_reorg).await?,
        };
        // Before the node is asked: addresses are given out while it is away.
        memory.load_scripts(&self.store).await?;
        let result = self.step_with(&mut memory).await;
        if result.is_err() {
            memory.looked = None; // a node that was restarted counts its mempool's sequence from the start
        }
        if !matches!(result, Err(FollowError::Store(_))) {
            self.memory = Some(memory); // after a failed write, what is in memory may be ahead of the tables
        }
        result
    }

    async fn step_with(&mut self, memory: &mut Memory) -> Result<Step, FollowError> {
        let tip = self.node.tip().await?;
        self.check_chain().await?;
        let cursor = match self.cursor().await? {
            Some(cursor) => cursor,
            None => self.begin(memory, tip).await?,
        };
        self.heard(memory, Some(cursor), tip);
        let fork = self.fork(cursor, tip).await?;
        if fork != cursor {
            return self.turn(memory, cursor, fork, tip).await;
        }
        self.report(memory, Some(cursor), tip);
        let step = if cursor.hash == tip.hash {
            self.at_the_tip(memory, cursor).await?
        } else {
            self.advance(memory, cursor, tip).await?
        };
        // After the news, and a slice at a time: however much there is to read again, following goes on.
        Ok(if self.read_again(memory).await? { Step::More } else { step })
    }

    /// Looks at the mempool: with it read to its end there is nothing left to do.
    async fn at_the_tip(
        &mut self,
        memory: &mut Memory,
        cursor: BlockRef,
    ) -> Result<Step, FollowError> {
        let complete = self.look_at_mempool(memory, cursor).await?;
        self.status.send_if_modified(|status| {
            let changed = status.synced != complete;
            status.synced = complete;
            changed
        });
        Ok(if complete { Step::Idle } else { Step::Again })
    }

    /// Connects the next few blocks.
    async fn advance(
        &mut self,
        memory: &mut Memory,
        mut cursor: BlockRef,
        tip: Tip,
    ) -> Result<Step, FollowError> {
        let next = cursor.height.saturating_add(1);
        let count = tip.height.saturating_sub(cursor.height).clamp(1, AHEAD);
        let hashes = self.node.block_hashes(next, count).await?;
        let fetches: Vec<_> = hashes
            .into_iter()
            .map(|hash| {
                let node = self.node.clone();
                Fetch(tokio::spawn(async move { node.block(hash).await }))
            })
            .collect();
        for fetch in fetches {
            let block = fetch.join().await?;
            if block.header.prev_blockhash != cursor.hash {
                break; // the node changed its mind meanwhile
            }
            let Some(height) = cursor.height.checked_add(1) else { break };
            let connected = BlockRef { height, hash: block.block_hash() };
            let found = scan(&block.txdata, &memory.set);
            let mut tx = self.store.begin().await?;
            self.book.connect(&mut tx, connected, cursor.hash, &found).await?;
            tx.commit().await?;
            memory.set.learn_block(&found);
            tracing::debug!(height, found = found.found.len(), "connected a block");
            cursor = connected;
            self.report(memory, Some(cursor), tip);
        }
        Ok(Step::More)
    }

    /// Once per run: the node is on our network.
    async fn check_chain(&mut self) -> Result<(), FollowError> {
        if !self.right_chain {
            let wanted = genesis_block(self.book.network).block_hash();
            let found = self.node.block_hash(0).await?.unwrap_or(BlockHash::all_zeros());
            if found != wanted {
                return Err(NodeError::WrongChain { found, wanted }.into());
            }
            self.right_chain = true;
        }
        Ok(())
    }

    /// Puts the cursor just below the first block of interest.
    async fn begin(&self, memory: &Memory, tip: Tip) -> Result<BlockRef, FollowError> {
        let below = self.settings.start.saturating_sub(1);
        let too_early = FollowError::TooEarly { height: tip.height, start: self.settings.start };
        let hash = self.node.block_hash(below).await?.ok_or(too_early)?;
        let block = BlockRef { height: below, hash };
        let mut tx = self.store.begin().await?;
        self.book.begin_at(&mut tx, block, memory.mark).await?;
        tx.commit().await?;
        tracing::info!(height = below, "following begins above this block");
        Ok(block)
    }

    async fn cursor(&self) -> Result<Option<BlockRef>, StoreError> {
        let row = sqlx::query("SELECT height, hash FROM cursor")
            .fetch_optional(self.store.reader())
            .await?;
        row.map(|row| Ok(BlockRef { height: height(&row, 0)?, hash: block_hash(&row, 1)? }))
            .transpose()
    }

    /// Where we and the node stand, with nothing wrong but what keeps old blocks from being read.
    fn report(&self, memory: &Memory, tip: Option<BlockRef>, node: Tip) {
        self.tell(memory, tip, node, |_| self.stuck.clone());
    }

    /// The same before the step is done: what was wrong stays said until a step shows that it is not any more.
    fn heard(&self, memory: &Memory, tip: Option<BlockRef>, node: Tip) {
        self.tell(memory, tip, node, |before| before.problem.clone());
    }

    fn tell(
        &self,
        memory: &Memory,
        tip: Option<BlockRef>,
        node: Tip,
        problem: impl FnOnce(&Status) -> Option<String>,
    ) {
        let _ = self.status.send_if_modified(|status| {
            let synced = status.synced && tip.is_some_and(|tip| tip.hash == node.hash);
            let new = Status {
                tip,
                node_height: node.height,
                node_reachable: true,
                synced,
                watched: memory.set.scripts(),
                problem: problem(status),
            };
            let changed = *status != new;
            *status = new;
            changed
        });
    }

    fn problem(&self, problem: Option<String>) {
        self.status.send_modify(|status| {
            status.synced = false;
            status.problem = problem;
        });
    }

    fn failed(&self, error: &FollowError) {
        let text = error.to_string();
        let unreachable = matches!(error, FollowError::Node(e) if e.reason() == "node-unreachable");
        let before = self.status.borrow().problem.clone();
        if before.as_deref() != Some(&text) {
            tracing::warn!(%error, "following is interrupted");
        }
        self.status.send_modify(|status| {
            status.node_reachable &= !unreachable;
            status.synced = false;
            status.problem = Some(text);
        });
    }
}

/// A fetch that ends with its owner.
struct Fetch(tokio::task::JoinHandle<Result<Block, NodeError>>);

impl Fetch {
    async fn join(mut self) -> Result<Block, NodeError> {
        (&mut self.0).await.unwrap_or_else(|error| {
            Err(NodeError::Nonsense { method: "getblock", reason: error.to_string() })
        })
    }
}

impl Drop for Fetch {
    fn drop(&mut self) {
        self.0.abort();
    }
}
