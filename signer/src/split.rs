//! The service as two: one that reads messages as long as a `Sign` needs, one for all other calls. It never looks at who
//! calls; the door did.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use proto::signer_server::{Signer, SignerServer};
use tonic::body::Body;
use tonic::codegen::{Service, http};
use tonic::server::NamedService;
use tonic::{Code, Status};

use crate::grpc::status_of;
use crate::refusal::{Reason, Refusal};

/// One message of a `Sign` stream: a header with its orders, a batch of parents, or one parent of up to 1 MB (the
/// largest a block can hold without witness).
pub const SIGN_BYTES_MAX: usize = 2 << 20;
/// Any other message: a thousand claims with the longest references fit.
pub const UNARY_BYTES_MAX: usize = 192 << 10;
/// One reply: a signed transaction, or a thousand attestations with their paths.
const REPLY_BYTES_MAX: usize = 4 << 20;

/// The service, by the length of its messages.
pub struct Split<S> {
    sign: SignerServer<S>,
    unary: SignerServer<S>,
}

impl<S: Signer> Split<S> {
    /// Of this service.
    #[must_use]
    pub fn new(service: S) -> Self {
        let service = Arc::new(service);
        let server = |bytes_max| {
            SignerServer::from_arc(Arc::clone(&service))
                .max_decoding_message_size(bytes_max)
                .max_encoding_message_size(REPLY_BYTES_MAX)
        };
        Self { sign: server(SIGN_BYTES_MAX), unary: server(UNARY_BYTES_MAX) }
    }
}

impl<S> Clone for Split<S> {
    fn clone(&self) -> Self {
        Self { sign: self.sign.clone(), unary: self.unary.clone() }
    }
}

impl<S: Signer> NamedService for Split<S> {
    const NAME: &'static str = SignerServer::<S>::NAME;
}

impl<S: Signer> Service<http::Request<Body>> for Split<S> {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let signs = request.uri().path().ends_with("/Sign");
        let mut server = if signs { self.sign.clone() } else { self.unary.clone() };
        Box::pin(async move { server.call(request).await.map(typed) })
    }
}

/// What the framework says of a message that is too large becomes our own refusal.
fn typed(response: http::Response<Body>) -> http::Response<Body> {
    match Status::from_header_map(response.headers()) {
        Some(status) if status.code() == Code::OutOfRange => {
            let text = format!(
                "the message is too large, at most {UNARY_BYTES_MAX} bytes are read: send fewer claims at once"
            );
            status_of(&Refusal::new(Reason::Oversize, text)).into_http()
        }
        _ => response,
    }
}
