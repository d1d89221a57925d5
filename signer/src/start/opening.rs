//! Token and log, opened and held against each other, for a signer and for commands at its machine. What does not belong
//! together is never opened.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use audit::entry::Event;
use policy::first::FirstOfficers;

use super::kept::note_told;
use super::waived::{note_waived, waived};
use super::{StartError, lost, service};
use crate::anchoring;
use crate::config::Config;
use crate::distrusting;
use crate::ledger::Ledger;
use crate::log::{CheckpointSigner, Clock, Lease, Log, LogError, Settings, Step, Store, Witnesses};
use crate::officers::doubt;
use crate::token::{StatementKey, Token, TokenConfig, TokenKeys};
use crate::told::Told;

/// A checkpoint that failed is tried again after this.
const CHECKPOINT_RETRY: Duration = Duration::from_millis(250);
/// Some 256 rows are read again this often: a million entries in a few minutes.
const AUDIT_EVERY: Duration = Duration::from_millis(50);
/// The newest rows are read again with a checkpoint this often at most.
const REREAD_EVERY: Duration = Duration::from_secs(1);

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
    lost::none_lost(config)?;
    open_lost_log(config, token, clock).await
}

/// The same, also where the state folder lost its checkpoint: for whoever is letting it be used again.
///
/// # Errors
/// As [`open_log`].
pub async fn open_lost_log(
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

pub(super) async fn open_store(config: &Config) -> Result<Store, LogError> {
    Ok(Store::open(&config.database_url()).await?)
}

/// The same, also held against what witnesses saw last.
pub(super) async fn open_witnessed_log(
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
        reread_every: REREAD_EVERY,
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
            "no checkpoint in the state folder, from which no log was served before: an old copy of the whole database would go unnoticed this once"
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
