//! The clock in doubt: when it jumped while the signer ran, or nobody wrote for too long before a start. What must wait comes no
//! nearer then, until an officer says what time it is and the clock says the same. It never sets a clock, and never believes
//! one because a person at this machine says so.

use std::sync::Arc;
use std::time::Duration;

use audit::entry::Event;
use policy::names::KeyName;
use statement::TimeIs;

use super::notices::Topic;
use crate::app::App;
use crate::ledger::Ledger;
use crate::log::{Clock, Log, LogError, Step};
use crate::refusal::{Reason, Refusal};

/// A signer that runs writes every twenty minutes at least; it may have stood still for so long in a day, all starts together.
const STILL_SECONDS_MAX: u64 = 2 * 3_600;
/// The machine's clock may be set by so much, forward or back, while the signer runs.
const JUMP_MS_MAX: i64 = 120_000;
/// What an officer says may differ from the signer's clock by so much.
const APART_SECONDS_MAX: u64 = 600;
/// How often the two clocks are compared.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Before anything else is written at a start.
///
/// # Errors
/// [`LogError`].
pub async fn at_start(log: &Log<Ledger>, clock: &Clock) -> Result<(), LogError> {
    let now = clock.unix_seconds();
    let step = |ledger: &Ledger| {
        let (still, held) = (ledger.stood_still(now), ledger.ran_unix());
        if still <= STILL_SECONDS_MAX || ledger.doubt().is_some() {
            return Step::nothing(());
        }
        let reason = format!(
            "in the day before this start nobody wrote for {still} s, and {STILL_SECONDS_MAX} s are believed"
        );
        Step::write(vec![doubted(held, reason)], ())
    };
    log.commit(step).await?;
    if let Some(doubt) = log.read(Ledger::doubt) {
        tracing::warn!(
            entry = doubt.seq,
            held_unix = doubt.held_unix,
            "the clock is in doubt: delays, maturing and vetoes are held until an officer says what time it is (`officer time`)"
        );
    }
    Ok(())
}

/// Compares the machine's clock with the one that nobody can set, for as long as the signer runs.
pub async fn watch(app: Arc<App>) {
    let mut accepted_ms = 0;
    loop {
        if let Err(error) = look(&app, &mut accepted_ms).await {
            tracing::error!("that the clock is in doubt could not be logged: {error}");
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// One look. `accepted_ms` is by how much they may be apart, since an officer said so.
///
/// # Errors
/// [`LogError`].
pub async fn look(app: &App, accepted_ms: &mut i64) -> Result<(), LogError> {
    let apart = app.clock.apart_ms();
    if app.log.read(Ledger::doubt).is_some() {
        // Whoever settles this has looked at both.
        *accepted_ms = apart;
        return Ok(());
    }
    let jumped = apart.saturating_sub(*accepted_ms);
    if jumped.saturating_abs() <= JUMP_MS_MAX {
        return Ok(());
    }
    let now = app.clock.unix_seconds();
    let seconds = jumped.checked_div(1000).unwrap_or_default();
    let reason = format!("the machine's clock was set by {seconds} s while the signer ran");
    let step = |ledger: &Ledger| match ledger.doubt() {
        Some(_) => Step::nothing(()),
        None => Step::write(vec![doubted(ledger.not_before_latest(now), reason.clone())], ()),
    };
    app.log.commit(step).await?;
    *accepted_ms = apart;
    app.notices.tell("alarm", Topic::NONE, &[("clock", reason.as_str())]);
    tracing::error!(
        "{reason}: delays, maturing and vetoes are held until an officer says what time it is"
    );
    Ok(())
}

/// An officer said what time it is: whether that settles the doubt.
pub(super) fn settle(
    app: &App,
    ledger: &Ledger,
    officer: &KeyName,
    time: TimeIs,
) -> Result<(Vec<Event>, String), Refusal> {
    let nothing = "the clock is not in doubt: there is nothing to settle";
    let doubt = ledger.doubt().ok_or_else(|| Refusal::new(Reason::StatementNothing, nothing))?;
    if doubt.seq != time.doubt {
        let text =
            format!("the clock is in doubt since entry {}, and this is about another", doubt.seq);
        return Err(Refusal::new(Reason::StatementOther, text));
    }
    if !app.rules.may_tell_time(officer) {
        let text = format!(
            "the policy asks others than \"{officer}\" what time it is: those whom `unfreeze` names"
        );
        return Err(Refusal::new(Reason::StatementOfficer, text));
    }
    let now = app.clock.unix_seconds();
    if now.abs_diff(time.unix) > APART_SECONDS_MAX {
        let text = format!(
            "the signer's clock says {now}, and the statement {}: more than {APART_SECONDS_MAX} s apart; set the machine's clock and start the signer again, then say the time",
            time.unix
        );
        return Err(Refusal::new(Reason::StatementOther, text));
    }
    let latest = ledger.latest_unix();
    if latest > time.unix.saturating_add(APART_SECONDS_MAX) {
        // Believed, the log's own time would be all that counts, and whatever waits would be over at once.
        let text = format!(
            "the log was written at {latest}, under a clock that was ahead: time stays held until the clock has come there; say the time then"
        );
        return Err(Refusal::new(Reason::StatementOther, text));
    }
    let (policy, officers) = (app.rules.version(), vec![officer.to_string()]);
    let believed = Event::ClockBelieved { doubt: doubt.seq, policy, officers };
    Ok((vec![believed], "the clock is believed again".to_owned()))
}

fn doubted(held_unix: u64, reason: String) -> Event {
    Event::ClockDoubted { held_unix, reason }
}
