//! A hostile module in a real worker: nothing it tries leads out of the sandbox, and without one it all would.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that fails may panic")]

use std::collections::BTreeMap;
use std::fs;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};

use token_wire::{Answered, Mechanisms, Request, VERSION};

const EPERM: i32 = 1;
const EACCES: i32 = 13;

/// What a module could do in a worker that was started like this: the name of each try and its error number.
fn tried(folder: &Path, more: &[&str]) -> BTreeMap<String, i32> {
    let module = folder.join("hostile.so");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/hostile.c");
    let mut compiler = Command::new("cc");
    compiler.args(["-shared", "-fPIC", "-O1", "-Wall", "-o"]).arg(&module).arg(source);
    assert!(compiler.status().unwrap().success());
    let own = folder.join("own");
    fs::create_dir_all(&own).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut victim = Command::new("sleep").arg("600").spawn().unwrap();
    let (ours, theirs) = UnixStream::pair().unwrap();
    fs::write(folder.join("pin"), "12345678").unwrap();
    fs::set_permissions(folder.join("pin"), std::os::unix::fs::PermissionsExt::from_mode(0o600))
        .unwrap();
    let mut worker = Command::new(env!("CARGO_BIN_EXE_token-worker"))
        .arg("--module")
        .arg(&module)
        .args(["--token-label", "none", "--allow-root", "--pin-file"])
        .arg(folder.join("pin"))
        .args(more)
        .env_clear()
        .env("HOSTILE_DIR", &own)
        .env("HOSTILE_PORT", listener.local_addr().unwrap().port().to_string())
        .env("HOSTILE_VICTIM", victim.id().to_string())
        .stdin(OwnedFd::from(theirs))
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut line = &ours;
    for question in [
        Request::Hello { version: VERSION },
        Request::Open { write: false, mechanisms: Mechanisms::default() },
    ] {
        token_wire::write(&mut line, &question).unwrap();
        let _: Option<Answered> = token_wire::read(&mut line).unwrap();
    }
    drop(ours);
    worker.wait().unwrap();
    victim.kill().unwrap();
    victim.wait().unwrap();
    let said = fs::read_to_string(own.join("result")).unwrap();
    let pair = |line: &str| {
        let (name, number) = line.split_once(' ').unwrap();
        (name.to_owned(), number.parse().unwrap())
    };
    said.lines().map(pair).collect()
}

#[test]
fn nothing_leads_out_of_the_workers_sandbox() {
    let folder = tempfile::tempdir().unwrap();
    let tries = tried(folder.path(), &["--sandbox", "required"]);
    assert_eq!(tries.len(), 14, "{tries:?}");
    for (name, number) in tries {
        let wanted = if matches!(name.as_str(), "shadow" | "write") { EACCES } else { EPERM };
        assert_eq!(number, wanted, "{name}");
    }
}

#[test]
fn with_a_network_hsm_only_its_connection_is_open() {
    let folder = tempfile::tempdir().unwrap();
    let tries = tried(folder.path(), &["--sandbox", "required", "--reach", "network"]);
    let open: Vec<&str> =
        tries.iter().filter(|(_, number)| **number == 0).map(|(name, _)| name.as_str()).collect();
    assert_eq!(open, ["connect", "datagram"]);
}

#[test]
fn without_the_sandbox_the_same_module_gets_out() {
    let folder = tempfile::tempdir().unwrap();
    let tries = tried(folder.path(), &["--sandbox", "off"]);
    for name in ["write", "connect", "datagram", "kill", "dumpable", "execve", "fork"] {
        assert_eq!(tries.get(name), Some(&0), "{name}: the test would see nothing");
    }
}
