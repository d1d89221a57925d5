//! `signer conformance` on SoftHSM, as a person runs it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use signer::init::init;
use signer::token::{Token, TokenConfig};
use tempfile::TempDir;

use crate::token;

fn run(folder: &Path, more: &[&str]) -> Output {
    command(&token::empty(folder), more).output().unwrap()
}

fn command(config: &TokenConfig, more: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_signer"));
    command
        .args(["conformance", "--token-label", config.label.as_deref().unwrap(), "--module"])
        .arg(config.module.as_ref().unwrap())
        .arg("--pin-file")
        .arg(config.pin_file.as_ref().unwrap())
        .arg("--worker")
        .arg(config.worker.as_ref().unwrap())
        .args(more)
        .envs(&config.env);
    command
}

/// The same on a module that fails by these rules: what was said, and the calls that were made.
fn run_faulty(rules: &str) -> (String, Vec<String>) {
    let folder = TempDir::new().unwrap();
    let faulty = Faulty::new(token::empty(folder.path()), folder.path());
    faulty.run(rules)
}

/// A token behind the module that fails when told to.
struct Faulty {
    config: TokenConfig,
    folder: PathBuf,
}

impl Faulty {
    fn new(mut config: TokenConfig, beside: &Path) -> Self {
        let folder = beside.join("faulty");
        fs::create_dir(&folder).unwrap();
        let real = config.module.replace(token::PROGRAMS.join("libfaulty_hsm.so")).unwrap();
        config.env.insert("FAULTY_MODULE".into(), real.to_str().unwrap().into());
        config.env.insert("FAULTY_DIR".into(), folder.to_str().unwrap().into());
        Self { config, folder }
    }

    fn run(&self, rules: &str) -> (String, Vec<String>) {
        self.run_with(rules, &[])
    }

    fn run_with(&self, rules: &str, more: &[&str]) -> (String, Vec<String>) {
        fs::write(self.folder.join("rules"), rules).unwrap();
        let calls = self.folder.join("calls");
        let _ = fs::remove_file(&calls);
        let more = [&["--sandbox", "off"], more].concat();
        let output = command(&self.config, &more).output().unwrap();
        let calls = fs::read_to_string(&calls).unwrap_or_default();
        let said = [output.stdout, output.stderr].concat();
        (String::from_utf8(said).unwrap(), calls.lines().map(str::to_owned).collect())
    }
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

/// Where PKCS#11 has it since 3.0: SoftHSM's own mechanism at that number, and none at its own.
#[test]
fn a_token_with_the_standards_number_of_aes_key_wrap_with_padding_carries_aes_kwp() {
    let folder = TempDir::new().unwrap();
    let faulty = Faulty::new(token::empty(folder.path()), folder.path());
    let rules = "swap 0x210a 0x210b\n";
    let (said, _) = faulty.run_with(rules, &["--kwp-mechanism", "0x210b"]);
    assert!(said.contains("\naes-kwp         can be"), "{said}");
    let met = "\nmet       AES key wrap with padding, 0x210b, for unwrapping";
    assert!(said.contains(met), "{said}");
    assert!(said.contains("by aes-kwp is unwrapped, signs 32 bytes and is destroyed: verified"));
    let (said, _) = faulty.run_with(rules, &[]);
    assert!(said.contains("\naes-kwp         REFUSED"), "{said}");
}

/// Where modules have EdDSA that had it before PKCS#11 did.
const VENDORS: &str = "swap 0x1057 0x80000c03\nswap 0x1055 0x80000c01\n";

#[test]
fn a_token_with_eddsa_at_a_vendors_numbers_carries_every_tier() {
    let folder = TempDir::new().unwrap();
    let faulty = Faulty::new(token::empty(folder.path()), folder.path());
    let vendors =
        ["--eddsa-mechanism", "0x80000c03", "--eddsa-key-pair-gen-mechanism", "0x80000c01"];
    let (said, _) = faulty.run_with(VENDORS, &vendors);
    for tier in ["token    ", "token-hd ", "sealed-hd"] {
        assert!(said.contains(&format!("\n{tier} can be carried\n")), "{said}");
    }
    assert!(said.contains("\nmet       CKM_EDDSA, 0x80000c03, for signing"), "{said}");
    assert!(said.contains("\nmet       it signs statements (CKM_EDDSA): verified"), "{said}");
    let (said, _) = faulty.run_with(VENDORS, &[]);
    assert!(said.contains("\ntoken     REFUSED"), "{said}");
}

#[tokio::test]
async fn a_signer_makes_finds_and_uses_keys_by_the_numbers_of_its_settings() {
    let folder = TempDir::new().unwrap();
    let mut config = Faulty::new(token::empty(folder.path()), folder.path()).config;
    fs::write(Path::new(&config.env["FAULTY_DIR"]).join("rules"), VENDORS).unwrap();
    let refused = init(&config, folder.path(), None, &mut Vec::new()).await.unwrap_err();
    assert!(refused.to_string().contains("MechanismInvalid"), "{refused}");
    config.mechanisms.eddsa = Some(0x8000_0c03);
    config.mechanisms.eddsa_key_pair_gen = Some(0x8000_0c01);
    let keys = init(&config, folder.path(), None, &mut Vec::new()).await.unwrap();
    // A start looks at every attribute and has each key sign fresh bytes.
    let token = token::start(&config, folder.path()).await;
    assert_eq!(token.keys().checkpoint, keys.checkpoint);
    drop(token);
    // Numbers that are another mechanism's are refused before anything is asked for.
    config.mechanisms.eddsa = Some(0x1041);
    let error = Token::start(config.clone(), folder.path()).await.err().unwrap();
    assert!(error.to_string().contains("`eddsa` under [token.mechanisms]"), "{error}");
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

const WRAP: &str = "attack: wrap a child for taking out: ";

/// A token that makes no AES key is given one; one that takes none neither was not tried.
#[test]
fn an_attack_that_was_not_tried_is_not_met() {
    let made_none = "C_GenerateKey always CKR_FUNCTION_NOT_SUPPORTED\n";
    let (said, calls) = run_faulty(made_none);
    assert!(said.contains(&format!("\nmet       {WRAP}refused\n")), "{said}");
    assert!(said.contains("\ntoken-hd  can be carried\n"), "{said}");
    let last = calls.iter().rposition(|call| call == "C_GenerateKey").unwrap();
    let count = |calls: &[String], name: &str| calls.iter().filter(|call| *call == name).count();
    assert_eq!(count(&calls[last..], "C_CreateObject"), 2, "an AES key and an RSA key");
    assert_eq!(count(&calls[last..], "C_WrapKey"), 6, "each by each of its mechanisms");

    let nth = count(&calls[..last], "C_CreateObject") + 1;
    let rules =
        format!("{made_none}C_CreateObject #{nth} CKR_FUNCTION_NOT_SUPPORTED until=C_Finalize\n");
    let (said, _) = run_faulty(&rules);
    assert!(said.contains(&format!("\nUNMET     {WRAP}not tried")), "{said}");
    assert!(said.contains("\ntoken-hd  REFUSED: attacks"), "{said}");
}

/// A token that takes a child without any of its template, and fails just when that is tried, refused nothing.
#[test]
fn an_error_of_the_token_is_no_refusal() {
    let (said, _) = run_faulty("C_WrapKey always CKR_DEVICE_ERROR\n");
    assert!(said.contains(&format!("\nuntried   {WRAP}not tried")), "{said}");
    assert!(said.contains("\ntoken-hd  REFUSED: attacks"), "{said}");
    // Once is tried again, and then it is the token's word that counts.
    for code in ["CKR_DEVICE_ERROR", "CKR_HOST_MEMORY", "CKR_GENERAL_ERROR"] {
        let (said, _) = run_faulty(&format!("C_WrapKey once {code}\nC_CopyObject once {code}\n"));
        assert!(said.contains("\ntoken-hd  can be carried\n"), "{said}");
    }
}

/// Tries that the token counts are left to people: none where it has counted one, and none twice.
#[test]
fn a_wrong_pin_is_sent_once() {
    let folder = TempDir::new().unwrap();
    let faulty = Faulty::new(token::empty(folder.path()), folder.path());
    let logins = |calls: &[String]| calls.iter().filter(|call| *call == "C_Login").count();
    let (said, calls) = faulty.run("C_GetTokenInfo always flags=count-low\n");
    assert!(said.contains("has seen a wrong PIN"), "{said}");
    assert_eq!(logins(&calls), 0);

    let pin_file = faulty.config.pin_file.as_ref().unwrap();
    let right = fs::read_to_string(pin_file).unwrap();
    fs::write(pin_file, "wrong-wrong").unwrap();
    let (said, calls) = faulty.run("");
    assert!(said.contains("the PIN is wrong"), "{said}");
    assert_eq!(logins(&calls), 1);
    let (said, calls) = faulty.run("");
    assert!(said.contains("it is not sent again"), "{said}");
    assert_eq!(logins(&calls), 0);
    // Another PIN is another matter, but for the token's own count, which is a person's to set back.
    fs::write(pin_file, right).unwrap();
    let (said, _) = faulty.run("");
    assert!(!said.contains("it is not sent again"), "{said}");
}

/// Its keys are seen before a PIN is sent.
#[tokio::test]
async fn no_pin_is_sent_to_a_signers_token() {
    let folder = TempDir::new().unwrap();
    let (config, _) = token::make(folder.path()).await;
    let (said, calls) = Faulty::new(config, folder.path()).run("");
    assert!(said.contains("this token holds a signer's key"), "{said}");
    assert!(!calls.contains(&"C_Login".to_owned()), "{said}");
}
