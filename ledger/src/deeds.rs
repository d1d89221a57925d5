//! What was done with keys at the signer's machine, as officers' statements name it: the entry that says so uses up what they said
//! for it. It never says whether they had to.

use audit::entry::Event;
use policy::names::{KeyName, WalletName};
use statement::Deed;

use super::keks::KekStep;
use super::states::KeyState;
use super::{FoldError, name};

/// The deed, if the entry is of one. What stops something asks nobody, and is none.
pub(super) fn of(event: &Event) -> Result<Option<Deed>, FoldError> {
    let is_active = |state: &str| KeyState::parse(state) == Some(KeyState::Active);
    Ok(match event {
        Event::KeyState { wallet, state, .. } if is_active(state) => {
            Some(Deed::ActivateKeys(name(WalletName::parse(wallet))?))
        }
        Event::TokenKeyMade { name: key, .. } => {
            Some(Deed::MakeTokenKey(name(KeyName::parse(key))?))
        }
        Event::TokenKeyState { name: key, state, .. } if is_active(state) => {
            Some(Deed::ActivateTokenKey(name(KeyName::parse(key))?))
        }
        Event::KekImport { what, key, .. } => match (KekStep::parse(what), key) {
            // Before the token is asked: two are never made by one word.
            (Some(KekStep::Opening), _) => Some(Deed::OpenKek),
            (Some(KekStep::Imported), Some(key)) => Some(Deed::ImportKek(*key)),
            (Some(KekStep::Forgotten), Some(key)) => Some(Deed::ForgetKek(*key)),
            _ => None,
        },
        _ => None,
    })
}
