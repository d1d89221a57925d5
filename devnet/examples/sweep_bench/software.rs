//! The bare loops beside a sealed account: the same child keys derived, tweaked, signed with and verified by
//! libsecp256k1 alone, in as many threads as the signer has workers. One does for each child what BIP-32 says, both steps
//! from the account: a public key, an HMAC and an addition each. The other does nothing twice: the branch and its public
//! key are there, and one HMAC and one addition are left. They have no token, no request and no log, and their keys are a
//! development ceremony's.

use std::path::Path;
use std::str::FromStr as _;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use bitcoin::NetworkKind;
use bitcoin::bip32::{ChildNumber, DerivationPath, Xpriv, Xpub};
use bitcoin::hashes::{Hash as _, HashEngine as _, Hmac, HmacEngine, sha512};
use bitcoin::key::TapTweak as _;
use bitcoin::secp256k1::{Keypair, Message, SECP256K1, Scalar, SecretKey};
use devnet::Stack;

use crate::bare::{Bare, Work};

/// How children are derived.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Derive {
    /// Both steps for each child.
    FromAccount,
    /// The last step only.
    FromBranch,
}

pub(crate) struct Software {
    derive: Derive,
    account: Xpriv,
    /// The account's external branch: the step down to it is done once, as the worker does.
    branch: Xpriv,
    /// The branch's public key.
    public: [u8; 33],
    sessions: u32,
    addresses: u32,
}

impl Software {
    pub(crate) fn new(
        stack: &Stack,
        derive: Derive,
        sessions: u32,
        addresses: u32,
    ) -> Result<Self> {
        let seed = seed(&[stack.share("deposits", 1), stack.share("deposits", 2)])?;
        let master = Xpriv::new_master(NetworkKind::Test, &seed)?;
        let account = master.derive_priv(SECP256K1, &DerivationPath::from_str("m/86h/1h/0h")?)?;
        let xpub = Xpub::from_priv(SECP256K1, &account).to_string();
        ensure!(stack.descriptors().deposits.contains(&xpub), "these shares are another account's");
        let branch = account.derive_priv(SECP256K1, &[ChildNumber::from_normal_idx(0)?])?;
        let public = branch.private_key.public_key(SECP256K1).serialize();
        let this = Self { derive, account, branch, public, sessions, addresses };
        let child = branch.derive_priv(SECP256K1, &[ChildNumber::from_normal_idx(1)?])?;
        ensure!(this.child(1)? == child.private_key, "the bare loop derives other keys");
        Ok(this)
    }

    fn child(&self, index: u32) -> Result<SecretKey> {
        let Self { account, branch, .. } = self;
        if self.derive == Derive::FromBranch {
            let at = (branch.private_key, branch.chain_code.to_bytes());
            return Ok(step(at, &self.public, index)?.0);
        }
        let at = (account.private_key, account.chain_code.to_bytes());
        let public = |key: &SecretKey| key.public_key(SECP256K1).serialize();
        let branch = step(at, &public(&at.0), 0)?;
        Ok(step(branch, &public(&branch.0), index)?.0)
    }

    /// Children one after the other while there is work; how many signatures verified.
    fn keep_busy(&self, work: &Work) -> Result<u32> {
        let mut done = 0_u32;
        while let Some((first, count)) = work.take() {
            self.sign(first, count)?;
            done = done.saturating_add(count);
        }
        Ok(done)
    }

    /// By the children from the `first` on, around from the first when they end.
    fn sign(&self, first: u32, count: u32) -> Result<()> {
        for number in (first..).take(usize::try_from(count)?) {
            let index = number.checked_rem(self.addresses).context("no addresses")?;
            let pair = Keypair::from_secret_key(SECP256K1, &self.child(index)?);
            let pair = pair.tap_tweak(SECP256K1, None).to_keypair();
            let digest = Message::from_digest([0xb5; 32]);
            let mut aux = [0; 32];
            getrandom::fill(&mut aux).map_err(|error| anyhow::anyhow!("no randomness: {error}"))?;
            let signature = SECP256K1.sign_schnorr_with_aux_rand(&digest, &pair, &aux);
            SECP256K1.verify_schnorr(&signature, &digest, &pair.x_only_public_key().0)?;
        }
        Ok(())
    }
}

impl Bare for Software {
    fn name(&self) -> &str {
        match self.derive {
            Derive::FromAccount => "libsecp256k1 deriving from the account, signing and verifying",
            Derive::FromBranch => "the same deriving from the branch, which is there already",
        }
    }

    fn run(&mut self, count: u32) -> Result<(u32, Duration)> {
        let work = Work::new(count, self.sessions);
        let begin = Instant::now();
        let (this, work) = (&*self, &work);
        let done = thread::scope(|scope| {
            let threads: Vec<_> =
                (0..this.sessions).map(|_| scope.spawn(move || this.keep_busy(work))).collect();
            let joined = threads
                .into_iter()
                .map(|thread| thread.join().map_err(|_| anyhow::anyhow!("a thread panicked"))?);
            joined.sum::<Result<u32>>()
        })?;
        Ok((done, begin.elapsed()))
    }
}

/// One step of BIP-32 that is not hardened.
fn step(
    (key, chain): (SecretKey, [u8; 32]),
    public: &[u8; 33],
    index: u32,
) -> Result<(SecretKey, [u8; 32])> {
    let mut mac = HmacEngine::<sha512::Hash>::new(&chain);
    mac.input(public);
    mac.input(&index.to_be_bytes());
    let mac = Hmac::from_engine(mac).to_byte_array();
    let (tweak, chain) = mac.split_first_chunk().context("a short HMAC")?;
    Ok((key.add_tweak(&Scalar::from_be_bytes(*tweak)?)?, chain.try_into()?))
}

fn seed(shares: &[impl AsRef<Path>]) -> Result<Vec<u8>> {
    let mut recovery = slip39::Recovery::new();
    for share in shares {
        let words = std::fs::read_to_string(share)?;
        recovery.add(slip39::Mnemonic::parse(words.trim())?)?;
    }
    Ok(recovery.recover(&slip39::Passphrase::none())?.to_vec())
}
