//! Memory of each proxy: with nothing to do, and for each connection that passes through it and is idle.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use moxie_bench::processes;
use moxie_bench::report::Report;
use moxie_tests::lab::{Place, Running};
use moxie_tests::{Lab, wait};

use crate::moxie::{self, State};
use crate::peers::{Peer, Role};
use crate::room::{Room, origin_address};
use crate::series::{self, Errand, Outcome, Target};
use crate::table::{MOXIE, Row};
use crate::work::Manner;
use crate::{Options, WITHIN};

/// Connections that are held, where descriptors allow it.
const CONNECTIONS: u64 = 10_000;
/// How long memory may take to be given back.
const GIVEN_BACK: Duration = Duration::from_secs(5);
/// Most of an idle agent, in bytes, and most for a connection.
const MOST: (f64, f64) = (15e6, 3_000.0);

/// What one proxy came to, in bytes.
struct Sizes {
    idle: f64,
    each: f64,
    /// What it has more than before, once all connections are closed.
    kept: f64,
}

/// One row for all of them.
pub(crate) fn measure(options: &Options) -> Result<Vec<Row>> {
    let lab = Lab::new()?;
    let room = Room::new(&lab, options)?;
    // A proxy has two descriptors for each connection, and Moxie keeps room for a third.
    let connections = if options.quick { 200 } else { CONNECTIONS.min(options.descriptors / 4) };
    let agent = moxie::start(&lab, options)?;
    moxie::bring(&agent, State::Observing)?;
    let target = target(&room, MOXIE, Place::Inside, origin_address(true), vec![moxie::process(&agent)?]);
    let mut columns = vec![(MOXIE, hold(&target, connections))];
    agent.stop()?;
    for kind in options.kinds() {
        let peer = Peer::start(kind, &room)?;
        let processes = peer.processes(Role::PassTls);
        let target = self::target(&room, kind.name(), Place::Outside, kind.address(Role::PassTls), processes);
        columns.push((kind.name(), hold(&target, connections)));
    }
    Ok(vec![row(connections, columns)])
}

fn row(connections: u64, columns: Vec<(&str, Result<Sizes>)>) -> Row {
    let moxie = columns.iter().find(|(name, _)| *name == MOXIE).and_then(|(_, sizes)| sizes.as_ref().ok());
    let is_reached = moxie.map(|sizes| sizes.idle <= MOST.0 && sizes.each <= MOST.1);
    let cell = |(name, sizes): &(&str, Result<Sizes>)| {
        (String::from(*name), sizes.as_ref().map_or_else(|_| "**failed**".into(), Sizes::text))
    };
    Row {
        id: "P15".into(),
        title: format!(
            "memory: idle; for each of {connections} idle TLS connections passed through; kept after they closed"
        ),
        cells: columns.iter().map(cell).collect(),
        asked: "<= 15 MB; <= 3.0 KB; 0".into(),
        is_reached,
        outcomes: columns.into_iter().map(|(name, sizes)| Outcome::without_runs(name, sizes.err())).collect(),
    }
}

fn target<'run>(
    room: &'run Room<'run>,
    name: &str,
    place: Place,
    to: std::net::SocketAddr,
    processes: Vec<u32>,
) -> Target<'run> {
    Target { name: name.to_owned(), base: 0, place, to, processes, room, arm: Box::new(|| Ok(())) }
}

/// Opens the connections, looks, closes them, and looks again.
fn hold(target: &Target<'_>, connections: u64) -> Result<Sizes> {
    let count = usize::try_from(connections)?;
    let errand = Errand { manner: Manner::Keep, is_tls: true, path: "/", status: 200, connections: count };
    let idle = resident(target)?;
    let mut load = target.room.load(target.place, &target.processes)?;
    series::request(load.arg("idle"), target, errand);
    let load = Running::start(load)?;
    let open = wait::until("idle connections", WITHIN, || {
        ensure!(processes::cpu(load.id()).is_some(), "the generator has ended");
        Ok(serde_json::from_str::<Report>(load.printed().trim()).ok())
    });
    let open = match open {
        Ok(open) => open,
        Err(error) => {
            // What it complains of says more than that nothing came.
            let said = load.finish(Duration::from_millis(1)).map(|finished| finished.stderr);
            bail!("no idle connections: {error:#} {}", said.unwrap_or_default().trim());
        }
    };
    ensure!(open.requests == connections, "{} of {connections} are open", open.requests);
    let held = resident(target)?;
    // Its connections are closed by the kernel.
    drop(load);
    let mut least = held;
    let enough = wait::until("memory to be given back", GIVEN_BACK, || {
        least = least.min(resident(target)?);
        Ok((least <= idle).then_some(()))
    });
    // What is not given back in time is told of, not waited for.
    drop(enough);
    #[expect(clippy::cast_precision_loss, reason = "thousands")]
    let each = (held - idle) / connections as f64;
    Ok(Sizes { idle, each, kept: (least - idle).max(0.0) })
}

fn resident(target: &Target<'_>) -> Result<f64> {
    let sizes = target.processes.iter().map(|pid| processes::memory(*pid).map(|memory| memory.resident));
    let sum = sizes.sum::<Option<u64>>().with_context(|| format!("{} has ended", target.name))?;
    #[expect(clippy::cast_precision_loss, reason = "bytes of memory")]
    let bytes = sum as f64;
    Ok(bytes)
}

impl Sizes {
    fn text(&self) -> String {
        format!("{:.1} MB; {:.1} KB; kept {:.1} MB", self.idle / 1e6, self.each / 1e3, self.kept / 1e6)
    }
}
