//! Who alone does what a policy seems to ask several for, and what it asks nobody for. It only says so, and decides nothing.

use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use asset::Network;

use crate::names::KeyName;
use crate::people::Quorum;
use crate::rules::Rules;

/// Quorums that one person fills, a veto that one key has, and what a policy for the main network should say of people.
pub(super) fn remarks(rules: &Rules) -> Vec<String> {
    let everybody = rules.everybody();
    let asked = super::quorums(rules).map(|(name, quorum)| (name.to_string(), quorum));
    let alone = asked.chain(governing(rules)).filter_map(|(name, quorum)| {
        let alone = |officer: &&&KeyName| quorum.is_met(&everybody, &BTreeSet::from([**officer]));
        let members = everybody.members(quorum.groups());
        let officer = members.iter().find(alone)?;
        Some(format!("\"{name}\": one person is enough, e.g. \"{officer}\""))
    });
    let mut said: Vec<String> = alone.collect();
    let veto = rules.governance().and_then(|governance| governance.veto.as_ref());
    let members = everybody.members(veto.into_iter());
    if let (Some(only), 1) = (members.iter().next(), members.len()) {
        said.push(format!(
            "\"veto\": \"{only}\" alone has it: with that one key it is lost or taken"
        ));
    }
    if rules.network() == Network::Bitcoin {
        said.extend(missing(rules).into_iter().map(String::from));
    }
    said
}

/// Who may change the policy, act at the machine, and lift a freeze.
fn governing(rules: &Rules) -> impl Iterator<Item = (String, &Quorum)> {
    let governance = rules.governance().into_iter().flat_map(|governance| {
        let recover = governance.recover.as_ref().map(|recovery| &recovery.quorum);
        [
            ("tighten", Some(&governance.tighten)),
            ("change", Some(&governance.change)),
            ("administer", governance.administer.as_ref()),
            ("unbind", governance.unbind.as_ref()),
            ("recover", recover),
        ]
    });
    let all = governance.chain([("unfreeze", rules.unfreeze())]);
    all.filter_map(|(name, quorum)| Some((name.to_string(), quorum?)))
}

fn missing(rules: &Rules) -> Vec<&'static str> {
    let governance = rules.governance();
    let asks = governance.is_some();
    let veto = governance.is_some_and(|governance| governance.veto.is_some());
    let said = [
        (
            !asks,
            "there is no [governance]: the officers of the signer's configuration change the policy",
        ),
        (
            rules.administer().is_none(),
            "`administer` is missing: whoever is at the signer's machine does alone what is done there",
        ),
        (
            rules.unfreeze().is_none(),
            "`unfreeze` is missing: nothing but a new policy lifts a freeze",
        ),
        (
            asks && rules.unbind().is_none(),
            "`unbind` is missing: a payout whose every coin disappeared is never paid under the same order",
        ),
        (asks && !veto, "`veto` is missing: nobody stops a policy that is proposed"),
        (
            !rules.clients().iter().any(|client| client.officers),
            "no client has `officers = true`: what officers say comes in as a file alone",
        ),
    ];
    said.into_iter().filter(|(is_missing, _)| *is_missing).map(|(_, text)| text).collect()
}
