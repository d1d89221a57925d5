//! Carries every unfinished sweep and payout forward: after each commit it looks at the tables, starts what is due and
//! waits out what failed. It keeps nothing that matters in memory: after a crash the tables say where to go on.

use std::collections::HashMap;
use std::mem::discriminant;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::{Id, JoinSet};

use crate::error::Error;
use crate::spend::Spender;
use crate::{payout, sweep};

/// How often the tables are looked at when nothing happens.
const TICK: Duration = Duration::from_secs(1);
/// Signatures and sends under way at once.
const AT_ONCE: usize = 8;
/// Pause after the first failure; doubled with each.
const PAUSE: Duration = Duration::from_secs(1);
/// Longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// What a step asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Next {
    /// Look at the tables again.
    Done,
    /// Not again before this long.
    After(Duration),
    /// It did not work; again, but less and less often.
    Failed,
}

/// One thing to carry forward.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum Job {
    Sweep(String),
    Recut(String),
    Auto(String),
    Payout(String),
    /// All payouts of a wallet that wait for coins.
    Plan(String),
    BumpSweep(String),
    BumpPayout(String),
}

/// Follows until `stop` says so. Ending in the middle of a step is no different from a crash there.
pub async fn run(app: Arc<Spender>, mut stop: watch::Receiver<bool>) {
    let mut commits = app.store.commits();
    let mut desk = Desk::default();
    while !*stop.borrow() {
        if let Err(error) = look(&app, &mut desk).await {
            tracing::warn!(%error, "sweeps and payouts cannot be looked at");
        }
        tokio::select! {
            _ = commits.changed() => {}
            () = app.wake.notified() => {}
            () = desk.one_finishes() => {}
            () = tokio::time::sleep(TICK) => {}
            changed = stop.changed() => if changed.is_err() { return },
        }
    }
}

/// Moves everything to where the chain says it is, then starts what waits for us.
async fn look(app: &Arc<Spender>, desk: &mut Desk) -> Result<(), Error> {
    sweep::watch(app).await?;
    payout::watch(app).await?;
    let payouts = payout::due(app).await?.into_iter().map(Job::Payout);
    let plans = payout::waiting(app).await?.into_iter().map(Job::Plan);
    let sweeps = sweep::due(app).await?.into_iter().map(Job::Sweep);
    let recuts = sweep::to_recut(app).await?.into_iter().map(Job::Recut);
    let autos = sweep::auto_due(app).await?.into_iter().map(Job::Auto);
    let slow_payouts = payout::overdue(app).await?.into_iter().map(Job::BumpPayout);
    let slow_sweeps = sweep::overdue(app).await?.into_iter().map(Job::BumpSweep);
    let slow = slow_payouts.chain(slow_sweeps);
    let due: Vec<_> =
        payouts.chain(plans).chain(sweeps).chain(recuts).chain(autos).chain(slow).collect();
    desk.forget_all_but(&due);
    if app.hurry.swap(false, Ordering::Relaxed) {
        desk.hurry_sweeps();
    }
    if desk.running.len() < AT_ONCE {
        let may_start = |id: &str| desk.may_start(&Job::Payout(id.to_owned()));
        if let Some(id) = payout::turn(app, may_start).await? {
            desk.start(app, Job::Payout(id));
        }
    }
    let mut due: Vec<_> = due.into_iter().filter(|job| desk.may_start(job)).collect();
    while let Some(job) = desk.next(&mut due) {
        desk.start(app, job);
    }
    Ok(())
}

async fn carry(app: Arc<Spender>, job: Job) -> Result<Next, Error> {
    match &job {
        Job::Sweep(id) => sweep::carry(&app, id).await,
        Job::Recut(id) => sweep::recut(&app, id).await,
        Job::Auto(wallet) => sweep::auto_sweep(&app, wallet).await,
        Job::Payout(id) => payout::carry(&app, id).await,
        Job::Plan(wallet) => payout::plan_waiting(&app, wallet).await,
        Job::BumpSweep(id) => sweep::bump(&app, id).await,
        Job::BumpPayout(id) => payout::bump(&app, id).await,
    }
}

/// Jobs under way, and how long others have to wait.
#[derive(Debug, Default)]
struct Desk {
    tasks: JoinSet<Result<Next, Error>>,
    running: HashMap<Id, Job>,
    waiting: HashMap<Job, Wait>,
}

#[derive(Debug)]
struct Wait {
    until: Instant,
    failures: u32,
}

impl Desk {
    fn may_start(&self, job: &Job) -> bool {
        let early = self.waiting.get(job).is_some_and(|wait| wait.until > Instant::now());
        !early && !self.running.values().any(|other| other == job)
    }

    /// Takes the first job of the kind of which the fewest are under way, while there is a place: however many there are
    /// of one kind, the others get theirs.
    fn next(&self, due: &mut Vec<Job>) -> Option<Job> {
        if self.running.len() >= AT_ONCE {
            return None;
        }
        let under_way = |job: &Job| {
            let same = |other: &&Job| discriminant(*other) == discriminant(job);
            self.running.values().filter(same).count()
        };
        let (place, _) = due.iter().enumerate().min_by_key(|(_, job)| under_way(job))?;
        Some(due.remove(place))
    }

    fn start(&mut self, app: &Arc<Spender>, job: Job) {
        let task = self.tasks.spawn(carry(app.clone(), job.clone()));
        let _ = self.running.insert(task.id(), job);
    }

    /// Waits for the next job to end; for ever if there is none.
    async fn one_finishes(&mut self) {
        let Some(joined) = self.tasks.join_next_with_id().await else {
            return std::future::pending().await;
        };
        let (id, result) = match joined {
            Ok((id, result)) => (id, result),
            Err(error) => (error.id(), Err(Error::Broken(format!("a step ended badly: {error}")))),
        };
        let Some(job) = self.running.remove(&id) else { return };
        let failures = self.waiting.remove(&job).map_or(0, |wait| wait.failures);
        let wait = match result {
            Ok(Next::Done) => return,
            Ok(Next::After(pause)) => Wait { until: later(pause), failures: 0 },
            Ok(Next::Failed) => Wait::longer(failures),
            Err(error) => {
                tracing::warn!(?job, %error, "a step failed; it will be tried again");
                Wait::longer(failures)
            }
        };
        let _ = self.waiting.insert(job, wait);
    }

    /// Sweeps that failed are tried again at once.
    fn hurry_sweeps(&mut self) {
        self.waiting.retain(|job, _| !matches!(job, Job::Sweep(_)));
    }

    fn forget_all_but(&mut self, due: &[Job]) {
        let now = Instant::now();
        self.waiting.retain(|job, wait| wait.until > now || due.contains(job));
    }
}

impl Wait {
    fn longer(failures: u32) -> Self {
        let pause =
            PAUSE.saturating_mul(1_u32.checked_shl(failures).unwrap_or(u32::MAX)).min(PAUSE_MAX);
        Self { until: later(pause), failures: failures.saturating_add(1) }
    }
}

fn later(pause: Duration) -> Instant {
    let now = Instant::now();
    now.checked_add(pause).unwrap_or(now)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn many_of_one_kind_leave_places_for_the_others() {
        let payout = |n: usize| Job::Payout(format!("o{n}"));
        let mut due: Vec<_> = (0..100).map(payout).collect();
        due.push(Job::Sweep("s".into()));
        let mut desk = Desk::default();
        let mut begun = Vec::new();
        while let Some(job) = desk.next(&mut due) {
            let task = desk.tasks.spawn(std::future::pending());
            let _ = desk.running.insert(task.id(), job.clone());
            begun.push(job);
        }
        assert_eq!(begun.len(), AT_ONCE);
        assert!(begun.contains(&Job::Sweep("s".into())), "{begun:?}");
        assert!(!desk.may_start(&payout(0)) && desk.may_start(&payout(99)));
        // Also where payouts have taken every place and one gets free.
        let mut desk = Desk::default();
        for n in 1..AT_ONCE {
            let task = desk.tasks.spawn(std::future::pending());
            let _ = desk.running.insert(task.id(), payout(n));
        }
        let mut due = vec![payout(50), Job::Sweep("s".into())];
        assert_eq!(desk.next(&mut due), Some(Job::Sweep("s".into())));
    }

    #[test]
    fn who_is_in_a_hurry_has_sweeps_tried_again_at_once_and_nothing_else() {
        let mut desk = Desk::default();
        let [sweep, payout] = [Job::Sweep("s".into()), Job::Payout("o".into())];
        for job in [&sweep, &payout] {
            let _ = desk.waiting.insert(job.clone(), Wait::longer(6));
        }
        assert!(!desk.may_start(&sweep) && !desk.may_start(&payout));
        desk.hurry_sweeps();
        assert!(desk.may_start(&sweep) && !desk.may_start(&payout));
    }

    #[test]
    fn pauses_grow_to_a_minute() {
        let pause =
            |failures| Wait::longer(failures).until.saturating_duration_since(Instant::now());
        assert!(pause(0) <= PAUSE);
        assert!(pause(3) > pause(2));
        assert!(pause(40) <= PAUSE_MAX && pause(40) > Duration::from_secs(59));
    }
}
