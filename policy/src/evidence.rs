//! What the signer's own log knows that bears on one intent. It never decides, and holds no clock:
//! the ledger answers exactly the questions the rules ask, and a missing answer is a denial.

use alloc::vec::Vec;

use asset::Amount;

use crate::intent::SlotId;
use crate::names::{LaneName, WalletName};
use crate::order::OrderRef;

/// What a rolling window adds up.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Measure {
    /// Fees of signed transactions.
    Fees,
    /// Amounts that left to external destinations.
    External,
}

/// "How much of `measure` was signed on `lane` in the last `window_seconds`?"
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Question {
    /// Whose total.
    pub lane: LaneName,
    /// What is added up.
    pub measure: Measure,
    /// How far back, in seconds.
    pub window_seconds: u64,
}

/// The answer to one [`Question`]. Transactions of which at most one can confirm form a set; a set counts
/// its maximum. `own_set` is the maximum of the set this intent would join (zero if it starts one).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Answer {
    /// The question.
    pub question: Question,
    /// Sum of the maxima of all other sets.
    pub others: Amount,
    /// Maximum, so far, of the set this intent belongs to; its own earlier reservation included here.
    pub own_set: Amount,
}

/// An earlier signature over a slot that this intent spends again.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EarlierUse {
    /// The slot.
    pub slot: SlotId,
    /// Lane it was signed on.
    pub lane: LaneName,
    /// Orders that transaction paid; none: everything stayed ours.
    pub orders: Vec<OrderRef>,
    /// It was only reserved, and never can be given out any more: an order of it ended before any transaction
    /// that pays that order was given out.
    pub void: bool,
}

/// What the log knows about one order of the intent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OrderHistory {
    /// The order.
    pub order: OrderRef,
    /// How many different transactions paying it were signed.
    pub versions: u32,
    /// Whether one of them was given out, signed; one that was only reserved never left the signer.
    pub released: bool,
    /// Whether this intent spends at least one slot of every one of them.
    pub conflicts_with_all: bool,
    /// Whether every one of them was signed for an order with the same bytes.
    pub same_content: bool,
}

/// Highest index used so far on a branch that outputs of the intent pay to; `None`: none used yet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct IndexUse {
    /// The wallet (the spending wallet for change, the cold wallet for cold outputs).
    pub wallet: WalletName,
    /// True for the change branch.
    pub change: bool,
    /// The highest index any signed transaction paid to.
    pub last_used: Option<u32>,
    /// The highest index paid to by transactions signed more than a day ago, so that a day's ground is bounded
    /// however small its steps.
    pub used_a_day_ago: Option<u32>,
    /// Records proven so far bound what may be paid to on token-hd wallets; `None` for cold wallets.
    pub proven_below: Option<u32>,
}

/// Everything the ledger says about one intent. Only the signer's ledger makes it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Evidence {
    pub(crate) answers: Vec<Answer>,
    pub(crate) uses: Vec<EarlierUse>,
    pub(crate) orders: Vec<OrderHistory>,
    pub(crate) indexes: Vec<IndexUse>,
    /// Slots whose proven amount differs from the amount first proven for them (CVE-2020-14199).
    pub(crate) repriced: Vec<SlotId>,
    /// Most transactions, other than this very one and void ones, that were signed over one of the slots.
    pub(crate) most_versions: u32,
}

impl Evidence {
    /// Puts the ledger's answers together. For the signer's ledger alone: anything else that calls this
    /// decides on facts nobody wrote down.
    #[must_use]
    pub fn from_ledger(
        answers: Vec<Answer>,
        uses: Vec<EarlierUse>,
        orders: Vec<OrderHistory>,
        indexes: Vec<IndexUse>,
        repriced: Vec<SlotId>,
        most_versions: u32,
    ) -> Self {
        Self { answers, uses, orders, indexes, repriced, most_versions }
    }
}
