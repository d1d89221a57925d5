//! What others see of the follower: its settings, its status, its failures. It never follows anything itself.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};

use crate::deposit::BlockRef;
use crate::node::NodeError;
use crate::store::StoreError;

/// What following needs to know beside the node and the tables.
#[derive(Clone, Debug)]
pub struct FollowSettings {
    /// First block that can hold anything of ours.
    pub start: u32,
    /// Deepest reorganisation followed without an operator.
    pub max_reorg: u32,
    /// Pause between looks at an idle node.
    pub poll: Duration,
}

/// How following goes.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Status {
    /// Last block connected.
    pub tip: Option<BlockRef>,
    /// The node's height when it last answered.
    pub node_height: u32,
    /// Whether it answered last time.
    pub node_reachable: bool,
    /// Whether we stood on the node's tip with its whole mempool read, at the last look.
    pub synced: bool,
    /// Scripts looked for.
    pub watched: usize,
    /// What is wrong, for operators.
    pub problem: Option<String>,
}

/// Why a step failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FollowError {
    /// The node.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Too much of the chain changed at once.
    #[error(
        "the node's chain leaves ours {depth} blocks back, more than max_reorg ({most}): is it the right node? \
         nothing was undone; raise max_reorg to follow it"
    )]
    TooDeep {
        /// Blocks to undo.
        depth: u32,
        /// The limit.
        most: u32,
    },
    /// The node has not come as far as the wallets' birthday.
    #[error("the node is at height {height}; following begins at {start}")]
    TooEarly {
        /// Where it is.
        height: u32,
        /// Where we begin.
        start: u32,
    },
}

/// What others hold of the follower.
#[derive(Clone, Debug)]
pub struct Handle {
    pub(super) nudge: Arc<Notify>,
    pub(super) status: watch::Receiver<Status>,
}

impl Handle {
    /// Has the follower look at once: scripts were added, or a transaction was sent.
    pub fn nudge(&self) {
        self.nudge.notify_one();
    }

    /// How following goes.
    #[must_use]
    pub fn status(&self) -> Status {
        self.status.borrow().clone()
    }

    /// For waiting until that changes.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Status> {
        self.status.clone()
    }
}
