//! Who calls: the name of the client certificate that the TLS handshake verified. It never takes a
//! name from a header, a message or an address.

use std::fmt;

use tonic::{Request, Status};

use crate::judge::Standing;
use crate::peers::Peer;

/// An authenticated client. Only its connection's certificate makes one.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Caller(String);

impl Caller {
    /// Who made the request's connection.
    ///
    /// # Errors
    /// `UNAUTHENTICATED` without a certificate; `UNAVAILABLE` when nobody can say whether it was revoked.
    pub fn from_request<T>(request: &Request<T>) -> Result<Self, Status> {
        let peer = peer(request)?;
        match peer.standing() {
            Standing::Checked => Ok(Self(peer.name().to_owned())),
            Standing::Unknown => {
                Err(Status::unavailable(format!("{REVOCATION_UNKNOWN}: {UNKNOWN_TEXT}")))
            }
        }
    }

    /// The same, also when nobody can say whether its certificate was revoked: for calls that can only stop things, such
    /// as an officer's freeze. One that is known to be revoked never gets here.
    ///
    /// # Errors
    /// `UNAUTHENTICATED` without a certificate.
    pub fn despite_unknown_revocation<T>(request: &Request<T>) -> Result<Self, Status> {
        peer(request).map(|peer| Self(peer.name().to_owned()))
    }

    /// The name, in lower-case letters, digits, dots and hyphens.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0
    }
}

/// The stable code of a caller whose revocation nobody can tell.
pub const REVOCATION_UNKNOWN: &str = "revocation-unknown";
/// What is said with it.
pub const UNKNOWN_TEXT: &str =
    "this service's revocation list for your certificate is missing or expired: tell its operators";

fn peer<T>(request: &Request<T>) -> Result<&Peer, Status> {
    request.extensions().get::<Peer>().ok_or_else(|| {
        Status::unauthenticated("no-client-certificate: this service needs a client certificate")
    })
}

impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Caller({:?})", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::judge::Judged;

    fn from(standing: Standing) -> Request<()> {
        let mut request = Request::new(());
        let judged = Judged { name: "officer-1".to_owned(), standing };
        request.extensions_mut().insert(Peer::new(judged, Vec::new()));
        request
    }

    #[test]
    fn a_request_without_tls_has_no_caller() {
        let error = Caller::from_request(&Request::new(())).unwrap_err();
        assert_eq!(error.code(), tonic::Code::Unauthenticated);
        Caller::despite_unknown_revocation(&Request::new(())).unwrap_err();
    }

    #[test]
    fn unknown_revocation_closes_everything_but_what_says_otherwise() {
        assert_eq!(Caller::from_request(&from(Standing::Checked)).unwrap().name(), "officer-1");
        let request = from(Standing::Unknown);
        let error = Caller::from_request(&request).unwrap_err();
        assert!(error.message().starts_with(REVOCATION_UNKNOWN), "{error:?}");
        assert_eq!(Caller::despite_unknown_revocation(&request).unwrap().name(), "officer-1");
    }
}
