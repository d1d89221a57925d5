//! What each kind of script asks for: the digest that its keys sign, and where signatures go in a finished input.
//! It never signs, and knows no amount but the proven one.

use bitcoin::script::{Builder, PushBytesBuf};
use bitcoin::sighash::{Prevouts, SighashCache};
use bitcoin::{
    EcdsaSighashType, ScriptBuf, TapSighashType, Transaction, TxIn, TxOut, Witness, ecdsa, taproot,
};
use secp256k1::PublicKey;

use super::own::OwnedInput;
use crate::refusal::{Reason, Refusal};
use crate::token::{Signature, ToSign};
use crate::wallets::ScriptKind;

/// What every key of an input signs. BIP-341 covers all amounts and scripts being spent; everything else is signed as
/// [`sighash`] says.
pub(super) fn to_sign(
    cache: &mut SighashCache<&Transaction>,
    position: usize,
    kind: ScriptKind,
    prevouts: &[&TxOut],
    input: &OwnedInput,
) -> Result<ToSign, Refusal> {
    if kind != ScriptKind::P2tr {
        return sighash(cache, position, kind, input).map(ToSign::Ecdsa);
    }
    let internal = |text: String| Refusal::new(Reason::Internal, text);
    let output = input.place.output;
    let output = output.ok_or_else(|| internal(format!("input {position} has no output key")))?;
    let default = TapSighashType::Default;
    cache
        .taproot_key_spend_signature_hash(position, &Prevouts::All(prevouts), default)
        .map(|hash| ToSign::TaprootKey { digest: *AsRef::<[u8; 32]>::as_ref(&hash), output })
        .map_err(|error| internal(error.to_string()))
}

/// The digest that an input's keys sign with ECDSA and SIGHASH_ALL. BIP-143 covers the amount; the digest of P2PKH does
/// not, which is why every input's parent is asked for.
pub(super) fn sighash(
    cache: &mut SighashCache<&Transaction>,
    position: usize,
    kind: ScriptKind,
    input: &OwnedInput,
) -> Result<[u8; 32], Refusal> {
    let (place, value, all) = (&input.place, input.prevout.value, EcdsaSighashType::All);
    let internal =
        |error: &dyn std::fmt::Display| Refusal::new(Reason::Internal, error.to_string());
    match (kind, &place.redeem, &place.witness) {
        (ScriptKind::P2wpkh, ..) => cache
            .p2wpkh_signature_hash(position, &place.script, value, all)
            .map(|hash| *AsRef::<[u8; 32]>::as_ref(&hash))
            .map_err(|error| internal(&error)),
        (ScriptKind::P2shP2wpkh, Some(redeem), _) => cache
            .p2wpkh_signature_hash(position, redeem, value, all)
            .map(|hash| *AsRef::<[u8; 32]>::as_ref(&hash))
            .map_err(|error| internal(&error)),
        (ScriptKind::P2pkh, ..) => cache
            .legacy_signature_hash(position, &place.script, all.to_u32())
            .map(|hash| *AsRef::<[u8; 32]>::as_ref(&hash))
            .map_err(|error| internal(&error)),
        (ScriptKind::P2wshSortedMulti { .. }, _, Some(witness)) => cache
            .p2wsh_signature_hash(position, witness, value, all)
            .map(|hash| *AsRef::<[u8; 32]>::as_ref(&hash))
            .map_err(|error| internal(&error)),
        _ => Err(internal(&format!("no digest is signed for {kind} inputs"))),
    }
}

/// Puts signatures into an input; `false` when more are needed, and then nothing is put in.
pub(super) fn satisfy(
    input: &mut TxIn,
    kind: ScriptKind,
    owned: &OwnedInput,
    signatures: &[(PublicKey, Signature)],
) -> bool {
    if let (ScriptKind::P2tr, [(_, Signature::Schnorr(signature))]) = (kind, signatures) {
        let (signature, sighash_type) = (*signature, TapSighashType::Default);
        input.witness = Witness::p2tr_key_spend(&taproot::Signature { signature, sighash_type });
        return true;
    }
    let ecdsa = |(key, signature): &(PublicKey, Signature)| match signature {
        Signature::Ecdsa(signature) => Some((*key, *signature)),
        Signature::Schnorr(_) => None,
    };
    let Some(signatures) = signatures.iter().map(ecdsa).collect::<Option<Vec<_>>>() else {
        return false;
    };
    let place = &owned.place;
    let all = |signature: &secp256k1::ecdsa::Signature| ecdsa::Signature {
        signature: *signature,
        sighash_type: EcdsaSighashType::All,
    };
    match (kind, &signatures[..], &place.redeem, &place.witness) {
        (ScriptKind::P2wpkh, [(key, signature)], ..) => {
            input.witness = Witness::p2wpkh(&all(signature), key);
            true
        }
        (ScriptKind::P2shP2wpkh, [(key, signature)], Some(redeem), _) => {
            input.script_sig = pushes(&[redeem.as_bytes()]);
            input.witness = Witness::p2wpkh(&all(signature), key);
            true
        }
        (ScriptKind::P2pkh, [(key, signature)], ..) => {
            input.script_sig = pushes(&[&all(signature).serialize(), &key.serialize()]);
            true
        }
        (ScriptKind::P2wshSortedMulti { needed, .. }, _, _, Some(script)) => {
            let needed = usize::from(needed);
            let mut sorted = signatures.to_vec();
            sorted.sort_by_key(|(key, _)| key.serialize());
            sorted.truncate(needed);
            if sorted.len() < needed {
                return false;
            }
            // The empty item is the one that CHECKMULTISIG takes too many.
            let mut witness = Witness::from_slice(&[[0_u8; 0]]);
            sorted.iter().for_each(|(_, signature)| witness.push_ecdsa_signature(&all(signature)));
            witness.push(script);
            input.witness = witness;
            true
        }
        _ => false,
    }
}

/// A script of pushes alone.
fn pushes(items: &[&[u8]]) -> ScriptBuf {
    let push = |script: Builder, item: &&[u8]| {
        let mut bytes = PushBytesBuf::new();
        // Signatures, keys and programs are far below the limit of a push.
        let _ = bytes.extend_from_slice(item);
        script.push_slice(bytes)
    };
    items.iter().fold(Builder::new(), push).into_script()
}

#[cfg(test)]
#[path = "kinds_tests.rs"]
mod tests;
