//! Speaks to the signer over mutual TLS: deadlines, retries where a call may be repeated, and answers as types.
//! It never decides what an answer means for coins, and never asks again under another idempotency key.

mod answer;
mod stream;

use std::time::Duration;

use mtls::{TlsError, TlsFiles};
use proto::{
    AttestReply, AttestRequest, OrderRequest, SignHeader, SignedOrder, StatusReply, StatusRequest,
};
use serde::Deserialize;
use tonic::Request;
use tonic::transport::Channel;

pub use self::answer::{Failure, Given, Paid, Reason, Refusal, SignOutcome, Signed, Unavailable};
pub use self::stream::Parents;

/// How the signer is reached.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignerSettings {
    /// `https://host:port`.
    pub url: String,
    /// The name in the signer's certificate; the URL's host if left out.
    pub server_name: Option<String>,
    /// Our certificate and the authority that certifies the signer.
    pub tls: TlsFiles,
    /// How long one signature request may take, in seconds.
    #[serde(default = "sign_seconds")]
    pub sign_seconds: u64,
    /// How long any other call may take, in seconds.
    #[serde(default = "call_seconds")]
    pub call_seconds: u64,
}

/// A token signs some two hundred inputs a second; the largest sweep has 1,400, and others may be queued before it.
fn sign_seconds() -> u64 {
    120
}

fn call_seconds() -> u64 {
    20
}

/// A signature reply is one transaction of at most 400,000 weight units; an attestation of a thousand addresses is larger.
const REPLY_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Pauses before a call that may be repeated is repeated.
const PAUSES: [Duration; 2] = [Duration::from_millis(200), Duration::from_secs(1)];

/// One signer. Cheap to clone; connects by itself and again after a loss.
#[derive(Clone, Debug)]
pub struct SignerClient {
    inner: proto::signer_client::SignerClient<Channel>,
    sign_deadline: Duration,
    call_deadline: Duration,
}

impl SignerClient {
    /// Reads the TLS files; connects at the first call. Must be called on a Tokio runtime.
    ///
    /// # Errors
    /// [`TlsError`] when the files or the address cannot be used.
    pub fn new(settings: &SignerSettings) -> Result<Self, TlsError> {
        let endpoint = settings.tls.endpoint(&settings.url, settings.server_name.as_deref())?;
        let channel = endpoint
            .http2_keep_alive_interval(Duration::from_secs(20))
            .keep_alive_timeout(Duration::from_secs(10))
            .keep_alive_while_idle(true)
            .connect_lazy();
        let inner = proto::signer_client::SignerClient::new(channel)
            .max_decoding_message_size(REPLY_BYTES_MAX);
        let sign_deadline = Duration::from_secs(settings.sign_seconds);
        let call_deadline = Duration::from_secs(settings.call_seconds);
        Ok(Self { inner, sign_deadline, call_deadline })
    }

    /// What the signer holds. Repeated when the signer could not be reached.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn status(&self) -> Result<StatusReply, Failure> {
        self.repeat(|mut client| {
            let request = self.request(StatusRequest {});
            async move { client.status(request).await.map(tonic::Response::into_inner) }
        })
        .await
    }

    /// Attests addresses. Repeated when the signer could not be reached: the same claims always get the same answer.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn attest(&self, claims: &AttestRequest) -> Result<AttestReply, Failure> {
        self.repeat(|mut client| {
            let request = self.request(claims.clone());
            async move { client.attest(request).await.map(tonic::Response::into_inner) }
        })
        .await
    }

    /// What was ever signed for an order; `None` if the reply does not say. Repeated when the signer could not be reached.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn order(&self, order: &SignedOrder) -> Result<Option<Paid>, Failure> {
        let reply = self.repeat(|mut client| {
            let request = self.request(OrderRequest { order: Some(order.clone()) });
            async move { client.order(request).await.map(tonic::Response::into_inner) }
        });
        reply.await.map(answer::paid)
    }

    /// Asks for one transaction, once. On [`SignOutcome::Unavailable`] nobody knows whether it was signed: ask
    /// again with the same header, the answer is the same transaction.
    pub async fn sign(&self, header: SignHeader, parents: impl Parents) -> SignOutcome {
        let mut client = self.inner.clone();
        let (feeder, body) = stream::request();
        let mut request = Request::new(body);
        request.set_timeout(self.sign_deadline);
        let asked = async {
            let call = client.sign(request);
            let feed = feeder.feed(header, parents);
            tokio::pin!(call, feed);
            // The signer may refuse before it has read everything; a parent we cannot read ends the call.
            tokio::select! {
                reply = &mut call => return reply,
                fed = &mut feed => fed?,
            }
            call.await
        };
        match tokio::time::timeout(self.sign_deadline, asked).await {
            Ok(reply) => answer::sign_outcome(reply.map(tonic::Response::into_inner)),
            Err(_) => SignOutcome::Unavailable(Unavailable::late(self.sign_deadline)),
        }
    }

    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.set_timeout(self.call_deadline);
        request
    }

    async fn repeat<T, F: Future<Output = Result<T, tonic::Status>>>(
        &self,
        call: impl Fn(proto::signer_client::SignerClient<Channel>) -> F,
    ) -> Result<T, Failure> {
        let mut pauses = PAUSES.into_iter();
        loop {
            let timed = tokio::time::timeout(self.call_deadline, call(self.inner.clone())).await;
            let failure = match timed {
                Ok(Ok(reply)) => return Ok(reply),
                Ok(Err(status)) => Failure::from(status),
                Err(_) => Failure::Unavailable(Unavailable::late(self.call_deadline)),
            };
            match (failure, pauses.next()) {
                (Failure::Unavailable(_), Some(pause)) => tokio::time::sleep(pause).await,
                (failure, _) => return Err(failure),
            }
        }
    }
}
