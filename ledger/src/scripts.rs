//! What entries of lists and address books stand for: addresses read, descriptors derived. It never says whether an entry
//! counts.

use std::str::FromStr as _;

use bitcoin::address::{Address, NetworkUnchecked};
use miniscript::{Descriptor, DescriptorPublicKey, ForEachKey as _};
use policy::conditions::{BOOK_SCRIPTS_MAX, Target};

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

/// The same for an entry of an address book, which anybody with a book key makes: counted before anything is derived.
///
/// # Errors
/// As [`scripts`], or that they are too many.
pub fn booked_scripts(target: &Target, network: &str) -> Result<Vec<Vec<u8>>, String> {
    count(target)?;
    scripts(target, network)
}

/// How many scripts an entry of an address book stands for, by reading it alone.
///
/// # Errors
/// What of it cannot be read, or that they are too many, in a sentence.
pub fn count(target: &Target) -> Result<u32, String> {
    let Target::Descriptor { descriptor, indexes } = target else { return Ok(1) };
    let parsed =
        Descriptor::<DescriptorPublicKey>::from_str(descriptor).map_err(|e| e.to_string())?;
    let mut branches = 1_usize;
    parsed.for_each_key(|key| {
        branches = branches.max(key.derivation_paths().len());
        true
    });
    let scripts = u32::try_from(branches).unwrap_or(u32::MAX).saturating_mul(*indexes);
    match scripts <= BOOK_SCRIPTS_MAX {
        true => Ok(scripts),
        false => Err(format!(
            "it stands for {scripts} scripts, and an entry of an address book for at most {BOOK_SCRIPTS_MAX}: attest fewer \
             branches or indexes"
        )),
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

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    const KEY: &str = "xpub6BgBgsespWvERF3LHQu6CnqdvfEvtMcQjYrcRzx53QJjSxarj2afYWcLteoGVky7D3UKDP9QyrLprQ3VCECoY49yfdDEHGCtMMj92pReUsQ";

    fn branches(count: usize, indexes: u32) -> Target {
        let steps: Vec<String> = (0..count).map(|step| step.to_string()).collect();
        let steps = if count == 1 { "0".to_owned() } else { format!("<{}>", steps.join(";")) };
        Target::Descriptor { descriptor: format!("wpkh({KEY}/{steps}/*)"), indexes }
    }

    #[test]
    fn what_an_entry_stands_for_is_counted_before_anything_is_derived() {
        assert_eq!(count(&Target::Script(vec![1])), Ok(1));
        for (steps, indexes, scripts) in [(1, 100, 100), (2, 100, 200), (172, 1, 172)] {
            assert_eq!(count(&branches(steps, indexes)), Ok(scripts), "{steps}");
        }
        let network = asset::Network::Regtest.chain_id().to_string();
        assert_eq!(booked_scripts(&branches(2, 3), &network).unwrap().len(), 6);
        for (steps, indexes, scripts) in
            [(3, 67, 201), (172, 100, 17_200), (172, u32::MAX, u32::MAX)]
        {
            let why = booked_scripts(&branches(steps, indexes), &network).unwrap_err();
            assert!(why.contains(&format!("stands for {scripts} scripts")), "{why}");
        }
    }
}
