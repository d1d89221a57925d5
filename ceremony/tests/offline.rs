//! The ceremony cannot talk to a network: neither it nor anything it is built from has the code.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

/// Crates that open sockets, or exist to serve those that do.
const NETWORK: &[&str] = &[
    "tokio",
    "hyper",
    "reqwest",
    "tonic",
    "sqlx",
    "socket2",
    "mio",
    "rustls",
    "native-tls",
    "h2",
    "async-std",
    "smol",
    "async-io",
    "curl",
    "ureq",
    "quinn",
    "tungstenite",
    "zmq",
];

#[test]
fn no_network_crate_is_in_the_tree() {
    let tree = Command::new(env!("CARGO"))
        .args(["tree", "--offline", "--package", "ceremony", "--edges", "normal,build"])
        .args(["--prefix", "none", "--format", "{p}"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(tree.status.success(), "{}", String::from_utf8_lossy(&tree.stderr));
    let text = String::from_utf8(tree.stdout).unwrap();
    let crates: BTreeSet<&str> =
        text.lines().filter_map(|line| line.split_whitespace().next()).collect();
    // The list is the real one: what must be there is.
    assert!(
        ["ceremony", "bundle", "slip39", "secp256k1", "rsa"]
            .iter()
            .all(|name| crates.contains(name))
    );
    let found: Vec<_> = crates
        .iter()
        .filter(|name| {
            NETWORK.iter().any(|bad| *name == bad || name.starts_with(&format!("{bad}-")))
        })
        .collect();
    assert!(found.is_empty(), "network crates in the ceremony's tree: {found:?}");
}

#[test]
fn our_own_code_opens_no_socket() {
    let ours = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = 0;
    for folder in [ours.join("src"), ours.join("../bundle/src"), ours.join("../slip39/src")] {
        for file in fs::read_dir(folder).unwrap() {
            let path = file.unwrap().path();
            let text = fs::read_to_string(&path).unwrap();
            for word in
                ["std::net", "os::unix::net", "std::process::Command", "TcpStream", "UdpSocket"]
            {
                assert!(!text.contains(word), "{word} in {}", path.display());
            }
            files += 1;
        }
    }
    assert!(files > 10);
}
