//! Names as types: short texts from one small alphabet. They never hold anything but what their `parse` let in.

use alloc::string::String;

/// Why a name was refused.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{kind} \"{text}\" is not a name: use 1 to 64 of a-z A-Z 0-9 . _ : -")]
pub struct NameError {
    kind: &'static str,
    text: String,
}

/// The check behind every name type; [`name_type!`](crate::name_type) calls it.
///
/// # Errors
/// [`NameError`] unless `text` is 1 to 64 of `a-z A-Z 0-9 . _ : -`.
pub fn check(kind: &'static str, text: &str) -> Result<String, NameError> {
    let ok = (1..=64).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._:-".contains(&b));
    if ok {
        Ok(String::from(text))
    } else {
        Err(NameError { kind, text: text.chars().take(64).collect() })
    }
}

/// Makes a name type: what it is, and what errors call it.
#[macro_export]
macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident, $kind:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(::alloc::string::String);

        impl $name {
            /// Takes 1 to 64 of `a-z A-Z 0-9 . _ : -`.
            ///
            /// # Errors
            /// [`NameError`]($crate::NameError) for anything else.
            pub fn parse(text: &str) -> Result<Self, $crate::NameError> {
                $crate::names::check($kind, text).map(Self)
            }

            /// The text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl ::core::fmt::Display for $name {
            fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl ::core::fmt::Debug for $name {
            fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
                write!(f, "{:?}", self.0)
            }
        }
    };
}

name_type!(/// The id a service gave its payment order; unique for ever.
    OrderId, "order id");
name_type!(/// A key named in the policy (an officer's or an order service's).
    KeyName, "key");
