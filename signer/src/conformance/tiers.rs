//! Which tiers and wrapping schemes a token can carry, from the needs that were tried. It never forgives: a need that was not tried is not met.

use std::fmt;
use std::str::FromStr;

use token_wire::conformance::Outcome;

use super::Report;

/// Where private keys are; see ARCHITECTURE.md.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TierName {
    /// Born in the token.
    Token,
    /// Derived from an account, unwrapped into the token for each signature.
    TokenHd,
    /// Sealed by the token, opened outside it.
    SealedHd,
}

/// What a tier comes to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Verdict {
    /// Which.
    pub tier: TierName,
    /// Needs that are not met; none when the token can carry the tier.
    pub unmet: Vec<String>,
}

/// What the signer itself needs of its token in every tier: keys for checkpoints and attestations.
const SIGNER: [&str; 3] = ["eddsa:made", "eddsa:attributes", "eddsa:signs"];
const TOKEN: [&str; 4] = ["coin:made", "coin:attributes", "coin:signs", "coin:hides"];
/// Beside one of the schemes.
const TOKEN_HD: [&str; 10] = [
    "wrapping:made",
    "wrapping:attributes",
    "wrapping:template",
    "wrapping:stays",
    "attacks",
    "children:again",
    "session:gone",
    "session:after-error",
    "session:other",
    "session:closed",
];
const SEALED_HD: [&str; 4] =
    ["sealing:made", "sealing:attributes", "sealing:template", "sealing:opens"];

/// Wrapping schemes and their needs. A module may have another beside these, but no child is unwrapped by it here.
const SCHEMES: [(&str, &[&str]); 3] = [
    ("rsa-oaep-sha1", &["unwrap:rsa-oaep-sha1", "attacks"]),
    ("rsa-oaep-sha256", &["unwrap:rsa-oaep-sha256", "attacks"]),
    ("aes-kwp", &["mechanism:aes-kwp", "unwrap:aes-kwp", "kwp:import", "kwp:templates", "attacks"]),
];

/// Each wrapping scheme, and its needs that are not met. RSA with AES is never tried: see docs/hsm.md.
#[must_use]
pub fn schemes(report: &Report) -> Vec<(&'static str, Vec<String>)> {
    let unmet = |needs: &[&str]| {
        let unmet = needs.iter().filter(|id| !met(report, id));
        unmet.map(|id| (*id).to_owned()).collect()
    };
    SCHEMES.into_iter().map(|(name, needs)| (name, unmet(needs))).collect()
}

/// A verdict on each tier.
#[must_use]
pub fn verdicts(report: &Report) -> Vec<Verdict> {
    let tiers: [(TierName, &[&str]); 3] = [
        (TierName::Token, &TOKEN),
        (TierName::TokenHd, &TOKEN_HD),
        (TierName::SealedHd, &SEALED_HD),
    ];
    tiers
        .into_iter()
        .map(|(tier, needs)| {
            let unmet = SIGNER.iter().chain(needs).filter(|id| !met(report, id));
            let mut unmet: Vec<String> = unmet.map(|id| (*id).to_owned()).collect();
            let one = || schemes(report).iter().any(|(_, unmet)| unmet.is_empty());
            if tier == TierName::TokenHd && !one() {
                unmet.push("a wrapping scheme".to_owned());
            }
            Verdict { tier, unmet }
        })
        .collect()
}

/// Whether a need was tried and met; of attacks, whether there were any and each was refused.
fn met(report: &Report, id: &str) -> bool {
    let prefix = id == "attacks";
    let mut rows = report
        .needs
        .iter()
        .filter(|need| if prefix { need.id.starts_with("attack:") } else { need.id == id })
        .peekable();
    // A report that was cut short may lack an attack that would have worked.
    rows.peek().is_some()
        && rows.all(|need| need.outcome == Outcome::Met)
        && !(prefix && report.cut_short.is_some())
}

impl TierName {
    /// Its name in policies and listings.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::TokenHd => "token-hd",
            Self::SealedHd => "sealed-hd",
        }
    }
}

impl fmt::Display for TierName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for TierName {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        [Self::Token, Self::TokenHd, Self::SealedHd]
            .into_iter()
            .find(|tier| tier.as_str() == text)
            .ok_or("one of token, token-hd and sealed-hd")
    }
}

#[cfg(test)]
mod tests {
    use token_wire::conformance::Need;

    use super::*;

    fn report(ids: &[&str]) -> Report {
        let need = |id: &&str| Need {
            id: (*id).to_owned(),
            what: String::new(),
            outcome: Outcome::Met,
            seen: String::new(),
            proof: None,
        };
        Report { module: None, needs: ids.iter().map(need).collect(), cut_short: None }
    }

    fn carried(report: &Report) -> Vec<TierName> {
        verdicts(report).into_iter().filter(|v| v.unmet.is_empty()).map(|v| v.tier).collect()
    }

    #[test]
    fn a_need_that_was_not_tried_is_not_met() {
        assert_eq!(carried(&report(&[])), []);
        assert_eq!(carried(&report(&SIGNER)), []);
        let sealed = [&SIGNER[..], &SEALED_HD].concat();
        assert_eq!(carried(&report(&sealed)), [TierName::SealedHd]);
        for left_out in 0..sealed.len() {
            let mut fewer = sealed.clone();
            fewer.remove(left_out);
            assert_eq!(carried(&report(&fewer)), [], "{}", sealed[left_out]);
        }
    }

    #[test]
    fn one_attack_that_works_or_was_not_tried_condemns() {
        let scheme = "unwrap:rsa-oaep-sha1";
        let ids = [&SIGNER[..], &TOKEN_HD, &[scheme, "attack:1", "attack:2"]].concat();
        let good = report(&ids);
        assert_eq!(carried(&good), [TierName::TokenHd]);
        let without: Vec<&str> = ids.iter().copied().filter(|id| *id != scheme).collect();
        assert_eq!(carried(&report(&without)), []);
        let kwp = ["mechanism:aes-kwp", "unwrap:aes-kwp", "kwp:import", "kwp:templates"];
        let kwp = [&without[..], &kwp].concat();
        assert_eq!(carried(&report(&kwp)), [TierName::TokenHd]);
        for outcome in [Outcome::Unmet, Outcome::Untried] {
            let mut bad = report(&ids);
            bad.needs.last_mut().unwrap().outcome = outcome;
            assert_eq!(carried(&bad), []);
        }
        assert_eq!(carried(&Report { cut_short: Some("it hung".into()), ..good }), []);
    }
}
