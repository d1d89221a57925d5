//! How far a change of the PIN is, in the words of the latch that stays shut meanwhile. It never holds a PIN.

use crate::token::{Latch, TokenError};

/// Each but the first is written before the files follow, so that a crash in between leaves nothing to guess.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Stage {
    /// The token may have either PIN.
    UnderWay,
    /// It has the new one, which is to replace the old one in the file.
    Taken,
    /// It has the old one; the new one is to be put aside.
    Refused,
}

const ALL: [Stage; 3] = [Stage::UnderWay, Stage::Taken, Stage::Refused];
const TOKEN: &str = " of token ";

impl Stage {
    /// Shuts the latch with it, and with the token that the change was begun on.
    pub(super) fn hold(self, latch: &Latch, serial: Option<&str>) -> Result<(), TokenError> {
        let (before, after) = self.words();
        let of = serial.map(|serial| format!("{TOKEN}{serial}")).unwrap_or_default();
        latch.hold(&format!("{before}{of}{after}"))
    }

    /// What a latch is shut with, if that is a change of the PIN.
    pub(super) fn read(text: &str) -> Option<(Self, Option<String>)> {
        ALL.into_iter().find_map(|stage| {
            let (before, after) = stage.words();
            let of = text.strip_prefix(before)?.strip_suffix(after)?;
            Some((stage, of.strip_prefix(TOKEN).map(str::to_owned)))
        })
    }

    fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::UnderWay => {
                ("a change of the PIN", " was not finished: run `signer set-pin --finish`")
            }
            Self::Taken => (
                "a new PIN",
                " was taken, and the PIN file may not have it yet: run `signer set-pin --finish`",
            ),
            Self::Refused => (
                "a new PIN",
                " was not taken, and is to be put aside: run `signer set-pin --finish`",
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_latch_says_how_far_a_change_is_and_of_which_token() {
        let dir = tempfile::tempdir().unwrap();
        let latch = Latch::in_dir(dir.path());
        for stage in ALL {
            for serial in [None, Some("5f0a"), Some("an odd of token one: x")] {
                stage.hold(&latch, serial).unwrap();
                let text = latch.held().unwrap().unwrap();
                assert!(text.contains("signer set-pin --finish"));
                assert_eq!(Stage::read(&text), Some((stage, serial.map(str::to_owned))));
            }
        }
        latch.hold("the token says that the PIN is wrong").unwrap();
        assert_eq!(Stage::read(&latch.held().unwrap().unwrap()), None);
    }
}
