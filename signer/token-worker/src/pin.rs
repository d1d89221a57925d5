//! The PIN: read from its file, sent to the token once, wiped. It never appears in a message, an argument, the
//! environment or an error.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use cryptoki::types::AuthPin;
use token_wire::{Fault, FaultCode};
use zeroize::Zeroizing;

/// Longer than any token's longest PIN.
const PIN_BYTES_MAX: usize = 1024;

/// Reads the PIN. A file that others can read is refused, since then the PIN is not secret any more.
pub(crate) fn read(path: &Path) -> Result<AuthPin, Fault> {
    let refuse = |what: String| Fault::new(FaultCode::PinFile, format!("PIN file {what}"));
    let name = path.display();
    let mut file = File::open(path).map_err(|error| refuse(format!("{name}: {error}")))?;
    let meta = file.metadata().map_err(|error| refuse(format!("{name}: {error}")))?;
    if !meta.is_file() {
        return Err(refuse(format!("{name} is not a file")));
    }
    if meta.mode() & 0o077 != 0 {
        return Err(refuse(format!(
            "{name} can be read by others (mode {:04o}): run `chmod 600 {name}` and change the PIN",
            meta.mode() & 0o7777
        )));
    }
    // One buffer of fixed size, so that no copy is left behind by a growing one.
    let mut buffer = Zeroizing::new([0_u8; PIN_BYTES_MAX]);
    let mut length = 0_usize;
    while let Some(rest) = buffer.get_mut(length..).filter(|rest| !rest.is_empty()) {
        let count = file.read(rest).map_err(|error| refuse(format!("{name}: {error}")))?;
        if count == 0 {
            break;
        }
        length = length.saturating_add(count);
    }
    let text = buffer.get(..length).and_then(|bytes| std::str::from_utf8(bytes).ok());
    let pin =
        text.ok_or_else(|| refuse(format!("{name} is not text")))?.trim_end_matches(['\n', '\r']);
    if pin.is_empty() || length == PIN_BYTES_MAX {
        return Err(refuse(format!("{name} is empty or too long: it must hold the PIN alone")));
    }
    Ok(AuthPin::from(pin))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use secrecy::ExposeSecret;

    use super::*;

    fn with(content: &str, mode: u32) -> Result<AuthPin, Fault> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pin");
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        read(&path)
    }

    #[test]
    fn takes_the_pin_without_its_line_end() {
        assert_eq!(with("1234\n", 0o600).unwrap().expose_secret(), "1234");
        assert_eq!(with("12 34", 0o400).unwrap().expose_secret(), "12 34");
    }

    #[test]
    fn refuses_what_others_can_read_and_what_is_no_pin() {
        for mode in [0o640, 0o604, 0o660, 0o777] {
            let fault = with("1234", mode).unwrap_err();
            assert_eq!(fault.code, FaultCode::PinFile);
            assert!(fault.text.contains("chmod 600") && !fault.text.contains("1234"));
        }
        for content in ["", "\n", &"9".repeat(2000)] {
            assert_eq!(with(content, 0o600).unwrap_err().code, FaultCode::PinFile);
        }
        assert_eq!(read(Path::new("/nowhere/pin")).unwrap_err().code, FaultCode::PinFile);
        assert_eq!(read(Path::new("/")).unwrap_err().code, FaultCode::PinFile);
    }
}
