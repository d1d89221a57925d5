//! Why a call was refused or failed, and how the wire says so. It never tells a caller more than is theirs.

use prost::Message as _;
use tonic::{Code, Status};

use crate::node::NodeError;
use crate::signer_client::Failure;
use crate::store::StoreError;

/// Everything a call to this service can end with besides an answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The request cannot be served as it is; the caller is told why.
    #[error("{reason}: {text}")]
    Refused {
        /// gRPC's class of it.
        code: Code,
        /// Stable reason code.
        reason: &'static str,
        /// One sentence for people.
        text: String,
    },
    /// The signer said no, or could not be asked.
    #[error(transparent)]
    Signer(#[from] Failure),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The node failed.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// Something that cannot be, is: a bug, or a signer or node that lies.
    #[error("{0}")]
    Broken(String),
}

impl Error {
    /// A refusal the caller can act on.
    pub fn refused(code: Code, reason: &'static str, text: impl Into<String>) -> Self {
        Self::Refused { code, reason, text: text.into() }
    }

    /// The request can never be right.
    pub fn invalid(reason: &'static str, text: impl Into<String>) -> Self {
        Self::refused(Code::InvalidArgument, reason, text)
    }

    /// No wallet of that name is this caller's.
    #[must_use]
    pub fn unknown_wallet(name: &str) -> Self {
        let shown: String = name.chars().take(64).collect();
        Self::refused(
            Code::NotFound,
            "unknown-wallet",
            format!("there is no wallet \"{shown}\" here"),
        )
    }
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(error.into())
    }
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        match error {
            Error::Refused { code, reason, text } => refusal(code, reason, &text),
            Error::Signer(Failure::Refused(said)) => {
                let reasons = said.reasons.into_iter().map(proto::Reason::from).collect();
                with_reasons(said.code, "the signer says: ", reasons)
            }
            Error::Signer(Failure::Unavailable(error)) => {
                tracing::warn!(%error, "the signer failed");
                let text =
                    "the signer cannot be asked now; try again with the same idempotency key";
                refusal(Code::Unavailable, "signer-unreachable", text)
            }
            Error::Store(error) => {
                tracing::error!(%error, "the database failed");
                refusal(
                    Code::Unavailable,
                    "database-unavailable",
                    "the watcher's database cannot be used now; try again, and look at its log",
                )
            }
            Error::Node(error) => {
                tracing::warn!(%error, "the node failed");
                refusal(
                    Code::Unavailable,
                    error.reason(),
                    "the bitcoin node does not serve us now; try again",
                )
            }
            Error::Broken(text) => {
                tracing::error!(error = text, "a broken promise");
                refusal(
                    Code::Internal,
                    "internal",
                    "something is broken; the watcher's log says what",
                )
            }
        }
    }
}

/// A status whose message opens with its reason code and whose details are a `Refusal`.
#[must_use]
pub fn refusal(code: Code, reason: &str, text: &str) -> Status {
    let reason = proto::Reason { code: reason.to_owned(), text: text.to_owned() };
    with_reasons(code, "", vec![reason])
}

/// The message says the first reason, the details say all.
fn with_reasons(code: Code, before: &str, reasons: Vec<proto::Reason>) -> Status {
    let message = match reasons.first() {
        Some(first) => format!("{}: {before}{}", first.code, first.text),
        None => "refused: no reason was given".to_owned(),
    };
    let details = proto::Refusal { reasons, ..proto::Refusal::default() };
    Status::with_details(code, message, details.encode_to_vec().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_carries_its_code_in_words_and_in_details() {
        let status = Status::from(Error::unknown_wallet("nobody"));
        assert_eq!(status.code(), Code::NotFound);
        assert_eq!(status.message(), "unknown-wallet: there is no wallet \"nobody\" here");
        let details = proto::Refusal::decode(status.details()).unwrap();
        assert_eq!(details.reasons[0].code, "unknown-wallet");
    }

    #[test]
    fn what_the_database_said_stays_in_the_log() {
        let status = Status::from(Error::Store(StoreError::Corrupt("secret".into())));
        assert_eq!(status.code(), Code::Unavailable);
        assert!(!status.message().contains("secret"));
    }
}
