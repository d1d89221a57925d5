//! Parsers are given texts that hold secrets, whole and spoilt, and nothing that they say instead holds any part of one. It
//! never looks at what a parser that succeeds gives back. `COFFERDAM_ERROR_TEXTS` says how many texts are looked through.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::print_stdout,
    reason = "a test fails by panicking, and says what it did"
)]

mod parsers;
#[path = "../short/mutate.rs"]
mod mutate;

use std::collections::HashSet;
use std::time::Instant;

use mutate::Mutator;
use parsers::{Parser, Room};

/// Texts in a normal run.
const FEW: usize = 20_000;

/// Every part of a secret that must not be said, in each way of writing it down.
struct Needles {
    length: usize,
    parts: HashSet<Vec<u8>>,
}

impl Needles {
    fn of(secrets: &[Vec<u8>], length: usize) -> Self {
        let mut parts = HashSet::new();
        for secret in secrets {
            assert!(secret.len() >= length, "too short to be looked for");
            parts.extend(secret.windows(length).map(<[u8]>::to_vec));
        }
        Self { length, parts }
    }

    fn found(&self, text: &str) -> Option<String> {
        let mut windows = text.as_bytes().windows(self.length);
        let part = windows.find(|window| self.parts.contains(*window))?;
        Some(String::from_utf8_lossy(part).into_owned())
    }
}

fn many() -> usize {
    std::env::var("COFFERDAM_ERROR_TEXTS").map_or(FEW, |count| count.parse().unwrap())
}

/// Looks through as many texts as are asked for; what each parser said, and the first secret that was in it.
fn look_through(parser: &Parser, room: &Room, count: usize) -> (usize, usize, Option<String>) {
    let needles = Needles::of(&parser.secrets, parser.length);
    let mut mutator = Mutator::new(0x5ec2_e75e, parser.seeds.clone());
    let (mut texts, mut tries) = (0, 0);
    let mut different = HashSet::new();
    while texts < count {
        let input = match parser.seeds.get(tries) {
            Some(seed) => seed.clone(),
            None => mutator.next(),
        };
        tries += 1;
        for said in (parser.run)(room, &input) {
            if let Some(found) = needles.found(&said) {
                let name = parser.name;
                return (texts, tries, Some(format!("{name} says {found:?}: {said}")));
            }
            different.insert(said);
            texts += 1;
        }
        assert!(tries < 100 * count + 1_000, "{} hardly ever fails", parser.name);
    }
    (different.len(), tries, None)
}

#[test]
fn no_error_says_a_secret_that_its_parser_was_given() {
    let (room, parsers) = (Room::new(), parsers::all());
    let shares: usize = parsers.iter().map(|parser| parser.weight).sum();
    let (mut all, mut leaks) = (0, Vec::new());
    for parser in &parsers {
        let (count, began) = ((many() * parser.weight).div_ceil(shares), Instant::now());
        let (different, tries, leak) = look_through(parser, &room, count);
        assert!(leak.is_some() || different > 1, "{} says one thing only", parser.name);
        leaks.extend(leak);
        all += count;
        let took = began.elapsed();
        println!(
            "error texts, {}: {count} of {tries} inputs, {different} different, {took:.1?}",
            parser.name
        );
    }
    assert!(leaks.is_empty(), "{}", leaks.join("\n\n"));
    println!("error texts: {all}, 0 with a secret");
    assert!(all >= many());
}

/// The same search finds what is there: words, digits, bytes in each way that errors write them.
#[test]
fn a_parser_that_says_what_it_was_given_is_found_out() {
    let room = Room::new();
    for mut parser in parsers::all() {
        parser.run = |_, input| {
            let text = String::from_utf8_lossy(input);
            vec![format!("cannot read: {text}"), format!("{input:?}"), hex::encode(input)]
        };
        let (_, _, leak) = look_through(&parser, &room, 1_000);
        assert!(leak.is_some(), "{}: a secret in an error was not found", parser.name);
    }
    let mut bytes = parsers::worker();
    let ways: [parsers::Run; 2] =
        [|_, input| vec![format!("{input:?}")], |_, input| vec![hex::encode(input)]];
    for spelt in ways {
        bytes.run = spelt;
        let (_, _, leak) = look_through(&bytes, &room, 1_000);
        assert!(leak.is_some(), "bytes in an error were not found");
    }
}
