//! Records that anybody can make who has the public wrapping key: the token unwraps what is in them and signs by it, or does
//! not. They are at fault themselves, and no token is.

use super::*;

/// On which curve a key is said to be, as the bytes of its object identifier.
const SECP256K1_OID: &str = "06052b8104000a";
const P256_OID: &str = "06082a8648ce3d030107";
const P384_OID: &str = "06052b81040022";

/// A private key as PKCS#8, without its public half.
fn key(curve: &str, secret: &[u8]) -> Vec<u8> {
    let tagged = |tag: u8, parts: &[&[u8]]| {
        let content = parts.concat();
        [&[tag, u8::try_from(content.len()).unwrap()], &content[..]].concat()
    };
    let curve = hex::decode(curve).unwrap();
    let algorithm = tagged(0x30, &[&hex::decode("06072a8648ce3d0201").unwrap(), &curve]);
    let key = tagged(0x30, &[&[2, 1, 1], &tagged(4, &[secret])]);
    tagged(0x30, &[&[2, 1, 0], &algorithm, &tagged(4, &[&key])])
}

#[tokio::test]
async fn a_record_of_no_key_of_this_curve_is_condemned_and_the_token_keeps_its_trust() {
    let test = TestToken::bare();
    let keys = test.init().await;
    let children = TestChild::many(&keys, 3);
    let token = test.start().await;
    for (what, bytes, why) in [
        ("P-256", key(P256_OID, &[7; 32]), "no key of secp256k1"),
        // A signature of 96 bytes.
        ("P-384", key(P384_OID, &[7; 48]), "not one of the expected"),
        ("zero", key(SECP256K1_OID, &[0; 32]), "C_Sign: GeneralError"),
        // Reduced by the order.
        ("more than the order", key(SECP256K1_OID, &[255; 32]), "not the record's key"),
        ("nothing", Vec::new(), "C_UnwrapKey"),
    ] {
        let bad = TestChild { secret: children[1].secret, wrapped: wrap(&keys, &bytes) };
        let jobs = vec![children[0].proof(0), bad.proof(1), children[2].proof(2)];
        let proven = token.prove(&Lease::forever(), "hot", jobs).await.unwrap();
        let [Ok(()), Err(said), Ok(())] = &proven[..] else { panic!("{what}: {proven:?}") };
        assert!(said.contains(why), "{what}: {said}");
        assert_eq!(token.problem(), None, "{what}");
    }
    sign_all(&token, &children).await.unwrap();
    token.stop().await;
    let distrust = crate::token::Distrust::in_dir(&test.state());
    assert_eq!((distrust.check(), distrust.kept()), (Ok(()), Ok(Vec::new())));
}
