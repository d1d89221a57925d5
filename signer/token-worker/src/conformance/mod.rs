//! Holds a scratch token against everything the signer needs of one, and says what came of each need. It never runs on a
//! token that holds a signer's keys, and leaves a few keys behind that cannot be destroyed: initialise the token again.
//!
//! It is a mode of the worker, so that what is tried is what the worker does: the same templates, checks and canary.

mod table;
mod mechanisms;
mod data;
mod keys;
mod children;
mod import;
mod sessions;

use std::io;

use crate::session::Session;
use cryptoki::object::Attribute;
use token_wire::conformance::{ModuleInfo, Said};
use token_wire::{Fault, FaultCode, Mechanisms};

use crate::args::Args;
use crate::fault;
use crate::numbers;
use crate::tally::Tally;
use crate::token::Token;
use crate::watchdog::Watchdog;
use table::Table;

/// Tries everything and says what it finds, to the end or to the first thing without which nothing more can be tried.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let watchdog = Watchdog::start(args.seconds_max.into())?;
    let mut table = Table::new(io::stdout());
    let ended = watchdog.watch(|| everything(args, &mut table));
    table.say(&ended.map_or_else(Said::Fault, |()| Said::End))
}

fn everything(args: &Args, table: &mut Table) -> Result<(), Fault> {
    let (mut token, info) = Token::open(args, true, &Tally::default())?;
    let (pkcs11, slot) = token.module();
    let failed = |error: &_| fault::token("describe itself", error);
    let library = pkcs11.get_library_info().map_err(|error| failed(&error))?;
    let firmware = pkcs11.get_token_info(slot).map_err(|error| failed(&error))?.firmware_version();
    table.tell(&Said::Module(ModuleInfo {
        manufacturer: library.manufacturer_id().to_owned(),
        description: library.library_description().to_owned(),
        library: library.library_version().to_string(),
        cryptoki: library.cryptoki_version().to_string(),
        firmware: firmware.to_string(),
        token: info,
    }))?;
    numbers::set(&Mechanisms {
        eddsa: args.eddsa_mechanism,
        eddsa_key_pair_gen: args.eddsa_key_pair_gen_mechanism,
    })?;
    mechanisms::try_all(&token, args.kwp_mechanism, table)?;
    // A signer's token is told by its public keys, which all may see, before a PIN is sent to it.
    refuse_signers_token(token.session())?;
    if token.pin_state(false)?.wrong_before {
        let text = "the token has seen a wrong PIN since its last login: conformance tries none on it; log in by the vendor's tool first, or initialise the token again";
        return Err(Fault::new(FaultCode::PinLocked, text));
    }
    token.log_in(false, false, || Ok(()))?;
    let session = token.session();
    refuse_signers_token(session)?;
    data::try_all(&token, table)?;
    let wrapping = keys::try_wrapping(session, table)?;
    keys::try_statements(session, table)?;
    keys::try_coin_key(session, table)?;
    keys::try_sealing(session, table)?;
    let child = children::try_all(session, wrapping, args.kwp_mechanism, table)?;
    sessions::try_all(&token, child.as_ref(), table)
}

/// A token with keys of a signer's is no scratch token.
fn refuse_signers_token(session: &Session) -> Result<(), Fault> {
    for label in ["cofferdam wrapping 1", "cofferdam attestation 1", "cofferdam checkpoint 1"] {
        let template = [Attribute::Token(true), Attribute::Label(label.into())];
        let found = session
            .find_objects(&template)
            .map_err(|error| fault::token("search its objects", &error))?;
        if !found.is_empty() {
            return Err(Fault::new(
                FaultCode::BadRequest,
                format!(
                    "this token holds a signer's key (\"{label}\"): conformance is for a scratch token"
                ),
            ));
        }
    }
    Ok(())
}
