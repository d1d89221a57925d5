//! Chain and asset ids: the constants against the chains' own genesis blocks, the grammars against examples.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::arithmetic_side_effects,
    reason = "a test fails by panicking"
)]

use asset::{AssetId, ChainId, Network};
use bitcoin::constants::genesis_block;

#[test]
fn chain_ids_begin_with_the_genesis_hash() {
    let networks = [
        (Network::Bitcoin, bitcoin::Network::Bitcoin, "0"),
        (Network::Testnet4, bitcoin::Network::Testnet4, "1"),
        (Network::Signet, bitcoin::Network::Signet, "1"),
        (Network::Regtest, bitcoin::Network::Regtest, "1"),
    ];
    for (ours, theirs, coin) in networks {
        let hash = genesis_block(theirs).block_hash().to_string();
        let expected = format!("bip122:{}", &hash[..32]);
        assert_eq!(ours.chain_id().as_str(), expected);
        assert_eq!(ours.asset_id().as_str(), format!("{expected}/slip44:{coin}"));
        assert_eq!(ours.asset_id().chain(), ours.chain_id());
        assert_eq!(ChainId::parse(&expected).unwrap(), ours.chain_id());
        assert_eq!(AssetId::parse(ours.asset_id().as_str()).unwrap(), ours.asset_id());
        assert_eq!(ours.as_str(), theirs.to_core_arg().replace("main", "bitcoin"));
        assert_eq!(Network::parse(ours.as_str()).unwrap(), ours);
    }
    assert_eq!(ChainId::bitcoin_mainnet(), Network::Bitcoin.chain_id());
    assert_eq!(ChainId::bitcoin_testnet4(), Network::Testnet4.chain_id());
    assert_eq!(ChainId::bitcoin_signet(), Network::Signet.chain_id());
    assert_eq!(ChainId::bitcoin_regtest(), Network::Regtest.chain_id());
}

#[test]
fn caip_2_examples() {
    for good in [
        "eip155:1",
        "bip122:fdbe99b90c90bae7505796461471d89a",
        "cosmos:cosmoshub-3",
        "lip9:9ee11e9df416b18b",
        "chainstd:8c3444cf8970a9e41a706fab93e7a6c4",
        "starknet:SN_GOERLI",
    ] {
        assert_eq!(ChainId::parse(good).unwrap().as_str(), good);
    }
    let long = format!("eip155:{}", "1".repeat(33));
    for bad in [
        "",
        "eip155",
        "eip155:",
        ":1",
        "ei:1",
        "toolongns:1",
        "EIP155:1",
        "eip155:1:2",
        "a b:1",
        "eip155:ü",
        &long,
    ] {
        assert!(ChainId::parse(bad).is_err(), "{bad:?}");
    }
}

#[test]
fn caip_19_examples() {
    for good in [
        "eip155:1/slip44:60",
        "bip122:000000000019d6689c085ae165831e93/slip44:0",
        "eip155:1/erc20:0x6b175474e89094c44da98b954eedeac495271d0f",
        "eip155:1/erc721:0x06012c8cf97BEaD5deAe237070F9587f8E7A266d/771769",
    ] {
        let id = AssetId::parse(good).unwrap();
        assert_eq!(id.as_str(), good);
        assert!(good.starts_with(id.chain().as_str()));
    }
    for bad in [
        "",
        "eip155:1",
        "eip155:1/",
        "eip155:1/slip44",
        "eip155:1/slip44:",
        "eip155:1/sl:60",
        "eip155:1/slip44:60/",
        "eip155:1/erc721:0x06/1/2",
        "eip155:1/slip44:6 0",
        "BTC",
    ] {
        assert!(AssetId::parse(bad).is_err(), "{bad:?}");
    }
}

#[test]
fn json_is_the_text() {
    let asset = Network::Regtest.asset_id();
    let json = serde_json::to_string(&asset).unwrap();
    assert_eq!(json, format!("\"{asset}\""));
    assert_eq!(serde_json::from_str::<AssetId>(&json).unwrap(), asset);
    assert!(serde_json::from_str::<AssetId>("\"BTC\"").is_err());
}
