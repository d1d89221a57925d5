//! What rules ask the log, by reference: a decision asks hundreds of times, and nothing is copied for it. It never answers.

use asset::AssetId;

use crate::evidence::{Measure, Question, Total};
use crate::names::{ClientName, LaneName, WalletName};

/// A [`Question`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Asked<'a> {
    pub(crate) of: Of<'a>,
    pub(crate) measure: Measure,
    pub(crate) lanes: &'a [LaneName],
    pub(crate) window_seconds: u64,
}

/// A [`Total`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Of<'a> {
    Lane(&'a LaneName),
    Client(&'a ClientName),
    Wallet(&'a WalletName),
    Orderer(&'a [u8; 32]),
    Destination(&'a [u8]),
    Asset(&'a AssetId),
    Everything,
}

impl<'a> Asked<'a> {
    /// By reference.
    pub(crate) fn of(question: &'a Question) -> Self {
        let of = match &question.of {
            Total::Lane(lane) => Of::Lane(lane),
            Total::Client(client) => Of::Client(client),
            Total::Wallet(wallet) => Of::Wallet(wallet),
            Total::Orderer(key) => Of::Orderer(key),
            Total::Destination(script) => Of::Destination(script),
            Total::Asset(asset) => Of::Asset(asset),
            Total::Everything => Of::Everything,
        };
        let (measure, window_seconds) = (question.measure, question.window_seconds);
        Self { of, measure, lanes: &question.lanes, window_seconds }
    }

    /// To keep.
    pub(crate) fn question(self) -> Question {
        let (measure, window_seconds) = (self.measure, self.window_seconds);
        Question { of: self.of.total(), lanes: self.lanes.to_vec(), measure, window_seconds }
    }
}

impl Of<'_> {
    /// To keep.
    pub(crate) fn total(self) -> Total {
        match self {
            Self::Lane(lane) => Total::Lane(lane.clone()),
            Self::Client(client) => Total::Client(client.clone()),
            Self::Wallet(wallet) => Total::Wallet(wallet.clone()),
            Self::Orderer(key) => Total::Orderer(*key),
            Self::Destination(script) => Total::Destination(script.to_vec()),
            Self::Asset(asset) => Total::Asset(asset.clone()),
            Self::Everything => Total::Everything,
        }
    }
}
