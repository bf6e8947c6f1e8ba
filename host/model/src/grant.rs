//! Effects, policy, and what one call is given.
//!
//! A call's grant = effects that its tool declares, cut by what the plugin's manifest asks, cut by what policy grants
//! this plugin. What is left is still subject to the session's mode: [`decide`].

use crate::id::Effect;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Effects that this host knows. A manifest that asks for another one is refused.
pub mod effects {
    pub const FS_READ: &str = "fs.read";
    pub const FS_WRITE: &str = "fs.write";
    pub const PROCESS: &str = "process";
    pub const NET_FETCH: &str = "net.fetch";
    pub const STATE: &str = "state";
    pub const MODEL: &str = "model";
    pub const ALL: [&str; 6] = [FS_READ, FS_WRITE, PROCESS, NET_FETCH, STATE, MODEL];
}

pub type EffectSet = BTreeSet<Effect>;

/// What one call may do at all.
#[must_use]
pub fn grant(declared: &EffectSet, asked: &EffectSet, policy: &EffectSet) -> EffectSet {
    declared.iter().filter(|e| asked.contains(*e) && policy.contains(*e)).cloned().collect()
}

/// How much the person wants to be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase")]
pub enum PermissionMode {
    /// Reading is free; changing files, running programs and fetching are asked for.
    #[default]
    Default,
    /// Also changing files in the workspace is free.
    AcceptEdits,
    /// Nothing changes: reading only, everything else is refused.
    Plan,
    /// Nothing is asked. Only where settings permit it.
    Bypass,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Allow,
    Ask,
    Refuse,
}

/// Whether a granted effect runs, waits for a person, or is refused, by mode alone. Approvals for the session and
/// policy that names hosts come on top (`Ask` may become `Allow`, `Refuse` stays).
#[must_use]
pub fn decide(mode: PermissionMode, effect: &Effect) -> Verdict {
    match (effect.as_str(), mode) {
        (effects::FS_READ | effects::STATE, _) | (_, PermissionMode::Bypass) => Verdict::Allow,
        (effects::MODEL, _) => Verdict::Allow,
        (effects::FS_WRITE, PermissionMode::AcceptEdits) => Verdict::Allow,
        (effects::NET_FETCH, _) => Verdict::Ask,
        (_, PermissionMode::Plan) => Verdict::Refuse,
        _ => Verdict::Ask,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Verdict::{Allow, Ask, Refuse};

    fn set(names: &[&str]) -> EffectSet {
        names.iter().map(|n| n.parse().unwrap()).collect()
    }

    #[test]
    fn a_grant_is_what_all_three_name() {
        let got = grant(
            &set(&["fs.read", "process"]),
            &set(&["fs.read", "process", "model"]),
            &set(&["fs.read", "model"]),
        );
        assert_eq!(got, set(&["fs.read"]));
    }

    #[test]
    fn modes_are_a_closed_table() {
        let check = |effect: &str, expected: [Verdict; 4]| {
            let modes = [
                PermissionMode::Default,
                PermissionMode::AcceptEdits,
                PermissionMode::Plan,
                PermissionMode::Bypass,
            ];
            assert_eq!(modes.map(|m| decide(m, &effect.parse().unwrap())), expected, "{effect}");
        };
        check("fs.read", [Allow, Allow, Allow, Allow]);
        check("state", [Allow, Allow, Allow, Allow]);
        check("model", [Allow, Allow, Allow, Allow]);
        check("fs.write", [Ask, Allow, Refuse, Allow]);
        check("process", [Ask, Ask, Refuse, Allow]);
        check("net.fetch", [Ask, Ask, Ask, Allow]);
        check("never-heard-of", [Ask, Ask, Refuse, Allow]);
    }
}
