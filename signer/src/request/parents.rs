//! What each input is really worth: the output its txid commits to, taken from the parent transaction itself
//! (closes CVE-2020-14199). A parent is read once, and only the outputs being spent are kept of it.

use std::collections::{HashMap, HashSet};

use bitcoin::psbt::Psbt;
use bitcoin::{OutPoint, Transaction, TxOut, Txid};

use super::PARENT_BYTES_MAX;
use crate::refusal::{Reason, Refusal};

/// Parents asked for, and the outputs found so far.
#[derive(Debug)]
pub(super) struct Parents {
    /// Which inputs spend which output of each parent.
    wanted: HashMap<Txid, Vec<(usize, u32)>>,
    /// Parents that came beside the PSBT.
    streamed: HashSet<Txid>,
    coins: Vec<Coin>,
    bytes: usize,
}

#[derive(Debug)]
struct Coin {
    outpoint: OutPoint,
    claimed: Option<TxOut>,
    found: Option<TxOut>,
}

impl Parents {
    /// What the PSBT's inputs need; parents inside of it are read at once.
    pub(super) fn wanted(psbt: &Psbt) -> Result<Self, Refusal> {
        let mut parents = Self {
            wanted: HashMap::new(),
            streamed: HashSet::new(),
            coins: Vec::with_capacity(psbt.inputs.len()),
            bytes: 0,
        };
        let inputs = psbt.unsigned_tx.input.iter().zip(&psbt.inputs);
        for (position, (input, fields)) in inputs.enumerate() {
            let outpoint = input.previous_output;
            parents.wanted.entry(outpoint.txid).or_default().push((position, outpoint.vout));
            let mut coin = Coin { outpoint, claimed: fields.witness_utxo.clone(), found: None };
            if let Some(parent) = &fields.non_witness_utxo {
                if parent.compute_txid() != outpoint.txid {
                    let text =
                        format!("the parent inside input {position} is not {}", outpoint.txid);
                    return Err(Refusal::new(Reason::WrongParent, text));
                }
                coin.found = Some(output_of(parent, &outpoint)?);
            }
            parents.coins.push(coin);
        }
        Ok(parents)
    }

    /// Reads one parent that came beside the PSBT.
    pub(super) fn add(&mut self, bytes: &[u8]) -> Result<Transaction, Refusal> {
        self.bytes = self.bytes.saturating_add(bytes.len());
        if self.bytes > PARENT_BYTES_MAX {
            let text = format!(
                "the parents have more than {PARENT_BYTES_MAX} bytes together: spend fewer coins at once"
            );
            return Err(Refusal::new(Reason::Oversize, text));
        }
        let parent: Transaction = bitcoin::consensus::deserialize(bytes).map_err(|error| {
            let text = format!("a parent is no transaction: {error}");
            Refusal::new(Reason::WrongParent, text)
        })?;
        let txid = parent.compute_txid();
        let Some(spent) = self.wanted.get(&txid) else {
            let text =
                format!("no input spends from {txid}: send the inputs' parents and nothing else");
            return Err(Refusal::new(Reason::ParentNotAsked, text));
        };
        if !self.streamed.insert(txid) {
            let text = format!("parent {txid} came twice: send each once");
            return Err(Refusal::new(Reason::DuplicateParent, text));
        }
        for (position, vout) in spent {
            let found = output_of(&parent, &OutPoint { txid, vout: *vout })?;
            if let Some(coin) = self.coins.get_mut(*position) {
                coin.found = Some(found);
            }
        }
        Ok(parent)
    }

    /// Every input's proven output, in order.
    pub(super) fn finish(self) -> Result<Vec<TxOut>, Refusal> {
        let missing = self.coins.iter().filter(|coin| coin.found.is_none()).count();
        let mut proven = Vec::with_capacity(self.coins.len());
        for (position, coin) in self.coins.into_iter().enumerate() {
            let Some(found) = coin.found else {
                let text = format!(
                    "{missing} inputs came without their parent, the first is input {position}, spending {}: send whole parent transactions",
                    coin.outpoint
                );
                return Err(Refusal::new(Reason::MissingParent, text));
            };
            if coin.claimed.is_some_and(|claimed| claimed != found) {
                let text = format!(
                    "input {position} claims another amount or script than {} has, which is {} sat",
                    coin.outpoint,
                    found.value.to_sat()
                );
                return Err(Refusal::new(Reason::WrongAmount, text));
            }
            proven.push(found);
        }
        Ok(proven)
    }
}

fn output_of(parent: &Transaction, outpoint: &OutPoint) -> Result<TxOut, Refusal> {
    let output = usize::try_from(outpoint.vout).ok().and_then(|vout| parent.output.get(vout));
    output.cloned().ok_or_else(|| {
        let text = format!(
            "{} has {} outputs: there is no {outpoint}",
            outpoint.txid,
            parent.output.len()
        );
        Refusal::new(Reason::WrongParent, text)
    })
}
