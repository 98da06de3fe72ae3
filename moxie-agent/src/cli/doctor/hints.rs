//! Whether names keep connections direct that no rule is for, and where not.

use std::collections::BTreeMap;

use serde_json::Value;

use super::Check;
use crate::cli::output::field;
use crate::divert::{HINTS_OFF, Share};
use crate::scope::view::Match;

/// The way on path that looks at DNS answers.
const WAY: &str = "ebpf";
/// Cgroups that are named; of more, how many there are.
const NAMED: usize = 3;

pub(super) fn check(status: &Value, scopes: &[Value]) -> Check {
    let way = field(status, "/way");
    if way != WAY {
        return found_well(format!(
            "none on the way on path `{way}`, which has every connection come where a rule could fire"
        ));
    }
    judge(&matches(scopes))
}

/// Each cgroup once, whatever number of scopes it is of.
fn matches(scopes: &[Value]) -> Vec<Match> {
    let matches = scopes.iter().filter_map(|scope| scope.get("matches")?.as_array()).flatten();
    // An agent of another version may tell them otherwise.
    let matches = matches.filter_map(|one| serde_json::from_value::<Match>(one.clone()).ok());
    let by_cgroup: BTreeMap<_, _> = matches.map(|one| (one.cgroup.clone(), one)).collect();
    by_cgroup.into_values().collect()
}

fn judge(matches: &[Match]) -> Check {
    let named = || matches.iter().filter(|one| one.diverted == Share::Named);
    let obstructed = named().find_map(|one| one.hints_obstacle.as_deref());
    let Some(obstacle) = obstructed else { return found_well(in_force(matches)) };
    if obstacle == HINTS_OFF {
        return found_well(format!("off: {HINTS_OFF}"));
    }
    let cgroups: Vec<String> = named()
        .filter(|one| one.hints_obstacle.as_deref() == Some(obstacle))
        .map(|one| one.cgroup.display().to_string())
        .collect();
    let more = cgroups.len().saturating_sub(NAMED);
    let more = if more == 0 { String::new() } else { format!(" and {more} more") };
    let cgroups: Vec<String> = cgroups.into_iter().take(NAMED).collect();
    // An obstacle ends with what to do.
    let (why, fix) = obstacle.split_once("; ").unwrap_or((obstacle, "moxie scope ls --json"));
    Check::warn("dns hints", format!("every connection of {}{more} comes: {why}", cgroups.join(", ")), fix)
}

fn in_force(matches: &[Match]) -> String {
    let named: Vec<&Match> = matches.iter().filter(|one| one.diverted == Share::Named).collect();
    let known: usize = named.iter().map(|one| one.known_addresses).sum();
    let others = match matches.len() - named.len() {
        0 => String::new(),
        _ => "; in the others no rule could fire, or their mode is `observe` or `inspect`".to_owned(),
    };
    format!("in force in {} of {} cgroups on path, {known} addresses known{others}", named.len(), matches.len())
}

fn found_well(found: String) -> Check {
    Check::ok("dns hints", found)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::Verdict;
    use super::*;

    fn one(cgroup: &str, diverted: &str, known: usize, obstacle: Option<&str>) -> Value {
        json!({"cgroup": cgroup, "unit": null, "container": null, "mode": "rules", "diverted": diverted,
            "known_addresses": known, "hints_obstacle": obstacle, "rules": null, "refuse_quic": false, "quic_refused": 0,
            "obstacles": []})
    }

    fn checked(way: &str, matches: &[Value]) -> Check {
        check(&json!({"way": way}), &[json!({"matches": matches}), json!({"matches": matches})])
    }

    #[test]
    fn what_is_in_force_is_counted_once_for_each_cgroup() {
        let check = checked("ebpf", &[one("/a", "named", 3, None), one("/b", "named", 4, None)]);
        assert_eq!(
            (check.verdict, check.found.as_str()),
            (Verdict::Ok, "in force in 2 of 2 cgroups on path, 7 addresses known")
        );
        let check = checked("ebpf", &[one("/a", "named", 3, None), one("/b", "none", 0, None)]);
        assert!(check.found.starts_with("in force in 1 of 2 cgroups on path, 3 addresses known; in the others"));
        assert_eq!(checked("ebpf", &[]).verdict, Verdict::Ok);
    }

    #[test]
    fn where_something_is_in_the_way_it_says_where_and_why_and_what_to_do() {
        let old = Some("Linux 5.10 is too old for DNS hints, which take 5.15; boot that or a newer one");
        let many = ["/a", "/b", "/c", "/d", "/e"].map(|cgroup| one(cgroup, "named", 0, old));
        let check = checked("ebpf", &many);
        assert_eq!(check.verdict, Verdict::Warn);
        assert_eq!(
            check.found,
            "every connection of /a, /b, /c and 2 more comes: Linux 5.10 is too old for DNS hints, which take 5.15"
        );
        assert_eq!(check.fix.as_deref(), Some("boot that or a newer one"));
    }

    #[test]
    fn what_is_wanted_so_or_is_the_ways_own_is_in_order() {
        let off = checked("ebpf", &[one("/a", "named", 0, Some(HINTS_OFF))]);
        assert_eq!((off.verdict, off.fix), (Verdict::Ok, None));
        let netfilter = checked("netfilter", &[one("/a", "named", 0, None)]);
        assert!(netfilter.verdict == Verdict::Ok && netfilter.found.contains("netfilter"));
    }
}
