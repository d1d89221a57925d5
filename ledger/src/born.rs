//! Keys that were born in the token: their names, public halves and states. It never forgets one, and never gives two
//! the same name.

use policy::names::KeyName;
use secp256k1::PublicKey;

use super::states::KeyState;
use super::{FoldError, name, wrong};

/// A key for coins that was born in the token.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BornKey {
    /// What people call it.
    pub name: KeyName,
    /// Which it is.
    pub public_key: PublicKey,
    /// What may be done with it.
    pub state: KeyState,
}

/// Every one of them, in the order they were made.
#[derive(Clone, Debug, Default)]
pub struct BornKeys(Vec<BornKey>);

impl BornKeys {
    /// Every key.
    pub fn iter(&self) -> impl Iterator<Item = &BornKey> {
        self.0.iter()
    }

    /// The key of this name.
    #[must_use]
    pub fn named(&self, name: &KeyName) -> Option<&BornKey> {
        self.0.iter().find(|key| key.name == *name)
    }

    /// The key with this public half.
    #[must_use]
    pub fn key(&self, public_key: &PublicKey) -> Option<&BornKey> {
        self.0.iter().find(|key| key.public_key == *public_key)
    }

    pub(super) fn make(&mut self, called: &str, public_key: &[u8]) -> Result<(), FoldError> {
        let name = name(KeyName::parse(called))?;
        let public_key = read(public_key)?;
        if self.named(&name).is_some() || self.key(&public_key).is_some() {
            return Err(wrong(format!("token key \"{name}\" was made twice")));
        }
        self.0.push(BornKey { name, public_key, state: KeyState::Active });
        Ok(())
    }

    pub(super) fn set(&mut self, called: &str, state: &str) -> Result<(), FoldError> {
        let next = KeyState::parse(state)
            .ok_or_else(|| wrong(format!("keys cannot be \"{state}\" in this program")))?;
        let key = self.0.iter_mut().find(|key| key.name.as_str() == called);
        let key = key.ok_or_else(|| wrong(format!("there is no token key \"{called}\"")))?;
        if !key.state.may_become(next) {
            let text = format!("token key \"{called}\" was {} and became {next}", key.state);
            return Err(wrong(text));
        }
        key.state = next;
        Ok(())
    }

    /// These are keys that were born in the token.
    pub(super) fn known(&self, keys: &[Vec<u8>]) -> Result<Vec<PublicKey>, FoldError> {
        let known = |key: &Vec<u8>| {
            let key = read(key)?;
            self.key(&key).ok_or_else(|| wrong("a wallet was given a key that was never made"))?;
            Ok(key)
        };
        keys.iter().map(known).collect()
    }
}

fn read(key: &[u8]) -> Result<PublicKey, FoldError> {
    let read = PublicKey::from_slice(key).ok().filter(|_| key.len() == 33);
    read.ok_or_else(|| wrong("a token key is no compressed secp256k1 key"))
}
