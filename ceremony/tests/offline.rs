//! The ceremony cannot talk to a network: neither it nor anything it is built from has the code.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

/// The whole tree, each crate looked at: none opens a socket. `bitcoin` and `serde` know network addresses as data, `bitcoin-io`
/// names the system's streams, and `rustix` is built without its sockets (`RUSTIX` below). Who adds one to this list has looked at what it can do.
const LOOKED_AT: &str = "
    aead aes aes-gcm aes-kw anstream anstyle anstyle-parse anstyle-query anyhow arrayvec autocfg base58ck base64
    bech32 bitcoin bitcoin-io bitcoin-units bitcoin_hashes bitflags block-buffer bundle cc ceremony cfg-if cipher
    clap clap_builder clap_derive clap_lex colorchoice console const-oid cpufeatures crypto-common ctr der digest
    find-msvc-tools generic-array getrandom ghash heck hex hex-conservative hex_lit indicatif inout
    is_terminal_polyfill lazy_static libc libm linux-raw-sys miniscript num-bigint-dig num-integer num-iter
    num-traits opaque-debug pkcs1 pkcs8 polyval portable-atomic ppv-lite86 proc-macro2 quote rand rand_chacha
    rand_core rsa rustix secp256k1 secp256k1-sys serde serde_core serde_derive sha1 sha2 shlex signature slip39
    smallvec spin spki strsim subtle syn thiserror thiserror-impl typenum unicode-ident unicode-width unit-prefix
    universal-hash utf8parse version_check zerocopy zeroize zeroize_derive
";

/// What of `rustix` is built here: not `net`.
const RUSTIX: &str = "alloc,mm,process,std,termios";

#[test]
fn every_crate_in_the_tree_was_looked_at() {
    let tree = Command::new(env!("CARGO"))
        .args(["tree", "--offline", "--package", "ceremony", "--edges", "normal,build"])
        .args(["--prefix", "none", "--format", "{p} {f}"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(tree.status.success(), "{}", String::from_utf8_lossy(&tree.stderr));
    let text = String::from_utf8(tree.stdout).unwrap();
    let crates: BTreeSet<&str> =
        text.lines().filter_map(|line| line.split_whitespace().next()).collect();
    let rustix = text.lines().filter(|line| line.starts_with("rustix "));
    let features: BTreeSet<_> =
        rustix.filter_map(|line| line.trim_end_matches(" (*)").split_whitespace().nth(2)).collect();
    assert_eq!(features, BTreeSet::from([RUSTIX]), "what rustix is built with");
    let allowed: BTreeSet<&str> = LOOKED_AT.split_whitespace().collect();
    let new: Vec<_> = crates.difference(&allowed).collect();
    assert!(new.is_empty(), "new in the ceremony's tree, and to be looked at first: {new:?}");
    // What is there no more could come back unseen. On other machines some crates are others.
    if cfg!(all(target_arch = "x86_64", target_os = "linux")) {
        let gone: Vec<_> = allowed.difference(&crates).collect();
        assert!(gone.is_empty(), "not in the ceremony's tree any more: {gone:?}");
    }
    for network in ["tokio", "mio", "socket2", "hyper", "rustls", "ureq", "curl", "async-io"] {
        assert!(!allowed.contains(network), "{network} is no crate for an offline machine");
    }
}

#[test]
fn our_own_code_opens_no_socket() {
    let ours = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folders = [ours.join("src"), ours.join("../bundle/src"), ours.join("../slip39/src")];
    let files: usize = folders.iter().map(|folder| looked_through(folder)).sum();
    assert!(files > 10);
}

/// How many files are in a folder and those below it, of which none names anything that opens a socket or runs a program.
fn looked_through(folder: &Path) -> usize {
    const WORDS: [&str; 8] = [
        "std::net",
        "os::unix::net",
        "std::process::Command",
        "TcpStream",
        "UdpSocket",
        "rustix::net",
        "libc::",
        "extern \"C\"",
    ];
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let looked = entries.map(|path| {
        if path.is_dir() {
            return looked_through(&path);
        }
        let text = fs::read_to_string(&path).unwrap();
        let found = WORDS.iter().find(|word| text.contains(**word));
        assert_eq!(found, None, "in {}", path.display());
        1
    });
    looked.sum()
}
