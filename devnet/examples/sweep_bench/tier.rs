//! What is compared: each tier has its wallet, the bare loop that belongs to it, and what is asked. It never measures.

use anyhow::{Result, bail};
use clap::ValueEnum;
use devnet::Stack;
use devnet::stack::{self, Children, Options};

use crate::bare::{Bare, TokenCalls};
use crate::software::{Derive, Software};
use crate::vault;

/// Most addresses that the coins lie at.
const ADDRESSES_MAX: u32 = 200;

/// A tier, and how its children are wrapped.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Tier {
    /// Children wrapped for the token: unwrap, sign, destroy, verify.
    TokenHd,
    /// The same with children under a key-encryption key.
    #[value(skip)]
    TokenHdKwp,
    /// A key that was born in the token, whose cloning is proven: sign, verify.
    Token,
    /// An account sealed for the token, taproot: derive, sign, verify, all with libsecp256k1.
    SealedHd,
}

/// How children are wrapped, by the names that operators use.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Scheme {
    /// To the wrapping key, with SHA-1.
    RsaOaep,
    /// Under a key-encryption key.
    AesKwp,
}

/// A bare loop, and another beside it for the reader.
pub(crate) type Loops = (Box<dyn Bare>, Option<Box<dyn Bare>>);

/// The wallet that is swept, and where its coins lie.
pub(crate) struct Swept {
    /// Its name in the policy.
    pub(crate) wallet: &'static str,
    /// With its descriptor as the deposits'.
    pub(crate) descriptors: stack::Descriptors,
    /// The coins lie at so many addresses.
    pub(crate) addresses: u32,
}

impl Tier {
    /// With the scheme, where the tier has any.
    pub(crate) fn wrapped(self, scheme: Option<Scheme>) -> Result<Self> {
        match (self, scheme) {
            (Self::TokenHd, Some(Scheme::AesKwp)) => Ok(Self::TokenHdKwp),
            (Self::TokenHd, _) | (_, None) => Ok(self),
            _ => bail!("only children of token-hd are wrapped by a scheme"),
        }
    }

    /// Its name in the policy.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::TokenHd | Self::TokenHdKwp => "token-hd",
            Self::Token => "token",
            Self::SealedHd => "sealed-hd",
        }
    }

    /// A system with a wallet of the tier, of which so many coins are to be swept.
    pub(crate) async fn start(self, coins: u32) -> Result<(Stack, Swept)> {
        let (tier, script) = match self {
            Self::TokenHd | Self::Token => (stack::Tier::TokenHd, stack::Script::Wpkh),
            Self::TokenHdKwp => (stack::Tier::TokenHdKwp, stack::Script::Wpkh),
            Self::SealedHd => (stack::Tier::SealedHd, stack::Script::Tr),
        };
        // The key that was born in the token is one address.
        let addresses = if self == Self::Token { 1 } else { coins.clamp(1, ADDRESSES_MAX) };
        let children = Children { external: addresses, change: 1 };
        let options = Options { children, tier, script, ..Options::default() };
        let mut stack = Stack::start_without_watcher(options).await?;
        let mut swept =
            Swept { wallet: "deposits", descriptors: stack.descriptors().clone(), addresses };
        if self == Self::Token {
            swept.wallet = vault::NAME;
            swept.descriptors.deposits = vault::open(&mut stack).await?;
        }
        Ok((stack, swept))
    }

    /// The loop that it is held against, and others beside it for the reader.
    pub(crate) fn bare(self, stack: &Stack, swept: &Swept, sessions: u32) -> Result<Loops> {
        let dir = stack.dir();
        let software = |derive| Software::new(stack, derive, sessions, swept.addresses);
        Ok(match self {
            Self::TokenHd => {
                (Box::new(TokenCalls::children(dir, "rsa-oaep-sha1", sessions)?), None)
            }
            Self::TokenHdKwp => (Box::new(TokenCalls::children(dir, "aes-kwp", sessions)?), None),
            Self::Token => (Box::new(TokenCalls::born(dir, vault::NAME, sessions)?), None),
            Self::SealedHd => (
                Box::new(software(Derive::FromAccount)?),
                Some(Box::new(software(Derive::FromBranch)?)),
            ),
        })
    }

    /// What is asked: so many thousandths of the bare loop's rate.
    pub(crate) fn asked(self) -> u128 {
        match self {
            Self::TokenHd | Self::TokenHdKwp => 930,
            Self::Token => 880,
            Self::SealedHd => 900,
        }
    }

    /// Elements of a signed input's witness.
    pub(crate) fn witness(self) -> usize {
        match self {
            Self::TokenHd | Self::TokenHdKwp | Self::Token => 2,
            Self::SealedHd => 1,
        }
    }
}
