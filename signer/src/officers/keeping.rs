//! Freezes as files until a log is open: every statement is a file of its own, since nobody can tell without the log which of them
//! it counted before. None takes another's place or keeps one out, whichever ends later. It never judges a statement: whoever comes
//! here did, and is here alone.

use std::fs;
use std::path::{Path, PathBuf};

use policy::evidence::FreezeScope;
use policy::names::KeyName;
use statement::{Says, Signed, Statement};

use super::inbox;
use crate::refusal::{Reason, Refusal};
use crate::token::write_durably;

/// So many freezes of one officer are kept that have not ended, beside those that stop all of it.
const SINGLE_MAX: usize = 64;
/// So many of one officer are kept that stop all of it: for one more, the one that ends first makes room.
const ALL_MAX: usize = 256;

/// Keeps it. The same statement once more is the same file.
///
/// # Errors
/// [`Reason::Busy`] where too many others of this officer are kept that stop something else than all of it.
pub(super) fn keep(
    folder: &Path,
    (said, scope): (&Statement, &FreezeScope),
    signed: &Signed,
    now: u64,
) -> Result<(), Refusal> {
    let path = folder.join(file_name(&said.officer, &said.digest()));
    let others = others(folder, said, (scope, &path));
    let mut others = others.map_err(|error| inbox::trouble(folder, &error))?;
    others.sort();
    let most = if stops_all(scope) { ALL_MAX } else { SINGLE_MAX };
    let surplus = others.len().saturating_add(1).saturating_sub(most);
    let (leaving, _) = others.split_at(surplus.min(others.len()));
    // Another that still says something makes room for nothing but what stops all of it.
    if !stops_all(scope) && leaving.iter().any(|(expires, _)| *expires >= now) {
        let text = format!("{most} freezes by \"{}\" are kept already", said.officer);
        return Err(Refusal::new(Reason::Busy, text));
    }
    write_durably(&path, &signed.to_file())?;
    for (_, path) in leaving {
        tracing::warn!(file = %path.display(), "a kept freeze makes room for another");
        if let Err(error) = fs::remove_file(path) {
            tracing::warn!("cannot remove {}: {error}", path.display());
        }
    }
    Ok(())
}

/// Only what stops all of it has its place however many others are kept: no other freeze is in its stead.
fn stops_all(scope: &FreezeScope) -> bool {
    matches!(scope, FreezeScope::Everything | FreezeScope::Evacuation)
}

/// By the statement, not by what it freezes.
fn file_name(officer: &KeyName, statement: &[u8; 32]) -> String {
    format!("{}-{officer}-{}.{}", inbox::FIRST, hex::encode(statement), inbox::ENDING)
}

/// Others of that officer that share its room, with when they end.
fn others(
    folder: &Path,
    said: &Statement,
    (scope, path): (&FreezeScope, &Path),
) -> std::io::Result<Vec<(u64, PathBuf)>> {
    let begins = format!("{}-{}-", inbox::FIRST, said.officer);
    let length = file_name(&said.officer, &[0; 32]).len();
    let files =
        inbox::named(folder, |name| name.starts_with(&begins) && name.len() == length)?.into_iter();
    let files = files.filter(|file| file != path);
    Ok(files.filter_map(|file| Some((ends(&file, said, scope)?, file))).collect())
}

/// When a kept statement ends, if it is one of these.
fn ends(file: &Path, said: &Statement, scope: &FreezeScope) -> Option<u64> {
    let kept = inbox::read_statement(file).ok()?;
    let kept = Statement::parse(&kept.statement).ok()?;
    let shares = match &kept.says {
        Says::Freeze(other) => stops_all(other) == stops_all(scope),
        _ => false,
    };
    (shares && kept.officer == said.officer).then_some(kept.expires_unix)
}

#[cfg(test)]
mod tests {
    use policy::intent::SlotId;

    use super::*;

    const NOW: u64 = 1_000;

    fn freeze(scope: FreezeScope, number: usize, expires_unix: u64) -> Statement {
        let mut nonce = [0; 16];
        nonce[..8].copy_from_slice(&number.to_be_bytes());
        Statement {
            says: Says::Freeze(scope),
            log: "cofferdam/here".into(),
            network: "bip122:0f9188f13cb7b2c71f2a335e3a4fc328".into(),
            officer: KeyName::parse("dan").unwrap(),
            expires_unix,
            nonce,
        }
    }

    fn kept(folder: &Path, said: &Statement) -> Result<(), Reason> {
        let Says::Freeze(scope) = &said.says else { panic!("{said:?}") };
        let signed = Signed { statement: said.encode(), signature: [0; 64] };
        keep(folder, (said, scope), &signed, NOW).map_err(|refusal| refusal.reason)
    }

    fn is_there(folder: &Path, said: &Statement) -> bool {
        folder.join(file_name(&said.officer, &said.digest())).exists()
    }

    #[test]
    fn what_ended_makes_room_and_what_lasts_only_for_what_stops_all_of_it() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let coin = |number: usize, expires| {
            let slot = SlotId([u8::try_from(number).unwrap(); 36]);
            freeze(FreezeScope::Slot(slot), number, expires)
        };
        let ended = coin(0, NOW - 1);
        kept(folder, &ended).unwrap();
        for number in 1..SINGLE_MAX {
            kept(folder, &coin(number, NOW + 5)).unwrap();
        }
        let last = coin(SINGLE_MAX, NOW + 5);
        kept(folder, &last).unwrap();
        assert!(is_there(folder, &last) && !is_there(folder, &ended));
        assert_eq!(kept(folder, &coin(SINGLE_MAX + 1, NOW + 50)), Err(Reason::Busy));
        kept(folder, &last).unwrap();
        let all: Vec<Statement> = (0..=ALL_MAX)
            .map(|number| {
                freeze(FreezeScope::Everything, number, NOW + 9 + u64::try_from(number).unwrap())
            })
            .collect();
        // The one that ends last came first.
        for said in all.iter().rev() {
            kept(folder, said).unwrap();
            assert!(is_there(folder, said));
        }
        let evacuation = freeze(FreezeScope::Evacuation, 7, NOW);
        kept(folder, &evacuation).unwrap();
        assert!(is_there(folder, &evacuation) && !is_there(folder, &all[0]));
        let files = fs::read_dir(folder).unwrap().count();
        assert_eq!(files, SINGLE_MAX + ALL_MAX);
    }
}
