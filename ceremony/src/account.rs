//! The account: born of entropy or restored from shares, makes its branches and signs its bundle. It never outlives the
//! ceremony.

use bitcoin::bip32::{ChildNumber, Fingerprint, Xpub};
use bundle::{Network, Script};
use secp256k1::{Keypair, Message, SECP256K1, schnorr};

use crate::Error;
use crate::derive::ExtendedKey;
use crate::secret::{Guarded, Secret};

/// `m/purpose'h/coin'h/account'h`, with its private key.
#[derive(Debug)]
pub struct Account {
    key: ExtendedKey,
    master: Fingerprint,
    script: Script,
    network: Network,
    number: u32,
}

impl Account {
    /// Draws 256 bits from the system, derives the account and forgets the seed.
    ///
    /// # Errors
    /// [`Error::Entropy`], [`Error::NoKey`].
    pub fn generate(script: Script, network: Network, account: u32) -> Result<Self, Error> {
        Self::from_seed(Secret::<32>::from_os()?.as_ref(), script, network, account)
    }

    pub(crate) fn from_seed(
        seed: &[u8],
        script: Script,
        network: Network,
        number: u32,
    ) -> Result<Self, Error> {
        let master = ExtendedKey::master(seed)?;
        let key = master.descend(&script.account_path(network, number).ok_or(Error::NoKey)?)?;
        Ok(Self { key, master: master.fingerprint(), script, network, number })
    }

    /// The account's extended public key.
    #[must_use]
    pub fn xpub(&self) -> Xpub {
        self.key.xpub(self.network.kind())
    }

    /// Fingerprint of the master key.
    #[must_use]
    pub fn master_fingerprint(&self) -> Fingerprint {
        self.master
    }

    pub(crate) fn script(&self) -> Script {
        self.script
    }

    /// Private key and chain code, to be sealed.
    pub(crate) fn plain(&self) -> Secret<64> {
        Secret::of([&self.key.secret().as_ref()[..], self.key.chain().as_ref()])
    }

    pub(crate) fn network(&self) -> Network {
        self.network
    }

    pub(crate) fn number(&self) -> u32 {
        self.number
    }

    /// The private key.
    pub(crate) fn secret(&self) -> &Secret<32> {
        self.key.secret()
    }

    /// The external or the change branch.
    pub(crate) fn branch(&self, change: bool) -> Result<ExtendedKey, Error> {
        self.key.child(ChildNumber::Normal { index: u32::from(change) })
    }

    /// Signs a bundle's digest (BIP-340).
    pub(crate) fn sign(&self, digest: [u8; 32]) -> Result<schnorr::Signature, Error> {
        let key = Guarded::new(self.key.secret().as_ref())?;
        let mut pair = Keypair::from_secret_key(SECP256K1, key.key());
        let aux = Secret::<32>::from_os()?;
        let message = Message::from_digest(digest);
        let signature = SECP256K1.sign_schnorr_with_aux_rand(&message, &pair, aux.as_ref());
        pair.non_secure_erase();
        Ok(signature)
    }
}
