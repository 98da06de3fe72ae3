//! Hostile HTTP/1: what Moxie makes of it, held against what real servers make of it (`verdicts.txt`).

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![expect(unreachable_pub, reason = "a test program is nobody's library")]

mod cases;
mod judge;
mod moxie;
mod oracles;
mod table;
mod view;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;

use judge::disagreement;

/// How many cases each server sees in full as Moxie does, whatever its version: every one sees what is plain.
const LEAST_AGREED: usize = 60;

#[test]
fn there_are_more_than_400_cases_and_each_has_a_name() {
    let cases = cases::all();
    assert!(cases.len() >= 400, "{}", cases.len());
    let names: BTreeSet<_> = cases.iter().map(|case| &case.name).collect();
    let bytes: BTreeSet<_> = cases.iter().map(|case| &case.bytes).collect();
    assert_eq!((names.len(), bytes.len()), (cases.len(), cases.len()), "two cases are the same");
}

#[test]
fn moxie_sees_what_every_server_sees_or_doubts() {
    let table = table::read().unwrap();
    let mut wrong = Vec::new();
    for case in cases::all() {
        let ours = moxie::view(&case.bytes);
        let Some(row) = table.get(&case.name).filter(|row| row.bytes == table::shown(&case.bytes)) else {
            wrong.push(format!("{}: not in the table as it is", case.name));
            continue;
        };
        if row.views.get("moxie") != Some(&ours.to_string()) {
            wrong.push(format!(
                "{}: the table says that Moxie sees {:?}; now it sees {ours}",
                case.name,
                row.views.get("moxie")
            ));
        }
        for (server, theirs) in row.views.iter().filter(|(server, _)| *server != "moxie") {
            let theirs = theirs.parse().unwrap();
            wrong.extend(disagreement(&ours, &theirs).map(|why| format!("{} {server}: {why}", case.name)));
        }
    }
    assert!(wrong.is_empty(), "{}\n{}", wrong.join("\n"), table::HOW);
}

/// Without this, doubting everything would pass.
#[test]
fn what_is_plain_is_seen() {
    for case in cases::all().iter().filter(|case| case.name.starts_with("plain/")) {
        let ours = moxie::view(&case.bytes);
        assert!(!ours.is_doubtful(), "{}: {ours}", case.name);
    }
}

#[test]
fn what_moxie_sees_does_not_depend_on_how_bytes_arrive() {
    for case in cases::all() {
        let whole = moxie::view(&case.bytes);
        for piece in [1, 2, 3, 5, 17] {
            assert_eq!(moxie::view_in_pieces(&case.bytes, piece), whole, "{} by {piece}", case.name);
        }
    }
}

/// Asks nginx, HAProxy, Node, Go, h11 and hyper, of whatever versions they are.
#[test]
fn the_servers_here_see_what_moxie_sees() {
    let measured = oracles::measured().unwrap();
    let mut wrong = Vec::new();
    let mut agreed: BTreeMap<&str, usize> = measured.versions.keys().map(|server| (*server, 0)).collect();
    for (case, views) in &measured.views {
        let ours = moxie::view(&case.bytes);
        for (server, theirs) in views {
            wrong.extend(disagreement(&ours, theirs).map(|why| format!("{} {server}: {why}", case.name)));
            *agreed.entry(server).or_default() += usize::from(!ours.is_doubtful() && ours == *theirs);
        }
    }
    assert!(wrong.is_empty(), "{}\n{:?}", wrong.join("\n"), measured.versions);
    // A server that refuses everything would agree with anything.
    assert_eq!(agreed.len(), 6, "{agreed:?}");
    assert!(agreed.values().all(|count| *count >= LEAST_AGREED), "{agreed:?}");
}

#[test]
fn the_servers_here_do_what_the_table_says() {
    for left in table::hold(oracles::measured().unwrap()).unwrap() {
        // Past the capture of what tests print, since this one passes.
        writeln!(std::io::stderr(), "not compared with the table: {left}").unwrap();
    }
}
