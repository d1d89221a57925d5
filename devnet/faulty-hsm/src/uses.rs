//! What keys are used for, counted from outside whoever uses them, as a vendor's audit log would: a line
//! `C_Sign 1 LABEL` in the file `operations` for each call that the real module did. It counts no call that failed.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use cryptoki_sys::{
    CK_ATTRIBUTE, CK_BYTE, CK_FUNCTION_LIST, CK_MECHANISM, CK_OBJECT_HANDLE, CK_RV,
    CK_SESSION_HANDLE, CK_ULONG, CKA_LABEL, CKA_TOKEN, CKR_FUNCTION_NOT_SUPPORTED, CKR_OK,
};

use crate::numbers;
use crate::plan::{self, Step};
use crate::real;

/// What each session's operation was begun with, by the function that will end it.
static BEGUN: Mutex<BTreeMap<(CK_SESSION_HANDLE, &str), String>> = Mutex::new(BTreeMap::new());

/// Puts the functions of this file into a list.
pub(crate) fn stand_in(list: &mut CK_FUNCTION_LIST) {
    list.C_SignInit = Some(sign_init);
    list.C_DecryptInit = Some(decrypt_init);
    list.C_Decrypt = Some(decrypt);
    list.C_UnwrapKey = Some(unwrap_key);
}

/// A call that the real module did with the key that its operation was begun with.
pub(crate) fn ended(session: CK_SESSION_HANDLE, function: &'static str) {
    let begun = BEGUN.lock().unwrap_or_else(PoisonError::into_inner).remove(&(session, function));
    plan::used(function, begun.as_deref().unwrap_or("?"));
}

type Begin = unsafe extern "C" fn(CK_SESSION_HANDLE, *mut CK_MECHANISM, CK_OBJECT_HANDLE) -> CK_RV;

fn begin(
    [call, ends]: [&'static str; 2],
    function: Option<Begin>,
    (session, mechanism, key): (CK_SESSION_HANDLE, *mut CK_MECHANISM, CK_OBJECT_HANDLE),
) -> CK_RV {
    let step = match plan::next(call) {
        Step::Answer(code) => return code,
        step => step,
    };
    let Some(function) = function else { return CKR_FUNCTION_NOT_SUPPORTED };
    // Before: an object of the session may be gone when the operation ends.
    let name = key_name(session, key);
    // SAFETY: the caller's promises about its arguments are passed on with them.
    let answer =
        numbers::asked(mechanism, |mechanism| unsafe { function(session, mechanism, key) });
    if answer == CKR_OK {
        let mut begun = BEGUN.lock().unwrap_or_else(PoisonError::into_inner);
        begun.insert((session, ends), name);
    }
    plan::done(step);
    answer
}

unsafe extern "C" fn sign_init(
    session: CK_SESSION_HANDLE,
    mechanism: *mut CK_MECHANISM,
    key: CK_OBJECT_HANDLE,
) -> CK_RV {
    begin(["C_SignInit", "C_Sign"], real().C_SignInit, (session, mechanism, key))
}

unsafe extern "C" fn decrypt_init(
    session: CK_SESSION_HANDLE,
    mechanism: *mut CK_MECHANISM,
    key: CK_OBJECT_HANDLE,
) -> CK_RV {
    begin(["C_DecryptInit", "C_Decrypt"], real().C_DecryptInit, (session, mechanism, key))
}

unsafe extern "C" fn decrypt(
    session: CK_SESSION_HANDLE,
    data: *mut CK_BYTE,
    data_len: CK_ULONG,
    out: *mut CK_BYTE,
    out_len: *mut CK_ULONG,
) -> CK_RV {
    let step = match plan::next("C_Decrypt") {
        Step::Answer(code) => return code,
        step => step,
    };
    let Some(function) = real().C_Decrypt else { return CKR_FUNCTION_NOT_SUPPORTED };
    // SAFETY: the caller's promises about its arguments are passed on with them.
    let answer = unsafe { function(session, data, data_len, out, out_len) };
    // Asking for the length alone decrypts nothing.
    if answer == CKR_OK && !out.is_null() {
        ended(session, "C_Decrypt");
    }
    plan::done(step);
    answer
}

#[allow(clippy::too_many_arguments, reason = "as PKCS#11 has it")]
unsafe extern "C" fn unwrap_key(
    session: CK_SESSION_HANDLE,
    mechanism: *mut CK_MECHANISM,
    key: CK_OBJECT_HANDLE,
    wrapped: *mut CK_BYTE,
    wrapped_len: CK_ULONG,
    template: *mut CK_ATTRIBUTE,
    count: CK_ULONG,
    out: *mut CK_OBJECT_HANDLE,
) -> CK_RV {
    let step = match plan::next("C_UnwrapKey") {
        Step::Answer(code) => return code,
        step => step,
    };
    let Some(function) = real().C_UnwrapKey else { return CKR_FUNCTION_NOT_SUPPORTED };
    let answer = numbers::asked(mechanism, |mechanism| {
        // SAFETY: the caller's promises about its arguments are passed on with them.
        numbers::given(template, count, |template| unsafe {
            function(session, mechanism, key, wrapped, wrapped_len, template, count, out)
        })
    });
    if answer == CKR_OK {
        plan::used("C_UnwrapKey", &key_name(session, key));
    }
    plan::done(step);
    answer
}

/// A key's label; `-` for a key of a session, `?` without a label.
fn key_name(session: CK_SESSION_HANDLE, key: CK_OBJECT_HANDLE) -> String {
    let Some(function) = real().C_GetAttributeValue else { return "?".to_owned() };
    let (mut token, mut label) = ([0_u8; 1], [0_u8; 64]);
    let mut template = [
        CK_ATTRIBUTE { type_: CKA_TOKEN, pValue: token.as_mut_ptr().cast(), ulValueLen: 1 },
        CK_ATTRIBUTE { type_: CKA_LABEL, pValue: label.as_mut_ptr().cast(), ulValueLen: 64 },
    ];
    // SAFETY: both attributes have room for as many bytes as they say, for as long as the call takes.
    let answer = unsafe { function(session, key, template.as_mut_ptr(), 2) };
    let length = template.get(1).map_or(0, |label| label.ulValueLen);
    let length = usize::try_from(length).unwrap_or(0);
    match (answer, token, label.get(..length)) {
        (CKR_OK, [0], _) => "-".to_owned(),
        (CKR_OK, _, Some(label)) if !label.is_empty() => {
            String::from_utf8_lossy(label).into_owned()
        }
        _ => "?".to_owned(),
    }
}
