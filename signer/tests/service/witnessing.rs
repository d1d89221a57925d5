//! The whole signer and the officers' witnesses over mutual TLS: nothing is let out that too few of them saw, a log that was
//! set back is not started, and readers check what they are shown.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use audit::Hash;
use audit::checkpoint::{Checkpoint, origin};
use audit::cosignature;
use audit::proof::verify_consistency;
use audit::tree::{Frontier, leaf_hash, verify_inclusion};
use officer::witness::memory::Memory;
use officer::witness::visit;
use proto::log_client::LogClient;
use proto::signer_client::SignerClient;
use proto::witness_says::Said;
use proto::{ConsistencyRequest, EntriesRequest, InclusionRequest, NewestRequest, WitnessSays};
use signer::config::Limits;
use signer::serve::serve_in_line;
use signer::start::StartError;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::common::{Coin, Knobs, coin, header, own, psbt};
use crate::house::{House, parts, said};
use crate::pki::Authority;
use crate::postgres::move_to_postgres;
use crate::watching::{ask, free, number};

/// A signer that is served as in production, and its witnesses' folders.
pub(crate) struct Scene {
    pub(crate) house: House,
    knobs: Knobs,
    port: u16,
    pub(crate) log_key: [u8; 32],
    stop: Option<oneshot::Sender<()>>,
    task: Option<JoinHandle<Result<(), StartError>>>,
}

const WITNESSES: [&str; 2] = ["w1", "w2"];

impl Scene {
    async fn new(witnesses: usize) -> Self {
        Self::with(witnesses, Knobs::default()).await
    }

    /// Under this policy with so many of them.
    pub(crate) async fn with(witnesses: usize, knobs: Knobs) -> Self {
        // Who a witness watches is known before the policy that names it.
        let probe = House::new().await;
        let log_key = probe.app().token.keys().checkpoint;
        let folders = tempfile::tempdir().unwrap().keep();
        let named = WITNESSES.iter().take(witnesses).map(|name| {
            let public = Memory::make(&folders.join(name), name, log_key).unwrap();
            ((*name).to_owned(), hex::encode(public))
        });
        let knobs = Knobs { witnesses: named.collect(), ..knobs };
        let house = House::closed(&knobs, Limits::default()).await;
        for name in WITNESSES.iter().take(witnesses) {
            let to = house.folder().join(name);
            fs::rename(folders.join(name), to).unwrap();
        }
        fs::remove_dir_all(folders).unwrap();
        Self::of(house, knobs, log_key)
    }

    fn of(mut house: House, knobs: Knobs, log_key: [u8; 32]) -> Self {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        house.config.listen.set_port(port);
        Self { house, knobs, port, log_key, stop: None, task: None }
    }

    /// Another signer over the same log.
    async fn another(&self) -> Self {
        let mut house = House::closed(&self.knobs, Limits::default()).await;
        house.config.database.clone_from(&self.house.config.database);
        Self::of(house, self.knobs.clone(), self.log_key)
    }

    pub(crate) fn serve(&mut self) {
        self.serve_in_line(false);
    }

    fn serve_in_line(&mut self, standby: bool) {
        let (stop, stopped) = oneshot::channel();
        let config = self.house.config.clone();
        let until = async {
            let _ = stopped.await;
        };
        self.task =
            Some(tokio::spawn(async move { serve_in_line(&config, false, standby, until).await }));
        self.stop = Some(stop);
    }

    pub(crate) async fn end(&mut self) {
        let _ = self.stop.take().unwrap().send(());
        self.task.take().unwrap().await.unwrap().unwrap();
    }

    /// A connection with another authority's certificate, if there is any.
    pub(crate) async fn foreign(
        &self,
        authority: &Authority,
        name: &str,
    ) -> Result<Channel, tonic::transport::Error> {
        self.house.connect(authority, self.port, name).await
    }

    pub(crate) fn dir(&self, name: &str) -> PathBuf {
        self.house.folder().join(name)
    }

    /// A witness that comes again and again, as `officer witness run` has it.
    pub(crate) fn witness(&self, name: &str) -> JoinHandle<anyhow::Result<()>> {
        self.witness_of(name, &[self.port])
    }

    /// One that knows these ports.
    fn witness_of(&self, name: &str, ports: &[u16]) -> JoinHandle<anyhow::Result<()>> {
        let endpoints = ports.iter().map(|port| self.house.endpoint_at(*port, name));
        let (dir, endpoints) = (self.dir(name), endpoints.collect::<Vec<_>>());
        tokio::spawn(async move {
            let mut memory = Memory::open(&dir)?;
            visit::again_and_again(&mut memory, &endpoints, &mut Vec::new()).await
        })
    }

    pub(crate) async fn channel(&self, name: &str) -> Channel {
        let begun = Instant::now();
        loop {
            match self.house.endpoint_at(self.port, name).connect().await {
                Ok(channel) => return channel,
                Err(error) => assert!(begun.elapsed() < Duration::from_secs(60), "{error:?}"),
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Asks for a sweep of one coin.
    async fn sweep(&self, number: u64) -> Result<(), Status> {
        let coins: [Coin; 1] =
            [coin(&self.house.descriptors.deposits, false, 0, 50_000, 7_000 + number, 2)];
        let outs = [own(&self.house.descriptors.cold, false, 0, 49_000)];
        let ask = header(&format!("w{number}"), "sweep", "deposits", &psbt(&coins, &outs));
        let mut client = SignerClient::new(self.channel("watcher-1").await);
        client.sign(tokio_stream::iter(parts(ask, &coins))).await.map(drop)
    }

    /// Asks until the answer is this one: how a signer is doing changes a moment after its witnesses.
    pub(crate) async fn sweeps_until(
        &self,
        number: u64,
        what: &str,
        is: impl Fn(&Result<(), Status>) -> bool,
    ) {
        let begun = Instant::now();
        loop {
            let answer = self.sweep(number).await;
            if is(&answer) {
                return;
            }
            assert!(begun.elapsed() < Duration::from_secs(90), "{what}: {answer:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn reader(&self, name: &str) -> LogClient<Channel> {
        LogClient::new(self.channel(name).await)
    }
}

pub(crate) fn refused_for(answer: &Result<(), Status>, code: &str) -> bool {
    answer.as_ref().is_err_and(|status| !status.details().is_empty() && said(status).1 == [code])
}

fn hashes(path: &[Vec<u8>]) -> Vec<Hash> {
    path.iter().map(|hash| hash.as_slice().try_into().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_let_out_before_the_witnesses_saw_it_and_readers_can_prove_it() {
    let mut scene = Box::pin(Scene::new(2)).await;
    let watched = free().await;
    scene.house.config.metrics = Some(watched);
    scene.serve();
    let waits = |answer: &Result<(), Status>| refused_for(answer, "witness-unavailable");
    scene.sweeps_until(1, "refused without witnesses", waits).await;
    let first = scene.witness("w1");
    scene.sweeps_until(1, "refused with one", waits).await;
    let second = scene.witness("w2");
    scene.sweeps_until(1, "signed with both", Result::is_ok).await;
    let page = ask(watched, "GET /metrics HTTP/1.1").await;
    assert_eq!(number(&page, "cofferdam_witnesses_required"), 2);
    for seat in ["0", "1"] {
        let of = |name: &str| number(&page, &format!("{name}{{number=\"{seat}\"}}"));
        assert_eq!(of("cofferdam_witness_connected"), 1, "{seat}");
        assert!(of("cofferdam_witness_lag_entries") < 3, "{seat}: all but what is being written");
    }
    assert!(!page.contains("w1") && !page.contains("w2"), "{page}");

    let mut reader = scene.reader("auditor-1").await;
    let note = reader.newest(NewestRequest {}).await.unwrap().into_inner().note;
    let origin = origin(&scene.log_key);
    let newest = Checkpoint::open(&note, &origin, &scene.log_key).unwrap();
    for name in WITNESSES {
        let memory = Memory::open(&scene.dir(name)).unwrap();
        cosignature::verify(&note, name, &memory.public()).unwrap();
        assert!(memory.size() >= newest.size, "{name}");
    }
    prove(&mut reader, &newest).await;
    refuses_others(&scene).await;

    // One goes: what was signed is not let out any more either, until it is back.
    second.abort();
    let _ = second.await;
    scene.sweeps_until(2, "refused when one went", waits).await;
    let page = ask(watched, "GET /metrics HTTP/1.1").await;
    assert_eq!(number(&page, "cofferdam_witness_connected{number=\"1\"}"), 0);
    assert!(!page.contains("cofferdam_witness_lag_entries{number=\"1\"}"), "nobody knows");
    let second = scene.witness("w2");
    scene.sweeps_until(2, "signed when it was back", Result::is_ok).await;
    scene.end().await;
    for task in [first, second] {
        task.abort();
    }
}

/// Everything the log says can be held against the checkpoint.
async fn prove(reader: &mut LogClient<Channel>, newest: &Checkpoint) {
    let (mut tree, mut from) = (Frontier::new(), 0);
    while from < newest.size {
        let page = EntriesRequest { from, most: 7 };
        let page = reader.entries(page).await.unwrap().into_inner();
        assert_eq!(page.from, from);
        assert!(!page.entries.is_empty() && page.entries.len() <= 7);
        for entry in page.entries.iter().take(usize::try_from(newest.size - from).unwrap()) {
            tree.append(leaf_hash(entry));
        }
        from += page.entries.len() as u64;
    }
    assert_eq!(tree.root(), newest.root);
    let size = newest.size;
    let asked = InclusionRequest { entry: 1, size };
    let included = reader.inclusion(asked).await.unwrap().into_inner();
    let path = hashes(&included.path);
    assert!(verify_inclusion(&leaf_hash(&included.leaf), 1, size, &path, &newest.root));
    let mut before = Frontier::new();
    before.append(leaf_hash(
        &reader.inclusion(InclusionRequest { entry: 0, size }).await.unwrap().into_inner().leaf,
    ));
    let grown =
        reader.consistency(ConsistencyRequest { from: 1, to: size }).await.unwrap().into_inner();
    assert!(verify_consistency(1, &before.root(), size, &newest.root, &hashes(&grown.path)));
    // What is not there, or not covered yet, is not proven.
    let beyond = InclusionRequest { entry: size + 1_000_000, size: size + 2_000_000 };
    assert_eq!(reader.inclusion(beyond).await.unwrap_err().code(), Code::InvalidArgument);
    let beyond = ConsistencyRequest { from: 1, to: size + 1_000_000 };
    assert_eq!(reader.consistency(beyond).await.unwrap_err().code(), Code::InvalidArgument);
    let beyond = EntriesRequest { from: u64::MAX, most: u32::MAX };
    assert!(reader.entries(beyond).await.unwrap().into_inner().entries.is_empty());
}

/// Who has no grant sees nothing; a witness sees checkpoints, not entries.
async fn refuses_others(scene: &Scene) {
    for name in ["watcher-1", "payout-desk", "stranger"] {
        // The door turns away whom the policy does not know at all.
        let reason = if name == "stranger" { "unknown-client" } else { "log-not-granted" };
        let denied = |status: Status| assert_eq!(said(&status).1, [reason], "{status}");
        let mut client = scene.reader(name).await;
        denied(client.newest(NewestRequest {}).await.unwrap_err());
        denied(client.consistency(ConsistencyRequest { from: 0, to: 1 }).await.unwrap_err());
        denied(client.inclusion(InclusionRequest { entry: 0, size: 1 }).await.unwrap_err());
        denied(client.entries(EntriesRequest { from: 0, most: 1 }).await.unwrap_err());
        let hello = WitnessSays { said: Some(Said::Hello(String::new())) };
        denied(client.witness(tokio_stream::iter([hello])).await.unwrap_err());
    }
    let denied = |status: Status| assert_eq!(said(&status).1, ["log-not-granted"], "{status}");
    let mut witness = scene.reader("w1").await;
    witness.newest(NewestRequest {}).await.unwrap();
    witness.consistency(ConsistencyRequest { from: 0, to: 1 }).await.unwrap();
    denied(witness.inclusion(InclusionRequest { entry: 0, size: 1 }).await.unwrap_err());
    denied(witness.entries(EntriesRequest { from: 0, most: 1 }).await.unwrap_err());
    let mut client = SignerClient::new(scene.channel("w1").await);
    let status = client.status(proto::StatusRequest {}).await.unwrap_err();
    assert_eq!(said(&status).1, ["unknown-client"], "a witness is no client");
}

/// A restart waits for what witnesses saw last; one that says so is asked only by the service that then opens, from there on.
#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_waits_for_witnesses_hears_them_and_asks_nothing() {
    let mut scene = Box::pin(Scene::new(1)).await;
    scene.serve();
    let witness = scene.witness("w1");
    scene.sweeps_until(1, "signed", Result::is_ok).await;
    witness.abort();
    let _ = witness.await;
    scene.end().await;
    scene.serve();
    let mut memory = Memory::open(&scene.dir("w1")).unwrap();
    let endpoint = scene.house.endpoint_at(scene.port, "w1");
    drop(scene.channel("w1").await);
    let heard = visit::visit(&mut memory, &endpoint).await.unwrap_err();
    assert!(heard.to_string().contains("witness-unavailable"), "{heard:#}");
    // The ones after it: none raises an alarm.
    let witness = scene.witness("w1");
    scene.sweeps_until(2, "signed after the restart", Result::is_ok).await;
    assert!(!witness.is_finished());
    scene.end().await;
    witness.abort();
}

/// The database and the state folder set back together: nothing on the signer's machine could tell.
#[tokio::test(flavor = "multi_thread")]
async fn a_signer_that_was_set_back_does_not_start_while_a_witness_remembers() {
    let mut scene = Box::pin(Scene::new(1)).await;
    let kept = scene.house.folder().join("yesterday");
    let state = scene.house.config.state_dir.clone();
    let files = ["log.sqlite", "checkpoint"];
    fs::create_dir(&kept).unwrap();
    for file in files {
        fs::copy(state.join(file), kept.join(file)).unwrap();
    }
    scene.serve();
    let witness = scene.witness("w1");
    scene.sweeps_until(1, "signed", Result::is_ok).await;
    scene.end().await;
    for file in files {
        fs::copy(kept.join(file), state.join(file)).unwrap();
    }
    for wal in ["log.sqlite-wal", "log.sqlite-shm"] {
        let _ = fs::remove_file(state.join(wal));
    }
    scene.serve();
    let noticed = |answer: &Result<(), Status>| {
        refused_for(answer, "log-unavailable")
            && answer.as_ref().is_err_and(|status| status.message().contains("witness w1"))
    };
    scene.sweeps_until(2, "refused since it was set back", noticed).await;
    scene.end().await;
    witness.abort();
}

/// A witness with two addresses serves the one that has the log, and tells the standby what it saw before that takes over.
#[tokio::test(flavor = "multi_thread")]
async fn a_witness_goes_with_the_log_to_the_standby() {
    let mut first = Box::pin(Scene::new(1)).await;
    move_to_postgres(&mut first.house).await;
    let mut second = first.another().await;
    first.serve();
    second.serve_in_line(true);
    let witness = first.witness_of("w1", &[first.port, second.port]);
    first.sweeps_until(1, "signed by the first", Result::is_ok).await;
    let stands_by = |answer: &Result<(), Status>| refused_for(answer, "log-unavailable");
    second.sweeps_until(1, "the second stands by", stands_by).await;
    let seen = Memory::open(&first.dir("w1")).unwrap().size();
    first.end().await;
    second.sweeps_until(2, "signed by the second", Result::is_ok).await;
    assert!(Memory::open(&first.dir("w1")).unwrap().size() > seen);
    second.end().await;
    witness.abort();
}

/// The policy in force names one witness, and the file another: it is proposed, and may come into force in two days.
#[tokio::test(flavor = "multi_thread")]
async fn a_signer_starts_under_a_file_that_names_other_witnesses_than_the_policy_in_force() {
    let mut scene = Scene::new(2).await;
    let governed = |version: u64, name: &str| {
        let memory = Memory::open(&scene.dir(name)).unwrap();
        let board = hex::encode(crate::common::officer().verifying_key().to_bytes());
        let knobs = Knobs {
            version,
            witnesses: vec![(name.to_owned(), hex::encode(memory.public()))],
            more: format!(
                "[[officer]]\nname = \"alice\"\ndomain = \"zurich\"\ned25519 = \"{board}\"\n\
                 [[group]]\nname = \"board\"\nmembers = [\"alice\"]\n[governance]\n\
                 tighten = \"1 of board\"\nchange = \"1 of board\"\ndelay = \"48h\"\n"
            ),
            ..Knobs::default()
        };
        crate::common::policy_text(&scene.house.descriptors, &knobs)
    };
    let policies = [governed(2, "w1"), governed(3, "w2")];
    let put = |scene: &Scene, text: &str| {
        let file = &scene.house.config.policy;
        fs::write(file, text).unwrap();
        let signatures = crate::common::policy_signatures(text);
        fs::write(file.with_extension("toml.sig"), signatures).unwrap();
    };
    put(&scene, &policies[0]);
    let first = scene.witness("w1");
    scene.serve();
    scene.sweeps_until(1, "signed under the first", Result::is_ok).await;
    scene.end().await;
    // The new one comes as well: it has seen nothing yet, and says so. The old one alone counts, and is let in.
    put(&scene, &policies[1]);
    let second = scene.witness("w2");
    scene.serve();
    scene.sweeps_until(2, "signed with the witness of the policy in force", Result::is_ok).await;
    scene.end().await;
    for task in [first, second] {
        task.abort();
    }
}
