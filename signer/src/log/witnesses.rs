//! The witnesses' seats: who the policy names, what each said it saw last, and who is connected to be asked. It never dials
//! out: witnesses come to the signer. It never takes a cosignature that does not verify.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use audit::cosignature;
use audit::note::NoteError;
use policy::Rules;
use policy::witnesses::Witness;
use tokio::sync::{mpsc, oneshot, watch};

/// How long witnesses may take for one checkpoint.
const COSIGN_SECONDS_MAX: u64 = 5;

/// What a witness is asked.
#[derive(Debug)]
pub struct Ask {
    /// Entries of the tree that it saw last.
    pub from: u64,
    /// That it grew into the one below.
    pub path: Vec<audit::Hash>,
    /// The checkpoint.
    pub note: String,
    /// Takes its line.
    pub answer: oneshot::Sender<String>,
}

/// All seats.
pub struct Witnesses {
    inner: Mutex<Inner>,
    /// Counts changes.
    changed: watch::Sender<u64>,
    /// Counts answers.
    answers: watch::Sender<u64>,
    patience: Duration,
}

#[derive(Default)]
struct Inner {
    seats: Vec<Seat>,
    /// The last checkpoint that each cosigned, by its own word at its last visit; empty if it never did.
    told: Vec<(Witness, String)>,
    required: usize,
    armed: bool,
    visits: u64,
    openings: u64,
}

struct Seat {
    witness: Witness,
    visit: Option<Visit>,
    /// When its newest cosignature came, since this process began.
    cosigned: Option<SystemTime>,
}

/// A connected witness.
struct Visit {
    number: u64,
    size: u64,
    asks: mpsc::Sender<Ask>,
    /// It has not answered yet: what it will have seen is known only then, and nothing else is asked before.
    busy: bool,
}

/// A witness that can be asked.
pub(super) struct Present {
    pub(super) witness: Witness,
    pub(super) size: u64,
    number: u64,
    asks: mpsc::Sender<Ask>,
}

impl Default for Witnesses {
    fn default() -> Self {
        Self::with_patience(Duration::from_secs(COSIGN_SECONDS_MAX))
    }
}

impl Witnesses {
    /// No seats yet; whoever is asked has this long.
    #[must_use]
    pub fn with_patience(patience: Duration) -> Self {
        let (changed, answers) = (watch::Sender::new(0), watch::Sender::new(0));
        Self { inner: Mutex::default(), changed, answers, patience }
    }

    /// Gives seats to those whom the policy names. Who keeps name and key keeps what it told.
    pub fn appoint(&self, rules: &Rules) {
        self.seat(rules.witnesses(), rules.witnesses_required());
    }

    /// As [`appoint`](Self::appoint), of these.
    pub fn seat(&self, witnesses: &[Witness], required: usize) {
        let mut inner = self.lock();
        let mut before = std::mem::take(&mut inner.seats);
        let seat = |witness: &Witness| {
            let kept = before.iter().position(|seat| seat.witness == *witness);
            kept.map(|position| before.swap_remove(position)).unwrap_or_else(|| Seat {
                witness: witness.clone(),
                visit: None,
                cosigned: None,
            })
        };
        inner.seats = witnesses.iter().map(seat).collect();
        inner.required = required;
        inner.armed = false;
    }

    /// How many must have seen a checkpoint.
    #[must_use]
    pub fn required(&self) -> usize {
        self.lock().required
    }

    /// From now on nothing is let out that they have not seen.
    pub fn arm(&self) {
        self.lock().armed = true;
        self.note_change();
    }

    pub(super) fn is_armed(&self) -> bool {
        let inner = self.lock();
        inner.armed && inner.required > 0
    }

    /// The witness of this name, if the policy has one.
    #[must_use]
    pub fn named(&self, name: &str) -> Option<Witness> {
        let inner = self.lock();
        inner.seats.iter().map(|seat| &seat.witness).find(|w| w.name.as_str() == name).cloned()
    }

    /// Remembers what a witness says it saw last.
    pub fn told(&self, name: &str, note: String) {
        let mut inner = self.lock();
        if let Some(witness) = inner.find(name).map(|seat| seat.witness.clone()) {
            inner.told.retain(|(other, _)| *other != witness);
            inner.told.push((witness, note));
        }
        drop(inner);
        self.note_change();
    }

    /// What each said, whether or not the policy looked at last names it.
    pub(super) fn tales(&self) -> Vec<(Witness, String)> {
        self.lock().told.clone()
    }

    /// Nothing when enough have said what they saw last, else who is missing.
    #[must_use]
    pub fn missing(&self) -> Option<String> {
        let inner = self.lock();
        let silent = inner.seats.iter().map(|seat| &seat.witness);
        let silent = silent.filter(|one| !inner.told.iter().any(|(told, _)| told == *one));
        let silent: Vec<&str> = silent.map(|witness| witness.name.as_str()).collect();
        let told = inner.seats.len().saturating_sub(silent.len());
        (told < inner.required).then(|| {
            let (required, silent) = (inner.required, silent.join(", "));
            format!(
                "at a start {required} of them must say what they saw last, and {told} did; not yet: {silent}"
            )
        })
    }

    /// Done once enough have said what they saw last.
    pub async fn enough_told(&self) {
        let mut changed = self.changed.subscribe();
        while self.missing().is_some() {
            if changed.changed().await.is_err() {
                return;
            }
        }
    }

    /// Which service witnesses come to now; whoever comes to one that ended since gets no seat.
    pub fn opening(&self) -> u64 {
        self.lock().openings
    }

    /// A witness comes to this service, which saw so many entries: gives what it is asked from now on. One that came before
    /// under its name is asked no more.
    #[must_use]
    pub fn come(&self, name: &str, size: u64, opening: u64) -> Option<(u64, mpsc::Receiver<Ask>)> {
        let (asks, asked) = mpsc::channel(1);
        let number = {
            let mut inner = self.lock();
            if inner.openings != opening {
                return None;
            }
            inner.visits = inner.visits.saturating_add(1);
            let number = inner.visits;
            inner.find(name)?.visit = Some(Visit { number, size, asks, busy: false });
            number
        };
        self.note_change();
        self.note_answer();
        Some((number, asked))
    }

    /// The visit is over.
    pub fn go(&self, name: &str, number: u64) {
        if let Some(seat) = self.lock().find(name)
            && seat.visit.as_ref().is_some_and(|visit| visit.number == number)
        {
            seat.visit = None;
        }
        self.note_answer();
    }

    /// Ends every visit, since the service ends.
    pub fn dismiss(&self) {
        let mut inner = self.lock();
        inner.openings = inner.openings.saturating_add(1);
        for seat in &mut inner.seats {
            seat.visit = None;
        }
        drop(inner);
        self.note_answer();
    }

    /// How many entries each has seen, as far as is known, none where it is not connected; in the policy's order.
    #[must_use]
    pub fn seen(&self) -> Vec<Option<u64>> {
        let inner = self.lock();
        inner.seats.iter().map(|seat| seat.visit.as_ref().map(|visit| visit.size)).collect()
    }

    /// When the newest cosignature of each came, since this process began; in the policy's order.
    #[must_use]
    pub fn cosigned(&self) -> Vec<Option<SystemTime>> {
        self.lock().seats.iter().map(|seat| seat.cosigned).collect()
    }

    /// Who can be asked: is connected, and has answered what it was asked before. Waits a little for those who have not, while
    /// there are too few others.
    pub(super) async fn present(&self) -> Vec<Present> {
        let mut answers = self.answers.subscribe();
        let enough =
            async { while self.lock().waits_for_answers() && answers.changed().await.is_ok() {} };
        // Whoever is late is not asked.
        let _ = tokio::time::timeout(self.patience, enough).await;
        let inner = self.lock();
        let present = inner.seats.iter().filter_map(|seat| {
            let visit = seat.visit.as_ref().filter(|visit| !visit.busy)?;
            let (size, number, asks) = (visit.size, visit.number, visit.asks.clone());
            Some(Present { witness: seat.witness.clone(), size, number, asks })
        });
        present.collect()
    }

    /// Asks those present, each with its path to this checkpoint, and waits until enough have cosigned: their lines.
    pub(super) async fn cosign(
        self: &Arc<Self>,
        size: u64,
        note: &str,
        asked: Vec<(Present, Vec<audit::Hash>)>,
    ) -> Result<String, String> {
        let required = self.required();
        if asked.len() < required {
            return Err(self.too_few(&asked.iter().map(|(p, _)| p.name()).collect::<Vec<_>>()));
        }
        let (lines, mut came) = mpsc::channel(asked.len().max(1));
        for (present, path) in asked {
            // Here, not in its task: whoever is asked next must see it, also when others answer before that task begins.
            self.visiting(&present, |visit| visit.busy = true);
            tokio::spawn(Arc::clone(self).ask(present, path, size, note.to_owned(), lines.clone()));
        }
        drop(lines);
        let (mut cosigned, mut by) = (String::new(), Vec::new());
        let collect = async {
            while by.len() < required
                && let Some((name, line)) = came.recv().await
            {
                cosigned.push_str(&line);
                by.push(name);
            }
        };
        // Late or not: what came counts.
        let _ = tokio::time::timeout(self.patience, collect).await;
        if by.len() < required { Err(self.too_few(&by)) } else { Ok(cosigned) }
    }

    /// Asks one, and gives its line if that verifies. One that answers when nobody waits any more has seen the checkpoint all
    /// the same: asked next from what it saw before, it would have to take that for a log that was set back.
    async fn ask(
        self: Arc<Self>,
        present: Present,
        path: Vec<audit::Hash>,
        size: u64,
        note: String,
        lines: mpsc::Sender<(String, String)>,
    ) {
        let (answer, answered) = oneshot::channel();
        let ask = Ask { from: present.size, path, note: note.clone(), answer };
        let line = if present.asks.try_send(ask).is_ok() { answered.await.ok() } else { None };
        let verified = line.map(|line| verified(&note, &present.witness, &line).map(|()| line));
        self.visiting(&present, |visit| {
            visit.busy = false;
            if matches!(verified, Some(Ok(_))) {
                visit.size = visit.size.max(size);
            }
        });
        if matches!(verified, Some(Ok(_)))
            && let Some(seat) = self.lock().seats.iter_mut().find(|s| s.witness == present.witness)
        {
            seat.cosigned = Some(SystemTime::now());
        }
        self.note_answer();
        match verified {
            // Whoever waited may have had enough by now.
            Some(Ok(line)) => drop(lines.send((present.name(), line)).await),
            Some(Err(error)) => {
                tracing::error!(witness = present.name(), %error, "no cosignature");
            }
            None => {}
        }
    }

    /// Told apart by its visit: one that came again has said itself what it saw.
    fn visiting(&self, present: &Present, change: impl FnOnce(&mut Visit)) {
        if let Some(visit) =
            self.lock().find(present.witness.name.as_str()).and_then(|s| s.visit.as_mut())
            && visit.number == present.number
        {
            change(visit);
        }
    }

    fn too_few(&self, had: &[String]) -> String {
        let inner = self.lock();
        let names = inner.seats.iter().map(|seat| seat.witness.name.as_str());
        let missing: Vec<&str> = names.filter(|name| !had.iter().any(|had| had == name)).collect();
        let (required, had, missing) = (inner.required, had.len(), missing.join(", "));
        format!(
            "{required} of them must cosign the newest checkpoint, and {had} did; not: {missing}"
        )
    }

    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Wakes whoever waits for one that can be asked.
    fn note_answer(&self) {
        self.answers.send_modify(|count| *count = count.saturating_add(1));
    }

    fn note_change(&self) {
        self.changed.send_modify(|count| *count = count.saturating_add(1));
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// Whether those who have not answered yet are needed.
    fn waits_for_answers(&self) -> bool {
        let visits = || self.seats.iter().filter_map(|seat| seat.visit.as_ref());
        let (all, free) = (visits().count(), visits().filter(|visit| !visit.busy).count());
        free < self.required && all >= self.required
    }

    fn find(&mut self, name: &str) -> Option<&mut Seat> {
        self.seats.iter_mut().find(|seat| seat.witness.name.as_str() == name)
    }
}

impl Present {
    fn name(&self) -> String {
        self.witness.name.to_string()
    }
}

/// Exactly one line, by this witness, over this note.
fn verified(note: &str, witness: &Witness, line: &str) -> Result<(), NoteError> {
    if line.matches('\n').count() != 1 || !line.ends_with('\n') {
        return Err(NoteError::Malformed("a cosignature is one line"));
    }
    cosignature::verify(&format!("{note}{line}"), witness.name.as_str(), &witness.public_key)
        .map(drop)
}

impl fmt::Debug for Witnesses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Witnesses").field("required", &self.required()).finish_non_exhaustive()
    }
}
