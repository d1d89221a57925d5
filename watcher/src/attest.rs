//! Has the signer attest addresses, many in one call when many wait, and asks how far it has. It never changes a
//! claim and never decides what a refusal means for an index.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use proto::{AddressClaim, AttestRequest, Attestation};
use tokio::sync::{mpsc, oneshot};

use crate::signer_client::{Failure, SignerClient, Unavailable};

/// Claims in one call; the signer takes no more.
pub(crate) const BATCH_MAX: usize = 1000;
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

    /// The lowest index of the wallet above every one it attested.
    fn attested_below(
        &self,
        wallet: String,
    ) -> Pin<Box<dyn Future<Output = Result<u32, Failure>> + Send + '_>>;
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

    fn attested_below(
        &self,
        wallet: String,
    ) -> Pin<Box<dyn Future<Output = Result<u32, Failure>> + Send + '_>> {
        Box::pin(async move {
            let status = self.status().await?;
            let held = status.wallets.into_iter().find(|held| held.name == wallet);
            let held = held.ok_or_else(|| odd(format!("it has no wallet \"{wallet}\"")))?;
            Ok(held.attested_below)
        })
    }
}

/// Collects what waits while the signer works on the last batch. Cheap to clone; its task ends with the last.
#[derive(Clone)]
pub struct Attestations {
    attester: Arc<dyn Attester>,
    queue: mpsc::Sender<Waiting>,
}

impl std::fmt::Debug for Attestations {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Attestations").finish_non_exhaustive()
    }
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
        drop(tokio::spawn(work(attester.clone(), waiting)));
        Self { attester, queue }
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

    /// Attests all claims in one call, at most [`BATCH_MAX`], or none.
    ///
    /// # Errors
    /// [`Failure`] as the signer gave it for all of them.
    pub(crate) async fn attest_all(
        &self,
        wallet: &str,
        claims: Vec<AddressClaim>,
    ) -> Result<Vec<Attestation>, Failure> {
        self.attester.attest(wallet.to_owned(), claims).await
    }

    /// The lowest index of the wallet above every one the signer attested.
    ///
    /// # Errors
    /// [`Failure`] when the signer cannot be asked.
    pub async fn attested_below(&self, wallet: &str) -> Result<u32, Failure> {
        self.attester.attested_below(wallet.to_owned()).await
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

/// What the signer calls it when officers froze a wallet's addresses: no claim's fault.
pub(crate) const DENIED: &str = "policy-denied";

/// Asks for the group at once. One bad claim spoils a batch, so a refused batch is asked for one by one.
async fn ask(attester: &dyn Attester, wallet: &str, group: Vec<Waiting>) {
    let claims: Vec<_> = group.iter().map(|one| one.claim.clone()).collect();
    match attester.attest(wallet.to_owned(), claims).await {
        Ok(attestations) => {
            for (one, attestation) in group.into_iter().zip(attestations) {
                let _ = one.answer.send(Ok(attestation)); // the caller may have gone
            }
        }
        Err(Failure::Refused(refusal)) if group.len() > 1 && !refusal.has(DENIED) => {
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
