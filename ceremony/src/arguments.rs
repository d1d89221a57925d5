//! What the `ceremony` command can be asked for. It takes no secret: those come from files or the terminal.

use std::path::PathBuf;

use bundle::{Network, Scheme, Script};
use clap::{Args, Parser, Subcommand};
use slip39::Group;

/// Offline key ceremony: makes an account, backs its seed up, wraps its children for one token.
#[derive(Parser)]
#[command(version)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Make an account, share its seed, wrap its children, write a signed bundle.
    Create(Create),
    /// Verify a bundle to its last byte and show what it holds.
    #[command(visible_alias = "verify")]
    Inspect(Inspect),
    /// Check that a transcript is as its account signed it.
    Transcript {
        /// The transcript.
        file: PathBuf,
    },
    /// Prove that shares give an account, writing nothing.
    Drill(Drill),
    /// Write the account's private descriptor to a file, for Bitcoin Core or another wallet.
    Exit(Exit),
    /// Make the bundle of an account again, from shares alone.
    Restore(Restore),
    /// Wrap more children of an account for the same token.
    Extend(Extend),
    /// Wrap an account's children for another token.
    Reseal(Again),
}

#[derive(Args)]
pub(crate) struct Create {
    #[command(flatten)]
    pub(crate) place: Place,
    #[command(flatten)]
    pub(crate) tier: Tier,
    #[command(flatten)]
    pub(crate) range: Range,
    #[command(flatten)]
    pub(crate) output: Output,
    /// Shares of the seed, as 2of3; several times for several groups. Required on bitcoin.
    #[arg(long, value_name = "TofN", value_parser = group)]
    pub(crate) shares: Vec<Group>,
    /// Groups needed, when there are several.
    #[arg(long, value_name = "N", requires = "shares")]
    pub(crate) group_threshold: Option<u8>,
    /// Ask for a passphrase that encrypts the seed before it is shared.
    #[arg(long, requires = "shares")]
    pub(crate) passphrase: bool,
    /// Read that passphrase from a file's first line instead.
    #[arg(long, value_name = "FILE", requires = "shares", conflicts_with = "passphrase")]
    pub(crate) passphrase_file: Option<PathBuf>,
    /// Write a share to this file (0600), once for each share in order; shown on the terminal when not given.
    #[arg(long, value_name = "FILE", requires = "shares")]
    pub(crate) share_out: Vec<PathBuf>,
    /// Mix in rolls of a die from this file: 100 or more digits 1 to 6.
    #[arg(long, value_name = "FILE", requires = "shares")]
    pub(crate) dice: Option<PathBuf>,
    /// Mix in the bytes of this file: 32 or more.
    #[arg(long, value_name = "FILE", requires = "shares")]
    pub(crate) entropy: Option<PathBuf>,
    /// In a rehearsal, write the system's part of the entropy here, to follow the formula by hand; not on bitcoin.
    #[arg(long, value_name = "FILE", requires = "shares")]
    pub(crate) os_entropy_out: Option<PathBuf>,
}

#[derive(Args)]
pub(crate) struct Inspect {
    /// The bundle.
    pub(crate) file: PathBuf,
    /// The file with the descriptor that it must have.
    #[arg(long, value_name = "FILE")]
    pub(crate) descriptor: Option<PathBuf>,
    /// How many addresses of each branch to show, to be compared with software elsewhere.
    #[arg(long, value_name = "N", default_value_t = 5)]
    pub(crate) addresses: u32,
    /// Where to write the signed transcript; never overwritten. The shares are needed for it: they sign.
    #[arg(long, value_name = "FILE")]
    pub(crate) transcript: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) shares: Shares,
}

#[derive(Args)]
pub(crate) struct Exit {
    #[command(flatten)]
    pub(crate) place: Place,
    #[command(flatten)]
    pub(crate) shares: Shares,
    /// The file with the descriptor that the shares must give.
    #[arg(long, value_name = "FILE")]
    pub(crate) descriptor: PathBuf,
    /// Where to write the private descriptor (0600); never overwritten. Whoever reads it has the coins.
    #[arg(long, value_name = "FILE")]
    pub(crate) out: PathBuf,
    /// Where to write the signed transcript; never overwritten. Required on bitcoin.
    #[arg(long, value_name = "FILE")]
    pub(crate) transcript: Option<PathBuf>,
}

#[derive(Args)]
pub(crate) struct Drill {
    #[command(flatten)]
    pub(crate) place: Place,
    #[command(flatten)]
    pub(crate) shares: Shares,
    /// The file with the descriptor that the shares must give.
    #[arg(long, value_name = "FILE")]
    pub(crate) descriptor: PathBuf,
    /// Where to write the signed transcript, the one thing a drill leaves; never overwritten. Required on bitcoin.
    #[arg(long, value_name = "FILE")]
    pub(crate) transcript: Option<PathBuf>,
}

#[derive(Args)]
pub(crate) struct Restore {
    #[command(flatten)]
    pub(crate) place: Place,
    #[command(flatten)]
    pub(crate) tier: Tier,
    #[command(flatten)]
    pub(crate) range: Range,
    #[command(flatten)]
    pub(crate) output: Output,
    #[command(flatten)]
    pub(crate) shares: Shares,
    /// The file with the descriptor that the shares must give.
    #[arg(long, value_name = "FILE")]
    pub(crate) descriptor: PathBuf,
}

#[derive(Args)]
pub(crate) struct Extend {
    /// The account's bundle so far: it says which account, how many children and for which token, and is compared. Without it
    /// the command line says so, and every child is wrapped anew.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["network", "wallet_account", "script"])]
    pub(crate) bundle: Option<PathBuf>,
    /// Without --bundle: regtest, signet, testnet4 or bitcoin.
    #[arg(long, value_parser = network, required_unless_present = "bundle")]
    pub(crate) network: Option<Network>,
    /// Without --bundle: account number: m/84h/COINh/NUMBERh, and 49h, 44h or 48h by script.
    #[arg(long, value_name = "NUMBER", required_unless_present = "bundle")]
    pub(crate) wallet_account: Option<u32>,
    /// Without --bundle: what its addresses are: wpkh, sh-wpkh, pkh, or wsh-cosigner; wpkh when not given.
    #[arg(long, value_parser = script)]
    pub(crate) script: Option<Script>,
    /// Children on the external branch; with --bundle as many as so far when not given.
    #[arg(long, value_name = "N", required_unless_present = "bundle")]
    pub(crate) external: Option<u32>,
    /// Children on the change branch; with --bundle as many as so far when not given.
    #[arg(long, value_name = "M", required_unless_present = "bundle")]
    pub(crate) change: Option<u32>,
    /// How children are wrapped; as so far with --bundle, else rsa-oaep-sha1 when not given.
    #[arg(long, value_parser = scheme)]
    pub(crate) scheme: Option<Scheme>,
    /// The file with the descriptor that the shares must give.
    #[arg(long, value_name = "FILE")]
    pub(crate) descriptor: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) output: Output,
    #[command(flatten)]
    pub(crate) shares: Shares,
}

#[derive(Args)]
pub(crate) struct Again {
    /// The account's bundle so far.
    #[arg(long, value_name = "FILE")]
    pub(crate) bundle: PathBuf,
    /// Children on the external branch; as many as so far when not given.
    #[arg(long, value_name = "N")]
    pub(crate) external: Option<u32>,
    /// Children on the change branch; as many as so far when not given.
    #[arg(long, value_name = "M")]
    pub(crate) change: Option<u32>,
    /// How children are wrapped from now on; as so far when not given.
    #[arg(long, value_parser = scheme)]
    pub(crate) scheme: Option<Scheme>,
    #[command(flatten)]
    pub(crate) output: Output,
    #[command(flatten)]
    pub(crate) shares: Shares,
}

/// Which account.
#[derive(Args)]
pub(crate) struct Place {
    /// regtest, signet, testnet4 or bitcoin.
    #[arg(long, value_parser = network)]
    pub(crate) network: Network,
    /// Account number: m/84h/COINh/NUMBERh, and 49h, 44h, 86h or 48h by script.
    #[arg(long, value_name = "NUMBER")]
    pub(crate) wallet_account: u32,
    /// What its addresses are: wpkh, sh-wpkh, pkh, tr (taproot, tier sealed-hd alone), or wsh-cosigner for one key of a
    /// P2WSH multisig.
    #[arg(long, value_parser = script, default_value = "wpkh")]
    pub(crate) script: Script,
}

/// How the token holds its keys.
#[derive(Args)]
pub(crate) struct Tier {
    /// token-hd (every child wrapped for the token) or sealed-hd (the account sealed for it).
    #[arg(long, value_parser = ["token-hd", "sealed-hd"], default_value = "token-hd")]
    tier: String,
    /// How children are wrapped: rsa-oaep-sha1, rsa-oaep-sha256, aes-kwp, or (tried on no token yet) rsa-aes-sha1,
    /// rsa-aes-sha256; rsa-oaep-sha1 when not given. Tier token-hd.
    #[arg(long, value_parser = scheme)]
    scheme: Option<Scheme>,
}

impl Tier {
    /// How the bundle holds keys.
    pub(crate) fn scheme(&self) -> Result<Scheme, ceremony::Error> {
        match (self.tier.as_str(), self.scheme) {
            ("sealed-hd", None) => Ok(Scheme::SealedAesGcm),
            ("sealed-hd", Some(_)) => {
                Err(ceremony::Error::Range("a sealed account has one scheme: leave --scheme out"))
            }
            (_, scheme) => Ok(scheme.unwrap_or(Scheme::RsaOaepSha1)),
        }
    }
}

/// Which children.
#[derive(Args)]
pub(crate) struct Range {
    /// Children on the external branch (customers' addresses); tier token-hd.
    #[arg(long, value_name = "N")]
    pub(crate) external: Option<u32>,
    /// Children on the change branch; tier token-hd.
    #[arg(long, value_name = "M")]
    pub(crate) change: Option<u32>,
}

/// For which token, and where to.
#[derive(Args)]
pub(crate) struct Output {
    /// The token's public wrapping key, as `signer wrapping-key` writes it; for sealed-hd its sealing key
    /// (`signer wrapping-key --sealing`), for the scheme aes-kwp its one-time key (`signer kek open`).
    #[arg(long, value_name = "PEM")]
    pub(crate) wrapping_key: PathBuf,
    /// Its fingerprint as the signer's screen shows it; asked for when not given.
    #[arg(long, value_name = "HEX")]
    pub(crate) fingerprint: Option<String>,
    /// The bundle to write; never overwritten.
    #[arg(long, value_name = "FILE")]
    pub(crate) out: PathBuf,
    /// Where to write the key-encryption key of the scheme aes-kwp, encrypted to the one-time key; never overwritten.
    #[arg(long, value_name = "FILE")]
    pub(crate) kek_out: Option<PathBuf>,
    /// Where to write the watch-only descriptor; never overwritten.
    #[arg(long, value_name = "FILE")]
    pub(crate) descriptor_out: Option<PathBuf>,
    /// Where to write the signed transcript of this run; never overwritten. Required on bitcoin.
    #[arg(long, value_name = "FILE")]
    pub(crate) transcript: Option<PathBuf>,
    /// Working threads; all cores when not given.
    #[arg(long)]
    pub(crate) threads: Option<usize>,
}

/// Where the shares come from.
#[derive(Args)]
pub(crate) struct Shares {
    /// A file with a share; once for each. Typed when not given.
    #[arg(long, value_name = "FILE")]
    pub(crate) share: Vec<PathBuf>,
    /// Ask for the passphrase that the shares were made with.
    #[arg(long)]
    pub(crate) passphrase: bool,
    /// Read that passphrase from a file's first line instead.
    #[arg(long, value_name = "FILE", conflicts_with = "passphrase")]
    pub(crate) passphrase_file: Option<PathBuf>,
}

fn network(name: &str) -> Result<Network, String> {
    Network::from_name(name).ok_or_else(|| "use regtest, signet, testnet4 or bitcoin".to_owned())
}

fn script(name: &str) -> Result<Script, String> {
    Script::from_name(name).ok_or_else(|| "use wpkh, sh-wpkh, pkh, tr or wsh-cosigner".to_owned())
}

fn scheme(name: &str) -> Result<Scheme, String> {
    Scheme::from_name(name.as_bytes()).filter(|scheme| !scheme.is_sealed()).ok_or_else(|| {
        "use rsa-oaep-sha1, rsa-oaep-sha256, rsa-aes-sha1, rsa-aes-sha256 or aes-kwp".to_owned()
    })
}

fn group(text: &str) -> Result<Group, String> {
    let parts = text.split_once("of").and_then(|(threshold, count)| {
        Some(Group { threshold: threshold.parse().ok()?, count: count.parse().ok()? })
    });
    parts.ok_or_else(|| "write it as 2of3: shares needed, of shares there are".to_owned())
}
