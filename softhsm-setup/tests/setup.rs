//! The command as a newcomer runs it, with the real SoftHSM. Every run is a process of its own.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::print_stdout,
    reason = "a test fails by panicking"
)]

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::{Command, Output};

fn run(dir: &Path, more: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_softhsm-setup"))
        .arg("--dir")
        .arg(dir)
        .args(more)
        .env_remove("SOFTHSM2_CONF")
        .output()
        .unwrap()
}

fn settings(output: &Output) -> toml::Table {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    text.parse::<toml::Table>().unwrap()["token"].as_table().unwrap().clone()
}

fn refusal(output: &Output) -> String {
    assert!(!output.status.success());
    assert!(output.stdout.is_empty());
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().mode() & 0o777
}

/// Runs SoftHSM's own tool on the token directory.
fn softhsm_util(dir: &Path, args: &[&str]) -> Output {
    Command::new("softhsm2-util")
        .args(args)
        .env("SOFTHSM2_CONF", dir.join("softhsm2.conf"))
        .output()
        .unwrap()
}

#[test]
fn makes_a_token_once_and_finds_it_ever_after() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("a new place");
    let first = run(&dir, &["--label", "dev-1"]);
    let made = settings(&first);
    assert!(String::from_utf8_lossy(&first.stdout).contains("made"));
    assert_eq!(made["label"].as_str(), Some("dev-1"));
    assert!(Path::new(made["module"].as_str().unwrap()).is_file());
    let pin_file = Path::new(made["pin_file"].as_str().unwrap());
    assert_eq!(mode(pin_file), 0o600);
    assert_eq!(mode(&dir.join("so/so.pin")), 0o600);
    assert_eq!(mode(&dir.join("so")), 0o700);
    let (user, so) = (fs::read(pin_file).unwrap(), fs::read(dir.join("so/so.pin")).unwrap());
    assert!(user.len() == 32 && so.len() == 32 && user != so);
    assert_eq!(
        made["env"]["SOFTHSM2_CONF"].as_str(),
        dir.join("softhsm2.conf").canonicalize().unwrap().to_str()
    );
    let tokens = || fs::read_dir(dir.join("tokens")).unwrap().count();
    assert_eq!(tokens(), 1);

    let second = run(&dir, &["--label", "dev-1"]);
    assert_eq!(settings(&second), made);
    assert!(String::from_utf8_lossy(&second.stdout).contains("found, its PIN works"));
    assert_eq!(tokens(), 1);
    assert_eq!(fs::read(pin_file).unwrap(), user);
}

#[test]
fn a_token_that_a_killed_softhsm_emptied_is_put_back() {
    let temp = tempfile::tempdir().unwrap();
    settings(&run(temp.path(), &[]));
    let token = fs::read_dir(temp.path().join("tokens")).unwrap().next().unwrap().unwrap().path();
    let description = token.join("token.object");
    let whole = fs::read(&description).unwrap();
    fs::write(&description, b"").unwrap();
    let again = run(temp.path(), &[]);
    settings(&again);
    assert!(String::from_utf8_lossy(&again.stdout).contains("found, its PIN works"));
    assert!(String::from_utf8_lossy(&again.stderr).contains("put back from the copy"));
    // The first eight bytes count how often SoftHSM wrote it.
    assert_eq!(fs::read(&description).unwrap()[8..], whole[8..]);

    // Without the copy nothing is made up: a new token of that name would hide the old one's keys.
    fs::write(&description, b"").unwrap();
    fs::remove_file(token.join("token.kept")).unwrap();
    let text = refusal(&run(temp.path(), &[]));
    assert!(text.contains("is empty") && text.contains("backup"), "{text}");
    assert_eq!(fs::read_dir(temp.path().join("tokens")).unwrap().count(), 1);
}

#[test]
fn no_pin_is_printed_or_passed_to_a_process() {
    let temp = tempfile::tempdir().unwrap();
    let output = run(temp.path(), &[]);
    settings(&output);
    for file in ["user.pin", "so/so.pin"] {
        let pin = fs::read_to_string(temp.path().join(file)).unwrap();
        let said = [output.stdout.clone(), output.stderr.clone()].concat();
        assert!(!String::from_utf8(said).unwrap().contains(&pin));
    }
}

#[test]
fn a_missing_module_names_the_package() {
    let temp = tempfile::tempdir().unwrap();
    let text = refusal(&run(temp.path(), &["--module", "/nowhere/libsofthsm2.so"]));
    assert!(
        text.contains("/nowhere/libsofthsm2.so") && text.contains("apt-get install libsofthsm2"),
        "{text}"
    );
    assert!(!temp.path().join("user.pin").exists());
}

#[test]
fn a_file_that_is_no_module_is_refused() {
    let temp = tempfile::tempdir().unwrap();
    let file = temp.path().join("not-a-module.so");
    fs::write(&file, "nothing").unwrap();
    let text = refusal(&run(&temp.path().join("d"), &["--module", file.to_str().unwrap()]));
    assert!(text.contains("not a PKCS#11 module"), "{text}");
}

#[test]
fn a_wrong_pin_is_tried_once_and_changes_nothing() {
    let temp = tempfile::tempdir().unwrap();
    settings(&run(temp.path(), &[]));
    let pin_file = temp.path().join("user.pin");
    let right = fs::read(&pin_file).unwrap();
    fs::write(&pin_file, "not the PIN").unwrap();
    let text = refusal(&run(temp.path(), &[]));
    assert!(text.contains("is not the PIN of") && text.contains("tried once"), "{text}");
    assert_eq!(fs::read(&pin_file).unwrap(), b"not the PIN");
    fs::write(&pin_file, right).unwrap();
    settings(&run(temp.path(), &[]));
}

#[test]
fn a_pin_file_others_can_read_is_refused() {
    let temp = tempfile::tempdir().unwrap();
    settings(&run(temp.path(), &[]));
    let pin_file = temp.path().join("user.pin");
    fs::set_permissions(&pin_file, fs::Permissions::from_mode(0o644)).unwrap();
    let text = refusal(&run(temp.path(), &[]));
    assert!(text.contains("can be read by others") && text.contains("chmod 600"), "{text}");
}

#[test]
fn a_lost_pin_file_is_said_so_and_not_made_anew() {
    let temp = tempfile::tempdir().unwrap();
    settings(&run(temp.path(), &[]));
    fs::remove_file(temp.path().join("user.pin")).unwrap();
    let text = refusal(&run(temp.path(), &[]));
    assert!(text.contains("PIN file") && text.contains("put it back"), "{text}");
    assert!(!temp.path().join("user.pin").exists());
}

#[test]
fn two_tokens_of_one_label_are_refused() {
    let temp = tempfile::tempdir().unwrap();
    settings(&run(temp.path(), &["--label", "twin"]));
    let args =
        ["--init-token", "--free", "--label", "twin", "--pin", "12345678", "--so-pin", "12345678"];
    assert!(softhsm_util(temp.path(), &args).status.success());
    let text = refusal(&run(temp.path(), &["--label", "twin"]));
    assert!(text.contains("2 tokens are called \"twin\""), "{text}");
    settings(&run(temp.path(), &["--label", "another"]));
}

#[test]
fn a_token_without_its_user_pin_is_completed() {
    let temp = tempfile::tempdir().unwrap();
    settings(&run(temp.path(), &["--label", "whole"]));
    // As after a crash between making a token and setting its PIN. The module reads its environment when it is
    // loaded, so another process of this test does it.
    let made = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "half_a_token"])
        .env("SOFTHSM2_CONF", temp.path().join("softhsm2.conf"))
        .env("HALF_A_TOKEN", fs::read_to_string(temp.path().join("so/so.pin")).unwrap())
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stdout));
    let output = run(temp.path(), &["--label", "half"]);
    settings(&output);
    assert!(String::from_utf8_lossy(&output.stdout).contains("completed"));
    settings(&run(temp.path(), &["--label", "half"]));
}

/// Does nothing but for the test above.
#[test]
fn half_a_token() {
    use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
    let Ok(so_pin) = std::env::var("HALF_A_TOKEN") else { return };
    let pkcs11 = Pkcs11::new("/usr/lib/softhsm/libsofthsm2.so").unwrap();
    pkcs11.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)).unwrap();
    let slots = pkcs11.get_slots_with_token().unwrap();
    let free =
        slots.into_iter().find(|slot| !pkcs11.get_token_info(*slot).unwrap().token_initialized());
    pkcs11.init_token(free.unwrap(), &so_pin.into(), "half").unwrap();
}

#[test]
fn anothers_configuration_is_left_alone() {
    let temp = tempfile::tempdir().unwrap();
    fs::write(temp.path().join("softhsm2.conf"), "directories.tokendir = /elsewhere\n").unwrap();
    let text = refusal(&run(temp.path(), &[]));
    assert!(text.contains("is not what softhsm-setup writes"), "{text}");
}

#[test]
fn labels_are_checked() {
    let temp = tempfile::tempdir().unwrap();
    for label in ["", "has space", "x".repeat(33).as_str(), "quote\""] {
        assert!(refusal(&run(temp.path(), &["--label", label])).contains("--label"));
    }
}

#[test]
fn many_at_once_make_one_token() {
    let temp = tempfile::tempdir().unwrap();
    let outputs: Vec<Output> = std::thread::scope(|scope| {
        let runs: Vec<_> = (0..6).map(|_| scope.spawn(|| run(temp.path(), &[]))).collect();
        runs.into_iter().map(|run| run.join().unwrap()).collect()
    });
    for output in &outputs {
        settings(output);
    }
    assert_eq!(fs::read_dir(temp.path().join("tokens")).unwrap().count(), 1);
}
