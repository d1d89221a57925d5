//! What a PSBT says of an input beside its coin: scripts, key origins, signatures that are there already. Each is held
//! against what was derived here from the descriptor that officers signed; what contradicts it is refused.

use std::collections::BTreeMap;

use bitcoin::bip32::{Fingerprint, KeySource};
use bitcoin::psbt::Input;
use bitcoin::sighash::SighashCache;
use bitcoin::{EcdsaSighashType, ScriptBuf, Transaction, ecdsa};
use secp256k1::{Message, PublicKey, SECP256K1};

use super::own::{Hint, OwnedInput};
use super::psbt::{Named, TaprootKey};
use super::{kinds, own};
use crate::refusal::{Reason, Refusal};
use crate::wallets::Wallet;

/// An input's fields as they came.
#[derive(Debug)]
pub(super) struct Claims {
    pub(super) hint: Hint,
    redeem: Option<ScriptBuf>,
    witness: Option<ScriptBuf>,
    named: Named,
    signatures: BTreeMap<bitcoin::PublicKey, ecdsa::Signature>,
}

impl Claims {
    pub(super) fn of(
        position: usize,
        input: &Input,
        named: Named,
        wallet: &Wallet,
    ) -> Result<Self, Refusal> {
        Ok(Self {
            hint: own::input_hint(position, &named, wallet)?,
            redeem: input.redeem_script.clone(),
            witness: input.witness_script.clone(),
            named,
            signatures: input.partial_sigs.clone(),
        })
    }
}

/// Holds every input's claims against its place, and gives the signatures of others that are there already.
pub(super) fn check(
    claims: &[Claims],
    wallet: &Wallet,
    transaction: &Transaction,
    inputs: &[OwnedInput],
) -> Result<Vec<Vec<(PublicKey, secp256k1::ecdsa::Signature)>>, Refusal> {
    let mut cache = SighashCache::new(transaction);
    let all = claims.iter().zip(inputs).enumerate();
    all.map(|(position, (claims, input))| {
        scripts(claims, position, input)?;
        origins(claims, wallet, position, input)?;
        taproot(claims, wallet, position, input)?;
        signatures(claims, wallet, position, input, &mut cache)
    })
    .collect()
}

/// A script that is named must be the one derived here. It may be left out.
fn scripts(claims: &Claims, position: usize, input: &OwnedInput) -> Result<(), Refusal> {
    let pairs = [
        ("redeem", &claims.redeem, &input.place.redeem),
        ("witness", &claims.witness, &input.place.witness),
    ];
    for (what, claimed, derived) in pairs {
        if claimed.is_some() && claimed != derived {
            let text = format!("the {what} script of input {position} is not the wallet's");
            return Err(Refusal::new(Reason::WrongScript, text));
        }
    }
    Ok(())
}

/// A named key must be of the wallet at that very place. Where its master is named, master and path must be the
/// descriptor's; the fingerprint 00000000 says that the sender does not know them.
fn origins(
    claims: &Claims,
    wallet: &Wallet,
    position: usize,
    input: &OwnedInput,
) -> Result<(), Refusal> {
    for (key, source) in &claims.named.origins {
        let found = input.place.keys.iter().position(|ours| ours.serialize()[..] == **key);
        origin(found, source, wallet, position, input)?;
    }
    Ok(())
}

/// The same for taproot. Its internal key is the wallet's key, and no key is in a leaf, since there are no scripts.
fn taproot(
    claims: &Claims,
    wallet: &Wallet,
    position: usize,
    input: &OwnedInput,
) -> Result<(), Refusal> {
    let at = |key: &[u8; 32]| {
        input.place.keys.iter().position(|ours| ours.x_only_public_key().0.serialize() == *key)
    };
    if claims.named.internal.is_some_and(|key| at(&key).is_none()) {
        return Err(foreign_key(position));
    }
    for TaprootKey { key, leaves, source } in &claims.named.taproot {
        if *leaves > 0 {
            let text = format!(
                "input {position} says that a key is in a script, and the wallet's outputs have none"
            );
            return Err(Refusal::new(Reason::WrongOrigin, text));
        }
        origin(at(key), source, wallet, position, input)?;
    }
    Ok(())
}

/// One named key: which of the wallet's it is, if any, and where it is said to come from.
fn origin(
    found: Option<usize>,
    source: &KeySource,
    wallet: &Wallet,
    position: usize,
    input: &OwnedInput,
) -> Result<(), Refusal> {
    let found = found.ok_or_else(|| foreign_key(position))?;
    let unknown = source.0 == Fingerprint::default();
    if !unknown && wallet.source(input.change, found, input.index).as_ref() != Some(source) {
        let text = format!(
            "input {position} says that a key comes from {} at {}, which is not the descriptor's word",
            source.0, source.1
        );
        return Err(Refusal::new(Reason::WrongOrigin, text));
    }
    Ok(())
}

fn foreign_key(position: usize) -> Refusal {
    let text = format!("input {position} names a key that the wallet does not have there");
    Refusal::new(Reason::WrongOrigin, text)
}

/// A signature that is there already must be by one of the wallet's keys at that place and verify.
fn signatures(
    claims: &Claims,
    wallet: &Wallet,
    position: usize,
    input: &OwnedInput,
    cache: &mut SighashCache<&Transaction>,
) -> Result<Vec<(PublicKey, secp256k1::ecdsa::Signature)>, Refusal> {
    if claims.signatures.is_empty() {
        return Ok(Vec::new());
    }
    let wrong = |why: &str| {
        let text = format!("input {position} carries a signature {why}");
        Refusal::new(Reason::WrongSignature, text)
    };
    let digest = kinds::sighash(cache, position, wallet.kind(), input)?;
    let mut good = Vec::new();
    for (key, signature) in &claims.signatures {
        if !key.compressed || !input.place.keys.contains(&key.inner) {
            return Err(wrong("by a key that the wallet does not have there"));
        }
        if signature.sighash_type != EcdsaSighashType::All {
            return Err(wrong("that does not cover everything (SIGHASH_ALL)"));
        }
        let mut low = signature.signature;
        low.normalize_s();
        if low != signature.signature {
            return Err(wrong("with a high S, which nodes do not relay"));
        }
        SECP256K1
            .verify_ecdsa(&Message::from_digest(digest), &low, &key.inner)
            .map_err(|_| wrong("that does not verify"))?;
        good.push((key.inner, low));
    }
    Ok(good)
}
