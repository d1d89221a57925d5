//! The rules, parsed: which call, when, what goes wrong. Pure; it never reads a file.
//!
//! ```text
//! seed 7                                        # draws are the same in every run with the same seed
//! swap 0x210a 0x210b                            # each of the two mechanisms is at the other's number (see `numbers`)
//! C_Sign 1% CKR_DEVICE_ERROR                    # one call in a hundred answers so, the real module is not asked
//! * 0.5% CKR_GENERAL_ERROR                      # every call there is
//! C_Login once CKR_PIN_LOCKED                   # once, over all processes
//! C_UnwrapKey #3 crash                          # the third such call of each process since the rules were read
//! C_Sign,C_SignInit once CKR_SESSION_HANDLE_INVALID until=C_OpenSession   # and again until that was called
//! C_Sign always flip                            # a wrong signature
//! C_GetTokenInfo always flags=count-low,final-try,locked
//! C_GetAttributeValue always lie=0x162          # turns that attribute's (CKA_EXTRACTABLE) first byte around
//! ```
//!
//! More of what can go wrong: `delay=MS`, `hang`, `stop` (SIGSTOP, then go on), `crash` (SIGSEGV), `abort`, `exit`,
//! `crash-after` (the token did it, nobody hears of it), `replay` (the last signature once more),
//! `one-nonce` (by the keys of the file `keys`, the same nonce each time), `bias` (by those keys, nonces whose first byte
//! is zero), a number (`0x32`) for any other code.

use crate::codes;
use crate::nonce::Rig;

/// Everything a file says.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(crate) struct Rules {
    pub(crate) seed: u64,
    /// Mechanisms that are at each other's numbers.
    pub(crate) swaps: Vec<[u64; 2]>,
    pub(crate) rules: Vec<Rule>,
}

/// One line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Rule {
    /// Calls it is about; every call when empty.
    pub(crate) calls: Vec<String>,
    pub(crate) when: When,
    pub(crate) what: Fault,
    /// As written, for the list of faults.
    pub(crate) name: String,
    /// Once it has happened it goes on until this call.
    pub(crate) until: Option<String>,
}

/// When it happens.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum When {
    /// At every call.
    Always,
    /// At one call, over all processes.
    Once,
    /// At the call of this number.
    Nth(u64),
    /// At so many calls in a million.
    Millionths(u64),
}

/// What happens.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fault {
    /// This answer, the real module is not asked.
    Answer(u64),
    /// So many milliseconds go by first.
    Delay(u64),
    /// Nothing comes back.
    Hang,
    /// The process is stopped from outside, until somebody lets it go on.
    Stop,
    /// The process dies of a segmentation fault.
    Crash,
    /// The same once the real module has done it.
    CrashAfter,
    /// The process aborts.
    Abort,
    /// The process ends.
    Exit,
    /// A bit of the signature is wrong.
    Flip,
    /// The signature of the call before.
    Replay,
    /// A right signature with a bad nonce.
    Nonce(Rig),
    /// These flags of the token are set as well.
    Flags(u64),
    /// This attribute's first byte is turned around.
    Lie(u64),
}

impl Rules {
    /// Reads a whole file, or says which line is no rule.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut rules = Self::default();
        for line in text.lines() {
            // A comment begins at a `#` that is no `#N`.
            let words = line.split_whitespace().take_while(|word| {
                !word.starts_with('#') || word.get(1..).is_some_and(|n| n.parse::<u64>().is_ok())
            });
            let words: Vec<&str> = words.collect();
            match words.as_slice() {
                [] => {}
                ["seed", seed] => rules.seed = seed.parse().map_err(|_| line.to_owned())?,
                ["swap", one, other] => {
                    let pair = number(one).zip(number(other)).ok_or_else(|| line.to_owned())?;
                    rules.swaps.push(pair.into());
                }
                _ => rules.rules.push(rule(&words).ok_or_else(|| line.to_owned())?),
            }
        }
        Ok(rules)
    }
}

impl Rule {
    pub(crate) fn is_about(&self, call: &str) -> bool {
        self.calls.is_empty() || self.calls.iter().any(|named| named == call)
    }
}

fn rule(words: &[&str]) -> Option<Rule> {
    let (&[calls, when, what], rest) = words.split_first_chunk::<3>()?;
    let until = match rest {
        [] => None,
        [until] => Some(until.strip_prefix("until=")?.to_owned()),
        _ => return None,
    };
    let calls = match calls {
        "*" => Vec::new(),
        list => list.split(',').map(str::to_owned).collect(),
    };
    let known = |call: &String| crate::table::NAMES.contains(&call.as_str());
    if !calls.iter().chain(&until).all(known) {
        return None;
    }
    Some(Rule { calls, when: parse_when(when)?, what: parse_what(what)?, name: what.into(), until })
}

fn parse_when(word: &str) -> Option<When> {
    if let Some(percent) = word.strip_suffix('%') {
        let (whole, part) = percent.split_once('.').unwrap_or((percent, ""));
        let whole: u64 = whole.parse().ok()?;
        let part: u64 = format!("{part:0<4}").parse().ok()?;
        return whole.checked_mul(10_000)?.checked_add(part).map(When::Millionths);
    }
    match word {
        "always" => Some(When::Always),
        "once" => Some(When::Once),
        _ => word.strip_prefix('#')?.parse().ok().map(When::Nth),
    }
}

fn parse_what(word: &str) -> Option<Fault> {
    let plain = match word {
        "hang" => Fault::Hang,
        "stop" => Fault::Stop,
        "crash" => Fault::Crash,
        "crash-after" => Fault::CrashAfter,
        "abort" => Fault::Abort,
        "exit" => Fault::Exit,
        "flip" => Fault::Flip,
        "replay" => Fault::Replay,
        "one-nonce" => Fault::Nonce(Rig::One),
        "bias" => Fault::Nonce(Rig::Bias),
        _ => return parse_number(word),
    };
    Some(plain)
}

fn parse_number(word: &str) -> Option<Fault> {
    let Some((name, value)) = word.split_once('=') else {
        return codes::code(word).or_else(|| number(word)).map(Fault::Answer);
    };
    match name {
        "delay" => number(value).map(Fault::Delay),
        "lie" => number(value).map(Fault::Lie),
        "flags" => {
            let bits = value.split(',').map(codes::flag).collect::<Option<Vec<u64>>>()?;
            Some(Fault::Flags(bits.iter().fold(0, |all, bit| all | bit)))
        }
        _ => None,
    }
}

fn number(text: &str) -> Option<u64> {
    match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn every_form_is_read() {
        let text = "seed 7 # of all draws\n\n# nothing\nC_Sign 1% CKR_DEVICE_ERROR\n* 0.25% 0x5\n\
            C_UnwrapKey #3 crash # the third\nC_Sign,C_SignInit once CKR_SESSION_HANDLE_INVALID until=C_OpenSession\n\
            swap 0x210a 8459\nC_GetTokenInfo always flags=count-low,final-try\nC_GetAttributeValue always lie=0x162\nC_Sign always delay=20\n";
        let read = Rules::parse(text).unwrap();
        assert_eq!((read.seed, read.rules.len()), (7, 7));
        assert_eq!(read.swaps, [[0x210a, 0x210b]]);
        let whens: Vec<When> = read.rules.iter().map(|rule| rule.when).collect();
        assert_eq!(
            whens[..4],
            [When::Millionths(10_000), When::Millionths(2_500), When::Nth(3), When::Once]
        );
        assert_eq!(read.rules[0].what, Fault::Answer(0x30));
        assert!(read.rules[1].is_about("C_Login") && !read.rules[0].is_about("C_Login"));
        assert_eq!(read.rules[3].until.as_deref(), Some("C_OpenSession"));
        assert_eq!(read.rules[4].what, Fault::Flags(0x3_0000));
        assert_eq!(read.rules[5].what, Fault::Lie(0x162));
    }

    #[test]
    fn what_is_no_rule_is_said() {
        for text in [
            "C_Sing always flip",
            "C_Sign 1 flip",
            "C_Sign 1% CKR_NONE",
            "C_Sign once",
            "swap 0x210a CKM_X",
            "C_Sign once flip until=x",
        ] {
            assert_eq!(Rules::parse(text), Err(text.to_owned()));
        }
    }
}
