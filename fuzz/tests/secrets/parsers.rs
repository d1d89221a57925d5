//! The parsers that meet secrets, what they are given, and which parts of it nobody may read in an error. Beside each
//! error's text stand its Debug form and those of its causes.

use std::fmt::{Debug, Display};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::str::FromStr as _;

use bitcoin::NetworkKind;
use bitcoin::bip32::{DerivationPath, Xpriv};
use bundle::{Bundle, KekFile, Verifier};
use ceremony::account::Account;
use ed25519_dalek::{Signer as _, SigningKey};
use policy::names::KeyName;
use policy::people::OfficerKey;
use policy::signed::{SignedPolicy, sign_message, signature_line};
use secp256k1::SECP256K1;
use slip39::{Group, Mnemonic, Passphrase, Recovery, Scheme};
use tempfile::TempDir;
use token_wire::{Answered, Request};
use watcher::config::{Purpose, WalletConfig};

/// Gives every text that a parser says about an input.
pub(crate) type Run = fn(&Room, &[u8]) -> Vec<String>;

/// One parser.
pub(crate) struct Parser {
    pub(crate) name: &'static str,
    /// Inputs that hold secrets.
    pub(crate) seeds: Vec<Vec<u8>>,
    /// The secrets, as they may be written down.
    pub(crate) secrets: Vec<Vec<u8>>,
    /// How long a part of one must be for it to be one.
    pub(crate) length: usize,
    /// How many of all texts are its.
    pub(crate) weight: usize,
    pub(crate) run: Run,
}

/// A folder for what is read from files, and an account that shares belong to.
pub(crate) struct Room {
    folder: TempDir,
    account: Account,
}

impl Room {
    pub(crate) fn new() -> Self {
        let (script, network) = (bundle::Script::Wpkh, bundle::Network::Regtest);
        let account = Account::generate(script, network, 0).unwrap();
        Self { folder: tempfile::tempdir().unwrap(), account }
    }

    /// A file that its owner alone reads.
    fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.folder.path().join(name);
        if !path.exists() {
            fs::write(&path, b"").unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        }
        fs::write(&path, bytes).unwrap();
        path
    }
}

pub(crate) fn all() -> Vec<Parser> {
    vec![share(), officer_key(), policy(), watched(), exit(), signer_config(), watcher_config()]
        .into_iter()
        .chain([desk(), sealed(), kek(), worker()])
        .collect()
}

fn said<E: Display + Debug>(error: &E) -> Vec<String> {
    vec![error.to_string(), format!("{error:?}"), format!("{error:#}"), format!("{error:#?}")]
}

fn text(input: &[u8]) -> String {
    String::from_utf8_lossy(input).into_owned()
}

/// Bytes in hex and as numbers in a list.
fn spelt(secret: &[u8]) -> Vec<Vec<u8>> {
    let numbers: Vec<String> = secret.iter().map(ToString::to_string).collect();
    vec![hex::encode(secret).into(), hex::encode_upper(secret).into(), numbers.join(", ").into()]
}

/// Shares with their passphrase on the last line, and the other share that is enough beside them.
fn share() -> Parser {
    let scheme = Scheme::single(Group { threshold: 2, count: 2 }).unwrap();
    let scheme = scheme.with_iteration_exponent(0).unwrap();
    let passphrase = Passphrase::new("open sesame now").unwrap();
    let mut count = 0_u8;
    let mut entropy = |bytes: &mut [u8]| {
        for byte in bytes {
            count = count.wrapping_mul(73).wrapping_add(41);
            *byte = count;
        }
    };
    let shares = slip39::split(&[0x5a; 16], &passphrase, &scheme, &mut entropy).unwrap();
    let words: Vec<String> = shares.concat().iter().map(|s| s.to_words().to_string()).collect();
    let seeds = vec![format!("{}\n{}\nopen sesame now", words[0], words[1]).into()];
    let mut secrets: Vec<Vec<u8>> = words.iter().map(|words| words.clone().into()).collect();
    secrets.extend([b"open sesame now".to_vec(), "Z".repeat(16).into()]);
    secrets.extend(spelt(&[0x5a; 16]));
    let run = |_: &Room, input: &[u8]| {
        let (text, mut texts) = (text(input), Vec::new());
        let mut recovery = Recovery::new();
        let mut lines = text.lines().collect::<Vec<_>>();
        let passphrase = lines.pop().unwrap_or_default();
        for line in lines {
            match Mnemonic::parse(line) {
                Ok(share) => texts.extend(recovery.add(share).err().iter().flat_map(said)),
                Err(error) => texts.extend(said(&error)),
            }
        }
        texts.push(format!("{recovery:?}"));
        match Passphrase::new(passphrase) {
            Ok(passphrase) => {
                texts.extend(recovery.recover(&passphrase).err().iter().flat_map(said))
            }
            Err(error) => texts.extend(said(&error)),
        }
        texts
    };
    Parser { name: "shares and their passphrase", seeds, secrets, length: 8, weight: 4, run }
}

/// Officers' key files, sealed and not; the passphrase is in a file of its own.
fn officer_key() -> Parser {
    let seed: [u8; 32] = core::array::from_fn(|at| u8::try_from(at * 7 + 3).unwrap());
    let key = SigningKey::from_bytes(&seed);
    let plain = hex::encode(key.verifying_key().to_bytes());
    let secret = hex::encode(seed);
    let bare = format!("cofferdam-ed25519-key-v1\nname: alice\npublic: {plain}\nseed: {secret}\n");
    // As cheap to open as can be.
    let sealed = format!(
        "cofferdam-ed25519-key-v2\nname: alice\npublic: {plain}\nargon2id: 8 1 1 {}\nsealed: {}\n",
        "5b".repeat(16),
        "6c".repeat(60)
    );
    // Whose lines somebody mixed up.
    let named = bare.replace("alice", &format!("{secret}, alice"));
    let swapped = bare.replace(&plain, &secret);
    let seeds = vec![bare.into(), sealed.into(), named.into(), swapped.into()];
    let mut secrets = spelt(&seed);
    secrets.push(PASSPHRASE.into());
    let run = |room: &Room, input: &[u8]| {
        let text = text(input);
        let dear =
            |line: &str| line.starts_with("argon2id: ") && !line.starts_with("argon2id: 8 1 1 ");
        if text.lines().any(dear) {
            // It may ask for a gigabyte: whatever comes after that is said of cheaper ones as well.
            return Vec::new();
        }
        let passphrase = room.file("passphrase", PASSPHRASE.as_bytes());
        let key = officer::key::Key::open(&room.file("key", input), Some(&passphrase));
        key.err().iter().flat_map(said).collect()
    };
    Parser { name: "officers' keys", seeds, secrets, length: 10, weight: 4, run }
}

const PASSPHRASE: &str = "correct horse battery";

/// An account's private key in a descriptor, where somebody took the wrong one of two files.
fn private() -> (String, Vec<Vec<u8>>) {
    let master = Xpriv::new_master(NetworkKind::Test, &[19; 32]).unwrap();
    let path = DerivationPath::from_str("m/84h/1h/0h").unwrap();
    let key = master.derive_priv(SECP256K1, &path).unwrap();
    let mut secrets = vec![key.to_string().into_bytes()[4..].to_vec()];
    secrets.extend(spelt(&key.private_key.secret_bytes()));
    let origin = master.fingerprint(SECP256K1);
    (format!("wpkh([{origin}/84h/1h/0h]{key}/<0;1>/*)"), secrets)
}

fn summed(body: &str) -> String {
    let mut engine = miniscript::descriptor::checksum::Engine::new();
    engine.input(body).unwrap();
    format!("{body}#{}", engine.checksum())
}

/// The policy as signer and officers read it.
fn policy() -> Parser {
    let (body, secrets) = private();
    let file = include_str!("../../../policy/examples/policy.toml").replace("testnet4", "regtest");
    let at = file.find("descriptor = \"").unwrap() + "descriptor = \"".len();
    let end = at + file[at..].find('"').unwrap();
    let with = |descriptor: &str| [&file[..at], descriptor, &file[end..]].concat().into_bytes();
    let key = body.split(']').nth(1).and_then(|rest| rest.split('/').next()).unwrap();
    let astray = format!("{file}\n{key} = 1\n").into_bytes();
    let bent = with(&summed(&body.replace("wpkh(", "tr(")));
    let seeds = vec![with(&summed(&body)), with(&body), bent, astray];
    let run = |_: &Room, input: &[u8]| {
        let text = text(input);
        if let Err(error) = policy::signed::check(&text, asset::Network::Regtest) {
            return said(&error);
        }
        let (alice, key) = (KeyName::parse("alice").unwrap(), SigningKey::from_bytes(&[8; 32]));
        let signature = key.sign(&sign_message(&text)).to_bytes();
        let pinned = [(alice.clone(), OfficerKey::Ed25519(key.verifying_key().to_bytes()))];
        let signatures = signature_line(&alice, &signature);
        let signed = SignedPolicy { text: &text, signatures: &signatures };
        match signed.verify(&pinned, 1, asset::Network::Regtest) {
            Err(error) => said(&error),
            Ok(rules) => {
                let wallets = signer::wallets::Wallets::new(&rules);
                wallets.err().iter().flat_map(said).collect()
            }
        }
    };
    Parser { name: "a policy with a private key", seeds, secrets, length: 10, weight: 1, run }
}

/// The same descriptor in the watcher.
fn watched() -> Parser {
    let (body, secrets) = private();
    let run = |_: &Room, input: &[u8]| {
        let config = WalletConfig {
            name: "hot".to_owned(),
            descriptor: text(input),
            purpose: Purpose::Deposits,
            tenant: "main".to_owned(),
            lookahead: 1,
            birthday: 0,
        };
        let read = watcher::wallets::Wallets::parse(&[config], bitcoin::Network::Regtest);
        read.err().iter().flat_map(said).collect()
    };
    let seeds = vec![summed(&body).into(), body.into()];
    Parser { name: "a watched private key", seeds, secrets, length: 10, weight: 4, run }
}

/// The same in a ceremony, where a private descriptor lies beside the other one.
fn exit() -> Parser {
    let (body, secrets) = private();
    let run = |room: &Room, input: &[u8]| {
        let drilled = ceremony::restore::drill(&room.account, &text(input));
        drilled.err().iter().flat_map(said).collect()
    };
    let seeds = vec![summed(&body).into(), body.into()];
    Parser { name: "a drill's private key", seeds, secrets, length: 10, weight: 1, run }
}

const PASSWORD: &str = "hunter2-hunter3-hunter4";
const PIN: &str = "4711-0815-2468";

/// Settings with a database's password; and with a PIN, which has no place there.
fn signer_config() -> Parser {
    let file = include_str!("../../../deploy/signer.toml");
    let url = format!("database = \"postgres://signer:{PASSWORD}@localhost/log\"\n");
    let pin = file.replacen("[token]", &format!("[token]\npin = \"{PIN}\""), 1);
    let seeds = vec![format!("{url}{file}").into(), format!("{url}{pin}").into()];
    let run = |room: &Room, input: &[u8]| {
        signer::config::Config::load(&room.file("signer.toml", input))
            .err()
            .iter()
            .flat_map(said)
            .collect()
    };
    let secrets = vec![PASSWORD.into(), PIN.into()];
    Parser { name: "a signer's settings", seeds, secrets, length: 8, weight: 2, run }
}

/// An officer's settings, where somebody wrote a passphrase or a PIN into them.
fn desk() -> Parser {
    let file = "signer = \"https://signer:7400\"\nlog = \"cofferdam/0011223344556677\"\npolicy = \"policy.toml\"\n";
    let key = "key = \"alice.key\"\n";
    let seeds = vec![
        format!("{file}{key}passphrase = \"{PASSWORD}\"\n").into(),
        format!("{file}{key}passphrase_file = [\"{PASSWORD}\"]\n").into(),
        format!("{file}key = \"pkcs11:token=t?pin-value={PIN}\n").into(),
    ];
    let run = |room: &Room, input: &[u8]| {
        officer::approvals::desk::Desk::load(&room.file("officer.toml", input))
            .err()
            .iter()
            .flat_map(said)
            .collect()
    };
    let secrets = vec![PASSWORD.into(), PIN.into()];
    Parser { name: "an officer's settings", seeds, secrets, length: 8, weight: 2, run }
}

fn watcher_config() -> Parser {
    let file = include_str!("../../../deploy/watcher.toml");
    let url = format!("database = \"postgres://watcher:{PASSWORD}@db.internal/watcher\"");
    let with: Vec<String> = file
        .lines()
        .map(|line| if line.starts_with("database") { url.clone() } else { line.to_owned() })
        .collect();
    assert!(with.contains(&url));
    let run = |room: &Room, input: &[u8]| {
        watcher::config::Config::load(&room.file("watcher.toml", input))
            .err()
            .iter()
            .flat_map(said)
            .collect()
    };
    let secrets = vec![PASSWORD.into()];
    Parser {
        name: "a watcher's settings",
        seeds: vec![with.join("\n").into()],
        secrets,
        length: 8,
        weight: 2,
        run,
    }
}

/// Bundles: what is wrapped or sealed for a token is for nobody's eyes but the token's.
fn sealed() -> Parser {
    let seeds = (fuzz::find("bundle").unwrap().seeds)();
    // After one byte for the target: a header, whose facts may be told, then records, then hash and signature.
    let seeds: Vec<Vec<u8>> =
        seeds.into_iter().filter(|seed| seed[0] % 2 == 0).map(|seed| seed[1..].to_vec()).collect();
    let mut secrets = Vec::new();
    for seed in &seeds {
        let Ok(mut records) = Verifier::new(&seed[..]) else { continue };
        while let Ok(Some(record)) = records.next_record() {
            secrets.extend(spelt(&record.wrapped));
        }
    }
    let run = |_: &Room, input: &[u8]| {
        let mut texts = Vec::new();
        texts.extend(Bundle::open(&mut std::io::Cursor::new(input)).err().iter().flat_map(said));
        match Verifier::new(input) {
            Err(error) => texts.extend(said(&error)),
            Ok(mut records) => loop {
                match records.next_record() {
                    Ok(Some(_)) => {}
                    Ok(None) => break,
                    Err(error) => {
                        texts.extend(said(&error));
                        break;
                    }
                }
            },
        }
        texts
    };
    Parser { name: "bundles", seeds, secrets, length: 16, weight: 2, run }
}

/// A key-encryption key on its way into a token.
fn kek() -> Parser {
    let wrapped: Vec<u8> = (0..=255_u8).map(|at| at.wrapping_mul(91).wrapping_add(7)).collect();
    let mut secrets = spelt(&wrapped);
    let file = KekFile { import_key: [1; 32], wrapped, canary: vec![3; 144] }.to_text();
    let longest = file.split_whitespace().max_by_key(|word| word.len()).unwrap();
    secrets.push(longest.into());
    let seeds = vec![file.into()];
    let run =
        |_: &Room, input: &[u8]| KekFile::parse(&text(input)).err().iter().flat_map(said).collect();
    Parser { name: "key-encryption keys", seeds, secrets, length: 16, weight: 2, run }
}

/// What signer and worker say to each other: wrapped keys and sealed accounts are in it.
pub(crate) fn worker() -> Parser {
    let blob: Vec<u8> = (0..200_u8).map(|at| at.wrapping_mul(37).wrapping_add(11)).collect();
    let how = token_wire::SigningWay::Ecdsa;
    let job =
        token_wire::SealedJob { permit: [5; 16], change: false, index: 7, how, digest: [3; 32] };
    let account = token_wire::SealedAccount { header: [0; 32], blob: blob.clone() };
    let batch = token_wire::SealedBatch { id: 1, account, jobs: vec![job] };
    let mut framed = Vec::new();
    token_wire::write(&mut framed, &Request::Sealed(batch)).unwrap();
    let run = |_: &Room, input: &[u8]| {
        let mut texts = Vec::new();
        texts.extend(token_wire::read::<Request>(&mut &input[..]).err().iter().flat_map(said));
        texts.extend(token_wire::read::<Answered>(&mut &input[..]).err().iter().flat_map(said));
        texts
    };
    Parser {
        name: "workers' messages",
        seeds: vec![framed],
        secrets: spelt(&blob),
        length: 16,
        weight: 3,
        run,
    }
}
