//! Ed25519 key files: a name and a seed, readable by their owner alone. They are never overwritten, and a seed
//! is never printed.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};
use ed25519_dalek::{Signer as _, SigningKey};
use policy::names::KeyName;
use zeroize::Zeroizing;

use crate::{passphrase, sealed};

const FIRST_LINE: &str = "cofferdam-ed25519-key-v1";
/// Of a file whose seed is sealed by a passphrase.
const SEALED_FIRST_LINE: &str = "cofferdam-ed25519-key-v2";

/// A key that was read from its file.
pub struct Key {
    name: Option<KeyName>,
    signing: SigningKey,
}

/// Makes a key file, its seed sealed by a passphrase if there is one, and returns the public half.
///
/// # Errors
/// When the file exists, or cannot be written.
pub fn generate(path: &Path, name: Option<&str>, passphrase: Option<&str>) -> Result<[u8; 32]> {
    let name = name.map(KeyName::parse).transpose()?;
    let mut seed = Zeroizing::new([0_u8; 32]);
    fill(seed.as_mut_slice())?;
    let public = SigningKey::from_bytes(&seed).verifying_key().to_bytes();
    let mut text = Zeroizing::new(String::with_capacity(512));
    let name = name.map_or(String::new(), |name| format!("name: {name}\n"));
    let beside = format!("{name}public: {}\n", hex::encode(public));
    match passphrase {
        None => {
            text.push_str(&format!("{FIRST_LINE}\n{beside}seed: "));
            text.push_str(&Zeroizing::new(hex::encode(seed.as_slice())));
            text.push('\n');
        }
        Some(passphrase) => {
            let sealed = sealed::seal(&seed, passphrase, &beside)?;
            text.push_str(&format!("{SEALED_FIRST_LINE}\n{beside}{sealed}"));
        }
    }
    let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    let mut file = made.with_context(|| {
        format!("cannot make {} (a key file is never overwritten)", path.display())
    })?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    Ok(public)
}

impl Key {
    /// Reads a key file that only its owner can read; a sealed one asks for its passphrase on the terminal.
    ///
    /// # Errors
    /// When others can read it, or it is no key file.
    pub fn load(path: &Path) -> Result<Self> {
        Self::open(path, None)
    }

    /// The same, with the passphrase out of a file if one is named.
    ///
    /// # Errors
    /// As [`load`](Self::load), and when the passphrase is another.
    pub fn open(path: &Path, passphrase_file: Option<&Path>) -> Result<Self> {
        let shown = path.display();
        let meta = fs::metadata(path).with_context(|| format!("cannot read {shown}"))?;
        ensure!(
            meta.permissions().mode() & 0o077 == 0,
            "others can read {shown}: if nobody did, run `chmod 600 {shown}`; if somebody may have, make a new key"
        );
        ensure!(meta.len() < 4096, "{shown} is too long for a key file");
        let text = Zeroizing::new(
            fs::read_to_string(path).with_context(|| format!("cannot read {shown}"))?,
        );
        let passphrase = || passphrase::get(passphrase_file, &format!("passphrase of {shown}"));
        Self::parse(&text, passphrase).with_context(|| {
            format!("{shown} is not a key file of `officer keygen`, or does not open")
        })
    }

    fn parse(text: &str, passphrase: impl FnOnce() -> Result<Zeroizing<String>>) -> Result<Self> {
        let (first, rest) = text.split_once('\n').unwrap_or((text, ""));
        let is_sealed = first == SEALED_FIRST_LINE;
        ensure!(first == FIRST_LINE || is_sealed, "its first line is not {FIRST_LINE}");
        let (mut name, mut public, mut signing) = (None, None, None);
        let (mut beside, mut argon2id, mut passphrase) = (String::new(), None, Some(passphrase));
        for line in rest.lines() {
            if is_sealed && (line.starts_with("name: ") || line.starts_with("public: ")) {
                beside.push_str(line);
                beside.push('\n');
            }
            match line.split_once(": ") {
                Some(("name", text)) => name = Some(KeyName::parse(text)?),
                Some(("public", text)) => public = Some(public_key(text)?),
                Some(("argon2id", text)) if is_sealed => argon2id = Some(text),
                Some(("sealed", text)) if is_sealed => {
                    let argon2id = argon2id.context("it has no argon2id line")?;
                    let ask = passphrase.take().context("it is sealed twice")?;
                    let seed = sealed::open(argon2id, text, &ask()?, &beside)?;
                    signing = Some(SigningKey::from_bytes(&seed));
                }
                Some(("seed", text)) if !is_sealed => {
                    let mut seed = Zeroizing::new([0_u8; 32]);
                    ensure!(
                        hex::decode_to_slice(text, seed.as_mut_slice()).is_ok(),
                        "the seed is not 64 hex digits"
                    );
                    signing = Some(SigningKey::from_bytes(&seed));
                }
                _ => bail!("it has a line that does not belong there"),
            }
        }
        let signing: SigningKey = signing.context("it has no seed")?;
        let same = public.is_none_or(|public| public == signing.verifying_key().to_bytes());
        ensure!(same, "its public key and its seed do not belong together");
        Ok(Self { name, signing })
    }

    /// The name it was made for.
    #[must_use]
    pub fn name(&self) -> Option<&KeyName> {
        self.name.as_ref()
    }

    /// The public half.
    #[must_use]
    pub fn public(&self) -> [u8; 32] {
        self.signing.verifying_key().to_bytes()
    }

    /// Signs.
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.signing.sign(message).to_bytes()
    }

    /// The key for callers that sign typed things.
    pub(crate) fn signing(&self) -> &SigningKey {
        &self.signing
    }

    /// The name that was asked for, or the one in the file.
    pub(crate) fn named(&self, asked: Option<&str>) -> Result<KeyName> {
        match (asked, &self.name) {
            (Some(asked), _) => Ok(KeyName::parse(asked)?),
            (None, Some(name)) => Ok(name.clone()),
            (None, None) => bail!("the key file has no name: say it with --name"),
        }
    }
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Key({})", hex::encode(self.public()))
    }
}

/// A raw Ed25519 public key from hex.
///
/// # Errors
/// When it is not 32 bytes of hex or not a point of the curve.
pub fn public_key(text: &str) -> Result<[u8; 32]> {
    let mut key = [0; 32];
    let read = hex::decode_to_slice(text.trim(), &mut key);
    ensure!(read.is_ok(), "a public key is 64 hex digits, not \"{}\"", text.escape_debug());
    let point = ed25519_dalek::VerifyingKey::from_bytes(&key);
    ensure!(point.is_ok_and(|point| !point.is_weak()), "{text} is not an Ed25519 public key");
    Ok(key)
}

/// Randomness of the operating system.
pub(crate) fn fill(bytes: &mut [u8]) -> Result<()> {
    getrandom::fill(bytes)
        .map_err(|error| anyhow::anyhow!("the operating system gave no randomness: {error}"))
}
