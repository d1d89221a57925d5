//! Transactions in the log: their inputs, sums and signatures, computed again from the bytes. It never asks a node
//! whether the coins exist.

use std::collections::HashSet;

use audit::entry::Spend;
use bitcoin::hashes::Hash as _;
use bitcoin::secp256k1::{Message, Secp256k1, VerifyOnly};
use bitcoin::sighash::SighashCache;
use bitcoin::{Amount, EcdsaSighashType, ScriptBuf, Transaction, TxIn, Txid};

/// An outpoint as entries write it: txid in wire order, output number little-endian.
pub(super) type SlotBytes = [u8; 36];

/// What a spend's transaction says.
pub(super) struct Coins {
    pub(super) txid: Txid,
    pub(super) slots: HashSet<SlotBytes>,
}

/// Checks that a spend's numbers are those of its transaction.
pub(super) fn check_spend(spend: &Spend) -> Result<Coins, String> {
    let transaction = read(&spend.transaction)?;
    if transaction
        .input
        .iter()
        .any(|input| !input.witness.is_empty() || !input.script_sig.is_empty())
    {
        return Err("the allowed transaction carries signatures".to_owned());
    }
    let inputs = transaction.input.iter().map(outpoint);
    let slots = spend.slots.iter().map(|s| slot(&s.slot)).collect::<Result<Vec<_>, _>>()?;
    if !inputs.eq(slots.iter().copied()) {
        return Err("the coins it names are not those its transaction spends".to_owned());
    }
    let distinct: HashSet<SlotBytes> = slots.iter().copied().collect();
    if distinct.len() != slots.len() {
        return Err("it spends one coin twice".to_owned());
    }
    let incoming = sum(spend.slots.iter().map(|slot| slot.amount))?;
    let outgoing = sum(transaction.output.iter().map(|out| u128::from(out.value.to_sat())))?;
    if outgoing.checked_add(spend.fee) != Some(incoming) {
        let fee = spend.fee;
        return Err(format!("its sums do not agree: {incoming} in, {outgoing} out, fee {fee}"));
    }
    if spend.external > outgoing {
        return Err("more leaves than its outputs hold".to_owned());
    }
    Ok(Coins { txid: transaction.compute_txid(), slots: distinct })
}

/// Checks that a signed transaction is the allowed one and that every signature in it verifies; how many there are.
pub(super) fn check_signed(bytes: &[u8], spend: &Spend) -> Result<u64, String> {
    let signed = read(bytes)?;
    if signed.compute_txid() != read(&spend.transaction)?.compute_txid() {
        return Err("another transaction was signed than was allowed".to_owned());
    }
    let mut cache = SighashCache::new(&signed);
    let curve = Secp256k1::verification_only();
    let mut verified = 0_u64;
    for (number, (input, slot)) in signed.input.iter().zip(&spend.slots).enumerate() {
        check_input(&curve, &mut cache, number, input, slot.amount)
            .map_err(|why| format!("input {number}: {why}"))?;
        verified = verified.saturating_add(1);
    }
    Ok(verified)
}

/// One P2WPKH input: the signature must be by the key beside it, over everything and over the logged amount.
fn check_input(
    curve: &Secp256k1<VerifyOnly>,
    cache: &mut SighashCache<&Transaction>,
    number: usize,
    input: &TxIn,
    amount: u128,
) -> Result<(), String> {
    let witness: Vec<&[u8]> = input.witness.iter().collect();
    let [signature, key] = *witness else { return Err("it has no signature and key".to_owned()) };
    let signature =
        bitcoin::ecdsa::Signature::from_slice(signature).map_err(|error| error.to_string())?;
    if signature.sighash_type != EcdsaSighashType::All {
        return Err("its signature does not cover everything (SIGHASH_ALL)".to_owned());
    }
    let key = bitcoin::CompressedPublicKey::from_slice(key).map_err(|error| error.to_string())?;
    let script = ScriptBuf::new_p2wpkh(&key.wpubkey_hash());
    let value = u64::try_from(amount).map_err(|_| "its amount cannot be".to_owned())?;
    let hash = cache
        .p2wpkh_signature_hash(number, &script, Amount::from_sat(value), EcdsaSighashType::All)
        .map_err(|error| error.to_string())?;
    let message = Message::from_digest(hash.to_byte_array());
    curve
        .verify_ecdsa(&message, &signature.signature, &key.0)
        .map_err(|_| "its signature does not verify".to_owned())
}

/// An outpoint of an entry.
pub(super) fn slot(bytes: &[u8]) -> Result<SlotBytes, String> {
    SlotBytes::try_from(bytes).map_err(|_| "a coin is not named by 36 bytes".to_owned())
}

fn read(bytes: &[u8]) -> Result<Transaction, String> {
    bitcoin::consensus::deserialize(bytes)
        .map_err(|error| format!("its transaction cannot be read: {error}"))
}

fn outpoint(input: &TxIn) -> SlotBytes {
    let txid = input.previous_output.txid.to_byte_array();
    let bytes = txid.into_iter().chain(input.previous_output.vout.to_le_bytes());
    let mut slot = [0; 36];
    slot.iter_mut().zip(bytes).for_each(|(to, from)| *to = from);
    slot
}

fn sum(mut amounts: impl Iterator<Item = u128>) -> Result<u128, String> {
    amounts.try_fold(0_u128, u128::checked_add).ok_or_else(|| "its sums are too large".to_owned())
}
