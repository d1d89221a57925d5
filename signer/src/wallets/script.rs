//! The kinds of script that wallets have, and what a signed input of each weighs. It never builds a transaction.

use std::fmt;

/// A low-S DER signature of at most 71 bytes with its sighash type.
const SIGNATURE: u64 = 72;
/// A compressed public key.
const KEY: u64 = 33;

/// What a wallet's scripts are.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ScriptKind {
    /// `wpkh(KEY)`.
    P2wpkh,
    /// `sh(wpkh(KEY))`.
    P2shP2wpkh,
    /// `pkh(KEY)`.
    P2pkh,
    /// `wsh(sortedmulti(needed,KEY,...))`.
    P2wshSortedMulti {
        /// Signatures needed.
        needed: u8,
        /// Of so many keys.
        keys: u8,
    },
    /// `tr(KEY)`, without scripts.
    P2tr,
    /// Anything else: coins can be sent there, and nothing here spends them.
    Other,
}

impl ScriptKind {
    /// Whether inputs of this kind are signed with ECDSA by keys wrapped for a token.
    #[must_use]
    pub fn is_ecdsa(self) -> bool {
        match self {
            Self::P2wpkh | Self::P2shP2wpkh | Self::P2pkh | Self::P2wshSortedMulti { .. } => true,
            Self::P2tr | Self::Other => false,
        }
    }

    /// Whether others may have to sign as well.
    #[must_use]
    pub fn is_shared(self) -> bool {
        matches!(self, Self::P2wshSortedMulti { .. })
    }

    /// Whether a signed input has a witness.
    #[must_use]
    pub fn has_witness(self) -> bool {
        self != Self::P2pkh
    }

    /// What signing adds to an input at most, in weight units: to its empty script and its witness (BIP-141).
    #[must_use]
    pub fn signed_weight(self) -> u64 {
        let single = 1 + 1 + SIGNATURE + 1 + KEY;
        match self {
            Self::P2wpkh => single,
            // The push of a 22-byte program.
            Self::P2shP2wpkh => single + 23 * 4,
            // Two pushes; the script's length still takes one byte.
            Self::P2pkh => (1 + SIGNATURE + 1 + KEY) * 4,
            Self::P2wshSortedMulti { needed, keys } => {
                let script = multisig_len(needed, keys);
                let length = if script < 0xfd { 1 } else { 3 };
                // The number of items, the empty one that CHECKMULTISIG takes too many, signatures, script.
                let signatures = u64::from(needed).saturating_mul(1 + SIGNATURE);
                signatures.saturating_add(script).saturating_add(length).saturating_add(1 + 1)
            }
            // One signature of 64 bytes without a type, its length, the number of items.
            Self::P2tr | Self::Other => 1 + 1 + 64,
        }
    }
}

/// `needed <key>... keys OP_CHECKMULTISIG`; numbers above 16 take a byte more.
fn multisig_len(needed: u8, keys: u8) -> u64 {
    let number = |n: u8| if n > 16 { 2 } else { 1 };
    let pushes = u64::from(keys).saturating_mul(1 + KEY);
    pushes.saturating_add(number(needed)).saturating_add(number(keys)).saturating_add(1)
}

impl fmt::Display for ScriptKind {
    /// The name shown everywhere.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::P2wpkh => f.write_str("p2wpkh"),
            Self::P2shP2wpkh => f.write_str("p2sh-p2wpkh"),
            Self::P2pkh => f.write_str("p2pkh"),
            Self::P2wshSortedMulti { needed, keys } => {
                write!(f, "p2wsh-sortedmulti-{needed}-of-{keys}")
            }
            Self::P2tr => f.write_str("p2tr"),
            Self::Other => f.write_str("other"),
        }
    }
}
