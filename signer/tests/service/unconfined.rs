//! Token workers that somebody else starts, as systemd does for each connection to a socket: what they were started without is
//! in the signer's log.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::{Arc, Mutex};

use audit::entry::Event;
use signer::config::Limits;
use signer::counting::count;
use signer::token::TokenConfig;
use tokio::time::{Duration, Instant};

use crate::common::Knobs;
use crate::house::House;

/// A worker for each connection, with these words more, which change.
struct Elsewhere {
    more: Arc<Mutex<Vec<&'static str>>>,
    workers: Arc<Mutex<Vec<Child>>>,
    socket: PathBuf,
}

impl Elsewhere {
    fn listen(token: &TokenConfig, folder: &Path) -> Self {
        let socket = folder.join("worker.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let (more, workers) = (Arc::<Mutex<Vec<&'static str>>>::default(), Arc::default());
        let elsewhere = Self { more: Arc::clone(&more), workers: Arc::clone(&workers), socket };
        let token = token.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut worker = Command::new(token.worker.as_ref().unwrap());
                worker.arg("--module").arg(token.module.as_ref().unwrap());
                worker.arg("--token-label").arg(token.label.as_ref().unwrap());
                worker.arg("--pin-file").arg(token.pin_file.as_ref().unwrap());
                worker.arg("--allow-root"); // tests run as root in containers
                worker.args(&*more.lock().unwrap());
                worker.env_clear().envs(&token.env).stdin(OwnedFd::from(stream.unwrap()));
                workers.lock().unwrap().push(worker.spawn().unwrap());
            }
        });
        elsewhere
    }

    /// They end, and whoever is started next is started like this.
    fn again(&self, more: &[&'static str]) {
        *self.more.lock().unwrap() = more.to_vec();
        for mut worker in self.workers.lock().unwrap().drain(..) {
            worker.kill().unwrap();
            worker.wait().unwrap();
        }
    }
}

/// What the log says since then that was waived at the token's worker.
async fn said(house: &House, since: u64) -> Vec<(String, String)> {
    let entries = house.entries(since).await.into_iter();
    let waived = entries.filter_map(|entry| match entry.event {
        Event::Waived { safeguard, said } if said.contains("token-worker") => {
            Some((safeguard, said))
        }
        _ => None,
    });
    waived.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_worker_goes_without_that_somebody_else_started_is_in_the_log() {
    let mut house = House::closed(&Knobs::default(), Limits::default()).await;
    let elsewhere = Elsewhere::listen(&house.config.token, house.folder());
    let (module, label, pin_file, worker) = (None, None, None, None);
    let socket = Some(elsewhere.socket.clone());
    let token = house.config.token.clone();
    house.config.token = TokenConfig { socket, module, label, pin_file, worker, ..token };
    let of = |safeguard: &str, how: &str| {
        (safeguard.to_owned(), format!("{how}, at the token-worker of token first"))
    };
    let root = confine::process::is_root().then(|| of("root", "--allow-root"));

    // Confined: only as whom it runs.
    house.open().await;
    assert_eq!(said(&house, 0).await, Vec::from_iter(root.clone()));
    // One that comes later, unconfined.
    let since = house.log_size();
    elsewhere.again(&["--sandbox", "off"]);
    let unconfined = of("sandbox", "--sandbox off");
    let begun = Instant::now();
    while said(&house, since).await.is_empty() {
        assert!(begun.elapsed() < Duration::from_secs(60), "nobody said so");
        // What a minute brings in service.
        let _ = house.app().token.counters().await;
        count(&house.app()).await;
    }
    count(&house.app()).await;
    assert_eq!(said(&house, since).await, std::slice::from_ref(&unconfined), "once");
    let since = house.log_size();
    house.close().await;

    // And at the next start, among the first entries.
    house.open().await;
    let both: Vec<_> = root.into_iter().chain([unconfined]).collect();
    assert_eq!(said(&house, since).await, both);
    house.close().await;
}
