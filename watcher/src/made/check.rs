//! Holds a signed transaction against its plan, input by input and signature by signature: nothing else is ever kept
//! or sent. An id does not cover every signature, and a transaction with a wrong one would wait for ever. It never signs.

use bitcoin::consensus::encode;
use bitcoin::script::Instruction;
use bitcoin::secp256k1::{Message, Secp256k1, VerifyOnly, XOnlyPublicKey, schnorr};
use bitcoin::sighash::{EcdsaSighashType, Prevouts, SighashCache, TapSighashType};
use bitcoin::{
    CompressedPublicKey, Psbt, Script, ScriptBuf, Transaction, TxIn, TxOut, Witness, ecdsa,
};

use crate::error::Error;
use crate::psbt;

/// Reads what the signer returned for this plan.
pub(crate) fn check(signed: &[u8], plan: &Psbt) -> Result<Transaction, Error> {
    let planned = plan.unsigned_tx.compute_txid();
    let transaction: Transaction = encode::deserialize(signed).map_err(|error| {
        Error::Broken(format!("the signer's transaction cannot be read: {error}"))
    })?;
    if bare(&transaction) != plan.unsigned_tx {
        let found = transaction.compute_txid();
        return Err(Error::Broken(format!(
            "the signer signed {found}, which is not what was planned ({planned} before it is signed)"
        )));
    }
    let mut plan = Plan {
        secp: Secp256k1::verification_only(),
        hashes: SighashCache::new(&plan.unsigned_tx),
        coins: plan.inputs.iter().filter_map(|input| input.witness_utxo.as_ref()).collect(),
        fields: &plan.inputs,
    };
    for (n, input) in transaction.input.iter().enumerate() {
        if plan.is_signed(n, input).is_none() {
            return Err(Error::Broken(format!(
                "the signer's signature for input {n} of {planned} is wrong"
            )));
        }
    }
    Ok(transaction)
}

/// A transaction without what signing adds.
pub(super) fn bare(signed: &Transaction) -> Transaction {
    let mut bare = signed.clone();
    for input in &mut bare.input {
        input.script_sig = ScriptBuf::new();
        input.witness.clear();
    }
    bare
}

/// What every input is held against.
struct Plan<'a> {
    secp: Secp256k1<VerifyOnly>,
    hashes: SighashCache<&'a Transaction>,
    /// All that are spent, where every one of them is named: taproot's signatures cover them.
    coins: Vec<&'a TxOut>,
    fields: &'a [bitcoin::psbt::Input],
}

impl Plan<'_> {
    fn is_signed(&mut self, n: usize, input: &TxIn) -> Option<()> {
        let fields = self.fields.get(n)?;
        let Some(coin) = &fields.witness_utxo else { return self.is_signed_p2pkh(n, input) };
        let script = &coin.script_pubkey;
        if script.is_p2tr() {
            let (signature, key) = read_taproot(input, script)?;
            let (prevouts, default) = (Prevouts::All(&self.coins), TapSighashType::Default);
            let hash = self.hashes.taproot_key_spend_signature_hash(n, &prevouts, default).ok()?;
            return self.secp.verify_schnorr(&signature, &Message::from(hash), &key).ok();
        }
        let (signature, key) = read_witness(&input.witness)?;
        let program = ScriptBuf::new_p2wpkh(&key.wpubkey_hash());
        let nested = script.is_p2sh();
        let paid = if nested { program.to_p2sh() } else { program.clone() };
        let pushed = if nested { psbt::push_of(&program) } else { ScriptBuf::new() };
        let ours = paid == *script && pushed == input.script_sig;
        let all = EcdsaSighashType::All;
        let hash = self.hashes.p2wpkh_signature_hash(n, &program, coin.value, all).ok()?;
        (ours && self.verifies(&signature, &key, Message::from(hash))).then_some(())
    }

    /// The coin's script is not in the plan beside its key: no amount is believed there.
    fn is_signed_p2pkh(&mut self, n: usize, input: &TxIn) -> Option<()> {
        let (signature, key) = read_script(input)?;
        let planned = self.fields.get(n)?.bip32_derivation.keys().next()?;
        let script = ScriptBuf::new_p2pkh(&key.pubkey_hash());
        let all = EcdsaSighashType::All.to_u32();
        let hash = self.hashes.legacy_signature_hash(n, &script, all).ok()?;
        let ours = key.0 == *planned;
        (ours && self.verifies(&signature, &key, Message::from(hash))).then_some(())
    }

    fn verifies(
        &self,
        signature: &ecdsa::Signature,
        key: &CompressedPublicKey,
        message: Message,
    ) -> bool {
        signature.sighash_type == EcdsaSighashType::All
            && self.secp.verify_ecdsa(&message, &signature.signature, &key.0).is_ok()
    }
}

fn read_witness(witness: &Witness) -> Option<(ecdsa::Signature, CompressedPublicKey)> {
    let (Some(signature), Some(key), 2) = (witness.nth(0), witness.nth(1), witness.len()) else {
        return None;
    };
    read(signature, key)
}

/// A script of exactly two pushes, and no witness.
fn read_script(input: &TxIn) -> Option<(ecdsa::Signature, CompressedPublicKey)> {
    let mut pushes = input.script_sig.instructions_minimal();
    let (Some(Ok(first)), Some(Ok(second)), None) = (pushes.next(), pushes.next(), pushes.next())
    else {
        return None;
    };
    let (Instruction::PushBytes(signature), Instruction::PushBytes(key)) = (first, second) else {
        return None;
    };
    if !input.witness.is_empty() {
        return None;
    }
    read(signature.as_bytes(), key.as_bytes())
}

fn read(signature: &[u8], key: &[u8]) -> Option<(ecdsa::Signature, CompressedPublicKey)> {
    let signature = ecdsa::Signature::from_slice(signature).ok()?;
    Some((signature, CompressedPublicKey::from_slice(key).ok()?))
}

/// The one signature of a key path spend, of SIGHASH_DEFAULT, and the output key.
fn read_taproot(input: &TxIn, script: &Script) -> Option<(schnorr::Signature, XOnlyPublicKey)> {
    let (Some(signature), 1) = (input.witness.nth(0), input.witness.len()) else { return None };
    if !input.script_sig.is_empty() {
        return None;
    }
    let key = XOnlyPublicKey::from_slice(script.as_bytes().get(2..)?).ok()?;
    Some((schnorr::Signature::from_slice(signature).ok()?, key))
}

#[cfg(test)]
mod tests {
    use bitcoin::hashes::Hash as _;
    use bitcoin::key::TapTweak as _;
    use bitcoin::secp256k1::SecretKey;
    use bitcoin::{Amount, OutPoint, Sequence, Txid, absolute, transaction};

    use super::*;

    /// One coin of `key`, spent; signed by `by`, under `sighash`, as if it held `sat`.
    fn signed(key: u8, by: u8, sighash: EcdsaSighashType, sat: u64) -> (Vec<u8>, Psbt) {
        let secp = Secp256k1::new();
        let public = |key| {
            let secret = SecretKey::from_slice(&[key; 32]).unwrap();
            (secret, CompressedPublicKey(secret.public_key(&secp)))
        };
        let script = ScriptBuf::new_p2wpkh(&public(key).1.wpubkey_hash());
        let input = TxIn {
            previous_output: OutPoint { txid: Txid::all_zeros(), vout: 0 },
            sequence: Sequence::ENABLE_RBF_NO_LOCKTIME,
            ..TxIn::default()
        };
        let mut transaction = Transaction {
            version: transaction::Version::TWO,
            lock_time: absolute::LockTime::ZERO,
            input: vec![input],
            output: vec![TxOut { value: Amount::from_sat(900), script_pubkey: script.clone() }],
        };
        let mut psbt = Psbt::from_unsigned_tx(transaction.clone()).unwrap();
        let coin = TxOut { value: Amount::from_sat(1_000), script_pubkey: script.clone() };
        psbt.inputs[0].witness_utxo = Some(coin);
        let hash = SighashCache::new(&transaction)
            .p2wpkh_signature_hash(0, &script, Amount::from_sat(sat), sighash)
            .unwrap();
        let (secret, public) = public(by);
        let signature = ecdsa::Signature {
            signature: secp.sign_ecdsa(&Message::from(hash), &secret),
            sighash_type: sighash,
        };
        transaction.input[0].witness = Witness::p2wpkh(&signature, &public.0);
        (encode::serialize(&transaction), psbt)
    }

    #[test]
    fn only_right_signatures_are_kept() {
        let (raw, psbt) = signed(1, 1, EcdsaSighashType::All, 1_000);
        assert!(check(&raw, &psbt).is_ok());
        for (raw, psbt) in [
            signed(1, 2, EcdsaSighashType::All, 1_000),
            signed(1, 1, EcdsaSighashType::None, 1_000),
            signed(1, 1, EcdsaSighashType::AllPlusAnyoneCanPay, 1_000),
            signed(1, 1, EcdsaSighashType::All, 1_001),
        ] {
            assert!(check(&raw, &psbt).is_err());
        }
        let mut bare: Transaction = encode::deserialize(&raw).unwrap();
        bare.input[0].witness = Witness::new();
        assert!(check(&encode::serialize(&bare), &psbt).is_err());
    }

    #[test]
    fn taproot_signatures_cover_every_coin() {
        let secp = Secp256k1::new();
        let pair = bitcoin::key::Keypair::from_seckey_slice(&secp, &[7; 32]).unwrap();
        let (internal, _) = pair.x_only_public_key();
        let script = ScriptBuf::new_p2tr(&secp, internal, None);
        let coin = |sat| TxOut { value: Amount::from_sat(sat), script_pubkey: script.clone() };
        let (_, mut psbt) = signed(1, 1, EcdsaSighashType::All, 1_000);
        let second = TxIn {
            previous_output: OutPoint { txid: Txid::all_zeros(), vout: 1 },
            ..psbt.unsigned_tx.input[0].clone()
        };
        psbt.unsigned_tx.input.push(second);
        psbt.inputs.push(bitcoin::psbt::Input::default());
        for input in &mut psbt.inputs {
            input.witness_utxo = Some(coin(1_000));
        }
        let sign = |amounts: [u64; 2], sighash: TapSighashType| {
            let mut transaction = psbt.unsigned_tx.clone();
            for n in 0..2 {
                let coins = amounts.map(coin);
                let hash = SighashCache::new(&psbt.unsigned_tx)
                    .taproot_key_spend_signature_hash(n, &Prevouts::All(&coins), sighash)
                    .unwrap();
                let key = pair.tap_tweak(&secp, None).to_keypair();
                let signature = secp.sign_schnorr_no_aux_rand(&Message::from(hash), &key);
                let signature = bitcoin::taproot::Signature { signature, sighash_type: sighash };
                transaction.input[n].witness = Witness::p2tr_key_spend(&signature);
            }
            encode::serialize(&transaction)
        };
        assert!(check(&sign([1_000; 2], TapSighashType::Default), &psbt).is_ok());
        assert!(check(&sign([1_000; 2], TapSighashType::All), &psbt).is_err());
        assert!(check(&sign([1_000, 1_001], TapSighashType::Default), &psbt).is_err());
        assert!(check(&encode::serialize(&psbt.unsigned_tx), &psbt).is_err());
    }

    /// The same, of a coin in P2SH-P2WPKH.
    fn nested(sat: u64) -> (Transaction, Psbt) {
        let (_, mut psbt) = signed(1, 1, EcdsaSighashType::All, 1_000);
        let coin = psbt.inputs[0].witness_utxo.as_mut().unwrap();
        let program = coin.script_pubkey.clone();
        coin.script_pubkey = program.to_p2sh();
        psbt.inputs[0].redeem_script = Some(program.clone());
        let (secp, secret) = (Secp256k1::new(), SecretKey::from_slice(&[1; 32]).unwrap());
        let all = EcdsaSighashType::All;
        let hash = SighashCache::new(&psbt.unsigned_tx)
            .p2wpkh_signature_hash(0, &program, Amount::from_sat(sat), all)
            .unwrap();
        let signature = secp.sign_ecdsa(&Message::from(hash), &secret);
        let signature = ecdsa::Signature { signature, sighash_type: all };
        let mut transaction = psbt.unsigned_tx.clone();
        transaction.input[0].script_sig = psbt::push_of(&program);
        transaction.input[0].witness = Witness::p2wpkh(&signature, &secret.public_key(&secp));
        (transaction, psbt)
    }

    #[test]
    fn nested_inputs_push_their_program_and_nothing_else() {
        let (transaction, psbt) = nested(1_000);
        let checked = check(&encode::serialize(&transaction), &psbt).unwrap();
        // What their scripts push is known before they are signed, and so is the id.
        assert_eq!(psbt::txid(&psbt), Some(checked.compute_txid()));
        assert_ne!(psbt::txid(&psbt), Some(psbt.unsigned_tx.compute_txid()));
        assert!(check(&encode::serialize(&nested(1_001).0), &psbt).is_err());
        let mut bare = transaction.clone();
        bare.input[0].script_sig = ScriptBuf::new();
        let mut more = transaction;
        more.input[0].script_sig.push_slice([1]);
        for wrong in [bare, more] {
            assert!(check(&encode::serialize(&wrong), &psbt).is_err());
        }
    }

    /// A coin in P2PKH of key 1, signed by `by` under `sighash`.
    fn legacy(by: u8, sighash: EcdsaSighashType) -> (Transaction, Psbt) {
        let (_, mut psbt) = signed(1, 1, EcdsaSighashType::All, 1_000);
        let secp = Secp256k1::new();
        let key = |n| SecretKey::from_slice(&[n; 32]).unwrap();
        psbt.inputs[0].witness_utxo = None;
        psbt.inputs[0].bip32_derivation.insert(key(1).public_key(&secp), Default::default());
        let public = CompressedPublicKey(key(by).public_key(&secp));
        let script = ScriptBuf::new_p2pkh(&public.pubkey_hash());
        let hash = SighashCache::new(&psbt.unsigned_tx)
            .legacy_signature_hash(0, &script, sighash.to_u32())
            .unwrap();
        let signature = secp.sign_ecdsa(&Message::from(hash), &key(by));
        let signature = ecdsa::Signature { signature, sighash_type: sighash };
        let mut transaction = psbt.unsigned_tx.clone();
        transaction.input[0].script_sig = bitcoin::script::Builder::new()
            .push_slice(signature.serialize())
            .push_slice(public.to_bytes())
            .into_script();
        (transaction, psbt)
    }

    #[test]
    fn inputs_without_witness_are_signed_by_the_planned_key() {
        let (right, psbt) = legacy(1, EcdsaSighashType::All);
        assert!(check(&encode::serialize(&right), &psbt).is_ok());
        // Their signatures are part of the id, which nobody knows before.
        assert_eq!(psbt::txid(&psbt), None);
        let mut more = right.clone();
        more.input[0].script_sig.push_slice([1]);
        let mut witness = right;
        witness.input[0].witness = Witness::from_slice(&[[1]]);
        let by_another = legacy(2, EcdsaSighashType::All).0;
        for wrong in [more, witness, by_another, legacy(1, EcdsaSighashType::None).0] {
            assert!(check(&encode::serialize(&wrong), &psbt).is_err());
        }
    }
}
