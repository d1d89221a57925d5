//! Token workers that somebody else starts, as systemd does for each connection to a socket: what they were started without is
//! in the signer's log; and how their PIN is changed.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::{Arc, Mutex};

use audit::entry::Event;
use signer::config::{Config, Limits};
use signer::counting::count;
use signer::set_pin;
use signer::token::TokenConfig;
use tokio::time::{Duration, Instant};

use crate::common::Knobs;
use crate::house::House;

/// A worker for each connection, with these words more, which change.
struct Elsewhere {
    more: Arc<Mutex<Vec<&'static str>>>,
    workers: Arc<Mutex<Vec<Child>>>,
    socket: PathBuf,
    /// How they are started.
    token: TokenConfig,
}

impl Elsewhere {
    fn listen(token: &TokenConfig, folder: &Path) -> Self {
        let socket = folder.join("worker.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let (more, workers) = (Arc::<Mutex<Vec<&'static str>>>::default(), Arc::default());
        let elsewhere = Self {
            more: Arc::clone(&more),
            workers: Arc::clone(&workers),
            socket,
            token: token.clone(),
        };
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

/// A house whose workers are started elsewhere.
async fn elsewhere() -> (House, Elsewhere) {
    let mut house = House::closed(&Knobs::default(), Limits::default()).await;
    let elsewhere = Elsewhere::listen(&house.config.token, house.folder());
    let (module, label, pin_file, worker) = (None, None, None, None);
    let socket = Some(elsewhere.socket.clone());
    let token = house.config.token.clone();
    house.config.token = TokenConfig { socket, module, label, pin_file, worker, ..token };
    (house, elsewhere)
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
    let (mut house, elsewhere) = elsewhere().await;
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

/// By a configuration of its own, as docs/operations.md says: the same state folder and policy, with the module and the PIN's file.
#[tokio::test(flavor = "multi_thread")]
async fn their_pin_is_changed_by_a_configuration_of_its_own_and_they_go_on_with_the_new_one() {
    let (mut house, elsewhere) = elsewhere().await;
    house.open().await;
    house.close().await;
    let given = house.folder().join("given");
    fs::write(&given, "changed elsewhere").unwrap();
    fs::set_permissions(&given, fs::Permissions::from_mode(0o600)).unwrap();
    let asked = set_pin::Asked { new_pin_file: Some(given), ..Default::default() };
    // Of workers that others start it knows no PIN file, and says what to do.
    let refused = set_pin::prepare(&house.config, &asked).unwrap_err().to_string();
    assert!(refused.contains("names module, label and PIN file"), "{refused}");
    let own = Config { token: elsewhere.token.clone(), ..house.config.clone() };
    let changing = set_pin::prepare(&own, &asked).unwrap();
    let mut said = Vec::new();
    set_pin::set_pin(&own, changing, &asked, &mut said).await.unwrap();
    let pin_file = own.token.pin_file.as_ref().unwrap();
    assert_eq!(fs::read_to_string(pin_file).unwrap(), "changed elsewhere");
    house.open().await;
    assert_eq!(house.app().problem(), None, "each worker logs in with the new PIN");
    let changed = house.entries(0).await;
    house.close().await;
    let changed = changed.iter().any(|entry| matches!(entry.event, Event::PinChanged { .. }));
    assert!(changed, "and the log says that it was changed");
}
