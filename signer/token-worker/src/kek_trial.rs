//! Everything that a key-encryption key must refuse, tried on the key itself: to be read, changed, copied or wrapped, and
//! to encrypt, decrypt or wrap. The first thing that works condemns the token for the scheme. It never tries what the key
//! is for, which is the canary's to show.

use cryptoki::mechanism::{Mechanism, MechanismType};
use cryptoki::object::{Attribute, AttributeType, ObjectHandle};
use token_wire::{Fault, FaultCode};

use crate::fault;
use crate::session::Session;
use crate::unwrap_template::UNWRAP_TEMPLATE;

/// Tries everything; the first thing that works is the fault.
pub(crate) fn try_everything(session: &Session, key: ObjectHandle) -> Result<(), Fault> {
    let shown = session.get_attributes(key, &[AttributeType::Value]).unwrap_or_default();
    if shown.iter().any(|shown| matches!(shown, Attribute::Value(bytes) if !bytes.is_empty())) {
        return Err(broken("shows the value of a key-encryption key"));
    }
    for change in changes() {
        let kind = change.attribute_type();
        if session.update_attributes(key, std::slice::from_ref(&change)).is_ok() {
            return Err(broken(&format!("lets the {kind} of a key-encryption key be changed")));
        }
        // For this session only, so that nothing stays.
        if let Ok(copy) = session.copy_object(key, &[Attribute::Token(false), change]) {
            let _ = session.destroy_object(copy);
            return Err(broken(&format!("copies a key-encryption key with another {kind}")));
        }
    }
    for mechanism in mechanisms() {
        let name = mechanism.mechanism_type();
        if session.encrypt(&mechanism, key, &[0; 16]).is_ok() {
            return Err(broken(&format!("encrypts by a key-encryption key ({name})")));
        }
        if session.decrypt(&mechanism, key, &[0; 16]).is_ok() {
            return Err(broken(&format!("decrypts by a key-encryption key ({name})")));
        }
    }
    try_wrapping(session, key)
}

fn changes() -> Vec<Attribute> {
    vec![
        Attribute::Sensitive(false),
        Attribute::Extractable(true),
        Attribute::Encrypt(true),
        Attribute::Decrypt(true),
        Attribute::Wrap(true),
        Attribute::Sign(true),
        Attribute::Derive(true),
        Attribute::Copyable(true),
        Attribute::Modifiable(true),
        Attribute::Destroyable(true),
        Attribute::AllowedMechanisms(vec![MechanismType::AES_ECB]),
        Attribute::VendorDefined((UNWRAP_TEMPLATE, Vec::new())),
    ]
}

fn mechanisms() -> [Mechanism<'static>; 4] {
    [Mechanism::AesEcb, Mechanism::AesCbc([0; 16]), Mechanism::AesKeyWrap, Mechanism::AesKeyWrapPad]
}

/// The key wrapped by another, and another by the key. Where the token makes no AES key, neither can be.
fn try_wrapping(session: &Session, key: ObjectHandle) -> Result<(), Fault> {
    let template = [
        Attribute::Token(false),
        Attribute::Wrap(true),
        Attribute::Extractable(true),
        Attribute::ValueLen(32.into()),
    ];
    let Ok(aes) = session.generate_key(&Mechanism::AesKeyGen, &template) else { return Ok(()) };
    let [_, _, wrap, pad] = mechanisms();
    let out = [&wrap, &pad].iter().any(|by| session.wrap_key(by, aes, key).is_ok());
    let by_it = [&wrap, &pad].iter().any(|by| session.wrap_key(by, key, aes).is_ok());
    session.destroy_object(aes).map_err(|error| fault::token("destroy a session key", &error))?;
    match (out, by_it) {
        (true, _) => Err(broken("wraps a key-encryption key for taking out")),
        (_, true) => Err(broken("wraps by a key-encryption key")),
        _ => Ok(()),
    }
}

fn broken(what: &str) -> Fault {
    let text = format!("this token {what}: it must not carry wallets of the scheme aes-kwp");
    Fault::new(FaultCode::KeyUnsafe, text)
}
