//! What people do at their own machines, by the `officer` program: keys, a signed policy, signed orders, checks.
//! Never uses a library's shortcut for it: the demo shows the commands people have.

use std::path::Path;

use anyhow::{Context as _, Result};

use super::keys::text;
use crate::programs::Programs;

/// Makes an Ed25519 key pair at `DIR/officer/NAME.key` and returns the public half in hex.
pub(super) fn make_key(programs: &Programs, dir: &Path, name: &str) -> Result<String> {
    let file = dir.join("officer").join(format!("{name}.key"));
    let said = programs.run("officer", &["keygen", "--name", name, "--out", text(&file)?])?;
    last_hex(&said).with_context(|| format!("officer keygen printed no public key:\n{said}"))
}

/// Signs the policy file; the signature goes beside it.
pub(super) fn sign_policy(
    programs: &Programs,
    dir: &Path,
    name: &str,
    policy: &Path,
) -> Result<()> {
    let key = dir.join("officer").join(format!("{name}.key"));
    programs.run("officer", &["policy", "sign", "--key", text(&key)?, text(policy)?]).map(drop)
}

/// The last word of an output that is 32 bytes in hex.
fn last_hex(said: &str) -> Option<String> {
    let hex = |word: &&str| word.len() == 64 && word.bytes().all(|byte| byte.is_ascii_hexdigit());
    said.split_whitespace().filter(hex).next_back().map(str::to_owned)
}
