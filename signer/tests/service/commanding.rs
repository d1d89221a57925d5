//! The officers' command line, the program that people run, against a signer on SoftHSM over mutual TLS: everything that it
//! can say, with a key in a file and with a P-256 key in a token, with a connection and without.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use policy::people::OfficerKey;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::approving::{Desk, people_with};
use crate::common::Knobs;
use crate::house::until;
use crate::token::{PROGRAMS, empty};

/// Two of treasury for every payout, from two sites; what is more than a day's usual, risk may veto.
const RULES: &str = "[[require]]\nname = \"large\"\nwhen = { lanes = [\"withdraw\"] }\napprovals = \"2 of treasury\"\n\
    max_per_domain = 1\n[[require]]\nname = \"busy\"\n\
    when = { lanes = [\"withdraw\"], above = \"0.0015 BTC\", window = \"24h\", by = \"lane\" }\ndelay = \"1h\"\nveto = \"risk\"\n";

/// List 1 of the authority, as in production.
fn with_list(house: &mut crate::house::House) {
    crate::revocations::with_list_due(house, 86_400);
}

/// Officers at their machines.
struct Officers {
    desk: Desk,
    folder: tempfile::TempDir,
    /// Of the token that holds bob's key.
    softhsm: String,
}

impl Officers {
    async fn new() -> Self {
        Self::under(RULES).await
    }

    async fn under(rules: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let token = empty(folder.path());
        let softhsm = token.env["SOFTHSM2_CONF"].clone();
        let (module, pin) = (token.module.unwrap(), token.pin_file.unwrap());
        let bobs = format!(
            "pkcs11:token={};object=bob?module-path={}&pin-source={}",
            token.label.unwrap(),
            module.display(),
            pin.display()
        );
        fs::write(folder.path().join("passphrase"), "correct horse battery\n").unwrap();
        let make = |name: &str| -> OfficerKey {
            let out = folder.path().join(format!("{name}.key"));
            let (out, file) = (path(&out), folder.path().join("passphrase"));
            let made = match name {
                "bob" => run(&softhsm, &["keygen", "--p256", "--token", &bobs]),
                "alice" => run(
                    &softhsm,
                    &[
                        "keygen",
                        "--name",
                        name,
                        "--out",
                        out,
                        "--sealed",
                        "--passphrase-file",
                        path(&file),
                    ],
                ),
                _ => run(&softhsm, &["keygen", "--name", name, "--in-clear", "--out", out]),
            };
            OfficerKey::parse(made.unwrap().split_whitespace().last().unwrap()).unwrap()
        };
        let knobs: Knobs = people_with(rules, make);
        let desk = Desk::open_with(&knobs, with_list).await;
        let officers = Self { desk, folder, softhsm };
        for (name, key) in [
            ("alice", "key = \"alice.key\"\npassphrase_file = \"passphrase\"\n".to_owned()),
            ("bob", format!("key = \"{bobs}\"\n")),
            ("dan", "key = \"dan.key\"\n".to_owned()),
        ] {
            officers.settle(name, &key);
        }
        officers
    }

    /// An officer's settings; those of `NAME-alone` name no connection.
    fn settle(&self, name: &str, key: &str) {
        let house = &self.desk.house;
        let tls = house.tls_files("officers-desk", &self.folder.path().join("tls"));
        let (port, app) = (house.running().address().port(), house.app());
        let log = &app.log.opening().origin;
        let policy = house.config.policy.display();
        let settings = format!(
            "signer = \"https://localhost:{port}\"\nserver_name = \"signer\"\nlog = \"{log}\"\npolicy = \"{policy}\"\n{key}"
        );
        fs::write(self.path(&format!("{name}-alone.toml")), &settings).unwrap();
        let tls = format!(
            "[tls]\ncertificate = \"{}\"\nkey = \"{}\"\nca = \"{}\"\n",
            tls.certificate.display(),
            tls.key.display(),
            tls.ca.display()
        );
        fs::write(self.path(&format!("{name}.toml")), settings + &tls).unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// What the program prints for this officer, or says was wrong.
    async fn officer(&self, name: &str, args: &[&str]) -> Result<String, String> {
        let settings = self.path(&format!("{name}.toml"));
        let args = [args, &["--config", path(&settings)]].concat();
        let args: Vec<String> = args.into_iter().map(str::to_owned).collect();
        let softhsm = self.softhsm.clone();
        let work = move || {
            let args: Vec<&str> = args.iter().map(String::as_str).collect();
            run(&softhsm, &args)
        };
        tokio::task::spawn_blocking(work).await.unwrap()
    }

    /// The same as JSON, with a yes where one is asked for.
    async fn json(&self, name: &str, args: &[&str]) -> Value {
        let yes: &[&str] = match args[0] {
            "pending" | "show" | "status" => &["--json"],
            _ => &["--json", "--yes"],
        };
        let said = self.officer(name, &[args, yes].concat()).await.unwrap();
        serde_json::from_str(&said).unwrap()
    }

    /// The one request that waits.
    async fn waiting(&self) -> String {
        let pending = self.json("dan", &["pending"]).await;
        let waiting = pending["waiting"].as_array().unwrap();
        assert_eq!(waiting.len(), 1, "{pending}");
        assert_eq!(
            (&waiting[0]["wallet"], &waiting[0]["tier"]),
            (&"hot".into(), &"token-hd".into())
        );
        waiting[0]["request"].as_str().unwrap().to_owned()
    }

    /// Hands a statement to the signer's host, and waits until it was taken in.
    async fn hand_over(&self, file: &Path) {
        let inbox = signer::officers::inbox::folder(&self.desk.house.config.state_dir);
        fs::create_dir_all(&inbox).unwrap();
        fs::copy(file, inbox.join("new")).unwrap();
        let whole = inbox.join("handed.statement");
        fs::rename(inbox.join("new"), &whole).unwrap();
        until("the statement is taken in", || !whole.exists()).await;
        assert!(!inbox.join("refused/handed.statement").exists());
    }

    /// Listens from now on.
    async fn watch(&self) -> Watch {
        let mut child = Command::new(program())
            .args(["watch", "--json", "--config", path(&self.path("dan.toml"))])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = Arc::new(Mutex::new(Vec::new()));
        let (heard, out) = (Arc::clone(&lines), BufReader::new(child.stdout.take().unwrap()));
        std::thread::spawn(move || {
            for line in out.lines().map_while(Result::ok) {
                heard.lock().unwrap().push(serde_json::from_str(&line).unwrap());
            }
        });
        let app = self.desk.house.app();
        until("somebody listens", || app.notices.listeners() == 1).await;
        Watch { child, lines }
    }
}

/// The program that listens, and what it heard.
struct Watch {
    child: Child,
    lines: Arc<Mutex<Vec<Value>>>,
}

impl Watch {
    async fn hears(&self, kinds: &[&str]) {
        let heard = || {
            let lines = self.lines.lock().unwrap();
            lines.iter().map(|line| line["kind"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
        };
        until(&format!("{kinds:?}"), || kinds.iter().all(|kind| heard().iter().any(|k| k == kind)))
            .await;
    }
}

impl Watch {
    /// The first of this kind says so.
    fn tells(&self, kind: &str, fields: &[(&str, &str)]) {
        let lines = self.lines.lock().unwrap();
        let first = lines.iter().find(|line| line["kind"] == kind).unwrap();
        for (field, value) in fields {
            assert_eq!(first[field], *value, "{first}");
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Built with the workspace; here only when it is not there.
fn program() -> PathBuf {
    static BUILT: std::sync::OnceLock<()> = std::sync::OnceLock::new();
    let program = PROGRAMS.join("officer");
    BUILT.get_or_init(|| {
        if !program.exists() {
            let mut build = Command::new(env!("CARGO"));
            build.args(["build", "--quiet", "--package", "officer"]);
            assert!(build.current_dir(env!("CARGO_MANIFEST_DIR")).status().unwrap().success());
        }
    });
    program
}

pub(crate) fn run(softhsm: &str, args: &[&str]) -> Result<String, String> {
    let mut officer = Command::new(program());
    let ran = officer.args(args).env("SOFTHSM2_CONF", softhsm).stdin(Stdio::null()).output();
    let ran = ran.unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    if ran.status.success() { Ok(text(ran.stdout)) } else { Err(text(ran.stderr)) }
}

async fn see_the_policy(officers: &Officers) {
    let status = officers.officer("alice", &["status"]).await.unwrap();
    let rules = &officers.desk.house.app().rules;
    for words in [
        format!("sha256      {}", hex::encode(rules.digest())),
        "requirement large: on lane withdraw".to_owned(),
        "yours       the policy in your settings is this one, to the byte".to_owned(),
    ] {
        assert!(status.contains(&words), "{words} in:\n{status}");
    }
    let status = officers.json("dan", &["status"]).await;
    assert_eq!(status["policy_text"], rules.text());
    assert_eq!(status["policy_is_yours"], true);
}

async fn push_a_list(officers: &Officers) {
    let desk = &officers.desk;
    // A new revocation list, by one whom a file brought and another with a connection.
    let list = officers.path("crl.pem");
    fs::write(&list, desk.house.authority().list(2, &[77], 10, 3_600)).unwrap();
    let offline = officers.path("list.statement");
    let push = ["crl", "push", path(&list)];
    let args = [&push[..], &["--yes", "--offline", path(&offline)]].concat();
    officers.officer("alice-alone", &args).await.unwrap();
    let args = [&push[..], &["--statement", path(&offline)]].concat();
    let pushed = officers.officer("dan", &args).await.unwrap();
    assert!(pushed.contains("number      02") && pushed.contains("it is in force"), "{pushed}");
    let again = officers.officer("bob", &[&push[..], &["--yes"]].concat()).await.unwrap_err();
    assert!(again.contains("statement-list"), "{again}");
    assert!(desk.house.channel_numbered("watcher-1", 78).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn officers_see_and_say_everything_by_their_program() {
    let mut officers = Officers::new().await;
    let desk = &officers.desk;
    let watch = officers.watch().await;
    let payout = desk.payout(1);
    desk.waits(&payout, &["approvals"]).await;
    let id = officers.waiting().await;
    watch.hears(&["pending"]).await;
    let pending = officers.officer("alice", &["pending"]).await.unwrap();
    assert!(
        pending.contains(&format!("waiting     {id}\n  wallet      hot (token-hd)\n")),
        "{pending}"
    );
    see_the_policy(&officers).await;
    let shown = officers.officer("alice", &["show", &id]).await.unwrap();
    for words in ["PAYS        0.001 BTC", "NO NAME", "paid before NEVER", "decoded here"] {
        assert!(shown.contains(words), "{words} in:\n{shown}");
    }
    let unknown = officers.officer("alice", &["show", &"07".repeat(16)]).await.unwrap_err();
    assert!(unknown.contains("statement-nothing"), "{unknown}");
    // Without a yes nothing is said; and the first yes is not enough.
    let asked = officers.officer("alice", &["approve", &id]).await.unwrap_err();
    assert!(asked.contains("nobody is here to say yes"), "{asked}");
    let approved = officers.json("alice", &["approve", &id]).await;
    desk.waits(&payout, &["approvals"]).await;
    let statement = approved["statement"].as_str().unwrap();
    let pending = officers.json("dan", &["pending"]).await;
    assert_eq!(pending["waiting"][0]["approvals"][0]["statement"], *statement);
    // Taken back, and given again, by the key in the token, too.
    officers.json("alice", &["revoke", statement]).await;
    officers.json("bob", &["approve", &id]).await;
    desk.waits(&payout, &["approvals"]).await;
    officers.json("alice", &["approve", &id]).await;
    desk.ask(&payout).await.unwrap();
    watch.hears(&["pending", "said"]).await;
    watch.tells("pending", &[("wallet", "hot"), ("tier", "token-hd")]);

    let (vetoed, rejected) = (desk.payout(2), desk.payout(3));
    desk.waits(&vetoed, &["delay", "approvals"]).await;
    let id = officers.waiting().await;
    let shown = officers.json("alice", &["show", &id]).await;
    assert_eq!(shown["tier"], "token-hd");
    let before = &shown["outputs"][0]["paid_before"];
    assert_eq!((&before["times"], &before["units"]), (&Value::from(1), &Value::from("100000")));
    assert!(before["last_unix"].as_u64().unwrap() >= desk.now() - 600, "{before}");
    let words = officers.officer("alice", &["show", &id]).await.unwrap();
    assert!(words.contains("paid before once, 0.001 BTC in all, on 20"), "{words}");
    let may_not = officers.officer("alice", &["veto", &id, "--yes"]).await.unwrap_err();
    assert!(may_not.contains("statement-officer"), "{may_not}");
    officers.json("dan", &["veto", &id]).await;
    desk.denied(&vetoed, &["vetoed"]).await;
    desk.waits(&rejected, &["delay", "approvals"]).await;
    let id = officers.waiting().await;
    officers.json("bob", &["reject", &id]).await;
    desk.denied(&rejected, &["rejected"]).await;

    let frozen = officers.json("bob", &["freeze", "lane", "withdraw"]).await;
    let freeze = frozen["statement"].as_str().unwrap();
    desk.denied(&desk.payout(4), &["frozen"]).await;
    let pending = officers.officer("dan", &["pending"]).await.unwrap();
    assert!(pending.contains("FROZEN      lane withdraw, by bob since"), "{pending}");
    for name in ["alice", "bob"] {
        desk.denied(&desk.payout(4), &["frozen"]).await;
        officers.json(name, &["unfreeze", freeze]).await;
    }
    desk.waits(&desk.payout(4), &["delay", "approvals"]).await;
    watch.hears(&["pending", "said", "denied", "frozen", "lifted"]).await;

    push_a_list(&officers).await;
    // The log alone shows that every one of them was who they said, by either kind of key.
    drop(watch);
    let key = hex::encode(desk.house.app().token.keys().checkpoint);
    let database = desk.house.config.database_url();
    officers.desk.house.close().await;
    let verify = ["log", "verify", "--key", &key, "--database", &database];
    run(&officers.softhsm, &verify).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn officers_without_a_connection_see_and_say_the_same_by_files() {
    let officers = Officers::new().await;
    let desk = &officers.desk;
    let payout = desk.payout(1);
    desk.waits(&payout, &["approvals"]).await;
    let id = officers.waiting().await;
    let file = officers.path("one.exhibit");
    let export = ["show", &id, "--export", path(&file)];
    let online = officers.officer("dan", &export).await.unwrap();
    assert!(officers.officer("dan", &export).await.unwrap_err().contains("never overwritten"));
    let from = ["show", "--from", path(&file)];
    let offline = officers.officer("bob-alone", &from).await.unwrap();
    let of_transaction = |text: &str| text.split("All of this").next().unwrap().to_owned();
    assert_eq!(of_transaction(&offline), of_transaction(&online));
    assert!(offline.contains("paid before NEVER, by the signer's log"), "{offline}");
    assert!(offline.contains("out of a file"), "{offline}");
    assert!(officers.json("bob-alone", &from).await["taken_unix"].is_u64());

    // Nobody's signature is under the file, and a lie in it is found as one over the wire is.
    let text = fs::read_to_string(&file).unwrap();
    let shown = text.split_once("shown: ").unwrap().1.trim_end();
    let reply = lie(shown);
    let lying = officers.path("lying.exhibit");
    fs::write(&lying, text.replacen(shown, &reply, 1)).unwrap();
    let statement = officers.path("bob.statement");
    let approve = |exhibit: &str| {
        ["approve", "--yes", "--from", exhibit, "--offline", path(&statement)].map(str::to_owned)
    };
    let approve_lying = approve(path(&lying));
    let approve_lying: Vec<&str> = approve_lying.iter().map(String::as_str).collect();
    let caught = officers.officer("bob-alone", &approve_lying).await.unwrap_err();
    assert!(caught.contains("Sign nothing"), "{caught}");
    let other = "07".repeat(16);
    let another = ["show", &other, "--from", path(&file)];
    let another = officers.officer("bob-alone", &another).await;
    assert!(another.unwrap_err().contains("another request"));
    fs::write(&lying, text.replacen("v1", "v2", 1)).unwrap();
    let unread = officers.officer("bob-alone", &["show", "--from", path(&lying)]).await;
    assert!(unread.unwrap_err().contains("not a file of"));
    assert!(!statement.exists());

    let good = approve(path(&file));
    let good: Vec<&str> = good.iter().map(String::as_str).collect();
    officers.officer("bob-alone", &good).await.unwrap();
    officers.hand_over(&statement).await;
    officers.json("alice", &["approve", &id]).await;
    desk.ask(&payout).await.unwrap();

    let freeze = officers.path("freeze.statement");
    let args = ["freeze", "everything", "--yes", "--offline", path(&freeze)];
    officers.officer("bob-alone", &args).await.unwrap();
    officers.hand_over(&freeze).await;
    desk.denied(&desk.payout(2), &["frozen"]).await;
    let alone = officers.officer("bob-alone", &["pending"]).await.unwrap_err();
    assert!(alone.contains("--offline"), "{alone}");
}

#[tokio::test(flavor = "multi_thread")]
async fn officers_unbind_a_stuck_payout_by_their_program_with_a_connection_and_without() {
    let officers = Officers::under(crate::unbinding::GOVERNED).await;
    let desk = &officers.desk;
    let payout = desk.payout(1);
    let signed = desk.ask(&payout).await.unwrap();
    let version = hex::encode(Sha256::digest(&signed));
    let unbind = |more: &[&str]| {
        let all = [&["unbind", "invoice-1", "--reason", "its coin was spent in block 7"], more];
        all.concat().into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    let say = async |name: &str, more: &[&str]| {
        let args = unbind(more);
        officers.officer(name, &args.iter().map(String::as_str).collect::<Vec<_>>()).await
    };
    assert!(say("alice", &[]).await.unwrap_err().contains("nobody is here to say yes"));
    let strange = "07".repeat(32);
    let strange = say("alice", &["--yes", "--version", &strange]).await.unwrap_err();
    assert!(strange.contains("is not bound to version"), "{strange}");
    // While anything is frozen nobody sees a signature, and everybody can check what the statement names all the same.
    officers.officer("dan", &["freeze", "everything", "--yes"]).await.unwrap();
    let file = officers.path("order.exhibit");
    let export = ["unbind", "invoice-1", "--export", path(&file)];
    let shown = officers.officer("dan", &export).await.unwrap();
    let bare = hex::encode(crate::unbinding::named(&signed).bare);
    let coin = payout.coins[0].outpoint().to_string();
    for words in [
        version.as_str(),
        "binds the order",
        "without signatures",
        bare.as_str(),
        "fee         0.00001 BTC",
        coin.as_str(),
        "of hot (token-hd)",
        "PAYS        0.001 BTC to bcrt1",
        "change",
    ] {
        assert!(shown.contains(words), "{words}: {shown}");
    }
    assert!(!shown.contains("PAID TWICE") && shown.contains("nothing was signed"), "{shown}");
    // A lie in the file is found: what is named is what was decoded.
    let text = fs::read_to_string(&file).unwrap();
    let reply = text.split_once("shown: ").unwrap().1.trim_end();
    let lying = officers.path("lying.exhibit");
    fs::write(&lying, text.replacen(reply, &another_transaction(reply), 1)).unwrap();
    let statement = officers.path("bob.statement");
    let offline = ["--yes", "--offline", path(&statement), "--from"];
    let caught = say("bob-alone", &[&offline[..], &[path(&lying)]].concat()).await.unwrap_err();
    assert!(caught.contains("Sign nothing") && !statement.exists(), "{caught}");

    let said = say("bob-alone", &[&offline[..], &[path(&file)]].concat()).await.unwrap();
    assert!(said.contains(&format!("version: {version} {bare}")), "{said}");
    assert!(said.contains("PAID TWICE") && said.contains("out of a file"), "{said}");
    officers.hand_over(&statement).await;
    let pending = officers.json("dan", &["pending"]).await;
    let asked = &pending["unbindings"][0];
    assert_eq!(
        (&asked["id"], &asked["versions"][0]),
        (&"invoice-1".into(), &version.as_str().into())
    );
    assert_eq!(asked["officers"], serde_json::json!(["bob"]));
    assert_eq!(asked["bare"], serde_json::json!([bare]));
    let pending = officers.officer("dan", &["pending"]).await.unwrap();
    assert!(pending.contains("STUCK       order invoice-1"), "{pending}");
    let watch = officers.watch().await;
    let said: Value =
        serde_json::from_str(&say("alice", &["--json", "--yes"]).await.unwrap()).unwrap();
    assert!(said["said"].as_str().unwrap().contains("may be asked for again"), "{said}");
    watch.hears(&["said", "unbound", "alarm"]).await;
    let nothing = say("dan", &["--yes"]).await.unwrap_err();
    assert!(nothing.contains("nothing that was signed binds this order"), "{nothing}");
    drop(watch);
    log_says_who_unbound(officers, &version).await;
}

async fn log_says_who_unbound(mut officers: Officers, version: &str) {
    let house = &officers.desk.house;
    let key = hex::encode(house.app().token.keys().checkpoint);
    let database = house.config.database_url();
    officers.desk.house.close().await;
    let verify = ["log", "verify", "--key", &key, "--database", &database];
    run(&officers.softhsm, &verify).unwrap();
    let show = ["log", "show", "--key", &key, "--database", &database];
    let shown = run(&officers.softhsm, &show).unwrap();
    let line = shown.lines().find(|line| line.contains("unbound") && line.contains(version));
    let line = line.unwrap();
    assert!(line.contains("order invoice-1"), "{line}");
    assert!(line.contains("alice, bob") && line.contains("[policy "), "{line}");
}

/// The same answer, with another transaction under the same SHA-256.
fn another_transaction(shown: &str) -> String {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use prost::Message as _;
    let mut reply =
        proto::ShowOrderReply::decode(STANDARD.decode(shown).unwrap().as_slice()).unwrap();
    let bytes = &reply.versions[0].transaction;
    let mut made: bitcoin::Transaction = bitcoin::consensus::deserialize(bytes).unwrap();
    made.output[0].value += bitcoin::Amount::ONE_SAT;
    reply.versions[0].transaction = bitcoin::consensus::serialize(&made);
    STANDARD.encode(reply.encode_to_vec())
}

/// The same answer with one satoshi more to the payee, by the intent's word.
fn lie(shown: &str) -> String {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use prost::Message as _;
    let mut reply = proto::ShowReply::decode(STANDARD.decode(shown).unwrap().as_slice()).unwrap();
    let intent = String::from_utf8(reply.intent).unwrap();
    reply.intent = intent.replacen("output: 100000 external", "output: 100001 external", 1).into();
    STANDARD.encode(reply.encode_to_vec())
}
