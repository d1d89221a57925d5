//! PKCS#11 errors as faults: a code for the signer, a sentence for people. They never carry a PIN, a key or a
//! digest.

use cryptoki::context::Function;
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

/// Whether the same call may well succeed later, or in another session: the token or the session is at fault, not
/// what was asked.
pub(crate) fn passes(error: &Error) -> bool {
    is_gone(error)
        || matches!(
            error,
            Error::Pkcs11(
                RvError::GeneralError
                    | RvError::FunctionFailed
                    | RvError::FunctionCanceled
                    | RvError::HostMemory
                    | RvError::ObjectHandleInvalid
                    | RvError::KeyHandleInvalid
                    | RvError::UnwrappingKeyHandleInvalid
                    | RvError::WrappingKeyHandleInvalid
                    | RvError::OperationActive
                    | RvError::OperationNotInitialized
                    | RvError::SessionCount
                    | RvError::MutexBad
                    | RvError::CantLock
                    | RvError::FunctionRejected,
                _
            )
        )
}

/// Whether the error says nothing at all: of the token, the session, or what was asked.
pub(crate) fn is_vague(error: &Error) -> bool {
    matches!(
        error,
        Error::Pkcs11(
            RvError::GeneralError | RvError::FunctionFailed | RvError::FunctionRejected,
            _
        )
    )
}

/// Whether a wrapped key that is no key for this token may be to blame: an error of the unwrapping itself that does
/// not say that token, session or handle failed. Tokens differ in what they say (SoftHSM: a general error).
pub(crate) fn blames_key(error: &Error) -> bool {
    let vague = matches!(error, Error::Pkcs11(RvError::GeneralError | RvError::FunctionFailed, _));
    match error {
        Error::Pkcs11(_, Function::UnwrapKey | Function::Decrypt) => vague || !passes(error),
        Error::Pkcs11(..) => !passes(error),
        _ => true,
    }
}

/// Errors that say the token, not the call, is at fault.
pub(crate) fn is_gone(error: &Error) -> bool {
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
