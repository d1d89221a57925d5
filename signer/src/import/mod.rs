//! `signer import`: takes a ceremony's bundle in once it is proven to be the wallet that officers signed for, made
//! for this token: a first one, or one of the same keys with more records or wrapped anew. It never changes a bundle
//! that was imported, and never trusts the file it was given twice: what is verified is what is copied. The entry in
//! the log alone says which bundle a wallet has, so that a crash leaves the one before or the new one, whole.

mod compare;
mod copy;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use audit::entry::Event;
use bundle::{Bundle, Header, Scheme, Script};
use policy::Rules;
use policy::names::WalletName;
use policy::rules::Tier;

use crate::ledger::{self, Ledger};
use crate::log::{Log, LogError, Step};
use crate::token::{KeyFile, TokenError};
use crate::wallets::{Wallet, WalletError, Wallets};
use compare::{Kept, compare};
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
    /// The bundle whose place it took, if it did.
    pub replaced: Option<[u8; 32]>,
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
         make a bundle for this one (`signer wrapping-key`, of a sealed account with `--sealing`)"
    )]
    WrappingKey {
        /// Fingerprint in the bundle, hex.
        found: String,
        /// Fingerprint of our token's key, hex.
        expected: String,
    },
    /// Under a key-encryption key that this token does not have.
    #[error(
        "the bundle's children are under the key-encryption key {found}, which this token does not have: bring it in \
         first (`signer kek import`)"
    )]
    Kek {
        /// Its fingerprint, hex.
        found: String,
    },
    /// Other keys than the wallet has.
    #[error(
        "wallet \"{wallet}\" was imported with other keys, {descriptor}: coins may be there; new keys are a wallet of \
         their own"
    )]
    OtherKeys {
        /// Which wallet.
        wallet: WalletName,
        /// The descriptor it was imported with.
        descriptor: String,
    },
    /// A second key of a multisig.
    #[error(
        "this signer holds a key of the multisig wallet \"{0}\" already, and holds one of them: import another at \
         another signer"
    )]
    OneKey(WalletName),
    /// The same keys, kept in another way.
    #[error("wallet \"{wallet}\" was imported with tier {before}, this bundle is {now}")]
    OtherTier {
        /// Which wallet.
        wallet: WalletName,
        /// The tier it was imported with.
        before: String,
        /// The bundle's.
        now: &'static str,
    },
    /// Fewer records than the wallet has.
    #[error(
        "wallet \"{wallet}\" has {before} records and this bundle {now}, external and change: a bundle may only be \
         replaced by one with no fewer"
    )]
    Fewer {
        /// Which wallet.
        wallet: WalletName,
        /// What it has.
        before: String,
        /// What the bundle has.
        now: String,
    },
    /// Another import came between.
    #[error("wallet \"{0}\" was imported by somebody else at the same moment: try again")]
    Raced(WalletName),
    /// The same keys under another name.
    #[error(
        "these keys are imported already as wallet \"{0}\": two names for one set of addresses would be used twice"
    )]
    OtherName(WalletName),
    /// The policy's wallets are not ones.
    #[error(transparent)]
    Wallet(#[from] WalletError),
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
/// log. The same import again changes nothing, but restores the copy if it is gone. Another bundle of the same keys
/// takes the place of the one before: what was proven of records that are the same bytes stays proven.
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
        blocking(move || copy_verified(&state_dir, &file)).await?
    };
    expected.check(&bundle)?;
    let descriptor = expected.descriptor.as_str();
    let found = log.read(|ledger| earlier(ledger, wallet, descriptor, &bundle))?;
    kept.keep(state_dir, bundle.digest())?;
    let kept = match found {
        Earlier::Another(before) => {
            let (state_dir, after) = (state_dir.to_path_buf(), bundle.clone());
            let compared = blocking(move || compare(&state_dir, before, &after)).await?;
            Some(compared.ok_or_else(|| other_keys(wallet, descriptor, &bundle))?)
        }
        Earlier::Nothing | Earlier::Same => None,
    };

    let (_, new) = log.commit(|ledger| register(ledger, wallet, descriptor, &bundle, kept)).await?;
    let new = new?;
    let [external, change] = counts(&bundle);
    let replaced = kept.map(|kept| kept.before);
    Ok(Imported { digest: bundle.digest(), external, change, new, replaced })
}

/// Of the same descriptor, and yet not of the key that is here.
fn other_keys(wallet: &WalletName, descriptor: &str, bundle: &Bundle) -> ImportError {
    let wallet = wallet.clone();
    if bundle.header().fields().kind.script == Script::WshCosigner {
        return ImportError::OneKey(wallet);
    }
    ImportError::OtherKeys { wallet, descriptor: descriptor.to_owned() }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ImportError> + Send + 'static,
) -> Result<T, ImportError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| file_error(Path::new("bundle"), io::Error::other(error)))?
}

/// What the bundle must be, from what officers signed and what the log began with.
struct Expected {
    wallet: WalletName,
    tier: Tier,
    descriptor: String,
    keys: Arc<Wallet>,
    network: String,
    wrapping: [u8; 32],
    keks: Vec<[u8; 32]>,
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
        let wallets = Wallets::new(rules)?;
        let keys = wallets.wallet(wallet).map(Arc::clone);
        let keys = keys.ok_or_else(|| ImportError::UnknownWallet(wallet.clone()))?;
        let wrapping = match pinned.tier {
            Tier::TokenHd => beginning.wrapping_fingerprint,
            Tier::SealedHd => KeyFile::in_dir(state_dir)
                .require()?
                .sealing_fingerprint()
                .ok_or(ImportError::NoSealingKey)?,
            tier @ (Tier::Cold | Tier::Token) => {
                return Err(ImportError::Tier { wallet: wallet.clone(), tier });
            }
        };
        let keks = KeyFile::in_dir(state_dir).read()?.map(|keys| keys.kek_fingerprints());
        Ok(Self {
            wallet: wallet.clone(),
            tier: pinned.tier,
            descriptor: pinned.descriptor.clone(),
            keys,
            network: beginning.network,
            wrapping,
            keks: keks.unwrap_or_default(),
        })
    }

    /// Whether the bundle is of this wallet: of the whole descriptor, or of one of a multisig's keys.
    fn has(&self, header: &Header) -> bool {
        if header.fields().kind.script != Script::WshCosigner {
            return header.descriptor() == self.descriptor;
        }
        self.keys.position(header).is_some()
    }

    fn check(&self, bundle: &Bundle) -> Result<(), ImportError> {
        let fields = bundle.header().fields();
        if fields.network.caip2() != self.network {
            return Err(ImportError::Network {
                found: fields.network.caip2().to_owned(),
                expected: self.network.clone(),
            });
        }
        if !self.has(bundle.header()) {
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
        if fields.kind.scheme == Scheme::AesKwp {
            let here = self.keks.contains(&fields.wrapping);
            let found = hex::encode(fields.wrapping);
            return if here { Ok(()) } else { Err(ImportError::Kek { found }) };
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

/// What the log has for a wallet.
enum Earlier {
    /// No bundle yet.
    Nothing,
    /// This very bundle.
    Same,
    /// Another one of the same keys, with this digest.
    Another([u8; 32]),
}

/// What the bundle would join or replace; an error when it may not.
fn earlier(
    ledger: &Ledger,
    wallet: &WalletName,
    descriptor: &str,
    bundle: &Bundle,
) -> Result<Earlier, ImportError> {
    if let Some(there) = ledger.imports().wallet(wallet) {
        return if there.bundle == bundle.digest() {
            Ok(Earlier::Same)
        } else {
            replaceable(there, wallet, descriptor, bundle).map(|()| Earlier::Another(there.bundle))
        };
    }
    let same_keys = |(_, imported): &(&WalletName, &ledger::Imported)| {
        imported.descriptor == descriptor || imported.bundle == bundle.digest()
    };
    match ledger.imports().iter().find(same_keys) {
        Some((name, _)) => Err(ImportError::OtherName(name.clone())),
        None => Ok(Earlier::Nothing),
    }
}

fn replaceable(
    there: &ledger::Imported,
    wallet: &WalletName,
    descriptor: &str,
    bundle: &Bundle,
) -> Result<(), ImportError> {
    // The bundle is of a key in this descriptor; that it is the same key, `compare` finds out.
    if there.descriptor != descriptor {
        let (wallet, descriptor) = (wallet.clone(), there.descriptor.clone());
        return Err(ImportError::OtherKeys { wallet, descriptor });
    }
    let (before, now) = (&there.tier, bundle.header().fields().kind.scheme.tier());
    if before != now {
        let (wallet, before) = (wallet.clone(), before.clone());
        return Err(ImportError::OtherTier { wallet, before, now });
    }
    let [before, now] = [[false, true].map(|change| there.records(change)), counts(bundle)];
    if now.iter().zip(before).any(|(now, before)| *now < before) {
        let text = |[external, change]: [u32; 2]| format!("{external} and {change}");
        let (before, now) = (text(before), text(now));
        return Err(ImportError::Fewer { wallet: wallet.clone(), before, now });
    }
    Ok(())
}

fn counts(bundle: &Bundle) -> [u32; 2] {
    [false, true].map(|change| bundle.header().keys(change))
}

/// The step that makes it so: decided again under the log's lock.
fn register(
    ledger: &Ledger,
    wallet: &WalletName,
    descriptor: &str,
    bundle: &Bundle,
    kept: Option<Kept>,
) -> Step<Result<bool, ImportError>> {
    let ([external, change], name) = (counts(bundle), wallet.as_str().to_owned());
    let event = match (earlier(ledger, wallet, descriptor, bundle), kept) {
        (Err(error), _) => return Step::nothing(Err(error)),
        (Ok(Earlier::Same), _) => return Step::nothing(Ok(false)),
        (Ok(Earlier::Nothing), _) => Event::WalletImported {
            wallet: name,
            descriptor: descriptor.to_owned(),
            tier: bundle.header().fields().kind.scheme.tier().to_owned(),
            bundle: bundle.digest(),
            external,
            change,
        },
        (Ok(Earlier::Another(before)), Some(Kept { before: compared, below: [of, on] }))
            if before == compared =>
        {
            let proven = |change| {
                ledger.imports().wallet(wallet).map_or(0, |imported| imported.proven(change))
            };
            Event::RecordsReplaced {
                wallet: name,
                before,
                bundle: bundle.digest(),
                external,
                change,
                external_proven: proven(false).min(of),
                change_proven: proven(true).min(on),
            }
        }
        (Ok(Earlier::Another(_)), _) => {
            return Step::nothing(Err(ImportError::Raced(wallet.clone())));
        }
    };
    Step::write(vec![event], Ok(true))
}

fn file_error(path: &Path, source: io::Error) -> ImportError {
    ImportError::File { path: path.to_path_buf(), source }
}
