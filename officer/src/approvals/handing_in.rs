//! `officer policy push`: hands a policy with its officers' signatures to the signer, and waits until one that only tightens is in
//! force. It signs nothing, and decides nothing: the signer weighs it by the policy in force.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use policy::Rules;
use policy::signed::MAX_SIGNATURES;
use proto::{PushPolicyReply, PushPolicyRequest};
use serde_json::json;
use tokio::time::Instant;

use super::commands::{Common, ask_pending};
use super::desk::{Desk, refusal};
use crate::policies;
use crate::text::{parse_span, time, words};

/// A signer that starts anew is asked again after this.
const ASK_EVERY: Duration = Duration::from_millis(250);

/// A policy that enough officers signed.
#[derive(Debug, Args)]
pub struct OnBundle {
    /// The policy's TOML file; its signatures lie beside it in FILE.sig.
    pub file: PathBuf,
    /// Signatures that lie elsewhere, in place of FILE.sig: of officers who signed copies. May be given several times.
    #[arg(long, value_name = "FILE.sig")]
    pub signatures: Vec<PathBuf>,
    /// How long to wait until one that only tightens is in force; 0s does not wait.
    #[arg(long, value_parser = parse_span, default_value = "2m")]
    pub wait: u64,
    /// Settings and form.
    #[command(flatten)]
    pub common: Common,
}

/// Shows which policy it is, hands it in, and says what came of it.
///
/// # Errors
/// When a file cannot be read, or the signer says no.
pub async fn push(args: &OnBundle, out: &mut impl Write) -> Result<()> {
    let desk = Desk::load(&args.common.config)?;
    let text = policies::read(&args.file)?;
    let rules = policies::view(&text, None)?;
    let signatures = signatures(args)?;
    let names: Vec<&str> =
        signatures.lines().map(|line| line.split(' ').next().unwrap_or_default()).collect();
    let (version, digest) = (rules.version(), hex::encode(rules.digest()));
    let by = words(&names.join(", "));
    if !args.common.json {
        writeln!(out, "policy      version {version}\nsha256      {digest}\nsigned by   {by}")?;
    }
    let request = PushPolicyRequest { text, signatures };
    let reply = desk.connect().await?.push_policy(request).await;
    let reply = reply.map_err(|status| refusal(&status))?.into_inner();
    ensure!(reply.digest == rules.digest(), "the signer answers for another policy");
    let in_force = match reply.kind.as_str() {
        "" => true,
        "tightening" => comes_in(&desk, &rules, Duration::from_secs(args.wait)).await,
        _ => false,
    };
    tell(args, &reply, in_force, out)
}

fn tell(
    args: &OnBundle,
    reply: &PushPolicyReply,
    in_force: bool,
    out: &mut impl Write,
) -> Result<()> {
    let (kind, said) = (words(&reply.kind), words(&reply.said));
    if args.common.json {
        let (digest, due) = (hex::encode(&reply.digest), reply.due_unix);
        let told = json!({
            "sha256": digest,
            "version": reply.version,
            "kind": reply.kind,
            "due_unix": due,
            "in_force": in_force,
            "said": said,
        });
        writeln!(out, "{told}")?;
        return Ok(());
    }
    match (reply.kind.as_str(), in_force) {
        ("", _) => writeln!(out, "in force    already")?,
        (_, true) => writeln!(out, "in force    now, as a {kind}")?,
        ("tightening", false) => {
            writeln!(
                out,
                "taken       {said}\nNOT SEEN    in force yet: look at `officer status`"
            )?;
        }
        (_, false) => {
            let due = time(reply.due_unix);
            writeln!(out, "proposed    as a {kind}: in force at {due}, unless it is vetoed")?;
        }
    }
    Ok(())
}

/// Whether the signer says within this time that it is in force. Meanwhile nobody may answer there.
async fn comes_in(desk: &Desk, rules: &Rules, within: Duration) -> bool {
    let begun = Instant::now();
    while begun.elapsed() < within {
        let reply = ask_pending(desk).await;
        if reply.is_ok_and(|reply| reply.policy_digest == rules.digest()) {
            return true;
        }
        tokio::time::sleep(ASK_EVERY).await;
    }
    false
}

/// Of all files together, each line once.
fn signatures(args: &OnBundle) -> Result<String> {
    let mut beside = args.file.clone().into_os_string();
    beside.push(".sig");
    let beside = [PathBuf::from(beside)];
    let files = if args.signatures.is_empty() { &beside[..] } else { &args.signatures };
    let mut all: Vec<String> = Vec::new();
    for file in files {
        for line in read(file)?.lines() {
            if !all.iter().any(|known| known == line) {
                all.push(line.to_owned());
            }
        }
    }
    Ok(all.iter().flat_map(|line| [line.as_str(), "\n"]).collect())
}

fn read(file: &Path) -> Result<String> {
    let shown = file.display();
    let read = || format!("cannot read {shown}: `officer policy sign` writes it");
    let length = std::fs::metadata(file).with_context(read)?.len();
    let most = u64::try_from(MAX_SIGNATURES).unwrap_or(u64::MAX);
    ensure!(length <= most, "{shown} is longer than any signature file ({most} bytes)");
    std::fs::read_to_string(file).with_context(read)
}
