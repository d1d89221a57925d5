//! The `[token]` section of the signer's configuration. It never holds the PIN, only where it lies.

use std::collections::BTreeMap;
use std::num::{NonZeroU8, NonZeroU16};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use token_wire::Mechanisms;

use super::{Operations, Starter, TokenError};

/// How to reach the token: either `module`, `label` and `pin_file` or `pin = "prompt"` (the signer starts the workers
/// itself), or `socket` (each connection to it gets a worker, as systemd does with `Accept=yes`; then another user may own
/// the PIN).
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenConfig {
    /// The PKCS#11 module.
    pub module: Option<PathBuf>,
    /// Label of the token.
    pub label: Option<String>,
    /// File that holds the user PIN, mode 0600.
    pub pin_file: Option<PathBuf>,
    /// `"prompt"` instead of `pin_file`: a person types it once, at the start.
    pub pin: Option<PinDelivery>,
    /// Environment of the workers, all of it: what the module needs, e.g. `SOFTHSM2_CONF`.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// The `token-worker` program; beside the signer's own when not given.
    pub worker: Option<PathBuf>,
    /// Whom the module may reach: `local` (this machine) or `network` (an HSM in the network).
    #[serde(default)]
    pub reach: ModuleReach,
    /// Files and folders that the module needs beside its libraries and what `env` names.
    #[serde(default)]
    pub module_files: Vec<PathBuf>,
    /// Unix socket whose every connection is a worker.
    pub socket: Option<PathBuf>,
    /// How many workers; one for each core when not given.
    pub workers: Option<NonZeroU8>,
    /// One more that signs statements alone (checkpoints, attestations), so that none waits while the others hang. Off only
    /// for a token that has no session left for it.
    pub statement_worker: Option<bool>,
    /// A worker that takes longer over one batch is killed.
    pub batch_seconds_max: Option<NonZeroU8>,
    /// A worker that takes longer to start is killed.
    pub start_seconds_max: Option<NonZeroU8>,
    /// Most signatures that may wait, of requests and of proofs each; of one wallet three quarters.
    pub queue_jobs_max: Option<u32>,
    /// How children may be wrapped for the token: rsa-oaep-sha1 (alone when not given), rsa-oaep-sha256, aes-kwp. Each is
    /// tried at the start.
    pub schemes: Option<Vec<String>>,
    /// The number at which the module has AES key wrap with padding (RFC 5649); 0x210a when not given, 0x210b since PKCS#11 3.0.
    pub kwp_mechanism: Option<u64>,
    /// The numbers at which the module has what modules number differently.
    #[serde(default)]
    pub mechanisms: Numbers,
    /// How often the keys' attributes are looked at again; 180 seconds when not given.
    pub check_seconds: Option<NonZeroU16>,
    /// Keep the newest checkpoint in the token too, and hold the log against it at each start: for a token that keeps data
    /// objects in hardware. Off when not given; each standby has a word of its own.
    #[serde(default)]
    pub anchor: bool,
    /// How often it is written at most; 300 seconds when not given. A word of the first token, for all of them.
    pub anchor_seconds: Option<NonZeroU16>,
    /// Other tokens that hold the very same keys (by the vendor's cloning), by names of their own: all are used, and
    /// any of them does the others' work.
    #[serde(default)]
    pub standby: BTreeMap<String, TokenConfig>,
    /// Set by the signer: a standby must not be SoftHSM.
    #[serde(skip)]
    pub refuse_softhsm: bool,
    /// Whether workers confine themselves: as the signer does.
    #[serde(skip)]
    pub sandbox: confine::Mode,
    /// People import a key-encryption key: workers sign statements alone.
    #[serde(skip)]
    pub attending: bool,
    /// What the token did and the log does not say yet.
    #[serde(skip)]
    pub operations: Operations,
    /// A new PIN for a worker that changes it.
    #[serde(skip)]
    pub new_pin: Option<NewPin>,
    /// The file whose place the new PIN takes, where the old one is read from another.
    #[serde(skip)]
    pub new_pin_for: Option<PathBuf>,
    /// Who starts the workers, once the signer itself cannot.
    #[serde(skip)]
    pub starter: Option<Starter>,
}

/// `[token.mechanisms]`: a mechanism's number in this module, where it is not the standard's.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Numbers {
    /// The other name of `kwp_mechanism`.
    pub aes_kwp: Option<u64>,
    /// `CKM_EDDSA`; 0x1057 when not given.
    pub eddsa: Option<u64>,
    /// `CKM_EC_EDWARDS_KEY_PAIR_GEN`; 0x1055 when not given.
    pub eddsa_key_pair_gen: Option<u64>,
}

impl Numbers {
    /// These, and what the others say besides.
    fn or(self, others: Self) -> Self {
        Self {
            aes_kwp: self.aes_kwp.or(others.aes_kwp),
            eddsa: self.eddsa.or(others.eddsa),
            eddsa_key_pair_gen: self.eddsa_key_pair_gen.or(others.eddsa_key_pair_gen),
        }
    }

    /// As workers are told.
    pub(crate) fn to_wire(self) -> Mechanisms {
        let standard = Mechanisms::default();
        Mechanisms {
            eddsa: self.eddsa.unwrap_or(standard.eddsa),
            eddsa_key_pair_gen: self.eddsa_key_pair_gen.unwrap_or(standard.eddsa_key_pair_gen),
        }
    }
}

/// How else the PIN comes to the workers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PinDelivery {
    /// Typed on the terminal of the signer.
    Prompt,
}

/// Where a new PIN comes from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum NewPin {
    /// A file with mode 0600.
    File(PathBuf),
    /// Typed on the terminal, twice.
    Prompt,
    /// In the PIN file: the token may have it or not, and only its own word on it counts.
    Tried,
}

/// Whom a module may reach.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ModuleReach {
    /// Files and sockets of this machine.
    #[default]
    Local,
    /// An HSM in the network too.
    Network,
}

impl ModuleReach {
    /// As a worker's command line has it.
    pub(crate) fn argument(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Network => "network",
        }
    }
}

/// Where workers come from.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    /// The signer starts them.
    Spawn {
        program: PathBuf,
        module: PathBuf,
        label: String,
        /// None: a person types it.
        pin_file: Option<PathBuf>,
        env: BTreeMap<String, String>,
    },
    /// Somebody else does, one for each connection.
    Connect { socket: PathBuf },
}

impl TokenConfig {
    /// Settings for workers that the signer starts itself, everything else by default.
    #[must_use]
    pub fn spawning(module: &Path, label: &str, pin_file: &Path) -> Self {
        Self {
            module: Some(module.to_path_buf()),
            label: Some(label.to_owned()),
            pin_file: Some(pin_file.to_path_buf()),
            ..Self::default()
        }
    }

    /// Every token by itself, with one worker: the first without a name, then the standbys, each with the folder of its
    /// own latch and mark of distrust.
    #[must_use]
    pub fn each(&self, state_dir: &Path) -> Vec<(Option<String>, Self, PathBuf)> {
        let standby = |(name, standby): (&String, &Self)| {
            let dir = super::standby_dir(state_dir).join(name);
            (Some(name.clone()), self.of_standby(standby).alone(), dir)
        };
        let first = (None, self.alone(), state_dir.to_path_buf());
        std::iter::once(first).chain(self.standby.iter().map(standby)).collect()
    }

    /// A standby's settings as they are used: the same keys, so the same schemes; a module may have its own number for one.
    #[must_use]
    pub fn of_standby(&self, standby: &Self) -> Self {
        Self {
            refuse_softhsm: self.refuse_softhsm,
            schemes: self.schemes.clone(),
            // Under one of its two names, or it would be said twice.
            kwp_mechanism: standby
                .kwp_mechanism
                .or(self.kwp_mechanism.filter(|_| standby.mechanisms.aes_kwp.is_none())),
            mechanisms: standby.mechanisms.or(Numbers {
                aes_kwp: self.mechanisms.aes_kwp.filter(|_| standby.kwp_mechanism.is_none()),
                ..self.mechanisms
            }),
            operations: self.operations.clone(),
            ..standby.clone()
        }
    }

    /// One worker of this token alone: enough for a checkpoint.
    #[must_use]
    pub fn alone(&self) -> Self {
        let (workers, statement_worker) = (Some(NonZeroU8::MIN), Some(false));
        Self { workers, statement_worker, standby: BTreeMap::new(), ..self.clone() }
    }

    /// Where workers come from.
    pub(crate) fn source(&self) -> Result<Source, TokenError> {
        self.wrapping()?;
        let plain = |name: &String| {
            !name.is_empty() && name.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-')
        };
        if !self.standby.keys().all(plain)
            || self.standby.values().any(|standby| !standby.standby.is_empty())
        {
            return Err(TokenError::Config(
                "a standby's name is letters, digits and hyphens, and it has no standby itself"
                    .into(),
            ));
        }
        let pin = match (&self.pin_file, self.pin) {
            (Some(_), Some(PinDelivery::Prompt)) => {
                return Err(TokenError::Config("`pin_file` or `pin`, not both".into()));
            }
            (None, None) => None,
            (pin_file, _) => Some(pin_file.clone()),
        };
        match (&self.socket, &self.module, &self.label, pin) {
            (Some(socket), None, None, None) => Ok(Source::Connect { socket: socket.clone() }),
            (None, Some(module), Some(label), Some(pin_file)) => Ok(Source::Spawn {
                program: self.program()?,
                module: module.clone(),
                label: label.clone(),
                pin_file,
                env: self.env.clone(),
            }),
            _ => Err(TokenError::Config(
                "give either `module`, `label` and `pin_file` (or `pin`), or `socket` alone".into(),
            )),
        }
    }

    /// How many workers do everything.
    pub(crate) fn workers(&self) -> usize {
        let cores = || std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
        self.workers.map_or_else(cores, |workers| usize::from(workers.get())).min(64)
    }

    /// Whether one more signs statements alone.
    pub(crate) fn statement_worker(&self) -> bool {
        self.statement_worker.unwrap_or(true)
    }

    /// Time for one batch.
    pub(crate) fn batch_time(&self) -> Duration {
        Duration::from_secs(self.batch_seconds_max.map_or(20, |seconds| seconds.get().into()))
    }

    /// Time for each step of a start.
    pub(crate) fn start_time(&self) -> Duration {
        Duration::from_secs(self.start_seconds_max.map_or(60, |seconds| seconds.get().into()))
    }

    /// Time from one look at the keys' attributes to the next.
    pub(crate) fn check_time(&self) -> Duration {
        Duration::from_secs(self.check_seconds.map_or(180, |seconds| seconds.get().into()))
    }

    /// Time from one look at the anchors to the next: a write to an HSM's memory takes long and wears it.
    pub(crate) fn anchor_time(&self) -> Duration {
        Duration::from_secs(self.anchor_seconds.map_or(300, |seconds| seconds.get().into()))
    }

    /// Most signatures waiting in a lane.
    pub(crate) fn queue_jobs_max(&self) -> usize {
        self.queue_jobs_max.and_then(|jobs| usize::try_from(jobs).ok()).unwrap_or(20_000)
    }

    pub(super) fn program(&self) -> Result<PathBuf, TokenError> {
        worker_program(self.worker.as_deref())
    }
}

/// The `token-worker` program: the one given, or the one beside this.
pub(crate) fn worker_program(given: Option<&Path>) -> Result<PathBuf, TokenError> {
    if let Some(program) = given {
        return Ok(program.to_path_buf());
    }
    let own = std::env::current_exe()
        .map_err(|error| TokenError::Config(format!("cannot tell where I am: {error}")))?;
    let beside = own.with_file_name("token-worker");
    if beside.is_file() {
        return Ok(beside);
    }
    Err(TokenError::Config(format!(
        "no token-worker beside the signer ({}); set `worker` to its path",
        beside.display()
    )))
}
