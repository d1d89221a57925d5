//! The log's entries, checkpoints, attested leaves and attested token keys: each has one spelling.

use audit::attestation::Leaf;
use audit::checkpoint::{Checkpoint, origin};
use audit::cosignature;
use audit::entry::{
    Admitted, Asked, Attested, Awaiting, Claim, Considered, Entry, Event, HeldOrder, KeyUse,
    PaidOrder, Reason, SignedOrder, Spend, SpentSlot, Whose,
};
use audit::note;
use audit::token_key::TokenKey;
use ed25519_dalek::{Signer as _, SigningKey};

pub(crate) fn entry(data: &[u8]) {
    let with_version = [&[audit::entry::VERSION], data].concat();
    for bytes in [data, &with_version] {
        if let Ok(entry) = Entry::decode(bytes) {
            assert_eq!(entry.encode().unwrap(), bytes);
        }
    }
}

/// A witness's line: what is read is written again as it was.
fn cosignature_line(text: &str) {
    if let Some((name, _, unix_s, signature)) = cosignature::parse(text) {
        let key = SigningKey::from_bytes(&[7; 32]).verifying_key().to_bytes();
        let again = cosignature::line(&name, &key, unix_s, &signature);
        let read = cosignature::parse(&again).unwrap();
        assert_eq!((read.0, read.2, read.3), (name, unix_s, signature));
    }
}

/// The first byte chooses: a whole note, or a text that the pinned key signs here.
pub(crate) fn checkpoint(data: &[u8]) {
    let key = SigningKey::from_bytes(&[7; 32]);
    let public = key.verifying_key().to_bytes();
    let name = origin(&public);
    let Some((mode, rest)) = data.split_first() else { return };
    let given = String::from_utf8_lossy(rest);
    given.lines().for_each(cosignature_line);
    let text = match mode % 3 {
        0 => given.clone().into_owned(),
        1 => format!("{given}\n"),
        _ => format!("{name}\n{given}"),
    };
    let signed = note::assemble(&text, &name, &public, &key.sign(text.as_bytes()).to_bytes());
    for note in [given.as_ref(), &signed] {
        // A stranger's line below a checkpoint is a witness's only with that witness's key.
        assert!(cosignature::verify(note, "w1", &public).is_err());
        let Ok(checkpoint) = Checkpoint::open(note, &name, &public) else { continue };
        assert_eq!(checkpoint.origin, name);
        // Only extension lines may stand below what we would write, and only other signatures.
        let text = note::open(note, &name, &public).unwrap();
        // Lines of others may stand around ours.
        let bare = Checkpoint { officers: None, ..checkpoint.clone() };
        assert!(text.starts_with(&bare.text()), "{text:?}");
        assert!(checkpoint.text().lines().all(|line| text.lines().any(|has| has == line)));
        let again = key.sign(checkpoint.text().as_bytes()).to_bytes();
        let again = checkpoint.note(&public, &again);
        assert_eq!(Checkpoint::open(&again, &name, &public), Ok(checkpoint));
        assert!(Checkpoint::open(note, &name, &[0x42; 32]).is_err(), "another key's");
    }
}

pub(crate) fn leaf(data: &[u8]) {
    if let Ok(leaf) = Leaf::decode(data) {
        assert_eq!(leaf.encode().unwrap(), data);
        leaf.hash().unwrap();
    }
}

/// The first byte chooses: a whole document, or a text that the pinned key signs here, as it is or after the lines that
/// are the same in all.
pub(crate) fn token_key(data: &[u8]) {
    let key = SigningKey::from_bytes(&[7; 32]);
    let public = key.verifying_key().to_bytes();
    let Some((mode, rest)) = data.split_first() else { return };
    let given = String::from_utf8_lossy(rest);
    let text = match mode % 3 {
        0 | 1 => given.clone().into_owned(),
        _ => format!("cofferdam-token-key-v1\nbip122:0\ntoken\n{given}"),
    };
    let signature = key.sign(text.as_bytes()).to_bytes();
    let signed = format!("{text}signature {}\n", hex::encode(signature));
    let document = if mode % 3 == 0 { given.as_ref() } else { &signed };
    let Ok(found) = TokenKey::verify(document, &public) else { return };
    // Line by line, as anybody reads it.
    let lines: Vec<&str> = document.split('\n').collect();
    let (attributes, last) = (6..lines.len() - 2, lines[lines.len() - 2]);
    assert_eq!(lines[1..6].join(" "), {
        let TokenKey { network, name, public_key, serial, .. } = &found;
        format!("{network} token {name} {} {serial}", hex::encode(public_key))
    });
    assert_eq!(lines[attributes], found.attributes);
    assert!(!found.attributes.is_empty() && document.is_ascii());
    let bytes = hex::decode(&last["signature ".len()..]).unwrap();
    assert_eq!(found.document(&bytes.try_into().unwrap()).unwrap(), document);
    assert!(TokenKey::verify(document, &[0x42; 32]).is_err(), "another key's");
    let other = document.replacen("true", "false", 1);
    assert!(other == document || TokenKey::verify(&other, &public).is_err());
}

pub(crate) fn entry_seeds() -> Vec<Vec<u8>> {
    let text = || "t".to_owned();
    let reason = || Reason { code: "fee-cap".to_owned(), text: text() };
    let claim = Claim { index: 300, address: text(), reference: String::new(), expires_unix: 1 };
    let (request, root, digest) = ([1; 16], [2; 32], [3; 32]);
    let spend = Spend {
        request,
        policy: 1,
        lane: text(),
        wallet: text(),
        caller: text(),
        fee: 200,
        external: u128::MAX,
        slots: vec![SpentSlot { slot: vec![7; 36], amount: 1 }],
        orders: vec![PaidOrder { key: [10; 32], id: text(), digest, expires_unix: 300 }],
        change_index: Some(3),
        cold_index: Some((text(), 4)),
        transaction: vec![9; 60],
        trace: vec![text()],
    };
    let admitted =
        Admitted { request, caller: text(), key: text(), lane: text(), wallet: text(), digest };
    let events = [
        Event::Opened {
            origin: text(),
            network: text(),
            checkpoint_key: root,
            attestation_key: root,
            wrapping_fingerprint: root,
        },
        Event::PolicyActivated { version: 1, digest, text: text(), officers: vec![text()] },
        Event::WalletImported {
            wallet: text(),
            descriptor: text(),
            tier: text(),
            bundle: root,
            external: 9,
            change: 9,
        },
        Event::Proven { wallet: text(), change: true, below: 300 },
        Event::ProofFailed { wallet: text(), change: false, index: 1, reason: text() },
        Event::Refused { request: Some(request), caller: text(), digest, reasons: vec![reason()] },
        Event::Admitted(admitted),
        Event::Denied { request, policy: 1, reasons: vec![reason()], trace: vec![text()] },
        Event::Spend(spend.clone()),
        Event::Signed { request, transaction: vec![9; 60] },
        Event::Failed { request, reason: reason() },
        Event::Attested(Attested { wallet: text(), caller: text(), root, claims: vec![claim] }),
        Event::AttestationSigned { root, signature: vec![4; 64] },
        Event::Service { state: text(), version: text() },
        Event::TailSetAside { from: 300, count: 2, digest },
        Event::SpendAgain { request, policy: 2, trace: vec![text()] },
        Event::KeyState { wallet: text(), tier: text(), state: text(), reason: text() },
        Event::ClientLocked { client: text(), refusals: 300, seconds: 600, codes: vec![text()] },
        Event::ClientFreed { client: text(), lock: 300, officers: vec![text()], reason: text() },
    ];
    let encoded = |event| Entry { unix_ms: 1_700_000_000_000, event }.encode().unwrap();
    let people = of_people(spend);
    let others = of_token_keys().into_iter().chain(of_policies()).chain(people);
    let withheld = Event::Withheld { request, policy: 2, reason: reason(), may_have_left: true };
    let unbound = Event::Unbound {
        key: [2; 32],
        id: text(),
        versions: vec![[3; 32]],
        policy: 1,
        officers: vec![text()],
    };
    let others = others.chain([distrusted(), withheld, unbound]);
    events.into_iter().chain(others).map(encoded).collect()
}

fn distrusted() -> Event {
    let text = || "t".to_owned();
    Event::TokenDistrusted {
        name: text(),
        label: text(),
        serial: text(),
        what: text(),
        wallet: Some(text()),
        key: vec![2; 33],
        request: Some([1; 16]),
        seen_unix: 300,
    }
}

/// What is written of keys that were born in the token, or came into it.
fn of_token_keys() -> [Event; 5] {
    let text = || "t".to_owned();
    let one = KeyUse { function: text(), key: text(), done: 300, unsure: 1 };
    [
        Event::TokenOperations { serial: text(), uses: vec![one], lost: 32 },
        Event::TokenKeyMade {
            name: text(),
            tier: text(),
            public_key: vec![2; 33],
            serial: text(),
            attributes: vec![text()],
        },
        Event::TokenKeyState { name: text(), tier: text(), state: text(), reason: text() },
        Event::TokenWalletBound {
            wallet: text(),
            descriptor: text(),
            tier: text(),
            keys: vec![vec![2; 33]],
            cloning_proof: Some([2; 32]),
            indexes: 300,
        },
        Event::KekImport { what: text(), key: Some([2; 32]), serial: text() },
    ]
}

/// Policies that follow others.
fn of_policies() -> [Event; 6] {
    let text = || "t".to_owned();
    let (digest, officers) = ([2; 32], vec![text()]);
    let vetoed = Event::PolicyVetoed { digest, officers: officers.clone() };
    let (version, due_unix) = (2, 300);
    let withdrawn = Event::PolicyWithdrawn { digest };
    let administered = Event::Administered { what: text(), serial: text(), site: [4; 16] };
    let begun = Event::OpenedUnder {
        origin: text(),
        network: text(),
        checkpoint_key: digest,
        attestation_key: digest,
        wrapping_fingerprint: digest,
        officers: text(),
    };
    [
        Event::PolicyProposed { version, digest, text: text(), officers, due_unix },
        vetoed,
        withdrawn,
        Event::PolicyPushed { digest, signatures: text(), way: text() },
        begun,
        administered,
    ]
}

pub(crate) fn checkpoint_seeds() -> Vec<Vec<u8>> {
    let key = SigningKey::from_bytes(&[7; 32]);
    let public = key.verifying_key().to_bytes();
    let checkpoint =
        Checkpoint { origin: origin(&public), size: 70_000, root: [5; 32], officers: None };
    let text = checkpoint.text();
    let note = checkpoint.note(&public, &key.sign(text.as_bytes()).to_bytes());
    let below = text.split_once('\n').unwrap().1;
    vec![
        format!("\0{note}").into(),
        format!("\0{text}").into(),
        format!("\x01{}", text.trim_end()).into(),
        format!("\x02{below}").into(),
        format!("\x02{below}extension\n").into(),
    ]
}

pub(crate) fn leaf_seeds() -> Vec<Vec<u8>> {
    let leaf = |reference: &str, expires_unix| Leaf {
        network: "bip122:0f9188f13cb7b2c71f2a335e3a4fc328".to_owned(),
        wallet: "deposits".to_owned(),
        index: 3,
        address: "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080".to_owned(),
        reference: reference.to_owned(),
        expires_unix,
    };
    [leaf("", 0), leaf("Kunde 7 \u{e4}", u64::MAX)].map(|leaf| leaf.encode().unwrap()).to_vec()
}

pub(crate) fn token_key_seeds() -> Vec<Vec<u8>> {
    let key = SigningKey::from_bytes(&[7; 32]);
    let attested = TokenKey {
        network: "bip122:0f9188f13cb7b2c71f2a335e3a4fc328".to_owned(),
        name: "vault-1".to_owned(),
        public_key: [2; 33],
        serial: "0123456789abcdef".to_owned(),
        attributes: ["CKA_LOCAL true", "CKA_NEVER_EXTRACTABLE true"].map(str::to_owned).to_vec(),
    };
    let text = attested.encode().unwrap();
    let document = attested.document(&key.sign(text.as_bytes()).to_bytes()).unwrap();
    let below = text.splitn(4, '\n').last().unwrap();
    let long = format!("{below}{}\n", "a".repeat(257));
    vec![
        format!("\0{document}").into(),
        format!("\0{text}").into(),
        format!("\x01{text}").into(),
        format!("\x02{below}").into(),
        format!("\x02{}", below.replace("02", "0G")).into(),
        format!("\x02{}", below.trim_end()).into(),
        format!("\x02{long}").into(),
    ]
}

/// What is written of requests that wait for officers, and of what those say.
fn of_people(spend: Spend) -> [Event; 10] {
    let text = || "t".to_owned();
    let (request, root) = ([1; 16], [2; 32]);
    let reason = Reason { code: text(), text: text() };
    [
        Event::Awaiting(Awaiting {
            spend,
            intent: text(),
            psbt: vec![9; 20],
            parents: vec![vec![8; 20]],
            orders: vec![SignedOrder { order: vec![1], signature: vec![2], signer: text() }],
            requirements: vec![Asked { rule: text(), code: text(), text: text() }],
            expires_unix: 300,
        }),
        Event::WaitEnded { request, reason },
        Event::OfficerSaid { statement: vec![1], signature: vec![2], key: root, way: text() },
        Event::ClockDoubted { held_unix: 300, reason: text() },
        Event::ClockBelieved { doubt: 300, policy: 1, officers: vec![text()] },
        Event::FreezeLifted { freeze: root, policy: 1, officers: vec![text()] },
        Event::Considered(Considered {
            request,
            transaction: vec![9; 20],
            vsize: 300,
            amounts: vec![1, 300],
            outputs: vec![Whose::Change(3), Whose::Cold(text(), 4), Whose::External(Some(0))],
            orders: vec![HeldOrder { order: vec![1], signer: text(), key: root }],
        }),
        Event::OfficerSaidP256 {
            statement: vec![1],
            signature: vec![2],
            key: vec![3],
            way: text(),
        },
        Event::SanctionsRead { digest: root, made_unix: 1, count: 2, by: text(), key: root },
        Event::FactStated { statement: vec![1], signature: vec![2], key: root, way: text() },
    ]
}
