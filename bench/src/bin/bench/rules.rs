//! What thousands of rules cost a request that the last of them matches: requests a second as a share of those with one rule.

use anyhow::{Context, Result, ensure};
use moxie_tests::lab::{Place, Running};
use moxie_tests::{Agent, Lab};
use serde_json::{Value, json};

use crate::Options;
use crate::moxie;
use crate::peers::{self, Kind};
use crate::room::{HOST, Room, origin_address};
use crate::series::{self, Errand, Outcome, Target};
use crate::table::{MOXIE, Row, Shape};
use crate::work::{Bar, Manner};

/// The path that the last rule matches.
const LAST: &str = "/v1/last";
/// Rules that are sent to the agent at a time.
const AT_ONCE: usize = 25_000;

/// Whose hosts the rules are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hosts {
    /// Each rule has a host of its own.
    Spread,
    /// All rules are for the one that is called.
    One,
}

/// How many rules, for whom; its row, and what is asked.
struct Case {
    count: usize,
    hosts: Hosts,
    title: &'static str,
    asked: &'static str,
    least: f64,
}

/// A hundredth of the rules is enough to see that a case works.
fn count(case: &Case, options: &Options) -> usize {
    if options.quick { case.count / 100 } else { case.count }
}

const CASES: [Case; 4] = [
    Case {
        count: 10_000,
        hosts: Hosts::Spread,
        title: "10,000 rules, a host for each",
        asked: ">= 0.95 of one rule",
        least: 0.95,
    },
    Case {
        count: 100_000,
        hosts: Hosts::Spread,
        title: "100,000 rules, a host for each",
        asked: ">= 0.90 of one rule",
        least: 0.90,
    },
    Case {
        count: 10_000,
        hosts: Hosts::One,
        title: "10,000 rules for one host",
        asked: ">= 0.95 of one rule",
        least: 0.95,
    },
    Case {
        count: 100_000,
        hosts: Hosts::One,
        title: "100,000 rules for one host",
        asked: ">= 0.90 of one rule",
        least: 0.90,
    },
];

/// The case in which peers are measured too: elsewhere they would need minutes to start.
fn has_peers(case: &Case) -> bool {
    case.count == 10_000 && case.hosts == Hosts::One
}

/// Measures all of them in turn: each number of rules has an agent of its own, in a lab of its own.
pub(crate) fn measure(options: &Options) -> Result<Vec<Row>> {
    let labs = std::iter::repeat_with(Lab::new).take(CASES.len() + 1).collect::<Result<Vec<_>>>()?;
    let rooms = labs.iter().map(|lab| Room::new(lab, options)).collect::<Result<Vec<_>>>()?;
    let agents = labs.iter().map(|lab| moxie::start(lab, options)).collect::<Result<Vec<_>>>()?;
    let room = rooms.first().context("a room")?;
    let kinds: Vec<Kind> = options.kinds().into_iter().filter(|kind| *kind != Kind::Mitmproxy).collect();
    let (targets, running) = targets(&rooms, &agents, room, &kinds)?;
    let errand = Errand { manner: Manner::Keep, is_tls: true, path: LAST, status: 429, connections: 32 };
    let mut outcomes = series::outcomes(&targets);
    for (target, outcome) in targets.iter().zip(&mut outcomes) {
        outcome.failure = series::try_out(target, errand).err().map(|error| format!("{error:#}"));
    }
    series::run(&targets, &mut outcomes, errand, options);
    drop(running);
    for agent in agents {
        agent.stop()?;
    }
    Ok(CASES.iter().enumerate().map(|(number, case)| row(case, number, &outcomes, &kinds, options)).collect())
}

/// Moxie with one rule and in every case, then each peer with one rule and with many.
fn targets<'run>(
    rooms: &'run [Room<'run>],
    agents: &[Agent<'_>],
    room: &'run Room<'run>,
    kinds: &[Kind],
) -> Result<(Vec<Target<'run>>, Vec<Running>)> {
    let (mut targets, mut running) = (Vec::new(), Vec::new());
    let cases =
        std::iter::once((1, Hosts::One)).chain(CASES.iter().map(|case| (count(case, room.options), case.hosts)));
    for ((count, hosts), (room, agent)) in cases.zip(rooms.iter().zip(agents)) {
        import(agent, count, hosts).with_context(|| format!("{count} rules"))?;
        agent.opt_in()?;
        targets.push(Target {
            name: format!("{MOXIE}, {count} rules, {hosts:?}"),
            base: 0,
            place: Place::Inside,
            to: origin_address(true),
            processes: vec![moxie::process(agent)?],
            room,
            arm: Box::new(|| Ok(())),
        });
    }
    for kind in kinds {
        let base = targets.len();
        for count in [1, if room.options.quick { 100 } else { 10_000 }] {
            let (process, to) = peers::with_rules(*kind, room, count, LAST)?;
            targets.push(Target {
                name: format!("{}, {count} rules", kind.name()),
                base,
                place: Place::Outside,
                to,
                processes: moxie_bench::processes::family(process.id()),
                room,
                arm: Box::new(|| Ok(())),
            });
            running.push(process);
        }
    }
    Ok((targets, running))
}

/// Stores the rules, the one that matches last.
fn import(agent: &Agent<'_>, count: usize, hosts: Hosts) -> Result<()> {
    let url = |number: usize| match hosts {
        Hosts::Spread => format!("h{number}.example/v1/r{number}(/.*)?"),
        Hosts::One => format!("{HOST}/v1/r{number}(/.*)?"),
    };
    let rule = |url: String| json!({"url": url, "status_code": 429, "response": {}});
    let others = (1..count).map(|number| rule(url(number)));
    let all: Vec<Value> = others.chain([rule(format!("{HOST}{LAST}(/.*)?"))]).collect();
    for part in all.chunks(AT_ONCE) {
        let reply = agent.rest().post("/api/v1/rules/import", &json!({"rules": part}))?;
        ensure!(reply.status < 300, "{} {:.500}", reply.status, reply.body);
    }
    Ok(())
}

/// The outcomes that belong into a case's row, under the names of its columns; those with one rule follow, as what they are divided by.
fn row(case: &Case, number: usize, outcomes: &[Outcome], kinds: &[Kind], options: &Options) -> Row {
    let mut columns: Vec<(String, usize)> = vec![(MOXIE.to_owned(), number + 1)];
    if has_peers(case) {
        let first = CASES.len() + 1;
        columns.extend(kinds.iter().enumerate().map(|(peer, kind)| (kind.name().to_owned(), first + 2 * peer + 1)));
    }
    let count = columns.len();
    let (mut shown, mut bases) = (Vec::new(), Vec::new());
    for (position, (name, at)) in columns.into_iter().enumerate() {
        let Some(outcome) = outcomes.get(at) else { continue };
        shown.push(Outcome { name, base: count + position, ..outcome.clone() });
        bases.extend(outcomes.get(outcome.base).map(|base| Outcome { base: count + position, ..base.clone() }));
    }
    shown.extend(bases);
    let bar = Bar { ratio: Some(case.least), ..Bar::default() };
    let title = if options.quick { format!("a hundredth of {}", case.title) } else { case.title.to_owned() };
    let mut row = Row::of("P13", &title, Shape::Rate, shown, case.asked, bar);
    row.cells.truncate(count);
    row
}
