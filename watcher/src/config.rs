//! The configuration file, read strictly: an unknown or missing key is an error. It never holds a secret, only
//! the names of files that do.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use mtls::TlsFiles;
use serde::Deserialize;

use crate::deposit::{Finality, words};
use crate::signer_client::SignerSettings;
use crate::spend::SpendConfig;
use crate::wallets::{WalletError, Wallets};

/// The whole file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// `bitcoin`, `testnet4`, `signet` or `regtest`.
    pub network: asset::Network,
    /// The SQLite file.
    pub database: PathBuf,
    /// Where the service listens.
    pub listen: SocketAddr,
    /// Our server certificate and the authority of our clients.
    pub tls: TlsFiles,
    /// Lets `grpcurl` list the services. Not in production.
    #[serde(default)]
    pub development: bool,
    /// When a deposit is final and credited: `{ depth = 6 }`.
    pub finality: Finality,
    /// A reorganisation deeper than this stops following until an operator looks.
    #[serde(default = "max_reorg")]
    pub max_reorg: u32,
    /// The bitcoin node.
    pub node: NodeConfig,
    /// The signer.
    pub signer: SignerSettings,
    /// Wallets to watch.
    pub wallets: Vec<WalletConfig>,
    /// Who may call, by the name in the client certificate.
    pub clients: Vec<ClientConfig>,
    /// How sweeps and payouts are made.
    #[serde(default)]
    pub spend: SpendConfig,
}

/// How the node is reached and how often it is asked.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeConfig {
    /// `http://host:port`.
    pub url: String,
    /// One line `user:password`: the node's `.cookie`, or a file of our own.
    pub auth_file: PathBuf,
    /// Longest wait for one answer.
    #[serde(default = "timeout_seconds")]
    pub timeout_seconds: u64,
    /// Pause between looks at the node's tip and mempool.
    #[serde(default = "poll_ms")]
    pub poll_ms: u64,
}

/// A wallet to watch.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WalletConfig {
    /// Name, as in the signer's policy.
    pub name: String,
    /// Multipath descriptor with public keys, e.g. `wpkh([f/84h/1h/0h]tpub…/<0;1>/*)`.
    pub descriptor: String,
    /// What it is for.
    pub purpose: Purpose,
    /// Whose deposits, events and requests it belongs to.
    #[serde(default = "tenant")]
    pub tenant: String,
    /// Scripts watched beyond the last index in use.
    #[serde(default = "lookahead")]
    pub lookahead: u32,
    /// First block that can hold its coins.
    #[serde(default)]
    pub birthday: u32,
}

words! {
    /// What a wallet is for.
    Purpose {
        /// Customers pay in here.
        Deposits = "deposits",
        /// Payouts are made from here.
        Hot = "hot",
        /// Sweeps go there; its keys are nowhere near.
        Cold = "cold",
    }
}

/// Who may call, and what.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClientConfig {
    /// The one DNS name in its certificate.
    pub name: String,
    /// Whose things it sees.
    #[serde(default = "tenant")]
    pub tenant: String,
    /// What it may call.
    pub grants: BTreeSet<Grant>,
}

/// A group of calls.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Grant {
    /// `IssueAddress`.
    Issue,
    /// `ListDeposits`, `StreamEvents`, `GetSweep`, `ListSweeps`, `GetPayout`, `Status`.
    Read,
    /// `CreateSweep`.
    Sweep,
    /// `Evacuate`.
    Evacuate,
    /// `SubmitPayout`.
    Payout,
}

impl Grant {
    /// Its word in the configuration.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Issue => "issue",
            Self::Read => "read",
            Self::Sweep => "sweep",
            Self::Evacuate => "evacuate",
            Self::Payout => "payout",
        }
    }
}

/// Why a configuration was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is not this configuration.
    #[error("{path} is not a watcher configuration: {reason}")]
    Parse {
        /// Which.
        path: PathBuf,
        /// In which line and why, without what stands there: it may be a password.
        reason: String,
    },
    /// It says something that cannot be.
    #[error("{0}")]
    Invalid(String),
    /// A wallet is wrong.
    #[error(transparent)]
    Wallet(#[from] WalletError),
}

impl Config {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// [`ConfigError`] saying what to change.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
        let config: Self = toml::from_str(&text).map_err(|error| {
            let reason = asset::setting_error(&text, error.span(), error.message());
            ConfigError::Parse { path: path.to_owned(), reason }
        })?;
        config.check()?;
        Ok(config)
    }

    /// The wallets, parsed.
    ///
    /// # Errors
    /// [`ConfigError::Wallet`] naming the one that is wrong.
    pub fn wallets(&self) -> Result<Wallets, ConfigError> {
        Ok(Wallets::parse(&self.wallets, self.bitcoin_network())?)
    }

    /// The network as the bitcoin library names it.
    #[must_use]
    pub fn bitcoin_network(&self) -> bitcoin::Network {
        match self.network {
            asset::Network::Bitcoin => bitcoin::Network::Bitcoin,
            asset::Network::Testnet4 => bitcoin::Network::Testnet4,
            asset::Network::Signet => bitcoin::Network::Signet,
            asset::Network::Regtest => bitcoin::Network::Regtest,
        }
    }

    fn check(&self) -> Result<(), ConfigError> {
        let invalid = |text: &str| Err(ConfigError::Invalid(text.to_owned()));
        if !matches!(self.finality, Finality::Depth(_)) {
            return invalid("finality: bitcoin has no such mark; write { depth = 6 }");
        }
        if self.max_reorg == 0 {
            return invalid("max_reorg: at least 1, or the first orphaned block stops everything");
        }
        if self.wallets.is_empty() {
            return invalid("wallets: name at least one [[wallets]] to watch");
        }
        let mut names = BTreeSet::new();
        for client in &self.clients {
            if !names.insert(&client.name) {
                return Err(ConfigError::Invalid(format!(
                    "clients: \"{}\" is there twice",
                    client.name
                )));
            }
        }
        let wallets = self.wallets()?;
        if wallets.iter().any(|wallet| wallet.purpose == Purpose::Hot)
            && self.spend.order_keys.is_empty()
        {
            return invalid(
                "spend.order_keys: there is a hot wallet, and no service whose orders could be paid from it: write \
                 [spend.order_keys] with a line NAME = \"PUBLIC KEY\" for each `[[order_key]]` of the signer's policy",
            );
        }
        let mut lanes = BTreeSet::from([&self.spend.sweep_lane]);
        for evacuation in &self.spend.evacuations {
            if !lanes.insert(&evacuation.lane) {
                return Err(ConfigError::Invalid(format!(
                    "evacuations: the lane \"{}\" is there twice, or is that of sweeps",
                    evacuation.lane
                )));
            }
            let cold = |name: &String| {
                wallets.find(name).is_some_and(|wallet| wallet.purpose == Purpose::Cold)
            };
            if evacuation.cold_wallet.as_ref().is_some_and(|name| !cold(name)) {
                return Err(ConfigError::Invalid(format!(
                    "evacuations: the cold_wallet of \"{}\" is no cold wallet here",
                    evacuation.lane
                )));
            }
        }
        for auto in &self.spend.auto_sweeps {
            if auto.every_seconds == 0 {
                return invalid("auto_sweeps: every_seconds is at least 1");
            }
            if wallets.find(&auto.wallet).is_none_or(|wallet| wallet.purpose == Purpose::Cold) {
                return Err(ConfigError::Invalid(format!(
                    "auto_sweeps: \"{}\" is no wallet here that can be swept",
                    auto.wallet
                )));
            }
        }
        Ok(())
    }
}

impl NodeConfig {
    /// Longest wait for one answer.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        Duration::from_secs(self.timeout_seconds.max(1))
    }

    /// Pause between looks.
    #[must_use]
    pub fn poll(&self) -> Duration {
        Duration::from_millis(self.poll_ms.max(10))
    }
}

impl<'de> Deserialize<'de> for Purpose {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::read(&text).ok_or_else(|| {
            serde::de::Error::custom(format!(
                "\"{text}\" is not a purpose: use deposits, hot or cold"
            ))
        })
    }
}

fn max_reorg() -> u32 {
    100
}

fn timeout_seconds() -> u64 {
    30
}

fn poll_ms() -> u64 {
    1000
}

fn tenant() -> String {
    "default".into()
}

fn lookahead() -> u32 {
    1000
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXAMPLE: &str = include_str!("../../deploy/watcher.toml");

    fn load(text: &str) -> Result<Config, ConfigError> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        Config::load(file.path())
    }

    #[test]
    fn a_hot_wallet_needs_somebodys_orders() {
        let without = EXAMPLE.lines().filter(|line| !line.starts_with("shop = "));
        let without = without.collect::<Vec<_>>().join("\n");
        assert!(EXAMPLE.len() > without.len() + 70, "the example names a key");
        load(EXAMPLE).unwrap();
        let error = load(&without).unwrap_err().to_string();
        assert!(error.contains("[spend.order_keys]"), "{error}");
        // Without a hot wallet nothing is paid out.
        load(&without.replace("purpose = \"hot\"", "purpose = \"deposits\"")).unwrap();
    }
}
