//! The signer's answers as types: signed, refused with reasons, or not known. It never takes silence for a refusal.

use std::time::Duration;

use prost::Message as _;
use proto::{OrderReply, SignReply};
use tonic::{Code, Status};

/// The answer to a request for a signature.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SignOutcome {
    /// Here it is.
    Signed(Signed),
    /// The signer said no to this request.
    Refused(Refusal),
    /// The signer said why it cannot now: a watermark has to rise, a queue to empty. Ask again with the same key.
    NotNow(Refusal),
    /// Nobody knows. Ask again with the same key.
    Unavailable(Unavailable),
}

/// A signed transaction.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Signed {
    /// Consensus encoding.
    pub transaction: Vec<u8>,
    /// An earlier call with the same key made it.
    pub stored: bool,
    /// Tier of the keys that signed.
    pub tier: String,
}

/// Why a call other than for a signature failed.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Failure {
    /// The signer said no.
    #[error("{0}")]
    Refused(Refusal),
    /// The signer could not be asked, or did not answer.
    #[error("{0}")]
    Unavailable(Unavailable),
}

/// What the signer answered when it said no.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the signer refused: {}", join(.reasons))]
pub struct Refusal {
    /// The status it came with.
    pub code: Code,
    /// 16 bytes, or empty when the request was not admitted.
    pub request_id: Vec<u8>,
    /// Never empty.
    pub reasons: Vec<Reason>,
    /// What the signer's log holds under the request's key, as far as the signer said.
    pub key: Option<Given>,
    /// The most that it holds for any of the request's orders, whoever asked, under whatever key.
    pub orders: Option<Given>,
    /// The input whose key is at fault, if it is one's: the others may be signable without it.
    pub faulty: Option<u32>,
}

/// How far a request, or an order, has come at the signer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Given {
    /// Nothing was allowed.
    Nothing,
    /// Something was allowed, so that its coins are set aside; nothing was signed.
    Allowed,
    /// Something was signed.
    Signed,
}

/// What the signer's log holds for an order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Paid {
    /// How far it has come.
    pub given: Given,
    /// Transactions that pay it, consensus-encoded, newest first, as far as they are given out.
    pub signed: Vec<Vec<u8>>,
    /// Why some are not.
    pub withheld: Option<Reason>,
    /// Officers said that none of them can ever confirm: it may be paid out of any coins.
    pub unbound: bool,
}

/// One reason.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
pub struct Reason {
    /// Stable.
    pub code: String,
    /// A sentence for people.
    pub text: String,
}

/// The signer could not be asked, or its answer is not one.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the signer cannot be asked now: {message}")]
pub struct Unavailable {
    /// What happened.
    pub message: String,
}

impl Refusal {
    /// Whether every reason has this code.
    #[must_use]
    pub fn is_only(&self, code: &str) -> bool {
        self.reasons.iter().all(|reason| reason.code == code)
    }

    /// Whether a reason has this code.
    #[must_use]
    pub fn has(&self, code: &str) -> bool {
        self.reasons.iter().any(|reason| reason.code == code)
    }
}

impl Unavailable {
    pub(super) fn late(deadline: Duration) -> Self {
        Self { message: format!("no answer within {} seconds", deadline.as_secs()) }
    }
}

impl Reason {
    /// Whether two lists say the same but for numbers in their sentences.
    pub(crate) fn same(one: &[Self], other: &[Self]) -> bool {
        one.iter().map(|reason| &reason.code).eq(other.iter().map(|reason| &reason.code))
    }

    /// From a sentence that begins with its code, `code: text`, as all our errors do.
    #[must_use]
    pub fn from_sentence(sentence: &str) -> Self {
        let is_code = |c: &str| {
            !c.is_empty()
                && c.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        };
        match sentence.split_once(": ") {
            Some((code, text)) if is_code(code) => Self { code: code.into(), text: text.into() },
            _ => Self { code: "error".into(), text: sentence.into() },
        }
    }
}

impl From<proto::Reason> for Reason {
    fn from(reason: proto::Reason) -> Self {
        Self { code: reason.code, text: reason.text }
    }
}

impl From<Reason> for proto::Reason {
    fn from(reason: Reason) -> Self {
        Self { code: reason.code, text: reason.text }
    }
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        match refusal(&status) {
            Some(refusal) => Self::Refused(refusal),
            None => {
                let message = format!("{:?}: {}", status.code(), status.message());
                Self::Unavailable(Unavailable { message })
            }
        }
    }
}

pub(super) fn sign_outcome(reply: Result<SignReply, Status>) -> SignOutcome {
    match reply {
        Ok(reply) => SignOutcome::Signed(Signed {
            transaction: reply.transaction,
            stored: reply.stored,
            tier: reply.tier,
        }),
        Err(status) => match (fault(&status), Failure::from(status)) {
            // A record, or a key in the token, is damaged: whoever waits is told so.
            (Some(fault), _) => SignOutcome::NotNow(fault),
            (None, Failure::Refused(refusal)) if refusal.is_last_word() => {
                SignOutcome::Refused(refusal)
            }
            (None, Failure::Refused(refusal)) => SignOutcome::NotNow(refusal),
            (None, Failure::Unavailable(unavailable)) => SignOutcome::Unavailable(unavailable),
        },
    }
}

impl Refusal {
    /// Whether asking again with the same request cannot help. A full queue empties, a watermark rises, a locked
    /// token is unlocked, people approve; what the policy denied or can never be right stays so.
    fn is_last_word(&self) -> bool {
        let not_yet = self.reasons.iter().all(|reason| NOT_YET.contains(&reason.code.as_str()));
        let passes = matches!(self.code, Code::ResourceExhausted | Code::FailedPrecondition);
        !(passes || not_yet) || self.has("oversize")
    }
}

/// A refusal is only what the signer itself said: it carries its reasons, or is a code that nothing else on
/// the way gives for a request.
fn refusal(status: &Status) -> Option<Refusal> {
    let code = status.code();
    let said = proto::Refusal::decode(status.details()).ok().filter(|r| !r.reasons.is_empty());
    match (code, said) {
        (
            Code::InvalidArgument
            | Code::NotFound
            | Code::AlreadyExists
            | Code::PermissionDenied
            | Code::FailedPrecondition
            | Code::ResourceExhausted
            | Code::OutOfRange,
            Some(said),
        ) => Some(from_signer(code, said)),
        // A message over the signer's size limit is refused before it is one: without reasons, and for good.
        (Code::InvalidArgument | Code::NotFound | Code::AlreadyExists | Code::OutOfRange, None) => {
            let reasons = vec![Reason::from_sentence(status.message())];
            Some(Refusal {
                code,
                request_id: Vec::new(),
                reasons,
                key: None,
                orders: None,
                faulty: None,
            })
        }
        _ => None,
    }
}

/// What the signer says of a fault of its own that has a name. It passes once people have mended it, and is no refusal.
fn fault(status: &Status) -> Option<Refusal> {
    let said = proto::Refusal::decode(status.details()).ok();
    let named = |said: &proto::Refusal| {
        said.reasons.iter().any(|reason| FAULTS.contains(&reason.code.as_str()))
    };
    let said = said.filter(|said| status.code() == Code::Internal && named(said))?;
    Some(from_signer(Code::Internal, said))
}

/// What the policy asks for before it allows a request, which may come again.
const NOT_YET: [&str; 5] = ["approvals", "delay", "hours", "screening", "books"];

const FAULTS: [&str; 2] = ["records-fault", "token-fault"];

fn from_signer(code: Code, said: proto::Refusal) -> Refusal {
    let (key, orders) = (given(said.standing()), given(said.orders()));
    let faulty = said.faulty.first().copied();
    let reasons = said.reasons.into_iter().map(Reason::from).collect();
    Refusal { code, request_id: said.request_id, reasons, key, orders, faulty }
}

fn given(standing: proto::Standing) -> Option<Given> {
    match standing {
        proto::Standing::Unspecified => None,
        proto::Standing::NotSigned => Some(Given::Nothing),
        proto::Standing::Allowed => Some(Given::Allowed),
        proto::Standing::Signed => Some(Given::Signed),
    }
}

/// `None` for a reply that does not say.
pub(super) fn paid(reply: OrderReply) -> Option<Paid> {
    let given = given(reply.standing())?;
    // What other cosigners have to sign first is no transaction yet.
    let made = reply.signed.into_iter().map(|signed| signed.transaction);
    let signed = made.filter(|transaction| !transaction.is_empty()).collect();
    let withheld = reply.withheld.map(Reason::from);
    Some(Paid { given, signed, withheld, unbound: reply.unbound })
}

fn join(reasons: &[Reason]) -> String {
    let texts: Vec<_> = reasons.iter().map(|r| format!("{}: {}", r.code, r.text)).collect();
    texts.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(code: Code, reasons: &[&str]) -> Status {
        let reasons = reasons
            .iter()
            .map(|code| proto::Reason { code: (*code).into(), text: "so".into() })
            .collect();
        let details = proto::Refusal { request_id: vec![1; 16], reasons, ..Default::default() };
        let details = details.encode_to_vec();
        Status::with_details(code, "fee-rate: so", details.into())
    }

    #[test]
    fn a_denial_is_an_answer_with_its_reasons() {
        let outcome = sign_outcome(Err(status(Code::PermissionDenied, &["fee-rate", "fee-total"])));
        let SignOutcome::Refused(refusal) = outcome else { panic!("{outcome:?}") };
        assert!(refusal.has("fee-rate") && refusal.has("fee-total"));
        assert_eq!(refusal.to_string(), "the signer refused: fee-rate: so; fee-total: so");
    }

    #[test]
    fn silence_and_trouble_are_not_denials() {
        for status in [
            status(Code::Unavailable, &["token-unavailable"]),
            status(Code::DeadlineExceeded, &["late"]),
            status(Code::Internal, &["broken"]),
            // A proxy, not the signer: no reasons.
            Status::permission_denied("403"),
            Status::unauthenticated("who"),
            Status::unknown("transport error"),
            Status::cancelled("gone"),
        ] {
            let outcome = sign_outcome(Err(status));
            assert!(matches!(outcome, SignOutcome::Unavailable(_)), "{outcome:?}");
        }
    }

    #[test]
    fn what_may_pass_is_no_last_word() {
        for status in [
            status(Code::ResourceExhausted, &["busy"]),
            status(Code::FailedPrecondition, &["input-not-proven"]),
            status(Code::Internal, &["records-fault"]),
            status(Code::Internal, &["token-fault"]),
            status(Code::PermissionDenied, &["approvals", "hours"]),
            status(Code::FailedPrecondition, &["waiting", "approvals"]),
        ] {
            let outcome = sign_outcome(Err(status));
            assert!(matches!(outcome, SignOutcome::NotNow(_)), "{outcome:?}");
        }
    }

    #[test]
    fn what_can_never_be_right_is_refused_even_without_details() {
        for status in [
            Status::out_of_range("Error, decoded message length too large"),
            Status::already_exists("idempotency-key-reused: this key was used for another request"),
            status(Code::ResourceExhausted, &["oversize"]),
        ] {
            let outcome = sign_outcome(Err(status));
            assert!(matches!(outcome, SignOutcome::Refused(_)), "{outcome:?}");
        }
    }
}
