//! `CKA_UNWRAP_TEMPLATE`: what the token forces upon every child key that the wrapping key or a key-encryption key
//! unwraps, upon every AES key that the sealing key does, and upon a key-encryption key when it is imported. It is complete on purpose: with a shorter one, whoever holds the PIN could
//! unwrap a key as a public, persistent object. It never leaves this file as anything but an attribute within one call.
//!
//! `cryptoki` has no such attribute. `Attribute::VendorDefined` carries any type with any bytes, and the bytes
//! that PKCS#11 wants here are an array of `CK_ATTRIBUTE`, each `{ type, address of value, length }`. No keyword
//! marks writing an address as bytes, yet the module follows it: SAFETY therefore rests on [`with_attribute`]
//! alone. The values and the array live in its frame and are neither moved nor changed until the call that it
//! was given has returned; modules copy templates before they return (PKCS#11 2.40, section 2.1).

use std::ffi::c_ulong;

use cryptoki::mechanism::MechanismType;
use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass};
use token_wire::{Fault, FaultCode};

/// `CKA_UNWRAP_TEMPLATE`.
pub(crate) const UNWRAP_TEMPLATE: AttributeType = AttributeType::VendorDefined(0x4000_0212);

/// Bytes of one `CK_ATTRIBUTE`; Linux has no padding between three words.
const ENTRY_BYTES: usize = 3 * size_of::<c_ulong>();
const _: () = assert!(size_of::<c_ulong>() == size_of::<*const u8>());

/// What every child is: the template, and what a caller must say again when it unwraps one. `CKA_MODIFIABLE`
/// comes last: SoftHSM lets nothing be set after it.
pub(crate) fn child() -> Vec<Attribute> {
    vec![
        Attribute::Class(ObjectClass::PRIVATE_KEY),
        Attribute::KeyType(KeyType::EC),
        Attribute::Token(false),
        Attribute::Private(true),
        Attribute::Sensitive(true),
        Attribute::Extractable(false),
        Attribute::Sign(true),
        Attribute::Derive(false),
        Attribute::Decrypt(false),
        Attribute::Unwrap(false),
        Attribute::Copyable(false),
        Attribute::Modifiable(false),
    ]
}

/// What every AES key is that an account was sealed under: good for opening it and nothing else.
pub(crate) fn opener() -> Vec<Attribute> {
    vec![
        Attribute::Class(ObjectClass::SECRET_KEY),
        Attribute::KeyType(KeyType::AES),
        Attribute::Token(false),
        Attribute::Private(true),
        Attribute::Sensitive(true),
        Attribute::Extractable(false),
        Attribute::Decrypt(true),
        Attribute::Encrypt(false),
        Attribute::Sign(false),
        Attribute::Verify(false),
        Attribute::Wrap(false),
        Attribute::Unwrap(false),
        Attribute::Derive(false),
        Attribute::Copyable(false),
        Attribute::Modifiable(false),
    ]
}

/// What every key-encryption key is: good for unwrapping children and nothing else, and it stays.
pub(crate) fn kek() -> Vec<Attribute> {
    vec![
        Attribute::Class(ObjectClass::SECRET_KEY),
        Attribute::KeyType(KeyType::AES),
        Attribute::Token(true),
        Attribute::Private(true),
        Attribute::Sensitive(true),
        Attribute::Extractable(false),
        Attribute::Encrypt(false),
        Attribute::Decrypt(false),
        Attribute::Sign(false),
        Attribute::Verify(false),
        Attribute::Wrap(false),
        Attribute::Unwrap(true),
        Attribute::Derive(false),
        Attribute::Copyable(false),
        Attribute::Destroyable(false),
        Attribute::Modifiable(false),
    ]
}

/// How many bytes a token that kept the whole template says it has.
pub(crate) fn bytes_expected(template: &[Attribute]) -> usize {
    template.len().saturating_mul(ENTRY_BYTES)
}

/// Calls `make` with the template as an attribute. The attribute must not outlive the call.
pub(crate) fn with_attribute<T>(
    template: &[Attribute],
    make: impl FnOnce(Attribute) -> Result<T, Fault>,
) -> Result<T, Fault> {
    let values: Vec<(c_ulong, Vec<u8>)> = template.iter().map(raw).collect::<Result<_, _>>()?;
    let mut array: Vec<u8> = Vec::with_capacity(bytes_expected(template));
    for (kind, value) in &values {
        let length = c_ulong::try_from(value.len()).map_err(|_| broken())?;
        array.extend_from_slice(&kind.to_ne_bytes());
        // Exposed, since the module turns the number back into an address.
        array.extend_from_slice(&value.as_ptr().expose_provenance().to_ne_bytes());
        array.extend_from_slice(&length.to_ne_bytes());
    }
    if array.len() != bytes_expected(template)
        || array.as_ptr().align_offset(align_of::<c_ulong>()) != 0
    {
        return Err(broken());
    }
    let result = make(Attribute::VendorDefined((UNWRAP_TEMPLATE, array)));
    // Until here every address in the array was valid.
    drop(values);
    result
}

/// Type and value of an attribute as PKCS#11 lays them out in memory.
fn raw(attribute: &Attribute) -> Result<(c_ulong, Vec<u8>), Fault> {
    let value = match attribute {
        Attribute::Class(class) => c_ulong::from(*class).to_ne_bytes().to_vec(),
        Attribute::KeyType(kind) => c_ulong::from(*kind).to_ne_bytes().to_vec(),
        Attribute::Token(flag)
        | Attribute::Private(flag)
        | Attribute::Sensitive(flag)
        | Attribute::Extractable(flag)
        | Attribute::Sign(flag)
        | Attribute::Verify(flag)
        | Attribute::Derive(flag)
        | Attribute::Encrypt(flag)
        | Attribute::Decrypt(flag)
        | Attribute::Wrap(flag)
        | Attribute::Unwrap(flag)
        | Attribute::Copyable(flag)
        | Attribute::Destroyable(flag)
        | Attribute::Modifiable(flag) => vec![u8::from(*flag)],
        _ => return Err(broken()),
    };
    Ok((attribute.attribute_type().into(), value))
}

fn broken() -> Fault {
    Fault::new(FaultCode::BadRequest, "the unwrap template cannot be laid out on this platform")
}

/// What the wrapping and the sealing key may do at all.
pub(crate) const WRAPPING_MECHANISM: MechanismType = MechanismType::RSA_PKCS_OAEP;
