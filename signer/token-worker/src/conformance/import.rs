//! How a key-encryption key comes in, on a scratch token: as `signer kek` does it, and by every template that says another
//! thing than the one-time key's own. It never handles a key that protects anything.

use cryptoki::object::{Attribute, KeyType, ObjectClass, ObjectHandle};
use sha2::{Digest as _, Sha256};
use token_wire::{Counters, Fault, ImportOpening, Kek, KekImport, Reply};

use super::children::{BY_KWP, KEK};
use super::keys::DIGEST;
use super::table::Table;
use crate::attempt::attempt;
use crate::canary;
use crate::keys::{Finder, Unwrapping};
use crate::scheme::oaep;
use crate::session::Session;
use crate::unwrap_template::kek;

pub(super) fn try_all(session: &Session, kwp: u64, table: &mut Table) -> Result<(), Fault> {
    let what = "a key-encryption key comes in through a one-time key, which then goes, and gives no child away";
    let mut counters = Counters::default();
    let mut finder = Finder { session, counters: &mut counters };
    let opening = ImportOpening { known: vec![known()], kwp_mechanism: kwp };
    let imported = finder.open_import(&opening).and_then(|reply| {
        let Reply::ImportOpened { spki } = reply else { return Ok(reply) };
        let import = KekImport {
            import_key: Sha256::digest(&spki).into(),
            wrapped: canary::wrap(session, &spki, &KEK)?,
            kek: known(),
            known: Vec::new(),
            kwp_mechanism: kwp,
            challenge: DIGEST,
        };
        finder.import_kek(&import, &mut Counters::default())
    });
    let closed = finder.close_import();
    let seen = imported.and(closed).map(|_| String::new()).map_err(|fault| fault.text);
    table.need("kwp:import", what, seen)?;

    let what = "no key comes in by a template that says of one attribute, alone or twice, what the one-time key's does not";
    let tried = finder.open_import(&opening).map_err(|fault| fault.text).and_then(|reply| {
        let Reply::ImportOpened { spki } = reply else { return Ok(()) };
        let one_time = finder.labelled(&Unwrapping::Import.label()).ok().flatten();
        let one_time = one_time.ok_or("the one-time key is not there")?;
        let wrapped = canary::wrap(session, &spki, &[0x77; 32]).map_err(|fault| fault.text)?;
        try_templates(session, one_time, &wrapped)
    });
    let closed = finder.close_import().map_err(|fault| fault.text);
    table.need("kwp:templates", what, tried.and(closed).map(|_| String::new()))
}

/// The key that everybody may know.
fn known() -> Kek {
    Kek { fingerprint: Sha256::digest(BY_KWP).into(), canary: BY_KWP.to_vec() }
}

/// A key that came in could not be taken out again, so the first one ends the trials.
fn try_templates(session: &Session, one_time: ObjectHandle, wrapped: &[u8]) -> Result<(), String> {
    let right = kek();
    for (at, given) in right.iter().enumerate() {
        let Some(wrong) = opposite(given) else { continue };
        let kind = wrong.attribute_type();
        let mut reversed = right.clone();
        if let Some(place) = reversed.get_mut(at) {
            *place = wrong.clone();
        }
        let (mut before, mut after) = (vec![wrong.clone()], right.clone());
        before.extend(right.clone());
        after.push(wrong);
        for (how, template) in [
            ("reversed", reversed),
            ("said twice, the wrong word first", before),
            ("said twice, the wrong word last", after),
        ] {
            let alive =
                || session.find_objects(&[Attribute::Class(ObjectClass::PRIVATE_KEY)]).is_ok();
            let doing = format!("take in a key with {kind} {how}");
            let call = || session.unwrap_key(&oaep(), one_time, wrapped, &template);
            if let Some(key) = attempt(&doing, alive, call).map_err(|fault| fault.text)? {
                // What was said twice and changed nothing is no way in.
                let found = session.get_attributes(key, &[kind]);
                let right = found.is_ok_and(|found| found.contains(given));
                let _ = session.destroy_object(key);
                if !right {
                    return Err(format!("a key came in with {kind} {how}"));
                }
            }
        }
    }
    Ok(())
}

fn opposite(attribute: &Attribute) -> Option<Attribute> {
    Some(match attribute {
        Attribute::Class(_) => Attribute::Class(ObjectClass::PRIVATE_KEY),
        Attribute::KeyType(_) => Attribute::KeyType(KeyType::GENERIC_SECRET),
        Attribute::Token(flag) => Attribute::Token(!flag),
        Attribute::Private(flag) => Attribute::Private(!flag),
        Attribute::Sensitive(flag) => Attribute::Sensitive(!flag),
        Attribute::Extractable(flag) => Attribute::Extractable(!flag),
        Attribute::Encrypt(flag) => Attribute::Encrypt(!flag),
        Attribute::Decrypt(flag) => Attribute::Decrypt(!flag),
        Attribute::Sign(flag) => Attribute::Sign(!flag),
        Attribute::Verify(flag) => Attribute::Verify(!flag),
        Attribute::Wrap(flag) => Attribute::Wrap(!flag),
        Attribute::Unwrap(flag) => Attribute::Unwrap(!flag),
        Attribute::Derive(flag) => Attribute::Derive(!flag),
        Attribute::Copyable(flag) => Attribute::Copyable(!flag),
        Attribute::Destroyable(flag) => Attribute::Destroyable(!flag),
        Attribute::Modifiable(flag) => Attribute::Modifiable(!flag),
        _ => return None,
    })
}
