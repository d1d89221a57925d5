//! A seed under a passphrase: Argon2id makes a key of it, AES-256-GCM seals the seed, bound to what the file says beside it.
//! Without the passphrase it never gives anything away, and a file that was changed does not open.

use aes_gcm::aead::{Aead as _, Payload};
use aes_gcm::{Aes256Gcm, KeyInit as _, Nonce};
use anyhow::{Result, bail, ensure};
use argon2::{Algorithm, Argon2, Params, Version};
use zeroize::Zeroizing;

use crate::key::fill;

/// Memory in KiB, passes, lanes: a tenth of a second to a second, and 64 MiB, for each guess.
const COST: [u32; 3] = [65_536, 3, 1];
/// What a file may ask of the machine that opens it.
const COST_MAX: [u32; 3] = [1 << 20, 20, 8];
const SALT: usize = 16;
const NONCE: usize = 12;

/// Seals a seed; the two lines for its file.
pub(crate) fn seal(seed: &[u8; 32], passphrase: &str, beside: &str) -> Result<String> {
    let (mut salt, mut nonce) = ([0; SALT], [0; NONCE]);
    fill(&mut salt)?;
    fill(&mut nonce)?;
    let [memory, passes, lanes] = COST;
    let line = format!("argon2id: {memory} {passes} {lanes} {}\n", hex::encode(salt));
    let bound = format!("{beside}{line}");
    let payload = Payload { msg: seed, aad: bound.as_bytes() };
    let sealed = cipher(passphrase, &salt, COST)?.encrypt(&Nonce::from(nonce), payload);
    let Ok(sealed) = sealed else { bail!("the seed could not be sealed") };
    Ok(format!("{line}sealed: {}{}\n", hex::encode(nonce), hex::encode(sealed)))
}

/// Opens what [`seal`] wrote: the values of its two lines, and what stood before them.
pub(crate) fn open(
    argon2id: &str,
    sealed: &str,
    passphrase: &str,
    beside: &str,
) -> Result<Zeroizing<[u8; 32]>> {
    let words: Vec<&str> = argon2id.split(' ').collect();
    let [memory, passes, lanes, salt] = words.as_slice() else {
        bail!("its argon2id line is not one");
    };
    let cost = [memory.parse()?, passes.parse()?, lanes.parse()?];
    ensure!(
        cost.iter().zip(COST_MAX).all(|(asked, most): (&u32, u32)| *asked <= most),
        "its argon2id line asks for more than any key file of ours"
    );
    let mut bytes = [0; SALT];
    ensure!(hex::decode_to_slice(salt, &mut bytes).is_ok(), "its salt is not hex");
    let Ok(sealed) = hex::decode(sealed) else { bail!("what is sealed is not hex") };
    let Some((nonce, sealed)) = sealed.split_at_checked(NONCE) else {
        bail!("what is sealed is too short");
    };
    let nonce = <[u8; NONCE]>::try_from(nonce)?;
    let bound = format!("{beside}argon2id: {argon2id}\n");
    let payload = Payload { msg: sealed, aad: bound.as_bytes() };
    let opened = cipher(passphrase, &bytes, cost)?.decrypt(&Nonce::from(nonce), payload);
    let Ok(opened) = opened.map(Zeroizing::new) else {
        bail!("it does not open: another passphrase, or the file was changed");
    };
    let mut seed = Zeroizing::new([0; 32]);
    ensure!(opened.len() == seed.len(), "what is sealed is no seed");
    seed.copy_from_slice(&opened);
    Ok(seed)
}

fn cipher(passphrase: &str, salt: &[u8], [memory, passes, lanes]: [u32; 3]) -> Result<Aes256Gcm> {
    let Ok(params) = Params::new(memory, passes, lanes, Some(32)) else {
        bail!("its argon2id line makes no sense");
    };
    let mut key = Zeroizing::new([0_u8; 32]);
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    if argon2.hash_password_into(passphrase.as_bytes(), salt, key.as_mut_slice()).is_err() {
        bail!("Argon2id failed");
    }
    Ok(Aes256Gcm::new(key.as_slice().into()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn a_seed_opens_by_its_passphrase_alone_and_as_it_was() {
        let lines = seal(&[7; 32], "correct horse battery", "name: alice\n").unwrap();
        let (argon2id, sealed) = lines.trim_end().split_once('\n').unwrap();
        let argon2id = argon2id.strip_prefix("argon2id: ").unwrap();
        let sealed = sealed.strip_prefix("sealed: ").unwrap();
        let open = |argon2id: &str, sealed: &str, passphrase: &str, beside: &str| {
            open(argon2id, sealed, passphrase, beside).map(|seed| *seed).ok()
        };
        let good = "correct horse battery";
        assert_eq!(open(argon2id, sealed, good, "name: alice\n"), Some([7; 32]));
        assert_eq!(open(argon2id, sealed, "correct horse batterz", "name: alice\n"), None);
        assert_eq!(open(argon2id, sealed, good, "name: mallory\n"), None);
        assert_eq!(open(&argon2id.replace(" 3 ", " 2 "), sealed, good, "name: alice\n"), None);
        let end = if sealed.ends_with('0') { "1" } else { "0" };
        let changed = format!("{}{end}", sealed.get(..sealed.len() - 1).unwrap());
        assert_eq!(open(argon2id, &changed, good, "name: alice\n"), None);
        assert_eq!(open("99999999 3 1 00", sealed, good, "name: alice\n"), None);
    }
}
