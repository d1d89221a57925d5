//! `signer kek`: brings a key-encryption key of the scheme aes-kwp into the token, through a key that exists for this one
//! import. It never sees the key, never works with the PIN that the service has, and never touches the token before the
//! log says what is about to be done.
//!
//! Whoever holds the token's PIN while an import is open could take a copy of the key (see docs/hsm.md). So these commands
//! want another PIN than the configuration's: that of a role of the token's own that the service does not have, or, where
//! the token has one PIN, one that people change for the service's afterwards. No signer serves meanwhile.

use std::io::{BufRead as _, IsTerminal as _, Read as _, Write};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, bail, ensure};
use audit::entry::Event;
use bundle::{KekFile, Scheme};
use policy::names::WalletName;
use sha2::{Digest as _, Sha256};
use statement::{Deed, Task};

use crate::administer::by_quorum;
use crate::config::Config;
use crate::init::fingerprint_lines;
use crate::ledger::{KekStep, Ledger};
use crate::log::{Clock, Log, Step};
use crate::records::{Records, bundle_path};
use crate::start;
use crate::token::{
    KeyFile, Latch, Line, PinDelivery, Token, TokenConfig, TokenError, TokenKeys, pem,
};

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
        ensure!(
            !is_same_file(file, services),
            "this is the service's own PIN file: while a key is imported, nobody but the people who do it may have the token's PIN"
        );
    }
    let pin = pin_file.is_none().then_some(PinDelivery::Prompt);
    let pin_file = pin_file.map(Path::to_owned);
    Ok(TokenConfig { pin_file, pin, attending: true, ..config.token.alone() })
}

/// Whether both names lead to one file, by whatever links.
fn is_same_file(one: &Path, other: &Path) -> bool {
    let place = |path: &Path| std::fs::metadata(path).map(|meta| (meta.dev(), meta.ino()));
    matches!((place(one), place(other)), (Ok(one), Ok(other)) if one == other)
}

/// `signer kek open`: makes the one-time key and writes its public half to `out_file`, for a ceremony. From now on no
/// signer serves with this token until the import is ended.
///
/// # Errors
/// When a signer runs, an import is open already, or the token makes no such key.
pub async fn open(
    config: &Config,
    out_file: &Path,
    statements: &[PathBuf],
    out: &mut impl Write,
) -> anyhow::Result<()> {
    ensure!(!out_file.exists(), "{} exists already: choose another name", out_file.display());
    let (number, known) = (kwp_mechanism(config)?, known(config)?);
    let desk = Desk::open_by(config, Deed::OpenKek, statements).await?;
    let opened = desk
        .at_the_token(
            [KekStep::Opening, KekStep::Opened],
            None,
            move |line| line.open_import(&known, number),
            |spki| Ok(Some(Sha256::digest(spki).into())),
        )
        .await;
    desk.close().await?;
    let spki = opened?;
    std::fs::write(out_file, pem(&spki))
        .with_context(|| format!("cannot write {}", out_file.display()))?;
    show("fingerprint", &Sha256::digest(&spki).into(), out)?;
    writeln!(out, "written to    {}", out_file.display())?;
    writeln!(
        out,
        "\nNo signer serves with this token until `signer kek import` or `signer kek close`. Let nobody else have its PIN."
    )?;
    Ok(())
}

/// `signer kek import`: once people compared the key's fingerprint with the ceremony's, has the token take the key, proves
/// it, destroys the one-time key, and writes down what the key is known by. Run again, it finds the key there.
///
/// # Errors
/// When the file is none, or another than was compared, was made for another one-time key, or the key is not what it must
/// be.
pub async fn import(
    config: &Config,
    file: &Path,
    compared: Option<&str>,
    statements: &[PathBuf],
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let text =
        std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    ensure!(text.len() <= FILE_MAX, "{} is too long for a key", file.display());
    let kek = KekFile::parse(&text).with_context(|| file.display().to_string())?;
    let fingerprint = kek.fingerprint();
    show("kek", &fingerprint, out)?;
    let compared = compared.map_or_else(|| typed(out), |given| Ok(given.to_owned()))?;
    compare(&fingerprint, &compared)?;
    let (number, mut keys) = (kwp_mechanism(config)?, known(config)?);
    let desk = Desk::open_by(config, Deed::ImportKek(fingerprint), statements).await?;
    let (imported, known) = (kek.clone(), keys.clone());
    let work = move |line: &mut Line| line.import_kek(&imported, &known, number);
    // Written down before the log says that it was imported: a start without that entry asks for this command again.
    let write_down = |_: &()| {
        if !keys.keks.contains(&kek.canary) {
            keys.keks.push(kek.canary.clone());
            keys.forgotten_keks.retain(|canary| *canary != kek.canary);
            KeyFile::in_dir(&config.state_dir).write(&keys)?;
        }
        Ok(Some(fingerprint))
    };
    let steps = [KekStep::Importing, KekStep::Imported];
    let done = desk.at_the_token(steps, Some(fingerprint), work, write_down).await;
    desk.close().await?;
    done?;
    writeln!(out, "\nThe one-time key is destroyed: {} opens nothing any more.", file.display())?;
    Ok(())
}

/// `signer kek close`: destroys the one-time key without an import.
///
/// # Errors
/// When none is there, or the token does not let it go.
pub async fn close(config: &Config, out: &mut impl Write) -> anyhow::Result<()> {
    let desk = Desk::open(config).await?;
    let steps = [KekStep::Closing, KekStep::Closed];
    let closed = desk.at_the_token(steps, None, Line::close_import, |_| Ok(None)).await;
    desk.close().await?;
    if !closed? {
        bail!("no import was open");
    }
    writeln!(out, "the one-time key is destroyed")?;
    Ok(())
}

/// `signer kek forget`: a key that no wallet's bundle is under is not needed any more, so that a signer starts also when the
/// token does not hold it, or holds it twice. Where it is there it must still be as it must be.
///
/// # Errors
/// When it is not written down, or a bundle is under it.
pub async fn forget(
    config: &Config,
    kek: &str,
    statements: &[PathBuf],
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let mut keys = known(config)?;
    let named = |canary: &Vec<u8>| compare(&bundle::kek::fingerprint(canary), kek);
    let at = keys.keks.iter().position(|canary| named(canary).is_ok());
    let canary = at.map(|at| keys.keks.remove(at)).context("no such key is written down")?;
    let key = bundle::kek::fingerprint(&canary);
    keys.forgotten_keks.push(canary);
    let desk = Desk::open_by(config, Deed::ForgetKek(key), statements).await?;
    let done = match desk.user_of(&key) {
        Ok(None) => {
            let written = KeyFile::in_dir(&config.state_dir).write(&keys);
            match written {
                Ok(()) => desk.note(KekStep::Forgotten, Some(key)).await,
                Err(error) => Err(error.into()),
            }
        }
        Ok(Some(wallet)) => Err(anyhow::anyhow!(
            "the children of wallet \"{wallet}\" are wrapped under it: replace its bundle first"
        )),
        Err(error) => Err(error),
    };
    desk.close().await?;
    done?;
    writeln!(out, "no signer asks for it any more")?;
    Ok(())
}

/// The log, held so that no signer runs, and a token that signs its checkpoints and nothing else.
struct Desk<'a> {
    config: &'a Config,
    token: Arc<Token>,
    log: Log<Ledger>,
}

impl<'a> Desk<'a> {
    async fn open(config: &'a Config) -> anyhow::Result<Self> {
        let token = start::open_token(config, config.token.clone()).await?;
        let log = start::open_log(config, &token, Clock::system()).await?;
        Ok(Self { config, token, log })
    }

    /// The same, once officers let this be done, where the policy in force asks them.
    async fn open_by(
        config: &'a Config,
        deed: Deed,
        statements: &[PathBuf],
    ) -> anyhow::Result<Self> {
        let desk = Self::open(config).await?;
        let task = Task { deed, token: desk.token.info().serial };
        let asked = by_quorum(&desk.log, config, &Clock::system(), &task, statements).await;
        if let Err(error) = asked {
            desk.close().await?;
            return Err(error);
        }
        Ok(desk)
    }

    async fn close(self) -> anyhow::Result<()> {
        Ok(self.log.close().await?)
    }

    /// The wallet whose bundle is under this key, if one is.
    fn user_of(&self, key: &[u8; 32]) -> anyhow::Result<Option<WalletName>> {
        let imported: Vec<(WalletName, [u8; 32])> = self.log.read(|ledger| {
            let bundled =
                ledger.imports().iter().filter(|(_, imported)| imported.born().is_empty());
            bundled.map(|(name, imported)| (name.clone(), imported.bundle)).collect()
        });
        for (wallet, bundle) in imported {
            let records = Records::open(&bundle_path(&self.config.state_dir, bundle), bundle)?;
            let fields = records.header().fields();
            if fields.kind.scheme == Scheme::AesKwp && fields.wrapping == *key {
                return Ok(Some(wallet));
            }
        }
        Ok(None)
    }

    /// Says what is about to be done, does it in a session that writes, and says that it was done, or that it failed.
    /// `then` follows the token's word, and names the key.
    async fn at_the_token<T: Send + 'static>(
        &self,
        [before, after]: [KekStep; 2],
        key: Option<[u8; 32]>,
        work: impl FnOnce(&mut Line) -> Result<T, TokenError> + Send + 'static,
        then: impl FnOnce(&T) -> anyhow::Result<Option<[u8; 32]>>,
    ) -> anyhow::Result<T> {
        self.note(before, key).await?;
        let (token, state_dir) = (self.config.token.clone(), self.config.state_dir.clone());
        let worked = tokio::task::spawn_blocking(move || -> anyhow::Result<T> {
            let mut line = Line::open(&token, &Latch::in_dir(&state_dir), true)?;
            let done = work(&mut line)?;
            line.close();
            Ok(done)
        });
        let done = worked.await?.and_then(|done| then(&done).map(|key| (done, key)));
        match done {
            Ok((done, key)) => self.note(after, key).await.map(|()| done),
            Err(error) => {
                self.note(KekStep::Failed, key).await?;
                Err(error)
            }
        }
    }

    async fn note(&self, step: KekStep, key: Option<[u8; 32]>) -> anyhow::Result<()> {
        let serial = self.token.info().serial;
        let event = Event::KekImport { what: step.as_str().to_owned(), key, serial };
        self.log.commit(|_| Step::write(vec![event], ())).await?;
        Ok(())
    }
}

/// The fingerprint that a person reads from the ceremony's screen.
fn typed(out: &mut impl Write) -> anyhow::Result<String> {
    ensure!(
        std::io::stdin().is_terminal(),
        "nobody is here to compare it: give --kek as the ceremony's screen shows it"
    );
    write!(out, "Type the fingerprint (`kek`) that the ceremony showed: ")?;
    out.flush()?;
    let mut typed = String::new();
    std::io::stdin().lock().take(1024).read_line(&mut typed)?;
    Ok(typed)
}

/// Whether it is this key's, whole (hex; spaces, colons and case do not matter).
fn compare(fingerprint: &[u8; 32], typed: &str) -> anyhow::Result<()> {
    let typed: String = typed.chars().filter(|c| !c.is_whitespace() && *c != ':').collect();
    ensure!(
        typed.eq_ignore_ascii_case(&hex::encode(fingerprint)),
        "this is another key than the one that was compared: nothing was done, and the one-time key is still there for the right file"
    );
    Ok(())
}

fn kwp_mechanism(config: &Config) -> anyhow::Result<u64> {
    config.token.wrapping()?.kwp_mechanism.context("no aes-kwp in `schemes` under [token]")
}

fn known(config: &Config) -> anyhow::Result<TokenKeys> {
    Ok(KeyFile::in_dir(&config.state_dir).require()?)
}

fn show(name: &str, fingerprint: &[u8; 32], out: &mut impl Write) -> std::io::Result<()> {
    for (line, name) in fingerprint_lines(fingerprint).iter().zip([name, "", "", ""]) {
        writeln!(out, "{name:<13} {line}")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_whole_fingerprint_is_the_key() {
        let key = [0xab; 32];
        for typed in ["ab".repeat(32), "ABAB abab ".repeat(8), "ab:".repeat(32)] {
            compare(&key, &typed).unwrap();
        }
        for typed in [String::new(), "ab".repeat(31), "ab".repeat(33), "ac".repeat(32)] {
            assert!(compare(&key, &typed).is_err(), "{typed}");
        }
    }

    #[test]
    fn a_file_is_itself_by_every_name() {
        let dir = tempfile::tempdir().unwrap();
        let [pin, link, soft, copy] =
            ["pin", "link", "soft", "copy"].map(|name| dir.path().join(name));
        std::fs::write(&pin, "1234").unwrap();
        std::fs::hard_link(&pin, &link).unwrap();
        std::os::unix::fs::symlink(&pin, &soft).unwrap();
        std::fs::copy(&pin, &copy).unwrap();
        assert!(is_same_file(&pin, &pin) && is_same_file(&link, &pin) && is_same_file(&soft, &pin));
        assert!(!is_same_file(&copy, &pin) && !is_same_file(&dir.path().join("none"), &pin));
    }
}
