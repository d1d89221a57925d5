//! `signer serve`: the gRPC server around the parts, with every bound set on purpose, and their orderly end. When
//! token or log cannot be used it stays up and says so to every caller, and signs nothing.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use audit::entry::Event;
use mtls::Places;
use policy::Rules;
use proto::log_server::LogServer;
use proto::signer_server::Signer;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tonic::transport::Server;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;
use tonic_reflection::server::v1::{ServerReflection, ServerReflectionServer};

use crate::anchoring;
use crate::app::App;
use crate::config::Config;
use crate::counting;
use crate::distrusting;
use crate::door::{Door, Known};
use crate::down::Down;
use crate::facts::sanctions;
use crate::freeing;
use crate::grpc::SignerService;
use crate::ledger::Ledger;
use crate::log::{Clock, LogError, Step, Witnesses, stand_by};
use crate::log_service::LogService;
use crate::metrics::{self, About, NotServing};
use crate::officers::grpc::OfficersService;
use crate::officers::notices::Topic;
use crate::officers::unopened::{Unopened, Words};
use crate::officers::{doubt, inbox, revocations};
use crate::prove;
use crate::refusal::{Reason, Refusal};
use crate::split::Split;
use crate::start::{Claim, StartError, open_token, start_from};
use crate::token::{COUNTING, Token};

/// Connections at once. Strangers, who have shown no certificate yet, never take a client's place.
const PLACES: Places = Places::new(256, 64);

/// How often it is looked whether the log was quiet for too long, and how long that is.
const BEAT_EVERY: Duration = Duration::from_secs(300);
const QUIET_MAX: Duration = Duration::from_secs(1_200);
/// A question for health is a service's name.
const HEALTH_BYTES_MAX: usize = 1 << 10;
/// Unread bytes a caller may have under way, by stream and by connection: this, times connections, is memory.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 2 << 20;
/// Request headers; ours are small.
const HEADER_LIST_BYTES_MAX: u32 = 16 << 10;
/// A silent connection is asked whether it is alive, and closed if it is not.
const KEEPALIVE: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(10));
/// How often health is looked at.
const HEALTH_EVERY: Duration = Duration::from_secs(1);
/// When token or database were away at the start, they are tried again after this.
const TRY_AGAIN_AFTER: Duration = Duration::from_secs(5);
/// How long the last requests may take when the service is asked to end, beyond their own deadline.
const GRACE: Duration = Duration::from_secs(5);
/// How long what was answered at the very end has to leave.
const LAST_ANSWERS: Duration = Duration::from_millis(200);

/// What callers of a standby are told.
const STANDS_BY: &str = "this signer stands by: another one has the log, and this one takes it over when that shows no sign of life";

/// A serving signer.
pub struct Running {
    address: SocketAddr,
    app: Option<Arc<App>>,
    stop: oneshot::Sender<()>,
    server: JoinHandle<Result<(), tonic::transport::Error>>,
    helpers: Vec<JoinHandle<()>>,
    request_time: Duration,
    may_pass: bool,
    waits: bool,
    witnesses: Arc<Witnesses>,
    tls: Arc<mtls::Server>,
}

/// Serves until `until` is done, then ends in order. A token or database that is away is tried again, and so is a
/// machine's clock that does not go with the log, unless a person said that it is right.
///
/// # Errors
/// [`StartError`] when there is nothing to serve with, or the server fails.
pub async fn serve(
    config: &Config,
    clock_is_right: bool,
    until: impl Future<Output = ()>,
) -> Result<(), StartError> {
    serve_in_line(config, clock_is_right, false, until).await
}

/// The same; as a `standby` it first waits until nobody else has the log. One that lost the log to another ends.
///
/// # Errors
/// [`StartError`] as above, and when another signer took the log over.
pub async fn serve_in_line(
    config: &Config,
    clock_is_right: bool,
    standby: bool,
    until: impl Future<Output = ()>,
) -> Result<(), StartError> {
    tokio::pin!(until);
    if standby {
        warn_without_witnesses(config)?;
    }
    // Outlives every attempt: who said what it saw last need not say it again.
    let witnesses = Arc::new(Witnesses::default());
    let mut waits_in_line = standby;
    loop {
        let claim = if waits_in_line {
            match wait_in_line(config, &witnesses, until.as_mut()).await? {
                Some(claim) => claim.map(Some),
                None => return Ok(()),
            }
        } else {
            Ok(None)
        };
        let clock = Clock::system();
        let clock = if clock_is_right { clock.confirmed() } else { clock };
        let mut running = run_from(config, clock, &witnesses, claim).await?;
        // Who serves comes back at once after a change of policy; whose parts fail leaves the log to others meanwhile.
        waits_in_line = standby && running.app().is_none();
        let again = async {
            match (running.waits, running.may_pass) {
                (true, _) => witnesses.enough_told().await,
                (false, true) => tokio::time::sleep(TRY_AGAIN_AFTER).await,
                (false, false) => std::future::pending().await,
            }
        };
        let due = next_policy(running.app().cloned());
        let lost = overtaken(running.app().cloned());
        tokio::select! {
            lost = lost => {
                // Nothing that is still under way can leave.
                let _ = tokio::time::timeout(GRACE.saturating_mul(2), running.stop()).await;
                return Err(lost.into());
            }
            () = &mut until => return running.stop().await,
            () = due => running.stop().await?,
            () = again => running.stop().await?,
            // Nobody asked it to end.
            ended = &mut running.server => return ended.unwrap_or(Ok(())).map_err(StartError::from),
        }
    }
}

/// A database that another machine holds a copy of can lose its end, or be there twice, and nothing in it says so.
fn warn_without_witnesses(config: &Config) -> Result<(), StartError> {
    let sqlite = config.database_url().starts_with("sqlite:");
    if !sqlite && config.newest_words()?.witnesses_required() == 0 {
        tracing::warn!(
            "the policy requires no witnesses: if the database fails over to a copy that lacks its newest entries, or is written in two places at once, nobody notices, and what was signed may be spent again"
        );
    }
    Ok(())
}

/// Token and log of a standby whose turn it is, or why it has none; `None` when it is told to end. Until then it serves
/// the reason, and its token is ready.
async fn wait_in_line(
    config: &Config,
    witnesses: &Arc<Witnesses>,
    until: Pin<&mut impl Future<Output = ()>>,
) -> Result<Option<Result<Claim, StartError>>, StartError> {
    witnesses.appoint(&config.newest_words()?);
    let token = match open_token(config, config.token.clone()).await {
        Ok(token) => token,
        Err(error) => return Ok(Some(Err(error))),
    };
    let refusal = Refusal::new(Reason::LogUnavailable, STANDS_BY);
    let down = NotServing { refusal, standby: true };
    let mut waiting = refusing(config, bind(config).await?, witnesses, down).await?;
    tracing::info!(address = %waiting.address(), "standing by: another signer has the log");
    let url = config.database_url();
    let turn = async {
        witnesses.enough_told().await;
        stand_by(&url).await
    };
    let taken = tokio::select! {
        taken = turn => taken,
        () = until => {
            waiting.stop().await?;
            stop_token(token).await;
            return Ok(None);
        }
        ended = &mut waiting.server => {
            ended.unwrap_or(Ok(()))?;
            return Ok(None);
        }
    };
    let claim = match taken {
        Ok(mut store) => tokio::select! {
            lost = store.keep() => Err(lost),
            stopped = waiting.stop() => stopped.map(|()| Ok(store))?,
        },
        Err(error) => Err(error),
    };
    match claim {
        Ok(store) => Ok(Some(Ok(Claim { token, store }))),
        Err(error) => {
            stop_token(token).await;
            Ok(Some(Err(LogError::from(error).into())))
        }
    }
}

/// Done when another signer took the log over.
async fn overtaken(app: Option<Arc<App>>) -> LogError {
    match app {
        Some(app) => {
            let log = Arc::clone(&app.log);
            drop(app);
            log.overtaken().await
        }
        None => std::future::pending().await,
    }
}

/// Done when a proposed policy may come into force: then everything is started anew.
async fn next_policy(app: Option<Arc<App>>) {
    let Some(app) = app else { return std::future::pending().await };
    loop {
        // What only tightens is waited for by everybody. A start forgets what no checkpoint covers: not before one does.
        if app.gate.is_shut() {
            match app.log.commit(|_| Step::nothing(())).await {
                Ok(_) => return,
                Err(error) => {
                    tracing::warn!("a policy that tightens waits to be covered: {error}");
                    tokio::time::sleep(HEALTH_EVERY).await;
                    continue;
                }
            }
        }
        // A veto ends it; another may be handed in.
        let Some(due) = app.next_policy_due_unix() else {
            app.upcoming.changed().await;
            continue;
        };
        // A clock in doubt holds it.
        if app.log.read(|ledger| ledger.waited_until(app.clock.unix_seconds())) >= due {
            tracing::info!("a proposed policy is due");
            return;
        }
        let _ = tokio::time::timeout(HEALTH_EVERY, app.upcoming.changed()).await;
    }
}

/// Starts serving. With a token or a log that cannot be used, it serves nothing but the reason.
///
/// # Errors
/// [`StartError`] when there is nothing to serve with.
pub async fn run(config: &Config, clock: Clock) -> Result<Running, StartError> {
    run_with(config, clock, &Arc::default()).await
}

/// The same, with what witnesses said before. Without enough of them it hears them, and starts nothing else.
///
/// # Errors
/// [`StartError`] when there is nothing to serve with.
pub async fn run_with(
    config: &Config,
    clock: Clock,
    witnesses: &Arc<Witnesses>,
) -> Result<Running, StartError> {
    run_from(config, clock, witnesses, Ok(None)).await
}

/// The same with token and log in hand, or with the reason why not.
async fn run_from(
    config: &Config,
    clock: Clock,
    witnesses: &Arc<Witnesses>,
    claim: Result<Option<Claim>, StartError>,
) -> Result<Running, StartError> {
    let listener = bind(config).await?;
    let address = listener.local_addr().map_err(|source| listen(config, source))?;
    let request_time = config.limits.request_time();
    let started = match claim {
        // Large, and awaited once.
        Ok(claim) => Box::pin(start_from(config, clock, witnesses, claim)).await,
        Err(error) => Err(error),
    };
    match started {
        Ok(app) => {
            let app = Arc::new(app);
            // Before anybody can ask: what officers stopped while no log was open holds from the first request on.
            if let Err(refusal) = inbox::look_for_freezes(&app, &config.state_dir).await {
                tracing::error!("statements in the inbox could not be read: {refusal}");
            }
            witnesses.arm();
            let service = SignerService::new(Arc::clone(&app), request_time);
            let officers = freeing::officers(config, &app.rules)?;
            let freeing = freeing::run(Arc::clone(&app), config.state_dir.clone(), officers);
            let mut helpers = vec![
                tokio::spawn(prove(Arc::clone(&app))),
                tokio::spawn(beat(Arc::clone(&app))),
                tokio::spawn(counting::run(Arc::clone(&app))),
                tokio::spawn(distrusting::run(Arc::clone(&app))),
                tokio::spawn(anchoring::run(Arc::clone(&app))),
                tokio::spawn(freeing),
                tokio::spawn(inbox::run(Arc::clone(&app), config.state_dir.clone())),
                tokio::spawn(doubt::watch(Arc::clone(&app))),
            ];
            if let Some(path) = config.sanctions.clone() {
                let mut seen = None;
                sanctions::look(&app, &path, &mut seen).await;
                helpers.push(tokio::spawn(sanctions::run(Arc::clone(&app), path, seen)));
            }
            let door = Door::new(Known::Serving(Arc::clone(&app)), &config.limits);
            let service = Split::new(service);
            let log = LogService::server(Ok(Arc::clone(&app)), Arc::clone(witnesses));
            let witnesses = Arc::clone(witnesses);
            let watched = About::Serving(app);
            let behind = Behind { door, service, log, witnesses, watched, helpers };
            let running = listening(config, listener, address, behind).await?;
            tracing::info!(%address, "serving");
            Ok(running)
        }
        Err(error) => {
            let Some(refusal) = error.for_callers() else { return Err(error) };
            let down = NotServing { refusal, standby: false };
            let running = refusing(config, listener, witnesses, down).await?;
            tracing::error!("nothing can be signed: {error}");
            let (may_pass, waits) = (error.may_pass(), error.waits_for_witnesses());
            let until = if may_pass { "until that passes" } else { "until a restart" };
            tracing::warn!(%address, "serving this refusal only, {until}");
            Ok(Running { may_pass, waits, ..running })
        }
    }
}

/// Serves nothing but the reason.
async fn refusing(
    config: &Config,
    listener: TcpListener,
    witnesses: &Arc<Witnesses>,
    down: NotServing,
) -> Result<Running, StartError> {
    let address = listener.local_addr().map_err(|source| listen(config, source))?;
    let words = Words { file: config.words()?, kept: kept(config, &down) };
    let known = Known::Down(Box::new(words), Arc::clone(witnesses));
    let log = LogService::server(Err(down.refusal.clone()), Arc::clone(witnesses));
    let door = Door::new(known, &config.limits);
    let service = Split::new(Down::new(down.refusal.clone()));
    let (witnesses, helpers) = (Arc::clone(witnesses), Vec::new());
    let watched = About::Nothing(down);
    let behind = Behind { door, service, log, witnesses, watched, helpers };
    listening(config, listener, address, behind).await
}

async fn bind(config: &Config) -> Result<TcpListener, StartError> {
    TcpListener::bind(config.listen).await.map_err(|source| listen(config, source))
}

fn listen(config: &Config, source: std::io::Error) -> StartError {
    StartError::Listen { address: config.listen, source }
}

impl Running {
    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The parts; `None` while it only refuses.
    #[must_use]
    pub fn app(&self) -> Option<&Arc<App>> {
        self.app.as_ref()
    }

    /// Takes no more calls, finishes those under way, writes the last checkpoint and closes log and token.
    ///
    /// # Errors
    /// [`StartError::Log`] when the log had failed before.
    pub async fn stop(self) -> Result<(), StartError> {
        let Self { app, stop, mut server, helpers, request_time, witnesses, tls, .. } = self;
        // An error says that the server ended already.
        let _ = stop.send(());
        // Their streams would never end by themselves.
        witnesses.dismiss();
        if let Some(app) = &app {
            app.notices.end();
        }
        let patience = request_time.saturating_add(GRACE);
        let lingers = tokio::time::timeout(GRACE, &mut server).await.is_err();
        if lingers {
            // Some streams never end (health watchers); requests under way run on as tasks of their own.
            server.abort();
        }
        for helper in helpers {
            helper.abort();
            let _ = helper.await;
        }
        if let Some(app) = &app
            && tokio::time::timeout(patience, app.gate.close()).await.is_err()
        {
            tracing::warn!("requests were still under way at the end; a retry finishes them");
        }
        if lingers {
            // Who is connected still holds all of this for as long as that stays.
            tokio::time::sleep(LAST_ANSWERS).await;
            tls.end_all();
        }
        let Some(app) = app else { return Ok(()) };
        close(app).await
    }
}

/// What listens, and who runs beside it.
struct Behind<S> {
    door: Door,
    service: Split<S>,
    log: LogServer<LogService>,
    witnesses: Arc<Witnesses>,
    watched: About,
    helpers: Vec<JoinHandle<()>>,
}

/// Service, health and (in development) reflection on one listener.
async fn listening<S: Signer>(
    config: &Config,
    listener: TcpListener,
    address: SocketAddr,
    behind: Behind<S>,
) -> Result<Running, StartError> {
    let Behind { door, service, log, witnesses, watched, mut helpers } = behind;
    let app = watched.app().cloned();
    let (reporter, health) = tonic_health::server::health_reporter();
    report(&reporter, app.as_deref()).await;
    let handed_in = revocations::file(&config.state_dir);
    let tls = mtls::Server::load_with(&config.tls, Some(&handed_in))?;
    let officers = app
        .as_ref()
        .map(|app| OfficersService::server(Arc::clone(app), Arc::clone(&tls), &config.state_dir));
    let unopened = match &watched {
        About::Serving(_) => None,
        About::Nothing(down) => {
            let words = Words { file: config.words()?, kept: kept(config, down) };
            let (refusal, tls) = (down.refusal.clone(), Arc::clone(&tls));
            Some(Unopened::server(words, &config.state_dir, Clock::system(), refusal, tls))
        }
    };
    if let Some(app) = &app {
        helpers.push(tokio::spawn(watch_health(reporter, Arc::clone(app))));
    }
    let request_time = config.limits.request_time();
    let health = health.max_decoding_message_size(HEALTH_BYTES_MAX);
    let router = Server::builder()
        .timeout(request_time.saturating_add(GRACE))
        .max_concurrent_streams(config.limits.streams_per_connection.get())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .http2_max_header_list_size(HEADER_LIST_BYTES_MAX)
        .http2_keepalive_interval(Some(KEEPALIVE.0))
        .http2_keepalive_timeout(Some(KEEPALIVE.1))
        .layer(door)
        .add_service(health)
        .add_service(service)
        .add_service(log)
        .add_optional_service(officers)
        .add_optional_service(unopened)
        .add_optional_service(reflection(config.development)?);
    let (stop, stopped) = oneshot::channel::<()>();
    let incoming = tls.incoming(listener, PLACES);
    helpers.extend(tell(config, metrics::Watched::new(watched, Arc::clone(&tls))).await?);
    helpers.push(tokio::spawn(Arc::clone(&tls).watch()));
    let server = tokio::spawn(router.serve_with_incoming_shutdown(incoming, async {
        let _ = stopped.await;
    }));
    let (may_pass, waits) = (false, false);
    let running = Running {
        address,
        app,
        stop,
        server,
        helpers,
        request_time,
        may_pass,
        waits,
        witnesses,
        tls,
    };
    Ok(running)
}

/// Numbers and health for whoever watches: in the state folder, and over HTTP where the configuration says so.
async fn tell(
    config: &Config,
    watched: metrics::Watched,
) -> Result<Vec<JoinHandle<()>>, StartError> {
    let watched = Arc::new(watched);
    let mut helpers = Vec::new();
    if let Some(address) = config.metrics {
        let listen = |source| StartError::Listen { address, source };
        let listener = TcpListener::bind(address).await.map_err(listen)?;
        tracing::info!(address = %listener.local_addr().map_err(listen)?, "metrics and health over plain HTTP");
        helpers.push(tokio::spawn(metrics::serve(listener, Arc::clone(&watched))));
    }
    helpers.push(tokio::spawn(metrics::kept::keep(Arc::clone(&watched), config.state_dir.clone())));
    helpers.push(tokio::spawn(async move { watched.heart().await }));
    Ok(helpers)
}

fn reflection(
    development: bool,
) -> Result<Option<ServerReflectionServer<impl ServerReflection>>, StartError> {
    if !development {
        return Ok(None);
    }
    tracing::warn!("server reflection is on: for development only");
    tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(proto::DESCRIPTORS)
        .build_v1()
        .map(Some)
        .map_err(|error| StartError::Reflection(error.to_string()))
}

/// Whose vetoes over a policy are kept for the log: none where another signer has it, or where nobody served here yet.
fn kept(config: &Config, down: &NotServing) -> Option<Rules> {
    if down.standby || !config.policy_kept().exists() {
        return None;
    }
    let kept = config.kept_rules();
    kept.inspect_err(|error| tracing::error!("no veto over a policy is taken now: {error}")).ok()
}

async fn watch_health(reporter: HealthReporter, app: Arc<App>) {
    let (mut said, mut warned) = (None, None);
    loop {
        let problem = report(&reporter, Some(&app)).await;
        // Of one token while another does its work: nothing else would tell that there is no spare any more, or that one signed wrongly.
        let warning = app.token.warning();
        if steady(warning.as_deref()) != steady(warned.as_deref()) {
            let what = warning.as_deref().unwrap_or("every token is right again");
            app.notices.tell("alarm", Topic::NONE, &[("token", what)]);
            tracing::warn!("tokens: {what}");
            warned = warning;
        }
        if steady(problem.as_deref()) != steady(said.as_deref()) {
            let what = problem.as_deref().unwrap_or("serving again");
            app.notices.tell("alarm", Topic::NONE, &[("health", what)]);
            match &problem {
                Some(problem) => tracing::error!("not serving: {problem}"),
                None => tracing::info!("serving again"),
            }
            said = problem;
        }
        tokio::time::sleep(HEALTH_EVERY).await;
    }
}

/// Tells health watchers how it is, for the server as a whole and for the service by name.
/// The text without what counts down in it: listeners are told once, and not every second.
fn steady(text: Option<&str>) -> Option<String> {
    let mut parts = text?.split(COUNTING);
    let first = parts.next().map(str::to_owned);
    let rest = parts.map(|part| part.trim_start_matches(|c: char| c.is_ascii_digit()));
    first.map(|first| rest.fold(first, |text, part| text + part))
}

async fn report(reporter: &HealthReporter, app: Option<&App>) -> Option<String> {
    let problem = app.map_or_else(|| Some("it did not start".to_owned()), App::problem);
    let serving = problem.is_none();
    let status = if serving { ServingStatus::Serving } else { ServingStatus::NotServing };
    for service in ["", proto::signer_server::SERVICE_NAME] {
        reporter.set_service_status(service, status).await;
    }
    problem
}

/// Writes down that the signer runs when nothing else was for a while, so that a start knows how long it stood still.
async fn beat(app: Arc<App>) {
    loop {
        match beat_once(&app).await {
            Ok(()) => {}
            // It is written, and counts with the next checkpoint: at a start the witnesses are still on their way.
            Err(error @ (LogError::Uncovered(_) | LogError::Unwitnessed(_))) => {
                tracing::warn!("that the signer runs does not count yet: {error}");
            }
            Err(error) => {
                tracing::error!("that the signer runs could not be logged: {error}");
            }
        }
        tokio::time::sleep(BEAT_EVERY).await;
    }
}

/// One look: a signer that nobody asks for a week starts again by its log's time all the same.
///
/// # Errors
/// [`LogError`] when the log does not take the entry.
pub async fn beat_once(app: &App) -> Result<(), LogError> {
    let now = app.clock.unix_seconds();
    let step = |ledger: &Ledger| {
        let idle = now.saturating_sub(ledger.latest_unix());
        let quiet = idle >= QUIET_MAX.as_secs();
        let events = if quiet { vec![service("running")] } else { Vec::new() };
        Step::write(events, ())
    };
    app.log.commit(step).await.map(drop)
}

fn service(state: &str) -> Event {
    Event::Service { state: state.to_owned(), version: env!("CARGO_PKG_VERSION").to_owned() }
}

/// Proves imported records while nobody waits for the token.
async fn prove(app: Arc<App>) {
    let (log, token, wallets) =
        (Arc::clone(&app.log), Arc::clone(&app.token), Arc::clone(&app.wallets));
    drop(app);
    if let Err(error) = prove::run(log, token, wallets).await {
        tracing::error!("proving records stopped: {error}");
    }
}

async fn close(app: Arc<App>) -> Result<(), StartError> {
    if let Err(error) = counting::count_last(&app, service("stopped")).await {
        tracing::error!("the end could not be logged: {error}");
    }
    let closed = anchoring::close(&app).await;
    counting::end(&app);
    if let Some(app) = Arc::into_inner(app) {
        stop_token(app.token).await;
    }
    closed.map_err(StartError::from)
}

async fn stop_token(token: Arc<Token>) {
    if let Some(token) = Arc::into_inner(token) {
        token.stop().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_counts_down_is_no_news() {
        let text = |first, second| {
            let text = format!(
                "away (breaker open, {COUNTING}{first} s), second: away (breaker open, {COUNTING}{second} s)"
            );
            steady(Some(&text))
        };
        assert_eq!(text(1, 30), text(12, 2));
        assert_ne!(text(1, 30), steady(Some("away (breaker open, next try within 1 s)")));
        assert_eq!(steady(None), None);
    }
}
