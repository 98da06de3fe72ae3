//! Removing what a lab made: by its own end, by Ctrl-C, or by the next run after it was killed.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Once, PoisonError, RwLock, RwLockReadGuard, mpsc};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::cgroup;
use crate::wait;

/// Directory where `ip netns` keeps names.
const NAMES: &str = "/run/netns";
/// Beginning of every name that a lab gives out.
const PREFIX: &str = "moxie-lab";
/// How long killed processes may take to be gone.
const GONE: Duration = Duration::from_secs(10);

/// A name for a new lab of this process; everything it makes in the system starts with it.
pub(crate) fn name() -> String {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    format!("{}{}", prefix(std::process::id()), NUMBER.fetch_add(1, Ordering::Relaxed))
}

fn prefix(pid: u32) -> String {
    format!("{PREFIX}-{pid}-")
}

/// Removes the labs of processes that are no more.
pub(crate) fn stale() {
    for name in names(PREFIX) {
        let owner = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').nth(1)).and_then(|pid| pid.parse().ok());
        if let Some(pid) = owner
            && !Path::new("/proc").join(format!("{pid}")).exists()
        {
            labs_of(pid);
        }
    }
}

/// Held for reading by whoever makes something that a sweep would have to remove; an interrupt takes it for good.
static GATE: RwLock<()> = RwLock::new(());

/// Keeps an interrupt from sweeping until the guard is dropped; once one has come, never returns.
pub(crate) fn gate() -> RwLockReadGuard<'static, ()> {
    GATE.read().unwrap_or_else(PoisonError::into_inner)
}

/// From now on an interrupt removes this process's labs before it ends the process.
pub(crate) fn on_interrupt() {
    static WATCHED: Once = Once::new();
    WATCHED.call_once(|| {
        let (watching, watched) = mpsc::channel();
        std::thread::spawn(move || {
            let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return };
            let code = runtime.block_on(interrupted(watching));
            let _closed = GATE.write().unwrap_or_else(PoisonError::into_inner);
            labs_of(std::process::id());
            #[expect(clippy::exit, reason = "the default action of the signal that was caught")]
            std::process::exit(code);
        });
        // What is made from now on is swept; a thread that cannot watch has ended.
        let _ = watched.recv();
    });
}

/// The exit code of a shell's convention for the signal that came.
async fn interrupted(watching: mpsc::Sender<()>) -> i32 {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut interrupt), Ok(mut terminate)) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        drop(watching);
        return std::future::pending().await;
    };
    // Whoever waits for it has gone only if it panicked.
    let _ = watching.send(());
    tokio::select! {
        _ = interrupt.recv() => 130,
        _ = terminate.recv() => 143,
    }
}

fn labs_of(pid: u32) {
    let prefix = prefix(pid);
    for name in names(&prefix) {
        daemon(&name);
        namespace(&name);
        files(&name);
        cgroups(&name);
    }
}

/// Where the files of the lab `name` are.
pub(crate) fn directory(name: &str) -> PathBuf {
    std::env::temp_dir().join(name)
}

/// Removes the files of a lab.
pub(crate) fn files(name: &str) {
    // Files that are gone already are what was wanted.
    let _ = fs::remove_dir_all(directory(name));
}

/// File in a lab's directory that holds the process id of its container daemon, if it has one.
pub(crate) const DAEMON: &str = "dockerd.pid";

/// Asks the lab's container daemon to end, which ends its containers, and waits until it is gone.
pub(crate) fn daemon(name: &str) {
    let Ok(text) = fs::read_to_string(directory(name).join(DAEMON)) else { return };
    let Some(pid) = text.trim().parse().ok().map(Pid::from_raw) else { return };
    // The number may be another process's by now.
    let is_it = || fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm.trim() == "dockerd");
    if is_it() && kill(pid, Signal::SIGTERM).is_ok() {
        let _ = wait::until("the container daemon to end", GONE, || Ok((!is_it() || is_zombie(pid)).then_some(())));
        if is_it() {
            let _ = kill(pid, Signal::SIGKILL);
        }
    }
}

/// Names of namespaces, cgroups and directories that start with `prefix`.
fn names(prefix: &str) -> Vec<String> {
    let hierarchy = cgroup::hierarchy().unwrap_or_default();
    let mut found: Vec<String> = [PathBuf::from(NAMES), hierarchy, std::env::temp_dir()]
        .iter()
        .filter_map(|directory| fs::read_dir(directory).ok())
        .flat_map(|entries| entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()))
        .filter(|name| name.starts_with(prefix))
        .collect();
    found.sort();
    found.dedup();
    found
}

/// Kills what runs in the namespace, this process apart, and takes its name away.
pub(crate) fn namespace(name: &str) {
    let path = Path::new(NAMES).join(name);
    let Ok(inode) = fs::metadata(&path).map(|found| found.ino()) else { return };
    end(|| processes_in(inode));
    forget(name);
}

/// Takes a namespace's name away: it lives for as long as something in it or of it does.
pub(super) fn forget(name: &str) {
    let mut delete = Command::new("ip");
    delete.args(["netns", "del", name]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    // A name that is gone already is what was wanted.
    let _ = delete.status();
}

/// Processes whose network namespace is `inode`.
pub(super) fn processes_in(inode: u64) -> Vec<Pid> {
    let Ok(processes) = fs::read_dir("/proc") else { return Vec::new() };
    processes
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|pid: &i32| {
            fs::metadata(format!("/proc/{pid}/ns/net")).is_ok_and(|found| found.ino() == inode)
                && u32::try_from(*pid) != Ok(std::process::id())
        })
        .map(Pid::from_raw)
        .collect()
}

/// Removes the cgroup `name` from every hierarchy; a container daemon makes it in those of version 1 too.
pub(crate) fn cgroups(name: &str) {
    for hierarchy in cgroup::hierarchies() {
        cgroup(&hierarchy.join(name));
    }
}

/// Removes what a container runtime has made for a lab in the hierarchies other than version 2, where the lab itself is.
pub(crate) fn other_cgroups(name: &str) {
    let own = cgroup::hierarchy().unwrap_or_default();
    for hierarchy in cgroup::hierarchies().into_iter().filter(|hierarchy| *hierarchy != own) {
        cgroup(&hierarchy.join(name));
    }
}

/// Kills what runs in the cgroup and below, and removes the directories, deepest first.
pub(super) fn cgroup(root: &Path) {
    let directories = deepest_first(root);
    end(|| directories.iter().flat_map(|directory| members(directory)).collect());
    for directory in directories {
        // The kernel lets go of a cgroup some time after its last process was reaped.
        let _ = wait::until("an empty cgroup", GONE, || {
            Ok((fs::remove_dir(&directory).is_ok() || !directory.exists()).then_some(()))
        });
    }
}

fn members(directory: &Path) -> Vec<Pid> {
    let procs = fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
    procs.lines().filter_map(|line| line.parse().ok()).filter(|pid| *pid > 0).map(Pid::from_raw).collect()
}

pub(super) fn deepest_first(root: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(root) else { return Vec::new() };
    let mut found: Vec<PathBuf> = entries
        .filter_map(Result::ok)
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .flat_map(|entry| deepest_first(&entry.path()))
        .collect();
    found.push(root.to_path_buf());
    found
}

/// Kills what `running` finds until it finds nothing that still runs.
fn end(running: impl Fn() -> Vec<Pid>) {
    let _ = wait::until("killed processes to end", GONE, || {
        let left: Vec<Pid> = running().into_iter().filter(|pid| !is_zombie(*pid)).collect();
        for pid in &left {
            let _ = kill(*pid, Signal::SIGKILL);
        }
        Ok(left.is_empty().then_some(()))
    });
}

fn is_zombie(pid: Pid) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with('Z') || rest.starts_with('X'))
}
