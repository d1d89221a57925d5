//! One branch of the account, from public data alone. It makes the keys that records must have, and knows no
//! private one.

use bitcoin::bip32::{ChildNumber, Xpub};
use secp256k1::{PublicKey, SECP256K1};

use crate::Error;

/// One branch of the account: makes the public keys its records must have.
#[derive(Clone, Copy, Debug)]
pub struct Branch {
    change: bool,
    xpub: Xpub,
}

impl Branch {
    pub(crate) fn of(account: &Xpub, change: bool) -> Result<Self, Error> {
        let step = ChildNumber::Normal { index: u32::from(change) };
        let xpub = account
            .ckd_pub(SECP256K1, step)
            .map_err(|_| Error::Header("a branch cannot be derived from the account key"))?;
        Ok(Self { change, xpub })
    }

    /// The public key that BIP-32 puts at `index`.
    ///
    /// # Errors
    /// [`Error::Record`] when there is none (one index in 2^127, or 2^31 and more).
    pub fn public_key(&self, index: u32) -> Result<PublicKey, Error> {
        let no_key = Error::Record {
            change: self.change,
            index,
            reason: "no key can be derived at this index",
        };
        ChildNumber::from_normal_idx(index)
            .ok()
            .and_then(|step| self.xpub.ckd_pub_tweak(step).ok())
            .and_then(|(tweak, _)| {
                self.xpub.public_key.add_exp_tweak(SECP256K1, &tweak.into()).ok()
            })
            .ok_or(no_key)
    }
}
