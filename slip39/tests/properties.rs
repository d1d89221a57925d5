//! What must hold for every scheme: enough shares give the secret, fewer give nothing, and a slip is noticed.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a test fails by panicking"
)]

use proptest::prelude::*;
use proptest::sample::{Index, subsequence};
use rand::rngs::StdRng;
use rand::{RngCore as _, SeedableRng as _};
use slip39::{Error, Group, Mnemonic, Passphrase, Recovery, Scheme, split};

fn make(secret: &[u8], passphrase: &str, scheme: &Scheme, seed: u64) -> Vec<Vec<Mnemonic>> {
    let mut rng = StdRng::seed_from_u64(seed);
    let passphrase = Passphrase::new(passphrase).unwrap();
    split(secret, &passphrase, scheme, &mut |out: &mut [u8]| rng.fill_bytes(out)).unwrap()
}

fn gathered<'a>(shares: impl IntoIterator<Item = &'a Mnemonic>) -> Recovery {
    let mut recovery = Recovery::new();
    for share in shares {
        recovery.add(Mnemonic::parse(&share.to_words()).unwrap()).unwrap();
    }
    recovery
}

fn group() -> impl Strategy<Value = Group> {
    prop_oneof![
        1 => Just(Group { threshold: 1, count: 1 }),
        4 => (2_u8..=16)
            .prop_flat_map(|count| (2..=count, Just(count)))
            .prop_map(|(threshold, count)| Group { threshold, count }),
    ]
}

fn scheme() -> impl Strategy<Value = Scheme> {
    (prop::collection::vec(group(), 1..=5), any::<Index>(), any::<bool>()).prop_map(
        |(groups, threshold, extendable)| {
            let threshold = u8::try_from(threshold.index(groups.len()) + 1).unwrap();
            let scheme = Scheme::new(&groups, threshold).unwrap();
            scheme.with_iteration_exponent(0).unwrap().with_extendable(extendable)
        },
    )
}

fn secret() -> impl Strategy<Value = Vec<u8>> {
    (8_usize..=32).prop_flat_map(|half| prop::collection::vec(any::<u8>(), half * 2))
}

/// A scheme, which groups are used, and an order to take members in.
fn case() -> impl Strategy<Value = (Scheme, Vec<usize>, Vec<Vec<usize>>)> {
    scheme().prop_flat_map(|scheme| {
        let groups = scheme.groups().to_vec();
        let used = subsequence(
            (0..groups.len()).collect::<Vec<_>>(),
            usize::from(scheme.group_threshold()),
        )
        .prop_shuffle();
        let members: Vec<_> = groups
            .iter()
            .map(|group| {
                let all: Vec<usize> = (0..usize::from(group.count)).collect();
                subsequence(all, usize::from(group.threshold)).prop_shuffle()
            })
            .collect();
        (Just(scheme), used, members)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_threshold_subset_recovers_and_one_less_does_not(
        (scheme, used, members) in case(),
        secret in secret(),
        passphrase in "[ -~]{0,80}",
        seed in any::<u64>(),
        less in any::<Index>(),
    ) {
        let shares = make(&secret, &passphrase, &scheme, seed);
        let chosen: Vec<&Mnemonic> = used
            .iter()
            .flat_map(|group| members[*group].iter().map(|member| &shares[*group][*member]))
            .collect();
        let passphrase = Passphrase::new(&passphrase).unwrap();
        let recovery = gathered(chosen.iter().copied());
        prop_assert_eq!(recovery.missing(), None);
        let recovered = recovery.recover(&passphrase).unwrap();
        prop_assert_eq!(recovered.as_slice(), secret.as_slice());

        let mut short = chosen;
        short.remove(less.index(short.len()));
        let recovery = gathered(short);
        prop_assert!(recovery.missing().is_some());
        prop_assert!(matches!(recovery.recover(&passphrase), Err(Error::Insufficient(_))));
    }

    #[test]
    fn up_to_three_changed_words_are_noticed(
        secret in secret(),
        seed in any::<u64>(),
        changes in prop::collection::vec((any::<Index>(), any::<Index>()), 1..=3),
    ) {
        let scheme = Scheme::single(Group { threshold: 2, count: 2 }).unwrap();
        let scheme = scheme.with_iteration_exponent(0).unwrap();
        let original = make(&secret, "", &scheme, seed)[0][0].to_words();
        let list: Vec<&str> = include_str!("../src/words.txt").lines().collect();
        let mut words: Vec<&str> = original.split(' ').collect();
        for (place, word) in &changes {
            let place = place.index(words.len());
            words[place] = list[word.index(1024)];
        }
        let changed = words.join(" ");
        prop_assume!(changed != *original);
        // A changed flag may ask for another code; then three changes may hide, with one chance in 2^30.
        prop_assert_eq!(Mnemonic::parse(&changed), Err(Error::Checksum));
    }

    #[test]
    fn any_text_is_read_without_a_panic(text in "([a-z]{0,9}[ \n]){0,70}") {
        prop_assert!(Mnemonic::parse(&text).is_err());
    }
}

#[test]
fn every_other_word_is_noticed() {
    let scheme = Scheme::single(Group { threshold: 1, count: 1 }).unwrap();
    let original = make(&[9; 16], "", &scheme, 1)[0][0].to_words();
    let words: Vec<&str> = original.split(' ').collect();
    let list: Vec<&str> = include_str!("../src/words.txt").lines().collect();
    let mut tried = 0;
    for place in 0..words.len() {
        for other in list.iter().filter(|other| **other != words[place]) {
            let mut changed = words.clone();
            changed[place] = other;
            assert_eq!(Mnemonic::parse(&changed.join(" ")), Err(Error::Checksum));
            tried += 1;
        }
    }
    assert_eq!(tried, 20 * 1023);
}

#[test]
fn surplus_shares_must_agree() {
    let scheme = Scheme::single(Group { threshold: 2, count: 4 }).unwrap();
    let passphrase = Passphrase::none();
    let shares = make(&[1; 32], "", &scheme, 5);
    let all = gathered(&shares[0]);
    assert_eq!(all.recover(&passphrase).unwrap().as_slice(), [1; 32]);
    // The same random numbers, another secret: the sets look alike until they are joined.
    let others = make(&[2; 32], "", &scheme, 5);
    assert_eq!(shares[0][0].set(), others[0][0].set());
    let mixed = gathered([&shares[0][0], &shares[0][1], &others[0][2]]);
    assert_eq!(mixed.recover(&passphrase), Err(Error::Digest));
    let mixed = gathered([&shares[0][0], &others[0][1]]);
    assert_eq!(mixed.recover(&passphrase), Err(Error::Digest));
}

#[test]
fn a_refused_share_changes_nothing() {
    let scheme =
        Scheme::new(&[Group { threshold: 2, count: 3 }, Group { threshold: 1, count: 1 }], 2)
            .unwrap();
    let (ours, foreign) = (make(&[1; 16], "", &scheme, 1), make(&[1; 16], "", &scheme, 2));
    let mut recovery = gathered([&ours[0][0]]);
    let before = recovery.missing().unwrap();
    assert_eq!(before.to_string(), "2 more groups needed; group 1 has 1 of 2");
    assert_eq!(recovery.add(foreign[0][1].clone()), Err(Error::ForeignSet("identifier")));
    let repeated = Error::Repeated { group: 0, member: 0 };
    assert_eq!(recovery.add(ours[0][0].clone()), Err(repeated));
    assert_eq!(recovery.missing().unwrap(), before);
    recovery.add(ours[1][0].clone()).unwrap();
    assert_eq!(recovery.missing().unwrap().to_string(), "1 more group needed; group 1 has 1 of 2");
    recovery.add(ours[0][2].clone()).unwrap();
    assert_eq!(recovery.recover(&Passphrase::none()).unwrap().as_slice(), [1; 16]);
    assert!(matches!(
        Recovery::new().recover(&Passphrase::none()),
        Err(Error::Insufficient(missing)) if missing.to_string() == "none was given"
    ));
}

#[test]
fn schemes_that_cannot_be() {
    let refused = |groups: &[(u8, u8)], threshold| {
        let groups: Vec<Group> = groups
            .iter()
            .map(|(threshold, count)| Group { threshold: *threshold, count: *count })
            .collect();
        matches!(Scheme::new(&groups, threshold), Err(Error::Scheme(_)))
    };
    assert!(refused(&[], 1));
    assert!(refused(&[(1, 1); 17], 1));
    assert!(refused(&[(1, 1)], 0));
    assert!(refused(&[(1, 1)], 2));
    assert!(refused(&[(0, 1)], 1));
    assert!(refused(&[(3, 2)], 1));
    assert!(refused(&[(1, 2)], 1));
    assert!(refused(&[(2, 17)], 1));
    assert!(!refused(&[(16, 16); 16], 16));
    let scheme = Scheme::single(Group { threshold: 2, count: 2 }).unwrap();
    assert!(matches!(scheme.clone().with_iteration_exponent(16), Err(Error::Scheme(_))));
    for len in [0, 14, 17, 66] {
        let result = split(&vec![0; len], &Passphrase::none(), &scheme, &mut |_: &mut [u8]| ());
        assert_eq!(result, Err(Error::SecretLength(len)));
    }
}
