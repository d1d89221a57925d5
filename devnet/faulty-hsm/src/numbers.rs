//! Mechanisms at other numbers than the real module has them at (the rule `swap`), as modules differ: in calls that take
//! a mechanism, in its lists, in `CKA_ALLOWED_MECHANISMS` and in `CKA_KEY_GEN_MECHANISM`. It never changes what a mechanism does.

use cryptoki_sys::{
    CK_ATTRIBUTE, CK_BYTE, CK_FUNCTION_LIST, CK_MECHANISM, CK_MECHANISM_INFO, CK_MECHANISM_TYPE,
    CK_OBJECT_HANDLE, CK_RV, CK_SESSION_HANDLE, CK_SLOT_ID, CK_ULONG, CK_UNAVAILABLE_INFORMATION,
    CKA_ALLOWED_MECHANISMS, CKA_KEY_GEN_MECHANISM, CKR_FUNCTION_NOT_SUPPORTED, CKR_OK,
};

use crate::plan::{self, Step};
use crate::real;

/// Puts the functions of this file into a list.
pub(crate) fn stand_in(list: &mut CK_FUNCTION_LIST) {
    list.C_GetMechanismList = Some(mechanism_list);
    list.C_GetMechanismInfo = Some(mechanism_info);
    list.C_CreateObject = Some(create_object);
    list.C_EncryptInit = Some(encrypt_init);
    list.C_GenerateKey = Some(generate_key);
    list.C_GenerateKeyPair = Some(generate_key_pair);
    list.C_WrapKey = Some(wrap_key);
}

/// Makes a call with the mechanism as the real module numbers it.
pub(crate) fn asked<T>(
    mechanism: *mut CK_MECHANISM,
    call: impl FnOnce(*mut CK_MECHANISM) -> T,
) -> T {
    if mechanism.is_null() {
        return call(mechanism);
    }
    // SAFETY: the caller promises a mechanism there; it is copied.
    let mut copy = unsafe { mechanism.read() };
    copy.mechanism = plan::number(copy.mechanism);
    call(&raw mut copy)
}

/// Makes a call with a template whose lists of mechanisms are as the real module numbers them.
pub(crate) fn given<T>(
    template: *mut CK_ATTRIBUTE,
    count: CK_ULONG,
    call: impl FnOnce(*mut CK_ATTRIBUTE) -> T,
) -> T {
    if template.is_null() {
        return call(template);
    }
    let count = usize::try_from(count).unwrap_or(0);
    // SAFETY: the caller gave a template of so many attributes; it is copied.
    let mut copy = unsafe { std::slice::from_raw_parts(template, count) }.to_vec();
    // They stay where they are until the call has returned.
    let mut lists = Vec::new();
    for attribute in copy.iter_mut().filter(|attribute| is_list(attribute)) {
        let length = usize::try_from(attribute.ulValueLen).unwrap_or(0);
        // SAFETY: the caller gave so many bytes.
        let list = unsafe { std::slice::from_raw_parts(attribute.pValue.cast::<u8>(), length) };
        let mut list = list.to_vec();
        renumber(&mut list);
        attribute.pValue = list.as_mut_ptr().cast();
        lists.push(list);
    }
    call(copy.as_mut_ptr())
}

/// Numbers the lists of mechanisms in what the real module answered as this one does.
pub(crate) fn found(template: *mut CK_ATTRIBUTE, count: CK_ULONG) {
    if template.is_null() {
        return;
    }
    let count = usize::try_from(count).unwrap_or(0);
    // SAFETY: the caller gave a template of so many attributes.
    let template = unsafe { std::slice::from_raw_parts(template, count) };
    for attribute in template.iter().filter(|attribute| is_list(attribute)) {
        let length = usize::try_from(attribute.ulValueLen).unwrap_or(0);
        // SAFETY: the real module has just written so many bytes there.
        renumber(unsafe { std::slice::from_raw_parts_mut(attribute.pValue.cast(), length) });
    }
}

fn is_list(attribute: &CK_ATTRIBUTE) -> bool {
    let mechanisms = [CKA_ALLOWED_MECHANISMS, CKA_KEY_GEN_MECHANISM];
    let shown = attribute.ulValueLen != CK_UNAVAILABLE_INFORMATION;
    shown && mechanisms.contains(&attribute.type_) && !attribute.pValue.is_null()
}

/// By bytes: nobody promised that a list lies where numbers may.
fn renumber(list: &mut [u8]) {
    for bytes in list.as_chunks_mut().0 {
        *bytes = plan::number(CK_MECHANISM_TYPE::from_ne_bytes(*bytes)).to_ne_bytes();
    }
}

/// Asks the plan, then `call`.
fn step(name: &str, call: impl FnOnce() -> CK_RV) -> CK_RV {
    let step = match plan::next(name) {
        Step::Answer(code) => return code,
        step => step,
    };
    let answer = call();
    plan::done(step);
    answer
}

unsafe extern "C" fn mechanism_list(
    slot: CK_SLOT_ID,
    list: *mut CK_MECHANISM_TYPE,
    count: *mut CK_ULONG,
) -> CK_RV {
    step("C_GetMechanismList", || {
        let Some(function) = real().C_GetMechanismList else { return CKR_FUNCTION_NOT_SUPPORTED };
        // SAFETY: the caller's promises about its arguments are passed on with them, here and below.
        let answer = unsafe { function(slot, list, count) };
        if answer == CKR_OK && !list.is_null() {
            // SAFETY: the real module has just written so many numbers there.
            let list = unsafe {
                std::slice::from_raw_parts_mut(list, usize::try_from(count.read()).unwrap_or(0))
            };
            list.iter_mut().for_each(|number| *number = plan::number(*number));
        }
        answer
    })
}

unsafe extern "C" fn mechanism_info(
    slot: CK_SLOT_ID,
    kind: CK_MECHANISM_TYPE,
    info: *mut CK_MECHANISM_INFO,
) -> CK_RV {
    step("C_GetMechanismInfo", || {
        let Some(function) = real().C_GetMechanismInfo else { return CKR_FUNCTION_NOT_SUPPORTED };
        // SAFETY: as above.
        unsafe { function(slot, plan::number(kind), info) }
    })
}

unsafe extern "C" fn create_object(
    session: CK_SESSION_HANDLE,
    template: *mut CK_ATTRIBUTE,
    count: CK_ULONG,
    out: *mut CK_OBJECT_HANDLE,
) -> CK_RV {
    step("C_CreateObject", || {
        let Some(function) = real().C_CreateObject else { return CKR_FUNCTION_NOT_SUPPORTED };
        // SAFETY: as above.
        given(template, count, |template| unsafe { function(session, template, count, out) })
    })
}

unsafe extern "C" fn encrypt_init(
    session: CK_SESSION_HANDLE,
    mechanism: *mut CK_MECHANISM,
    key: CK_OBJECT_HANDLE,
) -> CK_RV {
    step("C_EncryptInit", || {
        let Some(function) = real().C_EncryptInit else { return CKR_FUNCTION_NOT_SUPPORTED };
        // SAFETY: as above.
        asked(mechanism, |mechanism| unsafe { function(session, mechanism, key) })
    })
}

unsafe extern "C" fn generate_key(
    session: CK_SESSION_HANDLE,
    mechanism: *mut CK_MECHANISM,
    template: *mut CK_ATTRIBUTE,
    count: CK_ULONG,
    out: *mut CK_OBJECT_HANDLE,
) -> CK_RV {
    step("C_GenerateKey", || {
        let Some(function) = real().C_GenerateKey else { return CKR_FUNCTION_NOT_SUPPORTED };
        asked(mechanism, |mechanism| {
            // SAFETY: as above.
            given(template, count, |template| unsafe {
                function(session, mechanism, template, count, out)
            })
        })
    })
}

unsafe extern "C" fn generate_key_pair(
    session: CK_SESSION_HANDLE,
    mechanism: *mut CK_MECHANISM,
    public: *mut CK_ATTRIBUTE,
    public_count: CK_ULONG,
    private: *mut CK_ATTRIBUTE,
    private_count: CK_ULONG,
    public_out: *mut CK_OBJECT_HANDLE,
    private_out: *mut CK_OBJECT_HANDLE,
) -> CK_RV {
    step("C_GenerateKeyPair", || {
        let Some(function) = real().C_GenerateKeyPair else { return CKR_FUNCTION_NOT_SUPPORTED };
        asked(mechanism, |mechanism| {
            given(public, public_count, |public| {
                // SAFETY: as above.
                given(private, private_count, |private| unsafe {
                    function(
                        session,
                        mechanism,
                        public,
                        public_count,
                        private,
                        private_count,
                        public_out,
                        private_out,
                    )
                })
            })
        })
    })
}

unsafe extern "C" fn wrap_key(
    session: CK_SESSION_HANDLE,
    mechanism: *mut CK_MECHANISM,
    by: CK_OBJECT_HANDLE,
    key: CK_OBJECT_HANDLE,
    out: *mut CK_BYTE,
    out_len: *mut CK_ULONG,
) -> CK_RV {
    step("C_WrapKey", || {
        let Some(function) = real().C_WrapKey else { return CKR_FUNCTION_NOT_SUPPORTED };
        // SAFETY: as above.
        asked(mechanism, |mechanism| unsafe { function(session, mechanism, by, key, out, out_len) })
    })
}
