//! Keys for coins that are born in the token, on a real SoftHSM: made once, found again by their public halves, one
//! call a signature, and refused by name when one attribute is not what it must be. Somebody with the PIN gets none out.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a test fails by panicking"
)]

mod support;

use cryptoki::mechanism::{Mechanism, MechanismType};
use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass};
use cryptoki::session::Session;
use secp256k1::{Message, PublicKey, SECP256K1, ecdsa};
use sha2::{Digest as _, Sha256};
use support::attacker::{as_pin_holder, attacker, find, no_way_out};
use support::{TestToken, Worker};
use token_wire::{
    BATCH_JOBS_MAX, Binding, BornBatch, BornJob, FaultCode, JobOutcome, Keys, RawSignature, Reply,
    Request, Schemes,
};

const CURVE: [u8; 7] = [0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x0a];

/// Made in a session of its own, as `signer token-key generate` does.
fn made(token: &TestToken, keys: &Keys, name: &str) -> (Vec<u8>, bool) {
    let mut worker = bound(token, keys, true);
    match worker.ask(&Request::MakeBorn { name: name.to_owned() }) {
        Reply::BornMade { public_key, new } => (public_key, new),
        other => panic!("{other:?}"),
    }
}

fn opened(token: &TestToken, write: bool) -> Worker {
    let mut worker = token.worker();
    worker.open(write);
    assert_eq!(worker.ask(&Request::Login), Reply::LoggedIn);
    worker
}

fn bound(token: &TestToken, keys: &Keys, write: bool) -> Worker {
    let mut worker = opened(token, write);
    let challenge = [8; 32];
    let binding = Binding { keys: keys.clone(), schemes: Schemes::default(), challenge };
    let Reply::Bound { keys: found, proofs, .. } = worker.ask(&Request::Bind(binding)) else {
        panic!("not bound")
    };
    assert_eq!(found, *keys);
    assert_eq!(proofs.born.len(), keys.born.len());
    for (key, proof) in keys.born.iter().zip(&proofs.born) {
        let digest = Sha256::digest(Binding::born_statement(&challenge, key)).into();
        assert!(verifies(*proof, digest, key));
    }
    worker
}

fn verifies(raw: RawSignature, digest: [u8; 32], key: &[u8]) -> bool {
    let mut signature = ecdsa::Signature::from_compact(&raw.to_bytes()).unwrap();
    signature.normalize_s();
    let key = PublicKey::from_slice(key).unwrap();
    SECP256K1.verify_ecdsa(&Message::from_digest(digest), &signature, &key).is_ok()
}

fn batch(keys: &[&Vec<u8>]) -> BornBatch {
    let job = |(at, key): (usize, &&Vec<u8>)| BornJob {
        permit: [1; 16],
        public_key: (*key).clone(),
        digest: [u8::try_from(at % 256).unwrap(); 32],
    };
    BornBatch { id: 7, jobs: keys.iter().enumerate().map(job).collect() }
}

#[test]
fn a_key_is_made_once_found_by_its_public_half_and_signs_with_one_call() {
    let token = TestToken::new();
    let (worker, mut keys) = token.initialised();
    drop(worker);
    let (one, new) = made(&token, &keys, "one");
    assert!(new);
    keys.born = vec![one.clone()];
    assert_eq!(made(&token, &keys, "one"), (one.clone(), false), "a name is one key");
    let (two, _) = made(&token, &keys, "two");
    assert_ne!(one, two);
    keys.born = vec![two.clone(), one.clone()];

    let mut worker = bound(&token, &keys, false);
    let before = worker.counters();
    let order = [&one, &two, &one, &one, &two];
    let asked = batch(&order);
    let Reply::Signed { id: 7, outcomes } = worker.ask(&Request::Born(asked.clone())) else {
        panic!("not signed")
    };
    assert_eq!(outcomes.len(), order.len());
    for (outcome, job) in outcomes.iter().zip(&asked.jobs) {
        let JobOutcome::Signed(raw) = outcome else { panic!("{outcome:?}") };
        assert!(verifies(*raw, job.digest, &job.public_key));
    }
    let after = worker.counters();
    assert_eq!((after.signs - before.signs, after.finds - before.finds), (5, 0));
    assert_eq!((after.unwraps, after.destroys), (before.unwraps, before.destroys));
    assert_eq!(worker.ask(&Request::Check), Reply::Checked);

    let Reply::Described(shown) = worker.ask(&Request::Describe { public_key: one.clone() }) else {
        panic!("not described")
    };
    for line in [
        "CKA_LOCAL true",
        "CKA_EXTRACTABLE false",
        "CKA_NEVER_EXTRACTABLE true",
        "CKA_ALWAYS_SENSITIVE true",
        "CKA_EC_PARAMS 06052b8104000a",
        "CKA_MODIFIABLE false",
        "CKA_COPYABLE false",
        "CKA_SIGN true",
    ] {
        assert!(shown.iter().any(|shown| shown == line), "{line}: {shown:?}");
    }
    assert!(shown.iter().all(|line| line.starts_with("CKA_") && line.contains(' ')), "{shown:?}");
}

#[test]
fn what_is_not_bound_or_too_much_is_refused() {
    let token = TestToken::new();
    let (worker, mut keys) = token.initialised();
    drop(worker);
    let (one, _) = made(&token, &keys, "one");
    let mut worker = bound(&token, &keys, false);
    for question in [
        Request::Born(batch(&[&one])),
        Request::Describe { public_key: one.clone() },
        Request::Born(BornBatch { jobs: Vec::new(), ..batch(&vec![&one; BATCH_JOBS_MAX + 1]) }),
    ] {
        match worker.ask(&question) {
            Reply::Fault(fault) => assert_eq!(fault.code, FaultCode::BadRequest),
            Reply::Signed { outcomes, .. } => assert!(outcomes.is_empty()),
            other => panic!("{other:?}"),
        }
    }
    drop(worker);
    keys.born = vec![one.clone()];
    let mut worker = bound(&token, &keys, false);
    let many = Request::Born(batch(&vec![&one; BATCH_JOBS_MAX + 1]));
    assert_eq!(worker.fault(&many).code, FaultCode::BadRequest);
    // A session for reading makes none.
    let fault = worker.fault(&Request::MakeBorn { name: "two".to_owned() });
    assert!(fault.text.contains("make"), "{}", fault.text);
    drop(worker);
    // One that is not there.
    keys.born.push([&[2], [0x11; 32].as_slice()].concat());
    let fault = opened(&token, false).fault(&Request::Bind(Binding {
        keys,
        schemes: Schemes::default(),
        challenge: [8; 32],
    }));
    assert_eq!(fault.code, FaultCode::KeyMissing);
    assert!(fault.text.contains("token key 021111"), "{}", fault.text);
}

/// The honest templates of such a key, with changes.
fn plant(session: &Session, name: &str, id: u8, changes: &[Attribute]) {
    let label = Attribute::Label(format!("cofferdam token-key {name}").into_bytes());
    let public = [
        Attribute::Token(true),
        Attribute::Private(false),
        Attribute::EcParams(CURVE.to_vec()),
        Attribute::Verify(true),
        Attribute::Id(vec![id]),
        label.clone(),
    ];
    let mut private = vec![
        Attribute::Token(true),
        Attribute::Private(true),
        Attribute::Sensitive(true),
        Attribute::Extractable(false),
        Attribute::Decrypt(false),
        Attribute::SignRecover(false),
        Attribute::Derive(false),
        Attribute::AllowedMechanisms(vec![MechanismType::ECDSA]),
        Attribute::Id(vec![id]),
        label,
        Attribute::Copyable(false),
        Attribute::Destroyable(false),
        Attribute::Sign(true),
        Attribute::Unwrap(false),
        Attribute::Modifiable(false),
    ];
    for change in changes {
        let kind = change.attribute_type();
        let at = private.iter().position(|there| there.attribute_type() == kind).unwrap();
        private[at] = change.clone();
    }
    session.generate_key_pair(&Mechanism::EccKeyPairGen, &public, &private).unwrap();
}

/// Each with one thing wrong, and what its refusal names.
fn bad_ones() -> Vec<(&'static str, Attribute, &'static str)> {
    vec![
        ("extractable", Attribute::Extractable(true), "CKA_EXTRACTABLE"),
        ("insensitive", Attribute::Sensitive(false), "CKA_SENSITIVE"),
        ("modifiable", Attribute::Modifiable(true), "CKA_MODIFIABLE"),
        ("copyable", Attribute::Copyable(true), "CKA_COPYABLE"),
        ("derives", Attribute::Derive(true), "CKA_DERIVE"),
        ("unwraps", Attribute::Unwrap(true), "CKA_UNWRAP"),
        ("destroyable", Attribute::Destroyable(true), "CKA_DESTROYABLE"),
        (
            "any-mechanism",
            Attribute::AllowedMechanisms(vec![MechanismType::ECDSA, MechanismType::ECDSA_SHA256]),
            "CKA_ALLOWED_MECHANISMS",
        ),
    ]
}

#[test]
fn plant_bad_keys() {
    let Some((session, _)) = attacker() else { return };
    for (at, (name, change, _)) in bad_ones().into_iter().enumerate() {
        plant(&session, name, u8::try_from(at).unwrap(), &[change]);
    }
    // One that was made elsewhere and put in: the attacker knows it.
    let secret = secp256k1::SecretKey::from_slice(&[0x21; 32]).unwrap();
    let point = secret.public_key(SECP256K1).serialize_uncompressed();
    let label = Attribute::Label(b"cofferdam token-key imported".to_vec());
    let both = [
        Attribute::KeyType(KeyType::EC),
        Attribute::Token(true),
        Attribute::EcParams(CURVE.to_vec()),
        Attribute::Id(vec![99]),
        label,
    ];
    let mut public = both.to_vec();
    public.push(Attribute::Class(ObjectClass::PUBLIC_KEY));
    public.push(Attribute::EcPoint([&[0x04, 0x41], point.as_slice()].concat()));
    session.create_object(&public).unwrap();
    let mut private = both.to_vec();
    private.extend([
        Attribute::Class(ObjectClass::PRIVATE_KEY),
        Attribute::Private(true),
        Attribute::Sensitive(true),
        Attribute::Extractable(false),
        Attribute::Sign(true),
        Attribute::Value(secret.secret_bytes().to_vec()),
    ]);
    session.create_object(&private).unwrap();
}

/// Under the very name that a person is about to generate, which then takes it for its own.
#[test]
fn a_key_with_one_wrong_attribute_is_refused_by_name() {
    let token = TestToken::new();
    let (worker, keys) = token.initialised();
    drop(worker);
    as_pin_holder(&token, "plant_bad_keys", &[]);
    let mut refused = 0;
    let imported = ("imported", Attribute::Local(true), "CKA_ALWAYS_SENSITIVE");
    for (name, _, attribute) in bad_ones().into_iter().chain([imported]) {
        let (public_key, new) = made(&token, &keys, name);
        assert!(!new, "{name}");
        let keys = Keys { born: vec![public_key.clone()], ..keys.clone() };
        let binding = Binding { keys, schemes: Schemes::default(), challenge: [8; 32] };
        let fault = opened(&token, false).fault(&Request::Bind(binding));
        assert_eq!(fault.code, FaultCode::KeyUnsafe, "{name}: {}", fault.text);
        let hex: String = public_key.iter().map(|byte| format!("{byte:02x}")).collect();
        let wanted = format!("token key {hex}: {attribute}");
        assert!(fault.text.contains(&wanted), "{name}: {}", fault.text);
        refused += 1;
    }
    assert_eq!(refused, 9);
}

#[test]
fn try_everything_on_a_born_key() {
    let Some((session, _)) = attacker() else { return };
    let keys = find(&session, ObjectClass::PRIVATE_KEY, KeyType::EC);
    assert_eq!(keys.len(), 1);
    no_way_out(&session, keys[0]);
    for change in [Attribute::Label(b"other".to_vec()), Attribute::Derive(true)] {
        assert!(session.update_attributes(keys[0], &[change]).is_err());
    }
    assert!(session.destroy_object(keys[0]).is_err());
    let other = session.sign(&Mechanism::EcdsaSha256, keys[0], b"another mechanism");
    assert!(other.is_err());
    let shown = session.get_attributes(keys[0], &[AttributeType::Value]).unwrap_or_default();
    assert!(shown.is_empty(), "its value is shown");
}

#[test]
fn a_pin_holder_gets_no_born_key_out() {
    let token = TestToken::new();
    let (worker, mut keys) = token.initialised();
    drop(worker);
    keys.born = vec![made(&token, &keys, "vault").0];
    as_pin_holder(&token, "try_everything_on_a_born_key", &[]);
    drop(bound(&token, &keys, false));
}
