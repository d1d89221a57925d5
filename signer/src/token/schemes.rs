//! Which wrapping schemes the settings name, and what a bundle's scheme means to the worker. It never lets a setting
//! through that the worker could not carry out.

use bundle::{Header, Scheme};
use token_wire::{Schemes, WrappedBy};

use super::{TokenConfig, TokenError};

/// Where SoftHSM has AES key wrap with padding (RFC 5649).
const SOFTHSM_KWP: u64 = 0x210a;

impl TokenConfig {
    /// The number of AES key wrap with padding, under either of its names.
    fn kwp_number(&self) -> Result<Option<u64>, TokenError> {
        match (self.kwp_mechanism, self.mechanisms.aes_kwp) {
            (Some(_), Some(_)) => {
                let text = "`kwp_mechanism` and `aes_kwp` under [token.mechanisms] are one setting: give one";
                Err(TokenError::Config(text.to_owned()))
            }
            (one, other) => Ok(one.or(other)),
        }
    }

    /// The mechanisms that the settings have at numbers of the module's own, for people.
    pub(crate) fn numbers_in_words(&self) -> Option<String> {
        let kwp = self.kwp_mechanism.or(self.mechanisms.aes_kwp);
        let named = [
            ("AES key wrap with padding", kwp),
            ("CKM_EDDSA", self.mechanisms.eddsa),
            ("CKM_EC_EDWARDS_KEY_PAIR_GEN", self.mechanisms.eddsa_key_pair_gen),
        ];
        let named = named.into_iter().filter_map(|(name, number)| Some((name, number?)));
        let said: Vec<_> = named.map(|(name, number)| format!("{name} at {number:#x}")).collect();
        (!said.is_empty()).then(|| format!("by the settings it has {}", said.join(", ")))
    }

    /// The schemes named, or RSA-OAEP with SHA-1 alone.
    ///
    /// # Errors
    /// [`TokenError::Config`] for one that is unknown or out of reach.
    pub(crate) fn wrapping(&self) -> Result<Schemes, TokenError> {
        let wrong = |text: String| Err(TokenError::Config(text));
        let number = self.kwp_number()?;
        let mut schemes = Schemes { oaep_sha1: false, oaep_sha256: false, kwp_mechanism: None };
        for name in self.schemes.as_deref().unwrap_or(&[Scheme::RsaOaepSha1.name().to_owned()]) {
            match Scheme::from_name(name.as_bytes()) {
                Some(Scheme::RsaOaepSha1) => schemes.oaep_sha1 = true,
                Some(Scheme::RsaOaepSha256) => schemes.oaep_sha256 = true,
                Some(Scheme::AesKwp) => {
                    schemes.kwp_mechanism = Some(number.unwrap_or(SOFTHSM_KWP));
                }
                Some(Scheme::RsaAesSha1 | Scheme::RsaAesSha256) => {
                    return wrong(format!(
                        "`{name}` cannot be used yet: it was tried on no token, and workers do not ask for \
                         CKM_RSA_AES_KEY_WRAP (0x1054)"
                    ));
                }
                Some(Scheme::SealedAesGcm) | None => {
                    return wrong(format!(
                        "`{name}` is no wrapping scheme: `schemes` names rsa-oaep-sha1, rsa-oaep-sha256 or aes-kwp"
                    ));
                }
            }
        }
        match (number, schemes.kwp_mechanism) {
            (Some(_), None) => wrong("`kwp_mechanism` without aes-kwp in `schemes`".to_owned()),
            _ if schemes.ways(&[]).is_empty() && schemes.kwp_mechanism.is_none() => {
                wrong("`schemes` names none".to_owned())
            }
            _ => Ok(schemes),
        }
    }
}

/// By what the children of such a bundle are unwrapped; `None` for one whose scheme no worker has, or that has no
/// children.
pub(crate) fn wrapped_by(header: &Header) -> Option<WrappedBy> {
    let fields = header.fields();
    match fields.kind.scheme {
        Scheme::RsaOaepSha1 => Some(WrappedBy::OaepSha1),
        Scheme::RsaOaepSha256 => Some(WrappedBy::OaepSha256),
        Scheme::AesKwp => Some(WrappedBy::Kek(fields.wrapping)),
        Scheme::RsaAesSha1 | Scheme::RsaAesSha256 | Scheme::SealedAesGcm => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As in the file, and strictly.
    fn settings(text: &str) -> Result<TokenConfig, String> {
        toml::from_str(text).map_err(|error: toml::de::Error| error.to_string())
    }

    #[test]
    fn mechanisms_have_one_place_and_one_number_each() {
        let vendors = settings(
            "schemes = [\"aes-kwp\"]\n[mechanisms]\naes_kwp = 0x210b\neddsa = 0x80000c03\n",
        );
        let vendors = vendors.unwrap();
        assert_eq!(vendors.wrapping().unwrap().kwp_mechanism, Some(0x210b));
        let wire = vendors.mechanisms.to_wire();
        assert_eq!((wire.eddsa, wire.eddsa_key_pair_gen), (0x8000_0c03, 0x1055));
        assert_eq!(
            vendors.numbers_in_words().as_deref(),
            Some(
                "by the settings it has AES key wrap with padding at 0x210b, CKM_EDDSA at 0x80000c03"
            )
        );
        assert_eq!(settings("").unwrap().numbers_in_words(), None);
        // A standby says what its module has otherwise, under whichever name.
        let old = settings("kwp_mechanism = 0x80000171").unwrap();
        let standby = vendors.of_standby(&old);
        assert_eq!(standby.wrapping().unwrap().kwp_mechanism, Some(0x8000_0171));
        assert_eq!(standby.mechanisms.to_wire().eddsa, 0x8000_0c03);
        let twice = "schemes = [\"aes-kwp\"]\nkwp_mechanism = 1\n[mechanisms]\naes_kwp = 1\n";
        let twice = settings(twice).unwrap().wrapping().unwrap_err().to_string();
        assert!(twice.contains("one setting"), "{twice}");
        for bad in [
            "[mechanisms]\neddsa = \"0x1057\"",
            "[mechanisms]\nedsa = 1",
            "[mechanisms]\neddsa = -1",
        ] {
            assert!(settings(bad).is_err(), "{bad}");
        }
    }

    fn wrapping(names: &[&str], kwp_mechanism: Option<u64>) -> Result<Schemes, String> {
        let schemes = Some(names.iter().map(|name| (*name).to_owned()).collect());
        let config = TokenConfig { schemes, kwp_mechanism, ..TokenConfig::default() };
        config.wrapping().map_err(|error| error.to_string())
    }

    #[test]
    fn schemes_are_what_the_settings_name() {
        assert_eq!(TokenConfig::default().wrapping(), Ok(Schemes::default()));
        let both = wrapping(&["rsa-oaep-sha1", "aes-kwp"], None).unwrap();
        assert_eq!(both, Schemes { kwp_mechanism: Some(0x210a), ..Schemes::default() });
        let alone = wrapping(&["aes-kwp"], Some(0x8000_0171)).unwrap();
        assert!(!alone.oaep_sha1 && alone.kwp_mechanism == Some(0x8000_0171));
        assert_eq!(wrapping(&["aes-kwp"], Some(0x210b)).unwrap().kwp_mechanism, Some(0x210b));
        assert!(wrapping(&["rsa-oaep-sha256"], None).unwrap().oaep_sha256);
    }

    #[test]
    fn a_standby_has_the_first_ones_schemes_and_a_number_of_its_own() {
        let standby = TokenConfig { kwp_mechanism: Some(0x8000_0171), ..TokenConfig::default() };
        assert!(standby.wrapping().is_err());
        let first = TokenConfig {
            schemes: Some(vec!["aes-kwp".to_owned()]),
            standby: [("spare".to_owned(), standby)].into(),
            ..TokenConfig::default()
        };
        let numbers: Vec<Option<u64>> = first
            .each(std::path::Path::new("state"))
            .iter()
            .map(|(_, token, _)| token.wrapping().unwrap().kwp_mechanism)
            .collect();
        assert_eq!(numbers, [Some(0x210a), Some(0x8000_0171)]);
    }

    #[test]
    fn what_cannot_be_done_is_said() {
        for (names, number, said) in [
            (&["rsa-aes-sha256"][..], None, "0x1054"),
            (&["rsa-oaep-sha1"], Some(0x210a), "without aes-kwp"),
            (&["sealed-aes-gcm"], None, "no wrapping scheme"),
            (&["rsa-oaep"], None, "no wrapping scheme"),
            (&[], None, "names none"),
        ] {
            let error = wrapping(names, number).unwrap_err();
            assert!(error.contains(said), "{error}");
        }
    }
}
