//! JSON-RPC over HTTP: one call or many in one request, with bounded answers. It never waits without limit.

use std::collections::HashMap;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::{Node, NodeError};

/// bitcoind does not know the block, transaction or height.
const RPC_INVALID_ADDRESS_OR_KEY: i64 = -5;
/// A parameter is out of range.
const RPC_INVALID_PARAMETER: i64 = -8;
/// Still loading or verifying blocks.
const RPC_IN_WARMUP: i64 = -28;

impl Node {
    pub(super) async fn call<T: DeserializeOwned>(
        &self,
        method: &'static str,
        params: Value,
        most: usize,
    ) -> Result<T, NodeError> {
        let body = json!({ "jsonrpc": "1.0", "id": 0, "method": method, "params": params });
        let reply: Reply<T> = self.post(method, &body, most).await?;
        reply.into_result(method)
    }

    /// Many calls of one method in one HTTP request; `None` where the node does not know the thing.
    pub(super) async fn batch<T: DeserializeOwned>(
        &self,
        method: &'static str,
        params: Vec<Value>,
        most: usize,
    ) -> Result<Vec<Option<T>>, NodeError> {
        if params.is_empty() {
            return Ok(Vec::new());
        }
        let count = params.len();
        let calls: Vec<Value> = params
            .into_iter()
            .enumerate()
            .map(|(id, params)| json!({ "jsonrpc": "1.0", "id": id, "method": method, "params": params }))
            .collect();
        let replies: Vec<Reply<T>> = self.post(method, &Value::Array(calls), most).await?;
        let mut by_id: HashMap<usize, Reply<T>> =
            replies.into_iter().filter_map(|reply| Some((reply.id?, reply))).collect();
        let missing =
            || NodeError::Nonsense { method, reason: "a batch with answers missing".into() };
        (0..count)
            .map(|id| absent(by_id.remove(&id).ok_or_else(missing)?.into_result(method)))
            .collect()
    }

    async fn post<T: DeserializeOwned>(
        &self,
        method: &'static str,
        body: &Value,
        most: usize,
    ) -> Result<T, NodeError> {
        let (user, password) = self.credentials().await?;
        let request = self.http.post(&self.url).basic_auth(user, Some(password)).json(body);
        let mut response = request.send().await.map_err(|e| unreachable_node(&self.url, &e))?;
        let status = response.status();
        if status == reqwest::StatusCode::UNAUTHORIZED || status == reqwest::StatusCode::FORBIDDEN {
            return Err(NodeError::Auth(format!(
                "http status {status}; look at {}",
                self.auth_file.display()
            )));
        }
        let mut bytes = Vec::new();
        while let Some(chunk) =
            response.chunk().await.map_err(|e| unreachable_node(&self.url, &e))?
        {
            if bytes.len().saturating_add(chunk.len()) > most {
                return Err(NodeError::TooLong { method, most });
            }
            bytes.extend_from_slice(&chunk);
        }
        if status == reqwest::StatusCode::SERVICE_UNAVAILABLE {
            return Err(NodeError::Unreachable {
                url: self.url.clone(),
                reason: "its work queue is full".into(),
            });
        }
        serde_json::from_slice(&bytes).map_err(|error| NodeError::Nonsense {
            method,
            reason: format!("http status {status}, {error}"),
        })
    }

    async fn credentials(&self) -> Result<(String, String), NodeError> {
        let file = self.auth_file.display();
        let line = tokio::fs::read_to_string(&self.auth_file).await.map_err(|e| {
            NodeError::Auth(format!("cannot read {file}: {e} (is the node running?)"))
        })?;
        let (user, password) = line
            .trim()
            .split_once(':')
            .ok_or_else(|| NodeError::Auth(format!("{file} must hold one line user:password")))?;
        Ok((user.to_owned(), password.to_owned()))
    }
}

#[derive(Deserialize)]
struct Reply<T> {
    // Missing and null are the same: `T` decides whether null is an answer.
    #[serde(default = "Option::default")]
    result: Option<T>,
    error: Option<Fault>,
    id: Option<usize>,
}

#[derive(Deserialize)]
struct Fault {
    code: i64,
    message: String,
}

impl<T> Reply<T> {
    fn into_result(self, method: &'static str) -> Result<T, NodeError> {
        match (self.result, self.error) {
            (_, Some(fault)) if fault.code == RPC_IN_WARMUP => {
                Err(NodeError::Starting(fault.message))
            }
            (_, Some(Fault { code, message })) => Err(NodeError::Refused { method, code, message }),
            (Some(result), None) => Ok(result),
            (None, None) => Err(NodeError::Nonsense { method, reason: "it is empty".into() }),
        }
    }
}

/// "No such thing" is an answer.
pub(super) fn absent<T>(answer: Result<T, NodeError>) -> Result<Option<T>, NodeError> {
    match answer {
        Ok(found) => Ok(Some(found)),
        Err(e) if matches!(e.code(), Some(RPC_INVALID_ADDRESS_OR_KEY | RPC_INVALID_PARAMETER)) => {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

pub(super) fn unreachable_node(url: &str, error: &reqwest::Error) -> NodeError {
    // reqwest hides the reason in the chain below its own sentence.
    let mut reason = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(inner) = source {
        reason = format!("{reason}: {inner}");
        source = inner.source();
    }
    NodeError::Unreachable { url: url.to_owned(), reason }
}
