//! What a request wants, in words no chain owns: who asks, which lane, what moves where, at what fee.
//! It never holds raw transaction bytes and never decides.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use asset::{Amount, AssetId};

use crate::names::{ClientName, LaneName, WalletName};
use crate::order::{OrderRef, VerifiedOrder};

/// A 16-byte request id: the start of SHA-256 over caller and idempotency key, so a retry has the same id.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct RequestId(pub [u8; 16]);

/// Something that can be spent once: for Bitcoin an outpoint (txid in wire order, then vout little-endian).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SlotId(pub [u8; 36]);

impl fmt::Display for SlotId {
    /// As people write an outpoint: the transaction's id, a colon, and the output's number.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (id, number) = self.0.split_at(32);
        id.iter().rev().try_for_each(|byte| write!(f, "{byte:02x}"))?;
        let number = number.try_into().map_or(0, u32::from_le_bytes);
        write!(f, ":{number}")
    }
}

/// One input of the request, proven to be ours and to hold this amount.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Slot {
    /// What is spent.
    pub id: SlotId,
    /// Its proven amount, in the fee asset's base units.
    pub amount: Amount,
}

/// Where one output goes. `Cold` and `Change` were re-derived by the signer, never believed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Destination {
    /// The cold wallet of this name, at this index of its descriptor.
    Cold {
        /// Wallet name in the policy.
        wallet: WalletName,
        /// Index on its external branch.
        index: u32,
    },
    /// The spending wallet's own change branch at this index.
    Change {
        /// Index on the change branch.
        index: u32,
    },
    /// Somebody else.
    External {
        /// The script being paid (scriptPubKey).
        script: Vec<u8>,
        /// Its address text, for people; empty if the script has none.
        address: String,
        /// The order this output pays, when the request matched one to it.
        order: Option<OrderRef>,
    },
}

/// One movement of value.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Transfer {
    /// What moves.
    pub asset: AssetId,
    /// How much, in base units.
    pub amount: Amount,
    /// Where to.
    pub to: Destination,
}

/// What the transaction pays to be included.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fee {
    /// The asset fees are paid in.
    pub asset: AssetId,
    /// Inputs less outputs, in base units.
    pub amount: Amount,
    /// The signed transaction's largest possible virtual size, in vbytes (BIP-141).
    pub vsize: u64,
}

/// A whole request, proven and decoded; the only thing a decision sees of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Intent {
    /// Its id.
    pub request: RequestId,
    /// Who asks, from the client certificate.
    pub caller: ClientName,
    /// The lane it asks for.
    pub lane: LaneName,
    /// The wallet whose coins it spends.
    pub wallet: WalletName,
    /// Orders whose signatures were verified against keys pinned in the policy.
    pub orders: Vec<VerifiedOrder>,
    /// Every output.
    pub transfers: Vec<Transfer>,
    /// The fee.
    pub fee: Fee,
    /// Every input, in order.
    pub slots: Vec<Slot>,
    /// SHA-256 over the canonical request (lane, wallet, unsigned transaction, orders).
    pub digest: [u8; 32],
}
