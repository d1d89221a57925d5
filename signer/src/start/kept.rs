//! What was said while the log was closed, from the state folder into the log, before anything else is written. It decides
//! nothing: what was done without officers who should have been asked is only said to be so.

use audit::entry::Event;
use policy::Rules;

use super::StartError;
use super::waived::{ROOT, SANDBOX, note_waived};
use crate::clearing::Allowed;
use crate::config::Config;
use crate::governing::governed_by;
use crate::ledger::Ledger;
use crate::log::{Clock, Log, Step};
use crate::told::{Said, Told};

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
