//! What a key's attributes must be, read back from the token. A key that differs in one of them, or does not
//! show one, is refused by its name and the attribute's. It never changes a key.

use cryptoki::mechanism::MechanismType;
use cryptoki::object::{
    Attribute, AttributeInfo, AttributeType, KeyType, ObjectClass, ObjectHandle,
};
use token_wire::{Fault, FaultCode};

use crate::session::Session;
use crate::unwrap_template::{UNWRAP_TEMPLATE, WRAPPING_MECHANISM, bytes_expected};
use crate::{der, fault};
use crate::{kwp, numbers};

/// Bytes of one `CK_MECHANISM_TYPE`.
const MECHANISM_BYTES: usize = size_of::<std::ffi::c_ulong>();

/// The wrapping or the sealing key: born in the token, never out of it, and good for unwrapping alone, what comes
/// out being as `template` says.
pub(crate) fn check_wrapping(
    session: &Session,
    key: ObjectHandle,
    name: &str,
    template: &[Attribute],
) -> Result<(), Fault> {
    check(session, key, name, &wrapping())?;
    check_unwrap_template(session, key, name, template)
}

/// What a key that unwraps must be, but for its unwrap template.
pub(crate) fn wrapping() -> Vec<Attribute> {
    let mut expected = born_in_token(KeyType::RSA, MechanismType::RSA_PKCS_KEY_PAIR_GEN);
    expected.extend([
        Attribute::Unwrap(true),
        Attribute::Sign(false),
        Attribute::AllowedMechanisms(vec![WRAPPING_MECHANISM]),
    ]);
    expected
}

/// The key that a key-encryption key is imported through: as the wrapping key, but that it is destroyed after its use.
pub(crate) fn check_import_key(session: &Session, key: ObjectHandle) -> Result<(), Fault> {
    let name = "one-time key";
    let mut expected = wrapping();
    expected.retain(|wanted| wanted.attribute_type() != AttributeType::Destroyable);
    check(session, key, name, &expected)?;
    check_unwrap_template(session, key, name, &crate::unwrap_template::kek())
}

/// A key-encryption key. It came from outside, so it is neither local nor was it never extractable; what it may do is all
/// that can be asked of it.
pub(crate) fn check_kek(
    session: &Session,
    key: ObjectHandle,
    name: &str,
    by: MechanismType,
) -> Result<(), Fault> {
    check(session, key, name, &crate::unwrap_template::kek())?;
    check_kek_use(session, key, name, by)
}

/// A key like it, that is of one session and never unwraps anything: what the token keeps of such a template is seen before
/// a real one is in the token for good.
pub(crate) fn check_rehearsed_kek(
    session: &Session,
    key: ObjectHandle,
    by: MechanismType,
) -> Result<(), Fault> {
    let name = "a key-encryption key on trial";
    let mut expected = crate::unwrap_template::kek();
    let of_the_token = [AttributeType::Token, AttributeType::Destroyable];
    expected.retain(|wanted| !of_the_token.contains(&wanted.attribute_type()));
    check(session, key, name, &expected)?;
    check_kek_use(session, key, name, by)
}

/// For one mechanism, and what comes out is as children are.
fn check_kek_use(
    session: &Session,
    key: ObjectHandle,
    name: &str,
    by: MechanismType,
) -> Result<(), Fault> {
    check_one_mechanism(session, key, name, by)?;
    check_unwrap_template(session, key, name, &crate::unwrap_template::child())
}

/// `cryptoki` reads no number back that it has no name for (it says `NotSupported`): a vendor's, CKM_AES_KEY_WRAP_KWP. Then
/// the length says that there is one, and the canary, which is unwrapped by that number, which. Of a key for statements its
/// proof does, which is signed by that number.
fn check_one_mechanism(
    session: &Session,
    key: ObjectHandle,
    name: &str,
    by: MechanismType,
) -> Result<(), Fault> {
    check(session, key, name, &[Attribute::AllowedMechanisms(vec![by])])
}

/// That there is one mechanism in such an attribute, of whatever number.
fn check_there_is_one(
    session: &Session,
    key: ObjectHandle,
    name: &str,
    kind: AttributeType,
) -> Result<(), Fault> {
    let info = session
        .get_attribute_info(key, &[kind])
        .map_err(|error| fault::token("read a key's mechanism", &error))?;
    match info.as_slice() {
        [AttributeInfo::Available(bytes)] if *bytes == MECHANISM_BYTES => Ok(()),
        other => Err(unsafe_key(name, &kind.to_string(), &format!("{other:?}"), "one")),
    }
}

/// The mechanism that is asked for, if `cryptoki` has no name for it.
fn unnamed(wanted: &Attribute) -> bool {
    match wanted {
        Attribute::AllowedMechanisms(by) => matches!(by.as_slice(), [by] if !kwp::has_name(*by)),
        Attribute::KeyGenMechanism(by) => !kwp::has_name(*by),
        _ => false,
    }
}

/// The entries cannot be read back through cryptoki: their number is checked here, each of them by canary.
pub(crate) fn check_unwrap_template(
    session: &Session,
    key: ObjectHandle,
    name: &str,
    template: &[Attribute],
) -> Result<(), Fault> {
    let info = session
        .get_attribute_info(key, &[UNWRAP_TEMPLATE])
        .map_err(|error| fault::token("read a key's unwrap template", &error))?;
    match info.as_slice() {
        [AttributeInfo::Available(bytes)] if *bytes == bytes_expected(template) => Ok(()),
        other => Err(unsafe_key(name, "CKA_UNWRAP_TEMPLATE", &format!("{other:?}"), "complete")),
    }
}

/// A key that signs statements: born in the token, never out of it, and good for signing alone.
pub(crate) fn check_statement(
    session: &Session,
    key: ObjectHandle,
    name: &str,
) -> Result<(), Fault> {
    check(session, key, name, &statement())
}

/// What a key that signs statements must be.
pub(crate) fn statement() -> Vec<Attribute> {
    let (made_by, signs_by) = (numbers::eddsa_key_pair_gen_type(), numbers::eddsa_type());
    signing(KeyType::EC_EDWARDS, made_by, signs_by)
}

/// A key for coins that was born in the token. Shows every attribute as it was found, one line each.
pub(crate) fn check_born(
    session: &Session,
    key: ObjectHandle,
    name: &str,
) -> Result<Vec<String>, Fault> {
    let expected = born();
    check(session, key, name, &expected)?;
    // As found is as expected.
    Ok(expected.iter().map(said).collect())
}

/// What a key for coins must be.
pub(crate) fn born() -> Vec<Attribute> {
    let mut expected = signing(KeyType::EC, MechanismType::ECC_KEY_PAIR_GEN, MechanismType::ECDSA);
    expected.push(Attribute::EcParams(der::SECP256K1_OID.to_vec()));
    expected
}

/// An attribute of [`born`] in words that PKCS#11 has, whatever a library calls it.
fn said(attribute: &Attribute) -> String {
    let (name, value) = match attribute {
        Attribute::Class(_) => ("CKA_CLASS", "CKO_PRIVATE_KEY".to_owned()),
        Attribute::KeyType(_) => ("CKA_KEY_TYPE", "CKK_EC".to_owned()),
        Attribute::EcParams(curve) => ("CKA_EC_PARAMS", hex(curve)),
        Attribute::KeyGenMechanism(_) => {
            ("CKA_KEY_GEN_MECHANISM", "CKM_EC_KEY_PAIR_GEN".to_owned())
        }
        Attribute::AllowedMechanisms(_) => ("CKA_ALLOWED_MECHANISMS", "CKM_ECDSA".to_owned()),
        Attribute::Token(yes) => ("CKA_TOKEN", yes.to_string()),
        Attribute::Private(yes) => ("CKA_PRIVATE", yes.to_string()),
        Attribute::Sensitive(yes) => ("CKA_SENSITIVE", yes.to_string()),
        Attribute::AlwaysSensitive(yes) => ("CKA_ALWAYS_SENSITIVE", yes.to_string()),
        Attribute::Extractable(yes) => ("CKA_EXTRACTABLE", yes.to_string()),
        Attribute::NeverExtractable(yes) => ("CKA_NEVER_EXTRACTABLE", yes.to_string()),
        Attribute::Local(yes) => ("CKA_LOCAL", yes.to_string()),
        Attribute::Sign(yes) => ("CKA_SIGN", yes.to_string()),
        Attribute::SignRecover(yes) => ("CKA_SIGN_RECOVER", yes.to_string()),
        Attribute::Decrypt(yes) => ("CKA_DECRYPT", yes.to_string()),
        Attribute::Unwrap(yes) => ("CKA_UNWRAP", yes.to_string()),
        Attribute::Derive(yes) => ("CKA_DERIVE", yes.to_string()),
        Attribute::Modifiable(yes) => ("CKA_MODIFIABLE", yes.to_string()),
        Attribute::Copyable(yes) => ("CKA_COPYABLE", yes.to_string()),
        Attribute::Destroyable(yes) => ("CKA_DESTROYABLE", yes.to_string()),
        Attribute::AlwaysAuthenticate(yes) => ("CKA_ALWAYS_AUTHENTICATE", yes.to_string()),
        other => return other.attribute_type().to_string(),
    };
    format!("{name} {value}")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What a signing key that was born in the token must be.
pub(crate) fn signing(
    kind: KeyType,
    made_by: MechanismType,
    signs_by: MechanismType,
) -> Vec<Attribute> {
    let mut expected = born_in_token(kind, made_by);
    expected.extend([
        Attribute::Unwrap(false),
        Attribute::Sign(true),
        Attribute::AllowedMechanisms(vec![signs_by]),
    ]);
    expected
}

/// A child as it must be once unwrapped, whatever was asked for.
pub(crate) fn check_child(session: &Session, key: ObjectHandle) -> Result<(), Fault> {
    check(session, key, "an unwrapped child", &crate::unwrap_template::child())
}

/// The AES key of a sealed account as it must be once unwrapped, whatever was asked for.
pub(crate) fn check_opener(session: &Session, key: ObjectHandle) -> Result<(), Fault> {
    check(session, key, "a sealed account's key", &crate::unwrap_template::opener())
}

fn born_in_token(kind: KeyType, made_by: MechanismType) -> Vec<Attribute> {
    vec![
        Attribute::Class(ObjectClass::PRIVATE_KEY),
        Attribute::KeyType(kind),
        Attribute::Token(true),
        Attribute::Private(true),
        Attribute::Sensitive(true),
        Attribute::AlwaysSensitive(true),
        Attribute::Extractable(false),
        Attribute::NeverExtractable(true),
        Attribute::Local(true),
        Attribute::KeyGenMechanism(made_by),
        Attribute::Decrypt(false),
        Attribute::SignRecover(false),
        Attribute::Derive(false),
        Attribute::Modifiable(false),
        Attribute::Copyable(false),
        Attribute::Destroyable(false),
        Attribute::AlwaysAuthenticate(false),
    ]
}

/// Every attribute that is not as expected, for people.
pub(crate) fn differences(
    session: &Session,
    key: ObjectHandle,
    expected: &[Attribute],
) -> Vec<String> {
    let differs = |wanted| check_one(session, key, "", wanted).err();
    expected.iter().filter_map(|wanted| Some((wanted, differs(wanted)?))).map(tell).collect()
}

fn tell((wanted, fault): (&Attribute, Fault)) -> String {
    match fault.code {
        FaultCode::KeyUnsafe => format!("not {wanted:?}"),
        _ => format!("{}: {}", wanted.attribute_type(), fault.text),
    }
}

fn check(
    session: &Session,
    key: ObjectHandle,
    name: &str,
    expected: &[Attribute],
) -> Result<(), Fault> {
    expected.iter().try_for_each(|wanted| check_one(session, key, name, wanted))
}

fn check_one(
    session: &Session,
    key: ObjectHandle,
    name: &str,
    wanted: &Attribute,
) -> Result<(), Fault> {
    let kind = wanted.attribute_type();
    if unnamed(wanted) {
        return check_there_is_one(session, key, name, kind);
    }
    let unsafe_key =
        |found: &str| unsafe_key(name, &kind.to_string(), found, &format!("{wanted:?}"));
    let found = session
        .get_attributes(key, &[kind])
        .map_err(|error| fault::token("read a key's attributes", &error))?;
    match found.as_slice() {
        [found] if found == wanted => Ok(()),
        [found] => Err(unsafe_key(&format!("{found:?}"))),
        _ => Err(unsafe_key("not shown")),
    }
}

fn unsafe_key(name: &str, attribute: &str, found: &str, wanted: &str) -> Fault {
    Fault::new(
        FaultCode::KeyUnsafe,
        format!("{name}: {attribute} is {found}, must be {wanted}; this key cannot be used"),
    )
}

/// The value of one attribute that is bytes.
pub(crate) fn bytes(
    session: &Session,
    key: ObjectHandle,
    kind: AttributeType,
) -> Result<Vec<u8>, Fault> {
    let found = session
        .get_attributes(key, &[kind])
        .map_err(|error| fault::token("read a key's attributes", &error))?;
    match found.into_iter().next() {
        Some(
            Attribute::Modulus(bytes)
            | Attribute::PublicExponent(bytes)
            | Attribute::EcPoint(bytes)
            | Attribute::Id(bytes),
        ) => Ok(bytes),
        _ => Err(Fault::new(FaultCode::KeyUnsafe, format!("a key does not show its {kind}"))),
    }
}
