//! Nonces of SoftHSM's signatures, recovered with children that the test knows, look uniform; those of rigged signers,
//! through the same detector and at the same number, do not. One of them is a whole module, asked by a worker.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::float_arithmetic,
    clippy::print_stdout,
    reason = "a test fails by panicking, and says what it measured"
)]

mod support;
#[path = "support/bias.rs"]
mod bias;

use std::fs;
use std::thread;

use bias::{Nonces, nonce, sign_with};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use secp256k1::SecretKey;
use support::{TestToken, Worker, faulty_module, verifies, wrap};
use token_wire::{
    Batch, Binding, Job, JobOutcome, Keys, RawSignature, Reply, Request, Schemes, WrappedBy,
};

/// Signatures of a run; the long mode asks for 100,000.
fn signatures() -> usize {
    let asked = std::env::var("COFFERDAM_NONCES").ok();
    asked.map_or(6_144, |count| count.parse().expect("COFFERDAM_NONCES is a number"))
}

struct Signed {
    secret: SecretKey,
    digest: [u8; 32],
    raw: RawSignature,
}

#[test]
fn the_tokens_nonces_are_uniform() {
    let token = TestToken::new();
    let (worker, keys) = token.initialised();
    drop(worker);
    // One process a core, each with children of its own.
    let half = signatures().div_ceil(2);
    let signed: Vec<Signed> = thread::scope(|scope| {
        // One login after the other: SoftHSM empties a file of the token's while it logs in.
        let both = [0, 1].map(|_| bound(token.worker(), &keys));
        let both = both.map(|worker| scope.spawn(|| sign(worker, &keys, &children(32), half)));
        both.into_iter().flat_map(|one| one.join().unwrap()).collect()
    });
    let nonces = recovered(&signed);
    // Raw: a token that normalised would hide the sign of its nonces.
    let high = signed.iter().filter(|one| one.raw.s[0] >= 0x80).count() * 100 / signed.len();
    println!("SoftHSM, {}; {high}% high S", nonces.summary());
    assert_eq!(nonces.findings(), Vec::<String>::new());
}

/// Of signatures that all verify.
fn recovered(signed: &[Signed]) -> Nonces {
    for Signed { secret, digest, raw } in signed {
        assert!(verifies(*raw, *digest, &secret.public_key(secp256k1::SECP256K1)));
    }
    Nonces::of(signed.iter().map(|one| nonce(one.raw, one.digest, &one.secret)))
}

/// Of a module that is rigged, a fifth of the number shows it many times over.
#[test]
fn a_rigged_module_is_found_out_through_its_worker() {
    let token = TestToken::new();
    let (worker, keys) = token.initialised();
    drop(worker);
    let (children, count) = (children(4), signatures().div_ceil(5));
    let folder = token.dir.path().join("faulty");
    fs::create_dir(&folder).unwrap();
    let line = |child: &SecretKey| format!("{}\n", child.display_secret());
    fs::write(folder.join("keys"), children.iter().map(line).collect::<String>()).unwrap();
    let env = [("FAULTY_MODULE", token.module.as_str()), ("FAULTY_DIR", folder.to_str().unwrap())];
    let module = faulty_module();
    let start = || {
        let (module, pin) = (module.to_str().unwrap(), token.pin_file());
        let worker = Worker::start(module, &token.config(), "cofferdam-dev", &pin, &env);
        sign(bound(worker, &keys), &keys, &children, count)
    };
    // The same module with nothing to do wrong passes every signature on.
    let honest = recovered(&start());
    println!("module without a rule, {}", honest.summary());
    assert_eq!(honest.findings(), Vec::<String>::new());
    fs::write(folder.join("rules"), "C_Sign always bias\n").unwrap();
    let rigged = recovered(&start());
    println!("rigged module, {}", rigged.summary());
    let (found, faults) = (rigged.findings(), fs::read_to_string(folder.join("faults")).unwrap());
    assert!(found.iter().any(|text| text.starts_with("top 8 bits")), "{found:?}");
    for bit in 0..8 {
        assert!(found.iter().any(|text| text.starts_with(&format!("bit {bit}:"))), "{found:?}");
    }
    assert_eq!(found.len(), 9, "and of nothing else: {found:?}");
    assert!(faults.lines().filter(|line| *line == "C_Sign bias").count() >= count);
}

fn children(count: usize) -> Vec<SecretKey> {
    let mut random = rand::thread_rng();
    (0..count).map(|_| SecretKey::new(&mut random)).collect()
}

fn bound(mut worker: Worker, keys: &Keys) -> Worker {
    worker.open(false);
    assert_eq!(worker.ask(&Request::Login), Reply::LoggedIn);
    let binding = Binding { keys: keys.clone(), schemes: Schemes::default(), challenge: [8; 32] };
    assert!(matches!(worker.ask(&Request::Bind(binding)), Reply::Bound { .. }));
    worker
}

fn sign(mut worker: Worker, keys: &Keys, children: &[SecretKey], count: usize) -> Vec<Signed> {
    let mut random = rand::thread_rng();
    let children: Vec<_> = children.iter().map(|secret| (*secret, wrap(keys, secret))).collect();
    let mut signed = Vec::new();
    for id in 0.. {
        let missing = count - signed.len();
        if missing == 0 {
            break;
        }
        let asked: Vec<_> = children.iter().cycle().take(missing.min(64)).collect();
        let digests: Vec<[u8; 32]> = asked.iter().map(|_| random.r#gen()).collect();
        let job = |(child, digest): (&&(SecretKey, Vec<u8>), &[u8; 32])| Job {
            permit: [1; 16],
            by: WrappedBy::OaepSha1,
            wrapped: child.1.clone(),
            digest: *digest,
        };
        let jobs = asked.iter().zip(&digests).map(job).collect();
        let reply = worker.ask(&Request::Sign(Batch { id, jobs }));
        let Reply::Signed { outcomes, .. } = reply else { panic!("{reply:?}") };
        assert_eq!(outcomes.len(), asked.len());
        for ((child, digest), outcome) in asked.into_iter().zip(digests).zip(outcomes) {
            let JobOutcome::Signed(raw) = outcome else { panic!("{outcome:?}") };
            signed.push(Signed { secret: child.0, digest, raw });
        }
    }
    signed
}

/// A signer whose nonces are not quite uniform: makes of a uniform one, and of how many there were, its own.
type Rig = fn([u8; 32], u32, &mut StdRng) -> [u8; 32];

fn findings(rig: Rig) -> Vec<String> {
    let mut random = StdRng::seed_from_u64(7);
    let secret = SecretKey::from_slice(&[7; 32]).unwrap();
    let nonces = (0..u32::try_from(signatures()).unwrap()).map(|nth| {
        let (uniform, digest) = (random.r#gen(), random.r#gen());
        let chosen = rig(uniform, nth, &mut random);
        let raw = sign_with(chosen, digest, &secret);
        assert!(
            verifies(raw, digest, &secret.public_key(secp256k1::SECP256K1)),
            "verifies all the same"
        );
        assert_eq!(nonce(raw, digest, &secret), chosen);
        chosen
    });
    Nonces::of(nonces).findings()
}

#[test]
fn rigged_signers_are_found_out() {
    let rigs: [(&str, &str, Rig); 6] = [
        ("top 8 bits zero", "top 8 bits", |mut k, _, _| {
            k[0] = 0;
            k
        }),
        ("one bit at 55%", "bit 137", |mut k, _, random| {
            // One in ten times it is set, whatever it was.
            k[17] |= u8::from(random.gen_ratio(1, 10)) << 6;
            k
        }),
        ("bottom 8 bits fixed", "bottom 8 bits", |mut k, _, _| {
            k[31] = 0x5a;
            k
        }),
        ("a counter", "equal steps", |_, nth, _| {
            let mut k = [0x55; 32];
            k[28..].copy_from_slice(&nth.to_be_bytes());
            k
        }),
        ("a nonce again", "repeated", |k, nth, _| if nth % 1_000 == 999 { [0x33; 32] } else { k }),
        ("a third of the top byte's values missing", "top 8 bits", |mut k, _, _| {
            k[0] %= 171;
            k
        }),
    ];
    for (rig, finding, make) in rigs {
        let found = findings(make);
        assert!(found.iter().any(|text| text.starts_with(finding)), "{rig}: {found:?}");
        println!("rigged, {rig}: {}", found[0]);
    }
    // And the detector says nothing of a signer that is not rigged.
    assert_eq!(findings(|k, _, _| k), Vec::<String>::new());
}
