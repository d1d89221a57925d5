//! An attempt at what a token must refuse, told apart from a call that came to nothing: a token, a session or a handle
//! that failed has refused nothing. It never takes an error for a defence that may be gone the next time.

use std::thread::sleep;
use std::time::Duration;

use cryptoki::error::Error;
use token_wire::{Fault, FaultCode};

use crate::fault;

/// Times an attempt is made before it is given up as not made.
const TRIES_MAX: u64 = 6;

/// What the attempt gave, or nothing where the token refused it. An error that says nothing of what was asked counts as a refusal
/// when it comes every time and `alive` shows that the token answers what it may; everything else was not tried.
pub(crate) fn attempt<T>(
    doing: &str,
    alive: impl FnOnce() -> bool,
    mut call: impl FnMut() -> Result<T, Error>,
) -> Result<Option<T>, Fault> {
    let (mut last, mut always_vague) = (None, true);
    for tried in 1..=TRIES_MAX {
        let error = match call() {
            Ok(done) => return Ok(Some(done)),
            Err(error) => error,
        };
        // A function that the module does not have is no way in either.
        let answered = matches!(error, Error::Pkcs11(..) | Error::NullFunctionPointer);
        if !fault::passes(&error) && answered {
            return Ok(None);
        }
        always_vague &= fault::is_vague(&error);
        last = Some(error);
        sleep(Duration::from_millis(tried));
    }
    match last {
        Some(_) if always_vague && alive() => Ok(None),
        Some(error) => Err(untried(doing, &error)),
        None => Err(Fault::new(FaultCode::Token, format!("not tried: to {doing}"))),
    }
}

fn untried(doing: &str, error: &Error) -> Fault {
    let code = if fault::is_gone(error) { FaultCode::TokenGone } else { FaultCode::Token };
    Fault::new(code, format!("not tried: to {doing} ({})", fault::short(error)))
}

#[cfg(test)]
mod tests {
    use cryptoki::context::Function;
    use cryptoki::error::RvError;

    use super::*;

    fn answers(error: RvError, alive: bool) -> Result<Option<()>, FaultCode> {
        let call = || Err(Error::Pkcs11(error, Function::UnwrapKey));
        attempt("try", || alive, call).map_err(|fault| fault.code)
    }

    #[test]
    fn only_a_word_on_what_was_asked_is_a_refusal() {
        for refusal in [
            RvError::TemplateInconsistent,
            RvError::ActionProhibited,
            RvError::KeyUnextractable,
            RvError::MechanismInvalid,
            RvError::FunctionNotSupported,
        ] {
            assert_eq!(answers(refusal, false), Ok(None));
        }
        for (failure, code) in [
            (RvError::DeviceError, FaultCode::TokenGone),
            (RvError::SessionHandleInvalid, FaultCode::TokenGone),
            (RvError::UserNotLoggedIn, FaultCode::TokenGone),
            (RvError::HostMemory, FaultCode::Token),
            (RvError::KeyHandleInvalid, FaultCode::Token),
            (RvError::WrappingKeyHandleInvalid, FaultCode::Token),
        ] {
            assert_eq!(answers(failure, true), Err(code));
        }
    }

    #[test]
    fn a_function_that_the_module_does_not_have_is_no_way_in() {
        let mut calls = 0;
        let call = || {
            calls += 1;
            Err::<(), _>(Error::NullFunctionPointer)
        };
        assert_eq!(attempt("try", || false, call).map_err(|fault| fault.code), Ok(None));
        assert_eq!(calls, 1, "it will not be there the next time");
        // What never came to the module is no word of the token's.
        let lost = attempt("try", || true, || Err::<(), _>(Error::NotSupported));
        assert_eq!(lost.map_err(|fault| fault.code), Err(FaultCode::Token));
    }

    #[test]
    fn a_vague_word_counts_when_the_token_is_well() {
        for vague in [RvError::GeneralError, RvError::FunctionFailed] {
            assert_eq!(answers(vague, true), Ok(None));
            assert_eq!(answers(vague, false), Err(FaultCode::Token));
        }
        // Once among others is a failure like those.
        let mut calls = 0;
        let mixed = attempt(
            "try",
            || true,
            || {
                calls += 1;
                let error = if calls == 3 { RvError::DeviceError } else { RvError::GeneralError };
                Err::<(), _>(Error::Pkcs11(error, Function::UnwrapKey))
            },
        );
        assert!(mixed.is_err());
    }

    #[test]
    fn what_passes_is_tried_again() {
        let mut calls = 0;
        let done = attempt(
            "try",
            || false,
            || {
                calls += 1;
                if calls < 3 {
                    Err(Error::Pkcs11(RvError::DeviceError, Function::CopyObject))
                } else {
                    Ok(7)
                }
            },
        );
        assert_eq!(done.unwrap(), Some(7));
    }
}
