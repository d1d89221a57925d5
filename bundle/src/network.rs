//! The chains a bundle can be for, and their names. It never guesses: an unknown name is no chain.

use bitcoin::NetworkKind;

/// A Bitcoin chain.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Network {
    /// Real money.
    Bitcoin,
    /// The fourth public test chain.
    Testnet4,
    /// The default signet.
    Signet,
    /// A private chain.
    Regtest,
}

impl Network {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Bitcoin, Self::Testnet4, Self::Signet, Self::Regtest];

    /// From the name used in configuration: `bitcoin`, `testnet4`, `signet`, `regtest`.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|network| network.name() == name)
    }

    /// From the CAIP-2 chain id.
    #[must_use]
    pub fn from_caip2(id: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|network| network.caip2() == id)
    }

    /// The name used in configuration.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Bitcoin => "bitcoin",
            Self::Testnet4 => "testnet4",
            Self::Signet => "signet",
            Self::Regtest => "regtest",
        }
    }

    /// CAIP-2: `bip122:` and the first half of the genesis block's hash.
    #[must_use]
    pub fn caip2(self) -> &'static str {
        match self {
            Self::Bitcoin => "bip122:000000000019d6689c085ae165831e93",
            Self::Testnet4 => "bip122:00000000da84f2bafbbc53dee25a72ae",
            Self::Signet => "bip122:00000008819873e925422c1ff0f99f7c",
            Self::Regtest => "bip122:0f9188f13cb7b2c71f2a335e3a4fc328",
        }
    }

    /// SLIP-44 coin type in the account's path.
    #[must_use]
    pub fn coin_type(self) -> u32 {
        if self == Self::Bitcoin { 0 } else { 1 }
    }

    /// Which prefix extended keys carry.
    #[must_use]
    pub fn kind(self) -> NetworkKind {
        if self == Self::Bitcoin { NetworkKind::Main } else { NetworkKind::Test }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn caip2_is_the_genesis_hash() {
        for network in Network::ALL {
            let chain = match network {
                Network::Bitcoin => bitcoin::Network::Bitcoin,
                Network::Testnet4 => bitcoin::Network::Testnet4,
                Network::Signet => bitcoin::Network::Signet,
                Network::Regtest => bitcoin::Network::Regtest,
            };
            let hash = bitcoin::constants::genesis_block(chain).block_hash().to_string();
            assert_eq!(network.caip2(), format!("bip122:{}", &hash[..32]));
            assert_eq!(Network::from_name(network.name()), Some(network));
            assert_eq!(Network::from_caip2(network.caip2()), Some(network));
            assert_eq!(network.name(), chain.to_core_arg().replace("main", "bitcoin"));
        }
    }
}
