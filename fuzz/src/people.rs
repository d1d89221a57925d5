//! What officers sign and what they sign it about: one spelling each.

use policy::conditions::Target;
use policy::evidence::FreezeScope as Scope;
use policy::intent::RequestId;
use policy::names::{ClientName, KeyName, LaneName, ListName, OrderId, WalletName};
use policy::order::OrderRef;
use statement::fact::{Entry, Fact, States};
use statement::intent::{Input, Ordered, Output, To};
use statement::sanctions::{self, listed};
use statement::{
    About, Deed, NO_TOKEN, Paper, PolicyRef, Says, Signed, Statement, Task, TimeIs, Unbinding,
    VersionName,
};

pub(crate) fn statement(data: &[u8]) {
    // The first line is the same in all of them, and so is that of facts.
    let whole = [b"cofferdam-statement-v1\n", data].concat();
    let stated = [b"cofferdam-fact-v1\n", data].concat();
    for bytes in [data, &whole, &stated] {
        if let Ok(fact) = Fact::parse(bytes) {
            assert!(Fact::is_meant(bytes) && Statement::parse(bytes).is_err());
            assert_eq!(fact.encode(), bytes);
        }
        if let Ok(entry) =
            core::str::from_utf8(bytes).map_err(drop).and_then(|line| listed(line).map_err(drop))
        {
            let by = KeyName::parse("a").expect("a name");
            let text = sanctions::text("n", &by, 1, &[entry]);
            let line = text.lines().nth(4).expect("an entry");
            assert_eq!(line.as_bytes(), bytes);
        }
        if let Ok(statement) = Statement::parse(bytes) {
            assert_eq!(statement.encode(), bytes);
        }
        if let Ok(signed) = Signed::from_file(bytes) {
            assert_eq!(signed.to_file(), bytes);
        }
    }
}

pub(crate) fn intent(data: &[u8]) {
    let whole = [b"cofferdam-intent-v1\n", data].concat();
    for bytes in [data, &whole] {
        if let Ok(paper) = Paper::parse(bytes) {
            assert_eq!(paper.encode(), bytes);
        }
    }
}

fn says(says: Says) -> Statement {
    Statement {
        says,
        log: "cofferdam/9f3a".into(),
        network: "bip122:0f9188f13cb7b2c71f2a335e3a4fc328".into(),
        officer: KeyName::parse("alice").unwrap(),
        expires_unix: 1_767_225_600,
        nonce: [5; 16],
    }
}

fn policy() -> PolicyRef {
    PolicyRef { version: 7, digest: [3; 32] }
}

pub(crate) fn statement_seeds() -> Vec<Vec<u8>> {
    let about = About { request: RequestId([1; 16]), intent: [2; 32], policy: policy() };
    let kinds = [
        Says::Approve(about),
        Says::Reject(about),
        Says::Veto(about),
        Says::Revoke([4; 32]),
        Says::Unfreeze([4; 32]),
        Says::Time(TimeIs { unix: 300, doubt: 7 }),
        Says::Freeze(Scope::Everything),
        Says::Administer(Task { deed: Deed::Import([5; 32]), token: "41fc".to_owned() }),
        Says::Administer(Task { deed: Deed::SetPin, token: "41fc".to_owned() }),
        Says::Administer(Task {
            deed: Deed::ActivateKeys(WalletName::parse("hot").unwrap()),
            token: "41fc".to_owned(),
        }),
        Says::Administer(Task { deed: Deed::OpenKek, token: "41fc".to_owned() }),
        Says::Administer(Task { deed: Deed::Revocations([6; 32]), token: NO_TOKEN.to_owned() }),
        Says::Freeze(Scope::Wallet(WalletName::parse("hot").unwrap())),
        Says::VetoPolicy([7; 32]),
        Says::Free {
            client: ClientName::parse("watcher-1").unwrap(),
            lock: 300,
            reason: "it is mended".to_owned(),
        },
        Says::Unbind {
            unbinding: Unbinding {
                order: OrderRef { key: [8; 32], id: OrderId::parse("invoice-7").unwrap() },
                versions: vec![
                    VersionName { signed: [1; 32], bare: [3; 32] },
                    VersionName { signed: [2; 32], bare: [3; 32] },
                ],
            },
            reason: "its coin was spent in block 7".to_owned(),
        },
    ];
    let mut seeds: Vec<Vec<u8>> = kinds.map(|kind| says(kind).encode()).into();
    let signed =
        Signed { statement: says(Says::Freeze(Scope::Everything)).encode(), signature: [9; 64] };
    seeds.push(signed.to_file());
    let coin = format!("coin {}:7", "03".repeat(32));
    seeds.extend([coin.into_bytes(), b"script 6a01".to_vec(), b"address bcrt1q".to_vec()]);
    let balanced = Fact {
        states: States::Balanced { height: 7, block: [6; 32] },
        log: "cofferdam/9f3a".into(),
        network: "bip122:0f9188f13cb7b2c71f2a335e3a4fc328".into(),
        by: KeyName::parse("auditor").expect("a name"),
        made_unix: 1_767_225_600,
    };
    seeds.push(balanced.encode());
    let list = || ListName::parse("customers").expect("a name");
    let label = || "Acme Ltd".to_owned();
    let targets = [
        Target::Address("bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080".into()),
        Target::Script(vec![0x6a, 1]),
        Target::Descriptor { descriptor: "wpkh(x/<0;1>/*)#c".into(), indexes: 9 },
    ];
    let entry = |target| Entry {
        list: list(),
        label: label(),
        target,
        from_unix: 5,
        expires_unix: Some(1_767_225_600),
    };
    let mut states: Vec<States> = targets.map(|target| States::Listed(entry(target))).into();
    states.push(States::Unlisted { list: list(), label: label() });
    seeds.extend(states.into_iter().map(|states| Fact { states, ..balanced.clone() }.encode()));
    seeds.push(says(Says::Unlist { list: list(), label: label() }).encode());
    seeds
}

pub(crate) fn intent_seeds() -> Vec<Vec<u8>> {
    let external = |address: &str, label: Option<&str>| To::External {
        address: address.into(),
        label: label.map(Into::into),
    };
    let output = |to| Output { amount: 100_000, to };
    let paper = Paper {
        network: "bip122:0f9188f13cb7b2c71f2a335e3a4fc328".into(),
        request: RequestId([1; 16]),
        client: ClientName::parse("watcher-1").unwrap(),
        lane: LaneName::parse("withdraw").unwrap(),
        wallet: WalletName::parse("hot").unwrap(),
        tier: "token-hd".into(),
        transaction: [2; 32],
        inputs: vec![Input { coin: format!("{}:1", "03".repeat(32)), amount: 500_000 }],
        outputs: vec![
            output(external("bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080", Some("Bank, main"))),
            output(external("script:6a", None)),
            output(To::Change { index: 4 }),
            output(To::Cold { wallet: WalletName::parse("vault").unwrap(), index: 9 }),
        ],
        fee: 1_000,
        orders: vec![Ordered {
            id: OrderId::parse("invoice-7").unwrap(),
            signer: KeyName::parse("shop").unwrap(),
            digest: [4; 32],
        }],
        policy: policy(),
        asked_unix: 1_767_225_000,
        expires_unix: 1_767_225_600,
    };
    vec![paper.encode()]
}
