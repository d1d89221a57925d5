//! What people are shown of a request that waits for them: its PSBT, its parents and its orders as they came, within a
//! bound. It never keeps more than an entry of the log can hold, and is believed by nobody: whoever reads it decodes it.

use audit::entry::SignedOrder;
use bitcoin::psbt::Output;
use bitcoin::{Psbt, Transaction, Witness};

/// Parents without witnesses, all together, in bytes.
pub(super) const PARENT_BYTES_MAX: usize = 384 << 10;

/// Kept beside a request.
#[derive(Clone, Debug, Default)]
pub struct Exhibit {
    orders: Vec<SignedOrder>,
    outputs: Vec<Output>,
    parents: Vec<Vec<u8>>,
    bytes: usize,
    /// Nothing is kept: there is nobody to show it to, or too much of it.
    none: bool,
}

impl Exhibit {
    /// Nothing is kept, for policies by which nothing waits.
    pub(super) fn none() -> Self {
        Self { none: true, ..Self::default() }
    }

    /// Of this PSBT and these orders.
    pub(super) fn of(psbt: &Psbt, orders: &[proto::SignedOrder]) -> Self {
        let order = |signed: &proto::SignedOrder| SignedOrder {
            order: signed.order.clone(),
            signature: signed.signature.clone(),
            signer: signed.signer.clone(),
        };
        let orders = orders.iter().map(order).collect();
        let mut exhibit = Self { orders, outputs: psbt.outputs.clone(), ..Self::default() };
        let inside = psbt.inputs.iter().filter_map(|input| input.non_witness_utxo.as_ref());
        for parent in inside {
            exhibit.add(parent.clone());
        }
        exhibit
    }

    /// One parent more.
    pub(super) fn add(&mut self, mut parent: Transaction) {
        if self.none {
            return;
        }
        // Ids do not cover witnesses.
        for input in &mut parent.input {
            input.witness = Witness::new();
        }
        let parent = bitcoin::consensus::serialize(&parent);
        if self.parents.contains(&parent) {
            return;
        }
        self.bytes = self.bytes.saturating_add(parent.len());
        if self.bytes > PARENT_BYTES_MAX {
            *self = Self::none();
            return;
        }
        self.parents.push(parent);
    }

    /// PSBT of this transaction, parents and orders; `None` when they were not kept.
    pub(super) fn show(&self, transaction: &Transaction) -> Option<Shown> {
        if self.none {
            return None;
        }
        let mut psbt = Psbt::from_unsigned_tx(transaction.clone()).ok()?;
        psbt.outputs.clone_from(&self.outputs);
        let (parents, orders) = (self.parents.clone(), self.orders.clone());
        Some(Shown { psbt: psbt.serialize(), parents, orders })
    }
}

/// What a decoder needs that believes nobody.
#[derive(Clone, Debug)]
pub struct Shown {
    /// BIP-174 version 0, unsigned.
    pub psbt: Vec<u8>,
    /// Every input's parent transaction, once each, without witnesses.
    pub parents: Vec<Vec<u8>>,
    /// As they came.
    pub orders: Vec<SignedOrder>,
}
