//! Issues deposit addresses: one per caller's key, attested by the signer, and matched by the follower before
//! anybody sees it. It never gives one index to two callers, whatever was restored from a backup: before it takes a
//! new index it asks the signer how far it has attested.

mod anew;
mod entry;
mod resume;

use std::sync::Arc;
use std::time::Duration;

use proto::{AddressClaim, AddressProof, Attestation, IssueAddressRequest};
use tonic::Code;

use self::entry::{Entry, Issued};
pub use self::resume::Resumed;
pub(crate) use self::resume::resume_all;
use crate::attest::{Attestations, DENIED};
use crate::chain::Handle;
use crate::config::Purpose;
use crate::error::Error;
use crate::signer_client::Failure;
use crate::store::Store;
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
    /// Wallets whose next index is known to be above every attested one.
    pub resumed: Resumed,
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
        let mut entry = match self.reserved(wallet, request).await? {
            Some(entry) if entry.issued.is_some() => return answer(entry),
            // Also for a reserved index: since a backup was made, it may have been let go and given to another.
            _ => {
                self.resume(wallet).await?;
                self.reserve(wallet, request).await?
            }
        };
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
                    self.resume_again(wallet).await?;
                    entry = self.skip(wallet, request, &entry).await?;
                }
                // Officers froze it: it may be attested already, and the key keeps its index until they lift that.
                Err(Failure::Refused(refusal)) if refusal.has(DENIED) => {
                    return Err(Failure::Refused(refusal).into());
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
