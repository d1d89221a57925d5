//! What the signer's own log knows that bears on one intent. It never decides, and holds no clock:
//! the ledger answers exactly the questions the rules ask, and a missing answer is a denial.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use asset::{Amount, AssetId};

use crate::intent::SlotId;
use crate::names::{ClientName, KeyName, LaneName, ListName, WalletName};
use crate::order::OrderRef;

/// What a rolling window adds up.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Measure {
    /// Fees of signed transactions.
    Fees,
    /// Amounts that left to external destinations.
    External,
    /// Both: amounts that left to external destinations, and fees.
    Leaving,
    /// How many transactions; a set of which at most one can confirm is one.
    Count,
}

/// Whose total.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Total {
    /// Transactions on this lane.
    Lane(LaneName),
    /// Asked for by this client.
    Client(ClientName),
    /// Spending this wallet.
    Wallet(WalletName),
    /// Paying at least one order by this public key; each counts whole.
    Orderer([u8; 32]),
    /// Paying this script (scriptPubKey): its outputs alone, and the whole fee.
    Destination(Vec<u8>),
    /// Moving this asset.
    Asset(AssetId),
    /// All.
    Everything,
}

impl fmt::Display for Total {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lane(lane) => write!(f, "lane \"{lane}\""),
            Self::Client(client) => write!(f, "client \"{client}\""),
            Self::Wallet(wallet) => write!(f, "wallet \"{wallet}\""),
            Self::Orderer(key) => write!(f, "order key {}", hex::encode(key)),
            Self::Destination(script) => write!(f, "script {}", hex::encode(script)),
            Self::Asset(asset) => write!(f, "asset {asset}"),
            Self::Everything => f.write_str("everything"),
        }
    }
}

/// "How much of `measure` was signed for `of`, on one of `lanes`, in the last `window_seconds`?"
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Question {
    /// Whose total.
    pub of: Total,
    /// On which lanes; empty: on any, whether the policy still has it or not.
    pub lanes: Vec<LaneName>,
    /// What is added up.
    pub measure: Measure,
    /// How far back, in seconds.
    pub window_seconds: u64,
}

impl Question {
    /// About one lane.
    #[must_use]
    pub fn of_lane(lane: LaneName, measure: Measure, window_seconds: u64) -> Self {
        Self { of: Total::Lane(lane), lanes: Vec::new(), measure, window_seconds }
    }
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
    /// What it paid to be included.
    pub fee: Amount,
    /// It was given out, signed.
    pub released: bool,
    /// It was given out, signed, spends every coin that the intent spends, and is in the conflict set that the intent joins: the
    /// larger of the two is what counts.
    pub covers: bool,
    /// It was given to nobody, and never will be: it was only reserved, and an order of it ended while no transaction
    /// that pays and binds that order was given out; or it was signed, and people took it back before anybody can have had it.
    pub void: bool,
}

/// A transaction that was given out, signed, not long ago, and whose change the intent spends.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Parent {
    /// Which coin.
    pub slot: SlotId,
    /// The transaction: several coins may have one parent.
    pub id: [u8; 32],
    /// What it paid to be included.
    pub fee: Amount,
    /// Its virtual size, in vbytes.
    pub vsize: u64,
    /// The lane it was signed on, if it paid no orders: it may itself be there to carry others.
    pub unordered: Option<LaneName>,
}

/// What the log knows about one order of the intent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OrderHistory {
    /// The order.
    pub order: OrderRef,
    /// How many different transactions paying it were signed.
    pub versions: u32,
    /// Whether one of them was given out, signed; one that was only reserved never left the signer. One that officers unbound the
    /// order from stands for nothing here.
    pub released: bool,
    /// Whether this intent spends at least one slot of every one of them, but for those that officers unbound the order from.
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

/// "Which entries of `list` stand for `script`, and since when?"
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ListQuestion {
    /// The list.
    pub list: ListName,
    /// An external destination of the intent (scriptPubKey).
    pub script: Vec<u8>,
}

/// The answer to one [`ListQuestion`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Listing {
    /// The question.
    pub question: ListQuestion,
    /// Every entry that stands for the script; none: it is not on the list.
    pub entries: Vec<Listed>,
}

/// One list entry that stands for a destination.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Listed {
    /// The entry's label in the policy.
    pub label: String,
    /// Since when, without a break, policies in force have had this entry.
    pub since_unix: u64,
}

/// One entry of the address book that stands for a destination of the intent: attested by a key that the policy has, and
/// not taken back.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Booked {
    /// For which list, and which destination.
    pub question: ListQuestion,
    /// Who attested it.
    pub by: KeyName,
    /// Since when, without a break, the log has had it.
    pub since_unix: u64,
    /// Not before this.
    pub from_unix: u64,
    /// Unix seconds after which it does not count.
    pub expires_unix: Option<u64>,
}

/// An officer's approval of this very intent under the policy in force. The log gives no other, none that was used
/// up or taken back, and has verified its signature.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Approval {
    /// Who.
    pub officer: KeyName,
    /// When it was written down.
    pub at_unix: u64,
    /// Unix seconds after which it counts no longer.
    pub expires_unix: u64,
}

/// An officer's no to this very intent: a rejection or a veto. The log has verified its signature.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Objection {
    /// Who.
    pub officer: KeyName,
    /// When it was written down.
    pub at_unix: u64,
}

/// What is frozen.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum FreezeScope {
    /// All lanes but those that evacuate.
    Everything,
    /// Lanes that evacuate; nothing else freezes them.
    Evacuation,
    /// A wallet.
    Wallet(WalletName),
    /// A lane.
    Lane(LaneName),
    /// A client.
    Client(ClientName),
    /// One coin: quarantined until it is released.
    Slot(SlotId),
}

impl fmt::Display for FreezeScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Everything => f.write_str("everything"),
            Self::Evacuation => f.write_str("evacuation"),
            Self::Wallet(wallet) => write!(f, "wallet \"{wallet}\""),
            Self::Lane(lane) => write!(f, "lane \"{lane}\""),
            Self::Client(client) => write!(f, "client \"{client}\""),
            Self::Slot(slot) => write!(f, "coin {slot}"),
        }
    }
}

/// A freeze that is in force.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Freeze {
    /// What.
    pub scope: FreezeScope,
    /// By whom.
    pub officer: KeyName,
    /// Since when.
    pub at_unix: u64,
}

/// The sanctions list that the signer was given, and what it says about this intent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Screening {
    /// SHA-256 of the list.
    pub digest: [u8; 32],
    /// When the list was made.
    pub listed_unix: u64,
    /// How many of the intent's destinations and coins are on it.
    pub hits: u32,
}

/// An independent statement that the books balance.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Books {
    /// Up to this block.
    pub height: u64,
    /// When it was made.
    pub at_unix: u64,
}

/// How far the log believes the clock.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) enum Clock {
    /// Nobody said: no time has passed for whoever waits.
    #[default]
    Unsaid,
    /// It is in order.
    Sure,
    /// In doubt since this time.
    HeldAt(u64),
}

/// Everything the ledger says about one intent. Only the signer's ledger makes it, part by part; what it does not
/// say is not taken for a no.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Evidence {
    pub(crate) answers: Vec<Answer>,
    pub(crate) uses: Vec<EarlierUse>,
    pub(crate) parents: Vec<Parent>,
    pub(crate) orders: Vec<OrderHistory>,
    pub(crate) indexes: Vec<IndexUse>,
    pub(crate) repriced: Vec<SlotId>,
    pub(crate) most_versions: u32,
    pub(crate) listings: Vec<Listing>,
    pub(crate) booked: Vec<Booked>,
    pub(crate) approvals: Vec<Approval>,
    pub(crate) rejections: Option<Vec<Objection>>,
    pub(crate) vetoes: Option<Vec<Objection>>,
    pub(crate) freezes: Option<Vec<Freeze>>,
    pub(crate) asked_unix: Option<u64>,
    pub(crate) clock: Clock,
    pub(crate) screening: Option<Screening>,
    pub(crate) books: Option<Books>,
}

macro_rules! parts {
    ($($(#[$doc:meta])* $name:ident: $type:ty $(=> $wrap:expr)?;)*) => {
        impl Evidence {
            $($(#[$doc])*
            #[must_use]
            pub fn $name(mut self, $name: $type) -> Self {
                self.$name = $($wrap)?($name);
                self
            })*
        }
    };
}

impl Evidence {
    /// Nothing yet, to be completed by the methods below. For the signer's ledger alone: anything else that calls
    /// this decides on facts nobody wrote down.
    #[must_use]
    pub fn from_ledger() -> Self {
        Self::default()
    }

    /// How far the clock is believed. In doubt since `held_at`: for delays, maturing entries, vetoes and the ends of
    /// what restricts, time stands still there. `None`: it is in order. Nothing said: no time has passed at all.
    #[must_use]
    pub fn time_held(mut self, held_at: Option<u64>) -> Self {
        self.clock = held_at.map_or(Clock::Sure, Clock::HeldAt);
        self
    }

    /// The time up to which whoever must wait has waited.
    pub(crate) fn waited_until(&self, now_unix: u64) -> u64 {
        match self.clock {
            Clock::Unsaid => 0,
            Clock::Sure => now_unix,
            Clock::HeldAt(since) => now_unix.min(since),
        }
    }
}

parts! {
    /// Answers to [`Rules::questions`](crate::Rules::questions).
    answers: Vec<Answer>;
    /// Earlier signatures over the intent's slots.
    uses: Vec<EarlierUse>;
    /// Which of the intent's coins are change of transactions that were given out lately.
    parents: Vec<Parent>;
    /// What is known about each order.
    orders: Vec<OrderHistory>;
    /// How far own outputs have gone.
    indexes: Vec<IndexUse>;
    /// Slots whose proven amount differs from the amount first proven for them (CVE-2020-14199).
    repriced: Vec<SlotId>;
    /// Most transactions, other than this very one and those only reserved for an order that ended, that were signed over
    /// one of the slots.
    most_versions: u32;
    /// Answers to [`Rules::list_questions`](crate::Rules::list_questions).
    listings: Vec<Listing>;
    /// What the address book answers to the same questions; whoever is in it needs no entry of the policy.
    booked: Vec<Booked>;
    /// Approvals of this intent.
    approvals: Vec<Approval>;
    /// Rejections of this intent.
    rejections: Vec<Objection> => Some;
    /// Vetoes against this intent.
    vetoes: Vec<Objection> => Some;
    /// Every freeze in force.
    freezes: Vec<Freeze> => Some;
    /// When it was first written down that this intent waits under the policy in force; `None`: not yet.
    asked_unix: Option<u64>;
    /// The sanctions list and its hits; `None`: there is no list.
    screening: Option<Screening>;
    /// The newest statement that the books balance; `None`: there is none.
    books: Option<Books>;
}
