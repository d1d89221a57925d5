//! What a token worker says while it holds a scratch token against our needs: one message after another on its
//! standard output, so that what was found is known even when the module then crashes. No message carries a PIN or a key
//! that protects anything.

use serde::{Deserialize, Serialize};

use crate::{Fault, TokenInfo};

/// One message.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Said {
    /// The module and the token, first.
    Module(ModuleInfo),
    /// One need was tried.
    Need(Need),
    /// Nothing more can be tried.
    Fault(Fault),
    /// Everything was tried; the last word.
    End,
}

/// A module, as it describes itself.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ModuleInfo {
    /// Manufacturer of the library.
    pub manufacturer: String,
    /// What the library is.
    pub description: String,
    /// Its version.
    pub library: String,
    /// The version of PKCS#11 it follows.
    pub cryptoki: String,
    /// The token's firmware.
    pub firmware: String,
    /// The token.
    pub token: TokenInfo,
}

/// One need, and what came of it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Need {
    /// Short name, stable: verdicts go by it.
    pub id: String,
    /// What is needed, for people.
    pub what: String,
    /// What came of it.
    pub outcome: Outcome,
    /// What was seen: a PKCS#11 error, an attribute, a rate.
    pub seen: String,
    /// A signature that the reader verifies before it believes the need is met.
    pub proof: Option<Proof>,
}

/// What came of a need.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Outcome {
    /// Met.
    Met,
    /// Not met.
    Unmet,
    /// Could not be tried, since another need is unmet.
    Untried,
    /// Nothing is needed of it: a measurement.
    Measured,
}

/// A signature made on the token.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Proof {
    /// ECDSA over a digest by secp256k1.
    Secp256k1 {
        /// SEC 1, compressed or not.
        key: Vec<u8>,
        /// What was signed.
        digest: [u8; 32],
        /// r and s as the token gave them.
        signature: Vec<u8>,
    },
    /// Ed25519 over a message.
    Ed25519 {
        /// The point.
        key: [u8; 32],
        /// What was signed.
        message: Vec<u8>,
        /// R and S.
        signature: Vec<u8>,
    },
}
