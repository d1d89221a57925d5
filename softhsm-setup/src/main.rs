//! `softhsm-setup`: one command that makes (or finds, never overwrites) a SoftHSM token for development, in a
//! directory of its own. It never touches the system's SoftHSM tokens, and SoftHSM is never an HSM: it keeps
//! keys in files.
//!
//! Reading order: this file, [`place`] (the directory), [`mend`] (what a killed
//! SoftHSM leaves), [`token`] (PKCS#11).

mod place;
mod mend;
mod token;

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};
use clap::Parser;

use place::Place;
use token::Found;

/// Makes or finds a SoftHSM token for development and prints the signer's [token] settings.
#[derive(Parser)]
#[command(version)]
struct Args {
    /// Directory for the token, its configuration and its PINs; made if it is not there.
    #[arg(long)]
    dir: PathBuf,
    /// The token's label.
    #[arg(long, default_value = "cofferdam-dev")]
    label: String,
    /// The SoftHSM module; looked for in the usual places when not given.
    #[arg(long)]
    module: Option<PathBuf>,
}

/// Where distributions put the module.
const MODULES: [&str; 5] = [
    "/usr/lib/softhsm/libsofthsm2.so",
    "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so",
    "/usr/lib/aarch64-linux-gnu/softhsm/libsofthsm2.so",
    "/usr/lib64/pkcs11/libsofthsm2.so",
    "/usr/local/lib/softhsm/libsofthsm2.so",
];

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    check_label(&args.label)?;
    let module = find_module(args.module.as_deref())?;
    let place = Place::prepare(&args.dir)?;
    if std::env::var_os("SOFTHSM2_CONF").as_deref() != Some(place.config().as_os_str()) {
        // SoftHSM reads its environment when it is loaded, and changing one's own is unsafe: start over with it.
        let own = std::env::current_exe().context("cannot tell where I am")?;
        let error = Command::new(own)
            .args(std::env::args_os().skip(1))
            .env("SOFTHSM2_CONF", place.config())
            .exec();
        bail!("cannot start again with SOFTHSM2_CONF set: {error}");
    }
    let mended = mend::put_back(&place)?;
    let found = token::make_or_find(&module, &args.label, &place)?;
    mend::keep(&place)?;
    if mended > 0 {
        writeln!(
            std::io::stderr(),
            "softhsm-setup: SoftHSM had emptied its token's description; put back from the copy"
        )?;
    }
    print_settings(&module, &args.label, &place, found)
}

/// What PKCS#11 can hold, and what needs no quoting anywhere.
fn check_label(label: &str) -> anyhow::Result<()> {
    let good = (1..=32).contains(&label.len())
        && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    if !good {
        bail!("--label must be 1 to 32 of a-z A-Z 0-9 - _ .");
    }
    Ok(())
}

fn find_module(given: Option<&Path>) -> anyhow::Result<PathBuf> {
    if let Some(path) = given {
        if !path.is_file() {
            bail!(
                "there is no PKCS#11 module at {}; on Debian and Ubuntu `apt-get install libsofthsm2` puts it at {}",
                path.display(),
                MODULES[0]
            );
        }
        return Ok(std::path::absolute(path)?);
    }
    MODULES.iter().map(PathBuf::from).find(|path| path.is_file()).context(
        "SoftHSM is not installed: on Debian and Ubuntu `apt-get install libsofthsm2`, elsewhere the package \
         softhsm; or say where its module is with --module",
    )
}

/// The settings go to standard output and nothing else does, so that they can be read by a program.
fn print_settings(module: &Path, label: &str, place: &Place, found: Found) -> anyhow::Result<()> {
    let word = match found {
        Found::Made => "made",
        Found::Completed => "found half made, completed",
        Found::There => "found, its PIN works",
    };
    let mut out = std::io::stdout().lock();
    writeln!(out, "# SoftHSM token: {word}. For development: its keys are files, it is no HSM.")?;
    writeln!(out, "[token]")?;
    writeln!(out, "module = {}", quoted(module)?)?;
    writeln!(out, "label = \"{label}\"")?;
    writeln!(out, "pin_file = {}", quoted(&place.user_pin())?)?;
    writeln!(out, "env = {{ SOFTHSM2_CONF = {} }}", quoted(place.config())?)?;
    Ok(())
}

/// A path as a TOML string.
fn quoted(path: &Path) -> anyhow::Result<String> {
    let text = path.to_str().context("the path is not UTF-8")?;
    Ok(format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"")))
}
