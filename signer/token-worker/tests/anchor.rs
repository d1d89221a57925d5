//! The token's own memory of how long the log was, against the real SoftHSM: written, changed, read, hidden, and refused where
//! it is not the one private object that it must be.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a test fails by panicking"
)]

mod support;

use cryptoki::object::{Attribute, ObjectClass};
use support::attacker::{as_pin_holder, attacker};
use support::{TestToken, Worker};
use token_wire::{ANCHOR_BYTES_MAX, AnchorAsk, FaultCode, Reply, Request};

const NONE: [&[u8]; 0] = [];

fn logged_in(token: &TestToken) -> Worker {
    let mut worker = token.worker();
    worker.open(false);
    assert_eq!(worker.ask(&Request::Login), Reply::LoggedIn);
    worker
}

fn ask(worker: &mut Worker, ask: AnchorAsk) -> Vec<Vec<u8>> {
    match worker.ask(&Request::Anchor(ask)) {
        Reply::Anchor(said) => said,
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_anchor_is_written_changed_and_read_again_by_whoever_has_the_pin() {
    let token = TestToken::new();
    let mut worker = logged_in(&token);
    assert_eq!(ask(&mut worker, AnchorAsk::Read), NONE);
    for note in [b"first".to_vec(), vec![b'x'; ANCHOR_BYTES_MAX], b"third".to_vec()] {
        assert_eq!(ask(&mut worker, AnchorAsk::Write(note.clone())), NONE);
        assert_eq!(ask(&mut worker, AnchorAsk::Read), [note]);
    }
    let long = AnchorAsk::Write(vec![b'x'; ANCHOR_BYTES_MAX + 1]);
    assert_eq!(worker.fault(&Request::Anchor(long)).code, FaultCode::BadRequest);
    // Another process finds the same.
    let mut other = logged_in(&token);
    assert_eq!(ask(&mut other, AnchorAsk::Read), [b"third"]);
    assert_eq!(ask(&mut other, AnchorAsk::Forget), [b"third"]);
    assert_eq!(ask(&mut worker, AnchorAsk::Read), NONE);
}

#[test]
fn nobody_reads_or_writes_an_anchor_without_the_pin() {
    let token = TestToken::new();
    let mut worker = logged_in(&token);
    ask(&mut worker, AnchorAsk::Try);
    let mut stranger = token.worker();
    let asks =
        [AnchorAsk::Read, AnchorAsk::Write(b"x".to_vec()), AnchorAsk::Forget, AnchorAsk::Try];
    stranger.open(false);
    for ask in asks {
        assert_eq!(stranger.fault(&Request::Anchor(ask)).code, FaultCode::BadRequest);
    }
    assert_eq!(ask(&mut stranger, AnchorAsk::Look), NONE, "the token hides it");
    assert_eq!(ask(&mut worker, AnchorAsk::Look), [b"b"]);
    ask(&mut worker, AnchorAsk::EndTry);
    assert_eq!(ask(&mut worker, AnchorAsk::Look), NONE);
    assert_eq!(ask(&mut worker, AnchorAsk::Read), NONE, "a trial is no anchor");
}

#[test]
fn every_anchor_is_read_and_one_that_is_not_private_or_too_many_are_refused() {
    // In another process, with the PIN: another data object of the same name.
    if let Some((session, private)) = attacker() {
        let template = [
            Attribute::Class(ObjectClass::DATA),
            Attribute::Token(true),
            Attribute::Private(private == [1]),
            Attribute::Modifiable(true),
            Attribute::Label(b"cofferdam anchor 1".to_vec()),
            Attribute::Application(b"cofferdam".to_vec()),
            Attribute::Value(b"another".to_vec()),
        ];
        session.create_object(&template).unwrap();
        return;
    }
    let name = "every_anchor_is_read_and_one_that_is_not_private_or_too_many_are_refused";
    let token = TestToken::new();
    let mut worker = logged_in(&token);
    ask(&mut worker, AnchorAsk::Write(b"the one".to_vec()));
    as_pin_holder(&token, name, &[1]);
    let mut both = ask(&mut worker, AnchorAsk::Read);
    both.sort();
    assert_eq!(both, [&b"another"[..], b"the one"]);
    // The next write leaves one.
    ask(&mut worker, AnchorAsk::Write(b"the next".to_vec()));
    assert_eq!(ask(&mut worker, AnchorAsk::Read), [b"the next"]);
    (0..4).for_each(|_| as_pin_holder(&token, name, &[1]));
    let many = worker.fault(&Request::Anchor(AnchorAsk::Read));
    assert_eq!(many.code, FaultCode::KeyAmbiguous, "{many}");
    assert_eq!(ask(&mut worker, AnchorAsk::Forget).len(), 5);
    as_pin_holder(&token, name, &[0]);
    let public = worker.fault(&Request::Anchor(AnchorAsk::Read));
    assert_eq!(public.code, FaultCode::KeyUnsafe, "{public}");
    ask(&mut worker, AnchorAsk::Forget);
    assert_eq!(ask(&mut worker, AnchorAsk::Read), NONE);
}
