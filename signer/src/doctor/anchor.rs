//! What the doctor says of data objects: whether the token keeps a private one and hides it from whoever has no PIN, where it
//! would lie, and how far the anchor goes. It leaves nothing in the token, and never changes the anchor.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use token_wire::{ANCHOR_BYTES_MAX, AnchorAsk, Examination};

use super::Checked;
use crate::anchoring::remembered;
use crate::token::{Line, TokenConfig, TokenError};

/// Tries a data object, by a line that is logged in.
pub(super) fn look(
    config: &TokenConfig,
    own_dir: &Path,
    (line, seen): (&mut Line, &Examination),
    entries: Option<u64>,
    checked: &mut Checked,
) {
    let software = line.info().is_known_software();
    let place = place(seen.hardware_slot, software);
    let kept = try_out(config, line);
    let said = if config.anchor { anchor(line, own_dir, entries) } else { Ok("off".to_owned()) };
    match (kept, said) {
        (Ok(()), Ok(said)) => {
            let text =
                format!("data objects are kept, changed and hidden, {place}; anchor: {said}");
            if config.anchor && software {
                checked.warn(
                    "anchor",
                    &format!("{text}; whoever sets this machine back sets it back too"),
                );
            } else {
                checked.well("anchor", &text);
            }
        }
        (Ok(()), Err(why)) => checked.broken("anchor", &why),
        (Err(why), _) if config.anchor => checked.broken("anchor", &format!("data objects: {why}")),
        (Err(why), _) => checked.well("anchor", &format!("data objects: {why}; anchor: off")),
    }
}

fn place(hardware: bool, software: bool) -> &'static str {
    match (software, hardware) {
        (true, _) => "in files of this machine (the module is known software)",
        (false, true) => "in what the slot calls hardware",
        (false, false) => {
            "and the slot does not say that it is hardware: ask the vendor where they lie"
        }
    }
}

/// What is done with an anchor, done with another object; another worker without the PIN must not see it.
fn try_out(config: &TokenConfig, line: &mut Line) -> Result<(), String> {
    let tried = line.anchor(AnchorAsk::Try).map_err(|why| why.to_string());
    let hidden = tried.and_then(|_| {
        let look = || {
            let mut stranger = Line::connect(config, false)?;
            let seen = stranger.anchor(AnchorAsk::Look);
            stranger.close();
            seen
        };
        match look() {
            Ok(seen) if seen.is_empty() => Ok(()),
            Ok(_) => Err("the token shows private ones without a login".to_owned()),
            Err(why) => Err(format!("it was not seen whether they are hidden: {why}")),
        }
    });
    let ended = line.anchor(AnchorAsk::EndTry).map_err(|why| why.to_string());
    hidden.and(ended.map(drop))
}

/// How far it goes. What the log says of it is for a start to look at; that it is shorter is said here.
fn anchor(line: &mut Line, own_dir: &Path, entries: Option<u64>) -> Result<String, String> {
    let told = |why: TokenError| why.to_string();
    let said = line.anchor(AnchorAsk::Read).map_err(told)?;
    let written = remembered(own_dir).map_err(told)?;
    let sizes = said.iter().map(|note| size(note).ok_or("the one in the token is no checkpoint"));
    let sizes = sizes.collect::<Result<Vec<_>, _>>()?;
    let Some(size) = sizes.into_iter().max() else {
        return match written {
            None => Ok("on, and none there yet: a start writes it".to_owned()),
            Some(_) => {
                Err("the token was given one and holds none any more: no signer starts".to_owned())
            }
        };
    };
    if let Some(entries) = entries.filter(|entries| *entries < size) {
        return Err(format!(
            "over {size} entries, and the log has {entries}: it was set back, and no signer starts"
        ));
    }
    let age = match written {
        Some((of, at)) if of == size => format!("written {} ago", since(at)),
        _ => "not written by this state folder".to_owned(),
    };
    Ok(format!("over {size} entries, {age}"))
}

fn size(note: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(note).ok().filter(|note| note.len() <= ANCHOR_BYTES_MAX)?;
    text.lines().nth(1)?.parse().ok()
}

fn since(at_unix: u64) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    match now.saturating_sub(at_unix) {
        seconds @ 0..7_200 => format!("{} min", seconds / 60),
        seconds @ 7_200..172_800 => format!("{} h", seconds / 3_600),
        seconds => format!("{} days", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_data_objects_lie_is_said_by_the_slot_and_not_of_known_software() {
        assert!(place(true, true).contains("files of this machine"));
        assert!(place(true, false).contains("hardware"));
        assert!(place(false, false).contains("ask the vendor"));
    }
}
