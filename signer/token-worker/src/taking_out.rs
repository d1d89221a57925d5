//! Whether a key can be wrapped for taking out, by any wrapping key that somebody with the PIN can come by: an AES key that
//! the token makes or is given, and an RSA public key from outside. It never passes what it could not try, and keeps
//! nothing of what came out.

use cryptoki::mechanism::Mechanism;
use cryptoki::object::{Attribute, KeyType, ObjectClass, ObjectHandle};
use token_wire::{Fault, FaultCode};

use crate::attempt::attempt;
use crate::scheme::oaep;
use crate::session::Session;
use crate::{der, fault, kwp};

/// An AES key that everybody may know: what it wraps here is a canary's, or refused.
const AES: [u8; 32] = [0xae; 32];

/// An RSA modulus of 2048 bits whose private key nobody kept.
#[rustfmt::skip]
const MODULUS: [u8; 256] = [
    0xac, 0xbc, 0xf7, 0x3c, 0x2a, 0xb6, 0x90, 0xd5, 0x74, 0xad, 0x46, 0x46, 0xff, 0x4c, 0xd8,
    0xa0, 0x38, 0xa2, 0x66, 0xf0, 0x83, 0x2e, 0x9e, 0xf9, 0x98, 0x8c, 0x31, 0x88, 0x4a, 0xc0,
    0xd2, 0xa3, 0x4e, 0x91, 0x18, 0x5f, 0x1b, 0x1b, 0x4f, 0x52, 0x56, 0xf6, 0xca, 0xee, 0xe9,
    0x0d, 0x95, 0xb9, 0xd0, 0x82, 0xed, 0xcb, 0x6e, 0x36, 0x92, 0x27, 0xdd, 0xce, 0x6e, 0x35,
    0xdc, 0x38, 0x79, 0xaa, 0x85, 0xc2, 0xb1, 0xd1, 0x1a, 0xfa, 0xc8, 0xc3, 0xc3, 0xe3, 0xdd,
    0x9b, 0xa4, 0x09, 0xf5, 0x5e, 0xe4, 0xf5, 0x29, 0xba, 0xfe, 0x02, 0x39, 0x7f, 0x00, 0x2f,
    0x00, 0x1b, 0x08, 0x06, 0x9e, 0x6b, 0x37, 0x4c, 0xb2, 0x09, 0x15, 0xbd, 0x61, 0x9e, 0xaa,
    0x12, 0x91, 0x1a, 0x50, 0xed, 0xa3, 0xe3, 0x3a, 0x8e, 0x4a, 0x44, 0x87, 0xac, 0x97, 0x27,
    0x43, 0xad, 0x12, 0x6e, 0x2b, 0x0a, 0xbb, 0xb5, 0xa3, 0xe9, 0x6d, 0x84, 0xb4, 0x38, 0xdd,
    0xab, 0xe9, 0x1f, 0x11, 0x2e, 0x1a, 0xe7, 0xe7, 0xc9, 0x72, 0xa5, 0xd7, 0xd2, 0x85, 0x1b,
    0xe3, 0x74, 0xc3, 0x2a, 0x78, 0xea, 0xe5, 0x47, 0xf1, 0x9b, 0xa3, 0x2d, 0x1a, 0xcf, 0x33,
    0x1b, 0xd5, 0x9f, 0x39, 0x66, 0xcb, 0x1e, 0x22, 0x9d, 0x63, 0x17, 0x3c, 0x47, 0x3e, 0x80,
    0x1d, 0x8e, 0xe2, 0xd5, 0x0b, 0x4a, 0x68, 0x03, 0xbf, 0x6a, 0xf5, 0xa8, 0x03, 0x15, 0x27,
    0xb0, 0x3c, 0x19, 0x38, 0xf5, 0xe4, 0x64, 0x52, 0xb9, 0x75, 0xcd, 0x1c, 0x49, 0x69, 0x21,
    0xff, 0x6b, 0x4d, 0xdc, 0xf8, 0x17, 0xea, 0x86, 0x3f, 0xce, 0xa8, 0xd7, 0x00, 0x26, 0x10,
    0x1f, 0x05, 0x88, 0xc8, 0x6c, 0x91, 0xc6, 0x86, 0x96, 0x79, 0x02, 0xa5, 0xf2, 0xc9, 0xbb,
    0x24, 0x05, 0xaf, 0xf3, 0xef, 0x85, 0xce, 0xed, 0x87, 0x39, 0x0c, 0x69, 0x7a, 0xf4, 0x3a,
    0xc9,
];

/// A wrapping key of this session.
pub(crate) struct Wrapper {
    pub(crate) key: ObjectHandle,
    pub(crate) by: Vec<Mechanism<'static>>,
}

/// Whether the key comes out, by whatever wraps. A fault where no wrapping key could be had, or no call came to an answer.
pub(crate) fn comes_out(session: &Session, key: ObjectHandle, what: &str) -> Result<bool, Fault> {
    let (mut had, mut came) = (false, false);
    for wrapper in [aes(session)?, rsa(session)?].into_iter().flatten() {
        had = true;
        let wrapped = by_any(session, &wrapper, key, what);
        session
            .destroy_object(wrapper.key)
            .map_err(|error| fault::token("destroy a session key", &error))?;
        came |= wrapped?;
    }
    if had { Ok(came) } else { Err(untried(what)) }
}

/// An AES key that may wrap: made by the token, or else put in.
pub(crate) fn aes(session: &Session) -> Result<Option<Wrapper>, Fault> {
    let common = [
        Attribute::Token(false),
        Attribute::Wrap(true),
        Attribute::Encrypt(true),
        Attribute::Extractable(true),
    ];
    let mut by =
        vec![Mechanism::AesKeyWrap, Mechanism::AesKeyWrapPad, Mechanism::AesCbcPad([0; 16])];
    by.extend(kwp::at(kwp::STANDARD).map(|(_, standard)| standard));
    let made = [&common[..], &[Attribute::ValueLen(32.into())]].concat();
    let put = [
        &common[..],
        &[
            Attribute::Class(ObjectClass::SECRET_KEY),
            Attribute::KeyType(KeyType::AES),
            Attribute::Value(AES.to_vec()),
        ],
    ]
    .concat();
    let doing = "make an AES key that wraps";
    let made = attempt(doing, || true, || session.generate_key(&Mechanism::AesKeyGen, &made))?;
    let key = match made {
        Some(key) => Some(key),
        None => attempt("put in an AES key that wraps", || true, || session.create_object(&put))?,
    };
    Ok(key.map(|key| Wrapper { key, by }))
}

/// An RSA public key that may wrap: anybody has the other half of theirs.
fn rsa(session: &Session) -> Result<Option<Wrapper>, Fault> {
    let public = [
        Attribute::Class(ObjectClass::PUBLIC_KEY),
        Attribute::KeyType(KeyType::RSA),
        Attribute::Token(false),
        Attribute::Private(false),
        Attribute::Wrap(true),
        Attribute::Modulus(MODULUS.to_vec()),
        Attribute::PublicExponent(der::EXPONENT.to_vec()),
    ];
    let doing = "put in an RSA key that wraps";
    let key = attempt(doing, || true, || session.create_object(&public))?;
    Ok(key.map(|key| Wrapper { key, by: vec![oaep(), Mechanism::RsaPkcs] }))
}

/// Whether the wrapper gives the key out by one of its mechanisms.
pub(crate) fn by_any(
    session: &Session,
    wrapper: &Wrapper,
    key: ObjectHandle,
    what: &str,
) -> Result<bool, Fault> {
    let alive = || session.find_objects(&[Attribute::Class(ObjectClass::PRIVATE_KEY)]).is_ok();
    for mechanism in &wrapper.by {
        let doing = format!("wrap {what} for taking out");
        if attempt(&doing, alive, || session.wrap_key(mechanism, wrapper.key, key))?.is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}

fn untried(what: &str) -> Fault {
    Fault::new(
        FaultCode::KeyUnsafe,
        format!(
            "not tried: to wrap {what} for taking out (this token has no AES key made nor put in, and no RSA key put in)"
        ),
    )
}
