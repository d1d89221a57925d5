//! PKCS#11 errors as faults: a code for the signer, a sentence for people. They never carry a PIN, a key or a
//! digest.

use cryptoki::error::{Error, RvError};
use token_wire::{Fault, FaultCode};

/// The failed call and its error, shortly: `C_UnwrapKey: WrappedKeyInvalid`.
pub(crate) fn short(error: &Error) -> String {
    match error {
        Error::Pkcs11(error, function) => {
            let function = function.to_string();
            format!("C_{}: {error:?}", function.trim_start_matches("Function::"))
        }
        other => other.to_string(),
    }
}

/// A fault of the token while it did something.
pub(crate) fn token(doing: &str, error: &Error) -> Fault {
    let code = if is_gone(error) { FaultCode::TokenGone } else { FaultCode::Token };
    Fault::new(code, format!("the token failed to {doing} ({})", short(error)))
}

/// Errors that say the token, not the call, is at fault.
fn is_gone(error: &Error) -> bool {
    matches!(
        error,
        Error::Pkcs11(
            RvError::DeviceError
                | RvError::DeviceMemory
                | RvError::DeviceRemoved
                | RvError::TokenNotPresent
                | RvError::TokenNotRecognized
                | RvError::SlotIdInvalid
                | RvError::SessionClosed
                | RvError::SessionHandleInvalid
                | RvError::UserNotLoggedIn
                | RvError::CryptokiNotInitialized,
            _
        )
    )
}
