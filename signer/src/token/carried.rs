//! Which tiers a token carries, found out when the first worker starts: all, unless its canaries say no to one. It never
//! binds a key for a tier that is barred, so no worker has a handle to sign for it by.

use token_wire::{Schemes, Stage};

use super::config::TokenConfig;
use super::member::Member;
use super::{Line, TokenError, TokenKeys};

/// By no scheme are children unwrapped.
pub(super) const NO_CHILDREN: Schemes =
    Schemes { oaep_sha1: false, oaep_sha256: false, kwp_mechanism: None };

/// What workers bind, and why not more.
#[derive(Clone)]
pub(crate) struct Carried {
    pub(super) keys: TokenKeys,
    /// Those of the settings where none are here.
    pub(super) schemes: Option<Schemes>,
    children: Option<String>,
    sealing: Option<String>,
}

impl Carried {
    /// Everything, as the settings have it.
    pub(crate) fn all(keys: &TokenKeys) -> Self {
        Self { keys: keys.clone(), schemes: None, children: None, sealing: None }
    }

    /// Why wallets of a tier are not served: those whose account is sealed, or whose children are wrapped.
    pub(crate) fn bars(&self, sealed: bool) -> Option<&str> {
        if sealed { self.sealing.as_deref() } else { self.children.as_deref() }
    }

    /// The same in a sentence each.
    pub(crate) fn warnings(&self) -> impl Iterator<Item = String> {
        let named = |(tier, why): (&str, &Option<String>)| {
            let why = why.as_ref()?;
            Some(format!("wallets of the tier {tier} are not served, others are: {why}"))
        };
        [("token-hd", &self.children), ("sealed-hd", &self.sealing)].into_iter().filter_map(named)
    }

    /// Binds on the line of a person's command what the token carries: a tier goes whose own canary fails twice in a row there.
    pub(crate) fn bind(
        line: &mut Line,
        config: &TokenConfig,
        keys: &TokenKeys,
    ) -> Result<Self, TokenError> {
        let named = config.wrapping()?;
        let (mut carried, mut before) = (Self::all(keys), None);
        loop {
            let schemes = carried.schemes.unwrap_or(named);
            let Err(why) = line.bind_by(&carried.keys, schemes) else { return Ok(carried) };
            match line.failed() {
                Some(stage) if before == Some(stage) => {
                    (carried, before) = (carried.without(stage, &named, &why).ok_or(why)?, None);
                }
                Some(stage) => before = Some(stage),
                None => return Err(why),
            }
        }
    }

    /// What is left without the tier whose canary failed. Where key-encryption keys come in, all that may be wrong with
    /// children may be such a key that nobody wrote down: then nothing is left without them.
    fn without(mut self, stage: Stage, named: &Schemes, why: &TokenError) -> Option<Self> {
        match stage {
            Stage::Children if self.children.is_some() || named.kwp_mechanism.is_some() => None,
            Stage::Children if !self.keys.keks.is_empty() => None,
            Stage::Children => {
                self.schemes = Some(NO_CHILDREN);
                self.children = Some(why.to_string());
                Some(self)
            }
            Stage::Sealing => {
                self.keys.sealing_spki.take()?;
                self.sealing = Some(why.to_string());
                Some(self)
            }
        }
    }
}

/// What became of opening a worker.
pub(super) enum Opened {
    /// It bound the keys.
    Bound(Box<Line>),
    /// It is logged in, and says no to the keys; to those of one tier alone, where its canary failed.
    Refused(TokenError, Option<Stage>),
}

impl Opened {
    pub(super) fn bound(self) -> Result<Line, TokenError> {
        match self {
            Self::Bound(line) => Ok(*line),
            Self::Refused(why, _) => Err(why),
        }
    }
}

/// The first worker of a token, and what it carries. A tier is barred alone by its own canary, which fails twice before the
/// token is tried without it and once more after that worked: an error that passes bars nobody, nor does one about
/// anything else.
pub(super) fn first(member: &Member, keys: &TokenKeys) -> Result<(Line, Carried), TokenError> {
    let named = member.config.wrapping()?;
    let (mut carried, mut first_failed) = (Carried::all(keys), None);
    let line = loop {
        match twice(member, &carried)? {
            Opened::Bound(line) => break *line,
            Opened::Refused(why, stage) => {
                let Some(stage) = stage else { return Err(why) };
                carried = carried.without(stage, &named, &why).ok_or(why)?;
                first_failed.get_or_insert(stage);
            }
        }
    };
    if first_failed.is_none() {
        return Ok((line, carried));
    }
    let all = Carried::all(keys);
    match member.open(&all)? {
        Opened::Bound(whole) => {
            line.close();
            Ok((*whole, all))
        }
        Opened::Refused(_, stage) if stage == first_failed => {
            carried.warnings().for_each(|why| tracing::error!(token = member.name(), "{why}"));
            Ok((line, carried))
        }
        Opened::Refused(why, _) => Err(why),
    }
}

/// What the second try says where the first was refused; that a canary failed only where the same one did both times.
fn twice(member: &Member, carried: &Carried) -> Result<Opened, TokenError> {
    let before = match member.open(carried)? {
        Opened::Refused(_, stage) => stage,
        bound => return Ok(bound),
    };
    Ok(match member.open(carried)? {
        Opened::Refused(why, stage) => Opened::Refused(why, stage.filter(|_| stage == before)),
        bound => bound,
    })
}
