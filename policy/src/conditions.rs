//! What limits, requirements and denials are about: which requests, which destinations, which amounts. It only says
//! what was written; `matching` says whether it holds.

use alloc::string::String;
use alloc::vec::Vec;

use asset::Amount;

use crate::hours::Hours;
use crate::names::{ClientName, GroupName, KeyName, LaneName, ListName, RuleName, WalletName};
use crate::people::Quorum;

/// Which requests a rule is about: all that is said must hold. An empty list says nothing.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct When {
    /// On one of these lanes.
    pub lanes: Vec<LaneName>,
    /// From one of these wallets.
    pub wallets: Vec<WalletName>,
    /// Asked by one of these clients.
    pub clients: Vec<ClientName>,
    /// Paying an order by one of these keys.
    pub order_keys: Vec<KeyName>,
    /// Paying somebody who is, or is not, on lists.
    pub destinations: Option<Destinations>,
    /// Letting more leave than this.
    pub above: Option<Above>,
    /// When no sanctions list is here that was made at most so many seconds ago.
    pub unscreened_seconds: Option<u64>,
    /// When the books were not found balanced within so many seconds.
    pub unbalanced_seconds: Option<u64>,
}

/// A condition on destinations: it holds when one of them is on (or is not on) one of the lists.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Destinations {
    /// True: somebody on a list is paid. False: somebody on none of them is.
    pub listed: bool,
    /// Which lists.
    pub lists: Vec<ListName>,
}

/// A condition on amounts: what leaves, fee included.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Above {
    /// Strictly more than this.
    pub amount: Amount,
    /// Together with what left earlier; `None`: by this transaction alone.
    pub window: Option<Window>,
}

/// How far back, and whose.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Window {
    /// Seconds.
    pub seconds: u64,
    /// What is added up together.
    pub by: By,
}

/// What a window adds up together.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum By {
    /// What each order key ordered.
    Orderer,
    /// What each client asked for.
    Client,
    /// What left each wallet.
    Wallet,
    /// What each destination got.
    Destination,
    /// What went over each lane.
    Lane,
    /// Each asset.
    Asset,
    /// Everything.
    Global,
}

impl By {
    /// Every one, by its name in a policy.
    pub const ALL: [(&str, Self); 7] = [
        ("orderer", Self::Orderer),
        ("client", Self::Client),
        ("wallet", Self::Wallet),
        ("destination", Self::Destination),
        ("lane", Self::Lane),
        ("asset", Self::Asset),
        ("global", Self::Global),
    ];
}

/// A cap on what leaves in a rolling window, fees included.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Limit {
    /// Its name.
    pub name: RuleName,
    /// The lanes it is about, of which it adds up; empty: all.
    pub lanes: Vec<LaneName>,
    /// How far back, and whose.
    pub window: Window,
    /// The most that may leave.
    pub sum: Option<Amount>,
    /// The most transactions.
    pub count: Option<u64>,
    /// Unix seconds after which it is no longer there.
    pub expires_unix: Option<u64>,
}

/// What must be met before a request that it is about is signed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Require {
    /// Its name.
    pub name: RuleName,
    /// What it is about.
    pub when: When,
    /// Who must approve.
    pub approvals: Option<Quorum>,
    /// Seconds to wait from when the request was first told to wait.
    pub delay_seconds: Option<u64>,
    /// The group any of whose members can stop it.
    pub veto: Option<GroupName>,
    /// When it may be signed; empty: always.
    pub hours: Vec<Hours>,
    /// Destinations were screened against a list no older than this, in seconds.
    pub screened_seconds: Option<u64>,
    /// The books were found balanced no longer ago than this, in seconds.
    pub books_seconds: Option<u64>,
    /// Unix seconds after which it is no longer there.
    pub expires_unix: Option<u64>,
}

/// What is never signed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Deny {
    /// Its name.
    pub name: RuleName,
    /// What it is about.
    pub when: When,
    /// Unix seconds after which it is no longer there.
    pub expires_unix: Option<u64>,
}

/// Destinations known by name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct List {
    /// Its name.
    pub name: ListName,
    /// A new entry counts as listed only after so many seconds.
    pub matures_seconds: u64,
    /// Whose attested entries are on it as well, as long as the log has them.
    pub book_keys: Vec<KeyName>,
    /// Who is on it.
    pub entries: Vec<ListEntry>,
}

/// One destination of a list, or the addresses of one wallet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ListEntry {
    /// What people call it; different from every other of the list.
    pub label: String,
    /// Which scripts it stands for.
    pub target: Target,
    /// Unix seconds after which it is no longer listed.
    pub expires_unix: Option<u64>,
}

/// What a list entry stands for. What an address or a descriptor means is the signer's to say.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Target {
    /// The address's script.
    Address(String),
    /// This script (scriptPubKey).
    Script(Vec<u8>),
    /// The scripts of a descriptor, at indexes below `indexes` where it has a range.
    Descriptor {
        /// With checksum.
        descriptor: String,
        /// How many.
        indexes: u32,
    },
}

/// Most indexes of a descriptor that is an address book's: they are derived whenever the log is read.
pub const BOOK_INDEXES_MAX: u32 = 100;

/// Most scripts that an entry of an address book stands for, all branches of its descriptor at all its indexes.
pub const BOOK_SCRIPTS_MAX: u32 = 200;

/// Whether a text can be a label: 1 to 64 visible characters.
#[must_use]
pub fn is_label(text: &str) -> bool {
    let visible = text.bytes().all(|b| b.is_ascii_graphic() || b == b' ');
    visible && (1..=64).contains(&text.len()) && text.trim() == text
}
