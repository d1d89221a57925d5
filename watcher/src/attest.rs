//! Has the signer attest addresses, many in one call when many wait. It never changes a claim and never
//! decides what a refusal means for an index.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use proto::{AddressClaim, AttestRequest, Attestation};
use tokio::sync::{mpsc, oneshot};

use crate::signer_client::{Failure, SignerClient, Unavailable};

/// Claims in one call; the signer takes no more.
const BATCH_MAX: usize = 1000;
/// Claims that may wait; more callers wait their turn.
const QUEUE: usize = 4096;

/// Who attests addresses: the signer.
pub trait Attester: Send + Sync + 'static {
    /// Attests all claims or none, in their order.
    fn attest(
        &self,
        wallet: String,
        claims: Vec<AddressClaim>,
    ) -> Pin<Box<dyn Future<Output = Result<Vec<Attestation>, Failure>> + Send + '_>>;
}

impl Attester for SignerClient {
    fn attest(
        &self,
        wallet: String,
        claims: Vec<AddressClaim>,
    ) -> Pin<Box<dyn Future<Output = Result<Vec<Attestation>, Failure>> + Send + '_>> {
        Box::pin(async move {
            let wanted = claims.len();
            let reply = Self::attest(self, &AttestRequest { wallet, claims }).await?;
            let found = reply.attestations.len();
            if found == wanted {
                Ok(reply.attestations)
            } else {
                Err(odd(format!("{found} attestations for {wanted} claims")))
            }
        })
    }
}

/// Collects what waits while the signer works on the last batch. Cheap to clone; its task ends with the last.
#[derive(Clone, Debug)]
pub struct Attestations {
    queue: mpsc::Sender<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    wallet: String,
    claim: AddressClaim,
    answer: oneshot::Sender<Result<Attestation, Failure>>,
}

impl Attestations {
    /// Starts the task that asks `attester`.
    #[must_use]
    pub fn start(attester: Arc<dyn Attester>) -> Self {
        let (queue, waiting) = mpsc::channel(QUEUE);
        drop(tokio::spawn(work(attester, waiting)));
        Self { queue }
    }

    /// Attests one claim.
    ///
    /// # Errors
    /// [`Failure`] as the signer gave it for this claim.
    pub async fn attest(&self, wallet: &str, claim: AddressClaim) -> Result<Attestation, Failure> {
        let (answer, answered) = oneshot::channel();
        let waiting = Waiting { wallet: wallet.to_owned(), claim, answer };
        self.queue.send(waiting).await.map_err(|_| odd("the attestation task has ended"))?;
        answered.await.map_err(|_| odd("the attestation task has ended"))?
    }
}

async fn work(attester: Arc<dyn Attester>, mut waiting: mpsc::Receiver<Waiting>) {
    let mut batch = Vec::new();
    while waiting.recv_many(&mut batch, BATCH_MAX).await > 0 {
        let mut by_wallet: BTreeMap<String, Vec<Waiting>> = BTreeMap::new();
        for one in batch.drain(..) {
            by_wallet.entry(one.wallet.clone()).or_default().push(one);
        }
        for (wallet, group) in by_wallet {
            ask(&*attester, &wallet, group).await;
        }
    }
}

/// Asks for the group at once. One bad claim spoils a batch, so a refused batch is asked for one by one.
async fn ask(attester: &dyn Attester, wallet: &str, group: Vec<Waiting>) {
    let claims: Vec<_> = group.iter().map(|one| one.claim.clone()).collect();
    match attester.attest(wallet.to_owned(), claims).await {
        Ok(attestations) => {
            for (one, attestation) in group.into_iter().zip(attestations) {
                let _ = one.answer.send(Ok(attestation)); // the caller may have gone
            }
        }
        Err(Failure::Refused(_)) if group.len() > 1 => {
            for one in group {
                let answer = attester.attest(wallet.to_owned(), vec![one.claim.clone()]).await;
                let first = answer
                    .and_then(|all| all.into_iter().next().ok_or_else(|| odd("no attestation")));
                let _ = one.answer.send(first);
            }
        }
        Err(failure) => {
            for one in group {
                let _ = one.answer.send(Err(failure.clone()));
            }
        }
    }
}

fn odd(message: impl Into<String>) -> Failure {
    Failure::Unavailable(Unavailable { message: message.into() })
}
