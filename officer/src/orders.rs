//! Payment orders, signed with a service's key. It never sends one: it prints what a caller sends.

use std::io::Write;
use std::path::PathBuf;
use std::str::FromStr as _;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, ensure};
use asset::unit::BITCOIN_UNITS;
use asset::{Amount, Network};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::Args;
use order::{AddressText, Order, OrderId};

use crate::key::Key;
use crate::policies::bitcoin_network;
use crate::text::{btc, parse_span, time};

/// What to order.
#[derive(Debug, Args)]
pub struct SignOrder {
    /// The service's key file.
    #[arg(long)]
    pub key: PathBuf,
    /// The key's name in the policy; without it, the name in the key file.
    #[arg(long)]
    pub name: Option<String>,
    /// bitcoin, testnet4, signet or regtest.
    #[arg(long)]
    pub network: String,
    /// The order's id: unique for ever, never paid twice.
    #[arg(long)]
    pub id: String,
    /// How much, with its unit: "0.5 BTC" or "50000 sat".
    #[arg(long)]
    pub amount: String,
    /// The address to pay.
    #[arg(long)]
    pub to: String,
    /// How long it may be signed for: 90s, 15m, 2h, 7d.
    #[arg(long, value_parser = parse_span, default_value = "1h", conflicts_with = "expires_unix")]
    pub expires_in: u64,
    /// The same as a Unix time in seconds.
    #[arg(long)]
    pub expires_unix: Option<u64>,
}

/// `officer order sign`: words for people go to standard error, JSON for the watcher to `out`.
///
/// # Errors
/// When something in the order is not what it should be.
pub fn sign(args: &SignOrder, out: &mut impl Write) -> Result<()> {
    let key = Key::load(&args.key)?;
    let signer = key.named(args.name.as_deref())?;
    let order = order(args)?;
    let signature = order.sign(&key.into_ed25519()?);
    let amount = btc(order.amount.units());
    let (id, to, until) = (&order.id, &order.destination, time(order.expires_unix));
    writeln!(std::io::stderr(), "order {id}: {amount} to {to} until {until}, signed by {signer}")?;
    let body = serde_json::json!({
        "order": {
            "order": STANDARD.encode(order.encode()),
            "signature": STANDARD.encode(signature),
            "signer": signer.as_str(),
        }
    });
    writeln!(out, "{body:#}")?;
    Ok(())
}

fn order(args: &SignOrder) -> Result<Order> {
    let network = Network::parse(&args.network)?;
    let amount = Amount::parse_with(&args.amount, &BITCOIN_UNITS).context("--amount")?;
    ensure!(!amount.is_zero(), "an order for nothing cannot be paid");
    // An address of another network would be refused later, by somebody with less to say about it.
    bitcoin::Address::from_str(&args.to)
        .context("--to is not a Bitcoin address")?
        .require_network(bitcoin_network(network))
        .with_context(|| format!("--to is not an address of {network}"))?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).context("the clock is before 1970")?;
    let expires_unix = match args.expires_unix {
        Some(unix) => unix,
        None => {
            now.as_secs().checked_add(args.expires_in).context("--expires-in is too far away")?
        }
    };
    ensure!(expires_unix > now.as_secs(), "the order has expired already");
    Ok(Order {
        id: OrderId::parse(&args.id)?,
        asset: network.asset_id(),
        amount,
        destination: AddressText::parse(&args.to)?,
        expires_unix,
    })
}
