//! Finds a bitcoind, or fetches one into the cache folder. Never installs anything on the system.

use std::env;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};

const FETCH: &str = include_str!("../../scripts/fetch-bitcoind");

/// Returns a bitcoind to start: `$BITCOIND`, else one on `PATH`, else the cached one, else a freshly fetched one.
pub fn find() -> Result<PathBuf> {
    if let Some(named) = env::var_os("BITCOIND").filter(|value| !value.is_empty()) {
        let path = PathBuf::from(named);
        ensure!(is_executable(&path), "BITCOIND names {}, which cannot be run", path.display());
        return Ok(path);
    }
    let on_path = env::var_os("PATH").and_then(|path| {
        env::split_paths(&path).map(|dir| dir.join("bitcoind")).find(|file| is_executable(file))
    });
    match on_path {
        Some(path) => Ok(path),
        None => cached_or_fetched(&cache_dir()?),
    }
}

/// The folder for what is fetched once and kept: `$COFFERDAM_CACHE`, else the user's cache folder.
pub fn cache_dir() -> Result<PathBuf> {
    if let Some(dir) = env::var_os("COFFERDAM_CACHE").filter(|value| !value.is_empty()) {
        return Ok(PathBuf::from(dir));
    }
    if let Some(dir) = env::var_os("XDG_CACHE_HOME").filter(|value| !value.is_empty()) {
        return Ok(PathBuf::from(dir).join("cofferdam"));
    }
    let home = env::var_os("HOME").context("HOME is not set; name a folder in COFFERDAM_CACHE")?;
    Ok(PathBuf::from(home).join(".cache").join("cofferdam"))
}

fn cached_or_fetched(cache: &Path) -> Result<PathBuf> {
    let cached = cache.join("bitcoind").join("bitcoind");
    if !is_executable(&cached) {
        run_fetch(cache)?;
        ensure!(is_executable(&cached), "the fetch left no {}", cached.display());
    }
    Ok(cached)
}

/// Runs the script from memory, so that a test binary works wherever its checkout went. It locks: callers queue.
fn run_fetch(cache: &Path) -> Result<()> {
    let mut child = Command::new("bash")
        .args(["-s", "--"])
        .arg(cache)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .context("bash is needed to fetch bitcoind")?;
    let mut stdin = child.stdin.take().context("bash has no input")?;
    stdin.write_all(FETCH.as_bytes()).context("could not hand bash the fetch script")?;
    drop(stdin);
    if !child.wait()?.success() {
        bail!("no bitcoind found, and none could be fetched; see the lines above");
    }
    Ok(())
}

fn is_executable(path: &Path) -> bool {
    path.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}
