//! Every kind of script from bytes to a finished transaction, which miniscript's interpreter judges, and the lies that
//! only some kinds can be told. The keys are in the test's hands here instead of a token's.

use std::io::Cursor;
use std::str::FromStr as _;

use bitcoin::bip32::{ChildNumber, DerivationPath, Fingerprint, Xpriv, Xpub};
use bitcoin::psbt::Psbt;
use bitcoin::sighash::{Prevouts, SighashCache};
use bitcoin::{NetworkKind, ScriptBuf, Transaction, TxOut};
use bundle::{Fields, Header, Kind, Network, Record, Scheme, Script, Writer};
use miniscript::interpreter::Interpreter;
use policy::names::{ClientName, WalletName};
use secp256k1::{Keypair, Message, PublicKey, SECP256K1, Scalar, SecretKey};
use signer::ledger::nonces::{Nonces, Points, Reuse};
use signer::records::{Records, bundle_path};
use signer::refusal::{Reason, Refusal};
use signer::request::signing::Finished;
use signer::request::{Draft, SigningRequest, asked};
use signer::token::Signature;
use signer::wallets::Wallets;

use crate::Case;
use crate::common::{Coin, Descriptors, coin, own, psbt, stranger};

/// One of our accounts or a cosigner's, by its seed.
struct Holder {
    master: Xpriv,
    account: Xpriv,
    header: Header,
}

fn holder(seed: u8, script: Script) -> Holder {
    let master = Xpriv::new_master(NetworkKind::Test, &[seed; 32]).unwrap();
    let path: DerivationPath = script.account_path(Network::Regtest, 0).unwrap().into();
    let account = master.derive_priv(SECP256K1, &path).unwrap();
    let (scheme, [external, change]) = match script {
        Script::Tr => (Scheme::SealedAesGcm, [1, 0]),
        _ => (Scheme::RsaOaepSha1, [8, 4]),
    };
    let header = Header::new(Fields {
        kind: Kind { scheme, script },
        network: Network::Regtest,
        account: 0,
        xpub: Xpub::from_priv(SECP256K1, &account),
        master: master.fingerprint(SECP256K1),
        wrapping: [9; 32],
        external,
        change,
        blob_len: scheme.blob_len(256),
    })
    .unwrap();
    Holder { master, account, header }
}

impl Holder {
    /// Its bundle as the signer keeps one, with blobs that no token ever opens.
    fn records(&self, folder: &std::path::Path) -> Records {
        let mut writer = Writer::new(Cursor::new(Vec::new()), self.header.clone()).unwrap();
        let Fields { external, change, blob_len, .. } = *self.header.fields();
        for (change, count) in [(false, external), (true, change)] {
            for index in 0..count {
                let public_key = self.header.branch(change).unwrap().public_key(index).unwrap();
                let wrapped = vec![1; usize::from(blob_len)];
                writer.push(&Record { change, index, public_key, wrapped }).unwrap();
            }
        }
        let sign = |digest| -> Result<_, bundle::Error> {
            let pair = Keypair::from_secret_key(SECP256K1, &self.account.private_key);
            Ok(SECP256K1.sign_schnorr_no_aux_rand(&Message::from_digest(digest), &pair))
        };
        let (out, digest) = writer.finish(sign).unwrap();
        let path = bundle_path(folder, digest);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, out.into_inner()).unwrap();
        Records::open(&path, digest).unwrap()
    }

    /// What its token would give for this PSBT, made by another signer than ours.
    fn sign(&self, psbt: &Psbt) -> Psbt {
        let mut signed = psbt.clone();
        signed.sign(&self.master, SECP256K1).unwrap();
        signed
    }
}

/// A wallet, who signs for it here, and who elsewhere.
pub(crate) struct Scene {
    wallets: Descriptors,
    ours: Holder,
    other: Option<Holder>,
    folder: tempfile::TempDir,
}

impl Scene {
    pub(crate) fn single(script: Script) -> Self {
        let ours = holder(21, script);
        let deposits = ours.header.descriptor().to_owned();
        Self::of(deposits, ours, None)
    }

    pub(crate) fn shared(needed: usize) -> Self {
        let [ours, other, third] = [21, 22, 23].map(|seed| holder(seed, Script::WshCosigner));
        let keys = [&ours, &other, &third].map(|holder| holder.header.descriptor()).join(",");
        let text = format!("wsh(sortedmulti({needed},{keys}))");
        let parsed = miniscript::Descriptor::<miniscript::DescriptorPublicKey>::from_str(&text);
        Self::of(parsed.unwrap().to_string(), ours, Some(other))
    }

    fn of(deposits: String, ours: Holder, other: Option<Holder>) -> Self {
        let wallets = Descriptors { deposits, ..Descriptors::fixed() };
        Self { wallets, ours, other, folder: tempfile::tempdir().unwrap() }
    }

    fn coins(&self) -> Vec<Coin> {
        let wallet = &self.wallets.deposits;
        vec![coin(wallet, false, 3, 60_000, 1, 2), coin(wallet, true, 0, 50_000, 2, 1)]
    }

    /// A sweep with some change, and with every origin, as the watcher writes it.
    pub(crate) fn psbt(&self) -> Psbt {
        let deposits = &self.wallets.deposits;
        let outs = [own(&self.wallets.cold, false, 0, 70_000), own(deposits, true, 1, 38_000)];
        let mut psbt = psbt(&self.coins(), &outs);
        let all = miniscript::Descriptor::<miniscript::DescriptorPublicKey>::from_str(deposits);
        let branches = all.unwrap().into_single_descriptors().unwrap();
        let coins = self.coins();
        for (fields, coin) in psbt.inputs.iter_mut().zip(&coins) {
            let at = branches[usize::from(coin.change)].at_derivation_index(coin.index).unwrap();
            fields.bip32_derivation.clear();
            miniscript::psbt::PsbtInputExt::update_with_descriptor_unchecked(fields, &at).unwrap();
        }
        psbt
    }

    fn wallets(&self) -> Wallets {
        let case = self.case(&self.psbt());
        let mut wallets = Wallets::new(&case.rules()).unwrap();
        let name = WalletName::parse("deposits").unwrap();
        wallets.attach(&name, self.ours.records(self.folder.path())).unwrap();
        wallets
    }

    fn case(&self, psbt: &Psbt) -> Case {
        Case {
            wallets: self.wallets.clone(),
            header: crate::common::header("key-1", "sweep", "deposits", psbt),
            parents: self.coins().iter().map(Coin::parent_bytes).collect(),
            proven: [8, 4],
        }
    }

    fn parse(&self, psbt: &Psbt) -> Result<SigningRequest, Refusal> {
        self.parse_bytes(psbt.serialize())
    }

    /// The same for what the library would not write.
    pub(crate) fn parse_bytes(&self, psbt: Vec<u8>) -> Result<SigningRequest, Refusal> {
        let (mut case, wallets) = (self.case(&self.psbt()), self.wallets());
        case.header.psbt = psbt;
        let rules = case.rules();
        let asked = asked(ClientName::parse("watcher-1").unwrap(), "key-1")?;
        let mut draft = Draft::read(asked, &case.header, &rules, &wallets)?;
        for parent in &case.parents {
            draft.add_parent(parent)?;
        }
        draft.prove(&rules, &wallets, case.proven)
    }

    /// What the signer makes of our token's signatures.
    fn finish(&self, request: &SigningRequest) -> Finished {
        request.jobs().unwrap();
        request.finish(&self.made()).unwrap()
    }

    fn made(&self) -> Vec<Signature> {
        let mut plain = self.psbt();
        for (fields, coin) in plain.inputs.iter_mut().zip(self.coins()) {
            fields.non_witness_utxo = Some(coin.parent.clone());
        }
        let signed = self.ours.sign(&plain);
        let made = signed.inputs.iter().map(|input| {
            assert_eq!(input.partial_sigs.len(), 1);
            Signature::Ecdsa(input.partial_sigs.values().next().unwrap().signature)
        });
        made.collect()
    }

    /// Judged by miniscript's interpreter, signature by signature; and no larger than it was said to get.
    fn judge(&self, transaction: &Transaction, request: &SigningRequest) {
        let spent: Vec<TxOut> = self.coins().iter().map(Coin::output).collect();
        for (position, input) in transaction.input.iter().enumerate() {
            let script = &spent[position].script_pubkey;
            let time = transaction.lock_time;
            let judge = Interpreter::from_txdata(
                script,
                &input.script_sig,
                &input.witness,
                input.sequence,
                time,
            );
            let judge = judge.unwrap();
            let prevouts = Prevouts::All(&spent);
            let met: Vec<_> = judge.iter(SECP256K1, transaction, position, &prevouts).collect();
            assert!(!met.is_empty() && met.iter().all(Result::is_ok), "input {position}: {met:?}");
        }
        let (said, is) = (request.intent().fee.vsize, u64::try_from(transaction.vsize()).unwrap());
        assert!(is <= said && said <= is + 4, "{is} vbytes, said to be {said}");
    }
}

/// What only a taproot input can claim, each refused for its own reason.
#[test]
#[allow(clippy::too_many_lines, reason = "a table of lies")]
fn lies_about_taproot_are_refused_for_their_own_reason() {
    use bitcoin::taproot::{ControlBlock, LeafVersion, TapLeafHash, TapNodeHash, TaprootBuilder};
    let key = || foreign().x_only_public_key().0;
    let leaf = || stranger(3);
    let tree = || {
        let builder = TaprootBuilder::new().add_leaf(0, leaf()).unwrap();
        builder.finalize(SECP256K1, key()).unwrap()
    };
    let control =
        || -> ControlBlock { tree().control_block(&(leaf(), LeafVersion::TapScript)).unwrap() };
    let hash = || TapLeafHash::from_script(&leaf(), LeafVersion::TapScript);
    let signature = |psbt: &Psbt, sighash_type| {
        let pair = Keypair::from_seckey_slice(SECP256K1, &[77; 32]).unwrap();
        let digest = Message::from_digest([u8::try_from(psbt.inputs.len()).unwrap(); 32]);
        let signature = SECP256K1.sign_schnorr_no_aux_rand(&digest, &pair);
        bitcoin::taproot::Signature { signature, sighash_type }
    };
    type Claim<'a> = (&'static str, Box<dyn Fn(&mut Psbt) + 'a>, Reason);
    let asks = |name, kind: bitcoin::TapSighashType| -> Claim<'_> {
        let ask = move |p: &mut Psbt| p.inputs[1].sighash_type = Some(kind.into());
        (name, Box::new(ask), Reason::UnknownSighash)
    };
    let claim =
        |name, claim: fn(&mut Psbt), reason| -> Claim<'_> { (name, Box::new(claim), reason) };
    use bitcoin::TapSighashType as Kind;
    let mut lies = vec![
        asks("SIGHASH_ALL", Kind::All),
        asks("SIGHASH_NONE", Kind::None),
        asks("SIGHASH_SINGLE", Kind::Single),
        asks("SIGHASH_ALL of one input", Kind::AllPlusAnyoneCanPay),
        asks("SIGHASH_NONE of one input", Kind::NonePlusAnyoneCanPay),
        asks("SIGHASH_SINGLE of one input", Kind::SinglePlusAnyoneCanPay),
        claim(
            "another account's path",
            |p| {
                let (_, source) = p.inputs[0].tap_key_origins.values_mut().next().unwrap();
                source.1 = "m/86h/1h/1h/0/3".parse().unwrap();
            },
            Reason::WrongOrigin,
        ),
        claim(
            "another master",
            |p| {
                let (_, source) = p.inputs[0].tap_key_origins.values_mut().next().unwrap();
                source.0 = Fingerprint::from([1; 4]);
            },
            Reason::WrongOrigin,
        ),
        claim(
            "another index",
            |p| {
                let (_, source) = p.inputs[0].tap_key_origins.values_mut().next().unwrap();
                source.1 = "m/86h/1h/0h/0/4".parse().unwrap();
            },
            Reason::ForeignInput,
        ),
        claim("no origin", |p| p.inputs[0].tap_key_origins.clear(), Reason::ForeignInput),
        claim(
            "the internal key of the other input",
            |p| {
                p.inputs[0].tap_internal_key = p.inputs[1].tap_internal_key;
            },
            Reason::WrongOrigin,
        ),
        claim(
            "an ECDSA origin of a foreign key",
            |p| {
                let (_, source) = p.inputs[0].tap_key_origins.values().next().unwrap().clone();
                p.inputs[0].bip32_derivation.insert(foreign(), source);
            },
            Reason::WrongOrigin,
        ),
        claim(
            "a redeem script",
            |p| p.inputs[0].redeem_script = Some(stranger(3)),
            Reason::PsbtField,
        ),
        claim(
            "a witness script",
            |p| p.inputs[0].witness_script = Some(stranger(3)),
            Reason::PsbtField,
        ),
    ];
    lies.push((
        "a foreign internal key",
        Box::new(|p| p.inputs[0].tap_internal_key = Some(key())),
        Reason::WrongOrigin,
    ));
    lies.push((
        "a foreign key's origin",
        Box::new(|p| {
            let origin = p.inputs[0].tap_key_origins.values().next().unwrap().clone();
            p.inputs[0].tap_key_origins.insert(key(), origin);
        }),
        Reason::WrongOrigin,
    ));
    lies.push((
        "a leaf that our key is said to be in",
        Box::new(|p| {
            p.inputs[0].tap_key_origins.values_mut().next().unwrap().0.push(hash());
        }),
        Reason::WrongOrigin,
    ));
    lies.push((
        "a foreign leaf",
        Box::new(|p| {
            p.inputs[0].tap_scripts.insert(control(), (leaf(), LeafVersion::TapScript));
        }),
        Reason::PsbtField,
    ));
    lies.push((
        "a root of scripts",
        Box::new(|p| {
            p.inputs[0].tap_merkle_root = Some(TapNodeHash::from(hash()));
        }),
        Reason::PsbtField,
    ));
    lies.push((
        "a signature of a script path",
        Box::new(|p| {
            let made = signature(p, Kind::Default);
            p.inputs[0].tap_script_sigs.insert((key(), hash()), made);
        }),
        Reason::PsbtField,
    ));
    lies.push((
        "a signature of the key path",
        Box::new(|p| {
            p.inputs[0].tap_key_sig = Some(signature(p, Kind::Default));
        }),
        Reason::PsbtField,
    ));
    let scene = Scene::single(Script::Tr);
    for (name, lie, reason) in &lies {
        match edited(&scene, lie) {
            Ok(_) => panic!("{name}: was accepted"),
            Err(refusal) => assert_eq!(refusal.reason, *reason, "{name}: {refusal}"),
        }
    }
    assert_eq!(lies.len(), 21);
    assert!(edited(&scene, |_| ()).is_ok());
    assert!(edited(&scene, |p| p.inputs[0].sighash_type = Some(Kind::Default.into())).is_ok());
    let unknown = |p: &mut Psbt| {
        for (_, source) in p.inputs[0].tap_key_origins.values_mut() {
            source.0 = Fingerprint::default();
        }
    };
    assert!(edited(&scene, unknown).is_ok(), "a master that is not known is no lie");
    assert!(edited(&scene, |p| p.inputs[0].tap_internal_key = None).is_ok(), "it may be left out");
    // Taproot's fields on an input of another kind.
    let other = Scene::single(Script::Wpkh);
    let refusal = edited(&other, |p| p.inputs[0].tap_internal_key = Some(key())).unwrap_err();
    assert_eq!(refusal.reason, Reason::PsbtField, "{refusal}");
}

#[test]
fn every_single_key_kind_is_finished() {
    for script in [Script::Wpkh, Script::ShWpkh, Script::Pkh] {
        let scene = Scene::single(script);
        let mut psbt = scene.psbt();
        if script == Script::Pkh {
            psbt.inputs.iter_mut().for_each(|input| input.witness_utxo = None);
        }
        let request = scene.parse(&psbt).unwrap();
        let Finished::Complete(transaction) = scene.finish(&request) else {
            panic!("one key is all there is")
        };
        scene.judge(&transaction, &request);
    }
}

#[test]
fn a_multisig_goes_on_to_others_and_comes_back_whole() {
    let scene = Scene::shared(2);
    let request = scene.parse(&scene.psbt()).unwrap();
    let Finished::Shared(first) = scene.finish(&request) else { panic!("one of two is not all") };
    assert!(first.inputs.iter().all(|input| input.partial_sigs.len() == 1));
    // Another signer completes it and gives it back: its signatures are verified, ours are made again.
    let other = scene.other.as_ref().unwrap();
    let both = other.sign(&first);
    let request = scene.parse(&both).unwrap();
    let Finished::Complete(transaction) = scene.finish(&request) else { panic!("two of two") };
    scene.judge(&transaction, &request);
    // The other way round: the other signed first.
    let request = scene.parse(&other.sign(&scene.psbt())).unwrap();
    assert!(matches!(scene.finish(&request), Finished::Complete(_)));
}

#[test]
fn a_multisig_that_needs_one_is_finished_at_once() {
    let scene = Scene::shared(1);
    let request = scene.parse(&scene.psbt()).unwrap();
    let Finished::Complete(transaction) = scene.finish(&request) else { panic!("one of one") };
    scene.judge(&transaction, &request);
}

/// Signs every input with one and the same nonce, as a careless or hostile cosigner might: one half, whose inverse is two.
fn sign_with_one_nonce(holder: &Holder, psbt: &Psbt, coins: &[Coin]) -> Psbt {
    const HALF: &str = "7fffffffffffffffffffffffffffffff5d576e7357a4501ddfe92f46681b20a1";
    let point = SecretKey::from_str(HALF).unwrap().public_key(SECP256K1);
    let r: [u8; 32] = point.serialize()[1..].try_into().unwrap();
    let mut signed = psbt.clone();
    let mut cache = SighashCache::new(psbt.unsigned_tx.clone());
    for (position, (fields, coin)) in signed.inputs.iter_mut().zip(coins).enumerate() {
        let (digest, sighash_type) = psbt.sighash_ecdsa(position, &mut cache).unwrap();
        let steps = [u32::from(coin.change), coin.index];
        let path = steps.map(|index| ChildNumber::Normal { index });
        let key = holder.account.derive_priv(SECP256K1, &path).unwrap().private_key;
        // s = (digest + r * key) * 2
        let scalar = |bytes| Scalar::from_be_bytes(bytes).unwrap();
        let sum = key.mul_tweak(&scalar(r)).unwrap();
        let sum = sum.add_tweak(&scalar(*digest.as_ref())).unwrap();
        let s = sum.add_tweak(&scalar(sum.secret_bytes())).unwrap().secret_bytes();
        let mut signature = secp256k1::ecdsa::Signature::from_compact(&[r, s].concat()).unwrap();
        signature.normalize_s();
        let key = bitcoin::PublicKey::new(key.public_key(SECP256K1));
        let made = bitcoin::ecdsa::Signature { signature, sighash_type };
        fields.partial_sigs.insert(key, made);
    }
    signed
}

#[test]
fn a_cosigner_that_uses_a_nonce_twice_is_told_from_our_token() {
    let scene = Scene::shared(2);
    let (other, nonces) = (scene.other.as_ref().unwrap(), Nonces::default());
    let honest = scene.parse(&other.sign(&scene.psbt())).unwrap();
    assert_eq!(nonces.reuse(&honest.came_with()), None);
    let careless = sign_with_one_nonce(other, &scene.psbt(), &scene.coins());
    let request = scene.parse(&careless).unwrap();
    assert_eq!(nonces.reuse(&request.came_with()), Some(Reuse::Others), "before our token signs");
    // And where another request brought the nonce while our token signed.
    let made = scene.made();
    let Finished::Complete(transaction) = request.finish(&made).unwrap() else {
        panic!("two of two")
    };
    let ours = made.iter().map(Signature::to_compact);
    assert_eq!(nonces.reuse(&Points::of(&transaction).with_ours(ours)), Some(Reuse::Others));
}

fn edited(scene: &Scene, change: impl FnOnce(&mut Psbt)) -> Result<SigningRequest, Refusal> {
    let mut psbt = scene.psbt();
    change(&mut psbt);
    scene.parse(&psbt)
}

type Lie = (&'static str, Scene, fn(&Scene, &mut Psbt), Reason);

fn script_of(keys: &[PublicKey], needed: i64) -> ScriptBuf {
    let begun = bitcoin::script::Builder::new().push_int(needed);
    let count = i64::try_from(keys.len()).unwrap();
    let pushed =
        keys.iter().fold(begun, |script, key| script.push_key(&bitcoin::PublicKey::new(*key)));
    pushed.push_int(count).push_opcode(bitcoin::opcodes::all::OP_CHECKMULTISIG).into_script()
}

/// The keys of the first input's witness script, in its order.
fn keys(psbt: &Psbt) -> Vec<PublicKey> {
    let mut keys: Vec<PublicKey> = psbt.inputs[0].bip32_derivation.keys().copied().collect();
    keys.sort_by_key(PublicKey::serialize);
    keys
}

fn foreign() -> PublicKey {
    secp256k1::SecretKey::from_slice(&[77; 32]).unwrap().public_key(SECP256K1)
}

#[test]
#[allow(clippy::too_many_lines, reason = "a table of lies")]
fn lies_about_scripts_keys_and_signatures_are_refused_for_their_own_reason() {
    let p2sh = || Scene::single(Script::ShWpkh);
    let (p2wpkh, p2pkh) = (|| Scene::single(Script::Wpkh), || Scene::single(Script::Pkh));
    let multi = || Scene::shared(2);
    let lies: Vec<Lie> = vec![
        (
            "a wrong redeem script",
            p2sh(),
            |_, p| p.inputs[0].redeem_script = Some(stranger(3)),
            Reason::WrongScript,
        ),
        (
            "an empty redeem script",
            p2sh(),
            |_, p| p.inputs[1].redeem_script = Some(ScriptBuf::new()),
            Reason::WrongScript,
        ),
        (
            "a witness script for P2SH-P2WPKH",
            p2sh(),
            |_, p| p.inputs[0].witness_script = Some(stranger(3)),
            Reason::PsbtField,
        ),
        (
            "a redeem script for P2WPKH",
            p2wpkh(),
            |_, p| p.inputs[0].redeem_script = Some(stranger(3)),
            Reason::PsbtField,
        ),
        (
            "a redeem script for P2WSH",
            multi(),
            |_, p| p.inputs[0].redeem_script = Some(stranger(3)),
            Reason::PsbtField,
        ),
        ("a witness_utxo for P2PKH", p2pkh(), |_, _| (), Reason::PsbtField),
        (
            "k lowered",
            multi(),
            |_, p| p.inputs[0].witness_script = Some(script_of(&keys(p), 1)),
            Reason::WrongScript,
        ),
        (
            "a foreign key in the script",
            multi(),
            |_, p| {
                let mut keys = keys(p);
                keys[1] = foreign();
                p.inputs[0].witness_script = Some(script_of(&keys, 2));
            },
            Reason::WrongScript,
        ),
        (
            "keys not sorted",
            multi(),
            |_, p| {
                let mut keys = keys(p);
                keys.reverse();
                p.inputs[0].witness_script = Some(script_of(&keys, 2));
            },
            Reason::WrongScript,
        ),
        (
            "a key left out",
            multi(),
            |_, p| p.inputs[0].witness_script = Some(script_of(&keys(p)[..2], 2)),
            Reason::WrongScript,
        ),
        (
            "another index's script",
            multi(),
            |_, p| p.inputs[0].witness_script = p.inputs[1].witness_script.clone(),
            Reason::WrongScript,
        ),
        (
            "a foreign key's origin",
            multi(),
            |_, p| {
                let source = p.inputs[0].bip32_derivation.values().next().unwrap().clone();
                p.inputs[0].bip32_derivation.insert(foreign(), source);
            },
            Reason::WrongOrigin,
        ),
        (
            "another master",
            multi(),
            |_, p| {
                p.inputs[0].bip32_derivation.values_mut().next().unwrap().0 =
                    Fingerprint::from([1; 4]);
            },
            Reason::WrongOrigin,
        ),
        (
            "another account's path",
            p2wpkh(),
            |_, p| {
                p.inputs[0].bip32_derivation.values_mut().next().unwrap().1 =
                    "m/84h/1h/1h/0/3".parse().unwrap();
            },
            Reason::WrongOrigin,
        ),
        (
            "paths that disagree",
            multi(),
            |_, p| {
                p.inputs[0].bip32_derivation.values_mut().next().unwrap().1 =
                    "m/48h/1h/0h/2h/0/4".parse().unwrap();
            },
            Reason::ForeignInput,
        ),
        ("a signature on P2WPKH", p2wpkh(), |s, p| *p = s.ours.sign(p), Reason::PsbtField),
        (
            "a signature by a foreign key",
            multi(),
            |s, p| {
                *p = s.other.as_ref().unwrap().sign(p);
                let made = *p.inputs[0].partial_sigs.values().next().unwrap();
                p.inputs[0].partial_sigs.insert(bitcoin::PublicKey::new(foreign()), made);
            },
            Reason::WrongSignature,
        ),
        (
            "one key's signature as another's",
            multi(),
            |s, p| {
                *p = s.other.as_ref().unwrap().sign(p);
                let (key, made) = p.inputs[0].partial_sigs.pop_first().unwrap();
                let another = *keys(p).iter().find(|other| **other != key.inner).unwrap();
                p.inputs[0].partial_sigs.insert(bitcoin::PublicKey::new(another), made);
            },
            Reason::WrongSignature,
        ),
        (
            "another input's signature",
            multi(),
            |s, p| {
                *p = s.other.as_ref().unwrap().sign(p);
                let made = *p.inputs[1].partial_sigs.values().next().unwrap();
                p.inputs[0].partial_sigs.values_mut().for_each(|kept| *kept = made);
            },
            Reason::WrongSignature,
        ),
        (
            "a signature over less",
            multi(),
            |s, p| {
                *p = s.other.as_ref().unwrap().sign(p);
                let kept = p.inputs[0].partial_sigs.values_mut().next().unwrap();
                kept.sighash_type = bitcoin::EcdsaSighashType::None;
            },
            Reason::WrongSignature,
        ),
        (
            "a signature over another transaction",
            multi(),
            |s, p| {
                *p = s.other.as_ref().unwrap().sign(p);
                p.unsigned_tx.output[1].value -= bitcoin::Amount::from_sat(1);
            },
            Reason::WrongSignature,
        ),
    ];
    assert_eq!(lies.len(), 21);
    for (name, scene, lie, reason) in lies {
        match edited(&scene, |psbt| lie(&scene, psbt)) {
            Ok(_) => panic!("{name}: was accepted"),
            Err(refusal) => assert_eq!(refusal.reason, reason, "{name}: {refusal}"),
        }
    }
    assert!(edited(&multi(), |_| ()).is_ok());
    let unknown = |psbt: &mut Psbt| {
        for source in psbt.inputs[0].bip32_derivation.values_mut() {
            source.0 = Fingerprint::default();
        }
    };
    assert!(edited(&multi(), unknown).is_ok(), "a master that is not known is no lie");
}
