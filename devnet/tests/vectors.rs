//! BIP-32's, BIP-49's, BIP-84's and BIP-86's vectors through every program that derives: the ceremony from the seed,
//! the signer and the watcher from a descriptor. It needs no token and no node.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::print_stdout,
    reason = "a test fails by panicking, and says what it counted"
)]

use bitcoin::bip32::{ChildNumber, DerivationPath, Xpub};
use bitcoin::{Address, CompressedPublicKey, NetworkKind, ScriptBuf};
use bundle::{Fields, Header, Kind, Network, Script};
use ceremony::derive::ExtendedKey;
use ed25519_dalek::{Signer as _, SigningKey};
use miniscript::descriptor::checksum;
use policy::SignedPolicy;
use policy::names::{KeyName, WalletName};
use policy::people::OfficerKey;
use serde_json::Value;
use watcher::config::{Purpose, WalletConfig};
use watcher::scan::Branch;

/// BIP-39's seed of "abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon about",
/// which BIP-49, BIP-84 and BIP-86 use.
const SEED: &str = "5eb00bbddcf069084889a8ab9155568165f5c453ccb85e70811aaed6f6da5fc19a5ac40b389cd370d086206dec8aa6c43daea6690f20ad3d8d48b2d2ce9e38e4";

fn bip32() -> Value {
    serde_json::from_str(include_str!("../../ceremony/tests/vectors/bip32.json")).unwrap()
}

fn text<'a>(case: &'a Value, field: &str) -> &'a str {
    case[field].as_str().unwrap()
}

fn summed(body: &str) -> String {
    let mut engine = checksum::Engine::new();
    engine.input(body).unwrap();
    format!("{body}#{}", engine.checksum())
}

/// The signer's wallet of this descriptor, out of a policy that an officer signed.
fn signer(
    descriptor: &str,
    tier: &str,
    network: asset::Network,
) -> Result<signer::wallets::Wallets, String> {
    let officer = SigningKey::from_bytes(&[8; 32]);
    let name = KeyName::parse("alice").unwrap();
    let text = format!(
        "version = 1\nnetwork = \"{network}\"\nclient = []\n[[wallet]]\nname = \"w\"\ntier = \"{tier}\"\ndescriptor = \"{descriptor}\"\nindex_window = 20\n"
    );
    let signature = officer.sign(&policy::sign_message(&text)).to_bytes();
    let signatures = policy::signed::signature_line(&name, &signature);
    let pinned = [(name, OfficerKey::Ed25519(officer.verifying_key().to_bytes()))];
    let policy = SignedPolicy { text: &text, signatures: &signatures };
    let rules = policy.verify(&pinned, 1, network).expect("descriptors are judged as wallets");
    signer::wallets::Wallets::new(&rules).map_err(|error| error.to_string())
}

fn watcher(
    descriptor: &str,
    network: bitcoin::Network,
) -> Result<watcher::wallets::Wallets, String> {
    let config = WalletConfig {
        name: "w".to_owned(),
        descriptor: descriptor.to_owned(),
        purpose: Purpose::Cold, // any script: nothing is planned here
        tenant: "main".to_owned(),
        lookahead: 1,
        birthday: 0,
    };
    watcher::wallets::Wallets::parse(&[config], network).map_err(|error| error.to_string())
}

/// What both say at a place; they must say the same.
fn script(
    descriptor: &str,
    tier: &str,
    network: asset::Network,
    change: bool,
    index: u32,
) -> ScriptBuf {
    let signer = signer(descriptor, tier, network).unwrap();
    let name = WalletName::parse("w").unwrap();
    let ours = signer.wallet(&name).unwrap().script(change, index).unwrap();
    let watcher = watcher(descriptor, signer.network()).unwrap();
    let branch = if change { Branch::Change } else { Branch::External };
    assert_eq!(watcher.find("w").unwrap().script(branch, index).unwrap(), ours);
    ours
}

fn address(
    descriptor: &str,
    tier: &str,
    network: asset::Network,
    (change, index): (bool, u32),
) -> String {
    let script = script(descriptor, tier, network, change, index);
    Address::from_script(&script, signer::wallets::bitcoin_network(network)).unwrap().to_string()
}

fn descend(seed: &[u8], path: &str) -> ExtendedKey {
    let path: DerivationPath = path.parse().unwrap();
    let master = ExtendedKey::master(seed).unwrap();
    path.into_iter().fold(master, |key, step| key.child(*step).unwrap())
}

fn p2wpkh(key: secp256k1::PublicKey) -> ScriptBuf {
    ScriptBuf::new_p2wpkh(&CompressedPublicKey(key).wpubkey_hash())
}

#[test]
fn bip32_nodes_are_the_same_in_every_program() {
    let vectors = bip32();
    let nodes = vectors["valid"].as_array().unwrap();
    let (mut below, mut public) = (0, 0);
    for node in nodes {
        let (path, xpub) = (text(node, "path"), text(node, "xpub"));
        let seed = hex(text(node, "seed"));
        let key = descend(&seed, path);
        assert_eq!(key.xpub(NetworkKind::Main).to_string(), xpub, "{path}");
        // Below the node: privately by the ceremony, publicly by signer and watcher from the vector's own text.
        let descriptor = summed(&format!("wpkh({xpub}/<0;1>/*)"));
        for (change, index) in [(false, 0), (true, 5), (false, (1 << 31) - 1)] {
            let steps = [u32::from(change), index].map(|index| ChildNumber::Normal { index });
            let child = key.child(steps[0]).and_then(|branch| branch.child(steps[1])).unwrap();
            let tier = ["cold", "token-hd"][below % 2];
            let derived = script(&descriptor, tier, asset::Network::Bitcoin, change, index);
            assert_eq!(derived, p2wpkh(child.public_key()), "{path}/{}/{index}", u8::from(change));
            below += 1;
        }
        // To the node from its parent's text, where BIP-32 allows it.
        let Some((parent, step)) =
            path.rsplit_once('/').filter(|(_, step)| !step.ends_with(['h', '\'']))
        else {
            continue;
        };
        let same = |other: &&Value| {
            text(other, "seed") == text(node, "seed") && text(other, "path") == parent
        };
        let parent = text(nodes.iter().find(same).unwrap(), "xpub");
        let wallets =
            signer(&summed(&format!("wpkh({parent}/*)")), "cold", asset::Network::Bitcoin).unwrap();
        let name = WalletName::parse("w").unwrap();
        let derived = wallets.wallet(&name).unwrap().script(false, step.parse().unwrap());
        let published: Xpub = xpub.parse().unwrap();
        assert_eq!(derived.unwrap(), p2wpkh(published.public_key), "{path}");
        public += 1;
    }
    println!(
        "vectors: BIP-32 {} nodes, {below} children below them, {public} of them derived publicly",
        nodes.len()
    );
    assert_eq!((nodes.len(), below, public), (17, 51, 6));
}

const SHAPES: [&str; 3] =
    ["wpkh(KEY/<0;1>/*)", "tr(KEY/<0;1>/*)", "wsh(sortedmulti(1,KEY/<0;1>/*))"];

#[test]
fn bip32_invalid_keys_are_refused_wherever_keys_are_read() {
    let vectors = bip32();
    let cases = vectors["invalid"].as_array().unwrap();
    let header = header();
    let at = header
        .as_bytes()
        .windows(78)
        .position(|part| part == header.fields().xpub.encode())
        .unwrap();
    for case in cases {
        let (key, reason) = (text(case, "key"), text(case, "reason"));
        for shape in SHAPES {
            let descriptor = summed(&shape.replace("KEY", key));
            assert!(
                signer(&descriptor, "cold", asset::Network::Bitcoin).is_err(),
                "signer: {reason}: {shape}"
            );
            assert!(
                watcher(&descriptor, bitcoin::Network::Bitcoin).is_err(),
                "watcher: {reason}: {shape}"
            );
        }
        if let Ok(payload) = bitcoin::base58::decode_check(key) {
            let mut bytes = header.as_bytes().to_vec();
            bytes[at..at + 78].copy_from_slice(&payload);
            assert!(Header::read(&mut bytes.as_slice()).is_err(), "bundle: {reason}");
        }
    }
    // The same shapes with a key that is valid: what was refused above was refused for the key's sake.
    let valid = text(&vectors["valid"][0], "xpub");
    for shape in SHAPES {
        let descriptor = summed(&shape.replace("KEY", valid));
        signer(&descriptor, "cold", asset::Network::Bitcoin).unwrap();
        watcher(&descriptor, bitcoin::Network::Bitcoin).unwrap();
    }
    // A private key is refused however valid it is.
    for node in vectors["valid"].as_array().unwrap() {
        let descriptor = summed(&format!("wpkh({}/<0;1>/*)", text(node, "xprv")));
        assert!(signer(&descriptor, "cold", asset::Network::Bitcoin).is_err());
        assert!(watcher(&descriptor, bitcoin::Network::Bitcoin).is_err());
    }
    println!("vectors: BIP-32 {} invalid keys refused by signer, watcher and bundle", cases.len());
    assert_eq!(cases.len(), 16);
}

/// A bundle's header for BIP-84's account.
fn header() -> Header {
    let master = ExtendedKey::master(&hex(SEED)).unwrap();
    let account = master.descend(&Script::Wpkh.account_path(Network::Bitcoin, 0).unwrap()).unwrap();
    let fields = Fields {
        kind: Kind::TOKEN_HD,
        network: Network::Bitcoin,
        account: 0,
        xpub: account.xpub(NetworkKind::Main),
        master: master.fingerprint(),
        wrapping: [9; 32],
        external: 2,
        change: 1,
        blob_len: 384,
    };
    Header::new(fields).unwrap()
}

#[test]
fn bip84_from_seed_to_addresses() {
    let header = header();
    // The BIP writes the account key with another version.
    let zpub = "zpub6rFR7y4Q2AijBEqTUquhVz398htDFrtymD9xYYfG1m4wAcvPhXNfE3EfH1r1ADqtfSdVCToUG868RvUUkgDKf31mGDtKsAYz2oz2AGutZYs";
    let mut payload = bitcoin::base58::decode_check(zpub).unwrap();
    payload[..4].copy_from_slice(&[0x04, 0x88, 0xb2, 0x1e]);
    assert_eq!(header.fields().xpub.encode().as_slice(), payload);
    assert_eq!(header.path(), "m/84h/0h/0h");
    let published = [
        (
            (false, 0),
            "bc1qcr8te4kr609gcawutmrza0j4xv80jy8z306fyu",
            "0330d54fd0dd420a6e5f8d3624f5f3482cae350f79d5f0753bf5beef9c2d91af3c",
        ),
        (
            (false, 1),
            "bc1qnjg0jd8228aq7egyzacy8cys3knf9xvrerkf9g",
            "03e775fd51f0dfb8cd865d9ff1cca2a158cf651fe997fdc9fee9c1d3b5e995ea77",
        ),
        (
            (true, 0),
            "bc1q8c6fshw2dlwun7ekn9qwf37cu2rn755upcp6el",
            "03025324888e429ab8e3dbaf1f7802648b9cd01e9b418485c5fa4c1b9b5700e1a6",
        ),
    ];
    for ((change, index), expected, key) in published {
        let found =
            address(header.descriptor(), "token-hd", asset::Network::Bitcoin, (change, index));
        assert_eq!(found, expected);
        assert_eq!(header.branch(change).unwrap().public_key(index).unwrap().to_string(), key);
    }
    println!("vectors: BIP-84 account key, {} keys and addresses", published.len());
}

#[test]
fn bip49_and_bip86_addresses() {
    let seed = hex(SEED);
    let origin = |path: &str, kind| {
        format!("[73c5da0a/{path}]{}/<0;1>/*", descend(&seed, &format!("m/{path}")).xpub(kind))
    };
    let nested = summed(&format!("sh(wpkh({}))", origin("49h/1h/0h", NetworkKind::Test)));
    let found = address(&nested, "cold", asset::Network::Testnet4, (false, 0));
    assert_eq!(found, "2Mww8dCYPUpKHofjgcXcBCEGmniw9CoaiD2");

    let taproot = summed(&format!("tr({})", origin("86h/0h/0h", NetworkKind::Main)));
    let published = [
        ((false, 0), "bc1p5cyxnuxmeuwuvkwfem96lqzszd02n6xdcjrs20cac6yqjjwudpxqkedrcr"),
        ((false, 1), "bc1p4qhjn9zdvkux4e44uhx8tc55attvtyu358kutcqkudyccelu0was9fqzwh"),
        ((true, 0), "bc1p3qkhfews2uk44qtvauqyr2ttdsw7svhkl9nkm9s9c3x4ax5h60wqwruhk7"),
    ];
    for (place, expected) in published {
        assert_eq!(address(&taproot, "cold", asset::Network::Bitcoin, place), expected);
    }
    println!("vectors: BIP-49 1 address, BIP-86 {} addresses", published.len());
}

fn hex(text: &str) -> Vec<u8> {
    hex::decode(text).unwrap()
}
