//! Which keys a request asks for, as the log says it before every trace. It never reads a record, and asks no token.

use audit::keys_line::KeysLine;
use policy::Trace;

use super::SigningRequest;
use crate::wallets::{Kept, OwnKey};

impl SigningRequest {
    /// The trace as the log holds it: first the wallet's tier, its keys and the token that they were found in.
    #[must_use]
    pub fn trace(&self, token: &str, trace: &Trace) -> Vec<String> {
        let line = KeysLine {
            wallet: self.wallet.name().to_string(),
            tier: self.wallet.tier().as_str().to_owned(),
            inputs: self.inputs.len(),
            keys: self.wallet.own().iter().map(named).collect(),
            places: self.inputs.iter().map(|input| (input.change, input.index)).collect(),
            token: token.to_owned(),
        };
        let mut lines = vec![line.to_string()];
        lines.extend(trace.lines());
        lines
    }
}

fn named(own: &OwnKey) -> String {
    match &own.kept {
        Kept::Records(records) => {
            let header = records.header();
            let path = header.path().trim_start_matches("m/");
            format!("[{}/{path}]", header.fields().master)
        }
        Kept::Born(key) => key.to_string(),
    }
}
