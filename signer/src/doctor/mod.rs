//! `signer doctor`: one screen about everything that must be right. It never loads the module (a worker does), never
//! tries a PIN that may be wrong, never changes the log, leaves nothing in a token, and touches nothing that a running signer holds.

mod anchor;
mod beside;
mod report;
mod tiers;

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use confine::{ConfineError, Mode};
use policy::Rules;
use sha2::{Digest as _, Sha256};

use beside::Numbers;
pub use report::{Checked, Finding, Level};
use tiers::{Held, mechanisms, schemes, tiers};

use crate::config::{Config, ConfigError};
use crate::log::{LogError, Store, StoreError, begun, examine as examine_log};
use crate::start::{StartError, lost};
use crate::token::{Distrust, KeyFile, Latch, Line, TokenConfig, TokenError};

/// systemd's time service makes this file once the clock was set from the network.
pub const TIME_SYNCHRONISED: &str = "/run/systemd/timesync/synchronized";
/// How far the clock may lie behind the log, and ahead of it without a word.
const BEHIND_MS: u64 = 3_600_000;
const AHEAD_MS: u64 = 7 * 24 * 3_600_000;
const DAY_SECONDS: u64 = 86_400;
/// What a worker locks for an account that it opened: a page of keys, and one for the hasher.
const SECRET_BYTES: usize = 2 * 4096;
/// A certificate with fewer days left wants a new one.
const CERTIFICATE_DAYS_SOON: u64 = 21;

/// Looks at everything.
pub async fn examine(config: &Config) -> Checked {
    let mut checked = Checked::default();
    settings(config, &mut checked);
    sandbox(config, &mut checked);
    let limit = rustix::process::getrlimit(rustix::process::Resource::Memlock).current;
    memory(limit, confine::Locked::with_room(SECRET_BYTES).map(drop), &mut checked);
    // Whoever holds the log is the only one who may log in and look at keys: a running signer does so itself.
    let (free, entries) = log(config, &mut checked).await.unzip();
    let entries = entries.flatten();
    // A running signer checks keys itself, and says whether they are right.
    let kept = Numbers::read(&config.state_dir).is_some_and(|it| it.keeps_keys(unix_now()));
    for (whose, token, own_dir) in config.token.each(&config.state_dir) {
        let (state_dir, free) = (config.state_dir.clone(), free.is_some());
        let looked = tokio::task::spawn_blocking(move || {
            let mut checked = Checked::default();
            let latched = pin(&own_dir, &mut checked);
            let may = LogIn { may: free && !latched, kept: kept && !free, entries };
            look(&token, (&state_dir, &own_dir), may, &mut checked);
            checked
        });
        match looked.await {
            Ok(looked) => checked.extend(whose.as_deref(), looked),
            Err(error) => checked.broken("token", &error.to_string()),
        }
    }
    if let Some(store) = free {
        let _ = store.close().await;
    }
    if let Ok(rules) = config.unsigned_rules() {
        witnesses(&rules, &mut checked);
    }
    checked
}

/// Who else remembers how long the log was.
fn witnesses(rules: &Rules, checked: &mut Checked) {
    match (rules.witnesses_required(), rules.witnesses().len()) {
        (0, _) => checked.warn(
            "witnesses",
            "none required: somebody who sets log and state folder back together is not noticed; keep copies elsewhere by hand",
        ),
        (required, all) => checked.well(
            "witnesses",
            &format!("{required} of {all} must have seen what is let out"),
        ),
    }
}

fn governed(config: &Config) -> bool {
    config.unsigned_rules().is_ok_and(|rules| rules.governance().is_some())
}

/// Configuration and policy.
fn settings(config: &Config, checked: &mut Checked) {
    match config.rules() {
        Ok(rules) => checked.well("policy", &format!("version {}, signed", rules.version())),
        // Whoever the policy in force names has signed it, or has not: the log knows who that is, see below.
        Err(ConfigError::Policy { .. }) if governed(config) => {}
        Err(error) => checked.broken("policy", &error.to_string()),
    }
    let handed_in = crate::officers::revocations::file(&config.state_dir);
    match mtls::Server::load_with(&config.tls, Some(&handed_in)) {
        Ok(server) => tls(&server.facts(), checked),
        Err(error) => checked.broken("tls", &error.to_string()),
    }
    if config.development {
        checked.warn("settings", "development = true: server reflection is on");
    }
    if config.allow_root && confine::process::is_root() {
        checked.warn("user", "root (allow_root = true): run the signer as a user of its own");
    } else {
        checked.well("user", "not root");
    }
}

/// A governed policy that other people have signed than the configuration names: whether it is the one in force, whose
/// signatures were verified when it came in.
fn in_force(config: &Config, found: Option<([u8; 32], &str)>, checked: &mut Checked) {
    let here = config.unsigned_rules().map(|rules| (rules.version(), *rules.digest()));
    match (here, found) {
        (Ok((version, here)), Some((digest, whose))) if here == digest => {
            checked.well("policy", &format!("version {version}, the one in force {whose}"));
        }
        (Ok((version, _)), _) => {
            let text = format!(
                "version {version} is not the one in force: whether it may follow that one is looked at when the signer starts; if the one in force came over the wire, its text is kept in {}",
                config.policy_kept().display()
            );
            checked.warn("policy", &text);
        }
        (Err(error), _) => checked.broken("policy", &error.to_string()),
    }
}

/// How long certificates and revocation lists last.
fn tls(facts: &mtls::Facts, checked: &mut Checked) {
    let now = unix_now();
    let days = |until: u64| until.checked_sub(now)?.checked_div(DAY_SECONDS);
    let own = std::iter::once(("our certificate", facts.certificate.until));
    let authorities = facts.authorities.iter().map(|one| ("an authority", one.until));
    for (what, until) in own.chain(authorities) {
        match days(until) {
            None => checked.broken("tls", &format!("{what} is expired")),
            Some(left) if left < CERTIFICATE_DAYS_SOON => {
                checked.warn("tls", &format!("{what} expires in {left} days"));
            }
            Some(left) => checked.well("tls", &format!("{what} is good for {left} days")),
        }
    }
    let Some(lists) = &facts.lists else {
        let text = "no revocation lists (tls.crl): a client's certificate is good until it expires or its authority goes";
        return checked.warn("revocation", text);
    };
    if lists.is_empty() {
        checked.broken("revocation", "the lists in tls.crl cannot be used: no client is served");
    }
    for list in lists {
        match days(list.validity.until) {
            None => checked.broken("revocation", "a list is expired: whom it covers is not served"),
            Some(left) => checked.well("revocation", &format!("a list is good for {left} days")),
        }
    }
}

/// What the kernel says of this very process, which was confined as a serving one is.
fn sandbox(config: &Config, checked: &mut Checked) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    if config.sandbox == Mode::Off {
        return checked.warn("sandbox", "off by the settings");
    }
    match &config.lacking[..] {
        [] => checked.well(
            "sandbox",
            &format!("landlock and seccomp are on (sandbox = \"{}\")", config.sandbox),
        ),
        lacking => lacking
            .iter()
            .for_each(|what| checked.warn("sandbox", &format!("the kernel lacks {what}"))),
    }
    if !status.is_empty() && !status.contains("NoNewPrivs:\t1") {
        checked.broken("sandbox", "this process may gain privileges");
    }
}

/// Whether secrets can be kept out of the swap: by this process's limit in bytes, which its workers have too, and by the
/// kernel's word when some memory was locked.
fn memory(limit: Option<u64>, locked: Result<(), ConfineError>, checked: &mut Checked) {
    let raise = "raise the limit (`LimitMEMLOCK=infinity` in the unit, `ulimit -l`)";
    match (limit, locked) {
        (_, Err(error)) => checked.warn(
            "memory",
            &format!("none can be locked, so workers open no sealed account ({error}): {raise}"),
        ),
        (Some(bytes), Ok(())) => checked.warn(
            "memory",
            &format!(
                "{bytes} bytes may be locked: keys of sealed accounts are, but what modules hold of PIN and keys may be \
                 swapped out: {raise}"
            ),
        ),
        (None, Ok(())) => checked.well("memory", "all of it may be locked, so no secret is swapped out"),
    }
}

/// The log, if nobody holds it, and how many entries it has; then it stays held until the doctor is done.
async fn log(config: &Config, checked: &mut Checked) -> Option<(Store, Option<u64>)> {
    let url = config.database_url();
    if let Some(file) = url.strip_prefix("sqlite:").map(Path::new).filter(|file| !file.exists()) {
        checked.broken("database", &format!("{} is not there: run `signer init`", file.display()));
        return None;
    }
    let mut store = match Store::open(&url).await {
        Ok(store) => store,
        Err(error @ StoreError::InUse) => {
            running(config, &error, checked);
            return None;
        }
        Err(error) => {
            checked.broken("database", &error.to_string());
            return None;
        }
    };
    checked.well("database", kind(&url));
    let keys = match KeyFile::in_dir(&config.state_dir).require() {
        Ok(keys) => keys,
        Err(error) => {
            checked.broken("log", &error.to_string());
            return Some((store, None));
        }
    };
    let mut entries = None;
    match examine_log(&mut store, &keys.checkpoint, &config.state_dir).await {
        Ok((found, last_ms, policy)) => {
            if config.rules().is_err() && governed(config) {
                in_force(
                    config,
                    policy.as_ref().map(|policy| (policy.digest, "by the log")),
                    checked,
                );
            }
            let (size, covered) = (found.size, found.checkpointed);
            entries = Some(size);
            checked.well("log", &format!("{size} entries, verified up to checkpoint {covered}"));
            if found.set_aside > 0 {
                checked.warn(
                    "log",
                    &format!(
                        "{} entries lie beyond the newest checkpoint: a start sets them aside",
                        found.set_aside
                    ),
                );
            }
            kept(config, found.state_folder, checked);
            clock(last_ms, checked);
            officers(&mut store, checked).await;
        }
        Err(LogError::Store(error)) => checked.broken("database", &error.to_string()),
        Err(error) => checked.broken("log", &error.to_string()),
    }
    Some((store, entries))
}

/// What a signer that holds the log says of itself.
fn running(config: &Config, held: &StoreError, checked: &mut Checked) {
    let text = format!("a signer is running, which verified it at its start ({held})");
    checked.well("database", &text);
    if config.rules().is_err() && governed(config) {
        let kept = std::fs::read(config.policy_kept()).ok();
        let kept = kept.map(|text| (Sha256::digest(text).into(), "at the running signer"));
        in_force(config, kept, checked);
    }
    let (numbers, rules) = (Numbers::read(&config.state_dir), config.unsigned_rules().ok());
    beside::look(numbers.as_ref(), rules.as_ref(), unix_now(), checked);
}

/// The checkpoint in the state folder, if it has to be there.
fn kept(config: &Config, is_there: bool, checked: &mut Checked) {
    match lost::is_lost(config) {
        Ok(false) if is_there => {}
        Ok(false) => checked.warn("log", "no checkpoint in the state folder"),
        Ok(true) => {
            let lost = StartError::CheckpointLost(config.state_dir.clone());
            checked.broken("log", &lost.to_string());
        }
        Err(error) => checked.broken("log", &error.to_string()),
    }
}

fn kind(url: &str) -> &'static str {
    if url.starts_with("sqlite:") {
        "SQLite, journal_mode wal, synchronous full"
    } else {
        "PostgreSQL, fsync on, synchronous_commit on"
    }
}

/// The digest that every checkpoint carries, to compare with what officers have.
async fn officers(store: &mut Store, checked: &mut Checked) {
    let digest = match begun(store).await {
        Ok(entry) => entry.and_then(|entry| entry.event.begun()?.officers_digest()),
        Err(error) => return checked.broken("officers", &error.to_string()),
    };
    match digest {
        Some(digest) => {
            let text = format!(
                "the log began under {}: compare with `officer policy officers`",
                hex::encode(digest)
            );
            checked.well("officers", &text);
        }
        None => checked.well(
            "officers",
            "the log began under none (`signer init` without --officers): the configuration's bring the first policy in",
        ),
    }
}

fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// The machine's clock against the log's last entry.
fn clock(last_ms: u64, checked: &mut Checked) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let now = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
    if now.saturating_add(BEHIND_MS) < last_ms {
        checked.broken("clock", "it is more than an hour behind the log's last entry: set it");
    } else if now > last_ms.saturating_add(AHEAD_MS) {
        checked.warn(
            "clock",
            "the log's last entry is more than a week old: a start needs --clock-is-right",
        );
    } else {
        checked.well("clock", "goes with the log's last entry");
    }
    if Path::new(TIME_SYNCHRONISED).exists() {
        checked.well("clock", "set from the network (systemd-timesyncd)");
    } else {
        checked.well("clock", "whether it is set from the network is not known here");
    }
}

/// Whether the doctor logs in itself.
#[derive(Clone, Copy)]
struct LogIn {
    may: bool,
    /// A running signer looks after the keys.
    kept: bool,
    /// How many the log has.
    entries: Option<u64>,
}

/// A token's mark of distrust, and its latch; whether that stands in the way.
fn pin(own_dir: &Path, checked: &mut Checked) -> bool {
    if let Err(error) = Distrust::in_dir(own_dir).check() {
        checked.broken("token", &error.to_string());
    }
    match Latch::in_dir(own_dir).state() {
        Ok(None) => checked.well("pin", "no login was refused"),
        Ok(Some(text)) => {
            checked.broken("pin", &format!("not tried any more: {text}"));
            return true;
        }
        Err(error) => {
            checked.broken("pin", &error.to_string());
            return true;
        }
    }
    false
}

/// Module and token through a worker; the keys too, when logging in disturbs nobody. `dirs` are where the keys are
/// written down, and the token's own.
fn look(config: &TokenConfig, dirs: (&Path, &Path), log_in: LogIn, checked: &mut Checked) {
    let seen = Line::connect(config, false).and_then(|mut line| Ok((line.examine()?, line)));
    let (seen, mut line) = match seen {
        Ok(seen) => seen,
        Err(error) => return checked.broken("token", &error.to_string()),
    };
    let info = line.info().clone();
    checked.well("module", &seen.module);
    if let Some(said) = config.numbers_in_words() {
        checked.well("module", &said);
    }
    let token = format!(
        "\"{}\", {} {}, serial {}, {}",
        info.label, info.manufacturer, info.model, info.serial, seen.firmware
    );
    checked.well("token", &token);
    if info.is_softhsm() {
        checked.warn("token", "SoftHSM protects nothing: for development");
    }
    seen.pin.iter().for_each(|said| checked.warn("pin", said));
    seen.lacking
        .iter()
        .for_each(|what| checked.warn("sandbox", &format!("workers: the kernel lacks {what}")));
    let mut held = Held::default();
    if log_in.may {
        held = keys(config, dirs, &mut line, checked);
        if line.is_logged_in() {
            anchor::look(config, dirs.1, (&mut line, &seen), log_in.entries, checked);
        }
    } else if log_in.kept {
        checked
            .well("keys", "the running signer checks them every few minutes, and finds them right");
    } else {
        let text = "not looked at: a signer holds the log and does not say that they are right, or the PIN is not to be tried";
        checked.warn("keys", text);
    }
    line.close();
    mechanisms(&seen, checked);
    match config.wrapping() {
        Ok(named) => {
            tiers(&seen, &named, &held, checked);
            schemes(&seen, &named, &held, checked);
        }
        Err(error) => checked.broken("schemes", &error.to_string()),
    }
}

/// Logs in and has the worker check every attribute, and all it can do to the canaries; what was held back.
fn keys(
    config: &TokenConfig,
    (state_dir, own_dir): (&Path, &Path),
    line: &mut Line,
    checked: &mut Checked,
) -> Held {
    // A standby that was never used has no folder for its latch yet.
    let made = std::fs::create_dir_all(own_dir);
    let logged_in = KeyFile::in_dir(state_dir).require().and_then(|keys| {
        made.map_err(|error| TokenError::state("make", own_dir, &error))?;
        line.log_in_now(config, &Latch::in_dir(own_dir))?;
        Ok(keys)
    });
    let keys = match logged_in {
        Ok(keys) => keys,
        Err(error) => {
            checked.broken("keys", &error.to_string());
            return Held::default();
        }
    };
    let bound = line.bind(&keys);
    match &bound {
        Ok(()) => checked.well(
            "keys",
            "wrapping, attestation and checkpoint key are there, each attribute as it must be",
        ),
        Err(error) => checked.broken("keys", &error.to_string()),
    }
    let held = Held::found(config, own_dir, &keys, bound.is_ok());
    let kwp = config.wrapping().map_or(true, |named| named.kwp_mechanism.is_some());
    if let (Err(_), Some(rest)) = (&bound, held.rest(!kwp && keys.keks.is_empty())) {
        checked.broken("keys", rest);
    }
    held
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::minimal;

    fn said(look: impl FnOnce(&mut Checked)) -> Vec<(Level, String)> {
        let mut checked = Checked::default();
        look(&mut checked);
        checked.findings.into_iter().map(|finding| (finding.level, finding.text)).collect()
    }

    #[test]
    fn memory_that_may_not_be_locked_is_said_with_what_to_do() {
        let said = |limit, locked| said(|checked| memory(limit, locked, checked)).remove(0);
        let refused = || {
            let source = std::io::Error::from(std::io::ErrorKind::OutOfMemory);
            Err(ConfineError::System { what: "lock memory for a secret", source })
        };
        for (limit, locked, what) in [
            (Some(0), refused(), "workers open no sealed account (cannot lock memory"),
            (None, refused(), "workers open no sealed account"),
            (Some(65536), Ok(()), "65536 bytes may be locked"),
        ] {
            let (level, text) = said(limit, locked);
            assert_eq!(level, Level::Warning, "{text}");
            assert!(text.contains(what) && text.contains("LimitMEMLOCK=infinity"), "{text}");
        }
        let (level, text) = said(None, Ok(()));
        assert!(level == Level::Well && text.contains("all of it"), "{text}");
    }

    #[test]
    fn what_the_kernel_lacks_of_the_sandbox_is_said_line_by_line() {
        let lines = |config: &Config| said(|checked| sandbox(config, checked));
        let first = |config: &Config| lines(config).into_iter().next().unwrap();
        let (level, text) = first(&minimal());
        assert!(level == Level::Well && text.contains("landlock and seccomp are on"), "{text}");
        let lacking = ["landlock (files)", "landlock for TCP"].map(str::to_owned).to_vec();
        let config = Config { lacking, ..minimal() };
        for (line, what) in lines(&config).iter().zip(&config.lacking) {
            assert_eq!(*line, (Level::Warning, format!("the kernel lacks {what}")));
        }
        assert!(!lines(&config).iter().any(|(_, text)| text.contains("are on")));
        let off = Config { sandbox: Mode::Off, ..config };
        assert_eq!(lines(&off), [(Level::Warning, "off by the settings".to_owned())]);
    }
}
