//! Attests deposit addresses: derived here, remembered for ever, one token signature over a batch. It never attests
//! an index twice for two references, and none whose key is not proven.

use std::collections::HashSet;
use std::sync::Arc;

use audit::attestation::{self, check_reference, statement};
use audit::entry::{self, Event};
use audit::tree::Tree;
use audit::{Hash, tree};
use policy::names::{ClientName, WalletName};
use policy::rules::Tier;
use proto::{AddressClaim, AttestReply, AttestRequest, Attestation};
use sha2::{Digest as _, Sha256};
use token_wire::StatementKey;

use crate::app::{App, blocking};
use crate::ledger::{Batch, Ledger};
use crate::log::Step;
use crate::refusal::{Reason, Refusal};
use crate::request::signing::not_imported;
use crate::wallets::Wallet;

/// Most claims in one call.
pub const CLAIMS_MAX: usize = 1000;

/// Attests a batch, or answers again what was attested before.
///
/// # Errors
/// [`Refusal`]; then none of the batch is attested.
pub async fn attest(
    app: &Arc<App>,
    caller: &ClientName,
    request: AttestRequest,
) -> Result<AttestReply, Refusal> {
    let wallet = granted(app, caller, &request.wallet)?;
    let claims = blocking({
        let (app, wallet) = (Arc::clone(app), Arc::clone(&wallet));
        move || derive(&app, &wallet, &request.claims)
    })
    .await?;
    let step = |ledger: &Ledger| register(app, ledger, caller, &wallet, &claims);
    let (_, registered) = app.log.commit(step).await?;
    for root in registered? {
        sign_root(app, &root).await?;
    }
    app.log.read(|ledger| reply(app, ledger, &wallet, &claims))
}

/// One claim with its address, which the signer derived.
struct Derived {
    claim: entry::Claim,
    leaf: Vec<u8>,
    hash: Hash,
}

fn granted(app: &App, caller: &ClientName, name: &str) -> Result<Arc<Wallet>, Refusal> {
    let parsed = WalletName::parse(name)
        .map_err(|error| Refusal::new(Reason::BadRequest, error.to_string()))?;
    let wallet = app.wallets.wallet(&parsed).ok_or_else(|| {
        Refusal::new(Reason::UnknownWallet, format!("the policy has no wallet \"{parsed}\""))
    })?;
    if !app.rules.may_attest(caller, &parsed) {
        let text = format!("client \"{caller}\" may not have addresses of \"{parsed}\" attested");
        return Err(Refusal::new(Reason::AttestNotGranted, text));
    }
    if wallet.tier() == Tier::Cold {
        let text = format!("wallet \"{parsed}\" is cold: nobody here holds its keys");
        return Err(Refusal::new(Reason::WalletWithoutKeys, text));
    }
    Ok(Arc::clone(wallet))
}

fn derive(app: &App, wallet: &Wallet, claims: &[AddressClaim]) -> Result<Vec<Derived>, Refusal> {
    if !(1..=CLAIMS_MAX).contains(&claims.len()) {
        let text = format!("{} claims came; send from 1 to {CLAIMS_MAX}", claims.len());
        let reason = if claims.is_empty() { Reason::BadClaim } else { Reason::Oversize };
        return Err(Refusal::new(reason, text));
    }
    let mut seen = HashSet::new();
    let one = |claim: &AddressClaim| {
        let bad = |why: String| {
            Refusal::new(Reason::BadClaim, format!("the claim for index {}: {why}", claim.index))
        };
        if !seen.insert(claim.index) {
            return Err(bad("it is there twice".to_owned()));
        }
        check_reference(&claim.customer_reference).map_err(|error| bad(error.to_string()))?;
        let script =
            wallet.script(false, claim.index).ok_or_else(|| bad("no such index".to_owned()))?;
        let claim = entry::Claim {
            index: claim.index,
            address: app.wallets.address_of(&script),
            reference: claim.customer_reference.clone(),
            expires_unix: claim.expires_unix,
        };
        let leaf = leaf(app, wallet, &claim).map_err(|error| bad(error.to_string()))?;
        Ok(Derived { hash: tree::leaf_hash(&leaf), leaf, claim })
    };
    claims.iter().map(one).collect()
}

fn leaf(
    app: &App,
    wallet: &Wallet,
    claim: &entry::Claim,
) -> Result<Vec<u8>, attestation::AttestationError> {
    attestation::Leaf {
        network: app.rules.network().chain_id().to_string(),
        wallet: wallet.name().to_string(),
        index: claim.index,
        address: claim.address.clone(),
        reference: claim.reference.clone(),
        expires_unix: claim.expires_unix,
    }
    .encode()
}

/// Under the log's lock: what is new becomes a batch; what is there must be for the same reference. Gives the
/// roots that the attestation key has not signed yet.
fn register(
    app: &App,
    ledger: &Ledger,
    caller: &ClientName,
    wallet: &Wallet,
    claims: &[Derived],
) -> Step<Result<Vec<Hash>, Refusal>> {
    match sort(ledger, wallet, claims) {
        Err(refusal) => Step::nothing(Err(refusal)),
        Ok((mut unsigned, fresh)) if fresh.is_empty() => {
            unsigned.dedup();
            Step::nothing(Ok(unsigned))
        }
        Ok((mut unsigned, fresh)) => {
            let root = Tree::build(fresh.iter().map(|derived| derived.hash).collect()).root();
            let attested = entry::Attested {
                wallet: wallet.name().to_string(),
                caller: caller.to_string(),
                root,
                claims: fresh.iter().map(|derived| derived.claim.clone()).collect(),
            };
            tracing::debug!(policy = app.rules.version(), new = fresh.len(), "addresses attested");
            unsigned.dedup();
            unsigned.push(root);
            Step::write(vec![Event::Attested(attested)], Ok(unsigned))
        }
    }
}

/// Earlier batches without a signature, and claims that are new.
fn sort<'a>(
    ledger: &Ledger,
    wallet: &Wallet,
    claims: &'a [Derived],
) -> Result<(Vec<Hash>, Vec<&'a Derived>), Refusal> {
    let imported = ledger.imports().wallet(wallet.name());
    let below = imported.ok_or_else(|| not_imported(wallet.name()))?.proven(false);
    let (mut unsigned, mut fresh) = (Vec::new(), Vec::new());
    for derived in claims {
        let index = derived.claim.index;
        let place = ledger.attested().place(wallet.name(), index);
        let Some(batch) = place.and_then(|place| ledger.attested().batch(place.batch)) else {
            if index >= below {
                let text = format!(
                    "index {index} of wallet \"{}\" is not proven yet, only those below {below} are: try again later, or import a larger bundle",
                    wallet.name()
                );
                return Err(Refusal::new(Reason::IndexNotProven, text));
            }
            fresh.push(derived);
            continue;
        };
        let earlier = place.and_then(|place| batch.leaves.get(place.position));
        if earlier.is_none_or(|leaf| *leaf.reference != *derived.claim.reference) {
            let text = format!(
                "index {index} of wallet \"{}\" was attested for another customer reference",
                wallet.name()
            );
            return Err(Refusal::new(Reason::AddressAlreadyAttested, text));
        }
        if batch.signature.is_none() {
            unsigned.push(batch.root);
        }
    }
    Ok((unsigned, fresh))
}

/// Has the root signed and keeps the signature. Ed25519 gives the same one if two do this at once.
async fn sign_root(app: &App, root: &Hash) -> Result<(), Refusal> {
    let signature = app.token.statement(StatementKey::Attestation, &statement(root)).await?;
    let step = |ledger: &Ledger| match ledger.attested().by_root(root) {
        Some(Batch { signature: None, .. }) => {
            let event = Event::AttestationSigned { root: *root, signature: signature.to_vec() };
            Step::write(vec![event], ())
        }
        _ => Step::nothing(()),
    };
    app.log.commit(step).await?;
    Ok(())
}

fn reply(
    app: &App,
    ledger: &Ledger,
    wallet: &Wallet,
    claims: &[Derived],
) -> Result<AttestReply, Refusal> {
    let attestations = claims
        .iter()
        .map(|derived| attestation(app, ledger, wallet, derived))
        .collect::<Result<Vec<_>, _>>()?;
    // The newest batch: the one made now, if anything was new.
    let newest = claims
        .iter()
        .filter_map(|derived| ledger.attested().place(wallet.name(), derived.claim.index))
        .max_by_key(|place| place.batch)
        .and_then(|place| ledger.attested().batch(place.batch));
    let newest = newest.ok_or_else(|| missing(0))?;
    Ok(AttestReply {
        root: newest.root.to_vec(),
        signature: newest.signature.map(Vec::from).unwrap_or_default(),
        key_id: Sha256::digest(app.token.keys().attestation).to_vec(),
        attestations,
    })
}

fn attestation(
    app: &App,
    ledger: &Ledger,
    wallet: &Wallet,
    derived: &Derived,
) -> Result<Attestation, Refusal> {
    let index = derived.claim.index;
    let place = ledger.attested().place(wallet.name(), index).ok_or_else(|| missing(index))?;
    let batch = ledger.attested().batch(place.batch).ok_or_else(|| missing(index))?;
    let kept = batch.leaves.get(place.position).ok_or_else(|| missing(index))?;
    // What was attested is answered, with the expiry of then.
    let claim = entry::Claim { expires_unix: kept.expires_unix, ..derived.claim.clone() };
    let leaf = if claim == derived.claim {
        derived.leaf.clone()
    } else {
        leaf(app, wallet, &claim).map_err(|_| missing(index))?
    };
    if tree::leaf_hash(&leaf) != kept.hash {
        return Err(missing(index));
    }
    let tree = Tree::build(batch.leaves.iter().map(|leaf| leaf.hash).collect());
    let path = tree.path(place.position).ok_or_else(|| missing(index))?;
    let small = |number: usize| u32::try_from(number).map_err(|_| missing(index));
    Ok(Attestation {
        index,
        address: claim.address,
        leaf,
        position: small(place.position)?,
        tree_size: small(batch.leaves.len())?,
        path: path.into_iter().map(Vec::from).collect(),
        root: batch.root.to_vec(),
        signature: batch.signature.map(Vec::from).ok_or_else(|| missing(index))?,
        tier: wallet.tier().as_str().to_owned(),
    })
}

fn missing(index: u32) -> Refusal {
    let text =
        format!("the attestation of index {index} cannot be put together: tell the operators");
    Refusal::new(Reason::Internal, text)
}
