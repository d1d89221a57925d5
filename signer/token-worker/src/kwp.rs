//! The number at which a module has AES key wrap with padding (RFC 5649): modules differ. It never guesses one.

use cryptoki::mechanism::vendor_defined::VendorDefinedMechanism;
use cryptoki::mechanism::{Mechanism, MechanismType};

/// `CKM_AES_KEY_WRAP_KWP`, where PKCS#11 has it since 3.0.
pub(crate) const STANDARD: u64 = 0x210b;

/// A mechanism's number, as `0x210b` or in decimal.
pub(crate) fn number(text: &str) -> Result<u64, String> {
    let parsed = match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16),
        None => text.parse(),
    };
    parsed.map_err(|error| format!("write it as 0x210b: {error}"))
}

/// The mechanism at that number, without parameters. A number that PKCS#11 has given to something else is refused.
pub(crate) fn at(number: u64) -> Result<(MechanismType, Mechanism<'static>), String> {
    let pad = MechanismType::AES_KEY_WRAP_PAD;
    if number == u64::from(pad) {
        return Ok((pad, Mechanism::AesKeyWrapPad));
    }
    match MechanismType::try_from(number) {
        Ok(other) if number != STANDARD => Err(format!(
            "{number:#x} is {other}, not AES key wrap with padding: set `kwp_mechanism` under [token] to the number at \
             which the module has that"
        )),
        _ => {
            let kind = numbered(number)?;
            let mechanism = VendorDefinedMechanism::new::<()>(kind, None);
            Ok((kind, Mechanism::VendorDefined(mechanism)))
        }
    }
}

/// Whether `cryptoki` has a name for it, and so reads it back from a key.
pub(crate) fn has_name(kind: MechanismType) -> bool {
    MechanismType::try_from(u64::from(kind)).is_ok()
}

// The layout that `numbered` goes by. `cryptoki` is held at one version in Cargo.toml for what this cannot see.
const _: () = assert!(
    size_of::<MechanismType>() == size_of::<u64>()
        && align_of::<MechanismType>() == align_of::<u64>()
);

/// A mechanism of any number. `cryptoki` 0.12.1 makes one of its own constants, of a number that it has a name for, and
/// of vendors' numbers; `CKM_AES_KEY_WRAP_KWP` is none of them, and the number inside is private. So this writes it there
/// itself, the one `unsafe` of everything that is shipped.
#[expect(
    unsafe_code,
    reason = "cryptoki has no name for CKM_AES_KEY_WRAP_KWP, and takes no number below the vendors'"
)]
pub(crate) fn numbered(number: u64) -> Result<MechanismType, String> {
    // SAFETY: `MechanismType` is `#[repr(transparent)]` over one `CK_MECHANISM_TYPE`, which is an `unsigned long`, 64 bits
    // here (asserted above); it is so on purpose, since the crate hands arrays of it to modules. Every number is a value
    // of it: `new_vendor_defined` and `Deref` put it in and give it out as it is, no code of the crate is `unsafe` by
    // its value, and the type is `Copy`, owns nothing and borrows nothing.
    let kind = unsafe { std::mem::transmute::<u64, MechanismType>(number) };
    if u64::from(kind) != number {
        return Err(format!(
            "{number:#x} cannot be asked for: the PKCS#11 crate took it for another"
        ));
    }
    Ok(kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_can_be_asked_for_but_those_of_other_mechanisms() {
        assert_eq!(number("0x210a"), Ok(0x210a));
        assert_eq!(number("8458"), Ok(0x210a));
        assert!(number("CKM_AES_KEY_WRAP_PAD").is_err());
        assert!(matches!(at(0x210a), Ok((_, Mechanism::AesKeyWrapPad))));
        for number in [STANDARD, 0x8000_0171, 0x7fff_ffff, u64::MAX] {
            let (kind, mechanism) = at(number).unwrap();
            assert!(matches!(mechanism, Mechanism::VendorDefined(_)));
            assert_eq!((u64::from(kind), u64::from(mechanism.mechanism_type())), (number, number));
            assert!(!has_name(kind));
        }
        assert!(has_name(MechanismType::AES_KEY_WRAP_PAD));
        let other = at(0x1082).unwrap_err();
        assert!(other.contains("CKM_AES_CBC") && other.contains("kwp_mechanism"), "{other}");
    }
}
