//! What entries of lists and address books stand for: addresses read, descriptors derived. It never says whether an entry
//! counts.

use std::str::FromStr as _;

use bitcoin::address::{Address, NetworkUnchecked};
use miniscript::{Descriptor, DescriptorPublicKey};
use policy::conditions::Target;

/// The scripts that a list's entry stands for, on the network of this CAIP-2 id.
///
/// # Errors
/// What of it cannot be read, in a sentence.
pub fn scripts(target: &Target, network: &str) -> Result<Vec<Vec<u8>>, String> {
    let network = bitcoin_network(network)?;
    match target {
        Target::Address(text) => {
            let read = Address::<NetworkUnchecked>::from_str(text)
                .map_err(|_| format!("\"{text}\" is not a bitcoin address"))?;
            let address = read
                .require_network(network)
                .map_err(|_| format!("\"{text}\" is an address of another network"))?;
            Ok(vec![address.script_pubkey().into_bytes()])
        }
        Target::Script(script) => Ok(vec![script.clone()]),
        Target::Descriptor { descriptor, indexes } => derive(descriptor, *indexes),
    }
}

/// Every branch of it, at every index that counts.
fn derive(text: &str, indexes: u32) -> Result<Vec<Vec<u8>>, String> {
    let parsed = Descriptor::<DescriptorPublicKey>::from_str(text).map_err(|e| e.to_string())?;
    parsed.sanity_check().map_err(|error| error.to_string())?;
    if !parsed.has_wildcard() && indexes != 1 {
        return Err("a descriptor without * has one address: write indexes = 1".to_owned());
    }
    let branches = parsed.into_single_descriptors().map_err(|error| error.to_string())?;
    let mut scripts = Vec::new();
    for branch in branches {
        for index in 0..indexes {
            let definite = branch.at_derivation_index(index).map_err(|error| error.to_string())?;
            scripts.push(definite.script_pubkey().into_bytes());
        }
    }
    Ok(scripts)
}

fn bitcoin_network(id: &str) -> Result<bitcoin::Network, String> {
    let known = asset::Network::ALL.into_iter().find(|known| known.chain_id().to_string() == id);
    match known {
        Some(asset::Network::Bitcoin) => Ok(bitcoin::Network::Bitcoin),
        Some(asset::Network::Testnet4) => Ok(bitcoin::Network::Testnet4),
        Some(asset::Network::Signet) => Ok(bitcoin::Network::Signet),
        Some(asset::Network::Regtest) => Ok(bitcoin::Network::Regtest),
        None => Err(format!("{id} is no network of this program")),
    }
}
