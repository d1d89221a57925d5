//! The rows behind addresses: a key's index is taken, kept, moved on or let go. It never asks the signer.

use prost::Message as _;
use proto::{AddressProof, IssueAddressRequest};
use serde_json::json;
use sqlx::Row as _;
use tonic::Code;

use super::{Issuer, not_proven};
use crate::error::Error;
use crate::rows::height;
use crate::scan::Branch;
use crate::store::{StoreError, Tx, now_unix};
use crate::wallets::Wallet;

/// A row of `addresses`.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) wallet: String,
    pub(super) index: u32,
    pub(super) reference: String,
    pub(super) address: String,
    pub(super) issued: Option<Issued>,
}

#[derive(Clone, Debug)]
pub(super) struct Issued {
    pub(super) tier: String,
    pub(super) proof: AddressProof,
}

impl Issuer {
    /// The entry of this key, if there is one. There is none before the node was first reached either.
    pub(super) async fn reserved(
        &self,
        wallet: &Wallet,
        request: &IssueAddressRequest,
    ) -> Result<Option<Entry>, Error> {
        let mut tx = self.store.begin().await?;
        let entry = find_same(&mut tx, wallet, request).await?;
        let begun: Option<i64> =
            sqlx::query_scalar("SELECT height FROM cursor").fetch_optional(tx.sql()).await?;
        if entry.is_none() && begun.is_none() {
            return Err(node_unreachable());
        }
        Ok(entry)
    }

    /// The entry of this key, made now if there is none: the index is taken before the signer is asked, so
    /// that a crash in between leaves the key with its index. Only after [`Issuer::resume`].
    pub(super) async fn reserve(
        &self,
        wallet: &Wallet,
        request: &IssueAddressRequest,
    ) -> Result<Entry, Error> {
        let mut tx = self.store.begin().await?;
        if let Some(entry) = find_same(&mut tx, wallet, request).await? {
            return Ok(entry);
        }
        let index = next_index(&mut tx, wallet).await?;
        let address = wallet.address(Branch::External, index)?.to_string();
        let inserted = sqlx::query(
            "INSERT INTO addresses (wallet, idx, tenant, idempotency_key, customer_reference, address, state,
                 reserved_unix, reserved_height)
             SELECT $1, $2, $3, $4, $5, $6, 'reserved', $7, height FROM cursor",
        )
        .bind(&wallet.name)
        .bind(i64::from(index))
        .bind(&wallet.tenant)
        .bind(&request.idempotency_key)
        .bind(&request.customer_reference)
        .bind(&address)
        .bind(now_unix())
        .execute(tx.sql())
        .await?;
        if inserted.rows_affected() == 0 {
            return Err(node_unreachable());
        }
        tx.commit().await?;
        let reference = request.customer_reference.clone();
        Ok(Entry { wallet: wallet.name.clone(), index, reference, address, issued: None })
    }

    /// Writes the attested address and its event down; only then it may be shown.
    pub(super) async fn finish(
        &self,
        wallet: &Wallet,
        request: &IssueAddressRequest,
        entry: &Entry,
        issued: &Issued,
    ) -> Result<(), Error> {
        let mut tx = self.store.begin().await?;
        let updated = sqlx::query(
            "UPDATE addresses SET state = 'issued', tier = $1, proof = $2
             WHERE tenant = $3 AND idempotency_key = $4 AND wallet = $5 AND idx = $6 AND state = 'reserved'",
        )
        .bind(&issued.tier)
        .bind(issued.proof.encode_to_vec())
        .bind(&wallet.tenant)
        .bind(&request.idempotency_key)
        .bind(&entry.wallet)
        .bind(i64::from(entry.index))
        .execute(tx.sql())
        .await?;
        if updated.rows_affected() == 0 {
            // Another call with this key was first: with the same answer, or by letting go of the index.
            let now = find(&mut tx, &wallet.tenant, &request.idempotency_key).await?;
            let same = now.is_some_and(|now| now.index == entry.index && now.issued.is_some());
            let text = "two calls with this key met; call again";
            return if same {
                Ok(())
            } else {
                Err(Error::refused(Code::Aborted, "try-again", text))
            };
        }
        let body = json!({
            "v": 1,
            "wallet": entry.wallet,
            "tier": issued.tier,
            "address": entry.address,
            "address_index": entry.index,
            "customer_reference": entry.reference,
        });
        let _ = tx.event(&wallet.tenant, "address.issued", &entry.address, &body).await?;
        Ok(tx.commit().await?)
    }

    /// The signer did not attest the index: the key lets go of it, and the next caller gets it.
    pub(super) async fn release(
        &self,
        wallet: &Wallet,
        request: &IssueAddressRequest,
    ) -> Result<(), Error> {
        let mut tx = self.store.begin().await?;
        let index: Option<i64> = sqlx::query_scalar(
            "DELETE FROM addresses WHERE tenant = $1 AND idempotency_key = $2 AND state = 'reserved' RETURNING idx",
        )
        .bind(&wallet.tenant)
        .bind(&request.idempotency_key)
        .fetch_optional(tx.sql())
        .await?;
        let Some(index) = index else { return Ok(()) };
        sqlx::query("INSERT INTO free_indexes (wallet, idx) VALUES ($1, $2)")
            .bind(&wallet.name)
            .bind(index)
            .execute(tx.sql())
            .await?;
        Ok(tx.commit().await?)
    }

    /// The signer attested this index for somebody else: the key moves on, to one above every attested one. What
    /// was jumped over is [`Issuer::resume`]'s: the new index was nobody's yet, so no block has to be read for it.
    pub(super) async fn skip(
        &self,
        wallet: &Wallet,
        request: &IssueAddressRequest,
        taken: &Entry,
    ) -> Result<Entry, Error> {
        let mut tx = self.store.begin().await?;
        let entry = find(&mut tx, &wallet.tenant, &request.idempotency_key).await?;
        match entry {
            Some(entry) if entry.index == taken.index && entry.issued.is_none() => {}
            Some(entry) => return Ok(entry), // another call with this key was first
            None => return Err(not_proven(&wallet.name, taken.index)),
        }
        let index = next_index(&mut tx, wallet).await?;
        let address = wallet.address(Branch::External, index)?.to_string();
        sqlx::query("UPDATE addresses SET idx = $1, address = $2 WHERE tenant = $3 AND idempotency_key = $4")
            .bind(i64::from(index))
            .bind(&address)
            .bind(&wallet.tenant)
            .bind(&request.idempotency_key)
            .execute(tx.sql())
            .await?;
        tx.commit().await?;
        Ok(Entry { index, address, ..taken.clone() })
    }
}

fn node_unreachable() -> Error {
    let text = "the node has not been reached since the watcher was set up; try again";
    Error::refused(Code::Unavailable, "node-unreachable", text)
}

/// The entry of this key, if it is for the same request.
async fn find_same(
    tx: &mut Tx,
    wallet: &Wallet,
    request: &IssueAddressRequest,
) -> Result<Option<Entry>, Error> {
    let entry = find(tx, &wallet.tenant, &request.idempotency_key).await?;
    let other = |entry: &Entry| {
        entry.wallet != request.wallet || entry.reference != request.customer_reference
    };
    if entry.as_ref().is_some_and(other) {
        let text = "this idempotency key was used with another wallet or customer reference";
        return Err(Error::refused(Code::AlreadyExists, "idempotency-key-reused", text));
    }
    Ok(entry)
}

/// The lowest index that was let go, else the next one nobody had.
async fn next_index(tx: &mut Tx, wallet: &Wallet) -> Result<u32, StoreError> {
    let freed: Option<i64> = sqlx::query_scalar(
        "DELETE FROM free_indexes WHERE wallet = $1
         AND idx = (SELECT MIN(idx) FROM free_indexes WHERE wallet = $1) RETURNING idx",
    )
    .bind(&wallet.name)
    .fetch_optional(tx.sql())
    .await?;
    match freed {
        Some(index) => u32::try_from(index)
            .map_err(|_| StoreError::Corrupt("a freed index does not fit".into())),
        None => wallet.take_index(tx, Branch::External).await,
    }
}

async fn find(tx: &mut Tx, tenant: &str, key: &str) -> Result<Option<Entry>, Error> {
    let row = sqlx::query(
        "SELECT wallet, idx, customer_reference, address, state, tier, proof FROM addresses
         WHERE tenant = $1 AND idempotency_key = $2",
    )
    .bind(tenant)
    .bind(key)
    .fetch_optional(tx.sql())
    .await?;
    let Some(row) = row else { return Ok(None) };
    let issued = match row.try_get::<String, _>(4)?.as_str() {
        "issued" => {
            let proof: Vec<u8> = row.try_get(6)?;
            let proof = AddressProof::decode(&*proof)
                .map_err(|e| StoreError::Corrupt(format!("an address's proof: {e}")))?;
            Some(Issued { tier: row.try_get(5)?, proof })
        }
        _ => None,
    };
    Ok(Some(Entry {
        wallet: row.try_get(0)?,
        index: height(&row, 1)?,
        reference: row.try_get(2)?,
        address: row.try_get(3)?,
        issued,
    }))
}
