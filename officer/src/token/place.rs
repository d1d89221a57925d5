//! Where a key in a token is, as a `pkcs11:` URI (RFC 7512): which module, which token, which object, and where its PIN comes
//! from. It never takes a PIN itself: what stands on a command line, everybody on the machine can read.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};

/// What every such place begins with; no path of a key file does.
const SCHEME: &str = "pkcs11:";

/// Whether this names a key in a token, and no file.
pub(crate) fn is_place(key: &Path) -> bool {
    key.to_str().is_some_and(|text| text.starts_with(SCHEME))
}

/// One key in one token.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Place {
    /// The vendor's module.
    pub(crate) module: PathBuf,
    /// The token's serial number.
    pub(crate) serial: Option<String>,
    /// The token's label.
    pub(crate) token: Option<String>,
    /// The key's label.
    pub(crate) object: String,
    /// Where the PIN comes from.
    pub(crate) pin: PinSource,
}

/// Where a PIN comes from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum PinSource {
    /// Typed on the terminal, or on the token's own pad.
    Person,
    /// The first line of a file.
    File(PathBuf),
}

impl Place {
    /// Reads `pkcs11:serial=…;token=…;object=…?module-path=…&pin-source=…`.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let rest = text.strip_prefix(SCHEME).with_context(|| format!("it begins with {SCHEME}"))?;
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (mut serial, mut token, mut object) = (None, None, None);
        let (mut module, mut pin) = (None, None);
        for (attribute, is_query) in parts(path, ';', false).chain(parts(query, '&', true)) {
            let (name, value) = attribute.split_once('=').unwrap_or((attribute, ""));
            let slot = match (name, is_query) {
                ("serial", false) => &mut serial,
                ("token", false) => &mut token,
                ("object", false) => &mut object,
                ("type", false) if value == "private" => continue,
                ("module-path", true) => &mut module,
                ("pin-source", true) => &mut pin,
                ("pin-value", _) => bail!(
                    "a PIN does not stand in a {SCHEME} URI, where others can read it: name a file (pin-source), or type it"
                ),
                _ => bail!(
                    "\"{}\" is none of serial, token, object; after \"?\" module-path, pin-source",
                    crate::text::words(name)
                ),
            };
            ensure!(slot.is_none(), "{name} is there twice");
            let value = decoded(value).filter(|value| !value.is_empty());
            *slot = Some(value.with_context(|| format!("{name} has no value that can be read"))?);
        }
        let module = PathBuf::from(module.context("module-path=… must say which PKCS#11 module")?);
        ensure!(module.is_absolute(), "module-path must be a whole path, from / on");
        ensure!(serial.is_some() || token.is_some(), "serial=… or token=… must say which token");
        let object = object.context("object=… must say which key: its label")?;
        let pin = pin.map_or(Ok(PinSource::Person), |source| pin_source(&source))?;
        Ok(Self { module, serial, token, object, pin })
    }
}

fn parts(text: &str, between: char, is_query: bool) -> impl Iterator<Item = (&str, bool)> {
    text.split(between).filter(|part| !part.is_empty()).map(move |part| (part, is_query))
}

/// A path, `file:` and a path, or `credential:` and the name of one that systemd handed over.
fn pin_source(text: &str) -> Result<PinSource> {
    if let Some(name) = text.strip_prefix("credential:") {
        ensure!(!name.contains('/'), "a credential's name has no /");
        let folder = std::env::var_os("CREDENTIALS_DIRECTORY");
        let folder = folder.context("no credentials were handed over (CREDENTIALS_DIRECTORY)")?;
        return Ok(PinSource::File(PathBuf::from(folder).join(name)));
    }
    let path = PathBuf::from(text.strip_prefix("file:").unwrap_or(text));
    ensure!(path.is_absolute(), "pin-source must be a whole path, from / on");
    Ok(PinSource::File(path))
}

/// Percent-decoded; `None` when it is not well formed.
fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let digits = [rest.next()?, rest.next()?];
                let mut decoded = [0];
                hex::decode_to_slice(digits, &mut decoded).ok()?;
                let [decoded] = decoded;
                decoded
            }
            byte => byte,
        });
    }
    String::from_utf8(bytes).ok().filter(|text| !text.chars().any(char::is_control))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn a_uri_names_one_key_and_holds_no_pin() {
        let read = Place::parse(
            "pkcs11:serial=0a%3b1;token=My%20card;object=alice;type=private?module-path=/usr/lib/x.so&pin-source=file:/run/pin",
        );
        let place = Place {
            module: "/usr/lib/x.so".into(),
            serial: Some("0a;1".into()),
            token: Some("My card".into()),
            object: "alice".into(),
            pin: PinSource::File("/run/pin".into()),
        };
        assert_eq!(read.unwrap(), place);
        let good = "pkcs11:token=a;object=b?module-path=/m.so";
        assert_eq!(Place::parse(good).unwrap().pin, PinSource::Person);
        for (from, to, why) in [
            ("pkcs11:", "pkcs12:", "begins with"),
            ("token=a;", "", "which token"),
            ("object=b", "", "which key"),
            ("?module-path=/m.so", "", "which PKCS#11 module"),
            ("/m.so", "m.so", "a whole path"),
            ("/m.so", "/m.so&pin-value=1234", "others can read"),
            ("?", ";pin-value=1234?", "others can read"),
            ("/m.so", "/m.so&pin-source=pin", "a whole path"),
            ("/m.so", "/m.so&pin-source=credential:a/b", "no /"),
            ("token=a", "token=a;token=c", "twice"),
            ("token=a", "token=%zz", "no value"),
            ("token=a", "token=%0a", "no value"),
            ("token=a", "token=", "no value"),
            ("token=a", "token=a;manufacturer=x", "none of"),
        ] {
            let error = Place::parse(&good.replacen(from, to, 1)).unwrap_err().to_string();
            assert!(error.contains(why) && !error.contains("1234"), "{to}: {error}");
        }
    }
}
