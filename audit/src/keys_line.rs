//! The first line of a trace in the log: which keys a request asks for, of which tier, and in which token they are. It never
//! says what was decided, and entries from before it was written lack it.

use core::fmt;

/// What such a line begins with; no rule of the policy has this name.
const KIND: &str = "keys: ";
/// Most keys, and most runs of indexes, that are named one by one.
const NAMED_MAX: usize = 16;
/// What stands between wallet and tier, before the inputs, and before the token.
const IS: &str = " is ";
const THEN: &str = "; ";
const TOKEN: &str = "; token ";
/// What stands after the number of inputs, before the keys, before the places, and where there are more than are named.
const INPUT: &str = " input";
const BY: &str = " by";
const AT: &str = " at";
const AND: &str = " and ";
const MORE: &str = " more";

/// What a line says. As text it has at most some 2,000 bytes, however many inputs there are.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KeysLine {
    /// The wallet that is spent from.
    pub wallet: String,
    /// Tier of its keys.
    pub tier: String,
    /// How many inputs are to be signed.
    pub inputs: usize,
    /// Each key of ours: an account as `[fingerprint/path]`, a key that was born in the token in hex.
    pub keys: Vec<String>,
    /// Branch and index of each input; every key of ours is used at each.
    pub places: Vec<(bool, u32)>,
    /// Serial number of the token that the keys were found in.
    pub token: String,
}

impl fmt::Display for KeysLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { wallet, tier, inputs, keys, token, .. } = self;
        let plural = if *inputs == 1 { "" } else { "s" };
        write!(f, "{KIND}{wallet}{IS}{tier}{THEN}{inputs}{INPUT}{plural}{BY}")?;
        few(f, keys)?;
        f.write_str(AT)?;
        few(f, &self.runs())?;
        let token = token.chars().take(64).map(|c| if c.is_control() { '?' } else { c });
        write!(f, "{TOKEN}{}", token.collect::<String>().trim())
    }
}

/// What a line says that can be held against other entries.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Said<'a> {
    /// The wallet.
    pub wallet: &'a str,
    /// The tier of its keys.
    pub tier: &'a str,
    /// How many inputs.
    pub inputs: usize,
    /// The keys that it names, and how many more there are.
    pub keys: (Vec<&'a str>, usize),
    /// Serial number of the token.
    pub token: &'a str,
}

impl KeysLine {
    /// What a trace begins with, if it says it.
    ///
    /// # Errors
    /// A sentence, when a line begins like this one and goes on otherwise.
    pub fn of(trace: &[String]) -> Result<Option<Said<'_>>, &'static str> {
        let Some(rest) = trace.first().and_then(|line| line.strip_prefix(KIND)) else {
            return Ok(None);
        };
        let read = || {
            let (wallet, rest) = rest.split_once(IS)?;
            let (tier, rest) = rest.split_once(THEN)?;
            let at = rest.find(TOKEN)?.checked_add(TOKEN.len())?;
            let (inputs, by) = rest.split_once(INPUT)?;
            let (keys, _) = by.strip_prefix('s').unwrap_or(by).strip_prefix(BY)?.split_once(AT)?;
            let (named, more) = match keys.split_once(AND) {
                Some((named, more)) => (named, more.strip_suffix(MORE)?.parse().ok()?),
                None => (keys, 0),
            };
            let keys = (named.split_whitespace().collect(), more);
            Some(Said { wallet, tier, inputs: inputs.parse().ok()?, keys, token: rest.get(at..)? })
        };
        read().map(Some).ok_or("the line that says which keys are asked for cannot be read")
    }

    /// Neighbours together: `0/7-9` are three inputs.
    fn runs(&self) -> Vec<String> {
        let mut places = self.places.clone();
        places.sort_unstable();
        places.dedup();
        let mut runs: Vec<(bool, u32, u32)> = Vec::new();
        for (change, index) in places {
            match runs.last_mut() {
                Some((same, _, last)) if *same == change && last.checked_add(1) == Some(index) => {
                    *last = index;
                }
                _ => runs.push((change, index, index)),
            }
        }
        let text = |(change, first, last): &(bool, u32, u32)| match first == last {
            true => format!("{}/{first}", u8::from(*change)),
            false => format!("{}/{first}-{last}", u8::from(*change)),
        };
        runs.iter().map(text).collect()
    }
}

/// The first ones, and how many more there are.
fn few(f: &mut fmt::Formatter<'_>, all: &[String]) -> fmt::Result {
    for one in all.iter().take(NAMED_MAX) {
        write!(f, " {one}")?;
    }
    match all.len().saturating_sub(NAMED_MAX) {
        0 => Ok(()),
        more => write!(f, "{AND}{more}{MORE}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line() -> KeysLine {
        KeysLine {
            wallet: "hot".to_owned(),
            tier: "token-hd".to_owned(),
            inputs: 4,
            keys: vec!["[73c5da0a/84h/0h/0h]".to_owned()],
            places: vec![(true, 0), (false, 9), (false, 8), (false, 5)],
            token: "41fc0e6a; token \u{7}9 ".to_owned(),
        }
    }

    #[test]
    fn a_line_says_wallet_tier_keys_places_and_token_in_one_form() {
        let text = line().to_string();
        let form = "keys: hot is token-hd; 4 inputs by [73c5da0a/84h/0h/0h] at 0/5 0/8-9 1/0; token 41fc0e6a; token ?9";
        assert_eq!(text, form);
        let trace = [text, "pass order".to_owned()];
        let keys = (vec!["[73c5da0a/84h/0h/0h]"], 0);
        let token = "41fc0e6a; token ?9";
        let said = Said { wallet: "hot", tier: "token-hd", inputs: 4, keys, token };
        assert_eq!(KeysLine::of(&trace), Ok(Some(said)));
    }

    #[test]
    fn a_line_is_short_whatever_is_asked_for() {
        // No two are neighbours, and keys of a multisig are as long as they can be.
        let places = (0..1_400).map(|n| (n % 3 == 0, u32::MAX - 2 * n)).collect();
        let keys = vec![format!("[73c5da0a{}]", "/2147483647h".repeat(6)); 20];
        let (token, inputs) = ("9".repeat(1_000), 1_400);
        let text = KeysLine { places, keys, token, inputs, ..line() }.to_string();
        assert!(text.len() < 2_000, "{}", text.len());
        assert!(text.contains("; 1400 inputs by ") && text.contains(" and 4 more at "), "{text}");
        assert!(text.contains(" and 1384 more; token 9"), "{text}");
        let trace = [text];
        let said = KeysLine::of(&trace).unwrap().unwrap();
        assert_eq!((said.inputs, said.keys.0.len(), said.keys.1), (1_400, 16, 4));
        let one = KeysLine { inputs: 1, places: vec![(false, 7)], ..line() }.to_string();
        assert!(one.contains("; 1 input by ") && one.contains(" at 0/7;"), "{one}");
    }

    #[test]
    fn other_lines_say_nothing_and_broken_ones_are_told() {
        assert_eq!(KeysLine::of(&[]), Ok(None));
        assert_eq!(KeysLine::of(&["pass no-order: 1".to_owned()]), Ok(None));
        for broken in [
            "keys: hot",
            "keys: hot is token-hd",
            "keys: hot is token-hd; 1 input",
            "keys: hot is token-hd; some inputs by k at 0/0; token 1",
            "keys: hot is token-hd; 1 input by k and some more at 0/0; token 1",
        ] {
            assert!(KeysLine::of(&[broken.to_owned()]).is_err(), "{broken}");
        }
    }
}
