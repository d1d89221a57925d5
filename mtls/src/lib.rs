//! Mutual TLS for gRPC: server and client settings from PEM files, and the caller's name from the
//! certificate it proved to hold. It never lets a connection without a certificate in, and never decides
//! what a caller may do.

pub mod caller;
pub mod files;
pub mod incoming;

pub use caller::Caller;
pub use files::{TlsError, TlsFiles};
pub use incoming::Incoming;
