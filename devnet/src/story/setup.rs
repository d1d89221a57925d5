//! The story's beginning and end: everything is made and started, or left running. Never hides a step.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};

use super::DEPTH;
use crate::screen::Screen;
use crate::stack::{Children, Options, Stage};
use crate::{Node, Stack, ports};

/// Makes and starts everything.
pub(super) async fn set_up(screen: &mut Screen, dir: &Path) -> Result<Stack> {
    let children = Children { external: 200, change: 100 };
    let options = Options { children, depth: DEPTH, ..Options::default() };

    screen.step("A token is made; its keys are born in it")?;
    let mut stage = Stage::prepare(dir, options.tier, options.script)?;
    let signer_port = ports::free()?;
    let facts = stage.make_token(signer_port)?.clone();
    screen.fact("token", "SoftHSM, a PKCS#11 token in software, for development")?;
    screen.fact(
        "wrapping key",
        "RSA-3072, can only unwrap; fingerprint for two people to compare:",
    )?;
    for line in &facts.fingerprint {
        screen.fact("", line)?;
    }
    screen.fact("attestation", &facts.attestation)?;
    screen.fact("checkpoint", &facts.checkpoint)?;

    screen.step("Ceremony: two accounts, every child wrapped for that token alone")?;
    let descriptors = stage.hold_ceremony(children)?.clone();
    screen.fact(
        "children",
        &format!("{} addresses and {} change, twice", children.external, children.change),
    )?;
    screen.fact("deposits", &short(&descriptors.deposits))?;
    screen.fact("hot", &short(&descriptors.hot))?;
    screen.fact("cold", &short(&descriptors.cold))?;
    screen.say("Nobody has the cold wallet's key: its seed was made and forgotten.")?;

    screen.step("An officer signs the policy; the signer takes the bundles in")?;
    let policy = stage.sign_policy()?;
    stage.import()?;
    screen.fact("policy", &format!("{}, signed by alice", shown(&policy, dir)))?;
    screen.good("both bundles are the policy's wallets, made for this token")?;

    screen.step("Node, signer and watcher start")?;
    let node = Node::start_in(&dir.join("node")).await?;
    screen.fact("node", &format!("{}, regtest, {}", node.version().await?, node.rpc_url()))?;
    let mut stack = Stack::assemble(stage, node, signer_port, options.depth)?;
    stack.start_signer().await?;
    screen.fact("signer", &stack.signer_url())?;
    screen.good("every child is proven against its account's public key")?;
    stack.start_watcher().await?;
    screen.fact("watcher", &stack.watcher_url())?;
    screen.good("it follows the chain, and holds no key")?;
    Ok(stack)
}

/// Leaves everything running, notes what to stop, and says how to call it.
pub(super) async fn stay(screen: &mut Screen, stack: Stack, dir: &Path) -> Result<()> {
    let calls = example_calls(&stack, dir)?;
    let mut processes = String::new();
    for (name, pid) in stack.leave_running()? {
        writeln!(processes, "{name} {pid} {}", started(pid)?)?;
    }
    fs::write(dir.join("processes"), processes)?;
    screen.say("")?;
    screen.say("Everything stays up. Each line calls with the certificate of somebody who may:")?;
    for line in calls {
        screen.say("")?;
        screen.say(&line)?;
    }
    screen.say("")?;
    screen.say("The same ./quickstart with --stop ends it, with --clean removes it.")
}

fn example_calls(stack: &Stack, dir: &Path) -> Result<Vec<String>> {
    let (signer, watcher) = (stack.signer_url(), stack.watcher_url());
    let (signer, watcher) = (authority(&signer)?, authority(&watcher)?);
    let pki = dir.join("pki");
    let file = |name: &str| quoted(&pki.join(name));
    let call = |who: &str, body: &str, address: &str, method: &str| {
        let (ca, cert, key) =
            (file("ca.pem"), file(&format!("{who}.pem")), file(&format!("{who}.key")));
        let body = if body.is_empty() { String::new() } else { format!("-d '{body}' ") };
        format!(
            "grpcurl -cacert {ca} -cert {cert} -key {key} \\\n         {body}{address} {method}"
        )
    };
    let node = |path: &str, method: &str, params: &str| {
        let cookie = quoted(&stack.node.cookie_file());
        let body = format!(r#"{{"method": "{method}", "params": {params}}}"#);
        format!(
            "curl -s -u \"$(cat {cookie})\" {}{path} \\\n         -d '{body}'",
            stack.node.rpc_url()
        )
    };
    let issue =
        r#"{"wallet": "deposits", "idempotency_key": "mine-1", "customer_reference": "me"}"#;
    let sweep = r#"{"wallet": "deposits", "idempotency_key": "sweep-1"}"#;
    Ok(vec![
        call("shop", issue, watcher, "cofferdam.v1.Watcher/IssueAddress"),
        node("/wallet/faucet", "sendtoaddress", r#"["ADDRESS", "0.1"]"#),
        node("", "generatetoaddress", &format!(r#"[3, "{}"]"#, stack.node.miner())),
        call("shop", "", watcher, "cofferdam.v1.Watcher/ListDeposits"),
        call("operator", sweep, watcher, "cofferdam.v1.Watcher/CreateSweep"),
        call("operator", "", watcher, "cofferdam.v1.Watcher/ListSweeps"),
        call("officer", "", signer, "cofferdam.v1.Signer/Status"),
        call("operator", "", watcher, "list"),
    ])
}

/// When a process was started, as the kernel counts: tells it from a later one with the same id.
fn started(pid: u32) -> Result<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields = stat.rsplit_once(") ").context("no process state")?.1;
    Ok(fields.split(' ').nth(19).context("no start time")?.to_owned())
}

fn authority(url: &str) -> Result<&str> {
    url.strip_prefix("https://").context("not an https address")
}

/// A path as one word of a shell's line.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/-_.+".contains(c);
    if text.chars().all(plain) { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

/// A descriptor with its long public key cut.
fn short(descriptor: &str) -> String {
    let cut = |key: &str| format!("{}…", key.chars().take(12).collect::<String>());
    match (descriptor.find(']'), descriptor.find("/<")) {
        (Some(origin), Some(branches)) => {
            let key_at = origin.saturating_add(1);
            let key = descriptor.get(key_at..branches).map(cut).unwrap_or_default();
            let (start, end) = (descriptor.get(..key_at), descriptor.get(branches..));
            format!("{}{key}{}", start.unwrap_or_default(), end.unwrap_or_default())
        }
        _ => descriptor.to_owned(),
    }
}

fn shown(path: &Path, dir: &Path) -> String {
    path.strip_prefix(dir).unwrap_or(path).display().to_string()
}
