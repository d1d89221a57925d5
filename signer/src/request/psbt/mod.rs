//! PSBTs of both versions as one kind of thing: version 2 (BIP-370) is read strictly into what version 0 (BIP-174)
//! says, and written again in the version it came in. It never guesses: what a version forbids or lacks is no PSBT.
//!
//! Reading order: `maps` (keys and values as bytes), `second` (version 2 into version 0 and back), `apart` (what inputs say
//! of keys).

mod maps;
mod second;
mod apart;

use std::borrow::Cow;

use bitcoin::psbt::Psbt;

pub use apart::{Named, TaprootKey};

use maps::{Entry, Maps};

/// Which version bytes were in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Version {
    /// BIP-174.
    Zero,
    /// BIP-370.
    Two,
}

/// How every PSBT begins.
const MAGIC: [u8; 5] = *b"psbt\xff";
/// `PSBT_GLOBAL_VERSION`.
const GLOBAL_VERSION: u8 = 0xfb;

/// Reads exactly one PSBT, all of it.
///
/// # Errors
/// What is wrong, in few words; nothing of a length that the sender chose.
pub fn read(bytes: &[u8]) -> Result<(Psbt, Version), String> {
    let (first, version) = first(bytes)?;
    Ok((parse(&first, version)?, version))
}

/// As [`read`], but what inputs say of keys is given apart, one for each input, and is in the PSBT no more. Whether a key
/// is a point of the curve is not looked at: compare it with one that is.
///
/// # Errors
/// As [`read`].
pub fn read_apart(bytes: &[u8]) -> Result<(Psbt, Vec<Named>, Version), String> {
    let (first, version) = first(bytes)?;
    let (rest, named) = apart::apart(&first)?;
    let psbt = parse(&rest, version)?;
    if psbt.inputs.len() != named.len() {
        return Err("its transaction and its maps have not as many inputs".to_owned());
    }
    Ok((psbt, named, version))
}

/// Its bytes as version 0, and which version it was.
fn first(bytes: &[u8]) -> Result<(Cow<'_, [u8]>, Version), String> {
    let body = bytes.strip_prefix(&MAGIC).ok_or("it does not begin as one")?;
    let mut maps = Maps::of(body);
    let global = maps.next()?;
    match version(&global)? {
        0 => Ok((Cow::Borrowed(bytes), Version::Zero)),
        2 => Ok((Cow::Owned(second::to_first(&global, &mut maps)?), Version::Two)),
        other => Err(format!("version {other} is not known; 0 and 2 are")),
    }
}

fn parse(first: &[u8], version: Version) -> Result<Psbt, String> {
    let mut rest = first;
    let psbt = Psbt::deserialize_from_reader(&mut rest).map_err(|error| error.to_string())?;
    if !rest.is_empty() {
        return Err(format!("{} bytes follow it", rest.len()));
    }
    if version == Version::Zero {
        only_first(&psbt)?;
    }
    Ok(psbt)
}

/// Writes a PSBT in a version.
///
/// # Errors
/// When what the library wrote does not read back, which would be a mistake of ours.
pub fn write(psbt: &Psbt, version: Version) -> Result<Vec<u8>, String> {
    let first = psbt.serialize();
    match version {
        Version::Zero => Ok(first),
        Version::Two => second::from_first(psbt, &first),
    }
}

fn version(global: &[Entry<'_>]) -> Result<u32, String> {
    match global.iter().find(|entry| entry.key == [GLOBAL_VERSION]) {
        None => Ok(0),
        Some(entry) => number(entry.value),
    }
}

/// Fields that only version 2 has, and that the library takes for unknown ones.
fn only_first(psbt: &Psbt) -> Result<(), String> {
    let inputs = psbt.inputs.iter().flat_map(|input| input.unknown.keys());
    let outputs = psbt.outputs.iter().flat_map(|output| output.unknown.keys());
    let found = psbt.unknown.keys().any(|key| second::is_global(key.type_value))
        || inputs.into_iter().any(|key| second::is_input(key.type_value))
        || outputs.into_iter().any(|key| second::is_output(key.type_value));
    if found { Err("it is of version 0 and has fields of version 2".to_owned()) } else { Ok(()) }
}

/// Four bytes, little-endian.
fn number(value: &[u8]) -> Result<u32, String> {
    let bytes = value.try_into().map_err(|_| "a field of four bytes has another length")?;
    Ok(u32::from_le_bytes(bytes))
}
