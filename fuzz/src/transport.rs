//! What the acceptor reads beside the TLS library, certificates and revocation lists, and the files that free a client:
//! two readers agree on names, and nothing frees a client but what an officer signed.

use audit::freeing::Freeing;
use ed25519_dalek::{Signer as _, SigningKey};
use mtls::der::{AltName, alt_names, list, validity};
use rustls::pki_types::CertificateDer;
use webpki::EndEntityCert;

/// One name and one address, self-signed.
const CERTIFICATE: &str = "308201483081fba003020102021461f0f19be3c68b01bbfa5cd8f859dcfa5dd35fcb300506032b6570300c310a300806035504030c0161301e170d3236313132383131333033375a170d3336313132353131333033375a300c310a300806035504030c0161302a300506032b657003210045d6285680fdd2d5ce77be2c920a52ed4eb58b944984d2f6cc6a51128b2b7eafa36f306d301d0603551d0e041604140b83acfedb961069f508e1e905859d4fb68740f4301f0603551d230418301680140b83acfedb961069f508e1e905859d4fb68740f4300f0603551d130101ff040530030101ff301a0603551d11041330118209776174636865722d3187040a000001300506032b6570034100a68dd830803f741c4572db2103873bbcff5357956eb6c905fc40df46881fee367488917384c499130a44f3a6a6aa75cf27d85f80dd3494ae9a1f4df640febc09";
/// That one's empty list.
const LIST: &str = "3081923046020101300506032b6570300c310a300806035504030c0161170d3236313132383131333033375a170d3336313132353131333033375aa00e300c300a0603551d140403020101300506032b65700341007be304585b6a0f75cb0c025f2f48db1fcc20e80fde9a096b55122a8a26d2aac4199fefa5c561ae68eca9f858de73747bea495da3005e7625e190e41be2427303";

pub(crate) fn certificate(data: &[u8]) {
    let ours = alt_names(data);
    let _ = validity(data);
    if let Some(list) = list(data) {
        assert!(data.windows(list.signed.len()).any(|part| part == list.signed));
    }
    // We are only ever asked about what the library took. It gives the names before one that it cannot read; we give none
    // then, and such a certificate names nobody.
    let certificate = CertificateDer::from(data);
    if let (Ok(theirs), Some(ours)) = (EndEntityCert::try_from(&certificate), ours) {
        for name in theirs.valid_dns_names() {
            assert!(ours.contains(&AltName::Dns(name.as_bytes())), "{name} was overlooked");
        }
    }
}

pub(crate) fn certificate_seeds() -> Vec<Vec<u8>> {
    [CERTIFICATE, LIST].map(|text| hex::decode(text).unwrap()).to_vec()
}

fn alice() -> SigningKey {
    SigningKey::from_bytes(&[3; 32])
}

fn signed() -> String {
    let freeing = Freeing {
        log: "cofferdam/9f3a".into(),
        client: "watcher-1".into(),
        lock: 17,
        reason: "fixed".into(),
    };
    let text = freeing.text().unwrap();
    Freeing::file(&text, "alice", &alice().sign(text.as_bytes()).to_bytes())
}

pub(crate) fn freeing(data: &[u8]) {
    let Ok(file) = std::str::from_utf8(data) else { return };
    let pinned = |name: &str, text: &[u8], signature: &[u8; 64]| {
        let signature = ed25519_dalek::Signature::from_bytes(signature);
        name == "alice" && alice().verifying_key().verify_strict(text, &signature).is_ok()
    };
    if let Ok((freeing, officers)) = Freeing::verify(file, pinned) {
        assert!(file.starts_with(&freeing.text().unwrap()));
        assert!(signed().starts_with(&freeing.text().unwrap()), "nobody signed {file}");
        assert_eq!(officers, ["alice"]);
    }
}

pub(crate) fn freeing_seeds() -> Vec<Vec<u8>> {
    vec![signed().into_bytes()]
}
