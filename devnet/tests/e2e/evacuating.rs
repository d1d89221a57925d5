//! An emergency from its real programs: deposits arrive, an officer freezes everything, the operator's command evacuates the wallet, the
//! officers approve, and the command, run again, goes on where it was.

use std::fs;
use std::path::PathBuf;
use std::process::Output;

use bitcoin::Amount;
use bitcoin::hashes::{Hash as _, sha256};
use devnet::Stack;
use devnet::programs::Programs;
use devnet::stack::{Children, Options};
use serde_json::Value;

const LANE: &str = "[[group]]\nname = \"board\"\nmembers = [\"ada\", \"bob\"]\n\
    [[evacuate]]\nname = \"escape\"\nclients = [\"watcher-1\"]\nwallets = [\"deposits\", \"hot\"]\ncold = \"cold\"\n\
    approvals = \"2 of board\"\n\
    fee = { max_total = \"0.1 BTC\", max_feerate = \"500 sat/vB\", max_percent = \"5%\" }\n\
    fee_budget = [{ sum = \"1 BTC\", window = \"1d\" }]\n";
const CAPS: &str = "\n[[spend.evacuations]]\nlane = \"escape\"\nfee_max = \"0.1 BTC\"\nfee_share_max = \"5%\"\n\
    feerate_max = \"500 sat/vB\"\n";

/// The next version of the policy, with two officers and a lane to evacuate by; and a watcher and an operator that may use it.
fn prepare(stack: &Stack) {
    let mut officers = String::new();
    for name in ["ada", "bob"] {
        let key = stack.dir().join(format!("officer/{name}.key"));
        let made = ["keygen", "--name", name, "--in-clear", "--out", key.to_str().unwrap()];
        let said = stack.run("officer", &made).unwrap();
        let public = said.lines().find_map(|line| line.strip_prefix("public key")).unwrap().trim();
        officers +=
            &format!("[[officer]]\nname = {name:?}\ndomain = {name:?}\ned25519 = \"{public}\"\n");
    }
    let file = stack.dir().join("signer/policy.toml");
    let client = "name = \"officer\"\nattest = []\nstatus = true\n";
    let before = fs::read_to_string(&file).unwrap();
    assert!(before.contains(client));
    let after = before.replacen("version = 1", "version = 2", 1).replacen(
        client,
        &format!("{client}officers = true\n"),
        1,
    );
    fs::write(&file, format!("{after}\n{officers}{LANE}")).unwrap();
    let key = stack.dir().join("officer/alice.key");
    let signing = ["policy", "sign", file.to_str().unwrap(), "--key", key.to_str().unwrap()];
    stack.run("officer", &[&signing[..], &["--yes"]].concat()).unwrap();

    let watcher = fs::read_to_string(stack.watcher.config()).unwrap();
    let granted =
        watcher.replacen("[\"read\", \"sweep\"]", "[\"read\", \"sweep\", \"evacuate\"]", 1);
    assert_ne!(granted, watcher);
    fs::write(stack.watcher.config(), granted + CAPS).unwrap();
    for who in ["operator", "shop"] {
        let of = stack.credential(who).unwrap();
        let text = format!(
            "watcher = {:?}\n[tls]\ncertificate = {:?}\nkey = {:?}\nca = {:?}\n",
            stack.watcher_url(),
            of.cert,
            of.key,
            of.ca
        );
        fs::write(settings(stack, who), text).unwrap();
    }
    let of = stack.credential("officer").unwrap();
    let checkpoint = hex::decode(&stack.token().checkpoint).unwrap();
    let log = &hex::encode(sha256::Hash::hash(&checkpoint).to_byte_array())[..16];
    for name in ["ada", "bob"] {
        let text = format!(
            "signer = {:?}\nserver_name = \"localhost\"\nlog = \"cofferdam/{log}\"\npolicy = {file:?}\n\
             key = \"officer/{name}.key\"\n[tls]\ncertificate = {:?}\nkey = {:?}\nca = {:?}\n",
            stack.signer_url(),
            of.cert,
            of.key,
            of.ca
        );
        fs::write(settings(stack, name), text).unwrap();
    }
}

fn settings(stack: &Stack, who: &str) -> PathBuf {
    stack.dir().join(format!("{who}.toml"))
}

/// `watcher evacuate`: its exit code, and what it prints.
fn evacuate(stack: &Stack, who: &str, more: &[&str]) -> (i32, String) {
    let mut command = Programs::find().unwrap().command("watcher");
    command.args(["evacuate", "--config"]).arg(settings(stack, who));
    let Output { status, stdout, stderr } = command.args(more).output().unwrap();
    let said = [stdout, stderr].map(|bytes| String::from_utf8(bytes).unwrap()).concat();
    (status.code().unwrap(), said)
}

fn officer(stack: &Stack, name: &str, arguments: &[&str]) -> String {
    let file = settings(stack, name);
    stack.run("officer", &[arguments, &["--config", file.to_str().unwrap()]].concat()).unwrap()
}

fn waiting(stack: &Stack) -> Vec<String> {
    let said = officer(stack, "ada", &["pending", "--json"]);
    let pending: Value = serde_json::from_str(&said).unwrap();
    let id = |one: &Value| one["request"].as_str().unwrap().to_owned();
    pending["waiting"].as_array().unwrap().iter().map(id).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wallet_is_evacuated_by_the_operators_command_once_its_officers_approve() {
    let options = Options { children: Children { external: 6, change: 2 }, ..Options::default() };
    let mut stack = Stack::start_without_watcher(options).await.unwrap();
    stack.signer.stop().unwrap();
    prepare(&stack);
    stack.start_signer().await.unwrap();
    stack.start_watcher().await.unwrap();
    for (number, sat) in (0..).zip([3_000_000_u64, 2_000_000, 1_000_000]) {
        let issued = stack.issue("deposits", &format!("c{number}"), "").await.unwrap();
        let _ = stack.node.pay(&issued.address, Amount::from_sat(sat)).await.unwrap();
        let _ = stack.node.mine(options.depth).await.unwrap();
        let _ = stack.deposit_in(&issued.address, "final").await.unwrap();
    }
    let wallet = ["--wallet", "deposits", "--lane", "escape", "--feerate", "20 sat/vB"];
    let with = |more: &[&'static str]| [&wallet[..], more].concat();

    // A rehearsal changes nothing, here or at the signer.
    let (events, before) = (stack.events(0).await.unwrap().len(), stack.deposits().await.unwrap());
    let (code, said) = evacuate(&stack, "operator", &with(&["--rehearse"]));
    assert!(code == 0 && said.contains("would move 0.0599"), "{code}: {said}");
    assert!(said.contains("of 3 coins") && said.contains("no coin of the wallet stays"), "{said}");
    let (code, said) = evacuate(&stack, "operator", &with(&["--rehearse", "--json"]));
    let rehearsed: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(
        (code, &rehearsed["ending"], &rehearsed["cold_wallet"]),
        (0, &"done".into(), &"cold".into())
    );
    assert_eq!(stack.events(0).await.unwrap().len(), events);
    assert_eq!(stack.deposits().await.unwrap(), before);
    assert_eq!((stack.sweeps().await.unwrap().len(), waiting(&stack).len()), (0, 0));
    // What would not work says why.
    let elsewhere = ["--wallet", "deposits", "--lane", "sweep", "--rehearse"];
    let (code, said) = evacuate(&stack, "operator", &elsewhere);
    assert!(code == 1 && said.contains("unknown-lane"), "{code}: {said}");
    let (code, said) = evacuate(&stack, "shop", &with(&["--rehearse"]));
    assert!(code == 1 && said.contains("not-granted"), "{code}: {said}");

    // The emergency.
    let _ = officer(&stack, "ada", &["freeze", "everything", "--yes"]);
    let (code, said) = evacuate(&stack, "operator", &wallet);
    assert!(
        code == 3 && said.contains("waits for approvals: ") && said.contains("approvals: "),
        "{code}: {said}"
    );
    let asked = waiting(&stack);
    assert_eq!(asked.len(), 1);
    let (code, _) = evacuate(&stack, "operator", &wallet);
    assert_eq!((code, waiting(&stack)), (3, asked.clone()));
    for name in ["ada", "bob"] {
        let _ = officer(&stack, name, &["approve", &asked[0], "--yes"]);
    }
    let (code, said) = evacuate(&stack, "operator", &with(&["--wait", "180"]));
    let sweep = stack.sweeps().await.unwrap().remove(0);
    assert!(
        code == 0 && said.contains("sent: ") && said.contains("done: everything"),
        "{code}: {said}"
    );
    let _ = stack.node.mine(options.depth).await.unwrap();
    let (code, said) = evacuate(&stack, "operator", &with(&["--follow"]));
    assert!(code == 0 && said.contains("settled in block "), "{code}: {said}");

    assert_eq!(stack.sweeps().await.unwrap().len(), 1);
    let fee: u64 = sweep.fee.unwrap().units.parse().unwrap();
    let cold = stack.node.balance(&stack.descriptors().cold, 20).await.unwrap();
    assert_eq!(cold.to_sat(), 6_000_000 - fee);
    let left = stack.node.balance(&stack.descriptors().deposits, 20).await.unwrap();
    assert_eq!(left, Amount::ZERO);
    stack.signer.stop().unwrap();
    assert!(stack.verify_log().unwrap().contains("The log holds."));
}
