//! Signed transactions, kept before they are sent so that a crash loses none. It never signs or sends one.

use bitcoin::consensus::encode;
use bitcoin::secp256k1::{Message, Secp256k1, XOnlyPublicKey, schnorr};
use bitcoin::sighash::{EcdsaSighashType, Prevouts, SighashCache, TapSighashType};
use bitcoin::{
    CompressedPublicKey, Psbt, Script, ScriptBuf, Transaction, TxOut, Txid, Witness, ecdsa,
};
use sqlx::SqliteExecutor;

use crate::book::bytes;
use crate::error::Error;
use crate::rows::corrupt;
use crate::store::{StoreError, Tx, now_unix};

/// Keeps one; keeping it again changes nothing.
pub(crate) async fn keep(
    tx: &mut Tx,
    kind: &str,
    object: &str,
    made: &Transaction,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO made_transactions (txid, raw, kind, object, made_unix) VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT (txid) DO NOTHING",
    )
    .bind(bytes(&made.compute_txid()))
    .bind(encode::serialize(made))
    .bind(kind)
    .bind(object)
    .bind(now_unix())
    .execute(tx.sql())
    .await?;
    Ok(())
}

/// Whether the signed bytes of this transaction are kept for this very sweep or payout.
pub(crate) async fn is_kept(
    sql: impl SqliteExecutor<'_>,
    kind: &str,
    object: &str,
    txid: Txid,
) -> Result<bool, StoreError> {
    let count: i64 = sqlx::query_scalar(
        "SELECT COUNT(*) FROM made_transactions WHERE txid = $1 AND kind = $2 AND object = $3",
    )
    .bind(bytes(&txid))
    .bind(kind)
    .bind(object)
    .fetch_one(sql)
    .await?;
    Ok(count > 0)
}

/// A signed transaction that was kept.
pub(crate) async fn load(
    sql: impl SqliteExecutor<'_>,
    txid: Txid,
) -> Result<Transaction, StoreError> {
    let found = find(sql, txid).await?;
    found.ok_or_else(|| corrupt(&format!("the signed transaction {txid} is not kept")))
}

/// A signed transaction, if it was kept.
pub(crate) async fn find(
    sql: impl SqliteExecutor<'_>,
    txid: Txid,
) -> Result<Option<Transaction>, StoreError> {
    let raw: Option<Vec<u8>> =
        sqlx::query_scalar("SELECT raw FROM made_transactions WHERE txid = $1")
            .bind(bytes(&txid))
            .fetch_optional(sql)
            .await?;
    raw.map(|raw| encode::deserialize(&raw))
        .transpose()
        .map_err(|e| corrupt(&format!("the signed transaction {txid}: {e}")))
}

/// Notes when the node last took a transaction.
pub(crate) async fn note_sent(tx: &mut Tx, txid: Txid) -> Result<(), StoreError> {
    sqlx::query("UPDATE made_transactions SET broadcast_unix = $1 WHERE txid = $2")
        .bind(now_unix())
        .bind(bytes(&txid))
        .execute(tx.sql())
        .await?;
    Ok(())
}

/// Whether the node does not take a transaction because it pays too little, by the words it says so with.
pub(crate) fn pays_too_little(message: &str) -> bool {
    message.contains("min fee not met") || message.contains("min relay fee not met")
}

/// Reads what the signer returned and holds it against the plan, signature by signature: nothing else is ever kept or
/// sent. The id does not cover signatures, and a transaction with a wrong one would wait for ever.
pub(crate) fn check(signed: &[u8], plan: &Psbt) -> Result<Transaction, Error> {
    let planned = plan.unsigned_tx.compute_txid();
    let transaction: Transaction = encode::deserialize(signed).map_err(|error| {
        Error::Broken(format!("the signer's transaction cannot be read: {error}"))
    })?;
    if transaction.compute_txid() != planned {
        let found = transaction.compute_txid();
        return Err(Error::Broken(format!("the signer signed {found}, not the planned {planned}")));
    }
    let secp = Secp256k1::verification_only();
    let mut hashes = SighashCache::new(&plan.unsigned_tx);
    let coins: Option<Vec<&TxOut>> =
        plan.inputs.iter().map(|input| input.witness_utxo.as_ref()).collect();
    let coins = coins.unwrap_or_default();
    for (n, (input, fields)) in transaction.input.iter().zip(&plan.inputs).enumerate() {
        let right = fields.witness_utxo.as_ref().and_then(|coin| {
            if coin.script_pubkey.is_p2tr() {
                let (signature, key) = read_taproot(&input.witness, &coin.script_pubkey)?;
                let prevouts = Prevouts::All(&coins);
                let default = TapSighashType::Default;
                let hash = hashes.taproot_key_spend_signature_hash(n, &prevouts, default).ok()?;
                return secp.verify_schnorr(&signature, &Message::from(hash), &key).ok();
            }
            let (signature, key) = read_witness(&input.witness)?;
            let ours = ScriptBuf::new_p2wpkh(&key.wpubkey_hash()) == coin.script_pubkey;
            let all = signature.sighash_type == EcdsaSighashType::All;
            let hash = hashes.p2wpkh_signature_hash(
                n,
                &coin.script_pubkey,
                coin.value,
                EcdsaSighashType::All,
            );
            let message = Message::from(hash.ok()?);
            let signed = secp.verify_ecdsa(&message, &signature.signature, &key.0).is_ok();
            (ours && all && signed).then_some(())
        });
        if right.is_none() {
            return Err(Error::Broken(format!(
                "the signer's signature for input {n} of {planned} is wrong"
            )));
        }
    }
    Ok(transaction)
}

fn read_witness(witness: &Witness) -> Option<(ecdsa::Signature, CompressedPublicKey)> {
    let (Some(signature), Some(key), 2) = (witness.nth(0), witness.nth(1), witness.len()) else {
        return None;
    };
    let signature = ecdsa::Signature::from_slice(signature).ok()?;
    Some((signature, CompressedPublicKey::from_slice(key).ok()?))
}

/// The one signature of a key path spend, of SIGHASH_DEFAULT, and the output key.
fn read_taproot(
    witness: &Witness,
    script: &Script,
) -> Option<(schnorr::Signature, XOnlyPublicKey)> {
    let (Some(signature), 1) = (witness.nth(0), witness.len()) else { return None };
    let key = XOnlyPublicKey::from_slice(script.as_bytes().get(2..)?).ok()?;
    Some((schnorr::Signature::from_slice(signature).ok()?, key))
}

#[cfg(test)]
mod tests {
    use bitcoin::hashes::Hash as _;
    use bitcoin::key::TapTweak as _;
    use bitcoin::secp256k1::SecretKey;
    use bitcoin::{Amount, OutPoint, Sequence, TxIn, absolute, transaction};

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
}
