//! Who calls: the one DNS name of the client certificate that the TLS handshake verified. It never takes a
//! name from a header, a message or an address.

use std::fmt;

use tonic::{Request, Status};
use webpki::EndEntityCert;

/// An authenticated client. Only [`Caller::from_request`] makes one.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Caller(String);

impl Caller {
    /// Reads the name from the peer certificate of this request's connection.
    ///
    /// # Errors
    /// `UNAUTHENTICATED` when there is no certificate, or when it does not carry exactly one DNS name in
    /// its subject alternative names: with two, it would be the server's guess whose request this is.
    pub fn from_request<T>(request: &Request<T>) -> Result<Self, Status> {
        let certificates = request.peer_certs().ok_or_else(|| {
            Status::unauthenticated(
                "no-client-certificate: this service needs a client certificate",
            )
        })?;
        let leaf = certificates.first().ok_or_else(|| {
            Status::unauthenticated("no-client-certificate: the client certificate is missing")
        })?;
        let certificate = EndEntityCert::try_from(leaf)
            .map_err(|_| Status::unauthenticated("bad-client-certificate: it cannot be parsed"))?;
        single_name(certificate.valid_dns_names()).map(Self)
    }

    /// The name, in lower-case letters, digits, dots and hyphens.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0
    }
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

/// DNS names compare without case, grants compare with it: only lower case is let in, so that two
/// spellings never are two callers. Wildcards fail the same test.
fn single_name<'a>(mut names: impl Iterator<Item = &'a str>) -> Result<String, Status> {
    let (Some(name), None) = (names.next(), names.next()) else {
        return Err(Status::unauthenticated(
            "bad-client-certificate: it must have exactly one DNS name (subjectAltName)",
        ));
    };
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'.' || b == b'-';
    if name.len() > 64 || !name.bytes().all(plain) {
        return Err(Status::unauthenticated(
            "bad-client-certificate: its DNS name must be at most 64 of a-z 0-9 . -",
        ));
    }
    Ok(name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_plain_name_is_a_caller() {
        assert_eq!(single_name(["watcher-1"].into_iter()).unwrap(), "watcher-1");
    }

    #[test]
    fn none_two_wildcards_and_capitals_are_not() {
        for names in [vec![], vec!["a", "b"], vec!["*.shop"], vec!["Shop"], vec!["a_b"]] {
            let error = single_name(names.iter().copied()).unwrap_err();
            assert_eq!(error.code(), tonic::Code::Unauthenticated, "{names:?}");
        }
    }

    #[test]
    fn a_request_without_tls_has_no_caller() {
        let error = Caller::from_request(&Request::new(())).unwrap_err();
        assert_eq!(error.code(), tonic::Code::Unauthenticated);
    }
}
