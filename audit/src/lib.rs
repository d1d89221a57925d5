//! What makes the log trustworthy without trusting its database: entries with one encoding, a hash tree over
//! them, signed checkpoints, and address attestations. It never does I/O and never holds a private key.
//!
//! Reading order: [`entry`] (what is written down), [`tree`] (RFC 6962 hashes over it), [`proof`] and [`history`] (proofs
//! about it), [`note`] and [`checkpoint`] (what a token signs about it, C2SP), [`cosignature`] (what witnesses say to
//! that), [`attestation`] (what customers' front ends check), [`token_key`] (what cosigners check), [`freeing`] (what
//! officers sign to free a client), [`keys_line`] (which keys a request asks for).

pub mod entry;
pub mod tree;
pub mod proof;
pub mod history;
pub mod note;
pub mod checkpoint;
pub mod cosignature;
pub mod attestation;
pub mod token_key;
pub mod freeing;
pub mod keys_line;

/// A SHA-256 hash of the tree.
pub type Hash = [u8; 32];
