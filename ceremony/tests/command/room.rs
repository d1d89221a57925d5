//! A folder to hold a ceremony in, and two tokens that it can be for.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

use base64::Engine as _;
use bundle::{Bundle, Header};
use ceremony::wrapping::WrappingKey;
use rsa::RsaPrivateKey;
use rsa::pkcs8::EncodePublicKey as _;

pub(crate) const PLACE: &str = "--network regtest --wallet-account 3";

/// Two tokens; an RSA key takes its time, so they are made once.
pub(crate) fn tokens() -> &'static [RsaPrivateKey; 2] {
    static TOKENS: OnceLock<[RsaPrivateKey; 2]> = OnceLock::new();
    TOKENS
        .get_or_init(|| [(); 2].map(|()| RsaPrivateKey::new(&mut rand::rngs::OsRng, 3072).unwrap()))
}

/// A folder with both tokens' public keys.
pub(crate) struct Room(tempfile::TempDir);

impl Room {
    pub(crate) fn new() -> Self {
        let room = Self(tempfile::tempdir().unwrap());
        for (nth, token) in tokens().iter().enumerate() {
            let der = token.to_public_key().to_public_key_der().unwrap();
            let text = base64::engine::general_purpose::STANDARD.encode(der.as_bytes());
            let pem = format!("-----BEGIN PUBLIC KEY-----\n{text}\n-----END PUBLIC KEY-----\n");
            fs::write(room.path(&format!("token{nth}.pem")), pem).unwrap();
        }
        room
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Fingerprint of a token's key.
    pub(crate) fn fingerprint(&self, token: usize) -> [u8; 32] {
        let pem = self.words(&format!("token{token}.pem"));
        WrappingKey::from_pem(&pem).unwrap().fingerprint()
    }

    /// Runs `ceremony` in the folder. `@0` stands for the key and fingerprint of token 0.
    pub(crate) fn run(&self, line: &str, typed: &str) -> Output {
        let mut words: Vec<String> = Vec::new();
        for word in line.split_whitespace() {
            match word.strip_prefix('@') {
                Some(nth) => {
                    let fingerprint = hex::encode(self.fingerprint(nth.parse().unwrap()));
                    words.extend(["--wrapping-key".to_owned(), format!("token{nth}.pem")]);
                    words.extend(["--fingerprint".to_owned(), fingerprint]);
                }
                None => words.push(word.to_owned()),
            }
        }
        let input = self.path("typed");
        fs::write(&input, typed).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_ceremony"));
        command.args(words).current_dir(self.0.path());
        command.stdin(Stdio::from(File::open(input).unwrap())).output().unwrap()
    }

    /// Runs it, sees it succeed, and gives what it wrote.
    pub(crate) fn ok(&self, line: &str) -> String {
        let output = self.run(line, "");
        assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs it, sees it fail and leave everything as it was, and gives why.
    pub(crate) fn refused(&self, line: &str) -> String {
        let before = self.contents();
        let output = self.run(line, "");
        assert!(!output.status.success(), "{line}");
        assert!(self.contents() == before, "{line}");
        String::from_utf8(output.stderr).unwrap()
    }

    pub(crate) fn header(&self, name: &str) -> Header {
        Bundle::open(&mut File::open(self.path(name)).unwrap()).unwrap().header().clone()
    }

    pub(crate) fn words(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    /// Every file there with its bytes and mode, but for what was typed.
    pub(crate) fn contents(&self) -> BTreeMap<PathBuf, (Vec<u8>, u32)> {
        let files = fs::read_dir(self.0.path()).unwrap().map(|file| file.unwrap().path());
        let files = files.filter(|path| !path.ends_with("typed"));
        let read = |path: PathBuf| {
            let found = fs::symlink_metadata(&path).unwrap();
            let mode = found.permissions().mode();
            // What a link leads to may not be there.
            let bytes = if found.is_symlink() { Vec::new() } else { fs::read(&path).unwrap() };
            (path, (bytes, mode))
        };
        files.map(read).collect()
    }
}
