//! From a proven request to what the token signs, and from its signatures to the finished transaction. It never
//! signs, and never lets out a transaction that is not the one the policy saw.

use audit::entry;
use bitcoin::sighash::SighashCache;
use bitcoin::{EcdsaSighashType, Transaction, Witness, ecdsa};
use policy::decide::Granted;
use policy::intent::Destination;
use secp256k1::ecdsa::Signature;

use super::SigningRequest;
use crate::refusal::{Reason, Refusal};
use crate::token::{Job, SigningJobs};

impl SigningRequest {
    /// One job per input: its wrapped key and its BIP-143 digest. Reads the wallet's records.
    ///
    /// # Errors
    /// [`Refusal`] when the wallet has no records or one is damaged.
    pub fn jobs(&self) -> Result<SigningJobs, Refusal> {
        let records = self.wallet.records().ok_or_else(|| not_imported(self.wallet.name()))?;
        let mut cache = SighashCache::new(&self.transaction);
        let mut jobs = Vec::with_capacity(self.inputs.len());
        for (position, input) in self.inputs.iter().enumerate() {
            let fault = |text: String| Refusal::new(Reason::RecordsFault, text);
            let record =
                records.get(input.change, input.index).map_err(|error| fault(error.to_string()))?;
            if record.public_key != input.key {
                return Err(fault(format!("the record of input {position} is another key's")));
            }
            let sighash = cache
                .p2wpkh_signature_hash(
                    position,
                    &input.prevout.script_pubkey,
                    input.prevout.value,
                    EcdsaSighashType::All,
                )
                .map_err(|error| Refusal::new(Reason::Internal, error.to_string()))?;
            jobs.push(Job {
                wrapped: record.wrapped.into(),
                digest: *AsRef::<[u8; 32]>::as_ref(&sighash),
                public_key: input.key,
            });
        }
        Ok(SigningJobs::new(self.intent.digest, jobs))
    }

    /// Puts the signatures into the transaction, in the inputs' order. Each was verified where it was made; here
    /// the transaction is held against the one that was decided on.
    ///
    /// # Errors
    /// [`Refusal`] when signatures are missing or the transaction would not be the same any more.
    pub fn finish(&self, signatures: &[Signature]) -> Result<Transaction, Refusal> {
        let mut signed = self.transaction.clone();
        if signatures.len() != self.inputs.len() || signed.input.len() != self.inputs.len() {
            let text = format!("{} signatures for {} inputs", signatures.len(), self.inputs.len());
            return Err(Refusal::new(Reason::Internal, text));
        }
        let pairs = self.inputs.iter().zip(signatures);
        for (input, (owned, signature)) in signed.input.iter_mut().zip(pairs) {
            let signature =
                ecdsa::Signature { signature: *signature, sighash_type: EcdsaSighashType::All };
            input.witness = Witness::p2wpkh(&signature, &owned.key);
        }
        if signed.compute_txid() != self.transaction.compute_txid() {
            return Err(Refusal::new(Reason::Internal, "signing changed the transaction"));
        }
        Ok(signed)
    }

    /// The request as the log admits it.
    #[must_use]
    pub fn admitted(&self) -> entry::Admitted {
        entry::Admitted {
            request: self.intent.request.0,
            caller: self.intent.caller.to_string(),
            key: self.key.to_string(),
            lane: self.intent.lane.to_string(),
            wallet: self.intent.wallet.to_string(),
            digest: self.intent.digest,
        }
    }

    /// The spend as the log reserves it.
    #[must_use]
    pub fn spend(&self, granted: &Granted) -> entry::Spend {
        let intent = &self.intent;
        let external = intent.transfers.iter().filter(|transfer| is_external(&transfer.to));
        let change = intent.transfers.iter().filter_map(|transfer| match transfer.to {
            Destination::Change { index } => Some(index),
            _ => None,
        });
        // One lane has one cold wallet; the policy denies a sweep to any other.
        let cold = intent.transfers.iter().filter_map(|transfer| match &transfer.to {
            Destination::Cold { wallet, index } => Some((wallet.to_string(), *index)),
            _ => None,
        });
        entry::Spend {
            request: intent.request.0,
            policy: granted.policy_version,
            lane: intent.lane.to_string(),
            wallet: intent.wallet.to_string(),
            caller: intent.caller.to_string(),
            fee: intent.fee.amount.units(),
            external: external.fold(0, |sum, transfer| sum.saturating_add(transfer.amount.units())),
            slots: intent.slots.iter().map(spent).collect(),
            orders: intent.orders.iter().map(paid).collect(),
            change_index: change.max(),
            cold_index: cold.max_by_key(|(_, index)| *index),
            transaction: bitcoin::consensus::serialize(&self.transaction),
            trace: granted.trace.lines(),
        }
    }
}

/// What to say of a wallet without records.
pub(crate) fn not_imported(wallet: &policy::names::WalletName) -> Refusal {
    let text = format!(
        "no bundle was imported for wallet \"{wallet}\": run `signer import`, then start the signer again"
    );
    Refusal::new(Reason::WalletNotImported, text)
}

fn is_external(to: &Destination) -> bool {
    matches!(to, Destination::External { .. })
}

fn spent(slot: &policy::intent::Slot) -> entry::SpentSlot {
    entry::SpentSlot { slot: slot.id.0.to_vec(), amount: slot.amount.units() }
}

fn paid(order: &policy::order::VerifiedOrder) -> entry::PaidOrder {
    let policy::order::OrderRef { key, id } = order.reference();
    let expires_unix = order.order().expires_unix;
    entry::PaidOrder { key, id: id.to_string(), digest: *order.digest(), expires_unix }
}
