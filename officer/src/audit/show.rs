//! Entries in words, one line each. It never prints what could move a terminal's cursor.

use std::io::Write;

use anyhow::Result;
use audit::entry::{Entry, Event, KeyUse, Reason};
use audit::keys_line::KeysLine;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::tiers::Of;
use super::under::{Under, decided_by};
use crate::policies;
use crate::text::{btc, time, words};

/// What the entries before one say of it.
pub(super) struct Beside {
    /// The wallet that it is about.
    pub(super) of: Option<Of>,
    /// The policy in force.
    pub(super) under: Option<Under>,
}

/// The kind's name in summaries.
pub(super) fn kind(event: &Event) -> &'static str {
    match event {
        Event::Opened { .. } | Event::OpenedUnder { .. } => "opened",
        Event::PolicyActivated { .. } => "policy activated",
        Event::WalletImported { .. } => "wallet imported",
        Event::RecordsReplaced { .. } => "records replaced",
        Event::Proven { .. } => "proven",
        Event::ProofFailed { .. } => "proof failed",
        Event::Refused { .. } => "refused",
        Event::Admitted(_) => "admitted",
        Event::Denied { .. } => "denied",
        Event::Spend(_) => "spend",
        Event::SpendAgain { .. } => "spend again",
        Event::Signed { .. } => "signed",
        Event::PartlySigned { .. } => "signed in part",
        Event::Failed { .. } => "failed",
        Event::Attested(_) => "attested",
        Event::AttestationSigned { .. } => "attestation signed",
        Event::Service { .. } => "service",
        Event::TailSetAside { .. } => "tail set aside",
        Event::KeyState { .. } => "key state",
        Event::Waived { .. } => "waived",
        Event::PinChanged { .. } => "PIN changed",
        Event::TokenKeyMade { .. } => "token key made",
        Event::TokenKeyState { .. } => "token key state",
        Event::TokenWalletBound { .. } => "wallet bound",
        Event::KekImport { .. } => "key-encryption key",
        Event::PolicyProposed { .. } => "policy proposed",
        Event::PolicyVetoed { .. } => "policy vetoed",
        Event::PolicyWithdrawn { .. } => "policy withdrawn",
        Event::PolicyPushed { .. } => "policy pushed",
        Event::ClientLocked { .. } => "client locked",
        Event::ClientFreed { .. } => "client freed",
        Event::Awaiting(_) => "awaiting",
        Event::WaitEnded { .. } => "wait ended",
        Event::Withheld { .. } => "withheld",
        Event::OfficerSaid { .. } | Event::OfficerSaidP256 { .. } => "officer said",
        Event::FreezeLifted { .. } => "freeze lifted",
        Event::Unbound { .. } => "unbound",
        Event::Considered(_) => "considered",
        Event::Administered { .. } => "administered",
        Event::ClockDoubted { .. } => "clock doubted",
        Event::ClockBelieved { .. } => "clock believed",
        Event::TokenOperations { .. } => "token operations",
        Event::TokenDistrusted { .. } => "token distrusted",
        Event::SanctionsRead { .. } => "sanctions read",
        Event::FactStated { .. } => "fact stated",
        _ => "unknown",
    }
}

/// One line.
pub(super) fn line(seq: u64, entry: &Entry) -> String {
    let when = time(entry.unix_ms / 1000);
    format!("{seq:>8}  {when}  {:<18}  {}", kind(&entry.event), details(&entry.event))
}

/// The same, and at its end the policy that decided it, and the tier of the wallet that it is about. Some entries say the tier
/// themselves.
pub(super) fn line_of(seq: u64, entry: &Entry, beside: &Beside) -> String {
    let mut line = line(seq, entry);
    let says_it = matches!(
        entry.event,
        Event::WalletImported { .. } | Event::TokenWalletBound { .. } | Event::KeyState { .. }
    );
    let under = beside.under.as_ref();
    if let Some(under) = under.filter(|under| decided_by(&entry.event) == Some(under.version)) {
        let (version, digest) = (under.version, hex::encode(under.digest));
        line += &format!("  [policy {version} of entry {}, sha256 {digest}]", under.entry);
    }
    if let Some(of) = beside.of.as_ref().filter(|_| !says_it) {
        line += &format!("  [{} ({})]", words(&of.wallet), words(of.tier()));
    }
    line
}

/// Of a policy's own entry, the policy itself in words, below its line.
pub(super) fn policy(event: &Event, out: &mut impl Write) -> Result<()> {
    let Some(text) = policy_text(event) else { return Ok(()) };
    for line in policies::in_words(text).lines().filter(|line| !line.is_empty()) {
        writeln!(out, "          | {line}")?;
    }
    Ok(())
}

fn policy_text(event: &Event) -> Option<&str> {
    match event {
        Event::PolicyActivated { text, .. } | Event::PolicyProposed { text, .. } => Some(text),
        _ => None,
    }
}

/// The same for programs.
pub(super) fn object(seq: u64, entry: &Entry, beside: &Beside) -> Value {
    let (kind, said) = (kind(&entry.event), details(&entry.event));
    let mut object = json!({ "entry": seq, "unix_ms": entry.unix_ms, "kind": kind, "said": said });
    let Value::Object(fields) = &mut object else { return object };
    if let Some(of) = &beside.of {
        fields.insert("wallet".to_owned(), of.wallet.as_str().into());
        fields.insert("tier".to_owned(), of.tier().into());
        if let Some(keys) = keys(&entry.event) {
            fields.insert("keys".to_owned(), words(keys).into());
        }
    }
    if let Some(Under { entry, version, digest }) = &beside.under {
        let digest = hex::encode(digest);
        let under = json!({ "version": version, "sha256": digest, "entry": entry });
        fields.insert("policy".to_owned(), under);
    }
    if let Some(text) = policy_text(&entry.event) {
        fields.insert("policy_text".to_owned(), text.into());
        fields.insert("policy_words".to_owned(), policies::in_words(text).into());
    }
    object
}

/// Which keys it says that were asked for.
fn keys(event: &Event) -> Option<&str> {
    let trace = match event {
        Event::Spend(spend) => &spend.trace,
        Event::Awaiting(awaiting) => &awaiting.spend.trace,
        Event::Denied { trace, .. } | Event::SpendAgain { trace, .. } => trace,
        _ => return None,
    };
    KeysLine::of(trace).ok().flatten().and(trace.first()).map(String::as_str)
}

fn details(event: &Event) -> String {
    match event {
        Event::Opened { origin, network, .. } => words(&format!("{origin} on {network}")),
        Event::PolicyActivated { version, digest, officers, .. } => {
            let officers = words(&officers.join(", "));
            format!("version {version}, sha256 {}, signed by {officers}", hex::encode(digest))
        }
        Event::WalletImported { wallet, tier, external, change, .. } => {
            words(&format!("{wallet} ({tier}): {external} external and {change} change records"))
        }
        Event::Proven { wallet, change, below } => {
            words(&format!("{wallet} {} below {below}", branch(*change)))
        }
        Event::ProofFailed { wallet, change, index, reason } => {
            words(&format!("{wallet} {} index {index}: {reason}", branch(*change)))
        }
        Event::Refused { caller, reasons, .. } => format!("{}: {}", words(caller), list(reasons)),
        Event::Admitted(a) => words(&format!(
            "{} from {}: lane {}, wallet {}, key {}",
            hex::encode(a.request),
            a.caller,
            a.lane,
            a.wallet,
            a.key
        )),
        Event::Denied { request, policy, reasons, .. } => {
            format!("{} by policy {policy}: {}", hex::encode(request), list(reasons))
        }
        Event::Spend(s) => {
            let orders: Vec<&str> = s.orders.iter().map(|order| order.id.as_str()).collect();
            let orders = if orders.is_empty() {
                String::new()
            } else {
                format!(", orders {}", orders.join(" "))
            };
            words(&format!(
                "{} lane {}, wallet {}: {} coins, {} leaves, fee {}{orders}",
                hex::encode(s.request),
                s.lane,
                s.wallet,
                s.slots.len(),
                btc(s.external),
                btc(s.fee)
            ))
        }
        Event::SpendAgain { request, policy, .. } => {
            format!("{} by policy {policy}", hex::encode(request))
        }
        Event::Signed { request, transaction } => made(request, "transaction", transaction),
        Event::PartlySigned { request, psbt } => made(request, "PSBT for other cosigners", psbt),
        Event::Failed { request, reason } => {
            format!("{}: {}", hex::encode(request), list(std::slice::from_ref(reason)))
        }
        Event::Attested(a) => {
            let claims = a.claims.iter().map(|claim| {
                words(&format!("{}={} for \"{}\"", claim.index, claim.address, claim.reference))
            });
            let claims: Vec<String> = claims.collect();
            format!("{} for {}: {}", words(&a.wallet), words(&a.caller), claims.join("; "))
        }
        Event::AttestationSigned { root, .. } => format!("root {}", hex::encode(root)),
        Event::Service { state, version } => words(&format!("{state}, version {version}")),
        Event::TailSetAside { from, count, digest } => {
            format!("{count} uncovered entries from {from} on, root {}", hex::encode(digest))
        }
        Event::KeyState { wallet, tier, state, reason } => {
            words(&format!("keys of {wallet} ({tier}) {state}: {reason}"))
        }
        Event::Waived { safeguard, said } => words(&format!("{safeguard}, by {said}")),
        _ => rarely(event),
    }
}

/// What the token did; calls of which nobody knows stand behind a plus.
fn used(serial: &str, uses: &[KeyUse], lost: u64) -> String {
    let shown = |of: &KeyUse| {
        let unsure = if of.unsure > 0 { format!("+{}", of.unsure) } else { String::new() };
        format!("{} {}{unsure} {}", of.function, of.done, of.key)
    };
    let uses: Vec<String> = uses.iter().map(shown).collect();
    let lost = if lost > 0 { format!("; up to {lost} more") } else { String::new() };
    words(&format!("token {serial}: {}{lost}", uses.join(", ")))
}

/// Which token, what it did wrong, and with whose keys.
fn distrusted(event: &Event) -> String {
    let Event::TokenDistrusted { name, label, serial, what, wallet, key, request, seen_unix } =
        event
    else {
        return String::new();
    };
    let wallet = wallet.as_ref().map(|wallet| format!(", keys of {wallet}")).unwrap_or_default();
    let key = if key.is_empty() { String::new() } else { format!(", key {}", hex::encode(key)) };
    let request = request.map(|id| format!(", request {}", hex::encode(id))).unwrap_or_default();
    let seen = time(*seen_unix);
    words(&format!("{name} ({label}, serial {serial}) at {seen}: {what}{wallet}{key}{request}"))
}

/// What is about the token and its keys.
fn of_token(event: &Event) -> Option<String> {
    Some(match event {
        Event::PinChanged { serial } => words(&format!("token {serial}")),
        Event::TokenOperations { serial, uses, lost } => used(serial, uses, *lost),
        Event::TokenDistrusted { .. } => distrusted(event),
        Event::TokenKeyMade { name, tier, public_key, serial, .. } => {
            let key = hex::encode(public_key);
            words(&format!("{name} ({tier}): {key} in token {serial}"))
        }
        Event::TokenKeyState { name, tier, state, reason } => {
            words(&format!("{name} ({tier}) {state}: {reason}"))
        }
        Event::TokenWalletBound { wallet, tier, keys, cloning_proof, .. } => {
            let keys: Vec<String> = keys.iter().map(hex::encode).collect();
            let proof =
                cloning_proof.map(|proof| format!(", cloning proof {}", hex::encode(proof)));
            let proof = proof.unwrap_or_default();
            words(&format!("{wallet} ({tier}) to {}{proof}", keys.join(" ")))
        }
        Event::KekImport { what, key, serial } => {
            let key = key.map_or(String::new(), |key| format!(" {}", hex::encode(key)));
            words(&format!("import {what}{key}, token {serial}"))
        }
        _ => return None,
    })
}

fn rarely(event: &Event) -> String {
    if let Some(text) = of_token(event) {
        return text;
    }
    match event {
        Event::OpenedUnder { .. }
        | Event::Administered { .. }
        | Event::PolicyProposed { .. }
        | Event::PolicyVetoed { .. }
        | Event::PolicyWithdrawn { .. }
        | Event::PolicyPushed { .. } => return of_policy(event),
        Event::ClientLocked { client, refusals, seconds, codes } => {
            let codes = codes.join(", ");
            return words(&format!("{client}: {refusals} refusals in {seconds} s ({codes})"));
        }
        Event::ClientFreed { client, lock, officers, reason } => {
            let officers = officers.join(", ");
            return words(&format!("{client} from entry {lock}, by {officers}: {reason}"));
        }
        event => {
            if let Some(text) = of_people(event) {
                return text;
            }
        }
    }
    let Event::RecordsReplaced {
        wallet,
        bundle,
        external,
        change,
        external_proven,
        change_proven,
        ..
    } = event
    else {
        return String::new();
    };
    words(&format!(
        "{wallet}: {external} external and {change} change records, the first {external_proven} and {change_proven} \
         proven before, bundle {}",
        hex::encode(bundle)
    ))
}

/// What waits for people, what they said, and what was looked at for them.
fn of_people(event: &Event) -> Option<String> {
    Some(match event {
        Event::Awaiting(awaiting) => {
            let asked = awaiting.requirements.iter().map(|asked| asked.text.as_str());
            let (request, until) =
                (hex::encode(awaiting.spend.request), time(awaiting.expires_unix));
            let asked: Vec<&str> = asked.collect();
            words(&format!("{request} until {until}: {}", asked.join("; ")))
        }
        Event::WaitEnded { request, reason } => {
            format!("{}: {}", hex::encode(request), list(std::slice::from_ref(reason)))
        }
        Event::Withheld { request, policy, reason, may_have_left } => {
            let left = if *may_have_left { "; it may have left before" } else { "" };
            let why = list(std::slice::from_ref(reason));
            format!("{} by policy {policy}: {why}{left}", hex::encode(request))
        }
        Event::OfficerSaid { statement, way, .. }
        | Event::FactStated { statement, way, .. }
        | Event::OfficerSaidP256 { statement, way, .. } => said(statement, way),
        Event::SanctionsRead { digest, made_unix, count, by, .. } => {
            let (digest, made) = (hex::encode(digest), time(*made_unix));
            words(&format!("{count} entries by {by}, made {made}, sha256 {digest}"))
        }
        Event::FreezeLifted { freeze, officers, .. } => {
            words(&format!("{} by {}", hex::encode(freeze), officers.join(", ")))
        }
        Event::Unbound { key, id, versions, officers, .. } => {
            let versions: Vec<String> = versions.iter().map(hex::encode).collect();
            let (key, versions) = (hex::encode(key), versions.join(", "));
            words(&format!("order {id} of {key} from {versions}, by {}", officers.join(", ")))
        }
        Event::ClockDoubted { held_unix, reason } => {
            format!("time is held at {}: {}", time(*held_unix), words(reason))
        }
        Event::ClockBelieved { doubt, officers, .. } => {
            format!("doubt of entry {doubt}, by {}", words(&officers.join(", ")))
        }
        Event::Considered(considered) => {
            let (request, coins) = (hex::encode(considered.request), considered.amounts.len());
            let (outputs, orders) = (considered.outputs.len(), considered.orders.len());
            format!("{request}: {coins} coins, {outputs} outputs, {orders} orders")
        }
        _ => return None,
    })
}

/// What is about the signer as a whole: its officers, who did what at its machine, which policy may follow.
fn of_policy(event: &Event) -> String {
    match event {
        Event::PolicyProposed { version, digest, officers, due_unix, .. } => {
            let (officers, due) = (words(&officers.join(", ")), time(*due_unix));
            let digest = hex::encode(digest);
            format!("version {version}, sha256 {digest}, due {due}, signed by {officers}")
        }
        Event::PolicyVetoed { digest, officers } => {
            let officers = words(&officers.join(", "));
            format!("sha256 {}, by {officers}", hex::encode(digest))
        }
        Event::Administered { what, serial, site } => {
            words(&format!("{what}, token {serial}, site {}", hex::encode(site)))
        }
        Event::OpenedUnder { origin, network, officers, .. } => {
            let digest = hex::encode(Sha256::digest(officers));
            words(&format!("{origin} on {network}, under the officers {digest}"))
        }
        Event::PolicyWithdrawn { digest } => {
            format!("sha256 {}, not proposed any more", hex::encode(digest))
        }
        Event::PolicyPushed { digest, signatures, way } => {
            let names = signatures.lines().map(|line| line.split(' ').next().unwrap_or_default());
            let names = words(&names.collect::<Vec<_>>().join(", "));
            format!("sha256 {}, signed by {names}, by {}", hex::encode(digest), words(way))
        }
        _ => String::new(),
    }
}

fn said(statement: &[u8], way: &str) -> String {
    let text = String::from_utf8_lossy(statement);
    let lines = text.lines().skip(1);
    let lines = lines.filter(|line| !line.starts_with("log: ") && !line.starts_with("network: "));
    words(&format!("{}, by {way}", lines.collect::<Vec<_>>().join(", ")))
}

fn made(request: &[u8; 16], what: &str, bytes: &[u8]) -> String {
    format!("{} {what} of {} bytes", hex::encode(request), bytes.len())
}

fn branch(change: bool) -> &'static str {
    if change { "change" } else { "external" }
}

fn list(reasons: &[Reason]) -> String {
    let reasons = reasons.iter().map(|reason| words(&format!("{}: {}", reason.code, reason.text)));
    reasons.collect::<Vec<_>>().join("; ")
}
