//! Splits and joins test secrets for `scripts/slip39-interop`. It never meets a real secret: it prints all it knows.
//!
//! ```text
//! slip39 split HEX PASSPHRASE EXPONENT EXTENDABLE GROUP_THRESHOLD TofN...   prints a share a line
//! slip39 join PASSPHRASE < shares                                          prints the secret in hex
//! ```
#![allow(clippy::print_stdout, reason = "printing is what it is for")]

use std::error::Error;
use std::io;

use rand::RngCore as _;
use slip39::{Group, Mnemonic, Passphrase, Recovery, Scheme};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["split", secret, passphrase, exponent, extendable, threshold, groups @ ..] => {
            let groups = groups.iter().map(|text| group(text)).collect::<Result<Vec<_>, _>>()?;
            let scheme = Scheme::new(&groups, threshold.parse()?)?
                .with_iteration_exponent(exponent.parse()?)?
                .with_extendable(extendable.parse()?);
            let mut entropy = |out: &mut [u8]| rand::rngs::OsRng.fill_bytes(out);
            let (secret, passphrase) = (
                hex::decode(secret).map_err(|error| error.to_string())?,
                Passphrase::new(passphrase)?,
            );
            for share in
                slip39::split(&secret, &passphrase, &scheme, &mut entropy)?.iter().flatten()
            {
                println!("{}", share.to_words().as_str());
            }
        }
        ["join", passphrase] => {
            let mut recovery = Recovery::new();
            for line in io::stdin().lines() {
                recovery.add(Mnemonic::parse(&line?)?)?;
            }
            println!("{}", hex::encode(recovery.recover(&Passphrase::new(passphrase)?)?));
        }
        _ => return Err("see the source for how to call this".into()),
    }
    Ok(())
}

fn group(text: &str) -> Result<Group, Box<dyn Error>> {
    let (threshold, count) = text.split_once("of").ok_or("a group is written 2of3")?;
    Ok(Group { threshold: threshold.parse()?, count: count.parse()? })
}
