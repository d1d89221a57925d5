//! A JSON-RPC client for the regtest node. Never used by the services themselves.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

/// Talks to one node with the password of its cookie file, which is read anew at every call:
/// a restarted node has another.
#[derive(Debug, Clone)]
pub(crate) struct Rpc {
    http: reqwest::Client,
    base: String,
    cookie: PathBuf,
}

impl Rpc {
    pub(crate) fn new(port: u16, cookie: &Path) -> Result<Self> {
        let http = reqwest::Client::builder()
            .timeout(Duration::from_secs(120))
            .pool_max_idle_per_host(0) // a killed node's connections must not be used again
            .no_proxy()
            .build()?;
        Ok(Self { http, base: format!("http://127.0.0.1:{port}"), cookie: cookie.to_owned() })
    }

    pub(crate) fn url(&self) -> &str {
        &self.base
    }

    /// Calls `method` at `path` (`""`, or `/wallet/NAME`) and returns its result.
    pub(crate) async fn call(&self, path: &str, method: &str, params: Value) -> Result<Value> {
        let cookie = std::fs::read_to_string(&self.cookie)
            .with_context(|| format!("no cookie at {}", self.cookie.display()))?;
        let (user, password) = cookie.trim().split_once(':').context("the cookie has no colon")?;
        let body = json!({ "jsonrpc": "1.0", "id": "devnet", "method": method, "params": params });
        let reply = self
            .http
            .post(format!("{}{path}", self.base))
            .basic_auth(user, Some(password))
            .json(&body)
            .send()
            .await
            .with_context(|| format!("the node did not answer {method}"))?;
        let status = reply.status();
        let mut reply: Value =
            reply.json().await.with_context(|| format!("{method}: http status {status}"))?;
        match reply.get("error") {
            None | Some(Value::Null) => {
                Ok(reply.get_mut("result").map(Value::take).unwrap_or_default())
            }
            Some(error) => bail!("{method}: {error}"),
        }
    }
}
