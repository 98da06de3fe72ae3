//! Programs, and the links that hold them on cgroups.

use std::fs::File;
use std::path::Path;
use std::sync::Mutex;

use aya::Ebpf as Object;
use aya::programs::cgroup_skb::{CgroupSkb, CgroupSkbLink};
use aya::programs::cgroup_sock_addr::{CgroupSockAddr, CgroupSockAddrLink};
use aya::programs::sock_ops::{SockOps, SockOpsLink};
use aya::programs::{CgroupAttachMode, CgroupSkbAttachType, Program, ProgramError};
use moxie_common::names;

use super::{load, lock};
use crate::divert::{DivertError, Terms};
use crate::scope::cgroup::CgroupError;

/// Hooks of a scope that show; the connect hooks, which divert, are apart.
const SHOWING: [&str; 2] = [names::GETPEERNAME4, names::GETPEERNAME6];
/// Hooks of a scope that wants QUIC refused.
const REFUSING: [&str; 4] = [names::QUIC4, names::QUIC6, names::SENDMSG4, names::SENDMSG6];
const DIVERTING: [&str; 2] = [names::CONNECT4, names::CONNECT6];

/// The programs, loaded.
#[derive(Debug)]
pub(super) struct Programs {
    inner: Mutex<Inner>,
}

struct Inner {
    object: Object,
    /// Holds `adopt` on the agent's own cgroup.
    agent: Option<SockOpsLink>,
}

/// A cgroup on path. Links are not pinned: they end with the process, whichever way it ends.
#[derive(Debug)]
pub(super) struct Links {
    // Dropped in this order: a connection that was diverted must still find the other hooks in place.
    _diverting: Vec<CgroupSockAddrLink>,
    _refusing: Vec<CgroupSockAddrLink>,
    _showing: Vec<CgroupSockAddrLink>,
    _announcing: SockOpsLink,
}

impl Programs {
    pub(super) fn load(mut object: Object) -> Result<Self, DivertError> {
        for name in DIVERTING.into_iter().chain(SHOWING).chain(REFUSING) {
            sock_addr(&mut object, name)?.load().map_err(|error| load::refused(name, error))?;
        }
        for name in [names::ANNOUNCE, names::ADOPT] {
            sock_ops(&mut object, name)?.load().map_err(|error| load::refused(name, error))?;
        }
        Ok(Self { inner: Mutex::new(Inner { object, agent: None }) })
    }

    /// Loads the hook that copies DNS answers; without it there are no hints.
    pub(super) fn load_answering(&self) -> Result<(), DivertError> {
        let object = &mut lock(&self.inner).object;
        cgroup_skb(object, names::ANSWER)?.load().map_err(|error| load::refused(names::ANSWER, error))
    }

    /// The kernel's id of the program that diverts connections over IPv4.
    pub(super) fn connecting(&self) -> Option<u32> {
        let object = &mut lock(&self.inner).object;
        Some(sock_addr(object, names::CONNECT4).ok()?.info().ok()?.id())
    }

    /// Has the DNS answers of a cgroup copied.
    pub(super) fn attach_answering(&self, cgroup: &Path) -> Result<CgroupSkbLink, DivertError> {
        let target = Target::open(cgroup)?;
        let mut inner = lock(&self.inner);
        let program = cgroup_skb(&mut inner.object, names::ANSWER)?;
        let attached = program.attach(&target.directory, CgroupSkbAttachType::Ingress, CgroupAttachMode::Single);
        attached.and_then(|id| program.take_link(id)).map_err(|error| target.refused(names::ANSWER, error))
    }

    /// Puts the adopting hook on the agent's own cgroup.
    pub(super) fn attach_agent(&self, home: &Path) -> Result<(), DivertError> {
        let mut inner = lock(&self.inner);
        let link = Target::open(home)?.sock_ops(&mut inner.object, names::ADOPT)?;
        inner.agent = Some(link);
        Ok(())
    }

    /// Puts a scope on path, the diverting hooks last: what they divert must be announced.
    pub(super) fn attach(&self, cgroup: &Path, terms: Terms) -> Result<Links, DivertError> {
        let target = Target::open(cgroup)?;
        let object = &mut lock(&self.inner).object;
        let announcing = target.sock_ops(object, names::ANNOUNCE)?;
        let showing = target.sock_addrs(object, &SHOWING)?;
        let refusing = target.sock_addrs(object, if terms.refuse_quic { &REFUSING } else { &[] })?;
        let diverting = target.sock_addrs(object, &DIVERTING)?;
        Ok(Links { _diverting: diverting, _refusing: refusing, _showing: showing, _announcing: announcing })
    }
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inner").field("agent", &self.agent).finish_non_exhaustive()
    }
}

/// A cgroup to attach to.
struct Target<'a> {
    path: &'a Path,
    directory: File,
}

impl<'a> Target<'a> {
    fn open(path: &'a Path) -> Result<Self, DivertError> {
        let directory = File::open(path).map_err(|source| CgroupError::Read { path: path.to_owned(), source })?;
        Ok(Self { path, directory })
    }

    fn sock_ops(&self, object: &mut Object, name: &'static str) -> Result<SockOpsLink, DivertError> {
        let program = sock_ops(object, name)?;
        let attached = program.attach(&self.directory, CgroupAttachMode::Single);
        attached.and_then(|id| program.take_link(id)).map_err(|error| self.refused(name, error))
    }

    fn sock_addrs(&self, object: &mut Object, names: &[&'static str]) -> Result<Vec<CgroupSockAddrLink>, DivertError> {
        names.iter().map(|name| self.sock_addr(object, name)).collect()
    }

    fn sock_addr(&self, object: &mut Object, name: &'static str) -> Result<CgroupSockAddrLink, DivertError> {
        let program = sock_addr(object, name)?;
        let attached = program.attach(&self.directory, CgroupAttachMode::Single);
        attached.and_then(|id| program.take_link(id)).map_err(|error| self.refused(name, error))
    }

    /// The programs are loaded, so the privilege is there: EPERM means that somebody else has the cgroup to himself.
    fn refused(&self, hook: &'static str, error: ProgramError) -> DivertError {
        let (cgroup, is_foreign) = (self.path.to_owned(), load::is_permission(&error));
        let source = error.into();
        if is_foreign {
            DivertError::ForeignProgram { cgroup, hook, source }
        } else {
            DivertError::Attach { cgroup, hook, source }
        }
    }
}

fn sock_addr<'a>(object: &'a mut Object, name: &'static str) -> Result<&'a mut CgroupSockAddr, DivertError> {
    match object.program_mut(name) {
        Some(Program::CgroupSockAddr(program)) => Ok(program),
        _ => Err(DivertError::WrongObject { name }),
    }
}

fn cgroup_skb<'a>(object: &'a mut Object, name: &'static str) -> Result<&'a mut CgroupSkb, DivertError> {
    match object.program_mut(name) {
        Some(Program::CgroupSkb(program)) => Ok(program),
        _ => Err(DivertError::WrongObject { name }),
    }
}

fn sock_ops<'a>(object: &'a mut Object, name: &'static str) -> Result<&'a mut SockOps, DivertError> {
    match object.program_mut(name) {
        Some(Program::SockOps(program)) => Ok(program),
        _ => Err(DivertError::WrongObject { name }),
    }
}
