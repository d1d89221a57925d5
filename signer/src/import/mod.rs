//! `signer import`: takes a ceremony's bundle in once it is proven to be the wallet that officers signed for, made
//! for this token. It never changes a bundle that was imported, and never trusts the file it was given twice:
//! what is verified is what is copied.

mod copy;

use std::io;
use std::path::{Path, PathBuf};

use audit::entry::Event;
use bundle::Bundle;
use policy::Rules;
use policy::names::WalletName;
use policy::rules::Tier;

use crate::ledger::Ledger;
use crate::log::{Log, LogError, Step};
use crate::token::{KeyFile, TokenError};
use copy::copy_verified;

/// What an import did.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Imported {
    /// The bundle's digest.
    pub digest: [u8; 32],
    /// Keys on the external branch.
    pub external: u32,
    /// Keys on the change branch.
    pub change: u32,
    /// False when the same bundle had been imported before.
    pub new: bool,
}

/// Why a bundle was not imported.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImportError {
    /// The policy has no such wallet.
    #[error(
        "the policy has no wallet \"{0}\": officers sign for a wallet before its keys are imported"
    )]
    UnknownWallet(WalletName),
    /// The wallet's keys are elsewhere.
    #[error("wallet \"{wallet}\" has tier {}: only token-hd and sealed-hd wallets have bundles", tier.as_str())]
    Tier {
        /// Which wallet.
        wallet: WalletName,
        /// Its tier.
        tier: Tier,
    },
    /// The bundle keeps its keys in another way than officers signed for.
    #[error("the bundle is of the tier {found}, and wallet \"{wallet}\" has tier {}", expected.as_str())]
    BundleTier {
        /// Which wallet.
        wallet: WalletName,
        /// Of the bundle.
        found: &'static str,
        /// Of the wallet.
        expected: Tier,
    },
    /// The file is not what a ceremony wrote.
    #[error("{}: {source}", path.display())]
    Bundle {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: bundle::Error,
    },
    /// Made for another chain.
    #[error("the bundle is for {found}, this signer is on {expected}")]
    Network {
        /// CAIP-2 id in the bundle.
        found: String,
        /// CAIP-2 id of this signer.
        expected: String,
    },
    /// Other keys than officers signed for.
    #[error(
        "the bundle's descriptor is not the one the policy has for wallet \"{wallet}\": {found}"
    )]
    Descriptor {
        /// Which wallet.
        wallet: WalletName,
        /// What the bundle says.
        found: String,
    },
    /// No key of this token opens it.
    #[error(
        "the bundle is wrapped for another token: its wrapping or sealing key is {found}, this token's is {expected}; \
         make a bundle for this one (`signer wrapping-key`)"
    )]
    WrappingKey {
        /// Fingerprint in the bundle, hex.
        found: String,
        /// Fingerprint of our token's key, hex.
        expected: String,
    },
    /// Another bundle is there already.
    #[error(
        "wallet \"{wallet}\" has a bundle already ({digest}); this version cannot replace or extend it"
    )]
    Second {
        /// Which wallet.
        wallet: WalletName,
        /// Digest of what is there, hex.
        digest: String,
    },
    /// The same keys under another name.
    #[error(
        "these keys are imported already as wallet \"{0}\": two names for one set of addresses would be used twice"
    )]
    OtherName(WalletName),
    /// A file could not be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The log did not take the entry.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The token's keys are not written down.
    #[error(transparent)]
    Keys(#[from] TokenError),
    /// A token from before there were sealing keys.
    #[error("this token has no sealing key yet: `signer init` makes one beside the keys it has")]
    NoSealingKey,
    /// The log was not begun.
    #[error("the log does not say which network and token it belongs to: run `signer init` first")]
    NotBegun,
}

/// Verifies the bundle in `file` for `wallet`, keeps a durable copy in `state_dir` and writes the import to the
/// log. The same import again changes nothing, but restores the copy if it is gone.
///
/// # Errors
/// [`ImportError`]; then nothing was imported.
pub async fn import(
    log: &Log<Ledger>,
    rules: &Rules,
    state_dir: &Path,
    wallet: &WalletName,
    file: &Path,
) -> Result<Imported, ImportError> {
    let expected = Expected::new(log, rules, state_dir, wallet)?;
    let (kept, bundle) = {
        let (state_dir, file) = (state_dir.to_path_buf(), file.to_path_buf());
        let copied = tokio::task::spawn_blocking(move || copy_verified(&state_dir, &file)).await;
        copied.map_err(|error| file_error(Path::new("bundle"), io::Error::other(error)))??
    };
    expected.check(&bundle)?;
    log.read(|ledger| earlier(ledger, wallet, &bundle))?;
    kept.keep(state_dir, bundle.digest())?;

    let (_, new) = log.commit(|ledger| register(ledger, wallet, &bundle)).await?;
    let new = new?;
    let (external, change) = (bundle.header().keys(false), bundle.header().keys(true));
    Ok(Imported { digest: bundle.digest(), external, change, new })
}

/// What the bundle must be, from what officers signed and what the log began with.
struct Expected {
    wallet: WalletName,
    tier: Tier,
    descriptor: String,
    network: String,
    wrapping: [u8; 32],
}

impl Expected {
    fn new(
        log: &Log<Ledger>,
        rules: &Rules,
        state_dir: &Path,
        wallet: &WalletName,
    ) -> Result<Self, ImportError> {
        let pinned =
            rules.wallet(wallet).ok_or_else(|| ImportError::UnknownWallet(wallet.clone()))?;
        let beginning =
            log.read(|ledger| ledger.beginning().cloned()).ok_or(ImportError::NotBegun)?;
        let wrapping = match pinned.tier {
            Tier::TokenHd => beginning.wrapping_fingerprint,
            Tier::SealedHd => KeyFile::in_dir(state_dir)
                .require()?
                .sealing_fingerprint()
                .ok_or(ImportError::NoSealingKey)?,
            tier @ Tier::Cold => {
                return Err(ImportError::Tier { wallet: wallet.clone(), tier });
            }
        };
        Ok(Self {
            wallet: wallet.clone(),
            tier: pinned.tier,
            descriptor: pinned.descriptor.clone(),
            network: beginning.network,
            wrapping,
        })
    }

    fn check(&self, bundle: &Bundle) -> Result<(), ImportError> {
        let fields = bundle.header().fields();
        if fields.network.caip2() != self.network {
            return Err(ImportError::Network {
                found: fields.network.caip2().to_owned(),
                expected: self.network.clone(),
            });
        }
        if bundle.header().descriptor() != self.descriptor {
            return Err(ImportError::Descriptor {
                wallet: self.wallet.clone(),
                found: bundle.header().descriptor().to_owned(),
            });
        }
        let found = fields.kind.scheme.tier();
        if found != self.tier.as_str() {
            let (wallet, expected) = (self.wallet.clone(), self.tier);
            return Err(ImportError::BundleTier { wallet, found, expected });
        }
        if fields.wrapping != self.wrapping {
            return Err(ImportError::WrappingKey {
                found: hex::encode(fields.wrapping),
                expected: hex::encode(self.wrapping),
            });
        }
        Ok(())
    }
}

/// Whether this very bundle is imported already; an error when anything else is in its place.
fn earlier(ledger: &Ledger, wallet: &WalletName, bundle: &Bundle) -> Result<bool, ImportError> {
    if let Some(there) = ledger.imports().wallet(wallet) {
        return if there.bundle == bundle.digest() {
            Ok(true)
        } else {
            let digest = hex::encode(there.bundle);
            Err(ImportError::Second { wallet: wallet.clone(), digest })
        };
    }
    let same_keys = |(_, imported): &(&WalletName, &crate::ledger::Imported)| {
        imported.descriptor == bundle.header().descriptor()
    };
    match ledger.imports().iter().find(same_keys) {
        Some((name, _)) => Err(ImportError::OtherName(name.clone())),
        None => Ok(false),
    }
}

/// The step that makes it so: decided again under the log's lock.
fn register(
    ledger: &Ledger,
    wallet: &WalletName,
    bundle: &Bundle,
) -> Step<Result<bool, ImportError>> {
    match earlier(ledger, wallet, bundle) {
        Ok(true) => Step::nothing(Ok(false)),
        Ok(false) => {
            let event = Event::WalletImported {
                wallet: wallet.as_str().to_owned(),
                descriptor: bundle.header().descriptor().to_owned(),
                tier: bundle.header().fields().kind.scheme.tier().to_owned(),
                bundle: bundle.digest(),
                external: bundle.header().keys(false),
                change: bundle.header().keys(true),
            };
            Step::write(vec![event], Ok(true))
        }
        Err(error) => Step::nothing(Err(error)),
    }
}

fn file_error(path: &Path, source: io::Error) -> ImportError {
    ImportError::File { path: path.to_path_buf(), source }
}
