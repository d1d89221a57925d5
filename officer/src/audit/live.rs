//! A log read from its running signer, page by page, up to the newest checkpoint. It believes none of it: whoever reads it
//! checks it like a file.

use std::collections::VecDeque;

use anyhow::{Context as _, Result, ensure};
use proto::log_client::LogClient;
use proto::{EntriesRequest, NewestRequest};
use tonic::transport::Channel;

use super::source::Record;
use crate::approvals::desk::refusal;

/// Entries asked for at a time, and how long an answer may be.
const PAGE_ENTRIES: u32 = 256;
const REPLY_BYTES_MAX: usize = 4 << 20;

/// A log at its signer's.
#[derive(Debug)]
pub struct Live {
    client: LogClient<Channel>,
    note: String,
    size: u64,
    next: u64,
    page: VecDeque<Vec<u8>>,
    ended: bool,
}

impl Live {
    /// Asks how long it is, by its own word.
    ///
    /// # Errors
    /// When it does not answer, or not to us.
    pub async fn open(channel: Channel) -> Result<Self> {
        let mut client = LogClient::new(channel).max_decoding_message_size(REPLY_BYTES_MAX);
        let newest = client.newest(NewestRequest {}).await;
        let newest = newest.map_err(|status| refusal(&status));
        let note = newest.context("asking for the log takes a client with `log = true`")?;
        let note = note.into_inner().note;
        let size = note.lines().nth(1).and_then(|line| line.parse().ok());
        let size = size.context("what it calls its newest checkpoint is none")?;
        Ok(Self { client, note, size, next: 0, page: VecDeque::new(), ended: false })
    }

    /// The newest checkpoint when it was opened, and how many entries it says there are.
    #[must_use]
    pub fn newest(&self) -> (u64, String) {
        (self.size, self.note.clone())
    }

    /// Begins at the first entry again, up to the same checkpoint.
    pub fn again(&mut self) {
        (self.next, self.ended) = (0, false);
        self.page.clear();
    }

    /// The next entry; behind the last one the checkpoint.
    ///
    /// # Errors
    /// When the signer does not answer, or says otherwise than before how long its log is.
    pub async fn next(&mut self) -> Result<Option<Record>> {
        if self.next >= self.size {
            let first = !std::mem::replace(&mut self.ended, true);
            return Ok(first.then(|| Record::Checkpoint(self.note.clone())));
        }
        if self.page.is_empty() {
            let request = EntriesRequest { from: self.next, most: PAGE_ENTRIES };
            let reply = self.client.entries(request).await;
            let reply = reply.map_err(|status| refusal(&status))?.into_inner();
            ensure!(
                !reply.entries.is_empty() && reply.from == self.next,
                "the signer has {} entries of the {} that its checkpoint is over",
                self.next,
                self.size
            );
            self.page = reply.entries.into();
        }
        let bytes = self.page.pop_front().context("an empty page")?;
        let seq = i64::try_from(self.next)?;
        self.next = self.next.saturating_add(1);
        Ok(Some(Record::Entry { seq, bytes }))
    }
}
