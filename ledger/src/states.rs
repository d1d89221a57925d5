//! What may be done with a wallet's keys, as NIST SP 800-57 names it. It never gives a key back that was retired or
//! compromised.

use std::collections::BTreeMap;
use std::fmt;

use policy::names::WalletName;

use super::{FoldError, name, wrong};

/// The state of a wallet's keys.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub enum KeyState {
    /// Used for everything.
    #[default]
    Active,
    /// Used for nothing until somebody says so.
    Suspended,
    /// Sweeps out what is still there; gets no new address.
    Retired,
    /// Used for nothing, for ever: somebody else may have them.
    Compromised,
}

impl KeyState {
    /// Every state.
    pub const ALL: [Self; 4] = [Self::Active, Self::Suspended, Self::Retired, Self::Compromised];

    /// The name in the log.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Suspended => "suspended",
            Self::Retired => "retired",
            Self::Compromised => "compromised",
        }
    }

    /// From that name.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == text)
    }

    /// The one of two that allows less.
    #[must_use]
    pub fn strictest(self, other: Self) -> Self {
        let rank = |state: Self| match state {
            Self::Active => 0,
            Self::Retired => 1,
            Self::Suspended => 2,
            Self::Compromised => 3,
        };
        if rank(other) > rank(self) { other } else { self }
    }

    /// Whether keys in this state may be put into another.
    #[must_use]
    pub fn may_become(self, next: Self) -> bool {
        match self {
            Self::Active => next != Self::Active,
            Self::Suspended => next != Self::Suspended,
            Self::Retired => next == Self::Compromised,
            Self::Compromised => false,
        }
    }
}

impl fmt::Display for KeyState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The states of all wallets' keys; those not named are active.
#[derive(Clone, Debug, Default)]
pub(super) struct KeyStates(BTreeMap<WalletName, KeyState>);

impl KeyStates {
    pub(super) fn of(&self, wallet: &WalletName) -> KeyState {
        self.0.get(wallet).copied().unwrap_or_default()
    }

    pub(super) fn set(&mut self, wallet: &str, state: &str) -> Result<(), FoldError> {
        let wallet = name(WalletName::parse(wallet))?;
        let next = KeyState::parse(state)
            .ok_or_else(|| wrong(format!("keys cannot be \"{state}\" in this program")))?;
        let now = self.of(&wallet);
        if !now.may_become(next) {
            return Err(wrong(format!("the keys of \"{wallet}\" were {now} and became {next}")));
        }
        self.0.insert(wallet, next);
        Ok(())
    }
}
