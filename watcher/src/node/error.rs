//! Why the node did not give what was asked, as types that callers can tell apart. It never holds a credential.

use bitcoin::BlockHash;

/// Why the node did not give what was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NodeError {
    /// No connection, no answer in time, or an answer cut short.
    #[error("the node at {url} cannot be reached: {reason}")]
    Unreachable {
        /// Where it should be.
        url: String,
        /// What happened.
        reason: String,
    },
    /// It does not know our user and password, or the file with them cannot be read.
    #[error("the node does not let us in: {0}")]
    Auth(String),
    /// It is still starting.
    #[error("the node is starting: {0}")]
    Starting(String),
    /// It answered with an error.
    #[error("the node refused {method}: {message} (code {code})")]
    Refused {
        /// What was asked.
        method: &'static str,
        /// bitcoind's `RPCErrorCode`.
        code: i64,
        /// bitcoind's sentence.
        message: String,
    },
    /// Its answer is too long.
    #[error("the node's answer to {method} is longer than {most} bytes")]
    TooLong {
        /// What was asked.
        method: &'static str,
        /// The limit.
        most: usize,
    },
    /// Its answer is not what this method answers.
    #[error("the node's answer to {method} makes no sense: {reason}")]
    Nonsense {
        /// What was asked.
        method: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// It follows another chain.
    #[error("the node is on another network: its genesis block is {found}, not {wanted}")]
    WrongChain {
        /// Its genesis block.
        found: BlockHash,
        /// The one configured.
        wanted: BlockHash,
    },
}

impl NodeError {
    /// Stable reason code for callers.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Unreachable { .. } | Self::Auth(_) | Self::Starting(_) => "node-unreachable",
            _ => "node-failed",
        }
    }

    /// bitcoind's error code, when it answered with one.
    #[must_use]
    pub fn code(&self) -> Option<i64> {
        if let Self::Refused { code, .. } = self { Some(*code) } else { None }
    }
}
