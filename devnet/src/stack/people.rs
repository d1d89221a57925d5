//! What people do at their own machines, by the `officer` program: keys, a signed policy, signed orders, checks.
//! Never uses a library's shortcut for it: tests and demo run the commands that people have.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bitcoin::Amount;
use proto::{Address, SignedOrder};
use serde_json::{Value, json};

use super::Stack;
use super::keys::text;
use crate::programs::Programs;
use crate::screen::btc;

/// A payment that a service wants.
#[derive(Debug, Clone)]
pub struct Wish<'a> {
    /// Unique for ever.
    pub id: &'a str,
    /// How much.
    pub amount: Amount,
    /// Where to.
    pub to: &'a str,
    /// For how long it may be signed for, e.g. `1h`.
    pub expires_in: &'a str,
}

impl Stack {
    /// Has the shop's key sign an order.
    pub fn sign_order(&self, wish: &Wish<'_>) -> Result<SignedOrder> {
        let key = self.dir().join("officer").join("shop.key");
        let amount = btc(wish.amount);
        let said = self.run(
            "officer",
            &[
                "order",
                "sign",
                "--key",
                text(&key)?,
                "--network=regtest",
                "--id",
                wish.id,
                "--amount",
                &amount,
                "--to",
                wish.to,
                "--expires-in",
                wish.expires_in,
            ],
        )?;
        let body: Value = serde_json::from_str(&said).context("officer printed no JSON")?;
        let field = |name: &str| {
            let value = body.get("order").and_then(|order| order.get(name)).and_then(Value::as_str);
            value.with_context(|| format!("the signed order has no {name}"))
        };
        Ok(SignedOrder {
            order: STANDARD.decode(field("order")?)?,
            signature: STANDARD.decode(field("signature")?)?,
            signer: field("signer")?.to_owned(),
        })
    }

    /// Has the officer's program check an address against the token's attestation key and the customer it is for.
    pub fn verify_address(&self, issued: &Address, customer: &str) -> Result<String> {
        let file = self.dir().join("officer").join(format!("{}.json", issued.address));
        fs::write(&file, address_json(issued)?)?;
        let key = &self.token().attestation;
        let arguments = ["address", "verify", "--key", key, "--reference", customer, text(&file)?];
        self.run("officer", &arguments)
    }

    /// Has the officer's program check the signer's whole log, with the checkpoint key that was noted when the token was made.
    /// The signer must be down: it does not share its log.
    pub fn verify_log(&self) -> Result<String> {
        verify_log(&self.stage.programs, self.dir(), &self.token().checkpoint)
    }
}

/// What the officer's program says of the log in `DIR/signer/state`.
pub(super) fn verify_log(programs: &Programs, dir: &Path, checkpoint: &str) -> Result<String> {
    let database = dir.join("signer").join("state").join("log.sqlite");
    let database = format!("sqlite:{}", text(&database)?);
    let arguments = ["audit", "verify", "--key", checkpoint, "--database", &database];
    programs.run("officer", &arguments)
}

/// Makes an Ed25519 key pair at `DIR/officer/NAME.key` and returns the public half in hex.
pub(super) fn make_key(programs: &Programs, dir: &Path, name: &str) -> Result<String> {
    let file = dir.join("officer").join(format!("{name}.key"));
    let said = programs
        .run("officer", &["keygen", "--name", name, "--in-clear", "--out", text(&file)?])?;
    let public = said.lines().find_map(|line| line.strip_prefix("public key"));
    let public = public.with_context(|| format!("officer printed no public key:\n{said}"))?;
    Ok(public.trim().to_owned())
}

/// Signs the policy file; the signature goes beside it.
pub(super) fn sign_policy(
    programs: &Programs,
    dir: &Path,
    name: &str,
    policy: &Path,
) -> Result<()> {
    let key = dir.join("officer").join(format!("{name}.key"));
    programs
        .run("officer", &["policy", "sign", text(policy)?, "--key", text(&key)?, "--yes"])
        .map(drop)
}

/// An address as grpcurl would print it.
///
/// # Errors
/// When it came without a proof.
pub fn address_json(issued: &Address) -> Result<String> {
    let proof = issued.proof.as_ref().context("the address came without a proof")?;
    let path: Vec<String> = proof.path.iter().map(|hash| STANDARD.encode(hash)).collect();
    let json = json!({
        "wallet": issued.wallet,
        "index": issued.index,
        "address": issued.address,
        "customerReference": issued.customer_reference,
        "tier": issued.tier,
        "proof": {
            "leaf": STANDARD.encode(&proof.leaf),
            "position": proof.position,
            "treeSize": proof.tree_size,
            "path": path,
            "root": STANDARD.encode(&proof.root),
            "signature": STANDARD.encode(&proof.signature),
        },
    });
    Ok(json.to_string())
}
