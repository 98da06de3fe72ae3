//! What an agent holds open.

use std::collections::BTreeMap;
use std::fs;

use anyhow::Result;
use moxie_tests::Agent;

/// How many descriptors of each kind the agent has.
pub(crate) fn of(agent: &Agent<'_>) -> Result<BTreeMap<String, usize>> {
    let mut kinds = BTreeMap::new();
    for entry in fs::read_dir(format!("/proc/{}/fd", agent.pid()))? {
        // One that is closed meanwhile is none.
        let Ok(link) = fs::read_link(entry?.path()) else { continue };
        let kind: String = link.display().to_string().chars().take_while(|next| !"[ ".contains(*next)).collect();
        *kinds.entry(kind).or_default() += 1;
    }
    Ok(kinds)
}
