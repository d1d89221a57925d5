//! A log of ten thousand entries, touched in ten thousand ways by somebody who has its database and not the token: each is
//! noticed, and the first row that is not what was signed is named.

use audit::Hash;
use audit::entry::{Entry, Event};
use audit::history::BLOCK;
use audit::tree::leaf_hash;
use officer::audit::blame::{Bad, Blame, Leaves};
use officer::audit::{Auditor, Fault};

use crate::support::{checkpoint_over, encoded, public, story, token};

const ENTRIES: usize = 10_000;
/// Entries between checkpoints.
const STEP: usize = 50;
const MUTATIONS: u64 = 10_000;

type Rows = Vec<(i64, Vec<u8>)>;

/// The log, and where audit and blame were at each checkpoint: what lies before a mutation need not be read again.
struct Log {
    rows: Rows,
    notes: Vec<String>,
    leaves: Leaves,
    at: Vec<(Auditor, Blame)>,
}

impl Log {
    fn new() -> Self {
        let mut events = story();
        let word =
            |number| Event::Service { state: format!("word {number}"), version: String::new() };
        events.extend((events.len()..ENTRIES).map(word));
        let rows: Rows = (0..).zip(encoded(&events)).collect();
        let hashes: Vec<Hash> = rows.iter().map(|(_, bytes)| leaf_hash(bytes)).collect();
        let leaves = (0..).zip(hashes.chunks(BLOCK as usize).map(<[Hash]>::to_vec)).collect();
        let mut log = Self { rows, notes: checkpoint_over(&hashes, STEP), leaves, at: Vec::new() };
        let (mut auditor, mut blame) =
            (Auditor::new(public(&token()), &[]), Blame::new(public(&token())));
        for (part, note) in log.rows.chunks(STEP).zip(&log.notes) {
            log.at.push((auditor.snapshot(), blame.clone()));
            for (seq, bytes) in part {
                auditor.entry(*seq, bytes).unwrap();
                blame.entry(*seq, bytes);
            }
            auditor.checkpoint(note).unwrap();
            assert!(blame.checkpoint(note).is_none());
        }
        assert_eq!(auditor.finish().unwrap().size, ENTRIES as u64);
        log
    }

    /// The rows from a checkpoint on, as many as an audit can need to see that one of the first differs, and their hashes.
    fn window(&self, part: usize, parts: usize) -> (Rows, Leaves) {
        let (from, to) = (part * STEP, ((part + parts) * STEP).min(ENTRIES));
        let blocks = from as u64 / BLOCK..=to as u64 / BLOCK;
        let leaves = self.leaves.range(blocks).map(|(block, leaves)| (*block, leaves.clone()));
        (self.rows[from..to].to_vec(), leaves.collect())
    }

    /// What an audit says of other rows in the place of those from a checkpoint on.
    fn audit(&self, rows: &Rows, leaves: &Leaves, part: usize) -> (Fault, Option<Bad>) {
        let (mut auditor, mut blame) = (self.at[part].0.snapshot(), self.at[part].1.clone());
        // As a database gives them: each checkpoint behind as many rows as it covers, or at the end.
        let mut notes = (1..).map(|part| part * STEP).zip(&self.notes).skip(part).peekable();
        let (mut given, mut fault, mut bad) = (part * STEP, None, None);
        let mut rest = rows.iter().peekable();
        while bad.is_none() && (rest.peek().is_some() || notes.peek().is_some()) {
            if let Some((_, note)) = notes.next_if(|(at, _)| *at <= given || rest.peek().is_none())
            {
                if fault.is_none() {
                    fault = auditor.checkpoint(note).err();
                }
                bad = blame.checkpoint(note).map(|mismatch| mismatch.name(leaves));
            } else if let Some((seq, bytes)) = rest.next() {
                given += 1;
                if fault.is_none() {
                    fault = auditor.entry(*seq, bytes).err();
                }
                blame.entry(*seq, bytes);
            }
        }
        let fault = fault.unwrap_or_else(|| auditor.finish().unwrap_err());
        (fault, bad)
    }
}

/// Repeatable noise.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: usize) -> usize {
        // Steele and others' SplitMix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % end as u64).unwrap()
    }
}

/// Parts that are read on from the one with the mutation: one would do.
const PARTS: usize = 3;

/// Touches rows that begin at `from`; the first that differs then, and whether the leaf hashes were edited with it.
fn mutate(
    kind: usize,
    (rows, leaves): (&mut Rows, &mut Leaves),
    from: usize,
    at: usize,
    dice: &mut Dice,
) -> (usize, bool) {
    let place = at - from;
    let later = |rows: &mut Rows, from: usize, by: i64| {
        rows.iter_mut().skip(from).for_each(|row| row.0 += by);
    };
    let mut relabel = |seq: usize, bytes: &[u8]| {
        let block = leaves.get_mut(&(seq as u64 / BLOCK)).unwrap();
        block[seq % BLOCK as usize] = leaf_hash(bytes);
    };
    match kind {
        // A bit.
        0 => {
            let byte = dice.below(rows[place].1.len());
            rows[place].1[byte] ^= 1 << dice.below(8);
        }
        // A row that decodes and could be true.
        1 => rows[place].1 = at_another_time(&rows[place].1, 1),
        // The same, with its leaf hash edited as well.
        2 => {
            rows[place].1 = at_another_time(&rows[place].1, 1);
            relabel(at, &rows[place].1);
            return (at, true);
        }
        // Deleted.
        3 => drop(rows.remove(place)),
        // Deleted, and those after it moved up.
        4 => {
            rows.remove(place);
            later(rows, place, -1);
        }
        // Two exchanged.
        5 => {
            let other = (place + 1 + dice.below(rows.len() - 1)) % rows.len();
            rows.swap(place, other);
            (rows[place].0, rows[other].0) = (rows[other].0, rows[place].0);
            return (from + place.min(other), false);
        }
        // Cut off.
        6 => rows.truncate(place),
        // Made up, and those after it moved down.
        7 => {
            let event = Event::Service { state: "made up".to_owned(), version: String::new() };
            let unix_ms = Entry::decode(&rows[place].1).unwrap().unix_ms;
            later(rows, place, 1);
            rows.insert(place, (at as i64, Entry { unix_ms, event }.encode().unwrap()));
        }
        // Another story from here on, well told, with its own leaf hashes: a fork.
        8 => {
            for (seq, row) in (from..).zip(rows.iter_mut()).skip(place) {
                row.1 = at_another_time(&row.1, 7);
                relabel(seq, &row.1);
            }
            return (at, true);
        }
        // Emptied.
        _ => rows[place].1.clear(),
    }
    (at, false)
}

fn at_another_time(bytes: &[u8], later_ms: u64) -> Vec<u8> {
    let mut entry = Entry::decode(bytes).unwrap();
    entry.unix_ms += later_ms;
    entry.encode().unwrap()
}

/// Whoever edits the leaf hashes too leaves no trace of which row it was, only of where; otherwise it is named.
fn check(what: &str, (fault, bad): (Fault, Option<Bad>), first: usize, hidden: bool) {
    match bad.unwrap_or_else(|| panic!("{what}: not noticed, but {fault}")) {
        Bad::Entry(seq) => assert_eq!((seq, hidden), (first as u64, false), "{what}: {fault}"),
        Bad::Between(from, to) => {
            assert!(hidden && (from..=to).contains(&(first as u64)), "{what}: {from} to {to}");
        }
    }
}

#[test]
fn every_one_of_ten_thousand_mutations_is_noticed_and_its_first_row_named() {
    let (log, mut dice) = (Log::new(), Dice(14));
    for number in 0..MUTATIONS {
        let (kind, at) = (usize::try_from(number % 10).unwrap(), dice.below(ENTRIES));
        let part = at / STEP;
        let (mut rows, mut leaves) = log.window(part, PARTS);
        let touched = (&mut rows, &mut leaves);
        let (first, hidden) = mutate(kind, touched, part * STEP, at, &mut dice);
        let what = format!("mutation {number} of kind {kind} at {first}");
        check(&what, log.audit(&rows, &leaves, part), first, hidden);
    }
}

/// The whole log read each time, as `officer log verify` does: what the rows above begin behind.
#[test]
fn some_of_them_are_noticed_from_the_first_row_on() {
    let (log, mut dice) = (Log::new(), Dice(15));
    for kind in 0..10 {
        let (mut rows, mut leaves) = log.window(0, ENTRIES);
        let at = dice.below(ENTRIES);
        let (first, hidden) = mutate(kind, (&mut rows, &mut leaves), 0, at, &mut dice);
        check(&format!("kind {kind}"), log.audit(&rows, &leaves, 0), first, hidden);
    }
}

/// The end cut off with every checkpoint over it: only one that is kept elsewhere, cosigned or not, knows.
#[test]
fn a_cut_off_end_is_noticed_by_the_last_checkpoint_kept_elsewhere() {
    let log = Log::new();
    let last = log.notes.last().unwrap().clone();
    let cut = ENTRIES - 3 * STEP;
    let mut auditor = Auditor::new(public(&token()), &[last]);
    for (part, note) in log.rows[..cut].chunks(STEP).zip(&log.notes) {
        for (seq, bytes) in part {
            auditor.entry(*seq, bytes).unwrap();
        }
        auditor.checkpoint(note).unwrap();
    }
    let fault = auditor.finish().unwrap_err();
    assert!(fault.why.contains("10000 entries") && fault.why.contains("old copy"), "{fault}");
}
