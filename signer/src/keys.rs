//! `signer key`: what may be done with a wallet's keys, said by a person at the signer's machine and written to the log.
//! It never touches the token, and never makes good again what was retired or compromised.
//!
//! People name a wallet, and mean its keys: what is said of one counts for every wallet that has the same key ([`Kin`]).

mod kin;

use audit::entry::Event;
use policy::Rules;
use policy::names::{KeyName, LaneName, WalletName};
use policy::rules::{LaneKind, Tier};

use crate::ledger::{KeyState, Ledger};
use crate::log::{Log, LogError, Step};
use crate::refusal::{Reason, Refusal};

pub use kin::Kin;

/// Longest reason, in bytes.
const REASON_MAX: usize = 200;

/// Why a state was not changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// Not a wallet with keys here.
    #[error("no keys of wallet \"{0}\" are here: it is cold, or not in the policy")]
    NoKeys(WalletName),
    /// The one state does not lead to the other.
    #[error("the keys of wallet \"{wallet}\" are {now}: they cannot become {next}")]
    Transition {
        /// Which wallet.
        wallet: WalletName,
        /// What they are.
        now: KeyState,
        /// What they were to be.
        next: KeyState,
    },
    /// No key of this name was born in the token.
    #[error("there is no token key \"{0}\": `signer token-key list` shows those there are")]
    NoSuchKey(KeyName),
    /// As for a wallet.
    #[error("token key \"{key}\" is {now}: it cannot become {next}")]
    BornTransition {
        /// Which key.
        key: KeyName,
        /// What it is.
        now: KeyState,
        /// What it was to be.
        next: KeyState,
    },
    /// No reason, or a novel.
    #[error("say why, in at most {REASON_MAX} visible characters")]
    Reason,
    /// The log did not take the entry.
    #[error(transparent)]
    Log(#[from] LogError),
}

/// Puts a wallet's keys into another state, in the log.
///
/// # Errors
/// [`KeyError`]; then nothing changed.
pub async fn set_state(
    log: &Log<Ledger>,
    rules: &Rules,
    kin: &Kin,
    wallet: &WalletName,
    next: KeyState,
    reason: &str,
) -> Result<(), KeyError> {
    check_reason(reason)?;
    let pinned = rules.wallet(wallet).filter(|wallet| wallet.tier != Tier::Cold);
    let tier = pinned.ok_or_else(|| KeyError::NoKeys(wallet.clone()))?.tier;
    let event = |wallet: &WalletName| Event::KeyState {
        wallet: wallet.to_string(),
        tier: tier.as_str().to_owned(),
        state: next.as_str().to_owned(),
        reason: reason.to_owned(),
    };
    let step = |ledger: &Ledger| {
        let now = kin.state(ledger, wallet);
        let states = || kin.of(wallet).map(|name| (name, ledger.key_state(name)));
        let possible = states().all(|(_, state)| state == next || state.may_become(next));
        if now == next || !possible {
            return Step::nothing(Err(KeyError::Transition { wallet: wallet.clone(), now, next }));
        }
        // What was said under another name of the keys holds until it is taken back there.
        let events = match next {
            KeyState::Active => states().filter(|(_, state)| *state != next).collect::<Vec<_>>(),
            _ => vec![(wallet, now)],
        };
        Step::write(events.into_iter().map(|(name, _)| event(name)).collect(), Ok(()))
    };
    log.commit(step).await?.1
}

/// Puts a key that was born in the token into another state, in the log, for every wallet it is in.
///
/// # Errors
/// [`KeyError`]; then nothing changed.
pub async fn set_born_state(
    log: &Log<Ledger>,
    key: &KeyName,
    next: KeyState,
    reason: &str,
) -> Result<(), KeyError> {
    check_reason(reason)?;
    let step = |ledger: &Ledger| {
        let Some(now) = ledger.born().named(key).map(|key| key.state) else {
            return Step::nothing(Err(KeyError::NoSuchKey(key.clone())));
        };
        if !now.may_become(next) {
            return Step::nothing(Err(KeyError::BornTransition { key: key.clone(), now, next }));
        }
        let event = Event::TokenKeyState {
            name: key.to_string(),
            tier: Tier::Token.as_str().to_owned(),
            state: next.as_str().to_owned(),
            reason: reason.to_owned(),
        };
        Step::write(vec![event], Ok(()))
    };
    log.commit(step).await?.1
}

fn check_reason(reason: &str) -> Result<(), KeyError> {
    let visible = reason.chars().all(|c| !c.is_control()) && !reason.trim().is_empty();
    if visible && reason.len() <= REASON_MAX { Ok(()) } else { Err(KeyError::Reason) }
}

/// Whether a wallet's keys may sign in this lane. Retired ones may only be swept out.
///
/// # Errors
/// [`Refusal`] naming the state.
pub(crate) fn may_sign(
    ledger: &Ledger,
    rules: &Rules,
    kin: &Kin,
    wallet: &WalletName,
    lane: &LaneName,
) -> Result<(), Refusal> {
    let out = |kind: &LaneKind| matches!(kind, LaneKind::Sweep { .. } | LaneKind::Evacuate { .. });
    let sweeps = || rules.lane(lane).is_some_and(|lane| out(&lane.kind));
    match kin.standing(ledger, wallet) {
        KeyState::Active => Ok(()),
        KeyState::Retired if sweeps() => Ok(()),
        state => Err(refused(wallet, state)),
    }
}

/// Whether addresses of a wallet may be attested: nobody should send coins to keys that are not active.
///
/// # Errors
/// [`Refusal`] naming the state.
pub(crate) fn may_attest(ledger: &Ledger, kin: &Kin, wallet: &WalletName) -> Result<(), Refusal> {
    match kin.standing(ledger, wallet) {
        KeyState::Active => Ok(()),
        state => Err(refused(wallet, state)),
    }
}

fn refused(wallet: &WalletName, state: KeyState) -> Refusal {
    let (reason, text) = match state {
        KeyState::Compromised => (Reason::KeyCompromised, "nothing is signed or attested any more"),
        KeyState::Retired => (Reason::KeyRetired, "they are only swept out"),
        KeyState::Active | KeyState::Suspended => {
            (Reason::KeySuspended, "nothing is signed or attested until `signer key activate`")
        }
    };
    Refusal::new(reason, format!("the keys of wallet \"{wallet}\" are {state}: {text}"))
}
