//! Writes a plan as an unsigned PSBT (BIP-174, version 0) with all the signer needs but the parents, which travel beside
//! it. It never signs, and takes no script or key but those our descriptors give.

use bitcoin::absolute::LockTime;
use bitcoin::script::{Builder, PushBytesBuf};
use bitcoin::transaction::Version;
use bitcoin::{
    Amount, OutPoint, Psbt, Script, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Txid,
};
use miniscript::descriptor::{DefiniteDescriptorKey, Descriptor};
use miniscript::psbt::{PsbtInputExt as _, PsbtOutputExt as _};

/// A coin and the place in a descriptor that it was paid to.
#[derive(Clone, Debug)]
pub struct Input {
    /// What is spent.
    pub outpoint: OutPoint,
    /// What it holds.
    pub value: Amount,
    /// Its script's descriptor.
    pub at: Descriptor<DefiniteDescriptorKey>,
}

/// Who gets an output.
#[derive(Clone, Debug)]
pub enum Payee {
    /// One of our wallets: change, or cold storage.
    Own(Box<Descriptor<DefiniteDescriptorKey>>),
    /// Somebody else.
    Other(ScriptBuf),
}

/// One output.
#[derive(Clone, Debug)]
pub struct Output {
    /// What it gets.
    pub value: Amount,
    /// Who.
    pub to: Payee,
}

/// Why a plan could not be written down.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum PsbtError {
    /// A descriptor with a hardened step after its xpub.
    #[error("a wallet's descriptor cannot be derived: {0}")]
    Descriptor(String),
    /// Inputs or outputs beyond what a PSBT is.
    #[error("the transaction cannot be a PSBT: {0}")]
    Transaction(String),
}

/// The unsigned transaction with `witness_utxo` and `bip32_derivation` for every input and every output of ours; inputs
/// in P2PKH have no `witness_utxo`, since no amount is believed there.
/// Replaceable (BIP-125), without lock time; outputs are sorted (BIP-69), so that their order does not tell change.
///
/// # Errors
/// [`PsbtError`] if a descriptor cannot be derived.
pub fn unsigned(inputs: &[Input], outputs: Vec<Output>) -> Result<Psbt, PsbtError> {
    let mut written = outputs.into_iter().map(write_output).collect::<Result<Vec<_>, _>>()?;
    written.sort_by(|(a, _), (b, _)| {
        a.value.cmp(&b.value).then_with(|| a.script_pubkey.cmp(&b.script_pubkey))
    });
    let (output, output_fields): (Vec<_>, Vec<_>) = written.into_iter().unzip();
    let transaction = Transaction {
        version: Version::TWO,
        lock_time: LockTime::ZERO,
        input: inputs.iter().map(|input| unsigned_input(input.outpoint)).collect(),
        output,
    };
    let mut psbt = Psbt::from_unsigned_tx(transaction)
        .map_err(|error| PsbtError::Transaction(error.to_string()))?;
    for (field, input) in psbt.inputs.iter_mut().zip(inputs) {
        let derived = field.update_with_descriptor_unchecked(&input.at).map_err(underivable)?;
        let script_pubkey = derived.script_pubkey();
        let coin = TxOut { value: input.value, script_pubkey };
        field.witness_utxo = Some(coin).filter(|coin| !coin.script_pubkey.is_p2pkh());
    }
    psbt.outputs = output_fields;
    Ok(psbt)
}

/// The id that the planned transaction has once it is signed. It is known before if no signature is part of it: what an
/// input in P2SH-P2WPKH pushes is its program, while inputs in P2PKH, the only ones without `witness_utxo`, push
/// signatures.
#[must_use]
pub fn txid(plan: &Psbt) -> Option<Txid> {
    let mut transaction = plan.unsigned_tx.clone();
    for (input, fields) in transaction.input.iter_mut().zip(&plan.inputs) {
        let coin = fields.witness_utxo.as_ref()?;
        if coin.script_pubkey.is_p2sh() {
            input.script_sig = push_of(fields.redeem_script.as_deref()?);
        }
    }
    Some(transaction.compute_txid())
}

/// The script that pushes a script.
pub(crate) fn push_of(script: &Script) -> ScriptBuf {
    let mut bytes = PushBytesBuf::new();
    // A witness program is far below the limit of a push.
    let _ = bytes.extend_from_slice(script.as_bytes());
    Builder::new().push_slice(bytes).into_script()
}

fn unsigned_input(previous_output: OutPoint) -> TxIn {
    TxIn { previous_output, sequence: Sequence::ENABLE_RBF_NO_LOCKTIME, ..TxIn::default() }
}

fn write_output(output: Output) -> Result<(TxOut, bitcoin::psbt::Output), PsbtError> {
    let mut field = bitcoin::psbt::Output::default();
    let script_pubkey = match output.to {
        Payee::Other(script) => script,
        Payee::Own(at) => {
            field.update_with_descriptor_unchecked(&at).map_err(underivable)?.script_pubkey()
        }
    };
    Ok((TxOut { value: output.value, script_pubkey }, field))
}

fn underivable(error: miniscript::descriptor::NonDefiniteKeyError) -> PsbtError {
    PsbtError::Descriptor(error.to_string())
}

#[cfg(test)]
mod tests {
    use std::str::FromStr as _;

    use bitcoin::Txid;
    use bitcoin::hashes::Hash as _;
    use miniscript::DescriptorPublicKey;

    use super::*;

    const WALLET: &str = "wpkh([73c5da0a/84h/1h/0h]tpubDC8msFGeGuwnKG9Upg7DM2b4DaRqg3CUZa5g8v2SRQ6K4NSkxUgd7HsL2XVWbVm39yBA4LAxysQAm397zwQSQoQgewGiYZqrA9DsP4zbQ1M/<0;1>/*)";

    fn at(branch: usize, index: u32) -> Descriptor<DefiniteDescriptorKey> {
        let descriptor = Descriptor::<DescriptorPublicKey>::from_str(WALLET).unwrap();
        let branches = descriptor.into_single_descriptors().unwrap();
        branches[branch].at_derivation_index(index).unwrap()
    }

    fn own(sat: u64, branch: usize, index: u32) -> Output {
        Output { value: Amount::from_sat(sat), to: Payee::Own(Box::new(at(branch, index))) }
    }

    #[test]
    fn carries_what_the_signer_asks_for() {
        let outpoint = OutPoint { txid: Txid::from_byte_array([1; 32]), vout: 3 };
        let input = Input { outpoint, value: Amount::from_sat(90_000), at: at(0, 5) };
        let to = Payee::Other(ScriptBuf::from_bytes(vec![0x51]));
        let outputs = vec![own(50_000, 1, 7), Output { value: Amount::from_sat(39_000), to }];
        let psbt = unsigned(&[input], outputs).unwrap();

        assert_eq!(psbt.unsigned_tx.version, Version::TWO);
        assert_eq!(psbt.unsigned_tx.input[0].sequence.0, 0xffff_fffd);
        let utxo = psbt.inputs[0].witness_utxo.as_ref().unwrap();
        assert_eq!((utxo.value.to_sat(), &utxo.script_pubkey), (90_000, &at(0, 5).script_pubkey()));
        let (_, path) = psbt.inputs[0].bip32_derivation.first_key_value().unwrap().1;
        assert_eq!(path.to_string(), "84'/1'/0'/0/5");
        // BIP-69: the smaller output comes first, with its own fields beside it.
        assert_eq!(psbt.unsigned_tx.output[0].value.to_sat(), 39_000);
        assert!(psbt.outputs[0].bip32_derivation.is_empty());
        let (_, path) = psbt.outputs[1].bip32_derivation.first_key_value().unwrap().1;
        assert_eq!(path.to_string(), "84'/1'/0'/1/7");
        assert_eq!(psbt.unsigned_tx.output[1].script_pubkey, at(1, 7).script_pubkey());
        assert_eq!(Psbt::deserialize(&psbt.serialize()).unwrap(), psbt);
    }
}
