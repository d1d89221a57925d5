//! Counts what this process had the token do with keys, by function and key, as a vendor's audit log does: what the token
//! did, and calls of which that is not known. It never counts what the token refused.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use cryptoki::context::Function;
use cryptoki::error::Error;
use token_wire::Operation;

use crate::fault;

/// Longest name of a key that is kept.
const NAME_CHARS_MAX: usize = 64;

/// The functions that use a private or secret key, as PKCS#11 names them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Use {
    Sign,
    Unwrap,
    Decrypt,
}

impl Use {
    fn name(self) -> &'static str {
        match self {
            Self::Sign => "C_Sign",
            Self::Unwrap => "C_UnwrapKey",
            Self::Decrypt => "C_Decrypt",
        }
    }

    /// Whether the token may have done it although this came back. Before the call itself nothing was done; and of what does
    /// not open most errors say no more than that.
    fn may_be_done(self, error: &Error) -> bool {
        match (self, error) {
            (Self::Sign, Error::Pkcs11(_, Function::Sign)) => fault::passes(error),
            (Self::Decrypt, Error::Pkcs11(_, Function::Decrypt))
            | (Self::Unwrap, Error::Pkcs11(_, Function::UnwrapKey)) => fault::is_gone(error),
            _ => false,
        }
    }
}

#[derive(Default)]
struct Count {
    done: u64,
    unsure: u64,
}

/// Counts since they were last taken; every session of the process shares them.
#[derive(Clone, Default)]
pub(crate) struct Tally(Rc<RefCell<BTreeMap<(Use, String), Count>>>);

impl Tally {
    /// One call with this key, and what came of it.
    pub(crate) fn count<T>(&self, how: Use, key: &str, answer: &Result<T, Error>) {
        let unsure = match answer {
            Ok(_) => false,
            Err(error) if how.may_be_done(error) => true,
            Err(_) => return,
        };
        let key = key.chars().take(NAME_CHARS_MAX).collect();
        let mut counts = self.0.borrow_mut();
        let count = counts.entry((how, key)).or_default();
        let one = if unsure { &mut count.unsure } else { &mut count.done };
        *one = one.saturating_add(1);
    }

    /// What was counted; from here on it begins anew.
    pub(crate) fn take(&self) -> Vec<Operation> {
        let counts = self.0.take();
        let operation = |((how, key), count): ((Use, String), Count)| Operation {
            function: how.name().to_owned(),
            key,
            done: count.done,
            unsure: count.unsure,
        };
        counts.into_iter().map(operation).collect()
    }
}

#[cfg(test)]
mod tests {
    use cryptoki::error::RvError;

    use super::*;

    #[test]
    fn only_what_the_token_did_or_may_have_done_counts() {
        let tally = Tally::default();
        let said = |error, function| Err::<(), _>(Error::Pkcs11(error, function));
        for _ in 0..3 {
            tally.count(Use::Sign, "-", &Ok(()));
        }
        tally.count(Use::Sign, "-", &said(RvError::DeviceError, Function::Sign));
        // Nothing was signed yet.
        tally.count(Use::Sign, "-", &said(RvError::DeviceError, Function::SignInit));
        tally.count(Use::Sign, "-", &said(RvError::DataLenRange, Function::Sign));
        tally.count(Use::Unwrap, "w", &said(RvError::TemplateInconsistent, Function::UnwrapKey));
        tally.count(Use::Unwrap, "w", &said(RvError::GeneralError, Function::UnwrapKey));
        tally.count(Use::Unwrap, "w", &said(RvError::DeviceRemoved, Function::UnwrapKey));
        let operation = |function: &str, key: &str, done, unsure| Operation {
            function: function.to_owned(),
            key: key.to_owned(),
            done,
            unsure,
        };
        let counted = [operation("C_Sign", "-", 3, 1), operation("C_UnwrapKey", "w", 0, 1)];
        assert_eq!(tally.clone().take(), counted);
        assert!(tally.take().is_empty());
    }
}
