//! Attested token keys: what was signed verifies, and no other byte does.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a test fails by panicking"
)]

use audit::attestation::AttestationError;
use audit::token_key::TokenKey;
use ed25519_dalek::{Signer as _, SigningKey};

fn attested() -> TokenKey {
    let mut public_key = [7; 33];
    public_key[0] = 2;
    TokenKey {
        network: "bip122:0f9188f13cb7b2c71f2a335e3a4fc328".to_owned(),
        name: "vault".to_owned(),
        public_key,
        serial: "41fc 7".to_owned(),
        attributes: vec!["CKA_LOCAL true".to_owned(), "CKA_EXTRACTABLE false".to_owned()],
    }
}

fn key() -> SigningKey {
    SigningKey::from_bytes(&[5; 32])
}

fn document() -> String {
    let signature = key().sign(attested().encode().unwrap().as_bytes()).to_bytes();
    attested().document(&signature).unwrap()
}

#[test]
fn what_was_signed_is_what_is_read() {
    let public = key().verifying_key().to_bytes();
    assert_eq!(TokenKey::verify(&document(), &public), Ok(attested()));
    let text = attested().encode().unwrap();
    assert!(text.starts_with(
        "cofferdam-token-key-v1\nbip122:0f9188f13cb7b2c71f2a335e3a4fc328\ntoken\nvault\n0207"
    ));
    assert!(text.ends_with("\n41fc 7\nCKA_LOCAL true\nCKA_EXTRACTABLE false\n"));
}

#[test]
fn no_other_byte_verifies() {
    let (document, public) = (document(), key().verifying_key().to_bytes());
    for at in 0..document.len() {
        let mut bytes = document.clone().into_bytes();
        bytes[at] ^= 1;
        let Ok(changed) = String::from_utf8(bytes) else { continue };
        assert!(TokenKey::verify(&changed, &public).is_err(), "byte {at}");
    }
    for other in [
        document.trim_end().to_owned(),
        format!("{document}\n"),
        document.to_uppercase(),
        document.replace("true", "false"),
        document.lines().filter(|line| *line != "CKA_LOCAL true").collect::<Vec<_>>().join("\n"),
        document.replace("\nsignature", "\n\nsignature"),
        String::new(),
        "a".repeat(20_000),
    ] {
        assert!(TokenKey::verify(&other, &public).is_err(), "{other}");
    }
    // Upper-case hex is the same signature, and not the same document.
    let (text, signature) = document.rsplit_once("signature ").unwrap();
    let other = format!("{text}signature {}\n", signature.trim_end().to_uppercase());
    let refused = TokenKey::verify(&other, &public);
    assert_eq!(refused, Err(AttestationError::Malformed("not the canonical spelling")));
}

#[test]
fn another_key_or_another_kind_of_statement_is_refused() {
    let other = SigningKey::from_bytes(&[6; 32]).verifying_key().to_bytes();
    assert_eq!(TokenKey::verify(&document(), &other), Err(AttestationError::BadSignature));
    let batch = audit::attestation::statement(&[9; 32]);
    let signature = hex::encode(key().sign(&batch).to_bytes());
    let passed_off = format!("{}signature {signature}\n", String::from_utf8(batch).unwrap());
    let public = key().verifying_key().to_bytes();
    assert_eq!(
        TokenKey::verify(&passed_off, &public),
        Err(AttestationError::Malformed("wrong lines"))
    );
}

#[test]
fn what_is_no_line_is_not_attested() {
    for name in ["", "a\nb", "ü", &"a".repeat(300)] {
        let key = TokenKey { name: name.to_owned(), ..attested() };
        assert!(matches!(key.encode(), Err(AttestationError::Field { .. })), "{name:?}");
    }
    let none = TokenKey { attributes: Vec::new(), ..attested() };
    assert!(none.encode().is_err());
}
