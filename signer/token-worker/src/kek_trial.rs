//! Everything that a key-encryption key must refuse, tried on the key itself: to be read, changed, copied or wrapped, and
//! to encrypt, decrypt or wrap. The first thing that works condemns the token for the scheme. It never tries what the key
//! is for, which is the canary's to show.

use cryptoki::mechanism::{Mechanism, MechanismType};
use cryptoki::object::{Attribute, AttributeType};
use token_wire::{Fault, FaultCode};

use crate::attempt::attempt;
use crate::scheme::Unwrapper;
use crate::session::Session;
use crate::taking_out::Wrapper;
use crate::unwrap_template::UNWRAP_TEMPLATE;
use crate::{fault, kwp, taking_out};

const WHAT: &str = "a key-encryption key";

/// Tries everything; the first thing that works is the fault.
pub(crate) fn try_everything(session: &Session, kek: &Unwrapper) -> Result<(), Fault> {
    let key = kek.key;
    let alive = || session.get_attributes(key, &[AttributeType::Class]).is_ok();
    let read = || session.get_attributes(key, &[AttributeType::Value]);
    let shown = attempt(&format!("read the value of {WHAT}"), alive, read)?.unwrap_or_default();
    if shown.iter().any(|shown| matches!(shown, Attribute::Value(bytes) if !bytes.is_empty())) {
        return Err(broken("shows the value of a key-encryption key"));
    }
    for change in changes() {
        let kind = change.attribute_type();
        let doing = format!("change the {kind} of {WHAT}");
        let to = std::slice::from_ref(&change);
        if attempt(&doing, alive, || session.update_attributes(key, to))?.is_some() {
            return Err(broken(&format!("lets the {kind} of a key-encryption key be changed")));
        }
        // For this session only, so that nothing stays.
        let doing = format!("copy {WHAT} with another {kind}");
        let to = [Attribute::Token(false), change];
        if let Some(copy) = attempt(&doing, alive, || session.copy_object(key, &to))? {
            let _ = session.destroy_object(copy);
            return Err(broken(&format!("copies a key-encryption key with another {kind}")));
        }
    }
    // The last is what the key is for: the others are refused already by its being for that one alone.
    for mechanism in mechanisms().iter().chain([&kek.mechanism]) {
        let name = mechanism.mechanism_type();
        let doing = format!("encrypt by {WHAT} ({name})");
        if attempt(&doing, alive, || session.encrypt(mechanism, key, &[0; 16]))?.is_some() {
            return Err(broken(&format!("encrypts by a key-encryption key ({name})")));
        }
        let doing = format!("decrypt by {WHAT} ({name})");
        if attempt(&doing, alive, || session.decrypt(mechanism, key, &[0; 16]))?.is_some() {
            return Err(broken(&format!("decrypts by a key-encryption key ({name})")));
        }
    }
    if taking_out::comes_out(session, key, WHAT)? {
        return Err(broken("wraps a key-encryption key for taking out"));
    }
    try_wrapping_by(session, kek)
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

/// Another key wrapped by this one.
fn try_wrapping_by(session: &Session, kek: &Unwrapper) -> Result<(), Fault> {
    let Some(other) = taking_out::aes(session)? else {
        let text =
            format!("not tried: to wrap by {WHAT} (this token has no AES key made nor put in)");
        return Err(Fault::new(FaultCode::KeyUnsafe, text));
    };
    let mut by = Wrapper { key: kek.key, by: other.by };
    by.by.extend(kwp::at(kek.mechanism.mechanism_type().into()).map(|(_, its_own)| its_own));
    let wrapped = taking_out::by_any(session, &by, other.key, "another key by it");
    session
        .destroy_object(other.key)
        .map_err(|error| fault::token("destroy a session key", &error))?;
    if wrapped? { Err(broken("wraps by a key-encryption key")) } else { Ok(()) }
}

fn broken(what: &str) -> Fault {
    let text = format!("this token {what}: it must not carry wallets of the scheme aes-kwp");
    Fault::new(FaultCode::KeyUnsafe, text)
}
