//! The rules under which vectors are looked at, as policies write them.

pub const TWO_AND_ONE: &str = r#"
[[require]]
name = "large"
when = { lanes = ["withdraw"], above = "504999 sat" }
approvals = "2 of treasury and 1 of risk"
max_per_domain = 1
"#;

pub const EITHER: &str = r#"
[[require]]
name = "all"
when = {}
approvals = "2 of treasury or 2 of treasury + risk and 1 of risk"
"#;

pub const STALE: &str = r#"
[[deny]]
name = "unscreened"
when = { lanes = ["withdraw"], unscreened = "1h" }
[[deny]]
name = "unbalanced"
when = { unbalanced = "24h" }
"#;

pub const BOOK: &str = r#"
[[book_key]]
name = "desk"
ed25519 = "fa4834147f6e690c3693eff61336046403cd8ae2a14f31b3c407358569239565"
[[list]]
name = "customers"
matures = "24h"
book_keys = ["desk"]
entries = []
[[deny]]
name = "strangers"
when = { lanes = ["withdraw"], unlisted = ["customers"] }
"#;

pub const DELAY: &str = r#"
[[require]]
name = "slow"
when = { order_keys = ["shop"] }
delay = "1h"
veto = "risk"
"#;

pub const DAILY: &str = r#"
[[require]]
name = "daily"
when = { lanes = ["withdraw"], above = "1000000 sat", window = "24h", by = "lane" }
approvals = "1 of risk"
"#;

pub const UNLISTED: &str = r#"
[[list]]
name = "partners"
matures = "24h"
entries = [
    { label = "one", address = "bcrt1one" },
    { label = "past", address = "bcrt1past", expires_unix = 1766999999 },
]
[[require]]
name = "strangers"
when = { unlisted = ["partners"] }
approvals = "1 of risk"
"#;

pub const LISTED: &str = r#"
[[list]]
name = "bad"
matures = "24h"
entries = [{ label = "thief", script = "00140101" }]
[[deny]]
name = "thieves"
when = { listed = ["bad"] }
"#;

pub const DENY: &str = r#"
[[deny]]
name = "huge"
when = { wallets = ["hot"], clients = ["payout-desk"], above = "505000 sat" }
"#;

/// About whatever a payout is not.
pub const ELSEWHERE: &str = r#"
[[deny]]
name = "other-lane"
when = { lanes = ["sweep"], above = "1 sat" }
[[deny]]
name = "other-wallet"
when = { wallets = ["deposits"], above = "1 sat" }
[[deny]]
name = "other-client"
when = { clients = ["watcher-1"], above = "1 sat" }
[[deny]]
name = "other-key"
when = { order_keys = ["other"], above = "1 sat" }
[[limit]]
name = "other-limit"
lanes = ["sweep"]
by = "global"
window = "24h"
sum = "1 sat"
"#;

pub const HOURS: &str = r#"
[[require]]
name = "office"
when = {}
hours = ["mon-fri 09:00-17:00 +01:00"]
"#;

pub const FACTS: &str = r#"
[[require]]
name = "facts"
when = {}
screened = "1h"
books = "6h"
"#;

/// What the withdrawal lets leave: 500,000 to others and a fee of 5,000.
pub const LIMITS: &str = r#"
[[limit]]
name = "sums"
by = "BY"
window = "24h"
sum = "1000000 sat"
count = 3
"#;

pub const INWARD: &str = r#"
[[consolidate]]
name = "tidy"
clients = ["payout-desk"]
wallets = ["hot"]
fee = { max_total = "10000 sat", max_feerate = "20 sat/vB", max_percent = "2%" }
fee_budget = [{ sum = "50000 sat", window = "1h" }]
[[evacuate]]
name = "escape"
clients = ["payout-desk"]
wallets = ["hot"]
cold = "cold"
approvals = "1 of treasury and 1 of risk"
fee = { max_total = "10000 sat", max_feerate = "20 sat/vB", max_percent = "2%" }
fee_budget = [{ sum = "50000 sat", window = "1h" }]
"#;
