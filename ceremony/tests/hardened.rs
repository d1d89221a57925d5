//! What another process can see of a ceremony.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::process::{Child, Command, Stdio};
use std::thread::yield_now;
use std::time::{Duration, Instant};

#[test]
fn it_leaves_no_core_file_and_its_memory_belongs_to_root() {
    let folder = tempfile::tempdir().unwrap();
    let fifo = folder.path().join("fifo");
    assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    // It waits for somebody to write.
    let mut ceremony = Command::new(env!("CARGO_BIN_EXE_ceremony"));
    let ceremony =
        ceremony.arg("transcript").arg(&fifo).stdout(Stdio::null()).stderr(Stdio::null());
    let mut ceremony = Ended(ceremony.spawn().unwrap());
    let given_up = Instant::now() + Duration::from_secs(60);
    while core_bytes(&ceremony.0).as_deref() != Some("0") {
        assert!(Instant::now() < given_up, "it may leave a core file");
        assert_eq!(ceremony.0.try_wait().unwrap(), None, "it waits for no file");
        yield_now();
    }
    let mem = format!("/proc/{}/mem", ceremony.0.id());
    while fs::metadata(&mem).unwrap().uid() != 0 {
        assert!(Instant::now() < given_up, "others of its user can read its memory");
        yield_now();
    }
}

/// It would wait for ever where the test fails.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn core_bytes(process: &Child) -> Option<String> {
    let limits = fs::read_to_string(format!("/proc/{}/limits", process.id())).ok()?;
    let core = limits.lines().find(|line| line.starts_with("Max core file size"))?;
    core.split_whitespace().nth(5).map(str::to_owned)
}
