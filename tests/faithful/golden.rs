//! The golden cases, each at every tier.

use std::collections::BTreeMap;
use std::sync::Arc;

use moxie_agent::journal::ConnectionVerdict;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::cases::{self, Case, Seen};
use crate::known::KNOWN;
use crate::play::{Played, play};
use crate::script::{Layer, Script};
use crate::stage::{Loopback, Tier};

/// Conversations at a time.
const AT_ONCE: usize = 12;
/// Every tier.
const TIERS: [Tier; 5] = [Tier::Direct, Tier::Left, Tier::Passed, Tier::Interpreted, Tier::Fired];

/// How much of the table is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// Every case with every layer.
    Whole,
    /// Some.
    Part,
}

/// Where in the table.
pub type Cell = (&'static str, Layer, Tier);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_case_is_the_same_at_every_tier() {
    let asked = asked_for();
    let cases: Vec<Case> =
        cases::all().into_iter().filter(|case| asked.as_ref().is_none_or(|asked| case.name == asked)).collect();
    let rules: Vec<_> = cases.iter().filter_map(Case::rule).collect();
    let stage = Arc::new(Loopback::set(cases::DOMAIN, &rules).await);
    let gate = Arc::new(Semaphore::new(AT_ONCE));
    let mut playing = JoinSet::new();
    for case in cases.clone() {
        for &layer in case.layers() {
            let (case, stage, gate) = (case.clone(), Arc::clone(&stage), Arc::clone(&gate));
            playing.spawn(async move {
                let _turn = gate.acquire().await.unwrap();
                at_every_tier(&case, layer, &stage).await
            });
        }
    }
    let mut found = BTreeMap::new();
    for row in playing.join_all().await {
        found.extend(row);
    }
    let extent = if asked.is_some() { Extent::Part } else { Extent::Whole };
    let problems = judge(&cases, &found, extent);
    assert!(problems.is_empty(), "{} problems:\n{}", problems.len(), problems.join("\n"));
}

/// The one case that is to be played, if not all are.
fn asked_for() -> Option<String> {
    #[expect(clippy::disallowed_methods, reason = "a switch of this test, as MOXIE_LONG is")]
    std::env::var("MOXIE_CASE").ok()
}

/// The differences of one case with one layer.
async fn at_every_tier(case: &Case, layer: Layer, stage: &Loopback) -> Vec<(Cell, Vec<String>)> {
    let (script, cast) = (case.script(), case.cast());
    let direct = play(&script, &cast, layer, Tier::Direct, stage).await.transcript;
    let mut row = Vec::new();
    let ideal = script.ideal(layer);
    if cast.presence == crate::play::Presence::There {
        let mut seen = direct.clone();
        seen.agreed = ideal.agreed.clone();
        row.push(((case.name, layer, Tier::Direct), seen.differences(&ideal)));
    }
    for tier in [Tier::Passed, Tier::Interpreted] {
        let played = play(&script, &cast, layer, tier, stage).await;
        let mut differences = played.transcript.differences(&direct);
        differences.extend(misjudged(case, layer, tier, &played));
        row.push(((case.name, layer, tier), differences));
    }
    if let Some(script) = case.fired_script() {
        row.push(((case.name, layer, Tier::Fired), fired(&script, case, layer, stage).await));
    }
    row
}

async fn fired(script: &Script, case: &Case, layer: Layer, stage: &Loopback) -> Vec<String> {
    let mut seen = play(script, &case.cast(), layer, Tier::Fired, stage).await.transcript;
    let ideal = script.ideal(layer);
    seen.agreed = ideal.agreed.clone();
    seen.differences(&ideal)
}

/// A case that did not go the way that it is about would prove nothing.
pub fn misjudged(case: &Case, layer: Layer, tier: Tier, played: &Played) -> Option<String> {
    if tier == Tier::Direct || tier == Tier::Left {
        let own = (!played.is_own).then(|| "it was not the client's own socket that came to the origin".to_owned());
        return own.or_else(|| played.verdict.map(|verdict| format!("the agent had it: {verdict:?}")));
    }
    let is_http = match case.seen {
        Seen::Http | Seen::Anyway => true,
        Seen::Opaque => layer == Layer::Secret,
        Seen::Nothing => false,
    };
    let expected = match tier {
        Tier::Passed if case.seen == Seen::Anyway && layer == Layer::Clear => ConnectionVerdict::Intercept,
        Tier::Interpreted if is_http => ConnectionVerdict::Intercept,
        _ => ConnectionVerdict::Passthrough,
    };
    let is_as_expected = played.verdict.is_some_and(|(verdict, _)| verdict == expected);
    (!is_as_expected).then(|| format!("verdict: {:?} instead of {expected:?}", played.verdict))
}

/// Prints the table, and tells what is not as it is known to be.
pub fn judge(cases: &[Case], found: &BTreeMap<Cell, Vec<String>>, extent: Extent) -> Vec<String> {
    let mut problems = Vec::new();
    for case in cases {
        for &layer in case.layers() {
            let mut words = Vec::new();
            for tier in TIERS {
                let cell = (case.name, layer, tier);
                let Some(seen) = found.get(&cell) else { continue };
                let known = KNOWN.iter().find(|known| known.is_at(case.name, layer, tier));
                let (word, problem) = compare(seen, known.map(|known| known.what));
                words.push(format!("{} {word}", tier.name()));
                problems.extend(problem.map(|problem| format!("{} {layer:?} {}: {problem}", case.name, tier.name())));
            }
            println!("{:<44} {:<7} {}", case.name, format!("{layer:?}"), words.join(", "));
        }
    }
    if extent == Extent::Whole {
        problems.extend(unplayed(found));
    }
    problems
}

fn compare(seen: &[String], known: Option<&[&str]>) -> (&'static str, Option<String>) {
    match known {
        None if seen.is_empty() => ("same", None),
        None => ("NEW", Some(format!("a new difference: {}", seen.join("; ")))),
        Some(known) if seen == known => ("known", None),
        Some(_) if seen.is_empty() => {
            ("GONE", Some("no longer differs; take it out of the known differences".to_owned()))
        }
        Some(known) => {
            ("OTHER", Some(format!("differs by {} and is known to by {}", seen.join("; "), known.join("; "))))
        }
    }
}

/// Known differences that no case is about.
fn unplayed(found: &BTreeMap<Cell, Vec<String>>) -> Vec<String> {
    let places = KNOWN.iter().flat_map(|known| {
        let tiers = known.tiers.iter().flat_map(move |tier| known.layers.iter().map(move |layer| (*layer, *tier)));
        tiers.map(move |(layer, tier)| (known.case, layer, tier))
    });
    let nowhere = places.filter(|(name, layer, tier)| !found.keys().any(|cell| cell == &(*name, *layer, *tier)));
    nowhere.map(|(name, layer, tier)| format!("{name} {layer:?} {}: known, and played nowhere", tier.name())).collect()
}
