//! The token's own memory of how long the log was (`anchor = true` under `[token]`): read at each start, which holds the log
//! against it, and written now and then while the log grows. A token is given none before the log was verified, and one that it
//! has is replaced only after the log was held against it. Failing to write it stops nothing.

mod giving_up;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use audit::checkpoint::Checkpoint;

use crate::app::App;
use crate::log::{Clock, Elsewhere, LogError, Whose};
use crate::officers::notices::Topic;
use crate::start::StartError;
use crate::token::{AnchorAsk, Anchored, Token, TokenError, read_file};

pub use giving_up::forget;

/// How long the end waits for it.
const END_PATIENCE: Duration = Duration::from_secs(10);
/// Beside a token's latch: it was given an anchor, over so many entries, at this Unix second.
const REMEMBERED: &str = "anchored";

/// What was done about the anchors of this process's tokens, by name.
#[derive(Debug)]
pub struct Anchors {
    begun: Instant,
    kept: Mutex<BTreeMap<String, Kept>>,
}

#[derive(Debug, Default)]
struct Kept {
    /// Entries under the anchor, since the log was held against it last. None while the token is away: nobody knows what it
    /// comes back with.
    size: Option<u64>,
    /// When it was last over all that the newest checkpoint covered.
    whole: Option<Instant>,
    /// Why it is not kept now.
    trouble: Option<String>,
}

/// What is told of a token's anchor, by the token's place in the configuration.
pub(crate) struct Standing {
    pub(crate) number: usize,
    /// Entries of the log that it is not known to cover.
    pub(crate) lag: u64,
    /// Seconds since it covered the newest checkpoint; of one that never did, since this signer started.
    pub(crate) age_seconds: u64,
}

/// What the tokens remember, for the log to be held against. At least one of those that keep an anchor must be heard.
///
/// # Errors
/// [`StartError::Anchor`] where one has none any more or not the one that it must have.
pub(crate) async fn read(token: &Token) -> Result<Vec<Elsewhere>, StartError> {
    let tokens = token.anchored();
    let (mut notes, mut heard) = (Vec::new(), tokens.is_empty());
    if !heard && token.info().is_known_software() {
        tracing::warn!(
            "the token keeps its anchor in files of this machine: whoever sets log and state folder back can set it back too"
        );
    }
    for anchored in &tokens {
        let name = anchored.name.as_str();
        if !anchored.usable {
            tracing::warn!(token = name, "its anchor is not asked for, since the token is away");
            continue;
        }
        let said = match read_one(token, anchored).await {
            // Another one may be heard.
            Err(StartError::Token(TokenError::Unavailable(why))) => {
                tracing::warn!(token = name, "its anchor was asked for in vain: {why}");
                continue;
            }
            said => said?,
        };
        heard = true;
        notes.extend(said.into_iter().map(|note| (Whose::Token(name.to_owned()), note)));
    }
    if heard {
        return Ok(notes);
    }
    let text = "none of the tokens that keep an anchor can be asked for it".to_owned();
    Err(TokenError::Unavailable(text).into())
}

async fn read_one(token: &Token, anchored: &Anchored) -> Result<Vec<String>, StartError> {
    let name = anchored.name.clone();
    let said = match token.anchor(&name, &AnchorAsk::Read).await {
        Err(TokenError::Keys(why)) => return Err(StartError::Anchor { token: name, why }),
        said => said?,
    };
    if said.is_empty() && remembered(&anchored.dir)?.is_some() {
        let why =
            "it was given one, and holds none any more: it was exchanged or emptied".to_owned();
        return Err(StartError::Anchor { token: name, why });
    }
    Ok(said.iter().map(|note| String::from_utf8_lossy(note).into_owned()).collect())
}

/// Keeps them until it is stopped, which it may be anywhere.
pub(crate) async fn run(app: Arc<App>) {
    if app.token.anchored().is_empty() {
        return;
    }
    loop {
        hold(&app).await;
        write(&app).await;
        tokio::time::sleep(app.token.anchor_time()).await;
    }
}

/// The same at the end of the log: held against it while that can still be done.
pub(crate) async fn close(app: &App) -> Result<(), LogError> {
    in_time(hold(app)).await;
    let closed = app.log.close().await;
    in_time(write(app)).await;
    closed
}

/// A token that hangs keeps nobody from ending.
async fn in_time(done: impl Future<Output = ()>) {
    if tokio::time::timeout(END_PATIENCE, done).await.is_err() {
        tracing::error!("ALARM: a token did not keep the log's anchor in time at the end");
    }
}

/// Holds the log against each anchor, every time: a token that was away may have come back with an old one, or as another one.
pub async fn hold(app: &App) {
    let all = app.token.anchored();
    // Whoever stops in the midst of it, at a token that hangs, has held the log against none of the others now.
    all.iter().for_each(|anchored| app.anchors.of(&anchored.name, |kept| kept.size = None));
    for anchored in all {
        let held = match anchored.usable {
            true => hold_one(app, &anchored).await.map_err(|why| why.to_string()),
            false => Err("it is away, or not asked any more".to_owned()),
        };
        app.anchors.of(&anchored.name, |kept| kept.size = held.as_ref().ok().copied());
        if let Err(why) = held {
            trouble(app, &anchored.name, Some(why));
        }
    }
}

/// The entries under what it remembers.
async fn hold_one(app: &App, anchored: &Anchored) -> Result<u64, StartError> {
    let (mut smallest, notes) = (None, read_one(&app.token, anchored).await?);
    for note in notes {
        let size = app.log.anchored(&anchored.name, &note).await?;
        smallest = Some(smallest.map_or(size, |before: u64| before.min(size)));
    }
    Ok(smallest.unwrap_or(0))
}

/// Writes the newest checkpoint to each token whose anchor the log was held against, where the log grew.
pub async fn write(app: &App) {
    let origin = &app.log.opening().origin;
    let Some(note) = own(&app.log.newest()) else { return };
    let Ok(newest) = Checkpoint::open(&note, origin, &app.token.keys().checkpoint) else { return };
    for anchored in app.token.anchored() {
        let Some(held) = app.anchors.of(&anchored.name, |kept| kept.size) else { continue };
        let mut written = Ok(());
        if held < newest.size {
            let ask = AnchorAsk::Write(note.clone().into_bytes());
            let asked = app.token.anchor(&anchored.name, &ask).await;
            written = asked
                .and_then(|_| remember(&anchored.dir, newest.size))
                .map_err(|why| why.to_string());
        }
        if written.is_ok() {
            app.anchors.of(&anchored.name, |kept| {
                (kept.size, kept.whole) = (Some(held.max(newest.size)), Some(Instant::now()));
            });
        }
        trouble(app, &anchored.name, written.err());
    }
}

/// How far each token's anchor is behind the log.
pub(crate) fn standings(app: &App) -> Vec<Standing> {
    let size = app.log.status().head.size;
    let standing = |anchored: Anchored| {
        let (held, whole) = app.anchors.of(&anchored.name, |kept| (kept.size, kept.whole));
        Standing {
            number: anchored.number,
            lag: size.saturating_sub(held.unwrap_or(0)),
            age_seconds: whole.unwrap_or(app.anchors.begun).elapsed().as_secs(),
        }
    };
    app.token.anchored().into_iter().map(standing).collect()
}

/// Says once that an anchor is not kept, and that it is again.
fn trouble(app: &App, name: &str, why: Option<String>) {
    let before = app.anchors.of(name, |kept| std::mem::replace(&mut kept.trouble, why.clone()));
    let said = match (&before, &why) {
        (None, None) => return,
        (Some(before), Some(why)) if before == why => return,
        (_, Some(why)) => format!("token {name} does not keep the log's anchor: {why}"),
        (Some(_), None) => format!("token {name} keeps the log's anchor again"),
    };
    match why {
        Some(_) => tracing::error!("ALARM: {said}"),
        None => tracing::info!("{said}"),
    }
    app.notices.tell("alarm", Topic::NONE, &[("anchor", &said)]);
}

/// The note with the token's own signature alone: witnesses' lines would make it long.
fn own(note: &str) -> Option<String> {
    let (text, signatures) = note.split_once("\n\n")?;
    Some(format!("{text}\n\n{}\n", signatures.lines().next()?))
}

/// How many entries the token's anchor was over when it was written last, and when that was.
pub(crate) fn remembered(dir: &Path) -> Result<Option<(u64, u64)>, TokenError> {
    let text = read_file(&dir.join(REMEMBERED))?;
    let number = |text: Option<&str>| text.and_then(|text| text.parse().ok()).unwrap_or(0);
    Ok(text.map(|text| {
        let mut words = text.split_whitespace();
        (number(words.next()), number(words.next()))
    }))
}

fn remember(dir: &Path, size: u64) -> Result<(), TokenError> {
    let text = format!("{size} {}\n", Clock::system().unix_seconds());
    crate::token::write_durably(&dir.join(REMEMBERED), text.as_bytes())
}

impl Default for Anchors {
    fn default() -> Self {
        Self { begun: Instant::now(), kept: Mutex::default() }
    }
}

impl Anchors {
    fn of<T>(&self, name: &str, change: impl FnOnce(&mut Kept) -> T) -> T {
        change(self.lock().entry(name.to_owned()).or_default())
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Kept>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tokens_own_signature_is_kept_and_no_witnesses() {
        let note = "cofferdam/a\n7\nAAAA\n\n\u{2014} cofferdam/a BBBB\n\u{2014} alpha CCCC\n";
        assert_eq!(own(note).unwrap(), note.replace("\u{2014} alpha CCCC\n", ""));
        assert_eq!(own("cofferdam/a\n7\n"), None);
        assert_eq!(own(""), None);
    }
}
