//! What one change of a policy does, and what its undoing does. It never says how that is found out.

use crate::common::{BUMP, Knobs, people, policy_text};

/// Keys in the policy below, and one that is not.
const SHOP: &str = "ea4a6c63e29c520abef5507b132ec5f9954776aebebe7b92421eea691446d22c";
const AUDITOR: &str = "f95c6a5dff031fac7b1a6a54b6610caeb83b39f7e8a66be16ff5faa4a511ed2d";
const THIRD: &str = "1398f62c6d1a457c51ba6a4b5f3dbd2f69fca93216218dc8997e416bd17d93ca";

const OTHER_KEY: &str = "[[order_key]]\nname = \"other\"\ned25519 = \"fd1724385aa0c75b64fb78cd602fa1d991fdebf76b13c58ed702eac835e9f618\"\n";
const IDLE: &str = "[[client]]\nname = \"idle\"\nattest = []\nstatus = true\n";
/// Clients through whom people stop things and look.
const DESKS: &str = "[[client]]\nname = \"officers-desk\"\nattest = []\nstatus = true\nofficers = true\nexpires_unix = 1900000005\n\
    [[client]]\nname = \"log-reader\"\nattest = []\nstatus = true\nlog = true\nexpires_unix = 1900000006\n";
const SPARE: &str = "[[wallet]]\nname = \"spare\"\ntier = \"token-hd\"\ndescriptor = \"wpkh(spare)#qqqqqqqq\"\nindex_window = 20\n";
const COLDER: &str = "[[wallet]]\nname = \"colder\"\ntier = \"cold\"\ndescriptor = \"wpkh(colder)#qqqqqqqq\"\nindex_window = 20\n";
pub(crate) const WITNESS: &str = "[[witness]]\nname = \"w4\"\ned25519 = \"278117fc144c72340f67d0f2316e8386ceffbf2b2428c9c51fef7c597f1d426e\"\n";
const WITNESSES: &str = "[[witness]]\nname = \"w1\"\ned25519 = \"d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a\"\n\
    [[witness]]\nname = \"w2\"\ned25519 = \"3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c\"\n\
    [[witness]]\nname = \"w3\"\ned25519 = \"fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025\"\n";
const TIDY: &str = "[[consolidate]]\nname = \"tidy\"\nclients = [\"payout-desk\"]\nwallets = [\"hot\"]\n\
    fee = { max_total = \"10000 sat\", max_feerate = \"20 sat/vB\", max_percent = \"2%\" }\nfee_budget = [{ sum = \"50000 sat\", window = \"1h\" }]\n";
const BOOST: &str = "[[consolidate]]\nname = \"boost\"\nclients = [\"payout-desk\"]\nwallets = [\"hot\"]\n\
    fee = { max_total = \"10000 sat\", max_feerate = \"20 sat/vB\", max_percent = \"2%\" }\nfee_budget = [{ sum = \"50000 sat\", window = \"1h\" }]\n";
const ESCAPE: &str = "[[evacuate]]\nname = \"escape\"\nclients = [\"payout-desk\"]\nwallets = [\"hot\"]\ncold = \"cold\"\napprovals = \"1 of treasury\"\n\
    fee = { max_total = \"10000 sat\", max_feerate = \"20 sat/vB\", max_percent = \"2%\" }\nfee_budget = [{ sum = \"50000 sat\", window = \"1h\" }]\n";

const LIST: &str = "[[list]]\nname = \"friends\"\nmatures = \"24h\"\nentries = [{ label = \"one\", script = \"01\" }, { label = \"two\", script = \"02\" }]\n";
const RULES: &str = "[[require]]\nname = \"large\"\nwhen = { lanes = [\"withdraw\"], above = \"200000 sat\", unscreened = \"24h\" }\napprovals = \"1 of treasury\"\ndelay = \"1h\"\nveto = \"risk\"\nhours = [\"mon-fri 09:00-17:00 +01:00\"]\n\
    [[require]]\nname = \"strangers\"\nwhen = { unlisted = [\"friends\"] }\ndelay = \"2h\"\n\
    [[deny]]\nname = \"never\"\nwhen = { lanes = [\"withdraw\"], above = \"700000 sat\" }\n\
    [[limit]]\nname = \"day\"\nby = \"global\"\nwindow = \"24h\"\nsum = \"5000000 sat\"\ncount = 20\n";

const BOOK: &str = "[[book_key]]\nname = \"one\"\ned25519 = \"fa4834147f6e690c3693eff61336046403cd8ae2a14f31b3c407358569239565\"\nexpires_unix = 1900000004\n\
    [[book_key]]\nname = \"two\"\ned25519 = \"197f6b23e16c8532c6abc838facd5ea789be0c76b2920334039bfa8b3d368d61\"\n\
    [[book_key]]\nname = \"three\"\ned25519 = \"4508a07aa941707f3eb2db94c8897a80b2c1197476b6de213ac273df7d86c4ff\"\n\
    [[list]]\nname = \"customers\"\nbook_keys = [\"one\", \"two\"]\nentries = []\n\
    [[deny]]\nname = \"no-customer\"\nwhen = { unlisted = [\"customers\"] }\n";
const SCREENER: &str = "[[screener]]\nname = \"desk\"\ned25519 = \"70df9e2279adbec6d12bf2921184c9222eb24ed852005bf640139f52e59cd9ae\"\nexpires_unix = 1900000003\n";
const RECONCILER: &str = "[[reconciler]]\nname = \"auditor\"\ned25519 = \"f95c6a5dff031fac7b1a6a54b6610caeb83b39f7e8a66be16ff5faa4a511ed2d\"\nexpires_unix = 1900000002\n";
const LISTS: &str = "[[list]]\nname = \"thieves\"\nentries = [{ label = \"thief\", script = \"03\" }, { label = \"thug\", script = \"04\" }]\n[[deny]]\nname = \"thefts\"\nwhen = { listed = [\"thieves\"] }\n\
    [[list]]\nname = \"twofold\"\nentries = [{ label = \"one\", script = \"05\" }, { label = \"both\", script = \"06\" }]\n\
    [[deny]]\nname = \"one-way\"\nwhen = { lanes = [\"withdraw\"], listed = [\"twofold\"] }\n[[deny]]\nname = \"other-way\"\nwhen = { lanes = [\"withdraw\"], unlisted = [\"twofold\"] }\n\
    [[list]]\nname = \"unused\"\nentries = [{ label = \"one\", script = \"07\" }, { label = \"none\", script = \"08\" }]\n";
const FRESH: &str = "[[require]]\nname = \"facts\"\nwhen = { lanes = [\"sweep\"] }\nscreened = \"24h\"\nbooks = \"24h\"\n";

const DESK: &str = "name = \"withdraw\"\nclients = [\"payout-desk\"]";

/// One of everything.
pub(crate) fn whole() -> String {
    let (client_ends, key_ends) = (Some(1_900_000_001), Some(1_900_000_000));
    let lanes = [BUMP, TIDY, ESCAPE, SPARE, COLDER, IDLE, DESKS].concat();
    let rules =
        [LIST, RULES, BOOK, LISTS, FRESH, SCREENER, RECONCILER, WITNESSES, WITNESS].concat();
    let extra = people() + &lanes + &rules;
    let text = policy_text(&Knobs { extra, client_ends, key_ends, ..Knobs::default() });
    format!("witnesses_required = 3\n{text}")
}

/// From, to, what that does, and what the way back does: G governs, L may loosen, T tightens, each change a letter, worst first.
#[rustfmt::skip]
pub(crate) const CHANGES: &[(&str, &str, &str, &str)] = &[
    // What a transaction may cost.
    ("max_total = \"10000 sat\"", "max_total = \"9999 sat\"", "T", "L"),
    ("max_feerate = \"20 sat/vB\", max_percent = \"2%\"", "max_feerate = \"19 sat/vB\", max_percent = \"2%\"", "T", "L"),
    ("max_percent = \"2%\"", "max_percent = \"1%\"", "T", "L"),
    ("sum = \"50000 sat\", window = \"3600s\"", "sum = \"49999 sat\", window = \"3600s\"", "T", "L"),
    // Who asks for what, from where and until when.
    ("name = \"sweep\"\nclients = [\"watcher-1\"]", "name = \"sweep\"\nclients = [\"watcher-1\", \"payout-desk\"]", "L", "T"),
    ("name = \"sweep\"\nclients = [\"watcher-1\"]", "name = \"sweep\"\nclients = [\"payout-desk\"]", "L", "L"),
    ("wallets = [\"deposits\"]", "wallets = [\"deposits\", \"hot\"]", "L", "T"),
    ("[[withdraw]]", "expires_unix = 1800000000\n[[withdraw]]", "T", "L"),
    // How much of a lane a client is granted.
    (DESK, "name = \"withdraw\"\nclients = [{ name = \"payout-desk\", wallets = [\"hot\"] }]", "T", "T"),
    (DESK, "name = \"withdraw\"\nclients = [{ name = \"payout-desk\", order_keys = [\"shop\"] }]", "T", "T"),
    (DESK, "name = \"withdraw\"\nclients = [{ name = \"payout-desk\", expires_unix = 1800000000 }]", "T", "L"),
    (DESK, "name = \"withdraw\"\nclients = [\"payout-desk\", { name = \"watcher-1\", expires_unix = 1800000000 }]", "L", "T"),
    (DESK, "name = \"withdraw\"\nclients = [{ name = \"watcher-1\", expires_unix = 1800000000 }]", "L", "L"),
    ("name = \"boost\"\nclients = [\"payout-desk\"]", "name = \"boost\"\nclients = [{ name = \"payout-desk\", order_keys = [\"shop\", \"other\"] }]", "T", "L"),
    ("name = \"boost\"\nclients = [\"payout-desk\"]", "name = \"boost\"\nclients = [{ name = \"payout-desk\", order_keys = [\"shop\"] }]", "T", "L"),
    ("name = \"escape\"\nclients = [\"payout-desk\"]", "name = \"escape\"\nclients = [{ name = \"payout-desk\", wallets = [\"hot\"] }]", "G", "G"),
    // Where things go.
    ("min_cold_share = \"90%\"", "min_cold_share = \"91%\"", "T", "L"),
    ("cold = \"cold\"", "cold = \"vault\"", "G", "G"),
    ("order_keys = [\"shop\"]", "order_keys = [\"shop\", \"other\"]", "L", "T"),
    ("order_keys = [\"shop\"]", "order_keys = [\"other\"]", "L", "L"),
    ("per_transaction = \"1500000 sat\"", "per_transaction = \"1499999 sat\"", "T", "L"),
    ("per_destination = \"1000000 sat\"\n", "", "L", "T"),
    ("per_destination = \"1000000 sat\"\n", "per_destination = \"999999 sat\"\n", "T", "L"),
    // Windows.
    ("{ sum = \"3000000 sat\", window = \"3600s\" }, ", "", "L", "T"),
    ("sum = \"3000000 sat\", window = \"3600s\"", "sum = \"3000000 sat\", window = \"7200s\"", "T", "L"),
    ("sum = \"3000000 sat\", window = \"3600s\"", "sum = \"2999999 sat\", window = \"3600s\"", "T", "L"),
    ("sum = \"3000000 sat\", window = \"3600s\"", "sum = \"2999999 sat\", window = \"3599s\"", "L", "L"),
    ("sum = \"3000000 sat\", window = \"3600s\"", "sum = \"3000001 sat\", window = \"7200s\"", "L", "L"),
    // Lanes that are there or not, or are other ones.
    (BUMP, "", "T", "L"),
    (TIDY, "", "T", "L"),
    (ESCAPE, "", "G", "G"),
    ("name = \"escape\"\nclients = [\"payout-desk\"]", "name = \"escape\"\nclients = [\"watcher-1\"]", "G", "G"),
    (BUMP, BOOST, "L", "L"),
    ("name = \"tidy\"\nclients = [\"payout-desk\"]", "name = \"tidy\"\nclients = [\"payout-desk\", \"watcher-1\"]", "L", "T"),
    ("max_total = \"12000 sat\"", "max_total = \"11999 sat\"", "T", "L"),
    ("max_total = \"12000 sat\", max_feerate = \"16 sat/vB\"", "max_total = \"12000 sat\", max_feerate = \"15 sat/vB\"", "T", "L"),
    // Wallets.
    ("index_window = 20", "index_window = 19", "T", "L"),
    ("wpkh(deposits)", "wpkh(others)", "L", "L"),
    ("name = \"deposits\"\ntier = \"token-hd\"", "name = \"deposits\"\ntier = \"sealed-hd\"", "L", "L"),
    (SPARE, "", "T", "L"),
    (COLDER, "", "G", "G"),
    ("wpkh(vault)", "wpkh(other)", "G", "G"),
    ("wpkh(vault)#qqqqqqqq\"\nindex_window = 20", "wpkh(vault)#qqqqqqqq\"\nindex_window = 19", "G", "G"),
    // Order keys.
    (OTHER_KEY, "", "T", "L"),
    ("name = \"other\"\n", "name = \"other\"\nexpires_unix = 1800000000\n", "T", "L"),
    ("expires_unix = 1900000000\n", "expires_unix = 1800000000\n", "T", "L"),
    (SHOP, THIRD, "L", "L"),
    ("name = \"shop\"\n", "name = \"shop\"\nofficer = \"ada\"\n", "T", "L"),
    // Clients.
    (IDLE, "", "T", "L"),
    ("attest = [\"deposits\"]\nstatus = true", "attest = []\nstatus = true", "T", "L"),
    ("attest = [\"deposits\"]\nstatus = true", "attest = [\"hot\"]\nstatus = true", "L", "L"),
    ("attest = []\nstatus = false", "attest = []\nstatus = true", "L", "T"),
    ("attest = []\nstatus = false", "attest = []\nstatus = false\nofficers = true", "L", "G"),
    (DESKS, "", "GG", "LL"),
    ("officers = true\n", "", "G", "L"),
    ("log = true\n", "", "G", "L"),
    ("expires_unix = 1900000005\n", "expires_unix = 1800000000\n", "G", "L"),
    ("expires_unix = 1900000006\n", "expires_unix = 1800000000\n", "G", "L"),
    ("expires_unix = 1900000006\n", "", "L", "G"),
    ("status = true\nofficers = true\n", "status = false\nofficers = true\n", "T", "L"),
    // One that may evacuate.
    ("expires_unix = 1900000001\n", "expires_unix = 1800000000\n", "G", "L"),
    ("expires_unix = 1900000001\n", "", "L", "G"),
    // Who states facts.
    ("expires_unix = 1900000002\n", "expires_unix = 1800000000\n", "T", "L"),
    ("[[reconciler]]\nname = \"auditor\"", "[[reconciler]]\nname = \"other\"", "LT", "LT"),
    (AUDITOR, THIRD, "L", "L"),
    (RECONCILER, "", "T", "L"),
    (SCREENER, "", "L", "L"),
    ("expires_unix = 1900000003\n", "expires_unix = 1800000000\n", "L", "L"),
    ("expires_unix = 1900000004\n", "expires_unix = 1800000000\n", "T", "L"),
    // Who governs, and whose policy it is.
    ("network = \"regtest\"\n", "network = \"regtest\"\nlog = \"cofferdam/a\"\n", "T", "G"),
    ("network = \"regtest\"\n", "network = \"regtest\"\nunfreeze = \"1 of treasury\"\n", "G", "G"),
    ("witnesses_required = 3", "witnesses_required = 4", "G", "G"),
    (WITNESS, "", "G", "G"),
    ("name = \"eve\"\n", "name = \"eve\"\nrevoked = true\n", "T", "G"),
    ("name = \"eve\"\ndomain = \"lima\"", "name = \"eve\"\nrevoked = true\ndomain = \"bern\"", "G", "G"),
    ("domain = \"lima\"", "domain = \"oslo\"", "G", "G"),
    ("members = [\"dan\", \"eve\"]", "members = [\"dan\"]", "G", "G"),
    // Requirements.
    ("approvals = \"1 of treasury\"\ndelay", "approvals = \"2 of treasury\"\ndelay", "GT", "GT"),
    ("approvals = \"1 of treasury\"\ndelay", "delay", "GT", "T"),
    ("above = \"200000 sat\", unscreened", "above = \"200001 sat\", unscreened", "GT", "GT"),
    (", unscreened = \"24h\"", "", "GT", "GT"),
    ("delay = \"1h\"\nveto", "delay = \"2h\"\nveto", "T", "GT"),
    ("veto = \"risk\"", "veto = \"treasury\"", "GT", "GT"),
    ("17:00 +01:00", "18:00 +01:00", "GT", "GT"),
    ("delay = \"2h\"", "delay = \"3h\"", "T", "LT"),
    ("delay = \"2h\"", "delay = \"2h\"\napprovals = \"1 of risk\"", "T", "GT"),
    ("delay = \"2h\"", "delay = \"1h\"\napprovals = \"1 of risk\"", "GT", "GT"),
    ("delay = \"2h\"", "delay = \"2h\"\nveto = \"risk\"", "T", "LT"),
    ("delay = \"2h\"", "delay = \"2h\"\nhours = [\"mon-fri 09:00-17:00 +01:00\"]", "T", "LT"),
    ("delay = \"2h\"", "delay = \"2h\"\nexpires_unix = 1800000000", "LT", "T"),
    ("screened = \"24h\"\n", "screened = \"1h\"\n", "T", "LT"),
    ("screened = \"24h\"\n", "", "LT", "T"),
    ("books = \"24h\"\n", "books = \"1h\"\n", "T", "LT"),
    ("books = \"24h\"\n", "", "LT", "T"),
    ("name = \"strangers\"", "name = \"unknown\"", "T", "T"),
    // Denials.
    ("above = \"700000 sat\"", "above = \"700001 sat\"", "LT", "LT"),
    ("above = \"700000 sat\" }", "above = \"700000 sat\" }\nexpires_unix = 1800000000", "LT", "T"),
    ("[[deny]]\nname = \"never\"", "[[deny]]\nname = \"all\"\nwhen = { lanes = [\"sweep\"] }\n[[deny]]\nname = \"never\"", "T", "L"),
    ("name = \"never\"", "name = \"no-more\"", "T", "T"),
    // What is about a lane to evacuate by, as a limit over all lanes is.
    ("[[deny]]\nname = \"never\"", "[[deny]]\nname = \"all\"\nwhen = { clients = [\"payout-desk\"] }\n[[deny]]\nname = \"never\"", "G", "L"),
    ("[[deny]]\nname = \"never\"", "[[deny]]\nname = \"all\"\nwhen = { wallets = [\"hot\"] }\n[[deny]]\nname = \"never\"", "G", "L"),
    ("[[deny]]\nname = \"never\"", "[[deny]]\nname = \"all\"\nwhen = { wallets = [\"deposits\"] }\n[[deny]]\nname = \"never\"", "T", "L"),
    ("[[deny]]\nname = \"never\"", "[[deny]]\nname = \"all\"\nwhen = { unlisted = [\"friends\"] }\n[[deny]]\nname = \"never\"", "T", "L"),
    ("[[deny]]\nname = \"never\"", "[[require]]\nname = \"all\"\nwhen = { clients = [\"payout-desk\"] }\ndelay = \"7d\"\n[[deny]]\nname = \"never\"", "G", "L"),
    ("[[deny]]\nname = \"never\"", "[[require]]\nname = \"all\"\nwhen = { clients = [\"watcher-1\"] }\ndelay = \"7d\"\n[[deny]]\nname = \"never\"", "T", "L"),
    // Limits.
    ("window = \"24h\"\nsum", "window = \"48h\"\nsum", "G", "GL"),
    ("window = \"24h\"\nsum = \"5000000 sat\"", "window = \"48h\"\nsum = \"4000000 sat\"", "G", "GL"),
    ("sum = \"5000000 sat\"", "sum = \"4999999 sat\"", "G", "GL"),
    ("count = 20", "count = 19", "G", "GL"),
    ("\ncount = 20", "", "GL", "G"),
    ("sum = \"5000000 sat\"\n", "", "GL", "G"),
    ("by = \"global\"\nwindow = \"24h\"\nsum", "by = \"lane\"\nwindow = \"24h\"\nsum", "GL", "GL"),
    ("name = \"day\"\n", "name = \"day\"\nlanes = [\"withdraw\"]\n", "LT", "GL"),
    ("count = 20", "count = 20\nexpires_unix = 1800000000", "GL", "G"),
    ("name = \"day\"", "name = \"daily\"", "G", "G"),
    ("[[limit]]\nname = \"day\"", "[[limit]]\nname = \"few\"\nlanes = [\"sweep\"]\nby = \"lane\"\nwindow = \"24h\"\ncount = 1\n[[limit]]\nname = \"day\"", "T", "L"),
    ("[[limit]]\nname = \"day\"", "[[limit]]\nname = \"few\"\nlanes = [\"escape\"]\nby = \"lane\"\nwindow = \"24h\"\ncount = 1\n[[limit]]\nname = \"day\"", "G", "L"),
    // Lists that let more through.
    (", { label = \"two\", script = \"02\" }", "", "T", "L"),
    ("label = \"two\"", "label = \"other\"", "L", "L"),
    ("matures = \"24h\"", "matures = \"48h\"", "T", "L"),
    ("book_keys = [\"one\", \"two\"]\n", "book_keys = [\"one\"]\n", "T", "L"),
    ("book_keys = [\"one\", \"two\"]\n", "book_keys = [\"two\", \"one\", \"three\"]\n", "L", "T"),
    // Lists that let less through.
    (", { label = \"thug\", script = \"04\" }", "", "L", "T"),
    ("name = \"thieves\"\n", "name = \"thieves\"\nmatures = \"1h\"\n", "L", "L"),
    // Lists that are asked both ways, or not at all.
    (", { label = \"both\", script = \"06\" }", "", "L", "L"),
    (", { label = \"none\", script = \"08\" }", "", "L", "L"),
    (", { label = \"two\", script = \"02\" }]\n", "]\n[[deny]]\nname = \"foes\"\nwhen = { lanes = [\"withdraw\"], listed = [\"friends\"] }\n", "LT", "LL"),
    (", { label = \"thug\", script = \"04\" }]\n", ", { label = \"thug\", script = \"04\" }, { label = \"more\", script = \"09\" }]\n[[deny]]\nname = \"others\"\nwhen = { lanes = [\"withdraw\"], unlisted = [\"thieves\"] }\n", "LT", "LL"),
];
