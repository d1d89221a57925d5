//! Children: unwrapped by each scheme the token may have, signed with, destroyed, and everything the canary knows tried
//! on the first scheme that works. It never handles a child but the canary.

use std::time::{Duration, Instant};

use crate::session::Session;
use cryptoki::error::Error;
use cryptoki::mechanism::Mechanism;
use cryptoki::object::{Attribute, KeyType, ObjectClass, ObjectHandle};
use token_wire::conformance::Proof;
use token_wire::{CANARY_PUBLIC_KEY, Fault, FaultCode};

use super::import;
use super::keys::DIGEST;
use super::table::Table;
use crate::scheme::{oaep, oaep_sha256};
use crate::unwrap_template::{child, with_attribute};
use crate::{canary, fault, kwp};

/// A key-encryption key that everybody may know, SHA-256 of "cofferdam canary kek v1", and the canary under it.
#[rustfmt::skip]
pub(super) const KEK: [u8; 32] = [
    0x64, 0xf6, 0x03, 0x80, 0x39, 0x99, 0x3c, 0x4b, 0x7c, 0xb6, 0x9a, 0x1c, 0xf1, 0xf6, 0xaa,
    0xa0, 0xd8, 0xb3, 0xc8, 0xca, 0x6e, 0x97, 0x9a, 0x5c, 0xf8, 0x32, 0x06, 0xb2, 0xe5, 0x81,
    0xac, 0xab,
];
/// By RFC 5649.
#[rustfmt::skip]
pub(super) const BY_KWP: [u8; 144] = [
    0xdf, 0x4d, 0x68, 0x04, 0xfb, 0xda, 0x9f, 0xd3, 0x33, 0xba, 0xda, 0xd6, 0x5b, 0x1a, 0xd0,
    0x8f, 0x87, 0xfa, 0x9f, 0x7f, 0x98, 0xb9, 0xe9, 0xc1, 0xc4, 0x9c, 0xf0, 0x38, 0x79, 0xd1,
    0x78, 0x31, 0x54, 0x4a, 0x80, 0x39, 0x01, 0x4a, 0xd2, 0x1f, 0xb8, 0x4a, 0xfb, 0x49, 0xd6,
    0xf2, 0xaa, 0xef, 0x75, 0x68, 0x5b, 0x86, 0xc3, 0x08, 0xde, 0xef, 0xd5, 0xfa, 0x1c, 0x39,
    0x5e, 0x18, 0x38, 0x87, 0x6a, 0xd6, 0x02, 0xb5, 0xc1, 0x80, 0xb5, 0xfb, 0xee, 0x5c, 0x6a,
    0x3a, 0x04, 0xd7, 0xac, 0xcd, 0xd5, 0x59, 0x81, 0x24, 0x5c, 0x78, 0xf1, 0xa3, 0x9e, 0xd2,
    0x01, 0x22, 0x6f, 0x23, 0x8a, 0xcf, 0x2b, 0x0f, 0x6f, 0xe7, 0xbb, 0x91, 0x91, 0x8f, 0xab,
    0xb6, 0x05, 0xc7, 0x43, 0x9b, 0x5c, 0x8f, 0xbe, 0x5a, 0x13, 0x0f, 0x61, 0xc0, 0xbe, 0x81,
    0x7b, 0x5f, 0xcc, 0xbf, 0x3f, 0x83, 0xbb, 0x4e, 0x5f, 0x48, 0x37, 0x2f, 0x20, 0xa6, 0x67,
    0x78, 0x45, 0x9d, 0x29, 0xed, 0xc3, 0x29, 0xb8, 0x42,
];
/// By RFC 3394 after padding as PKCS#7 does: no scheme of ours, but what some modules have at the same number.
#[rustfmt::skip]
const BY_PKCS7: [u8; 144] = [
    0x80, 0x28, 0x4c, 0x77, 0x6b, 0xe8, 0x34, 0x48, 0xee, 0xe2, 0xfd, 0xf9, 0x53, 0x6f, 0xe8,
    0x74, 0xdc, 0x3c, 0x0d, 0xd1, 0xb1, 0xe6, 0x21, 0x9d, 0xf6, 0xec, 0xa0, 0x6b, 0xdd, 0x5e,
    0xdc, 0x16, 0x91, 0xb4, 0x2e, 0xbe, 0xd5, 0x85, 0xa1, 0x6d, 0xca, 0x82, 0x56, 0xce, 0x16,
    0x13, 0x27, 0xa0, 0xbe, 0xc1, 0x39, 0x2c, 0xcd, 0xe4, 0x77, 0x86, 0x7b, 0xd8, 0x87, 0x03,
    0x62, 0x70, 0x90, 0xc7, 0xf8, 0x38, 0xd2, 0x26, 0xf0, 0x16, 0xd2, 0xb7, 0x23, 0x7e, 0xbc,
    0x81, 0x85, 0x8a, 0x2f, 0x22, 0x2d, 0x7b, 0x75, 0x5c, 0xf4, 0x29, 0x18, 0x07, 0xa5, 0x71,
    0x5e, 0x68, 0xca, 0xd8, 0x4a, 0xac, 0xf1, 0x17, 0x4c, 0xa7, 0xc2, 0x1f, 0xe1, 0xc0, 0xd1,
    0x42, 0xf8, 0xff, 0x06, 0x5d, 0xc3, 0x58, 0x98, 0x45, 0xab, 0x38, 0xd6, 0x15, 0xe9, 0xd2,
    0x51, 0xf7, 0x74, 0x1b, 0x6a, 0xa5, 0xfe, 0x59, 0x01, 0xaf, 0xe5, 0x00, 0x71, 0xb2, 0x39,
    0xf8, 0xc2, 0x4c, 0x49, 0x8c, 0x8d, 0x96, 0x73, 0xfe,
];

/// A way of unwrapping the canary that works.
pub(super) struct Way {
    mechanism: Mechanism<'static>,
    key: ObjectHandle,
    wrapped: Vec<u8>,
}

impl Way {
    pub(super) fn unwrap(
        &self,
        session: &Session,
        template: &[Attribute],
    ) -> Result<ObjectHandle, Error> {
        session.unwrap_key(&self.mechanism, self.key, &self.wrapped, template)
    }
}

pub(super) fn try_all(
    session: &Session,
    wrapping: Option<(ObjectHandle, Vec<u8>)>,
    kwp: u64,
    table: &mut Table,
) -> Result<Option<Way>, Fault> {
    let mut ways = Vec::new();
    for (id, mechanism) in [("rsa-oaep-sha1", oaep()), ("rsa-oaep-sha256", oaep_sha256())] {
        let way = wrapping.as_ref().ok_or_else(|| "no wrapping key".to_owned());
        let way = way.and_then(|(key, spki)| {
            let wrapped = canary::wrap_by(session, spki, &mechanism, &canary::CANARY_PKCS8)
                .map_err(|fault| fault.text)?;
            Ok(Way { mechanism, key: *key, wrapped })
        });
        ways.extend(try_way(session, id, way, table)?);
    }
    ways.extend(try_kek(session, kwp, table)?);
    import::try_all(session, kwp, table)?;
    let way = ways.into_iter().next();
    match &way {
        Some(way) => {
            let unwrap = |template: &[Attribute]| way.unwrap(session, template);
            let mut number = 0_u32;
            canary::children().each(session, &unwrap, &mut |what, tried| {
                number = number.saturating_add(1);
                let (id, what) = (format!("attack:{number}"), format!("attack: {what}"));
                match tried {
                    Ok(()) => table.need(&id, &what, Ok("refused".to_owned())),
                    // The token gave no answer, so it refused nothing.
                    Err(fault) if fault.code != FaultCode::KeyUnsafe => {
                        table.untried(&id, &what, &fault.text)
                    }
                    Err(fault) => table.need(&id, &what, Err(fault.text)),
                }
            })?;
            rates(session, way, table)?;
        }
        None => table.untried(
            "attack:1",
            "attacks on an unwrapped child",
            "no child can be unwrapped",
        )?,
    }
    Ok(way)
}

/// Under a key-encryption key by the mechanism at that number, whatever the module means by it.
fn try_kek(session: &Session, kwp: u64, table: &mut Table) -> Result<Option<Way>, Fault> {
    let kek = with_attribute(&child(), |unwrap_template| {
        let template = [
            Attribute::Class(ObjectClass::SECRET_KEY),
            Attribute::KeyType(KeyType::AES),
            Attribute::Token(false),
            Attribute::Private(true),
            Attribute::Sensitive(true),
            Attribute::Extractable(false),
            Attribute::Encrypt(false),
            Attribute::Decrypt(false),
            Attribute::Wrap(false),
            Attribute::Unwrap(true),
            Attribute::Value(KEK.to_vec()),
            unwrap_template,
            Attribute::Modifiable(false),
        ];
        session
            .create_object(&template)
            .map_err(|error| fault::token("take a key-encryption key", &error))
    });
    let kek = kek.map_err(|fault| fault.text);
    let way = |wrapped: &[u8]| {
        let (_, mechanism) = kwp::at(kwp)?;
        kek.clone().map(|key| Way { mechanism, key, wrapped: wrapped.to_vec() })
    };
    let standard = try_way(session, "aes-kwp", way(&BY_KWP), table)?;
    if standard.is_some() {
        return Ok(standard);
    }
    let Ok(other) = way(&BY_PKCS7) else { return Ok(None) };
    if other.unwrap(session, &child()).and_then(|key| session.destroy_object(key)).is_err() {
        return Ok(None);
    }
    let what = format!("{kwp:#x} pads as PKCS#7 here; the attacks below use that");
    table.measured("note:aes-key-wrap-pkcs7", &what, "no scheme of ours".to_owned())?;
    Ok(Some(other))
}

/// Unwraps, signs and destroys the canary once.
fn try_way(
    session: &Session,
    id: &str,
    way: Result<Way, String>,
    table: &mut Table,
) -> Result<Option<Way>, Fault> {
    let what =
        format!("a secp256k1 child wrapped by {id} is unwrapped, signs 32 bytes and is destroyed");
    let signed = way.as_ref().map_err(Clone::clone).and_then(|way| {
        let signature = sign_once(session, way).map_err(|error| fault::short(&error))?;
        Ok(Proof::Secp256k1 { key: CANARY_PUBLIC_KEY.to_vec(), digest: DIGEST, signature })
    });
    let works = signed.is_ok();
    table.proven(&format!("unwrap:{id}"), &what, signed)?;
    Ok(way.ok().filter(|_| works))
}

fn sign_once(session: &Session, way: &Way) -> Result<Vec<u8>, Error> {
    let key = way.unwrap(session, &child())?;
    let signed = session.sign(&Mechanism::Ecdsa, key, &DIGEST);
    session.destroy_object(key)?;
    signed
}

/// How many signatures with a child this session makes in a second.
fn rates(session: &Session, way: &Way, table: &mut Table) -> Result<(), Fault> {
    let (begun, mut count) = (Instant::now(), 0_u32);
    // A whole second's worth, so that the count is the rate.
    while begun.elapsed() < Duration::from_secs(1) {
        if let Err(error) = sign_once(session, way) {
            let seen = Err(fault::short(&error));
            return table.need("children:again", AGAIN, seen);
        }
        count = count.saturating_add(1);
    }
    table.need("children:again", AGAIN, Ok(String::new()))?;
    let what = "unwrap, sign and destroy in one session";
    table.measured("rate:children", what, format!("{count} a second"))
}

const AGAIN: &str = "children are unwrapped again and again";
