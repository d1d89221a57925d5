//! The table being filled: each need is said as soon as it was tried. It never decides what a tier needs.

use std::io::Stdout;

use anyhow::Context as _;
use token_wire::conformance::{Need, Outcome, Proof, Said};
use token_wire::{Fault, FaultCode};

/// Where needs are said.
pub(crate) struct Table {
    out: Stdout,
}

impl Table {
    pub(super) fn new(out: Stdout) -> Self {
        Self { out }
    }

    pub(super) fn say(&mut self, said: &Said) -> anyhow::Result<()> {
        token_wire::write(&mut self.out, said).context("cannot say what was found")
    }

    /// As [`Self::say`], for those who have faults only.
    pub(super) fn tell(&mut self, said: &Said) -> Result<(), Fault> {
        self.say(said).map_err(|error| Fault::new(FaultCode::BadRequest, format!("{error:#}")))
    }

    /// A need that is met or not.
    pub(super) fn need(
        &mut self,
        id: &str,
        what: &str,
        tried: Result<String, String>,
    ) -> Result<(), Fault> {
        let (outcome, seen) = match tried {
            Ok(seen) => (Outcome::Met, seen),
            Err(seen) => (Outcome::Unmet, seen),
        };
        self.row(id, what, outcome, seen, None)
    }

    /// A need that is met if the signature holds.
    pub(super) fn proven(
        &mut self,
        id: &str,
        what: &str,
        tried: Result<Proof, String>,
    ) -> Result<(), Fault> {
        match tried {
            Ok(proof) => self.row(id, what, Outcome::Met, String::new(), Some(proof)),
            Err(seen) => self.row(id, what, Outcome::Unmet, seen, None),
        }
    }

    /// A need that cannot be tried.
    pub(super) fn untried(&mut self, id: &str, what: &str, why: &str) -> Result<(), Fault> {
        self.row(id, what, Outcome::Untried, why.to_owned(), None)
    }

    /// A number, for the reader.
    pub(super) fn measured(&mut self, id: &str, what: &str, seen: String) -> Result<(), Fault> {
        self.row(id, what, Outcome::Measured, seen, None)
    }

    fn row(
        &mut self,
        id: &str,
        what: &str,
        outcome: Outcome,
        seen: String,
        proof: Option<Proof>,
    ) -> Result<(), Fault> {
        let (id, what) = (id.to_owned(), what.to_owned());
        self.tell(&Said::Need(Need { id, what, outcome, seen, proof }))
    }
}
