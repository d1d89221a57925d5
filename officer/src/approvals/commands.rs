//! `officer pending`, `show`, `approve` and the rest. It never signs about a request before it was decoded here, and
//! never without a yes from a person or from a script that says so.

use std::fs::OpenOptions;
use std::io::{BufRead as _, IsTerminal as _, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, bail, ensure};
use clap::Args;
use policy::evidence::FreezeScope;
use policy::names::{ClientName, ListName};
use proto::{
    NotificationsRequest, PendingReply, PendingRequest, ShowReply, ShowRequest, SubmitRequest,
};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use statement::{About, Deed, Says, Signed, Statement, Task, TimeIs, parse_scope};

use super::decode::{Decoded, decode};
use super::desk::{Desk, refusal};
use super::exhibit::{self, Exhibit};
use super::show;
use crate::key::{Key, fill};
use crate::policies;
use crate::text::{parse_span, time, words};

/// A word about the time is stale soon, in seconds.
const TIME_VALID_SECONDS: u64 = 600;

/// What every command needs.
#[derive(Debug, Args)]
pub struct Common {
    /// Your settings.
    #[arg(long, default_value = "officer.toml")]
    pub config: PathBuf,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// What is listened to.
#[derive(Debug, Args)]
pub struct Watching {
    /// A line every so many seconds too, 5 to 3,600, which says that the signer is there and whether it would sign.
    #[arg(long, value_name = "SECONDS", default_value_t = 0, hide_default_value = true)]
    pub heartbeat: u32,
    /// Settings and form.
    #[command(flatten)]
    pub common: Common,
}

/// How a statement is made.
#[derive(Debug, Args)]
pub struct Saying {
    /// Settings and form.
    #[command(flatten)]
    pub common: Common,
    /// How long the statement may count: 90s, 15m, 2h, 7d; at most 31 days.
    #[arg(long, value_parser = parse_span, default_value = "8h")]
    pub valid_for: u64,
    /// Do not ask. For scripts alone.
    #[arg(long)]
    pub yes: bool,
    /// Write the statement to this file and send nothing.
    #[arg(long)]
    pub offline: Option<PathBuf>,
}

/// A statement about a request.
#[derive(Debug, Args)]
pub struct OnRequest {
    /// Which request.
    #[command(flatten)]
    pub which: Which,
    /// How it is said.
    #[command(flatten)]
    pub saying: Saying,
}

/// A statement about the time.
#[derive(Debug, Args)]
pub struct OnClock {
    /// Number of the log's entry that began the doubt, as `officer pending` shows it; without it, the signer is asked.
    #[arg(long)]
    pub doubt: Option<u64>,
    /// How it is said.
    #[command(flatten)]
    pub saying: Saying,
}

/// A request, from the signer or out of a file.
#[derive(Debug, Args)]
pub struct Which {
    /// The request's id, as `officer pending` shows it.
    #[arg(required_unless_present = "from")]
    pub request: Option<String>,
    /// Look at this file, written by `officer show --export`, and ask nobody.
    #[arg(long)]
    pub from: Option<PathBuf>,
}

/// A statement about an earlier one.
#[derive(Debug, Args)]
pub struct OnStatement {
    /// The statement's SHA-256, as `officer pending` shows it.
    pub statement: String,
    /// How it is said.
    #[command(flatten)]
    pub saying: Saying,
}

/// A policy that is proposed.
#[derive(Debug, Args)]
pub struct OnPolicy {
    /// Its file, or the SHA-256 of its text as `officer pending` shows it.
    pub policy: String,
    /// How it is said.
    #[command(flatten)]
    pub saying: Saying,
}

/// A client that is locked.
#[derive(Debug, Args)]
pub struct OnClient {
    /// Its name.
    pub client: String,
    /// Number of the log's entry that locked it.
    #[arg(long)]
    pub lock: u64,
    /// Why it may come in again.
    #[arg(long)]
    pub reason: String,
    /// How it is said.
    #[command(flatten)]
    pub saying: Saying,
}

/// A freeze.
#[derive(Debug, Args)]
pub struct OnScope {
    /// everything, evacuation, or `wallet NAME`, `lane NAME`, `client NAME`, `coin TXID:VOUT`.
    #[arg(required = true, num_args = 1..=2)]
    pub scope: Vec<String>,
    /// How it is said.
    #[command(flatten)]
    pub saying: Saying,
}

/// A statement about what may be done at the signer's machine.
#[derive(Debug, Args)]
pub struct OnTask {
    /// The task as the signer's command says it: init, set-pin, `import SHA256` (of the bundle), `activate SITE`,
    /// `pin-clear SITE`, ...
    #[arg(required = true, num_args = 1..=2)]
    pub task: Vec<String>,
    /// Serial number of the token; `-` for pin-clear, pin-clear-last-try, token-clear and anchor-forget, for which no token can be asked.
    #[arg(long)]
    pub token: String,
    /// How it is said. Only with --offline FILE: the command takes files.
    #[command(flatten)]
    pub saying: Saying,
}

/// An entry of the address book.
#[derive(Debug, Args)]
pub struct OnEntry {
    /// The list it is for.
    pub list: String,
    /// Its label.
    pub label: String,
    /// How it is said.
    #[command(flatten)]
    pub saying: Saying,
}

/// `officer pending`.
///
/// # Errors
/// When the signer cannot be asked, or is another one.
pub async fn pending(common: &Common, out: &mut impl Write) -> Result<()> {
    let desk = Desk::load(&common.config)?;
    let reply = ask_pending(&desk).await?;
    if common.json {
        writeln!(out, "{}", show::pending_json(&reply))?;
        return Ok(());
    }
    show::pending(&reply, out)
}

/// `officer status`.
///
/// # Errors
/// When the signer cannot be asked, is another one, or shows another text than the one whose SHA-256 it says is in force.
pub async fn status(common: &Common, out: &mut impl Write) -> Result<()> {
    let desk = Desk::load(&common.config)?;
    let reply = ask_pending(&desk).await?;
    let digest = <[u8; 32]>::from(Sha256::digest(&reply.policy_text));
    ensure!(
        digest.as_slice() == reply.policy_digest,
        "the signer says that the policy with the SHA-256 {} is in force, and shows a text with the SHA-256 {}: believe neither",
        hex::encode(&reply.policy_digest),
        hex::encode(digest)
    );
    let yours = policies::read(&desk.policy).is_ok_and(|text| text == reply.policy_text);
    if common.json {
        writeln!(out, "{}", show::status_json(&reply, yours))?;
        return Ok(());
    }
    show::status(&reply, yours, out)
}

/// `officer show`.
///
/// # Errors
/// When it cannot be asked for, or is not what the service says it is.
pub async fn show_one(
    which: &Which,
    export: Option<&Path>,
    common: &Common,
    out: &mut impl Write,
) -> Result<()> {
    let desk = Desk::load(&common.config)?;
    let (decoded, shown) = look(&desk, which).await?;
    if let Some(file) = export {
        exhibit::write(&shown.shown, file)?;
    }
    if common.json {
        writeln!(out, "{}", show::request_json(&decoded, &shown))?;
        return Ok(());
    }
    show::request(&decoded, &shown, out)
}

/// `officer watch`: one line for each thing that happens, until the signer ends; in JSON a first one, `listening`, before them.
///
/// # Errors
/// When the signer cannot be asked.
pub async fn notifications(args: &Watching, out: &mut impl Write) -> Result<()> {
    let Watching { heartbeat: heartbeat_seconds, common } = args;
    let desk = Desk::load(&common.config)?;
    let mut client = desk.connect().await?;
    let heard =
        client.notifications(NotificationsRequest { heartbeat_seconds: *heartbeat_seconds }).await;
    let mut heard = heard.map_err(|status| refusal(&status))?.into_inner();
    if common.json {
        // So that a program knows from when on nothing is missed.
        writeln!(out, "{}", json!({ "kind": "listening" }))?;
        out.flush()?;
    }
    while let Some(notice) = heard.message().await.map_err(|status| refusal(&status))? {
        let request = hex::encode(&notice.request_id);
        if common.json {
            let reasons = notice.reasons.iter();
            let reasons: Vec<_> =
                reasons.map(|reason| json!({ "code": reason.code, "text": reason.text })).collect();
            let (unix_ms, kind) = (notice.unix_ms, &notice.kind);
            let mut line = json!({
                "unix_ms": unix_ms, "kind": kind, "request": request, "reasons": reasons,
                "wallet": notice.wallet, "tier": notice.tier,
                "policy": { "version": notice.policy_version, "sha256": hex::encode(&notice.policy_digest) },
            });
            if let Some(line) = line.as_object_mut().filter(|_| kind == "heartbeat") {
                let (entries, checkpoint) = (notice.log_entries, notice.checkpoint_entries);
                let log = json!({ "entries": entries, "checkpoint": checkpoint });
                line.insert("log".to_owned(), log);
            }
            writeln!(out, "{line}")?;
        } else {
            let reasons: Vec<String> =
                notice.reasons.iter().map(|r| format!("{}: {}", r.code, r.text)).collect();
            let when = time(notice.unix_ms / 1000);
            writeln!(
                out,
                "{when}  {:<8} {request} {}{}",
                words(&notice.kind),
                match notice.wallet.as_str() {
                    "" => String::new(),
                    name => format!("[{}] ", show::wallet(name, &notice.tier)),
                },
                words(&reasons.join("; "))
            )?;
        }
        out.flush()?;
    }
    Ok(())
}

/// `officer approve`, `reject`, `veto`: decodes, shows, asks, signs.
///
/// # Errors
/// When it is not what the service says it is, or nobody says yes, or the signer says no.
pub async fn on_request(
    args: &OnRequest,
    says: fn(About) -> Says,
    out: &mut impl Write,
) -> Result<()> {
    let desk = Desk::load(&args.saying.common.config)?;
    let (decoded, shown) = look(&desk, &args.which).await?;
    let paper = &decoded.paper;
    let says = says(About { request: paper.request, intent: paper.digest(), policy: paper.policy });
    show::request(&decoded, &shown, &mut to_people(&args.saying, out))?;
    say(&desk, &args.saying, says, paper.expires_unix, out).await
}

/// `officer revoke`, `unfreeze`.
///
/// # Errors
/// When nobody says yes, or the signer says no.
pub async fn on_statement(
    args: &OnStatement,
    says: fn([u8; 32]) -> Says,
    out: &mut impl Write,
) -> Result<()> {
    let desk = Desk::load(&args.saying.common.config)?;
    say(&desk, &args.saying, says(bytes(&args.statement)?), u64::MAX, out).await
}

/// `officer veto-policy`: needs the file or its digest and nothing else, so that it works when no signer answers.
///
/// # Errors
/// When the file cannot be read, nobody says yes, or the signer says no.
pub async fn veto_policy(args: &OnPolicy, out: &mut impl Write) -> Result<()> {
    let desk = Desk::load(&args.saying.common.config)?;
    let policy = match bytes(&args.policy) {
        Ok(digest) => digest,
        Err(_) => {
            let text = std::fs::read(&args.policy);
            let text = text.with_context(|| {
                format!(
                    "\"{}\" is neither a SHA-256 nor a file that can be read",
                    words(&args.policy)
                )
            })?;
            Sha256::digest(&text).into()
        }
    };
    say(&desk, &args.saying, Says::VetoPolicy(policy), u64::MAX, out).await
}

/// `officer free`.
///
/// # Errors
/// When it names no client, nobody says yes, or the signer says no.
pub async fn free(args: &OnClient, out: &mut impl Write) -> Result<()> {
    let desk = Desk::load(&args.saying.common.config)?;
    let client = ClientName::parse(&args.client)?;
    let says = Says::Free { client, lock: args.lock, reason: args.reason.clone() };
    say(&desk, &args.saying, says, u64::MAX, out).await
}

/// `officer freeze`: needs nothing but the settings and the key, so that it works when nothing else does.
///
/// # Errors
/// When nobody says yes, or the signer says no.
pub async fn freeze(args: &OnScope, out: &mut impl Write) -> Result<()> {
    let desk = Desk::load(&args.saying.common.config)?;
    let scope: FreezeScope = parse_scope(&args.scope.join(" ")).map_err(anyhow::Error::msg)?;
    say(&desk, &args.saying, Says::Freeze(scope), u64::MAX, out).await
}

/// `officer administer`: a file for a command at the signer's machine.
///
/// # Errors
/// When it names no task, or nobody says yes.
pub async fn administer(args: &OnTask, out: &mut impl Write) -> Result<()> {
    ensure!(args.saying.offline.is_some(), "say where to write it: --offline FILE");
    let desk = Desk::load(&args.saying.common.config)?;
    let deed = Deed::parse(&args.task.join(" ")).map_err(anyhow::Error::msg)?;
    let task = Task { deed, token: args.token.clone() };
    say(&desk, &args.saying, Says::Administer(task), u64::MAX, out).await
}

/// `officer time`: says what time it is by this machine's clock, against the doubt that the signer has, or the one that is
/// named.
///
/// # Errors
/// When there is no doubt, nobody says yes, or the signer says no.
pub async fn tell_time(args: &OnClock, out: &mut impl Write) -> Result<()> {
    let desk = Desk::load(&args.saying.common.config)?;
    let doubt = match args.doubt {
        Some(entry) => entry,
        None => {
            let clock = ask_pending(&desk).await?.clock;
            clock.context("the signer's clock is not in doubt: there is nothing to settle")?.entry
        }
    };
    let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let when = time(unix);
    let text = format!("this machine's clock says {when}: look at another one before you sign");
    writeln!(to_people(&args.saying, out), "{text}")?;
    let says = Says::Time(TimeIs { unix, doubt });
    say(&desk, &args.saying, says, unix.saturating_add(TIME_VALID_SECONDS), out).await
}

/// `officer book unlist`.
///
/// # Errors
/// When nobody says yes, or the signer says no.
pub async fn unlist(args: &OnEntry, out: &mut impl Write) -> Result<()> {
    let desk = Desk::load(&args.saying.common.config)?;
    let (list, label) = (ListName::parse(&args.list)?, args.label.clone());
    say(&desk, &args.saying, Says::Unlist { list, label }, u64::MAX, out).await
}

pub(super) async fn ask_pending(desk: &Desk) -> Result<PendingReply> {
    let mut client = desk.connect().await?;
    let reply = client.pending(PendingRequest {}).await;
    let reply = reply.map_err(|status| refusal(&status))?.into_inner();
    desk.is_its_log(&reply.log)?;
    Ok(reply)
}

/// Asks for a request, or reads what somebody else was shown, and decodes it here.
async fn look(desk: &Desk, which: &Which) -> Result<(Decoded, Exhibit)> {
    let id: Option<[u8; 16]> = which.request.as_deref().map(bytes).transpose()?;
    let exhibit = match (&which.from, id) {
        (Some(file), _) => exhibit::read(file)?,
        (None, Some(id)) => Exhibit { shown: ask_for(desk, id).await?, taken_unix: None },
        (None, None) => bail!("say which request"),
    };
    desk.is_its_log(&exhibit.shown.log)?;
    let decoded = decode(&exhibit.shown, &desk.rules()?)?;
    ensure!(
        id.is_none_or(|id| decoded.paper.request.0 == id),
        "what is shown is another request than the one that was asked for"
    );
    Ok((decoded, exhibit))
}

async fn ask_for(desk: &Desk, id: [u8; 16]) -> Result<ShowReply> {
    let mut client = desk.connect().await?;
    let shown = client.show(ShowRequest { request_id: id.to_vec() }).await;
    Ok(shown.map_err(|status| refusal(&status))?.into_inner())
}

/// Asks, signs, and sends or writes a statement.
pub(super) async fn say(
    desk: &Desk,
    saying: &Saying,
    says: Says,
    ends_unix: u64,
    out: &mut impl Write,
) -> Result<()> {
    let for_what = match says {
        Says::Administer(_) => "for the command that it is about (--statement FILE)",
        _ => "for the inbox in its state folder",
    };
    let signed = sign(desk, saying, says, ends_unix, out)?;
    let digest = hex::encode(Sha256::digest(&signed.statement));
    let said = match &saying.offline {
        Some(file) => {
            write(file, &signed)?;
            format!("written to {}: hand it to the signer's host, {for_what}", file.display())
        }
        None => {
            let Signed { statement, signature } = signed;
            let request = SubmitRequest { statement, signature: signature.to_vec() };
            let reply = desk.connect().await?.submit(request).await;
            words(&reply.map_err(|status| refusal(&status))?.into_inner().said)
        }
    };
    tell(saying, &digest, &said, out)
}

pub(super) fn tell(saying: &Saying, digest: &str, said: &str, out: &mut impl Write) -> Result<()> {
    if saying.common.json {
        writeln!(out, "{}", json!({ "statement": digest, "said": said }))?;
        return Ok(());
    }
    writeln!(out, "statement   {digest}\n{said}")?;
    Ok(())
}

/// Asks, and signs.
pub(super) fn sign(
    desk: &Desk,
    saying: &Saying,
    says: Says,
    ends_unix: u64,
    out: &mut impl Write,
) -> Result<Signed> {
    let key = desk.key()?;
    let statement = statement(desk, &key, says, saying.valid_for, ends_unix)?;
    let bytes = statement.encode();
    // What a person typed may stand in no statement.
    Statement::parse(&bytes)?;
    ask(&statement, saying, out)?;
    Ok(Signed { signature: key.sign(&bytes)?, statement: bytes })
}

fn statement(
    desk: &Desk,
    key: &Key,
    says: Says,
    valid_for: u64,
    ends_unix: u64,
) -> Result<Statement> {
    let rules = desk.rules()?;
    let officer = key.named(desk.name.as_deref())?;
    let known = rules.officer(&officer);
    let known = known.with_context(|| format!("the policy has no officer \"{officer}\""))?;
    ensure!(
        known.key == key.public(),
        "the policy has another key for \"{officer}\" than {}",
        desk.key.display()
    );
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let mut nonce = [0; 16];
    fill(&mut nonce)?;
    Ok(Statement {
        says,
        log: desk.log.clone(),
        network: rules.network().chain_id().to_string(),
        officer,
        expires_unix: now.saturating_add(valid_for).min(ends_unix),
        nonce,
    })
}

/// A person's yes, or a script's.
fn ask(statement: &Statement, saying: &Saying, out: &mut impl Write) -> Result<()> {
    let (verb, until) = (statement.says.verb(), time(statement.expires_unix));
    let people = &mut to_people(saying, out);
    writeln!(people, "\n{}", String::from_utf8_lossy(&statement.encode()).trim_end())?;
    if saying.yes {
        return Ok(());
    }
    if !std::io::stdin().is_terminal() {
        bail!("nobody is here to say yes: on a terminal you are asked, and --yes is for scripts");
    }
    write!(people, "\n{verb}, as {}, until {until}? Type {verb}: ", statement.officer)?;
    people.flush()?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    ensure!(answer.trim() == verb, "nothing was signed");
    Ok(())
}

/// With `--json`, words go elsewhere.
pub(super) fn to_people<'a>(saying: &Saying, out: &'a mut impl Write) -> Box<dyn Write + 'a> {
    if saying.common.json { Box::new(std::io::stderr()) } else { Box::new(out) }
}

/// Whole or not at all: a signer may look into the folder at any time.
pub(super) fn write(file: &Path, signed: &Signed) -> Result<()> {
    let mut fresh = file.as_os_str().to_owned();
    fresh.push(".new");
    let fresh = PathBuf::from(fresh);
    ensure!(!file.exists(), "{} is there already", file.display());
    let made = OpenOptions::new().write(true).create_new(true).mode(0o644).open(&fresh);
    let mut made = made.with_context(|| format!("cannot make {}", fresh.display()))?;
    made.write_all(&signed.to_file())?;
    made.sync_all()?;
    std::fs::rename(&fresh, file).with_context(|| format!("cannot write {}", file.display()))
}

pub(super) fn bytes<const N: usize>(text: &str) -> Result<[u8; N]> {
    let mut bytes = [0; N];
    let read = hex::decode_to_slice(text, &mut bytes);
    ensure!(read.is_ok(), "\"{}\" is not {} hex digits", words(text), N.saturating_mul(2));
    Ok(bytes)
}
