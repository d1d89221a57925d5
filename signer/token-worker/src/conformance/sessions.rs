//! How sessions behave: what a worker relies on when it was killed, when a call failed, when it is one of several. It
//! never looks at how long a call takes.

use crate::session::Session;
use cryptoki::error::Error;
use cryptoki::mechanism::Mechanism;
use token_wire::Fault;

use super::children::Way;
use super::keys::DIGEST;
use super::table::Table;
use crate::fault;
use crate::token::Token;
use crate::unwrap_template::child;

const GONE: &str = "a destroyed child is gone";
const AFTER_ERROR: &str = "a session signs again after a call that failed";
const OTHER: &str = "another session of the same login signs at once";
const CLOSED: &str = "children are gone with their session";

pub(super) fn try_all(token: &Token, way: Option<&Way>, table: &mut Table) -> Result<(), Fault> {
    let Some(way) = way else {
        for (id, what) in [
            ("session:gone", GONE),
            ("session:after-error", AFTER_ERROR),
            ("session:other", OTHER),
            ("session:closed", CLOSED),
        ] {
            table.untried(id, what, "no child can be unwrapped")?;
        }
        return Ok(());
    };
    let session = token.session();
    let (gone, again) = after_destroying(session, way);
    table.need("session:gone", GONE, gone)?;
    table.need("session:after-error", AFTER_ERROR, again)?;
    let (other, closed) = in_another(token, way);
    table.need("session:other", OTHER, other)?;
    table.need("session:closed", CLOSED, closed)
}

type Tried = Result<String, String>;

fn after_destroying(session: &Session, way: &Way) -> (Tried, Tried) {
    let told = |error| fault::short(&error);
    let destroyed = way.unwrap(session, &child()).and_then(|key| {
        session.destroy_object(key)?;
        Ok(key)
    });
    let gone = match destroyed.map(|key| session.sign(&Mechanism::Ecdsa, key, &DIGEST)) {
        Ok(Ok(_)) => Err("it still signs".to_owned()),
        Ok(Err(error)) => without(&error),
        Err(error) => Err(told(error)),
    };
    let again = way.unwrap(session, &child()).and_then(|key| {
        let signed = session.sign(&Mechanism::Ecdsa, key, &DIGEST);
        session.destroy_object(key)?;
        signed
    });
    (gone, again.map(|_| String::new()).map_err(told))
}

fn in_another(token: &Token, way: &Way) -> (Tried, Tried) {
    let told = |error| fault::short(&error);
    let other = match token.another_session() {
        Ok(other) => other,
        Err(fault) => return (Err(fault.text.clone()), Err(fault.text)),
    };
    let key = match way.unwrap(&other, &child()) {
        Ok(key) => key,
        Err(error) => {
            let text = told(error);
            return (Err(text.clone()), Err(text));
        }
    };
    let signed = other.sign(&Mechanism::Ecdsa, key, &DIGEST);
    drop(other);
    let closed = match token.session().sign(&Mechanism::Ecdsa, key, &DIGEST) {
        Ok(_) => Err("it still signs".to_owned()),
        Err(error) => without(&error),
    };
    (signed.map(|_| String::new()).map_err(told), closed)
}

/// What the token says of a key that is gone; a token or a session that failed says nothing of it.
fn without(error: &Error) -> Tried {
    let text = fault::short(error);
    if fault::is_gone(error) || fault::is_vague(error) {
        Err(format!("not tried: {text}"))
    } else {
        Ok(text)
    }
}
