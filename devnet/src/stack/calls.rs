//! The calls that tests and demo make, as the clients who may make them. Never decides what an answer means.

use std::time::Duration;

use anyhow::{Result, bail};
use proto::{
    Address, CreateSweepRequest, Deposit, Event, GetPayoutRequest, GetSweepRequest,
    IssueAddressRequest, ListDepositsRequest, ListSweepsRequest, Payout, SignedOrder,
    StreamEventsRequest, SubmitPayoutRequest, Sweep, WatcherStatus, WatcherStatusRequest,
};
use tonic::Status;

use super::Stack;
use crate::wait::until;

/// How long a state may take to be reached, a restart of everything included.
const STATE_DEADLINE: Duration = Duration::from_secs(90);

impl Stack {
    /// Issues an address as the shop.
    pub async fn issue(&self, wallet: &str, key: &str, customer: &str) -> Result<Address> {
        let request = IssueAddressRequest {
            wallet: wallet.into(),
            idempotency_key: key.into(),
            customer_reference: customer.into(),
        };
        Ok(self.watcher_as("shop")?.issue_address(request).await?.into_inner())
    }

    /// All deposits.
    pub async fn deposits(&self) -> Result<Vec<Deposit>> {
        let request = ListDepositsRequest { page_size: 1000, ..Default::default() };
        Ok(self.watcher_as("operator")?.list_deposits(request).await?.into_inner().deposits)
    }

    /// Waits until `address` has a deposit whose chain state is `state`.
    pub async fn deposit_in(&self, address: &str, state: &str) -> Result<Deposit> {
        until(&format!("the deposit to {address} to be {state}"), STATE_DEADLINE, || async {
            let found = self.deposits().await?;
            Ok(found.into_iter().find(|one| one.address == address && one.chain_state == state))
        })
        .await
    }

    /// Asks for a sweep of the deposits, as the operator.
    pub async fn create_sweep(&self, key: &str) -> Result<Sweep, Status> {
        let request = CreateSweepRequest {
            wallet: "deposits".into(),
            idempotency_key: key.into(),
            max_inputs: 0,
            feerate: "5 sat/vB".into(),
        };
        let mut operator =
            self.watcher_as("operator").map_err(|error| Status::internal(error.to_string()))?;
        Ok(operator.create_sweep(request).await?.into_inner())
    }

    /// Waits until a sweep's state is `state`; fails at once when it is refused.
    pub async fn sweep_in(&self, id: &str, state: &str) -> Result<Sweep> {
        let look = || async {
            let request = GetSweepRequest { id: id.to_owned() };
            let sweep = self.watcher_as("operator")?.get_sweep(request).await?.into_inner();
            let refused = sweep.state == "refused" && state != "refused";
            Ok((refused || sweep.state == state).then_some(sweep))
        };
        let sweep = until(&format!("sweep {id} to be {state}"), STATE_DEADLINE, look).await?;
        if sweep.state != state {
            bail!("the sweep was refused: {:?}", sweep.reasons);
        }
        Ok(sweep)
    }

    /// All sweeps.
    pub async fn sweeps(&self) -> Result<Vec<Sweep>> {
        let request = ListSweepsRequest { page_token: String::new(), page_size: 1000 };
        Ok(self.watcher_as("operator")?.list_sweeps(request).await?.into_inner().sweeps)
    }

    /// Hands a signed order in, as the payout desk.
    pub async fn submit(&self, order: &SignedOrder) -> Result<Payout, Status> {
        let request = SubmitPayoutRequest { order: Some(order.clone()), wallet: "hot".into() };
        let mut desk =
            self.watcher_as("payout-desk").map_err(|error| Status::internal(error.to_string()))?;
        Ok(desk.submit_payout(request).await?.into_inner())
    }

    /// Waits until a payout's state is `state`; fails at once when it is refused.
    pub async fn payout_in(&self, id: &str, state: &str) -> Result<Payout> {
        let look = || async {
            let request = GetPayoutRequest { id: id.to_owned() };
            let payout = self.watcher_as("payout-desk")?.get_payout(request).await?.into_inner();
            let refused = payout.state == "refused" && state != "refused";
            Ok((refused || payout.state == state).then_some(payout))
        };
        let payout = until(&format!("payout {id} to be {state}"), STATE_DEADLINE, look).await?;
        if payout.state != state {
            bail!("the payout was refused: {:?}", payout.reasons);
        }
        Ok(payout)
    }

    /// All events after a sequence number.
    pub async fn events(&self, after_sequence: u64) -> Result<Vec<Event>> {
        let request = StreamEventsRequest { after_sequence, follow: false };
        let mut stream = self.watcher_as("operator")?.stream_events(request).await?.into_inner();
        let mut events = Vec::new();
        while let Some(event) = stream.message().await? {
            events.push(event);
        }
        Ok(events)
    }

    /// How the watcher does.
    pub async fn watcher_status(&self) -> Result<WatcherStatus> {
        Ok(self.watcher_as("operator")?.status(WatcherStatusRequest {}).await?.into_inner())
    }
}
