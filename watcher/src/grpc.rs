//! The service's calls: who may make them, and the way to what answers them. It never takes a tenant or a name
//! from a message, only from the client certificate.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use mtls::Caller;
use proto::watcher_server::Watcher;
use proto::{
    Address, BlockRef, CreateSweepRequest, EvacuateRequest, Evacuation, Event, GetPayoutRequest,
    GetSweepRequest, IssueAddressRequest, ListDepositsReply, ListDepositsRequest, ListSweepsReply,
    ListSweepsRequest, Payout, StreamEventsRequest, SubmitPayoutRequest, Sweep, WatcherStatus,
    WatcherStatusRequest,
};
use tokio::sync::watch;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Response, Status};

use crate::book::Book;
use crate::chain::Handle;
use crate::config::{ClientConfig, Grant};
use crate::error::{Error, refusal};
use crate::issue::Issuer;
use crate::list;
use crate::outbox;
use crate::payout;
use crate::spend::Spender;
use crate::store::Store;
use crate::sweep;

/// Everything a call needs.
#[derive(Clone)]
pub struct Service {
    /// Who may call what.
    pub grants: Grants,
    /// The database.
    pub store: Store,
    /// Which chain.
    pub book: Book,
    /// Addresses.
    pub issuer: Issuer,
    /// Sweeps and payouts.
    pub spender: Arc<Spender>,
    /// How following goes.
    pub follower: Handle,
    /// True when the service ends: open streams end too.
    pub stop: watch::Receiver<bool>,
}

impl std::fmt::Debug for Service {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Service").finish_non_exhaustive()
    }
}

/// Who may call what, by certificate name.
#[derive(Clone, Debug)]
pub struct Grants(Arc<BTreeMap<String, (String, BTreeSet<Grant>)>>);

impl Grants {
    /// As configured.
    #[must_use]
    pub fn new(clients: &[ClientConfig]) -> Self {
        let entry = |client: &ClientConfig| {
            (client.name.clone(), (client.tenant.clone(), client.grants.clone()))
        };
        Self(Arc::new(clients.iter().map(entry).collect()))
    }

    /// The caller's tenant, if the caller may do this.
    fn tenant<T>(&self, request: &Request<T>, grant: Grant) -> Result<String, Status> {
        let caller = Caller::from_request(request)?;
        match self.0.get(caller.name()) {
            Some((tenant, grants)) if grants.contains(&grant) => Ok(tenant.clone()),
            _ => {
                tracing::warn!(
                    caller = caller.name(),
                    grant = grant.word(),
                    "a call without its grant"
                );
                let text =
                    format!("client \"{}\" has no grant \"{}\" here", caller.name(), grant.word());
                Err(refusal(Code::PermissionDenied, "not-granted", &text))
            }
        }
    }
}

#[tonic::async_trait]
impl Watcher for Service {
    type StreamEventsStream = ReceiverStream<Result<Event, Status>>;

    async fn issue_address(
        &self,
        request: Request<IssueAddressRequest>,
    ) -> Result<Response<Address>, Status> {
        let tenant = self.grants.tenant(&request, Grant::Issue)?;
        Ok(Response::new(self.issuer.issue(&tenant, request.get_ref()).await?))
    }

    async fn list_deposits(
        &self,
        request: Request<ListDepositsRequest>,
    ) -> Result<Response<ListDepositsReply>, Status> {
        let tenant = self.grants.tenant(&request, Grant::Read)?;
        let reply =
            list::deposits(&self.store, self.book.network, &tenant, request.get_ref()).await?;
        Ok(Response::new(reply))
    }

    async fn stream_events(
        &self,
        request: Request<StreamEventsRequest>,
    ) -> Result<Response<Self::StreamEventsStream>, Status> {
        let tenant = self.grants.tenant(&request, Grant::Read)?;
        let StreamEventsRequest { after_sequence, follow } = request.into_inner();
        let events =
            outbox::stream(&self.store, &tenant, after_sequence, follow, self.stop.clone()).await?;
        Ok(Response::new(ReceiverStream::new(events)))
    }

    async fn create_sweep(
        &self,
        request: Request<CreateSweepRequest>,
    ) -> Result<Response<Sweep>, Status> {
        let tenant = self.grants.tenant(&request, Grant::Sweep)?;
        Ok(Response::new(sweep::create(&self.spender, &tenant, request.get_ref()).await?))
    }

    async fn evacuate(
        &self,
        request: Request<EvacuateRequest>,
    ) -> Result<Response<Evacuation>, Status> {
        let tenant = self.grants.tenant(&request, Grant::Evacuate)?;
        Ok(Response::new(sweep::evacuate(&self.spender, &tenant, request.get_ref()).await?))
    }

    async fn get_sweep(
        &self,
        request: Request<GetSweepRequest>,
    ) -> Result<Response<Sweep>, Status> {
        let tenant = self.grants.tenant(&request, Grant::Read)?;
        Ok(Response::new(sweep::find(&self.spender, &tenant, &request.get_ref().id).await?))
    }

    async fn list_sweeps(
        &self,
        request: Request<ListSweepsRequest>,
    ) -> Result<Response<ListSweepsReply>, Status> {
        let tenant = self.grants.tenant(&request, Grant::Read)?;
        Ok(Response::new(sweep::list(&self.spender, &tenant, request.get_ref()).await?))
    }

    async fn submit_payout(
        &self,
        request: Request<SubmitPayoutRequest>,
    ) -> Result<Response<Payout>, Status> {
        let tenant = self.grants.tenant(&request, Grant::Payout)?;
        Ok(Response::new(payout::submit(&self.spender, &tenant, request.get_ref()).await?))
    }

    async fn get_payout(
        &self,
        request: Request<GetPayoutRequest>,
    ) -> Result<Response<Payout>, Status> {
        let tenant = self.grants.tenant(&request, Grant::Read)?;
        Ok(Response::new(payout::find(&self.spender, &tenant, &request.get_ref().id).await?))
    }

    async fn status(
        &self,
        request: Request<WatcherStatusRequest>,
    ) -> Result<Response<WatcherStatus>, Status> {
        let tenant = self.grants.tenant(&request, Grant::Read)?;
        let follower = self.follower.status();
        let last_sequence =
            outbox::last_sequence(&self.store, &tenant).await.map_err(Error::from)?;
        Ok(Response::new(WatcherStatus {
            network: self.book.chain.as_str().to_owned(),
            tip: follower
                .tip
                .map(|tip| BlockRef { height: tip.height, hash: tip.hash.to_string() }),
            node_height: follower.node_height,
            node_reachable: follower.node_reachable,
            signer_reachable: self.spender.signer_reachable().await,
            last_sequence,
            watched_addresses: u32::try_from(follower.watched).unwrap_or(u32::MAX),
            problem: follower.problem.unwrap_or_default(),
            synced: follower.synced,
        }))
    }
}
