//! Has issued addresses attested again by a signer that knows nothing of them: its token was replaced, and its log
//! begins anew. It never takes an index, and never changes an address.

use prost::Message as _;
use proto::AddressClaim;
use sqlx::Row as _;

use super::entry::Entry;
use super::{Issuer, check_attestation};
use crate::attest::BATCH_MAX;
use crate::error::Error;
use crate::rows::height;
use crate::wallets::Wallet;

impl Issuer {
    /// Everything issued from `below` on, in the order of indexes, so that a signer which bounds how far ahead it attests
    /// can follow. May be cut off at any moment: the signer says how far it came.
    pub(super) async fn attest_anew(&self, wallet: &Wallet, below: u32) -> Result<(), Error> {
        let mut from = below;
        loop {
            let entries = self.issued_from(wallet, from).await?;
            let Some(last) = entries.last() else { return Ok(()) };
            tracing::warn!(
                wallet = wallet.name,
                from,
                to = last.index,
                "the signer knows nothing of these addresses: they are attested again"
            );
            from = last.index.saturating_add(1);
            let claims = entries.iter().map(|entry| AddressClaim {
                index: entry.index,
                customer_reference: entry.reference.clone(),
                expires_unix: 0,
            });
            let attested = self.attestations.attest_all(&wallet.name, claims.collect()).await?;
            let mut tx = self.store.begin().await?;
            for (entry, attestation) in entries.iter().zip(attested) {
                let issued = check_attestation(entry, attestation)?;
                sqlx::query(
                    "UPDATE addresses SET tier = $1, proof = $2 WHERE wallet = $3 AND idx = $4",
                )
                .bind(&issued.tier)
                .bind(issued.proof.encode_to_vec())
                .bind(&wallet.name)
                .bind(i64::from(entry.index))
                .execute(tx.sql())
                .await?;
            }
            tx.commit().await?;
        }
    }

    /// The next issued addresses, as many as one call to the signer takes.
    async fn issued_from(&self, wallet: &Wallet, from: u32) -> Result<Vec<Entry>, Error> {
        let rows = sqlx::query(
            "SELECT idx, customer_reference, address FROM addresses
             WHERE wallet = $1 AND idx >= $2 AND state = 'issued' ORDER BY idx LIMIT $3",
        )
        .bind(&wallet.name)
        .bind(i64::from(from))
        .bind(i64::try_from(BATCH_MAX).unwrap_or(i64::MAX))
        .fetch_all(self.store.reader())
        .await?;
        let entry = |row| {
            Ok(Entry {
                wallet: wallet.name.clone(),
                index: height(row, 0)?,
                reference: row.try_get(1)?,
                address: row.try_get(2)?,
                issued: None,
            })
        };
        rows.iter().map(entry).collect()
    }
}
