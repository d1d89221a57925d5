//! The signatures of one input, of whatever kind its script is, verified from the bytes alone. It never asks which key
//! it ought to have been: the coin's script would tell, and the log does not hold it.

use std::sync::LazyLock;

use bitcoin::ecdsa::Signature;
use bitcoin::script::Instruction;
use bitcoin::secp256k1::{Message, Secp256k1, VerifyOnly};
use bitcoin::sighash::SighashCache;
use bitcoin::{Amount, EcdsaSighashType, PublicKey, Script, ScriptBuf, Transaction, TxIn};

/// Made once, and not for each signature.
static CURVE: LazyLock<Secp256k1<VerifyOnly>> = LazyLock::new(Secp256k1::verification_only);

/// What signs an input, and over which script.
pub(super) struct Signatures {
    kind: Kind,
    made: Vec<(PublicKey, Signature)>,
}

enum Kind {
    /// P2PKH: the digest without the amount.
    Legacy(ScriptBuf),
    /// P2WPKH, also within P2SH.
    Key(ScriptBuf),
    /// P2WSH, and the script.
    Script(ScriptBuf),
}

/// Of a signed input.
pub(super) fn of(input: &TxIn) -> Result<Signatures, String> {
    let witness: Vec<&[u8]> = input.witness.iter().collect();
    let pushed = pushes(&input.script_sig)?;
    match (&witness[..], &pushed[..]) {
        ([], [signature, key]) => {
            let key = public(key)?;
            Ok(Signatures { kind: Kind::Legacy(p2pkh(&key)), made: vec![(key, read(signature)?)] })
        }
        ([signature, key], pushed) => {
            let key = public(key)?;
            let script = ScriptBuf::new_p2wpkh(&key.wpubkey_hash().map_err(|e| e.to_string())?);
            match pushed {
                [] => {}
                [redeem] if *redeem == script.as_bytes() => {}
                _ => return Err("its script is not of the key in its witness".to_owned()),
            }
            Ok(Signatures { kind: Kind::Key(script), made: vec![(key, read(signature)?)] })
        }
        ([[], signatures @ .., script], []) => {
            let script = ScriptBuf::from_bytes(script.to_vec());
            let made = signatures.iter().map(|bytes| read(bytes)).collect::<Result<Vec<_>, _>>()?;
            multisig(script, made)
        }
        _ => Err("it has no signature and key".to_owned()),
    }
}

/// Of a PSBT's input.
pub(super) fn of_fields(input: &bitcoin::psbt::Input) -> Result<Signatures, String> {
    let script = input.witness_script.clone().ok_or("it has no witness script")?;
    let made: Vec<_> = input.partial_sigs.iter().map(|(key, made)| (*key, *made)).collect();
    let keys = keys(&script)?;
    if made.is_empty() || made.iter().any(|(key, _)| !keys.contains(key)) {
        return Err("it has no signature by a key of its script".to_owned());
    }
    Ok(Signatures { kind: Kind::Script(script), made })
}

impl Signatures {
    /// How many there are, when all verify over everything and over the logged amount.
    pub(super) fn verify(
        &self,
        cache: &mut SighashCache<&Transaction>,
        number: usize,
        value: Amount,
    ) -> Result<u64, String> {
        let digest = self.digest(cache, number, value)?;
        let mut verified = 0_u64;
        for signature in self.distinct() {
            if signature.sighash_type != EcdsaSighashType::All {
                return Err("its signature does not cover everything (SIGHASH_ALL)".to_owned());
            }
            let message = Message::from_digest(digest);
            let mut keys = self.made.iter().filter(|(_, made)| made == signature);
            if !keys.any(|(key, made)| {
                CURVE.verify_ecdsa(&message, &made.signature, &key.inner).is_ok()
            }) {
                return Err("its signature does not verify".to_owned());
            }
            verified = verified.saturating_add(1);
        }
        Ok(verified)
    }

    fn distinct(&self) -> Vec<&Signature> {
        let mut distinct: Vec<&Signature> = Vec::new();
        for (_, made) in &self.made {
            if !distinct.contains(&made) {
                distinct.push(made);
            }
        }
        distinct
    }

    fn digest(
        &self,
        cache: &mut SighashCache<&Transaction>,
        number: usize,
        value: Amount,
    ) -> Result<[u8; 32], String> {
        let all = EcdsaSighashType::All;
        match &self.kind {
            Kind::Legacy(script) => cache
                .legacy_signature_hash(number, script, all.to_u32())
                .map(|hash| *AsRef::<[u8; 32]>::as_ref(&hash))
                .map_err(|error| error.to_string()),
            Kind::Key(script) => cache
                .p2wpkh_signature_hash(number, script, value, all)
                .map(|hash| *AsRef::<[u8; 32]>::as_ref(&hash))
                .map_err(|error| error.to_string()),
            Kind::Script(script) => cache
                .p2wsh_signature_hash(number, script, value, all)
                .map(|hash| *AsRef::<[u8; 32]>::as_ref(&hash))
                .map_err(|error| error.to_string()),
        }
    }
}

/// Signatures of a multisig with every key that may have made each. As many as it needs, and no two the same.
fn multisig(script: ScriptBuf, made: Vec<Signature>) -> Result<Signatures, String> {
    let keys = keys(&script)?;
    let needed = script.instructions().next();
    let needed = match needed {
        Some(Ok(Instruction::Op(op))) => {
            bitcoin::script::read_scriptint(&[op.to_u8().saturating_sub(0x50)]).ok()
        }
        Some(Ok(Instruction::PushBytes(bytes))) => {
            bitcoin::script::read_scriptint(bytes.as_bytes()).ok()
        }
        _ => None,
    };
    let found = i64::try_from(made.len()).unwrap_or(i64::MAX);
    if needed != Some(found) {
        return Err("it has not as many signatures as its script needs".to_owned());
    }
    let mut pairs = Vec::new();
    for (position, signature) in made.iter().enumerate() {
        if made.iter().skip(position.saturating_add(1)).any(|other| other == signature) {
            return Err("it has one signature twice".to_owned());
        }
        pairs.extend(keys.iter().map(|key| (*key, *signature)));
    }
    Ok(Signatures { kind: Kind::Script(script), made: pairs })
}

fn keys(script: &Script) -> Result<Vec<PublicKey>, String> {
    let mut keys = Vec::new();
    for part in script.instructions() {
        if let Instruction::PushBytes(bytes) = part.map_err(|error| error.to_string())?
            && bytes.len() == 33
        {
            keys.push(public(bytes.as_bytes())?);
        }
    }
    Ok(keys)
}

fn pushes(script: &Script) -> Result<Vec<&[u8]>, String> {
    let push = |part| match part {
        Ok(Instruction::PushBytes(bytes)) => Ok(bytes.as_bytes()),
        _ => Err("its script is not of pushes alone".to_owned()),
    };
    script.instructions().map(push).collect()
}

fn p2pkh(key: &PublicKey) -> ScriptBuf {
    ScriptBuf::new_p2pkh(&key.pubkey_hash())
}

fn public(bytes: &[u8]) -> Result<PublicKey, String> {
    PublicKey::from_slice(bytes).map_err(|error| error.to_string())
}

fn read(bytes: &[u8]) -> Result<Signature, String> {
    Signature::from_slice(bytes).map_err(|error| error.to_string())
}
