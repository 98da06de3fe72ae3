//! What connect() costs a program that has nothing to do with Moxie, one that is opted in, and one that is diverted: ratios of medians
//! within one run, the cases taken in turn. `cargo xtask bench kernel` runs it; the table goes to the file that it is given.

use std::fmt::Write as _;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use moxie_tests::lab::Place;
use moxie_tests::programs::PYTHON;
use moxie_tests::{Agent, Lab, Session};
use serde_json::json;

/// Times that every case is taken.
const ROUNDS: usize = 15;
/// Connects of a case in a round.
const CONNECTS: u32 = 400;

/// One case: what is opted in, and which port is connected to.
struct Case {
    name: &'static str,
    opted_in: Option<(Place, &'static str)>,
    port: u16,
    rounds: Vec<f64>,
}

impl Case {
    fn new(name: &'static str, opted_in: Option<(Place, &'static str)>, port: u16) -> Self {
        Self { name, opted_in, port, rounds: Vec::new() }
    }

    fn median(&self) -> f64 {
        let mut rounds = self.rounds.clone();
        rounds.sort_by(f64::total_cmp);
        rounds.get(rounds.len() / 2).copied().unwrap_or_default()
    }
}

fn main() -> Result<()> {
    let lab = Lab::new()?;
    let agent = lab.agent()?;
    let mut session = Session::start(lab.command(PYTHON, Place::Inside)?, "connects.py", &[])?;
    let mut cases = [
        Case::new("nothing attached", None, 80),
        Case::new("attached to another cgroup", Some((Place::Outside, "observe")), 80),
        Case::new("opted in, another port", Some((Place::Inside, "observe")), 9000),
        Case::new("opted in, no rule", Some((Place::Inside, "rules")), 80),
        Case::new("opted in, diverted", Some((Place::Inside, "observe")), 80),
    ];
    for _ in 0..ROUNDS {
        for case in &mut cases {
            let scope = case.opted_in.map(|place| opt_in(&agent, &lab, place)).transpose()?;
            let reply = session.tell(&json!({"do": "connect", "port": case.port, "count": CONNECTS}))?;
            case.rounds.push(reply["median"].as_f64().with_context(|| format!("no median: {reply}"))?);
            if let Some(scope) = scope {
                let reply = agent.rest().call("DELETE", &format!("/api/v1/scopes/{scope}"), &[], None)?;
                ensure!(reply.status == 204, "{reply:?}");
            }
        }
    }
    let diverted = agent.record("/api/v1/connections?limit=1", |record| record["original_dst"] == "198.51.100.2:80");
    diverted.context("the connects of the last case were not diverted")?;
    let table = table(&cases);
    print!("{table}");
    if let Some(file) = std::env::args_os().nth(1).map(PathBuf::from) {
        std::fs::write(&file, table).with_context(|| format!("cannot write {}", file.display()))?;
    }
    session.end()?;
    agent.stop()?;
    Ok(())
}

fn opt_in(agent: &Agent<'_>, lab: &Lab, (place, mode): (Place, &str)) -> Result<String> {
    let reply = agent.rest().post("/api/v1/scopes", &json!({"cgroup": lab.cgroup(place), "mode": mode}))?;
    ensure!(reply.status == 201, "{reply:?}");
    moxie_tests::lab::agent::text(&reply.json()?, "id")
}

fn table(cases: &[Case]) -> String {
    let base = cases.first().map_or(1.0, Case::median);
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut text = format!(
        "# What connect() costs\n\nTCP connect() over one cable's own address, Linux {}, {ROUNDS} rounds of {CONNECTS} connects for each case in turn, \
         medians; written by `cargo xtask bench kernel`. What counts is the ratio.\n\n| case | median | ratio |\n|---|---|---|\n",
        release.trim()
    );
    for case in cases {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "| {} | {:.1} µs | {:.2} |", case.name, case.median() / 1000.0, case.median() / base);
    }
    text
}
