//! The queue without a token: who gets what, in which order, and what is never lost.

use std::num::NonZeroUsize;

use super::super::queue::{Next, Queue};
use super::super::verify::Outcome;
use super::super::work::{Answer, Asking, Batch, Lane, Work};
use super::*;

fn wrong() -> Outcome {
    Outcome::Wrong { by: 0, made: None }
}

type Answers = tokio::sync::mpsc::UnboundedReceiver<Answer>;

const SOON: Duration = Duration::from_millis(1);

fn jobs(count: usize) -> Vec<Job> {
    let public_key = SecretKey::from_slice(&[7; 32]).unwrap().public_key(SECP256K1);
    let job = |at| Job {
        key: KeySource::Wrapped(WrappedBy::OaepSha1, vec![0; 4].into()),
        what: ToSign::Ecdsa(digest(at)),
        public_key,
    };
    (0..count).map(job).collect()
}

/// How many jobs the next batch has, which is then answered.
fn do_next(queue: &Queue, worker: usize) -> Option<(usize, [u8; 16])> {
    match queue.take(worker, SOON) {
        Next::Work(Work::Sign(batch)) => {
            let done = (batch.items.len(), batch.items[0].request());
            let outcomes = batch.items.iter().map(|_| wrong()).collect();
            batch.answer(outcomes);
            Some(done)
        }
        _ => None,
    }
}

fn take(queue: &Queue) -> Work {
    match queue.take(0, SOON) {
        Next::Work(work) => work,
        _ => panic!("nothing to do"),
    }
}

#[test]
fn batches_shrink_towards_the_end_and_miss_nothing() {
    for workers in [1, 2, 8] {
        let queue = Queue::new(workers, 0, 1_000);
        let mut answers = queue.push(Lane::Requests, [1; 16], jobs(100)).unwrap();
        let mut sizes = Vec::new();
        while let Some((size, _)) = do_next(&queue, 0) {
            sizes.push(size);
        }
        assert_eq!(sizes.iter().sum::<usize>(), 100);
        assert!(sizes.is_sorted_by(|a, b| a >= b) && sizes[0] <= 8, "{sizes:?}");
        assert!(sizes.iter().rev().take(workers).all(|size| *size == 1), "{sizes:?}");
        let mut positions = Vec::new();
        while let Ok(Ok((position, _))) = answers.try_recv() {
            positions.push(position);
        }
        positions.sort_unstable();
        assert_eq!(positions, (0..100).collect::<Vec<_>>());
    }
}

#[test]
fn requests_take_turns() {
    let queue = Queue::new(1, 0, 1_000);
    let _long = queue.push(Lane::Requests, [1; 16], jobs(100)).unwrap();
    let _short = queue.push(Lane::Requests, [2; 16], jobs(1)).unwrap();
    let _proofs = queue.push(Lane::Proofs, [0; 16], jobs(1)).unwrap();
    let order: Vec<u8> = (0..3).map(|_| do_next(&queue, 0).unwrap().1[0]).collect();
    assert_eq!(order, [1, 2, 1]);
    while let Some((_, request)) = do_next(&queue, 0) {
        assert!(request == [1; 16] || queue.waiting() == 0, "proofs come last");
    }
}

/// One small request of a wallet.
fn small(queue: &Queue, wallet: Option<&str>, number: u8, count: usize) -> Answers {
    let asking =
        Asking { request: [number; 16], wallet: wallet.map(Into::into), lease: Lease::forever() };
    queue.push_under(Lane::Requests, asking, jobs(count)).unwrap()
}

/// Whose jobs the next batch has.
fn whose(queue: &Queue) -> (Batch, Vec<u8>) {
    let Work::Sign(batch) = take(queue) else { panic!("no jobs") };
    let numbers = batch.items.iter().map(|item| item.request()[0]).collect();
    (batch, numbers)
}

#[test]
fn small_requests_of_one_wallet_go_together_and_each_hears_of_its_own() {
    let queue = Queue::new(1, 0, 1_000);
    let mut answers: Vec<Answers> =
        (1..=20).map(|number| small(&queue, Some("hot"), number, 1)).collect();
    drop(answers.remove(1)); // the second one's caller has gone
    let (batch, numbers) = whose(&queue);
    assert_eq!(numbers, [1, 3, 4, 5], "four at most, and none that nobody waits for");
    let outcomes = batch.items.iter().map(|_| wrong()).collect();
    batch.answer(outcomes);
    for (at, answer) in answers.iter_mut().enumerate() {
        assert_eq!(answer.try_recv().is_ok(), at < 4, "answer {at}");
        assert!(answer.try_recv().is_err(), "nobody hears of another's");
    }
    // A short answer is nobody's.
    let (batch, numbers) = whose(&queue);
    assert_eq!(numbers, [6, 7, 8, 9]);
    batch.answer(vec![wrong()]);
    for answer in &mut answers[4..8] {
        assert!(matches!(answer.try_recv(), Ok(Err(TokenError::Unavailable(_)))));
    }
}

#[test]
fn nobody_elses_jobs_go_along() {
    let queue = Queue::new(1, 0, 1_000);
    let _all = [
        small(&queue, Some("hot"), 1, 1),
        small(&queue, Some("deposits"), 2, 1),
        small(&queue, None, 3, 1),
        small(&queue, None, 4, 1),
        small(&queue, Some("hot"), 5, 1),
        small(&queue, Some("hot"), 6, 9),
        small(&queue, Some("hot"), 7, 1),
    ];
    let order: Vec<Vec<u8>> = (0..5).map(|_| whose(&queue).1).collect();
    // Another wallet's, proofs', and what is more than fits wait for their own turn.
    assert_eq!(order, [vec![1], vec![2], vec![3], vec![4], vec![5]]);
}

#[test]
fn what_was_tried_goes_alone() {
    let kek = KeySource::Wrapped(WrappedBy::Kek([3; 32]), vec![0; 4].into());
    let oaep = KeySource::Wrapped(WrappedBy::OaepSha1, vec![0; 4].into());
    for (workers, key) in [(1, &oaep), (1, &kek), (1, &KeySource::Born), (2, &oaep), (2, &kek)] {
        let queue = Queue::new(workers, 0, 1_000);
        let one = |number| {
            let mut jobs = jobs(1);
            jobs[0].key = key.clone();
            let (request, lease) = ([number; 16], Lease::forever());
            let asking = Asking { request, wallet: Some("hot".into()), lease };
            queue.push_under(Lane::Requests, asking, jobs).unwrap()
        };
        let mut answers: Vec<Answers> = (1..=64).map(one).collect();
        let (mut died, mut with) = (0, Vec::new());
        // The first one's job kills whoever does it.
        while queue.waiting() > 0 {
            let (batch, numbers) = whose(&queue);
            if numbers.contains(&1) {
                died += 1;
                with.push(numbers.len());
                queue.give_back(Work::Sign(batch), "it died");
            } else {
                let outcomes = batch.items.iter().map(|_| wrong()).collect();
                batch.answer(outcomes);
            }
        }
        assert_eq!(died, workers + 2, "as often as one alone may be tried");
        assert!(with[0] > 1 && with[1..].iter().all(|count| *count == 1), "{with:?}");
        assert!(matches!(answers[0].try_recv(), Ok(Err(TokenError::Unavailable(_)))));
        for answer in &mut answers[1..] {
            assert!(matches!(answer.try_recv(), Ok(Ok(_))));
        }
    }
}

#[test]
fn of_a_batch_that_comes_back_nothing_is_done_for_those_who_went() {
    let queue = Queue::new(1, 0, 1_000);
    let mut answers: Vec<Answers> =
        (1..=8).map(|number| small(&queue, Some("hot"), number, 1)).collect();
    let (batch, numbers) = whose(&queue);
    assert_eq!(numbers, [1, 2, 3, 4]);
    drop(answers.remove(1));
    queue.put_back(Work::Sign(batch));
    assert_eq!(whose(&queue).1[..3], [1, 3, 4]);
}

#[test]
fn small_requests_are_shared_between_workers() {
    let queue = Queue::new(2, 0, 1_000);
    let _all: Vec<Answers> = (1..=6).map(|number| small(&queue, Some("hot"), number, 1)).collect();
    let sizes: Vec<usize> = (0..6).map(|_| whose(&queue).1.len()).collect();
    assert_eq!(sizes, [1; 6], "no worker has many while another has none");
}

#[test]
fn statements_come_first() {
    let queue = Queue::new(1, 0, 1_000);
    let _jobs = queue.push(Lane::Requests, [1; 16], jobs(1)).unwrap();
    let _statement =
        queue.push_statement(StatementKey::Checkpoint, vec![1], Lease::forever()).unwrap();
    assert!(matches!(take(&queue), Work::Statement(_)));
    assert!(matches!(take(&queue), Work::Sign(_)));
}

#[test]
fn work_given_back_goes_to_another_worker_until_enough_is_enough() {
    let workers = 3;
    let queue = Queue::new(workers, 0, 1_000);
    let mut answers = queue.push(Lane::Requests, [1; 16], jobs(1)).unwrap();
    for _ in 0..workers + 2 {
        queue.give_back(take(&queue), "it died");
    }
    assert!(matches!(queue.take(0, SOON), Next::Idle));
    assert!(
        matches!(answers.try_recv(), Ok(Err(TokenError::Unavailable(why))) if why == "it died")
    );

    let mut answer =
        queue.push_statement(StatementKey::Checkpoint, vec![1], Lease::forever()).unwrap();
    for _ in 0..workers + 2 {
        queue.give_back(take(&queue), "it died");
    }
    assert!(matches!(answer.try_recv(), Ok(Err(TokenError::Unavailable(_)))));
}

#[test]
fn nobody_waits_for_a_token_that_is_down() {
    let queue = Queue::new(2, 0, 1_000);
    let mut waiting = queue.push(Lane::Proofs, [1; 16], jobs(100)).unwrap();
    let under_way = take(&queue);
    let why = TokenError::PinLatched("no".into());
    queue.set_down(&why, false);
    assert_eq!(waiting.try_recv().unwrap().err(), Some(why.clone()));
    assert_eq!(queue.push(Lane::Requests, [1; 16], jobs(1)).err(), Some(why.clone()));
    assert_eq!(
        queue.push_statement(StatementKey::Checkpoint, Vec::new(), Lease::forever()).err(),
        Some(why)
    );
    queue.give_back(under_way, "it died");
    assert_eq!(queue.waiting(), 0);
    queue.set_up(0);
    assert!(queue.push(Lane::Requests, [1; 16], jobs(1)).is_ok());
}

#[test]
fn what_nobody_waits_for_is_not_done() {
    let queue = Queue::new(2, 0, 1_000);
    drop(queue.push(Lane::Requests, [1; 16], jobs(100)).unwrap());
    assert!(matches!(queue.take(0, SOON), Next::Idle));
    assert_eq!(queue.waiting(), 0);
}

#[test]
fn lanes_are_bounded_each_by_itself() {
    let queue = Queue::new(2, 0, 100);
    let _first = queue.push(Lane::Proofs, [1; 16], jobs(100)).unwrap();
    let full = queue.push(Lane::Proofs, [1; 16], jobs(1)).err();
    assert_eq!(full, Some(TokenError::Busy { waiting: 100 }));
    let _second = queue.push(Lane::Requests, [1; 16], jobs(100)).unwrap();
    assert!(queue.push(Lane::Requests, [1; 16], jobs(1)).is_err());
    do_next(&queue, 0).unwrap();
    assert!(queue.push(Lane::Requests, [1; 16], jobs(1)).is_ok());
}

#[test]
fn a_closed_queue_hands_out_requests_and_drops_proofs() {
    let queue = Queue::new(2, 0, 100);
    let _requests = queue.push(Lane::Requests, [1; 16], jobs(1)).unwrap();
    let mut proofs = queue.push(Lane::Proofs, [1; 16], jobs(1)).unwrap();
    queue.close();
    assert!(matches!(proofs.try_recv(), Ok(Err(_))));
    assert!(do_next(&queue, 0).is_some());
    assert!(matches!(queue.take(0, SOON), Next::Closed));
    assert!(queue.pause(Duration::from_secs(60)), "nobody pauses at a closed queue");
    assert!(queue.push(Lane::Requests, [1; 16], jobs(1)).is_err());
}

#[test]
fn each_worker_counts_its_own_before_other_work() {
    let queue = Queue::new(2, 0, 100);
    let _requests = queue.push(Lane::Requests, [1; 16], jobs(10)).unwrap();
    let _answers = queue.push_counts().unwrap();
    assert!(queue.try_take(1).is_none());
    assert!(matches!(queue.take(1, SOON), Next::Question(_)));
    assert!(queue.try_take(1).is_some());
    assert!(matches!(queue.take(0, SOON), Next::Question(_)));
}

#[test]
fn many_workers_at_once_do_everything_once() {
    let queue = Queue::new(8, 0, 100_000);
    let mut answers = queue.push(Lane::Requests, [1; 16], jobs(5_000)).unwrap();
    std::thread::scope(|scope| {
        for worker in 0..8 {
            let queue = queue.clone();
            scope.spawn(move || {
                let mut turn = worker;
                loop {
                    match queue.take(worker, SOON) {
                        // Some break off; somebody else does theirs.
                        Next::Work(work) if turn % 7 == 6 => queue.give_back(work, "it died"),
                        Next::Work(Work::Sign(batch)) => {
                            let outcomes = batch.items.iter().map(|_| wrong()).collect();
                            batch.answer(outcomes);
                        }
                        _ => return,
                    }
                    turn += 1;
                }
            });
        }
    });
    let mut seen = vec![0; 5_000];
    while let Ok(answer) = answers.try_recv() {
        seen[answer.unwrap().0] += 1;
    }
    assert!(seen.iter().all(|times| *times == 1));
}

/// A statement, and where its signature will come.
fn state(queue: &Queue) -> Result<Stated, TokenError> {
    queue.push_statement(StatementKey::Checkpoint, b"x\n".to_vec(), Lease::forever())
}

type Stated = tokio::sync::oneshot::Receiver<Result<token_wire::RawSignature, TokenError>>;

/// Number 2 of three workers takes nothing else, and leaves none to the others that are free first.
#[test]
fn a_worker_for_statements_takes_them_alone_and_is_not_the_only_one_who_does() {
    let queue = Queue::new(2, 1, 1_000);
    let _answers = queue.push(Lane::Requests, [1; 16], jobs(20)).unwrap();
    let _proofs = queue.push(Lane::Proofs, [0; 16], jobs(20)).unwrap();
    assert!(queue.try_take(2).is_none());
    assert!(matches!(queue.take(2, SOON), Next::Idle));
    let _stated = [state(&queue).unwrap(), state(&queue).unwrap()];
    assert!(queue.try_take(2).is_none() && matches!(queue.take(2, SOON), Next::Idle), "not yet");
    assert!(matches!(queue.take(0, SOON), Next::Work(Work::Statement(_))));
    assert!(matches!(queue.take(2, Duration::from_secs(120)), Next::Work(Work::Statement(_))));
    assert!(matches!(queue.take(2, SOON), Next::Idle));
    assert_eq!(do_next(&queue, 0).map(|(_, request)| request), Some([1; 16]));
    // It is asked what it counted like everybody else.
    assert_eq!(queue.push_counts().unwrap().len(), 3);
    assert!(matches!(queue.take(2, SOON), Next::Question(_)));
    // It is woken while it waits, and ends while jobs still wait for others.
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| queue.take(2, Duration::from_secs(120)));
        let _stated = state(&queue).unwrap();
        assert!(matches!(waiting.join().unwrap(), Next::Work(Work::Statement(_))));
        let waiting = scope.spawn(|| queue.take(2, Duration::from_secs(120)));
        queue.close();
        assert!(matches!(waiting.join().unwrap(), Next::Closed));
    });
    assert!(matches!(queue.take(0, SOON), Next::Question(_)));
    assert!(do_next(&queue, 0).is_some());
}

#[test]
fn where_only_statements_can_be_signed_only_those_are_taken() {
    let queue = Queue::new(1, 1, 1_000);
    let why = TokenError::Unavailable("gone".into());
    let mut answers = queue.push(Lane::Requests, [1; 16], jobs(3)).unwrap();
    let mut waits = state(&queue).unwrap();
    queue.set_down(&why, true);
    assert_eq!(answers.try_recv().unwrap().err(), Some(why.clone()));
    assert!(waits.try_recv().is_err(), "nobody failed it");
    assert_eq!(queue.push(Lane::Requests, [2; 16], jobs(1)).err(), Some(why.clone()));
    // Given back it waits again; nobody is left who could: it fails, and so does the next.
    let Next::Work(statement) = queue.take(1, SOON) else { panic!("a statement waits") };
    queue.give_back(statement, "it died");
    assert!(waits.try_recv().is_err());
    queue.nobody_states(&why);
    assert_eq!(waits.try_recv().unwrap().err(), Some(why.clone()));
    assert_eq!(state(&queue).err(), Some(why.clone()));
    // Back again, for statements alone, then for all.
    queue.set_up(1);
    let _waits = state(&queue).unwrap();
    assert_eq!(queue.push(Lane::Requests, [3; 16], jobs(1)).err(), Some(why.clone()));
    queue.set_up(0);
    let _answers = queue.push(Lane::Requests, [3; 16], jobs(1)).unwrap();
    // While others work it is nothing that those who sign statements alone are gone.
    queue.nobody_states(&why);
    let _waits = state(&queue).unwrap();
}

#[test]
fn one_wallets_jobs_leave_room_in_the_queue_for_anothers() {
    let queue = Queue::new(1, 0, 100);
    let push = |wallet: &str, count| {
        let wallet = Some(wallet.into());
        let asking = Asking { request: [1; 16], wallet, lease: Lease::forever() };
        queue.push_under(Lane::Requests, asking, jobs(count))
    };
    let mut kept = vec![push("one", 50).unwrap(), push("one", 25).unwrap()];
    assert_eq!(push("one", 1).err(), Some(TokenError::Busy { waiting: 75 }));
    kept.push(push("other", 25).unwrap());
    assert_eq!(push("other", 1).err(), Some(TokenError::Busy { waiting: 100 }));
    // What comes alone may be as large as the queue.
    let queue = Queue::new(1, 0, 100);
    let asking = Asking { request: [1; 16], wallet: Some("one".into()), lease: Lease::forever() };
    assert!(queue.push_under(Lane::Requests, asking, jobs(100)).is_ok());
}

#[test]
fn the_settings_give_one_way_to_a_token() {
    let both = TokenConfig {
        socket: Some("/run/x".into()),
        module: Some("/m".into()),
        ..TokenConfig::default()
    };
    for config in [TokenConfig::default(), both] {
        assert!(matches!(config.source(), Err(TokenError::Config(_))));
    }
    assert!(toml::from_str::<TokenConfig>("pin = \"1234\"").is_err());
    let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    assert_eq!(TokenConfig::default().workers(), cores.min(64));
}
