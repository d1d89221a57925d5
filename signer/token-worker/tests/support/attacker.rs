//! The attacker of these tests: another process that holds the PIN, the module and a stolen wrapped child, and goes
//! past the worker.

#![allow(clippy::print_stdout, reason = "the attacker's process tells the test that it was in")]

use std::process::Command;

use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::error::Error;
use cryptoki::mechanism::rsa::{PkcsMgfType, PkcsOaepParams, PkcsOaepSource};
use cryptoki::mechanism::{Mechanism, MechanismType};
use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle};
use cryptoki::session::{Session, UserType};

use token_wire::{Binding, Reply, Request, Schemes};

use super::TestToken;

/// Runs the test function `name` of this file in another process, logged in to the token.
pub(crate) fn as_pin_holder(token: &TestToken, name: &str, wrapped: &[u8]) {
    let pin = std::fs::read_to_string(token.pin_file()).unwrap();
    run(process(token, name, wrapped).env("ATTACK_PIN", pin));
}

/// The same with more in its environment.
pub(crate) fn as_pin_holder_with(
    token: &TestToken,
    name: &str,
    wrapped: &[u8],
    env: &[(&str, &str)],
) {
    let pin = std::fs::read_to_string(token.pin_file()).unwrap();
    run(process(token, name, wrapped).env("ATTACK_PIN", pin).envs(env.iter().copied()));
}

/// The same without a login.
pub(crate) fn without_login(token: &TestToken, name: &str, wrapped: &[u8]) {
    run(&mut process(token, name, wrapped));
}

fn process(token: &TestToken, name: &str, wrapped: &[u8]) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", name, "--nocapture"])
        .env("SOFTHSM2_CONF", token.config())
        .env("ATTACK_MODULE", &token.module)
        .envs(token.env())
        .env("ATTACK_WRAPPED", super::to_hex(wrapped));
    command
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("attacker was in"), "{said}");
}

/// One attack, whole: `test`, the name of the test that calls this, makes a token and a wrapped child, then runs itself
/// as the PIN holder. What was attacked must be as it was before.
pub(crate) fn attack(test: &str, act: impl FnOnce(&Session, ObjectHandle, &[u8])) {
    if let Some((session, wrapped)) = attacker() {
        let wrapping = wrapping_key(&session);
        return act(&session, wrapping, &wrapped);
    }
    let token = TestToken::new();
    let (worker, keys) = token.initialised();
    drop(worker);
    let child = secp256k1::SecretKey::new(&mut rand::thread_rng());
    as_pin_holder(&token, test, &super::wrap(&keys, &child));
    let mut worker = token.worker();
    worker.open(false);
    assert_eq!(worker.ask(&Request::Login), Reply::LoggedIn);
    let bound = worker.ask(&Request::Bind(Binding {
        keys,
        schemes: Schemes::default(),
        challenge: [1; 32],
    }));
    assert!(matches!(bound, Reply::Bound { .. }), "{bound:?}");
}

/// The attacker's session and the stolen wrapped child; `None` in the ordinary run of these functions.
pub(crate) fn attacker() -> Option<(Session, Vec<u8>)> {
    let module = std::env::var("ATTACK_MODULE").ok()?;
    let pkcs11 = Pkcs11::new(module).unwrap();
    pkcs11.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)).unwrap();
    let slot = pkcs11.get_slots_with_initialized_token().unwrap()[0];
    let session = pkcs11.open_rw_session(slot).unwrap();
    if let Ok(pin) = std::env::var("ATTACK_PIN") {
        session.login(UserType::User, Some(&pin.into())).unwrap();
    }
    println!("attacker was in");
    Some((session, super::hex(&std::env::var("ATTACK_WRAPPED").unwrap())))
}

/// Not the sealing key, which is RSA too.
pub(crate) fn wrapping_key(session: &Session) -> ObjectHandle {
    let label = Attribute::Label(b"cofferdam wrapping 1".to_vec());
    session.find_objects(&[Attribute::Class(ObjectClass::PRIVATE_KEY), label]).unwrap()[0]
}

pub(crate) fn find(session: &Session, class: ObjectClass, kind: KeyType) -> Vec<ObjectHandle> {
    session
        .find_objects(&[Attribute::Class(class), Attribute::KeyType(kind), Attribute::Token(true)])
        .unwrap()
}

pub(crate) fn oaep() -> Mechanism<'static> {
    Mechanism::RsaPkcsOaep(PkcsOaepParams::new(
        MechanismType::SHA1,
        PkcsMgfType::MGF1_SHA1,
        PkcsOaepSource::empty(),
    ))
}

/// The only template that must work.
pub(crate) fn honest() -> Vec<Attribute> {
    vec![
        Attribute::Class(ObjectClass::PRIVATE_KEY),
        Attribute::KeyType(KeyType::EC),
        Attribute::Token(false),
        Attribute::Private(true),
        Attribute::Sensitive(true),
        Attribute::Extractable(false),
        Attribute::Sign(true),
        Attribute::Derive(false),
        Attribute::Decrypt(false),
        Attribute::Unwrap(false),
        Attribute::Copyable(false),
        Attribute::Modifiable(false),
    ]
}

/// A child as plain bytes: what a module that looks at neither class nor type would give away.
pub(crate) fn as_bytes() -> Vec<Attribute> {
    let mut template = as_secret();
    template[4] = Attribute::Sensitive(false);
    template[5] = Attribute::Extractable(true);
    template
}

/// Everything as it must be, but class and type: each of them alone means nothing to any module.
pub(crate) fn as_secret() -> Vec<Attribute> {
    let mut template = honest_but(Attribute::Class(ObjectClass::SECRET_KEY));
    template[1] = Attribute::KeyType(KeyType::GENERIC_SECRET);
    template
}

/// A child wrapped by PKCS#1 v1.5 to the wrapping key: OAEP's own fail by that mechanism at its padding already.
pub(crate) fn wrapped_by_pkcs1(session: &Session) -> Vec<u8> {
    let key = wrapping_key(session);
    let modulus = match session.get_attributes(key, &[AttributeType::Modulus]).unwrap().remove(0) {
        Attribute::Modulus(modulus) => rsa::BigUint::from_bytes_be(&modulus),
        other => panic!("{other:?}"),
    };
    let public = rsa::RsaPublicKey::new(modulus, rsa::BigUint::from(65_537_u32)).unwrap();
    let child = super::pkcs8(&secp256k1::SecretKey::new(&mut rand::thread_rng()));
    public.encrypt(&mut rand::thread_rng(), rsa::Pkcs1v15Encrypt, &child).unwrap()
}

/// Every template that differs from the honest one, and every use of an honestly unwrapped child.
pub(crate) fn unwraps_as_it_must(
    session: &Session,
    unwrap: &dyn Fn(&[Attribute]) -> Result<ObjectHandle, Error>,
) {
    // Where a token has an answer of its own (a default, or the last word of two), the child must still be
    // what the template says.
    let never_other = |template: &[Attribute], what: &str| {
        if let Ok(child) = unwrap(template) {
            assert_eq!(attributes(session, child), honest(), "{what}");
            session.destroy_object(child).unwrap();
        }
    };
    for at in 0..honest().len() {
        let mut changed = honest();
        let left_out = changed.remove(at);
        never_other(&changed, &format!("without {left_out:?}"));
        let opposite = opposite(&left_out);
        changed.insert(at, opposite.clone());
        assert!(unwrap(&changed).is_err(), "with {opposite:?}");
        for position in [0, honest().len()] {
            let mut twice = honest();
            twice.insert(position, opposite.clone());
            never_other(&twice, &format!("with {opposite:?} as well"));
        }
    }
    for template in [vec![], as_bytes(), as_secret()] {
        assert!(unwrap(&template).is_err(), "{template:?}");
    }
    let child = unwrap(&honest()).unwrap();
    assert_eq!(attributes(session, child), honest());
    assert!(session.sign(&Mechanism::Ecdsa, child, &[1; 32]).is_ok());
    no_way_out(session, child);
}

/// A child's attributes, in the order of [`honest`].
fn attributes(session: &Session, child: ObjectHandle) -> Vec<Attribute> {
    let kinds: Vec<AttributeType> = honest().iter().map(Attribute::attribute_type).collect();
    session.get_attributes(child, &kinds).unwrap()
}

fn opposite(attribute: &Attribute) -> Attribute {
    match attribute {
        Attribute::Token(flag) => Attribute::Token(!flag),
        Attribute::Private(flag) => Attribute::Private(!flag),
        Attribute::Sensitive(flag) => Attribute::Sensitive(!flag),
        Attribute::Extractable(flag) => Attribute::Extractable(!flag),
        Attribute::Sign(flag) => Attribute::Sign(!flag),
        Attribute::Derive(flag) => Attribute::Derive(!flag),
        Attribute::Decrypt(flag) => Attribute::Decrypt(!flag),
        Attribute::Unwrap(flag) => Attribute::Unwrap(!flag),
        Attribute::Copyable(flag) => Attribute::Copyable(!flag),
        Attribute::Modifiable(flag) => Attribute::Modifiable(!flag),
        Attribute::KeyType(_) => Attribute::KeyType(KeyType::GENERIC_SECRET),
        Attribute::Class(_) => Attribute::Class(ObjectClass::SECRET_KEY),
        other => panic!("{other:?}"),
    }
}

/// The one AES key in the token.
pub(crate) fn only_kek(session: &Session) -> ObjectHandle {
    match find(session, ObjectClass::SECRET_KEY, KeyType::AES).as_slice() {
        [kek] => *kek,
        other => panic!("{other:?}"),
    }
}

/// The one-time key, while there is one.
pub(crate) fn import_key(session: &Session) -> Option<ObjectHandle> {
    let label = Attribute::Label(b"cofferdam import 1".to_vec());
    let found = session.find_objects(&[Attribute::Class(ObjectClass::PRIVATE_KEY), label]);
    found.unwrap().first().copied()
}

/// What the one-time key's template says of a key that comes in by it.
pub(crate) fn honest_kek() -> Vec<Attribute> {
    vec![
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
        Attribute::Modifiable(false),
    ]
}

/// Every way a key's value could leave.
pub(crate) fn no_way_out(session: &Session, key: ObjectHandle) {
    for kind in [
        AttributeType::Value,
        AttributeType::PrivateExponent,
        AttributeType::Prime1,
        AttributeType::Prime2,
        AttributeType::Exponent1,
        AttributeType::Coefficient,
    ] {
        let shown = session.get_attributes(key, &[kind]).unwrap_or_default();
        assert!(shown.is_empty(), "{kind}");
    }
    for change in
        [Attribute::Extractable(true), Attribute::Sensitive(false), Attribute::Private(false)]
    {
        assert!(
            session.update_attributes(key, std::slice::from_ref(&change)).is_err(),
            "{change:?}"
        );
        assert!(session.copy_object(key, std::slice::from_ref(&change)).is_err(), "{change:?}");
    }
    assert!(session.copy_object(key, &[]).is_err());
    assert!(session.copy_object(key, &[Attribute::Token(true)]).is_err());
    let aes = [
        Attribute::Token(false),
        Attribute::Wrap(true),
        Attribute::Encrypt(true),
        Attribute::ValueLen(32.into()),
    ];
    let aes = session.generate_key(&Mechanism::AesKeyGen, &aes).unwrap();
    for mechanism in [Mechanism::AesKeyWrap, Mechanism::AesKeyWrapPad] {
        assert!(session.wrap_key(&mechanism, aes, key).is_err());
    }
    for public in find(session, ObjectClass::PUBLIC_KEY, KeyType::RSA) {
        assert!(session.wrap_key(&oaep(), public, key).is_err());
    }
}

pub(crate) fn make_rsa(
    session: &Session,
    label: &[u8],
    change: impl Fn(&mut Vec<Attribute>),
) -> (ObjectHandle, ObjectHandle) {
    let public = [
        Attribute::Token(true),
        Attribute::ModulusBits(3072.into()),
        Attribute::PublicExponent(vec![1, 0, 1]),
        Attribute::Encrypt(true),
    ];
    let mut private = vec![
        Attribute::Token(true),
        Attribute::Private(true),
        Attribute::Sensitive(true),
        Attribute::Extractable(false),
        Attribute::Decrypt(false),
        Attribute::Sign(false),
        Attribute::SignRecover(false),
        Attribute::Derive(false),
        Attribute::Unwrap(true),
        Attribute::AllowedMechanisms(vec![MechanismType::RSA_PKCS_OAEP]),
        Attribute::Label(label.to_vec()),
        Attribute::Copyable(false),
        Attribute::Destroyable(false),
        Attribute::Modifiable(false),
    ];
    change(&mut private);
    session.generate_key_pair(&Mechanism::RsaPkcsKeyPairGen, &public, &private).unwrap()
}

/// The honest template with one attribute changed.
pub(crate) fn honest_but(changed: Attribute) -> Vec<Attribute> {
    let kind = changed.attribute_type();
    let mut template = honest();
    let at = template.iter().position(|attribute| attribute.attribute_type() == kind).unwrap();
    template[at] = changed;
    template
}

/// Makes a wrapping key of our name with this unwrap template, if this is the attacker's process.
pub(crate) fn plant_template(template: &[Attribute]) {
    let Some((session, _)) = attacker() else { return };
    let unwrap_template = unwrap_template(template);
    make_rsa(&session, b"cofferdam wrapping 1", |private| {
        private.insert(0, Attribute::KeyType(KeyType::RSA));
        private.insert(0, unwrap_template.clone());
    });
}

/// Such a template as an attribute. The addresses in it must stay valid: the values are leaked.
pub(crate) fn unwrap_template(template: &[Attribute]) -> Attribute {
    let raw = |attribute: &Attribute| -> Vec<u8> {
        match attribute {
            Attribute::Class(class) => u64::from(*class).to_ne_bytes().to_vec(),
            Attribute::KeyType(kind) => u64::from(*kind).to_ne_bytes().to_vec(),
            Attribute::Private(flag)
            | Attribute::Token(flag)
            | Attribute::Sensitive(flag)
            | Attribute::Extractable(flag)
            | Attribute::Sign(flag)
            | Attribute::Derive(flag)
            | Attribute::Decrypt(flag)
            | Attribute::Unwrap(flag)
            | Attribute::Copyable(flag)
            | Attribute::Modifiable(flag) => vec![u8::from(*flag)],
            other => panic!("{other:?}"),
        }
    };
    let mut array = Vec::new();
    for attribute in template {
        let value: &'static [u8] = raw(attribute).leak();
        array.extend_from_slice(&u64::from(attribute.attribute_type()).to_ne_bytes());
        array.extend_from_slice(&value.as_ptr().expose_provenance().to_ne_bytes());
        array.extend_from_slice(&value.len().to_ne_bytes());
    }
    Attribute::VendorDefined((AttributeType::VendorDefined(0x4000_0212), array))
}
