//! Chains by CAIP-2 and assets by CAIP-19. It never knows an address, and a symbol is never an identity.

use alloc::format;
use alloc::string::{String, ToString};
use core::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Why an id was refused.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum IdError {
    /// Not CAIP-2.
    #[error(
        "\"{0}\" is not a CAIP-2 chain id: write namespace:reference, e.g. bip122:000000000019d6689c085ae165831e93"
    )]
    Chain(String),
    /// Not CAIP-19.
    #[error(
        "\"{0}\" is not a CAIP-19 asset id: write chain/namespace:reference, e.g. bip122:000000000019d6689c085ae165831e93/slip44:0"
    )]
    Asset(String),
    /// Not a network we know.
    #[error("\"{0}\" is not a network: use bitcoin, testnet4, signet or regtest")]
    Network(String),
}

/// A chain, as CAIP-2 writes it: `namespace:reference`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChainId(String);

impl ChainId {
    /// Takes exactly what CAIP-2 allows.
    ///
    /// # Errors
    /// [`IdError::Chain`] for anything else.
    pub fn parse(text: &str) -> Result<Self, IdError> {
        let ok = text
            .split_once(':')
            .is_some_and(|(namespace, reference)| is_namespace(namespace) && is_chain(reference));
        if ok { Ok(Self(text.to_string())) } else { Err(IdError::Chain(shown(text))) }
    }

    /// Bitcoin's main network.
    #[must_use]
    pub fn bitcoin_mainnet() -> Self {
        Network::Bitcoin.chain_id()
    }

    /// Bitcoin's testnet4 (BIP-94).
    #[must_use]
    pub fn bitcoin_testnet4() -> Self {
        Network::Testnet4.chain_id()
    }

    /// Bitcoin's default signet (BIP-325).
    #[must_use]
    pub fn bitcoin_signet() -> Self {
        Network::Signet.chain_id()
    }

    /// A local regression test chain.
    #[must_use]
    pub fn bitcoin_regtest() -> Self {
        Network::Regtest.chain_id()
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// An asset, as CAIP-19 writes it: `chain/namespace:reference`, with a token id behind where there is one.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AssetId(String);

impl AssetId {
    /// Takes exactly what CAIP-19 allows.
    ///
    /// # Errors
    /// [`IdError::Asset`] for anything else.
    pub fn parse(text: &str) -> Result<Self, IdError> {
        if is_asset(text) { Ok(Self(text.to_string())) } else { Err(IdError::Asset(shown(text))) }
    }

    /// The chain it lives on.
    #[must_use]
    pub fn chain(&self) -> ChainId {
        let chain = self.0.split('/').next().unwrap_or_default();
        ChainId(chain.to_string())
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A Bitcoin network, by the name configurations use.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Network {
    /// The main network, with real money.
    Bitcoin,
    /// Testnet4.
    Testnet4,
    /// The default signet.
    Signet,
    /// A local regression test chain.
    Regtest,
}

impl Network {
    /// Every network.
    pub const ALL: [Self; 4] = [Self::Bitcoin, Self::Testnet4, Self::Signet, Self::Regtest];

    /// Takes the name used in configurations.
    ///
    /// # Errors
    /// [`IdError::Network`] for any other text.
    pub fn parse(text: &str) -> Result<Self, IdError> {
        let found = Self::ALL.into_iter().find(|network| network.as_str() == text);
        found.ok_or_else(|| IdError::Network(shown(text)))
    }

    /// The name used in configurations.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Bitcoin => "bitcoin",
            Self::Testnet4 => "testnet4",
            Self::Signet => "signet",
            Self::Regtest => "regtest",
        }
    }

    /// CAIP-2: `bip122:` and the first 32 digits of the genesis block's hash.
    #[must_use]
    pub fn chain_id(self) -> ChainId {
        let text = match self {
            Self::Bitcoin => "bip122:000000000019d6689c085ae165831e93",
            Self::Testnet4 => "bip122:00000000da84f2bafbbc53dee25a72ae",
            Self::Signet => "bip122:00000008819873e925422c1ff0f99f7c",
            Self::Regtest => "bip122:0f9188f13cb7b2c71f2a335e3a4fc328",
        };
        ChainId(text.to_string())
    }

    /// CAIP-19 of the network's own coin: SLIP-44 coin 0 on the main network, 1 on every test network.
    #[must_use]
    pub fn asset_id(self) -> AssetId {
        let coin = if self == Self::Bitcoin { "/slip44:0" } else { "/slip44:1" };
        AssetId(format!("{}{coin}", self.chain_id()))
    }
}

fn is_namespace(text: &str) -> bool {
    (3..=8).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

fn is_chain(text: &str) -> bool {
    (1..=32).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
}

fn is_asset(text: &str) -> bool {
    let mut parts = text.split('/');
    let (Some(chain), Some(asset), token, None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return false;
    };
    let asset_ok = asset
        .split_once(':')
        .is_some_and(|(namespace, reference)| is_namespace(namespace) && is_token(reference, 128));
    ChainId::parse(chain).is_ok() && asset_ok && token.is_none_or(|token| is_token(token, 78))
}

fn is_token(text: &str, longest: usize) -> bool {
    (1..=longest).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-.%".contains(&b))
}

/// What an error repeats of a refused text: enough to recognise it, never a flood.
fn shown(text: &str) -> String {
    text.chars().take(64).collect()
}

macro_rules! text_form {
    ($name:ident) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                Self::parse(text)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                Self::parse(&text).map_err(serde::de::Error::custom)
            }
        }
    };
}

text_form!(ChainId);
text_form!(AssetId);
text_form!(Network);

impl fmt::Debug for ChainId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for AssetId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
