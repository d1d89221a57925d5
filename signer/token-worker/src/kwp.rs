//! The number at which a module has AES key wrap with padding (RFC 5649): modules differ. It never guesses one.

use cryptoki::mechanism::vendor_defined::VendorDefinedMechanism;
use cryptoki::mechanism::{Mechanism, MechanismType};

/// From here on numbers are vendors' own.
pub(crate) const VENDORS: u64 = 0x8000_0000;

/// A mechanism's number, as `0x210a` or in decimal.
pub(crate) fn number(text: &str) -> Result<u64, String> {
    let parsed = match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16),
        None => text.parse(),
    };
    parsed.map_err(|error| format!("write it as 0x210a: {error}"))
}

/// The mechanism at that number, without parameters. `cryptoki` can say 0x210a and the vendors' own numbers.
pub(crate) fn at(number: u64) -> Result<(MechanismType, Mechanism<'static>), String> {
    let pad = MechanismType::AES_KEY_WRAP_PAD;
    if number == u64::from(pad) {
        return Ok((pad, Mechanism::AesKeyWrapPad));
    }
    let vendors = MechanismType::new_vendor_defined(number).map_err(|_| {
        format!("{number:#x} cannot be asked for: only 0x210a and numbers from 0x80000000 up can")
    })?;
    let mechanism = VendorDefinedMechanism::new::<()>(vendors, None);
    Ok((vendors, Mechanism::VendorDefined(mechanism)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_and_those_that_cannot_be_asked_for_are_named() {
        assert_eq!(number("0x210a"), Ok(0x210a));
        assert_eq!(number("8458"), Ok(0x210a));
        assert!(number("CKM_AES_KEY_WRAP_PAD").is_err());
        assert!(matches!(at(0x210a), Ok((_, Mechanism::AesKeyWrapPad))));
        assert!(matches!(at(0x8000_0171), Ok((_, Mechanism::VendorDefined(_)))));
        assert!(at(0x210b).unwrap_err().contains("0x210b"));
    }
}
