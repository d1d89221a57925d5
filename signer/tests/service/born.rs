//! Keys that were born in the token, from `signer token-key generate` to a finished transaction: in a multisig that
//! another cosigner completes, in one that two keys of the same token complete, and alone where the token was cloned. A
//! restart finds them by their public halves.

use std::collections::HashSet;
use std::str::FromStr as _;

use audit::entry::Event;
use audit::token_key::TokenKey;
use bitcoin::bip32::{DerivationPath, Xpriv, Xpub};
use bitcoin::hashes::Hash as _;
use bitcoin::psbt::Psbt;
use bitcoin::sighash::{Prevouts, SighashCache};
use bitcoin::{NetworkKind, Transaction, TxOut};
use miniscript::psbt::{PsbtExt as _, PsbtInputExt as _, PsbtOutputExt as _};
use miniscript::{Descriptor, DescriptorPublicKey};
use policy::names::KeyName;
use proto::{AddressClaim, AttestRequest, SignReply, StatusRequest, WalletStatus};
use secp256k1::ecdsa::Signature;
use secp256k1::{Message, PublicKey, SECP256K1};
use sha2::{Digest as _, Sha256};
use signer::born;
use signer::keys::{KeyError, set_born_state};
use signer::ledger::KeyState;
use signer::ledger::nonces::Points;
use signer::log::Clock;
use signer::start::{self, StartError};
use tonic::Status;

use crate::common::{
    Coin, Knobs, Out, coin, header, own, policy_signatures, policy_text, psbt, stranger, to,
};
use crate::faulty::prepare_faulty;
use crate::house::{House, said};
use crate::sweeping::{deposits, verify};

const EVERY: u32 = 1 << 31;

/// A cosigner who is not here.
fn other() -> (Xpriv, String) {
    let master = Xpriv::new_master(NetworkKind::Test, &[31; 32]).unwrap();
    let path = DerivationPath::from_str("m/48h/1h/0h/2h").unwrap();
    let xpub = Xpub::from_priv(SECP256K1, &master.derive_priv(SECP256K1, &path).unwrap());
    (master, format!("[{}/48h/1h/0h/2h]{xpub}/<0;1>/*", master.fingerprint(SECP256K1)))
}

fn checked(descriptor: &str) -> String {
    Descriptor::<DescriptorPublicKey>::from_str(descriptor).unwrap().to_string()
}

fn shared(ours: &[PublicKey], others: &[String]) -> String {
    let keys: Vec<String> = ours.iter().map(ToString::to_string).collect();
    checked(&format!("wsh(sortedmulti(2,{}))", [&keys, others].concat().join(",")))
}

/// `signer token-key generate` and `attest`, with the signer down.
async fn generated(house: &House, name: &str) -> (PublicKey, String) {
    let (config, name) = (&house.config, KeyName::parse(name).unwrap());
    let token = start::open_token(config, config.token.alone()).await.unwrap();
    let log = start::open_log(config, &token, Clock::system()).await.unwrap();
    let (settings, state) = (config.token.alone(), &config.state_dir);
    let mut out = Vec::new();
    let key = born::generate(&log, &settings, state, &name, &mut out).await.unwrap();
    assert!(String::from_utf8(out).unwrap().contains(&key.to_string()));
    let mut out = Vec::new();
    assert_eq!(born::generate(&log, &settings, state, &name, &mut out).await.unwrap(), key);
    assert!(String::from_utf8(out).unwrap().contains("(tier token): was there"));
    let document = born::attest(&log, &token, &settings, state, &name).await.unwrap();
    let mut out = Vec::new();
    born::list(&log, &mut out).unwrap();
    let list = String::from_utf8(out).unwrap();
    let line = list.lines().find(|line| line.starts_with(name.as_str())).unwrap();
    for part in [" token ", " active ", &key.to_string(), "no wallet"] {
        assert!(line.contains(part), "{line}");
    }
    log.close().await.unwrap();
    (key, document)
}

/// The house's policy, its next version, with the wallet `vault` of the tier `token`, and lanes that sweep it and pay
/// from it.
fn pinned(house: &House, version: u64, descriptor: &str, proof: Option<[u8; 32]>) {
    let knobs = Knobs { version, ..Knobs::default() };
    let text = policy_text(&house.descriptors, &knobs)
        .replace("attest = [\"deposits\", \"hot\"]", "attest = [\"deposits\", \"hot\", \"vault\"]")
        .replace("wallets = [\"deposits\"]", "wallets = [\"deposits\", \"vault\"]")
        .replace("wallets = [\"hot\"]", "wallets = [\"hot\", \"vault\"]");
    let proof = proof.map(|proof| format!("cloning_proof = \"{}\"\n", hex::encode(proof)));
    let proof = proof.unwrap_or_default();
    let wallet = format!(
        "[[wallet]]\nname = \"vault\"\ntier = \"token\"\ndescriptor = {descriptor:?}\nindex_window = 20\n{proof}"
    );
    let text = text.replacen("[[wallet]]", &format!("{wallet}[[wallet]]"), 1);
    std::fs::write(&house.config.policy, &text).unwrap();
    let signatures = house.config.policy.with_extension("toml.sig");
    std::fs::write(signatures, policy_signatures(&text)).unwrap();
}

/// With every origin, as miniscript writes them: the plain key is its own master.
fn with_origins(descriptor: &str, coins: &[Coin], outs: &[Out]) -> Psbt {
    let mut psbt = psbt(coins, outs);
    let all = Descriptor::<DescriptorPublicKey>::from_str(descriptor).unwrap();
    let branches = all.into_single_descriptors().unwrap();
    for (fields, coin) in psbt.inputs.iter_mut().zip(coins) {
        let branch = branches.get(usize::from(coin.change)).unwrap_or(&branches[0]);
        let at = branch.at_derivation_index(coin.index).unwrap();
        fields.bip32_derivation.clear();
        fields.update_with_descriptor_unchecked(&at).unwrap();
    }
    for (fields, out) in psbt.outputs.iter_mut().zip(outs) {
        let Some((_, branch, index)) = out.path else { continue };
        let Some(branch) = branches.get(usize::try_from(branch).unwrap()) else { continue };
        let at = branch.at_derivation_index(index).unwrap();
        if at.script_pubkey() == out.script {
            fields.bip32_derivation.clear();
            fields.update_with_descriptor_unchecked(&at).unwrap();
        }
    }
    psbt
}

async fn sweep(house: &House, key: &str, psbt: &Psbt, coins: &[Coin]) -> Result<SignReply, Status> {
    house.sign(header(key, "sweep", "vault", psbt), coins).await
}

async fn status(house: &House) -> WalletStatus {
    let mut client = house.client("watcher-1").await;
    let status = client.status(StatusRequest {}).await.unwrap().into_inner();
    status.wallets.into_iter().find(|wallet| wallet.name == "vault").unwrap()
}

/// Signed by the cosigner, finalised and judged by miniscript.
fn completed(answer: &SignReply, master: &Xpriv) -> (Psbt, Transaction) {
    let mut both = Psbt::deserialize(&answer.psbt).unwrap();
    both.sign(master, SECP256K1).unwrap();
    let finished = both.clone().finalize(SECP256K1).unwrap();
    finished.extract(SECP256K1).unwrap();
    (both, finished.extract(SECP256K1).unwrap())
}

fn vault_coins(descriptor: &str) -> Vec<Coin> {
    let one = |change, index, salt| coin(descriptor, change, index, 50_000, salt, 2);
    vec![one(false, 0, 301), one(false, 7, 302), one(true, 2, 303)]
}

#[tokio::test]
async fn a_token_key_signs_its_part_of_a_multisig_and_is_found_again() {
    let mut house = House::closed(&Knobs::default(), signer::config::Limits::default()).await;
    let (ours, document) = generated(&house, "vault-1").await;
    let (master, theirs) = other();
    let descriptor = shared(&[ours], &[theirs]);
    pinned(&house, 2, &descriptor, None);
    house.open().await;

    let shown = status(&house).await;
    assert_eq!((shown.tier.as_str(), shown.key_state.as_str()), ("token", "active"));
    assert_eq!((shown.external_proven, shown.change_proven), (EVERY, EVERY));
    assert_eq!(shown.script_type, "p2wsh-sortedmulti-2-of-2");
    let attested = TokenKey::verify(&document, &house.app().token.keys().attestation).unwrap();
    assert_eq!((attested.name.as_str(), attested.public_key), ("vault-1", ours.serialize()));
    assert!(attested.attributes.contains(&"CKA_NEVER_EXTRACTABLE true".to_owned()));

    let claim = AddressClaim { index: 0, customer_reference: "c".into(), expires_unix: 0 };
    let request = AttestRequest { wallet: "vault".into(), claims: vec![claim] };
    let answer = house.client("watcher-1").await.attest(request).await.unwrap().into_inner();
    assert_eq!(answer.attestations[0].tier, "token");

    let coins = vault_coins(&descriptor);
    // Change names all keys of the multisig as well; the plain one says nothing about the index.
    let outs = [own(&house.descriptors.cold, false, 0, 120_000), own(&descriptor, true, 1, 28_000)];
    let asked = with_origins(&descriptor, &coins, &outs);
    let counters = house.app().token.counters().await.unwrap();
    let answer = sweep(&house, "v1", &asked, &coins).await.unwrap();
    assert_eq!((answer.tier.as_str(), answer.transaction.is_empty()), ("token", true));
    let after = house.app().token.counters().await.unwrap();
    assert_eq!((after.signs - counters.signs, after.finds - counters.finds), (3, 0));
    assert_eq!((after.unwraps, after.destroys), (counters.unwraps, counters.destroys));

    let (both, transaction) = completed(&answer, &master);
    assert_eq!(transaction.compute_txid(), asked.unsigned_tx.compute_txid());
    // With the other's signatures it comes back whole.
    let whole = sweep(&house, "v2", &both, &coins).await.unwrap();
    let signed: Transaction = bitcoin::consensus::deserialize(&whole.transaction).unwrap();
    assert_eq!(signed.compute_txid(), transaction.compute_txid());

    house.close().await;
    house.open().await;
    let later: Vec<Coin> =
        (0..2).map(|n| coin(&descriptor, false, n, 60_000, 400 + u64::from(n), 1)).collect();
    let outs = [own(&house.descriptors.cold, false, 1, 118_000)];
    let asked = with_origins(&descriptor, &later, &outs);
    let answer = sweep(&house, "v3", &asked, &later).await.unwrap();
    completed(&answer, &master);

    let mut kinds = [0, 0, 0];
    for entry in house.entries(0).await {
        match entry.event {
            Event::TokenKeyMade { name, tier, public_key, attributes, .. } => {
                assert_eq!((name.as_str(), tier.as_str()), ("vault-1", "token"));
                assert_eq!(public_key, ours.serialize());
                assert_eq!(attributes, attested.attributes);
                kinds[0] += 1;
            }
            Event::TokenWalletBound { wallet, tier, keys, cloning_proof, .. } => {
                assert_eq!((wallet.as_str(), tier.as_str()), ("vault", "token"));
                assert_eq!((keys, cloning_proof), (vec![ours.serialize().to_vec()], None));
                kinds[1] += 1;
            }
            Event::Spend(spend) if spend.wallet == "vault" => {
                let by =
                    format!("keys: vault is token; {} inputs by {ours} at 0/", spend.slots.len());
                assert!(spend.trace[0].starts_with(&by), "{}", spend.trace[0]);
                kinds[2] += 1;
            }
            _ => {}
        }
    }
    assert_eq!(kinds, [1, 1, 3], "made once, and bound once; each spend says by which key");
}

/// Each input's signatures: of two own keys of three, in the order of the keys in the script.
fn both(transaction: &Transaction, coins: &[Coin], ours: &[PublicKey; 2]) -> Vec<Signature> {
    let spent: Vec<TxOut> = coins.iter().map(Coin::output).collect();
    let mut cache = SighashCache::new(transaction);
    let mut all = Vec::new();
    for (position, input) in transaction.input.iter().enumerate() {
        let items = input.witness.to_vec();
        let [empty, first, second, script] = &items[..] else { panic!("{items:?}") };
        let script = bitcoin::Script::from_bytes(script);
        assert!(empty.is_empty() && script.to_p2wsh() == spent[position].script_pubkey);
        let value = spent[position].value;
        let all_of_it = bitcoin::EcdsaSighashType::All;
        let digest = cache.p2wsh_signature_hash(position, script, value, all_of_it).unwrap();
        let digest = Message::from_digest(digest.to_byte_array());
        // BIP-67: the script has the keys in the order of their bytes, and OP_CHECKMULTISIG wants signatures in that order.
        let mut keys = ours.map(|key| key.serialize());
        keys.sort_unstable();
        for (key, made) in keys.iter().zip([first, second]) {
            let made = bitcoin::ecdsa::Signature::from_slice(made).unwrap();
            assert_eq!(made.sighash_type, all_of_it);
            let key = PublicKey::from_slice(key).unwrap();
            SECP256K1.verify_ecdsa(&digest, &made.signature, &key).unwrap();
            all.push(made.signature);
        }
    }
    all
}

#[tokio::test]
async fn two_keys_of_one_token_complete_a_multisig_of_three_at_once() {
    let mut house = House::closed(&Knobs::default(), signer::config::Limits::default()).await;
    let ours = [generated(&house, "vault-1").await.0, generated(&house, "vault-2").await.0];
    let (master, theirs) = other();
    let descriptor = shared(&ours, &[theirs]);
    pinned(&house, 2, &descriptor, None);
    house.open().await;
    assert_eq!(status(&house).await.script_type, "p2wsh-sortedmulti-2-of-3");

    let coins = vault_coins(&descriptor);
    let outs = [own(&house.descriptors.cold, false, 0, 120_000), own(&descriptor, true, 1, 28_000)];
    let asked = with_origins(&descriptor, &coins, &outs);
    let counters = house.app().token.counters().await.unwrap();
    let answer = sweep(&house, "two", &asked, &coins).await.unwrap();
    assert_eq!(
        (answer.tier.as_str(), answer.psbt.is_empty()),
        ("token", true),
        "nobody else signs"
    );
    let after = house.app().token.counters().await.unwrap();
    assert_eq!(after.signs - counters.signs, 6, "three inputs by two keys");
    let signed: Transaction = bitcoin::consensus::deserialize(&answer.transaction).unwrap();
    assert_eq!(signed.compute_txid(), asked.unsigned_tx.compute_txid());
    verify_scripts(&signed, &coins);
    let made = both(&signed, &coins, &ours);

    // A nonce of its own each, and every one is remembered, whichever key made it.
    let r = |made: &Signature| made.serialize_compact()[..32].to_vec();
    assert_eq!(made.iter().map(r).collect::<HashSet<_>>().len(), 6);
    let elsewhere = |made: &Signature| {
        let mut other = asked.unsigned_tx.clone();
        other.lock_time = bitcoin::absolute::LockTime::from_consensus(1);
        let made = bitcoin::ecdsa::Signature::sighash_all(*made);
        other.input[0].witness.push_ecdsa_signature(&made);
        house.app().log.read(|ledger| ledger.nonces().reuses(&Points::of(&other)))
    };
    assert!(made.iter().all(elsewhere), "a second use of any of them is stopped");
    let mut theirs = asked.clone();
    theirs.sign(&master, SECP256K1).unwrap();
    let unseen = theirs.inputs[0].partial_sigs.values().next().unwrap().signature;
    assert!(!elsewhere(&unseen));

    // One of the two is enough to stop it.
    let name = KeyName::parse("vault-2").unwrap();
    set_born_state(&house.app().log, &name, KeyState::Suspended, "a test").await.unwrap();
    let later = [coin(&descriptor, false, 3, 60_000, 600, 1)];
    let outs = [own(&house.descriptors.cold, false, 1, 58_000)];
    let refused = sweep(&house, "later", &with_origins(&descriptor, &later, &outs), &later).await;
    assert_eq!(said(&refused.unwrap_err()).1, ["key-suspended"]);
}

/// What miniscript's interpreter says of every input.
fn verify_scripts(transaction: &Transaction, coins: &[Coin]) {
    let spent: Vec<TxOut> = coins.iter().map(Coin::output).collect();
    for (position, input) in transaction.input.iter().enumerate() {
        let (script, time) = (&spent[position].script_pubkey, transaction.lock_time);
        let judge = miniscript::interpreter::Interpreter::from_txdata(
            script,
            &input.script_sig,
            &input.witness,
            input.sequence,
            time,
        );
        let (judge, prevouts) = (judge.unwrap(), Prevouts::All(&spent));
        let met: Vec<_> = judge.iter(SECP256K1, transaction, position, &prevouts).collect();
        assert!(met.len() == 2 && met.iter().all(Result::is_ok), "input {position}: {met:?}");
    }
}

/// Children and sealed accounts are lost with it, and those who have neither do not notice.
#[tokio::test]
async fn a_token_that_unwraps_nothing_any_more_serves_the_wallets_of_its_own_keys() {
    let mut house = House::closed(&Knobs::default(), signer::config::Limits::default()).await;
    let ours = [generated(&house, "vault-1").await.0, generated(&house, "vault-2").await.0];
    let descriptor = shared(&ours, &[other().1]);
    pinned(&house, 2, &descriptor, None);
    let rules = prepare_faulty(&mut house).join("rules");
    std::fs::write(&rules, "C_UnwrapKey always CKR_MECHANISM_INVALID\n").unwrap();
    house.open().await;
    let coins = vault_coins(&descriptor);
    let outs = [own(&house.descriptors.cold, false, 0, 120_000), own(&descriptor, true, 1, 28_000)];
    let whole = sweep(&house, "v1", &with_origins(&descriptor, &coins, &outs), &coins).await;
    assert!(whole.unwrap().psbt.is_empty(), "both keys of it are here");

    let (size, theirs) = (house.log_size(), deposits(&house, 2));
    let outs = [own(&house.descriptors.cold, false, 0, 98_000)];
    let ask = header("d1", "sweep", "deposits", &crate::common::psbt(&theirs, &outs));
    let claim = AddressClaim { index: 0, customer_reference: "c".into(), expires_unix: 0 };
    let request = AttestRequest { wallet: "deposits".into(), claims: vec![claim] };
    let attested = house.client("watcher-1").await.attest(request).await;
    for refused in [house.sign(ask.clone(), &theirs).await.err(), attested.err()] {
        let refused = refused.unwrap();
        assert_eq!(said(&refused).1, ["token-fault"]);
        for part in ["\"deposits\"", "token-hd", "C_UnwrapKey: MechanismInvalid"] {
            assert!(refused.message().contains(part), "{refused:?}");
        }
    }
    let written = house.entries(size).await;
    assert!(
        written.iter().all(|entry| matches!(entry.event, Event::Refused { .. })),
        "{written:?}"
    );
    // Nothing of it outlives a start on which the token is well.
    house.close().await;
    std::fs::remove_file(&rules).unwrap();
    house.open().await;
    house.sign(ask, &theirs).await.unwrap();
}

#[tokio::test]
async fn states_of_a_token_key_hold_in_the_wallets_it_signs_for() {
    let mut house = House::closed(&Knobs::default(), signer::config::Limits::default()).await;
    let (ours, _) = generated(&house, "vault-1").await;
    let descriptor = shared(&[ours], &[other().1]);
    pinned(&house, 2, &descriptor, None);
    house.open().await;
    let coins = vault_coins(&descriptor);
    let asked =
        with_origins(&descriptor, &coins, &[own(&house.descriptors.cold, false, 0, 148_000)]);
    let name = KeyName::parse("vault-1").unwrap();
    let set =
        async |house: &House, state| set_born_state(&house.app().log, &name, state, "a test").await;
    let refused = async |house: &House, key: &str| {
        sweep(house, key, &asked, &coins).await.err().map(|status| said(&status).1)
    };
    let no = |reason: &str| Some(vec![reason.to_owned()]);

    assert_eq!(refused(&house, "s1").await, None);
    set(&house, KeyState::Suspended).await.unwrap();
    assert_eq!(refused(&house, "s2").await, no("key-suspended"));
    house.close().await;
    house.open().await;
    assert_eq!(status(&house).await.key_state, "suspended");
    assert_eq!(refused(&house, "s2").await, no("key-suspended"));
    set(&house, KeyState::Active).await.unwrap();
    assert_eq!(refused(&house, "s2").await, None);
    set(&house, KeyState::Retired).await.unwrap();
    assert_eq!(refused(&house, "s3").await, None, "retired keys are swept out");
    assert!(matches!(set(&house, KeyState::Active).await, Err(KeyError::BornTransition { .. })));
    set(&house, KeyState::Compromised).await.unwrap();
    assert_eq!(refused(&house, "s4").await, no("key-compromised"));
    let nobody = KeyName::parse("nobody").unwrap();
    let unknown = set_born_state(&house.app().log, &nobody, KeyState::Suspended, "why").await;
    assert!(matches!(unknown, Err(KeyError::NoSuchKey(_))));
}

/// Why the signer does not start.
async fn refusal(house: &House) -> String {
    match signer::serve::run(&house.config, Clock::system()).await {
        Ok(_) => panic!("it started"),
        Err(error @ (StartError::Wallet(_) | StartError::Bind(_))) => error.to_string(),
        Err(error) => panic!("{error}"),
    }
}

#[tokio::test]
async fn coins_that_hang_on_one_token_need_the_proof_that_it_was_cloned() {
    let mut house = House::closed(&Knobs::default(), signer::config::Limits::default()).await;
    let (ours, _) = generated(&house, "alone").await;
    let (second, _) = generated(&house, "second").await;
    let single = checked(&format!("wpkh({ours})"));

    pinned(&house, 2, &single, None);
    let why = refusal(&house).await;
    assert!(why.contains("\"vault\"") && why.contains("cloning_proof"), "{why}");
    // A multisig of nothing but this token's keys is no better.
    pinned(&house, 2, &shared(&[ours, second], &[]), None);
    let why = refusal(&house).await;
    assert!(why.contains("every key") && why.contains("cloning_proof"), "{why}");

    let proof = b"cloned to the second device on 2026-11-28, serial 41fc, witnessed by two";
    let digest: [u8; 32] = Sha256::digest(proof).into();
    pinned(&house, 3, &single, Some(digest));
    assert!(refusal(&house).await.contains("copy it there"));
    let path = born::proof_path(&house.config.state_dir, &digest);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, b"something else").unwrap();
    assert!(refusal(&house).await.contains("not the proof of cloning"));
    std::fs::write(&path, proof).unwrap();
    house.open().await;

    // One key is one address, and change comes back to it.
    let shown = status(&house).await;
    assert_eq!((shown.tier.as_str(), shown.external_proven), ("token", 1));
    let coins: Vec<Coin> = (0..2).map(|n| coin(&single, false, 0, 50_000, 500 + n, 1)).collect();
    let outs = [
        own(&house.descriptors.cold, false, 0, 60_000),
        Out { path: None, ..own(&single, false, 0, 38_000) },
    ];
    let mut asked = with_origins(&single, &coins, &outs);
    let answer = sweep(&house, "a1", &asked, &coins).await.unwrap();
    assert_eq!(answer.tier, "token");
    verify(&answer.transaction, &coins);
    // Nobody has to say where a key is that is at one place.
    asked.inputs.iter_mut().for_each(|input| input.bip32_derivation.clear());
    let again = sweep(&house, "a2", &asked, &coins).await.unwrap();
    verify(&again.transaction, &coins);
    // What goes to others is still what the lane does not allow.
    let stolen = with_origins(&single, &coins, &[to(stranger(9), 98_000)]);
    assert!(sweep(&house, "a3", &stolen, &coins).await.is_err());

    let bound = house.entries(0).await.into_iter().find_map(|entry| match entry.event {
        Event::TokenWalletBound { cloning_proof, .. } => Some(cloning_proof),
        _ => None,
    });
    assert_eq!(bound, Some(Some(digest)), "the proof's digest is in the log");
}

#[tokio::test]
async fn keys_that_are_not_this_tokens_bind_nothing() {
    let mut house = House::closed(&Knobs::default(), signer::config::Limits::default()).await;
    let (ours, _) = generated(&house, "vault-1").await;
    let stranger = secp256k1::SecretKey::from_slice(&[41; 32]).unwrap().public_key(SECP256K1);
    let descriptor = shared(&[stranger], &[other().1]);
    pinned(&house, 2, &descriptor, None);
    house.open().await;
    assert_eq!(status(&house).await.external_proven, 0);
    let coins = vault_coins(&descriptor);
    let asked =
        with_origins(&descriptor, &coins, &[own(&house.descriptors.cold, false, 0, 148_000)]);
    let refused = sweep(&house, "n1", &asked, &coins).await.unwrap_err();
    assert_eq!(said(&refused).1, ["wallet-not-imported"]);
    house.close().await;

    // The state folder forgot a key that the log knows: said by name, and found again by the same command.
    let descriptor = shared(&[ours], &[other().1]);
    pinned(&house, 3, &descriptor, None);
    let file = house.config.state_dir.join("token-keys.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let without: Vec<&str> = text.lines().filter(|line| !line.starts_with("born")).collect();
    std::fs::write(&file, without.join("\n")).unwrap();
    let why = refusal(&house).await;
    assert!(why.contains("signer token-key generate vault-1"), "{why}");
    assert_eq!(generated(&house, "vault-1").await.0, ours);
    house.open().await;
    assert_eq!(status(&house).await.external_proven, EVERY);
}
