//! Names the policy uses: clients, lanes, wallets, keys, orders. They never hold anything but what their `parse` let in.

pub use order::{KeyName, NameError, OrderId};

order::name_type!(/// A client, from the DNS name of its certificate.
    ClientName, "client");
order::name_type!(/// A lane of the policy.
    LaneName, "lane");
order::name_type!(/// A wallet of the policy.
    WalletName, "wallet");
order::name_type!(/// What a caller calls its request, so that a retry is the same request.
    IdempotencyKey, "idempotency key");
order::name_type!(/// A group of officers.
    GroupName, "group");
order::name_type!(/// A trust domain: what one attacker, or one fire, reaches at once, such as a site.
    DomainName, "domain");
order::name_type!(/// A list of destinations.
    ListName, "list");
order::name_type!(/// A limit, a requirement or a denial of the policy.
    RuleName, "rule");

impl RuleName {
    /// A lane can ask for approvals itself.
    pub(crate) fn of_lane(lane: &LaneName) -> Self {
        Self(lane.as_str().into())
    }
}
