//! Lists that somebody hands in: the newest of an authority counts, whichever way it came, and nothing else does.

use std::path::{Path, PathBuf};

use mtls::pushed::OfferError;
use mtls::{Server, TlsFiles};
use rcgen::SerialNumber;

use crate::house::{House, PLACES, check};
use crate::pki::{Authority, authority, client, put};

/// Server files with list 1, revoking nobody, and where lists lie that are handed in.
fn server(ours: &Authority, dir: &Path) -> (TlsFiles, PathBuf) {
    let mut files = ours.files(dir, "signer", true, &ours.pem);
    let crl = dir.join("crl.pem");
    put(&crl, &ours.numbered_list(1, &[], -10, 7));
    files.crl = Some(crl);
    (files, dir.join("handed-in.pem"))
}

fn numbered(ours: &Authority, dir: &Path, name: &str, serial: u64) -> TlsFiles {
    let files = ours.files(dir, name, false, &ours.pem);
    let mut params = client(&[name]);
    params.serial_number = Some(SerialNumber::from(serial));
    ours.write(&files, &params);
    files
}

/// As the service does with what is offered.
fn take(server: &Server, list: &str) -> Result<bool, OfferError> {
    let offer = server.offered(list.as_bytes())?;
    put(server.handed_in().unwrap(), &offer.file);
    Ok(server.look())
}

fn numbers(server: &Server) -> Vec<Vec<u8>> {
    let lists = server.facts().lists.unwrap();
    lists.into_iter().map(|list| list.number.unwrap()).collect()
}

#[tokio::test]
async fn a_list_that_is_handed_in_counts_at_once_and_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let ours = authority("ours");
    let (files, handed_in) = server(&ours, dir.path());
    let house = House::open_with(&files, Some(&handed_in), PLACES).await;
    let (good, bad) =
        (numbered(&ours, dir.path(), "good", 1), numbered(&ours, dir.path(), "bad", 2));
    let mut lasting = house.client(&good).await.unwrap();
    let mut ended = house.client(&bad).await.unwrap();
    check(&mut lasting, "").await.unwrap();
    check(&mut ended, "").await.unwrap();
    assert!(take(&house.server, &ours.numbered_list(2, &[2], -1, 7)).unwrap());
    check(&mut lasting, "").await.unwrap();
    house.until("the revoked client's end", |house| house.server.connected() == 1).await;
    assert!(house.call(&bad, "").await.is_err());
    house.call(&good, "").await.unwrap();
    assert_eq!(numbers(&house.server), [[2]]);
    // The file's older list does not come back by a restart, nor by being written again.
    let again = House::open_with(&files, Some(&handed_in), PLACES).await;
    assert!(again.call(&bad, "").await.is_err());
    put(files.crl.as_ref().unwrap(), &ours.numbered_list(1, &[], -9, 7));
    again.server.look();
    assert!(again.call(&bad, "").await.is_err());
    assert_eq!(numbers(&again.server), [[2]]);
    // A newer one in the file does take its place, and what is broken there takes nothing away.
    put(files.crl.as_ref().unwrap(), &ours.numbered_list(300, &[2], 0, 7));
    assert!(again.server.look());
    assert_eq!(numbers(&again.server), [[1, 44]]);
    put(files.crl.as_ref().unwrap(), "nothing");
    let broken = House::open_with(&files, Some(&handed_in), PLACES).await;
    assert_eq!(numbers(&broken.server), [[2]], "what was handed in is still there");
    assert!(broken.call(&bad, "").await.is_err());
    broken.call(&good, "").await.unwrap();
}

#[tokio::test]
async fn no_file_of_the_operators_keeps_a_list_out_that_is_handed_in() {
    let dir = tempfile::tempdir().unwrap();
    let (ours, other) = (authority("ours"), authority("other"));
    let (files, handed_in) = server(&ours, dir.path());
    put(&files.ca, &format!("{}{}", ours.pem, other.pem));
    let crl = files.crl.as_ref().unwrap();
    // The other authority's list ended long ago.
    put(crl, &format!("{}{}", ours.numbered_list(1, &[], -10, 7), other.list(&[], -10, -1)));
    let house = House::open_with(&files, Some(&handed_in), PLACES).await;
    let clients: Vec<TlsFiles> =
        (1..=5).map(|n| numbered(&ours, dir.path(), &format!("c{n}"), n)).collect();
    for client in &clients {
        house.call(client, "").await.unwrap();
    }
    let own = |house: &House| {
        let lists = house.server.facts().lists.unwrap();
        lists.into_iter().filter_map(|list| list.number).max().unwrap()
    };
    let mut revoked = Vec::new();
    let mut next = async |house: &House, what: &str| {
        let number = u64::try_from(revoked.len()).unwrap() + 2;
        revoked.push(number);
        let list = ours.numbered_list(number, &revoked, -1, 7);
        assert!(take(&house.server, &list).unwrap(), "{what}");
        assert_eq!(own(house), [u8::try_from(number).unwrap()], "{what}");
        let turned = &clients[usize::try_from(number).unwrap() - 1];
        assert!(house.call(turned, "").await.is_err(), "{what}");
        house.call(&clients[0], "").await.unwrap();
    };
    next(&house, "another's list is expired").await;
    put(crl, "nothing");
    next(&house, "the file of lists is broken").await;
    std::fs::remove_file(crl).unwrap();
    next(&house, "there is no file of lists").await;
    put(&files.certificate, "half");
    next(&house, "the certificate is broken").await;
    // Nothing is lost of it when the files are right again.
    let again = numbered(&ours, dir.path(), "signer-again", 9);
    put(crl, &ours.numbered_list(1, &[], -10, 7));
    std::fs::copy(&again.certificate, &files.certificate).unwrap();
    std::fs::copy(&again.key, &files.key).unwrap();
    assert!(house.server.look());
    assert_eq!(own(&house), [5]);
}

/// Whether it is refused for this.
type Expected<'a> = &'a dyn Fn(&OfferError) -> bool;

#[tokio::test]
async fn what_is_not_ours_or_not_newer_is_not_taken() {
    let dir = tempfile::tempdir().unwrap();
    let (ours, other) = (authority("ours"), authority("other"));
    let impostor = authority("ours");
    let (files, handed_in) = server(&ours, dir.path());
    let server = Server::load_with(&files, Some(&handed_in)).unwrap();
    assert!(take(&server, &ours.numbered_list(256, &[], -5, 7)).unwrap());
    let two =
        format!("{}{}", ours.numbered_list(257, &[], -1, 7), ours.numbered_list(258, &[], -1, 7));
    let below = ours.below("between", rcgen::BasicConstraints::Constrained(0));
    let not_newer = |error: &OfferError| matches!(error, OfferError::NotNewer { .. });
    let unreadable = |error: &OfferError| matches!(error, OfferError::Unreadable(_));
    let cases: [(&str, String, Expected<'_>); 10] = [
        ("the same number", ours.numbered_list(256, &[], -1, 7), &not_newer),
        ("a lower number", ours.numbered_list(255, &[], -1, 7), &not_newer),
        ("an older list", ours.numbered_list(257, &[], -6, 7), &|e| *e == OfferError::Older),
        ("an expired list", ours.numbered_list(257, &[], -4, -1), &|e| {
            matches!(e, OfferError::Expired(_))
        }),
        ("a list of tomorrow", ours.numbered_list(257, &[], 1, 7), &|e| {
            matches!(e, OfferError::Ahead(_))
        }),
        ("another's", other.numbered_list(257, &[], -1, 7), &|e| *e == OfferError::Issuer),
        ("a forged one", impostor.numbered_list(257, &[], -1, 7), &|e| *e == OfferError::Issuer),
        ("an intermediate's", below.numbered_list(257, &[], -1, 7), &|e| *e == OfferError::Issuer),
        ("two at once", two, &unreadable),
        ("a certificate", ours.pem.clone(), &unreadable),
    ];
    for (name, list, expected) in cases {
        let error = take(&server, &list).unwrap_err();
        assert!(expected(&error), "{name}: {error}");
        assert_eq!(numbers(&server), [[1, 0]], "{name}");
    }
    assert!(take(&server, &ours.numbered_list(257, &[], -1, 7)).unwrap());
    // Where nobody looks at lists, none is taken.
    let unused = Server::load_with(&TlsFiles { crl: None, ..files }, Some(&handed_in)).unwrap();
    let list = ours.numbered_list(999, &[], -1, 7);
    assert_eq!(take(&unused, &list).unwrap_err(), OfferError::Unused);
}

#[tokio::test]
async fn a_list_of_an_authority_that_is_gone_holds_nothing_up() {
    let dir = tempfile::tempdir().unwrap();
    let (old, new) = (authority("old"), authority("new"));
    let (mut files, handed_in) = server(&old, dir.path());
    put(&files.ca, &format!("{}{}", old.pem, new.pem));
    let crl = files.crl.clone().unwrap();
    put(&crl, &format!("{}{}", old.list(&[], -10, 7), new.list(&[], -10, 7)));
    let server = Server::load_with(&files, Some(&handed_in)).unwrap();
    assert!(take(&server, &old.numbered_list(2, &[], -1, 7)).unwrap());
    assert!(take(&server, &new.numbered_list(2, &[], -1, 7)).unwrap());
    assert_eq!(numbers(&server).len(), 2, "one of each");
    put(&files.ca, &new.pem);
    put(&crl, &new.list(&[], -10, 7));
    assert!(server.look());
    assert_eq!(numbers(&server), [[2]]);
    files.crl = Some(crl);
    assert!(take(&server, &new.numbered_list(3, &[], -1, 7)).unwrap());
    let kept = std::fs::read_to_string(&handed_in).unwrap();
    assert_eq!(kept.matches("BEGIN").count(), 1, "the old one's is not kept");
}
