//! The account again, from shares: to prove that they are good, or to make its bundle when none is left. It never
//! writes the seed, and a drill writes nothing at all.

use std::str::FromStr as _;

use bitcoin::bip32::ChildNumber;
use bitcoin::{Address, CompressedPublicKey, KnownHrp};
use bundle::{Bundle, Fields, Header, Kind, Network, Scheme, Script};
use miniscript::{Descriptor, DescriptorPublicKey};
use secp256k1::SECP256K1;
use slip39::{Passphrase, Recovery};

use crate::Error;
use crate::account::Account;
use crate::addresses::first;
use crate::create::{Made, Plan, make};
use crate::inspect::Description;
use crate::transcript::Transcript;

/// Children of a branch whose addresses a drill derives both ways.
const TRIED: u32 = 20;

impl Account {
    /// Joins shares and derives the account. A wrong passphrase gives another account, not an error: compare it.
    ///
    /// # Errors
    /// [`Error::Shares`] when there are too few or they do not fit together, [`Error::NoKey`].
    pub fn restore(
        shares: &Recovery,
        passphrase: &Passphrase,
        script: Script,
        network: Network,
        account: u32,
    ) -> Result<Self, Error> {
        Self::from_seed(&shares.recover(passphrase)?, script, network, account)
    }

    /// The account's watch-only descriptor.
    ///
    /// # Errors
    /// [`Error::NoKey`] when the account has no place in the tree.
    pub fn descriptor(&self) -> Result<String, Error> {
        Ok(self.facts()?.descriptor().to_owned())
    }

    /// A header of this account for no token in particular.
    fn facts(&self) -> Result<Header, Error> {
        let scheme = Scheme::SealedAesGcm;
        Ok(Header::new(Fields {
            kind: Kind { scheme, script: self.script() },
            network: self.network(),
            account: self.number(),
            xpub: self.xpub(),
            master: self.master_fingerprint(),
            wrapping: [0; 32],
            external: 1,
            change: 0,
            blob_len: scheme.blob_len(384),
        })?)
    }
}

/// What a drill has proven.
#[derive(Debug)]
pub struct Drilled {
    /// The descriptor, the same as expected.
    pub descriptor: String,
    /// The first addresses of the external and of the change branch.
    pub addresses: [Vec<String>; 2],
    /// What was proven, signed by the account; see [`crate::transcript`].
    pub transcript: String,
}

/// Proves that the account restored from shares is the one of `descriptor`, and that its private keys open the
/// addresses that the descriptor gives. Of a multisig that may be the key of this cosigner, or the whole wallet's
/// descriptor. It writes nothing.
///
/// # Errors
/// [`Error::OtherAccount`], [`Error::SelfCheck`].
pub fn drill(account: &Account, descriptor: &str) -> Result<Drilled, Error> {
    let header = account.facts()?;
    let expected = descriptor.trim();
    let whole = account.script() == Script::WshCosigner && shares_in(expected, &header);
    if header.descriptor() != expected && !whole {
        let ours = header.descriptor().to_owned();
        return Err(Error::OtherAccount { ours, expected: shown(expected) });
    }
    let addresses = [addresses(account, &header, false)?, addresses(account, &header, true)?];
    let mut transcript = Transcript::of("drill");
    transcript.note("xpub", &header.fields().xpub.to_string());
    transcript.note("descriptor", expected);
    transcript
        .note("proven", &format!("the shares give it, and {TRIED} addresses of both branches"));
    let transcript = transcript.sign(account)?;
    Ok(Drilled { descriptor: expected.to_owned(), addresses, transcript })
}

/// What was to be a descriptor or a cosigner's key, if it is one. It may be a private one, or a share: the wrong file.
fn shown(expected: &str) -> String {
    let is_public = Descriptor::<DescriptorPublicKey>::from_str(expected).is_ok()
        || DescriptorPublicKey::from_str(expected).is_ok();
    match is_public {
        true => expected.to_owned(),
        false => "something that is no descriptor of public keys (see that it is the right file)"
            .to_owned(),
    }
}

/// Whether a cosigner's key is one of the keys of a whole wallet's descriptor, once.
fn shares_in(wallet: &str, header: &Header) -> bool {
    // The checksum is not asked for by the parser.
    let parsed = Descriptor::<DescriptorPublicKey>::from_str(wallet);
    let ours = DescriptorPublicKey::from_str(header.descriptor());
    match (parsed, ours) {
        (Ok(whole @ Descriptor::Wsh(_)), Ok(ours)) if wallet.contains('#') => {
            whole.iter_pk().filter(|key| *key == ours).count() == 1
        }
        _ => false,
    }
}

fn addresses(account: &Account, header: &Header, change: bool) -> Result<Vec<String>, Error> {
    let hrp = match header.fields().network {
        Network::Bitcoin => KnownHrp::Mainnet,
        Network::Testnet4 | Network::Signet => KnownHrp::Testnets,
        Network::Regtest => KnownHrp::Regtest,
    };
    let kind = header.fields().network.kind();
    let (private, public) = (account.branch(change)?, header.branch(change)?);
    let mut addresses = Vec::new();
    for index in 0..TRIED {
        let step = ChildNumber::from_normal_idx(index).map_err(|_| Error::NoKey)?;
        let key = private.child(step)?.public_key();
        if public.public_key(index)? != key {
            return Err(Error::SelfCheck { change, index });
        }
        let single = CompressedPublicKey(key);
        addresses.push(match account.script() {
            Script::Wpkh => Address::p2wpkh(&single, hrp).to_string(),
            Script::ShWpkh => Address::p2shwpkh(&single, kind).to_string(),
            Script::Pkh => Address::p2pkh(single, kind).to_string(),
            Script::Tr => {
                Address::p2tr(SECP256K1, key.x_only_public_key().0, None, hrp).to_string()
            }
            // Its addresses hang on the other cosigners' keys as well; its own keys can be compared.
            Script::WshCosigner => single.to_string(),
        });
    }
    Ok(addresses)
}

/// What `ceremony verify` found, signed by the account that shares gave back: proof that whoever holds them looked at
/// this very bundle.
///
/// # Errors
/// [`Error::OtherAccount`] when the shares are of another account than the bundle.
pub fn attest_verified(account: &Account, verified: &Bundle) -> Result<String, Error> {
    let header = verified.header();
    require_same(header, account)?;
    let mut transcript = Transcript::of("verify");
    transcript.text(&Description(header).to_string());
    transcript.note("bundle", &hex::encode(verified.digest()));
    for (branch, addresses) in ["external", "change"].iter().zip(first(header, 3)?) {
        for (index, address) in addresses.iter().enumerate() {
            transcript.note(&format!("{branch} {index}"), address);
        }
    }
    transcript.note("verified", "every record, its public key, and the account's signature");
    transcript.sign(account)
}

/// Writes a bundle of an account restored from shares, as the plan says.
///
/// # Errors
/// [`Error`]; then no file is left behind.
pub fn rebuild(plan: &Plan, account: Account, on_record: impl FnMut()) -> Result<Made, Error> {
    make(plan, Transcript::of("restore"), || Ok((account, None)), None, on_record)
}

/// The account is the one of a bundle.
pub(crate) fn require_same(before: &Header, account: &Account) -> Result<(), Error> {
    drill(account, before.descriptor()).map(|_| ())
}
