//! How many requests may wait for people at once: one client does not take every place.

use audit::entry::{Admitted, Awaiting, Event};
use policy::intent::RequestId;
use signer::log::Step;
use statement::Paper;
use tonic::Code;

use crate::approving::{Desk, TWO_SITES};
use crate::house::said;

/// Another request just like it, by whom.
fn like(admitted: &Admitted, awaiting: &Awaiting, number: u64, caller: &str) -> [Event; 2] {
    let mut request = [0xee; 16];
    request[..8].copy_from_slice(&number.to_le_bytes());
    let admitted = Admitted { request, caller: caller.to_owned(), ..admitted.clone() };
    let mut paper = Paper::parse(awaiting.intent.as_bytes()).unwrap();
    paper.request = RequestId(request);
    let mut awaiting = awaiting.clone();
    awaiting.intent = String::from_utf8(paper.encode()).unwrap();
    awaiting.spend.request = request;
    caller.clone_into(&mut awaiting.spend.caller);
    [Event::Admitted(admitted), Event::Awaiting(awaiting)]
}

#[tokio::test]
async fn one_client_does_not_take_every_place_among_what_waits_for_people() {
    let desk = Desk::new(TWO_SITES).await;
    let size = desk.house.log_size();
    let first = desk.payout(1);
    desk.waits(&first, &["approvals"]).await;
    let written = desk.house.entries(size).await;
    let admitted = written.iter().find_map(|entry| match &entry.event {
        Event::Admitted(admitted) => Some(admitted.clone()),
        _ => None,
    });
    let awaiting = written.iter().find_map(|entry| match &entry.event {
        Event::Awaiting(awaiting) => Some(awaiting.clone()),
        _ => None,
    });
    let (admitted, mut awaiting) = (admitted.unwrap(), awaiting.unwrap());
    // Their coins are their own.
    awaiting.spend.slots.clear();
    awaiting.spend.orders.clear();
    let fill = async |from: u64, count: u64, caller: &str| {
        let app = desk.house.app();
        let all = (from..from + count).flat_map(|n| like(&admitted, &awaiting, n, caller));
        let all: Vec<Event> = all.collect();
        for some in all.chunks(200) {
            app.log.commit(|_| Step::write(some.to_vec(), ())).await.unwrap();
        }
    };
    let full = async |number: u64| {
        let status = desk.ask(&desk.payout(number)).await.unwrap_err();
        assert_eq!(said(&status), (Code::ResourceExhausted, vec!["busy".to_owned()]));
    };
    fill(0, 748, "watcher-1").await;
    desk.waits(&desk.payout(2), &["approvals"]).await;
    full(3).await;
    // What has a place keeps it, and a no gives one back.
    desk.waits(&first, &["approvals"]).await;
    let waiting = desk.pending().await.waiting;
    let ours = waiting.iter().find(|one| one.request_id[8..] != [0xee; 8]).unwrap();
    let about = desk.about_of(ours).await;
    desk.say("alice", statement::Says::Reject(about)).await.unwrap();
    desk.waits(&desk.payout(4), &["approvals"]).await;
    full(5).await;
}
