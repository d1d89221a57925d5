//! Whether the token keeps a private data object, as its anchor would be. No tier needs one, and it never says whether the
//! object lies in hardware: no module can be asked that.

use token_wire::Fault;

use super::table::Table;
use crate::anchor;
use crate::session::Session;
use crate::token::Token;

const WHAT: &str =
    "a private data object is made, changed and read (for `anchor`, which no tier needs)";

/// In a session that writes; the object is gone afterwards.
pub(super) fn try_all(token: &Token, table: &mut Table) -> Result<(), Fault> {
    let session: &Session = token.session();
    let tried = anchor::try_out(session).and_then(|()| anchor::end_try(session));
    let (pkcs11, slot) = token.module();
    let hardware = pkcs11.get_slot_info(slot).is_ok_and(|info| info.hardware_slot());
    let slot = if hardware {
        "the slot says it is hardware"
    } else {
        "the slot does not say that it is hardware"
    };
    table.need("data:private", WHAT, tried.map(|()| slot.to_owned()).map_err(|fault| fault.text))
}
