//! Key-encryption keys on a real SoftHSM: imported through a key that is gone afterwards, found by what they open, good
//! for unwrapping children alone, and out of reach for whoever holds the PIN once the import is over.
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
use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle};
use cryptoki::session::Session;
use secp256k1::{SECP256K1, SecretKey};
use support::attacker::{
    as_pin_holder, attacker, find, honest, honest_but, import_key, no_way_out, oaep, only_kek,
    unwrap_template, unwraps_as_it_must,
};
use support::kek::{
    KWP, STANDARD, binding, binding_at, bound, handed_over, import_beside, is_rfc_5649, logged_in,
    open_import, opened, opened_beside, with_kek, wrap_under,
};
use support::{TestToken, pkcs8, to_hex, verifies};
use token_wire::{
    Batch, FaultCode, ImportOpening, Job, JobOutcome, Kek, KekImport, Keys, Reply, Request,
    Schemes, StatementKey, WrappedBy,
};

const KEK: [u8; 32] = [0x3c; 32];

fn sign(kek: &Kek, wrapped: &[u8], digest: [u8; 32]) -> Request {
    let job = Job {
        permit: [1; 16],
        by: WrappedBy::Kek(kek.fingerprint),
        wrapped: wrapped.to_vec(),
        digest,
    };
    Request::Sign(Batch { id: 1, jobs: vec![job] })
}

#[test]
fn children_sign_under_a_key_that_was_imported() {
    is_rfc_5649();
    let token = TestToken::new();
    let (mut worker, keys) = with_kek(&token, &KEK);
    let before = worker.counters();
    for at in 1..=20 {
        let secret = SecretKey::new(&mut rand::thread_rng());
        let wrapped = wrap_under(&KEK, &pkcs8(&secret));
        match worker.ask(&sign(&keys.keks[0], &wrapped, [at; 32])) {
            Reply::Signed { outcomes, .. } => match outcomes.as_slice() {
                [JobOutcome::Signed(raw)] => {
                    assert!(verifies(*raw, [at; 32], &secret.public_key(SECP256K1)));
                }
                other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        }
    }
    let after = worker.counters();
    assert_eq!(after.unwraps - before.unwraps, 20);
    assert_eq!(after.destroys - before.destroys, 20);
    assert_eq!((after.finds, after.logins), (before.finds, before.logins));
    // A child under another key is refused, and one wrapped in a way that is not bound is no question for this worker.
    let foreign = wrap_under(&[1; 32], &pkcs8(&SecretKey::new(&mut rand::thread_rng())));
    match worker.ask(&sign(&keys.keks[0], &foreign, [1; 32])) {
        Reply::Signed { outcomes, .. } => assert!(matches!(outcomes[0], JobOutcome::Refused(_))),
        other => panic!("{other:?}"),
    }
    for by in [WrappedBy::OaepSha1, WrappedBy::Kek([9; 32])] {
        let jobs = vec![Job { permit: [1; 16], by, wrapped: foreign.clone(), digest: [1; 32] }];
        let fault = worker.fault(&Request::Sign(Batch { id: 2, jobs }));
        assert_eq!(fault.code, FaultCode::BadRequest);
    }
    assert_eq!(worker.ask(&Request::Check), Reply::Checked);
}

/// Every wallet has a key of its own, and both schemes can be used at once.
#[test]
fn several_keys_and_the_wrapping_key_stand_side_by_side() {
    let token = TestToken::new();
    let (worker, keys) = with_kek(&token, &KEK);
    drop(worker);
    let second = import_beside(&mut logged_in(&token), &keys.keks, &[0x3d; 32]);
    let keys = Keys { keks: vec![keys.keks[0].clone(), second], ..keys };
    let mut worker = logged_in(&token);
    let schemes = Schemes { kwp_mechanism: Some(KWP), ..Schemes::default() };
    let both = token_wire::Binding { keys: keys.clone(), schemes, challenge: [1; 32] };
    let Reply::Bound { proofs, .. } = worker.ask(&Request::Bind(both)) else { panic!() };
    let ways: Vec<WrappedBy> = proofs.canaries.iter().map(|(way, _)| *way).collect();
    assert_eq!(ways, schemes.ways(&keys.keks));
    assert_eq!(ways.len(), 3);
    drop(worker);
    // One that is not in the token is named.
    let keys = Keys { keks: vec![handed_over(&keys.wrapping_spki, &[7; 32]).kek], ..keys };
    let fault = logged_in(&token).fault(&binding(&keys));
    assert!(
        fault.code == FaultCode::KeyMissing && fault.text.contains("key-encryption"),
        "{fault}"
    );
}

#[test]
fn nobody_serves_while_an_import_is_open() {
    let token = TestToken::new();
    let (worker, keys) = token.initialised();
    drop(worker);
    let mut worker = logged_in(&token);
    opened(&mut worker);
    let fault = worker.fault(&open_import(&[]));
    assert!(fault.code == FaultCode::KeyUnsafe && fault.text.contains("signer kek"), "{fault}");
    let fault = logged_in(&token).fault(&binding(&keys));
    assert!(fault.code == FaultCode::KeyUnsafe && fault.text.contains("one-time key"), "{fault}");
    assert_eq!(worker.ask(&Request::CloseImport), Reply::ImportClosed { was_open: true });
    assert_eq!(worker.ask(&Request::CloseImport), Reply::ImportClosed { was_open: false });
    bound(&token, &keys);
    // A worker that serves finds it at its next look.
    let mut serving = bound(&token, &keys);
    opened(&mut logged_in(&token));
    assert_eq!(serving.fault(&Request::Check).code, FaultCode::KeyUnsafe);
}

/// Whoever imports needs the log, and the log a checkpoint: nothing else is signed meanwhile.
#[test]
fn while_an_import_is_open_statements_alone_are_signed() {
    let token = TestToken::new();
    let (worker, keys) = token.initialised();
    drop(worker);
    opened(&mut logged_in(&token));
    let mut attending = logged_in(&token);
    let wanted =
        token_wire::Binding { keys: keys.clone(), schemes: Schemes::default(), challenge: [1; 32] };
    let bound = attending.ask(&Request::Attend(wanted));
    assert!(matches!(bound, Reply::Bound { .. }), "{bound:?}");
    let message = b"a checkpoint\n".to_vec();
    let stated = attending.ask(&Request::Statement { key: StatementKey::Checkpoint, message });
    assert!(matches!(stated, Reply::Stated(_)), "{stated:?}");
    assert_eq!(attending.ask(&Request::Check), Reply::Checked);
    let wrapped = support::wrap(&keys, &SecretKey::new(&mut rand::thread_rng()));
    let jobs = vec![Job { permit: [1; 16], by: WrappedBy::OaepSha1, wrapped, digest: [1; 32] }];
    let account = token_wire::SealedAccount { header: [0; 32], blob: vec![0; 500] };
    for question in [
        Request::Sign(Batch { id: 1, jobs }),
        Request::Sealed(token_wire::SealedBatch { id: 1, account, jobs: vec![] }),
        Request::Born(token_wire::BornBatch { id: 1, jobs: vec![] }),
        Request::MakeBorn { name: "coins".to_owned() },
    ] {
        assert_eq!(attending.fault(&question).code, FaultCode::BadRequest, "{question:?}");
    }
}

#[test]
fn forged_and_foreign_files_bring_nothing_in() {
    let token = TestToken::new();
    drop(token.initialised());
    let mut worker = logged_in(&token);
    let spki = opened(&mut worker);
    let good = handed_over(&spki, &KEK);
    let mut damaged = good.clone();
    damaged.wrapped[5] ^= 1;
    let mut other_key = good.clone();
    other_key.import_key[10] ^= 1;
    let mut forged = good.clone();
    forged.kek = handed_over(&spki, &[8; 32]).kek;
    for (import, code) in [
        (&damaged, FaultCode::Token),
        (&other_key, FaultCode::KeyMissing),
        (&forged, FaultCode::KeyUnsafe),
    ] {
        let fault = worker.fault(&Request::ImportKek(import.clone()));
        assert_eq!(fault.code, code, "{fault}");
    }
    // The forged one left the right key behind: it is found by what it opens, not made twice.
    assert!(matches!(worker.ask(&Request::ImportKek(good.clone())), Reply::KekImported { .. }));
    assert!(matches!(worker.ask(&Request::ImportKek(good)), Reply::KekImported { .. }));
    as_pin_holder(&token, "one_kek_is_there_and_no_one_time_key", &[]);
}

#[test]
fn one_kek_is_there_and_no_one_time_key() {
    let Some((session, _)) = attacker() else { return };
    assert_eq!(find(&session, ObjectClass::SECRET_KEY, KeyType::AES).len(), 1);
    for class in [ObjectClass::PRIVATE_KEY, ObjectClass::PUBLIC_KEY] {
        // The wrapping and the sealing key.
        assert_eq!(find(&session, class, KeyType::RSA).len(), 2);
    }
}

#[test]
fn a_pin_holder_gets_nothing_out_once_the_import_is_over() {
    let token = TestToken::new();
    let (worker, keys) = with_kek(&token, &KEK);
    drop(worker);
    let wrapped = wrap_under(&KEK, &pkcs8(&SecretKey::new(&mut rand::thread_rng())));
    as_pin_holder(&token, "attack_unwrapping_under_the_kek", &wrapped);
    as_pin_holder(&token, "attack_the_kek", &wrapped);
    bound(&token, &keys);
}

/// A key that nothing uses keeps nobody from serving, whether it is there, twice, or not; a weak copy of it does.
#[test]
fn a_forgotten_key_is_not_asked_for_but_never_weak() {
    let token = TestToken::new();
    let (worker, keys) = with_kek(&token, &KEK);
    drop(worker);
    let forgotten_keks = vec![keys.keks[0].clone(), handed_over(&keys.wrapping_spki, &[7; 32]).kek];
    let keys = Keys { keks: Vec::new(), forgotten_keks, ..keys };
    bound(&token, &keys);
    as_pin_holder(&token, "plant_kek_without_template", &[]);
    let fault = logged_in(&token).fault(&binding(&keys));
    assert!(fault.code == FaultCode::KeyUnsafe && fault.text.contains("burnt"), "{fault}");
}

/// Every template that differs from the honest one, and every use of an honestly unwrapped child.
#[test]
fn attack_unwrapping_under_the_kek() {
    let Some((session, wrapped)) = attacker() else { return };
    let kek = only_kek(&session);
    unwraps_as_it_must(&session, &|template| {
        session.unwrap_key(&Mechanism::AesKeyWrapPad, kek, &wrapped, template)
    });
}

/// Everything but what the key is for.
#[test]
fn attack_the_kek() {
    let Some((session, wrapped)) = attacker() else { return };
    let kek = only_kek(&session);
    no_way_out(&session, kek);
    assert!(session.destroy_object(kek).is_err());
    for change in [
        Attribute::Label(b"mine".to_vec()),
        Attribute::Decrypt(true),
        Attribute::Encrypt(true),
        Attribute::Wrap(true),
        Attribute::Derive(true),
        Attribute::Modifiable(true),
        Attribute::Destroyable(true),
        Attribute::AllowedMechanisms(vec![MechanismType::AES_KEY_WRAP]),
        Attribute::VendorDefined((AttributeType::VendorDefined(0x4000_0212), Vec::new())),
    ] {
        let changed = session.update_attributes(kek, std::slice::from_ref(&change));
        assert!(changed.is_err(), "{change:?}");
    }
    // The child's PKCS#8 in the clear would be the answer.
    let mechanisms = [
        Mechanism::AesKeyWrapPad,
        Mechanism::AesKeyWrap,
        Mechanism::AesEcb,
        Mechanism::AesCbc([0; 16]),
    ];
    for mechanism in mechanisms {
        assert!(session.decrypt(&mechanism, kek, &wrapped).is_err(), "{mechanism:?}");
        assert!(session.encrypt(&mechanism, kek, &[0; 16]).is_err(), "{mechanism:?}");
        if !matches!(mechanism, Mechanism::AesKeyWrapPad) {
            let unwrapped = session.unwrap_key(&mechanism, kek, &wrapped, &honest());
            assert!(unwrapped.is_err(), "{mechanism:?}");
        }
    }
    // Wrap what may be taken out under it: its own bytes would tell of the key.
    let bait =
        [Attribute::Token(false), Attribute::Extractable(true), Attribute::ValueLen(32.into())];
    let bait = session.generate_key(&Mechanism::AesKeyGen, &bait).unwrap();
    for mechanism in [Mechanism::AesKeyWrapPad, Mechanism::AesKeyWrap] {
        assert!(session.wrap_key(&mechanism, kek, bait).is_err(), "{mechanism:?}");
    }
}

/// A key that the PIN holder makes weaker is named by the attribute that is wrong; a copy, by there being two.
#[test]
fn weaker_keys_and_second_ones_are_refused() {
    for (plant, named) in [
        ("plant_kek_that_decrypts", "CKA_DECRYPT"),
        ("plant_kek_without_template", "CKA_UNWRAP_TEMPLATE"),
        ("plant_kek_for_any_mechanism", "CKA_ALLOWED_MECHANISMS"),
        ("plant_kek_that_can_be_changed", "CKA_MODIFIABLE"),
    ] {
        let token = TestToken::new();
        let (worker, keys) = token.initialised();
        drop(worker);
        as_pin_holder(&token, plant, &[]);
        let kek = handed_over(&keys.wrapping_spki, &KEK).kek;
        let fault = logged_in(&token).fault(&binding(&Keys { keks: vec![kek], ..keys }));
        assert_eq!(fault.code, FaultCode::KeyUnsafe);
        assert!(fault.text.contains("key-encryption") && fault.text.contains(named), "{fault}");
    }
    let token = TestToken::new();
    let (mut serving, keys) = with_kek(&token, &KEK);
    as_pin_holder(&token, "plant_kek_without_template", &[]);
    assert_eq!(serving.fault(&Request::Check).code, FaultCode::KeyAmbiguous);
    let fault = logged_in(&token).fault(&binding(&keys));
    assert_eq!(fault.code, FaultCode::KeyAmbiguous, "{fault}");
}

fn plant(session: &Session, change: impl Fn(&mut Vec<Attribute>)) -> ObjectHandle {
    let mut template = vec![
        Attribute::Class(ObjectClass::SECRET_KEY),
        Attribute::KeyType(KeyType::AES),
        Attribute::Token(true),
        Attribute::Private(true),
        Attribute::Sensitive(true),
        Attribute::Extractable(false),
        Attribute::Encrypt(false),
        Attribute::Decrypt(false),
        Attribute::Sign(false),
        Attribute::Verify(false),
        Attribute::Wrap(false),
        Attribute::Unwrap(true),
        Attribute::Derive(false),
        Attribute::Copyable(false),
        Attribute::Destroyable(false),
        Attribute::AllowedMechanisms(vec![MechanismType::AES_KEY_WRAP_PAD]),
        Attribute::Value(KEK.to_vec()),
        Attribute::Modifiable(false),
    ];
    change(&mut template);
    session.create_object(&template).unwrap()
}

#[test]
fn plant_kek_that_decrypts() {
    let Some((session, _)) = attacker() else { return };
    plant(&session, |template| template[7] = Attribute::Decrypt(true));
}

#[test]
fn plant_kek_without_template() {
    let Some((session, _)) = attacker() else { return };
    plant(&session, |_| {});
}

#[test]
fn plant_kek_for_any_mechanism() {
    let Some((session, _)) = attacker() else { return };
    plant(&session, |template| drop(template.remove(15)));
}

#[test]
fn plant_kek_that_can_be_changed() {
    let Some((session, _)) = attacker() else { return };
    plant(&session, |template| drop(template.pop()));
}

/// The residual risk, shown: with PIN, file and bundle, while the import is open, a weak copy opens children. The one-time
/// key's template makes it stay in the token, so that the import finds it and is refused.
#[test]
fn a_weak_copy_taken_while_the_import_is_open_is_found() {
    let token = TestToken::new();
    drop(token.initialised());
    let mut worker = logged_in(&token);
    let spki = opened(&mut worker);
    let import = handed_over(&spki, &KEK);
    as_pin_holder(&token, "take_a_weak_copy_while_the_import_is_open", &stolen(&import.wrapped));
    let fault = worker.fault(&Request::ImportKek(import));
    assert_eq!(fault.code, FaultCode::KeyUnsafe);
    assert!(fault.text.contains("CKA_UNWRAP_TEMPLATE"), "{fault}");
    assert!(fault.text.contains("burnt") && fault.text.contains("do not reseal"), "{fault}");
}

/// A copy under which the canary does not open as it does for us: what it opens says nothing of it, that it is there says
/// enough, before the import, after it, at every start and at every look.
#[test]
fn a_weak_copy_that_opens_no_canary_is_found_by_being_there() {
    for copy in [
        "take_a_copy_that_lets_children_be_extracted",
        "take_a_copy_whose_children_do_not_sign",
        "take_a_copy_for_another_mechanism",
    ] {
        let token = TestToken::new();
        let (worker, keys) = token.initialised();
        drop(worker);
        let mut worker = logged_in(&token);
        let spki = opened(&mut worker);
        let import = handed_over(&spki, &KEK);
        as_pin_holder(&token, copy, &stolen(&import.wrapped));
        let is_told = |fault: token_wire::Fault| {
            assert_eq!(fault.code, FaultCode::KeyUnsafe, "{copy}: {fault}");
            assert!(fault.text.contains("open none of the canaries"), "{copy}: {fault}");
            assert!(fault.text.contains("burnt"), "{copy}: {fault}");
        };
        is_told(worker.fault(&Request::ImportKek(import)));
        // Nor is another import begun beside it, and nobody serves.
        assert_eq!(worker.ask(&Request::CloseImport), Reply::ImportClosed { was_open: true });
        is_told(worker.fault(&open_import(&[])));
        is_told(logged_in(&token).fault(&binding(&keys)));
    }
}

/// The copy is taken in the moment between the unwrapping and the end of the import, as if nothing had been there before.
#[test]
fn a_weak_copy_beside_an_imported_key_is_found_at_the_end_and_at_the_next_look() {
    let token = TestToken::new();
    let (mut serving, keys) = with_kek(&token, &KEK);
    let mut worker = logged_in(&token);
    let spki = opened_beside(&mut worker, &keys.keks);
    // The same key once more: found there, so that nothing but the end of the import looks.
    let import = KekImport { known: keys.keks.clone(), ..handed_over(&spki, &KEK) };
    let copy = "take_a_copy_that_lets_children_be_extracted";
    as_pin_holder(&token, copy, &stolen(&import.wrapped));
    let fault = worker.fault(&Request::ImportKek(import));
    assert!(fault.text.contains("open none of the canaries"), "{fault}");
    // The one-time key went all the same.
    assert_eq!(worker.ask(&Request::CloseImport), Reply::ImportClosed { was_open: false });
    let fault = serving.fault(&Request::Check);
    assert!(fault.text.contains("open none of the canaries"), "{fault}");
}

/// Whoever uses no such key is not asked about AES keys, and an account that is sealed is opened beside one.
#[test]
fn other_schemes_do_not_look_at_aes_keys() {
    let token = TestToken::new();
    let (worker, keys) = token.initialised();
    drop(worker);
    as_pin_holder(&token, "plant_kek_without_template", &[]);
    let wanted = token_wire::Binding { keys, schemes: Schemes::default(), challenge: [1; 32] };
    let bound = logged_in(&token).ask(&Request::Bind(wanted));
    assert!(matches!(bound, Reply::Bound { .. }), "{bound:?}");
}

/// A file for another one-time key closes nothing, also where its key is in the token already.
#[test]
fn the_import_of_another_file_is_left_open() {
    let token = TestToken::new();
    let (worker, keys) = with_kek(&token, &KEK);
    drop(worker);
    let mut worker = logged_in(&token);
    opened_beside(&mut worker, &keys.keks);
    let old = KekImport { known: keys.keks.clone(), ..handed_over(&keys.wrapping_spki, &KEK) };
    let fault = worker.fault(&Request::ImportKek(old.clone()));
    assert!(fault.text.contains("another one-time key"), "{fault}");
    assert_eq!(worker.ask(&Request::CloseImport), Reply::ImportClosed { was_open: true });
    // With none open it is what an interrupted import goes on with.
    assert!(matches!(worker.ask(&Request::ImportKek(old)), Reply::KekImported { .. }));
}

/// A key of its name that does not open its canary: a second one would stay for ever.
#[test]
fn a_key_is_not_taken_in_beside_one_of_its_name() {
    let token = TestToken::new();
    drop(token.initialised());
    let mut worker = logged_in(&token);
    let spki = opened(&mut worker);
    let mut forged = handed_over(&spki, &KEK);
    forged.kek = handed_over(&spki, &[8; 32]).kek;
    assert_eq!(worker.fault(&Request::ImportKek(forged.clone())).code, FaultCode::KeyUnsafe);
    let fault = worker.fault(&Request::ImportKek(forged));
    assert!(fault.code == FaultCode::KeyAmbiguous && fault.text.contains("twice"), "{fault}");
    as_pin_holder(&token, "one_kek_is_there", &[]);
}

#[test]
fn one_kek_is_there() {
    let Some((session, _)) = attacker() else { return };
    only_kek(&session);
}

/// A number that the module does not have is told before anything stays in the token; a vendor's own, which cannot be
/// read back from a key, is told by what the token says of unwrapping.
#[test]
fn a_mechanism_that_the_token_lacks_brings_nothing_in() {
    let token = TestToken::new();
    drop(token.initialised());
    let mut worker = logged_in(&token);
    let spki = opened(&mut worker);
    let elsewhere = KekImport { kwp_mechanism: 0x8000_0171, ..handed_over(&spki, &KEK) };
    let fault = worker.fault(&Request::ImportKek(elsewhere));
    assert!(fault.code == FaultCode::Module && fault.text.contains("0x80000171"), "{fault}");
    as_pin_holder(&token, "no_kek_is_there", &[]);
    assert_eq!(worker.ask(&Request::CloseImport), Reply::ImportClosed { was_open: true });
    let opening = ImportOpening { known: Vec::new(), kwp_mechanism: 0x8000_0171 };
    let fault = worker.fault(&Request::OpenImport(opening));
    assert!(fault.code == FaultCode::Module && fault.text.contains("0x80000171"), "{fault}");
}

/// A module at which RFC 5649 is where PKCS#11 has it since 3.0, and where SoftHSM has it something else.
#[test]
fn children_sign_under_a_key_that_came_in_at_the_standards_number() {
    let token = TestToken::behind("swap 0x210a 0x210b");
    let (worker, keys) = token.initialised();
    drop(worker);
    let at = |kwp_mechanism| ImportOpening { known: Vec::new(), kwp_mechanism };
    let mut worker = logged_in(&token);
    let fault = worker.fault(&Request::OpenImport(at(KWP)));
    assert!(fault.code == FaultCode::Module && fault.text.contains("0x210a"), "{fault}");
    let Reply::ImportOpened { spki } = worker.ask(&Request::OpenImport(at(STANDARD))) else {
        panic!()
    };
    let import = KekImport { kwp_mechanism: STANDARD, ..handed_over(&spki, &KEK) };
    let kek = import.kek.clone();
    assert!(matches!(worker.ask(&Request::ImportKek(import)), Reply::KekImported { .. }));
    drop(worker);

    let keys = Keys { keks: vec![kek], ..keys };
    let mut worker = logged_in(&token);
    let Reply::Bound { proofs, .. } = worker.ask(&binding_at(&keys, STANDARD)) else { panic!() };
    assert_eq!(proofs.canaries.len(), 1);
    let secret = SecretKey::new(&mut rand::thread_rng());
    let wrapped = wrap_under(&KEK, &pkcs8(&secret));
    match worker.ask(&sign(&keys.keks[0], &wrapped, [7; 32])) {
        Reply::Signed { outcomes, .. } => match outcomes.as_slice() {
            [JobOutcome::Signed(raw)] => {
                assert!(verifies(*raw, [7; 32], &secret.public_key(SECP256K1)));
            }
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
    assert_eq!(worker.ask(&Request::Check), Reply::Checked);
    drop(worker);
    // The token itself has it for that one mechanism: at SoftHSM's number, by the same module, nothing opens.
    let fault = logged_in(&token).fault(&binding_at(&keys, KWP));
    assert!(fault.text.contains("key-encryption key"), "{fault}");
}

/// SoftHSM has no 0x210b, before an import and after one at its own number.
#[test]
fn a_token_without_the_standards_number_says_what_to_set() {
    let token = TestToken::new();
    drop(token.initialised());
    let opening = ImportOpening { known: Vec::new(), kwp_mechanism: STANDARD };
    let fault = logged_in(&token).fault(&Request::OpenImport(opening));
    let said = |text: &str| text.contains("0x210b") && text.contains("set `kwp_mechanism` under");
    assert!(fault.code == FaultCode::Module && said(&fault.text), "{fault}");
    as_pin_holder(&token, "no_kek_is_there", &[]);

    let (worker, keys) = with_kek(&token, &KEK);
    drop(worker);
    let fault = logged_in(&token).fault(&binding_at(&keys, STANDARD));
    assert!(fault.code == FaultCode::KeyMissing && said(&fault.text), "{fault}");
    // PKCS#11 has given that one to something else.
    let fault = logged_in(&token).fault(&binding_at(&keys, 0x1082));
    assert!(fault.code == FaultCode::BadRequest && fault.text.contains("CKM_AES_CBC"), "{fault}");
}

#[test]
fn no_kek_is_there() {
    let Some((session, _)) = attacker() else { return };
    assert!(find(&session, ObjectClass::SECRET_KEY, KeyType::AES).is_empty());
}

#[test]
fn take_a_copy_that_lets_children_be_extracted() {
    take_a_copy(&[Attribute::Extractable(true)], MechanismType::AES_KEY_WRAP_PAD, true);
}

#[test]
fn take_a_copy_whose_children_do_not_sign() {
    take_a_copy(&[Attribute::Sign(false)], MechanismType::AES_KEY_WRAP_PAD, true);
}

#[test]
fn take_a_copy_for_another_mechanism() {
    take_a_copy(&honest(), MechanismType::AES_KEY_WRAP, false);
}

/// In the attacker's process: a copy with an unwrap template of its own, by which a child is then read.
fn take_a_copy(children: &[Attribute], by: MechanismType, reads: bool) {
    let Some((session, stolen)) = attacker() else { return };
    let (file, child) = stolen.split_at(384);
    let mut template = support::attacker::honest_kek();
    template.insert(0, Attribute::AllowedMechanisms(vec![by]));
    template.insert(0, unwrap_template(children));
    let one_time = import_key(&session).unwrap();
    let copy = session.unwrap_key(&oaep(), one_time, file, &template).unwrap();
    if !reads {
        return;
    }
    let mut shown = honest_but(Attribute::Sensitive(false));
    shown.retain(|given| !matches!(given, Attribute::Extractable(_) | Attribute::Sign(_)));
    shown.insert(0, Attribute::Extractable(true));
    // In front: what can be changed no more comes last.
    let sign = children.iter().find(|given| matches!(given, Attribute::Sign(_)));
    shown.splice(0..0, sign.cloned());
    let key = session.unwrap_key(&Mechanism::AesKeyWrapPad, copy, child, &shown).unwrap();
    match session.get_attributes(key, &[AttributeType::Value]).unwrap().as_slice() {
        [Attribute::Value(value)] => assert_eq!(to_hex(value), "11".repeat(32)),
        other => panic!("{other:?}"),
    }
}

/// Once the one-time key is gone, the file opens nothing.
#[test]
fn the_file_is_worth_nothing_after_the_import() {
    let token = TestToken::new();
    drop(token.initialised());
    let mut worker = logged_in(&token);
    let import = handed_over(&opened(&mut worker), &KEK);
    assert!(matches!(worker.ask(&Request::ImportKek(import.clone())), Reply::KekImported { .. }));
    as_pin_holder(&token, "no_key_opens_the_file_any_more", &stolen(&import.wrapped));
}

/// The file's wrapped key, and a child of the bundle.
fn stolen(wrapped: &[u8]) -> Vec<u8> {
    let child = pkcs8(&SecretKey::from_slice(&[0x11; 32]).unwrap());
    [wrapped, &wrap_under(&KEK, &child)].concat()
}

/// What the one-time key's template says of a copy holds all the same; what it cannot say is the copy's own template.
#[test]
fn take_a_weak_copy_while_the_import_is_open() {
    let Some((session, stolen)) = attacker() else { return };
    let (file, child) = stolen.split_at(384);
    let one_time = import_key(&session).unwrap();
    let mut template = support::attacker::honest_kek();
    for change in [Attribute::Extractable(true), Attribute::Decrypt(true), Attribute::Wrap(true)] {
        let kind = change.attribute_type();
        let mut greedy = template.clone();
        let at = greedy.iter().position(|given| given.attribute_type() == kind).unwrap();
        greedy[at] = change;
        assert!(session.unwrap_key(&oaep(), one_time, file, &greedy).is_err());
    }
    // Not for this session only, which would leave nothing to be found.
    template.retain(|given| given.attribute_type() != AttributeType::Token);
    template.insert(0, Attribute::Token(false));
    assert!(session.unwrap_key(&oaep(), one_time, file, &template).is_err());
    // Like the right one in everything that can be read back.
    let mut template = support::attacker::honest_kek();
    let kwp = MechanismType::AES_KEY_WRAP_PAD;
    template.insert(0, Attribute::AllowedMechanisms(vec![kwp]));
    let copy = session.unwrap_key(&oaep(), one_time, file, &template);
    let shown = honest_but(Attribute::Extractable(true));
    let shown: Vec<Attribute> = shown
        .into_iter()
        .map(|given| match given {
            Attribute::Sensitive(_) => Attribute::Sensitive(false),
            other => other,
        })
        .collect();
    let key = session.unwrap_key(&Mechanism::AesKeyWrapPad, copy.unwrap(), child, &shown).unwrap();
    match session.get_attributes(key, &[AttributeType::Value]).unwrap().as_slice() {
        [Attribute::Value(value)] => assert_eq!(to_hex(value), "11".repeat(32)),
        other => panic!("{other:?}"),
    }
}

#[test]
fn no_key_opens_the_file_any_more() {
    let Some((session, stolen)) = attacker() else { return };
    assert!(import_key(&session).is_none());
    let (file, _) = stolen.split_at(384);
    for key in find(&session, ObjectClass::PRIVATE_KEY, KeyType::RSA) {
        let template = support::attacker::honest_kek();
        assert!(session.unwrap_key(&oaep(), key, file, &template).is_err());
    }
}
