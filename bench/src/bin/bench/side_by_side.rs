//! One scenario: direct, Moxie in its two positions and the peers, under the same traffic.

use anyhow::{Context, Result, ensure};
use moxie_tests::Agent;
use moxie_tests::lab::Place;

use crate::moxie::{self, State};
use crate::peers::{Kind, Peer};
use crate::room::{Room, origin_address};
use crate::series::{self, Errand, Target};
use crate::table::{DIRECT, MOXIE, NOT_DIVERTED, Row};
use crate::work::{Base, Scenario};

/// Measures a scenario with whichever of its peers run.
pub(crate) fn measure(scenario: &Scenario, room: &Room<'_>, agent: &Agent<'_>, peers: &[Peer]) -> Result<Row> {
    let errand = Errand {
        manner: scenario.manner,
        is_tls: scenario.is_tls,
        path: scenario.path,
        status: scenario.status,
        connections: scenario.connections,
    };
    let targets = targets(scenario, room, agent, peers)?;
    let mut outcomes = series::outcomes(&targets);
    for (target, outcome) in targets.iter().zip(&mut outcomes) {
        match on_path(scenario, target, errand, agent) {
            Ok(note) => outcome.note = note,
            Err(error) => outcome.failure = Some(format!("{error:#}")),
        }
    }
    series::run(&targets, &mut outcomes, errand, room.options);
    Ok(Row::of(scenario.id, scenario.title, scenario.shape, outcomes, scenario.asked, scenario.bar))
}

fn targets<'run>(
    scenario: &Scenario,
    room: &'run Room<'run>,
    agent: &'run Agent<'_>,
    peers: &[Peer],
) -> Result<Vec<Target<'run>>> {
    let origin = origin_address(scenario.is_tls);
    let own = moxie::process(agent)?;
    let target = |name: &str, place, to, processes, state: Option<State>| Target {
        name: name.to_owned(),
        base: 0,
        place,
        to,
        processes,
        room,
        arm: match state {
            Some(state) => Box::new(move || moxie::bring(agent, state)),
            None => Box::new(|| Ok(())),
        },
    };
    let mut targets = Vec::new();
    if scenario.base == Base::Direct {
        targets.push(target(DIRECT, Place::Outside, origin, vec![], None));
        targets.push(target(NOT_DIVERTED, Place::Inside, origin, vec![own], Some(State::Idle)));
    }
    targets.push(target(MOXIE, Place::Inside, origin, vec![own], Some(scenario.state)));
    for peer in peers.iter().filter(|peer| scenario.peers().any(|kind| kind == peer.kind)) {
        let to = peer.kind.address(scenario.role);
        targets.push(target(peer.kind.name(), Place::Outside, to, peer.processes(scenario.role), None));
    }
    let base = match scenario.base {
        Base::Direct => Some(0),
        Base::Nginx => targets.iter().position(|target| target.name == Kind::Nginx.name()),
    };
    for (number, target) in targets.iter_mut().enumerate() {
        target.base = base.unwrap_or(number);
    }
    Ok(targets)
}

/// A short run, without which a figure might be of something else: a mock that did not fire, a proxy that was not on path. Gives what
/// is to be said beside the figures.
fn on_path(scenario: &Scenario, target: &Target<'_>, errand: Errand, agent: &Agent<'_>) -> Result<Option<String>> {
    (target.arm)()?;
    let before = moxie::newest(agent)?;
    series::try_out(target, errand)?;
    if target.name == MOXIE {
        let record = moxie::came(agent, &before)?.context("nothing came to the agent")?;
        let wanted = if scenario.state == State::Observing { "passthrough" } else { "intercept" };
        ensure!(record["verdict"] == wanted, "not {wanted} but {record}");
        return Ok(None);
    }
    let came = if target.name == NOT_DIVERTED { moxie::came(agent, &before)? } else { None };
    Ok(came.map(|_| "(came to the agent all the same)".to_owned()))
}
