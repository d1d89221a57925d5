//! Names as types: clients, lanes, wallets, orders. They never hold anything but what [`parse`](ClientName::parse) let in.

use alloc::string::{String, ToString};
use core::fmt;

/// Why a name was refused.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{kind} \"{text}\" is not a name: use 1 to 64 of a-z A-Z 0-9 . _ : -")]
pub struct NameError {
    kind: &'static str,
    text: String,
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $kind:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(String);

        impl $name {
            /// Takes 1 to 64 of `a-z A-Z 0-9 . _ : -`.
            ///
            /// # Errors
            /// [`NameError`] for anything else.
            pub fn parse(text: &str) -> Result<Self, NameError> {
                let ok = !text.is_empty()
                    && text.len() <= 64
                    && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._:-".contains(&b));
                if ok {
                    Ok(Self(text.to_string()))
                } else {
                    Err(NameError { kind: $kind, text: text.chars().take(64).collect() })
                }
            }

            /// The text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", self.0)
            }
        }
    };
}

name!(/// A client, from the DNS name of its certificate.
    ClientName, "client");
name!(/// A lane of the policy.
    LaneName, "lane");
name!(/// A wallet of the policy.
    WalletName, "wallet");
name!(/// The id a service gave its payment order; unique for ever.
    OrderId, "order id");
name!(/// A key named in the policy (an officer's or an order service's).
    KeyName, "key");
name!(/// What a caller calls its request, so that a retry is the same request.
    IdempotencyKey, "idempotency key");
