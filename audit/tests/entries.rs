//! Entries: one encoding each, vectors that keep old logs readable, hostile bytes refused.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    reason = "a test fails by panicking"
)]

use audit::entry::{
    Admitted, Asked, Attested, Awaiting, Claim, Considered, ENTRY_BYTES_MAX, Entry, EntryError,
    Event, HeldOrder, KeyUse, PaidOrder, Reason, SignedOrder, Spend, SpentSlot, VERSION, Whose,
};
use proptest::prelude::*;

fn reason() -> Reason {
    Reason { code: "fee-cap".to_owned(), text: "the fee is above the cap".to_owned() }
}

/// One of each, with the hex that logs written so far hold. Never change a line; only add.
#[expect(clippy::too_many_lines, reason = "a list")]
fn vectors() -> Vec<(Event, &'static str)> {
    let request = [1; 16];
    vec![
        (
            Event::Opened {
                origin: "cofferdam/1".to_owned(),
                network: "n".to_owned(),
                checkpoint_key: [2; 32],
                attestation_key: [3; 32],
                wrapping_fingerprint: [4; 32],
            },
            "03d209000b636f6666657264616d2f31016e\
             0202020202020202020202020202020202020202020202020202020202020202\
             0303030303030303030303030303030303030303030303030303030303030303\
             0404040404040404040404040404040404040404040404040404040404040404",
        ),
        (Event::Proven { wallet: "w".to_owned(), change: true, below: 300 }, "03d20903017701ac02"),
        (
            Event::Refused {
                request: None,
                caller: "c".to_owned(),
                digest: [5; 32],
                reasons: vec![reason()],
            },
            "03d2090500016305050505050505050505050505050505050505050505050505050505050505050107\
             6665652d63617018746865206665652069732061626f76652074686520636170",
        ),
        (
            Event::Admitted(Admitted {
                request,
                caller: "c".to_owned(),
                key: "k".to_owned(),
                lane: "l".to_owned(),
                wallet: "w".to_owned(),
                digest: [6; 32],
            }),
            "03d2090601010101010101010101010101010101\
             0163016b016c01770606060606060606060606060606060606060606060606060606060606060606",
        ),
        (
            Event::Spend(Spend {
                request,
                policy: 1,
                lane: "l".to_owned(),
                wallet: "w".to_owned(),
                caller: "c".to_owned(),
                fee: 200,
                external: u128::MAX,
                slots: vec![SpentSlot { slot: vec![7; 2], amount: 1 }],
                orders: vec![PaidOrder {
                    key: [10; 32],
                    id: "o".to_owned(),
                    digest: [8; 32],
                    expires_unix: 300,
                }],
                change_index: Some(3),
                cold_index: Some(("cold".to_owned(), 4)),
                transaction: vec![9],
                trace: vec!["t".to_owned()],
            }),
            "03d209080101010101010101010101010101010101016c01770163c801\
             ffffffffffffffffffffffffffffffffffff030102070701\
             010a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a016f\
             0808080808080808080808080808080808080808080808080808080808080808ac0201030104636f6c64040109010174",
        ),
        (
            Event::Signed { request, transaction: vec![1, 2] },
            "03d209090101010101010101010101010101010102\
             0102",
        ),
        (
            Event::Attested(Attested {
                wallet: "w".to_owned(),
                caller: "c".to_owned(),
                root: [1; 32],
                claims: vec![Claim {
                    index: 1,
                    address: "a".to_owned(),
                    reference: String::new(),
                    expires_unix: 0,
                }],
            }),
            "03d2090b017701630101010101010101010101010101010101010101010101010101010101010101\
             010101610000",
        ),
        (
            Event::Service { state: "started".to_owned(), version: "0.1.0".to_owned() },
            "03d2090d07737461727465640530\
             2e312e30",
        ),
        (
            Event::TailSetAside { from: 300, count: 2, digest: [7; 32] },
            "03d2090eac02020707070707070707070707070707070707070707070707070707070707070707",
        ),
        (
            Event::SpendAgain { request, policy: 300, trace: vec!["a".into()] },
            "03d2090f01010101010101010101010101010101ac02010161",
        ),
        (
            Event::KeyState {
                wallet: "hot".to_owned(),
                tier: "token-hd".to_owned(),
                state: "suspended".to_owned(),
                reason: "PIN seen".to_owned(),
            },
            "03d2091003686f7408746f6b656e2d68640973757370656e6465640850494e207365656e",
        ),
        (
            Event::RecordsReplaced {
                wallet: "w".to_owned(),
                before: [1; 32],
                bundle: [2; 32],
                external: 300,
                change: 3,
                external_proven: 200,
                change_proven: 2,
            },
            "03d209110177\
             0101010101010101010101010101010101010101010101010101010101010101\
             0202020202020202020202020202020202020202020202020202020202020202ac0203c80102",
        ),
        (
            Event::PartlySigned { request, psbt: vec![0x70, 0x73] },
            "03d2091201010101010101010101010101010101027073",
        ),
        (
            Event::Waived { safeguard: "root".to_owned(), said: "allow_root = true".to_owned() },
            "03d2091304726f6f7411616c6c6f775f726f6f74203d2074727565",
        ),
        (Event::PinChanged { serial: "41fc".to_owned() }, "03d209140434316663"),
        (
            Event::TokenKeyMade {
                name: "v".to_owned(),
                tier: "token".to_owned(),
                public_key: vec![2, 3],
                serial: "41".to_owned(),
                attributes: vec!["CKA_LOCAL true".to_owned()],
            },
            "03d20915017605746f6b656e020203023431010e434b415f4c4f43414c2074727565",
        ),
        (
            Event::TokenKeyState {
                name: "v".to_owned(),
                tier: "token".to_owned(),
                state: "retired".to_owned(),
                reason: "old".to_owned(),
            },
            "03d20916017605746f6b656e0772657469726564036f6c64",
        ),
        (
            Event::TokenWalletBound {
                wallet: "w".to_owned(),
                descriptor: "d".to_owned(),
                tier: "token".to_owned(),
                keys: vec![vec![2, 3]],
                cloning_proof: Some([4; 32]),
                indexes: 300,
            },
            "03d2091701770164\
             05746f6b656e0102020301\
             0404040404040404040404040404040404040404040404040404040404040404ac02",
        ),
        (
            Event::KekImport { what: "closed".to_owned(), key: None, serial: "41fc".to_owned() },
            "03d2091806636c6f736564000434316663",
        ),
        (
            Event::PolicyProposed {
                version: 2,
                digest: [3; 32],
                text: "p".to_owned(),
                officers: vec!["a".to_owned()],
                due_unix: 300,
            },
            "03d20919020303030303030303030303030303030303030303030303030303030303030303\
             0170010161ac02",
        ),
        (
            Event::PolicyVetoed { digest: [3; 32], officers: vec!["a".to_owned()] },
            "03d2091a0303030303030303030303030303030303030303030303030303030303030303010161",
        ),
        (
            Event::ClientLocked {
                client: "w".to_owned(),
                refusals: 100,
                seconds: 600,
                codes: vec!["no-fee".to_owned()],
            },
            "03d2091b017764d80401066e6f2d666565",
        ),
        (
            Event::ClientFreed {
                client: "w".to_owned(),
                lock: 300,
                officers: vec!["alice".to_owned()],
                reason: "ok".to_owned(),
            },
            "03d2091c0177ac020105616c696365026f6b",
        ),
        (
            Event::Awaiting(Awaiting {
                spend: Spend {
                    request,
                    policy: 1,
                    lane: "l".to_owned(),
                    wallet: "w".to_owned(),
                    caller: "c".to_owned(),
                    fee: 200,
                    external: 5,
                    slots: vec![],
                    orders: vec![],
                    change_index: None,
                    cold_index: None,
                    transaction: vec![9, 9],
                    trace: vec![],
                },
                intent: "i".to_owned(),
                psbt: vec![8],
                parents: vec![vec![7, 7]],
                orders: vec![SignedOrder {
                    order: vec![1],
                    signature: vec![2],
                    signer: "s".to_owned(),
                }],
                requirements: vec![Asked {
                    rule: "r".to_owned(),
                    code: "delay".to_owned(),
                    text: "t".to_owned(),
                }],
                expires_unix: 300,
            }),
            "03d2091d\
             0101010101010101010101010101010101016c01770163c80105000000000209090001690108\
             010207070101010102017301017205\
             64656c61790174ac02",
        ),
        (
            Event::WaitEnded { request, reason: reason() },
            "03d2091e01010101010101010101010101010101076665652d63617018746865206665652069732061626f76652074686520636170",
        ),
        (
            Event::OfficerSaid {
                statement: vec![1, 2],
                signature: vec![3],
                key: [4; 32],
                way: "file".to_owned(),
            },
            "03d2091f020102010304040404040404040404040404040404040404040404040404040404040404040466696c65",
        ),
        (
            Event::FreezeLifted { freeze: [5; 32], policy: 7, officers: vec!["a".to_owned()] },
            "03d20920050505050505050505050505050505050505050505050505050505050505050507010161",
        ),
        (
            Event::Considered(Considered {
                request,
                transaction: vec![9; 3],
                vsize: 300,
                amounts: vec![1, 300],
                outputs: vec![
                    Whose::Change(3),
                    Whose::Cold("cold".to_owned(), 4),
                    Whose::External(Some(0)),
                    Whose::External(None),
                ],
                orders: vec![HeldOrder { order: vec![1, 2], signer: "s".to_owned(), key: [3; 32] }],
            }),
            "03d209210101010101010101010101010101010103090909ac020201ac02040003\
             0104636f6c640402010002000102010201730303030303030303030303030303030303030303030303030303030303030303",
        ),
        (
            Event::PolicyWithdrawn { digest: [3; 32] },
            "03d209220303030303030303030303030303030303030303030303030303030303030303",
        ),
        (
            Event::OpenedUnder {
                origin: "o".to_owned(),
                network: "n".to_owned(),
                checkpoint_key: [1; 32],
                attestation_key: [2; 32],
                wrapping_fingerprint: [3; 32],
                officers: "f".to_owned(),
            },
            "03d20923016f016e\
             0101010101010101010101010101010101010101010101010101010101010101\
             0202020202020202020202020202020202020202020202020202020202020202\
             03030303030303030303030303030303030303030303030303030303030303030166",
        ),
        (
            Event::Administered { what: "w".to_owned(), serial: "s".to_owned(), site: [4; 16] },
            "03d2092401770173\
             04040404040404040404040404040404",
        ),
        (Event::ClockDoubted { held_unix: 300, reason: "r".to_owned() }, "03d20925ac020172"),
        (
            Event::ClockBelieved { doubt: 300, policy: 7, officers: vec!["a".to_owned()] },
            "03d20926ac0207010161",
        ),
        (
            Event::TokenOperations {
                serial: "41fc".to_owned(),
                uses: vec![KeyUse {
                    function: "C_Sign".to_owned(),
                    key: "-".to_owned(),
                    done: 300,
                    unsure: 1,
                }],
                lost: 5,
            },
            "03d2092704343166630106435f5369676e012dac020105",
        ),
        (
            Event::OfficerSaidP256 {
                statement: vec![1, 2],
                signature: vec![3],
                key: vec![4],
                way: "file".to_owned(),
            },
            "03d20928020102010301040466696c65",
        ),
        (
            Event::SanctionsRead {
                digest: [6; 32],
                made_unix: 300,
                count: 2,
                by: "s".to_owned(),
                key: [7; 32],
            },
            "03d209290606060606060606060606060606060606060606060606060606060606060606ac020201730707070707070707070707070707070707070707070707070707070707070707",
        ),
        (
            Event::FactStated {
                statement: vec![1],
                signature: vec![2],
                key: [7; 32],
                way: "file".to_owned(),
            },
            "03d2092a0101010207070707070707070707070707070707070707070707070707070707070707070466696c65",
        ),
        (
            Event::Withheld { request, policy: 7, reason: reason(), may_have_left: true },
            "03d2092b0101010101010101010101010101010107076665652d63617018746865206665652069732061626f7665207468652063617001",
        ),
        (
            Event::TokenDistrusted {
                name: "first".to_owned(),
                label: "l".to_owned(),
                serial: "41fc".to_owned(),
                what: "w".to_owned(),
                wallet: Some("h".to_owned()),
                key: vec![2, 3],
                request: Some([1; 16]),
                seen_unix: 300,
            },
            "03d2092c056669727374016c043431666301770101680202030101010101010101010101010101010101ac02",
        ),
        (
            Event::Unbound {
                key: [7; 32],
                id: "o-1".to_owned(),
                versions: vec![[6; 32]],
                policy: 7,
                officers: vec!["a".to_owned()],
            },
            "03d2092d0707070707070707070707070707070707070707070707070707070707070707036f2d3101060606060606060606060606060606060606060606060606060606060606060607010161",
        ),
        (
            Event::PolicyPushed {
                digest: [3; 32],
                signatures: "s".to_owned(),
                way: "d".to_owned(),
            },
            "03d2092e030303030303030303030303030303030303030303030303030303030303030301730164",
        ),
    ]
}

#[test]
fn logs_written_so_far_stay_readable() {
    for (event, known) in vectors() {
        let entry = Entry { unix_ms: 1234, event };
        assert_eq!(hex::encode(entry.encode().unwrap()), known, "{entry:?}");
        assert_eq!(Entry::decode(&hex::decode(known).unwrap()).unwrap(), entry);
    }
}

#[test]
fn kinds_keep_their_numbers() {
    let text = String::new;
    let (request, digest) = ([0; 16], [0; 32]);
    let kinds = [
        (1, Event::PolicyActivated { version: 1, digest, text: text(), officers: vec![] }),
        (
            2,
            Event::WalletImported {
                wallet: text(),
                descriptor: text(),
                tier: text(),
                bundle: digest,
                external: 0,
                change: 0,
            },
        ),
        (4, Event::ProofFailed { wallet: text(), change: false, index: 0, reason: text() }),
        (7, Event::Denied { request, policy: 1, reasons: vec![], trace: vec![] }),
        (10, Event::Failed { request, reason: reason() }),
        (12, Event::AttestationSigned { root: digest, signature: vec![] }),
    ];
    for (number, event) in kinds {
        assert_eq!(Entry { unix_ms: 0, event }.encode().unwrap()[..3], [VERSION, 0, number]);
    }
}

#[test]
fn other_spellings_are_refused() {
    let entry = Entry { unix_ms: 5, event: vectors().remove(1).0 };
    let bytes = entry.encode().unwrap();
    assert_eq!(Entry::decode(&[]), Err(EntryError::Empty));
    let mut longer = bytes.clone();
    longer.push(0);
    assert_eq!(Entry::decode(&longer), Err(EntryError::Trailing(1)));
    let mut newer = bytes.clone();
    newer[0] = VERSION + 1;
    assert_eq!(Entry::decode(&newer), Err(EntryError::Version(VERSION + 1)));
    // 5 written as 0x85 0x00: the same number, not the same bytes.
    let mut padded = bytes.clone();
    padded.splice(1..2, [0x85, 0]);
    assert!(matches!(Entry::decode(&padded), Err(EntryError::Malformed(_))));
    for cut in 1..bytes.len() {
        assert!(Entry::decode(&bytes[..cut]).is_err(), "cut at {cut}");
    }
}

/// Versions 1 and 2 were never released. Spends of the first paid orders without their expiry; read as today's, the bytes that
/// follow would be taken for one. What was allowed again had no trace in the second.
#[test]
fn entries_of_encodings_that_were_never_released_are_refused_by_name() {
    let spent = vectors().into_iter().find(|(event, _)| matches!(event, Event::Spend(_))).unwrap();
    let mut older = hex::decode(spent.1).unwrap();
    for version in [1, 2] {
        older[0] = version;
        let error = Entry::decode(&older).unwrap_err();
        assert_eq!(error, EntryError::Unreleased(version));
        assert!(error.to_string().contains("begin a new log"), "{error}");
    }
}

#[test]
fn no_entry_is_longer_than_the_limit() {
    let event = Event::Signed { request: [0; 16], transaction: vec![0; ENTRY_BYTES_MAX] };
    assert!(matches!(Entry { unix_ms: 0, event }.encode(), Err(EntryError::TooLong(_))));
    assert!(matches!(
        Entry::decode(&vec![VERSION; ENTRY_BYTES_MAX + 1]),
        Err(EntryError::TooLong(_))
    ));
}

#[test]
fn a_length_that_lies_costs_nothing() {
    // Signed, request, then a transaction that claims to be 2^63 bytes long.
    let mut bytes = vec![VERSION, 0, 9];
    bytes.extend([0; 16]);
    bytes.extend([0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f]);
    assert!(matches!(Entry::decode(&bytes), Err(EntryError::Malformed(_))));
}

proptest! {
    #[test]
    fn hostile_bytes_never_panic_and_decode_to_themselves(
        body in prop::collection::vec(any::<u8>(), 0..300), kind in 0_u8..40,
    ) {
        let mut bytes = vec![VERSION, 0, kind];
        bytes.extend(body);
        if let Ok(entry) = Entry::decode(&bytes) {
            prop_assert_eq!(entry.encode().unwrap(), bytes);
        }
    }

    #[test]
    fn changed_entries_never_decode_to_the_same(
        which in 0_usize..12, at in any::<prop::sample::Index>(), flip in 1_u8..,
    ) {
        let entry = Entry { unix_ms: 1234, event: vectors().remove(which).0 };
        let mut bytes = entry.encode().unwrap();
        let at = at.index(bytes.len());
        bytes[at] ^= flip;
        prop_assert_ne!(Entry::decode(&bytes).ok(), Some(entry));
    }

    #[test]
    fn spends_round_trip(
        fee in any::<u128>(), external in any::<u128>(), request in any::<[u8; 16]>(),
        transaction in prop::collection::vec(any::<u8>(), 0..2000),
        amounts in prop::collection::vec(any::<u128>(), 0..50),
        change_index in any::<Option<u32>>(), lane in "\\PC{0,20}", unix_ms in any::<u64>(),
    ) {
        let slots = amounts.iter().map(|a| SpentSlot { slot: vec![1; 36], amount: *a }).collect();
        let event = Event::Spend(Spend {
            request, policy: 2, lane, wallet: "w".to_owned(), caller: "c".to_owned(), fee, external,
            slots, orders: vec![], change_index, cold_index: None, transaction, trace: vec![],
        });
        let entry = Entry { unix_ms, event };
        prop_assert_eq!(Entry::decode(&entry.encode().unwrap()).unwrap(), entry);
    }
}
