//! Transactions in the log: their inputs, sums and signatures, computed again from the bytes. It never asks a node
//! whether the coins exist.

use std::collections::HashSet;

use audit::entry::{Considered, Spend};
use bitcoin::hashes::Hash as _;
use bitcoin::sighash::SighashCache;
use bitcoin::{Amount, Psbt, ScriptBuf, Transaction, TxIn, Txid};

use super::signatures;

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

/// Checks that what is said of a denied request is about its transaction.
pub(super) fn check_considered(considered: &Considered) -> Result<(), String> {
    let transaction = read(&considered.transaction)?;
    let (inputs, outputs) = (transaction.input.len(), transaction.output.len());
    if inputs != considered.amounts.len() || outputs != considered.outputs.len() {
        return Err("it says something of other coins than its transaction has".to_owned());
    }
    Ok(())
}

/// Checks that a signed transaction is the allowed one and that every signature in it verifies; how many there are.
pub(super) fn check_signed(bytes: &[u8], spend: &Spend) -> Result<u64, String> {
    let (signed, bare) = allowed(bytes, spend)?;
    let mut cache = SighashCache::new(&bare);
    let mut verified = 0_u64;
    for (number, (input, slot)) in signed.input.iter().zip(&spend.slots).enumerate() {
        let found = signatures::of(input)
            .and_then(|found| found.verify(&mut cache, number, amount(slot.amount)?))
            .map_err(|why| format!("input {number}: {why}"))?;
        verified = verified.saturating_add(found);
    }
    Ok(verified)
}

/// Checks that a transaction of a taproot wallet is the allowed one and signed by key path, and counts its signatures.
/// They are over the scripts of all coins, which the log does not hold: whoever has those, a node, can verify them.
pub(super) fn check_taproot(bytes: &[u8], spend: &Spend) -> Result<u64, String> {
    let (signed, _) = allowed(bytes, spend)?;
    for (number, input) in signed.input.iter().enumerate() {
        let by_key = input.witness.len() == 1 && input.witness.nth(0).map(<[u8]>::len) == Some(64);
        if !(by_key && input.script_sig.is_empty()) {
            return Err(format!("input {number}: it has not the one signature of a key path"));
        }
    }
    Ok(u64::try_from(signed.input.len()).unwrap_or(u64::MAX))
}

/// A signed transaction, if it is the allowed one, and the same without signatures.
fn allowed(bytes: &[u8], spend: &Spend) -> Result<(Transaction, Transaction), String> {
    let signed = read(bytes)?;
    let mut bare = signed.clone();
    for input in &mut bare.input {
        input.witness.clear();
        input.script_sig = ScriptBuf::new();
    }
    if bare != read(&spend.transaction)? {
        return Err("another transaction was signed than was allowed".to_owned());
    }
    Ok((signed, bare))
}

/// As [`check_signed`], of a PSBT that other cosigners have to sign as well.
pub(super) fn check_partly_signed(bytes: &[u8], spend: &Spend) -> Result<u64, String> {
    let psbt = Psbt::deserialize(bytes).map_err(|error| format!("it holds no PSBT: {error}"))?;
    if psbt.unsigned_tx != read(&spend.transaction)? {
        return Err("another transaction was signed than was allowed".to_owned());
    }
    let mut cache = SighashCache::new(&psbt.unsigned_tx);
    let mut verified = 0_u64;
    for (number, (input, slot)) in psbt.inputs.iter().zip(&spend.slots).enumerate() {
        let found = signatures::of_fields(input)
            .and_then(|found| found.verify(&mut cache, number, amount(slot.amount)?))
            .map_err(|why| format!("input {number}: {why}"))?;
        verified = verified.saturating_add(found);
    }
    Ok(verified)
}

fn amount(units: u128) -> Result<Amount, String> {
    u64::try_from(units).map(Amount::from_sat).map_err(|_| "its amount cannot be".to_owned())
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
