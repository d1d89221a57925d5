//! Gives the token's own keys to the wallets of the policy that name them, at a start. It never binds by name, and
//! never binds a wallet whose coins would be lost with the token unless officers signed for a proof that it was cloned.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use audit::entry::Event;
use policy::names::WalletName;
use policy::rules::Tier;
use secp256k1::PublicKey;
use sha2::{Digest as _, Sha256};

use crate::ledger::{Imported, Ledger};
use crate::log::{Log, LogError, Step};
use crate::token::TokenKeys;
use crate::wallets::{ScriptKind, Wallet, WalletError, Wallets};

/// Unhardened children of a branch.
const EVERY_INDEX: u32 = 1 << 31;
/// No proof is longer.
const PROOF_BYTES_MAX: u64 = 16 << 20;

/// Why a wallet of the tier `token` cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BindError {
    /// Every key is in one token.
    #[error(
        "every key of wallet \"{0}\" was born in this token, and its coins would be lost with it: put a key that is elsewhere into its descriptor, or name the proof that the vendor's means cloned the token (`cloning_proof` in the policy)"
    )]
    AllHere(WalletName),
    /// The proof that officers signed for is not here.
    #[error(
        "wallet \"{wallet}\": the proof that its token was cloned is not at {}: {source}; copy it there",
        path.display()
    )]
    NoProof {
        /// Which wallet.
        wallet: WalletName,
        /// Where it should be.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Another file than officers signed for.
    #[error(
        "wallet \"{wallet}\": {} is not the proof of cloning that officers signed for, its SHA-256 is {found}",
        path.display()
    )]
    OtherProof {
        /// Which wallet.
        wallet: WalletName,
        /// Where it is.
        path: PathBuf,
        /// What it is.
        found: String,
    },
    /// The log knows the key, and the state folder does not.
    #[error(
        "wallet \"{wallet}\" is signed for by token key \"{key}\", which token-keys.toml does not name: `signer token-key generate {key}` finds it again"
    )]
    Forgotten {
        /// Which wallet.
        wallet: WalletName,
        /// Which key.
        key: String,
    },
    /// The policy describes a wallet differently.
    #[error(
        "wallet \"{0}\" was bound with another descriptor than the policy has now: its addresses would be others"
    )]
    OtherDescriptor(WalletName),
    /// The wallet.
    #[error(transparent)]
    Wallet(#[from] WalletError),
    /// The log did not take the entry.
    #[error(transparent)]
    Log(#[from] LogError),
}

/// Where the proof with this digest must be.
#[must_use]
pub fn proof_path(state_dir: &Path, digest: &[u8; 32]) -> PathBuf {
    state_dir.join("cloning-proofs").join(hex::encode(digest))
}

/// Binds every wallet of the tier `token`. `bound` are the keys that proved themselves when the token was opened.
pub(crate) async fn bind(
    log: &Log<Ledger>,
    state_dir: &Path,
    wallets: &mut Wallets,
    bound: &TokenKeys,
) -> Result<(), BindError> {
    let names: Vec<WalletName> = wallets
        .iter()
        .filter(|wallet| wallet.tier() == Tier::Token)
        .map(|wallet| wallet.name().clone())
        .collect();
    for name in names {
        let Some(wallet) = wallets.wallet(&name) else { continue };
        let ours = log.read(|ledger| ours(ledger, wallet, bound))?;
        if ours.is_empty() {
            tracing::warn!(wallet = %name, "no key that was born in this token is in its descriptor");
            continue;
        }
        may_hold_coins(wallet, &ours, state_dir)?;
        if let Some(event) = log.read(|ledger| news(ledger, wallet, &ours))? {
            log.commit(|_| Step::write(vec![event], ())).await?;
        }
        wallets.attach_born(&name, &ours)?;
        tracing::info!(wallet = %name, tier = Tier::Token.as_str(), "wallet ready");
    }
    Ok(())
}

/// Whether every wallet of the tier `token` could be bound, as far as the log and the state folder tell.
pub(crate) fn bindable(
    ledger: &Ledger,
    state_dir: &Path,
    wallets: &Wallets,
) -> Result<(), BindError> {
    for wallet in wallets.iter().filter(|wallet| wallet.tier() == Tier::Token) {
        let keys = wallet.fixed().into_iter().map(|(_, public_key)| public_key);
        let ours: Vec<PublicKey> = keys.filter(|key| ledger.born().key(key).is_some()).collect();
        if !ours.is_empty() {
            may_hold_coins(wallet, &ours, state_dir)?;
        }
    }
    Ok(())
}

/// The wallet's keys that the log says were born in this token.
fn ours(ledger: &Ledger, wallet: &Wallet, bound: &TokenKeys) -> Result<Vec<PublicKey>, BindError> {
    let mut ours = Vec::new();
    for (_, public_key) in wallet.fixed() {
        let Some(key) = ledger.born().key(&public_key) else { continue };
        if !bound.born.contains(&public_key) {
            let (wallet, key) = (wallet.name().clone(), key.name.to_string());
            return Err(BindError::Forgotten { wallet, key });
        }
        ours.push(public_key);
    }
    Ok(ours)
}

/// Coins must outlive the token: another key is elsewhere, or the token was cloned.
fn may_hold_coins(wallet: &Wallet, ours: &[PublicKey], state_dir: &Path) -> Result<(), BindError> {
    let name = wallet.name();
    let elsewhere = wallet.key_count().saturating_sub(ours.len());
    let Some(digest) = wallet.cloning_proof() else {
        if elsewhere == 0 {
            return Err(BindError::AllHere(name.clone()));
        }
        if let ScriptKind::P2wshSortedMulti { needed, .. } = wallet.kind()
            && usize::from(needed) > elsewhere
        {
            tracing::warn!(wallet = %name, "{needed} keys are needed and {elsewhere} are elsewhere: without this token, or a clone of it, its coins cannot be spent");
        }
        return Ok(());
    };
    let path = proof_path(state_dir, &digest);
    let found = digest_of(&path).map_err(|source| {
        let (wallet, path) = (name.clone(), path.clone());
        BindError::NoProof { wallet, path, source }
    })?;
    if found == digest {
        return Ok(());
    }
    Err(BindError::OtherProof { wallet: name.clone(), path, found: hex::encode(found) })
}

fn digest_of(path: &Path) -> std::io::Result<[u8; 32]> {
    let mut bytes = Vec::new();
    File::open(path)?.take(PROOF_BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(Sha256::digest(bytes).into())
}

/// What the log does not know yet.
fn news(ledger: &Ledger, wallet: &Wallet, ours: &[PublicKey]) -> Result<Option<Event>, BindError> {
    let (name, proof) = (wallet.name(), wallet.cloning_proof());
    if let Some(before) = ledger.imports().wallet(name) {
        if before.descriptor != wallet.descriptor() || before.tier != wallet.tier().as_str() {
            return Err(BindError::OtherDescriptor(name.clone()));
        }
        if before.cloning_proof == proof && same_keys(before, ours) {
            return Ok(None);
        }
    }
    Ok(Some(Event::TokenWalletBound {
        wallet: name.to_string(),
        descriptor: wallet.descriptor().to_owned(),
        tier: wallet.tier().as_str().to_owned(),
        keys: ours.iter().map(|key| key.serialize().to_vec()).collect(),
        cloning_proof: proof,
        indexes: if wallet.is_ranged() { EVERY_INDEX } else { 1 },
    }))
}

fn same_keys(before: &Imported, ours: &[PublicKey]) -> bool {
    before.born().len() == ours.len() && before.born().iter().all(|key| ours.contains(key))
}
