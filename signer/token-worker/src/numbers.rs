//! The numbers at which the module has EdDSA: it came into PKCS#11 with 3.0, and modules from before have it at numbers of
//! their own. It never guesses one, and none changes once it is set.

use std::sync::OnceLock;

use cryptoki::mechanism::eddsa::{EddsaParams, EddsaSignatureScheme};
use cryptoki::mechanism::vendor_defined::VendorDefinedMechanism;
use cryptoki::mechanism::{Mechanism, MechanismType};
use token_wire::{Fault, FaultCode, Mechanisms};

use crate::kwp;

/// As the signer says them before it asks for anything that needs one.
static SET: OnceLock<Set> = OnceLock::new();

/// Numbers that can be asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Set {
    eddsa: MechanismType,
    made_by: MechanismType,
}

/// Has the process use these numbers from now on.
pub(crate) fn set(numbers: &Mechanisms) -> Result<(), Fault> {
    let set = read(numbers).map_err(|text| Fault::new(FaultCode::BadRequest, text))?;
    if *SET.get_or_init(|| set) == set {
        return Ok(());
    }
    Err(Fault::new(
        FaultCode::BadRequest,
        "the mechanisms' numbers were said before, and otherwise",
    ))
}

fn read(numbers: &Mechanisms) -> Result<Set, String> {
    let Mechanisms { eddsa, eddsa_key_pair_gen: made_by } = *numbers;
    if eddsa == made_by {
        return Err(format!("{eddsa:#x} cannot be both EdDSA and the making of its keys"));
    }
    Ok(Set {
        eddsa: at(eddsa, MechanismType::EDDSA, "eddsa")?,
        made_by: at(made_by, MechanismType::ECC_EDWARDS_KEY_PAIR_GEN, "eddsa_key_pair_gen")?,
    })
}

/// A number that PKCS#11 has given to something else is refused.
fn at(number: u64, standard: MechanismType, setting: &str) -> Result<MechanismType, String> {
    let wrong = |other: String| {
        format!(
            "{number:#x} is {other}, not {standard}: set `{setting}` under [token.mechanisms] to the number at which the \
             module has that"
        )
    };
    match MechanismType::try_from(number) {
        Ok(kind) if kind == standard => Ok(kind),
        Ok(other) => Err(wrong(other.to_string())),
        Err(_) if number == kwp::STANDARD => Err(wrong("CKM_AES_KEY_WRAP_KWP".to_owned())),
        Err(_) => kwp::numbered(number),
    }
}

/// What signs statements.
pub(crate) fn eddsa_type() -> MechanismType {
    SET.get().map_or(MechanismType::EDDSA, |set| set.eddsa)
}

/// The same, to be asked for: pure, so without parameters.
pub(crate) fn eddsa() -> Mechanism<'static> {
    match eddsa_type() {
        MechanismType::EDDSA => Mechanism::Eddsa(EddsaParams::new(EddsaSignatureScheme::Pure)),
        kind => Mechanism::VendorDefined(VendorDefinedMechanism::new::<()>(kind, None)),
    }
}

/// What makes its keys.
pub(crate) fn eddsa_key_pair_gen_type() -> MechanismType {
    SET.get().map_or(MechanismType::ECC_EDWARDS_KEY_PAIR_GEN, |set| set.made_by)
}

/// The same, to be asked for.
pub(crate) fn eddsa_key_pair_gen() -> Mechanism<'static> {
    match eddsa_key_pair_gen_type() {
        MechanismType::ECC_EDWARDS_KEY_PAIR_GEN => Mechanism::EccEdwardsKeyPairGen,
        kind => Mechanism::VendorDefined(VendorDefinedMechanism::new::<()>(kind, None)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_the_standards_or_one_that_pkcs11_gave_to_nothing_else() {
        let standard = Mechanisms::default();
        let set = read(&standard).unwrap();
        assert_eq!(set.eddsa, MechanismType::EDDSA);
        assert_eq!(set.made_by, MechanismType::ECC_EDWARDS_KEY_PAIR_GEN);
        let vendors = Mechanisms { eddsa: 0x8000_0c03, eddsa_key_pair_gen: 0x8000_0c01 };
        let set = read(&vendors).unwrap();
        assert_eq!((u64::from(set.eddsa), u64::from(set.made_by)), (0x8000_0c03, 0x8000_0c01));
        for (eddsa, eddsa_key_pair_gen, part) in [
            (0x1041, 0x1055, "`eddsa` under [token.mechanisms]"),
            (0x1057, 0x1040, "`eddsa_key_pair_gen` under [token.mechanisms]"),
            (0x210b, 0x1055, "CKM_AES_KEY_WRAP_KWP"),
            (0x1055, 0x1057, "not CKM_EDDSA"),
            (0x8000_0c01, 0x8000_0c01, "cannot be both"),
        ] {
            let error = read(&Mechanisms { eddsa, eddsa_key_pair_gen }).unwrap_err();
            assert!(error.contains(part), "{error}");
        }
    }
}
