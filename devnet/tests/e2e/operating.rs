//! What operators run by hand: the doctor, and a change of the PIN that is cut off at its worst moments.

use std::fs;
use std::io::{Read as _, Write as _};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use devnet::Stack;
use devnet::programs::Programs;
use devnet::stack::{Children, Options};

const NEW_PIN: &str = "another PIN 2468";

/// The signer's own program on a stack's configuration.
pub(crate) fn signer(stack: &Stack, arguments: &[&str]) -> (i32, String) {
    let mut command = Programs::find().unwrap().command("signer");
    command.arg("--config").arg(stack.signer.config()).args(arguments);
    let Output { status, stdout, stderr } = command.output().unwrap();
    let said = [stdout, stderr].map(|bytes| String::from_utf8(bytes).unwrap()).concat();
    (status.code().unwrap(), said)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_doctor_sees_what_is_wrong_and_a_change_of_the_pin_survives_being_cut_off() {
    let options = Options { children: Children { external: 2, change: 1 }, ..Options::default() };
    let mut stack = Stack::start_without_watcher(options).await.unwrap();
    let (code, said) = signer(&stack, &["doctor"]);
    assert!(code == 1 && said.contains("a signer is running"), "{code}: {said}");
    let (code, said) = signer(&stack, &["set-pin", "--new-pin-file", "/nowhere"]);
    assert!(code != 0, "{said}");
    stack.signer.stop().unwrap();

    let (code, said) = signer(&stack, &["doctor", "--json"]);
    assert_eq!(code, 1, "{said}");
    for wanted in [
        "each attribute as it must be",
        "verified up to checkpoint",
        "token-hd: yes; nothing got the canary out",
        "landlock and seccomp are on",
        "SoftHSM protects nothing",
        "no login was refused",
        "witnesses",
    ] {
        assert!(said.contains(wanted), "{wanted}: {said}");
    }
    change_the_pin(&stack);
    cut_off(&stack);
    typed(&stack);

    stack.start_signer().await.unwrap();
    stack.signer.stop().unwrap();
    let log = dump(&stack);
    assert!(log.contains("PIN changed"), "{log}");
    let root = confine::process::is_root();
    assert_eq!(log.contains("root, by allow_root = true"), root, "{log}");
    assert!(!log.contains(NEW_PIN));
}

/// The whole log, verified, in words.
pub(crate) fn dump(stack: &Stack) -> String {
    let database = format!("sqlite:{}", stack.dir().join("signer/state/log.sqlite").display());
    let key = &stack.token().checkpoint;
    let arguments = ["audit", "verify", "--dump", "--database", &database, "--key", key];
    stack.run("officer", &arguments).unwrap()
}

/// The PIN comes from a terminal, where nobody sees it, and never lies in a file.
fn typed(stack: &Stack) {
    let text = fs::read_to_string(stack.signer.config()).unwrap();
    let lines = text.lines().map(|line| match line.starts_with("pin_file") {
        true => "pin = \"prompt\"",
        false => line,
    });
    let config = stack.dir().join("typed.toml");
    fs::write(&config, lines.collect::<Vec<_>>().join("\n")).unwrap();
    let program = Programs::find().unwrap().command("signer");
    let command =
        format!("{} --config {} wrapping-key", program.get_program().display(), config.display());
    let mut terminal = Command::new("timeout")
        .args(["120", "script", "--quiet", "--return", "--command", &command, "/dev/null"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut screen, mut byte) = (Vec::new(), [0]);
    while !String::from_utf8_lossy(&screen).contains("User PIN of token") {
        let read = terminal.stdout.as_mut().unwrap().read(&mut byte).unwrap();
        assert_eq!(read, 1, "{}", String::from_utf8_lossy(&screen));
        screen.push(byte[0]);
    }
    terminal.stdin.as_mut().unwrap().write_all(format!("{NEW_PIN}\n").as_bytes()).unwrap();
    terminal.stdout.as_mut().unwrap().read_to_end(&mut screen).unwrap();
    let screen = String::from_utf8(screen).unwrap();
    assert!(terminal.wait().unwrap().success() && screen.contains("fingerprint"), "{screen}");
    assert!(!screen.contains(NEW_PIN), "the PIN was shown");
}

fn pin_file(stack: &Stack) -> PathBuf {
    stack.dir().join("token/user.pin")
}

pub(crate) fn write_pin(path: &std::path::Path, pin: &str) {
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut file = fs::OpenOptions::new();
    let mut file = file.write(true).create(true).truncate(true).mode(0o600).open(path).unwrap();
    file.write_all(pin.as_bytes()).unwrap();
}

fn change_the_pin(stack: &Stack) {
    let (file, new) = (pin_file(stack), stack.dir().join("token/user.pin.new"));
    let given = stack.dir().join("given");
    // One that the token does not take changes nothing.
    write_pin(&given, "1");
    let (code, said) = signer(stack, &["set-pin", "--new-pin-file", given.to_str().unwrap()]);
    assert!(code != 0 && said.contains("does not take the new PIN"), "{said}");
    assert!(!new.exists());
    write_pin(&given, NEW_PIN);
    let (code, said) = signer(stack, &["set-pin", "--new-pin-file", given.to_str().unwrap()]);
    assert!(code == 0 && said.contains("the token has the new PIN"), "{said}");
    assert!(!said.contains(NEW_PIN));
    assert_eq!(fs::read_to_string(&file).unwrap(), NEW_PIN);
    assert!(!new.exists());
}

/// As a power cut would leave it: before and after the token changed its PIN.
fn cut_off(stack: &Stack) {
    let (file, new) = (pin_file(stack), stack.dir().join("token/user.pin.new"));
    let latch = stack.dir().join("signer/state/pin-refused");
    for (in_file, beside, happened) in
        [("the old one", NEW_PIN, true), (NEW_PIN, "never set", false)]
    {
        write_pin(&file, in_file);
        write_pin(&new, beside);
        fs::write(&latch, "a change of the PIN was not finished: run `signer set-pin --finish`")
            .unwrap();
        let (code, said) = signer(stack, &["doctor"]);
        assert!(code == 2 && said.contains("set-pin --finish"), "{code}: {said}");
        let given = stack.dir().join("given");
        let (code, said) = signer(stack, &["set-pin", "--new-pin-file", given.to_str().unwrap()]);
        assert!(code != 0 && said.contains("--finish"), "{said}");
        let (code, said) = signer(stack, &["set-pin", "--finish"]);
        assert_eq!(code, 0, "{said}");
        assert_eq!(said.contains("had not happened"), !happened, "{said}");
        assert_eq!(fs::read_to_string(&file).unwrap(), NEW_PIN);
        assert!(!new.exists() && !latch.exists());
    }
    let (code, said) = signer(stack, &["doctor"]);
    assert_eq!(code, 1, "{said}");
}
