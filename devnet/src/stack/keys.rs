//! The wallets' keys: a ceremony for those the token signs for, and a cold wallet whose seed is forgotten at once.
//! Never keeps a private key of any of them, but for the shares that the ceremony hands over.

use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr as _;

use anyhow::{Context as _, Result, ensure};
use bitcoin::NetworkKind;
use bitcoin::bip32::{DerivationPath, Xpriv, Xpub};
use bitcoin::secp256k1::Secp256k1;
use miniscript::descriptor::checksum::Engine;

use crate::programs::Programs;

/// How many children the ceremonies make, on each branch.
#[derive(Debug, Clone, Copy)]
pub struct Children {
    /// Customers' addresses.
    pub external: u32,
    /// Change.
    pub change: u32,
}

/// How the token holds the keys of the wallets it signs for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tier {
    /// Children wrapped for it.
    TokenHd,
    /// The same under key-encryption keys.
    TokenHdKwp,
    /// The account sealed for it.
    SealedHd,
}

/// What a wallet's addresses are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Script {
    /// P2WPKH.
    Wpkh,
    /// P2SH-P2WPKH.
    ShWpkh,
    /// P2PKH.
    Pkh,
    /// P2TR by key path; tier sealed-hd alone.
    Tr,
    /// One key of a P2WSH multisig.
    Cosigner,
}

impl Script {
    /// The name on the ceremony's command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Wpkh => "wpkh",
            Self::ShWpkh => "sh-wpkh",
            Self::Pkh => "pkh",
            Self::Tr => "tr",
            Self::Cosigner => "wsh-cosigner",
        }
    }
}

/// What a ceremony is to make.
#[derive(Debug, Clone, Copy)]
pub struct Account<'a> {
    /// The wallet; its files are called so.
    pub wallet: &'a str,
    /// Its number.
    pub number: u32,
    /// How the token holds its keys.
    pub tier: Tier,
    /// What its addresses are.
    pub script: Script,
    /// How many children, where each is wrapped.
    pub children: Children,
}

impl Tier {
    /// The name in the policy.
    pub fn name(self) -> &'static str {
        match self {
            Self::TokenHd | Self::TokenHdKwp => "token-hd",
            Self::SealedHd => "sealed-hd",
        }
    }
}

/// The three wallets' watch-only descriptors.
#[derive(Debug, Clone, Default)]
pub struct Descriptors {
    /// Customers' deposits.
    pub deposits: String,
    /// Payouts are made from it.
    pub hot: String,
    /// Cold storage; nobody has its keys.
    pub cold: String,
}

/// Wraps the children of one account for the token, or seals it, and returns its descriptor; of one key of a multisig,
/// its key expression.
pub(super) fn ceremony(
    programs: &Programs,
    dir: &Path,
    account: &Account<'_>,
    fingerprint: &str,
) -> Result<String> {
    let Account { wallet, number, tier, script, children } = *account;
    let bundle = bundle(dir, wallet);
    let descriptor = dir.join("ceremony").join(format!("{wallet}.descriptor"));
    let (external, change) = (children.external.to_string(), children.change.to_string());
    let mut arguments = vec!["create", "--network=regtest", "--tier", tier.name()];
    arguments.extend(["--script", script.name()]);
    if tier != Tier::SealedHd {
        arguments.extend(["--external", &external, "--change", &change]);
    }
    let kek = kek(dir, wallet);
    if tier == Tier::TokenHdKwp {
        arguments.extend(["--scheme", "aes-kwp", "--kek-out", text(&kek)?]);
    }
    let shares = [1, 2, 3].map(|number| share(dir, wallet, number));
    arguments.push("--shares=2of3");
    for share in &shares {
        arguments.extend(["--share-out", text(share)?]);
    }
    let account = number.to_string();
    let key = dir.join("ceremony").join(match tier {
        Tier::TokenHd | Tier::TokenHdKwp => "wrapping-key.pem",
        Tier::SealedHd => "sealing-key.pem",
    });
    arguments.extend([
        "--wallet-account",
        &account,
        "--wrapping-key",
        text(&key)?,
        "--fingerprint",
        fingerprint,
        "--out",
        text(&bundle)?,
        "--descriptor-out",
        text(&descriptor)?,
    ]);
    programs.run("ceremony", &arguments)?;
    let descriptor = fs::read_to_string(&descriptor)
        .with_context(|| format!("the ceremony left no {}", descriptor.display()))?;
    Ok(descriptor.trim().to_owned())
}

/// Where a wallet's bundle lies.
pub(super) fn bundle(dir: &Path, wallet: &str) -> PathBuf {
    dir.join("ceremony").join(format!("{wallet}.bundle"))
}

/// Where a wallet's key-encryption key lies, encrypted to the one-time key.
pub(super) fn kek(dir: &Path, wallet: &str) -> PathBuf {
    dir.join("ceremony").join(format!("{wallet}.kek"))
}

/// Where one of a wallet's three shares lies.
pub(super) fn share(dir: &Path, wallet: &str, number: u8) -> PathBuf {
    dir.join("ceremony").join(format!("{wallet}.share{number}"))
}

/// A cold wallet whose private keys nobody has: its seed is gone when this returns.
pub fn cold_descriptor() -> Result<String> {
    let mut seed = [0_u8; 32];
    getrandom::fill(&mut seed).map_err(|error| anyhow::anyhow!("no randomness: {error}"))?;
    let secp = Secp256k1::new();
    let master = Xpriv::new_master(NetworkKind::Test, &seed)?;
    seed.fill(0);
    let path = DerivationPath::from_str("m/84h/1h/0h")?;
    let account = Xpub::from_priv(&secp, &master.derive_priv(&secp, &path)?);
    let origin = master.fingerprint(&secp);
    with_checksum(&format!("wpkh([{origin}/84h/1h/0h]{account}/<0;1>/*)"))
}

/// A descriptor with its checksum.
pub fn with_checksum(descriptor: &str) -> Result<String> {
    let mut checksum = Engine::new();
    checksum.input(descriptor)?;
    let checksum = checksum.checksum();
    Ok(format!("{descriptor}#{checksum}"))
}

/// Fills `@name@` places of a template; an unfilled one is an error.
pub(super) fn fill(template: &str, values: &[(&str, &str)]) -> Result<String> {
    let mut filled = template.to_owned();
    for (name, value) in values {
        filled = filled.replace(&format!("@{name}@"), value);
    }
    ensure!(!filled.contains('@'), "a place of the template is not filled:\n{filled}");
    Ok(filled)
}

/// Paths become arguments and lines of TOML, so they must be text without quotes.
pub(super) fn text(path: &Path) -> Result<&str> {
    let text = path.to_str().context("the folder's name is not UTF-8")?;
    ensure!(
        !text.contains(['"', '\\', '@']),
        "the folder's name must not hold quotes, backslashes or @: {text}"
    );
    Ok(text)
}
