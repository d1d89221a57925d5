//! Why a signer does not start, and what of that callers hear. It says what does not fit and what to do about it, and never
//! tries again itself.

use policy::names::WalletName;

use crate::born::BindError;
use crate::config::ConfigError;
use crate::log::LogError;
use crate::records::RecordsError;
use crate::refusal::{Reason, Refusal};
use crate::token::TokenError;
use crate::wallets::WalletError;

/// Why the signer does not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// Real money, and nobody is asked for what is done at this machine.
    #[error(
        "the policy in force has no `administer` under [governance], so that whoever is at this machine brings in keys, changes the PIN or has a copy serve and asks nobody: on the main network that is refused unless the configuration says `allow_unadministered = true`. Have officers sign a policy with `administer` (docs/officers.md)"
    )]
    Unadministered,
    /// Configuration or policy.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The sandbox.
    #[error(transparent)]
    Confine(#[from] confine::ConfineError),
    /// The token.
    #[error("token: {0}")]
    Token(#[from] TokenError),
    /// The log.
    #[error("log: {0}")]
    Log(#[from] LogError),
    /// A wallet of the policy.
    #[error("policy: {0}")]
    Wallet(#[from] WalletError),
    /// A wallet of the token's own keys.
    #[error("token keys: {0}")]
    Bind(#[from] BindError),
    /// An imported bundle.
    #[error("records: {0}")]
    Records(#[from] RecordsError),
    /// SoftHSM on the main network.
    #[error(
        "this token is SoftHSM, which keeps keys in files and protects nothing: it is refused on the main network unless the configuration says `i_understand_that_softhsm_is_not_an_hsm = true`"
    )]
    SoftHsm,
    /// What a token remembers of the log cannot be used.
    #[error(
        "the anchor in token {token}: {why}; find out who did that, and if it is known, the anchor can be given up: `signer token anchor-forget`, see docs/log.md"
    )]
    Anchor {
        /// Name of the token.
        token: String,
        /// What is wrong.
        why: String,
    },
    /// The log belongs to something else.
    #[error(
        "the log was begun for {what} {logged}, and this is {found}: wrong database, token or configuration"
    )]
    Foreign {
        /// `network`, ...
        what: &'static str,
        /// What entry 0 says.
        logged: String,
        /// What is here.
        found: String,
    },
    /// An older policy than the one in force, or another with the same version.
    #[error("policy version {found} cannot follow version {active}, which is in force: {hint}")]
    PolicyVersion {
        /// In the file.
        found: u64,
        /// In the log.
        active: u64,
        /// What to do.
        hint: &'static str,
    },
    /// The policy describes an imported wallet differently.
    #[error(
        "wallet \"{0}\" was imported with another descriptor than the policy has now: its addresses would be others"
    )]
    OtherDescriptor(WalletName),
    /// The policy names another tier for an imported wallet.
    #[error(
        "wallet \"{wallet}\" was imported as {imported}, and the policy calls it {named}: the log would say of its keys what they are not"
    )]
    OtherTier {
        /// Which wallet.
        wallet: WalletName,
        /// What was imported.
        imported: String,
        /// What the policy says.
        named: &'static str,
    },
    /// The settings leave a bundle's scheme out, or its key-encryption key is not here.
    #[error(
        "wallet \"{wallet}\": its children are wrapped by {scheme}, which `schemes` under [token] does not name, or under a \
         key-encryption key that is not in this token"
    )]
    Scheme {
        /// Which wallet.
        wallet: WalletName,
        /// Its bundle's scheme.
        scheme: &'static str,
    },
    /// Officers have not let this machine serve with this token.
    #[error(
        "site {site} with token {token} was not activated: the policy in force has officers say which machines serve; see `signer activate`"
    )]
    Site {
        /// Number of the site, hex.
        site: String,
        /// Serial number of the token.
        token: String,
    },
    /// The state folder was served from, and has no checkpoint.
    #[error(
        "{} was served from, and its checkpoint is gone, so that an old database put back would not be noticed: restore the newest database with its checkpoint; if there is none, people say so with `signer activate`, see docs/log.md",
        .0.display()
    )]
    CheckpointLost(std::path::PathBuf),
    /// The file with this machine's number.
    #[error("{}: {source}", path.display())]
    SiteFile {
        /// Where.
        path: std::path::PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// An import was cut off between the token's word and the log's.
    #[error(
        "the log does not say that the key-encryption key {0} was imported: its import was cut off; run `signer kek import` with its file again"
    )]
    KekNotLogged(String),
    /// TLS files.
    #[error("tls: {0}")]
    Tls(#[from] mtls::TlsError),
    /// The listening address.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// Where.
        address: std::net::SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// The server.
    #[error("the gRPC server failed: {0}")]
    Server(#[from] tonic::transport::Error),
    /// Reflection could not be set up.
    #[error("reflection: {0}")]
    Reflection(String),
}

impl StartError {
    /// What callers are told while the operator looks into it; `None` when there is nothing to serve with.
    #[must_use]
    pub fn for_callers(&self) -> Option<Refusal> {
        match self {
            Self::Token(error) => Some(error.clone().into()),
            Self::Log(error @ LogError::Uncovered(_)) => {
                Some(Refusal::new(Reason::TokenUnavailable, error.to_string()))
            }
            Self::Log(error @ LogError::Unwitnessed(_)) => {
                Some(Refusal::new(Reason::WitnessUnavailable, error.to_string()))
            }
            Self::Log(error) => Some(Refusal::new(Reason::LogUnavailable, error.to_string())),
            Self::Anchor { .. } | Self::CheckpointLost(_) => {
                Some(Refusal::new(Reason::LogUnavailable, self.to_string()))
            }
            Self::Records(error) => Some(Refusal::new(Reason::RecordsFault, error.to_string())),
            _ => None,
        }
    }

    /// Whether trying again later may help without anybody doing anything here: a token or a database that is
    /// away or busy, a machine's clock that is not set yet. A refused PIN or a log that does not add up stays as it is.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        if self.waits_for_witnesses() {
            return true;
        }
        match self {
            Self::Token(TokenError::Unavailable(_) | TokenError::Busy { .. })
            | Self::Log(LogError::Uncovered(_) | LogError::Clock { .. }) => true,
            Self::Log(LogError::Store(error)) => error.may_pass(),
            _ => false,
        }
    }
}

impl StartError {
    /// Whether it is only that too few witnesses came yet.
    #[must_use]
    pub fn waits_for_witnesses(&self) -> bool {
        matches!(self, Self::Log(LogError::Unwitnessed(_)))
    }
}
