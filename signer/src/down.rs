//! The service while it cannot serve: every caller gets the same typed reason. It holds no token and no log.

use mtls::Caller;
use proto::signer_server::Signer;
use proto::{
    AttestReply, AttestRequest, OrderReply, OrderRequest, SignReply, SignRequest, StatusReply,
    StatusRequest,
};
use tonic::{Request, Response, Status, Streaming};

use crate::grpc::status_of;
use crate::refusal::Refusal;

/// Says no, and why.
pub struct Down {
    refusal: Refusal,
}

impl Down {
    /// With this reason.
    #[must_use]
    pub fn new(refusal: Refusal) -> Self {
        Self { refusal }
    }

    fn refuse<T, R>(&self, request: &Request<T>) -> Result<Response<R>, Status> {
        let caller = Caller::from_request(request)?;
        tracing::info!(%caller, "refused: {}", self.refusal);
        Err(status_of(&self.refusal))
    }
}

#[tonic::async_trait]
impl Signer for Down {
    async fn sign(
        &self,
        request: Request<Streaming<SignRequest>>,
    ) -> Result<Response<SignReply>, Status> {
        self.refuse(&request)
    }

    async fn attest(
        &self,
        request: Request<AttestRequest>,
    ) -> Result<Response<AttestReply>, Status> {
        self.refuse(&request)
    }

    async fn order(&self, request: Request<OrderRequest>) -> Result<Response<OrderReply>, Status> {
        self.refuse(&request)
    }

    async fn status(
        &self,
        request: Request<StatusRequest>,
    ) -> Result<Response<StatusReply>, Status> {
        self.refuse(&request)
    }
}
