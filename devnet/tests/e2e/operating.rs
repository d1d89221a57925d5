//! What operators run by hand: the doctor, and a change of the PIN that is cut off at its worst moments.

use std::fs;
use std::io::{Read as _, Write as _};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

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
    for wanted in [
        "signs if asked; turned ",
        "entries, 0 of them not under a checkpoint yet",
        "goes with the log's last entry",
        "the running signer checks them every few minutes, and finds them right",
    ] {
        assert!(said.contains(wanted), "{wanted}: {said}");
    }
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
        "sealed-hd: yes; nothing got the sealing canary out",
        "\"area\":\"module\",\"text\":\"Implementation of PKCS11",
        "by SoftHSM, PKCS#11 2.40",
        ", firmware ",
        "for the signer's own keys the token has CKM_EDDSA, CKM_EC_EDWARDS_KEY_PAIR_GEN",
        "rsa-oaep-sha1: yes; tried with every key",
        "\"area\":\"clock\",\"text\":\"goes with the log's last entry\"",
        "set from the network",
        "no login was refused",
        "the log began under",
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
    assert!(log.matches("PIN changed").count() >= 3, "{log}");
    for said in ["--last-try", "--again"] {
        assert!(log.contains(&format!("PIN latch, by signer set-pin --finish {said}")), "{log}");
    }
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

/// A configuration of the stack's signer whose token fails as the rules in a folder say.
struct Failing<'a> {
    stack: &'a Stack,
    config: PathBuf,
    folder: PathBuf,
}

impl<'a> Failing<'a> {
    fn new(stack: &'a Stack) -> Self {
        let (config, folder) = (stack.dir().join("failing.toml"), stack.dir().join("failing"));
        fs::create_dir(&folder).unwrap();
        let module = Programs::find().unwrap().faulty_module().unwrap();
        let (mut text, mut real) = (String::new(), String::new());
        for line in fs::read_to_string(stack.signer.config()).unwrap().lines() {
            if let Some(softhsm) = line.strip_prefix("module = ") {
                softhsm.clone_into(&mut real);
                text += &format!("module = {module:?}\n");
            } else if let Some(env) = line.strip_prefix("env = {") {
                text +=
                    &format!("env = {{ FAULTY_MODULE = {real}, FAULTY_DIR = {folder:?}, {env}\n");
            } else {
                text += &format!("{line}\n");
            }
        }
        fs::write(&config, text).unwrap();
        Self { stack, config, folder }
    }

    fn rule(&self, text: &str) {
        let aside = self.folder.join("rules-next");
        fs::write(&aside, text).unwrap();
        fs::rename(aside, self.folder.join("rules")).unwrap();
    }

    fn noted(&self, file: &str, line: &str) -> usize {
        let noted = fs::read_to_string(self.folder.join(file)).unwrap_or_default();
        noted.lines().filter(|noted| *noted == line).count()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Programs::find().unwrap().command("signer");
        command.arg("--config").arg(&self.config).args(arguments);
        command
    }

    fn run(&self, arguments: &[&str]) -> (i32, String) {
        let Output { status, stdout, stderr } = self.command(arguments).output().unwrap();
        let said = [stdout, stderr].map(|bytes| String::from_utf8(bytes).unwrap()).concat();
        (status.code().unwrap(), said)
    }

    /// Begins a command, lets it come to where the module writes that a rule was followed, and goes on once it did.
    fn begin(&self, arguments: &[&str], call: &str, rule: &str) -> Child {
        let fault = format!("{call} {rule}");
        let before = self.noted("faults", &fault);
        self.rule(&format!("{call} always {rule}\n"));
        let said = self.folder.join("said");
        let mut command = self.command(arguments);
        command.stdout(Stdio::null()).stderr(fs::File::create(&said).unwrap());
        let mut child = command.spawn().unwrap();
        self.until(&format!("{fault}: {said:?}"), || {
            assert!(child.try_wait().unwrap().is_none(), "{}", fs::read_to_string(&said).unwrap());
            self.noted("faults", &fault) > before
        });
        child
    }

    /// The power fails: first the signer goes, and then its workers, or those go on and end by themselves.
    fn cut(&self, mut signer: Child, workers_too: bool) {
        signer.kill().unwrap();
        signer.wait().unwrap();
        if workers_too {
            for pid in self.workers() {
                let _ = Command::new("kill").args(["-KILL", &pid.to_string()]).status();
            }
        }
        self.until("the workers to be gone", || self.workers().is_empty());
        self.rule("");
    }

    /// Starters and workers of this stack.
    fn workers(&self) -> Vec<i32> {
        let whose = self.stack.dir().to_str().unwrap();
        let all = fs::read_dir("/proc").unwrap().flatten();
        let ids = all.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
        let ours = |pid: &i32| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).into_owned();
            let program = line.split('\0').next().unwrap_or_default();
            program.ends_with("/token-worker") && line.contains(whose)
        };
        ids.filter(ours).collect()
    }

    fn until(&self, what: &str, mut done: impl FnMut() -> bool) {
        let begun = Instant::now();
        while !done() {
            assert!(begun.elapsed() < Duration::from_secs(120), "waited for {what}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// The signer and its workers are killed while the token changes its PIN, and after it did; then the change is finished,
/// in spite of a token that says nothing of the new PIN at first.
#[expect(clippy::too_many_lines, reason = "one change of the PIN, cut off at each of its steps")]
fn cut_off(stack: &Stack) {
    let failing = Failing::new(stack);
    let (file, new) = (pin_file(stack), stack.dir().join("token/user.pin.new"));
    let refused = stack.dir().join("token/user.pin.refused");
    let latch = stack.dir().join("signer/state/pin-refused");
    let given = stack.dir().join("given");
    // Of a token that opens no sealed account the doctor says that, and nothing else, of the tiers.
    failing.rule("C_DecryptInit always CKR_MECHANISM_INVALID");
    let (code, said) = failing.run(&["doctor"]);
    assert!(code == 2 && said.contains("sealed-hd: no, see keys"), "{code}: {said}");
    assert!(said.contains("token-hd: yes; nothing got the canary out"), "{said}");
    let rest = "serves wallets of the tiers token and token-hd, and refuses those of sealed-hd";
    assert!(said.contains(rest), "{said}");
    let (set, finish) =
        (["set-pin", "--new-pin-file", given.to_str().unwrap()], ["set-pin", "--finish"]);
    let begin = |pin: &str, millis: u32| {
        write_pin(&given, pin);
        failing.begin(&set, "C_SetPIN", &format!("delay={millis}"))
    };
    let left = |old: &str, next: &str| {
        assert_eq!(fs::read_to_string(&file).unwrap(), old);
        assert_eq!(fs::read_to_string(&new).unwrap(), next);
        assert!(fs::read_to_string(&latch).unwrap().contains("set-pin --finish"));
    };
    let whole = |pin: &str| {
        assert_eq!(fs::read_to_string(&file).unwrap(), pin);
        assert!(!new.exists() && !latch.exists());
    };

    // Before the token did anything.
    failing.cut(begin("never set", 120_000), true);
    left(NEW_PIN, "never set");
    let (code, said) = signer(stack, &["pin", "clear"]);
    assert!(code == 1 && said.contains("user.pin.new is there"), "{code}: {said}");
    left(NEW_PIN, "never set");
    let (code, said) = signer(stack, &["doctor"]);
    assert!(code == 2 && said.contains("set-pin --finish"), "{code}: {said}");
    let (code, said) = signer(stack, &set);
    assert!(code != 0 && said.contains("--finish"), "{said}");
    let (code, said) = failing.run(&finish);
    assert!(code == 0 && said.contains("had not happened"), "{code}: {said}");
    whole(NEW_PIN);
    assert_eq!(fs::read_to_string(&refused).unwrap(), "never set");

    // The signer is gone, and the token goes on: nobody judges what it has before its worker is gone too.
    write_pin(&given, "the third");
    let mut child = failing.begin(&set, "C_SetPIN", "stop");
    child.kill().unwrap();
    child.wait().unwrap();
    let logins = failing.noted("calls", "C_Login");
    let (code, said) = failing.run(&finish);
    assert!(code == 1 && said.contains("still at work"), "{code}: {said}");
    assert_eq!(failing.noted("calls", "C_Login"), logins);
    left(NEW_PIN, "the third");
    failing.rule("");
    for pid in failing.workers() {
        let _ = Command::new("kill").args(["-CONT", &pid.to_string()]).status();
    }
    failing.until("the workers to be gone", || failing.workers().is_empty());
    left(NEW_PIN, "the third");
    // Another token of that name is shown no PIN.
    let text = fs::read_to_string(&latch).unwrap();
    write_pin(&latch, &text.replace("of token ", "of token 0"));
    let (code, said) = failing.run(&finish);
    assert!(code == 1 && said.contains("no PIN was tried"), "{code}: {said}");
    assert_eq!(failing.noted("calls", "C_Login"), logins);
    left(NEW_PIN, "the third");
    write_pin(&latch, &text);
    another_token(&failing, &text);
    assert_eq!(failing.noted("calls", "C_Login"), logins);
    left(NEW_PIN, "the third");
    // A token that says nothing of the new PIN lets nobody delete it.
    for (rule, tried) in [
        ("C_GetTokenInfo always flags=count-low", 0),
        ("C_GetTokenInfo always flags=count-low,final-try", 0),
        ("C_GetTokenInfo always flags=locked", 0),
        ("C_Login always CKR_PIN_LOCKED", 1),
        ("C_Login always CKR_PIN_EXPIRED", 2),
        ("C_Login always CKR_PIN_LEN_RANGE", 3),
        ("C_Login always CKR_USER_ALREADY_LOGGED_IN", 4),
        // That was no answer, so nothing is tried again unless somebody says so.
        ("C_Login always CKR_DEVICE_ERROR", 4),
    ] {
        failing.rule(rule);
        let (code, said) = failing.run(&finish);
        assert!(code == 1 && said.contains("user.pin.new"), "{rule}: {code}: {said}");
        assert!(said.contains("not known"), "{rule}: {said}");
        assert_eq!(failing.noted("calls", "C_Login") - logins, tried, "{rule}");
        left(NEW_PIN, "the third");
    }
    // Killed while it tries, also where the latch was taken away before: no start tries the other one.
    fs::remove_file(&latch).unwrap();
    let again = ["set-pin", "--finish", "--again"];
    failing.cut(failing.begin(&again, "C_Login", "delay=120000"), true);
    left(NEW_PIN, "the third");
    let logins = failing.noted("calls", "C_Login");
    let (code, said) = failing.run(&finish);
    assert!(code == 1 && said.contains("--again"), "{code}: {said}");
    assert_eq!(failing.noted("calls", "C_Login"), logins);
    left(NEW_PIN, "the third");
    // The right PIN takes the flags away.
    failing.rule("C_GetTokenInfo once flags=count-low,final-try until=C_Login");
    let (code, said) = failing.run(&["set-pin", "--finish", "--last-try"]);
    assert!(code == 0 && said.contains("the token has the new PIN"), "{code}: {said}");
    whole("the third");
    assert!(!refused.exists(), "a PIN that was put aside is kept for no longer than this");

    // The token did it, and the log was about to say so.
    let child = begin(NEW_PIN, 8_000);
    failing.rule("C_Sign always delay=120000\n");
    let signing = || failing.noted("faults", "C_Sign delay=120000") > 0;
    failing.until("the log's checkpoint", signing);
    failing.cut(child, true);
    left("the third", NEW_PIN);
    let (code, said) = failing.run(&finish);
    assert!(code == 0 && said.contains("the token has the new PIN"), "{code}: {said}");
    whole(NEW_PIN);
    let (code, said) = signer(stack, &["doctor"]);
    assert_eq!(code, 1, "{said}");
    ended_but_for_the_latch(stack, &text, &latch);
}

/// The change was begun on one token, and another one of the same name is in its place when it is to be finished: that is
/// shown no PIN, whatever the person says, and however far the change came.
fn another_token(failing: &Failing<'_>, under_way: &str) {
    let (stack, other) = (failing.stack, failing.stack.dir().join("other-token"));
    let latch = stack.dir().join("signer/state/pin-refused");
    let make = || {
        let programs = Programs::find().unwrap();
        programs.run("softhsm-setup", &["--dir", other.to_str().unwrap()]).unwrap()
    };
    let settings = make();
    let conf = |text: &str| {
        let found = text.split("SOFTHSM2_CONF = \"").nth(1).unwrap();
        found.split('"').next().unwrap().to_owned()
    };
    let text = fs::read_to_string(&failing.config).unwrap();
    let config = stack.dir().join("other.toml");
    fs::write(&config, text.replace(&conf(&text), &conf(&settings))).unwrap();
    let begun_on = under_way.split("of token ").nth(1).unwrap().split(' ').next().unwrap();
    let taken = format!(
        "a new PIN of token {begun_on} was taken, and the PIN file may not have it yet: run `signer set-pin --finish`"
    );
    for held in [under_way, &taken] {
        for more in [&[][..], &["--again"], &["--last-try"]] {
            write_pin(&latch, held);
            let swapped = Failing { config: config.clone(), folder: failing.folder.clone(), stack };
            let (code, said) = swapped.run(&[&["set-pin", "--finish"], more].concat());
            let which = format!("begun on token {begun_on}, and the token of this name is ");
            assert!(code == 1 && said.contains(&which), "{held}: {code}: {said}");
            assert!(said.contains("no PIN was tried and no file touched"), "{said}");
            assert!(!said.contains(&format!("{which}{begun_on}")), "{said}");
            assert_eq!(fs::read_to_string(&latch).unwrap(), *held);
        }
    }
    write_pin(&latch, under_way);
    // It still takes its own.
    assert!(make().contains("found, its PIN works"));
}

/// A crash came after the files were as they should be, and before the latch was.
fn ended_but_for_the_latch(stack: &Stack, under_way: &str, latch: &std::path::Path) {
    let token = under_way.split("of token ").nth(1).unwrap().split(' ').next().unwrap();
    let finish = ["set-pin", "--finish"];
    write_pin(latch, under_way);
    let (code, said) = signer(stack, &finish);
    assert!(code == 1 && said.contains("signer pin clear") && latch.exists(), "{code}: {said}");
    for (how, wanted) in [
        ("was not taken, and is to be put aside", "had not happened"),
        ("was taken, and the PIN file may not have it yet", "has the PIN of the file"),
    ] {
        write_pin(
            latch,
            &format!("a new PIN of token {token} {how}: run `signer set-pin --finish`"),
        );
        let (code, said) = signer(stack, &finish);
        assert!(code == 0 && said.contains(wanted) && !latch.exists(), "{how}: {code}: {said}");
    }
    assert_eq!(fs::read_to_string(pin_file(stack)).unwrap(), NEW_PIN);
}
