//! The PSBT that goes on to other cosigners: made here from what was proven, with the signatures that are there. It
//! carries no field that a caller made up but the origins of output keys, which others check as we do.

use bitcoin::psbt::{Output, Psbt};
use bitcoin::{EcdsaSighashType, Transaction, ecdsa};
use secp256k1::PublicKey;
use secp256k1::ecdsa::Signature;

use super::own::OwnedInput;
use crate::refusal::{Reason, Refusal};
use crate::wallets::Wallet;

/// What one more signature adds to an input at most: its key and its value, with their lengths.
const SIGNATURE_BYTES: usize = 1 + 1 + 33 + 1 + 73;
/// Most bytes of an answer, with room for the rest of its log entry.
const ANSWER_BYTES_MAX: usize = audit::entry::ENTRY_BYTES_MAX - 4096;

/// The PSBT with what all cosigners need but the parents, which travel beside it as they came.
pub(super) fn psbt(
    wallet: &Wallet,
    transaction: &Transaction,
    inputs: &[OwnedInput],
    others: &[Vec<(PublicKey, Signature)>],
    outputs: Vec<Output>,
) -> Result<Psbt, Refusal> {
    let internal = |error: bitcoin::psbt::Error| Refusal::new(Reason::Internal, error.to_string());
    let mut psbt = Psbt::from_unsigned_tx(transaction.clone()).map_err(internal)?;
    let places = inputs.iter().zip(others);
    for (fields, (input, signatures)) in psbt.inputs.iter_mut().zip(places) {
        fields.witness_utxo = Some(input.prevout.clone());
        fields.redeem_script.clone_from(&input.place.redeem);
        fields.witness_script.clone_from(&input.place.witness);
        for (position, key) in input.place.keys.iter().enumerate() {
            if let Some(source) = wallet.source(input.change, position, input.index) {
                fields.bip32_derivation.insert(*key, source);
            }
        }
        signatures.iter().for_each(|(key, signature)| add(fields, key, signature));
    }
    let origins = |output: Output| Output {
        bip32_derivation: output.bip32_derivation,
        tap_key_origins: output.tap_key_origins,
        ..Output::default()
    };
    psbt.outputs = outputs.into_iter().map(origins).collect();
    let added = inputs.len().saturating_mul(SIGNATURE_BYTES).saturating_mul(wallet.own().len());
    let bytes = psbt.serialize().len().saturating_add(added);
    if bytes > ANSWER_BYTES_MAX {
        let text = format!(
            "the signed PSBT could have {bytes} bytes, at most {ANSWER_BYTES_MAX} are kept: spend fewer coins at once"
        );
        return Err(Refusal::new(Reason::Oversize, text));
    }
    Ok(psbt)
}

/// Adds a signature over everything; a fresh one by the same key takes the place of the other.
pub(super) fn add(fields: &mut bitcoin::psbt::Input, key: &PublicKey, signature: &Signature) {
    let (signature, sighash_type) = (*signature, EcdsaSighashType::All);
    let signature = ecdsa::Signature { signature, sighash_type };
    fields.partial_sigs.insert(bitcoin::PublicKey::new(*key), signature);
}
