//! Transactions signed with chosen nonces, and what the log holds of them.

use audit::entry::{Admitted, Event, Spend};
use bitcoin::absolute::LockTime;
use bitcoin::hashes::Hash as _;
use bitcoin::transaction::Version;
use bitcoin::{OutPoint, ScriptBuf, Sequence, Transaction, TxIn, Txid, Witness};
use secp256k1::ecdsa::Signature;

/// An input: which coin, which nonce, which key signed it, and how it is spelt.
pub(crate) type Input = (u8, u8, u8, bool);

/// A transaction signed with these nonces. Nobody here asks whether the signatures verify.
pub(crate) fn transaction(inputs: &[Input]) -> Transaction {
    let input = |&(coin, nonce, key, nested): &Input| {
        let signature =
            Signature::from_compact(&[[nonce + 1; 32], [key + 1; 32]].concat()).unwrap();
        let signed = [signature.serialize_der().as_ref(), &[1]].concat();
        TxIn {
            previous_output: OutPoint::new(Txid::from_byte_array([coin; 32]), 0),
            script_sig: if nested { ScriptBuf::from(vec![22; 23]) } else { ScriptBuf::new() },
            sequence: Sequence::MAX,
            witness: Witness::from_slice(&[signed, vec![2; 33]]),
        }
    };
    let input = inputs.iter().map(input).collect();
    Transaction { version: Version::TWO, lock_time: LockTime::ZERO, input, output: vec![] }
}

/// What the log holds of a request that was answered with it.
pub(crate) fn released(request: u64, transaction: &Transaction) -> [Event; 3] {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&request.to_be_bytes());
    let text = String::new;
    let (caller, key, lane, wallet) = (text(), text(), "sweep".to_owned(), "deposits".to_owned());
    let spend = Spend {
        request: id,
        policy: 1,
        lane: lane.clone(),
        wallet: wallet.clone(),
        caller: "watcher-1".to_owned(),
        fee: 1,
        external: 0,
        slots: vec![],
        orders: vec![],
        change_index: None,
        cold_index: None,
        transaction: vec![],
        trace: vec![],
    };
    let bytes = bitcoin::consensus::serialize(transaction);
    [
        Event::Admitted(Admitted { request: id, caller, key, lane, wallet, digest: [1; 32] }),
        Event::Spend(spend),
        Event::Signed { request: id, transaction: bytes },
    ]
}
