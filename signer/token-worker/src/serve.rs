//! Question and answer over the socket, until it closes. It never answers out of order, and does nothing with
//! the token but what the question needs.

use std::os::unix::net::UnixStream;

use anyhow::Context as _;
use sha2::{Digest, Sha256};
use token_wire::{
    AnchorAsk, Answered, Binding, BindingProofs, BornBatch, Counters, Fault, FaultCode, Keys,
    RawSignature, Reply, Request, Schemes, SealedAccount, SealedBatch, Stage, StatementKey,
    VERSION, WrappedBy,
};

use crate::args::Args;
use crate::keys::{Finder, Import, KeyRing, born_name};
use crate::scheme::{Unwrapper, oaep, oaep_sha256};
use crate::sealed::Open;
use crate::sealing::Sealing;
use crate::session::Session;
use crate::sign::{self, Children};
use crate::tally::Tally;
use crate::token::{TRIES_MAX, Token};
use crate::watchdog::Watchdog;
use crate::{anchor, canary, examine, expect, kek_trial, numbers};

/// Answers until the signer closes the socket or says goodbye.
pub(crate) fn serve(socket: &mut UnixStream, args: &Args) -> anyhow::Result<()> {
    let watchdog = Watchdog::start(args.seconds_max.into())?;
    let counters = Counters::default();
    let mut worker = Worker {
        args,
        token: None,
        ready: None,
        open: Open::default(),
        counters,
        attending: false,
        tally: Tally::default(),
    };
    while let Some(question) = token_wire::read::<Request>(socket).context("bad question")? {
        let last = question == Request::Shutdown;
        let reply = watchdog.watch(|| worker.answer(question, socket));
        let operations = worker.tally.take();
        token_wire::write(socket, &Answered { reply, operations }).context("cannot answer")?;
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
    /// Statements alone: an import may be open.
    attending: bool,
    /// What the token did since the last answer.
    tally: Tally,
}

/// A session, and whether the token took the PIN in it.
struct LoggedIn {
    token: Token,
    yes: bool,
}

/// Keys found and checked.
pub(crate) struct Ready {
    pub(crate) keys: KeyRing,
    schemes: Schemes,
    import: Import,
    /// The canary, wrapped in each way that children may be.
    canaries: Vec<(WrappedBy, Vec<u8>)>,
    /// The sealed canary, where the token has a sealing key.
    sealing: Option<SealedAccount>,
}

impl Ready {
    /// By what a child that is wrapped like this is unwrapped, and the canary wrapped in the same way.
    pub(crate) fn way(&self, by: WrappedBy) -> Result<(Unwrapper, &[u8]), Fault> {
        let unwrapper = Unwrapper::of(by, &self.keys, &self.schemes)?;
        let canary = self.canaries.iter().find(|(way, _)| *way == by);
        let (_, canary) = canary.ok_or_else(out_of_order)?;
        Ok((unwrapper, canary))
    }

    /// A fresh session, and the same keys found and checked in it: the old handles may be worth nothing.
    pub(crate) fn renew(
        &mut self,
        token: &mut Token,
        counters: &mut Counters,
    ) -> Result<(), Fault> {
        token.renew()?;
        self.find_again(token, counters)
    }

    /// The same keys, found and checked once more. Where they were and are not any more, the token went away.
    fn find_again(&mut self, token: &mut Token, counters: &mut Counters) -> Result<(), Fault> {
        let (public, schemes, import) = (self.keys.public.clone(), self.schemes, self.import);
        let found =
            token.steadily(|session| Finder { session, counters }.bind(&public, &schemes, import));
        self.keys = found.map_err(|fault| match fault.code {
            FaultCode::KeyMissing => Fault::new(
                FaultCode::TokenGone,
                "the token does not show its keys any more: it was taken away or changed",
            ),
            _ => fault,
        })?;
        Ok(())
    }
}

impl Worker<'_> {
    fn answer(&mut self, question: Request, socket: &mut UnixStream) -> Reply {
        let answer = match question {
            Request::Hello { .. } => {
                Ok(Reply::Hello { version: VERSION, program: env!("CARGO_PKG_VERSION").to_owned() })
            }
            Request::Open { write, mechanisms } => {
                numbers::set(&mechanisms).and_then(|()| self.open(write))
            }
            Request::Pin { last_try } => self.pin_state(last_try),
            Request::Login => self.log_in(socket),
            Request::Init { challenge, schemes, sealing } => {
                self.bind(None, (schemes, sealing), &challenge)
            }
            Request::Bind(Binding { keys, schemes, challenge }) => {
                self.bind(Some(&keys), (schemes, true), &challenge)
            }
            Request::Attend(Binding { keys, schemes, challenge }) => {
                self.attending = true;
                let schemes = Schemes { kwp_mechanism: None, ..schemes };
                self.bind(Some(&keys), (schemes, true), &challenge)
            }
            Request::OpenImport(opening) => {
                self.importing(|finder, _| finder.open_import(&opening))
            }
            Request::ImportKek(import) => {
                self.importing(|finder, counters| finder.import_kek(&import, counters))
            }
            Request::CloseImport => self.importing(|finder, _| finder.close_import()),
            Request::Sign(batch) => self.sign(&batch),
            Request::Sealed(batch) => self.sealed(&batch),
            Request::Statement { key, message } => self.statement(key, &message),
            Request::Canary { by, digest } => self.canary(by, &digest),
            Request::Check => self.check(),
            Request::Counters => Ok(Reply::Counters(self.counters)),
            Request::Examine => self.examine(),
            Request::SetPin => self.set_pin(),
            Request::MakeBorn { name } => self.make_born(&name),
            Request::Describe { public_key } => self.describe(&public_key),
            Request::Born(batch) => self.born(&batch),
            Request::Anchor(ask) => self.anchor(&ask),
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
        let (token, info) = Token::open(self.args, write, &self.tally)?;
        self.token = Some(LoggedIn { token, yes: false });
        Ok(Reply::Opened(info))
    }

    fn examine(&self) -> Result<Reply, Fault> {
        let token = &self.token.as_ref().ok_or_else(out_of_order)?.token;
        let (pkcs11, slot) = token.module();
        let examination = examine::examine(pkcs11, slot, self.args.lacking.clone())?;
        Ok(Reply::Examined(Box::new(examination)))
    }

    /// What changes objects does so in a session of its own, for which this one stays read-only.
    fn anchor(&mut self, ask: &AnchorAsk) -> Result<Reply, Fault> {
        let LoggedIn { token, yes } = self.token.as_mut().ok_or_else(out_of_order)?;
        if !*yes && *ask != AnchorAsk::Look {
            return Err(out_of_order());
        }
        anchor::answer(token, ask).map(Reply::Anchor)
    }

    fn set_pin(&self) -> Result<Reply, Fault> {
        let (Some(LoggedIn { token, yes: true }), Some(new)) = (&self.token, &self.args.new_pin)
        else {
            return Err(out_of_order());
        };
        token.set_pin(new)?;
        Ok(Reply::PinSet)
    }

    fn pin_state(&mut self, last_try: bool) -> Result<Reply, Fault> {
        let token = self.token.as_mut().ok_or_else(out_of_order)?;
        token.token.pin_state(last_try).map(Reply::Pin)
    }

    /// The signer hears of it the moment before: a worker that ends earlier has cost no try.
    fn log_in(&mut self, socket: &mut UnixStream) -> Result<Reply, Fault> {
        let token = self.token.as_mut().ok_or_else(out_of_order)?;
        self.counters.logins = self.counters.logins.saturating_add(1);
        let keep = self.args.new_pin.is_some();
        token.token.log_in(keep, keep || self.args.new_pin_tried, || {
            token_wire::write(socket, &Answered::from(Reply::SendingPin))
                .map_err(|error| Fault::new(FaultCode::BadRequest, error.to_string()))
        })?;
        token.yes = true;
        Ok(Reply::LoggedIn)
    }

    /// Finds the keys (with no keys given, makes those that are missing), checks them, tries everything on the
    /// canary, and proves the keys to the signer.
    fn bind(
        &mut self,
        wanted: Option<&Keys>,
        (schemes, sealing): (Schemes, bool),
        challenge: &[u8; 32],
    ) -> Result<Reply, Fault> {
        let token = match &mut self.token {
            Some(LoggedIn { token, yes: true }) if self.ready.is_none() => token,
            _ => return Err(out_of_order()),
        };
        let counters = &mut self.counters;
        let import = if self.attending { Import::MayBeOpen } else { Import::MustBeOver };
        // What is made is made once: only looking is repeated.
        let (keys, made) = match wanted {
            Some(wanted) => {
                let find =
                    |session: &Session| Finder { session, counters }.bind(wanted, &schemes, import);
                (token.steadily(find)?, Vec::new())
            }
            None => Finder { session: token.session(), counters }.init(&schemes)?,
        };
        let statement = Binding::statement(challenge);
        let digest: [u8; 32] = Sha256::digest(challenge).into();
        let mut prove =
            |key| token.steadily(|session| sign::statement(session, key, &statement, counters));
        let (attestation, checkpoint) = (prove(keys.attestation)?, prove(keys.checkpoint)?);
        let mut born = Vec::with_capacity(keys.born.len());
        for (public_key, key) in &keys.born {
            let statement = Binding::born_statement(challenge, public_key);
            let digest: [u8; 32] = Sha256::digest(statement).into();
            born.push(token.steadily(|session| sign::by_born(session, *key, &digest))?);
        }
        let (canaries, signed) = try_children(token, &keys, &schemes, &digest, counters)
            .map_err(|fault| fault.at(Stage::Children))?;
        let proofs = BindingProofs { attestation, checkpoint, canaries: signed, born };
        let sealing = match sealing {
            true => try_sealing(token, &keys, &schemes, counters),
            false => Ok(None),
        };
        let sealing = sealing.map_err(|fault| fault.at(Stage::Sealing))?;
        let public = keys.public.clone();
        self.ready = Some(Ready { keys, schemes, import, canaries, sealing });
        Ok(Reply::Bound { keys: public, proofs: Box::new(proofs), made })
    }

    /// Before the keys are bound, which an open import forbids.
    fn importing(
        &mut self,
        work: impl FnOnce(&mut Finder<'_>, &mut Counters) -> Result<Reply, Fault>,
    ) -> Result<Reply, Fault> {
        match &self.token {
            Some(LoggedIn { token, yes: true }) if self.ready.is_none() => {
                let mut apart = Counters::default();
                let mut finder = Finder { session: token.session(), counters: &mut self.counters };
                work(&mut finder, &mut apart)
            }
            _ => Err(out_of_order()),
        }
    }

    fn sign(&mut self, batch: &token_wire::Batch) -> Result<Reply, Fault> {
        let (token, ready, counters) = self.serving()?;
        let outcomes = sign::batch(token, ready, batch, counters)?;
        Ok(Reply::Signed { id: batch.id, outcomes })
    }

    /// As with children: after an error of the token in a fresh session, with the keys found anew.
    fn sealed(&mut self, batch: &SealedBatch) -> Result<Reply, Fault> {
        let (Some(LoggedIn { token, .. }), Some(ready), false) =
            (&mut self.token, &mut self.ready, self.attending)
        else {
            return Err(out_of_order());
        };
        let mut tried = 1;
        let outcomes = loop {
            let (Some(key), Some(canary)) = (ready.keys.sealing, &ready.sealing) else {
                let text = match ready.keys.sealing {
                    Some(_) => {
                        "the token refuses RSA-OAEP with SHA-1, by which accounts are sealed"
                    }
                    None => "the token has no sealing key: run `signer init`",
                };
                return Err(Fault::new(FaultCode::KeyMissing, text));
            };
            let sealing = Sealing::new(token.session(), key);
            match self.open.batch(&sealing, canary, batch, &mut self.counters) {
                Err(Fault { code: FaultCode::Token | FaultCode::TokenGone, .. })
                    if tried < TRIES_MAX =>
                {
                    tried = tried.saturating_add(1);
                    ready.renew(token, &mut self.counters)?;
                }
                answer => break answer?,
            }
        };
        Ok(Reply::Signed { id: batch.id, outcomes })
    }

    fn born(&mut self, batch: &BornBatch) -> Result<Reply, Fault> {
        let (token, ready, counters) = self.serving()?;
        let outcomes = sign::born(token, ready, batch, counters)?;
        Ok(Reply::Signed { id: batch.id, outcomes })
    }

    fn make_born(&mut self, name: &str) -> Result<Reply, Fault> {
        let (token, _, counters) = self.serving()?;
        let made = Finder { session: token.session(), counters }.make_born(name);
        made.map(|(public_key, new)| Reply::BornMade { public_key, new })
    }

    fn describe(&mut self, public_key: &[u8]) -> Result<Reply, Fault> {
        let (token, ready, _) = self.ready()?;
        let key = ready.keys.born(public_key)?;
        let name = born_name(public_key);
        let shown = token.steadily(|session| expect::check_born(session, key, &name))?;
        Ok(Reply::Described(shown))
    }

    fn statement(&mut self, key: StatementKey, message: &[u8]) -> Result<Reply, Fault> {
        let (token, ready, counters) = self.ready()?;
        let handle = |ready: &Ready| match key {
            StatementKey::Attestation => ready.keys.attestation,
            StatementKey::Checkpoint => ready.keys.checkpoint,
        };
        let first = sign::statement(token.session(), handle(ready), message, counters);
        let signed = match first {
            Err(fault) if fault.code != FaultCode::BadRequest => {
                ready.renew(token, counters)?;
                token.steadily(|session| sign::statement(session, handle(ready), message, counters))
            }
            first => first,
        };
        signed.map(Reply::Stated)
    }

    /// What the token makes of a key that is good, by the way that another one went wrong.
    fn canary(&mut self, by: WrappedBy, digest: &[u8; 32]) -> Result<Reply, Fault> {
        let (token, ready, counters) = self.serving()?;
        let signed = token.steadily(|session| {
            let (unwrapper, canary) = ready.way(by)?;
            Children::new(session, &unwrapper, canary).canary(digest, counters)
        })?;
        Ok(Reply::Stated(signed))
    }

    /// The keys are there and as they must be, still.
    fn check(&mut self) -> Result<Reply, Fault> {
        let (token, ready, counters) = self.ready()?;
        ready.find_again(token, counters)?;
        Ok(Reply::Checked)
    }

    /// As [`Self::ready`], for what signs more than statements.
    fn serving(&mut self) -> Result<(&mut Token, &mut Ready, &mut Counters), Fault> {
        if self.attending { Err(out_of_order()) } else { self.ready() }
    }

    fn ready(&mut self) -> Result<(&mut Token, &mut Ready, &mut Counters), Fault> {
        match (&mut self.token, &mut self.ready) {
            (Some(LoggedIn { token, .. }), Some(ready)) => Ok((token, ready, &mut self.counters)),
            _ => Err(out_of_order()),
        }
    }
}

/// Canaries, wrapped in each way that children may be, and what they signed.
type Canaries = (Vec<(WrappedBy, Vec<u8>)>, Vec<(WrappedBy, RawSignature)>);

/// Tries everything on a canary child of each way.
fn try_children(
    token: &mut Token,
    keys: &KeyRing,
    schemes: &Schemes,
    digest: &[u8; 32],
    counters: &mut Counters,
) -> Result<Canaries, Fault> {
    let (mut canaries, mut signed) = (Vec::new(), Vec::new());
    for way in schemes.ways(&keys.public.keks) {
        let canary = token.steadily(|session| wrapped_canary(session, way, &keys.public))?;
        let unwrapper = Unwrapper::of(way, keys, schemes)?;
        if matches!(way, WrappedBy::Kek(_)) {
            token.steadily(|session| kek_trial::try_everything(session, &unwrapper))?;
        }
        token.steadily(|session| canary::try_everything(session, &unwrapper, &canary))?;
        let proof = token.steadily(|session| {
            Children::new(session, &unwrapper, &canary).canary(digest, counters)
        })?;
        signed.push((way, proof));
        canaries.push((way, canary));
    }
    Ok((canaries, signed))
}

/// Tries everything on a sealed canary, where the token has a sealing key.
fn try_sealing(
    token: &mut Token,
    keys: &KeyRing,
    schemes: &Schemes,
    counters: &mut Counters,
) -> Result<Option<SealedAccount>, Fault> {
    let (Some(key), Some(spki)) = (keys.sealing, &keys.public.sealing_spki) else {
        return Ok(None);
    };
    token.steadily(|session| {
        let sealing = Sealing::new(session, key);
        // Settings that leave SHA-1 out may be for a token that lacks it, which carries no sealed account.
        if !schemes.oaep_sha1 && !sealing.is_there(spki)? {
            return Ok(None);
        }
        sealing.try_everything(spki, counters).map(Some)
    })
}

/// The canary as a ceremony wraps a child in this way. Under a key-encryption key the ceremony did.
fn wrapped_canary(session: &Session, way: WrappedBy, keys: &Keys) -> Result<Vec<u8>, Fault> {
    let wrap = |mechanism| {
        let (spki, canary) = (&keys.wrapping_spki, &canary::CANARY_PKCS8);
        canary::wrap_by(session, spki, &mechanism, canary)
    };
    match way {
        WrappedBy::OaepSha1 => wrap(oaep()),
        WrappedBy::OaepSha256 => wrap(oaep_sha256()),
        WrappedBy::Kek(fingerprint) => {
            let kek = keys.keks.iter().find(|kek| kek.fingerprint == fingerprint);
            kek.map(|kek| kek.canary.clone()).ok_or_else(out_of_order)
        }
    }
}

fn out_of_order() -> Fault {
    Fault::new(FaultCode::BadRequest, "this question does not come now")
}
