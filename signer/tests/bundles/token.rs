//! A real SoftHSM token with the signer's keys in it, made by the project's own programs.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use serde::Deserialize;
use signer::init::init;
use signer::token::{Token, TokenConfig, TokenKeys};

#[derive(Deserialize)]
struct Settings {
    token: TokenConfig,
}

/// Makes a token under `state_dir` and the signer's keys in it.
pub(crate) async fn make(state_dir: &Path) -> (TokenConfig, TokenKeys) {
    let config = empty(state_dir);
    let keys = init(&config, state_dir, None, &mut Vec::new()).await.unwrap();
    (config, keys)
}

/// Makes a token under `state_dir`, or finds the one made before.
pub(crate) fn empty(state_dir: &Path) -> TokenConfig {
    let setup = Command::new(PROGRAMS.join("softhsm-setup"))
        .arg("--dir")
        .arg(state_dir.join("softhsm"))
        .output()
        .unwrap();
    assert!(setup.status.success(), "{}", String::from_utf8_lossy(&setup.stderr));
    let settings: Settings = toml::from_str(std::str::from_utf8(&setup.stdout).unwrap()).unwrap();
    let mut config = settings.token;
    config.worker = Some(PROGRAMS.join("token-worker"));
    config
}

pub(crate) async fn start(config: &TokenConfig, state_dir: &Path) -> Token {
    Token::start(config.clone(), state_dir).await.unwrap()
}

/// Where the programs are that these tests run. Built first: cargo builds only the tested package's own.
pub(crate) static PROGRAMS: LazyLock<PathBuf> = LazyLock::new(|| {
    let own = std::env::current_exe().unwrap();
    let folder = own.parent().and_then(Path::parent).unwrap().to_owned();
    let mut build = Command::new(env!("CARGO"));
    build.args([
        "build",
        "--quiet",
        "--package",
        "softhsm-setup",
        "--package",
        "token-worker",
        "--package",
        "faulty-hsm",
    ]);
    if folder.ends_with("release") {
        build.arg("--release");
    }
    assert!(build.current_dir(env!("CARGO_MANIFEST_DIR")).status().unwrap().success());
    folder
});
