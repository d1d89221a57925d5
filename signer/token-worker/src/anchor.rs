//! The token's own memory of how long the log was: a private data object. It never judges what it says, never
//! touches a key, and changes objects in a session of its own, which ends with the change.

use cryptoki::error::Error;
use cryptoki::object::{Attribute, AttributeType, ObjectClass, ObjectHandle};
use token_wire::{ANCHOR_BYTES_MAX, AnchorAsk, Fault, FaultCode};

use crate::fault;
use crate::session::Session;
use crate::token::Token;

/// What the object is called.
const LABEL: &str = "cofferdam anchor 1";
/// What that of a trial is called.
const TRIAL: &str = "cofferdam anchor trial";
/// More objects than writes that were cut off leave are somebody else's.
const ANCHORS_MAX: usize = 4;
/// Whose it is, as PKCS#11 has it of data objects.
const APPLICATION: &str = "cofferdam";

/// Answers what is asked.
pub(crate) fn answer(token: &mut Token, ask: &AnchorAsk) -> Result<Vec<Vec<u8>>, Fault> {
    match ask {
        AnchorAsk::Read => token.steadily(|session| read(session, LABEL)),
        AnchorAsk::Write(note) => {
            write(&token.another_session()?, LABEL, note).map(|()| Vec::new())
        }
        AnchorAsk::Forget => forget(&token.another_session()?, LABEL),
        AnchorAsk::Try => try_out(&token.another_session()?).map(|()| Vec::new()),
        AnchorAsk::Look => look(token.session()),
        AnchorAsk::EndTry => forget(&token.another_session()?, TRIAL),
    }
}

/// What each object says, which nobody sees without the PIN. A write that was cut off may have left two.
fn read(session: &Session, label: &str) -> Result<Vec<Vec<u8>>, Fault> {
    let objects = found(session, label)?;
    if objects.len() > ANCHORS_MAX {
        let many = objects.len();
        let text = format!("{many} objects in the token are called \"{label}\"");
        return Err(Fault::new(FaultCode::KeyAmbiguous, text));
    }
    objects.into_iter().map(|object| value(session, object)).collect()
}

/// Changes the object, or where the token lets no value be changed makes another and destroys those before, so that there is
/// one at any moment. It is read again: what a token forgets is no memory.
fn write(session: &Session, label: &str, note: &[u8]) -> Result<(), Fault> {
    if note.len() > ANCHOR_BYTES_MAX {
        let text = format!("an anchor of {} bytes is longer than {ANCHOR_BYTES_MAX}", note.len());
        return Err(Fault::new(FaultCode::BadRequest, text));
    }
    let new = Attribute::Value(note.to_vec());
    let before = found(session, label)?;
    if let [one] = before[..]
        && session.update_attributes(one, std::slice::from_ref(&new)).is_ok()
    {
        return kept(session, one, note);
    }
    let mut template = named(label);
    template.extend([Attribute::Private(true), Attribute::Modifiable(true), new]);
    let made = session.create_object(&template);
    kept(session, made.map_err(|error| failed("keep its anchor", &error))?, note)?;
    destroy(session, before)
}

fn kept(session: &Session, object: ObjectHandle, note: &[u8]) -> Result<(), Fault> {
    if value(session, object)? == note {
        return Ok(());
    }
    Err(Fault::new(FaultCode::Token, "the token did not keep its anchor as it was written"))
}

/// Destroys every object of that name; what those said that can be read.
fn forget(session: &Session, label: &str) -> Result<Vec<Vec<u8>>, Fault> {
    let objects = found(session, label)?;
    let said = objects.iter().filter_map(|object| value(session, *object).ok()).collect();
    destroy(session, objects)?;
    Ok(said)
}

fn destroy(session: &Session, objects: Vec<ObjectHandle>) -> Result<(), Fault> {
    let mut objects = objects.into_iter();
    objects
        .try_for_each(|object| session.destroy_object(object))
        .map_err(|error| failed("forget its anchor", &error))
}

/// Everything that is done with an anchor, on an object that stays until the trial is ended.
pub(crate) fn try_out(session: &Session) -> Result<(), Fault> {
    forget(session, TRIAL)?;
    // As long as one can be, then shorter: both must come back whole.
    for note in [vec![b'a'; ANCHOR_BYTES_MAX], b"b".to_vec()] {
        write(session, TRIAL, &note)?;
    }
    Ok(())
}

/// Destroys what a trial left.
pub(crate) fn end_try(session: &Session) -> Result<(), Fault> {
    forget(session, TRIAL).map(drop)
}

/// Such objects that are there to see, also without a login.
fn look(session: &Session) -> Result<Vec<Vec<u8>>, Fault> {
    let seen = found(session, TRIAL)?.into_iter();
    Ok(seen.map(|object| value(session, object).unwrap_or_default()).collect())
}

/// Without the PIN a token shows none that are private.
fn found(session: &Session, label: &str) -> Result<Vec<ObjectHandle>, Fault> {
    session.find_objects(&named(label)).map_err(|error| failed("search its objects", &error))
}

fn named(label: &str) -> Vec<Attribute> {
    vec![
        Attribute::Class(ObjectClass::DATA),
        Attribute::Token(true),
        Attribute::Label(label.as_bytes().to_vec()),
        Attribute::Application(APPLICATION.as_bytes().to_vec()),
    ]
}

/// Its value; one that anybody could have written says nothing.
fn value(session: &Session, object: ObjectHandle) -> Result<Vec<u8>, Fault> {
    let kinds = [AttributeType::Private, AttributeType::Value];
    let shown = session
        .get_attributes(object, &kinds)
        .map_err(|error| failed("show its anchor", &error))?;
    if !shown.contains(&Attribute::Private(true)) {
        let text = "the token's anchor is not private: it could be changed without the PIN";
        return Err(Fault::new(FaultCode::KeyUnsafe, text));
    }
    let value = shown.into_iter().find_map(|shown| match shown {
        Attribute::Value(value) => Some(value),
        _ => None,
    });
    value.ok_or_else(|| Fault::new(FaultCode::Token, "the token shows no value of its anchor"))
}

fn failed(doing: &str, error: &Error) -> Fault {
    fault::token(doing, error)
}
