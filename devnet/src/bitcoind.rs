//! Finds a bitcoind, or fetches one into the cache folder. Never installs anything on the system.

use std::env;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use anyhow::{Context as _, Result, bail, ensure};

/// What the script sources when it runs as a file.
const MIRROR: &str = include_str!("../../scripts/mirror.sh");
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

fn run_fetch(cache: &Path) -> Result<()> {
    if !fed(bash(cache), &[MIRROR, FETCH])?.status.success() {
        bail!("no bitcoind found, and none could be fetched; see the lines above");
    }
    Ok(())
}

/// The script runs from memory, so that a test binary works wherever its checkout went. It locks: callers queue.
fn bash(argument: &Path) -> Command {
    let mut bash = Command::new("bash");
    bash.args(["-s", "--"]).arg(argument);
    bash.stdin(Stdio::piped()).stdout(Stdio::null());
    bash
}

fn fed(mut bash: Command, scripts: &[&str]) -> Result<Output> {
    let mut child = bash.spawn().context("bash is needed to fetch bitcoind")?;
    let mut stdin = child.stdin.take().context("bash has no input")?;
    stdin.write_all(scripts.concat().as_bytes()).context("could not hand bash the fetch script")?;
    drop(stdin);
    Ok(child.wait_with_output()?)
}

fn is_executable(path: &Path) -> bool {
    path.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use std::fs;

    use super::*;

    /// As for a first `./quickstart`, up to apt, which is a stub here: it keeps the configuration and fails.
    #[test]
    fn from_memory_the_fetch_script_comes_as_far_as_apt() {
        let folder = tempfile::tempdir().unwrap();
        let (cache, programs) = (folder.path().join("cache"), folder.path().join("programs"));
        fs::create_dir(&programs).unwrap();
        let apt = programs.join("apt-get");
        let kept = folder.path().join("kept");
        let stub = format!(
            "#!/bin/sh\ncat \"$APT_CONFIG\" >{0:?}\ncat \"${{APT_CONFIG%/*}}\"/etc/sources.list >>{0:?}\nexit 7\n",
            kept
        );
        fs::write(&apt, stub).unwrap();
        fs::set_permissions(&apt, fs::Permissions::from_mode(0o755)).unwrap();

        let path = env::join_paths(
            std::iter::once(programs).chain(env::split_paths(&env::var_os("PATH").unwrap())),
        );
        let mut bash = bash(&cache);
        bash.env("PATH", path.unwrap()).env("COFFERDAM_MIRROR", "http://mirror.invalid/debian");
        bash.current_dir(folder.path()).stderr(Stdio::piped());
        let output = fed(bash, &[MIRROR, FETCH]).unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(
            !output.status.success() && said.contains("package list could not be read"),
            "{said}"
        );
        // Nothing went wrong on the way, of which bash would have said which line it was.
        assert!(!said.contains("line "), "{said}");
        let kept = fs::read_to_string(kept).unwrap();
        assert!(kept.contains("Dir::State::Lists") && kept.contains("mirror.invalid"), "{kept}");
        let left = fs::read_dir(cache).unwrap().map(|entry| entry.unwrap().file_name());
        assert_eq!(left.collect::<Vec<_>>(), ["bitcoind.lock"]);
    }

    /// What `own_mirror` takes for this machine's mirror of `stable`, by the files in its apt folder.
    #[test]
    fn the_mirror_is_the_first_enabled_binary_source_of_the_release() {
        const DEB: &str = "Types: deb\nURIs: http://a/\nSuites: stable\nComponents: main\n";
        let source = |types: &str| DEB.replace("deb", types).replace("//a", "//source");
        let cases: &[(&[(&str, String)], &str)] = &[
            (&[("a.sources", DEB.to_owned())], "http://a/ "),
            (&[("a.sources", source("deb-src"))], ""),
            (&[("a.sources", source("deb-src deb"))], "http://source/ "),
            (&[("a.sources", format!("{}\n{DEB}", source("deb-src")))], "http://a/ "),
            (&[("a.sources", format!("{DEB}Enabled: no\n"))], ""),
            (&[("a.sources", format!("{DEB}Signed-By: /key\n"))], "http://a/ /key"),
            // Without an empty line at the end of a file, the next file begins a stanza all the same.
            (&[("a.sources", source("deb-src")), ("b.sources", DEB.to_owned())], "http://a/ "),
            (
                &[("a.sources", DEB.trim_end().to_owned()), ("b.sources", source("deb-src"))],
                "http://a/ ",
            ),
            (
                &[(
                    "a.list",
                    "deb-src http://s stable main\ndeb http://l stable main\n".to_owned(),
                )],
                "http://l ",
            ),
            (
                &[("a.list", "deb [arch=x signed-by=/key] http://l stable main\n".to_owned())],
                "http://l /key",
            ),
            (&[("a.sources", DEB.replace("stable", "other"))], ""),
        ];
        for (files, wanted) in cases {
            let apt = tempfile::tempdir().unwrap();
            let folder = apt.path().join("sources.list.d");
            fs::create_dir(&folder).unwrap();
            for (name, text) in *files {
                fs::write(folder.join(name), text).unwrap();
            }
            let mut bash = bash(apt.path());
            bash.stdout(Stdio::piped());
            let output = fed(bash, &[MIRROR, "\nown_mirror stable \"$1\"\n"]).unwrap();
            let said = String::from_utf8(output.stdout).unwrap();
            assert!(output.status.success(), "{files:?}");
            assert_eq!(said.trim_end_matches('\n'), *wanted, "{files:?}");
        }
    }
}
