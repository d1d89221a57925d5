//! What signer and token worker say to each other: a frame that is read can be said again and means the same.

use core::fmt::Debug;

use serde::Serialize;
use serde::de::DeserializeOwned;
use token_wire::{
    Answered, Batch, Binding, BindingProofs, BornBatch, BornJob, Counters, Fault, FaultCode,
    ImportOpening, Job, JobFault, JobOutcome, Kek, KekImport, Keys, Mechanisms, Operation,
    RawSignature, Reply, Request, Schemes, SealedAccount, SealedBatch, SealedJob, SigningWay,
    StatementKey, TokenInfo, Without, WrappedBy,
};

pub(crate) fn question(data: &[u8]) {
    frames::<Request>(data);
}

pub(crate) fn answer(data: &[u8]) {
    frames::<Answered>(data);
}

/// The bytes as a stream of frames, and as the body of one.
fn frames<M: Serialize + DeserializeOwned + PartialEq + Debug>(data: &[u8]) {
    let mut stream = data;
    while let Ok(Some(message)) = token_wire::read::<M>(&mut stream) {
        again(&message, data.len());
    }
    let length = u32::try_from(data.len()).unwrap();
    let frame = [&length.to_le_bytes(), data].concat();
    if let Ok(Some(message)) = token_wire::read::<M>(&mut frame.as_slice()) {
        again(&message, frame.len());
        if let Some((_, cut)) = frame.split_last() {
            assert!(token_wire::read::<M>(&mut &*cut).is_err(), "read past its frame");
        }
    }
}

fn again<M: Serialize + DeserializeOwned + PartialEq + Debug>(message: &M, most: usize) {
    let mut bytes = Vec::new();
    token_wire::write(&mut bytes, message).expect("what was read can be written");
    assert!(bytes.len() <= most, "it grew from {most} to {} bytes", bytes.len());
    assert_eq!(token_wire::read::<M>(&mut bytes.as_slice()).unwrap().as_ref(), Some(message));
    assert!(!format!("{message:?}").is_empty());
}

/// With and without the frame around it.
fn said<M: Serialize>(messages: &[M]) -> Vec<Vec<u8>> {
    let mut seeds: Vec<_> = messages.iter().map(|m| postcard::to_allocvec(m).unwrap()).collect();
    let mut stream = Vec::new();
    for message in messages {
        token_wire::write(&mut stream, message).unwrap();
    }
    seeds.push(stream);
    seeds
}

fn keys() -> Keys {
    Keys {
        wrapping_spki: vec![0x30; 40],
        attestation: [1; 32],
        checkpoint: [2; 32],
        sealing_spki: Some(vec![0x31; 40]),
        born: vec![vec![2; 33]],
        keks: vec![kek()],
        forgotten_keks: vec![kek()],
    }
}

fn kek() -> Kek {
    Kek { fingerprint: [3; 32], canary: vec![0x32; 144] }
}

pub(crate) fn question_seeds() -> Vec<Vec<u8>> {
    let sealed =
        |how| SealedJob { permit: [1; 16], change: true, index: 300, how, digest: [8; 32] };
    let by = WrappedBy::Kek([3; 32]);
    let schemes = Schemes { kwp_mechanism: Some(0x210a), ..Schemes::default() };
    let import = KekImport {
        import_key: [4; 32],
        wrapped: vec![5; 40],
        kek: kek(),
        known: vec![kek()],
        kwp_mechanism: 0x210a,
        challenge: [6; 32],
    };
    let job = |at| Job { permit: [1; 16], by, wrapped: vec![at; 24], digest: [at; 32] };
    said(&[
        Request::Hello { version: token_wire::VERSION },
        Request::Open { write: true, mechanisms: Mechanisms::default() },
        Request::Login,
        Request::Init { challenge: [3; 32], schemes, sealing: true },
        Request::Bind(Binding { keys: keys(), schemes, challenge: [4; 32] }),
        Request::Sign(Batch { id: 300, jobs: vec![job(1), job(2)] }),
        Request::Sealed(SealedBatch {
            id: 301,
            account: SealedAccount { header: [6; 32], blob: vec![7; 60] },
            jobs: vec![
                sealed(SigningWay::Ecdsa),
                sealed(SigningWay::TaprootKey { internal: [9; 32], odd: true }),
            ],
        }),
        Request::Statement { key: StatementKey::Checkpoint, message: b"text\n".to_vec() },
        Request::Counters,
        Request::MakeBorn { name: "vault".to_owned() },
        Request::Describe { public_key: vec![2; 33] },
        Request::Born(BornBatch {
            id: 302,
            jobs: vec![BornJob { permit: [1; 16], public_key: vec![2; 33], digest: [8; 32] }],
        }),
        Request::Shutdown,
        Request::OpenImport(ImportOpening { known: vec![kek()], kwp_mechanism: 0x210a }),
        Request::ImportKek(import),
        Request::CloseImport,
        Request::Attend(Binding { keys: keys(), schemes, challenge: [4; 32] }),
    ])
}

pub(crate) fn answer_seeds() -> Vec<Vec<u8>> {
    let raw = RawSignature { r: [6; 32], s: [7; 32] };
    let text = || "a".to_owned();
    let refused = JobOutcome::Refused(JobFault { text: "C_UnwrapKey".to_owned() });
    let without = Without { user: true, sandbox: false };
    let (label, serial, manufacturer, model) = (text(), text(), text(), text());
    let info = TokenInfo { label, serial, manufacturer, model, without };
    let proofs = BindingProofs {
        attestation: raw,
        checkpoint: raw,
        canaries: vec![(WrappedBy::OaepSha1, raw), (WrappedBy::Kek([3; 32]), raw)],
        born: vec![raw],
    };
    let done = Operation { function: "C_Sign".to_owned(), key: text(), done: 300, unsure: 1 };
    let answered = |reply| Answered { reply, operations: vec![done.clone()] };
    said(
        &[
            Reply::Hello { version: token_wire::VERSION, program: text() },
            Reply::Opened(info),
            Reply::LoggedIn,
            Reply::Bound { keys: keys(), proofs: Box::new(proofs), made: vec![text()] },
            Reply::Signed { id: 300, outcomes: vec![JobOutcome::Signed(raw), refused] },
            Reply::Stated(raw),
            Reply::Counters(Counters {
                finds: 3,
                logins: 1,
                unwraps: 70_000,
                ..Counters::default()
            }),
            Reply::Bye,
            Reply::BornMade { public_key: vec![2; 33], new: true },
            Reply::Described(vec![text()]),
            Reply::ImportOpened { spki: vec![0x30; 40] },
            Reply::KekImported { canary: raw },
            Reply::ImportClosed { was_open: true },
            Reply::Fault(Fault::new(FaultCode::PinLocked, "no")),
        ]
        .map(answered),
    )
}
