//! Finds and runs the project's own programs. Never a stale one: under cargo they are built first.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use anyhow::{Context as _, Result, bail, ensure};

/// The folder that holds `signer`, `watcher` and the others.
#[derive(Debug, Clone)]
pub struct Programs {
    dir: PathBuf,
}

impl Programs {
    /// Finds the programs beside this one. In a test run by cargo it has cargo build them first.
    pub fn find() -> Result<Self> {
        let own = env::current_exe().context("cannot tell where this program is")?;
        let mut dir = own.parent().context("this program has no folder")?;
        if dir.file_name().is_some_and(|name| name == "deps" || name == "examples") {
            dir = dir.parent().context("its folder has no parent")?;
        }
        if let Some(cargo) = env::var_os("CARGO") {
            built_by(Path::new(&cargo), dir)?;
        }
        for name in ["signer", "token-worker", "watcher", "officer", "ceremony", "softhsm-setup"] {
            let file = dir.join(name);
            ensure!(
                file.is_file(),
                "{} is missing: run `cargo build --workspace --bins`",
                file.display()
            );
        }
        Ok(Self { dir: dir.to_owned() })
    }

    /// Has cargo build these examples too, beside the programs in `examples`; without cargo they must be there.
    pub fn with_examples(self, names: &[&str]) -> Result<Self> {
        if let Some(cargo) = env::var_os("CARGO") {
            let mut wanted = vec!["--workspace".to_owned()];
            wanted.extend(names.iter().map(|name| format!("--example={name}")));
            build(Path::new(&cargo), &self.dir, &wanted).map_err(anyhow::Error::msg)?;
        }
        Ok(self)
    }

    /// The module that passes every call on to SoftHSM and fails as told; built first under cargo.
    pub fn faulty_module(&self) -> Result<PathBuf> {
        self.library("faulty-hsm")
    }

    /// The library that sets one program's wall clock; built first under cargo.
    pub fn shifted_clock(&self) -> Result<PathBuf> {
        self.library("shifted-clock")
    }

    fn library(&self, package: &str) -> Result<PathBuf> {
        if let Some(cargo) = env::var_os("CARGO") {
            let wanted = [format!("--package={package}")];
            build(Path::new(&cargo), &self.dir, &wanted).map_err(anyhow::Error::msg)?;
        }
        let library = self.dir.join(format!("lib{}.so", package.replace('-', "_")));
        ensure!(library.is_file(), "{} is missing: build the package {package}", library.display());
        Ok(library)
    }

    /// A command that runs one of them.
    pub fn command(&self, name: &str) -> Command {
        Command::new(self.dir.join(name))
    }

    /// Runs one of them to its end and returns what it printed; fails with its error output when it fails.
    pub fn run(&self, name: &str, arguments: &[&str]) -> Result<String> {
        let output = self
            .command(name)
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .with_context(|| format!("could not start {name}"))?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            bail!("`{name} {}` failed ({}):\n{said}", arguments.join(" "), output.status);
        }
        String::from_utf8(output.stdout)
            .with_context(|| format!("{name} printed something that is no text"))
    }
}

/// Builds all programs, once in this process; what is fresh costs a second.
fn built_by(cargo: &Path, dir: &Path) -> Result<()> {
    static BUILT: OnceLock<Result<(), String>> = OnceLock::new();
    let built =
        BUILT.get_or_init(|| build(cargo, dir, &["--workspace", "--bins"].map(str::to_owned)));
    built.clone().map_err(anyhow::Error::msg)
}

/// Builds what is wanted of the workspace, into the same place.
fn build(cargo: &Path, dir: &Path, wanted: &[String]) -> Result<(), String> {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("../Cargo.toml");
    let mut command = Command::new(cargo);
    command.args(["build", "--quiet", "--manifest-path"]).arg(manifest);
    command.args(wanted);
    if dir.file_name().is_some_and(|name| name == "release") {
        command.arg("--release");
    }
    // What cargo set for the test would look like a changed environment to the build scripts that watch it.
    let for_test =
        ["CARGO_BIN_", "CARGO_CRATE_", "CARGO_MANIFEST_", "CARGO_PKG_", "CARGO_PRIMARY_"];
    for (name, _) in env::vars_os() {
        if name.to_str().is_some_and(|name| for_test.iter().any(|start| name.starts_with(start))) {
            command.env_remove(name);
        }
    }
    match command.env_remove("CARGO").env_remove("OUT_DIR").stdin(Stdio::null()).status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("the programs could not be built ({status})")),
        Err(error) => Err(format!("cargo could not be run: {error}")),
    }
}
