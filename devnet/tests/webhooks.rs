//! `deploy/officer-webhooks` against a signer as it is deployed: what the signer tells its listeners comes to a receiver, in
//! order, signed, and without a sentence, although the receiver fails at first and the signer goes away in between.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bitcoin::hashes::{Hash as _, HashEngine as _, Hmac, HmacEngine, sha256};
use devnet::Stack;
use devnet::programs::Programs;
use devnet::stack::{Children, Options};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

const SECRET: &str = "a secret of some length";

/// The relay, which ends with the test.
struct Relay(Child);

impl Drop for Relay {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Takes what is sent, and answers each with the next of its statuses, then with 200.
struct Receiver {
    listener: TcpListener,
    statuses: Vec<u16>,
    /// SHA-256 of the policy in force.
    policy: String,
    /// Whether what comes is signed.
    signed: bool,
}

impl Receiver {
    /// The next message, whose signature is right where there must be one, and whether it was taken.
    async fn next(&mut self) -> (Value, bool) {
        let (mut io, _) = tokio::time::timeout(Duration::from_secs(120), self.listener.accept())
            .await
            .unwrap()
            .unwrap();
        let (head, body) = request(&mut io).await;
        let mut engine = HmacEngine::<sha256::Hash>::new(SECRET.as_bytes());
        engine.input(&body);
        let signed = Hmac::<sha256::Hash>::from_engine(engine).to_byte_array();
        let header = format!("cofferdam-signature: {}", hex::encode(signed));
        let head_lower = head.to_lowercase();
        match self.signed {
            true => assert!(head_lower.contains(&header), "{head}"),
            false => assert!(!head_lower.contains("cofferdam-signature"), "{head}"),
        }
        assert!(head.starts_with("POST /hook HTTP/1.1\r\n"), "{head}");
        let status = if self.statuses.is_empty() { 200 } else { self.statuses.remove(0) };
        let answer = format!(
            "HTTP/1.1 {status} X\r\nLocation: /elsewhere\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        );
        io.write_all(answer.as_bytes()).await.unwrap();
        (serde_json::from_slice(&body).unwrap(), status == 200)
    }

    /// The kind and the codes of the next message that is taken; there is no more in it than that, and the policy.
    async fn taken(&mut self) -> (String, Vec<String>) {
        loop {
            let (said, true) = self.next().await else { continue };
            let reasons = said["reasons"].as_array().unwrap();
            let code = |reason: &Value| {
                assert_eq!(reason.as_object().unwrap().len(), 1, "{said}");
                reason["code"].as_str().unwrap().to_owned()
            };
            let kind = said["kind"].as_str().unwrap().to_owned();
            // The relay itself knows of no policy.
            let digest = if kind == "relay" { None } else { Some(self.policy.as_str()) };
            let policy = digest.map(|sha256| json!({ "version": 2, "sha256": sha256 }));
            assert_eq!(said.get("policy"), policy.as_ref(), "{said}");
            return (kind, reasons.iter().map(code).collect());
        }
    }
}

/// Head and body.
async fn request(io: &mut TcpStream) -> (String, Vec<u8>) {
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, _)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| {
                line.to_lowercase().strip_prefix("content-length: ")?.parse::<usize>().ok()
            });
            let body = bytes[head.len() + 4..].to_vec();
            if body.len() == length.unwrap() {
                return (head.to_owned(), body);
            }
        }
        assert!(io.read_buf(&mut bytes).await.unwrap() > 0, "cut off: {text}");
    }
}

/// The next version of the policy: it has an officer, and a client that serves officers.
fn with_an_officer(stack: &Stack) {
    let key = stack.dir().join("officer/ada.key");
    let made = ["keygen", "--name", "ada", "--in-clear", "--out", key.to_str().unwrap()];
    let said = stack.run("officer", &made).unwrap();
    let public = said.lines().find_map(|line| line.strip_prefix("public key")).unwrap().trim();
    let file = stack.dir().join("signer/policy.toml");
    let before = fs::read_to_string(&file).unwrap();
    let client = "name = \"officer\"\nattest = []\nstatus = true\n";
    assert!(before.contains(client));
    let after = before.replacen("version = 1", "version = 2", 1).replacen(
        client,
        &format!("{client}officers = true\n"),
        1,
    );
    let officer =
        format!("[[officer]]\nname = \"ada\"\ndomain = \"zurich\"\ned25519 = \"{public}\"\n");
    fs::write(&file, after + &officer).unwrap();
    let key = stack.dir().join("officer/alice.key");
    let signing = ["policy", "sign", file.to_str().unwrap(), "--key", key.to_str().unwrap()];
    stack.run("officer", &[&signing[..], &["--yes"]].concat()).unwrap();
}

/// Settings of `officer`; the relay's name a key that is not there.
fn settings(stack: &Stack, name: &str, key: &str) -> PathBuf {
    let of = stack.credential("officer").unwrap();
    let checkpoint = hex::decode(&stack.token().checkpoint).unwrap();
    let log = &hex::encode(sha256::Hash::hash(&checkpoint).to_byte_array())[..16];
    let file = stack.dir().join(name);
    let text = format!(
        "signer = {:?}\nserver_name = \"localhost\"\nlog = \"cofferdam/{log}\"\npolicy = {:?}\nkey = {key:?}\n\
         [tls]\ncertificate = {:?}\nkey = {:?}\nca = {:?}\n",
        stack.signer_url(),
        stack.dir().join("signer/policy.toml"),
        of.cert,
        of.key,
        of.ca
    );
    fs::write(&file, text).unwrap();
    file
}

fn relay(stack: &Stack, config: &Path, url: &str) -> Command {
    let officer = Programs::find().unwrap().command("officer");
    relay_of(Path::new(officer.get_program()), stack.dir(), config, url)
}

/// With this program to listen by, and files of its own in this folder.
fn relay_of(officer: &Path, folder: &Path, config: &Path, url: &str) -> Command {
    let (url_file, secret) = (folder.join("url"), folder.join("secret"));
    fs::write(&url_file, format!("{url}\n")).unwrap();
    fs::write(&secret, SECRET).unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/officer-webhooks");
    let mut command = Command::new("python3");
    command.arg(script).arg("--config").arg(config);
    command.arg("--officer").arg(officer);
    command.arg("--url-file").arg(url_file).arg("--secret-file").arg(secret);
    command
}

/// Heartbeats go to a dead man's switch, each once, and no other message does.
#[tokio::test(flavor = "multi_thread")]
async fn heartbeats_come_to_a_dead_mans_switch() {
    let options = Options { children: Children { external: 2, change: 1 }, ..Options::default() };
    let mut stack = Stack::start_without_watcher(options).await.unwrap();
    stack.signer.stop().unwrap();
    with_an_officer(&stack);
    stack.start_signer().await.unwrap();
    let watch = settings(&stack, "watch.toml", "nowhere.key");
    let text = fs::read(stack.dir().join("signer/policy.toml")).unwrap();
    let policy = sha256::Hash::hash(&text).to_string();
    let listen = async |statuses, signed| {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook", listener.local_addr().unwrap());
        (Receiver { listener, statuses, policy: policy.clone(), signed }, url)
    };
    let ((mut receiver, url), (mut switch, beats)) =
        (listen(vec![], true).await, listen(vec![500], false).await);
    let file = stack.dir().join("switch");
    fs::write(&file, beats).unwrap();
    let mut command = relay(&stack, &watch, &url);
    command.args(["--heartbeat", "5", "--heartbeat-url-file"]).arg(file);
    let _relay = Relay(command.spawn().unwrap());
    let (listening, true) = receiver.next().await else { panic!("it is taken") };
    assert_eq!(listening["kind"], "relay", "{listening}");
    let (first, taken) = switch.next().await;
    assert!(!taken);
    let (second, taken) = switch.next().await;
    let at = |beat: &Value| beat["unix_ms"].as_u64().unwrap();
    assert!(taken && at(&second) >= at(&first) + 4_000, "another one, and not the same again");
    assert_eq!(second["kind"], "heartbeat");
    assert_eq!(second["reasons"], json!([{ "code": "ready" }]));
    let size = |of: &str| second["log"][of].as_u64().unwrap();
    assert!(size("entries") > 0 && size("entries") == size("checkpoint"), "{second}");
    assert_eq!(second["policy"], json!({ "version": 2, "sha256": policy }));
    // The next that the webhook hears is no heartbeat.
    stack.signer.stop().unwrap();
    assert_eq!(receiver.taken().await, ("relay".to_owned(), vec!["lost".to_owned()]));
}

/// Silence is what a dead man's switch tells of: neither a signer that would not sign nor one that was there a while ago breaks it.
#[tokio::test(flavor = "multi_thread")]
async fn a_heartbeat_that_is_old_or_of_a_signer_that_is_not_ready_comes_to_no_switch() {
    let folder = tempfile::tempdir().unwrap();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let ms = |age_seconds: u64| u64::try_from(now.as_millis()).unwrap() - age_seconds * 1_000;
    let beat = |age_seconds, code| json!({ "unix_ms": ms(age_seconds), "kind": "heartbeat", "reasons": [{ "code": code }] });
    let told = [json!({}), beat(0, "not-ready"), beat(3_700, "ready"), beat(1, "ready")];
    let lines: Vec<String> = told.iter().map(Value::to_string).collect();
    // In the place of `officer watch`.
    let officer = folder.path().join("officer");
    fs::write(&officer, format!("#!/bin/sh\ncat <<'END'\n{}\nEND\n", lines.join("\n"))).unwrap();
    fs::set_permissions(&officer, fs::Permissions::from_mode(0o700)).unwrap();
    let listen = async |signed| {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook", listener.local_addr().unwrap());
        (Receiver { listener, statuses: vec![], policy: String::new(), signed }, url)
    };
    let ((mut receiver, url), (mut switch, beats)) = (listen(true).await, listen(false).await);
    let file = folder.path().join("switch");
    fs::write(&file, beats).unwrap();
    let mut command = relay_of(&officer, folder.path(), Path::new("watch.toml"), &url);
    command.args(["--heartbeat", "3600", "--heartbeat-url-file"]).arg(file);
    let _relay = Relay(command.spawn().unwrap());
    assert_eq!(receiver.taken().await, ("relay".to_owned(), vec!["listening".to_owned()]));
    let (only, true) = switch.next().await else { panic!("it is taken") };
    assert_eq!(only, beat(1, "ready"));
    assert_eq!(receiver.taken().await, ("relay".to_owned(), vec!["lost".to_owned()]));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_signer_tells_its_listeners_comes_to_a_webhook() {
    let options = Options { children: Children { external: 2, change: 1 }, ..Options::default() };
    let mut stack = Stack::start_without_watcher(options).await.unwrap();
    stack.signer.stop().unwrap();
    with_an_officer(&stack);
    stack.start_signer().await.unwrap();

    let ada = settings(&stack, "ada.toml", "officer/ada.key");
    let watch = settings(&stack, "watch.toml", "nowhere.key");
    let frozen = |scope: &[&str]| {
        let config = ["--yes", "--config", ada.to_str().unwrap()];
        stack.run("officer", &[&["freeze"], scope, &config].concat()).unwrap()
    };
    let elsewhere = relay(&stack, &watch, "http://example.com/hook").output().unwrap();
    assert!(!elsewhere.status.success(), "what is said goes over no open line");

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    // It fails, and sends elsewhere, before it takes anything.
    let text = fs::read(stack.dir().join("signer/policy.toml")).unwrap();
    let policy = sha256::Hash::hash(&text).to_string();
    let mut receiver = Receiver { listener, statuses: vec![500, 302], policy, signed: true };
    let _relay = Relay(relay(&stack, &watch, &url).spawn().unwrap());
    let said = |kind: &str, code: &str| (kind.to_owned(), vec![code.to_owned()]);
    assert_eq!(receiver.taken().await, said("relay", "listening"));
    frozen(&["lane", "sweep"]);
    assert_eq!(receiver.taken().await, said("frozen", "freeze"));
    // Two while the receiver fails come in their order.
    receiver.statuses = vec![503];
    frozen(&["wallet", "hot"]);
    frozen(&["everything"]);
    let (first, taken) = receiver.next().await;
    assert!(!taken);
    let (again, taken) = receiver.next().await;
    assert!(taken && first == again, "{first}, then {again}");
    // Which wallet it is, nobody asked to be told.
    assert_eq!((&first["tier"], first.get("wallet")), (&json!("token-hd"), None), "{first}");
    assert_eq!(receiver.taken().await, said("frozen", "freeze"));

    stack.signer.stop().unwrap();
    assert_eq!(receiver.taken().await, said("relay", "lost"));
    stack.start_signer().await.unwrap();
    assert_eq!(receiver.taken().await, said("relay", "listening"));
    let config = ["--yes", "--config", ada.to_str().unwrap()];
    stack.run("officer", &[&["freeze", "client", "watcher-1"][..], &config].concat()).unwrap();
    assert_eq!(receiver.taken().await, said("frozen", "freeze"));
}
