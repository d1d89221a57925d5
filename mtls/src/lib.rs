//! Mutual TLS for gRPC: who may connect to a service, by certificates and revocation lists that are read again while it
//! runs, and the caller's name from the certificate it proved to hold. It never lets a connection without a
//! certificate in, and never decides what a caller may do.
//!
//! Reading order: [`files`] (which PEM files), [`server`] (they are read, watched and put into force), `judge` (what a
//! certificate is worth), [`pushed`] (lists that were handed in), [`incoming`] (handshakes, each with a place), `peers` (who is connected), [`caller`].

pub mod caller;
pub mod der;
pub mod files;
pub mod incoming;
pub mod server;
mod connection;
mod judge;
mod known;
mod peers;
pub mod pushed;
mod turned;

pub use caller::Caller;
pub use files::{TlsError, TlsFiles};
pub use incoming::{Incoming, Places};
pub use judge::Standing;
pub use peers::Peer;
pub use server::{Facts, Server};
pub use turned::{Counts, Turned};
