//! The PIN: read from its file, a systemd credential or the starter into locked memory, sent to the token once,
//! wiped. It never appears in a message, an argument, the environment or an error.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use confine::Locked;
use cryptoki::types::AuthPin;
use token_wire::{Fault, FaultCode};

use crate::args::{Args, PinArgs};
use crate::prompt;

/// Longer than any token's longest PIN.
pub(crate) const PIN_BYTES_MAX: usize = 1024;
/// systemd names the folder of a unit's credentials here.
const CREDENTIALS: &str = "CREDENTIALS_DIRECTORY";

/// A PIN in locked memory.
#[derive(Debug)]
pub(crate) struct Pin(Locked);

impl Pin {
    /// For the one call that needs it: `cryptoki` takes a copy of its own, which is wiped when it is dropped.
    pub(crate) fn for_login(&self) -> Result<AuthPin, Fault> {
        Ok(AuthPin::from(self.text()?))
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        self.0.bytes()
    }

    fn text(&self) -> Result<&str, Fault> {
        std::str::from_utf8(self.0.bytes()).map_err(|_| refuse("is not text".to_owned()))
    }
}

/// The file that holds the PIN, if there is one.
pub(crate) fn place(source: &PinArgs) -> Option<PathBuf> {
    match (&source.pin_file, &source.pin_credential) {
        (Some(file), _) => Some(file.clone()),
        (None, Some(name)) => credential(name),
        (None, None) => None,
    }
}

/// Reads the PIN from where it is said to be.
pub(crate) fn read(source: &PinArgs) -> Result<Pin, Fault> {
    if let Some(path) = &source.pin_file {
        return from_file(path, 0o077);
    }
    if let Some(name) = &source.pin_credential {
        let path = credential(name).ok_or_else(|| {
            refuse(format!(
                "credential \"{name}\": give it a plain name, and set LoadCredential= in the unit"
            ))
        })?;
        // systemd lets the one user in by an access list, which shows as the group's bits.
        return from_file(&path, 0o027);
    }
    if source.pin_handed {
        // The starter put it into a pipe in the place of standard output, which no worker uses.
        let pipe = io::stdout().as_fd().try_clone_to_owned();
        let mut pipe =
            File::from(pipe.map_err(|error| refuse(format!("from the starter: {error}")))?);
        return take(&mut pipe, "from the starter");
    }
    Err(refuse("is not given: say --pin-file or --pin-credential".to_owned()))
}

/// The new PIN that this worker was started to set, if it was. With a PIN file it is written beside it first, as
/// `FILE.new`, durably: whatever happens afterwards, one of the two files holds the token's PIN. That file comes back
/// locked: nobody judges what the token has before this process is gone, whoever started it.
pub(crate) fn new_one(args: &Args) -> anyhow::Result<Option<(Pin, Option<File>)>> {
    let pin = if args.new_pin_prompt {
        let pin = prompt::ask("New user PIN")?;
        let again = prompt::ask("The same again")?;
        anyhow::ensure!(pin.bytes() == again.bytes(), "the two differ; nothing was changed");
        pin
    } else if let Some(path) = &args.new_pin_file {
        from_file(path, 0o077)?
    } else {
        return Ok(None);
    };
    let mut held = None;
    if let Some(file) = args.new_pin_for.as_ref().or(args.pin.pin_file.as_ref()) {
        let mut name = file.clone().into_os_string();
        name.push(".new");
        let name = PathBuf::from(name);
        let failed = || format!("cannot make {}: is there an unfinished change?", name.display());
        let mut new = OpenOptions::new();
        let mut new =
            new.write(true).create_new(true).mode(0o600).open(&name).with_context(failed)?;
        // Shared with the signer, which holds it for as long as it is at work.
        new.try_lock_shared().with_context(|| format!("cannot lock {}", name.display()))?;
        new.write_all(pin.bytes())?;
        new.sync_all()?;
        let folder = name.parent().filter(|folder| !folder.as_os_str().is_empty());
        File::open(folder.unwrap_or(Path::new(".")))?.sync_all()?;
        held = Some(new);
    }
    Ok(Some((pin, held)))
}

fn credential(name: &str) -> Option<PathBuf> {
    let plain = !name.is_empty() && !name.contains('/') && name != "." && name != "..";
    let folder = std::env::var_os(CREDENTIALS)?;
    plain.then(|| PathBuf::from(folder).join(name))
}

/// A file that others can read (`others`: bits of its mode) is refused, since then the PIN is not secret any more.
pub(crate) fn from_file(path: &Path, others: u32) -> Result<Pin, Fault> {
    let name = path.display();
    let mut file = File::open(path).map_err(|error| refuse(format!("{name}: {error}")))?;
    let meta = file.metadata().map_err(|error| refuse(format!("{name}: {error}")))?;
    if !meta.is_file() {
        return Err(refuse(format!("{name} is not a file")));
    }
    if meta.mode() & others != 0 {
        return Err(refuse(format!(
            "{name} can be read by others (mode {:04o}): run `chmod 600 {name}` and change the PIN",
            meta.mode() & 0o7777
        )));
    }
    take(&mut file, &name.to_string())
}

/// All that is there, without the line's end, straight into locked memory.
pub(crate) fn take(from: &mut impl Read, name: &str) -> Result<Pin, Fault> {
    let mut pin =
        Locked::with_room(PIN_BYTES_MAX).map_err(|error| refuse(format!("{name}: {error}")))?;
    let mut length = 0_usize;
    while let Some(rest) = pin.room().get_mut(length..PIN_BYTES_MAX).filter(|rest| !rest.is_empty())
    {
        let count = from.read(rest).map_err(|error| refuse(format!("{name}: {error}")))?;
        if count == 0 {
            break;
        }
        length = length.saturating_add(count);
    }
    let whole = length < PIN_BYTES_MAX;
    pin.keep(length);
    let kept = pin.bytes().trim_ascii_end().len();
    // Only the line's end: spaces may belong to a PIN.
    let ends = pin.bytes().get(kept..).unwrap_or_default();
    let spaces = ends.iter().take_while(|byte| !matches!(byte, b'\n' | b'\r')).count();
    pin.keep(kept.saturating_add(spaces));
    if pin.bytes().is_empty() || !whole {
        return Err(refuse(format!("{name} is empty or too long: it must hold the PIN alone")));
    }
    let pin = Pin(pin);
    pin.text().map_err(|_| refuse(format!("{name} is not text")))?;
    Ok(pin)
}

pub(crate) fn refuse(what: String) -> Fault {
    Fault::new(FaultCode::PinFile, format!("PIN file {what}"))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn with(content: &str, mode: u32) -> Result<Pin, Fault> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pin");
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        from_file(&path, 0o077)
    }

    #[test]
    fn takes_the_pin_without_its_line_end() {
        for (content, pin) in
            [("1234\n", "1234"), ("12 34", "12 34"), ("1234 \r\n", "1234 "), (" 1\n\n", " 1")]
        {
            assert_eq!(with(content, 0o600).unwrap().bytes(), pin.as_bytes());
        }
        assert_eq!(with("12 34", 0o400).unwrap().bytes(), b"12 34");
        assert_eq!(format!("{:?}", with("1234", 0o600).unwrap()), "Pin(Locked(..))");
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
        let missing = from_file(Path::new("/nowhere/pin"), 0o077).unwrap_err();
        assert_eq!(missing.code, FaultCode::PinFile);
        assert_eq!(from_file(Path::new("/"), 0o077).unwrap_err().code, FaultCode::PinFile);
        let nothing = PinArgs {
            pin_file: None,
            pin_credential: Some("../user-pin".to_owned()),
            pin_prompt: false,
            pin_handed: false,
        };
        assert!(read(&nothing).unwrap_err().text.contains("LoadCredential="));
    }

    /// Whatever is in a PIN file, whole or spoilt: nothing that is said of it holds any part of it.
    #[test]
    fn nothing_that_is_said_of_a_pin_file_holds_any_of_it() {
        let pin = b"4711-0815-2468";
        let part =
            |text: &str| pin.windows(4).any(|part| text.as_bytes().windows(4).any(|w| w == part));
        let (mut refused, mut taken) = (0, 0);
        for room in [0, 1, PIN_BYTES_MAX] {
            for at in 0..=pin.len() {
                for byte in [0, b'\n', b' ', b'9', 0x80, 0xff] {
                    let mut spoilt = pin.to_vec();
                    spoilt.insert(at, byte);
                    spoilt.resize(spoilt.len() + room, byte);
                    match take(&mut &spoilt[..], "user.pin") {
                        Ok(read) => {
                            taken += 1;
                            assert!(!part(&format!("{read:?} {read:#?}")));
                            assert!(part(std::str::from_utf8(read.bytes()).unwrap()));
                        }
                        Err(fault) => {
                            refused += 1;
                            assert!(!part(&format!("{fault} {fault:?} {fault:#?}")), "{fault}");
                        }
                    }
                }
            }
        }
        assert!(refused > 100 && taken > 50, "{refused} refused, {taken} taken");
    }
}
