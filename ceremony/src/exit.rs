//! The way out without this program: the account's private descriptor, for Bitcoin Core or another wallet; of one key of
//! a multisig the whole wallet's with that key private, or the key alone. It writes the key in clear to one new file
//! that only its owner may read, and nowhere else.

use std::io::Write as _;
use std::path::Path;

use bitcoin::base58;
use bitcoin::bip32::Xpub;
use bundle::Network;
use bundle::header::with_checksum;
use zeroize::Zeroizing;

use crate::Error;
use crate::account::Account;
use crate::new_file::NewFile;
use crate::restore::drill;
use crate::transcript::Transcript;

/// Proves that the account is that of `descriptor`, and writes the descriptor to `out` with the account's private key
/// in place of its public one; what was done goes to `transcript_out`, if anywhere.
///
/// # Errors
/// [`Error::OtherAccount`], [`Error::Exists`], [`Error::File`]; then no file is left behind.
pub fn exit(
    account: &Account,
    descriptor: &str,
    out: &Path,
    transcript_out: Option<&Path>,
) -> Result<(), Error> {
    let proven = drill(account, descriptor)?;
    let private = private(account, &proven.descriptor)?;
    let file = NewFile::create_private(out)?;
    let transcript_out = transcript_out.map(NewFile::create).transpose()?;
    let written = file.file().write_all(private.as_bytes());
    written.and_then(|()| file.file().write_all(b"\n")).map_err(|error| file.error(error))?;
    let mut transcript = Transcript::of("exit");
    transcript.note("xpub", &account.xpub().to_string());
    transcript.note("descriptor", &proven.descriptor);
    transcript.note("written", "the account's private descriptor: whoever reads it has the coins");
    let transcript = transcript.sign(account)?;
    if let Some(file) = &transcript_out {
        file.file().write_all(transcript.as_bytes()).map_err(|error| file.error(error))?;
    }
    NewFile::keep_all([Some(file), transcript_out].into_iter().flatten().collect())
}

/// Whatever the descriptor's script is: the same text with the other key. A cosigner's key expression has no checksum.
fn private(account: &Account, descriptor: &str) -> Result<Zeroizing<String>, Error> {
    let (body, summed) = match descriptor.split_once('#') {
        Some((body, _checksum)) => (body, true),
        None => (descriptor, false),
    };
    let (before, after) = body.split_once(&account.xpub().to_string()).ok_or(Error::NoKey)?;
    let key = xprv(account);
    // Long enough from the start: a buffer that grows leaves its bytes behind.
    let mut text = Zeroizing::new(String::with_capacity(descriptor.len().saturating_mul(2)));
    for part in [before, key.as_str(), after] {
        text.push_str(part);
    }
    if summed { Ok(Zeroizing::new(with_checksum(&text)?)) } else { Ok(text) }
}

/// The account's key in BIP-32's private spelling: the public one with another version and the other key.
fn xprv(account: &Account) -> Zeroizing<String> {
    let version: [u8; 4] = match account.network() {
        Network::Bitcoin => [0x04, 0x88, 0xad, 0xe4],
        _ => [0x04, 0x35, 0x83, 0x94],
    };
    let public = Xpub::encode(&account.xpub());
    let (middle, zero) = (public.iter().skip(4).take(41), [0]);
    let secret = account.secret().as_ref();
    let bytes = version.iter().chain(middle).chain(&zero).chain(secret).copied();
    let mut all = Zeroizing::new([0; 78]);
    all.iter_mut().zip(bytes).for_each(|(to, from)| *to = from);
    Zeroizing::new(base58::encode_check(all.as_ref()))
}

#[cfg(test)]
mod tests {
    use bitcoin::NetworkKind;
    use bitcoin::bip32::{DerivationPath, Xpriv};
    use bundle::Script;
    use secp256k1::SECP256K1;

    use super::*;

    #[test]
    fn the_private_key_is_another_implementations() {
        for (script, network, kind, path) in [
            (Script::Wpkh, Network::Bitcoin, NetworkKind::Main, "m/84h/0h/2h"),
            (Script::ShWpkh, Network::Bitcoin, NetworkKind::Main, "m/49h/0h/2h"),
            (Script::Pkh, Network::Testnet4, NetworkKind::Test, "m/44h/1h/2h"),
            (Script::Tr, Network::Signet, NetworkKind::Test, "m/86h/1h/2h"),
            (Script::WshCosigner, Network::Bitcoin, NetworkKind::Main, "m/48h/0h/2h/2h"),
        ] {
            let seed = [9; 32];
            let account = Account::from_seed(&seed, script, network, 2).unwrap();
            let path: DerivationPath = path.parse().unwrap();
            let master = Xpriv::new_master(kind, &seed).unwrap();
            let theirs = master.derive_priv(SECP256K1, &path).unwrap().to_string();
            assert_eq!(*xprv(&account), theirs);
            let descriptor = account.descriptor().unwrap();
            let private = private(&account, &descriptor).unwrap();
            assert!(private.contains(&theirs) && !private.contains(&account.xpub().to_string()));
        }
    }
}
