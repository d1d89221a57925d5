//! Signatures by a sealed account's children: the account is opened by the token once, signs while work comes in, and
//! is wiped as soon as none does. It never outlives the batch by more than the moment [`IDLE`], and never
//! writes anything down.

use std::os::unix::net::UnixStream;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use token_wire::{
    BATCH_JOBS_MAX, Counters, Fault, FaultCode, JobFault, JobOutcome, SEALED_BYTES_MAX,
    SealedAccount, SealedBatch,
};
use zeroize::Zeroizing;

use crate::derive::Account;
use crate::fault;
use crate::sealing::{PLAIN_BYTES, Sealing};

/// How long an opened account waits for more work before it is wiped: the time between two batches of one request,
/// with room for a busy machine.
pub(crate) const IDLE: Duration = Duration::from_millis(50);

/// Times in a row that a token must refuse an account, while it takes the canary, until it is believed. More than with a
/// child: opening an account is three calls that may say nothing but that they failed.
const REFUSALS: u32 = 5;

/// An opened account, if one is open.
#[derive(Default)]
pub(crate) struct Open(Option<(SealedAccount, Account)>);

impl Open {
    /// Wipes the account unless the next question comes at once.
    pub(crate) fn wait_or_wipe(&mut self, socket: &UnixStream) {
        if self.0.is_none() {
            return;
        }
        let nanoseconds = i64::from(IDLE.subsec_nanos());
        let time = Timespec { tv_sec: 0, tv_nsec: nanoseconds };
        let mut line = [PollFd::new(socket, PollFlags::IN)];
        // An error means no question either.
        if !poll(&mut line, Some(&time)).is_ok_and(|ready| ready > 0) {
            self.wipe();
        }
    }

    /// Wipes the account.
    pub(crate) fn wipe(&mut self) {
        self.0 = None;
    }

    /// Does the jobs in order. An account that does not open while the canary does is refused; one that fails
    /// together with the canary is the token's fault.
    pub(crate) fn batch(
        &mut self,
        sealing: &Sealing<'_>,
        canary: &SealedAccount,
        batch: &SealedBatch,
        counters: &mut Counters,
    ) -> Result<Vec<JobOutcome>, Fault> {
        if batch.jobs.len() > BATCH_JOBS_MAX || batch.account.blob.len() > SEALED_BYTES_MAX {
            return Err(Fault::new(FaultCode::BadRequest, "a batch beyond its limits"));
        }
        let account = match self.account(sealing, canary, &batch.account, counters)? {
            Ok(account) => account,
            Err(text) => {
                let refused = || JobOutcome::Refused(JobFault { text: text.clone() });
                return Ok(batch.jobs.iter().map(|_| refused()).collect());
            }
        };
        let sign = |job| {
            counters.signs = counters.signs.saturating_add(1);
            account.sign(job).map_or_else(
                |error| JobOutcome::Refused(JobFault { text: error.to_string() }),
                JobOutcome::Signed,
            )
        };
        Ok(batch.jobs.iter().map(sign).collect())
    }

    /// The account asked for: the one that is open, or it is opened now. The inner error is a verdict on it.
    fn account(
        &mut self,
        sealing: &Sealing<'_>,
        canary: &SealedAccount,
        wanted: &SealedAccount,
        counters: &mut Counters,
    ) -> Result<Result<&mut Account, String>, Fault> {
        if self.0.as_ref().is_none_or(|(open, _)| open != wanted) {
            self.wipe();
            let plain = match open(sealing, canary, wanted, counters)? {
                Ok(plain) => plain,
                Err(text) => return Ok(Err(text)),
            };
            let plain: &[u8; PLAIN_BYTES] = match plain.as_slice().try_into() {
                Ok(plain) => plain,
                Err(_) => return Ok(Err("it is no account".to_owned())),
            };
            match Account::open(plain) {
                Ok(account) => self.0 = Some((wanted.clone(), account)),
                Err(error @ crate::derive::DeriveError::NoKey) => {
                    return Ok(Err(error.to_string()));
                }
                Err(error) => return Err(Fault::new(FaultCode::Token, error.to_string())),
            }
        }
        match &mut self.0 {
            Some((_, account)) => Ok(Ok(account)),
            None => Ok(Err("it is no account".to_owned())),
        }
    }
}

/// As with a child: an error that the account may be to blame for is believed after so many in a row, and with the
/// canary's word. Any other is the token's, and the caller goes on in a fresh session.
fn open(
    sealing: &Sealing<'_>,
    canary: &SealedAccount,
    wanted: &SealedAccount,
    counters: &mut Counters,
) -> Result<Result<Zeroizing<Vec<u8>>, String>, Fault> {
    let mut blamed = 0;
    loop {
        let error = match sealing.open(wanted, counters) {
            Ok(plain) => return Ok(Ok(plain)),
            Err(error) => error,
        };
        blamed = u32::saturating_add(blamed, 1);
        if !fault::blames_key(&error) {
            return Err(fault::token("open a sealed account", &error));
        }
        if blamed >= REFUSALS {
            sealing
                .canary(canary, counters)
                .map_err(|_| fault::token("open a sealed account", &error))?;
            return Ok(Err(fault::short(&error)));
        }
    }
}
