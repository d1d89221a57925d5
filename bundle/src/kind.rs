//! What an account's addresses are, and how its keys reach the token. It knows names and paths, and no key.

use bitcoin::bip32::ChildNumber;

use crate::network::Network;

/// Scheme and script of an account.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Kind {
    /// How keys are kept.
    pub scheme: Scheme,
    /// What addresses are.
    pub script: Script,
}

impl Kind {
    /// Children wrapped one by one, P2WPKH: the tier `token-hd`.
    pub const TOKEN_HD: Self = Self { scheme: Scheme::RsaOaepSha1, script: Script::Wpkh };
}

/// The hash of RSA-OAEP and of its MGF1.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Hash {
    /// SHA-1, which OAEP's security does not hang on.
    Sha1,
    /// SHA-256.
    Sha256,
}

/// How a bundle holds keys. Children are PKCS#8 with the public key, one record each.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scheme {
    /// Children by RSA-OAEP with SHA-1 and MGF1-SHA-1.
    RsaOaepSha1,
    /// Children by RSA-OAEP with SHA-256 and MGF1-SHA-256.
    RsaOaepSha256,
    /// Children as `CKM_RSA_AES_KEY_WRAP` has them (PKCS#11 v3.0, 2.1.21): an AES-256 key of each child's own by RSA-OAEP
    /// with SHA-1, then the child under it by AES key wrap with padding (RFC 5649).
    RsaAesSha1,
    /// The same with SHA-256.
    RsaAesSha256,
    /// Children by AES key wrap with padding (RFC 5649) under one key-encryption key, which the header names by its
    /// fingerprint; see [`crate::kek`].
    AesKwp,
    /// The account's private key and chain code by AES-256-GCM, the header's digest as additional data; the AES key
    /// by RSA-OAEP with SHA-1. One record, which stands for every index: its place and public key are those of the
    /// first external child.
    SealedAesGcm,
}

impl Scheme {
    /// Nonce, private key, chain code, tag.
    pub const SEALED_LEN: u16 = 12 + 64 + 16;

    /// A child's 135 bytes by AES key wrap with padding.
    pub const KWP_LEN: u16 = 8 + 136;

    const ALL: [Self; 6] = [
        Self::RsaOaepSha1,
        Self::RsaOaepSha256,
        Self::RsaAesSha1,
        Self::RsaAesSha256,
        Self::AesKwp,
        Self::SealedAesGcm,
    ];

    /// The name in headers.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::RsaOaepSha1 => "rsa-oaep-sha1",
            Self::RsaOaepSha256 => "rsa-oaep-sha256",
            Self::RsaAesSha1 => "rsa-aes-sha1",
            Self::RsaAesSha256 => "rsa-aes-sha256",
            Self::AesKwp => "aes-kwp",
            Self::SealedAesGcm => "sealed-aes-gcm",
        }
    }

    /// The tier whose wallets have such bundles.
    #[must_use]
    pub fn tier(self) -> &'static str {
        if self.is_sealed() { "sealed-hd" } else { "token-hd" }
    }

    /// Bytes of a record's blob for an RSA key of so many bytes.
    #[must_use]
    pub fn blob_len(self, rsa: u16) -> u16 {
        match self {
            Self::RsaOaepSha1 | Self::RsaOaepSha256 => rsa,
            Self::RsaAesSha1 | Self::RsaAesSha256 => rsa.saturating_add(Self::KWP_LEN),
            Self::AesKwp => Self::KWP_LEN,
            Self::SealedAesGcm => rsa.saturating_add(Self::SEALED_LEN),
        }
    }

    /// Whether the account is sealed as a whole, instead of its children being wrapped.
    #[must_use]
    pub fn is_sealed(self) -> bool {
        self == Self::SealedAesGcm
    }

    /// The hash of the RSA-OAEP in it; none where there is no RSA.
    #[must_use]
    pub fn hash(self) -> Option<Hash> {
        match self {
            Self::RsaOaepSha1 | Self::RsaAesSha1 | Self::SealedAesGcm => Some(Hash::Sha1),
            Self::RsaOaepSha256 | Self::RsaAesSha256 => Some(Hash::Sha256),
            Self::AesKwp => None,
        }
    }

    /// From its name.
    #[must_use]
    pub fn from_name(name: &[u8]) -> Option<Self> {
        Self::ALL.into_iter().find(|scheme| scheme.name().as_bytes() == name)
    }
}

/// What an account's addresses are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Script {
    /// P2WPKH (BIP-84).
    Wpkh,
    /// P2WPKH in P2SH (BIP-49).
    ShWpkh,
    /// P2PKH (BIP-44).
    Pkh,
    /// P2TR, key path alone (BIP-86).
    Tr,
    /// One key of a P2WSH multisig (BIP-48): it has no addresses before the others' keys are beside it.
    WshCosigner,
}

impl Script {
    const ALL: [Self; 5] = [Self::Wpkh, Self::ShWpkh, Self::Pkh, Self::Tr, Self::WshCosigner];

    /// The name on command lines.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Wpkh => "wpkh",
            Self::ShWpkh => "sh-wpkh",
            Self::Pkh => "pkh",
            Self::Tr => "tr",
            Self::WshCosigner => "wsh-cosigner",
        }
    }

    /// From that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|script| script.name() == name)
    }

    /// The descriptor of a key expression, without checksum; `None` where the key alone makes none.
    #[must_use]
    pub(crate) fn descriptor(self, key: &str) -> Option<String> {
        match self {
            Self::Wpkh => Some(format!("wpkh({key})")),
            Self::ShWpkh => Some(format!("sh(wpkh({key}))")),
            Self::Pkh => Some(format!("pkh({key})")),
            Self::Tr => Some(format!("tr({key})")),
            Self::WshCosigner => None,
        }
    }

    /// The path's first step, without the hardening bit.
    fn purpose(self) -> u32 {
        match self {
            Self::Wpkh => 84,
            Self::ShWpkh => 49,
            Self::Pkh => 44,
            Self::Tr => 86,
            Self::WshCosigner => 48,
        }
    }

    /// The hardened steps: `m/purpose'h/coin'h/account'h`, and `/2h` for a cosigner (BIP-48's number for P2WSH). `None`
    /// when `account` is 2^31 or more.
    #[must_use]
    pub fn account_path(self, network: Network, account: u32) -> Option<Vec<ChildNumber>> {
        let mut steps = vec![self.purpose(), network.coin_type(), account];
        steps.extend((self == Self::WshCosigner).then_some(2));
        steps.into_iter().map(|step| ChildNumber::from_hardened_idx(step).ok()).collect()
    }

    /// From a path as text; what follows the first step is not looked at.
    pub(crate) fn from_path(path: &[u8]) -> Option<Self> {
        let of = |script: &Self| path.starts_with(format!("m/{}h/", script.purpose()).as_bytes());
        Self::ALL.into_iter().find(of)
    }
}
