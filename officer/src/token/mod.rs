//! An officer's key in a PKCS#11 token: found by a `pkcs11:` URI, made there, and asked to sign there. Vendor code runs in
//! this process, with this person's rights, and only for keys that a token holds. It never sees a private key, and sends one
//! PIN at most in a run.
//!
//! Reading order: [`place`] (the URI), [`login`] (module, token, PIN), [`key`] (finding, making, signing).

pub(crate) mod place;
mod login;
pub(crate) mod key;

pub(crate) use key::TokenKey;
pub(crate) use place::{Place, is_place};
