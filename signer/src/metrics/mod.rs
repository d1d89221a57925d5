//! What this service says of itself to those who watch it: numbers for Prometheus and three yes-or-no answers, over plain
//! HTTP on an address of this machine that the configuration names, the numbers in the state folder too. It never says whose
//! coins, and never takes an order.

pub mod kept;
mod limits;
mod page;
mod tally;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use crate::app::App;
use crate::refusal::Refusal;

pub use tally::{Outcome, Tally};

/// Questions answered at once; more are hung up on.
const CONNECTIONS_MAX: usize = 8;
/// A question is a line and a few headers.
const QUESTION_BYTES_MAX: usize = 4096;
/// How long one may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// Who is one too many makes all others wait for so long.
const PAUSE: Duration = Duration::from_millis(20);
/// How often the heart beats.
const BEAT_EVERY: Duration = Duration::from_secs(1);
/// A heart that has not beaten for so long has stopped.
const STILL_AFTER_SECONDS: u64 = 10;

/// A service that serves nothing but the reason.
pub struct NotServing {
    /// What callers are told.
    pub refusal: Refusal,
    /// It only waits for its turn.
    pub standby: bool,
}

/// Whose numbers they are.
pub enum About {
    /// A signer's.
    Serving(Arc<App>),
    /// Nobody's.
    Nothing(NotServing),
}

impl About {
    /// The signer, if there is one.
    #[must_use]
    pub fn app(&self) -> Option<&Arc<App>> {
        match self {
            Self::Serving(app) => Some(app),
            Self::Nothing(_) => None,
        }
    }
}

/// What is told.
pub struct Watched {
    about: About,
    tls: Arc<mtls::Server>,
    /// Unix seconds when the heart last beat.
    beat: AtomicU64,
}

impl Watched {
    /// About this service.
    #[must_use]
    pub fn new(about: About, tls: Arc<mtls::Server>) -> Self {
        Self { about, tls, beat: AtomicU64::new(unix_now()) }
    }

    /// Beats while the runtime turns and the log's lock can be had, for ever.
    pub async fn heart(&self) {
        loop {
            if let Some(app) = self.about.app() {
                app.log.read(|_| ());
            }
            self.beat.store(unix_now(), Ordering::Relaxed);
            tokio::time::sleep(BEAT_EVERY).await;
        }
    }

    fn is_alive(&self) -> bool {
        unix_now().saturating_sub(self.beat.load(Ordering::Relaxed)) <= STILL_AFTER_SECONDS
    }

    /// Why it signs nothing now, if so.
    fn problem(&self) -> Option<String> {
        match &self.about {
            About::Serving(app) => app.problem(),
            About::Nothing(down) => Some(down.refusal.to_string()),
        }
    }

    fn token_problem(&self) -> Option<String> {
        let none = || Some("the token is not open".to_owned());
        self.about.app().map_or_else(none, |app| app.token.problem())
    }

    fn token_warning(&self) -> Option<String> {
        self.about.app().and_then(|app| app.token.warning())
    }

    fn stands_by(&self) -> bool {
        matches!(&self.about, About::Nothing(down) if down.standby)
    }
}

/// Answers questions for ever.
pub async fn serve(listener: TcpListener, watched: Arc<Watched>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut answering = tokio::task::JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = answering.join_next() => continue,
        };
        let (Ok((io, _)), Ok(place)) = (accepted, Arc::clone(&places).try_acquire_owned()) else {
            // Also when the system has no connections to give.
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        let watched = Arc::clone(&watched);
        answering.spawn(async move {
            // Whoever hangs up or takes too long gets nothing.
            let _ = tokio::time::timeout(PATIENCE, answer(io, &watched)).await;
            drop(place);
        });
    }
}

/// One question, one answer, and the end.
async fn answer(mut io: TcpStream, watched: &Watched) -> std::io::Result<()> {
    let mut question = Vec::new();
    while !question.windows(4).any(|end| end == b"\r\n\r\n") {
        if question.len() >= QUESTION_BYTES_MAX || io.read_buf(&mut question).await? == 0 {
            return Ok(());
        }
    }
    let line = question.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let (status, body) = say(line, watched);
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; version=0.0.4\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    io.write_all(head.as_bytes()).await?;
    io.write_all(body.as_bytes()).await?;
    io.shutdown().await
}

fn say(line: &[u8], watched: &Watched) -> (&'static str, String) {
    let yes_or_no = |problem: Option<String>| match problem {
        None => ("200 OK", "yes\n".to_owned()),
        Some(problem) => ("503 Service Unavailable", format!("no: {problem}\n")),
    };
    match line {
        b"GET /metrics HTTP/1.1" | b"GET /metrics HTTP/1.0" => ("200 OK", page::write(watched)),
        b"GET /live HTTP/1.1" | b"GET /live HTTP/1.0" => {
            yes_or_no((!watched.is_alive()).then(|| "the heart stands still".to_owned()))
        }
        b"GET /ready HTTP/1.1" | b"GET /ready HTTP/1.0" => yes_or_no(watched.problem()),
        b"GET /token HTTP/1.1" | b"GET /token HTTP/1.0" => yes_or_no(watched.token_problem()),
        _ => ("404 Not Found", "/metrics, /live, /ready and /token are here\n".to_owned()),
    }
}

/// Whether only this machine can reach the address.
#[must_use]
pub fn is_local(address: SocketAddr) -> bool {
    address.ip().is_loopback()
}

fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
