//! A transaction without any signature: what it does, for whoever may not have its signatures. It never leaves out a coin or an
//! output.

use bitcoin::{Psbt, ScriptBuf, Transaction, TxIn, Witness};
use sha2::{Digest as _, Sha256};

/// Of a transaction, however much of it is signed: no scriptSig, no witness.
#[must_use]
pub fn bare(transaction: &Transaction) -> Transaction {
    let bare = |input: &TxIn| TxIn {
        previous_output: input.previous_output,
        script_sig: ScriptBuf::new(),
        sequence: input.sequence,
        witness: Witness::new(),
    };
    Transaction {
        version: transaction.version,
        lock_time: transaction.lock_time,
        input: transaction.input.iter().map(bare).collect(),
        output: transaction.output.clone(),
    }
}

/// SHA-256 of that, which statements name it by beside the one with its signatures.
#[must_use]
pub fn bare_digest(transaction: &Transaction) -> [u8; 32] {
    Sha256::digest(bitcoin::consensus::serialize(&bare(transaction))).into()
}

/// The same of a PSBT's transaction; none: it is no PSBT.
#[must_use]
pub fn bare_digest_of_psbt(psbt: &[u8]) -> Option<[u8; 32]> {
    Psbt::deserialize(psbt).ok().map(|psbt| bare_digest(&psbt.unsigned_tx))
}
