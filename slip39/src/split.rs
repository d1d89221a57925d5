//! Splitting: a secret is encrypted, shared among groups, and each group's part among its members. It never draws
//! randomness by itself: the caller's [`Entropy`] is all there is.

use crate::mnemonic::{Mnemonic, Set};
use crate::{Error, Passphrase, SECRET_LEN, SecretBytes, cipher, sharing};

/// Most groups, and most members of one.
const COUNT_MAX: u8 = 16;
const EXPONENT_MAX: u8 = 15;

/// Where random bytes come from. Whoever holds them and one share holds the secret: they must be unpredictable.
pub trait Entropy {
    /// Fills all of `out`. What can fail is done before a split begins.
    fn fill(&mut self, out: &mut [u8]);
}

impl<F: FnMut(&mut [u8])> Entropy for F {
    fn fill(&mut self, out: &mut [u8]) {
        self(out);
    }
}

/// How many members a group has, and how many of them speak for it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Group {
    /// Members needed.
    pub threshold: u8,
    /// Members there are.
    pub count: u8,
}

/// Numbers of groups and members that fit together, and the set's parameters.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Scheme {
    groups: Vec<Group>,
    group_threshold: u8,
    iteration_exponent: u8,
    extendable: bool,
}

impl Scheme {
    /// One group.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn single(group: Group) -> Result<Self, Error> {
        Self::new(&[group], 1)
    }

    /// Several groups, of which `group_threshold` are needed. Extendable, 20,000 iterations of PBKDF2.
    ///
    /// # Errors
    /// [`Error::Scheme`] when the numbers do not fit together.
    pub fn new(groups: &[Group], group_threshold: u8) -> Result<Self, Error> {
        let wrong = |reason| Err(Error::Scheme(reason));
        if groups.is_empty() || groups.len() > usize::from(COUNT_MAX) {
            return wrong("there must be 1 to 16 groups");
        }
        if group_threshold == 0 || usize::from(group_threshold) > groups.len() {
            return wrong("at least one group must be needed, and no more than there are");
        }
        for group in groups {
            if !(1..=COUNT_MAX).contains(&group.count) {
                return wrong("a group has 1 to 16 shares");
            }
            if group.threshold == 0 || group.threshold > group.count {
                return wrong(
                    "at least one share of a group must be needed, and no more than it has",
                );
            }
            if group.threshold == 1 && group.count > 1 {
                return wrong("1 of many would be the same share many times: use 1of1 and copy it");
            }
        }
        let groups = groups.to_vec();
        Ok(Self { groups, group_threshold, iteration_exponent: 1, extendable: true })
    }

    /// Asks for `10,000 * 2^exponent` iterations of PBKDF2.
    ///
    /// # Errors
    /// [`Error::Scheme`] above 15.
    pub fn with_iteration_exponent(self, exponent: u8) -> Result<Self, Error> {
        if exponent > EXPONENT_MAX {
            return Err(Error::Scheme("the iteration exponent is 0 to 15"));
        }
        Ok(Self { iteration_exponent: exponent, ..self })
    }

    /// Whether the passphrase gives the same secret in other sets made of the same encrypted secret. Older
    /// programs read only sets that are not extendable.
    #[must_use]
    pub fn with_extendable(self, extendable: bool) -> Self {
        Self { extendable, ..self }
    }

    /// The groups.
    #[must_use]
    pub fn groups(&self) -> &[Group] {
        &self.groups
    }

    /// Groups needed.
    #[must_use]
    pub fn group_threshold(&self) -> u8 {
        self.group_threshold
    }

    /// Shares in all groups.
    #[must_use]
    pub fn shares(&self) -> usize {
        self.groups.iter().map(|group| usize::from(group.count)).sum()
    }
}

/// Splits `secret`: for each group its members' shares, in order.
///
/// # Errors
/// [`Error::SecretLength`].
pub fn split(
    secret: &[u8],
    passphrase: &Passphrase,
    scheme: &Scheme,
    entropy: &mut impl Entropy,
) -> Result<Vec<Vec<Mnemonic>>, Error> {
    if !SECRET_LEN.contains(&secret.len()) || !secret.len().is_multiple_of(2) {
        return Err(Error::SecretLength(secret.len()));
    }
    let mut identifier = [0; 2];
    entropy.fill(&mut identifier);
    let count = u8::try_from(scheme.groups.len()).unwrap_or(COUNT_MAX);
    let set = Set {
        identifier: u16::from_be_bytes(identifier) & 0x7fff,
        extendable: scheme.extendable,
        iteration_exponent: scheme.iteration_exponent,
        group_threshold: scheme.group_threshold,
        group_count: count,
    };
    let hidden = cipher::encrypt(secret, passphrase, &set);
    let top = Group { threshold: scheme.group_threshold, count };
    let parts = sharing::share(top, &hidden, entropy);
    let mut shares = Vec::with_capacity(parts.len());
    for ((index, group), part) in (0..).zip(&scheme.groups).zip(&parts) {
        let values = sharing::share(*group, part, entropy);
        let member = |(member, value): (u8, SecretBytes)| Mnemonic {
            set,
            group: index,
            member,
            member_threshold: group.threshold,
            value,
        };
        shares.push((0..).zip(values).map(member).collect());
    }
    Ok(shares)
}
