//! What would have to change before a denied request could be allowed, rule by rule, in a sentence. It promises nothing:
//! whatever is asked again is decided anew.

use crate::reason::RuleId;

impl RuleId {
    /// What would have to change.
    #[must_use]
    #[expect(clippy::too_many_lines, reason = "a list")]
    pub const fn remedy(self) -> &'static str {
        match self {
            Self::UnknownLane
            | Self::LaneCaller
            | Self::LaneWallet
            | Self::LaneExpired
            | Self::GrantWallet
            | Self::GrantExpired
            | Self::ClientExpired => {
                "the request must name a lane that the policy grants this client on this wallet now, or officers sign a policy that does"
            }
            Self::NoInputs
            | Self::DuplicateInput
            | Self::WrongAsset
            | Self::EmptyOutput
            | Self::OwnOutputs
            | Self::Overflow
            | Self::Unbalanced => {
                "the transaction itself is wrong: whoever builds it must build another one"
            }
            Self::MissingEvidence => {
                "the log has no answer to what the policy asks, which is a fault: tell the operators"
            }
            Self::IndexWindow => {
                "change or cold outputs must use a lower index, or a day must pass since the branch went so far"
            }
            Self::IndexUnproven => {
                "change must use a proven record: prove further, or import a larger bundle"
            }
            Self::SlotRepriced => {
                "an input's parent says another amount than before: nothing mends that"
            }
            Self::SlotSigned => {
                "other coins must be spent, or the same orders paid as by the transaction that was signed over them"
            }
            Self::SlotVersions => "other coins must be spent, or a day pass",
            Self::SweepExternal | Self::SweepOrder | Self::ColdWallet | Self::ColdShare => {
                "a sweep must pay the lane's cold wallet and change alone, and enough of it to cold storage"
            }
            Self::WithdrawCold
            | Self::NoOrder
            | Self::OutputUnordered
            | Self::OrderMismatch
            | Self::OrderUnpaid
            | Self::OrderTwice => {
                "the transaction must pay every order that comes with it, once and to the unit, and nothing else but change"
            }
            Self::OrderSigner | Self::OrderKeyExpired => {
                "the order must be signed by a key that the policy pins, that has not ended, and that the lane lists"
            }
            Self::GrantOrderKey => {
                "every order must be by a key whose orders this client may bring on the lane, or officers sign a policy that pins it otherwise; pinned to keys, it brings no request without an order"
            }
            Self::OrderExpired => "a new order must be signed, under a new id",
            Self::OrderChanged => "a new order needs a new id: this one stands for another text",
            Self::OrderPaid => {
                "the transaction must spend a coin of each earlier one for this order, so that only one can confirm; or officers unbind the order from what never can"
            }
            Self::FeeTotal | Self::FeeRate | Self::FeePercent => {
                "the fee must be lower, or officers sign a policy that lets it be higher"
            }
            Self::FeeBudget | Self::ExternalLimit | Self::LimitSum | Self::LimitCount => {
                "earlier spends must leave the window, or less be asked for, or officers sign a policy with more"
            }
            Self::PerTransaction | Self::PerDestination => {
                "less must leave at once, or officers sign a policy that lets more"
            }
            Self::ConsolidateOnly | Self::ConsolidateFewer => {
                "a consolidation must pay change of its own wallet alone, in fewer coins than it spends"
            }
            Self::EvacuateOnly => "an evacuation must pay the lane's own cold wallet alone",
            Self::BumpNothing => {
                "there must be something to bump: a payout of which a transaction is out and none can confirm beside this one, or change of a transaction that was given out within 30 days and does not carry others itself"
            }
            Self::BumpCoins => {
                "with orders it must spend coins of the transaction that it replaces alone, and is asked for over the lane that pays otherwise; without, no coin that was signed for on another lane"
            }
            Self::BumpFee => {
                "the fee must be higher than that of each transaction it replaces, and without orders its rate than that of each parent"
            }
            Self::BumpOwn => {
                "a bump without orders must pay one output of change, and nothing else"
            }
            Self::BumpPackage => {
                "the fee must be lower, so that it and those of its parents stay under the lane's package, or officers sign a policy with more"
            }
            Self::Frozen => "officers must lift the freeze",
            Self::DenyRule => {
                "officers must sign a policy without this denial, or one that is not about this"
            }
            Self::Rejected | Self::Vetoed => {
                "nothing: an officer's no is for good, and for the orders it was about; a new order is asked for anew"
            }
            Self::ScreeningHit => "the destination or coin must not be on the sanctions list",
            Self::Approvals => "enough officers must approve",
            Self::Delay => "the delay must pass",
            Self::Hours => "it must be office hours",
            Self::Screening => "destinations must be screened against a newer list",
            Self::Books => "the books must be found balanced again",
        }
    }
}
