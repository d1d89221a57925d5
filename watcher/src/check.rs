//! Looks whether a configuration would serve: files, node, signer. It never changes anything.

use bitcoin::constants::genesis_block;

use crate::config::{Config, Purpose};
use crate::node::Node;
use crate::signer_client::SignerClient;

/// One thing looked at.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Finding {
    /// Whether it is as it should be.
    pub good: bool,
    /// What was found.
    pub text: String,
}

/// Looks at everything, in the order of the file.
pub async fn run(config: &Config) -> Vec<Finding> {
    let mut findings = vec![good(format!("configuration for {}", config.network))];
    findings.push(finding(
        mtls::Server::load(&config.tls).map(|_| "server certificate, key and ca".into()),
    ));
    findings.push(finding(node(config).await));
    findings.extend(signer(config).await);
    findings
}

async fn node(config: &Config) -> Result<String, String> {
    let node = Node::new(&config.node.url, &config.node.auth_file, config.node.timeout());
    let node = node.map_err(|e| e.to_string())?;
    let genesis = node.block_hash(0).await.map_err(|e| e.to_string())?;
    if genesis != Some(genesis_block(config.bitcoin_network()).block_hash()) {
        return Err(format!("the node at {} is on another network", config.node.url));
    }
    let tip = node.tip().await.map_err(|e| e.to_string())?;
    Ok(format!("node at {}, height {}", config.node.url, tip.height))
}

/// The signer answers, and holds the wallets that are not cold, by the same descriptors.
async fn signer(config: &Config) -> Vec<Finding> {
    let client = match SignerClient::new(&config.signer) {
        Ok(client) => client,
        Err(error) => return vec![finding(Err::<String, _>(error))],
    };
    let status = match client.status().await {
        Ok(status) => status,
        Err(error) => return vec![finding(Err::<String, _>(error))],
    };
    let mut findings = vec![good(format!("signer at {}", config.signer.url))];
    if status.network != config.network.chain_id().as_str() {
        findings.push(finding(Err(format!("the signer is on {}", status.network))));
    }
    let Ok(wallets) = config.wallets() else { return findings };
    for wallet in wallets.iter().filter(|wallet| wallet.purpose != Purpose::Cold) {
        let held = status.wallets.iter().find(|held| held.name == wallet.name);
        findings.push(finding(match held {
            None => Err(format!("the signer has no wallet \"{}\"", wallet.name)),
            Some(held) if held.descriptor != wallet.descriptor => {
                Err(format!("wallet \"{}\": the signer has another descriptor", wallet.name))
            }
            Some(held) => {
                let proven = held.external_proven;
                Ok(format!(
                    "wallet \"{}\", tier {}, {proven} indexes proven",
                    wallet.name, held.tier
                ))
            }
        }));
    }
    findings
}

fn good(text: String) -> Finding {
    Finding { good: true, text }
}

fn finding<E: std::fmt::Display>(result: Result<String, E>) -> Finding {
    match result {
        Ok(text) => good(text),
        Err(error) => Finding { good: false, text: error.to_string() },
    }
}
