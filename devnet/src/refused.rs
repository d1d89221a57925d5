//! Reads why a call was refused. Never takes another failure for a refusal.

use std::error::Error as _;

use anyhow::{Context as _, Result, bail};
use prost::Message as _;
use tonic::{Code, Status};

/// The stable codes and sentences in a refusal; fails when the status carries none.
pub fn reasons(status: &Status) -> Result<Vec<proto::Reason>> {
    let refusal = proto::Refusal::decode(status.details()).context("the details are no refusal")?;
    if refusal.reasons.is_empty() {
        bail!("no reasons came with: {status}");
    }
    Ok(refusal.reasons)
}

/// The sentence of the reason `code`, when the call was denied by policy and that reason is among those given.
pub fn denied_by<T>(outcome: Result<T, Status>, code: &str) -> Result<String> {
    let status = match outcome {
        Ok(_) => bail!("it was NOT refused"),
        Err(status) => status,
    };
    if status.code() != Code::PermissionDenied {
        bail!("it failed for another cause than the policy: {status}");
    }
    let reasons = reasons(&status)?;
    match reasons.iter().find(|reason| reason.code == code) {
        Some(reason) => Ok(reason.text.clone()),
        None => {
            let codes: Vec<&str> = reasons.iter().map(|reason| reason.code.as_str()).collect();
            bail!("it was refused by {}, not by {code}", codes.join(", "))
        }
    }
}

/// What the server's TLS said when it did not let the caller in; fails when the call failed for another cause.
pub fn kept_out<T>(outcome: Result<T, Status>) -> Result<String> {
    let status = match outcome {
        Ok(_) => bail!("it was let in"),
        Err(status) => status,
    };
    let mut causes = vec![status.to_string()];
    let mut cause = status.source();
    while let Some(inner) = cause {
        causes.push(inner.to_string());
        cause = inner.source();
    }
    // The alerts of RFC 8446 with which a server turns a client certificate down.
    for alert in
        ["UnknownCA", "CertificateRequired", "BadCertificate", "CertificateUnknown", "DecryptError"]
    {
        if causes.iter().any(|cause| cause.contains(alert)) {
            return Ok(alert.to_owned());
        }
    }
    bail!("it failed for another cause than its certificate: {}", causes.join(": "))
}
