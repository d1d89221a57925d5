//! Keys born in the token: the wrapping key with its unwrap template, the keys that sign statements and coins, the one
//! that seals. It never takes a weaker key for a good one: what a token would not have of a template is named.

use crate::session::Session;
use cryptoki::mechanism::{Mechanism, MechanismType};
use cryptoki::object::{Attribute, AttributeType, ObjectHandle};
use token_wire::conformance::Proof;
use token_wire::{Counters, Fault};

use super::table::Table;
use crate::attempt::attempt;
use crate::expect::{self, bytes, check_unwrap_template, differences};
use crate::keys::{Pair, Unwrapping, make_born, make_signing, make_statement, make_unwrapping};
use crate::sealing::Sealing;
use crate::{der, fault, numbers};

const LABEL: &str = "cofferdam conformance";
/// `1.2.840.10045.3.1.7`, P-256.
const P256_OID: [u8; 10] = [0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
pub(super) const DIGEST: [u8; 32] = [0xc0; 32];

/// The wrapping key's handle and its public half.
pub(super) fn try_wrapping(
    session: &Session,
    table: &mut Table,
) -> Result<Option<(ObjectHandle, Vec<u8>)>, Fault> {
    let what = "an RSA key is born in the token with the whole template";
    let make =
        |without: &[AttributeType]| make_unwrapping(session, Unwrapping::Wrapping, LABEL, without);
    let Some((_, private)) = made("wrapping:made", what, table, make)? else {
        for (id, what) in [
            ("wrapping:attributes", "its attributes are as asked for"),
            ("wrapping:template", "it keeps the whole CKA_UNWRAP_TEMPLATE"),
        ] {
            table.untried(id, what, "no such key")?;
        }
        return Ok(None);
    };
    attributes("wrapping:attributes", session, private, &expect::wrapping(), table)?;
    let kept = check_unwrap_template(
        session,
        private,
        "the wrapping key",
        &Unwrapping::Wrapping.template(),
    );
    let kept = kept.map(|()| String::new()).map_err(|fault| fault.text);
    table.need("wrapping:template", "it keeps the whole CKA_UNWRAP_TEMPLATE", kept)?;
    let alive = || session.get_attributes(private, &[AttributeType::Class]).is_ok();
    let destroyed = attempt("destroy it", alive, || session.destroy_object(private));
    let stays = match &destroyed {
        Ok(None) => Ok(String::new()),
        Ok(Some(())) => Err("destroyed".to_owned()),
        Err(fault) => Err(fault.text.clone()),
    };
    table.need("wrapping:stays", "it cannot be destroyed", stays)?;
    if matches!(destroyed, Ok(Some(()))) {
        // The children need one all the same.
        return Ok(make(&[AttributeType::Destroyable])
            .ok()
            .and_then(|(_, key)| spki(session, key)));
    }
    Ok(spki(session, private))
}

fn spki(session: &Session, private: ObjectHandle) -> Option<(ObjectHandle, Vec<u8>)> {
    let modulus = bytes(session, private, AttributeType::Modulus).ok()?;
    Some((private, der::rsa_spki(&modulus)))
}

/// Ed25519 as the signer uses it, and P-256 for those who must do without.
pub(super) fn try_statements(session: &Session, table: &mut Table) -> Result<(), Fault> {
    let what = "an Ed25519 key is born in the token with the whole template";
    let make = |without: &[AttributeType]| make_statement(session, LABEL, without);
    let signs = "it signs statements (CKM_EDDSA)";
    match made("eddsa:made", what, table, make)? {
        Some(pair) => {
            attributes("eddsa:attributes", session, pair.1, &expect::statement(), table)?;
            table.proven("eddsa:signs", signs, by_ed25519(session, pair))?;
        }
        None => table.untried("eddsa:signs", signs, "no such key")?,
    }
    let what = "a P-256 key is born in the token and signs a digest (instead of Ed25519)";
    let curve = P256_OID.to_vec();
    let (made_by, signs_by) = (Mechanism::EccKeyPairGen, MechanismType::ECDSA);
    let signed = make_signing(session, LABEL, curve, &made_by, signs_by, &[])
        .map_err(|fault| fault.text)
        .and_then(|(public, private)| {
            let signature = session.sign(&Mechanism::Ecdsa, private, &DIGEST);
            let signature = signature.map_err(|error| fault::short(&error))?;
            let verified = session.verify(&Mechanism::Ecdsa, public, &DIGEST, &signature);
            verified.map_err(|error| fault::short(&error))?;
            Ok("verified by the token itself".to_owned())
        });
    table.need("p256:signs", what, signed)
}

fn by_ed25519(session: &Session, (public, private): Pair) -> Result<Proof, String> {
    let point = bytes(session, public, AttributeType::EcPoint).map_err(|fault| fault.text)?;
    let key = der::ed25519_point(&point).ok_or("its point is not 32 bytes")?;
    let message = b"cofferdam conformance".to_vec();
    let mechanism = numbers::eddsa();
    let signature = session.sign(&mechanism, private, &message);
    let signature = signature.map_err(|error| fault::short(&error))?;
    Ok(Proof::Ed25519 { key, message, signature })
}

/// A coin's key of tier `token`.
pub(super) fn try_coin_key(session: &Session, table: &mut Table) -> Result<(), Fault> {
    let what = "a secp256k1 key is born in the token with the whole template";
    let make = |without: &[AttributeType]| make_born(session, LABEL, without);
    let signs = "it signs 32 bytes (CKM_ECDSA)";
    let hides = "its private key is not shown";
    let Some((public, private)) = made("coin:made", what, table, make)? else {
        table.untried("coin:signs", signs, "no such key")?;
        return table.untried("coin:hides", hides, "no such key");
    };
    attributes("coin:attributes", session, private, &expect::born(), table)?;
    let signed = bytes(session, public, AttributeType::EcPoint).map_err(|fault| fault.text);
    let signed = signed.and_then(|point| {
        // In an OCTET STRING, as the standard says, or bare.
        let key = point.strip_prefix(&[0x04, 0x41]).unwrap_or(&point).to_vec();
        let signature = session.sign(&Mechanism::Ecdsa, private, &DIGEST);
        let signature = signature.map_err(|error| fault::short(&error))?;
        Ok(Proof::Secp256k1 { key, digest: DIGEST, signature })
    });
    table.proven("coin:signs", signs, signed)?;
    let alive = || session.get_attributes(private, &[AttributeType::Class]).is_ok();
    let read = || session.get_attributes(private, &[AttributeType::Value]);
    let shown = attempt("read its value", alive, read).map_err(|fault| fault.text);
    let is_value = |shown: &_| matches!(shown, Attribute::Value(value) if !value.is_empty());
    let hidden = shown.and_then(|shown| match shown.iter().flatten().any(is_value) {
        true => Err("CKA_VALUE is shown".to_owned()),
        false => Ok(String::new()),
    });
    table.need("coin:hides", hides, hidden)
}

/// The key that accounts of tier `sealed-hd` are sealed to, and how the token opens them.
pub(super) fn try_sealing(session: &Session, table: &mut Table) -> Result<(), Fault> {
    let what = "an RSA key for sealed accounts is born in the token with the whole template";
    let make =
        |without: &[AttributeType]| make_unwrapping(session, Unwrapping::Sealing, LABEL, without);
    let opens = "a sealed account opens inside the token (CKM_AES_GCM), an altered one does not, and its key is held back";
    let Some((_, private)) = made("sealing:made", what, table, make)? else {
        return table.untried("sealing:opens", opens, "no such key");
    };
    attributes("sealing:attributes", session, private, &expect::wrapping(), table)?;
    let template = Unwrapping::Sealing.template();
    let kept = check_unwrap_template(session, private, "the sealing key", &template);
    let kept = kept.map(|()| String::new()).map_err(|fault| fault.text);
    table.need("sealing:template", "it keeps the whole CKA_UNWRAP_TEMPLATE", kept)?;
    let tried = spki(session, private).ok_or_else(|| "its public half is not shown".to_owned());
    let tried = tried.and_then(|(key, spki)| {
        let opened = Sealing::new(session, key).try_everything(&spki, &mut Counters::default());
        opened.map(|_| String::new()).map_err(|fault| fault.text)
    });
    table.need("sealing:opens", opens, tried)
}

/// Makes a key with everything; where the token will not, without one attribute or another, to name the one it will not
/// have.
fn made(
    id: &str,
    what: &str,
    table: &mut Table,
    make: impl Fn(&[AttributeType]) -> Result<Pair, Fault>,
) -> Result<Option<Pair>, Fault> {
    const OPTIONAL: [AttributeType; 6] = [
        AttributeType::Destroyable,
        AttributeType::Copyable,
        AttributeType::AllowedMechanisms,
        AttributeType::SignRecover,
        AttributeType::Derive,
        AttributeType::Modifiable,
    ];
    let refusal = match make(&[]) {
        Ok(pair) => {
            table.need(id, what, Ok(String::new()))?;
            return Ok(Some(pair));
        }
        Err(fault) => fault.text,
    };
    for count in 1..=OPTIONAL.len() {
        let alone = OPTIONAL.get(count.saturating_sub(1)..count).unwrap_or_default();
        let so_far = OPTIONAL.get(..count).unwrap_or_default();
        for without in [alone, so_far] {
            if let Ok(pair) = make(without) {
                let names: Vec<String> = without.iter().map(ToString::to_string).collect();
                let seen = format!("{refusal}; made without {}", names.join(", "));
                table.need(id, what, Err(seen))?;
                return Ok(Some(pair));
            }
        }
    }
    table.need(id, what, Err(refusal))?;
    Ok(None)
}

fn attributes(
    id: &str,
    session: &Session,
    key: ObjectHandle,
    expected: &[Attribute],
    table: &mut Table,
) -> Result<(), Fault> {
    let wrong = differences(session, key, expected);
    let seen = if wrong.is_empty() { Ok(String::new()) } else { Err(wrong.join("; ")) };
    table.need(id, "its attributes are as asked for", seen)
}
