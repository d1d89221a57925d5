//! What a lane's grants leave each client: wallets, order keys, and until when.
//! It only says what is changed about a request, and what then speaks against it.

use crate::common::{self, load, policy_text};
use crate::making::*;

/// The usual payouts on a lane of two wallets and two keys, of whose client this is said.
fn granted(desk: &str, change: impl FnOnce(&mut Case)) -> Case {
    let lane = "clients = [\"payout-desk\"]\nwallets = [\"hot\"]\norder_keys = [\"shop\"]\n";
    let wide = format!(
        "clients = [\"watcher-1\", {desk}]\nwallets = [\"deposits\", \"hot\"]\norder_keys = [\"other\", \"shop\"]\n"
    );
    with(Case::withdraw(&Knobs::default()), |c| {
        c.rules = load(&policy_text(&Knobs::default()).replacen(lane, &wide, 1));
        change(c);
    })
}

/// The bump lane, of whose client this is said.
fn bumps(mut case: Case, desk: &str) -> Case {
    let text = case.rules.text();
    let (before, lane) = text.split_once("[[bump]]").unwrap();
    let lane = lane.replacen("clients = [\"payout-desk\"]", &format!("clients = [{desk}]"), 1);
    case.rules = load(&format!("{before}[[bump]]{lane}"));
    case
}

const HOT: &str = "{ name = \"payout-desk\", wallets = [\"hot\"] }";
const SHOP: &str = "{ name = \"payout-desk\", order_keys = [\"shop\"] }";
const OTHER: &str = "{ name = \"payout-desk\", order_keys = [\"other\"] }";
const ENDS: &str = "{ name = \"payout-desk\", expires_unix = 1767000000 }";

/// The second order is by the other service.
fn second_by_other(case: &mut Case) {
    let other = order_by(&case.rules, "other", 9, "b", 200_000, NOW + HOUR);
    case.history("b").order = other.reference();
    case.intent.transfers[1].to = common::external(2, Some(other.reference()));
    case.intent.orders[1] = other;
}

fn from_deposits(case: &mut Case) {
    case.intent.wallet = WalletName::parse("deposits").unwrap();
}

fn by_watcher(case: &mut Case) {
    case.intent.caller = ClientName::parse("watcher-1").unwrap();
}

pub const DENIED: &[Vector] = &[
    (
        "a wallet of the lane that the client was not granted",
        || granted(HOT, from_deposits),
        &[R::GrantWallet],
    ),
    (
        "a wallet that neither lane nor grant has",
        || granted(HOT, |c| c.intent.wallet = WalletName::parse("cold").unwrap()),
        &[R::LaneWallet, R::GrantWallet, R::MissingEvidence],
    ),
    ("orders by a key the client is not pinned to", || granted(OTHER, |_| ()), &[R::GrantOrderKey]),
    (
        "one order of two by a key the client is not pinned to",
        || granted(SHOP, second_by_other),
        &[R::GrantOrderKey],
    ),
    (
        "no order, of a client that is pinned to a key",
        || {
            granted(SHOP, |c| {
                c.intent.orders.clear();
                c.intent.transfers = vec![change(0, 995_000)];
            })
        },
        &[R::GrantOrderKey, R::NoOrder, R::FeePercent],
    ),
    ("a second after the grant's end", || granted(ENDS, |c| c.now = NOW + 1), &[R::GrantExpired]),
    (
        "a payout again, by a key the client is not pinned to there",
        || bumps(bump(|_| ()), OTHER),
        &[R::GrantOrderKey],
    ),
    (
        "a child of a client that is pinned to a key: nobody's order says whose payout it carries",
        || bumps(carry(|_| ()), SHOP),
        &[R::GrantOrderKey],
    ),
    (
        "a key of that name that was replaced since",
        || {
            granted(SHOP, |c| {
                let replaced = policy_text(&Knobs { shop_seed: 8, ..Knobs::default() });
                let (_, key) = replaced.split_once("[[order_key]]").unwrap();
                let text = c.rules.text();
                let (head, rest) = text.split_once("[[order_key]]").unwrap();
                let line = |of: &str| of.lines().nth(2).unwrap().to_owned();
                let rest = rest.replacen(&line(rest), &line(key), 1);
                c.rules = load(&format!("{head}[[order_key]]{rest}"));
            })
        },
        &[R::OrderSigner],
    ),
];

pub const ALLOWED: &[Sound] = &[
    ("the wallet that the client was granted", || granted(HOT, |_| ())),
    ("the lane's other wallet, by whom nothing narrows", || {
        granted(HOT, |c| {
            from_deposits(c);
            by_watcher(c);
        })
    }),
    ("orders by the key the client is pinned to", || granted(SHOP, |_| ())),
    ("orders by two keys, of a client that is pinned to both", || {
        granted("{ name = \"payout-desk\", order_keys = [\"shop\", \"other\"] }", second_by_other)
    }),
    ("orders by any of the lane's keys, of whom nothing narrows", || {
        granted(OTHER, |c| {
            second_by_other(c);
            by_watcher(c);
        })
    }),
    ("the last second of a grant", || granted(ENDS, |c| c.now = NOW)),
    ("what ended for one goes on for another", || {
        granted(ENDS, |c| {
            c.now = NOW + 1;
            by_watcher(c);
        })
    }),
    ("a payout again, by the key the client is pinned to there", || bumps(bump(|_| ()), SHOP)),
    ("a child of a client whose wallets alone are narrowed", || bumps(carry(|_| ()), HOT)),
];
