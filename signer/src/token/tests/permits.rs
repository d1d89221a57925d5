//! What stands on the wire when small requests of one wallet share a batch: each job carries its own request's permit.

use token_wire::Request;

use super::super::queue::Queue;
use super::super::work::{Asking, Batch, Lane, Work};
use super::super::worker::question;
use super::*;
use crate::token::SealedAccount;

/// Permit and digest of each job, in the wire's order.
fn carried(batch: &Batch) -> Vec<([u8; 16], [u8; 32])> {
    match question(batch) {
        Request::Sign(batch) => batch.jobs.iter().map(|job| (job.permit, job.digest)).collect(),
        Request::Born(batch) => batch.jobs.iter().map(|job| (job.permit, job.digest)).collect(),
        Request::Sealed(batch) => batch.jobs.iter().map(|job| (job.permit, job.digest)).collect(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn each_job_carries_its_own_requests_permit() {
    let public_key = SecretKey::from_slice(&[7; 32]).unwrap().public_key(SECP256K1);
    let blob = vec![0; token_wire::SEALED_BYTES_MAX];
    let account = Arc::new(SealedAccount { header: [0; 32], blob });
    let kinds = [
        KeySource::Wrapped(WrappedBy::OaepSha1, vec![0; 4].into()),
        KeySource::Born,
        KeySource::Sealed { account, change: false, index: 0 },
    ];
    for key in kinds {
        let queue = Queue::new(1, 0, 100);
        let wallet: Arc<str> = "hot".into();
        // Twelve requests of one wallet, each of one job with a digest of its own.
        let waiting: Vec<_> = (1..=12_u8)
            .map(|name| {
                let (wallet, lease) = (Some(Arc::clone(&wallet)), Lease::forever());
                let asking = Asking { request: [name; 16], wallet, lease };
                let (key, what) = (key.clone(), ToSign::Ecdsa([name; 32]));
                queue.push_under(Lane::Requests, asking, vec![Job { key, what, public_key }])
            })
            .collect();
        assert!(waiting.iter().all(Result::is_ok));
        let (mut seen, mut largest) = (Vec::new(), 0);
        while let Some(Work::Sign(batch)) = queue.try_take(0) {
            let jobs = carried(&batch);
            assert_eq!(jobs.len(), batch.items.len());
            largest = largest.max(jobs.len());
            seen.extend(jobs);
        }
        assert!(largest > 1, "no two requests shared a batch");
        let own: Vec<_> = (1..=12_u8).map(|name| ([name; 16], [name; 32])).collect();
        assert_eq!(seen, own);
    }
}
