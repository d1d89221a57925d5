//! The directory: SoftHSM's configuration, its token files, and the PINs, each readable by its owner alone. The
//! SO PIN lies in a directory of its own, which the signer's user need not enter. Nothing is ever overwritten.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow, bail};
use cryptoki::types::AuthPin;
use zeroize::Zeroizing;

/// Longest PIN that SoftHSM takes.
const PIN_BYTES_MAX: u64 = 255;

/// The prepared directory, with its absolute path.
pub(crate) struct Place {
    dir: PathBuf,
    config: PathBuf,
    /// A second softhsm-setup waits until this one has ended.
    _lock: File,
}

impl Place {
    /// Makes what is missing, and refuses what is there and different.
    pub(crate) fn prepare(dir: &Path) -> anyhow::Result<Self> {
        make_dir(dir)?;
        let dir = dir.canonicalize().with_context(|| format!("cannot find {}", dir.display()))?;
        let text = dir.to_str().context("--dir is not UTF-8")?;
        // Either would end or cut the line in SoftHSM's configuration.
        if text.contains(['#', '\n']) {
            bail!("--dir must not contain # or a line break: SoftHSM cannot read such a path");
        }
        let lock = File::open(&dir)?;
        lock.lock().with_context(|| format!("cannot lock {text}"))?;
        make_dir(&dir.join("tokens"))?;
        let config = dir.join("softhsm2.conf");
        let wanted = format!(
            "directories.tokendir = {text}/tokens\nobjectstore.backend = file\nlog.level = ERROR\nslots.removable = false\n"
        );
        match fs::read_to_string(&config) {
            Ok(found) if found == wanted => {}
            Ok(_) => bail!(
                "{} is not what softhsm-setup writes here (was the directory moved?); use another --dir",
                config.display()
            ),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                write_new(&config, wanted.as_bytes())?;
            }
            Err(error) => return Err(error).context(format!("cannot read {}", config.display())),
        }
        Ok(Self { dir, config, _lock: lock })
    }

    /// Absolute path of `softhsm2.conf`.
    pub(crate) fn config(&self) -> &Path {
        &self.config
    }

    /// Absolute path of SoftHSM's token directory.
    pub(crate) fn tokens(&self) -> PathBuf {
        self.dir.join("tokens")
    }

    /// Absolute path of the user PIN's file.
    pub(crate) fn user_pin(&self) -> PathBuf {
        self.dir.join("user.pin")
    }

    /// Absolute path of the SO PIN's file.
    pub(crate) fn so_pin(&self) -> PathBuf {
        self.dir.join("so").join("so.pin")
    }
}

/// The PIN in the file, or a new random one when there is no file.
pub(crate) fn read_or_make_pin(path: &Path) -> anyhow::Result<AuthPin> {
    if let Some(dir) = path.parent() {
        make_dir(dir)?;
    }
    if !path.try_exists()? {
        let mut random = Zeroizing::new([0_u8; 16]);
        getrandom::fill(random.as_mut_slice())
            .map_err(|error| anyhow!("no random bytes: {error}"))?;
        let text = Zeroizing::new(hex::encode(random.as_slice()));
        write_new(path, text.as_bytes())?;
    }
    read_pin(path)
}

/// The PIN in the file; nobody else may be able to read it.
pub(crate) fn read_pin(path: &Path) -> anyhow::Result<AuthPin> {
    let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    let meta = file.metadata()?;
    if meta.mode() & 0o077 != 0 {
        bail!("{0} can be read by others: `chmod 600 {0}`, and change the PIN", path.display());
    }
    let mut text = Zeroizing::new(String::new());
    file.take(PIN_BYTES_MAX.saturating_add(2)).read_to_string(&mut text)?;
    let pin = text.trim_end_matches(['\n', '\r']);
    if pin.is_empty() {
        bail!("{} is empty: it must hold the PIN", path.display());
    }
    Ok(AuthPin::from(pin))
}

fn make_dir(dir: &Path) -> anyhow::Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .with_context(|| format!("cannot make {}", dir.display()))
}

/// Writes a file that must not be there yet, mode 0600, and waits until it is on the disk.
fn write_new(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let write = || -> std::io::Result<()> {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}
