//! Keys for coins that were born in the token (tier `token`): made, listed, attested, for a person at the signer's
//! machine, and given to the wallets that name them. It never signs a transaction, never lets a key out, and finds each
//! by its public half.

mod bind;

use std::io::Write;
use std::path::Path;

use anyhow::Context as _;
use audit::entry::Event;
use audit::token_key::TokenKey;
use policy::names::KeyName;
use policy::rules::Tier;
use secp256k1::PublicKey;

use crate::ledger::{BornKey, Ledger};
use crate::log::{Log, Step};
use crate::token::{Carried, KeyFile, Latch, Line, StatementKey, Token, TokenConfig};

pub use bind::{BindError, proof_path};
pub(crate) use bind::{bind, bindable};

/// What is attested of a token that gives itself no serial number.
const NO_SERIAL: &str = "none";

/// What the token says of a key of its own.
struct Described {
    public_key: PublicKey,
    /// Whether it was made just now.
    new: bool,
    serial: String,
    attributes: Vec<String>,
}

/// `signer token-key generate`: has the token make a key, or takes the one that an interrupted run made; looks at every
/// attribute, has it prove itself, and writes it down. Running it again changes nothing.
///
/// # Errors
/// When the token makes none, or one that is not as it must be; then no wallet can use it.
pub async fn generate(
    log: &Log<Ledger>,
    config: &TokenConfig,
    state_dir: &Path,
    name: &KeyName,
    out: &mut impl Write,
) -> anyhow::Result<PublicKey> {
    let known = log.read(|ledger| ledger.born().named(name).cloned());
    let described = {
        let (config, state_dir, known) = (config.clone(), state_dir.to_owned(), known.clone());
        let name = name.clone();
        let making = move || make(&config, &state_dir, &name, known.as_ref());
        tokio::task::spawn_blocking(making).await??
    };
    let Described { public_key, new, serial, attributes } = described;
    if known.is_none() {
        let event = Event::TokenKeyMade {
            name: name.to_string(),
            tier: Tier::Token.as_str().to_owned(),
            public_key: public_key.serialize().to_vec(),
            serial,
            attributes,
        };
        log.commit(|_| Step::write(vec![event], ())).await?;
    }
    let said = match (known, new) {
        (Some(_), _) => "was there",
        (None, true) => "made now",
        (None, false) => "was made before, and is written down now",
    };
    writeln!(out, "{name} (tier token): {said}")?;
    writeln!(out, "public key    {public_key}")?;
    Ok(public_key)
}

/// `signer token-key attest`: the token's attestation key signs what the key is, as `docs/attestation.md` says.
///
/// # Errors
/// When there is no such key, or it is not as it must be any more.
pub async fn attest(
    log: &Log<Ledger>,
    token: &Token,
    config: &TokenConfig,
    state_dir: &Path,
    name: &KeyName,
) -> anyhow::Result<String> {
    let key = log.read(|ledger| ledger.born().named(name).cloned());
    let key = key.with_context(|| format!("there is no token key \"{name}\""))?;
    let network = log.read(|ledger| ledger.beginning().map(|begun| begun.network.clone()));
    let described = {
        let (config, state_dir) = (config.clone(), state_dir.to_owned());
        tokio::task::spawn_blocking(move || look(&config, &state_dir, &key.public_key)).await??
    };
    let statement = TokenKey {
        network: network.context("the log was not begun")?,
        name: name.to_string(),
        public_key: key.public_key.serialize(),
        serial: if described.serial.is_empty() { NO_SERIAL.to_owned() } else { described.serial },
        attributes: described.attributes,
    };
    let text = statement.encode()?;
    let signature =
        token.statement(log.lease(), StatementKey::Attestation, text.as_bytes()).await?;
    Ok(statement.document(&signature)?)
}

/// `signer token-key list`: name, tier, state, public key, and the wallets that it signs for.
///
/// # Errors
/// When `out` cannot be written to.
pub fn list(log: &Log<Ledger>, out: &mut impl Write) -> std::io::Result<()> {
    let lines = log.read(|ledger| {
        let line = |key: &BornKey| {
            let (tier, state) = (Tier::Token.as_str(), key.state.as_str());
            let wallets = ledger.imports().iter();
            let signs = wallets.filter(|(_, wallet)| wallet.born().contains(&key.public_key));
            let signs: Vec<String> = signs.map(|(name, _)| name.to_string()).collect();
            let signs = if signs.is_empty() { "no wallet".to_owned() } else { signs.join(", ") };
            format!("{:<20} {tier:<8} {state:<12} {}  {signs}", key.name.as_str(), key.public_key)
        };
        ledger.born().iter().map(line).collect::<Vec<_>>()
    });
    if lines.is_empty() {
        return writeln!(out, "no key was born in this token: `signer token-key generate NAME`");
    }
    lines.iter().try_for_each(|line| writeln!(out, "{line}"))
}

/// Made in one session, and bound in another, as at every start. It counts only once it is written down.
fn make(
    config: &TokenConfig,
    state_dir: &Path,
    name: &KeyName,
    known: Option<&BornKey>,
) -> anyhow::Result<Described> {
    let file = KeyFile::in_dir(state_dir);
    let mut keys = file.require()?;
    let (public_key, new) = match known {
        Some(key) => (key.public_key, false),
        None => {
            let most = token_wire::BORN_MAX;
            anyhow::ensure!(keys.born.len() < most, "a token bears at most {most} keys for coins");
            let mut line = Line::open(config, &Latch::in_dir(state_dir), true)?;
            Carried::bind(&mut line, config, &keys)?;
            let made = line.make_born(name.as_str())?;
            line.close();
            made
        }
    };
    if !keys.born.contains(&public_key) {
        keys.born.push(public_key);
    }
    let described = describe(config, state_dir, &keys, &public_key)?;
    file.write(&keys)?;
    Ok(Described { new, ..described })
}

fn look(
    config: &TokenConfig,
    state_dir: &Path,
    public_key: &PublicKey,
) -> anyhow::Result<Described> {
    describe(config, state_dir, &KeyFile::in_dir(state_dir).require()?, public_key)
}

/// Binds all keys, which looks at their attributes and has them prove themselves, and says what this one is like.
fn describe(
    config: &TokenConfig,
    state_dir: &Path,
    keys: &crate::token::TokenKeys,
    public_key: &PublicKey,
) -> anyhow::Result<Described> {
    let mut line = Line::open(config, &Latch::in_dir(state_dir), false)?;
    Carried::bind(&mut line, config, keys)?;
    let attributes = line.describe(public_key)?;
    let serial = line.info().serial.clone();
    line.close();
    Ok(Described { public_key: *public_key, new: false, serial, attributes })
}
