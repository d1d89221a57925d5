//! Which safeguards somebody waived in so many words, for the log to say. It waives none, and refuses nothing.

use audit::entry::Event;
use policy::Rules;
use policy::names::WalletName;

use super::StartError;
use crate::config::Config;
use crate::ledger::Ledger;
use crate::log::{Clock, Log, Step};
use crate::token::Token;
use crate::told::Told;

/// Safeguards of the process itself, as the log calls them.
pub(super) const ROOT: &str = "root";
pub(super) const SANDBOX: &str = "sandbox";

/// Keeps for whoever opens the log next which safeguards a command goes without that does not open it itself.
///
/// # Errors
/// When the state folder cannot be written.
pub fn tell_waived(config: &Config, command: &str) -> Result<(), StartError> {
    tell_some(config, command, |_| true)
}

/// The same of a command that asks no token and is confined by nothing anyway: only as whom it runs.
///
/// # Errors
/// When the state folder cannot be written.
pub fn tell_root(config: &Config, command: &str) -> Result<(), StartError> {
    tell_some(config, command, |safeguard| safeguard == ROOT)
}

fn tell_some(config: &Config, command: &str, of: fn(&str) -> bool) -> Result<(), StartError> {
    let root = confine::process::is_root();
    let here = Here { root, softhsm: false, clock_is_right: false, unadministered: false };
    let told = Told::in_dir(&config.state_dir);
    for (safeguard, said) in of_process(config, &here).into_iter().filter(|(one, _)| of(one)) {
        tracing::warn!("somebody waived a safeguard: {safeguard} ({said})");
        told.add(safeguard, &format!("{said}, at `{command}`"))?;
    }
    Ok(())
}

/// Which safeguards somebody waived, in so many words, for a signer that starts like this, under this policy if it is known yet.
#[must_use]
pub fn waived(config: &Config, token: &Token, clock: &Clock, rules: Option<&Rules>) -> Vec<Event> {
    let here = Here {
        root: confine::process::is_root(),
        softhsm: token.info().is_softhsm(),
        clock_is_right: clock.is_confirmed(),
        unadministered: rules.is_some_and(is_unadministered),
    };
    waived_by(config, &here).into_iter().chain(of_workers(token)).collect()
}

/// What the workers go without that somebody else started, each once: later ones are asked for as long as the signer runs.
#[must_use]
pub fn of_workers(token: &Token) -> Vec<Event> {
    let event = |(what, said): (&str, String)| Event::Waived { safeguard: what.to_owned(), said };
    token.waived().into_iter().map(event).collect()
}

/// What a safeguard depends on beside the settings.
struct Here {
    root: bool,
    softhsm: bool,
    clock_is_right: bool,
    unadministered: bool,
}

/// Whether it is real money, and whoever is at this machine asks nobody.
pub(super) fn is_unadministered(rules: &Rules) -> bool {
    rules.network() == asset::Network::Bitcoin && rules.administer().is_none()
}

fn waived_by(config: &Config, here: &Here) -> Vec<Event> {
    let event = |(what, how): (&str, &str)| Event::Waived {
        safeguard: what.to_owned(),
        said: how.to_owned(),
    };
    of_process(config, here).into_iter().chain(of_service(config, here)).map(event).collect()
}

/// What keeps the process from the rest of the machine.
fn of_process(config: &Config, here: &Here) -> Vec<(&'static str, &'static str)> {
    let said = [
        (config.allow_root && here.root, (ROOT, "allow_root = true")),
        (config.sandbox == confine::Mode::Off, (SANDBOX, "sandbox = \"off\"")),
    ];
    said.into_iter().filter_map(|(waived, said)| waived.then_some(said)).collect()
}

/// What it works with, and whom it serves.
fn of_service(config: &Config, here: &Here) -> Vec<(&'static str, &'static str)> {
    let mainnet = config.network == asset::Network::Bitcoin;
    let softhsm = config.i_understand_that_softhsm_is_not_an_hsm && mainnet && here.softhsm;
    let unlisted = mainnet && config.tls.crl.is_none();
    let unadministered = config.allow_unadministered && here.unadministered;
    let said = [
        (softhsm, ("softhsm", "i_understand_that_softhsm_is_not_an_hsm = true")),
        (here.clock_is_right, ("clock", "--clock-is-right")),
        (unlisted, ("revocation lists", "no crl under [tls]")),
        (config.development, ("server reflection", "development = true")),
        (unadministered, ("officers at the machine", "allow_unadministered = true")),
    ];
    said.into_iter().filter_map(|(waived, said)| waived.then_some(said)).collect()
}

/// A sealed account that shares its seed with wrapped children is served, since it may have been so before anybody looked: it
/// is said at each start, until officers moved its coins to one with a seed of its own.
pub(super) fn shared_seeds(rules: &Rules) -> Vec<Event> {
    let event = |(sealed, other): (&WalletName, &WalletName)| Event::Waived {
        safeguard: "a sealed account's own seed".to_owned(),
        said: format!(
            "the policy in force: \"{sealed}\" (sealed-hd) and \"{other}\" (token-hd) name one master key"
        ),
    };
    rules.shared_seeds().map(event).collect()
}

/// Writes them down.
///
/// # Errors
/// [`StartError::Log`].
pub async fn note_waived(log: &Log<Ledger>, waived: Vec<Event>) -> Result<(), StartError> {
    for event in &waived {
        if let Event::Waived { safeguard, said } = event {
            tracing::warn!("somebody waived a safeguard: {safeguard} ({said})");
        }
    }
    if !waived.is_empty() {
        log.commit(|_| Step::write(waived, ())).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use confine::Mode;

    use super::*;
    use crate::config::tests::minimal;

    #[test]
    fn every_safeguard_that_is_waived_is_told_and_no_other() {
        let all = |is| Here { root: is, softhsm: is, clock_is_right: is, unadministered: is };
        let (nowhere, everywhere) = (|| all(false), || all(true));
        let told = |config: &Config, here: &Here| -> Vec<String> {
            let said = waived_by(config, here).into_iter().map(|event| match event {
                Event::Waived { safeguard, said } => format!("{safeguard} by {said}"),
                other => panic!("{other:?}"),
            });
            said.collect()
        };
        let (root, sandbox) = ("root by allow_root = true", "sandbox by sandbox = \"off\"");
        let softhsm = "softhsm by i_understand_that_softhsm_is_not_an_hsm = true";
        let clock = "clock by --clock-is-right";
        let lists = "revocation lists by no crl under [tls]";
        let reflection = "server reflection by development = true";
        let alone = "officers at the machine by allow_unadministered = true";
        let plain = minimal();
        assert_eq!(told(&plain, &nowhere()), [""; 0]);
        // Nobody said a word about root, SoftHSM or officers: those do not even start.
        assert_eq!(told(&plain, &everywhere()), [clock]);
        let real = Config { network: asset::Network::Bitcoin, ..minimal() };
        let mut waiving: Vec<(Config, Here, Vec<&str>)> = vec![
            (Config { allow_root: true, ..minimal() }, everywhere(), vec![root, clock]),
            (Config { allow_root: true, ..minimal() }, nowhere(), vec![]),
            (Config { sandbox: Mode::Off, ..minimal() }, nowhere(), vec![sandbox]),
            (Config { sandbox: Mode::Required, ..minimal() }, nowhere(), vec![]),
            (Config { development: true, ..minimal() }, nowhere(), vec![reflection]),
        ];
        let words = |config| Config { i_understand_that_softhsm_is_not_an_hsm: true, ..config };
        let alone_at = |config| Config { allow_unadministered: true, ..config };
        waiving.extend([
            (words(real.clone()), Here { softhsm: true, ..nowhere() }, vec![softhsm, lists]),
            (words(real.clone()), nowhere(), vec![lists]),
            (alone_at(real), Here { unadministered: true, ..nowhere() }, vec![lists, alone]),
            // On a test network it needs nobody's word.
            (words(minimal()), Here { softhsm: true, ..nowhere() }, vec![]),
        ]);
        let all = Config {
            network: asset::Network::Bitcoin,
            allow_root: true,
            sandbox: Mode::Off,
            development: true,
            ..alone_at(words(minimal()))
        };
        waiving.push((
            all,
            everywhere(),
            vec![root, sandbox, softhsm, clock, lists, reflection, alone],
        ));
        for (config, here, wanted) in waiving {
            assert_eq!(told(&config, &here), wanted);
        }
    }
}
