//! Wall clocks that are wrong, of real signers: a day ahead and back, an hour back within a limit's window, set while one runs, and
//! two that are five minutes apart. None has more signed than the limit allows, and a delay ends no sooner.

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bitcoin::hashes::{Hash as _, sha256};
use devnet::programs::Programs;
use devnet::refused::reasons;
use devnet::stack::{Children, Options, Service};
use devnet::wait::until;
use devnet::{Stack, load, ports};
use proto::SignReply;
use proto::signer_client::SignerClient;
use tonic::codegen::tokio_stream;
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::moved::moved;

const PATIENCE: Duration = Duration::from_secs(120);
const HOUR: i64 = 3_600;
const DAY: i64 = 24 * HOUR;
/// What is signed of sweeps in a day.
const TWO_A_DAY: &str = "[[limit]]\nname = \"two-a-day\"\nby = \"lane\"\nlanes = [\"sweep\"]\nwindow = \"1d\"\ncount = 2\n";
const SLOW: &str =
    "[[require]]\nname = \"slow\"\nwhen = { lanes = [\"sweep\"] }\ndelay = \"30m\"\n";

/// The wall clock of one process.
struct Wall {
    path: PathBuf,
    file: File,
}

impl Wall {
    /// Of this service from its next start on.
    fn of(service: &mut Service, path: PathBuf) -> Self {
        fs::write(&path, [0; 8]).unwrap();
        let file = File::options().write(true).open(&path).unwrap();
        let library = Programs::find().unwrap().shifted_clock().unwrap();
        service.set_environment(vec![("LD_PRELOAD", library), ("SHIFTED_CLOCK", path.clone())]);
        Self { path, file }
    }

    /// By so many seconds ahead of the machine's.
    fn set(&self, ahead: i64) {
        // In place: a running process has it mapped.
        self.file.write_all_at(&ahead.to_le_bytes(), 0).unwrap();
        assert_eq!(fs::read(&self.path).unwrap().len(), 8);
    }
}

/// A stack whose signer is down and has these rules more, an officer, and a wall clock of its own.
async fn stack(rules: &str) -> (Stack, Wall) {
    let options = Options { children: Children { external: 4, change: 1 }, ..Options::default() };
    let mut stack = Stack::start_without_watcher(options).await.unwrap();
    stack.signer.stop().unwrap();
    let key = stack.dir().join("officer/ada.key");
    let made = ["keygen", "--name", "ada", "--in-clear", "--out", key.to_str().unwrap()];
    let said = stack.run("officer", &made).unwrap();
    let public = said.lines().find_map(|line| line.strip_prefix("public key")).unwrap().trim();
    let officer =
        format!("[[officer]]\nname = \"ada\"\ndomain = \"zurich\"\ned25519 = \"{public}\"\n");
    let file = stack.dir().join("signer/policy.toml");
    let client = "name = \"officer\"\nattest = []\nstatus = true\n";
    let text = fs::read_to_string(&file).unwrap();
    assert!(text.contains(client));
    let text = text.replacen("version = 1", "version = 2", 1).replacen(
        client,
        &format!("{client}officers = true\n"),
        1,
    );
    fs::write(&file, [&text, officer.as_str(), rules].join("\n")).unwrap();
    let (file, key) = (file.to_str().unwrap(), stack.dir().join("officer/alice.key"));
    let key = key.to_str().unwrap();
    stack.run("officer", &["policy", "sign", file, "--key", key, "--yes"]).unwrap();
    let path = stack.dir().join("wall-clock");
    let wall = Wall::of(&mut stack.signer, path);
    (stack, wall)
}

/// The sweep of this number: asked for again it is the same.
async fn ask(
    stack: &Stack,
    mut signer: SignerClient<Channel>,
    number: u32,
) -> Result<SignReply, Status> {
    let coins = load::coins(&stack.descriptors().deposits, number, 1, 4, 2).unwrap();
    let psbt = load::sweep(stack.descriptors(), &coins, 2).unwrap();
    let parts = load::stream(&format!("sweep-{number}"), "deposits", &psbt, &coins);
    signer.sign(tokio_stream::iter(parts)).await.map(tonic::Response::into_inner)
}

async fn sweep(stack: &Stack, number: u32) -> Result<SignReply, Status> {
    ask(stack, stack.signer_as("watcher-1").unwrap(), number).await
}

fn is_denied(answer: Result<SignReply, Status>) {
    assert_eq!(answer.unwrap_err().code(), Code::PermissionDenied);
}

/// Whether what it wrote since then says so.
fn said(service: &Service, since: usize, what: &str) -> bool {
    let log = fs::read_to_string(service.log()).unwrap();
    log.get(since..).is_some_and(|log| log.contains(what))
}

fn written(service: &Service) -> usize {
    fs::read_to_string(service.log()).unwrap().len()
}

async fn until_said(service: &Service, since: usize, what: &str) {
    until(what, PATIENCE, || async { Ok(said(service, since, what).then_some(())) }).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_of_a_day_outlasts_a_clock_that_is_set_back_and_forth() {
    let (mut stack, wall) = stack(TWO_A_DAY).await;
    stack.start_signer().await.unwrap();
    sweep(&stack, 1).await.unwrap();
    sweep(&stack, 2).await.unwrap();
    is_denied(sweep(&stack, 3).await);
    stack.signer.stop().unwrap();

    // Nearly an hour back it goes on from where the log is.
    wall.set(-HOUR + 100);
    stack.start_signer().await.unwrap();
    is_denied(sweep(&stack, 3).await);
    stack.signer.stop().unwrap();

    // More than an hour back it serves nothing, until the clock is set.
    wall.set(-HOUR - 100);
    refused(&mut stack).await;
    wall.set(0);
    until("the signer to serve", PATIENCE, || async {
        Ok((sweep(&stack, 3).await.unwrap_err().code() == Code::PermissionDenied).then_some(()))
    })
    .await
    .unwrap();
    stack.signer.stop().unwrap();

    // More than a day ahead: nobody wrote meanwhile, so the clock is in doubt, and the window empties for nobody.
    wall.set(DAY + HOUR);
    let since = written(&stack.signer);
    stack.start_signer().await.unwrap();
    assert!(said(&stack.signer, since, "the clock is in doubt"));
    is_denied(sweep(&stack, 3).await);
    stack.signer.stop().unwrap();

    // And back: what was written then is later than now, and a person must look at it.
    wall.set(0);
    refused(&mut stack).await;
    stack.signer.stop().unwrap();
    stack.signer.set_arguments(&["--clock-is-right"]);
    stack.start_signer().await.unwrap();
    is_denied(sweep(&stack, 3).await);
    // What was signed before is given again, and nothing more.
    assert!(sweep(&stack, 1).await.unwrap().stored);
    stack.signer.stop().unwrap();
}

/// It starts, and serves nothing but the reason.
async fn refused(stack: &mut Stack) {
    let since = written(&stack.signer);
    stack.signer.start().unwrap();
    until_said(&stack.signer, since, "the clock says").await;
    for number in 1..4 {
        let answer = sweep(stack, number).await.unwrap_err();
        assert_eq!(answer.code(), Code::Unavailable, "{answer}");
    }
}

/// The delay is half an hour, and the clock is set an hour ahead: by that clock it is over, by the signer's own it is not, and
/// nothing that waits comes any nearer until an officer says the time.
#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_set_under_a_running_signer_ends_no_delay() {
    let (mut stack, wall) = stack(SLOW).await;
    stack.start_signer().await.unwrap();
    let config = settings(&stack);
    let pending = || stack.run("officer", &["pending", "--config", &config]).unwrap();
    let still_waits = async || {
        let codes = reasons(&sweep(&stack, 1).await.unwrap_err()).unwrap();
        let codes: Vec<&str> = codes.iter().map(|reason| &reason.code[..]).collect();
        assert_eq!(codes, ["waiting", "delay"]);
    };
    still_waits().await;
    assert!(!pending().contains("in doubt"));
    for ahead in [HOUR, 0] {
        let since = written(&stack.signer);
        wall.set(ahead);
        until_said(&stack.signer, since, "the machine's clock was set by").await;
        still_waits().await;
        assert!(pending().contains("in doubt since entry"));
        // Ada's clock is right.
        stack.run("officer", &["time", "--yes", "--config", &config]).unwrap();
        assert!(!pending().contains("in doubt"));
        still_waits().await;
    }
    stack.signer.stop().unwrap();
}

/// Settings of `officer`, for ada.
fn settings(stack: &Stack) -> String {
    let of = stack.credential("officer").unwrap();
    let checkpoint = hex::decode(&stack.token().checkpoint).unwrap();
    let log = &hex::encode(sha256::Hash::hash(&checkpoint).to_byte_array())[..16];
    let file = stack.dir().join("ada.toml");
    let text = format!(
        "signer = {:?}\nserver_name = \"localhost\"\nlog = \"cofferdam/{log}\"\npolicy = {:?}\nkey = {:?}\n\
         [tls]\ncertificate = {:?}\nkey = {:?}\nca = {:?}\n",
        stack.signer_url(),
        stack.dir().join("signer/policy.toml"),
        stack.dir().join("officer/ada.key"),
        of.cert,
        of.key,
        of.ca
    );
    fs::write(&file, text).unwrap();
    file.to_str().unwrap().to_owned()
}

/// One log in PostgreSQL, two machines' clocks: each takes over from the other, five minutes later or earlier.
#[tokio::test(flavor = "multi_thread")]
async fn two_signers_five_minutes_apart_grant_no_more_than_one() {
    let (mut stack, wall) = stack(TWO_A_DAY).await;
    let database = moved(&stack.dir().join("signer/state/log.sqlite")).await;
    fs::remove_file(stack.dir().join("signer/state/log.sqlite")).unwrap();
    let text = fs::read_to_string(stack.signer.config()).unwrap();
    fs::write(stack.signer.config(), format!("database = {database:?}\n{text}")).unwrap();
    let (mut second, url) = second(&stack);
    let other = Wall::of(&mut second, stack.dir().join("other-clock"));
    wall.set(0);
    other.set(300);
    stack.start_signer().await.unwrap();
    second.set_arguments(&["--standby"]);
    second.start().unwrap();
    let there = stack.signer_at(&url, "watcher-1").unwrap();
    until("the second to stand by", PATIENCE, || async {
        Ok((ask(&stack, there.clone(), 9).await.unwrap_err().code() == Code::Unavailable)
            .then_some(()))
    })
    .await
    .unwrap();
    sweep(&stack, 1).await.unwrap();
    sweep(&stack, 2).await.unwrap();
    is_denied(sweep(&stack, 3).await);

    stack.signer.kill().unwrap();
    until("the second to take over", PATIENCE, || async {
        Ok(ask(&stack, there.clone(), 1).await.is_ok_and(|reply| reply.stored).then_some(()))
    })
    .await
    .unwrap();
    is_denied(ask(&stack, there.clone(), 3).await);

    // Back to the first, whose clock is behind what the log says.
    stack.signer.set_arguments(&["--standby"]);
    stack.signer.start().unwrap();
    until("the first to stand by", PATIENCE, || async {
        Ok((sweep(&stack, 9).await.unwrap_err().code() == Code::Unavailable).then_some(()))
    })
    .await
    .unwrap();
    second.kill().unwrap();
    until("the first to take over", PATIENCE, || async {
        Ok(sweep(&stack, 1).await.is_ok_and(|reply| reply.stored).then_some(()))
    })
    .await
    .unwrap();
    is_denied(sweep(&stack, 3).await);
    stack.signer.stop().unwrap();
}

/// Another signer with the same token and log, and where it listens.
fn second(stack: &Stack) -> (Service, String) {
    let (from, to) = (stack.dir().join("signer"), stack.dir().join("second"));
    copy(&from, &to);
    let port = ports::free().unwrap();
    let text = fs::read_to_string(stack.signer.config()).unwrap();
    let mut config: toml::Table =
        text.replace(from.to_str().unwrap(), to.to_str().unwrap()).parse().unwrap();
    config.insert("listen".into(), format!("127.0.0.1:{port}").into());
    let file = to.join("signer.toml");
    fs::write(&file, config.to_string()).unwrap();
    (stack.signer.another(file, to.join("second.log")), format!("https://localhost:{port}"))
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &target);
        } else {
            fs::copy(&path, &target).unwrap();
        }
    }
}
