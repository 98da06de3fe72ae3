//! Programs of others on cgroups: those that were attached without the "multi" flag leave no room for another (KERNEL: a link needs it).

use std::fs::{self, File};
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::{fmt, io};

/// `BPF_PROG_QUERY` of bpf(2).
const QUERY: libc::c_long = 16;
/// `BPF_F_ALLOW_OVERRIDE`: a program below may take its place, none may stand beside it.
const ALLOW_OVERRIDE: u32 = 1;
/// `BPF_F_ALLOW_MULTI`.
const ALLOW_MULTI: u32 = 2;
/// The hooks that Moxie attaches to, and their numbers (`enum bpf_attach_type`).
const HOOKS: [(&str, u32); 5] =
    [("sock_ops", 3), ("connect4", CONNECT4), ("connect6", 11), ("getpeername4", 29), ("getpeername6", 30)];
/// The hook at which connections over IPv4 are diverted.
const CONNECT4: u32 = 10;
/// `BPF_F_QUERY_EFFECTIVE`: also programs of the cgroups above, in the order in which the kernel runs all.
const EFFECTIVE: u32 = 1;
/// Most programs of a cgroup and those above that are told: the kernel has at most 64 of each.
const MAX_PROGRAMS: usize = 256;
/// Most cgroups that are looked at.
pub(super) const MAX_CGROUPS: usize = 10_000;

/// A cgroup that somebody's program keeps to itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keeper {
    /// Where.
    pub cgroup: PathBuf,
    /// At which hook.
    pub hook: &'static str,
    /// Whether cgroups below may have programs of their own.
    pub leaves_room_below: bool,
}

impl fmt::Display for Keeper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reach = if self.leaves_room_below { "" } else { " and everything below" };
        write!(f, "{}{reach} ({})", self.cgroup.display(), self.hook)
    }
}

/// The start of `union bpf_attr` for a query, linux/bpf.h.
#[repr(C)]
#[derive(Default)]
struct Query {
    target: u32,
    attach_type: u32,
    query_flags: u32,
    attach_flags: u32,
    programs: u64,
    count: u32,
    padding: u32,
}

/// Every cgroup at or below `root` that is kept by a program which lets none stand beside it.
///
/// # Errors
/// This user may not ask, or the kernel cannot tell.
pub fn keepers(root: &Path) -> io::Result<Vec<Keeper>> {
    let mut keepers = Vec::new();
    let mut open = vec![root.to_owned()];
    let mut seen = 0;
    while let Some(cgroup) = open.pop().filter(|_| seen < MAX_CGROUPS) {
        seen += 1;
        // One that has gone since keeps nothing.
        let Ok(directory) = File::open(&cgroup) else { continue };
        for (hook, attach_type) in HOOKS {
            let Some(flags) = attached(&directory, attach_type)?.filter(|flags| flags & ALLOW_MULTI == 0) else {
                continue;
            };
            keepers.push(Keeper { cgroup: cgroup.clone(), hook, leaves_room_below: flags & ALLOW_OVERRIDE != 0 });
        }
        let children = fs::read_dir(&cgroup).into_iter().flatten().flatten();
        let children = children.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        open.extend(children.map(|entry| entry.path()));
    }
    Ok(keepers)
}

/// With which flags programs are attached there; `None`: there are none, as where this kernel does not know the hook.
fn attached(cgroup: &File, attach_type: u32) -> io::Result<Option<u32>> {
    let answer = query(cgroup, Query { attach_type, ..Query::default() }, &mut [])?;
    Ok(answer.filter(|answer| answer.count > 0).map(|answer| answer.attach_flags))
}

/// The programs that the kernel asks about connections of a cgroup over IPv4, by their ids and in its order.
pub(super) fn connecting(cgroup: &File) -> io::Result<Vec<u32>> {
    let mut programs = vec![0; MAX_PROGRAMS];
    let asked = Query { attach_type: CONNECT4, query_flags: EFFECTIVE, ..Query::default() };
    let count = query(cgroup, asked, &mut programs)?.map_or(0, |answer| answer.count);
    programs.truncate(usize::try_from(count).unwrap_or(MAX_PROGRAMS));
    Ok(programs)
}

/// Asks about a cgroup; ids are written into `programs`. `None`: this kernel does not know the hook, or the cgroup is gone.
fn query(cgroup: &File, asked: Query, programs: &mut [u32]) -> io::Result<Option<Query>> {
    let target = u32::try_from(cgroup.as_raw_fd()).map_err(io::Error::other)?;
    let count = u32::try_from(programs.len()).map_err(io::Error::other)?;
    let place = if programs.is_empty() { 0 } else { programs.as_mut_ptr().expose_provenance() as u64 };
    let mut query = Query { target, programs: place, count, ..asked };
    // SAFETY: the kernel reads and writes no more of `query` than the size that it is told, which is its own, and no more than
    // `count` ids at `programs`, which has room for as many; at null it writes none.
    let done = unsafe { libc::syscall(libc::SYS_bpf, QUERY, &raw mut query, size_of::<Query>()) };
    if done < 0 {
        let error = io::Error::last_os_error();
        return match error.raw_os_error() {
            Some(libc::EINVAL | libc::ENOENT) => Ok(None),
            _ => Err(error),
        };
    }
    Ok(Some(query))
}
