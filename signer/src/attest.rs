//! Attests deposit addresses: derived here, remembered for ever, one token signature over a batch. It never attests
//! an index twice for two references, none whose key is not proven, and nothing that is frozen.

use std::collections::{BTreeMap, HashMap, HashSet};
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
use crate::gate;
use crate::keys::may_attest;
use crate::ledger::{Batch, Leaf, Ledger, Place};
use crate::log::Step;
use crate::officers::held;
use crate::refusal::{Reason, Refusal};
use crate::request::signing::not_imported;
use crate::wallets::Wallet;

/// Most claims in one call.
pub const CLAIMS_MAX: usize = 1000;
/// An index must be less than this above the number of the wallet's attested ones, so that a watcher gone wrong
/// leaves no gaps that nobody can bridge.
pub const INDEX_WINDOW: usize = 10_000;

/// Attests a batch, or answers again what was attested before.
///
/// # Errors
/// [`Refusal`]; then none of the batch is attested, but where officers froze it meanwhile: then nobody is told, and the same is
/// answered once they lift that.
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
    let claims = Arc::new(claims);
    for root in registered? {
        sign_root(app, &wallet, &claims, &root).await?;
    }
    let found = app.log.read(|ledger| {
        // It takes time to sign: what is frozen when the answer leaves counts.
        held::may_attest(ledger, caller, wallet.name())?;
        find(ledger, &wallet, &claims)
    })?;
    let app = Arc::clone(app);
    blocking(move || reply(&app, &wallet, &claims, &found)).await
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
    // Nobody is to pay in what could not be moved.
    app.barred(wallet).map_or_else(|| Ok(Arc::clone(wallet)), Err)
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
    if app.is_tightened(ledger) {
        return Step::nothing(Err(gate::shut()));
    }
    let sorted = held::may_attest(ledger, caller, wallet.name())
        .and_then(|()| sort(app, ledger, wallet, claims));
    match sorted {
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
    app: &App,
    ledger: &Ledger,
    wallet: &Wallet,
    claims: &'a [Derived],
) -> Result<(Vec<Hash>, Vec<&'a Derived>), Refusal> {
    let imported = ledger.imports().wallet(wallet.name());
    let below = imported.ok_or_else(|| not_imported(wallet.name()))?.proven(false);
    let window = ledger.attested().count(wallet.name()).saturating_add(INDEX_WINDOW);
    may_attest(ledger, &app.kin, wallet.name())?;
    let (mut unsigned, mut fresh) = (Vec::new(), Vec::new());
    for derived in claims {
        let index = derived.claim.index;
        let place = ledger.attested().place(wallet.name(), index);
        let Some(batch) = place.and_then(|place| ledger.attested().batch(place.batch)) else {
            if usize::try_from(index).map_or(true, |index| index >= window) {
                let text = format!(
                    "index {index} of wallet \"{}\" is too far ahead, the next ones are below {window}: attest those first",
                    wallet.name()
                );
                return Err(Refusal::new(Reason::AttestWindow, text));
            }
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

/// Has the root signed and keeps the signature, once every leaf below it was derived here again: what the log says
/// is not enough. Ed25519 gives the same signature if two do this at once.
async fn sign_root(
    app: &Arc<App>,
    wallet: &Arc<Wallet>,
    claims: &Arc<Vec<Derived>>,
    root: &Hash,
) -> Result<(), Refusal> {
    let batch = app.log.read(|ledger| ledger.attested().by_root(root).cloned());
    let batch = batch.ok_or_else(|| missing(0))?;
    let (parts, wanted) = ((Arc::clone(app), Arc::clone(wallet), Arc::clone(claims)), *root);
    let ours = blocking(move || {
        let (app, wallet, claims) = parts;
        derived_root(&app, &wallet, &claims, &batch)
    })
    .await?;
    if ours != wanted {
        tracing::error!("a logged batch of attestations is not what this signer derives");
        return Err(missing(0));
    }
    let signature =
        app.token.statement(app.log.lease(), StatementKey::Attestation, &statement(root)).await?;
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

/// The root over a batch's leaves, each with the address derived here.
fn derived_root(
    app: &App,
    wallet: &Wallet,
    claims: &[Derived],
    batch: &Batch,
) -> Result<Hash, Refusal> {
    // What this call derived already is not derived again.
    let known: HashMap<u32, &str> =
        claims.iter().map(|one| (one.claim.index, one.claim.address.as_str())).collect();
    let hash = |kept: &Leaf| {
        let address = match known.get(&kept.index) {
            Some(address) => (*address).to_owned(),
            None => {
                let script = wallet.script(false, kept.index);
                app.wallets.address_of(&script.ok_or_else(|| missing(kept.index))?)
            }
        };
        let claim = entry::Claim {
            index: kept.index,
            address,
            reference: kept.reference.to_string(),
            expires_unix: kept.expires_unix,
        };
        let leaf = leaf(app, wallet, &claim).map_err(|_| missing(kept.index))?;
        Ok(tree::leaf_hash(&leaf))
    };
    let hashes = batch.leaves.iter().map(hash).collect::<Result<Vec<_>, Refusal>>()?;
    Ok(Tree::build(hashes).root())
}

/// What the ledger has of the claims: their places, and each batch once.
struct Found {
    kept: Vec<(Place, Leaf)>,
    batches: BTreeMap<usize, Batch>,
}

fn find(ledger: &Ledger, wallet: &Wallet, claims: &[Derived]) -> Result<Found, Refusal> {
    let mut found = Found { kept: Vec::with_capacity(claims.len()), batches: BTreeMap::new() };
    for derived in claims {
        let index = derived.claim.index;
        let attested = ledger.attested();
        let place = attested.place(wallet.name(), index).ok_or_else(|| missing(index))?;
        let batch = attested.batch(place.batch).ok_or_else(|| missing(index))?;
        let kept = batch.leaves.get(place.position).ok_or_else(|| missing(index))?;
        found.kept.push((place, kept.clone()));
        found.batches.entry(place.batch).or_insert_with(|| batch.clone());
    }
    Ok(found)
}

/// Puts the answer together, each batch's tree built once, away from the log's lock.
fn reply(
    app: &App,
    wallet: &Wallet,
    claims: &[Derived],
    found: &Found,
) -> Result<AttestReply, Refusal> {
    let tree = |batch: &Batch| Tree::build(batch.leaves.iter().map(|leaf| leaf.hash).collect());
    let trees: BTreeMap<usize, Tree> =
        found.batches.iter().map(|(number, batch)| (*number, tree(batch))).collect();
    let attestations = claims
        .iter()
        .zip(&found.kept)
        .map(|(derived, (place, kept))| {
            let batch = found.batches.get(&place.batch).zip(trees.get(&place.batch));
            let (batch, tree) = batch.ok_or_else(|| missing(kept.index))?;
            attestation(app, wallet, derived, (place.position, kept), (batch, tree))
        })
        .collect::<Result<Vec<_>, _>>()?;
    // The newest batch: the one made now, if anything was new.
    let (_, newest) = found.batches.last_key_value().ok_or_else(|| missing(0))?;
    Ok(AttestReply {
        root: newest.root.to_vec(),
        signature: newest.signature.map(Vec::from).unwrap_or_default(),
        key_id: Sha256::digest(app.token.keys().attestation).to_vec(),
        attestations,
    })
}

fn attestation(
    app: &App,
    wallet: &Wallet,
    derived: &Derived,
    (position, kept): (usize, &Leaf),
    (batch, tree): (&Batch, &Tree),
) -> Result<Attestation, Refusal> {
    let index = derived.claim.index;
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
    let path = tree.path(position).ok_or_else(|| missing(index))?;
    let small = |number: usize| u32::try_from(number).map_err(|_| missing(index));
    Ok(Attestation {
        index,
        address: claim.address,
        leaf,
        position: small(position)?,
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
