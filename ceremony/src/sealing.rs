//! Seals an account for one token: private key and chain code under a fresh AES-256-GCM key, that key wrapped for the
//! token's sealing key. It never keeps the AES key, and binds what it seals to the bundle's header.

use aes_gcm::Aes256Gcm;
use aes_gcm::aead::{AeadInPlace as _, KeyInit as _};
use bitcoin::bip32::ChildNumber;
use bundle::{Header, Record};
use rand::RngCore as _;
use rand::rngs::OsRng;

use crate::Error;
use crate::account::Account;
use crate::fresh::{self, Purpose};
use crate::wrapping::Confirmed;

/// The one record of a sealed account. Its public key is the first external child's, derived from the private and
/// from the public side.
pub(crate) fn record(
    account: &Account,
    sealing: &Confirmed,
    header: &Header,
) -> Result<Record, Error> {
    let (change, index) = (false, 0);
    let public_key = account.branch(change)?.child(ChildNumber::Normal { index })?.public_key();
    if header.branch(change)?.public_key(index)? != public_key {
        return Err(Error::SelfCheck { change, index });
    }
    Ok(Record { change, index, public_key, wrapped: seal(account, sealing, header)? })
}

/// The AES key by RSA-OAEP, nonce, ciphertext, tag. The key is used once, so any nonce would do.
fn seal(account: &Account, sealing: &Confirmed, header: &Header) -> Result<Vec<u8>, Error> {
    let key = fresh::key(Purpose::Sealing, account.secret())?;
    let mut nonce = [0; 12];
    OsRng.try_fill_bytes(&mut nonce).map_err(Error::Entropy)?;
    let mut text = account.plain();
    let cipher = Aes256Gcm::new(key.as_ref().into());
    let tag = cipher
        .encrypt_in_place_detached((&nonce).into(), &header.digest(), text.as_mut().as_mut_slice())
        .map_err(|_| Error::Seal)?;
    let mut blob = sealing.encrypt(header.fields().kind.scheme, key.as_ref())?;
    blob.extend_from_slice(&nonce);
    blob.extend_from_slice(text.as_ref());
    blob.extend_from_slice(&tag);
    if blob.len() == usize::from(header.fields().blob_len) { Ok(blob) } else { Err(Error::Seal) }
}
