//! The audit on databases that the signer's own log wrote: closed, running, killed, copied, touched, exported.

use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use audit::entry::{Entry, Event};
use ed25519_dalek::Signer as _;
use policy::intent::RequestId;
use signer::log::{CheckpointSigner, Clock, Fold, FoldError, Log, Settings, Step, Store};
use tempfile::TempDir;

use crate::cluster;
use crate::support::{key_hex, officer, public, story, token};

/// A state that remembers nothing.
#[derive(Default)]
struct Blind;

impl Fold for Blind {
    fn apply(&mut self, _: u64, _: &Entry) -> Result<(), FoldError> {
        Ok(())
    }
    fn spend_recorded(&self, _: RequestId, _: &[u8; 32]) -> bool {
        false
    }
}

struct Software;

impl CheckpointSigner for Software {
    fn sign<'a>(
        &'a self,
        text: &'a [u8],
    ) -> Pin<Box<dyn Future<Output = Result<[u8; 64], String>> + Send + 'a>> {
        Box::pin(async move { Ok(token().sign(text).to_bytes()) })
    }
}

async fn begin(url: &str, folder: &Path) -> Log<Blind> {
    let mut store = Store::open(url).await.unwrap();
    signer::log::begin(&mut store, story().remove(0), &Clock::system(), folder).await.unwrap();
    Log::open(store, Blind, settings(folder)).await.unwrap()
}

fn settings(folder: &Path) -> Settings {
    Settings {
        checkpoint_key: public(&token()),
        state_dir: folder.to_owned(),
        signer: Arc::new(Software),
        clock: Clock::system(),
        checkpoint_retry: Duration::from_millis(1),
        audit_every: Duration::from_secs(3_600),
        reread_every: Duration::ZERO,
        snapshot_every: u64::MAX,
        witnesses: Arc::default(),
        anchors: Vec::new(),
    }
}

async fn tell(log: &Log<Blind>, events: impl IntoIterator<Item = Event>) {
    for event in events {
        log.commit(|_| Step::write(vec![event], ())).await.unwrap();
    }
}

async fn verify(arguments: &[&str]) -> Result<String, String> {
    let key = key_hex();
    let mut all: Vec<String> = ["log", "verify", "--key", &key].map(str::to_owned).into();
    all.extend(arguments.iter().map(|&a| a.to_owned()));
    // Its own thread: the command brings its own runtime.
    let run = move || officer(&all.iter().map(String::as_str).collect::<Vec<_>>());
    tokio::task::spawn_blocking(run).await.unwrap()
}

async fn export(url: &str, file: &str) -> Result<String, String> {
    let (url, file) = (url.to_owned(), file.to_owned());
    let run = move || officer(&["log", "export", "--database", &url, "--out", &file]);
    tokio::task::spawn_blocking(run).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_sqlite_log_verifies_and_exports() {
    let folder = TempDir::new().unwrap();
    let url = format!("sqlite:{}", folder.path().join("log.db").display());
    let log = begin(&url, folder.path()).await;
    tell(&log, story().into_iter().skip(1)).await;
    log.close().await.unwrap();

    let kept = folder.path().join("checkpoint");
    let said =
        verify(&["--database", &url, "--checkpoint", kept.to_str().unwrap(), "--dump"]).await;
    let said = said.unwrap();
    assert!(said.contains("entries     17, every one"), "{said}");
    assert!(said.contains("The log holds."), "{said}");
    assert!(said.contains("invoice-1") && said.contains("customer 2"), "{said}");
    assert!(!said.contains('\u{1b}') && !said.contains("warning"), "{said}");

    let file = folder.path().join("log.export");
    let file = file.to_str().unwrap();
    assert!(export(&url, file).await.unwrap().contains("17 entries"));
    assert!(export(&url, file).await.unwrap_err().contains("overwritten"));
    let again = verify(&["--export", file]).await.unwrap();
    assert!(again.contains("every one signed by the pinned key"), "{again}");
    assert!(said.ends_with(again.split_once("log         ").unwrap().1));

    // One character of the export changed, and the export cut off.
    let text = std::fs::read_to_string(file).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    std::fs::write(file, text.replacen(&lines[9][20..24], "AAAA", 1)).unwrap();
    assert!(verify(&["--export", file]).await.is_err());
    std::fs::write(file, &text[..text.len() - 3]).unwrap();
    assert!(verify(&["--export", file]).await.unwrap_err().contains("cut off"));
    std::fs::write(file, lines[..9].join("\n") + "\n").unwrap();
    let short = verify(&["--export", file, "--checkpoint", kept.to_str().unwrap()]).await;
    assert!(short.unwrap_err().contains("old copy"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_log_is_refused_and_its_copy_verified() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("log.db");
    let url = format!("sqlite:{}", path.display());
    let log = begin(&url, folder.path()).await;
    tell(&log, story().into_iter().skip(1)).await;
    let refused = verify(&["--database", &url]).await.unwrap_err();
    assert!(refused.contains("the signer is running"), "{refused}");

    // What a power cut, a kill, or `cp` leaves: the newest entries are in the -wal file.
    let copies = TempDir::new().unwrap();
    let copy = copies.path().join("log.db");
    std::fs::copy(&path, &copy).unwrap();
    std::fs::copy(folder.path().join("log.db-wal"), copies.path().join("log.db-wal")).unwrap();
    let url_of_copy = format!("sqlite:{}", copy.display());
    let said = verify(&["--database", &url_of_copy]).await.unwrap();
    assert!(said.contains("entries     17, every one"), "{said}");

    let alone = copies.path().join("alone.db");
    std::fs::copy(&path, &alone).unwrap();
    let refused = verify(&["--database", &format!("sqlite:{}", alone.display())]).await;
    assert!(refused.is_err(), "without its -wal file entries are missing");
    log.close().await.unwrap();
    verify(&["--database", &url]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_postgres_log_verifies_while_it_runs_and_an_edit_is_named() {
    use sqlx::Connection as _;
    let folder = TempDir::new().unwrap();
    let url = cluster::fresh_database().await;
    let log = begin(&url, folder.path()).await;
    tell(&log, story().into_iter().skip(1)).await;
    let said = verify(&["--database", &url]).await.unwrap();
    assert!(said.contains("entries     17, every one"), "{said}");
    log.close().await.unwrap();
    let mut connection = sqlx::PgConnection::connect(&url).await.unwrap();
    let edit =
        "UPDATE entries SET bytes = (SELECT bytes FROM entries WHERE seq = 14) WHERE seq = 9";
    sqlx::raw_sql(edit).execute(&mut connection).await.unwrap();
    let error = verify(&["--database", &url]).await.unwrap_err();
    assert!(error.contains("entry 10") || error.contains("checkpoint after"), "{error}");
}

/// Rows that somebody appended are no history: not shown, not judged, and the officer is told.
#[tokio::test(flavor = "multi_thread")]
async fn rows_beyond_the_checkpoint_are_not_presented() {
    use sqlx::Connection as _;
    let folder = TempDir::new().unwrap();
    let url = format!("sqlite:{}", folder.path().join("log.db").display());
    let log = begin(&url, folder.path()).await;
    tell(&log, story().into_iter().skip(1)).await;
    log.close().await.unwrap();
    let mut connection = sqlx::SqliteConnection::connect(&url).await.unwrap();
    let version = "forged".to_owned();
    let event = Event::Service { state: "made up".to_owned(), version };
    let bytes = Entry { unix_ms: u64::MAX / 2, event }.encode().unwrap();
    for (seq, bytes) in [(17_i64, bytes), (18, vec![0])] {
        let insert = sqlx::query("INSERT INTO entries (seq, bytes) VALUES ($1, $2)");
        insert.bind(seq).bind(bytes).execute(&mut connection).await.unwrap();
    }
    sqlx::raw_sql("UPDATE fence SET size = 19").execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    let file = folder.path().join("log.export");
    let file = file.to_str().unwrap();
    export(&url, file).await.unwrap();
    for source in [["--database", &url], ["--export", file]] {
        let said = verify(&[source[0], source[1], "--dump"]).await.unwrap();
        assert!(said.contains("entries     17, every one"), "{said}");
        assert!(said.contains("2 rows beyond the newest checkpoint are not covered"), "{said}");
        assert!(!said.contains("made up") && !said.contains("forged"), "{said}");
    }

    // The signer's next start writes down what it set aside, and the officer sees that.
    let store = Store::open(&url).await.unwrap();
    let log = Log::open(store, Blind, settings(folder.path())).await.unwrap();
    log.close().await.unwrap();
    let said = verify(&["--database", &url, "--dump"]).await.unwrap();
    assert!(said.contains("2 uncovered entries from 17 on"), "{said}");
    assert!(!said.contains("warning"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_log_is_said_to_be_none() {
    let folder = TempDir::new().unwrap();
    let empty = folder.path().join("empty.db");
    std::fs::write(&empty, "").unwrap();
    let empty = format!("sqlite:{}", empty.display());
    for (arguments, why) in [
        (vec!["--database", "sqlite:/nowhere/log.db"], "there is no database"),
        (vec!["--database", "log.db"], "begins with sqlite: or postgres:"),
        (vec!["--database", &empty], "not a signer's log"),
        (vec!["--export", "/dev/null"], "not an export"),
        (vec![], "required"),
    ] {
        let error = verify(&arguments).await.unwrap_err();
        assert!(error.contains(why), "{error}");
    }
}
