//! The few DER shapes that public keys need. It never reads a private key.

/// Public exponent of every wrapping key: 65537.
pub(crate) const EXPONENT: [u8; 3] = [1, 0, 1];
/// `1.3.101.112`, Ed25519.
pub(crate) const ED25519_OID: [u8; 5] = [0x06, 0x03, 0x2b, 0x65, 0x70];

/// `1.3.132.0.10`, secp256k1.
pub(crate) const SECP256K1_OID: [u8; 7] = [0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x0a];

/// `SEQUENCE { OID rsaEncryption, NULL }`.
const RSA_ALGORITHM: [u8; 15] =
    [0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00];

/// SubjectPublicKeyInfo of an RSA key with exponent 65537.
pub(crate) fn rsa_spki(modulus: &[u8]) -> Vec<u8> {
    let mut numbers = integer(modulus);
    numbers.extend(integer(&EXPONENT));
    let mut bits = vec![0];
    bits.extend(tlv(0x30, &numbers));
    let mut body = RSA_ALGORITHM.to_vec();
    body.extend(tlv(0x03, &bits));
    tlv(0x30, &body)
}

/// The modulus of such a SubjectPublicKeyInfo; `None` for anything else.
pub(crate) fn rsa_modulus(spki: &[u8]) -> Option<Vec<u8>> {
    // All our keys have the same shape, so the modulus is where it is in one made from scratch.
    for bytes in [256_usize, 384, 512, 1024] {
        let frame = rsa_spki(&vec![0xff; bytes]);
        let tail = integer(&EXPONENT).len();
        let start = frame.len().checked_sub(tail)?.checked_sub(bytes)?;
        if frame.len() == spki.len() {
            let modulus = spki.get(start..start.checked_add(bytes)?)?.to_vec();
            return (rsa_spki(&modulus) == spki).then_some(modulus);
        }
    }
    None
}

/// A raw point, or one in an OCTET STRING as PKCS#11 2.40 says and SoftHSM does.
pub(crate) fn ed25519_point(bytes: &[u8]) -> Option<[u8; 32]> {
    bytes.strip_prefix(&[0x04, 0x20]).unwrap_or(bytes).try_into().ok()
}

/// The compressed form of an uncompressed point, raw or in an OCTET STRING. Whether it is on the curve is the signer's to
/// find out: it verifies by it.
pub(crate) fn compressed(bytes: &[u8]) -> Option<Vec<u8>> {
    let point = bytes.strip_prefix(&[0x04, 0x41]).unwrap_or(bytes);
    let (x, y) = point.strip_prefix(&[0x04])?.split_at_checked(32)?;
    let last = y.get(31).filter(|_| y.len() == 32)?;
    let sign = if last & 1 == 0 { 0x02 } else { 0x03 };
    Some([&[sign], x].concat())
}

fn integer(number: &[u8]) -> Vec<u8> {
    let first = number.iter().position(|byte| *byte != 0).unwrap_or(number.len());
    let significant = number.get(first..).unwrap_or_default();
    let mut body = Vec::with_capacity(significant.len().saturating_add(1));
    if significant.first().is_none_or(|byte| *byte >= 0x80) {
        body.push(0);
    }
    body.extend_from_slice(significant);
    tlv(0x02, &body)
}

fn tlv(tag: u8, body: &[u8]) -> Vec<u8> {
    let length = body.len().to_be_bytes();
    let first = length.iter().position(|byte| *byte != 0).unwrap_or(length.len());
    let significant = length.get(first..).unwrap_or_default();
    let mut out = vec![tag];
    match significant {
        [] => out.push(0),
        [short] if *short < 0x80 => out.push(*short),
        long => {
            out.push(u8::try_from(long.len()).unwrap_or(8) | 0x80);
            out.extend_from_slice(long);
        }
    }
    out.extend_from_slice(body);
    out
}

#[cfg(test)]
mod tests {
    use rsa::pkcs8::EncodePublicKey;
    use rsa::traits::PublicKeyParts;
    use rsa::{BigUint, RsaPublicKey};

    use super::*;

    #[test]
    fn spki_is_what_others_write() {
        for bytes in [256, 384, 512] {
            for top in [0x80_u8, 0x9c, 0xff] {
                let mut modulus = vec![0x37; bytes];
                modulus[0] = top;
                let exponent = BigUint::from_bytes_be(&EXPONENT);
                let key = RsaPublicKey::new(BigUint::from_bytes_be(&modulus), exponent).unwrap();
                assert_eq!(key.n().to_bytes_be(), modulus);
                let spki = rsa_spki(&modulus);
                assert_eq!(spki, key.to_public_key_der().unwrap().as_bytes());
                assert_eq!(rsa_modulus(&spki), Some(modulus));
            }
        }
    }

    #[test]
    fn other_bytes_have_no_modulus() {
        let spki = rsa_spki(&[0xc3; 384]);
        for at in [0, 4, 10, 20, 30, spki.len() - 1] {
            let mut damaged = spki.clone();
            damaged[at] ^= 1;
            assert_eq!(rsa_modulus(&damaged), None, "byte {at}");
        }
        assert_eq!(rsa_modulus(&spki[1..]), None);
        assert_eq!(rsa_modulus(&[]), None);
    }

    #[test]
    fn points_are_compressed_as_libsecp256k1_does() {
        for byte in 1..40 {
            let secret = secp256k1::SecretKey::from_slice(&[byte; 32]).unwrap();
            let key = secret.public_key(secp256k1::SECP256K1);
            let raw = key.serialize_uncompressed();
            let wrapped = [&[0x04, 0x41], raw.as_slice()].concat();
            assert_eq!(compressed(&raw).unwrap(), key.serialize());
            assert_eq!(compressed(&wrapped).unwrap(), key.serialize());
            assert_eq!(compressed(&raw[..64]), None);
            assert_eq!(compressed(&wrapped[1..]), None);
            assert_eq!(compressed(&key.serialize()), None);
        }
    }

    #[test]
    fn points_come_in_two_dresses() {
        let raw = [7_u8; 32];
        let wrapped: Vec<u8> = [vec![0x04, 0x20], raw.to_vec()].concat();
        assert_eq!(ed25519_point(&raw), Some(raw));
        assert_eq!(ed25519_point(&wrapped), Some(raw));
        assert_eq!(ed25519_point(&raw[1..]), None);
    }
}
