//! Hostile answers: what Moxie makes of a destination's bytes, held against what real clients make of them (`answers.txt`).
//!
//! Each case is an answer with another right behind it, so that a reader who took too much or too little shows it.

mod cases;
mod clients;
mod moxie;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;

use super::table::Table;
use super::view::{Body, End, View};

/// What clients make of the cases.
const TABLE: Table = Table {
    file: concat!(env!("CARGO_MANIFEST_DIR"), "/hostile/answers.txt"),
    head: "\
# What clients make of hostile answers, and what Moxie makes of them. Written by `MOXIE_WRITE_TABLE=1 cargo test -p moxie-tests --test hostile`.
# A case: its name, which begins with `head/` where the request was HEAD, and its bytes; then each view with the readers that have it. A
# view: the first final answer (status, then two dashes, and the body; `-` is nothing, `…` has not ended, %xx is a byte), and how it
# ended: done, waits (its end is missing), refused, or Moxie's doubt.
# Not here: the answer 299 `sentinel` that follows every case's bytes, and then the end of the connection.
",
    behind: cases::SENTINEL,
    ours: |case| moxie::view(case, case.bytes.len().max(1)),
    pinned: "hyper",
};
/// How many cases each client sees in full as Moxie does, whatever its version.
const LEAST_AGREED: usize = 30;
const CLIENTS: usize = 7;

#[test]
fn there_are_more_than_200_answers_and_each_has_a_name() {
    let cases = cases::all();
    assert!(cases.len() > 200, "{}", cases.len());
    let names: BTreeSet<_> = cases.iter().map(|case| &case.name).collect();
    assert_eq!(names.len(), cases.len(), "two cases have the same name");
}

#[test]
fn moxie_sees_the_answers_that_every_client_sees_or_doubts() {
    TABLE.check(&cases::all(), disagreement).unwrap();
}

/// Without this, doubting everything would pass.
#[test]
fn plain_answers_are_seen() {
    for case in cases::all().iter().filter(|case| case.name.contains("plain/")) {
        let ours = (TABLE.ours)(case);
        assert!(!ours.is_doubtful(), "{}: {ours}", case.name);
    }
}

#[test]
fn what_moxie_sees_of_answers_does_not_depend_on_how_they_arrive() {
    for case in cases::all() {
        let whole = (TABLE.ours)(&case);
        for piece in [1, 2, 3, 5, 17] {
            assert_eq!(moxie::view(&case, piece), whole, "{} by {piece}", case.name);
        }
    }
}

/// Asks curl, Python's http.client, aiohttp, h11, Node, Go and hyper, of whatever versions they are.
#[test]
fn the_clients_here_see_what_moxie_sees() {
    let measured = clients::measured().unwrap();
    let mut wrong = Vec::new();
    let mut agreed: BTreeMap<&str, usize> = measured.versions.keys().map(|client| (*client, 0)).collect();
    for (case, views) in &measured.views {
        let ours = (TABLE.ours)(case);
        for (client, theirs) in views {
            wrong.extend(disagreement(&ours, theirs).map(|why| format!("{} {client}: {why}", case.name)));
            *agreed.entry(client).or_default() += usize::from(!ours.is_doubtful() && ours == *theirs);
        }
    }
    assert!(wrong.is_empty(), "{}\n{:?}", wrong.join("\n"), measured.versions);
    // A client that refuses everything would agree with anything.
    assert_eq!(agreed.len(), CLIENTS, "{agreed:?}");
    assert!(agreed.values().all(|count| *count >= LEAST_AGREED), "{agreed:?}");
}

#[test]
fn the_clients_here_do_what_the_table_says() {
    for left in TABLE.hold(clients::measured().unwrap()).unwrap() {
        // Past the capture of what tests print, since this one passes.
        writeln!(std::io::stderr(), "not compared with the table: {left}").unwrap();
    }
}

/// Why Moxie could take something for an answer, or for the end of one, that a client does not; none if it could not.
fn disagreement(ours: &View, theirs: &View) -> Option<String> {
    if ours.is_doubtful() || theirs.end == End::Refused {
        return None;
    }
    let (Some(our), Some(their)) = (ours.requests.first(), theirs.requests.first()) else {
        return (ours.requests.len() != theirs.requests.len()).then(|| "one of them sees no answer".to_owned());
    };
    // Python's http.client knows no interim answers but 100, and is as far off without Moxie.
    if their.method.starts_with('1') && our.method != their.method {
        return None;
    }
    let same =
        our.method == their.method && (our.body == their.body || our.body == Body::Open && their.body == Body::Open);
    (!same).then(|| format!("{our:?} here and {their:?} there"))
}
