//! The functions: each asks the plan, then the real module. Three look at what the real module answered, to damage
//! it, those of `uses` at the keys, those of `numbers` at mechanisms; the others pass it on as it is.

use std::mem::offset_of;

use cryptoki_sys::{
    CK_ATTRIBUTE, CK_BYTE, CK_FUNCTION_LIST, CK_OBJECT_HANDLE, CK_RV, CK_SESSION_HANDLE,
    CK_SLOT_ID, CK_TOKEN_INFO, CK_ULONG, CKR_FUNCTION_NOT_SUPPORTED, CKR_OK,
};

use crate::numbers;
use crate::plan::{self, Step};
use crate::real;
use crate::rules::Fault;
use crate::uses;

/// Defines, for a number of arguments, a function that stands for any function of the list with so many. `AT` is
/// where in the list the real one is.
macro_rules! passing {
    ($name:ident $($arg:ident)*) => {
        #[allow(non_snake_case, clippy::too_many_arguments, reason = "one argument for each type")]
        unsafe extern "C" fn $name<const AT: usize, $($arg),*>($($arg: $arg),*) -> CK_RV {
            let step = match plan::next(name(AT)) {
                Step::Answer(code) => return code,
                step => step,
            };
            let list: *const CK_FUNCTION_LIST = real();
            // SAFETY: `ours` gives each function the offset of its own field, from whose type the argument types
            // were inferred: what is read there is a function of this very type.
            let function = unsafe {
                list.byte_add(AT).cast::<Option<unsafe extern "C" fn($($arg),*) -> CK_RV>>().read()
            };
            let Some(function) = function else { return CKR_FUNCTION_NOT_SUPPORTED };
            // SAFETY: the caller's promises about its arguments are passed on with them.
            let answer = unsafe { function($($arg),*) };
            plan::done(step);
            answer
        }
    };
}

passing!(pass1 A);
passing!(pass2 A B);
passing!(pass3 A B C);
passing!(pass4 A B C D);
passing!(pass5 A B C D E);
passing!(pass6 A B C D E F);
passing!(pass8 A B C D E F G H);

/// Fills a list with functions of ours, and names them.
macro_rules! functions {
    ($($name:ident $pass:ident($($any:tt)*);)*) => {
        /// Names, in the list's order.
        pub(crate) const NAMES: &[&str] = &[$(stringify!($name)),*];

        /// A list of functions that stand before those of `real`.
        pub(crate) fn ours(real: &CK_FUNCTION_LIST) -> CK_FUNCTION_LIST {
            let mut list = *real;
            $(
                const _: () = assert!(offset_of!(CK_FUNCTION_LIST, $name) % size_of::<usize>() == 0);
                list.$name = Some($pass::<{ offset_of!(CK_FUNCTION_LIST, $name) }, $($any)*>);
            )*
            list.C_GetFunctionList = real.C_GetFunctionList;
            list.C_Sign = Some(sign);
            list.C_GetTokenInfo = Some(token_info);
            list.C_GetAttributeValue = Some(attribute_value);
            uses::stand_in(&mut list);
            numbers::stand_in(&mut list);
            list
        }
    };
}

functions! {
    C_Initialize pass1(_);
    C_Finalize pass1(_);
    C_GetInfo pass1(_);
    C_GetFunctionList pass1(_);
    C_GetSlotList pass3(_, _, _);
    C_GetSlotInfo pass2(_, _);
    C_GetTokenInfo pass2(_, _);
    C_GetMechanismList pass3(_, _, _);
    C_GetMechanismInfo pass3(_, _, _);
    C_InitToken pass4(_, _, _, _);
    C_InitPIN pass3(_, _, _);
    C_SetPIN pass5(_, _, _, _, _);
    C_OpenSession pass5(_, _, _, _, _);
    C_CloseSession pass1(_);
    C_CloseAllSessions pass1(_);
    C_GetSessionInfo pass2(_, _);
    C_GetOperationState pass3(_, _, _);
    C_SetOperationState pass5(_, _, _, _, _);
    C_Login pass4(_, _, _, _);
    C_Logout pass1(_);
    C_CreateObject pass4(_, _, _, _);
    C_CopyObject pass5(_, _, _, _, _);
    C_DestroyObject pass2(_, _);
    C_GetObjectSize pass3(_, _, _);
    C_GetAttributeValue pass4(_, _, _, _);
    C_SetAttributeValue pass4(_, _, _, _);
    C_FindObjectsInit pass3(_, _, _);
    C_FindObjects pass4(_, _, _, _);
    C_FindObjectsFinal pass1(_);
    C_EncryptInit pass3(_, _, _);
    C_Encrypt pass5(_, _, _, _, _);
    C_EncryptUpdate pass5(_, _, _, _, _);
    C_EncryptFinal pass3(_, _, _);
    C_DecryptInit pass3(_, _, _);
    C_Decrypt pass5(_, _, _, _, _);
    C_DecryptUpdate pass5(_, _, _, _, _);
    C_DecryptFinal pass3(_, _, _);
    C_DigestInit pass2(_, _);
    C_Digest pass5(_, _, _, _, _);
    C_DigestUpdate pass3(_, _, _);
    C_DigestKey pass2(_, _);
    C_DigestFinal pass3(_, _, _);
    C_SignInit pass3(_, _, _);
    C_Sign pass5(_, _, _, _, _);
    C_SignUpdate pass3(_, _, _);
    C_SignFinal pass3(_, _, _);
    C_SignRecoverInit pass3(_, _, _);
    C_SignRecover pass5(_, _, _, _, _);
    C_VerifyInit pass3(_, _, _);
    C_Verify pass5(_, _, _, _, _);
    C_VerifyUpdate pass3(_, _, _);
    C_VerifyFinal pass3(_, _, _);
    C_VerifyRecoverInit pass3(_, _, _);
    C_VerifyRecover pass5(_, _, _, _, _);
    C_DigestEncryptUpdate pass5(_, _, _, _, _);
    C_DecryptDigestUpdate pass5(_, _, _, _, _);
    C_SignEncryptUpdate pass5(_, _, _, _, _);
    C_DecryptVerifyUpdate pass5(_, _, _, _, _);
    C_GenerateKey pass5(_, _, _, _, _);
    C_GenerateKeyPair pass8(_, _, _, _, _, _, _, _);
    C_WrapKey pass6(_, _, _, _, _, _);
    C_UnwrapKey pass8(_, _, _, _, _, _, _, _);
    C_DeriveKey pass6(_, _, _, _, _, _);
    C_SeedRandom pass3(_, _, _);
    C_GenerateRandom pass3(_, _, _);
    C_GetFunctionStatus pass1(_);
    C_CancelFunction pass1(_);
    C_WaitForSlotEvent pass3(_, _, _);
}

/// The name of the function at this place of the list.
fn name(at: usize) -> &'static str {
    let first = offset_of!(CK_FUNCTION_LIST, C_Initialize);
    let place = at.saturating_sub(first).checked_div(size_of::<usize>()).unwrap_or(0);
    NAMES.get(place).copied().unwrap_or("C_Unknown")
}

/// Asking for the length alone signs nothing, and is passed on uncounted.
unsafe extern "C" fn sign(
    session: CK_SESSION_HANDLE,
    data: *mut CK_BYTE,
    data_len: CK_ULONG,
    out: *mut CK_BYTE,
    out_len: *mut CK_ULONG,
) -> CK_RV {
    let Some(function) = real().C_Sign else { return CKR_FUNCTION_NOT_SUPPORTED };
    if out.is_null() {
        // SAFETY: the caller's promises are passed on.
        return unsafe { function(session, data, data_len, out, out_len) };
    }
    let step = match plan::next("C_Sign") {
        Step::Answer(code) => return code,
        step => step,
    };
    // SAFETY: as above.
    let answer = unsafe { function(session, data, data_len, out, out_len) };
    if answer == CKR_OK {
        uses::ended(session, "C_Sign");
        // SAFETY: the real module has just written so many bytes there.
        let length = usize::try_from(unsafe { out_len.read() }).unwrap_or(0);
        // SAFETY: likewise.
        let signature = unsafe { std::slice::from_raw_parts_mut(out, length) };
        match step {
            Step::Damage(Fault::Flip) => {
                signature.iter_mut().skip(40).take(1).for_each(|byte| *byte ^= 1)
            }
            Step::Damage(Fault::Replay) => plan::replay(signature),
            Step::Damage(Fault::Nonce(rig)) => {
                let length = usize::try_from(data_len).unwrap_or(0);
                // SAFETY: the caller gave so many bytes to sign, and the real module has just read them.
                let digest = unsafe { std::slice::from_raw_parts(data, length) };
                plan::spoil_nonce(digest, signature, rig);
            }
            _ => plan::keep(signature),
        }
    }
    plan::done(step);
    answer
}

unsafe extern "C" fn token_info(slot: CK_SLOT_ID, out: *mut CK_TOKEN_INFO) -> CK_RV {
    let Some(function) = real().C_GetTokenInfo else { return CKR_FUNCTION_NOT_SUPPORTED };
    let step = match plan::next("C_GetTokenInfo") {
        Step::Answer(code) => return code,
        step => step,
    };
    // SAFETY: the caller's promises are passed on.
    let answer = unsafe { function(slot, out) };
    if let (CKR_OK, Step::Damage(Fault::Flags(bits))) = (answer, step) {
        // SAFETY: the real module has just filled it.
        unsafe { (*out).flags |= bits };
    }
    plan::done(step);
    answer
}

unsafe extern "C" fn attribute_value(
    session: CK_SESSION_HANDLE,
    object: CK_OBJECT_HANDLE,
    template: *mut CK_ATTRIBUTE,
    count: CK_ULONG,
) -> CK_RV {
    let Some(function) = real().C_GetAttributeValue else { return CKR_FUNCTION_NOT_SUPPORTED };
    let step = match plan::next("C_GetAttributeValue") {
        Step::Answer(code) => return code,
        step => step,
    };
    // SAFETY: the caller's promises are passed on.
    let answer = unsafe { function(session, object, template, count) };
    if answer == CKR_OK {
        numbers::found(template, count);
    }
    if let (CKR_OK, Step::Damage(Fault::Lie(kind))) = (answer, step) {
        let count = usize::try_from(count).unwrap_or(0);
        // SAFETY: the caller gave a template of so many attributes.
        for attribute in unsafe { std::slice::from_raw_parts(template, count) } {
            if attribute.type_ == kind && attribute.ulValueLen > 0 && !attribute.pValue.is_null() {
                // SAFETY: the real module has just written at least one byte there.
                unsafe { *attribute.pValue.cast::<u8>() ^= 1 };
            }
        }
    }
    plan::done(step);
    answer
}
