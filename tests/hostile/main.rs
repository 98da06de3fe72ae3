//! Hostile HTTP/1: what Moxie makes of it, held against what real servers make of it (`verdicts.txt`), and real clients of answers.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![expect(unreachable_pub, reason = "a test program is nobody's library")]

mod answers;
mod cases;
mod judge;
mod moxie;
mod oracles;
mod table;
mod view;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;

use judge::disagreement;
use table::Table;

/// What servers make of the cases.
const TABLE: Table = Table {
    file: concat!(env!("CARGO_MANIFEST_DIR"), "/hostile/verdicts.txt"),
    head: "\
# What servers make of hostile HTTP/1, and what Moxie makes of it. Written by `MOXIE_WRITE_TABLE=1 cargo test -p moxie-tests --test hostile`.
# A case: its name and bytes; then each view with the readers that have it. A view: the requests (method, target, host, body; `-` is
# nothing, `…` has not ended, %xx is a byte), and how it ended: done (after an answer that closes), dropped (closed without saying so), waits
# for more, refused, or Moxie's doubt.
# Not here: the sentinel `GET /sentinel` that follows every case's bytes.
",
    behind: cases::SENTINEL,
    ours: |case| moxie::view(&case.bytes),
    pinned: "hyper",
};
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
    TABLE.check(&cases::all(), disagreement).unwrap();
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
    for left in TABLE.hold(oracles::measured().unwrap()).unwrap() {
        // Past the capture of what tests print, since this one passes.
        writeln!(std::io::stderr(), "not compared with the table: {left}").unwrap();
    }
}
