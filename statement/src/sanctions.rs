//! A list of whom nobody may pay and what nobody may spend, signed by who made it: one address, script or coin a line. It
//! never reads an address, and never says whether the list counts.
//!
//! ```text
//! cofferdam-sanctions-v1
//! network: bip122:0f9188f13cb7b2c71f2a335e3a4fc328
//! by: compliance
//! made: 1767225600
//! address bc1q...
//! script 0014...
//! coin <txid>:<vout>
//! signature: <Ed25519 over all lines before>
//! ```

use alloc::format;
use alloc::string::{String, ToString as _};
use alloc::vec::Vec;

use policy::intent::SlotId;
use policy::names::KeyName;
use policy::people::OfficerKey;
use sha2::{Digest as _, Sha256};

use crate::lines::{LineError, Lines, hex, number, visible};
use crate::said::{SIGNATURE, StatementError, parse_coin};

/// No list is longer.
pub const SANCTIONS_BYTES_MAX: usize = 16 << 20;
const FIRST_LINE: &str = "cofferdam-sanctions-v1";
const HEAD_LINES: usize = 4;

/// A list whose signature holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sanctions {
    /// CAIP-2 chain id.
    pub network: String,
    /// Who made it, by the name that the policy has.
    pub by: KeyName,
    /// When, Unix seconds.
    pub made_unix: u64,
    /// Who and what is on it.
    pub entries: Vec<Listed>,
    /// SHA-256 of the file.
    pub digest: [u8; 32],
}

/// One line of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Listed {
    /// An address, not read yet.
    Address(String),
    /// A script (scriptPubKey).
    Script(Vec<u8>),
    /// One coin.
    Coin(SlotId),
}

/// The lines before the signature.
#[must_use]
pub fn text(network: &str, by: &KeyName, made_unix: u64, entries: &[Listed]) -> String {
    let mut text = format!("{FIRST_LINE}\nnetwork: {network}\nby: {by}\nmade: {made_unix}\n");
    for entry in entries {
        text.push_str(&match entry {
            Listed::Address(address) => format!("address {address}\n"),
            Listed::Script(script) => format!("script {}\n", hex::encode(script)),
            Listed::Coin(coin) => format!("coin {coin}\n"),
        });
    }
    text
}

/// The file: the lines, and the signature over them.
#[must_use]
pub fn to_file(text: &str, signature: &[u8; 64]) -> String {
    format!("{text}{SIGNATURE}{}\n", hex::encode(signature))
}

/// Whose list a file says it is: nothing of it may be believed before [`verify`].
///
/// # Errors
/// [`StatementError`] when it does not begin like a list.
pub fn claimed(file: &str) -> Result<KeyName, StatementError> {
    let mut lines = Lines::of(file, FIRST_LINE)?;
    lines.read("network", |text| visible(text, 64))?;
    Ok(lines.read("by", KeyName::parse)?)
}

/// Checks the signature, then reads every line.
///
/// # Errors
/// [`StatementError`] saying what was wrong, with its line.
pub fn verify(file: &str, key: &[u8; 32]) -> Result<Sanctions, StatementError> {
    if file.len() > SANCTIONS_BYTES_MAX {
        return Err(StatementError::TooLong(file.len()));
    }
    let none = || StatementError::NoSignature;
    let lines = file.strip_suffix('\n').ok_or_else(none)?;
    let (before, last) = lines.rsplit_once('\n').ok_or_else(none)?;
    let signature = last.strip_prefix(SIGNATURE).ok_or_else(none)?;
    let signature: [u8; 64] = hex(signature).map_err(|_| none())?;
    let signed = file.get(..before.len().saturating_add(1)).ok_or_else(none)?;
    if !OfficerKey::Ed25519(*key).verifies(signed.as_bytes(), &signature) {
        return Err(StatementError::Signature);
    }
    let mut head = Lines::of(before, FIRST_LINE)?;
    let network = head.read("network", |text| visible(text, 64))?;
    let by = head.read("by", KeyName::parse)?;
    let made_unix = head.read("made", number)?;
    let rest = before.split('\n').enumerate().skip(HEAD_LINES);
    let entry = |(number, line): (usize, &str)| {
        listed(line).map_err(|reason| LineError { line: number.saturating_add(1), reason })
    };
    let entries = rest.map(entry).collect::<Result<Vec<_>, _>>()?;
    Ok(Sanctions { network, by, made_unix, entries, digest: Sha256::digest(file).into() })
}

/// Reads one line of a list.
///
/// # Errors
/// A sentence for people.
pub fn listed(line: &str) -> Result<Listed, String> {
    let wrong = || "must be \"address ...\", \"script ...\" or \"coin TXID:VOUT\"".to_string();
    match line.split_once(' ').ok_or_else(wrong)? {
        ("address", address) => visible(address, 100).map(Listed::Address),
        ("script", script) => {
            let lower = script.bytes().all(|b| !b.is_ascii_uppercase()) && !script.is_empty();
            let script = hex::decode(script).ok().filter(|_| lower);
            script.map(Listed::Script).ok_or_else(|| "a script is lower-case hex".to_string())
        }
        ("coin", coin) => parse_coin(coin).map(Listed::Coin),
        _ => Err(wrong()),
    }
}
