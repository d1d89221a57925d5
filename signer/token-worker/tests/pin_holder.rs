//! One named test for each thing that somebody with the PIN, the module and a stolen bundle may try. Each runs in a
//! process of its own on a real SoftHSM, goes past the worker, and must fail; afterwards the keys still hold.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::print_stdout,
    reason = "a test fails by panicking"
)]

mod support;

use std::collections::BTreeMap;
use std::fs;

use base64::Engine as _;
use ceremony::wrapping::WrappingKey;
use cryptoki::mechanism::{Mechanism, MechanismType};
use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle};
use cryptoki::session::Session;
use secp256k1::SecretKey;
use sha2::{Digest as _, Sha256};
use support::attacker::{
    self, as_bytes, as_pin_holder, as_secret, attack, attacker, find, honest, honest_but, make_rsa,
    oaep, plant_template, without_login, wrapped_by_pkcs1, wrapping_key,
};
use support::{TestToken, Worker, hex, to_hex, wrap};
use token_wire::{
    Batch, Binding, FaultCode, Job, Operation, Reply, Request, Schemes, StatementKey, WrappedBy,
};

/// Tries to unwrap the child with one attribute of the template changed.
fn unwraps_otherwise(test: &str, changes: &[Attribute]) {
    attack(test, |session, wrapping, wrapped| {
        for change in changes {
            let template = honest_but(change.clone());
            let unwrapped = session.unwrap_key(&oaep(), wrapping, wrapped, &template);
            assert!(unwrapped.is_err(), "{change:?}");
        }
        let child = session.unwrap_key(&oaep(), wrapping, wrapped, &honest()).unwrap();
        session.destroy_object(child).unwrap();
    });
}

#[test]
fn no_child_is_unwrapped_extractable() {
    unwraps_otherwise("no_child_is_unwrapped_extractable", &[Attribute::Extractable(true)]);
}

#[test]
fn no_child_is_unwrapped_insensitive() {
    unwraps_otherwise("no_child_is_unwrapped_insensitive", &[Attribute::Sensitive(false)]);
}

#[test]
fn no_child_is_unwrapped_public() {
    unwraps_otherwise("no_child_is_unwrapped_public", &[Attribute::Private(false)]);
}

#[test]
fn no_child_is_unwrapped_to_derive_decrypt_or_unwrap() {
    let changes = [Attribute::Derive(true), Attribute::Decrypt(true), Attribute::Unwrap(true)];
    unwraps_otherwise("no_child_is_unwrapped_to_derive_decrypt_or_unwrap", &changes);
}

#[test]
fn no_child_is_unwrapped_as_another_class_or_type() {
    let changes = [
        Attribute::Class(ObjectClass::SECRET_KEY),
        Attribute::Class(ObjectClass::DATA),
        Attribute::KeyType(KeyType::GENERIC_SECRET),
        Attribute::KeyType(KeyType::RSA),
    ];
    unwraps_otherwise("no_child_is_unwrapped_as_another_class_or_type", &changes);
}

#[test]
fn no_child_is_unwrapped_as_bytes() {
    attack("no_child_is_unwrapped_as_bytes", |session, wrapping, wrapped| {
        for template in [as_bytes(), as_secret()] {
            assert!(session.unwrap_key(&oaep(), wrapping, wrapped, &template).is_err());
        }
    });
}

/// The two tests around this one can fail: keys without a template, or for more mechanisms, do what is refused there.
#[test]
fn other_wrapping_keys_give_bytes_and_take_another_mechanism() {
    if attacker().is_none() {
        as_pin_holder(&TestToken::new(), "unwrap_as_bytes_without_template", &[]);
        as_pin_holder(&TestToken::new(), "unwrap_by_another_mechanism_where_allowed", &[]);
    }
}

#[test]
fn unwrap_as_bytes_without_template() {
    let Some((session, _)) = attacker() else { return };
    let (public, private) = make_rsa(&session, b"cofferdam wrapping 1", |_| {});
    let child = support::pkcs8(&SecretKey::new(&mut rand::thread_rng()));
    let wrapped = session.encrypt(&oaep(), public, &child).unwrap();
    session.unwrap_key(&oaep(), private, &wrapped, &as_secret()).unwrap();
    let bytes = session.unwrap_key(&oaep(), private, &wrapped, &as_bytes()).unwrap();
    match session.get_attributes(bytes, &[AttributeType::Value]).unwrap().as_slice() {
        [Attribute::Value(value)] => assert_eq!(*value, child),
        other => panic!("{other:?}"),
    }
}

#[test]
fn unwrap_by_another_mechanism_where_allowed() {
    let Some((session, _)) = attacker() else { return };
    let both = vec![MechanismType::RSA_PKCS_OAEP, MechanismType::RSA_PKCS];
    let (_, private) = make_rsa(&session, b"cofferdam wrapping 1", |template| {
        template[9] = Attribute::AllowedMechanisms(both.clone());
    });
    let wrapped = wrapped_by_pkcs1(&session);
    session.unwrap_key(&Mechanism::RsaPkcs, private, &wrapped, &honest()).unwrap();
}

#[test]
fn no_child_is_unwrapped_by_another_mechanism() {
    attack("no_child_is_unwrapped_by_another_mechanism", |session, wrapping, wrapped| {
        for mechanism in [
            Mechanism::RsaPkcs,
            Mechanism::RsaX509,
            Mechanism::AesKeyWrap,
            Mechanism::AesKeyWrapPad,
        ] {
            let unwrapped = session.unwrap_key(&mechanism, wrapping, wrapped, &honest());
            assert!(unwrapped.is_err(), "{mechanism:?}");
        }
        let fitting = wrapped_by_pkcs1(session);
        assert!(
            session.unwrap_key(&Mechanism::RsaPkcs, wrapping, &fitting, &honest()).is_err(),
            "by PKCS#1 v1.5"
        );
    });
}

#[test]
fn the_wrapping_key_decrypts_nothing() {
    attack("the_wrapping_key_decrypts_nothing", |session, wrapping, wrapped| {
        for mechanism in [oaep(), Mechanism::RsaPkcs, Mechanism::RsaX509] {
            assert!(session.decrypt(&mechanism, wrapping, wrapped).is_err(), "{mechanism:?}");
        }
    });
}

/// A public, persistent copy would sign for whoever can open the module, long after the PIN was changed.
#[test]
fn no_child_stays_to_sign_without_login() {
    if attacker().is_none() {
        let token = TestToken::new();
        let (worker, keys) = token.initialised();
        drop(worker);
        let wrapped = wrap(&keys, &SecretKey::new(&mut rand::thread_rng()));
        as_pin_holder(&token, "plant_a_child_that_stays", &wrapped);
        without_login(&token, "find_no_key_without_login", &[]);
    }
}

/// The same attack on a wrapping key whose template says less works: the test above can fail.
#[test]
fn under_a_short_template_a_child_stays_to_sign_without_login() {
    if attacker().is_none() {
        let token = TestToken::new();
        as_pin_holder(&token, "plant_short_template", &[]);
        let spki = spki_of_the_only_wrapping_key(&token);
        let secret = SecretKey::new(&mut rand::thread_rng());
        let keys = token_wire::Keys {
            wrapping_spki: spki,
            attestation: [0; 32],
            checkpoint: [0; 32],
            sealing_spki: None,
            born: Vec::new(),
            keks: Vec::new(),
            forgotten_keks: Vec::new(),
        };
        let wrapped = wrap(&keys, &secret);
        as_pin_holder(&token, "plant_a_child_that_stays_under_a_short_template", &wrapped);
        without_login(&token, "sign_without_login", &[]);
    }
}

const STAYING: [&[Attribute]; 3] = [
    &[Attribute::Token(true), Attribute::Private(false)],
    &[Attribute::Token(true)],
    &[Attribute::Private(false)],
];

fn unwrap_to_stay(session: &Session, wrapped: &[u8], staying: &[Attribute]) -> bool {
    let wrapping = wrapping_key(session);
    let mut template = honest();
    for change in staying {
        let kind = change.attribute_type();
        let at = template.iter().position(|given| given.attribute_type() == kind).unwrap();
        template[at] = change.clone();
    }
    session.unwrap_key(&oaep(), wrapping, wrapped, &template).is_ok()
}

#[test]
fn plant_a_child_that_stays() {
    let Some((session, wrapped)) = attacker() else { return };
    for staying in STAYING {
        assert!(!unwrap_to_stay(&session, &wrapped, staying), "{staying:?}");
    }
}

#[test]
fn find_no_key_without_login() {
    let Some((session, _)) = attacker() else { return };
    assert!(find(&session, ObjectClass::PRIVATE_KEY, KeyType::EC).is_empty());
    assert!(find(&session, ObjectClass::PRIVATE_KEY, KeyType::RSA).is_empty());
}

#[test]
fn plant_short_template() {
    plant_template(&[Attribute::Sensitive(true), Attribute::Extractable(false)]);
}

#[test]
fn plant_a_child_that_stays_under_a_short_template() {
    let Some((session, wrapped)) = attacker() else { return };
    assert!(unwrap_to_stay(&session, &wrapped, STAYING[0]));
}

#[test]
fn sign_without_login() {
    let Some((session, _)) = attacker() else { return };
    let child = find(&session, ObjectClass::PRIVATE_KEY, KeyType::EC)[0];
    assert_eq!(session.sign(&Mechanism::Ecdsa, child, &[7; 32]).unwrap().len(), 64);
}

/// Wraps with keys of the attacker's own, symmetric and RSA, which would open the result.
#[test]
fn nothing_is_wrapped_and_then_decrypted() {
    attack("nothing_is_wrapped_and_then_decrypted", |session, wrapping, wrapped| {
        let child = session.unwrap_key(&oaep(), wrapping, wrapped, &honest()).unwrap();
        let mut targets = vec![child];
        for kind in [KeyType::RSA, KeyType::EC_EDWARDS] {
            targets.extend(find(session, ObjectClass::PRIVATE_KEY, kind));
        }
        // The child; wrapping and sealing key; attestation and checkpoint.
        assert_eq!(targets.len(), 5);
        let aes = [
            Attribute::Token(false),
            Attribute::Wrap(true),
            Attribute::Decrypt(true),
            Attribute::ValueLen(32.into()),
        ];
        let aes = session.generate_key(&Mechanism::AesKeyGen, &aes).unwrap();
        let (rsa, _) = own_rsa(session);
        for target in targets {
            for mechanism in [Mechanism::AesKeyWrap, Mechanism::AesKeyWrapPad] {
                assert!(session.wrap_key(&mechanism, aes, target).is_err(), "{mechanism:?}");
            }
            for mechanism in [oaep(), Mechanism::RsaPkcs] {
                assert!(session.wrap_key(&mechanism, rsa, target).is_err(), "{mechanism:?}");
            }
        }
        // The way itself is open to keys that may go: what was refused above was refused for the key's sake.
        let loose = [
            Attribute::Token(false),
            Attribute::Sensitive(true),
            Attribute::Extractable(true),
            Attribute::ValueLen(32.into()),
        ];
        let loose = session.generate_key(&Mechanism::AesKeyGen, &loose).unwrap();
        assert!(session.wrap_key(&Mechanism::AesKeyWrap, aes, loose).is_ok());
    });
}

/// A session key pair of the attacker's own that wraps and decrypts.
fn own_rsa(session: &Session) -> (ObjectHandle, ObjectHandle) {
    let public = [
        Attribute::Token(false),
        Attribute::ModulusBits(2048.into()),
        Attribute::PublicExponent(vec![1, 0, 1]),
        Attribute::Wrap(true),
        Attribute::Encrypt(true),
    ];
    let private = [Attribute::Token(false), Attribute::Decrypt(true)];
    session.generate_key_pair(&Mechanism::RsaPkcsKeyPairGen, &public, &private).unwrap()
}

#[test]
fn no_key_is_copied() {
    attack("no_key_is_copied", |session, wrapping, wrapped| {
        let child = session.unwrap_key(&oaep(), wrapping, wrapped, &honest()).unwrap();
        let mut targets = vec![child];
        for kind in [KeyType::RSA, KeyType::EC_EDWARDS] {
            targets.extend(find(session, ObjectClass::PRIVATE_KEY, kind));
        }
        for target in targets {
            for template in [
                vec![],
                vec![Attribute::Token(false)],
                vec![Attribute::Token(true)],
                vec![Attribute::Extractable(true)],
                vec![Attribute::Sensitive(false), Attribute::Extractable(true)],
                vec![Attribute::Modifiable(true), Attribute::Copyable(true)],
            ] {
                assert!(session.copy_object(target, &template).is_err(), "{template:?}");
            }
        }
        // The same call copies a key that may be copied: what was refused above was refused for the key's sake.
        let (_, loose) = own_rsa(session);
        for template in [vec![], vec![Attribute::Token(false)]] {
            session.copy_object(loose, &template).unwrap();
        }
    });
}

#[test]
fn no_attribute_is_changed() {
    attack("no_attribute_is_changed", |session, wrapping, wrapped| {
        let child = session.unwrap_key(&oaep(), wrapping, wrapped, &honest()).unwrap();
        let mut targets = vec![child];
        for kind in [KeyType::RSA, KeyType::EC_EDWARDS] {
            targets.extend(find(session, ObjectClass::PRIVATE_KEY, kind));
        }
        let changes = [
            Attribute::Token(true),
            Attribute::Private(false),
            Attribute::Sensitive(false),
            Attribute::Extractable(true),
            Attribute::Derive(true),
            Attribute::Decrypt(true),
            Attribute::Copyable(true),
            Attribute::Modifiable(true),
            Attribute::Destroyable(true),
            Attribute::AllowedMechanisms(vec![MechanismType::RSA_PKCS]),
            Attribute::VendorDefined((AttributeType::VendorDefined(0x4000_0212), Vec::new())),
        ];
        for (target, change) in
            targets.iter().flat_map(|target| changes.iter().map(move |change| (*target, change)))
        {
            let kind = change.attribute_type();
            let before = session.get_attributes(target, &[kind]).unwrap_or_default();
            let changed = session.update_attributes(target, std::slice::from_ref(change));
            assert!(changed.is_err(), "{change:?}");
            assert_eq!(session.get_attributes(target, &[kind]).unwrap_or_default(), before);
        }
        // The same calls change a key that may be changed.
        let (_, loose) = own_rsa(session);
        for change in [Attribute::Derive(true), Attribute::Sensitive(true)] {
            let kind = change.attribute_type();
            session.update_attributes(loose, std::slice::from_ref(&change)).unwrap();
            assert_eq!(session.get_attributes(loose, &[kind]).unwrap(), [change]);
        }
    });
}

/// Attestation key for checkpoint key: statements of one would be taken for the other's.
#[test]
fn labels_are_not_swapped_and_would_not_matter() {
    const TEST: &str = "labels_are_not_swapped_and_would_not_matter";
    attack(TEST, |session, _, _| {
        let labels = ["cofferdam attestation 1", "cofferdam checkpoint 1"].map(str::as_bytes);
        for class in [ObjectClass::PRIVATE_KEY, ObjectClass::PUBLIC_KEY] {
            for (label, other) in [(labels[0], labels[1]), (labels[1], labels[0])] {
                let named = [Attribute::Class(class), Attribute::Label(label.to_vec())];
                let found = session.find_objects(&named).unwrap();
                assert_eq!(found.len(), 1);
                let renamed = [Attribute::Label(other.to_vec())];
                assert!(session.update_attributes(found[0], &renamed).is_err());
            }
        }
        // Keys of the attacker's own under those names: `attack` then sees that the right ones are still bound.
        for label in labels {
            make_rsa(session, label, |_| {});
        }
    });
}

/// Nobody makes room for another wrapping key, and one beside it is another by its fingerprint, which two people
/// compare before a ceremony (`ceremony/tests/story.rs`): the ceremony does not take it for the right one.
#[test]
fn a_wrapping_key_put_in_its_place_has_another_fingerprint() {
    if attacker().is_some() {
        return;
    }
    let token = TestToken::new();
    let (worker, keys) = token.initialised();
    drop(worker);
    as_pin_holder(&token, "plant_in_place_of_the_wrapping_key", &[]);
    the_ceremony_takes_only_the_right_one(&token, &keys.wrapping_spki);
    let mut worker = token.worker();
    worker.open(true);
    assert_eq!(worker.ask(&Request::Login), Reply::LoggedIn);
    assert_eq!(
        worker
            .fault(&Request::Init {
                challenge: [1; 32],
                schemes: Schemes::default(),
                sealing: true
            })
            .code,
        FaultCode::KeyAmbiguous
    );
    let fingerprint = Sha256::digest(&keys.wrapping_spki);
    match worker.ask(&Request::Bind(Binding {
        keys,
        schemes: Schemes::default(),
        challenge: [1; 32],
    })) {
        Reply::Bound { keys: shown, .. } => {
            assert_eq!(Sha256::digest(shown.wrapping_spki), fingerprint);
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn plant_in_place_of_the_wrapping_key() {
    let Some((session, _)) = attacker() else { return };
    for class in [ObjectClass::PRIVATE_KEY, ObjectClass::PUBLIC_KEY] {
        for key in find(&session, class, KeyType::RSA) {
            assert!(session.destroy_object(key).is_err());
            let moved = [Attribute::Label(b"elsewhere".to_vec())];
            assert!(session.update_attributes(key, &moved).is_err());
        }
    }
    make_rsa(&session, b"cofferdam wrapping 1", |_| {});
}

/// Every key as a file for the ceremony, against the fingerprint of the right one.
fn the_ceremony_takes_only_the_right_one(token: &TestToken, right: &[u8]) {
    let fingerprint = to_hex(&Sha256::digest(right));
    let mut outcomes = [0; 2];
    for spki in spkis_of_wrapping_keys(token) {
        let text = base64::engine::general_purpose::STANDARD.encode(&spki);
        let pem = format!("-----BEGIN PUBLIC KEY-----\n{text}\n-----END PUBLIC KEY-----\n");
        let key = WrappingKey::from_pem(&pem).unwrap();
        match key.confirm(&fingerprint) {
            Ok(taken) => {
                assert_eq!(spki, right);
                assert_eq!(to_hex(&taken.fingerprint()), fingerprint);
                outcomes[0] += 1;
            }
            Err(ceremony::Error::Fingerprint { actual }) => {
                assert_ne!(spki, right);
                let planted = to_hex(&Sha256::digest(&spki));
                assert_eq!(actual.replace(' ', "").to_lowercase(), planted, "it says whose it is");
                outcomes[1] += 1;
            }
            Err(other) => panic!("{other}"),
        }
    }
    // The planted one and, which is of the token as well, the one for sealed accounts.
    assert_eq!(outcomes, [1, 2], "taken and refused");
}

/// What a worker would read of the one RSA key there, without trusting it.
fn spki_of_the_only_wrapping_key(token: &TestToken) -> Vec<u8> {
    let [spki] = <[Vec<u8>; 1]>::try_from(spkis_of_wrapping_keys(token)).unwrap();
    spki
}

fn spkis_of_wrapping_keys(token: &TestToken) -> Vec<Vec<u8>> {
    let file = token.dir.path().join("moduli");
    as_pin_holder(token, "write_down_the_moduli", file.as_os_str().as_encoded_bytes());
    let spki = |line: &str| {
        let modulus = rsa::BigUint::from_bytes_be(&hex(line));
        let key = rsa::RsaPublicKey::new(modulus, rsa::BigUint::from(65537_u32)).unwrap();
        rsa::pkcs8::EncodePublicKey::to_public_key_der(&key).unwrap().into_vec()
    };
    fs::read_to_string(file).unwrap().lines().map(spki).collect()
}

#[test]
fn write_down_the_moduli() {
    let Some((session, path)) = attacker() else { return };
    let line =
        |key| match session.get_attributes(key, &[AttributeType::Modulus]).unwrap().as_slice() {
            [Attribute::Modulus(modulus)] => to_hex(modulus) + "\n",
            other => panic!("{other:?}"),
        };
    let keys = find(&session, ObjectClass::PUBLIC_KEY, KeyType::RSA);
    let lines: String = keys.into_iter().map(line).collect();
    fs::write(String::from_utf8(path).unwrap(), lines).unwrap();
}

/// Not one that must fail: nothing stops the PIN's holder from signing. It must be told from what the worker did.
#[test]
fn what_answers_tell_is_all_that_the_module_saw_but_for_the_pin_holders_own() {
    const NAME: &str = "what_answers_tell_is_all_that_the_module_saw_but_for_the_pin_holders_own";
    if let Some((session, wrapped)) = attacker() {
        let child = session.unwrap_key(&oaep(), wrapping_key(&session), &wrapped, &honest());
        session.sign(&Mechanism::Ecdsa, child.unwrap(), &[1; 32]).unwrap();
        return;
    }
    let mut token = TestToken::new();
    let folder = tempfile::tempdir().unwrap();
    let env = [
        ("FAULTY_MODULE".to_owned(), token.module.clone()),
        ("FAULTY_DIR".to_owned(), folder.path().to_str().unwrap().to_owned()),
    ];
    token.module = support::faulty_module().to_str().unwrap().to_owned();
    let env: Vec<(&str, &str)> =
        env.iter().map(|(name, is)| (name.as_str(), is.as_str())).collect();
    let (module, config) = (token.module.as_str(), token.config());
    let mut worker = Worker::start(module, &config, "cofferdam-dev", &token.pin_file(), &env);
    worker.open(true);
    assert_eq!(worker.ask(&Request::Login), Reply::LoggedIn);
    let init = Request::Init { challenge: [3; 32], schemes: Schemes::default(), sealing: true };
    let Reply::Bound { keys, .. } = worker.ask(&init) else { panic!() };
    let wrapped = wrap(&keys, &SecretKey::new(&mut rand::thread_rng()));
    let job = |wrapped: &[u8]| Job {
        permit: [1; 16],
        by: WrappedBy::OaepSha1,
        wrapped: wrapped.to_vec(),
        digest: [7; 32],
    };
    // The last one is no key: refused, once the canary was asked as well.
    let jobs = vec![job(&wrapped), job(&wrapped), job(&[0; 384])];
    worker.ask(&Request::Sign(Batch { id: 1, jobs }));
    let (key, message) = (StatementKey::Attestation, b"a statement".to_vec());
    worker.ask(&Request::Statement { key, message });
    worker.ask(&Request::Shutdown);
    let mut told = BTreeMap::new();
    for Operation { function, key, done, unsure } in worker.operations.drain(..) {
        assert_eq!(unsure, 0, "{function} {key}");
        *told.entry((function, key)).or_insert(0) += done;
    }
    let seen = || {
        let mut seen: BTreeMap<(String, String), u64> = BTreeMap::new();
        for line in fs::read_to_string(folder.path().join("operations")).unwrap().lines() {
            let (function, key) = line.split_once(" 1 ").unwrap();
            *seen.entry((function.to_owned(), key.to_owned())).or_default() += 1;
        }
        seen
    };
    assert_eq!(told, seen());
    let name = |function: &str, key: &str| (function.to_owned(), key.to_owned());
    assert!(told[&name("C_Sign", "-")] >= 3 && told[&name("C_Decrypt", "-")] >= 1, "{told:?}");
    let statements = told[&name("C_Sign", "cofferdam attestation 1")];
    assert!(statements == 2 && told.len() == 6, "{told:?}");
    attacker::as_pin_holder_with(&token, NAME, &wrapped, &env);
    *told.get_mut(&name("C_Sign", "-")).unwrap() += 1;
    *told.get_mut(&name("C_UnwrapKey", "cofferdam wrapping 1")).unwrap() += 1;
    assert_eq!(told, seen());
}
