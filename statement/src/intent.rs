//! The canonical intent: everything a request that waits would do, in lines that people can read and machines can write
//! again. The signer writes it, an officer's program writes it anew from the transaction's own bytes, and the two must be
//! the same to the byte. It never holds what cannot be told from transaction, parents, orders and policy.

use alloc::format;
use alloc::string::{String, ToString as _};
use alloc::vec::Vec;

use policy::intent::RequestId;
use policy::names::{ClientName, KeyName, LaneName, OrderId, WalletName};
use sha2::{Digest as _, Sha256};

use crate::lines::{LineError, Lines, hex, number, visible, word};
use crate::said::PolicyRef;

/// No canonical intent is longer: that is more inputs and outputs than a person looks through.
pub const PAPER_BYTES_MAX: usize = 256 << 10;
/// No label is longer, in bytes.
pub const LABEL_BYTES_MAX: usize = 64;

const FIRST_LINE: &str = "cofferdam-intent-v1";
/// In place of what is not there.
const NONE: &str = "-";

/// A canonical intent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Paper {
    /// CAIP-2 chain id.
    pub network: String,
    /// The request.
    pub request: RequestId,
    /// Who asks.
    pub client: ClientName,
    /// On which lane.
    pub lane: LaneName,
    /// Whose coins are spent.
    pub wallet: WalletName,
    /// Where that wallet's keys are, e.g. `token-hd`.
    pub tier: String,
    /// SHA-256 over the unsigned transaction's consensus encoding.
    pub transaction: [u8; 32],
    /// Every input, in order.
    pub inputs: Vec<Input>,
    /// Every output, in order.
    pub outputs: Vec<Output>,
    /// Inputs less outputs, in base units.
    pub fee: u128,
    /// Every order that it pays, in the order of the request.
    pub orders: Vec<Ordered>,
    /// The policy it waits under.
    pub policy: PolicyRef,
    /// Since when it waits, Unix seconds.
    pub asked_unix: u64,
    /// Until when, Unix seconds.
    pub expires_unix: u64,
}

/// A coin that is spent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Input {
    /// `txid:vout`.
    pub coin: String,
    /// Base units.
    pub amount: u128,
}

/// Where coins go.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Output {
    /// Base units.
    pub amount: u128,
    /// Whose it becomes.
    pub to: To,
}

/// Whose an output becomes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum To {
    /// The spending wallet's again.
    Change {
        /// Index on its change branch.
        index: u32,
    },
    /// A cold wallet's.
    Cold {
        /// Which.
        wallet: WalletName,
        /// Index on its external branch.
        index: u32,
    },
    /// Somebody else's.
    External {
        /// Address text, or `script:` and the script in hex where there is none.
        address: String,
        /// What the policy calls the destination, if it does.
        label: Option<String>,
    },
}

/// An order that is paid.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ordered {
    /// Its id: the payout's, to the service that ordered it.
    pub id: OrderId,
    /// The key that signed it.
    pub signer: KeyName,
    /// SHA-256 of its signed bytes.
    pub digest: [u8; 32],
}

/// Why bytes are no canonical intent.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum PaperError {
    /// Too long to be one.
    #[error("a canonical intent has at most {PAPER_BYTES_MAX} bytes, this one has {0}")]
    TooLong(usize),
    /// A line is wrong.
    #[error("intent {0}")]
    Line(#[from] LineError),
    /// Reads well, yet is not the one way to write it.
    #[error("the intent's bytes are not canonical")]
    NotCanonical,
}

impl Paper {
    /// The canonical bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let Self { network, client, lane, wallet, tier, fee, policy, .. } = self;
        let (request, transaction) = (hex::encode(self.request.0), hex::encode(self.transaction));
        let mut text = format!(
            "{FIRST_LINE}\nnetwork: {network}\nrequest: {request}\nclient: {client}\nlane: {lane}\nwallet: {wallet}\ntier: {tier}\n\
             transaction: {transaction}\n"
        );
        for Input { coin, amount } in &self.inputs {
            text.push_str(&format!("input: {amount} {coin}\n"));
        }
        for Output { amount, to } in &self.outputs {
            text.push_str(&match to {
                To::Change { index } => format!("output: {amount} change {index}\n"),
                To::Cold { wallet, index } => format!("output: {amount} cold {wallet} {index}\n"),
                To::External { address, label } => {
                    let label = label.as_deref().unwrap_or(NONE);
                    format!("output: {amount} external {address} {label}\n")
                }
            });
        }
        text.push_str(&format!("fee: {fee}\n"));
        for Ordered { id, signer, digest } in &self.orders {
            text.push_str(&format!("order: {id} {signer} {}\n", hex::encode(digest)));
        }
        let (asked, expires) = (self.asked_unix, self.expires_unix);
        text.push_str(&format!("policy: {policy}\nasked: {asked}\nexpires: {expires}\n"));
        text.into_bytes()
    }

    /// Reads canonical bytes and nothing else.
    ///
    /// # Errors
    /// [`PaperError`] naming the line, or [`PaperError::NotCanonical`] when encoding the result again would give other
    /// bytes.
    pub fn parse(bytes: &[u8]) -> Result<Self, PaperError> {
        if bytes.len() > PAPER_BYTES_MAX {
            return Err(PaperError::TooLong(bytes.len()));
        }
        let text = core::str::from_utf8(bytes).map_err(|_| PaperError::NotCanonical)?;
        let mut lines = Lines::of(text, FIRST_LINE)?;
        let paper = Self {
            network: lines.read("network", |text| visible(text, 64))?,
            request: RequestId(lines.read("request", hex)?),
            client: lines.read("client", ClientName::parse)?,
            lane: lines.read("lane", LaneName::parse)?,
            wallet: lines.read("wallet", WalletName::parse)?,
            tier: lines.read("tier", |text| visible(text, 32))?,
            transaction: lines.read("transaction", hex)?,
            inputs: lines.many("input", input)?,
            outputs: lines.many("output", output)?,
            fee: lines.read("fee", number)?,
            orders: lines.many("order", ordered)?,
            policy: lines.read("policy", PolicyRef::parse)?,
            asked_unix: lines.read("asked", number)?,
            expires_unix: lines.read("expires", number)?,
        };
        if paper.encode() == bytes { Ok(paper) } else { Err(PaperError::NotCanonical) }
    }

    /// SHA-256 of the canonical bytes: what statements name.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        digest(&self.encode())
    }
}

/// SHA-256 of a canonical intent's bytes.
#[must_use]
pub fn digest(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

/// Whether a label can stand in a line: visible, no line feed, not what stands for none.
#[must_use]
pub fn is_label(text: &str) -> bool {
    let visible = text.chars().all(|c| !c.is_control() && !is_invisible(c));
    (1..=LABEL_BYTES_MAX).contains(&text.len()) && visible && text != NONE && text.trim() == text
}

/// Characters that change how others are shown, or are not shown at all.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

fn input(text: &str) -> Result<Input, String> {
    let (amount, coin) = word(text)?;
    let (txid, vout) = coin.split_once(':').ok_or_else(|| "a coin is txid:vout".to_string())?;
    hex::<32>(txid)?;
    number::<u32>(vout)?;
    Ok(Input { coin: coin.to_string(), amount: number(amount)? })
}

fn output(text: &str) -> Result<Output, String> {
    let (amount, rest) = word(text)?;
    let (kind, rest) = word(rest)?;
    let to = match kind {
        "change" => To::Change { index: number(rest)? },
        "cold" => {
            let (wallet, index) = word(rest)?;
            let wallet = WalletName::parse(wallet).map_err(|error| error.to_string())?;
            To::Cold { wallet, index: number(index)? }
        }
        "external" => {
            let (address, label) = word(rest)?;
            let address = visible(address, 2 * 10_000 + 7)?;
            let label = match label {
                NONE => None,
                label if is_label(label) => Some(label.to_string()),
                _ => return Err("its label is not one".to_string()),
            };
            To::External { address, label }
        }
        _ => return Err("is none of change, cold, external".to_string()),
    };
    Ok(Output { amount: number(amount)?, to })
}

fn ordered(text: &str) -> Result<Ordered, String> {
    let (id, rest) = word(text)?;
    let (signer, digest) = word(rest)?;
    let name = |error: policy::names::NameError| error.to_string();
    Ok(Ordered {
        id: OrderId::parse(id).map_err(name)?,
        signer: KeyName::parse(signer).map_err(name)?,
        digest: hex(digest)?,
    })
}
