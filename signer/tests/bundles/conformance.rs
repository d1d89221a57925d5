//! `signer conformance` on SoftHSM, as a person runs it.

use std::path::Path;
use std::process::{Command, Output};

use tempfile::TempDir;

use crate::token;

fn run(folder: &Path, more: &[&str]) -> Output {
    let config = token::empty(folder);
    let mut command = Command::new(env!("CARGO_BIN_EXE_signer"));
    command
        .args(["conformance", "--token-label", config.label.as_deref().unwrap(), "--module"])
        .arg(config.module.unwrap())
        .arg("--pin-file")
        .arg(config.pin_file.unwrap())
        .arg("--worker")
        .arg(config.worker.unwrap())
        .args(more)
        .envs(config.env);
    command.output().unwrap()
}

#[test]
fn softhsm_can_carry_every_tier() {
    let folder = TempDir::new().unwrap();
    let output = run(folder.path(), &[]);
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    for tier in ["token    ", "token-hd ", "sealed-hd"] {
        assert!(said.contains(&format!("\n{tier} can be carried\n")), "{said}");
    }
    assert!(said.contains("attack: read the value of a child: refused"), "{said}");
    assert!(
        said.contains("wrapped by aes-kwp is unwrapped, signs 32 bytes and is destroyed: verified")
    );
    for scheme in ["rsa-oaep-sha1   can be", "aes-kwp         can be", "rsa-oaep-sha256 REFUSED"] {
        assert!(said.contains(&format!("\n{scheme}")), "{said}");
    }
    // SoftHSM's OAEP is SHA-1 only, and the table says so with the module's own error.
    let unmet: Vec<&str> = said.lines().filter(|line| line.starts_with("UNMET")).collect();
    assert!(matches!(unmet.as_slice(), [one] if one.contains("rsa-oaep-sha256")), "{unmet:?}");
    // Once more, as programs and vendors read it.
    let json = String::from_utf8(run(folder.path(), &["--json"]).stdout).unwrap();
    assert!(json.contains("\"token-hd\": {\"carried\": true, \"unmet\": []}"), "{json}");
    // A number that the module does not have is said to be missing, and takes nothing else away.
    let more = ["--json", "--kwp-mechanism", "0x80000171"];
    let elsewhere = String::from_utf8(run(folder.path(), &more).stdout).unwrap();
    let kwp = elsewhere.lines().find(|line| line.contains("\"aes-kwp\": {")).unwrap();
    assert!(kwp.contains("false") && kwp.contains("kwp:import"), "{kwp}");
    let line = elsewhere.lines().find(|line| line.contains("mechanism:aes-kwp")).unwrap();
    assert!(line.contains("UNMET") && line.contains("MechanismInvalid"), "{line}");
    assert!(elsewhere.contains("\"token-hd\": {\"carried\": true, \"unmet\": []}"), "{elsewhere}");
    let markdown = String::from_utf8(run(folder.path(), &["--markdown"]).stdout).unwrap();
    assert!(markdown.contains("| token-hd | can be carried |"), "{markdown}");
}

#[tokio::test]
async fn a_signers_token_is_no_scratch_token() {
    let folder = TempDir::new().unwrap();
    token::make(folder.path()).await;
    let output = run(folder.path(), &["--tier", "sealed-hd"]);
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(!output.status.success(), "{said}");
    assert!(said.contains("this token holds a signer's key"), "{said}");
    assert!(said.contains("sealed-hd REFUSED"), "{said}");
}

#[test]
fn a_module_that_ends_early_carries_nothing() {
    let folder = TempDir::new().unwrap();
    let output = run(folder.path(), &["--seconds-max", "0"]);
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(!output.status.success(), "{said}");
    assert!(said.contains("crashed or hung after"), "{said}");
}
