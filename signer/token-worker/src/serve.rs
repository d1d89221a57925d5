//! Question and answer over the socket, until it closes. It never answers out of order, and does nothing with
//! the token but what the question needs.

use std::os::unix::net::UnixStream;

use anyhow::Context as _;
use cryptoki::object::ObjectHandle;
use sha2::{Digest, Sha256};
use token_wire::{
    Binding, BindingProofs, Counters, Fault, FaultCode, Reply, Request, SealedAccount, SealedBatch,
    StatementKey, VERSION,
};

use crate::keys::{Finder, KeyRing};
use crate::sealed::Open;
use crate::sealing::Sealing;
use crate::sign::{self, Children};
use crate::token::Token;
use crate::watchdog::Watchdog;
use crate::{Args, canary};

/// Answers until the signer closes the socket or says goodbye.
pub(crate) fn serve(socket: &mut UnixStream, args: &Args) -> anyhow::Result<()> {
    let watchdog = Watchdog::start(args.seconds_max.into())?;
    let counters = Counters::default();
    let mut worker = Worker { args, token: None, ready: None, open: Open::default(), counters };
    while let Some(question) = token_wire::read::<Request>(socket).context("bad question")? {
        let last = question == Request::Shutdown;
        let answer = watchdog.watch(|| worker.answer(question));
        token_wire::write(socket, &answer).context("cannot answer")?;
        worker.open.wait_or_wipe(socket);
        if last {
            break;
        }
    }
    Ok(())
}

struct Worker<'a> {
    args: &'a Args,
    token: Option<LoggedIn>,
    ready: Option<Ready>,
    open: Open,
    counters: Counters,
}

/// A session, and whether the token took the PIN in it.
struct LoggedIn {
    token: Token,
    yes: bool,
}

/// Keys found and checked.
struct Ready {
    keys: KeyRing,
    canary: Vec<u8>,
    /// Sealing key and sealed canary, where the token has that key.
    sealing: Option<(ObjectHandle, SealedAccount)>,
}

impl Worker<'_> {
    fn answer(&mut self, question: Request) -> Reply {
        let answer = match question {
            Request::Hello { .. } => {
                Ok(Reply::Hello { version: VERSION, program: env!("CARGO_PKG_VERSION").to_owned() })
            }
            Request::Open { write } => self.open(write),
            Request::Login => self.log_in(),
            Request::Init { challenge } => self.bind(None, &challenge),
            Request::Bind(Binding { keys, challenge }) => self.bind(Some(&keys), &challenge),
            Request::Sign(batch) => self.sign(&batch),
            Request::Sealed(batch) => self.sealed(&batch),
            Request::Statement { key, message } => self.statement(key, &message),
            Request::Counters => Ok(Reply::Counters(self.counters)),
            Request::Shutdown => {
                self.open.wipe();
                (self.ready, self.token) = (None, None);
                Ok(Reply::Bye)
            }
        };
        answer.unwrap_or_else(Reply::Fault)
    }

    fn open(&mut self, write: bool) -> Result<Reply, Fault> {
        if self.token.is_some() {
            return Err(out_of_order());
        }
        let (token, info) = Token::open(self.args, write)?;
        self.token = Some(LoggedIn { token, yes: false });
        Ok(Reply::Opened(info))
    }

    fn log_in(&mut self) -> Result<Reply, Fault> {
        let token = self.token.as_mut().ok_or_else(out_of_order)?;
        self.counters.logins = self.counters.logins.saturating_add(1);
        token.token.log_in()?;
        token.yes = true;
        Ok(Reply::LoggedIn)
    }

    /// Finds the keys (with no keys given, makes those that are missing), checks them, tries everything on the
    /// canary, and proves the keys to the signer.
    fn bind(
        &mut self,
        wanted: Option<&token_wire::Keys>,
        challenge: &[u8; 32],
    ) -> Result<Reply, Fault> {
        let session = match &self.token {
            Some(LoggedIn { token, yes: true }) if self.ready.is_none() => token.session(),
            _ => return Err(out_of_order()),
        };
        let mut finder = Finder { session, counters: &mut self.counters };
        let (keys, made) = match wanted {
            Some(wanted) => (finder.bind(wanted)?, Vec::new()),
            None => finder.init()?,
        };
        let wrapped = canary::wrap(session, &keys.public.wrapping_spki, &canary::CANARY_PKCS8)?;
        canary::try_everything(session, keys.wrapping, &wrapped)?;
        let statement = Binding::statement(challenge);
        let digest: [u8; 32] = Sha256::digest(challenge).into();
        let children = Children::new(session, keys.wrapping, &wrapped);
        let counters = &mut self.counters;
        let proofs = BindingProofs {
            attestation: sign::statement(session, keys.attestation, &statement, counters)?,
            checkpoint: sign::statement(session, keys.checkpoint, &statement, counters)?,
            canary: children.canary(&digest, counters)?,
        };
        let sealing = match (keys.sealing, &keys.public.sealing_spki) {
            (Some(key), Some(spki)) => {
                Some((key, Sealing::new(session, key).try_everything(spki, counters)?))
            }
            _ => None,
        };
        let public = keys.public.clone();
        self.ready = Some(Ready { keys, canary: wrapped, sealing });
        Ok(Reply::Bound { keys: public, proofs: Box::new(proofs), made })
    }

    fn sign(&mut self, batch: &token_wire::Batch) -> Result<Reply, Fault> {
        let (token, ready) = ready(&self.token, &self.ready)?;
        let children = Children::new(token.session(), ready.keys.wrapping, &ready.canary);
        let outcomes = children.batch(batch, &mut self.counters)?;
        Ok(Reply::Signed { id: batch.id, outcomes })
    }

    fn sealed(&mut self, batch: &SealedBatch) -> Result<Reply, Fault> {
        let (token, ready) = ready(&self.token, &self.ready)?;
        let (key, canary) = ready.sealing.as_ref().ok_or_else(|| {
            Fault::new(FaultCode::KeyMissing, "the token has no sealing key: run `signer init`")
        })?;
        let sealing = Sealing::new(token.session(), *key);
        let outcomes = self.open.batch(&sealing, canary, batch, &mut self.counters)?;
        Ok(Reply::Signed { id: batch.id, outcomes })
    }

    fn statement(&mut self, key: StatementKey, message: &[u8]) -> Result<Reply, Fault> {
        let (token, ready) = ready(&self.token, &self.ready)?;
        let handle = match key {
            StatementKey::Attestation => ready.keys.attestation,
            StatementKey::Checkpoint => ready.keys.checkpoint,
        };
        sign::statement(token.session(), handle, message, &mut self.counters).map(Reply::Stated)
    }
}

fn ready<'a>(
    token: &'a Option<LoggedIn>,
    ready: &'a Option<Ready>,
) -> Result<(&'a Token, &'a Ready), Fault> {
    match (token, ready) {
        (Some(LoggedIn { token, .. }), Some(ready)) => Ok((token, ready)),
        _ => Err(out_of_order()),
    }
}

fn out_of_order() -> Fault {
    Fault::new(FaultCode::BadRequest, "this question does not come now")
}
