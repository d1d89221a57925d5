//! Has a signer on SoftHSM attest addresses and writes what a front end would get, for `scripts/attestation-interop`. It
//! never meets a real wallet.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use devnet::Stack;
use devnet::stack::{Options, address_json};
use proto::{Address, AddressClaim, AddressProof, AttestRequest, Attestation};
use serde_json::json;

/// References as customers have them, and one that expires.
const CUSTOMERS: [(&str, u64); 7] = [
    ("customer 42", 0),
    ("", 0),
    ("Zoë Ω 客户", 0),
    ("with \"quotes\" and \\", 0),
    ("expires late", 4_000_000_000),
    ("expired", 1_000_000_000),
    ("0", 0),
];

#[tokio::main]
async fn main() -> Result<()> {
    let out = PathBuf::from(std::env::args().nth(1).context("usage: attestations DIR")?);
    let mut stack = Stack::start(Options::default()).await?;
    let mut issued = Vec::new();
    // One by one through the watcher, as a shop does, then one batch at the signer.
    for number in 0..2 {
        let reference = format!("shop {number}");
        issued.push(stack.issue("deposits", &format!("a{number}"), &reference).await?);
    }
    let claims = (2..).zip(CUSTOMERS).map(|(index, (reference, expires_unix))| AddressClaim {
        index,
        customer_reference: reference.to_owned(),
        expires_unix,
    });
    let request = AttestRequest { wallet: "deposits".to_owned(), claims: claims.collect() };
    let reply = stack.signer_as("watcher-1")?.attest(request).await?.into_inner();
    for (attested, (reference, _)) in reply.attestations.into_iter().zip(CUSTOMERS) {
        issued.push(as_shown(attested, reference));
    }
    for (number, address) in issued.iter().enumerate() {
        fs::write(out.join(format!("{number}.json")), address_json(address)?)?;
    }
    stack.watcher.stop()?;
    stack.signer.stop()?;
    let said = stack.run_signer(&["token-key", "generate", "vault-1"])?;
    let token_key = said.split_whitespace().last().context("no public key")?;
    let file = out.join("vault-1.attested");
    let file = file.to_str().context("the folder's name is not UTF-8")?;
    stack.run_signer(&["token-key", "attest", "vault-1", "--out", file])?;
    let settings = json!({
        "key": stack.token().attestation,
        "network": asset::Network::Regtest.chain_id().to_string(),
        "wallet": "deposits",
        "count": issued.len(),
        "tokenKey": token_key,
    });
    fs::write(out.join("settings.json"), settings.to_string())?;
    Ok(())
}

fn as_shown(attested: Attestation, reference: &str) -> Address {
    let Attestation { index, address, leaf, position, tree_size, path, root, signature, tier } =
        attested;
    let proof = Some(AddressProof { leaf, position, tree_size, path, root, signature });
    let (wallet, customer_reference) = ("deposits".to_owned(), reference.to_owned());
    Address { wallet, index, address, customer_reference, tier, proof }
}
