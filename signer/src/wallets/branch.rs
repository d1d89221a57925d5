//! One branch of a wallet, ready to derive: for an index its script, the scripts that satisfy it, and its public keys.
//! It never holds a private key, and never says which of the keys are ours.

use bitcoin::bip32::{ChildNumber, DerivationPath, Fingerprint, KeySource, Xpub};
use bitcoin::key::TapTweak as _;
use bitcoin::opcodes::all::OP_CHECKMULTISIG;
use bitcoin::script::Builder;
use bitcoin::{CompressedPublicKey, ScriptBuf};
use miniscript::descriptor::{DescriptorPublicKey, ShInner, SinglePubKey, WshInner};
use miniscript::{Descriptor, ForEachKey as _};
use secp256k1::{PublicKey, SECP256K1, XOnlyPublicKey};

use super::script::ScriptKind;

/// What an index of a branch is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Place {
    /// The output script.
    pub script: ScriptBuf,
    /// The redeem script, for P2SH.
    pub redeem: Option<ScriptBuf>,
    /// The witness script, for P2WSH.
    pub witness: Option<ScriptBuf>,
    /// Every public key, in the descriptor's order.
    pub keys: Vec<PublicKey>,
    /// The key that signs by key path, for P2TR.
    pub output: Option<XOnlyPublicKey>,
}

/// One branch. The steps down to it are done once, so that a child costs one HMAC and one point addition a key.
#[derive(Clone, Debug)]
pub(super) struct Branch {
    kind: ScriptKind,
    keys: Vec<Key>,
    descriptor: Box<Descriptor<DescriptorPublicKey>>,
}

/// A key of the descriptor, on one branch.
#[derive(Clone, Debug)]
enum Key {
    Chain(Chain),
    /// The same at every index.
    Fixed(PublicKey, KeySource),
}

/// The keys of one cosigner on one branch.
#[derive(Clone, Debug)]
struct Chain {
    xpub: Xpub,
    master: Fingerprint,
    path: DerivationPath,
}

impl Branch {
    pub(super) fn new(descriptor: Descriptor<DescriptorPublicKey>) -> Result<Self, String> {
        let kind = kind(&descriptor)?;
        let mut keys = Vec::new();
        if kind != ScriptKind::Other {
            let mut failed = None;
            let _all = descriptor.for_each_key(|key| match Key::new(key) {
                Ok(key) => {
                    keys.push(key);
                    true
                }
                Err(error) => {
                    failed = Some(error);
                    false
                }
            });
            failed.map_or(Ok(()), Err)?;
        }
        let branch = Self { kind, keys, descriptor: Box::new(descriptor) };
        let mut first = branch.keys.iter().map(Key::any).collect::<Vec<_>>();
        first.sort_unstable();
        first.dedup();
        if first.len() != branch.keys.len() {
            return Err("it has one key twice".to_owned());
        }
        Ok(branch)
    }

    pub(super) fn kind(&self) -> ScriptKind {
        self.kind
    }

    /// How many keys there are.
    pub(super) fn key_count(&self) -> usize {
        self.keys.len()
    }

    /// Whether another index is another script. What is not signed here is derived all the same.
    pub(super) fn is_ranged(&self) -> bool {
        let fixed = |key: &Key| matches!(key, Key::Fixed(..));
        self.keys.is_empty() || !self.keys.iter().all(fixed)
    }

    /// Keys that are the same at every index, with their places.
    pub(super) fn fixed(&self) -> Vec<(usize, PublicKey)> {
        let fixed = |(position, key): (usize, &Key)| match key {
            Key::Fixed(key, _) => Some((position, *key)),
            Key::Chain(_) => None,
        };
        self.keys.iter().enumerate().filter_map(fixed).collect()
    }

    /// The output script at an index, of every kind.
    pub(super) fn script(&self, index: u32) -> Option<ScriptBuf> {
        if self.kind != ScriptKind::Other {
            return self.place(index).map(|place| place.script);
        }
        let definite = self.descriptor.at_derivation_index(index).ok()?;
        Some(definite.script_pubkey())
    }

    /// Everything at an index, for kinds that can be signed. Without extended keys there is one index.
    pub(super) fn place(&self, index: u32) -> Option<Place> {
        if index != 0 && !self.is_ranged() {
            return None;
        }
        let keys = self.keys.iter().map(|key| key.at(index)).collect::<Option<Vec<_>>>()?;
        let single = |key: &PublicKey| CompressedPublicKey(*key);
        let bare = |script| Some((script, None, None));
        let mut output = None;
        let (script, redeem, witness) = match (self.kind, &keys[..]) {
            (ScriptKind::P2wpkh, [key]) => bare(ScriptBuf::new_p2wpkh(&single(key).wpubkey_hash())),
            (ScriptKind::P2pkh, [key]) => bare(ScriptBuf::new_p2pkh(&single(key).pubkey_hash())),
            (ScriptKind::P2shP2wpkh, [key]) => {
                let redeem = ScriptBuf::new_p2wpkh(&single(key).wpubkey_hash());
                Some((redeem.to_p2sh(), Some(redeem), None))
            }
            (ScriptKind::P2tr, [key]) => {
                let (tweaked, _parity) = key.x_only_public_key().0.tap_tweak(SECP256K1, None);
                output = Some(tweaked.to_x_only_public_key());
                bare(ScriptBuf::new_p2tr_tweaked(tweaked))
            }
            (ScriptKind::P2wshSortedMulti { needed, .. }, _) => {
                let witness = sorted_multi(needed, &keys);
                Some((witness.to_p2wsh(), None, Some(witness)))
            }
            _ => None,
        }?;
        Some(Place { script, redeem, witness, keys, output })
    }

    /// Which of the descriptor's keys this extended key, at the branch, is.
    pub(super) fn position(&self, xpub: &Xpub) -> Option<usize> {
        self.keys.iter().position(|key| matches!(key, Key::Chain(chain) if chain.xpub == *xpub))
    }

    /// Where the descriptor says that the key at `position` and `index` comes from.
    pub(super) fn source(&self, position: usize, index: u32) -> Option<KeySource> {
        match self.keys.get(position)? {
            Key::Chain(chain) => {
                let step = ChildNumber::from_normal_idx(index).ok()?;
                Some((chain.master, chain.path.child(step)))
            }
            Key::Fixed(_, source) => Some(source.clone()),
        }
    }
}

impl Key {
    fn new(key: &DescriptorPublicKey) -> Result<Self, String> {
        let DescriptorPublicKey::Single(single) = key else {
            return Chain::new(key).map(Self::Chain);
        };
        let SinglePubKey::FullKey(plain) = &single.key else {
            return Err("it has a key without its parity".to_owned());
        };
        // A plain key without an origin is its own master, as everybody's PSBTs have it.
        let path = single.origin.as_ref().map(|(_, path)| path.clone()).unwrap_or_default();
        Ok(Self::Fixed(plain.inner, (key.master_fingerprint(), path)))
    }

    /// Tells keys of one branch apart.
    fn any(&self) -> PublicKey {
        match self {
            Self::Chain(chain) => chain.xpub.public_key,
            Self::Fixed(key, _) => *key,
        }
    }

    fn at(&self, index: u32) -> Option<PublicKey> {
        match self {
            Self::Chain(chain) => chain.child(index),
            Self::Fixed(key, _) => Some(*key),
        }
    }
}

impl Chain {
    fn new(key: &DescriptorPublicKey) -> Result<Self, String> {
        let DescriptorPublicKey::XPub(key) = key else {
            return Err("it has a key that is not an extended one".to_owned());
        };
        let xpub = key.xkey.derive_pub(SECP256K1, &key.derivation_path);
        let xpub = xpub.map_err(|error| error.to_string())?;
        let (master, path) = match &key.origin {
            Some((master, path)) => (*master, path.extend(&key.derivation_path)),
            None => (key.xkey.fingerprint(), key.derivation_path.clone()),
        };
        Ok(Self { xpub, master, path })
    }

    /// The public key that BIP-32 puts at `index`.
    fn child(&self, index: u32) -> Option<PublicKey> {
        let step = ChildNumber::from_normal_idx(index).ok()?;
        let (tweak, _) = self.xpub.ckd_pub_tweak(step).ok()?;
        self.xpub.public_key.add_exp_tweak(SECP256K1, &tweak.into()).ok()
    }
}

fn kind(descriptor: &Descriptor<DescriptorPublicKey>) -> Result<ScriptKind, String> {
    Ok(match descriptor {
        Descriptor::Wpkh(_) => ScriptKind::P2wpkh,
        Descriptor::Pkh(_) => ScriptKind::P2pkh,
        Descriptor::Sh(sh) if matches!(sh.as_inner(), ShInner::Wpkh(_)) => ScriptKind::P2shP2wpkh,
        Descriptor::Wsh(wsh) => match wsh.as_inner() {
            WshInner::SortedMulti(multi) => {
                let small =
                    |n: usize| u8::try_from(n).map_err(|_| "it has too many keys".to_owned());
                ScriptKind::P2wshSortedMulti { needed: small(multi.k())?, keys: small(multi.n())? }
            }
            WshInner::Ms(_) => ScriptKind::Other,
        },
        Descriptor::Tr(tr) if tr.tap_tree().is_none() => ScriptKind::P2tr,
        _ => ScriptKind::Other,
    })
}

/// BIP-67: keys in the order of their bytes.
fn sorted_multi(needed: u8, keys: &[PublicKey]) -> ScriptBuf {
    let mut bytes: Vec<[u8; 33]> = keys.iter().map(PublicKey::serialize).collect();
    bytes.sort_unstable();
    let begun = Builder::new().push_int(i64::from(needed));
    let count = i64::try_from(bytes.len()).unwrap_or(i64::MAX);
    bytes
        .iter()
        .fold(begun, |script, key| script.push_slice(key))
        .push_int(count)
        .push_opcode(OP_CHECKMULTISIG)
        .into_script()
}
