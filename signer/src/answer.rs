//! The answer that the log holds to a request, as a caller gets it. It never makes one, and never gives one out that is
//! not what was written.

use audit::entry::Event;
use bitcoin::{Psbt, Transaction};
use policy::intent::RequestId;
use sha2::{Digest as _, Sha256};

use crate::app::App;
use crate::ledger::Answer;
use crate::refusal::{Reason, Refusal};
use crate::request::psbt;

/// A signed transaction, or what other cosigners have to sign as well.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Signed {
    /// The request.
    pub request: RequestId,
    /// Consensus encoding; empty when others have to sign as well.
    pub transaction: Vec<u8>,
    /// The PSBT that goes to them, in the version that was sent; empty otherwise.
    pub psbt: Vec<u8>,
    /// Its id.
    pub txid: bitcoin::Txid,
    /// Made by an earlier call with the same key.
    pub stored: bool,
    /// Tier of the keys that signed.
    pub tier: &'static str,
}

/// Reads a stored answer back from the log.
///
/// # Errors
/// [`Reason::LogUnavailable`] when it cannot be read, or is not what was written.
pub(crate) async fn stored(app: &App, answer: Answer) -> Result<Event, Refusal> {
    let entry = app.log.entry(answer.seq).await?;
    let written = |bytes: &[u8]| <[u8; 32]>::from(Sha256::digest(bytes)) == answer.digest;
    match &entry.event {
        Event::Signed { transaction: bytes, .. } | Event::PartlySigned { psbt: bytes, .. }
            if written(bytes) =>
        {
            Ok(entry.event)
        }
        _ => {
            let text = "the stored answer is not what was written: the database was edited while this signer runs";
            Err(Refusal::new(Reason::LogUnavailable, text))
        }
    }
}

impl Signed {
    /// The answer that an entry holds, with its PSBT, if it has one, in this version.
    ///
    /// # Errors
    /// [`Reason::Internal`] when the entry holds no answer that can be read.
    pub(crate) fn read(
        request: RequestId,
        answer: Event,
        version: psbt::Version,
        tier: &'static str,
        stored: bool,
    ) -> Result<Self, Refusal> {
        let internal = |text: String| Refusal::new(Reason::Internal, text);
        let (transaction, psbt, txid) = match answer {
            Event::Signed { transaction, .. } => {
                // Not the unsigned one's: scripts of inputs without witness are part of the id.
                let read: Transaction = bitcoin::consensus::deserialize(&transaction)
                    .map_err(|error| internal(error.to_string()))?;
                (transaction, Vec::new(), read.compute_txid())
            }
            Event::PartlySigned { psbt, .. } => {
                let read = Psbt::deserialize(&psbt).map_err(|error| internal(error.to_string()))?;
                let written = psbt::write(&read, version).map_err(internal)?;
                (Vec::new(), written, read.unsigned_tx.compute_txid())
            }
            _ => return Err(internal("this entry holds no answer".to_owned())),
        };
        Ok(Self { request, transaction, psbt, txid, stored, tier })
    }
}
