//! A wallet of one key that was born in the token, as a policy may have it once the token's cloning is proven. The
//! proof is a text that says what it is: no token was cloned here, and nothing of value is ever kept.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use bitcoin::hashes::{Hash as _, sha256};
use devnet::Stack;
use devnet::stack::with_checksum;
use signer::born;

/// The wallet and its key.
pub(crate) const NAME: &str = "vault";

/// Has the token bear the key and the officer sign the policy that pins it; returns the wallet's descriptor.
pub(crate) async fn open(stack: &mut Stack) -> Result<String> {
    stack.signer.stop()?;
    let said = stack.run_signer(&["token-key", "generate", NAME])?;
    let key = said.split_whitespace().last().context("no key was named")?;
    let descriptor = with_checksum(&format!("wpkh({key})"))?;
    let proof = prove_cloning(stack)?;
    let wallet = format!(
        "[[wallet]]\nname = {NAME:?}\ntier = \"token\"\ndescriptor = {descriptor:?}\nindex_window = 1\ncloning_proof = \"{proof}\"\n\n[[order_key]]"
    );
    pin(stack, &wallet)?;
    stack.start_signer().await?;
    Ok(descriptor)
}

fn prove_cloning(stack: &Stack) -> Result<sha256::Hash> {
    let text = b"a benchmark's token, which lives for minutes and was never cloned";
    let digest = sha256::Hash::hash(text);
    let state = stack.dir().join("signer").join("state");
    let file = born::proof_path(&state, digest.as_byte_array());
    fs::create_dir_all(file.parent().context("no folder for the proof")?)?;
    fs::write(file, text)?;
    Ok(digest)
}

/// The next version of the policy, with the wallet, which the sweep lane may spend.
fn pin(stack: &Stack, wallet: &str) -> Result<()> {
    let file = stack.dir().join("signer").join("policy.toml");
    let mut policy = fs::read_to_string(&file)?;
    let lane = format!("wallets = [\"deposits\", {NAME:?}]");
    for (before, after) in [
        ("version = 1", "version = 2"),
        ("[[order_key]]", wallet),
        ("wallets = [\"deposits\"]", &lane),
    ] {
        ensure!(policy.contains(before), "the policy has no {before}");
        policy = policy.replacen(before, after, 1);
    }
    fs::write(&file, policy)?;
    let key = stack.dir().join("officer").join("alice.key");
    let (file, key) = (file.to_str().context("not UTF-8")?, key.to_str().context("not UTF-8")?);
    stack.run("officer", &["policy", "sign", file, "--key", key, "--yes"]).map(drop)
}
