//! What every request needs, together. Another policy is another one of these: what is decided changes by the log alone.

use std::sync::Arc;

use audit::entry::Event;
use policy::intent::RequestId;
use policy::names::ClientName;
use policy::{Finding, Rules};

use crate::abuse::{Abuse, is_structural};
use crate::anchoring::Anchors;
use crate::facts::sanctions::Sanctions;
use crate::feeling::Feeling;
use crate::gate::Gate;
use crate::governing::{Proposed, Upcoming};
use crate::keys::Kin;
use crate::ledger::Ledger;
use crate::log::{Clock, Log, LogError, Step, Witnesses};
use crate::metrics::{Outcome, Tally};
use crate::officers::notices::Notices;
use crate::officers::notices::Topic;
use crate::refusal::{Reason, Refusal};
use crate::request::considered::Room;
use crate::token::{Token, TokenError};
use crate::wallets::{OwnKey, Wallet, Wallets};

/// The running signer's parts.
pub struct App {
    /// The log and the ledger folded from it.
    pub log: Arc<Log<Ledger>>,
    /// The token.
    pub token: Arc<Token>,
    /// The policy in force.
    pub rules: Rules,
    /// What is to take the place of `rules`.
    pub upcoming: Upcoming,
    /// The policy's wallets, with their records.
    pub wallets: Arc<Wallets>,
    /// Which wallets share a key.
    pub kin: Kin,
    /// The time.
    pub clock: Clock,
    /// Bounds on work.
    pub gate: Gate,
    /// Who must have seen what is let out.
    pub witnesses: Arc<Witnesses>,
    /// Who asked for what can never be right.
    pub abuse: Abuse,
    /// Who may feel for limits.
    pub feeling: Feeling,
    /// What came of it all.
    pub tally: Tally,
    /// The sanctions list, if there is one.
    pub sanctions: Sanctions,
    /// How much of denied requests is written down yet.
    pub considered: Room,
    /// Tells officers what happens.
    pub notices: Notices,
    /// What the tokens remember of the log.
    pub anchors: Anchors,
}

impl App {
    /// What is proposed and may still take the place of the policy in force.
    #[must_use]
    pub fn open_proposal(&self) -> Option<Proposed> {
        let open = |digest: &[u8; 32]| {
            self.log.read(|ledger| ledger.proposal(digest)).is_some_and(|known| !known.vetoed)
        };
        self.upcoming.proposed().filter(|proposed| open(&proposed.digest))
    }

    /// Whether something was handed in that provably only tightens: then nothing is decided by the policy in force any more. It is
    /// asked in the step that decides, so that what comes after its entry does not slip through.
    #[must_use]
    pub fn is_tightened(&self, ledger: &Ledger) -> bool {
        let Some(digest) = self.upcoming.tightening() else { return false };
        ledger.proposal(&digest).is_some_and(|known| !known.vetoed)
    }

    /// Why nothing is decided meanwhile.
    fn tightened(&self) -> Option<String> {
        let open = self.log.read(|ledger| self.is_tightened(ledger));
        let proposed = self.upcoming.proposed().filter(|proposed| open && proposed.tightens);
        let version = proposed.as_ref().map(|proposed| proposed.version);
        match (version, proposed.and_then(|proposed| proposed.unserved)) {
            (Some(version), Some(why)) => Some(format!(
                "policy version {version} was handed in, only tightens and cannot be served on this machine, and nothing is signed under the one before it: {why}"
            )),
            (Some(version), None) => Some(format!(
                "policy version {version} was handed in and only tightens: nothing is signed until it is in force"
            )),
            (None, _) => self.gate.is_shut().then(|| "another policy comes into force".to_owned()),
        }
    }

    /// When that may be, Unix seconds.
    #[must_use]
    pub fn next_policy_due_unix(&self) -> Option<u64> {
        self.upcoming.next_unix().filter(|_| self.open_proposal().is_some())
    }

    /// The caller, if the policy in force knows it at all: nobody else's bytes are read.
    ///
    /// # Errors
    /// [`Reason::UnknownClient`].
    pub fn client(&self, name: &str) -> Result<ClientName, Refusal> {
        let client = ClientName::parse(name).ok().filter(|client| self.rules.knows(client));
        let unknown = |text: String| Refusal::new(Reason::UnknownClient, text);
        let client = client.ok_or_else(|| {
            unknown(format!("client \"{name}\" is not in policy version {}", self.rules.version()))
        })?;
        let now = self.log.read(|ledger| ledger.not_before_latest(self.clock.unix_seconds()));
        match self.rules.client_ended(&client, now) {
            None => Ok(client),
            Some(end) => Err(unknown(format!(
                "what client \"{name}\" was granted by policy version {} ended at {end}",
                self.rules.version()
            ))),
        }
    }

    /// Whether this client is not locked out.
    ///
    /// # Errors
    /// [`Reason::ClientLocked`].
    pub fn may_come_in(&self, client: &ClientName) -> Result<(), Refusal> {
        match self.log.read(|ledger| ledger.locks().of(client.as_str())) {
            None => Ok(()),
            Some(entry) => {
                let text = format!(
                    "client \"{client}\" is locked (log entry {entry}) until an officer frees it"
                );
                Err(Refusal::new(Reason::ClientLocked, text))
            }
        }
    }

    /// Counts what can never be right; too much of it locks the client. Whom the policy does not know is out anyway.
    pub async fn count_structural(&self, caller: &str, code: &'static str) {
        if self.client(caller).is_err() {
            return;
        }
        let Some(excess) = self.abuse.count(caller, code) else { return };
        let event = Event::ClientLocked {
            client: caller.to_owned(),
            refusals: excess.refusals,
            seconds: excess.seconds,
            codes: excess.codes,
        };
        tracing::error!(caller, "locked out: it asked too often for what can never be right");
        let text = format!(
            "client \"{caller}\" is locked out until an officer frees it: it asked too often for what can never be right"
        );
        self.notices.tell("alarm", Topic::NONE, &[("client-locked", text)]);
        let step = |ledger: &Ledger| {
            let known = ledger.locks().of(caller).is_some();
            Step::write(if known { Vec::new() } else { vec![event] }, ())
        };
        if let Err(error) = self.log.commit(step).await {
            tracing::error!("a lock could not be logged: {error}");
        }
    }

    /// Counts a denial that names nothing to its caller; too many of them raise an alarm, and keep nobody out.
    pub fn count_denial(&self, caller: &str, reasons: &[Finding]) {
        let Some(excess) = self.feeling.count(caller, reasons) else { return };
        let (denials, seconds) = (excess.refusals, excess.seconds);
        tracing::error!(caller, denials, seconds, codes = ?excess.codes, "denied very often: somebody may feel for a limit");
        let text = format!(
            "client \"{caller}\" was denied {denials} times in {seconds} seconds ({}): it hits a limit, or somebody feels for it",
            excess.codes.join(", ")
        );
        self.notices.tell("alarm", Topic::NONE, &[("limits-felt", text)]);
    }

    /// Why the service cannot sign now, if so.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        let log = self.log.status();
        let stopped = log.stopped.map(|why| format!("the log stopped: {why}"));
        let uncovered = || {
            let why = log.checkpoint_problem?;
            Some(format!("the token signs no checkpoint, so nothing is granted: {why}"))
        };
        let unwitnessed = || {
            let why = log.witness_problem?;
            Some(format!("too few witnesses have seen the log, so nothing is let out: {why}"))
        };
        let lapsed = log.lapsed.map(|seconds| {
            format!(
                "the log's database has taken no sign of life from this signer for {seconds} seconds: until it does, nothing is signed"
            )
        });
        let stopped = stopped.or(lapsed);
        let broken = stopped.or_else(|| self.token.problem()).or_else(uncovered);
        broken.or_else(unwitnessed).or_else(|| self.tightened())
    }

    /// Why this wallet is not served, although others are: the token failed the canary of its tier.
    #[must_use]
    pub fn barred(&self, wallet: &Wallet) -> Option<Refusal> {
        let mut records = wallet.own().iter().filter_map(OwnKey::records);
        let why = records.find_map(|records| self.token.bars(records.sealed().is_some()))?;
        let (name, tier) = (wallet.name(), wallet.tier().as_str());
        let text = format!("wallet \"{name}\" is not served, since its tier is {tier}: {why}");
        Some(Refusal::new(Reason::TokenFault, text))
    }

    /// Why nothing new could be let out now: asking again and again must not fill the log with reservations.
    #[must_use]
    pub fn away(&self) -> Option<Refusal> {
        let unwitnessed = || Some(LogError::Unwitnessed(self.log.status().witness_problem?).into());
        let token = self.token.problem().map(|why| Refusal::new(Reason::TokenUnavailable, why));
        token.or_else(unwitnessed)
    }

    /// Writes a refusal down; the caller gets it whether or not that works, and before a checkpoint covers it.
    pub async fn note_refusal(
        &self,
        caller: &str,
        request: Option<RequestId>,
        digest: [u8; 32],
        refusal: &Refusal,
    ) {
        tracing::info!(caller, "refused: {refusal}");
        self.tally.ended(Outcome::Refused, refusal.reason.code());
        let event = Event::Refused {
            request: request.map(|id| id.0),
            caller: caller.to_owned(),
            digest,
            reasons: vec![refusal.to_entry()],
        };
        if let Err(error) = self.log.note(|_| vec![event]).await {
            tracing::error!("a refusal could not be logged: {error}");
        }
        if is_structural(refusal.reason) {
            self.count_structural(caller, refusal.reason.code()).await;
        }
    }
}

impl From<LogError> for Refusal {
    fn from(error: LogError) -> Self {
        if matches!(error, LogError::Uncovered(_)) {
            return Self::new(Reason::TokenUnavailable, error.to_string());
        }
        if matches!(error, LogError::Unwitnessed(_)) {
            return Self::new(Reason::WitnessUnavailable, error.to_string());
        }
        let text = format!("{error}; nothing is signed that cannot be written down");
        Self::new(Reason::LogUnavailable, text)
    }
}

impl From<TokenError> for Refusal {
    fn from(error: TokenError) -> Self {
        let reason = match &error {
            TokenError::PinLatched(_) | TokenError::PinWrong(_) => Reason::PinLatched,
            TokenError::Distrusted(_) => Reason::TokenDistrusted,
            TokenError::Busy { .. } => Reason::Busy,
            TokenError::PermitMismatch
            | TokenError::WrongSignature { .. }
            | TokenError::Refused { .. }
            | TokenError::Keys(_) => Reason::TokenFault,
            _ => Reason::TokenUnavailable,
        };
        Self::new(reason, error.to_string())
    }
}

/// Runs work on a thread of its own where it would hold up others, and at once where it is so small that waking
/// another thread would cost more.
///
/// # Errors
/// Its own; where it is large, also as [`blocking`].
pub(crate) async fn blocking_if<T: Send + 'static>(
    large: bool,
    work: impl FnOnce() -> Result<T, Refusal> + Send + 'static,
) -> Result<T, Refusal> {
    if large { blocking(work).await } else { work() }
}

/// Runs work that would hold up others on a thread of its own.
///
/// # Errors
/// Its own, or [`Reason::Internal`] when it panicked.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Refusal> + Send + 'static,
) -> Result<T, Refusal> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| {
        tracing::error!("a task failed: {error}");
        Err(Refusal::new(Reason::Internal, "a task of the signer failed: tell its operators"))
    })
}
