//! The signer's configuration file, read strictly: a key it does not know is an error. It never holds a secret,
//! only where secrets lie.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::num::{NonZeroU16, NonZeroU32, NonZeroU64};
use std::path::{Path, PathBuf};
use std::time::Duration;

use asset::Network;
use confine::Mode;
use mtls::TlsFiles;
use policy::names::KeyName;
use policy::people::OfficerKey;
use policy::{PolicyError, Rules, SignedPolicy};
use serde::{Deserialize, Deserializer};

use crate::token::TokenConfig;

/// The whole file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// `bitcoin`, `testnet4`, `signet` or `regtest`.
    pub network: Network,
    /// Where to listen, e.g. `127.0.0.1:7400`.
    pub listen: SocketAddr,
    /// Folder for the log's newest checkpoint, imported bundles and the token's public keys.
    pub state_dir: PathBuf,
    /// `sqlite:PATH` or `postgres://…`; a SQLite file in `state_dir` when not given.
    pub database: Option<String>,
    /// The policy; its signatures lie beside it with `.sig` added to the name.
    pub policy: PathBuf,
    /// Start from a snapshot of the log that the token signed, instead of reading all of it (docs/log.md); not when not given.
    #[serde(default)]
    pub snapshot: bool,
    /// How many entries more make another snapshot; a log of fewer has none.
    #[serde(default = "snapshot_every")]
    pub snapshot_every: NonZeroU64,
    /// The sanctions list, which is read again whenever it changes; none when not given.
    pub sanctions: Option<PathBuf>,
    /// Who signs policies, where neither the log's beginning nor the policy in force says so.
    #[serde(default)]
    pub officers: Officers,
    /// Our certificate, and the authority that certifies clients.
    pub tls: TlsFiles,
    /// Where numbers are told to those who watch, over plain HTTP; on this machine only. Nowhere when not given.
    pub metrics: Option<SocketAddr>,
    /// How to reach the token.
    pub token: TokenConfig,
    /// Bounds on what callers may use up.
    #[serde(default)]
    pub limits: Limits,
    /// Turns server reflection on; each start writes that down. Never in production.
    #[serde(default)]
    pub development: bool,
    /// `on` (says what the kernel lacks), `required` (refuses to start without it) or `off`, for the signer and the
    /// workers it starts.
    #[serde(default, deserialize_with = "mode")]
    pub sandbox: Mode,
    /// What the kernel lacks of it, once this process is confined.
    #[serde(skip)]
    pub lacking: Vec<String>,
    /// Without this, root is refused.
    #[serde(default)]
    pub allow_root: bool,
    /// Without this, the main network is not served under a policy whose officers are asked for nothing at this machine.
    #[serde(default)]
    pub allow_unadministered: bool,
    /// Without this, a SoftHSM token on the main network is refused.
    #[serde(default)]
    pub i_understand_that_softhsm_is_not_an_hsm: bool,
}

/// Fewer would have the token sign, and the disk flush, again and again for what is read in no time.
const SNAPSHOT_EVERY_MIN: u64 = 1_024;

/// As many as a start reads in a second.
fn snapshot_every() -> NonZeroU64 {
    NonZeroU64::MIN.saturating_add(u64::from(u16::MAX))
}

/// The officers whose keys are pinned here, and how many of them must have signed a policy.
#[derive(Clone, Default, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Officers {
    /// How many must sign.
    pub quorum: usize,
    /// Name to public key in hex: raw Ed25519 (64 digits) or compressed P-256 (66).
    pub keys: BTreeMap<String, String>,
}

/// Bounds on what callers may use up at once. Memory follows from them: a `Sign` worked on holds one message of at
/// most 2 MiB and what was read of it, tens of megabytes at the worst; an `Attest` message of at most 192 KiB unfolds
/// to 8 MiB at the worst; as many of each as `concurrent`. As many `Sign` at most wait for the token, and hold what was
/// read. A `Sign` that waits for a place holds its header, at most 2 MiB; any other call that waits nothing but its
/// connection's 2 MiB of unread bytes. With the defaults, about 1 GiB whatever known clients send.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Requests worked on at once. Those that wait for the token are not, but at most twice as many are inside with them.
    pub concurrent: NonZeroU16,
    /// Requests that may wait for their turn; more are refused.
    pub queue: NonZeroU16,
    /// How long one request may take, its parents' upload included.
    pub request_seconds: NonZeroU32,
    /// How often one client may ask in a second; twice as often for a short while.
    pub requests_per_second: NonZeroU32,
    /// So many requests that can never be right lock a client out, until an officer frees it ...
    pub structural_refusals: NonZeroU32,
    /// ... when they came within so many seconds.
    pub structural_seconds: NonZeroU32,
    /// So many denials of which a client is told no rule raise an alarm ...
    pub hidden_denials: NonZeroU32,
    /// ... when they came within so many seconds.
    pub hidden_denials_seconds: NonZeroU32,
    /// Calls one connection may have open. All connections together: `concurrent` and `queue`; more are refused.
    pub streams_per_connection: NonZeroU32,
}

impl Default for Limits {
    fn default() -> Self {
        let some = |number| NonZeroU16::new(number).unwrap_or(NonZeroU16::MIN);
        Self {
            concurrent: some(8),
            queue: some(128),
            request_seconds: some(120).into(),
            requests_per_second: some(500).into(),
            structural_refusals: some(100).into(),
            structural_seconds: some(600).into(),
            hidden_denials: some(100).into(),
            hidden_denials_seconds: some(3_600).into(),
            streams_per_connection: some(64).into(),
        }
    }
}

/// Why the configuration, or the policy it names, cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is not a configuration.
    #[error("{}: {reason}", path.display())]
    Text {
        /// Which.
        path: PathBuf,
        /// What was wrong, with its line.
        reason: String,
    },
    /// An officer's entry is wrong.
    #[error("[officers.keys] {name}: {reason}")]
    Officer {
        /// Whose.
        name: String,
        /// What was wrong.
        reason: String,
    },
    /// The policy was refused.
    #[error("{}: {source}", path.display())]
    Policy {
        /// Which.
        path: PathBuf,
        /// Why.
        source: PolicyError,
    },
}

impl Config {
    /// Reads the file.
    ///
    /// # Errors
    /// [`ConfigError`] with line and reason.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = read(path)?;
        let mut config: Self = toml::from_str(&text).map_err(|error| ConfigError::Text {
            path: path.to_owned(),
            reason: asset::setting_error(&text, error.span(), error.message()),
        })?;
        if let Some(address) = config.metrics.filter(|address| !crate::metrics::is_local(*address))
        {
            let reason = format!(
                "metrics = \"{address}\": only an address of this machine may tell them, such as 127.0.0.1"
            );
            return Err(ConfigError::Text { path: path.to_owned(), reason });
        }
        if config.snapshot_every.get() < SNAPSHOT_EVERY_MIN {
            let reason = format!("snapshot_every must be at least {SNAPSHOT_EVERY_MIN}");
            return Err(ConfigError::Text { path: path.to_owned(), reason });
        }
        config.token.sandbox = config.sandbox;
        for standby in config.token.standby.values_mut() {
            standby.sandbox = config.sandbox;
        }
        Ok(config)
    }

    /// The log's database.
    #[must_use]
    pub fn database_url(&self) -> String {
        let embedded = || format!("sqlite:{}", self.state_dir.join("log.sqlite").display());
        self.database.clone().unwrap_or_else(embedded)
    }

    /// Where the officers' signatures lie.
    #[must_use]
    pub fn policy_signatures(&self) -> PathBuf {
        let mut path = self.policy.clone().into_os_string();
        path.push(".sig");
        path.into()
    }

    /// Reads the policy and verifies the officers' signatures over it.
    ///
    /// # Errors
    /// [`ConfigError`] when a file is missing, an officer's key is wrong or the policy is refused.
    pub fn rules(&self) -> Result<Rules, ConfigError> {
        let officers = self.officers.pinned()?;
        let text = read(&self.policy)?;
        let signatures = read(&self.policy_signatures())?;
        SignedPolicy { text: &text, signatures: &signatures }
            .verify(&officers, self.officers.quorum, self.network)
            .map_err(|source| ConfigError::Policy { path: self.policy.clone(), source })
    }
}

impl Officers {
    /// Names and keys.
    ///
    /// # Errors
    /// [`ConfigError::Officer`].
    pub fn pinned(&self) -> Result<Vec<(KeyName, OfficerKey)>, ConfigError> {
        let pin = |(name, key): (&String, &String)| {
            let wrong = |reason: String| ConfigError::Officer { name: name.clone(), reason };
            let parsed = KeyName::parse(name).map_err(|error| wrong(error.to_string()))?;
            Ok((parsed, OfficerKey::parse(key).map_err(wrong)?))
        };
        self.keys.iter().map(pin).collect()
    }
}

impl Limits {
    /// How long one request may take.
    #[must_use]
    pub fn request_time(&self) -> Duration {
        Duration::from_secs(self.request_seconds.get().into())
    }
}

fn mode<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Mode, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse().map_err(serde::de::Error::custom)
}

pub(crate) fn read(path: &Path) -> Result<String, ConfigError> {
    std::fs::read_to_string(path)
        .map_err(|source| ConfigError::Read { path: path.to_owned(), source })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Settings that say no more than they must.
    pub(crate) fn minimal() -> Config {
        toml::from_str(MINIMAL).unwrap()
    }

    const MINIMAL: &str = r#"
        network = "regtest"
        listen = "127.0.0.1:7400"
        state_dir = "/var/lib/cofferdam"
        policy = "/etc/cofferdam/signer/policy.toml"
        [officers]
        quorum = 1
        keys = { alice = "00" }
        [tls]
        certificate = "a"
        key = "b"
        ca = "c"
        [token]
        module = "m"
        label = "l"
        pin_file = "p"
    "#;

    #[test]
    fn a_snapshot_of_every_other_entry_is_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        for (every, good) in [(1, false), (1_023, false), (1_024, true)] {
            std::fs::write(file.path(), format!("snapshot_every = {every}\n{MINIMAL}")).unwrap();
            let loaded = Config::load(file.path());
            assert_eq!(loaded.is_ok(), good, "{every}");
        }
    }

    #[test]
    fn defaults_are_safe_and_local() {
        let config: Config = toml::from_str(MINIMAL).unwrap();
        assert!(!config.development && !config.i_understand_that_softhsm_is_not_an_hsm);
        assert!(config.sandbox == Mode::On && !config.allow_root && !config.allow_unadministered);
        assert_eq!(config.database_url(), "sqlite:/var/lib/cofferdam/log.sqlite");
        assert_eq!(config.limits.concurrent.get(), 8);
    }

    #[test]
    fn unknown_keys_and_bad_officers_are_refused() {
        toml::from_str::<Config>(&format!("debug = true\n{MINIMAL}")).unwrap_err();
        toml::from_str::<Config>(&MINIMAL.replace("\"regtest\"", "\"mainnet\"")).unwrap_err();
        toml::from_str::<Config>(&format!("sandbox = \"none\"\n{MINIMAL}")).unwrap_err();
        let config: Config = toml::from_str(MINIMAL).unwrap();
        let error = config.rules().unwrap_err().to_string();
        assert!(error.contains("alice") && error.contains("64 hex digits"), "{error}");
    }
}
