//! Which tiers and wrapping schemes a token can carry, and why not: by its mechanisms, and by what became of each tier's
//! own canary. It never takes one tier's canary for another's.

use std::path::Path;

use token_wire::{Examination, Schemes};

use super::Checked;
use crate::token::{Latch, Line, TokenConfig, TokenKeys};

/// No scheme: the sealing key alone is tried.
const NONE: Schemes = Schemes { oaep_sha1: false, oaep_sha256: false, kwp_mechanism: None };

/// What the token did not let out of a canary; none where it was not tried.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) struct Held {
    pub(super) children: Option<Children>,
    /// A sealed account's key.
    pub(super) sealing: Option<bool>,
}

/// What became of the children's canary.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Children {
    /// Nothing got it out, by each scheme of the settings.
    Held,
    /// Nothing does by RSA-OAEP with SHA-256, which the settings do not name; those that they name do not work.
    ByOaepSha256,
    /// It got out, or was not even unwrapped.
    NotHeld,
}

impl Held {
    /// What a signer serves although not every canary held; none where it does not start. `childless`: whether it may do
    /// without children, as where no key-encryption keys come in.
    pub(super) fn rest(&self, childless: bool) -> Option<&'static str> {
        match (self.children, self.sealing) {
            (Some(Children::Held), Some(false)) => Some(
                "a signer serves wallets of the tiers token and token-hd, and refuses those of sealed-hd",
            ),
            (Some(Children::NotHeld), Some(true)) if childless => Some(
                "a signer serves wallets of the tiers token and sealed-hd, and refuses those of token-hd",
            ),
            _ => None,
        }
    }

    /// After all was tried at once, which tells little where it failed: then each for itself.
    pub(super) fn found(
        config: &TokenConfig,
        own_dir: &Path,
        keys: &TokenKeys,
        all_held: bool,
    ) -> Self {
        let Ok(named) = config.wrapping() else { return Self::default() };
        let with_sha1 = Schemes { oaep_sha1: true, ..NONE };
        let with_sha256 = Schemes { oaep_sha256: true, ..NONE };
        let unsealed = TokenKeys { sealing_spki: None, ..keys.clone() };
        let holds = |keys: &TokenKeys, schemes| {
            let tried = Line::open(config, &Latch::in_dir(own_dir), false).and_then(|mut line| {
                let tried = line.bind_by(keys, schemes);
                line.close();
                tried
            });
            tried.is_ok()
        };
        let children = if all_held || holds(&unsealed, named) {
            Children::Held
        } else if named.oaep_sha1 && !named.oaep_sha256 && holds(&unsealed, with_sha256) {
            Children::ByOaepSha256
        } else {
            Children::NotHeld
        };
        let sealing = keys.sealing_spki.is_some().then(|| match (all_held, named.oaep_sha1) {
            (true, true) => true,
            // Workers leave it out where neither settings nor token have SHA-1.
            (true, false) => holds(&unsealed, with_sha1),
            (false, _) => children != Children::ByOaepSha256 && holds(keys, NONE),
        });
        Self { children: Some(children), sealing }
    }
}

/// Those that the signer's own keys need, in every tier.
pub(super) fn mechanisms(seen: &Examination, checked: &mut Checked) {
    let own = ["CKM_EDDSA", "CKM_EC_EDWARDS_KEY_PAIR_GEN"];
    let missing = lacks(seen, &own);
    if missing.is_empty() {
        let text = format!("for the signer's own keys the token has {}", own.join(", "));
        return checked.well("mechanisms", &text);
    }
    let text = format!("for the signer's own keys the token lacks {}", missing.join(", "));
    checked.broken("mechanisms", &text);
}

/// Which tiers this token can carry, and why not.
pub(super) fn tiers(seen: &Examination, named: &Schemes, held: &Held, checked: &mut Checked) {
    let tiers: [(&str, &[&str]); 3] = [
        ("token", &["CKM_EC_KEY_PAIR_GEN", "CKM_ECDSA"]),
        ("token-hd", &["CKM_RSA_PKCS_KEY_PAIR_GEN", "CKM_ECDSA"]),
        ("sealed-hd", &["CKM_RSA_PKCS_KEY_PAIR_GEN", "CKM_RSA_PKCS_OAEP", "CKM_AES_GCM"]),
    ];
    for (tier, needed) in tiers {
        let mut missing = lacks(seen, needed);
        if tier == "token-hd" && !there(seen, "CKM_RSA_PKCS_OAEP") && !has_kwp(seen, named) {
            missing.push(
                "CKM_RSA_PKCS_OAEP and CKM_AES_KEY_WRAP_PAD (or _KWP), one of which must unwrap"
                    .into(),
            );
        }
        let said = if missing.is_empty() {
            verdict(tier, held).to_owned()
        } else {
            format!("no, the token lacks {}", missing.join(", "))
        };
        checked.well("tiers", &format!("{tier}: {said}"));
    }
}

/// Of a token that has the mechanisms.
fn verdict(tier: &str, held: &Held) -> &'static str {
    match (tier, held.children, held.sealing) {
        ("token-hd", Some(Children::Held), _) => "yes; nothing got the canary out",
        ("token-hd", Some(Children::ByOaepSha256), _) => {
            "by RSA-OAEP with SHA-256 alone, which the settings do not name: say `schemes = [\"rsa-oaep-sha256\"]` under \
             [token], and hold ceremonies with `--scheme rsa-oaep-sha256`, since bundles are for SHA-1 otherwise"
        }
        ("sealed-hd", Some(Children::ByOaepSha256), _) => {
            "no, accounts are sealed by RSA-OAEP with SHA-1, which the token refuses"
        }
        ("sealed-hd", _, Some(true)) => "yes; nothing got the sealing canary out",
        ("token-hd", Some(Children::NotHeld), _) | ("sealed-hd", _, Some(false)) => "no, see keys",
        ("token-hd" | "sealed-hd", ..) => "mechanisms are there; the canary was not tried now",
        _ => "mechanisms are there",
    }
}

/// Which wrapping schemes this token can carry, and why not. Those of the settings were tried with the keys.
pub(super) fn schemes(seen: &Examination, named: &Schemes, held: &Held, checked: &mut Checked) {
    let oaep = there(seen, "CKM_RSA_PKCS_OAEP");
    for (scheme, used, mechanism) in [
        ("rsa-oaep-sha1", named.oaep_sha1, oaep),
        ("rsa-oaep-sha256", named.oaep_sha256, oaep),
        ("aes-kwp", named.kwp_mechanism.is_some(), has_kwp(seen, named)),
    ] {
        let said = match (mechanism, used, held.children) {
            (false, true, _) => {
                let text = "named by the settings, but the token lacks the mechanism";
                checked.broken("schemes", &format!("{scheme}: {text}"));
                continue;
            }
            (false, false, _) => "no, the token lacks the mechanism",
            (true, true, Some(Children::Held)) => {
                "yes; tried with every key for it that is written down"
            }
            (true, true, Some(_)) => "no, see keys",
            (true, true, None) => "named by the settings; not tried now",
            (true, false, Some(Children::ByOaepSha256)) if scheme == "rsa-oaep-sha256" => {
                "yes; tried although the settings do not name it"
            }
            (true, false, _) => {
                "mechanism is there; not named by the settings, so not tried (`signer conformance`)"
            }
        };
        checked.well("schemes", &format!("{scheme}: {said}"));
    }
    checked.well("schemes", "rsa-aes: no, workers do not ask for CKM_RSA_AES_KEY_WRAP (0x1054)");
}

fn has_kwp(seen: &Examination, named: &Schemes) -> bool {
    let [pad, kwp] = ["CKM_AES_KEY_WRAP_PAD", "CKM_AES_KEY_WRAP_KWP"].map(|name| there(seen, name));
    match named.kwp_mechanism {
        Some(0x210a) => pad,
        Some(0x210b) => kwp,
        // A number that was not looked for: the start tells.
        Some(_) => true,
        None => pad || kwp,
    }
}

fn there(seen: &Examination, name: &str) -> bool {
    seen.mechanisms.iter().any(|(has, yes)| has == name && *yes)
}

fn lacks(seen: &Examination, needed: &[&str]) -> Vec<String> {
    needed.iter().filter(|name| !there(seen, name)).map(|name| (*name).to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [&str; 9] = [
        "CKM_RSA_PKCS_KEY_PAIR_GEN",
        "CKM_RSA_PKCS_OAEP",
        "CKM_ECDSA",
        "CKM_EC_KEY_PAIR_GEN",
        "CKM_EDDSA",
        "CKM_EC_EDWARDS_KEY_PAIR_GEN",
        "CKM_AES_GCM",
        "CKM_AES_KEY_WRAP_PAD",
        "CKM_AES_KEY_WRAP_KWP",
    ];

    /// A token that has these mechanisms, or has them not.
    fn examined(mechanisms: Vec<(String, bool)>) -> Examination {
        Examination {
            module: String::new(),
            firmware: String::new(),
            mechanisms,
            pin: Vec::new(),
            lacking: Vec::new(),
            hardware_slot: false,
        }
    }

    /// What is said of a token without some mechanisms, of which the canaries say that.
    fn said(without: &[&str], held: Held) -> Vec<String> {
        let seen = examined(ALL.map(|name| (name.to_owned(), !without.contains(&name))).to_vec());
        let (mut checked, named) = (Checked::default(), Schemes::default());
        tiers(&seen, &named, &held, &mut checked);
        schemes(&seen, &named, &held, &mut checked);
        checked.findings.into_iter().map(|finding| finding.text).collect()
    }

    fn says(said: &[String], line: &str) -> bool {
        said.iter().any(|said| said.starts_with(line))
    }

    #[test]
    fn each_tier_is_judged_by_its_own_canary() {
        let held = |children, sealing| Held { children: Some(children), sealing: Some(sealing) };
        let unsealed = said(&[], held(Children::Held, false));
        assert!(says(&unsealed, "token-hd: yes;") && says(&unsealed, "sealed-hd: no, see keys"));
        assert!(says(&unsealed, "rsa-oaep-sha1: yes;"), "{unsealed:?}");
        let only_sealed = said(&[], held(Children::NotHeld, true));
        assert!(says(&only_sealed, "token-hd: no, see keys"), "{only_sealed:?}");
        assert!(says(&only_sealed, "sealed-hd: yes;"), "{only_sealed:?}");
        let sha256 = said(&[], held(Children::ByOaepSha256, false));
        assert!(says(&sha256, "token-hd: by RSA-OAEP with SHA-256 alone"), "{sha256:?}");
        let word =
            "`schemes = [\"rsa-oaep-sha256\"]` under [token], and hold ceremonies with `--scheme";
        assert!(sha256.iter().any(|said| said.contains(word)), "{sha256:?}");
        assert!(says(&sha256, "sealed-hd: no, accounts are sealed by RSA-OAEP with SHA-1"));
        assert!(says(&sha256, "rsa-oaep-sha1: no") && says(&sha256, "rsa-oaep-sha256: yes;"));
        let untried = said(&[], Held::default());
        for tier in ["token-hd", "sealed-hd"] {
            let line = format!("{tier}: mechanisms are there; the canary was not tried now");
            assert!(says(&untried, &line), "{untried:?}");
        }
    }

    #[test]
    fn what_is_left_is_said_where_one_canary_failed() {
        let held = |children, sealing| Held { children: Some(children), sealing };
        let unsealed = held(Children::Held, Some(false)).rest(false).unwrap();
        assert!(unsealed.contains("token-hd, and refuses those of sealed-hd"));
        let sealed = held(Children::NotHeld, Some(true));
        assert!(sealed.rest(true).unwrap().contains("sealed-hd, and refuses those of token-hd"));
        assert_eq!(sealed.rest(false), None);
        assert_eq!(held(Children::NotHeld, Some(false)).rest(true), None);
        assert_eq!(held(Children::Held, None).rest(true), None);
    }

    #[test]
    fn aes_key_wrap_is_looked_for_at_the_number_of_the_settings() {
        let (pad, kwp) = ("CKM_AES_KEY_WRAP_PAD", "CKM_AES_KEY_WRAP_KWP");
        let has = |number, name: &str| {
            let seen = examined(vec![(name.to_owned(), true)]);
            has_kwp(&seen, &Schemes { kwp_mechanism: number, ..NONE })
        };
        assert!(has(Some(0x210a), pad) && !has(Some(0x210a), kwp));
        assert!(has(Some(0x210b), kwp) && !has(Some(0x210b), pad));
        assert!(has(Some(0x8000_0171), "") && has(None, pad) && has(None, kwp) && !has(None, ""));
    }

    #[test]
    fn a_tier_lacks_what_it_is_unwrapped_by() {
        let oaep = "CKM_RSA_PKCS_OAEP";
        let (pad, kwp) = ("CKM_AES_KEY_WRAP_PAD", "CKM_AES_KEY_WRAP_KWP");
        let lacking = said(&[oaep, pad, kwp], Held::default());
        assert!(
            says(&lacking, "token-hd: no, the token lacks CKM_RSA_PKCS_OAEP and"),
            "{lacking:?}"
        );
        assert!(says(&lacking, "sealed-hd: no, the token lacks CKM_RSA_PKCS_OAEP"), "{lacking:?}");
        assert!(says(&lacking, "token: mechanisms are there"));
        for some in [&[oaep, pad][..], &[oaep, kwp], &[pad, kwp]] {
            let said = said(some, Held::default());
            assert!(says(&said, "token-hd: mechanisms are there"), "{some:?}");
        }
        let gcm = said(&["CKM_AES_GCM"], Held::default());
        assert!(says(&gcm, "sealed-hd: no, the token lacks CKM_AES_GCM"), "{gcm:?}");
    }
}
