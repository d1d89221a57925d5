//! Takes a wallet's next index up where the signer is: this database may be a restored backup, older than the
//! signer's log. It never takes an index, and never lowers one.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use proto::WalletStatus;
use tokio::sync::{Mutex, watch};
use tonic::Code;

use super::{Issuer, MATCH_DEADLINE};
use crate::config::Purpose;
use crate::error::Error;
use crate::scan::Branch;
use crate::signer_client::SignerClient;
use crate::store::{StoreError, Tx};
use crate::wallets::Wallet;

/// Longest pause between asking the signer.
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// Asks the signer about every wallet after a start, until it has answered: also for the branches that nobody asks an
/// address of, whose coins a restored database would not see.
pub(crate) async fn resume_all(
    issuer: Issuer,
    signer: SignerClient,
    mut stop: watch::Receiver<bool>,
) {
    let mut pause = Duration::from_secs(1);
    while let Err(error) = resume_every(&issuer, &signer).await {
        tracing::warn!(%error, "the signer has not said yet how far it is with every wallet");
        tokio::select! {
            () = tokio::time::sleep(pause) => pause = pause.saturating_mul(2).min(PAUSE_MAX),
            _ = stop.wait_for(|stop| *stop) => return,
        }
    }
    let _ = stop.wait_for(|stop| *stop).await;
}

async fn resume_every(issuer: &Issuer, signer: &SignerClient) -> Result<(), Error> {
    let status = signer.status().await?;
    issuer.wallets.note_tiers(&issuer.store, &status).await?;
    let mut failed = None;
    for known in &status.wallets {
        let Some(wallet) = issuer.wallets.find(&known.name) else { continue };
        // One that the signer says nothing of must not keep the others' coins from being seen.
        if let Err(error) = resume_one(issuer, wallet, known).await {
            tracing::warn!(wallet = wallet.name, %error, "a wallet could not be resumed yet");
            failed = Some(error);
        }
    }
    failed.map_or(Ok(()), Err)
}

async fn resume_one(issuer: &Issuer, wallet: &Wallet, known: &WalletStatus) -> Result<(), Error> {
    let mut tx = issuer.store.begin().await?;
    if known.last_change_index > 0 {
        wallet.note_used(&mut tx, Branch::Change, known.last_change_index).await?;
    }
    if let Some(last) = known.next_cold_index.checked_sub(1)
        && wallet.purpose == Purpose::Cold
    {
        wallet.note_used(&mut tx, Branch::External, last).await?;
    }
    tx.commit().await?;
    if wallet.purpose != Purpose::Cold {
        issuer.resume(wallet).await?;
    }
    Ok(())
}

/// Wallets resumed since the start. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Resumed(Arc<Mutex<BTreeSet<String>>>);

impl Issuer {
    /// Once per start and wallet, before the first index is attested: asks the signer how far it has attested, and
    /// goes on above that. An index below, given out after the backup was made, looks free in these tables or reserved
    /// for a key that has let go of it since, and the signer would attest it again for an equal reference.
    pub(super) async fn resume(&self, wallet: &Wallet) -> Result<(), Error> {
        // Bounded: behind a signer that does not answer, callers must not wait for one another for ever.
        let turn = tokio::time::timeout(MATCH_DEADLINE, self.resumed.0.lock()).await;
        let mut resumed = turn.map_err(|_| {
            let text = "the signer has not said yet how far it has attested; try again";
            Error::refused(Code::Unavailable, "signer-unreachable", text)
        })?;
        if resumed.contains(&wallet.name) {
            return Ok(());
        }
        let below = self.attestations.attested_below(&wallet.name).await?;
        self.let_go_below(wallet, below).await?;
        self.go_above(wallet, below).await?;
        self.attest_anew(wallet, below).await?;
        let _ = resumed.insert(wallet.name.clone());
        Ok(())
    }

    /// The same, whatever was known: the signer has just shown an index as taken.
    pub(super) async fn resume_again(&self, wallet: &Wallet) -> Result<(), Error> {
        let below = self.attestations.attested_below(&wallet.name).await?;
        self.go_above(wallet, below).await
    }

    /// Takes indexes below from the keys that nobody was told of yet: they are given others, above. Only before the first
    /// index of this start, or an attestation under way would lose its place.
    async fn let_go_below(&self, wallet: &Wallet, below: u32) -> Result<(), Error> {
        let mut tx = self.store.begin().await?;
        sqlx::query("DELETE FROM addresses WHERE wallet = $1 AND idx < $2 AND state = 'reserved'")
            .bind(&wallet.name)
            .bind(i64::from(below))
            .execute(tx.sql())
            .await?;
        Ok(tx.commit().await?)
    }

    /// Raises the next index to `below` and has the blocks since read again for the addresses jumped over.
    async fn go_above(&self, wallet: &Wallet, below: u32) -> Result<(), Error> {
        let Some(last) = below.checked_sub(1) else { return Ok(()) };
        let mut tx = self.store.begin().await?;
        // Let go here, but perhaps given to somebody since.
        sqlx::query("DELETE FROM free_indexes WHERE wallet = $1 AND idx < $2")
            .bind(&wallet.name)
            .bind(i64::from(below))
            .execute(tx.sql())
            .await?;
        let next: i64 = sqlx::query_scalar("SELECT next_external FROM wallets WHERE wallet = $1")
            .bind(&wallet.name)
            .fetch_one(tx.sql())
            .await?;
        if next < i64::from(below) {
            tracing::warn!(
                wallet = wallet.name,
                from = next,
                to = below,
                "the signer attested addresses this database does not know of: was it restored from a backup?"
            );
            wallet.raise(&mut tx, Branch::External, last).await?;
            read_blocks_again(&mut tx, wallet).await?;
        }
        Ok(tx.commit().await?)
    }
}

/// The blocks since the last address we know of: some were connected before these scripts were looked for.
async fn read_blocks_again(tx: &mut Tx, wallet: &Wallet) -> Result<(), StoreError> {
    let since: i64 = sqlx::query_scalar(
        "SELECT COALESCE(MAX(a.reserved_height), w.birthday) FROM wallets w
         LEFT JOIN addresses a ON a.wallet = w.wallet AND a.state = 'issued'
         WHERE w.wallet = $1 GROUP BY w.birthday",
    )
    .bind(&wallet.name)
    .fetch_one(tx.sql())
    .await?;
    wallet.read_again(tx, since).await
}
