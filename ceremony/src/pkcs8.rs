//! A child key as tokens want it: PKCS#8 around RFC 5915, with the public key, 135 bytes. It never leaves the
//! wiped buffer it is built in.

use secp256k1::PublicKey;

use crate::secret::Secret;

/// Length of the encoding.
pub(crate) const LEN: usize = BEFORE_KEY.len() + 32 + BEFORE_POINT.len() + 65;

/// `PrivateKeyInfo { 0, { ecPublicKey, secp256k1 }, OCTET STRING { ECPrivateKey { 1, OCTET STRING (32) ...`
const BEFORE_KEY: [u8; 33] = [
    0x30, 0x81, 0x84, // SEQUENCE of 132 bytes
    0x02, 0x01, 0x00, // version 0
    0x30, 0x10, // AlgorithmIdentifier
    0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, // 1.2.840.10045.2.1, ecPublicKey
    0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x0a, // 1.3.132.0.10, secp256k1
    0x04, 0x6d, // OCTET STRING of 109 bytes
    0x30, 0x6b, // ECPrivateKey
    0x02, 0x01, 0x01, // version 1
    0x04, 0x20, // the key
];

/// `... [1] { BIT STRING (65) } } } }`
const BEFORE_POINT: [u8; 5] = [0xa1, 0x44, 0x03, 0x42, 0x00];

/// Encodes a key and its public key.
pub(crate) fn encode(key: &Secret<32>, public_key: &PublicKey) -> Secret<LEN> {
    let point = public_key.serialize_uncompressed();
    Secret::of([&BEFORE_KEY[..], key.as_ref(), &BEFORE_POINT, &point])
}

#[cfg(test)]
mod tests {
    use rsa::pkcs8::{ObjectIdentifier, PrivateKeyInfo};
    use secp256k1::{SECP256K1, SecretKey};

    use super::*;

    #[test]
    fn a_strict_parser_reads_it() {
        assert_eq!(LEN, 135);
        let key = SecretKey::from_slice(&[0x11; 32]).unwrap();
        let public = PublicKey::from_secret_key(SECP256K1, &key);
        let der = encode(&Secret::of([&[0x11; 32][..]]), &public);
        let info = PrivateKeyInfo::try_from(&der.as_ref()[..]).unwrap();
        info.algorithm
            .assert_algorithm_oid(ObjectIdentifier::new_unwrap("1.2.840.10045.2.1"))
            .unwrap();
        assert_eq!(
            info.algorithm.parameters_oid().unwrap(),
            ObjectIdentifier::new_unwrap("1.3.132.0.10")
        );
        let inner = info.private_key;
        assert_eq!(inner.len(), 109);
        assert_eq!(inner[7..39], [0x11; 32]);
        assert_eq!(inner[44..], public.serialize_uncompressed());
    }
}
