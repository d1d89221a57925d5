//! Officers' keys, Ed25519 or P-256: in a file with a name and a seed, readable by its owner alone, or in a token. A file is
//! never overwritten, and a seed is never printed.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};
use ed25519_dalek::{Signer as _, SigningKey};
use policy::names::KeyName;
use policy::people::OfficerKey;
use zeroize::Zeroizing;

use crate::pair::Pair;
use crate::token::{self, TokenKey};
use crate::{passphrase, sealed};

/// What a key is for signing with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Ed25519.
    Ed25519,
    /// ECDSA on P-256, over SHA-256.
    P256,
}

impl Kind {
    const ALL: [Self; 2] = [Self::Ed25519, Self::P256];

    /// As people write it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Ed25519 => "Ed25519",
            Self::P256 => "P-256",
        }
    }

    /// First line of a file; another one when its seed is sealed by a passphrase.
    fn first_line(self, is_sealed: bool) -> &'static str {
        match (self, is_sealed) {
            (Self::Ed25519, false) => "cofferdam-ed25519-key-v1",
            (Self::Ed25519, true) => "cofferdam-ed25519-key-v2",
            (Self::P256, false) => "cofferdam-p256-key-v1",
            (Self::P256, true) => "cofferdam-p256-key-v2",
        }
    }
}

/// A key that was read from its file, or found in its token.
pub struct Key {
    name: Option<KeyName>,
    secret: Secret,
}

enum Secret {
    Ed25519(Box<SigningKey>),
    P256(Box<Pair>),
    Token(TokenKey),
}

/// Makes a key file, its seed sealed by a passphrase if there is one, and returns the public half.
///
/// # Errors
/// When the file exists, or cannot be written.
pub fn generate(
    path: &Path,
    kind: Kind,
    name: Option<&str>,
    passphrase: Option<&str>,
) -> Result<OfficerKey> {
    let name = name.map(KeyName::parse).transpose()?;
    let (seed, public) = match kind {
        Kind::Ed25519 => {
            let mut seed = Zeroizing::new([0_u8; 32]);
            fill(seed.as_mut_slice())?;
            let public = SigningKey::from_bytes(&seed).verifying_key().to_bytes();
            (seed, OfficerKey::Ed25519(public))
        }
        Kind::P256 => Pair::generate()?,
    };
    let mut text = Zeroizing::new(String::with_capacity(512));
    let name = name.map_or(String::new(), |name| format!("name: {name}\n"));
    let beside = format!("{name}public: {}\n", public.to_hex());
    let first = kind.first_line(passphrase.is_some());
    match passphrase {
        None => {
            text.push_str(&format!("{first}\n{beside}seed: "));
            text.push_str(&Zeroizing::new(hex::encode(seed.as_slice())));
            text.push('\n');
        }
        Some(passphrase) => {
            let sealed = sealed::seal(&seed, passphrase, &beside)?;
            text.push_str(&format!("{first}\n{beside}{sealed}"));
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

/// Makes a key in the token that a `pkcs11:` URI names, and returns the public half.
///
/// # Errors
/// Whatever the token says, and when it has a key of that label.
pub(crate) fn generate_in_token(uri: &str, kind: Kind) -> Result<OfficerKey> {
    let place = token::Place::parse(uri)?;
    KeyName::parse(&place.object).context("object=… is the officer's name in the policy")?;
    Ok(TokenKey::make(&place, kind)?.public())
}

impl Key {
    /// Reads a key file that only its owner can read, or finds the key that a `pkcs11:` URI names; passphrase and PIN are
    /// asked for on the terminal.
    ///
    /// # Errors
    /// When others can read it, or it is no key file; whatever a token says.
    pub fn load(path: &Path) -> Result<Self> {
        Self::open(path, None)
    }

    /// The same, with the passphrase out of a file if one is named.
    ///
    /// # Errors
    /// As [`load`](Self::load), and when the passphrase is another.
    pub fn open(path: &Path, passphrase_file: Option<&Path>) -> Result<Self> {
        if let Some(uri) = path.to_str().filter(|_| token::is_place(path)) {
            ensure!(
                passphrase_file.is_none(),
                "a token's PIN comes from the URI's pin-source, or is typed: it has no passphrase"
            );
            return Self::in_token(uri);
        }
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
        let kinds = Kind::ALL.into_iter().flat_map(|kind| [(kind, false), (kind, true)]);
        let mut kinds = kinds.filter(|(kind, is_sealed)| kind.first_line(*is_sealed) == first);
        let (kind, is_sealed) = kinds.next().context("its first line is not that of a key file")?;
        let (mut name, mut public, mut seed) = (None, None, None);
        let (mut beside, mut argon2id, mut passphrase) = (String::new(), None, Some(passphrase));
        for line in rest.lines() {
            if is_sealed && (line.starts_with("name: ") || line.starts_with("public: ")) {
                beside.push_str(line);
                beside.push('\n');
            }
            match line.split_once(": ") {
                // What stands there is not repeated: where lines were mixed up it is the seed.
                Some(("name", text)) => {
                    name = Some(KeyName::parse(text).ok().context("its name is none")?);
                }
                Some(("public", text)) => {
                    public = Some(OfficerKey::parse(text).ok().context("its public key is none")?);
                }
                Some(("argon2id", text)) if is_sealed => argon2id = Some(text),
                Some(("sealed", text)) if is_sealed => {
                    let argon2id = argon2id.context("it has no argon2id line")?;
                    let ask = passphrase.take().context("it is sealed twice")?;
                    seed = Some(sealed::open(argon2id, text, &ask()?, &beside)?);
                }
                Some(("seed", text)) if !is_sealed => {
                    let mut bytes = Zeroizing::new([0_u8; 32]);
                    ensure!(
                        hex::decode_to_slice(text, bytes.as_mut_slice()).is_ok(),
                        "the seed is not 64 hex digits"
                    );
                    seed = Some(bytes);
                }
                _ => bail!("it has a line that does not belong there"),
            }
        }
        let seed = seed.context("it has no seed")?;
        let secret = match (kind, public) {
            (Kind::Ed25519, _) => Secret::Ed25519(Box::new(SigningKey::from_bytes(&seed))),
            (Kind::P256, Some(OfficerKey::P256(point))) => {
                Secret::P256(Box::new(Pair::new(&seed, point)?))
            }
            (Kind::P256, _) => bail!("it has no P-256 public key"),
        };
        let key = Self { name, secret };
        let same = public.is_none_or(|public| public == key.public());
        ensure!(same, "its public key and its seed do not belong together");
        Ok(key)
    }

    /// The key that a `pkcs11:` URI names; its label is the officer's name, if it can be one.
    fn in_token(uri: &str) -> Result<Self> {
        let place = token::Place::parse(uri)?;
        let secret = Secret::Token(TokenKey::open(&place)?);
        Ok(Self { name: KeyName::parse(&place.object).ok(), secret })
    }

    /// The name it was made for.
    #[must_use]
    pub fn name(&self) -> Option<&KeyName> {
        self.name.as_ref()
    }

    /// The public half.
    #[must_use]
    pub fn public(&self) -> OfficerKey {
        match &self.secret {
            Secret::Ed25519(signing) => OfficerKey::Ed25519(signing.verifying_key().to_bytes()),
            Secret::P256(pair) => pair.public(),
            Secret::Token(key) => key.public(),
        }
    }

    /// Signs.
    ///
    /// # Errors
    /// What a token says instead.
    pub fn sign(&self, message: &[u8]) -> Result<[u8; 64]> {
        match &self.secret {
            Secret::Ed25519(signing) => Ok(signing.sign(message).to_bytes()),
            Secret::P256(pair) => pair.sign(message),
            Secret::Token(key) => key.sign(message),
        }
    }

    /// The key for what Ed25519 keys in files alone sign: orders, witnesses' lines, and facts.
    ///
    /// # Errors
    /// When it is another kind, or in a token.
    pub(crate) fn into_ed25519(self) -> Result<SigningKey> {
        match self.secret {
            Secret::Ed25519(signing) => Ok(*signing),
            Secret::P256(_) | Secret::Token(_) => {
                bail!(
                    "orders, checkpoints, sanctions lists and stated facts are signed by Ed25519 keys in files alone"
                )
            }
        }
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
        write!(f, "Key({})", self.public())
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
