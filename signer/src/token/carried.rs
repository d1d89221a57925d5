//! Which tiers a token carries, found out when the first worker starts: all, unless its canaries say no to one. It never
//! binds a key for a tier that is barred, so no worker has a handle to sign for it by.

use token_wire::Schemes;

use super::member::Member;
use super::{Line, TokenError, TokenKeys};

/// By no scheme are children unwrapped.
const NO_CHILDREN: Schemes = Schemes { oaep_sha1: false, oaep_sha256: false, kwp_mechanism: None };

/// What workers bind, and why not more.
#[derive(Clone)]
pub(super) struct Carried {
    pub(super) keys: TokenKeys,
    /// Those of the settings where none are here.
    pub(super) schemes: Option<Schemes>,
    children: Option<String>,
    sealing: Option<String>,
}

impl Carried {
    /// Everything, as the settings have it.
    pub(super) fn all(keys: &TokenKeys) -> Self {
        Self { keys: keys.clone(), schemes: None, children: None, sealing: None }
    }

    /// Why wallets of a tier are not served: those whose account is sealed, or whose children are wrapped.
    pub(super) fn bars(&self, sealed: bool) -> Option<&str> {
        if sealed { self.sealing.as_deref() } else { self.children.as_deref() }
    }

    /// The same in a sentence each.
    pub(super) fn warnings(&self) -> impl Iterator<Item = String> {
        let named = |(tier, why): (&str, &Option<String>)| {
            let why = why.as_ref()?;
            Some(format!("wallets of the tier {tier} are not served, others are: {why}"))
        };
        [("token-hd", &self.children), ("sealed-hd", &self.sealing)].into_iter().filter_map(named)
    }

    /// What is left without sealed accounts, without children, without either. Where key-encryption keys come in, all that
    /// may be wrong with children may be such a key that nobody wrote down: then nothing is left without them.
    fn less(&self, named: &Schemes, why: &TokenError) -> Vec<Self> {
        let less = |children: bool, sealing: bool| Self {
            keys: TokenKeys {
                sealing_spki: self.keys.sealing_spki.clone().filter(|_| !sealing),
                ..self.keys.clone()
            },
            schemes: children.then_some(NO_CHILDREN),
            children: children.then(|| why.to_string()),
            sealing: sealing.then(|| why.to_string()),
        };
        let sealed = self.keys.sealing_spki.is_some();
        let childless = named.kwp_mechanism.is_none() && self.keys.keks.is_empty();
        [(false, true), (true, false), (true, true)]
            .into_iter()
            .filter(|(children, sealing)| (childless || !children) && (sealed || !sealing))
            .map(|(children, sealing)| less(children, sealing))
            .collect()
    }
}

/// What became of opening a worker.
pub(super) enum Opened {
    /// It bound the keys.
    Bound(Box<Line>),
    /// It is logged in, and says no to the keys.
    Refused(TokenError),
}

impl Opened {
    pub(super) fn bound(self) -> Result<Line, TokenError> {
        match self {
            Self::Bound(line) => Ok(*line),
            Self::Refused(why) => Err(why),
        }
    }
}

/// The first worker of a token, and what it carries. What it says no to twice is tried without one tier, then without the
/// other: an error that passes bars nobody.
pub(super) fn first(member: &Member, keys: &TokenKeys) -> Result<(Line, Carried), TokenError> {
    let all = Carried::all(keys);
    let mut refused = None;
    for _ in 0..2 {
        match member.open(&all)? {
            Opened::Bound(line) => return Ok((*line, all)),
            Opened::Refused(why) => refused = Some(why),
        }
    }
    let why = refused.unwrap_or_else(super::pool::stopped);
    for less in all.less(&member.config.wrapping()?, &why) {
        if let Ok(Opened::Bound(line)) = member.open(&less) {
            less.warnings().for_each(|why| tracing::error!(token = member.name(), "{why}"));
            return Ok((*line, less));
        }
    }
    Err(why)
}
