//! Bundles in the signer, from a real ceremony: what is imported, what is refused, what is proven.

mod support;
mod importing;
