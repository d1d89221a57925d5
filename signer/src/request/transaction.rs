//! What may be signed at all, whoever asks: a plain transaction within stated bounds. It never looks at whose
//! coins they are.

use std::collections::HashSet;

use bitcoin::psbt::{Input, Psbt};
use bitcoin::{Amount, EcdsaSighashType, NetworkKind, TapSighashType, Transaction};

use super::psbt::{self, Named, Version};
use super::{HEADER_BYTES_MAX, INPUTS_MAX, OUTPUTS_MAX, WEIGHT_MAX};
use crate::refusal::{Reason, Refusal};
use crate::wallets::ScriptKind;

/// Final; final but opting into lock time; replaceable (BIP-125). Anything lower would be a relative lock.
const SEQUENCES: [u32; 3] = [0xffff_ffff, 0xffff_fffe, 0xffff_fffd];
/// Marker and flag of a transaction with witnesses (BIP-144).
const SEGWIT_WEIGHT: u64 = 2;

/// Reads a PSBT and checks everything that its transaction alone can tell.
pub(super) fn read(
    bytes: &[u8],
    network: bitcoin::Network,
    kind: ScriptKind,
) -> Result<(Psbt, Vec<Named>, Version), Refusal> {
    if bytes.len() > HEADER_BYTES_MAX {
        let text =
            format!("the PSBT has {} bytes, at most {HEADER_BYTES_MAX} are read", bytes.len());
        return Err(Refusal::new(Reason::Oversize, text));
    }
    let (psbt, named, version) = psbt::read_apart(bytes)
        .map_err(|error| Refusal::new(Reason::BadPsbt, format!("this is no PSBT: {error}")))?;
    shape(&psbt.unsigned_tx, kind)?;
    amounts(&psbt.unsigned_tx)?;
    fields(&psbt, &named, NetworkKind::from(network), kind)?;
    Ok((psbt, named, version))
}

/// Inputs less outputs.
pub(super) fn fee(
    transaction: &Transaction,
    mut inputs: impl Iterator<Item = Amount>,
) -> Result<Amount, Refusal> {
    let spent = inputs.try_fold(Amount::ZERO, Amount::checked_add);
    let paid = output_sum(transaction);
    match spent.zip(paid).and_then(|(spent, paid)| spent.checked_sub(paid)) {
        Some(fee) if fee > Amount::ZERO => Ok(fee),
        _ => {
            let sat = |amount: Option<Amount>| amount.map_or(u64::MAX, Amount::to_sat);
            let (spent, paid) = (sat(spent), sat(paid));
            let text = format!(
                "inputs come to {spent} sat and outputs to {paid} sat: nothing is left for the fee"
            );
            Err(Refusal::new(Reason::NoFee, text))
        }
    }
}

/// The largest virtual size the signed transaction can have.
pub(super) fn signed_vsize(transaction: &Transaction, kind: ScriptKind) -> u64 {
    signed_weight(transaction, kind).div_ceil(4)
}

fn signed_weight(transaction: &Transaction, kind: ScriptKind) -> u64 {
    let inputs = u64::try_from(transaction.input.len()).unwrap_or(u64::MAX);
    let signed = inputs.saturating_mul(kind.signed_weight());
    let frame = if kind.has_witness() { SEGWIT_WEIGHT } else { 0 };
    transaction.weight().to_wu().saturating_add(signed).saturating_add(frame)
}

/// Version, lock time, sequences, counts, weight, no coin twice.
fn shape(transaction: &Transaction, kind: ScriptKind) -> Result<(), Refusal> {
    let (inputs, outputs) = (transaction.input.len(), transaction.output.len());
    if !(1..=INPUTS_MAX).contains(&inputs) || !(1..=OUTPUTS_MAX).contains(&outputs) {
        let reason = if inputs == 0 || outputs == 0 { Reason::BadPsbt } else { Reason::Oversize };
        let text = format!(
            "the transaction has {inputs} inputs and {outputs} outputs; from 1 to {INPUTS_MAX} and from 1 to {OUTPUTS_MAX} may be: split it"
        );
        return Err(Refusal::new(reason, text));
    }
    let weight = signed_weight(transaction, kind);
    if weight > WEIGHT_MAX {
        let text = format!(
            "signed, the transaction would weigh {weight} units, at most {WEIGHT_MAX} may be: split it"
        );
        return Err(Refusal::new(Reason::Oversize, text));
    }
    let version = transaction.version.0;
    if !(1..=2).contains(&version) {
        let text = format!("the transaction has version {version}, and only 1 and 2 are signed");
        return Err(Refusal::new(Reason::TransactionVersion, text));
    }
    if !transaction.lock_time.is_block_height() {
        let text = format!(
            "the lock time {} is a time; 0 or a block height is signed",
            transaction.lock_time
        );
        return Err(Refusal::new(Reason::LockTime, text));
    }
    let mut coins = HashSet::with_capacity(inputs);
    for (position, input) in transaction.input.iter().enumerate() {
        let sequence = input.sequence.0;
        if !SEQUENCES.contains(&sequence) {
            let text = format!(
                "input {position} has sequence {sequence:#010x}; 0xffffffff, 0xfffffffe and 0xfffffffd are signed"
            );
            return Err(Refusal::new(Reason::Sequence, text));
        }
        if !coins.insert(input.previous_output) {
            let text = format!("input {position} spends {} again", input.previous_output);
            return Err(Refusal::new(Reason::DuplicateInput, text));
        }
    }
    Ok(())
}

fn amounts(transaction: &Transaction) -> Result<(), Refusal> {
    if output_sum(transaction).is_none() {
        let text = "the outputs come to more than there will ever be (21 million bitcoin)";
        return Err(Refusal::new(Reason::OutputOverflow, text));
    }
    for (position, output) in transaction.output.iter().enumerate() {
        let least = output.script_pubkey.minimal_non_dust();
        if output.value < least {
            let text = format!(
                "output {position} is {} sat; below {} sat nodes do not relay it",
                output.value.to_sat(),
                least.to_sat()
            );
            return Err(Refusal::new(Reason::DustOutput, text));
        }
    }
    Ok(())
}

/// The sum of all outputs, unless it or one of them is more money than there can be.
fn output_sum(transaction: &Transaction) -> Option<Amount> {
    let possible = |sum: Amount| (sum <= Amount::MAX_MONEY).then_some(sum);
    let mut outputs = transaction.output.iter();
    outputs.try_fold(Amount::ZERO, |sum, output| {
        sum.checked_add(possible(output.value)?).and_then(possible)
    })
}

/// Only what asks for a plain signature. Fields nobody here knows are refused, not ignored: whoever set them
/// wanted something that would not happen.
fn fields(
    psbt: &Psbt,
    named: &[Named],
    network: NetworkKind,
    kind: ScriptKind,
) -> Result<(), Refusal> {
    let refuse = |place: String, what: &str| {
        Err(Refusal::new(Reason::PsbtField, format!("{place} has {what}: send it without")))
    };
    if !psbt.unknown.is_empty() || !psbt.proprietary.is_empty() {
        return refuse("the PSBT's global part".to_owned(), "fields this signer does not know");
    }
    if psbt.xpub.keys().any(|xpub| xpub.network != network) {
        let text = "the PSBT names extended keys of another network";
        return Err(Refusal::new(Reason::WrongNetwork, text));
    }
    for (position, (input, named)) in psbt.inputs.iter().zip(named).enumerate() {
        sighash(position, input, kind)?;
        if let Some(what) = unwanted(input, named, kind) {
            return refuse(format!("input {position}"), what);
        }
    }
    for (position, output) in psbt.outputs.iter().enumerate() {
        if !output.unknown.is_empty() || !output.proprietary.is_empty() {
            return refuse(format!("output {position}"), "fields this signer does not know");
        }
    }
    Ok(())
}

fn sighash(position: usize, input: &Input, kind: ScriptKind) -> Result<(), Refusal> {
    let Some(wanted) = input.sighash_type else { return Ok(()) };
    let (signed, right) = if kind == ScriptKind::P2tr {
        ("SIGHASH_DEFAULT", wanted.taproot_hash_ty() == Ok(TapSighashType::Default))
    } else {
        ("SIGHASH_ALL", wanted.ecdsa_hash_ty() == Ok(EcdsaSighashType::All))
    };
    if right {
        return Ok(());
    }
    let text = format!("input {position} asks for {wanted}; only {signed} is signed");
    Err(Refusal::new(Reason::UnknownSighash, text))
}

fn unwanted(input: &Input, named: &Named, kind: ScriptKind) -> Option<&'static str> {
    let hashes = [
        input.ripemd160_preimages.is_empty(),
        input.sha256_preimages.is_empty(),
        input.hash160_preimages.is_empty(),
        input.hash256_preimages.is_empty(),
    ];
    let scripts = [
        input.tap_script_sigs.is_empty(),
        input.tap_scripts.is_empty(),
        input.tap_merkle_root.is_none(),
    ];
    // The internal key is a claim like a key's origin (`claims`): the output key is derived here and compared.
    let taproot = [named.taproot.is_empty(), named.internal.is_none()];
    let is_taproot = kind == ScriptKind::P2tr;
    let checks = [
        (
            (kind.is_shared() || input.partial_sigs.is_empty()) && input.tap_key_sig.is_none(),
            "signatures already",
        ),
        (
            kind.has_witness() || input.witness_utxo.is_none(),
            "a witness_utxo, and the wallet's inputs have no witness",
        ),
        (input.final_script_sig.is_none(), "a final script already"),
        (input.final_script_witness.is_none(), "a final witness already"),
        (
            kind == ScriptKind::P2shP2wpkh || input.redeem_script.is_none(),
            "a redeem script, and the wallet's inputs have none",
        ),
        (
            kind.is_shared() || input.witness_script.is_none(),
            "a witness script, and the wallet's inputs have none",
        ),
        (hashes.iter().all(|empty| *empty), "hash preimages, which no wallet here needs"),
        (scripts.iter().all(|empty| *empty), "taproot scripts, and none is signed"),
        (
            is_taproot || taproot.iter().all(|empty| *empty),
            "taproot fields, and the wallet's inputs are none",
        ),
        (input.unknown.is_empty(), "fields this signer does not know"),
        (input.proprietary.is_empty(), "fields this signer does not know"),
    ];
    checks.iter().find(|(clean, _)| !clean).map(|(_, what)| *what)
}
