//! What module and token are like, for `signer doctor`: versions, mechanisms, what the token says about its PIN. It
//! asks nothing that needs a login, and never sends a PIN.

use cryptoki::context::Pkcs11;
use cryptoki::mechanism::{MechanismInfo, MechanismType};
use cryptoki::slot::Slot;
use token_wire::{Examination, Fault};

use crate::{fault, kwp, numbers};

/// A use of a mechanism.
type Use = fn(&MechanismInfo) -> bool;

/// What some tier needs, or could be wrapped by.
const MECHANISMS: [(&str, MechanismType, Use); 6] = [
    (
        "CKM_RSA_PKCS_KEY_PAIR_GEN",
        MechanismType::RSA_PKCS_KEY_PAIR_GEN,
        MechanismInfo::generate_key_pair,
    ),
    ("CKM_RSA_PKCS_OAEP", MechanismType::RSA_PKCS_OAEP, MechanismInfo::unwrap),
    ("CKM_ECDSA", MechanismType::ECDSA, MechanismInfo::sign),
    ("CKM_EC_KEY_PAIR_GEN", MechanismType::ECC_KEY_PAIR_GEN, MechanismInfo::generate_key_pair),
    ("CKM_AES_GCM", MechanismType::AES_GCM, MechanismInfo::decrypt),
    ("CKM_AES_KEY_WRAP_PAD", MechanismType::AES_KEY_WRAP_PAD, MechanismInfo::unwrap),
];

/// Asks the module about itself and the token.
pub(crate) fn examine(
    pkcs11: &Pkcs11,
    slot: Slot,
    lacking: Vec<String>,
) -> Result<Examination, Fault> {
    let failed = |error| fault::token("describe itself", &error);
    let library = pkcs11.get_library_info().map_err(failed)?;
    let token = pkcs11.get_token_info(slot).map_err(failed)?;
    let there = pkcs11.get_mechanism_list(slot).map_err(failed)?;
    let has = |kind: MechanismType, wanted: Use| {
        // A number that it has no name for `cryptoki` leaves out of the list, but asks the module about.
        (there.contains(&kind) || !kwp::has_name(kind))
            && pkcs11.get_mechanism_info(slot, kind).is_ok_and(|info| wanted(&info))
    };
    let kwp = kwp::at(kwp::STANDARD).is_ok_and(|(kind, _)| has(kind, MechanismInfo::unwrap));
    let eddsa: [(&str, MechanismType, Use); 2] = [
        ("CKM_EDDSA", numbers::eddsa_type(), MechanismInfo::sign),
        (
            "CKM_EC_EDWARDS_KEY_PAIR_GEN",
            numbers::eddsa_key_pair_gen_type(),
            MechanismInfo::generate_key_pair,
        ),
    ];
    let flags = [
        (token.user_pin_locked(), "the PIN is locked"),
        (token.user_pin_final_try(), "one more wrong PIN locks it"),
        (token.user_pin_count_low(), "a wrong PIN was tried since the last login"),
        (token.user_pin_to_be_changed(), "the PIN is to be changed"),
        (!token.user_pin_initialized(), "no user PIN is set"),
    ];
    let said = flags.into_iter().filter(|(set, _)| *set).map(|(_, text)| text.to_owned());
    Ok(Examination {
        module: format!(
            "{} {} by {}, PKCS#11 {}",
            library.library_description().trim(),
            library.library_version(),
            library.manufacturer_id().trim(),
            library.cryptoki_version()
        ),
        firmware: format!(
            "hardware {}, firmware {}",
            token.hardware_version(),
            token.firmware_version()
        ),
        mechanisms: MECHANISMS
            .iter()
            .chain(&eddsa)
            .map(|(name, kind, wanted)| ((*name).to_owned(), has(*kind, *wanted)))
            .chain([("CKM_AES_KEY_WRAP_KWP".to_owned(), kwp)])
            .collect(),
        pin: said.collect(),
        lacking,
        hardware_slot: pkcs11.get_slot_info(slot).map_err(failed)?.hardware_slot(),
    })
}
