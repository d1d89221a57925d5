//! Why a connection was turned away, as stable codes with a count and a log line each. It never lets strangers fill a log:
//! so many lines in a while, then how many more there were.

use std::fmt;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustls::{CertificateError, Error};

/// So many lines are written in [`WHILE`]; the rest are counted.
const LINES_MAX: u32 = 100;
const WHILE: Duration = Duration::from_secs(10);

macro_rules! turned {
    ($($(#[doc = $doc:literal])* $name:ident = $code:literal;)*) => {
        /// Why a connection was turned away or ended.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        #[non_exhaustive]
        pub enum Turned {
            $($(#[doc = $doc])* $name,)*
        }

        impl Turned {
            /// Every reason.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The stable code.
            #[must_use]
            pub const fn code(self) -> &'static str {
                match self { $(Self::$name => $code,)* }
            }
        }
    };
}

turned! {
    /// No client certificate was shown.
    NoCertificate = "no-client-certificate";
    /// Not certified by the authority.
    UnknownAuthority = "unknown-authority";
    /// Not valid any more.
    Expired = "expired";
    /// Not valid yet.
    NotYetValid = "not-yet-valid";
    /// On a revocation list.
    Revoked = "revoked";
    /// Not made for clients.
    WrongPurpose = "wrong-purpose";
    /// Its alternative names are not exactly one plain DNS name.
    BadName = "bad-name";
    /// More certificates in between than are looked at.
    LongChain = "long-chain";
    /// Anything else about the certificate, or its key was not there.
    BadCertificate = "bad-certificate";
    /// Not TLS 1.3 with HTTP/2.
    Protocol = "protocol";
    /// The handshake took too long.
    Late = "late";
    /// Gave way to a newer one from where too many came.
    Crowded = "crowded";
    /// The client has too many connections already.
    ClientFull = "client-full";
    /// All connections together are too many.
    Full = "full";
    /// The other side hung up.
    HungUp = "hung-up";
}

impl Turned {
    /// What the TLS library's error means.
    pub(crate) fn of(error: &Error) -> Self {
        match error {
            Error::NoCertificatesPresented => Self::NoCertificate,
            Error::InvalidCertificate(certificate) => Self::of_certificate(certificate),
            Error::InvalidCertRevocationList(_) => Self::BadCertificate,
            _ => Self::Protocol,
        }
    }

    fn of_certificate(error: &CertificateError) -> Self {
        match error {
            CertificateError::UnknownIssuer => Self::UnknownAuthority,
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => Self::Expired,
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                Self::NotYetValid
            }
            CertificateError::Revoked => Self::Revoked,
            CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
                Self::WrongPurpose
            }
            CertificateError::Other(other) => {
                other.0.downcast_ref::<Self>().copied().unwrap_or(Self::BadCertificate)
            }
            _ => Self::BadCertificate,
        }
    }
}

impl fmt::Display for Turned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

impl std::error::Error for Turned {}

/// How many connections were turned away, and the lines about them.
#[derive(Debug, Default)]
pub struct Counts {
    counts: [AtomicU64; Turned::ALL.len()],
    taken: AtomicU64,
    lines: Mutex<Lines>,
}

#[derive(Debug, Default)]
struct Lines {
    since: Option<Instant>,
    written: u32,
    unwritten: u64,
}

impl Counts {
    /// How often for this reason.
    #[must_use]
    pub fn of(&self, reason: Turned) -> u64 {
        self.count(reason).map_or(0, |count| count.load(Ordering::Relaxed))
    }

    /// How many were taken in.
    #[must_use]
    pub fn taken(&self) -> u64 {
        self.taken.load(Ordering::Relaxed)
    }

    pub(crate) fn take(&self) {
        self.taken.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts it and says it.
    pub(crate) fn turn_away(&self, reason: Turned, from: IpAddr, why: &str) {
        if let Some(count) = self.count(reason) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        if let Some(unwritten) = self.may_write() {
            if unwritten > 0 {
                tracing::warn!(unwritten, "more connections were turned away than there are lines");
            }
            tracing::warn!(%from, reason = reason.code(), "connection turned away: {why}");
        }
    }

    fn count(&self, reason: Turned) -> Option<&AtomicU64> {
        let place = Turned::ALL.iter().position(|one| *one == reason)?;
        self.counts.get(place)
    }

    /// Whether there is a line left, and how many went without one before it.
    fn may_write(&self) -> Option<u64> {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if lines.since.is_none_or(|since| now.duration_since(since) > WHILE) {
            lines.since = Some(now);
            lines.written = 0;
        }
        if lines.written >= LINES_MAX {
            lines.unwritten = lines.unwritten.saturating_add(1);
            return None;
        }
        lines.written = lines.written.saturating_add(1);
        Some(std::mem::take(&mut lines.unwritten))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strangers_get_so_many_lines() {
        let counts = Counts::default();
        for _ in 0..LINES_MAX {
            assert_eq!(counts.may_write(), Some(0));
        }
        assert_eq!(counts.may_write(), None);
        assert_eq!(counts.may_write(), None);
        counts.lines.lock().unwrap().since = None;
        assert_eq!(counts.may_write(), Some(2));
    }
}
