//! Wallets of every kind on real tokens, with coins on a real chain: what the tests over all kinds share. Two hosts, since
//! one of the wallets is a multisig of both; everything else is the first one's.

use bitcoin::{Amount, Psbt, Transaction};
use devnet::Node;
use devnet::forge::{self, Coin};
use devnet::stack::{
    Account, Children, Host, Reply, Script, Tier, Wallet, cold_descriptor, with_checksum,
};
use ed25519_dalek::SigningKey;
use proto::signer_client::SignerClient;
use proto::{SignHeader, SignedOrder};
use rand::Rng;
use signer::request::psbt::{self, Version};
use tonic::transport::Channel;

pub(crate) const CHILDREN: Children = Children { external: 12, change: 6 };

/// The wallets, by the kind of their scripts; the last is 2 of 3, and nobody has the third key.
const KINDS: [(&str, Tier, Script); 6] = [
    ("p2wpkh", Tier::TokenHd, Script::Wpkh),
    ("p2sh-p2wpkh", Tier::TokenHd, Script::ShWpkh),
    ("p2pkh", Tier::TokenHd, Script::Pkh),
    ("p2tr", Tier::SealedHd, Script::Tr),
    ("p2wpkh-sealed", Tier::SealedHd, Script::Wpkh),
    ("p2wsh", Tier::TokenHd, Script::Cosigner),
];

/// Everything that runs.
pub(crate) struct World {
    pub(crate) node: Node,
    hosts: [Host; 2],
    clients: [SignerClient<Channel>; 2],
    pub(crate) wallets: Vec<Held>,
    pub(crate) cold: String,
    pub(crate) shop: SigningKey,
}

/// A wallet and the coins that it has.
#[derive(Clone, Debug)]
pub(crate) struct Held {
    pub(crate) name: &'static str,
    pub(crate) descriptor: String,
    pub(crate) coins: Vec<Coin>,
}

/// What is asked of the signers.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    pub(crate) key: String,
    pub(crate) lane: &'static str,
    pub(crate) psbt: Psbt,
    pub(crate) version: Version,
    pub(crate) coins: Vec<Coin>,
    pub(crate) orders: Vec<SignedOrder>,
    /// Of two hosts that have to sign, the second one first.
    pub(crate) turned: bool,
}

impl World {
    pub(crate) async fn open() -> Self {
        let node = Node::start().await.unwrap();
        let mut hosts = [Host::prepare().unwrap(), Host::prepare().unwrap()];
        let cold = cold_descriptor().unwrap();
        let shop = SigningKey::from_bytes(&[11; 32]);
        let mut wallets = Vec::new();
        for (number, (name, tier, script)) in (0..).zip(KINDS) {
            let account = Account { wallet: name, number, tier, script, children: CHILDREN };
            let mut descriptor = hosts[0].make_account(&account).unwrap();
            if script == Script::Cosigner {
                let other = hosts[1].make_account(&account).unwrap();
                let nobody = cold_descriptor().unwrap();
                let nobody = nobody.strip_prefix("wpkh(").unwrap().split_once(')').unwrap().0;
                let body = format!("wsh(sortedmulti(2,{nobody},{descriptor},{other}))");
                descriptor = with_checksum(&body).unwrap();
            }
            wallets.push(Held { name, descriptor, coins: Vec::new() });
        }
        let pinned = |held: &Held, tier: Tier| Wallet {
            name: held.name.to_owned(),
            tier: tier.name(),
            descriptor: held.descriptor.clone(),
        };
        let mut all: Vec<Wallet> =
            wallets.iter().zip(KINDS).map(|(held, (_, tier, _))| pinned(held, tier)).collect();
        all.push(Wallet { name: "cold".to_owned(), tier: "cold", descriptor: cold.clone() });
        let shop_key = hex::encode(shop.verifying_key().to_bytes());
        for (host, count) in hosts.iter_mut().zip([KINDS.len(), 1]) {
            let pinned = &all[KINDS.len() - count..];
            host.sign_policy(pinned, &shop_key, "10000 sat/vB").unwrap();
            for wallet in pinned.iter().filter(|wallet| wallet.tier != "cold") {
                host.import(&wallet.name, &host.bundle(&wallet.name)).unwrap();
            }
            host.start().await.unwrap();
        }
        let clients = hosts.each_ref().map(|host| host.client().unwrap());
        Self { node, hosts, clients, wallets, cold, shop }
    }

    /// Pays every address of every wallet once, in one transaction: fresh coins, in a block, in place of those before.
    pub(crate) async fn fund(&mut self, rng: &mut impl Rng) {
        let branches = [(0, CHILDREN.external), (1, CHILDREN.change)];
        let places: Vec<(usize, u32)> = branches
            .into_iter()
            .flat_map(|(branch, count)| (0..count).map(move |index| (branch, index)))
            .collect();
        let mut payments = Vec::new();
        let mut addresses = Vec::new();
        for held in &self.wallets {
            let of = |(branch, index): &(usize, u32)| {
                forge::address(&held.descriptor, *branch, *index).unwrap()
            };
            let these: Vec<_> = places.iter().map(of).collect();
            for address in &these {
                let amount = Amount::from_sat(rng.gen_range(20_000..3_000_000));
                payments.push((address.to_string(), amount));
            }
            addresses.push(these);
        }
        let paid = self.node.pay_many(&payments).await.unwrap();
        let parent = self.node.transaction(paid).await.unwrap();
        self.node.mine(1).await.unwrap();
        for (held, addresses) in self.wallets.iter_mut().zip(&addresses) {
            let coin = |((branch, index), address): (&(usize, u32), _)| {
                Coin::find(parent.clone(), address, *branch, *index).unwrap()
            };
            held.coins = places.iter().zip(addresses).map(coin).collect();
        }
    }

    /// The policy of the first host, which has every wallet.
    pub(crate) fn policy(&self) -> String {
        std::fs::read_to_string(self.hosts[0].dir().join("signer").join("policy.toml")).unwrap()
    }

    /// Has one host sign, or both where both must; with the transaction comes what one gave for the other. The error is a
    /// refusal's message.
    pub(crate) async fn sign(
        &self,
        wallet: &str,
        ask: &Ask,
    ) -> Result<(Transaction, Option<Vec<u8>>), String> {
        let mut psbt = psbt::write(&ask.psbt, ask.version)?;
        let mut turns = [0, 1];
        if ask.turned && wallet == "p2wsh" {
            turns.reverse();
        }
        let mut shared = None;
        for turn in turns {
            let header = SignHeader {
                idempotency_key: ask.key.clone(),
                lane: ask.lane.to_owned(),
                wallet: wallet.to_owned(),
                psbt: psbt.clone(),
                orders: ask.orders.clone(),
            };
            let request = forge::stream(header, &ask.coins);
            let reply = self.hosts[turn].sign(&mut self.clients[turn].clone(), request).await;
            match reply.map_err(|status| status.message().to_owned())? {
                Reply::Complete(transaction) => return Ok((transaction, shared)),
                Reply::Shared(partly) => {
                    psbt.clone_from(&partly);
                    shared = Some(partly);
                }
            }
        }
        Err("two of two did not complete it".to_owned())
    }

    /// Stops the signers and has the officer's program check their logs, which hold every kind's signatures; of taproot's
    /// it says that it cannot verify them.
    pub(crate) fn close(&mut self) {
        for (host, taproot) in self.hosts.iter_mut().zip([true, false]) {
            host.signer.stop().unwrap();
            let said = host.verify_log().unwrap();
            assert!(said.contains("The log holds."), "{said}");
            assert_eq!(said.contains("more by taproot keys, not verified"), taproot, "{said}");
        }
    }
}
