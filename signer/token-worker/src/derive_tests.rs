use std::str::FromStr as _;

use bitcoin::bip32::{ChildNumber, Xpriv};
use bitcoin::key::TapTweak as _;
use bitcoin::{Address, KnownHrp};
use proptest::prelude::*;
use secp256k1::schnorr::Signature;
use secp256k1::{Parity, XOnlyPublicKey};
use serde_json::Value;

use super::*;

fn plain(account: &Xpriv) -> [u8; 64] {
    let (key, chain) = (account.private_key.secret_bytes(), account.chain_code.to_bytes());
    [key, chain].concat().try_into().unwrap()
}

fn job(change: bool, index: u32, how: SigningWay, digest: [u8; 32]) -> SealedJob {
    SealedJob { permit: [1; 16], change, index, how, digest }
}

fn child_of(account: &Xpriv, change: bool, index: u32) -> SecretKey {
    let path = [u32::from(change), index].map(|index| ChildNumber::Normal { index });
    account.derive_priv(SECP256K1, &path).unwrap().private_key
}

/// As the signer says of a child.
fn taproot(child: &SecretKey) -> SigningWay {
    let (internal, parity) = child.x_only_public_key(SECP256K1);
    SigningWay::TaprootKey { internal: internal.serialize(), odd: parity == Parity::Odd }
}

fn bytes<const N: usize>(text: &Value) -> [u8; N] {
    hex::decode(text.as_str().unwrap()).unwrap().try_into().unwrap()
}

#[test]
fn bip340_signing_vectors() {
    let (mut signed, mut other_lengths) = (0, 0);
    for line in include_str!("../tests/vectors/bip340.csv").lines().skip(1) {
        let fields: Vec<&str> = line.splitn(8, ',').collect();
        let [_, secret, public, aux, message, signature, ..] = fields.as_slice() else {
            panic!("{line}");
        };
        if secret.is_empty() {
            continue;
        }
        // Only 32 bytes are ever signed here.
        let Ok(message) = <[u8; 32]>::try_from(hex::decode(message).unwrap()) else {
            other_lengths += 1;
            continue;
        };
        let raw = |text: &str| -> [u8; 32] { hex::decode(text).unwrap().try_into().unwrap() };
        let key = guarded(&raw(secret)).unwrap();
        let pair = GuardedPair(Keypair::from_secret_key(SECP256K1, &key.0));
        assert_eq!(pair.0.x_only_public_key().0.serialize(), raw(public));
        let ours = schnorr(&pair, &Message::from_digest(message), &raw(aux));
        assert_eq!(hex::encode_upper(ours), *signature);
        signed += 1;
    }
    assert_eq!((signed, other_lengths), (4, 4));
    println!("vectors: BIP-340 signing {signed}");
}

#[test]
fn bip341_vectors() {
    let vectors: Value =
        serde_json::from_str(include_str!("../tests/vectors/bip341.json")).unwrap();
    let outputs = vectors["scriptPubKey"].as_array().unwrap();
    for output in outputs {
        let internal = XOnlyPublicKey::from_slice(&bytes::<32>(&output["given"]["internalPubkey"]));
        let root = &output["intermediary"]["merkleRoot"];
        let root = if root.is_null() { Vec::new() } else { bytes::<32>(root).to_vec() };
        let tweak = tap_tweak(&internal.unwrap().serialize(), &root);
        assert_eq!(tweak, bytes::<32>(&output["intermediary"]["tweak"]));
        let scalar = Scalar::from_be_bytes(tweak).unwrap();
        let (tweaked, _) = internal.unwrap().add_tweak(SECP256K1, &scalar).unwrap();
        assert_eq!(tweaked.serialize(), bytes::<32>(&output["intermediary"]["tweakedPubkey"]));
    }
    let inputs = vectors["keyPathSpending"][0]["inputSpending"].as_array().unwrap();
    for input in inputs {
        let key = guarded(&bytes(&input["given"]["internalPrivkey"])).unwrap();
        let root = &input["given"]["merkleRoot"];
        let root = if root.is_null() { Vec::new() } else { bytes::<32>(root).to_vec() };
        let (internal, parity) = key.0.x_only_public_key(SECP256K1);
        assert_eq!(internal.serialize(), bytes(&input["intermediary"]["internalPubkey"]));
        let pair = tweaked(key, &internal.serialize(), parity == Parity::Odd, &root).unwrap();
        let private = bytes::<32>(&input["intermediary"]["tweakedPrivkey"]);
        assert_eq!(pair.0.secret_bytes(), private);
        let message = Message::from_digest(bytes(&input["intermediary"]["sigHash"]));
        let expected = hex::decode(input["expected"]["witness"][0].as_str().unwrap()).unwrap();
        assert_eq!(schnorr(&pair, &message, &[0; 32])[..], expected[..64]);
    }
    assert_eq!((outputs.len(), inputs.len()), (7, 7));
    println!("vectors: BIP-341 outputs {}, key path spends {}", outputs.len(), inputs.len());
}

#[test]
fn bip86_vectors() {
    // m/86'/0'/0' of the BIP, and its three addresses.
    let account = Xpriv::from_str(
        "xprv9xgqHN7yz9MwCkxsBPN5qetuNdQSUttZNKw1dcYTV4mkaAFiBVGQziHs3NRSWMkCzvgjEe3n9xV8oYywvM8at9yRqyaZVz6TYYhX98VjsUk",
    )
    .unwrap();
    let mut opened = Account::open(&plain(&account)).unwrap();
    let vectors = [
        (
            (false, 0),
            "a60869f0dbcf1dc659c9cecbaf8050135ea9e8cdc487053f1dc6880949dc684c",
            "bc1p5cyxnuxmeuwuvkwfem96lqzszd02n6xdcjrs20cac6yqjjwudpxqkedrcr",
        ),
        (
            (false, 1),
            "a82f29944d65b86ae6b5e5cc75e294ead6c59391a1edc5e016e3498c67fc7bbb",
            "bc1p4qhjn9zdvkux4e44uhx8tc55attvtyu358kutcqkudyccelu0was9fqzwh",
        ),
        (
            (true, 0),
            "882d74e5d0572d5a816cef0041a96b6c1de832f6f9676d9605c44d5e9a97d3dc",
            "bc1p3qkhfews2uk44qtvauqyr2ttdsw7svhkl9nkm9s9c3x4ax5h60wqwruhk7",
        ),
    ];
    for ((change, index), output_key, address) in vectors {
        let key = XOnlyPublicKey::from_str(output_key).unwrap();
        let tweaked = bitcoin::key::TweakedPublicKey::dangerous_assume_tweaked(key);
        let shown = Address::p2tr_tweaked(tweaked, KnownHrp::Mainnet).to_string();
        assert_eq!(shown, address);
        // Our derivation, tweak and signature, judged by the BIP's output key.
        let how = taproot(&child_of(&account, change, index));
        let raw = opened.sign(&job(change, index, how, [7; 32])).unwrap();
        let signature = Signature::from_slice(&raw.to_bytes()).unwrap();
        SECP256K1.verify_schnorr(&signature, &Message::from_digest([7; 32]), &key).unwrap();
    }
    println!("vectors: BIP-86 {}", vectors.len());
}

#[test]
fn what_is_no_key_is_refused() {
    assert!(matches!(Account::open(&[0; 64]), Err(DeriveError::NoKey)));
    assert!(matches!(Account::open(&[0xff; 64]), Err(DeriveError::NoKey)));
    let mut account = Account::open(&[1; 64]).unwrap();
    for index in [1 << 31, u32::MAX] {
        let refused = account.sign(&job(false, index, SigningWay::Ecdsa, [1; 32]));
        assert!(matches!(refused, Err(DeriveError::NoKey)));
    }
}

#[test]
fn aux_is_fresh() {
    let mut account = Account::open(&[1; 64]).unwrap();
    let how = SigningWay::TaprootKey { internal: [5; 32], odd: false };
    let job = job(false, 0, how, [1; 32]);
    assert_ne!(account.sign(&job).unwrap(), account.sign(&job).unwrap());
}

proptest! {
    #[test]
    fn as_another_implementation(
        seed in any::<[u8; 32]>(),
        change in any::<bool>(),
        index in 0_u32..1 << 31,
        digest in any::<[u8; 32]>(),
    ) {
        let xpriv = Xpriv::new_master(bitcoin::NetworkKind::Test, &seed).unwrap();
        let mut account = Account::open(&plain(&xpriv)).unwrap();
        let child = child_of(&xpriv, change, index);
        prop_assert_eq!(account.child(change, index).unwrap().0, child);
        let message = Message::from_digest(digest);
        let raw = account.sign(&job(change, index, SigningWay::Ecdsa, digest)).unwrap();
        let theirs = SECP256K1.sign_ecdsa(&message, &child);
        prop_assert_eq!(raw.to_bytes(), theirs.serialize_compact());

        let pair = Keypair::from_secret_key(SECP256K1, &child);
        let output = pair.tap_tweak(SECP256K1, None).to_keypair().x_only_public_key().0;
        let verifies = |raw: RawSignature| {
            let signature = Signature::from_slice(&raw.to_bytes()).unwrap();
            SECP256K1.verify_schnorr(&signature, &message, &output).is_ok()
        };
        prop_assert!(verifies(account.sign(&job(change, index, taproot(&child), digest)).unwrap()));
        // A false word about the public key gives nothing that counts.
        let SigningWay::TaprootKey { internal, odd } = taproot(&child) else { unreachable!() };
        for how in [
            SigningWay::TaprootKey { internal, odd: !odd },
            SigningWay::TaprootKey { internal: digest, odd },
        ] {
            prop_assert!(!verifies(account.sign(&job(change, index, how, digest)).unwrap()));
        }
    }
}
