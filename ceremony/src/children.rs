//! Makes the records of a bundle on every core and hands them over in order. It never holds more than a few
//! chunks of them, however many there are.

use std::ops::Range;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use bitcoin::bip32::ChildNumber;
use bundle::{Branch, Header, Record};

use crate::Error;
use crate::account::Account;
use crate::derive::ExtendedKey;
use crate::earlier::Earlier;
use crate::wrapping::Wrapper;

/// Records a thread makes before it hands them over.
const CHUNK: u64 = 32;
/// Finished chunks a thread may have waiting.
const AHEAD: usize = 2;

type Chunk = Result<Vec<Record>, Error>;

/// Makes every record of `header` and gives them to `each` in the file's order. What `kept` holds is taken from there.
pub(crate) fn for_each(
    account: &Account,
    wrapping: &Wrapper<'_>,
    header: &Header,
    threads: usize,
    kept: Option<&Earlier>,
    mut each: impl FnMut(Record) -> Result<(), Error>,
) -> Result<(), Error> {
    let threads = threads.max(1);
    let maker = Maker::new(account, wrapping, header, kept)?;
    let maker = &maker;
    thread::scope(|scope| {
        // Thread t makes chunks t, t + threads, ...; reading the channels in turn restores the order.
        let mut lanes: Vec<Receiver<Chunk>> = Vec::new();
        for nth in 0..threads {
            let (send, receive) = sync_channel(AHEAD);
            scope.spawn(move || maker.work(nth, threads, &send));
            lanes.push(receive);
        }
        // On an error the lanes are dropped here, which ends every thread at its next chunk.
        for (_, lane) in chunks(header.total()).zip(lanes.iter().cycle()) {
            for record in lane.recv().map_err(|_| Error::Thread)?? {
                each(record)?;
            }
        }
        drop(lanes);
        Ok(())
    })
}

/// What a thread needs to make any record.
struct Maker<'a> {
    wrapping: &'a Wrapper<'a>,
    header: &'a Header,
    kept: Option<&'a Earlier>,
    private: [ExtendedKey; 2],
    public: [Branch; 2],
}

impl<'a> Maker<'a> {
    fn new(
        account: &Account,
        wrapping: &'a Wrapper<'a>,
        header: &'a Header,
        kept: Option<&'a Earlier>,
    ) -> Result<Self, Error> {
        Ok(Self {
            wrapping,
            header,
            kept,
            private: [account.branch(false)?, account.branch(true)?],
            public: [header.branch(false)?, header.branch(true)?],
        })
    }

    fn work(&self, first: usize, step: usize, send: &SyncSender<Chunk>) {
        for range in chunks(self.header.total()).skip(first).step_by(step) {
            let chunk = range.map(|nth| self.record(nth)).collect::<Chunk>();
            let failed = chunk.is_err();
            if send.send(chunk).is_err() || failed {
                return;
            }
        }
    }

    /// Makes one record, and derives its public key a second time from public data alone.
    fn record(&self, nth: u64) -> Result<Record, Error> {
        let (change, index) = self.header.place(nth).ok_or(Error::NoKey)?;
        let [external_private, change_private] = &self.private;
        let [external_public, change_public] = &self.public;
        let (private, public) = if change {
            (change_private, change_public)
        } else {
            (external_private, external_public)
        };
        let step = ChildNumber::from_normal_idx(index).map_err(|_| Error::NoKey)?;
        let child = private.child(step)?;
        let public_key = child.public_key();
        if public.public_key(index)? != public_key {
            return Err(Error::SelfCheck { change, index });
        }
        match self.kept.map(|kept| kept.record(change, index)).transpose()?.flatten() {
            Some(kept) if kept.public_key == public_key => Ok(kept),
            Some(_) => Err(Error::SelfCheck { change, index }),
            None => {
                let wrapped = self.wrapping.wrap(&child, self.header)?;
                Ok(Record { change, index, public_key, wrapped })
            }
        }
    }
}

fn chunks(total: u64) -> impl Iterator<Item = Range<u64>> {
    (0..total.div_ceil(CHUNK)).map(move |nth| {
        let start = nth.saturating_mul(CHUNK);
        start..start.saturating_add(CHUNK).min(total)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_cover_everything_once() {
        for total in [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 1000] {
            let all: Vec<u64> = chunks(total).flatten().collect();
            assert_eq!(all, (0..total).collect::<Vec<_>>());
        }
    }
}
