//! One of the tokens that hold the signer's keys: how to reach it, how it is, whether it may be asked. What one
//! token did wrong is never held against another.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use audit::entry::Event;

use token_wire::Without;

use super::breaker::Breaker;
use super::carried::{Carried, Opened};
use super::config::TokenConfig;
use super::operations::plain;
use super::{Distrust, Latch, Line, TokenError, Wrong};
use crate::log::Clock;

/// One token.
pub(super) struct Member {
    /// None for the token that the configuration names first.
    name: Option<String>,
    pub(super) config: TokenConfig,
    state_dir: PathBuf,
    status: Mutex<Status>,
    /// Held from a worker's start to the token's answer to its login.
    login: Mutex<()>,
    /// Held while the log's word is kept and the mark is set.
    marking: Mutex<()>,
}

#[derive(Default)]
struct Status {
    /// Workers that can do all work now.
    live: usize,
    /// Those that can sign statements, and nothing else. Whether the token is of any use, the others say.
    stating: usize,
    /// Why a worker could not be started; forgotten once one is.
    trouble: Option<String>,
    /// A wrong signature; never forgotten.
    wrong: Option<String>,
    /// Label and serial number, once the token said them.
    is: Option<(String, String)>,
    /// What its workers go without that these settings do not say.
    without: Without,
    /// What of that was handed over for the log.
    told: Without,
    breaker: Breaker,
    /// Last workers lost in a row that had done no work.
    fruitless: u32,
    /// Workers bound earlier than the newest doubt about the keys do nothing more.
    doubts: u64,
    /// When the keys' attributes are looked at again.
    next_check: Option<Instant>,
}

impl Member {
    /// The first token and its standbys, each with its state in a folder of its own.
    pub(super) fn all(config: &TokenConfig, state_dir: &Path) -> Result<Vec<Self>, TokenError> {
        let mut members = vec![Self::new(None, config.clone(), state_dir.to_path_buf())?];
        for (name, standby) in &config.standby {
            let standby = config.of_standby(standby);
            let dir = standby_dir(state_dir).join(name);
            std::fs::create_dir_all(&dir)
                .map_err(|error| TokenError::state("make", &dir, &error))?;
            members.push(Self::new(Some(name.clone()), standby, dir)?);
        }
        Ok(members)
    }

    fn new(name: Option<String>, config: TokenConfig, dir: PathBuf) -> Result<Self, TokenError> {
        config.source()?;
        let wrong = match Distrust::in_dir(&dir).check() {
            Ok(()) => None,
            Err(TokenError::Distrusted(text)) => Some(text),
            Err(other) => return Err(other),
        };
        let status = Mutex::new(Status { wrong, ..Status::default() });
        let (login, marking) = (Mutex::default(), Mutex::default());
        Ok(Self { name, config, state_dir: dir, status, login, marking })
    }

    /// Starts a worker, logs it in and lets it find the keys.
    pub(super) fn open(&self, carried: &Carried) -> Result<Opened, TokenError> {
        let latch = Latch::in_dir(&self.state_dir);
        let mut line = {
            let _one_at_a_time = self.login.lock().unwrap_or_else(PoisonError::into_inner);
            Line::open(&self.config, &latch, false)?
        };
        let is = (plain(&line.info().label), plain(&line.info().serial));
        let without = self.unsaid(line.info().without);
        self.status(|status| {
            status.is = Some(is);
            status.without.user |= without.user;
            status.without.sandbox |= without.sandbox;
        });
        if self.config.refuse_softhsm && self.name.is_some() && line.info().is_softhsm() {
            return Err(TokenError::Config("SoftHSM is not for the main network".into()));
        }
        let bound = match carried.schemes {
            None => line.bind(&carried.keys),
            Some(schemes) => line.bind_by(&carried.keys, schemes),
        };
        match bound {
            Ok(()) => Ok(Opened::Bound(Box::new(line))),
            Err(why) if line.said_no() || matches!(why, TokenError::Keys(_)) => {
                let stage = line.failed();
                line.close();
                Ok(Opened::Refused(why, stage))
            }
            Err(why) => Err(why),
        }
    }

    /// Of a worker that somebody else starts everything, of one that the signer starts what its own entries do not say.
    fn unsaid(&self, without: Without) -> Without {
        let elsewhere = self.config.socket.is_some();
        let (confined, plain) =
            (self.config.sandbox != confine::Mode::Off, !confine::process::is_root());
        Without {
            user: without.user && (elsewhere || plain),
            sandbox: without.sandbox && (elsewhere || confined),
        }
    }

    /// What its workers go without, each once: the safeguard, and how that was said.
    pub(super) fn waived(&self) -> Vec<(&'static str, String)> {
        let (now, before) = self
            .status(|status| (status.without, std::mem::replace(&mut status.told, status.without)));
        let fresh = [
            (now.user && !before.user, "root", "--allow-root"),
            (now.sandbox && !before.sandbox, "sandbox", "--sandbox off"),
        ];
        let said = |how: &str| format!("{how}, at the token-worker of token {}", self.name());
        let fresh = fresh.into_iter().filter(|(is, _, _)| *is);
        fresh.map(|(_, what, how)| (what, said(how))).collect()
    }

    /// Whether it signed wrongly, now or before the last restart.
    pub(super) fn wrong(&self) -> Option<TokenError> {
        self.status(|status| status.wrong.clone().map(TokenError::Distrusted))
    }

    pub(super) fn live(&self) -> usize {
        self.status(|status| status.live)
    }

    pub(super) fn stating(&self) -> usize {
        self.status(|status| status.stating)
    }

    /// Number of doubts about its keys; a worker bound before the newest does nothing more.
    pub(super) fn doubts(&self) -> u64 {
        self.status(|status| status.doubts)
    }

    /// What people should know, if anything: which token, what, and where its breaker stands.
    pub(super) fn trouble(&self) -> Option<String> {
        let (text, breaker) = self.status(|status| match &status.wrong {
            Some(wrong) => Some((TokenError::Distrusted(wrong.clone()).to_string(), None)),
            None => {
                let breaker = status.breaker.describe(Instant::now()).to_string();
                status.trouble.clone().map(|text| (text, Some(breaker)))
            }
        })?;
        let whose = self.name.as_ref().map_or(String::new(), |name| format!("standby {name}: "));
        Some(match breaker {
            Some(breaker) => format!("{whose}{text} ({breaker})"),
            None => format!("{whose}{text}"),
        })
    }

    /// Where its latch and its mark of distrust are.
    pub(super) fn state_dir(&self) -> &Path {
        &self.state_dir
    }

    /// For the log.
    pub(super) fn name(&self) -> &str {
        self.name.as_deref().unwrap_or("first")
    }

    /// It signed wrongly. The first word stays, also on disk, and is kept for the log. Kept before the mark is set: cut off
    /// between the two it is told once more, never less than once.
    pub(super) fn distrust(&self, wrong: &Wrong) -> TokenError {
        // Nobody sets the mark before the first has kept its word.
        let _one_at_a_time = self.marking.lock().unwrap_or_else(PoisonError::into_inner);
        let why = TokenError::Distrusted(wrong.what.clone());
        tracing::error!(token = self.name(), "{why}");
        let (first, is) = self.status(|status| {
            let first = status.wrong.is_none();
            status.wrong.get_or_insert_with(|| wrong.what.clone());
            (first, status.is.clone())
        });
        let distrust = Distrust::in_dir(&self.state_dir);
        if first && let Err(error) = distrust.keep(self.entry(wrong, is)) {
            tracing::error!("the log will not say that the token signed wrongly: {error}");
        }
        if let Err(error) = distrust.set(&wrong.what) {
            tracing::error!("a restart will not know that the token cannot be trusted: {error}");
        }
        why
    }

    fn entry(&self, wrong: &Wrong, is: Option<(String, String)>) -> Event {
        let Wrong { what, wallet, key, request } = wrong.clone();
        let unknown = || (self.config.label.clone().unwrap_or_default(), String::new());
        let (label, serial) = is.unwrap_or_else(unknown);
        let seen_unix = Clock::system().unix_seconds();
        let name = self.name().to_owned();
        Event::TokenDistrusted { name, label, serial, what, wallet, key, request, seen_unix }
    }

    /// Its keys are not what they must be: nothing is asked of it until a worker has found them right again.
    pub(super) fn doubt(&self, why: &TokenError) {
        tracing::error!(token = self.name(), "{why}");
        self.status(|status| {
            status.trouble = Some(why.to_string());
            status.doubts = status.doubts.saturating_add(1);
        });
    }

    /// A worker can do work.
    pub(super) fn up(&self, only_states: bool) {
        self.change_breaker(|status| {
            let working = if only_states { &mut status.stating } else { &mut status.live };
            *working = working.saturating_add(1);
            // While nobody does anything else, why is still to be said.
            if status.live > 0 {
                status.trouble = None;
            }
            status.breaker.bound();
        });
    }

    /// A worker did some work.
    pub(super) fn worked(&self) {
        self.change_breaker(|status| {
            status.fruitless = 0;
            status.breaker.worked();
        });
    }

    /// A worker was lost; the others, or its successor, do its work. False when the token has been failing for so
    /// long that nobody should wait for it.
    pub(super) fn lost(&self, worked: bool, why: &TokenError) -> bool {
        tracing::warn!(token = self.name(), "{why}");
        self.change_breaker(|status| {
            status.live = status.live.saturating_sub(1);
            if status.live > 0 || worked {
                return true;
            }
            status.fruitless = status.fruitless.saturating_add(1);
            // One may have been killed by accident.
            if status.fruitless > 1 {
                status.breaker.failed(Instant::now());
            }
            if !status.breaker.is_patient() {
                status.trouble.get_or_insert_with(|| why.to_string());
            }
            status.breaker.is_patient()
        })
    }

    /// A worker that signed statements alone was lost: the others sign them, or its successor.
    pub(super) fn lost_stating(&self, why: &TokenError) {
        tracing::warn!(token = self.name(), "{why}");
        self.status(|status| status.stating = status.stating.saturating_sub(1));
    }

    /// A worker ended in good order.
    pub(super) fn closed(&self, only_states: bool) {
        self.status(|status| {
            let working = if only_states { &mut status.stating } else { &mut status.live };
            *working = working.saturating_sub(1);
        });
    }

    /// A worker could not be started, perhaps by accident. True when nobody should wait for this token now.
    pub(super) fn cannot_start(&self, why: &TokenError, accident: bool) -> bool {
        tracing::error!(token = self.name(), "cannot start a token worker: {why}");
        self.change_breaker(|status| {
            status.trouble = Some(why.to_string());
            let closed = status.breaker.describe(Instant::now()).is_closed();
            let down = status.live == 0 && !(accident && closed);
            if down {
                status.breaker.failed(Instant::now());
            }
            down
        })
    }

    /// Whether a worker may be started now, or how long to wait.
    pub(super) fn may_try(&self) -> Result<(), Duration> {
        self.change_breaker(|status| status.breaker.may_try(Instant::now()))
    }

    /// Whether it is time to look at the keys' attributes.
    pub(super) fn check_is_due(&self) -> bool {
        self.status(|status| status.next_check.is_none_or(|next| Instant::now() >= next))
    }

    /// True for the one worker that looks now.
    pub(super) fn claim_check(&self) -> bool {
        let every = self.config.check_time();
        self.status(|status| {
            let now = Instant::now();
            let due =
                *status.next_check.get_or_insert(now.checked_add(every).unwrap_or(now)) <= now;
            if due {
                status.next_check = now.checked_add(every);
            }
            due
        })
    }

    /// Says so when the breaker goes from one state to another.
    fn change_breaker<T>(&self, change: impl FnOnce(&mut Status) -> T) -> T {
        self.status(|status| {
            let before = status.breaker.describe(Instant::now()).kind();
            let done = change(status);
            let now = status.breaker.describe(Instant::now());
            if now.kind() != before {
                tracing::info!(token = self.name(), "{now}");
            }
            done
        })
    }

    fn status<T>(&self, change: impl FnOnce(&mut Status) -> T) -> T {
        change(&mut self.status.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Where the standbys' folders are.
pub(crate) fn standby_dir(state_dir: &Path) -> PathBuf {
    state_dir.join("standby")
}

/// Every folder that holds a latch and a mark of distrust.
pub(crate) fn state_dirs(state_dir: &Path) -> Vec<PathBuf> {
    let mut dirs = vec![state_dir.to_path_buf()];
    if let Ok(entries) = std::fs::read_dir(standby_dir(state_dir)) {
        dirs.extend(entries.flatten().map(|entry| entry.path()).filter(|path| path.is_dir()));
    }
    dirs
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::process::Command;

    use super::*;

    fn member(dir: &Path) -> Member {
        let config = TokenConfig { socket: Some(dir.join("worker")), ..TokenConfig::default() };
        Member::new(None, config, dir.to_path_buf()).unwrap()
    }

    fn wrong() -> Wrong {
        Wrong { what: "it lied".into(), ..Wrong::default() }
    }

    #[test]
    fn what_the_log_is_to_say_is_kept_before_the_mark_is_set() {
        let dir = tempfile::tempdir().unwrap();
        let (mark, kept) =
            (dir.path().join("token-distrusted"), dir.path().join("token-distrusted-unlogged"));
        let member = member(dir.path());
        // Keeping reads what was kept before: here it waits until this test has looked.
        assert!(Command::new("mkfifo").arg(&kept).status().unwrap().success());
        std::thread::scope(|scope| {
            let distrusting = scope.spawn(|| member.distrust(&wrong()));
            let pipe = fs::OpenOptions::new().write(true).open(&kept).unwrap();
            let marked = mark.exists();
            drop(pipe);
            distrusting.join().unwrap();
            assert!(!marked, "the mark was set first");
        });
        let kept = Distrust::in_dir(dir.path()).kept().unwrap();
        assert!(mark.exists());
        assert!(
            matches!(&kept[..], [Event::TokenDistrusted { what, .. }] if what == "it lied"),
            "{kept:?}"
        );
    }

    #[test]
    fn the_mark_is_set_also_where_nothing_can_be_kept() {
        let dir = tempfile::tempdir().unwrap();
        let member = member(dir.path());
        fs::create_dir(dir.path().join("token-distrusted-unlogged")).unwrap();
        member.distrust(&wrong());
        let marked = Distrust::in_dir(dir.path()).check();
        assert_eq!(marked, Err(TokenError::Distrusted("it lied".into())));
    }
}
