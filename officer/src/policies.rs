//! Policies for officers: read as the signer reads them, shown in words, signed. It never signs what it could
//! not read, and what it shows decides nothing.

use std::fs;
use std::io::{BufRead as _, IsTerminal as _, Write};
use std::path::{Path, PathBuf};
use std::str::FromStr as _;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, bail, ensure};
use asset::{Amount, Network};
use bitcoin::Address;
use bitcoin::address::NetworkUnchecked;
use miniscript::{Descriptor, DescriptorPublicKey};
use policy::conditions::Target;
use policy::first::FirstOfficers;
use policy::governance::veto_message;
use policy::grant::Grant;
use policy::names::KeyName;
use policy::people::OfficerKey;
use policy::rules::{Lane, LaneKind, Wallet, WindowCap};
use policy::signed::{self, MAX_TEXT, signature_line};
use policy::{Rules, SignedPolicy, scenario, sign_message};

use crate::governance;
use crate::key::{Key, fill};
use crate::text::{btc, span, time, words};

/// Who signs.
#[derive(Clone, Copy, Debug)]
pub struct Signer<'a> {
    /// With which key.
    pub key: &'a Key,
    /// Under which name, when not the key file's.
    pub name: Option<&'a str>,
}

/// What a check looks at beside the text.
#[derive(Clone, Copy, Debug)]
pub struct Beside<'a> {
    /// What ends within so many seconds is said.
    pub within_seconds: u64,
    /// The policy in force, against which entries of lists are new.
    pub against: Option<&'a Path>,
}

/// `officer policy check`.
///
/// # Errors
/// When the signer would refuse the text, or the one it is held against, with line and reason.
pub fn check(
    file: &Path,
    network: Option<&str>,
    beside: Beside<'_>,
    out: &mut impl Write,
) -> Result<()> {
    let rules = view(&read(file)?, network)?;
    let before = beside.against.map(|file| view(&read(file)?, network)).transpose()?;
    show(&rules, out)?;
    governance::review(&rules, out)?;
    if let Some(before) = before {
        governance::maturing(&rules, &before, out)?;
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).context("the clock is before 1970")?;
    governance::ends(&rules, now.as_secs(), beside.within_seconds, out)?;
    writeln!(
        out,
        "\nThe policy is well formed. It is in force only when a quorum of officers signed it."
    )?;
    Ok(())
}

/// `officer policy officers`: who they are, and the digest of that, to compare with what a signer shows.
///
/// # Errors
/// When the file cannot be read, with line and reason.
pub fn officers(file: &Path, out: &mut impl Write) -> Result<()> {
    let officers = FirstOfficers::read(&read(file)?)?;
    out.write_all(officers.text().as_bytes())?;
    writeln!(out)?;
    let digest = officers.digest();
    for (line, name) in digest.chunks(8).zip(["sha256", "", "", ""]) {
        let groups: Vec<String> = line.chunks(2).map(hex::encode).collect();
        writeln!(out, "{name:<13} {}", groups.join(" "))?;
    }
    Ok(())
}

/// `officer policy test`: what comes of each line of a file of cases.
///
/// # Errors
/// When the signer would refuse the text, or a line cannot be read or comes out otherwise than it expects.
pub fn test(file: &Path, cases: &Path, network: Option<&str>, out: &mut impl Write) -> Result<()> {
    let rules = view(&read(file)?, network)?;
    let (mut run, mut wrong) = (0_u32, 0_u32);
    for (line, number) in read(cases)?.lines().zip(1_u32..) {
        let case = line.split_once('#').map_or(line, |(case, _)| case).trim();
        if case.is_empty() {
            continue;
        }
        run = run.saturating_add(1);
        let found = match scenario::run(&rules, case) {
            Ok(outcome) if outcome.found == outcome.expected => continue,
            Ok(outcome) => outcome.found,
            Err(reason) => reason,
        };
        wrong = wrong.saturating_add(1);
        writeln!(out, "line {number}: {}\n  came out: {}", words(case), words(&found))?;
    }
    ensure!(run > 0, "{} holds no case", cases.display());
    ensure!(wrong == 0, "{wrong} of {run} cases came out otherwise");
    writeln!(out, "{run} cases came out as expected")?;
    Ok(())
}

/// `officer policy sign`: shows it, asks on a terminal, and puts the signature into `FILE.sig`.
///
/// # Errors
/// When the signer would refuse the text, or the person says no.
pub fn sign(
    file: &Path,
    network: Option<&str>,
    signer: &Signer<'_>,
    yes: bool,
    out: &mut impl Write,
) -> Result<()> {
    let name = signer.key.named(signer.name)?;
    let text = read(file)?;
    let rules = view(&text, network)?;
    show(&rules, out)?;
    governance::review(&rules, out)?;
    ensure!(
        rules.log().is_some() || rules.governance().is_none(),
        "it names no log, and no signer would take it: write log = \"…\" beside its network, the origin that `signer init` showed"
    );
    if !yes && std::io::stdin().is_terminal() {
        write!(out, "\nSign this as {name}? Type yes: ")?;
        out.flush()?;
        let mut answer = String::new();
        std::io::stdin().lock().read_line(&mut answer)?;
        ensure!(answer.trim() == "yes", "not signed");
    }
    let line = signature_line(&name, &signer.key.sign(&sign_message(&text))?);
    let kept = add_signature(file, ".sig", &name, &line)?;
    writeln!(out, "\nsigned by   {name}, key {}", signer.key.public().to_hex())?;
    writeln!(out, "written to  {}", kept.display())?;
    Ok(())
}

/// `officer policy veto`: puts a veto into `FILE.veto`.
///
/// # Errors
/// When the file cannot be read, or the veto cannot be written.
pub fn veto(file: &Path, signer: &Signer<'_>, out: &mut impl Write) -> Result<()> {
    let name = signer.key.named(signer.name)?;
    let text = read(file)?;
    // A policy that this program cannot read may be vetoed all the same.
    let log = view(&text, None).ok().and_then(|rules| rules.log().map(str::to_owned));
    writeln!(out, "log         {}", log.as_deref().unwrap_or("none named"))?;
    let line = signature_line(&name, &signer.key.sign(&veto_message(&text))?);
    let kept = add_signature(file, ".veto", &name, &line)?;
    writeln!(out, "vetoed by   {name}, key {}", signer.key.public().to_hex())?;
    writeln!(out, "written to  {}: the signer takes it at its next start", kept.display())?;
    Ok(())
}

/// The rules of a text nobody signed yet, to be shown and for nothing else: signed here with a key that is
/// thrown away, since only a verified signature makes rules.
pub(crate) fn view(text: &str, network: Option<&str>) -> Result<Rules> {
    let named =
        || toml::from_str::<toml::Table>(text).ok()?.get("network")?.as_str().map(str::to_owned);
    let network = match network.map(str::to_owned).or_else(named) {
        Some(name) => Network::parse(&name)?,
        // The reading below says what is wrong, with its line.
        None => Network::Regtest,
    };
    signed::check(text, network)?;
    let mut seed = [0; 32];
    fill(&mut seed)?;
    let key = ed25519_dalek::SigningKey::from_bytes(&seed);
    let nobody = KeyName::parse("nobody")?;
    let signature = ed25519_dalek::Signer::sign(&key, &sign_message(text)).to_bytes();
    let signatures = signature_line(&nobody, &signature);
    let policy = SignedPolicy { text, signatures: &signatures };
    Ok(policy.verify(
        &[(nobody, OfficerKey::Ed25519(key.verifying_key().to_bytes()))],
        1,
        network,
    )?)
}

pub(crate) fn read(file: &Path) -> Result<String> {
    let shown = file.display();
    let length = fs::metadata(file).with_context(|| format!("cannot read {shown}"))?.len();
    let most = u64::try_from(MAX_TEXT).unwrap_or(u64::MAX);
    ensure!(length <= most, "{shown} is longer than any policy ({most} bytes)");
    fs::read_to_string(file).with_context(|| format!("cannot read {shown}"))
}

/// Puts the line into `FILE.sig` or `FILE.veto`, in the place of an earlier one by the same officer.
fn add_signature(file: &Path, kind: &str, name: &KeyName, line: &str) -> Result<PathBuf> {
    let beside = |ending: &str| {
        let mut path = file.as_os_str().to_owned();
        path.push(ending);
        PathBuf::from(path)
    };
    let (kept, fresh) = (beside(kind), beside(&format!("{kind}.new")));
    let earlier = match fs::read_to_string(&kept) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => bail!("cannot read {}: {error}", kept.display()),
    };
    let others = earlier
        .lines()
        .filter(|other| other.split_once(' ').is_none_or(|(signer, _)| signer != name.as_str()));
    let mut all: String = others.flat_map(|other| [other, "\n"]).collect();
    all.push_str(line);
    fs::write(&fresh, all).with_context(|| format!("cannot write {}", fresh.display()))?;
    fs::rename(&fresh, &kept).with_context(|| format!("cannot write {}", kept.display()))?;
    Ok(kept)
}

/// A policy's text in words, or the text itself where this program cannot read it. It never shows what could move a terminal's
/// cursor.
pub(crate) fn in_words(text: &str) -> String {
    let mut shown = Vec::new();
    let rendered = view(text, None).and_then(|rules| show(&rules, &mut shown));
    let said = match rendered {
        Ok(()) => String::from_utf8_lossy(&shown).into_owned(),
        Err(_) => format!("not in words, since this program cannot read it; as signed:\n{text}"),
    };
    said.lines().flat_map(|line| [words(line), "\n".to_owned()]).collect()
}

/// The policy in words.
fn show(rules: &Rules, out: &mut impl Write) -> Result<()> {
    writeln!(out, "policy      version {} for {}", rules.version(), rules.network())?;
    writeln!(out, "sha256      {}", hex::encode(rules.digest()))?;
    match rules.log() {
        Some(log) => writeln!(out, "log         {log}: for this one signer alone")?,
        None => writeln!(out, "log         NONE NAMED: it counts wherever these are the officers")?,
    }
    for wallet in rules.wallets() {
        show_wallet(wallet, rules.network(), out)?;
    }
    for key in rules.order_keys() {
        let held = key.officer.as_ref().map_or(String::new(), |o| format!(", held by officer {o}"));
        let ends = ending(key.expires_unix);
        writeln!(out, "\norder key   {}: {}{held}{ends}", key.name, hex::encode(key.public_key))?;
    }
    for client in rules.clients() {
        let status = if client.status { ", may read the status" } else { "" };
        let attest = match client.attest.as_slice() {
            [] => "no addresses".to_owned(),
            wallets => format!("addresses of {}", list(wallets)),
        };
        let officers = if client.officers { ", serves officers" } else { "" };
        let ends = ending(client.expires_unix);
        writeln!(out, "\nclient      {}: {attest}{status}{officers}{ends}", client.name)?;
    }
    if let Some(quorum) = rules.unfreeze() {
        writeln!(out, "\nunfreeze    {quorum}")?;
    }
    rules.lanes().iter().try_for_each(|lane| show_lane(lane, out))?;
    governance::show(rules, out)
}

fn ending(expires_unix: Option<u64>) -> String {
    expires_unix.map_or(String::new(), |unix| format!(", until {}", time(unix)))
}

fn show_wallet(wallet: &Wallet, network: Network, out: &mut impl Write) -> Result<()> {
    let first = first_address(&wallet.descriptor, network)
        .with_context(|| format!("wallet \"{}\": its descriptor is not usable", wallet.name))?;
    writeln!(out, "\nwallet      {} ({})", wallet.name, wallet.tier.as_str())?;
    writeln!(out, "  descriptor     {}", wallet.descriptor)?;
    writeln!(out, "  first address  {first}")?;
    writeln!(out, "  index window   {}", wallet.index_window)?;
    if let Some(proof) = wallet.cloning_proof {
        writeln!(out, "  cloning proof  sha256 {}", hex::encode(proof))?;
    }
    Ok(())
}

/// What people can compare with the wallet they hold: the first address of its external branch.
pub(crate) fn first_address(descriptor: &str, network: Network) -> Result<String> {
    let parsed = Descriptor::<DescriptorPublicKey>::from_str(descriptor)
        .map_err(|error| anyhow::anyhow!(asset::masked(&error.to_string())))?;
    let external = parsed.into_single_descriptors()?.into_iter().next().context("no branch")?;
    let definite = external.at_derivation_index(0)?;
    Ok(definite.address(bitcoin_network(network))?.to_string())
}

/// The same network in the words of the Bitcoin library.
pub(crate) fn bitcoin_network(network: Network) -> bitcoin::Network {
    match network {
        Network::Bitcoin => bitcoin::Network::Bitcoin,
        Network::Testnet4 => bitcoin::Network::Testnet4,
        Network::Signet => bitcoin::Network::Signet,
        Network::Regtest => bitcoin::Network::Regtest,
    }
}

fn show_lane(lane: &Lane, out: &mut impl Write) -> Result<()> {
    let clients: Vec<_> = lane.clients.iter().map(|grant| &grant.client).collect();
    let (name, clients, wallets) = (&lane.name, list(&clients), list(&lane.wallets));
    match &lane.kind {
        LaneKind::Sweep { cold, min_cold_share } => {
            writeln!(out, "\nlane        {name}: {clients} may sweep {wallets} to {cold}")?;
            writeln!(
                out,
                "  to cold        at least {min_cold_share} of all outputs, the rest is change"
            )?;
        }
        LaneKind::Withdraw { order_keys, per_transaction, per_destination, limits } => {
            let keys = list(order_keys);
            writeln!(
                out,
                "\nlane        {name}: {clients} may pay orders signed by {keys} from {wallets}"
            )?;
            writeln!(out, "  a transaction  at most {}", amount(*per_transaction))?;
            if let Some(most) = per_destination {
                writeln!(out, "  a destination  at most {} in one transaction", amount(*most))?;
            }
            show_windows("leaves", limits, out)?;
        }
        LaneKind::Consolidate => {
            writeln!(out, "\nlane        {name}: {clients} may put coins of {wallets} together")?;
        }
        LaneKind::Evacuate { cold, approvals } => {
            writeln!(out, "\nlane        {name}: {clients} may evacuate {wallets} to {cold}")?;
            writeln!(out, "  approvals      {approvals}")?;
        }
        LaneKind::Bump { max_package, max_package_feerate } => {
            writeln!(
                out,
                "\nlane        {name}: {clients} may make payouts from {wallets} that are out, by any order key, again at a \
                 higher fee, or spend change that is out back to change at a higher rate than its parents"
            )?;
            let most = amount(*max_package);
            writeln!(out, "  a package      at most {most} in fees, and {max_package_feerate}")?;
        }
    }
    for grant in lane.clients.iter().filter(|grant| grant.narrows()) {
        show_grant(grant, out)?;
    }
    let fee = &lane.fee;
    let total = amount(fee.max_total);
    writeln!(
        out,
        "  a fee          at most {total}, {}, and {} of what moves",
        fee.max_feerate, fee.max_percent
    )?;
    show_windows("fees", &lane.fee_budget, out)?;
    if let Some(unix) = lane.expires_unix {
        writeln!(out, "  closes         {}", time(unix))?;
    }
    Ok(())
}

/// What one client may do of the lane.
fn show_grant(grant: &Grant, out: &mut impl Write) -> Result<()> {
    let wallets = grant.wallets.as_ref().map(|wallets| format!("from {} alone", list(wallets)));
    let keys = grant.order_keys.as_ref();
    let keys = keys.map(|keys| format!("for orders by {} alone", list(keys)));
    let ends = grant.expires_unix.map(|unix| format!("until {}", time(unix)));
    let parts: Vec<String> = [wallets, keys, ends].into_iter().flatten().collect();
    writeln!(out, "  a part of it   {}: {}", grant.client, parts.join(", "))?;
    Ok(())
}

fn show_windows(what: &str, caps: &[WindowCap], out: &mut impl Write) -> Result<()> {
    for cap in caps {
        let (sum, window) = (amount(cap.sum), span(cap.window_seconds));
        writeln!(out, "  {what:<14} at most {sum} in any {window}")?;
    }
    Ok(())
}

pub(crate) fn amount(amount: Amount) -> String {
    btc(amount.units())
}

pub(crate) fn list<T: ToString>(items: &[T]) -> String {
    let items: Vec<String> = items.iter().map(ToString::to_string).collect();
    if items.is_empty() { "nobody".to_owned() } else { items.join(", ") }
}

/// The scripts that a list's entry, or one of an address book, stands for.
pub(crate) fn scripts(target: &Target, network: bitcoin::Network) -> Result<Vec<Vec<u8>>, String> {
    match target {
        Target::Script(script) => Ok(vec![script.clone()]),
        Target::Address(text) => {
            let address = Address::<NetworkUnchecked>::from_str(text).ok();
            let address = address.and_then(|address| address.require_network(network).ok());
            let address = address.ok_or_else(|| format!("\"{text}\" is no address here"))?;
            Ok(vec![address.script_pubkey().into_bytes()])
        }
        Target::Descriptor { descriptor, indexes } => {
            let wrong = |error: miniscript::Error| asset::masked(&error.to_string());
            let whole = Descriptor::<DescriptorPublicKey>::from_str(descriptor).map_err(wrong)?;
            let mut all = Vec::new();
            for branch in whole.into_single_descriptors().map_err(wrong)? {
                for index in 0..*indexes {
                    let derived = branch.at_derivation_index(index).map_err(|e| e.to_string())?;
                    all.push(derived.script_pubkey().into_bytes());
                }
            }
            Ok(all)
        }
    }
}
