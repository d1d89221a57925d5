//! `signer kek`: brings a key-encryption key of the scheme aes-kwp into the token, through a key that exists for this one
//! import. It never sees the key, and never works with the PIN that the service has.
//!
//! Whoever holds the token's PIN while an import is open could take a copy of the key (see docs/hsm.md). So these commands
//! want another PIN than the configuration's: that of a role of the token's own that the service does not have, or, where
//! the token has one PIN, one that people change for the service's afterwards. No signer serves meanwhile.

use std::io::Write;
use std::path::Path;

use anyhow::{Context as _, bail, ensure};
use audit::entry::Event;
use bundle::KekFile;
use sha2::{Digest as _, Sha256};

use crate::config::Config;
use crate::init::fingerprint_lines;
use crate::log::{Clock, Step};
use crate::start;
use crate::token::{KeyFile, Latch, Line, PinDelivery, TokenConfig, pem};

/// Longest file that is read.
const FILE_MAX: usize = 8192;

/// The configuration's token with the PIN of whoever sits here: typed, or from a file of theirs.
///
/// # Errors
/// When the settings have no aes-kwp, or the PIN would be the service's.
pub fn attended(config: &Config, pin_file: Option<&Path>) -> anyhow::Result<TokenConfig> {
    ensure!(
        config.token.socket.is_none(),
        "this signer's workers belong to somebody else: run this with a configuration that names module and label"
    );
    ensure!(
        config.token.wrapping()?.kwp_mechanism.is_some(),
        "the configuration has no aes-kwp in `schemes` under [token]"
    );
    if let (Some(file), Some(services)) = (pin_file, &config.token.pin_file) {
        let [file, services] = [file, services].map(std::fs::canonicalize);
        ensure!(
            !matches!((&file, &services), (Ok(file), Ok(services)) if file == services),
            "this is the service's own PIN file: while a key is imported, nobody but the people who do it may have the token's PIN"
        );
    }
    let pin = pin_file.is_none().then_some(PinDelivery::Prompt);
    Ok(TokenConfig { pin_file: pin_file.map(Path::to_owned), pin, ..config.token.alone() })
}

/// `signer kek open`: makes the one-time key and writes its public half to `out_file`, for a ceremony. From now on no
/// signer serves with this token until the import is ended.
///
/// # Errors
/// When a signer runs, an import is open already, or the token makes no such key.
pub async fn open(config: &Config, out_file: &Path, out: &mut impl Write) -> anyhow::Result<()> {
    ensure!(!out_file.exists(), "{} exists already: choose another name", out_file.display());
    // Holding the log, so that no signer runs meanwhile.
    let token = start::open_token(config, config.token.clone()).await?;
    let log = start::open_log(config, &token, Clock::system()).await?;
    let number = kwp_mechanism(config)?;
    let known = KeyFile::in_dir(&config.state_dir).require()?;
    let opened = at_the_token(config, move |line| line.open_import(&known, number)).await;
    let opened = match opened {
        Ok(spki) => {
            let key: [u8; 32] = Sha256::digest(&spki).into();
            let event = event("opened", Some(key), &token.info().serial);
            log.commit(|_| Step::write(vec![event], ())).await?;
            Ok((spki, key))
        }
        Err(error) => Err(error),
    };
    log.close().await?;
    let (spki, key) = opened?;
    std::fs::write(out_file, pem(&spki))
        .with_context(|| format!("cannot write {}", out_file.display()))?;
    show("fingerprint", &key, out)?;
    writeln!(out, "written to    {}", out_file.display())?;
    writeln!(
        out,
        "\nNo signer serves with this token until `signer kek import` or `signer kek close`. Let nobody else have its PIN."
    )?;
    Ok(())
}

/// `signer kek import`: has the token take the key that a ceremony handed over, proves it, destroys the one-time key, and
/// writes down what the key is known by. Run again, it finds the key there.
///
/// # Errors
/// When the file is none, was made for another one-time key, or the key is not what it must be.
pub async fn import(config: &Config, file: &Path, out: &mut impl Write) -> anyhow::Result<()> {
    let text =
        std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    ensure!(text.len() <= FILE_MAX, "{} is too long for a key", file.display());
    let kek = KekFile::parse(&text).with_context(|| file.display().to_string())?;
    let key_file = KeyFile::in_dir(&config.state_dir);
    let mut keys = key_file.require()?;
    let number = kwp_mechanism(config)?;
    let (imported, known) = (kek.clone(), keys.clone());
    at_the_token(config, move |line| line.import_kek(&imported, &known, number)).await?;
    if !keys.keks.contains(&kek.canary) {
        keys.keks.push(kek.canary.clone());
        key_file.write(&keys)?;
    }
    note(config, "imported", Some(kek.fingerprint())).await?;
    show("kek", &kek.fingerprint(), out)?;
    writeln!(out, "\nThe one-time key is destroyed: {} opens nothing any more.", file.display())?;
    Ok(())
}

/// `signer kek close`: destroys the one-time key without an import.
///
/// # Errors
/// When none is there, or the token does not let it go.
pub async fn close(config: &Config, out: &mut impl Write) -> anyhow::Result<()> {
    if !at_the_token(config, Line::close_import).await? {
        bail!("no import was open");
    }
    note(config, "closed", None).await?;
    writeln!(out, "the one-time key is destroyed")?;
    Ok(())
}

fn kwp_mechanism(config: &Config) -> anyhow::Result<u64> {
    config.token.wrapping()?.kwp_mechanism.context("no aes-kwp in `schemes` under [token]")
}

/// One worker in a session that writes.
async fn at_the_token<T: Send + 'static>(
    config: &Config,
    work: impl FnOnce(&mut Line) -> Result<T, crate::token::TokenError> + Send + 'static,
) -> anyhow::Result<T> {
    let (token, state_dir) = (config.token.clone(), config.state_dir.clone());
    let worked = tokio::task::spawn_blocking(move || -> anyhow::Result<T> {
        let mut line = Line::open(&token, &Latch::in_dir(&state_dir), true)?;
        let done = work(&mut line)?;
        line.close();
        Ok(done)
    });
    worked.await?
}

/// Says in the log what was done.
async fn note(config: &Config, what: &str, key: Option<[u8; 32]>) -> anyhow::Result<()> {
    let token = start::open_token(config, config.token.clone()).await?;
    let log = start::open_log(config, &token, Clock::system()).await?;
    let event = event(what, key, &token.info().serial);
    log.commit(|_| Step::write(vec![event], ())).await?;
    log.close().await?;
    Ok(())
}

fn event(what: &str, key: Option<[u8; 32]>, serial: &str) -> Event {
    Event::KekImport { what: what.to_owned(), key, serial: serial.to_owned() }
}

fn show(name: &str, fingerprint: &[u8; 32], out: &mut impl Write) -> std::io::Result<()> {
    for (line, name) in fingerprint_lines(fingerprint).iter().zip([name, "", "", ""]) {
        writeln!(out, "{name:<13} {line}")?;
    }
    Ok(())
}
