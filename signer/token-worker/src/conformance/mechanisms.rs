//! Which mechanisms the token says it has, and for what. It never uses one.

use cryptoki::mechanism::{MechanismInfo, MechanismType};
use token_wire::Fault;

use super::table::Table;
use crate::fault;
use crate::kwp;
use crate::numbers;
use crate::token::Token;

/// What a mechanism must be good for.
type Use = (&'static str, fn(&MechanismInfo) -> bool);

const PAIR: Use = ("key pairs", MechanismInfo::generate_key_pair);
const KEY: Use = ("keys", MechanismInfo::generate);
const SIGN: Use = ("signing", MechanismInfo::sign);
const UNWRAP: Use = ("unwrapping", MechanismInfo::unwrap);
const ENCRYPT: Use = ("encrypting", MechanismInfo::encrypt);

pub(super) fn try_all(token: &Token, kwp: u64, table: &mut Table) -> Result<(), Fault> {
    for (name, mechanism, (use_name, is_for)) in [
        ("CKM_RSA_PKCS_KEY_PAIR_GEN", MechanismType::RSA_PKCS_KEY_PAIR_GEN, PAIR),
        ("CKM_RSA_PKCS_OAEP", MechanismType::RSA_PKCS_OAEP, UNWRAP),
        ("CKM_EC_KEY_PAIR_GEN", MechanismType::ECC_KEY_PAIR_GEN, PAIR),
        ("CKM_ECDSA", MechanismType::ECDSA, SIGN),
        ("CKM_EC_EDWARDS_KEY_PAIR_GEN", numbers::eddsa_key_pair_gen_type(), PAIR),
        ("CKM_EDDSA", numbers::eddsa_type(), SIGN),
        ("CKM_AES_KEY_GEN", MechanismType::AES_KEY_GEN, KEY),
        ("CKM_AES_GCM", MechanismType::AES_GCM, ENCRYPT),
    ] {
        let tried = ask(token, mechanism, (use_name, is_for));
        let id = format!("mechanism:{name}");
        let at = match kwp::has_name(mechanism) {
            true => String::new(),
            false => format!(", {:#x},", u64::from(mechanism)),
        };
        table.need(&id, &format!("{name}{at} for {use_name}"), tried)?;
    }
    let tried = kwp::at(kwp).and_then(|(mechanism, _)| ask(token, mechanism, UNWRAP));
    let what = format!("AES key wrap with padding, {kwp:#x}, for unwrapping");
    table.need("mechanism:aes-kwp", &what, tried)
}

fn ask(token: &Token, mechanism: MechanismType, (use_name, is_for): Use) -> Result<String, String> {
    let (pkcs11, slot) = token.module();
    match pkcs11.get_mechanism_info(slot, mechanism) {
        Ok(info) if is_for(&info) => {
            Ok(format!("{} to {}", info.min_key_size(), info.max_key_size()))
        }
        Ok(_) => Err(format!("not for {use_name}")),
        Err(error) => Err(fault::short(&error)),
    }
}
