//! A deposit's four axes and how each may change, as one pure function from facts to changes and events.
//! It never reads a database, a clock or a node.

use std::num::NonZeroU32;

use bitcoin::{BlockHash, Txid};
use serde::Deserialize;

/// A block by height and hash.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BlockRef {
    /// Height.
    pub height: u32,
    /// Hash.
    pub hash: BlockHash,
}

/// When what a block holds counts as settled.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum Finality {
    /// So many confirmations; the block itself is the first.
    Depth(NonZeroU32),
    /// The chain's own "safe" mark (not on Bitcoin).
    Safe,
    /// The chain's own "finalized" mark (not on Bitcoin).
    Finalized,
}

impl Finality {
    /// Whether a block at `height` is settled when the chain ends at `tip`.
    #[must_use]
    pub fn reached(self, height: u32, tip: u32) -> bool {
        self.highest_final(tip).is_some_and(|highest| height <= highest)
    }

    /// The highest height that is settled when the chain ends at `tip`; a chain without such marks has none.
    #[must_use]
    pub fn highest_final(self, tip: u32) -> Option<u32> {
        match self {
            Self::Depth(depth) => tip.checked_add(1)?.checked_sub(depth.get()),
            Self::Safe | Self::Finalized => None,
        }
    }
}

/// A transfer's identity: `chain/txid/kind/index`. The block it is in is no part of it: blocks change.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct TransferId {
    /// CAIP-2.
    pub chain: asset::ChainId,
    /// The transaction.
    pub txid: Txid,
    /// What kind of transfer.
    pub kind: Kind,
    /// Which of the transaction's: for a UTXO its output index.
    pub index: u32,
}

impl std::fmt::Display for TransferId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}/{}/{}", self.chain, self.txid, self.kind, self.index)
    }
}

/// Enumerations whose words are kept in the database and shown on the wire.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        pub enum $name { $($(#[$vdoc])* $variant,)+ }

        impl $name {
            /// Every one.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// Its word.
            #[must_use]
            pub const fn word(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }

            /// Reads the word.
            #[must_use]
            pub fn read(word: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|one| one.word() == word)
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.word())
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.word())
            }
        }
    };
}
pub(crate) use words;

words! {
    /// How value came.
    Kind {
        /// An output of a Bitcoin transaction.
        Utxo = "utxo",
    }
}

words! {
    /// Where the transaction stands on the chain.
    Chain {
        /// Known, in no block.
        Seen = "seen",
        /// In a block that may still go.
        Confirming = "confirming",
        /// In a settled block.
        Final = "final",
        /// In no block and in no mempool: it may never confirm.
        Gone = "gone",
    }
}

words! {
    /// Whether the customer has it.
    Credit {
        /// Not yet.
        None = "none",
        /// Yes.
        Credited = "credited",
        /// It was, until its block went away.
        Reversed = "reversed",
    }
}

words! {
    /// Who holds the coin.
    Custody {
        /// Ours, free.
        Ours = "ours",
        /// Ours, in a transaction that is not in a block yet.
        Leased = "leased",
        /// Moved on, in a block.
        Swept = "swept",
    }
}

words! {
    /// What screening says of where it came from.
    Screening {
        /// Not looked at.
        Unscreened = "unscreened",
        /// Looked at, nothing found.
        Clear = "clear",
        /// Held back: neither credited nor swept.
        Held = "held",
    }
}

words! {
    /// What people see.
    Visible {
        /// Wait.
        Pending = "pending",
        /// It counts.
        Confirmed = "confirmed",
        /// It does not count any more.
        Reversed = "reversed",
        /// It counts, and its coin went to where coins are kept.
        Swept = "swept",
    }
}

words! {
    /// What one event says.
    EventKind {
        /// In the mempool, for the first time or again.
        Seen = "deposit.seen",
        /// In a block.
        Confirming = "deposit.confirming",
        /// In a settled block.
        Final = "deposit.final",
        /// Evicted, replaced, conflicted or reorganised away.
        Gone = "deposit.gone",
        /// The customer has it.
        Credited = "deposit.credited",
        /// The credit is taken back.
        Reversed = "deposit.reversed",
        /// A transaction is being made with its coin.
        Leased = "deposit.leased",
        /// Its coin is free again.
        Released = "deposit.released",
        /// Its coin moved on.
        Swept = "deposit.swept",
        /// Screening holds it.
        Held = "deposit.held",
        /// Screening lets it go.
        Cleared = "deposit.cleared",
    }
}

/// The state of a deposit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Axes {
    /// On the chain.
    pub chain: Chain,
    /// For the customer.
    pub credit: Credit,
    /// Of the coin.
    pub custody: Custody,
    /// Of its origin.
    pub screening: Screening,
}

/// What is known about a coin now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Facts {
    /// Where its transaction stands.
    pub chain: Chain,
    /// Whether a sweep or payout holds its lease.
    pub leased: bool,
    /// Where a transaction that spends it stands.
    pub spent: Spent,
    /// What screening says.
    pub screening: Screening,
}

/// Whether a live transaction spends a coin.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Spent {
    /// None does.
    No,
    /// One in the mempool.
    Mempool,
    /// One in a block.
    Block,
}

impl Axes {
    /// A deposit nobody heard of before.
    pub const NEW: Self = Self {
        chain: Chain::Seen,
        credit: Credit::None,
        custody: Custody::Ours,
        screening: Screening::Unscreened,
    };

    /// What people see of it: a function of the axes and nothing else.
    #[must_use]
    pub fn visible(self) -> Visible {
        match (self.credit, self.custody, self.chain) {
            (Credit::Credited, Custody::Swept, _) => Visible::Swept,
            (Credit::Credited, ..) => Visible::Confirmed,
            (Credit::Reversed, ..) | (Credit::None, _, Chain::Gone) => Visible::Reversed,
            (Credit::None, ..) => Visible::Pending,
        }
    }
}

/// Moves a deposit to what the facts say: the steps in order, each with its event and the axes after it.
/// No step, no event; running it again with the same facts gives none.
#[must_use]
pub fn advance(from: Axes, facts: Facts) -> Vec<(EventKind, Axes)> {
    let mut axes = from;
    let mut steps = Vec::new();
    if let Some(kind) = chain_event(axes.chain, facts.chain) {
        axes.chain = facts.chain;
        steps.push((kind, axes));
    }
    if let Some(kind) = screening_event(axes.screening, facts.screening) {
        axes.screening = facts.screening;
        steps.push((kind, axes));
    }
    if let Some((credit, kind)) = credit_step(axes.credit, axes.chain, axes.screening) {
        axes.credit = credit;
        steps.push((kind, axes));
    }
    if let Some((custody, kind)) = custody_step(axes.custody, facts.leased, facts.spent) {
        axes.custody = custody;
        steps.push((kind, axes));
    }
    steps
}

/// The chain axis: a transaction can come from anywhere to anywhere, since reorganisations can do all of it.
fn chain_event(from: Chain, to: Chain) -> Option<EventKind> {
    match to {
        _ if from == to => None,
        Chain::Seen => Some(EventKind::Seen),
        Chain::Confirming => Some(EventKind::Confirming),
        Chain::Final => Some(EventKind::Final),
        Chain::Gone => Some(EventKind::Gone),
    }
}

/// The credit axis. A settled block credits; only the loss of the block takes it back: while a
/// reorganisation above it runs, the block merely has fewer confirmations.
fn credit_step(from: Credit, chain: Chain, screening: Screening) -> Option<(Credit, EventKind)> {
    match (from, chain) {
        (Credit::None | Credit::Reversed, Chain::Final) if screening != Screening::Held => {
            Some((Credit::Credited, EventKind::Credited))
        }
        (Credit::Credited, Chain::Seen | Chain::Gone) => {
            Some((Credit::Reversed, EventKind::Reversed))
        }
        _ => None,
    }
}

/// The custody axis follows the coin.
fn custody_step(from: Custody, leased: bool, spent: Spent) -> Option<(Custody, EventKind)> {
    let (to, kind) = match (spent, leased) {
        (Spent::Block, _) => (Custody::Swept, EventKind::Swept),
        (Spent::Mempool, _) | (Spent::No, true) => (Custody::Leased, EventKind::Leased),
        (Spent::No, false) => (Custody::Ours, EventKind::Released),
    };
    (from != to).then_some((to, kind))
}

/// The screening axis: once looked at, a deposit is never unscreened again.
fn screening_event(from: Screening, to: Screening) -> Option<EventKind> {
    match (from, to) {
        (Screening::Unscreened | Screening::Clear, Screening::Held) => Some(EventKind::Held),
        (Screening::Unscreened | Screening::Held, Screening::Clear) => Some(EventKind::Cleared),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
