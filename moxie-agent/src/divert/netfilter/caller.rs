//! Who made a connection: the socket with its two addresses, the cgroup that the socket is in, the process that has it open.

use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use quick_cache::sync::Cache;

use crate::scope::cgroup;

/// Cgroups that are remembered: where they are, and whose socket was found there last.
const REMEMBERED: usize = 4096;
/// Descriptors that are looked at for one connection; with more the process stays unknown.
const LOOKS: usize = 8192;

/// Finds processes by their sockets.
#[derive(Debug)]
pub(super) struct Processes {
    /// By cgroup id, which the kernel does not use twice.
    paths: Cache<u64, PathBuf>,
    last: Cache<u64, u32>,
}

impl Default for Processes {
    fn default() -> Self {
        Self { paths: Cache::new(REMEMBERED), last: Cache::new(REMEMBERED) }
    }
}

impl Processes {
    /// The process in cgroup `id`, at or below one of `tops`, that has the socket with this inode open. Blocks: reads `/proc`.
    pub(super) fn having(&self, inode: u64, id: u64, tops: &[PathBuf]) -> Option<u32> {
        let path = self.path(id, tops)?;
        let processes = cgroup::processes(&path).ok()?;
        if let [only] = processes.as_slice() {
            // The socket has an inode, so somebody has it open.
            return Some(*only);
        }
        let last = self.last.get(&id).filter(|last| processes.contains(last));
        let mut looks = LOOKS;
        let found = last.into_iter().chain(processes).find(|pid| has_open(*pid, inode, &mut looks))?;
        self.last.insert(id, found);
        Some(found)
    }

    fn path(&self, id: u64, tops: &[PathBuf]) -> Option<PathBuf> {
        if let Some(path) = self.paths.get(&id) {
            return Some(path);
        }
        let path = tops.iter().find_map(|top| cgroup::find_below(top, id))?;
        self.paths.insert(id, path.clone());
        Some(path)
    }
}

/// Whether a process has the socket with this inode open.
fn has_open(pid: u32, inode: u64, looks: &mut usize) -> bool {
    let name = format!("socket:[{inode}]");
    let Ok(descriptors) = fs::read_dir(Path::new("/proc").join(pid.to_string()).join("fd")) else { return false };
    descriptors.flatten().any(|descriptor| {
        let Some(left) = looks.checked_sub(1) else { return false };
        *looks = left;
        fs::read_link(descriptor.path()).is_ok_and(|link| link.as_os_str().as_bytes() == name.as_bytes())
    })
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    #[test]
    fn an_open_socket_is_found_by_its_inode() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let descriptor = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&listener));
        let inode = fs::metadata(descriptor).unwrap().ino();
        let pid = std::process::id();
        assert!(has_open(pid, inode, &mut LOOKS.clone()));
        assert!(!has_open(pid, inode, &mut 0), "looks are bounded");
        assert!(!has_open(pid, u64::MAX, &mut LOOKS.clone()));
        assert!(!has_open(u32::MAX, inode, &mut LOOKS.clone()));
    }
}
