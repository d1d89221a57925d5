//! The token's keys by their public halves, and the file in which `signer init` wrote them down. It never
//! trusts a label.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::str::FromStr as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use secp256k1::PublicKey;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use token_wire::{Kek, Keys};

use super::TokenError;

/// Public halves of the token's keys.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TokenKeys {
    /// SubjectPublicKeyInfo (DER) of the RSA wrapping key.
    pub wrapping_spki: Vec<u8>,
    /// Raw Ed25519 key that signs attestations.
    pub attestation: [u8; 32],
    /// Raw Ed25519 key that signs checkpoints.
    pub checkpoint: [u8; 32],
    /// SubjectPublicKeyInfo (DER) of the RSA sealing key; none until `signer init` made one.
    pub sealing_spki: Option<Vec<u8>>,
    /// Keys for coins that were born in the token (tier `token`).
    pub born: Vec<PublicKey>,
    /// Key-encryption keys that were imported, each by the canary under it.
    pub keks: Vec<Vec<u8>>,
    /// Those of them that nothing uses any more.
    pub forgotten_keks: Vec<Vec<u8>>,
}

impl TokenKeys {
    /// SHA-256 of the wrapping key's SubjectPublicKeyInfo.
    #[must_use]
    pub fn wrapping_fingerprint(&self) -> [u8; 32] {
        Sha256::digest(&self.wrapping_spki).into()
    }

    /// SHA-256 of the sealing key's SubjectPublicKeyInfo, if there is one.
    #[must_use]
    pub fn sealing_fingerprint(&self) -> Option<[u8; 32]> {
        self.sealing_spki.as_ref().map(|spki| Sha256::digest(spki).into())
    }

    /// Fingerprints of the key-encryption keys.
    #[must_use]
    pub fn kek_fingerprints(&self) -> Vec<[u8; 32]> {
        self.keks.iter().map(|canary| bundle::kek::fingerprint(canary)).collect()
    }

    /// Every key-encryption key that the token may hold.
    pub(crate) fn known_keks(&self) -> Vec<Kek> {
        self.keks.iter().chain(&self.forgotten_keks).map(|canary| kek(canary)).collect()
    }

    /// The wrapping key as PEM.
    #[must_use]
    pub fn wrapping_pem(&self) -> String {
        pem(&self.wrapping_spki)
    }

    /// The sealing key as PEM, if there is one.
    #[must_use]
    pub fn sealing_pem(&self) -> Option<String> {
        self.sealing_spki.as_deref().map(pem)
    }

    pub(crate) fn to_wire(&self) -> Keys {
        Keys {
            wrapping_spki: self.wrapping_spki.clone(),
            attestation: self.attestation,
            checkpoint: self.checkpoint,
            sealing_spki: self.sealing_spki.clone(),
            born: self.born.iter().map(|key| key.serialize().to_vec()).collect(),
            keks: self.keks.iter().map(|canary| kek(canary)).collect(),
            forgotten_keks: self.forgotten_keks.iter().map(|canary| kek(canary)).collect(),
        }
    }

    /// What `signer init` made or found; keys for coins are not among it.
    pub(crate) fn from_wire(keys: Keys) -> Self {
        Self {
            wrapping_spki: keys.wrapping_spki,
            attestation: keys.attestation,
            checkpoint: keys.checkpoint,
            sealing_spki: keys.sealing_spki,
            born: Vec::new(),
            keks: keys.keks.into_iter().map(|kek| kek.canary).collect(),
            forgotten_keks: keys.forgotten_keks.into_iter().map(|kek| kek.canary).collect(),
        }
    }
}

/// A public key as PEM.
pub(crate) fn pem(spki: &[u8]) -> String {
    let mut pem = String::from("-----BEGIN PUBLIC KEY-----\n");
    let text = BASE64.encode(spki);
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at_checked(64).unwrap_or((rest, ""));
        pem.push_str(line);
        pem.push('\n');
        rest = after;
    }
    pem.push_str("-----END PUBLIC KEY-----\n");
    pem
}

fn kek(canary: &[u8]) -> Kek {
    Kek { fingerprint: bundle::kek::fingerprint(canary), canary: canary.to_vec() }
}

/// `token-keys.toml` in the state directory.
pub(crate) struct KeyFile {
    path: PathBuf,
}

/// Its content.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    wrapping_spki: String,
    attestation: String,
    checkpoint: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sealing_spki: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    born: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    keks: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    forgotten_keks: Vec<String>,
}

impl KeyFile {
    pub(crate) fn in_dir(state_dir: &Path) -> Self {
        Self { path: state_dir.join("token-keys.toml") }
    }

    /// The keys written down, or `None` before the first `signer init`.
    pub(crate) fn read(&self) -> Result<Option<TokenKeys>, TokenError> {
        let text = match fs::read_to_string(&self.path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(TokenError::state("read", &self.path, &error)),
        };
        let damaged = |reason: String| {
            TokenError::NotInitialised(format!(
                "{} is damaged ({reason}); run `signer init` again with the file moved away, and compare the fingerprints",
                self.path.display()
            ))
        };
        let stored: Stored = toml::from_str(&text)
            .map_err(|error| damaged(asset::setting_error(&text, error.span(), error.message())))?;
        let raw = |text: &str| -> Result<[u8; 32], TokenError> {
            let bytes = hex::decode(text).map_err(|error| damaged(error.to_string()))?;
            bytes.try_into().map_err(|_| damaged("a key is not 32 bytes".into()))
        };
        let canaries = |texts: &[String]| -> Result<Vec<Vec<u8>>, TokenError> {
            let decode = |text| hex::decode(text).map_err(|error| damaged(error.to_string()));
            texts.iter().map(decode).collect()
        };
        Ok(Some(TokenKeys {
            wrapping_spki: hex::decode(&stored.wrapping_spki)
                .map_err(|error| damaged(error.to_string()))?,
            attestation: raw(&stored.attestation)?,
            checkpoint: raw(&stored.checkpoint)?,
            sealing_spki: stored
                .sealing_spki
                .map(|spki| hex::decode(spki).map_err(|error| damaged(error.to_string())))
                .transpose()?,
            born: stored
                .born
                .iter()
                .map(|key| PublicKey::from_str(key).map_err(|error| damaged(error.to_string())))
                .collect::<Result<_, _>>()?,
            keks: canaries(&stored.keks)?,
            forgotten_keks: canaries(&stored.forgotten_keks)?,
        }))
    }

    /// As [`KeyFile::read`], but it must be there.
    pub(crate) fn require(&self) -> Result<TokenKeys, TokenError> {
        self.read()?.ok_or_else(|| {
            TokenError::NotInitialised(format!(
                "{} is not there: run `signer init` first",
                self.path.display()
            ))
        })
    }

    /// Writes the keys down, whole or not at all.
    pub(crate) fn write(&self, keys: &TokenKeys) -> Result<(), TokenError> {
        let stored = Stored {
            wrapping_spki: hex::encode(&keys.wrapping_spki),
            attestation: hex::encode(keys.attestation),
            checkpoint: hex::encode(keys.checkpoint),
            sealing_spki: keys.sealing_spki.as_ref().map(hex::encode),
            born: keys.born.iter().map(ToString::to_string).collect(),
            keks: keys.keks.iter().map(hex::encode).collect(),
            forgotten_keks: keys.forgotten_keks.iter().map(hex::encode).collect(),
        };
        let text = toml::to_string(&stored)
            .map_err(|error| TokenError::state("write", &self.path, &error))?;
        let text =
            format!("# Public keys that `signer init` found in or made on the token.\n{text}");
        write_durably(&self.path, text.as_bytes())
    }
}

/// Writes a file so that after a crash it is either as before or whole.
pub(crate) fn write_durably(path: &Path, bytes: &[u8]) -> Result<(), TokenError> {
    let failed = |error: std::io::Error| TokenError::state("write", path, &error);
    let aside = path.with_extension("new");
    let mut file = fs::File::create(&aside).map_err(failed)?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(failed)?;
    fs::rename(&aside, path).map_err(failed)?;
    sync_dir(path).map_err(failed)
}

/// Makes a rename or removal of `path` durable.
pub(crate) fn sync_dir(path: &Path) -> std::io::Result<()> {
    match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => fs::File::open(dir)?.sync_all(),
        _ => fs::File::open(".")?.sync_all(),
    }
}

#[cfg(test)]
mod tests {
    use secp256k1::SECP256K1;

    use super::*;

    fn keys(wrapping_spki: Vec<u8>) -> TokenKeys {
        let (attestation, checkpoint) = ([1; 32], [2; 32]);
        TokenKeys {
            wrapping_spki,
            attestation,
            checkpoint,
            sealing_spki: None,
            born: Vec::new(),
            keks: Vec::new(),
            forgotten_keks: Vec::new(),
        }
    }

    #[test]
    fn keys_are_read_back_as_written() {
        let dir = tempfile::tempdir().unwrap();
        let file = KeyFile::in_dir(dir.path());
        assert!(file.read().unwrap().is_none());
        assert!(file.require().unwrap_err().to_string().contains("signer init"));
        let mut keys = keys(vec![7; 422]);
        for sealing in [None, Some(vec![8; 422])] {
            keys.sealing_spki = sealing;
            keys.keks.push(vec![9; 144]);
            keys.forgotten_keks.push(vec![8; 144]);
            file.write(&keys).unwrap();
            assert_eq!(file.require().unwrap(), keys);
        }
        keys.born = vec![secp256k1::SecretKey::from_slice(&[7; 32]).unwrap().public_key(SECP256K1)];
        file.write(&keys).unwrap();
        assert_eq!(file.require().unwrap(), keys);
        fs::write(dir.path().join("token-keys.toml"), "attestation = \"00\"").unwrap();
        assert!(file.read().unwrap_err().to_string().contains("damaged"));
    }

    #[test]
    fn pem_has_lines_of_64() {
        let keys = keys(vec![0xab; 422]);
        let pem = keys.wrapping_pem();
        let lines: Vec<&str> = pem.lines().collect();
        let (body, last) = lines[1..lines.len() - 1].split_at(lines.len() - 3);
        assert!(body.iter().all(|line| line.len() == 64) && !last[0].is_empty());
        let text: String = lines[1..lines.len() - 1].concat();
        assert_eq!(BASE64.decode(text).unwrap(), keys.wrapping_spki);
    }
}
