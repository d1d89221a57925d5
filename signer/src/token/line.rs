//! A line to one worker process: handshake, question and answer, each with a deadline. A worker that misses
//! one is killed; the line is never used again after an error.

use std::io::{self, ErrorKind, Read};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use bundle::KekFile;
use secp256k1::PublicKey;
use sha2::{Digest, Sha256};
use token_wire::{
    AnchorAsk, Answered, Binding, BindingProofs, Examination, FaultCode, FrameError, ImportOpening,
    Kek, KekImport, Keys, PinState, RawSignature, Reply, Request, Schemes, Stage, TokenInfo,
    Without, WrappedBy,
};

use super::carried::NO_CHILDREN;
use super::config::{Source, TokenConfig};
use super::operations::{self, Operations};
use super::spawn::{self, Process};
use super::{Latch, TokenError, TokenKeys, verify};

/// One worker.
pub(crate) struct Line {
    stream: UnixStream,
    child: Option<Process>,
    info: TokenInfo,
    start_time: Duration,
    schemes: Schemes,
    attending: bool,
    /// What its answers say that the token did.
    operations: Operations,
    /// How much it may have had the token do since its last answer.
    unheard: u64,
    /// Whether the token took its PIN.
    logged_in: bool,
    /// Whether its last answer was a fault.
    said_no: bool,
    /// Whose canary failed in the last binding, where nothing else did and the token was not gone.
    failed: Option<Stage>,
}

impl Line {
    /// Starts a worker and logs it in. At most one login is tried, and none once the PIN was refused. The
    /// caller makes sure that only one line is opened at a time. Only with `write` can keys be made.
    pub(crate) fn open(
        config: &TokenConfig,
        latch: &Latch,
        write: bool,
    ) -> Result<Self, TokenError> {
        latch.check()?;
        let mut line = Self::connect(config, write)?;
        line.log_in_now(config, latch)?;
        Ok(line)
    }

    /// Tries the worker's PIN once while the latch stays shut, so that nobody tries another whatever cuts this off. For a
    /// person's command alone, and only with a person's word (`again`) where this may be one wrong try of several: the last
    /// one got no answer, or the token says that its count is low; where it would lock the PIN, only with `last_try`. The
    /// note of the try stays where the token took the PIN or called it wrong: clearing the latch removes it.
    pub(crate) fn try_latched(
        &mut self,
        latch: &Latch,
        again: bool,
        last_try: bool,
    ) -> Result<(), TokenError> {
        let tried = latch.is_tried()?;
        let state = self.pin_state(last_try)?;
        let doubt = match (tried, state.wrong_before) {
            (true, _) => Some(
                "the last try of this PIN ended without the token's answer, so it may have counted as a wrong one",
            ),
            (_, true) => Some("the token has seen a wrong PIN since the last login"),
            _ => None,
        };
        if let Some(doubt) = doubt.filter(|_| !again) {
            let text = format!(
                "{doubt}: it was not tried again. See with the vendor's tool how many tries are left, then say so with \
                 `signer set-pin --finish --again`"
            );
            return Err(TokenError::PinLatched(text));
        }
        latch.begin_try()?;
        if let Err(error) = self.announce_pin() {
            // The token has not seen it this time.
            if !tried {
                latch.end_try()?;
            }
            return Err(error);
        }
        match self.receive(self.start_time)? {
            Reply::LoggedIn => Ok(()),
            Reply::Fault(fault) if fault.code == FaultCode::PinIncorrect => Err(fault.into()),
            Reply::Fault(fault) if fault.code.refuses_pin() => {
                latch.end_try()?;
                Err(fault.into())
            }
            other => Err(unexpected(&other)),
        }
    }

    /// Starts a worker that is not logged in: good for looking at the token, and for nothing else.
    pub(crate) fn connect(config: &TokenConfig, write: bool) -> Result<Self, TokenError> {
        let source = config.source()?;
        let (stream, child) = spawn::open(&source, config)?;
        let nobody = TokenInfo {
            label: String::new(),
            serial: String::new(),
            manufacturer: String::new(),
            model: String::new(),
            without: Without::default(),
        };
        let (start_time, schemes) = (config.start_time(), config.wrapping()?);
        let attending = config.attending;
        // While people import, what key-encryption keys there are is for the import to say.
        let schemes = if attending { Schemes { kwp_mechanism: None, ..schemes } } else { schemes };
        let operations = config.operations.clone();
        let unheard = 0;
        let mut line = Self {
            stream,
            child,
            info: nobody,
            start_time,
            schemes,
            attending,
            operations,
            unheard,
            logged_in: false,
            said_no: false,
            failed: None,
        };
        let time = line.start_time;
        match line.ask(&Request::Hello { version: token_wire::VERSION }, time)? {
            Reply::Hello { version: token_wire::VERSION, .. } => {}
            Reply::Hello { version, program } => {
                return Err(TokenError::Unavailable(format!(
                    "token-worker {program} speaks protocol {version}, this signer {}; install both from one release",
                    token_wire::VERSION
                )));
            }
            other => return Err(unexpected(&other)),
        }
        match line.ask(&Request::Open { write, mechanisms: config.mechanisms.to_wire() }, time)? {
            Reply::Opened(info) => line.info = info,
            other => return Err(unexpected(&other)),
        }
        Ok(line)
    }

    /// Logs a line in that was only looking.
    pub(crate) fn log_in_now(
        &mut self,
        config: &TokenConfig,
        latch: &Latch,
    ) -> Result<(), TokenError> {
        let pin_file = match config.source()? {
            Source::Spawn { pin_file, .. } => pin_file,
            Source::Connect { .. } => None,
        };
        self.log_in(latch, pin_file.as_deref())?;
        self.logged_in = true;
        Ok(())
    }

    /// What module, token and worker are like.
    pub(crate) fn examine(&mut self) -> Result<Examination, TokenError> {
        match self.ask(&Request::Examine, self.start_time)? {
            Reply::Examined(examination) => Ok(*examination),
            other => Err(unexpected(&other)),
        }
    }

    /// Has the token take the new PIN that the worker was started with; `None` when it is not known whether it did.
    pub(crate) fn set_pin(&mut self) -> Option<Result<(), TokenError>> {
        if let Err(error) = self.send(&Request::SetPin, self.start_time) {
            return Some(Err(error));
        }
        match self.receive(self.start_time) {
            Ok(Reply::PinSet) => Some(Ok(())),
            Ok(Reply::Fault(fault)) if fault.code == FaultCode::NewPin => Some(Err(fault.into())),
            _ => None,
        }
    }

    /// Makes the keys that are missing; returns them all, and the names of those made.
    pub(crate) fn init(&mut self) -> Result<(TokenKeys, Vec<String>), TokenError> {
        self.init_by(self.schemes, true)
    }

    /// Finds the keys again that the token has, and tries no canary: what it carries is not known then.
    pub(crate) fn init_untried(&mut self) -> Result<TokenKeys, TokenError> {
        self.init_by(NO_CHILDREN, false).map(|(keys, _)| keys)
    }

    fn init_by(
        &mut self,
        schemes: Schemes,
        sealing: bool,
    ) -> Result<(TokenKeys, Vec<String>), TokenError> {
        let challenge = challenge()?;
        match self.ask(&Request::Init { challenge, schemes, sealing }, self.start_time)? {
            Reply::Bound { keys, proofs, made } => {
                check_proofs(&keys, &proofs, &challenge)?;
                check_canaries(&keys, &schemes, &proofs, &challenge)?;
                Ok((TokenKeys::from_wire(keys), made))
            }
            other => Err(unexpected(&other)),
        }
    }

    /// Lets the worker find exactly these keys, and checks that it did.
    pub(crate) fn bind(&mut self, keys: &TokenKeys) -> Result<(), TokenError> {
        self.bind_by(keys, self.schemes)
    }

    /// The same by other schemes than those of the settings, to see which the token can carry.
    pub(crate) fn bind_by(&mut self, keys: &TokenKeys, schemes: Schemes) -> Result<(), TokenError> {
        let challenge = challenge()?;
        let wanted = keys.to_wire();
        let binding = Binding { keys: wanted.clone(), schemes, challenge };
        let question =
            if self.attending { Request::Attend(binding) } else { Request::Bind(binding) };
        match self.ask(&question, self.start_time)? {
            Reply::Bound { keys, proofs, .. } if keys == wanted => {
                check_proofs(&keys, &proofs, &challenge)?;
                check_canaries(&keys, &schemes, &proofs, &challenge)
                    .inspect_err(|_| self.failed = Some(Stage::Children))
            }
            Reply::Bound { .. } => {
                Err(TokenError::Keys("the worker bound other keys than those asked for".into()))
            }
            other => Err(unexpected(&other)),
        }
    }

    /// Has the token make a key for coins, or find the one that was made under this name before: its public half, and
    /// whether it is new. It is good for nothing before it is bound.
    pub(crate) fn make_born(&mut self, name: &str) -> Result<(PublicKey, bool), TokenError> {
        let question = Request::MakeBorn { name: name.to_owned() };
        match self.ask(&question, self.start_time)? {
            Reply::BornMade { public_key, new } => {
                PublicKey::from_slice(&public_key).map(|key| (key, new)).map_err(|_| {
                    TokenError::Keys(format!("token key {name} is no point of the curve"))
                })
            }
            other => Err(unexpected(&other)),
        }
    }

    /// Has the token make the one-time key of an import; its SubjectPublicKeyInfo. Refused while the token holds an AES key
    /// that is none of the known ones.
    pub(crate) fn open_import(
        &mut self,
        known: &TokenKeys,
        kwp_mechanism: u64,
    ) -> Result<Vec<u8>, TokenError> {
        let opening = ImportOpening { known: known.known_keks(), kwp_mechanism };
        match self.ask(&Request::OpenImport(opening), self.start_time)? {
            Reply::ImportOpened { spki } => Ok(spki),
            other => Err(unexpected(&other)),
        }
    }

    /// Has the token take a key-encryption key, which must open its canary, and destroy the one-time key. Then every AES key
    /// in the token must be it or a known one.
    pub(crate) fn import_kek(
        &mut self,
        file: &KekFile,
        known: &TokenKeys,
        kwp_mechanism: u64,
    ) -> Result<(), TokenError> {
        let challenge = challenge()?;
        let import = KekImport {
            import_key: file.import_key,
            wrapped: file.wrapped.clone(),
            kek: Kek { fingerprint: file.fingerprint(), canary: file.canary.clone() },
            known: known.known_keks(),
            kwp_mechanism,
            challenge,
        };
        match self.ask(&Request::ImportKek(import), self.start_time)? {
            Reply::KekImported { canary } if is_canarys(canary, &challenge)? => Ok(()),
            Reply::KekImported { .. } => {
                Err(TokenError::Keys("the key that was imported does not open its canary".into()))
            }
            other => Err(unexpected(&other)),
        }
    }

    /// A bound key's attributes, which are what they must be, one line each.
    pub(crate) fn describe(&mut self, key: &PublicKey) -> Result<Vec<String>, TokenError> {
        let question = Request::Describe { public_key: key.serialize().to_vec() };
        match self.ask(&question, self.start_time)? {
            Reply::Described(attributes) => Ok(attributes),
            other => Err(unexpected(&other)),
        }
    }

    /// Has the token destroy the one-time key; whether there was one.
    pub(crate) fn close_import(&mut self) -> Result<bool, TokenError> {
        match self.ask(&Request::CloseImport, self.start_time)? {
            Reply::ImportClosed { was_open } => Ok(was_open),
            other => Err(unexpected(&other)),
        }
    }

    /// Whether the token signs by the canary, wrapped in this way, as it must.
    pub(super) fn canary_holds(&mut self, by: WrappedBy) -> Result<bool, TokenError> {
        let challenge = challenge()?;
        let digest = Sha256::digest(challenge).into();
        match self.ask(&Request::Canary { by, digest }, self.start_time)? {
            Reply::Stated(signature) => is_canarys(signature, &challenge),
            other => Err(unexpected(&other)),
        }
    }

    /// The bound keys are there and as they must be, still.
    pub(super) fn check(&mut self) -> Result<(), TokenError> {
        match self.ask(&Request::Check, self.start_time)? {
            Reply::Checked => Ok(()),
            other => Err(unexpected(&other)),
        }
    }

    /// About the token's own memory of how long the log was: what it says.
    pub(crate) fn anchor(&mut self, ask: AnchorAsk) -> Result<Vec<Vec<u8>>, TokenError> {
        match self.ask(&Request::Anchor(ask), self.start_time)? {
            Reply::Anchor(said) => Ok(said),
            other => Err(unexpected(&other)),
        }
    }

    /// Whether the token took its PIN.
    pub(crate) fn is_logged_in(&self) -> bool {
        self.logged_in
    }

    /// The token, as it described itself.
    pub(crate) fn info(&self) -> &TokenInfo {
        &self.info
    }

    /// Asks and waits for the answer. A fault is an error here.
    pub(crate) fn ask(&mut self, question: &Request, time: Duration) -> Result<Reply, TokenError> {
        (self.said_no, self.failed) = (false, None);
        self.send(question, time)?;
        match self.receive(time)? {
            Reply::Fault(fault) => {
                self.said_no = true;
                self.failed = fault.stage.filter(|_| fault.code != FaultCode::TokenGone);
                Err(fault.into())
            }
            reply => Ok(reply),
        }
    }

    /// Whether the last question was answered, by a fault.
    pub(super) fn said_no(&self) -> bool {
        self.said_no
    }

    /// Whose canary failed when the keys were bound, if that was all.
    pub(crate) fn failed(&self) -> Option<Stage> {
        self.failed
    }

    /// Sends without waiting for the answer.
    pub(super) fn send(&mut self, question: &Request, time: Duration) -> Result<(), TokenError> {
        self.stream
            .set_write_timeout(Some(time))
            .map_err(|error| TokenError::Unavailable(error.to_string()))?;
        let most = operations::at_most(question);
        self.unheard = self.unheard.saturating_add(most);
        self.operations.asked(&self.info.serial, most);
        token_wire::write(&mut self.stream, question).map_err(|error| self.broken(&error, time))
    }

    /// Waits for the next answer.
    pub(super) fn receive(&mut self, time: Duration) -> Result<Reply, TokenError> {
        let until = Instant::now().checked_add(time);
        let answer = token_wire::read(&mut Timed { stream: &self.stream, until });
        match answer {
            Ok(Some(Answered { reply, operations })) => {
                let asked = std::mem::take(&mut self.unheard);
                self.operations.answered(&self.info.serial, asked, operations);
                Ok(reply)
            }
            Ok(None) => Err(self.broken(&FrameError::Io(ErrorKind::UnexpectedEof.into()), time)),
            Err(error) => Err(self.broken(&error, time)),
        }
    }

    /// Ends the worker in good order.
    pub(crate) fn close(mut self) {
        let bye = self.ask(&Request::Shutdown, Duration::from_secs(5));
        if matches!(bye, Ok(Reply::Bye))
            && let Some(mut child) = self.child.take()
        {
            // It said goodbye and ends by itself; a vendor's clean-up may still need a moment.
            let until = Instant::now().checked_add(Duration::from_secs(5));
            while until.is_some_and(|until| Instant::now() < until) {
                if child.ended() {
                    return;
                }
                std::thread::sleep(Duration::from_millis(5));
            }
            self.child = Some(child);
        }
    }

    fn log_in(
        &mut self,
        latch: &Latch,
        pin_file: Option<&std::path::Path>,
    ) -> Result<(), TokenError> {
        let state = self.pin_state(latch.last_try_allowed()?)?;
        let attempt = latch.begin(pin_file, state.wrong_before)?;
        // Whatever happens here, the token has not seen the PIN.
        if let Err(error) = self.announce_pin() {
            match &error {
                TokenError::PinLatched(text) | TokenError::PinWrong(text) => {
                    attempt.refused(text)?;
                }
                _ => attempt.not_sent()?,
            }
            return Err(error);
        }
        // From here on a broken line leaves the attempt's note on disk: nobody knows whether the token counted it.
        match self.receive(self.start_time)? {
            Reply::LoggedIn => attempt.accepted(),
            Reply::Fault(fault) if fault.code.refuses_pin() => {
                attempt.refused(&fault.text)?;
                Err(fault.into())
            }
            // The PIN was sent, and may have been counted: the note stays.
            other => Err(unexpected(&other)),
        }
    }

    /// What the token says about its PIN.
    fn pin_state(&mut self, last_try: bool) -> Result<PinState, TokenError> {
        match self.ask(&Request::Pin { last_try }, self.start_time)? {
            Reply::Pin(state) => Ok(state),
            other => Err(unexpected(&other)),
        }
    }

    /// Has the worker log in, and comes back the moment before it sends the PIN.
    fn announce_pin(&mut self) -> Result<(), TokenError> {
        match self.ask(&Request::Login, self.start_time)? {
            Reply::SendingPin => Ok(()),
            other => Err(unexpected(&other)),
        }
    }

    /// Kills the worker: whatever it does now, nobody listens.
    fn broken(&mut self, error: &FrameError, time: Duration) -> TokenError {
        let late = matches!(error, FrameError::Io(error) if is_late(error));
        let ended = self.kill();
        TokenError::Unavailable(if late {
            format!("a token worker did not answer within {} s and was killed", time.as_secs())
        } else {
            match ended {
                Some(status) => format!("a token worker ended ({status})"),
                None => format!("a token worker's line broke: {error}"),
            }
        })
    }

    fn kill(&mut self) -> Option<std::process::ExitStatus> {
        self.operations.lost(&self.info.serial, std::mem::take(&mut self.unheard));
        let _ = self.stream.shutdown(std::net::Shutdown::Both);
        self.child.take()?.kill()
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Reads with what is left of the time.
struct Timed<'a> {
    stream: &'a UnixStream,
    until: Option<Instant>,
}

impl Read for Timed<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self
            .until
            .map(|until| until.duration_since(Instant::now()))
            .filter(|left| !left.is_zero())
            .ok_or(ErrorKind::TimedOut)?;
        self.stream.set_read_timeout(Some(left))?;
        self.stream.read(buffer)
    }
}

fn is_late(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

fn unexpected(reply: &Reply) -> TokenError {
    match reply {
        Reply::Fault(fault) => fault.clone().into(),
        _ => TokenError::Unavailable("a token worker answered another question".into()),
    }
}

/// Fresh bytes, so that no proof can be an old one.
fn challenge() -> Result<[u8; 32], TokenError> {
    let mut bytes = [0_u8; 32];
    getrandom::fill(&mut bytes)
        .map_err(|error| TokenError::Unavailable(format!("no random bytes: {error}")))?;
    Ok(bytes)
}

fn unproven(name: &str) -> Result<(), TokenError> {
    Err(TokenError::Keys(format!(
        "the token's {name} key does not sign for the public key that was asked for"
    )))
}

/// The private halves are those keys': both Ed25519 keys and those for coins signed the challenge.
fn check_proofs(
    keys: &Keys,
    proofs: &BindingProofs,
    challenge: &[u8; 32],
) -> Result<(), TokenError> {
    let statement = Binding::statement(challenge);
    if !verify::ed25519(proofs.attestation, &statement, &keys.attestation) {
        return unproven("attestation");
    }
    if !verify::ed25519(proofs.checkpoint, &statement, &keys.checkpoint) {
        return unproven("checkpoint");
    }
    if proofs.born.len() != keys.born.len() {
        return unproven("coins'");
    }
    for (key, proof) in keys.born.iter().zip(&proofs.born) {
        let digest = Sha256::digest(Binding::born_statement(challenge, key)).into();
        let public = PublicKey::from_slice(key).ok();
        if public.and_then(|public| verify::ecdsa(*proof, digest, &public)).is_none() {
            return unproven(&hex::encode(key));
        }
    }
    Ok(())
}

/// In each way that children are wrapped, what was wrapped came out as the canary.
fn check_canaries(
    keys: &Keys,
    schemes: &Schemes,
    proofs: &BindingProofs,
    challenge: &[u8; 32],
) -> Result<(), TokenError> {
    let proven: Vec<WrappedBy> = proofs.canaries.iter().map(|(way, _)| *way).collect();
    if proven != schemes.ways(&keys.keks) {
        return unproven("wrapping");
    }
    for (way, signature) in &proofs.canaries {
        if !is_canarys(*signature, challenge)? {
            return unproven(match way {
                WrappedBy::OaepSha1 | WrappedBy::OaepSha256 => "wrapping",
                WrappedBy::Kek(_) => "key-encryption",
            });
        }
    }
    Ok(())
}

/// Whether the canary signed the challenge.
fn is_canarys(signature: RawSignature, challenge: &[u8; 32]) -> Result<bool, TokenError> {
    let canary = PublicKey::from_slice(&token_wire::CANARY_PUBLIC_KEY)
        .map_err(|error| TokenError::Keys(error.to_string()))?;
    Ok(verify::ecdsa(signature, Sha256::digest(challenge).into(), &canary).is_some())
}
