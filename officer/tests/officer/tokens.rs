//! Officers' keys in a token: made there, asked to sign, and what comes of PINs. The real program, on a real SoftHSM.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use policy::people::OfficerKey;
use statement::Signed;

use crate::common::{self, Descriptors, Knobs};

/// A SoftHSM token of one's own.
struct Token {
    folder: tempfile::TempDir,
    module: String,
}

impl Token {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let setup = Path::new(env!("CARGO_BIN_EXE_officer")).with_file_name("softhsm-setup");
        let made = Command::new(setup)
            .args(["--label", "officers", "--dir"])
            .arg(folder.path().join("token"))
            .output()
            .unwrap();
        let said = String::from_utf8(made.stdout).unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let module = said.lines().find_map(|line| line.strip_prefix("module = \""));
        let module = module.unwrap().trim_end_matches('"').to_owned();
        Self { folder, module }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn uri(&self, object: &str, pin: &Path) -> String {
        let (module, pin) = (&self.module, pin.display());
        format!("pkcs11:token=officers;object={object}?module-path={module}&pin-source={pin}")
    }

    /// What it printed, or said was wrong. It has no terminal.
    fn officer(&self, args: &[&str]) -> Result<String, String> {
        let ran = Command::new("setsid")
            .arg("--wait")
            .arg(env!("CARGO_BIN_EXE_officer"))
            .args(args)
            .env("SOFTHSM2_CONF", self.path("token/softhsm2.conf"))
            .output()
            .unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        if ran.status.success() { Ok(text(ran.stdout)) } else { Err(text(ran.stderr)) }
    }
}

#[test]
fn a_key_is_made_in_a_token_and_signs_there() {
    let token = Token::new();
    let pin = token.path("token/user.pin");
    for (name, more) in [("alice", &[][..]), ("bob", &["--p256"])] {
        let uri = token.uri(name, &pin);
        let make = [&["keygen", "--token", &uri], more].concat();
        let made = token.officer(&make).unwrap();
        let public = made.split_whitespace().last().unwrap().to_owned();
        assert!(token.officer(&make).unwrap_err().contains("nothing is overwritten"));
        assert!(token.officer(&["key", &uri]).unwrap().contains(&public));

        let public = OfficerKey::parse(&public).unwrap();
        let (kind, hex) = (public.kind(), public.to_hex());
        let more =
            format!("[[officer]]\nname = \"{name}\"\ndomain = \"zurich\"\n{kind} = \"{hex}\"\n");
        let text = common::policy_text(&Descriptors::fixed(), &Knobs { more, ..Knobs::default() });
        let policy = token.path(&format!("{name}.toml"));
        fs::write(&policy, text).unwrap();
        let settings = token.path(&format!("{name}-officer.toml"));
        let lines = format!(
            "signer = \"https://localhost:1\"\nlog = \"cofferdam/9f3a\"\npolicy = \"{name}.toml\"\nkey = \"{uri}\"\n"
        );
        fs::write(&settings, lines).unwrap();
        let file = token.path(&format!("{name}.statement"));
        let (settings, file) = (settings.to_str().unwrap(), file.to_str().unwrap());
        let freeze = ["freeze", "everything", "--config", settings, "--yes", "--offline", file];
        token.officer(&freeze).unwrap();
        let signed = Signed::from_file(&fs::read(file).unwrap()).unwrap();
        assert_eq!(signed.verify(&public).unwrap().officer.as_str(), name);

        // Policies, too; orders and clients' machines never.
        let policy = policy.to_str().unwrap();
        let sign = ["policy", "sign", policy, "--key", &uri, "--yes"];
        assert!(token.officer(&sign).unwrap().contains(&format!("key {hex}")));
    }
    let uri = token.uri("alice", &pin);
    let order = ["order", "keygen", "--token", &uri];
    assert!(token.officer(&order).unwrap_err().contains("in files alone"));
    let missing = token.uri("nobody", &pin);
    assert!(token.officer(&["key", &missing]).unwrap_err().contains("no private key"));
}

#[test]
fn a_pin_is_sent_once_and_never_stands_on_a_command_line() {
    let token = Token::new();
    let (pin, wrong) = (token.path("token/user.pin"), token.path("wrong.pin"));
    let make = |pin: &Path| token.officer(&["keygen", "--token", &token.uri("alice", pin)]);
    fs::write(&wrong, "0000\n").unwrap();
    let said = make(&wrong).unwrap_err();
    assert!(said.contains("others can read"), "{said}");
    fs::set_permissions(&wrong, Permissions::from_mode(0o600)).unwrap();
    let said = make(&wrong).unwrap_err();
    assert!(said.contains("sent once and is not sent again") && said.contains("left"), "{said}");
    assert!(!said.contains("0000"), "{said}");
    // The right one is right all the same; and nobody is there to type one.
    make(&pin).unwrap();
    let uri = token.uri("alice", &pin);
    let typed = uri.split_once("&pin-source").unwrap().0;
    assert!(token.officer(&["key", typed]).unwrap_err().contains("nobody is here to type"));
    let said = token.officer(&["key", &format!("{typed}&pin-value=0000")]).unwrap_err();
    assert!(said.contains("others can read it") && !said.contains("0000"), "{said}");
    fs::write(&wrong, "\n").unwrap();
    let said = token.officer(&["key", &token.uri("alice", &wrong)]).unwrap_err();
    assert!(said.contains("nothing was sent"), "{said}");
    let elsewhere = uri.replacen("token=officers", "token=others", 1);
    assert!(token.officer(&["key", &elsewhere]).unwrap_err().contains("no token here"));
}
