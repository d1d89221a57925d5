//! What the holder of the PIN can do with the keys: each attack is made through PKCS#11, past the worker, in a
//! process of its own (the module reads its environment when it is loaded). And what the worker does when it
//! meets keys that somebody made weaker.
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

use cryptoki::mechanism::{Mechanism, MechanismType};
use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass};
use secp256k1::SecretKey;
use support::attacker::{
    as_pin_holder, attacker, find, honest, honest_but, make_rsa, no_way_out, oaep, plant_template,
    unwraps_as_it_must, wrapped_by_pkcs1, wrapping_key,
};
use support::{TestToken, wrap};
use token_wire::{FaultCode, Reply, Request, Schemes};

#[test]
fn a_pin_holder_gets_no_key_out() {
    let token = TestToken::new();
    let (worker, keys) = token.initialised();
    drop(worker);
    let wrapped = wrap(&keys, &SecretKey::new(&mut rand::thread_rng()));
    as_pin_holder(&token, "attack_unwrapping", &wrapped);
    as_pin_holder(&token, "attack_the_keys", &wrapped);
    // Nothing was left behind, and nothing was damaged.
    let (_, again) = token.initialised();
    assert_eq!(again, keys);
}

/// Every template that differs from the honest one, and every use of an honestly unwrapped child.
#[test]
fn attack_unwrapping() {
    let Some((session, wrapped)) = attacker() else { return };
    let wrapping = wrapping_key(&session);
    unwraps_as_it_must(&session, &|template| {
        session.unwrap_key(&oaep(), wrapping, &wrapped, template)
    });
}

/// Everything but what the keys are for.
#[test]
fn attack_the_keys() {
    let Some((session, wrapped)) = attacker() else { return };
    let unwrapping = find(&session, ObjectClass::PRIVATE_KEY, KeyType::RSA);
    let signing = find(&session, ObjectClass::PRIVATE_KEY, KeyType::EC_EDWARDS);
    // The wrapping and the sealing key; attestation and checkpoint.
    assert_eq!((unwrapping.len(), signing.len()), (2, 2));
    for key in unwrapping.iter().chain(&signing) {
        no_way_out(&session, *key);
        assert!(session.destroy_object(*key).is_err());
        for change in [
            Attribute::Label(b"mine".to_vec()),
            Attribute::Id(vec![1]),
            Attribute::Sign(true),
            Attribute::Unwrap(true),
            Attribute::Decrypt(true),
            Attribute::Derive(true),
            Attribute::Modifiable(true),
            Attribute::Destroyable(true),
            Attribute::AllowedMechanisms(vec![MechanismType::RSA_PKCS]),
            Attribute::VendorDefined((AttributeType::VendorDefined(0x4000_0212), Vec::new())),
        ] {
            assert!(
                session.update_attributes(*key, std::slice::from_ref(&change)).is_err(),
                "{change:?}"
            );
        }
    }
    let key = wrapping_key(&session);
    // The child's PKCS#8 in the clear would be the answer.
    for mechanism in [oaep(), Mechanism::RsaPkcs, Mechanism::RsaX509] {
        assert!(session.decrypt(&mechanism, key, &wrapped).is_err());
        assert!(session.sign(&mechanism, key, &[1; 32]).is_err());
    }
    for mechanism in [Mechanism::RsaPkcs, Mechanism::RsaX509] {
        assert!(session.unwrap_key(&mechanism, key, &wrapped, &honest()).is_err());
    }
    let fitting = wrapped_by_pkcs1(&session);
    assert!(session.unwrap_key(&Mechanism::RsaPkcs, key, &fitting, &honest()).is_err());
    for key in signing {
        assert!(session.sign(&Mechanism::Ecdsa, key, &[1; 32]).is_err());
        assert!(session.unwrap_key(&oaep(), key, &wrapped, &honest()).is_err());
    }
    // Public halves cannot be destroyed or renamed to make room for others.
    for kind in [KeyType::RSA, KeyType::EC_EDWARDS] {
        for key in find(&session, ObjectClass::PUBLIC_KEY, kind) {
            assert!(session.destroy_object(key).is_err());
            assert!(session.update_attributes(key, &[Attribute::Id(vec![1])]).is_err());
        }
    }
}

/// The attacks above can succeed: on a key without an unwrap template, a child comes out in the clear.
#[test]
fn a_wrapping_key_without_template_gives_children_away() {
    let token = TestToken::new();
    as_pin_holder(&token, "plant_wrapping_key_without_template", &[]);
    let mut worker = token.worker();
    worker.open(true);
    assert_eq!(worker.ask(&Request::Login), Reply::LoggedIn);
    let fault = worker.fault(&Request::Init {
        challenge: [1; 32],
        schemes: Schemes::default(),
        sealing: true,
    });
    assert_eq!(fault.code, FaultCode::KeyUnsafe);
    assert!(
        fault.text.contains("wrapping key") && fault.text.contains("CKA_UNWRAP_TEMPLATE"),
        "{fault}"
    );
}

#[test]
fn plant_wrapping_key_without_template() {
    let Some((session, _)) = attacker() else { return };
    let (public, private) = make_rsa(&session, b"cofferdam wrapping 1", |_| {});
    let canary = SecretKey::from_slice(&[0x11; 32]).unwrap();
    let wrapped = session.encrypt(&oaep(), public, &support::pkcs8(&canary)).unwrap();
    let mut greedy = honest();
    greedy[4] = Attribute::Sensitive(false);
    greedy[5] = Attribute::Extractable(true);
    let child = session.unwrap_key(&oaep(), private, &wrapped, &greedy).unwrap();
    match session.get_attributes(child, &[AttributeType::Value]).unwrap().as_slice() {
        [Attribute::Value(value)] => assert_eq!(value.as_slice(), canary.secret_bytes()),
        other => panic!("{other:?}"),
    }
}

/// One attribute of the wrapping key is off at a time; the worker names it.
#[test]
fn a_weaker_wrapping_key_is_refused_by_attribute() {
    for (plant, named) in [
        ("plant_modifiable_wrapping_key", "CKA_MODIFIABLE"),
        ("plant_extractable_wrapping_key", "CKA_EXTRACTABLE"),
        ("plant_decrypting_wrapping_key", "CKA_DECRYPT"),
        ("plant_wrapping_key_for_more_mechanisms", "CKA_ALLOWED_MECHANISMS"),
    ] {
        let token = TestToken::new();
        as_pin_holder(&token, plant, &[]);
        let mut worker = token.worker();
        worker.open(true);
        assert_eq!(worker.ask(&Request::Login), Reply::LoggedIn);
        let fault = worker.fault(&Request::Init {
            challenge: [1; 32],
            schemes: Schemes::default(),
            sealing: true,
        });
        assert_eq!(fault.code, FaultCode::KeyUnsafe);
        assert!(fault.text.contains("wrapping key") && fault.text.contains(named), "{fault}");
    }
}

#[test]
fn plant_modifiable_wrapping_key() {
    plant(|template| drop(template.pop()));
}

#[test]
fn plant_extractable_wrapping_key() {
    plant(|template| template[3] = Attribute::Extractable(true));
}

#[test]
fn plant_decrypting_wrapping_key() {
    plant(|template| template[4] = Attribute::Decrypt(true));
}

#[test]
fn plant_wrapping_key_for_more_mechanisms() {
    let both = vec![MechanismType::RSA_PKCS_OAEP, MechanismType::RSA_PKCS];
    plant(|template| template[9] = Attribute::AllowedMechanisms(both.clone()));
}

/// A template of the right length can still say the wrong thing, and cannot be read back: the canary finds it.
#[test]
fn a_whole_but_wrong_template_is_found_by_the_canary() {
    for (plant, said) in [
        ("plant_template_that_extracts", "unwraps a child extractable"),
        ("plant_template_that_shows", "unwraps a child not sensitive"),
        ("plant_template_that_derives", "unwraps a child for deriving"),
    ] {
        let token = TestToken::new();
        as_pin_holder(&token, plant, &[]);
        let mut worker = token.worker();
        worker.open(true);
        assert_eq!(worker.ask(&Request::Login), Reply::LoggedIn);
        let fault = worker.fault(&Request::Init {
            challenge: [1; 32],
            schemes: Schemes::default(),
            sealing: true,
        });
        assert_eq!(fault.code, FaultCode::KeyUnsafe);
        assert!(fault.text.contains(said) && fault.text.contains("token-hd"), "{fault}");
    }
}

#[test]
fn plant_template_that_extracts() {
    plant_template(&honest_but(Attribute::Extractable(true)));
}

#[test]
fn plant_template_that_shows() {
    plant_template(&honest_but(Attribute::Sensitive(false)));
}

#[test]
fn plant_template_that_derives() {
    plant_template(&honest_but(Attribute::Derive(true)));
}

/// Two keys under one label, or two objects that claim one public key: nobody can say which is meant.
#[test]
fn a_second_key_of_the_same_name_is_refused() {
    let token = TestToken::new();
    let (worker, keys) = token.initialised();
    drop(worker);
    as_pin_holder(&token, "plant_second_wrapping_key", &[]);
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
    // Bound by public key, the signer goes on with the right one whatever the other is called.
    let binding =
        token_wire::Binding { keys: keys.clone(), schemes: Schemes::default(), challenge: [1; 32] };
    assert!(matches!(worker.ask(&Request::Bind(binding)), Reply::Bound { .. }));
    drop(worker);

    as_pin_holder(&token, "plant_second_public_half", &keys.checkpoint);
    let mut worker = token.worker();
    worker.open(false);
    assert_eq!(worker.ask(&Request::Login), Reply::LoggedIn);
    let binding = token_wire::Binding { keys, schemes: Schemes::default(), challenge: [1; 32] };
    let fault = worker.fault(&Request::Bind(binding));
    assert!(fault.code == FaultCode::KeyAmbiguous && fault.text.contains("checkpoint"), "{fault}");
}

#[test]
fn plant_second_wrapping_key() {
    plant(|_| {});
}

#[test]
fn plant_second_public_half() {
    let Some((session, point)) = attacker() else { return };
    let mut octets = vec![0x04, 0x20];
    octets.extend_from_slice(&point);
    let public = [
        Attribute::Class(ObjectClass::PUBLIC_KEY),
        Attribute::KeyType(KeyType::EC_EDWARDS),
        Attribute::Token(true),
        Attribute::Private(false),
        Attribute::EcParams(vec![0x06, 0x03, 0x2b, 0x65, 0x70]),
        Attribute::EcPoint(octets),
        Attribute::Id(b"another".to_vec()),
    ];
    session.create_object(&public).unwrap();
}

fn plant(change: impl Fn(&mut Vec<Attribute>)) {
    let Some((session, _)) = attacker() else { return };
    make_rsa(&session, b"cofferdam wrapping 1", change);
}
