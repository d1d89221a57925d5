//! Brings the signer's parts up in their order: policy, token, log, wallets. It never goes on with a part that
//! does not fit the others.

mod error;
mod opening;
pub mod lost;
mod waived;
mod kept;
mod fitting;

use std::sync::Arc;

use audit::entry::Event;
use policy::Rules;

use crate::abuse::Abuse;
use crate::administer;
use crate::anchoring::Anchors;
use crate::app::App;
use crate::born;
use crate::config::Config;
use crate::facts::sanctions::Sanctions;
use crate::feeling::Feeling;
use crate::gate::Gate;
use crate::governing::{InForce, Upcoming, in_force};
use crate::keys::Kin;
use crate::ledger::Ledger;
use crate::log::{Clock, Log, LogError, Step, Store, Witnesses};
use crate::metrics::Tally;
use crate::officers::doubt;
use crate::officers::notices::Notices;
use crate::request::considered::Room;
use crate::token::Token;
use crate::wallets::Wallets;

pub use error::StartError;
pub(crate) use fitting::servable;
pub use fitting::{activate, carries};
pub use kept::note_told;
pub use opening::{beginning, open_log, open_lost_log, open_token};
pub use waived::{note_waived, of_workers, tell_root, tell_waived, waived};

use fitting::attach;
use opening::{open_store, open_witnessed_log};
use waived::{is_unadministered, shared_seeds};

/// Everything, ready to serve. Before anything is read or signed, as many witnesses as the policy requires have said what
/// they saw last.
///
/// # Errors
/// [`StartError`] saying what does not fit.
pub async fn start(
    config: &Config,
    clock: Clock,
    witnesses: &Arc<Witnesses>,
) -> Result<App, StartError> {
    start_from(config, clock, witnesses, None).await
}

/// What a standby has in hand when its turn comes.
pub struct Claim {
    /// Its token, whose workers are ready.
    pub token: Arc<Token>,
    /// The log's database, which nobody else can write any more.
    pub store: Store,
}

/// The same, from what a standby has in hand.
///
/// # Errors
/// [`StartError`] saying what does not fit.
pub async fn start_from(
    config: &Config,
    clock: Clock,
    witnesses: &Arc<Witnesses>,
    claim: Option<Claim>,
) -> Result<App, StartError> {
    // What is no policy at all is said before anything is opened, and who it names must have spoken before that.
    witnesses.appoint(&config.newest_words()?);
    enough_told(witnesses)?;
    let (token, store) = match claim {
        Some(Claim { token, store }) => (token, store),
        None => {
            let token = open_token(config, config.token.clone()).await?;
            (token, open_store(config).await?)
        }
    };
    lost::none_lost(config)?;
    let log =
        open_witnessed_log(config, &token, clock.clone(), Arc::clone(witnesses), store).await?;
    doubt::at_start(&log, &clock).await?;
    imported(&log, config, &token)?;
    let InForce { rules, next_unix, proposed } = in_force(&log, config, &clock).await?;
    // The policy in force may name others than the file, which waits.
    witnesses.appoint(&rules);
    enough_told(witnesses)?;
    administered(config, &rules)?;
    administer::site_serves(&log, &config.state_dir, &rules, &token.info().serial).await?;
    let mut wallets = Wallets::new(&rules)?;
    attach(&log, config, &token.keys(), &mut wallets)?;
    born::bind(&log, &config.state_dir, &mut wallets, &token.keys()).await?;
    let kin = log.read(|ledger| Kin::read(ledger, &config.state_dir));
    log.commit(|_| Step::write(vec![service("started")], ())).await?;
    note_waived(&log, waived(config, &token, &clock, Some(&rules))).await?;
    note_waived(&log, shared_seeds(&rules)).await?;
    let log = Arc::new(log);
    make_ready(&log, &rules).await;
    Ok(App {
        log,
        token,
        rules,
        upcoming: Upcoming::new(proposed, next_unix),
        wallets: Arc::new(wallets),
        kin,
        clock,
        gate: Gate::new(&config.limits),
        witnesses: Arc::clone(witnesses),
        abuse: Abuse::new(&config.limits),
        feeling: Feeling::new(&config.limits),
        tally: Tally::default(),
        sanctions: Sanctions::default(),
        considered: Room::default(),
        notices: Notices::default(),
        anchors: Anchors::default(),
    })
}

/// Makes totals over the whole log ready, for which the first decision would have everybody wait.
async fn make_ready(log: &Arc<Log<Ledger>>, rules: &Rules) {
    let (log, questions) = (Arc::clone(log), rules.standing_questions());
    let prepare = move || {
        log.read(|ledger| {
            ledger.prepare(&questions);
            ledger.totals_given_up()
        })
    };
    match tokio::task::spawn_blocking(prepare).await {
        Ok(0) => {}
        Ok(kinds) => tracing::warn!(
            kinds,
            "there is no room for all totals: for each of these kinds of questions every decision walks through the whole past"
        ),
        Err(error) => {
            tracing::warn!(%error, "totals are not ready: the first decision will make them");
        }
    }
}

/// Nobody alone at this machine brings in keys, changes the PIN or has a copy serve, where it is real money, unless the
/// configuration says so.
fn administered(config: &Config, rules: &Rules) -> Result<(), StartError> {
    match is_unadministered(rules) && !config.allow_unadministered {
        true => Err(StartError::Unadministered),
        false => Ok(()),
    }
}

/// Nothing is started before enough witnesses have said what they saw last.
fn enough_told(witnesses: &Witnesses) -> Result<(), LogError> {
    witnesses.missing().map_or(Ok(()), |missing| Err(LogError::Unwitnessed(missing)))
}

fn service(state: &str) -> Event {
    Event::Service { state: state.to_owned(), version: env!("CARGO_PKG_VERSION").to_owned() }
}

/// Every key-encryption key that is written down was imported, as the log has it.
fn imported(log: &Log<Ledger>, config: &Config, token: &Token) -> Result<(), StartError> {
    if config.token.wrapping()?.kwp_mechanism.is_none() {
        return Ok(());
    }
    let unknown = log.read(|ledger| {
        let keys = token.keys().kek_fingerprints();
        keys.into_iter().find(|key| !ledger.keks().is_imported(key))
    });
    if let Some(key) = unknown {
        return Err(StartError::KekNotLogged(hex::encode(key)));
    }
    if log.read(|ledger| ledger.keks().has_pin_of_import(&token.info().serial)) {
        tracing::warn!(
            "the token's PIN was not changed since a key-encryption key was imported: where the people who imported it had this PIN, hand the token over with `signer set-pin --old-pin-file`"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::minimal;

    /// A policy with people who change it, and with `more` about them.
    fn governed(network: asset::Network, more: &str) -> Rules {
        let key = "d54207da194977dcf46adbfec2bc2e75b52d5a8a42184fedfdc00024f0e3e8da";
        let text = format!(
            "version = 1\nnetwork = \"{network}\"\nlog = \"cofferdam/a\"\nwallet = []\nclient = []\n\
             [[officer]]\nname = \"ada\"\ndomain = \"zurich\"\ned25519 = \"{key}\"\n\
             [[group]]\nname = \"board\"\nmembers = [\"ada\"]\n\
             [governance]\ntighten = \"1 of board\"\nchange = \"1 of board\"\ndelay = \"48h\"\n{more}"
        );
        Rules::reopen(&text, Vec::new(), network).unwrap()
    }

    #[test]
    fn real_money_without_officers_at_the_machine_is_not_served_unless_somebody_says_so() {
        let (real, asks) = (asset::Network::Bitcoin, "administer = \"1 of board\"\n");
        let (plain, waived) = (minimal(), Config { allow_unadministered: true, ..minimal() });
        let refused = administered(&plain, &governed(real, "")).unwrap_err();
        assert!(matches!(refused, StartError::Unadministered), "{refused}");
        administered(&waived, &governed(real, "")).unwrap();
        administered(&plain, &governed(real, asks)).unwrap();
        administered(&plain, &governed(asset::Network::Regtest, "")).unwrap();
        assert!(is_unadministered(&governed(real, "")));
        assert!(!is_unadministered(&governed(real, asks)));
        assert!(!is_unadministered(&governed(asset::Network::Regtest, "")));
    }
}
