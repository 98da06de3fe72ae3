//! Other agents of Moxie's on a cgroup: the one whose programs are asked first diverts, and no other sees more than loopback then.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;
use std::{fmt, io};

use aya::maps::{Array, Map, MapData};
use aya::programs::{ProgramInfo, loaded_programs};
use moxie_common::{Control, names};
use tokio::time::Instant;

use super::{control, foreign, lock};
use crate::scope::cgroup;

/// How long it is believed what was found out about programs.
const FRESH: Duration = Duration::from_secs(1);
/// What was found out lately, so that a list of hundreds of matches costs one look.
static LATELY: Mutex<Option<Agents>> = Mutex::new(None);

/// Programs that may be agents', and the agents of those that were asked for.
#[derive(Debug)]
struct Agents {
    since: Instant,
    programs: HashMap<u32, ProgramInfo>,
    /// `None`: it diverts nothing.
    known: HashMap<u32, Option<Agent>>,
}

/// An agent, as far as the kernel tells.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Agent {
    /// `None` where it cannot be told.
    process: Option<u32>,
}

/// A cgroup that more than one agent diverts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contested {
    /// Where; so are those below it.
    pub cgroup: PathBuf,
    /// Who diverts, and then who gets what that one leaves.
    pub agents: Vec<Agent>,
}

impl Agents {
    /// Programs of all agents on this host.
    fn look() -> Self {
        let programs = loaded_programs().flatten().filter(|program| program.name_as_str() == Some(names::CONNECT4));
        let programs = programs.map(|program| (program.id(), program)).collect();
        Self { since: Instant::now(), programs, known: HashMap::new() }
    }

    /// The agents of these programs. One that is switched off or hangs, and one that has handed over, is none: it diverts nothing.
    fn among(&mut self, programs: &[u32], root: &Path) -> Vec<Agent> {
        let agents = programs.iter().filter_map(|id| {
            let program = self.programs.get(id)?;
            self.known.entry(*id).or_insert_with(|| Agent::of(program, root)).clone()
        });
        agents.collect()
    }
}

impl Agent {
    /// The agent that a program is of, if that diverts now.
    fn of(program: &ProgramInfo, root: &Path) -> Option<Self> {
        let Some(control) = control_of(program) else { return Some(Self::default()) };
        if !control::diverts(&control) {
            return None;
        }
        let home = Some(control.agent_cgroup).filter(|id| *id != 0).and_then(|id| cgroup::find_below(root, id));
        let process = home.and_then(|home| cgroup::processes(&home).ok()?.into_iter().find(|pid| *pid != 0));
        Some(Self { process })
    }
}

impl fmt::Display for Agent {
    /// `process 4711`, for people.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.process {
            Some(process) => write!(f, "process {process}"),
            None => f.write_str("a process that cannot be told"),
        }
    }
}

impl fmt::Display for Contested {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let agents: Vec<String> = self.agents.iter().map(ToString::to_string).collect();
        write!(f, "{} ({})", self.cgroup.display(), agents.join(", then "))
    }
}

/// The agents that are asked before the program `own` about what `path` connects to.
pub(super) fn before(path: &Path, own: u32, root: &Path) -> Vec<Agent> {
    let asked = File::open(path).and_then(|cgroup| foreign::connecting(&cgroup)).unwrap_or_default();
    // Mostly it is the first, and nothing has to be looked up.
    match asked.iter().position(|id| *id == own).and_then(|own| asked.get(..own)) {
        None | Some([]) => Vec::new(),
        Some(before) => {
            let mut lately = lock(&LATELY);
            let fresh = lately.take().filter(|agents| agents.since.elapsed() < FRESH);
            lately.insert(fresh.unwrap_or_else(Agents::look)).among(before, root)
        }
    }
}

/// The cgroups at or below `root` that more than one agent diverts, the outermost of them.
///
/// # Errors
/// This user may not ask, or the kernel cannot tell.
pub fn contested(root: &Path) -> io::Result<Vec<Contested>> {
    let mut agents = Agents::look();
    let (mut found, mut open, mut looked_at) = (Vec::new(), vec![root.to_owned()], 0);
    while let Some(path) = open.pop().filter(|_| agents.programs.len() > 1 && looked_at < foreign::MAX_CGROUPS) {
        looked_at += 1;
        // One that has gone since is nobody's.
        let Ok(directory) = File::open(&path) else { continue };
        let mut programs = foreign::connecting(&directory)?;
        let mut seen = HashSet::new();
        programs.retain(|id| seen.insert(*id));
        match agents.among(&programs, root) {
            few if few.len() < 2 => open.extend(cgroup::children(&path)),
            agents => found.push(Contested { cgroup: path, agents }),
        }
    }
    Ok(found)
}

/// What its agent tells a program; `None` where that is of another version, or this user may not ask.
fn control_of(program: &ProgramInfo) -> Option<Control> {
    let maps = program.map_ids().ok()??;
    let map = maps.into_iter().filter_map(|id| MapData::from_id(id).ok()).find(is_control)?;
    let map: Array<MapData, Control> = Array::try_from(Map::from_map_data(map).ok()?).ok()?;
    map.get(&0, 0).ok()
}

fn is_control(map: &MapData) -> bool {
    map.info().is_ok_and(|info| info.name_as_str() == Some(names::CONTROL))
}
