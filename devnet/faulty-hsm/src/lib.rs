//! A PKCS#11 module for tests: it loads a real module, passes every call on, counts it, and fails as a rules file
//! says. It never answers by itself unless a rule tells it to, and it is never shipped.
//!
//! Two variables of the environment say where things are: `FAULTY_MODULE` is the real module, `FAULTY_DIR` a folder
//! with
//!
//! | file | |
//! |---|---|
//! | `rules` | what goes wrong (see `rules`); read again whenever it changed |
//! | `calls` | written here: a line for each call |
//! | `keys` | private keys in hex, one a line, that the test knows: for the rules `one-nonce` and `bias` |
//! | `operations` | written here: a line for each use of a key that the real module did, `C_Sign 1 LABEL` |
//! | `faults` | written here: a line for each fault, `C_Sign CKR_DEVICE_ERROR` |
//!
//! Reading order: `rules` (the language), `plan` (what happens to this call), `table` (the functions), `uses` (what is done with keys), `numbers` (mechanisms
//! at other numbers), `nonce`.

mod rules;
mod plan;
mod codes;
mod table;
mod nonce;
mod uses;
mod numbers;

use std::process::abort;
use std::sync::OnceLock;

use cryptoki_sys::{CK_FUNCTION_LIST, CK_RV, CKR_GENERAL_ERROR, CKR_OK, Pkcs11};

/// The real module's functions and ours, made once and kept for the process's life.
struct Lists {
    real: CK_FUNCTION_LIST,
    ours: CK_FUNCTION_LIST,
}

static LISTS: OnceLock<Option<Lists>> = OnceLock::new();

/// The functions of this module.
///
/// # Safety
/// `out` must be valid for a write, as PKCS#11 says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn C_GetFunctionList(out: *mut *const CK_FUNCTION_LIST) -> CK_RV {
    match LISTS.get_or_init(load) {
        Some(lists) if !out.is_null() => {
            // SAFETY: the caller promises that `out` can be written; what it is given lives as long as the process.
            unsafe { out.write(&raw const lists.ours) };
            CKR_OK
        }
        _ => CKR_GENERAL_ERROR,
    }
}

/// The real module's functions.
fn real() -> &'static CK_FUNCTION_LIST {
    match LISTS.get() {
        Some(Some(lists)) => &lists.real,
        // Nobody has a function of ours before both lists are there.
        _ => abort(),
    }
}

fn load() -> Option<Lists> {
    let path = std::env::var_os("FAULTY_MODULE")?;
    let mut list = std::ptr::null_mut();
    // SAFETY: loading runs the module's own start-up code; a test names a module it trusts. The library is never
    // unloaded (it is forgotten below), so that its functions stay where they are.
    let library = unsafe { Pkcs11::new(path) }.ok()?;
    // SAFETY: `list` can be written, and the function is the one of that name.
    let answer = unsafe { library.C_GetFunctionList(&raw mut list) };
    std::mem::forget(library);
    if answer != CKR_OK || list.is_null() {
        return None;
    }
    // SAFETY: the module answered that a whole list is there; it is copied.
    let real = unsafe { *list };
    Some(Lists { real, ours: table::ours(&real) })
}
