//! What officers signed, typed: wallets, keys, grants and lanes. It never exists unverified:
//! [`SignedPolicy::verify`](crate::signed::SignedPolicy::verify) alone makes [`Rules`].

use alloc::string::String;
use alloc::vec::Vec;

use asset::{Amount, FeeRate, Network, Percent};
use order::Order;

use crate::asked::{Asked, Of};
use crate::conditions::{Deny, Limit, List, Require};
use crate::evidence::Measure;
use crate::facts::FactKeys;
use crate::governance::Governance;
use crate::grant::Grant;
use crate::names::{ClientName, KeyName, LaneName, ListName, WalletName};
use crate::order::{OrderRefusal, VerifiedOrder};
use crate::people::{Group, Officer, People, Quorum};
use crate::witnesses::Witness;

/// A policy in force.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rules {
    pub(crate) document: Document,
    pub(crate) text: String,
    pub(crate) digest: [u8; 32],
    pub(crate) officers: Vec<KeyName>,
}

/// What the text says, once every reference in it is known to hold.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Document {
    pub(crate) version: u64,
    pub(crate) network: Network,
    pub(crate) log: Option<String>,
    pub(crate) wallets: Vec<Wallet>,
    pub(crate) order_keys: Vec<OrderKey>,
    pub(crate) clients: Vec<Client>,
    pub(crate) lanes: Vec<Lane>,
    pub(crate) people: Vec<Officer>,
    pub(crate) groups: Vec<Group>,
    pub(crate) governance: Option<Governance>,
    pub(crate) lists: Vec<List>,
    pub(crate) limits: Vec<Limit>,
    pub(crate) requires: Vec<Require>,
    pub(crate) denies: Vec<Deny>,
    pub(crate) witnesses: Vec<Witness>,
    pub(crate) witnesses_required: usize,
    pub(crate) unfreeze: Option<Quorum>,
    pub(crate) facts: FactKeys,
}

/// Where a wallet's keys are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Tier {
    /// Keys born in the token, which never leave it.
    Token,
    /// Children wrapped for the token.
    TokenHd,
    /// One account sealed for the token, opened in memory while it signs.
    SealedHd,
    /// Nowhere near this machine: coins go there, nothing here spends them.
    Cold,
}

impl Tier {
    /// The name shown everywhere.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::TokenHd => "token-hd",
            Self::SealedHd => "sealed-hd",
            Self::Cold => "cold",
        }
    }
}

/// A wallet officers signed for. A bundle with another descriptor is not this wallet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Wallet {
    /// Its name.
    pub name: WalletName,
    /// Where its keys are.
    pub tier: Tier,
    /// Output descriptor as text, with checksum.
    pub descriptor: String,
    /// How far above the last used index an own output may go.
    pub index_window: u32,
    /// SHA-256 of the proof that the token's keys were cloned by the vendor's means, for coins that hang on keys of one
    /// token alone. Only for the tier `token`.
    pub cloning_proof: Option<[u8; 32]>,
}

/// Fingerprints of the master keys that a descriptor names. All zeros stand for one that nobody knew.
fn masters(descriptor: &str) -> impl Iterator<Item = &str> {
    let named = descriptor.split('[').skip(1).filter_map(|origin| origin.get(..8));
    named.filter(|master| *master != "00000000" && master.bytes().all(|c| c.is_ascii_hexdigit()))
}

/// A service's key that signs payment orders. Lanes name the keys whose orders they pay.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OrderKey {
    /// Its name.
    pub name: KeyName,
    /// Raw Ed25519 public key.
    pub public_key: [u8; 32],
    /// The officer who holds it, and never counts as an approver of what it ordered.
    pub officer: Option<KeyName>,
    /// Unix seconds after which nothing that it ordered is paid.
    pub expires_unix: Option<u64>,
}

/// What a client may do besides its lanes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Client {
    /// DNS name of its certificate.
    pub name: ClientName,
    /// Wallets whose addresses it may have attested.
    pub attest: Vec<WalletName>,
    /// Whether it may ask for the signer's status.
    pub status: bool,
    /// Whether it may read the signer's log.
    pub log: bool,
    /// Whether it may show officers what waits, and bring what they say.
    pub officers: bool,
    /// Unix seconds after which it may do nothing, on no lane.
    pub expires_unix: Option<u64>,
}

/// One way coins may move.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Lane {
    /// Its name.
    pub name: LaneName,
    /// Who may ask on it, and for how much of it; each client once.
    pub clients: Vec<Grant>,
    /// Wallets it may spend.
    pub wallets: Vec<WalletName>,
    /// Caps on one transaction's fee, all at once.
    pub fee: FeeCaps,
    /// Rolling fee budgets; at least one.
    pub fee_budget: Vec<WindowCap>,
    /// Unix seconds after which it is closed.
    pub expires_unix: Option<u64>,
    /// What it may pay.
    pub kind: LaneKind,
}

/// What a lane may pay.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum LaneKind {
    /// Cold storage and change, nobody else.
    Sweep {
        /// The cold wallet.
        cold: WalletName,
        /// The least share of all outputs that goes there.
        min_cold_share: Percent,
    },
    /// Signed orders and change, nothing else.
    Withdraw {
        /// Keys whose orders it pays.
        order_keys: Vec<KeyName>,
        /// The most all external outputs of one transaction may come to.
        per_transaction: Amount,
        /// The most one destination may get in one transaction.
        per_destination: Option<Amount>,
        /// Rolling limits on what leaves; at least one.
        limits: Vec<WindowCap>,
    },
    /// Change of the same wallet, in fewer coins.
    Consolidate,
    /// Everything to one cold wallet, when all else is in doubt.
    Evacuate {
        /// The cold wallet.
        cold: WalletName,
        /// Who must approve.
        approvals: Quorum,
    },
    /// A payout that is out already, again at a higher fee; or its change, at a fee that pays for both.
    Bump {
        /// The most that child and parents may pay together.
        max_package: Amount,
        /// The most by their size together.
        max_package_feerate: FeeRate,
    },
}

/// Caps on one transaction's fee.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FeeCaps {
    /// Absolute.
    pub max_total: Amount,
    /// By size.
    pub max_feerate: FeeRate,
    /// By what moves: cold outputs of a sweep or an evacuation, external outputs of a withdrawal or of its bump, all of a
    /// consolidation or of a child that pays for its parents.
    pub max_percent: Percent,
}

/// A sum that a rolling window may not exceed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct WindowCap {
    /// The most.
    pub sum: Amount,
    /// Over how long.
    pub window_seconds: u64,
}

impl Rules {
    /// Strictly rising.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.document.version
    }

    /// The network it is for.
    #[must_use]
    pub fn network(&self) -> Network {
        self.document.network
    }

    /// Origin of the log of the one signer that it is for, where it names one.
    #[must_use]
    pub fn log(&self) -> Option<&str> {
        self.document.log.as_deref()
    }

    /// The whole text as signed.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// SHA-256 of the text.
    #[must_use]
    pub fn digest(&self) -> &[u8; 32] {
        &self.digest
    }

    /// Officers whose signatures were verified, sorted.
    #[must_use]
    pub fn officers(&self) -> &[KeyName] {
        &self.officers
    }

    /// Each sealed account and each wallet of wrapped children whose descriptors name one master key, as `[fingerprint/path]`
    /// says: a sealed account is opened outside the token, and its seed should be its own.
    pub fn shared_seeds(&self) -> impl Iterator<Item = (&WalletName, &WalletName)> {
        let of = |tier: Tier| self.wallets().iter().filter(move |wallet| wallet.tier == tier);
        of(Tier::SealedHd).flat_map(move |sealed| {
            let shares = |other: &&Wallet| {
                masters(&sealed.descriptor).any(|ours| {
                    masters(&other.descriptor).any(|its| its.eq_ignore_ascii_case(ours))
                })
            };
            of(Tier::TokenHd).filter(shares).map(|other| (&sealed.name, &other.name))
        })
    }

    /// Every wallet.
    #[must_use]
    pub fn wallets(&self) -> &[Wallet] {
        &self.document.wallets
    }

    /// The wallet of this name.
    #[must_use]
    pub fn wallet(&self, name: &WalletName) -> Option<&Wallet> {
        self.document.wallets.iter().find(|wallet| wallet.name == *name)
    }

    /// Every lane.
    #[must_use]
    pub fn lanes(&self) -> &[Lane] {
        &self.document.lanes
    }

    /// The lane of this name.
    #[must_use]
    pub fn lane(&self, name: &LaneName) -> Option<&Lane> {
        self.document.lanes.iter().find(|lane| lane.name == *name)
    }

    /// Every order key.
    #[must_use]
    pub fn order_keys(&self) -> &[OrderKey] {
        &self.document.order_keys
    }

    /// Every client and its grants.
    #[must_use]
    pub fn clients(&self) -> &[Client] {
        &self.document.clients
    }

    /// The order key of this name.
    #[must_use]
    pub fn order_key(&self, name: &KeyName) -> Option<&OrderKey> {
        self.document.order_keys.iter().find(|key| key.name == *name)
    }

    /// Whether the client may have this wallet's addresses attested.
    #[must_use]
    pub fn may_attest(&self, client: &ClientName, wallet: &WalletName) -> bool {
        self.client(client).is_some_and(|client| client.attest.contains(wallet))
    }

    /// Whether the client may have addresses attested at all.
    #[must_use]
    pub fn may_attest_some(&self, client: &ClientName) -> bool {
        self.client(client).is_some_and(|client| !client.attest.is_empty())
    }

    /// Whether the client may ask for the signer's status.
    #[must_use]
    pub fn may_read_status(&self, client: &ClientName) -> bool {
        self.client(client).is_some_and(|client| client.status)
    }

    /// Whether the client may read the signer's log.
    #[must_use]
    pub fn may_read_log(&self, client: &ClientName) -> bool {
        self.client(client).is_some_and(|client| client.log)
    }

    /// Who witnesses the log.
    #[must_use]
    pub fn witnesses(&self) -> &[Witness] {
        &self.document.witnesses
    }

    /// How many of them must have seen a checkpoint before what it covers counts.
    #[must_use]
    pub fn witnesses_required(&self) -> usize {
        self.document.witnesses_required
    }

    /// Whether the policy mentions the client at all.
    #[must_use]
    pub fn knows(&self, client: &ClientName) -> bool {
        self.client(client).is_some()
    }

    /// When everything that was granted to the client ended, if it has.
    #[must_use]
    pub fn client_ended(&self, client: &ClientName, now_unix: u64) -> Option<u64> {
        self.client(client)?.expires_unix.filter(|end| now_unix > *end)
    }

    /// Verifies a signed order against the key of that name.
    ///
    /// # Errors
    /// [`OrderRefusal`] when the policy has no such key, or bytes or signature are wrong.
    pub fn verify_order(
        &self,
        bytes: &[u8],
        signature: &[u8],
        signer: &str,
    ) -> Result<VerifiedOrder, OrderRefusal> {
        let key = self.document.order_keys.iter().find(|key| key.name.as_str() == signer);
        let key = key
            .ok_or_else(|| OrderRefusal::UnknownKey(signer.chars().take(64).collect::<String>()))?;
        let order = Order::verify(bytes, signature, &key.public_key)?;
        let digest = order.digest();
        Ok(VerifiedOrder { order, signer: key.name.clone(), key: key.public_key, digest })
    }

    /// Officers who may approve, reject, veto and freeze, by name.
    #[must_use]
    pub fn people(&self) -> &[Officer] {
        &self.document.people
    }

    /// Groups of officers, by name.
    #[must_use]
    pub fn groups(&self) -> &[Group] {
        &self.document.groups
    }

    /// Who may change this policy; `None`: the officers of the signer's configuration.
    #[must_use]
    pub fn governance(&self) -> Option<&Governance> {
        self.document.governance.as_ref()
    }

    /// Lists of destinations, by name.
    #[must_use]
    pub fn lists(&self) -> &[List] {
        &self.document.lists
    }

    /// The list of this name.
    #[must_use]
    pub fn list(&self, name: &ListName) -> Option<&List> {
        self.document.lists.iter().find(|list| list.name == *name)
    }

    /// Rolling limits, by name.
    #[must_use]
    pub fn limits(&self) -> &[Limit] {
        &self.document.limits
    }

    /// Whether anything may have to wait for people: by a rule that requires them, or on a lane that evacuates.
    #[must_use]
    pub fn asks_people(&self) -> bool {
        let evacuates = |lane: &Lane| matches!(lane.kind, LaneKind::Evacuate { .. });
        !self.requires().is_empty() || self.lanes().iter().any(evacuates)
    }

    /// Requirements, by name.
    #[must_use]
    pub fn requires(&self) -> &[Require] {
        &self.document.requires
    }

    /// Denials, by name.
    #[must_use]
    pub fn denies(&self) -> &[Deny] {
        &self.document.denies
    }

    pub(crate) fn everybody(&self) -> People<'_> {
        People { officers: &self.document.people, groups: &self.document.groups }
    }

    pub(crate) fn client(&self, name: &ClientName) -> Option<&Client> {
        self.document.clients.iter().find(|client| client.name == *name)
    }
}

impl Lane {
    /// Rolling limits on what leaves; none where nothing may leave.
    #[must_use]
    pub fn limits(&self) -> &[WindowCap] {
        match &self.kind {
            LaneKind::Withdraw { limits, .. } => limits,
            LaneKind::Sweep { .. }
            | LaneKind::Consolidate
            | LaneKind::Evacuate { .. }
            | LaneKind::Bump { .. } => &[],
        }
    }

    /// Whether it takes everything to cold storage when all else is in doubt: its freeze is its own.
    #[must_use]
    pub fn is_evacuation(&self) -> bool {
        matches!(self.kind, LaneKind::Evacuate { .. })
    }

    pub(crate) fn asked(&self, measure: Measure, cap: &WindowCap) -> Asked<'_> {
        let (of, window_seconds) = (Of::Lane(&self.name), cap.window_seconds);
        Asked { of, measure, lanes: &[], window_seconds }
    }
}
