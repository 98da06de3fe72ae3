//! Other agents of Moxie's on a cgroup: the one whose programs are asked first diverts, and no other sees more than loopback then.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::{fmt, io};

use aya::maps::{Array, Map, MapData};
use aya::programs::{ProgramInfo, loaded_programs};
use moxie_common::{Control, names};

use super::{control, foreign};
use crate::scope::cgroup;

/// Agents that can divert, by the ids of their diverting programs.
#[derive(Debug)]
struct Agents(HashMap<u32, Agent>);

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
    /// All agents on this host. One that is switched off or hangs, and one that has handed over, is none: it diverts nothing.
    fn find(root: &Path) -> Self {
        let programs = loaded_programs().flatten().filter(|program| program.name_as_str() == Some(names::CONNECT4));
        Self(programs.filter_map(|program| Some((program.id(), Agent::of(&program, root)?))).collect())
    }

    fn among(&self, programs: &[u32]) -> Vec<Agent> {
        programs.iter().filter_map(|id| self.0.get(id).cloned()).collect()
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
        let process = home.and_then(|home| cgroup::processes(&home).ok()?.first().copied());
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
        Some(before) => Agents::find(root).among(before),
    }
}

/// The cgroups at or below `root` that more than one agent diverts, the outermost of them.
///
/// # Errors
/// This user may not ask, or the kernel cannot tell.
pub fn contested(root: &Path) -> io::Result<Vec<Contested>> {
    let agents = Agents::find(root);
    let (mut found, mut open) = (Vec::new(), vec![root.to_owned()]);
    while let Some(path) = open.pop().filter(|_| agents.0.len() > 1) {
        // One that has gone since is nobody's.
        let Ok(directory) = File::open(&path) else { continue };
        let mut programs = foreign::connecting(&directory)?;
        let mut seen = HashSet::new();
        programs.retain(|id| seen.insert(*id));
        match agents.among(&programs) {
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
