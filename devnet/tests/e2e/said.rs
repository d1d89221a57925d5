//! What a PSBT says, as the node tells it and as the signer reads it: one form for both, so that they can be compared field
//! by field. It never fills in what one of them left out.

use std::collections::BTreeMap;
use std::str::FromStr as _;

use bitcoin::bip32::{DerivationPath, Fingerprint, KeySource};
use bitcoin::{Amount, OutPoint, Psbt, ScriptBuf, TxOut, Txid};
use serde_json::Value;
use signer::request::psbt::Named;

#[derive(PartialEq, Eq, Debug)]
pub(crate) struct Said {
    txid: Txid,
    version: i64,
    lock_time: u32,
    inputs: Vec<Input>,
    outputs: Vec<Output>,
}

/// Keys in hex, with where they are said to come from.
type Origins = BTreeMap<String, KeySource>;

#[derive(PartialEq, Eq, Debug)]
struct Input {
    spent: OutPoint,
    sequence: u32,
    utxo: Option<TxOut>,
    parent: Option<Txid>,
    scripts: Scripts,
    keys: Keys,
    signatures: BTreeMap<String, String>,
    finished: (ScriptBuf, Vec<String>),
}

#[derive(PartialEq, Eq, Debug)]
struct Output {
    paid: TxOut,
    scripts: Scripts,
    keys: Keys,
}

/// Redeem script and witness script.
type Scripts = [Option<ScriptBuf>; 2];

#[derive(PartialEq, Eq, Debug)]
struct Keys {
    ecdsa: Origins,
    taproot: Origins,
    internal: Option<String>,
}

/// What the signer's reading gives: of the keys of inputs, what it takes out as bytes.
pub(crate) fn ours(psbt: &Psbt, named: &[Named]) -> Said {
    let transaction = &psbt.unsigned_tx;
    let inputs = transaction.input.iter().zip(&psbt.inputs).zip(named);
    let input = |((spending, fields), named): ((&bitcoin::TxIn, &bitcoin::psbt::Input), &Named)| {
        let signatures = fields.partial_sigs.iter();
        Input {
            spent: spending.previous_output,
            sequence: spending.sequence.0,
            utxo: fields.witness_utxo.clone(),
            parent: fields.non_witness_utxo.as_ref().map(bitcoin::Transaction::compute_txid),
            scripts: [fields.redeem_script.clone(), fields.witness_script.clone()],
            keys: Keys {
                ecdsa: named.origins.iter().map(|(k, s)| (hex::encode(k), s.clone())).collect(),
                taproot: named
                    .taproot
                    .iter()
                    .map(|one| (hex::encode(one.key), one.source.clone()))
                    .collect(),
                internal: named.internal.map(hex::encode),
            },
            signatures: signatures.map(|(key, made)| (key.to_string(), made.to_string())).collect(),
            finished: (
                fields.final_script_sig.clone().unwrap_or_default(),
                fields.final_script_witness.iter().flatten().map(hex::encode).collect(),
            ),
        }
    };
    let outputs = transaction.output.iter().zip(&psbt.outputs);
    let output = |(paid, fields): (&TxOut, &bitcoin::psbt::Output)| {
        let taproot = fields.tap_key_origins.iter();
        Output {
            paid: paid.clone(),
            scripts: [fields.redeem_script.clone(), fields.witness_script.clone()],
            keys: Keys {
                ecdsa: fields
                    .bip32_derivation
                    .iter()
                    .map(|(k, s)| (k.to_string(), s.clone()))
                    .collect(),
                taproot: taproot.map(|(k, (_, source))| (k.to_string(), source.clone())).collect(),
                internal: fields.tap_internal_key.map(|key| key.to_string()),
            },
        }
    };
    Said {
        txid: transaction.compute_txid(),
        version: transaction.version.0.into(),
        lock_time: transaction.lock_time.to_consensus_u32(),
        inputs: inputs.map(input).collect(),
        outputs: outputs.map(output).collect(),
    }
}

/// What the node's `decodepsbt` gives.
pub(crate) fn theirs(decoded: &Value) -> Said {
    let transaction = &decoded["tx"];
    let inputs = list(&transaction["vin"]).iter().zip(list(&decoded["inputs"]));
    let outputs = list(&transaction["vout"]).iter().zip(list(&decoded["outputs"]));
    Said {
        txid: text(&transaction["txid"]).parse().unwrap(),
        version: transaction["version"].as_i64().unwrap(),
        lock_time: number(&transaction["locktime"]),
        inputs: inputs.map(|(vin, fields)| input(vin, fields)).collect(),
        outputs: outputs
            .map(|(vout, fields)| Output {
                paid: TxOut { value: amount(&vout["value"]), script_pubkey: script(vout) },
                scripts: scripts(fields),
                keys: keys(fields),
            })
            .collect(),
    }
}

fn input(vin: &Value, fields: &Value) -> Input {
    let utxo = |utxo: &Value| TxOut { value: amount(&utxo["amount"]), script_pubkey: script(utxo) };
    let signatures = fields["partial_signatures"].as_object().cloned().unwrap_or_default();
    let stack = fields.get("final_scriptwitness").map(|items| list(items).to_vec());
    Input {
        spent: OutPoint::new(text(&vin["txid"]).parse().unwrap(), number(&vin["vout"])),
        sequence: number(&vin["sequence"]),
        utxo: fields.get("witness_utxo").map(utxo),
        parent: fields.get("non_witness_utxo").map(|p| text(&p["txid"]).parse().unwrap()),
        scripts: scripts(fields),
        keys: keys(fields),
        signatures: signatures.iter().map(|(k, s)| (k.clone(), text(s).to_owned())).collect(),
        finished: (
            fields.get("final_scriptSig").map(hex).unwrap_or_default(),
            stack.unwrap_or_default().iter().map(|item| text(item).to_owned()).collect(),
        ),
    }
}

fn scripts(fields: &Value) -> Scripts {
    ["redeem_script", "witness_script"].map(|name| fields.get(name).map(hex))
}

fn keys(fields: &Value) -> Keys {
    Keys {
        ecdsa: origins(fields.get("bip32_derivs")),
        taproot: origins(fields.get("taproot_bip32_derivs")),
        internal: fields.get("taproot_internal_key").map(|key| text(key).to_owned()),
    }
}

fn origins(found: Option<&Value>) -> Origins {
    let origin = |one: &Value| {
        let path = DerivationPath::from_str(text(&one["path"])).unwrap();
        let master = Fingerprint::from_str(text(&one["master_fingerprint"])).unwrap();
        (text(&one["pubkey"]).to_owned(), (master, path))
    };
    found.into_iter().flat_map(|all| list(all).iter().map(origin)).collect()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().unwrap()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

fn number(value: &Value) -> u32 {
    value.as_u64().unwrap().try_into().unwrap()
}

/// A script with its bytes beside its words.
fn hex(script: &Value) -> ScriptBuf {
    ScriptBuf::from_hex(text(&script["hex"])).unwrap()
}

fn script(paid: &Value) -> ScriptBuf {
    hex(&paid["scriptPubKey"])
}

pub(crate) fn amount(value: &Value) -> Amount {
    Amount::from_btc(value.as_f64().unwrap()).unwrap()
}
