//! Puts the parts together and runs them until told to stop. It decides nothing and never runs half: a part
//! that cannot start stops the start.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use mtls::Places;
use proto::watcher_server::WatcherServer;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tonic::transport::Server;

use crate::attest::Attestations;
use crate::book::Book;
use crate::chain::{FollowSettings, Follower, Handle};
use crate::config::{Config, ConfigError};
use crate::grpc::{Grants, Service};
use crate::issue::{Issuer, Resumed, resume_all};
use crate::node::{Node, NodeError};
use crate::signer_client::SignerClient;
use crate::spend::Spender;
use crate::store::{Store, StoreError};

/// Longest request; the largest is a signed order.
const REQUEST_BYTES_MAX: usize = 64 << 10;
/// Calls one connection may have open.
const CALLS_PER_CONNECTION: usize = 64;
/// Connections at once. Strangers, who have shown no certificate yet, never take a client's place.
const PLACES: Places = Places::new(1024, 256);
/// How long open calls may take to end when the service stops.
const DRAIN: Duration = Duration::from_secs(10);

/// Why the service did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The node client.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// Certificates and keys.
    #[error(transparent)]
    Tls(#[from] mtls::TlsError),
    /// The transport.
    #[error("the server cannot be set up: {0}")]
    Transport(#[from] tonic::transport::Error),
    /// The port.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// Which.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// Server reflection.
    #[error("reflection cannot be set up: {0}")]
    Reflection(String),
}

/// A running service.
#[derive(Debug)]
pub struct Running {
    /// Where it listens; the port is the real one when 0 was asked for.
    pub address: SocketAddr,
    /// How following goes.
    pub follower: Handle,
    stop: watch::Sender<bool>,
    server: JoinHandle<Result<(), tonic::transport::Error>>,
    /// What runs beside the server, by name; none of it ends before it is told to.
    tasks: JoinSet<&'static str>,
    store: Store,
}

/// Starts everything.
///
/// # Errors
/// [`ServeError`] when a part cannot start. An unreachable node or signer is no such reason: the service says so
/// in its status and goes on once they are there.
pub async fn start(config: &Config) -> Result<Running, ServeError> {
    let wallets = config.wallets()?;
    let tls = mtls::Server::load(&config.tls)?;
    let signer = SignerClient::new(&config.signer)?;
    let node = Node::new(&config.node.url, &config.node.auth_file, config.node.timeout())?
        .on(config.bitcoin_network());
    let book = book(config);
    let store = Store::open(&config.database).await?;
    store.claim(&book.chain, &book.asset).await?;
    wallets.install(&store).await?;
    let (stop, stopped) = watch::channel(false);

    let start = wallets.iter().map(|wallet| wallet.birthday).min().unwrap_or(0);
    let settings = FollowSettings { start, max_reorg: config.max_reorg, poll: config.node.poll() };
    let (follow, follower) = Follower::new(node.clone(), store.clone(), book.clone(), settings);
    let attestations = Attestations::start(Arc::new(signer.clone()));
    let spender = Spender::new(
        store.clone(),
        book.clone(),
        node,
        follower.clone(),
        signer.clone(),
        wallets.clone(),
        config.spend.clone(),
    );
    let spender = Arc::new(spender);
    let issuer = Issuer {
        store: store.clone(),
        wallets: Arc::new(wallets),
        attestations,
        follower: follower.clone(),
        resumed: Resumed::default(),
    };
    let service = Service {
        grants: Grants::new(&config.clients),
        issuer: issuer.clone(),
        store: store.clone(),
        book,
        spender: spender.clone(),
        follower: follower.clone(),
        stop: stopped.clone(),
    };
    let failed = |source| ServeError::Listen { address: config.listen, source };
    let listener = TcpListener::bind(config.listen).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    let router = router(config, service).await?;
    let mut tasks = JoinSet::new();
    let until_stopped = stopped.clone();
    let _ = tasks.spawn(async {
        follow.run(until_stopped).await;
        "the chain follower"
    });
    let until_stopped = stopped.clone();
    let _ = tasks.spawn(async {
        resume_all(issuer, signer, until_stopped).await;
        "the task that asks the signer how far it is"
    });
    let until_stopped = stopped.clone();
    let _ = tasks.spawn(async {
        crate::follow::run(spender, until_stopped).await;
        "the task that carries sweeps and payouts"
    });
    let incoming = tls.incoming(listener, PLACES);
    let _ = tasks.spawn(look_at_files(tls, stopped.clone()));
    let server = tokio::spawn(router.serve_with_incoming_shutdown(incoming, until(stopped)));
    Ok(Running { address, follower, stop, server, tasks, store })
}

impl Running {
    /// Stops in order: no new calls, open ones drained, following ended, the database closed.
    ///
    /// # Errors
    /// When the server had failed.
    pub async fn stop(mut self) -> Result<(), ServeError> {
        let _ = self.stop.send(true);
        let drained = tokio::time::timeout(DRAIN, &mut self.server).await;
        if drained.is_err() {
            self.server.abort();
        }
        let ended = async { while self.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(DRAIN, ended).await.is_err() {
            self.tasks.shutdown().await;
        }
        self.store.close().await;
        match drained {
            Ok(Ok(result)) => Ok(result?),
            _ => Ok(()),
        }
    }

    /// Waits until a part ends by itself, which only happens when it fails: a watcher that answers calls but no
    /// longer follows the chain is worse than none.
    pub async fn failed(&mut self) -> String {
        first_to_end(&mut self.server, &mut self.tasks).await
    }
}

async fn first_to_end(
    server: &mut JoinHandle<Result<(), tonic::transport::Error>>,
    tasks: &mut JoinSet<&'static str>,
) -> String {
    tokio::select! {
        ended = server => match ended {
            Ok(Ok(())) => "the server ended".into(),
            Ok(Err(error)) => error.to_string(),
            Err(error) => error.to_string(),
        },
        Some(ended) = tasks.join_next() => match ended {
            Ok(name) => format!("{name} ended"),
            Err(error) => format!("a part of it failed: {error}"),
        },
    }
}

/// What the tables are of, by the configuration.
#[must_use]
pub fn book(config: &Config) -> Book {
    Book {
        chain: config.network.chain_id(),
        asset: config.network.asset_id(),
        network: config.bitcoin_network(),
        finality: config.finality,
    }
}

async fn router(
    config: &Config,
    service: Service,
) -> Result<tonic::transport::server::Router, ServeError> {
    let (health, health_service) = tonic_health::server::health_reporter();
    health.set_serving::<WatcherServer<Service>>().await;
    let reflection = config
        .development
        .then(|| {
            tonic_reflection::server::Builder::configure()
                .register_encoded_file_descriptor_set(proto::DESCRIPTORS)
                .build_v1()
                .map_err(|error| ServeError::Reflection(error.to_string()))
        })
        .transpose()?;
    let watcher = WatcherServer::new(service).max_decoding_message_size(REQUEST_BYTES_MAX);
    Ok(Server::builder()
        .concurrency_limit_per_connection(CALLS_PER_CONNECTION)
        .tcp_nodelay(true)
        .http2_keepalive_interval(Some(Duration::from_secs(30)))
        .http2_keepalive_timeout(Some(Duration::from_secs(10)))
        .add_service(health_service)
        .add_optional_service(reflection)
        .add_service(watcher))
}

async fn look_at_files(tls: Arc<mtls::Server>, stopped: watch::Receiver<bool>) -> &'static str {
    tokio::select! {
        () = tls.watch() => {}
        () = until(stopped) => {}
    }
    "the task that looks at the TLS files"
}

async fn until(mut stopped: watch::Receiver<bool>) {
    let _ = stopped.wait_for(|stop| *stop).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_part_that_dies_is_noticed() {
        let mut server = tokio::spawn(std::future::pending());
        let mut tasks = JoinSet::new();
        let _ = tasks.spawn(std::future::pending());
        let _ = tasks.spawn(async { panic!("no more blocks") });
        let reason = first_to_end(&mut server, &mut tasks).await;
        assert!(reason.contains("no more blocks"), "{reason}");
        let _ = tasks.spawn(async { "the chain follower" });
        assert_eq!(first_to_end(&mut server, &mut tasks).await, "the chain follower ended");
    }
}
