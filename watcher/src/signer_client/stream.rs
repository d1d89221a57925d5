//! The request stream of one signature: the header, then the parents in batches. It never ends a stream that lacks
//! parents, since a stream that ends early would be refused as one that never had them.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use proto::sign_request::Part;
use proto::{ParentBatch, SignHeader, SignRequest};
use tokio::sync::mpsc;
use tokio_stream::Stream;
use tonic::Status;

/// A batch holds no more than this, unless it is a single larger parent: without witness, the largest that fits into a
/// block has 1 MB, and the signer reads messages of up to 2 MiB.
const BATCH_BYTES: usize = 512 * 1024;

/// Gives each parent once, in any order, one at a time.
pub trait Parents: Send {
    /// The next parent in consensus encoding, or `None` after the last.
    ///
    /// # Errors
    /// A sentence, when a parent cannot be read; the request is then given up.
    fn next(&mut self) -> impl Future<Output = Result<Option<Vec<u8>>, String>> + Send;
}

/// Makes both ends of a request: the side that fills it and the body that is sent.
pub(super) fn request() -> (Feeder, Body) {
    // Two batches in flight: one on the wire, one being read.
    let (sender, receiver) = mpsc::channel(2);
    (Feeder(sender), Body(receiver))
}

pub(super) struct Feeder(mpsc::Sender<Item>);

enum Item {
    Part(Part),
    End,
}

impl Feeder {
    /// Sends everything; an error means that the call must be dropped.
    pub(super) async fn feed(
        self,
        header: SignHeader,
        mut parents: impl Parents,
    ) -> Result<(), Status> {
        let mut batch = Vec::new();
        let mut bytes = 0_usize;
        self.send(Item::Part(Part::Header(header))).await;
        while let Some(parent) = parents.next().await.map_err(Status::aborted)? {
            let parent = without_witness(parent);
            if !batch.is_empty() && bytes.saturating_add(parent.len()) > BATCH_BYTES {
                let transactions = std::mem::take(&mut batch);
                self.send(Item::Part(Part::Parents(ParentBatch { transactions }))).await;
                bytes = 0;
            }
            bytes = bytes.saturating_add(parent.len());
            batch.push(parent);
        }
        if !batch.is_empty() {
            self.send(Item::Part(Part::Parents(ParentBatch { transactions: batch }))).await;
        }
        self.send(Item::End).await;
        Ok(())
    }

    /// If nobody reads any more, the reply (or its absence) says why.
    async fn send(&self, item: Item) {
        let _ = self.0.send(item).await;
    }
}

/// Amounts and transaction id do not depend on the witness, which can be four times the rest.
fn without_witness(parent: Vec<u8>) -> Vec<u8> {
    // What cannot be read is the signer's to refuse.
    let Ok(mut read) = bitcoin::consensus::deserialize::<bitcoin::Transaction>(&parent) else {
        return parent;
    };
    for input in &mut read.input {
        input.witness.clear();
    }
    bitcoin::consensus::serialize(&read)
}

/// What is sent. Ends only when everything was sent; a lost [`Feeder`] leaves it waiting until the call is dropped.
pub(super) struct Body(mpsc::Receiver<Item>);

impl Stream for Body {
    type Item = SignRequest;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<SignRequest>> {
        match ready!(self.0.poll_recv(context)) {
            Some(Item::Part(part)) => Poll::Ready(Some(SignRequest { part: Some(part) })),
            Some(Item::End) => Poll::Ready(None),
            None => Poll::Pending,
        }
    }
}

#[cfg(test)]
mod tests {
    use bitcoin::consensus::{deserialize, serialize};
    use bitcoin::{Transaction, Witness, absolute, transaction};

    use super::*;

    #[test]
    fn a_parent_is_sent_without_its_witness() {
        let mut parent = Transaction {
            version: transaction::Version::TWO,
            lock_time: absolute::LockTime::ZERO,
            input: vec![bitcoin::TxIn::default()],
            output: vec![bitcoin::TxOut::NULL],
        };
        let bare = serialize(&parent);
        parent.input[0].witness = Witness::from_slice(&[vec![7; 3_900_000]]);
        let sent = without_witness(serialize(&parent));
        assert_eq!(sent, bare);
        assert_eq!(
            deserialize::<Transaction>(&sent).unwrap().compute_txid(),
            parent.compute_txid()
        );
        assert_eq!(without_witness(vec![1, 2, 3]), [1, 2, 3]);
    }
}
