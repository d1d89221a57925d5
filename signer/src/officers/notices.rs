//! What happens, told to whoever listens at that moment. Nothing is kept and nobody is waited for: the log has it all.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use policy::intent::RequestId;
use policy::names::WalletName;
use policy::rules::Tier;
use tokio::sync::broadcast;

use crate::wallets::Wallet;

/// A listener may lag behind by so many.
const KEPT: usize = 256;

/// One thing that happened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Notice {
    /// When.
    pub unix_ms: u64,
    /// `pending`, `said`, `ended`, `withheld`, `denied`, `frozen`, `lifted`, `freed`, `unbound`, `clock`, `proposed`, `fact`,
    /// `alarm`, `missed`, or `heartbeat` for who asked for it.
    pub kind: &'static str,
    /// About what.
    pub topic: Topic,
    /// Stable codes and sentences.
    pub reasons: Vec<(String, String)>,
}

/// What a notice is about, if about any of these.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Topic {
    /// Which request.
    pub request: Option<RequestId>,
    /// Which wallet, and where its keys are.
    pub wallet: Option<(WalletName, Tier)>,
}

impl Topic {
    /// Neither a request nor a wallet.
    pub const NONE: Self = Self { request: None, wallet: None };

    /// A request, where the wallet is known whose coins it asks for.
    #[must_use]
    pub fn request(request: RequestId, wallet: Option<&Wallet>) -> Self {
        Self { request: Some(request), ..Self::wallet(wallet) }
    }

    /// A wallet.
    #[must_use]
    pub fn wallet(wallet: Option<&Wallet>) -> Self {
        let named = |wallet: &Wallet| (wallet.name().clone(), wallet.tier());
        Self { request: None, wallet: wallet.map(named) }
    }
}

/// Tells them.
#[derive(Debug)]
pub struct Notices(Mutex<Option<broadcast::Sender<Notice>>>);

impl Default for Notices {
    fn default() -> Self {
        Self(Mutex::new(Some(broadcast::channel(KEPT).0)))
    }
}

impl Notices {
    /// Tells whoever listens.
    pub fn tell(
        &self,
        kind: &'static str,
        topic: Topic,
        reasons: &[(impl AsRef<str>, impl AsRef<str>)],
    ) {
        let owned = |(code, text): &(_, _)| pair(code, text);
        let reasons = reasons.iter().map(owned).collect();
        if let Some(sender) = &*self.sender() {
            // An error says that nobody listens.
            let _ = sender.send(Notice { unix_ms: now_ms(), kind, topic, reasons });
        }
    }

    /// How many listen.
    #[must_use]
    pub fn listeners(&self) -> usize {
        self.sender().as_ref().map_or(0, broadcast::Sender::receiver_count)
    }

    /// Everything from now on.
    #[must_use]
    pub fn listen(&self) -> broadcast::Receiver<Notice> {
        let ended = || broadcast::channel(1).1;
        self.sender().as_ref().map_or_else(ended, broadcast::Sender::subscribe)
    }

    /// Tells nobody anything any more: who listens hears what was told, and then the end.
    pub fn end(&self) {
        *self.sender() = None;
    }

    fn sender(&self) -> MutexGuard<'_, Option<broadcast::Sender<Notice>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn pair(code: &impl AsRef<str>, text: &impl AsRef<str>) -> (String, String) {
    (code.as_ref().to_owned(), text.as_ref().to_owned())
}

/// What a listener is told that lagged behind.
#[must_use]
pub fn missed(count: u64) -> Notice {
    let text = format!("{count} notices were missed: look at what is pending");
    let reasons = vec![("missed".to_owned(), text)];
    Notice { unix_ms: now_ms(), kind: "missed", topic: Topic::NONE, reasons }
}

/// What stands since before somebody listens.
#[must_use]
pub fn standing(kind: &'static str, code: &str, text: String) -> Notice {
    Notice { unix_ms: now_ms(), kind, topic: Topic::NONE, reasons: vec![(code.to_owned(), text)] }
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
