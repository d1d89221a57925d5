//! The ceremony at a real terminal (a pseudo-terminal made by `script`): shares come one at a time and go again, and
//! passphrases are never seen.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::fs;
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use base64::Engine as _;
use ceremony::wrapping::WrappingKey;
use rsa::RsaPrivateKey;
use rsa::pkcs8::EncodePublicKey as _;

const CLEAR: &str = "\x1b[H\x1b[2J\x1b[3J";

/// A program on a terminal, and everything that was ever on its screen.
struct Terminal {
    child: Child,
    screen: Vec<u8>,
}

impl Terminal {
    fn start(folder: &Path, line: &str) -> Self {
        let command = format!("{} {line}", env!("CARGO_BIN_EXE_ceremony"));
        // A question that never comes ends the test, not the patience of whoever runs it.
        let child = Command::new("timeout")
            .args(["120", "script", "--quiet", "--return", "--command", &command, "/dev/null"])
            .current_dir(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        Self { child, screen: Vec::new() }
    }

    /// Waits until the program says `text`, then types a line.
    fn answer(&mut self, text: &str, line: &str) {
        let from = self.screen.len();
        let mut byte = [0];
        while !String::from_utf8_lossy(&self.screen[from..]).contains(text) {
            let read = self.child.stdout.as_mut().unwrap().read(&mut byte).unwrap();
            assert_eq!(read, 1, "never said {text}: {}", String::from_utf8_lossy(&self.screen));
            self.screen.push(byte[0]);
        }
        self.child.stdin.as_mut().unwrap().write_all(format!("{line}\n").as_bytes()).unwrap();
    }

    fn finish(mut self) -> (bool, String) {
        self.child.stdout.as_mut().unwrap().read_to_end(&mut self.screen).unwrap();
        let success = self.child.wait().unwrap().success();
        (success, String::from_utf8(self.screen).unwrap())
    }
}

/// The words of the one share on a page of the screen, in their order.
fn words(page: &str) -> Option<String> {
    let body = page.split_once("write these words down.")?.1.split_once("Press Enter")?.0;
    let parts: Vec<&str> = body.split_whitespace().collect();
    Some(parts.chunks(2).map(|pair| pair[1]).collect::<Vec<_>>().join(" "))
}

/// A token's public key in a file; its fingerprint as people type it.
fn token(folder: &Path, name: &str) -> String {
    let key = RsaPrivateKey::new(&mut rand::rngs::OsRng, 3072).unwrap();
    let der = key.to_public_key().to_public_key_der().unwrap();
    let text = base64::engine::general_purpose::STANDARD.encode(der.as_bytes());
    let pem = format!("-----BEGIN PUBLIC KEY-----\n{text}\n-----END PUBLIC KEY-----\n");
    fs::write(folder.join(name), &pem).unwrap();
    WrappingKey::from_pem(&pem).unwrap().lines().join(" ")
}

#[test]
fn from_the_first_screen_to_the_drill() {
    let folder = tempfile::tempdir().unwrap();
    let fingerprint = token(folder.path(), "token.pem");
    let place = "--network signet --wallet-account 1";

    let make = "--external 2 --change 1 --wrapping-key token.pem --out w.bundle --descriptor-out w.descriptor";
    let line = format!("create {place} {make} --shares 2of3 --passphrase");
    let mut terminal = Terminal::start(folder.path(), &line);
    terminal.answer("Passphrase: ", "open sesame");
    terminal.answer("The same again: ", "open sesame");
    terminal.answer("Type the fingerprint that the signer shows: ", &fingerprint);
    for _ in 0..3 {
        terminal.answer("Press Enter to show it. ", "");
        terminal.answer("written down and compared. ", "");
    }
    let (made, screen) = terminal.finish();
    assert!(made, "{screen}");
    assert!(!screen.contains("sesame"));
    let shares: Vec<String> = screen.split(CLEAR).filter_map(words).collect();
    assert_eq!(shares.len(), 3);
    assert!(shares.iter().all(|share| share.split(' ').count() == 33), "{shares:?}");
    // Each share was on one page, and the page that was left on the screen has none.
    for share in &shares {
        // Two shares may end in the same word.
        let last: Vec<(usize, &str)> = share.split(' ').enumerate().skip(25).collect();
        let has_it = |page: &&str| {
            last.iter().all(|(before, word)| page.contains(&format!("{}. {word} ", before + 1)))
        };
        assert_eq!(screen.split(CLEAR).filter(has_it).count(), 1);
    }
    assert!(words(screen.rsplit(CLEAR).next().unwrap()).is_none());

    let line = format!("drill {place} --descriptor w.descriptor --passphrase");
    let mut terminal = Terminal::start(folder.path(), &line);
    terminal.answer("Type a share, all words on one line: ", &shares[2]);
    terminal.answer("Type a share, all words on one line: ", &shares[0]);
    terminal.answer("Passphrase: ", "open sesame");
    let (drilled, screen) = terminal.finish();
    assert!(drilled && screen.contains("tb1q"), "{screen}");
    assert!(!screen.contains("sesame"));
    // What was typed shows while it is typed, and is cleared with the next step.
    let left = screen.rsplit(CLEAR).next().unwrap();
    assert!(!left.contains(&shares[0][..20]) && !left.contains(&shares[2][..20]), "{left}");

    let mut terminal = Terminal::start(
        folder.path(),
        &format!("create {place} {make} --shares 1of1 --passphrase"),
    );
    terminal.answer("Passphrase: ", "one");
    terminal.answer("The same again: ", "other");
    let (made, screen) = terminal.finish();
    assert!(!made && screen.contains("passphrases differ"), "{screen}");
}

/// Whatever shares are typed for, no page ever has two of them, and the last one has none, nor a private key.
#[test]
fn typed_shares_are_cleared_by_every_command() {
    let folder = tempfile::tempdir().unwrap();
    let [one, other] = ["one.pem", "other.pem"].map(|name| token(folder.path(), name));
    let place = "--network signet --wallet-account 1";
    let make = "--external 1 --change 1 --out b --descriptor-out d --wrapping-key one.pem";
    let files = "--shares 2of2 --share-out s1 --share-out s2";
    let mut terminal = Terminal::start(folder.path(), &format!("create {place} {make} {files}"));
    terminal.answer("Type the fingerprint that the signer shows: ", &one);
    let (made, screen) = terminal.finish();
    assert!(made, "{screen}");
    let shares = ["s1", "s2"].map(|name| fs::read_to_string(folder.path().join(name)).unwrap());

    let restore = "--external 1 --change 1 --out r --wrapping-key one.pem";
    for (line, fingerprint) in [
        (format!("drill {place} --descriptor d"), None),
        (format!("exit {place} --descriptor d --out p"), None),
        ("verify b --transcript t".to_owned(), None),
        (format!("restore {place} --descriptor d {restore}"), Some(&one)),
        ("extend --bundle b --external 2 --out e --wrapping-key one.pem".to_owned(), Some(&one)),
        ("reseal --bundle b --out o --wrapping-key other.pem".to_owned(), Some(&other)),
    ] {
        let mut terminal = Terminal::start(folder.path(), &line);
        if let Some(fingerprint) = fingerprint {
            terminal.answer("Type the fingerprint that the signer shows: ", fingerprint);
        }
        for share in &shares {
            terminal.answer("Type a share, all words on one line: ", share.trim());
        }
        let (done, screen) = terminal.finish();
        assert!(done, "{line}: {screen}");
        // What tells them apart comes after the words that all shares of a set begin with.
        let seen = |page: &str| shares.iter().filter(|share| page.contains(&share[30..80])).count();
        let pages: Vec<usize> = screen.split(CLEAR).map(seen).collect();
        assert_eq!(pages.iter().sum::<usize>(), 2, "{line}: what was typed was echoed once each");
        assert!(pages.iter().all(|shares| *shares <= 1), "{line}: {pages:?}");
        assert_eq!(pages.last(), Some(&0), "{line}");
        assert!(!screen.contains("tprv"), "{line}");
    }
}
