//! Remembers on disk that the PIN was refused, so that it is never tried again, by no worker and after no
//! restart, until a person runs `signer pin clear`. It never holds the PIN or anything made from it.
//!
//! The worker says when it sends the PIN, so that one that ended before has cost no try. Before each login a note is written (`pin-attempt`); only the token's word on the PIN removes it. A note left
//! behind means that signer or worker died before the answer, or that the answer was another error: the try may
//! have counted. One such try is enough to refuse the next, unless this same PIN file, unchanged, was accepted
//! before (`pin-accepted`): then two are forgiven. Where the signer cannot see the PIN file (workers
//! behind a socket), it may have been changed at any time, and nothing is forgiven.
//!
//! One login at a time uses a latch, over all processes of the state directory: from the note to the answer `pin-lock` is
//! locked, so that no two send a PIN of which neither knows what the other heard.
//!
//! While a change of the PIN is finished this stays shut, and a note of its own (`pin-tried`) says that the new PIN was sent.

use std::fs::{self, File, TryLockError};
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::TokenError;
use super::keys::{sync_dir, write_durably};

/// Logins in a row without the token's word that a PIN file may have cost before it is not tried again: one that
/// was accepted before and did not change since, and any other.
const KNOWN_TRIES_MAX: u32 = 3;
const UNKNOWN_TRIES_MAX: u32 = 1;

/// How long another process's login is waited for, and how often it is looked at: no worker may take longer to start.
const TURN_MAX: Duration = Duration::from_secs(300);
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// A person's word that covers the last try too.
const LAST_TRY: &str = "even the last try";

/// The latch of one state directory.
pub(crate) struct Latch {
    refused: PathBuf,
    attempt: PathBuf,
    accepted: PathBuf,
    /// A person's word that the PIN is right, good for one try.
    word: PathBuf,
    /// A try while the latch was shut that the token has not answered.
    tried: PathBuf,
    /// Locked while a login is on its way.
    turn: PathBuf,
    turn_max: Duration,
}

/// A login that has begun. Dropped without an answer, its note stays.
pub(crate) struct Attempt<'a> {
    latch: &'a Latch,
    pin_file: String,
    /// Tries before this one that nobody answered.
    unanswered: u32,
    /// One login at a time: two workers that die together must not count as two tries in a row.
    _alone: MutexGuard<'static, ()>,
    /// The same over all processes.
    _turn: File,
}

impl Latch {
    pub(crate) fn in_dir(state_dir: &Path) -> Self {
        Self {
            refused: state_dir.join("pin-refused"),
            attempt: state_dir.join("pin-attempt"),
            accepted: state_dir.join("pin-accepted"),
            word: state_dir.join("pin-word"),
            tried: state_dir.join("pin-tried"),
            turn: state_dir.join("pin-lock"),
            turn_max: TURN_MAX,
        }
    }

    /// An error once the PIN was refused.
    pub(crate) fn check(&self) -> Result<(), TokenError> {
        match read(&self.refused)? {
            Some(text) => Err(TokenError::PinLatched(text.trim_end().to_owned())),
            None => Ok(()),
        }
    }

    /// Whether a person allowed the last try before the token locks the PIN.
    pub(crate) fn last_try_allowed(&self) -> Result<bool, TokenError> {
        Ok(read(&self.word)?.is_some_and(|word| word == LAST_TRY))
    }

    /// Notes that a login is about to be tried with the PIN in this file. `wrong_before` says that the token has seen
    /// a wrong PIN since its last login: then only a known PIN is tried, or one that a person has given a word for.
    pub(crate) fn begin(
        &self,
        pin_file: Option<&Path>,
        wrong_before: bool,
    ) -> Result<Attempt<'_>, TokenError> {
        static ALONE: Mutex<()> = Mutex::new(());
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let turn = self.turn()?;
        self.check()?;
        let pin_file = identity(pin_file);
        let unanswered = match read(&self.attempt)? {
            Some(text) => text.trim().parse::<u32>().unwrap_or(KNOWN_TRIES_MAX),
            None => 0,
        };
        let known_good =
            !pin_file.is_empty() && read(&self.accepted)?.is_some_and(|text| text == pin_file);
        if wrong_before && !known_good && read(&self.word)?.is_none() {
            return Err(TokenError::PinLatched(
                "the token has seen a wrong PIN since the last login, and this PIN file was never accepted".into(),
            ));
        }
        let allowed = if known_good { KNOWN_TRIES_MAX } else { UNKNOWN_TRIES_MAX };
        if unanswered >= allowed {
            let text = "an earlier login ended without the token's answer, so it may have counted as a wrong PIN";
            self.latch(text)?;
            return Err(TokenError::PinLatched(text.to_owned()));
        }
        write_durably(&self.attempt, unanswered.saturating_add(1).to_string().as_bytes())?;
        remove(&self.word)?;
        Ok(Attempt { latch: self, pin_file, unanswered, _alone: alone, _turn: turn })
    }

    /// The lock that lets one process at a time log in; an error when another does not come to an end.
    fn turn(&self) -> Result<File, TokenError> {
        let failed = |error: std::io::Error| TokenError::state("lock", &self.turn, &error);
        let mut create = File::options();
        let file = create.create(true).truncate(false).write(true).open(&self.turn);
        let file = file.map_err(failed)?;
        let begun = Instant::now();
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(file),
                Err(TryLockError::WouldBlock) if begun.elapsed() < self.turn_max => {
                    std::thread::sleep(LOOK_EVERY);
                }
                Err(TryLockError::WouldBlock) => {
                    let text = "another process is logging in to this token and has no answer yet; the PIN was not sent, try again";
                    return Err(TokenError::state("lock", &self.turn, &text));
                }
                Err(TryLockError::Error(error)) => return Err(failed(error)),
            }
        }
    }

    /// Lets no login happen until this is cleared.
    pub(crate) fn hold(&self, why: &str) -> Result<(), TokenError> {
        self.latch(why)
    }

    /// Why no login happens, if none does.
    pub(crate) fn held(&self) -> Result<Option<String>, TokenError> {
        Ok(read(&self.refused)?.map(|text| text.trim_end().to_owned()))
    }

    /// Whether a try while this was shut got no answer.
    pub(crate) fn is_tried(&self) -> Result<bool, TokenError> {
        Ok(read(&self.tried)?.is_some())
    }

    /// Notes, durably, that a PIN is about to be tried while this stays shut.
    pub(crate) fn begin_try(&self) -> Result<(), TokenError> {
        write_durably(&self.tried, b"once")
    }

    /// The token said what it makes of that PIN, or never saw it.
    pub(crate) fn end_try(&self) -> Result<(), TokenError> {
        remove(&self.tried).map(|_| ())
    }

    /// What stands in the way of the next login; nothing most of the time.
    pub(crate) fn state(&self) -> Result<Option<String>, TokenError> {
        if let Some(text) = read(&self.refused)? {
            return Ok(Some(text.trim_end().to_owned()));
        }
        let left = read(&self.attempt)?;
        Ok(left.map(|tries| format!("{} login(s) without the token's answer", tries.trim())))
    }

    /// Forgets a refusal. For a person who has put the right PIN in place, and who may allow even the last try.
    pub(crate) fn clear(&self, last_try: bool) -> Result<bool, TokenError> {
        write_durably(&self.word, if last_try { LAST_TRY } else { "once" }.as_bytes())?;
        // First: with the latch gone nobody would look at it before the next change.
        remove(&self.tried)?;
        let was_refused = remove(&self.refused)?;
        let was_left = remove(&self.attempt)?;
        remove(&self.accepted)?;
        Ok(was_refused || was_left)
    }

    fn latch(&self, text: &str) -> Result<(), TokenError> {
        write_durably(&self.refused, text.as_bytes())
    }
}

impl Attempt<'_> {
    /// The token took the PIN.
    pub(crate) fn accepted(self) -> Result<(), TokenError> {
        if read(&self.latch.accepted)?.as_deref() != Some(self.pin_file.as_str()) {
            write_durably(&self.latch.accepted, self.pin_file.as_bytes())?;
        }
        self.answered()
    }

    /// The worker was gone before it could be asked: the token never saw the PIN.
    pub(crate) fn not_sent(self) -> Result<(), TokenError> {
        match self.unanswered {
            0 => self.answered(),
            before => write_durably(&self.latch.attempt, before.to_string().as_bytes()),
        }
    }

    /// The token refused the PIN; it is never tried again.
    pub(crate) fn refused(self, text: &str) -> Result<(), TokenError> {
        self.latch.latch(text)?;
        self.answered()
    }

    fn answered(self) -> Result<(), TokenError> {
        remove(&self.latch.attempt).map(|_| ())
    }
}

/// Tells one version of a PIN file from another without reading it; empty when it cannot be seen.
pub(crate) fn identity(pin_file: Option<&Path>) -> String {
    match pin_file.map(fs::metadata) {
        Some(Ok(meta)) => format!(
            "{}:{}:{}.{}:{}.{}:{}",
            meta.dev(),
            meta.ino(),
            meta.mtime(),
            meta.mtime_nsec(),
            meta.ctime(),
            meta.ctime_nsec(),
            meta.size()
        ),
        _ => String::new(),
    }
}

pub(crate) fn read(path: &Path) -> Result<Option<String>, TokenError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(TokenError::state("read", path, &error)),
    }
}

pub(crate) fn remove(path: &Path) -> Result<bool, TokenError> {
    match fs::remove_file(path).and_then(|()| sync_dir(path)) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(TokenError::state("remove", path, &error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn latch() -> (tempfile::TempDir, Latch, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let pin_file = dir.path().join("user.pin");
        fs::write(&pin_file, "1234").unwrap();
        let latch = Latch::in_dir(dir.path());
        (dir, latch, pin_file)
    }

    fn is_latched<T>(result: &Result<T, TokenError>) -> bool {
        matches!(result, Err(TokenError::PinLatched(_)))
    }

    #[test]
    fn a_refusal_outlives_everything_but_clear() {
        let (dir, latch, pin_file) = latch();
        latch.begin(Some(&pin_file), false).unwrap().refused("the token said so").unwrap();
        assert!(is_latched(&latch.begin(Some(&pin_file), false)));
        let again = Latch::in_dir(dir.path());
        let refused = again.check().unwrap_err().to_string();
        assert!(refused.contains("the token said so") && refused.contains("signer pin clear"));
        fs::write(&pin_file, "another PIN").unwrap();
        assert!(is_latched(&again.begin(Some(&pin_file), false)));
        assert!(again.clear(false).unwrap());
        assert!(!again.clear(false).unwrap());
        again.begin(Some(&pin_file), false).unwrap().accepted().unwrap();
    }

    /// A lock of another open file is in the way as another process's is.
    #[test]
    fn while_another_process_logs_in_nothing_is_sent() {
        let (dir, mut latch, pin_file) = latch();
        latch.turn_max = Duration::from_millis(50);
        let other = Latch::in_dir(dir.path()).turn().unwrap();
        let refused = latch.begin(Some(&pin_file), false).map(drop).unwrap_err().to_string();
        assert!(refused.contains("another process is logging in"), "{refused}");
        assert!(read(&latch.attempt).unwrap().is_none() && latch.check().is_ok());
        // It is let in once the other has its answer, and sees what that was.
        latch.turn_max = TURN_MAX;
        let waiting = std::thread::spawn(move || latch.begin(Some(&pin_file), false).map(drop));
        latch_in(dir.path(), "the token said so");
        drop(other);
        assert!(is_latched(&waiting.join().unwrap()));
    }

    fn latch_in(state_dir: &Path, text: &str) {
        Latch::in_dir(state_dir).hold(text).unwrap();
    }

    #[test]
    fn a_first_login_without_an_answer_is_not_repeated() {
        let (_dir, latch, pin_file) = latch();
        drop(latch.begin(Some(&pin_file), false).unwrap());
        assert!(is_latched(&latch.begin(Some(&pin_file), false)));
        assert!(is_latched(&latch.check()));
    }

    #[test]
    fn a_known_pin_survives_two_crashes_but_not_three_in_a_row() {
        let (_dir, latch, pin_file) = latch();
        latch.begin(Some(&pin_file), false).unwrap().accepted().unwrap();
        drop(latch.begin(Some(&pin_file), false).unwrap());
        latch.begin(Some(&pin_file), false).unwrap().accepted().unwrap();
        for _ in 0..2 {
            drop(latch.begin(Some(&pin_file), false).unwrap());
        }
        latch.begin(Some(&pin_file), false).unwrap().not_sent().unwrap();
        drop(latch.begin(Some(&pin_file), false).unwrap());
        assert!(is_latched(&latch.begin(Some(&pin_file), false)));
    }

    #[test]
    fn a_changed_pin_file_is_not_a_known_one() {
        let (_dir, latch, pin_file) = latch();
        latch.begin(Some(&pin_file), false).unwrap().accepted().unwrap();
        fs::write(&pin_file, "longer than before").unwrap();
        drop(latch.begin(Some(&pin_file), false).unwrap());
        assert!(is_latched(&latch.begin(Some(&pin_file), false)));
    }

    #[test]
    fn a_pin_file_that_cannot_be_seen_is_never_a_known_one() {
        let (_dir, latch, _) = latch();
        latch.begin(None, false).unwrap().accepted().unwrap();
        drop(latch.begin(None, false).unwrap());
        assert!(is_latched(&latch.begin(None, false)));
    }

    #[test]
    fn where_the_token_saw_a_wrong_pin_only_a_known_one_or_a_word_will_do() {
        let (_dir, latch, pin_file) = latch();
        assert!(is_latched(&latch.begin(Some(&pin_file), true)));
        assert!(latch.check().is_ok(), "no try was made, so none is remembered");
        latch.clear(false).unwrap();
        assert!(!latch.last_try_allowed().unwrap());
        // The word is good for one try.
        latch.begin(Some(&pin_file), true).unwrap().accepted().unwrap();
        latch.begin(Some(&pin_file), true).unwrap().accepted().unwrap();
        fs::write(&pin_file, "another PIN").unwrap();
        assert!(is_latched(&latch.begin(Some(&pin_file), true)));
        latch.clear(true).unwrap();
        assert!(latch.last_try_allowed().unwrap());
        latch.begin(Some(&pin_file), true).unwrap().not_sent().unwrap();
        assert!(!latch.last_try_allowed().unwrap());
    }
}
