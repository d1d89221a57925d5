//! Issues deposit addresses: one per caller's key, attested by the signer, and matched by the follower before
//! anybody sees it. It never gives one index to two references, whatever was restored from a backup.

use std::sync::Arc;
use std::time::Duration;

use prost::Message as _;
use proto::{AddressClaim, AddressProof, Attestation, IssueAddressRequest};
use serde_json::json;
use sqlx::Row as _;
use tonic::Code;

use crate::attest::Attestations;
use crate::chain::Handle;
use crate::config::Purpose;
use crate::error::Error;
use crate::rows::height;
use crate::scan::Branch;
use crate::signer_client::Failure;
use crate::store::{Store, StoreError, Tx, now_unix};
use crate::wallets::{Wallet, Wallets};

/// Longest customer reference, in bytes.
const REFERENCE_MAX: usize = 128;
/// Indexes found taken in one call before the caller is asked to call again.
const SKIPS_MAX: u32 = 1000;
/// How long the follower may take to match a new script.
const MATCH_DEADLINE: Duration = Duration::from_secs(10);

/// Issues addresses. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Issuer {
    /// The database.
    pub store: Store,
    /// Our wallets.
    pub wallets: Arc<Wallets>,
    /// The way to the signer.
    pub attestations: Attestations,
    /// The follower, which must match a script before its address is shown.
    pub follower: Handle,
}

/// A row of `addresses`.
#[derive(Clone, Debug)]
struct Entry {
    wallet: String,
    index: u32,
    reference: String,
    address: String,
    issued: Option<Issued>,
}

#[derive(Clone, Debug)]
struct Issued {
    tier: String,
    proof: AddressProof,
}

impl Issuer {
    /// Issues an address, or gives the one this key was issued before.
    ///
    /// # Errors
    /// [`Error::Refused`] when the request is wrong, the key was used for something else, the signer has not
    /// proven the index, or follower or signer cannot be waited for.
    pub async fn issue(
        &self,
        tenant: &str,
        request: &IssueAddressRequest,
    ) -> Result<proto::Address, Error> {
        let wallet = self.check(tenant, request)?;
        let mut entry = self.reserve(wallet, request).await?;
        for _ in 0..SKIPS_MAX {
            if entry.issued.is_some() {
                return answer(entry);
            }
            self.wait_for_match(&entry).await?;
            let claim = AddressClaim {
                index: entry.index,
                customer_reference: entry.reference.clone(),
                expires_unix: 0,
            };
            match self.attestations.attest(&wallet.name, claim).await {
                Ok(attestation) => {
                    let issued = check_attestation(&entry, attestation)?;
                    self.finish(wallet, request, &entry, &issued).await?;
                    entry.issued = Some(issued);
                }
                Err(Failure::Refused(refusal)) if refusal.has("index-not-proven") => {
                    self.release(wallet, request).await?;
                    return Err(not_proven(&wallet.name, entry.index));
                }
                Err(Failure::Refused(refusal)) if refusal.code == Code::AlreadyExists => {
                    tracing::warn!(
                        wallet = wallet.name,
                        index = entry.index,
                        "skipping an index the signer attested before"
                    );
                    entry = self.skip(wallet, request, &entry).await?;
                }
                Err(failure @ Failure::Refused(_)) => {
                    self.release(wallet, request).await?;
                    return Err(failure.into());
                }
                // Nobody knows whether it was attested: the key keeps its index.
                Err(failure) => return Err(failure.into()),
            }
        }
        Err(Error::refused(
            Code::Aborted,
            "indexes-taken",
            format!(
                "the next {SKIPS_MAX} indexes were all issued before; call again with the same key to go on"
            ),
        ))
    }

    fn check(&self, tenant: &str, request: &IssueAddressRequest) -> Result<&Wallet, Error> {
        let _ = order::names::check("idempotency key", &request.idempotency_key)
            .map_err(|error| Error::invalid("bad-idempotency-key", error.to_string()))?;
        let reference = &request.customer_reference;
        if reference.len() > REFERENCE_MAX || reference.chars().any(char::is_control) {
            let text = format!(
                "customer_reference must be at most {REFERENCE_MAX} bytes of printable text"
            );
            return Err(Error::invalid("bad-customer-reference", text));
        }
        let found = self.wallets.find(&request.wallet).filter(|wallet| wallet.tenant == tenant);
        let wallet = found.ok_or_else(|| Error::unknown_wallet(&request.wallet))?;
        if wallet.purpose == Purpose::Cold {
            let text = format!(
                "wallet \"{}\" is cold storage; nobody is given its addresses",
                wallet.name
            );
            return Err(Error::refused(Code::FailedPrecondition, "cold-storage", text));
        }
        Ok(wallet)
    }

    /// The entry of this key, made now if there is none: the index is taken before the signer is asked, so
    /// that a crash in between leaves the key with its index.
    async fn reserve(
        &self,
        wallet: &Wallet,
        request: &IssueAddressRequest,
    ) -> Result<Entry, Error> {
        let mut tx = self.store.begin().await?;
        if let Some(entry) = find(&mut tx, &wallet.tenant, &request.idempotency_key).await? {
            if entry.wallet != request.wallet || entry.reference != request.customer_reference {
                let text =
                    "this idempotency key was used with another wallet or customer reference";
                return Err(Error::refused(Code::AlreadyExists, "idempotency-key-reused", text));
            }
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
            let text = "the node has not been reached since the watcher was set up; try again";
            return Err(Error::refused(Code::Unavailable, "node-unreachable", text));
        }
        tx.commit().await?;
        let reference = request.customer_reference.clone();
        Ok(Entry { wallet: wallet.name.clone(), index, reference, address, issued: None })
    }

    /// Waits until the mark beside the cursor covers the entry's script.
    async fn wait_for_match(&self, entry: &Entry) -> Result<(), Error> {
        let mut commits = self.store.commits();
        let matched = async {
            loop {
                let _ = commits.borrow_and_update();
                let covered: Option<bool> = sqlx::query_scalar(
                    "SELECT s.number <= c.mark FROM scripts s, cursor c WHERE s.wallet = $1 AND s.branch = 0 AND s.idx = $2",
                )
                .bind(&entry.wallet)
                .bind(i64::from(entry.index))
                .fetch_optional(self.store.reader())
                .await?;
                if covered == Some(true) {
                    return Ok(());
                }
                self.follower.nudge();
                if commits.changed().await.is_err() {
                    return Err(Error::Broken("the store is closed".into()));
                }
            }
        };
        tokio::time::timeout(MATCH_DEADLINE, matched).await.unwrap_or_else(|_| {
            let text =
                "the chain follower has not taken the address in yet; try again with the same key";
            Err(Error::refused(Code::Unavailable, "follower-behind", text))
        })
    }

    /// Writes the attested address and its event down; only then it may be shown.
    async fn finish(
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
            "address": entry.address,
            "address_index": entry.index,
            "customer_reference": entry.reference,
        });
        let _ = tx.event(&wallet.tenant, "address.issued", &entry.address, &body).await?;
        Ok(tx.commit().await?)
    }

    /// The signer did not attest the index: the key lets go of it, and the next caller gets it.
    async fn release(&self, wallet: &Wallet, request: &IssueAddressRequest) -> Result<(), Error> {
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

    /// The signer attested this index for somebody else, so this database is older than the signer's: the key
    /// moves on, and the blocks since the last address we know of are read again.
    async fn skip(
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
        let since: i64 = sqlx::query_scalar(
            "SELECT COALESCE(MAX(a.reserved_height), w.birthday) FROM wallets w
             LEFT JOIN addresses a ON a.wallet = w.wallet AND a.state = 'issued'
             WHERE w.wallet = $1 GROUP BY w.birthday",
        )
        .bind(&wallet.name)
        .fetch_one(tx.sql())
        .await?;
        sqlx::query("UPDATE wallets SET rescan_from = $1 WHERE wallet = $2 AND (rescan_from IS NULL OR rescan_from > $1)")
            .bind(since)
            .bind(&wallet.name)
            .execute(tx.sql())
            .await?;
        tx.commit().await?;
        Ok(Entry { index, address, ..taken.clone() })
    }
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

/// The signer derives for itself: when its address is not ours, one of the two is not what it should be, and
/// nobody may be shown either.
fn check_attestation(entry: &Entry, attestation: Attestation) -> Result<Issued, Error> {
    if attestation.index != entry.index || attestation.address != entry.address {
        return Err(Error::Broken(format!(
            "wallet \"{}\" index {}: the signer attested another address than the descriptor gives",
            entry.wallet, entry.index
        )));
    }
    let Attestation { leaf, position, tree_size, path, root, signature, tier, .. } = attestation;
    Ok(Issued { tier, proof: AddressProof { leaf, position, tree_size, path, root, signature } })
}

fn answer(entry: Entry) -> Result<proto::Address, Error> {
    let issued =
        entry.issued.ok_or_else(|| Error::Broken("an answer before it was issued".into()))?;
    Ok(proto::Address {
        wallet: entry.wallet,
        index: entry.index,
        address: entry.address,
        customer_reference: entry.reference,
        tier: issued.tier,
        proof: Some(issued.proof),
    })
}

fn not_proven(wallet: &str, index: u32) -> Error {
    let text = format!(
        "the signer has not proven index {index} of wallet \"{wallet}\" yet, so no address can be given out; \
         wait until its background check gets there, or extend the wallet by a ceremony"
    );
    Error::refused(Code::FailedPrecondition, "index-not-proven", text)
}
