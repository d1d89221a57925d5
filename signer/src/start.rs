//! Brings the signer's parts up in their order: policy, token, log, wallets. It never goes on with a part that
//! does not fit the others.

use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use audit::entry::Event;
use bundle::Header;
use policy::Rules;
use policy::first::FirstOfficers;
use policy::names::WalletName;
use policy::rules::Tier;

use crate::abuse::Abuse;
use crate::administer;
use crate::anchoring::{self, Anchors};
use crate::app::App;
use crate::born::{self, BindError};
use crate::clearing::Allowed;
use crate::config::{Config, ConfigError};
use crate::distrusting;
use crate::facts::sanctions::Sanctions;
use crate::feeling::Feeling;
use crate::gate::Gate;
use crate::governing::{InForce, governed_by, in_force};
use crate::keys::Kin;
use crate::ledger::Ledger;
use crate::log::{CheckpointSigner, Clock, Lease, Log, LogError, Settings, Step, Store, Witnesses};
use crate::metrics::Tally;
use crate::officers::doubt;
use crate::officers::notices::Notices;
use crate::records::{Records, RecordsError, bundle_path};
use crate::refusal::{Reason, Refusal};
use crate::request::considered::Room;
use crate::token::{StatementKey, Token, TokenConfig, TokenError, TokenKeys, wrapped_by};
use crate::told::{Said, Told};
use crate::wallets::{Wallet, WalletError, Wallets};

/// A checkpoint that failed is tried again after this.
const CHECKPOINT_RETRY: Duration = Duration::from_millis(250);
/// A block of 64 rows is read again this often: a million entries in a quarter of an hour.
const AUDIT_EVERY: Duration = Duration::from_millis(50);

/// Safeguards of the process itself, as the log calls them.
const ROOT: &str = "root";
const SANDBOX: &str = "sandbox";

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
            Self::Anchor { .. } => Some(Refusal::new(Reason::LogUnavailable, self.to_string())),
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

/// Everything, ready to serve. Before anything is read or signed, as many witnesses as the policy requires have said what
/// they saw last.
///
/// # Errors
/// [`StartError`] saying what does not fit.
pub async fn start(
    config: &Config,
    clock: Clock,
    witnesses: &Arc<Witnesses>,
) -> Result<App, StartError> {
    start_from(config, clock, witnesses, None).await
}

/// What a standby has in hand when its turn comes.
pub struct Claim {
    /// Its token, whose workers are ready.
    pub token: Arc<Token>,
    /// The log's database, which nobody else can write any more.
    pub store: Store,
}

/// The same, from what a standby has in hand.
///
/// # Errors
/// [`StartError`] saying what does not fit.
pub async fn start_from(
    config: &Config,
    clock: Clock,
    witnesses: &Arc<Witnesses>,
    claim: Option<Claim>,
) -> Result<App, StartError> {
    // What is no policy at all is said before anything is opened, and who it names must have spoken before that.
    witnesses.appoint(&config.unsigned_rules()?);
    enough_told(witnesses)?;
    let (token, store) = match claim {
        Some(Claim { token, store }) => (token, store),
        None => {
            let token = open_token(config, config.token.clone()).await?;
            (token, open_store(config).await?)
        }
    };
    let log =
        open_witnessed_log(config, &token, clock.clone(), Arc::clone(witnesses), store).await?;
    doubt::at_start(&log, &clock).await?;
    imported(&log, config, &token)?;
    let InForce { rules, next_unix, proposed } = in_force(&log, config, &clock).await?;
    // The policy in force may name others than the file, which waits.
    witnesses.appoint(&rules);
    enough_told(witnesses)?;
    administered(config, &rules)?;
    administer::site_serves(&log, &config.state_dir, &rules, &token.info().serial).await?;
    let mut wallets = Wallets::new(&rules)?;
    attach(&log, config, &token.keys(), &mut wallets)?;
    born::bind(&log, &config.state_dir, &mut wallets, &token.keys()).await?;
    let kin = log.read(|ledger| Kin::read(ledger, &config.state_dir));
    log.commit(|_| Step::write(vec![service("started")], ())).await?;
    note_waived(&log, waived(config, &token, &clock, Some(&rules))).await?;
    note_waived(&log, shared_seeds(&rules)).await?;
    let log = Arc::new(log);
    make_ready(&log, &rules).await;
    Ok(App {
        log,
        token,
        rules,
        next_policy_unix: next_unix,
        proposed,
        wallets: Arc::new(wallets),
        kin,
        clock,
        gate: Gate::new(&config.limits),
        witnesses: Arc::clone(witnesses),
        abuse: Abuse::new(&config.limits),
        feeling: Feeling::new(&config.limits),
        tally: Tally::default(),
        sanctions: Sanctions::default(),
        considered: Room::default(),
        notices: Notices::default(),
        anchors: Anchors::default(),
    })
}

/// Makes totals over the whole log ready, for which the first decision would have everybody wait.
async fn make_ready(log: &Arc<Log<Ledger>>, rules: &Rules) {
    let (log, questions) = (Arc::clone(log), rules.standing_questions());
    let prepare = move || {
        log.read(|ledger| {
            ledger.prepare(&questions);
            ledger.totals_given_up()
        })
    };
    match tokio::task::spawn_blocking(prepare).await {
        Ok(0) => {}
        Ok(kinds) => tracing::warn!(
            kinds,
            "there is no room for all totals: for each of these kinds of questions every decision walks through the whole past"
        ),
        Err(error) => {
            tracing::warn!(%error, "totals are not ready: the first decision will make them");
        }
    }
}

/// Nobody alone at this machine brings in keys, changes the PIN or has a copy serve, where it is real money, unless the
/// configuration says so.
fn administered(config: &Config, rules: &Rules) -> Result<(), StartError> {
    match is_unadministered(rules) && !config.allow_unadministered {
        true => Err(StartError::Unadministered),
        false => Ok(()),
    }
}

/// Nothing is started before enough witnesses have said what they saw last.
fn enough_told(witnesses: &Witnesses) -> Result<(), LogError> {
    witnesses.missing().map_or(Ok(()), |missing| Err(LogError::Unwitnessed(missing)))
}

/// The token, unless it is one that must not guard real money.
///
/// # Errors
/// [`StartError::Token`], [`StartError::SoftHsm`].
pub async fn open_token(config: &Config, token: TokenConfig) -> Result<Arc<Token>, StartError> {
    let mainnet = config.network == asset::Network::Bitcoin;
    let refuse_softhsm = mainnet && !config.i_understand_that_softhsm_is_not_an_hsm;
    // A standby may come up later: its workers are held against this when they start.
    let token = TokenConfig { refuse_softhsm, ..token };
    let token = Token::start(token, &config.state_dir).await?;
    if refuse_softhsm && token.info().is_softhsm() {
        token.stop().await;
        return Err(StartError::SoftHsm);
    }
    Ok(Arc::new(token))
}

/// The log, verified, folded, and held against network and token, for a command at the machine: which safeguards it goes
/// without is written down first.
///
/// # Errors
/// [`StartError::Log`], [`StartError::Foreign`].
pub async fn open_log(
    config: &Config,
    token: &Arc<Token>,
    clock: Clock,
) -> Result<Log<Ledger>, StartError> {
    let store = open_store(config).await?;
    let log = open_witnessed_log(config, token, clock.clone(), Arc::default(), store).await?;
    // A command moves the log's time on like a start, and nothing that waits may come nearer by one.
    doubt::at_start(&log, &clock).await?;
    let now = clock.unix_seconds();
    let opened = |ledger: &Ledger| {
        let stood = ledger.not_before_latest(now) > ledger.ran_unix();
        Step::write(if stood { vec![service("opened")] } else { Vec::new() }, ())
    };
    log.commit(opened).await?;
    // Which policy is in force is looked at later, and may be none.
    note_waived(&log, waived(config, token, &clock, None)).await?;
    Ok(log)
}

/// Keeps for whoever opens the log next which safeguards a command goes without that does not open it itself.
///
/// # Errors
/// When the state folder cannot be written.
pub fn tell_waived(config: &Config, command: &str) -> Result<(), StartError> {
    tell_some(config, command, |_| true)
}

/// The same of a command that asks no token and is confined by nothing anyway: only as whom it runs.
///
/// # Errors
/// When the state folder cannot be written.
pub fn tell_root(config: &Config, command: &str) -> Result<(), StartError> {
    tell_some(config, command, |safeguard| safeguard == ROOT)
}

fn tell_some(config: &Config, command: &str, of: fn(&str) -> bool) -> Result<(), StartError> {
    let root = confine::process::is_root();
    let here = Here { root, softhsm: false, clock_is_right: false, unadministered: false };
    let told = Told::in_dir(&config.state_dir);
    for (safeguard, said) in of_process(config, &here).into_iter().filter(|(one, _)| of(one)) {
        tracing::warn!("somebody waived a safeguard: {safeguard} ({said})");
        told.add(safeguard, &format!("{said}, at `{command}`"))?;
    }
    Ok(())
}

fn service(state: &str) -> Event {
    Event::Service { state: state.to_owned(), version: env!("CARGO_PKG_VERSION").to_owned() }
}

async fn open_store(config: &Config) -> Result<Store, LogError> {
    Ok(Store::open(&config.database_url()).await?)
}

/// The same, also held against what witnesses saw last.
async fn open_witnessed_log(
    config: &Config,
    token: &Arc<Token>,
    clock: Clock,
    witnesses: Arc<Witnesses>,
    store: Store,
) -> Result<Log<Ledger>, StartError> {
    let keys = token.keys();
    let settings = Settings {
        checkpoint_key: keys.checkpoint,
        state_dir: config.state_dir.clone(),
        signer: Arc::new(Checkpointer(Arc::clone(token), store.lease().clone())),
        clock,
        checkpoint_retry: CHECKPOINT_RETRY,
        audit_every: AUDIT_EVERY,
        snapshot_every: if config.snapshot { config.snapshot_every.get() } else { u64::MAX },
        witnesses,
        anchors: anchoring::read(token).await?,
    };
    let log = Box::pin(Log::open(store, Ledger::new(), settings)).await?;
    let opening = log.opening();
    tracing::info!(
        origin = opening.origin,
        entries = opening.size,
        checkpointed = opening.checkpointed,
        set_aside = opening.set_aside,
        "the log is whole"
    );
    if !opening.state_folder {
        tracing::warn!(
            "no checkpoint in the state folder: an old copy of the whole database would go unnoticed this once"
        );
    }
    belongs(&log, config, &keys)?;
    // Before the word that it was cleared.
    distrusting::note(&log, &config.state_dir).await?;
    while note_told(&log, config).await? {
        Told::in_dir(&config.state_dir).written()?;
    }
    Ok(log)
}

/// Has in the log what was said first while it was closed, and is in no entry yet; false if there is nothing. It stays in the state folder until whoever opened the log removes it.
///
/// # Errors
/// When log or state folder cannot be written.
pub async fn note_told(log: &Log<Ledger>, config: &Config) -> Result<bool, StartError> {
    let told = Told::in_dir(&config.state_dir);
    match told.next()? {
        None => return Ok(false),
        Some(Said::Waived(event)) => {
            let rules = governed_by(log, config).await?;
            note_waived(log, vec![unasked(*event, rules.as_ref())]).await?;
        }
        Some(Said::Allowed { allowed, begun }) => {
            // Its statements were in no entry when that was begun: where they are now, it was done, and cut off before the folder heard.
            let is_known = log.read(|ledger| allowed.is_known(ledger));
            if begun && is_known {
                tracing::info!("what officers let be cleared is in the log already");
                return Ok(true);
            }
            if !is_known {
                told.begin(&allowed)?;
            }
            note_allowed(log, config, &allowed).await?;
        }
    }
    Ok(true)
}

/// Says it where officers were to be asked for it and nobody did.
fn unasked(event: Event, rules: Option<&Rules>) -> Event {
    match event {
        // Officers are not asked for these: whoever writes the configuration says so.
        Event::Waived { ref safeguard, .. } if [ROOT, SANDBOX].contains(&safeguard.as_str()) => {
            event
        }
        Event::Waived { safeguard, said }
            if rules.is_some_and(|rules| rules.administer().is_some()) =>
        {
            tracing::error!(
                safeguard,
                said,
                "ALARM: this was done without the officers whom the policy in force asks"
            );
            let said = format!("{said}, without the officers whom the policy in force asks");
            Event::Waived { safeguard, said }
        }
        event => event,
    }
}

/// Writes down what officers let be done while the log was closed.
async fn note_allowed(
    log: &Log<Ledger>,
    config: &Config,
    allowed: &Allowed,
) -> Result<(), StartError> {
    let rules = governed_by(log, config).await?;
    let clock = Clock::system().unix_seconds();
    let step = |ledger: &Ledger| {
        let now = ledger.not_before_latest(clock);
        Step::write(allowed.events(ledger, rules.as_ref(), now), ())
    };
    log.commit(step).await?;
    Ok(())
}

/// Entry 0 of a new log, under these officers if there are any yet.
#[must_use]
pub fn beginning(config: &Config, keys: &TokenKeys, officers: Option<&FirstOfficers>) -> Event {
    let origin = audit::checkpoint::origin(&keys.checkpoint);
    let network = config.network.chain_id().to_string();
    let (checkpoint_key, attestation_key) = (keys.checkpoint, keys.attestation);
    let wrapping_fingerprint = keys.wrapping_fingerprint();
    match officers {
        None => {
            Event::Opened { origin, network, checkpoint_key, attestation_key, wrapping_fingerprint }
        }
        Some(officers) => Event::OpenedUnder {
            origin,
            network,
            checkpoint_key,
            attestation_key,
            wrapping_fingerprint,
            officers: officers.text().to_owned(),
        },
    }
}

/// Which safeguards somebody waived, in so many words, for a signer that starts like this, under this policy if it is known yet.
#[must_use]
pub fn waived(config: &Config, token: &Token, clock: &Clock, rules: Option<&Rules>) -> Vec<Event> {
    let here = Here {
        root: confine::process::is_root(),
        softhsm: token.info().is_softhsm(),
        clock_is_right: clock.is_confirmed(),
        unadministered: rules.is_some_and(is_unadministered),
    };
    waived_by(config, &here)
}

/// What a safeguard depends on beside the settings.
struct Here {
    root: bool,
    softhsm: bool,
    clock_is_right: bool,
    unadministered: bool,
}

/// Whether it is real money, and whoever is at this machine asks nobody.
fn is_unadministered(rules: &Rules) -> bool {
    rules.network() == asset::Network::Bitcoin && rules.administer().is_none()
}

fn waived_by(config: &Config, here: &Here) -> Vec<Event> {
    let event = |(what, how): (&str, &str)| Event::Waived {
        safeguard: what.to_owned(),
        said: how.to_owned(),
    };
    of_process(config, here).into_iter().chain(of_service(config, here)).map(event).collect()
}

/// What keeps the process from the rest of the machine.
fn of_process(config: &Config, here: &Here) -> Vec<(&'static str, &'static str)> {
    let said = [
        (config.allow_root && here.root, (ROOT, "allow_root = true")),
        (config.sandbox == confine::Mode::Off, (SANDBOX, "sandbox = \"off\"")),
    ];
    said.into_iter().filter_map(|(waived, said)| waived.then_some(said)).collect()
}

/// What it works with, and whom it serves.
fn of_service(config: &Config, here: &Here) -> Vec<(&'static str, &'static str)> {
    let mainnet = config.network == asset::Network::Bitcoin;
    let softhsm = config.i_understand_that_softhsm_is_not_an_hsm && mainnet && here.softhsm;
    let unlisted = mainnet && config.tls.crl.is_none();
    let unadministered = config.allow_unadministered && here.unadministered;
    let said = [
        (softhsm, ("softhsm", "i_understand_that_softhsm_is_not_an_hsm = true")),
        (here.clock_is_right, ("clock", "--clock-is-right")),
        (unlisted, ("revocation lists", "no crl under [tls]")),
        (unadministered, ("officers at the machine", "allow_unadministered = true")),
    ];
    said.into_iter().filter_map(|(waived, said)| waived.then_some(said)).collect()
}

/// A sealed account that shares its seed with wrapped children is served, since it may have been so before anybody looked: it
/// is said at each start, until officers moved its coins to one with a seed of its own.
fn shared_seeds(rules: &Rules) -> Vec<Event> {
    let event = |(sealed, other): (&WalletName, &WalletName)| Event::Waived {
        safeguard: "a sealed account's own seed".to_owned(),
        said: format!(
            "the policy in force: \"{sealed}\" (sealed-hd) and \"{other}\" (token-hd) name one master key"
        ),
    };
    rules.shared_seeds().map(event).collect()
}

/// Writes them down.
///
/// # Errors
/// [`StartError::Log`].
pub async fn note_waived(log: &Log<Ledger>, waived: Vec<Event>) -> Result<(), StartError> {
    for event in &waived {
        if let Event::Waived { safeguard, said } = event {
            tracing::warn!("somebody waived a safeguard: {safeguard} ({said})");
        }
    }
    if !waived.is_empty() {
        log.commit(|_| Step::write(waived, ())).await?;
    }
    Ok(())
}

/// Signs checkpoints with the token's checkpoint key, as long as the log is ours.
struct Checkpointer(Arc<Token>, Lease);

impl CheckpointSigner for Checkpointer {
    fn sign<'a>(
        &'a self,
        text: &'a [u8],
    ) -> Pin<Box<dyn Future<Output = Result<[u8; 64], String>> + Send + 'a>> {
        Box::pin(async move {
            let signed = self.0.statement(&self.1, StatementKey::Checkpoint, text).await;
            signed.map_err(|error| error.to_string())
        })
    }
}

fn belongs(log: &Log<Ledger>, config: &Config, keys: &TokenKeys) -> Result<(), StartError> {
    let logged = log.read(|ledger| ledger.beginning().cloned()).ok_or(LogError::Empty)?;
    let network = config.network.chain_id().to_string();
    let compared = [
        ("network", logged.network, network),
        ("attestation key", hex::encode(logged.attestation_key), hex::encode(keys.attestation)),
        (
            "wrapping key",
            hex::encode(logged.wrapping_fingerprint),
            hex::encode(keys.wrapping_fingerprint()),
        ),
    ];
    for (what, logged, found) in compared {
        if logged != found {
            return Err(StartError::Foreign { what, logged, found });
        }
    }
    Ok(())
}

/// Every key-encryption key that is written down was imported, as the log has it.
fn imported(log: &Log<Ledger>, config: &Config, token: &Token) -> Result<(), StartError> {
    if config.token.wrapping()?.kwp_mechanism.is_none() {
        return Ok(());
    }
    let unknown = log.read(|ledger| {
        let keys = token.keys().kek_fingerprints();
        keys.into_iter().find(|key| !ledger.keks().is_imported(key))
    });
    if let Some(key) = unknown {
        return Err(StartError::KekNotLogged(hex::encode(key)));
    }
    if log.read(|ledger| ledger.keks().has_pin_of_import(&token.info().serial)) {
        tracing::warn!(
            "the token's PIN was not changed since a key-encryption key was imported: where the people who imported it had this PIN, hand the token over with `signer set-pin --old-pin-file`"
        );
    }
    Ok(())
}

/// Puts the policy into force, unless it is already. It never falls back.
///
/// # Errors
/// [`StartError::PolicyVersion`], [`StartError::Log`].
pub async fn activate(
    log: &Log<Ledger>,
    state_dir: &Path,
    rules: &Rules,
) -> Result<(), StartError> {
    let (found, digest) = (rules.version(), *rules.digest());
    let refused = |active: u64, hint| StartError::PolicyVersion { found, active, hint };
    match log.read(Ledger::policy) {
        Some(active) if active.version == found && active.digest == digest => return Ok(()),
        Some(active) if active.version == found => {
            return Err(refused(
                active.version,
                "its text differs; give the new text a new version",
            ));
        }
        Some(active) if active.version > found => {
            return Err(refused(
                active.version,
                "versions only rise; give the new text a higher one",
            ));
        }
        _ => {}
    }
    log.read(|ledger| servable(ledger, state_dir, rules))?;
    let event = Event::PolicyActivated {
        version: found,
        digest,
        text: rules.text().to_owned(),
        officers: rules.officers().iter().map(ToString::to_string).collect(),
    };
    log.commit(|_| Step::write(vec![event], ())).await?;
    tracing::info!(version = found, digest = hex::encode(digest), "policy in force");
    Ok(())
}

/// What cannot be served is neither put into force nor proposed: a start under it would fail.
pub(crate) fn servable(ledger: &Ledger, state_dir: &Path, rules: &Rules) -> Result<(), StartError> {
    let wallets = Wallets::new(rules)?;
    for wallet in wallets.iter() {
        if let Some(imported) = ledger.imports().wallet(wallet.name()) {
            as_imported(wallet, imported)?;
        }
    }
    Ok(born::bindable(ledger, state_dir, &wallets)?)
}

/// The policy has the wallet as it was imported: the log says which keys are asked for by what the policy says of them, and is
/// held against the import. A cold wallet is asked for none.
fn as_imported(wallet: &Wallet, imported: &ledger::Imported) -> Result<(), StartError> {
    if imported.descriptor != wallet.descriptor() {
        return Err(StartError::OtherDescriptor(wallet.name().clone()));
    }
    let named = wallet.tier().as_str();
    if wallet.tier() != Tier::Cold && imported.tier != named {
        let (wallet, imported) = (wallet.name().clone(), imported.tier.clone());
        return Err(StartError::OtherTier { wallet, imported, named });
    }
    Ok(())
}

/// Whether children wrapped like this bundle's can be unwrapped with these settings and keys.
///
/// # Errors
/// [`StartError::Scheme`] when not.
pub fn carries(
    config: &Config,
    keys: &TokenKeys,
    wallet: &WalletName,
    header: &Header,
) -> Result<(), StartError> {
    let scheme = header.fields().kind.scheme;
    let ways = config.token.wrapping()?.ways(&keys.to_wire().keks);
    if scheme.is_sealed() || wrapped_by(header).is_some_and(|by| ways.contains(&by)) {
        return Ok(());
    }
    Err(StartError::Scheme { wallet: wallet.clone(), scheme: scheme.name() })
}

/// Gives every imported wallet of the policy its records; those of the tier `token` have none.
fn attach(
    log: &Log<Ledger>,
    config: &Config,
    keys: &TokenKeys,
    wallets: &mut Wallets,
) -> Result<(), StartError> {
    let bundled = wallets.iter().filter(|wallet| wallet.tier() != Tier::Token);
    let names: Vec<WalletName> = bundled.map(|wallet| wallet.name().clone()).collect();
    for name in names {
        let imported = log.read(|ledger| ledger.imports().wallet(&name).cloned());
        let Some(imported) = imported else { continue };
        let Some(wallet) = wallets.wallet(&name) else { continue };
        match as_imported(wallet, &imported) {
            // A policy in force since before this was looked at: only this wallet is not served.
            Err(why @ StartError::OtherTier { .. }) => {
                tracing::error!(wallet = %name, "not served: {why}");
                continue;
            }
            other => other?,
        }
        let path = bundle_path(&config.state_dir, imported.bundle);
        let records = Records::open(&path, imported.bundle)?;
        carries(config, keys, &name, records.header())?;
        wallets.attach(&name, records)?;
        tracing::info!(wallet = %name, tier = imported.tier, "wallet ready");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use confine::Mode;

    use super::*;
    use crate::config::tests::minimal;

    #[test]
    fn every_safeguard_that_is_waived_is_told_and_no_other() {
        let all = |is| Here { root: is, softhsm: is, clock_is_right: is, unadministered: is };
        let (nowhere, everywhere) = (|| all(false), || all(true));
        let told = |config: &Config, here: &Here| -> Vec<String> {
            let said = waived_by(config, here).into_iter().map(|event| match event {
                Event::Waived { safeguard, said } => format!("{safeguard} by {said}"),
                other => panic!("{other:?}"),
            });
            said.collect()
        };
        let (root, sandbox) = ("root by allow_root = true", "sandbox by sandbox = \"off\"");
        let softhsm = "softhsm by i_understand_that_softhsm_is_not_an_hsm = true";
        let clock = "clock by --clock-is-right";
        let lists = "revocation lists by no crl under [tls]";
        let alone = "officers at the machine by allow_unadministered = true";
        let plain = minimal();
        assert_eq!(told(&plain, &nowhere()), [""; 0]);
        // Nobody said a word about root, SoftHSM or officers: those do not even start.
        assert_eq!(told(&plain, &everywhere()), [clock]);
        let real = Config { network: asset::Network::Bitcoin, ..minimal() };
        let mut waiving: Vec<(Config, Here, Vec<&str>)> = vec![
            (Config { allow_root: true, ..minimal() }, everywhere(), vec![root, clock]),
            (Config { allow_root: true, ..minimal() }, nowhere(), vec![]),
            (Config { sandbox: Mode::Off, ..minimal() }, nowhere(), vec![sandbox]),
            (Config { sandbox: Mode::Required, ..minimal() }, nowhere(), vec![]),
        ];
        let words = |config| Config { i_understand_that_softhsm_is_not_an_hsm: true, ..config };
        let alone_at = |config| Config { allow_unadministered: true, ..config };
        waiving.extend([
            (words(real.clone()), Here { softhsm: true, ..nowhere() }, vec![softhsm, lists]),
            (words(real.clone()), nowhere(), vec![lists]),
            (alone_at(real), Here { unadministered: true, ..nowhere() }, vec![lists, alone]),
            // On a test network it needs nobody's word.
            (words(minimal()), Here { softhsm: true, ..nowhere() }, vec![]),
        ]);
        let all = Config {
            network: asset::Network::Bitcoin,
            allow_root: true,
            sandbox: Mode::Off,
            ..alone_at(words(minimal()))
        };
        waiving.push((all, everywhere(), vec![root, sandbox, softhsm, clock, lists, alone]));
        for (config, here, wanted) in waiving {
            assert_eq!(told(&config, &here), wanted);
        }
    }

    /// A policy with people who change it, and with `more` about them.
    fn governed(network: asset::Network, more: &str) -> Rules {
        let key = "d54207da194977dcf46adbfec2bc2e75b52d5a8a42184fedfdc00024f0e3e8da";
        let text = format!(
            "version = 1\nnetwork = \"{network}\"\nlog = \"cofferdam/a\"\nwallet = []\nclient = []\n\
             [[officer]]\nname = \"ada\"\ndomain = \"zurich\"\ned25519 = \"{key}\"\n\
             [[group]]\nname = \"board\"\nmembers = [\"ada\"]\n\
             [governance]\ntighten = \"1 of board\"\nchange = \"1 of board\"\ndelay = \"48h\"\n{more}"
        );
        Rules::reopen(&text, Vec::new(), network).unwrap()
    }

    #[test]
    fn real_money_without_officers_at_the_machine_is_not_served_unless_somebody_says_so() {
        let (real, asks) = (asset::Network::Bitcoin, "administer = \"1 of board\"\n");
        let (plain, waived) = (minimal(), Config { allow_unadministered: true, ..minimal() });
        let refused = administered(&plain, &governed(real, "")).unwrap_err();
        assert!(matches!(refused, StartError::Unadministered), "{refused}");
        administered(&waived, &governed(real, "")).unwrap();
        administered(&plain, &governed(real, asks)).unwrap();
        administered(&plain, &governed(asset::Network::Regtest, "")).unwrap();
        assert!(is_unadministered(&governed(real, "")));
        assert!(!is_unadministered(&governed(real, asks)));
        assert!(!is_unadministered(&governed(asset::Network::Regtest, "")));
    }
}
