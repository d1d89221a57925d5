//! Where a transaction of ours stands on the chain, and what that makes of its sweep or payout, as a pure function run
//! again after every block. It never sends a transaction and never waits for one.

use crate::deposit::{BlockRef, Finality, words};
use crate::rows::TxState;

words! {
    /// The state of a sweep or a payout.
    State {
        /// A payout was ordered; no transaction is in force.
        Accepted = "accepted",
        /// Coins are leased; the signer is being asked.
        Planned = "planned",
        /// The signer said no; over.
        Refused = "refused",
        /// The signed transaction is kept.
        Signed = "signed",
        /// The node took it.
        Broadcast = "broadcast",
        /// It is in a block.
        Confirming = "confirming",
        /// That block is settled; over.
        Final = "final",
        /// It can not confirm any more and its coins are free again; over.
        Replaced = "replaced",
    }
}

words! {
    /// The state of one version of a payout's transaction.
    VersionState {
        /// Never sent to the signer.
        Planned = "planned",
        /// Sent to the signer at least once; until it answers, it may have signed.
        Asked = "asked",
        /// The signer said no.
        Refused = "refused",
        /// The policy denied it for what may pass, and the signer has nothing set aside for it: it is asked for again, if it would be
        /// planned the same.
        Denied = "denied",
        /// The signer said no because of its coins: others are taken.
        Barred = "barred",
        /// Of an order that nobody had signed; it had the id before.
        Void = "void",
        /// The signed transaction is kept.
        Signed = "signed",
    }
}

/// Where its transaction stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Progress {
    /// Neither in the mempool nor in a block.
    Nowhere,
    /// In the mempool.
    Waiting,
    /// In a block that may still go.
    Confirming(BlockRef),
    /// In a settled block.
    Final(BlockRef),
}

impl Progress {
    /// From what the follower wrote down of the transaction, if anything.
    #[must_use]
    pub(crate) fn of(at: Option<TxState>, tip: u32, finality: Finality) -> Self {
        match at {
            None | Some(TxState::Gone) => Self::Nowhere,
            Some(TxState::Mempool) => Self::Waiting,
            Some(TxState::Block(block)) if finality.reached(block.height, tip) => {
                Self::Final(block)
            }
            Some(TxState::Block(block)) => Self::Confirming(block),
        }
    }

    /// The block it is in.
    #[must_use]
    pub fn block(self) -> Option<BlockRef> {
        match self {
            Self::Nowhere | Self::Waiting => None,
            Self::Confirming(block) | Self::Final(block) => Some(block),
        }
    }
}

/// The state that these facts make of `from`. The chain is right whatever we believed: what is in a block has
/// confirmed, even if it was given up; what fell out of one waits again.
#[must_use]
pub fn follow(from: State, progress: Progress) -> State {
    match (progress, from) {
        (Progress::Final(_), _) => State::Final,
        (Progress::Confirming(_), _) => State::Confirming,
        (_, State::Confirming | State::Final) | (Progress::Waiting, State::Signed) => {
            State::Broadcast
        }
        (_, from) => from,
    }
}

/// What happened, for the event's kind: the words after "sweep." or "payout.".
#[must_use]
pub fn happenings(from: State, to: State, moved: bool) -> Vec<&'static str> {
    let confirmed = !matches!(from, State::Confirming | State::Final) || moved;
    match to {
        State::Final if from == State::Final && !moved => vec![],
        State::Final if confirmed => vec!["confirmed", "final"],
        State::Final => vec!["final"],
        State::Confirming if from == State::Final && !moved => vec!["unsettled"],
        State::Confirming if confirmed => vec!["confirmed"],
        State::Broadcast if matches!(from, State::Confirming | State::Final) => vec!["unconfirmed"],
        State::Broadcast if from != State::Broadcast => vec!["broadcast"],
        _ => vec![],
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use bitcoin::BlockHash;
    use bitcoin::hashes::Hash as _;

    use super::*;

    fn block(height: u32) -> BlockRef {
        BlockRef { height, hash: BlockHash::all_zeros() }
    }

    fn every_progress() -> [Progress; 4] {
        [
            Progress::Nowhere,
            Progress::Waiting,
            Progress::Confirming(block(5)),
            Progress::Final(block(5)),
        ]
    }

    #[test]
    fn following_twice_changes_nothing_more() {
        for &from in State::ALL {
            for progress in every_progress() {
                let to = follow(from, progress);
                assert_eq!(follow(to, progress), to);
                assert!(happenings(to, to, false).is_empty());
                assert_eq!(happenings(from, to, false).is_empty(), from == to, "{from} to {to}");
            }
        }
    }

    #[test]
    fn a_block_always_counts_and_its_loss_too() {
        for &from in State::ALL {
            assert_eq!(follow(from, Progress::Confirming(block(1))), State::Confirming);
            assert_eq!(follow(from, Progress::Final(block(1))), State::Final);
            for progress in [Progress::Nowhere, Progress::Waiting] {
                assert!(!matches!(follow(from, progress), State::Confirming | State::Final));
            }
        }
        // What the signer has not signed, or refused, is never sent.
        for from in [State::Accepted, State::Planned, State::Refused, State::Replaced] {
            assert_eq!(follow(from, Progress::Waiting), from);
        }
    }

    #[test]
    fn depth_makes_it_final() {
        let two = Finality::Depth(NonZeroU32::new(2).unwrap());
        let at = Some(TxState::Block(block(10)));
        assert_eq!(Progress::of(at, 10, two), Progress::Confirming(block(10)));
        assert_eq!(Progress::of(at, 11, two), Progress::Final(block(10)));
        assert_eq!(Progress::of(Some(TxState::Gone), 11, two), Progress::Nowhere);
        assert_eq!(Progress::of(None, 11, two), Progress::Nowhere);
    }
}
