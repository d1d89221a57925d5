//! A bundle's first addresses, to be compared with software elsewhere; of one key of a multisig its first public keys. They
//! come from its descriptor alone: no record and no private key has a part in them.

use std::str::FromStr as _;

use bundle::{Header, Network, Script};
use miniscript::{Descriptor, DescriptorPublicKey};

use crate::Error;

/// The first addresses of the external and of the change branch; no more of a branch than it has keys. A cosigner's
/// addresses hang on the others' keys as well, so that of one its own public keys are given.
///
/// # Errors
/// [`Error::NoKey`] when the descriptor gives none.
pub fn first(header: &Header, most: u32) -> Result<[Vec<String>; 2], Error> {
    if header.fields().kind.script == Script::WshCosigner {
        return Ok([keys(header, false, most)?, keys(header, true, most)?]);
    }
    let network = match header.fields().network {
        Network::Bitcoin => bitcoin::Network::Bitcoin,
        Network::Testnet4 => bitcoin::Network::Testnet4,
        Network::Signet => bitcoin::Network::Signet,
        Network::Regtest => bitcoin::Network::Regtest,
    };
    let whole = Descriptor::<DescriptorPublicKey>::from_str(header.descriptor());
    let branches = whole.and_then(Descriptor::into_single_descriptors).map_err(|_| Error::NoKey)?;
    let addresses = |change: bool| -> Result<Vec<String>, Error> {
        let branch = branches.get(usize::from(change)).ok_or(Error::NoKey)?;
        let one = |index| {
            let definite = branch.at_derivation_index(index).map_err(|_| Error::NoKey)?;
            definite.address(network).map(|address| address.to_string()).map_err(|_| Error::NoKey)
        };
        (0..header.keys(change).min(most)).map(one).collect()
    };
    Ok([addresses(false)?, addresses(true)?])
}

fn keys(header: &Header, change: bool, most: u32) -> Result<Vec<String>, Error> {
    let branch = header.branch(change)?;
    let one = |index| Ok(branch.public_key(index)?.to_string());
    (0..header.keys(change).min(most)).map(one).collect()
}
