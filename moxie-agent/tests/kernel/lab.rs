//! Two network namespaces joined by a cable, an agent and its applications in one, servers in the other.

#[path = "lab/accept.rs"]
mod accept;
#[path = "lab/agent.rs"]
pub(crate) mod agent;
#[path = "lab/client.rs"]
mod client;

use std::fs::File;
use std::io::Write as _;
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use moxie_agent::scope::cgroup::{Hierarchy, RunCgroup};
use nix::sched::{CloneFlags, setns};
use tokio::time::Instant;

use accept::accept_from;
pub(crate) use client::Client;

/// What the agent says to whoever it accepts.
pub(crate) const DIVERTED: &str = "diverted";
/// What servers say.
pub(crate) const DIRECT: &str = "direct";

/// How long a condition may take; far above what any takes.
const DEADLINE: Duration = Duration::from_secs(20);
/// The agent moves this process between cgroups, so one test has the process at a time.
static ALONE: Mutex<()> = Mutex::new(());

/// Waits for a condition, with a deadline.
pub(crate) fn eventually(what: &str, is_so: impl FnMut() -> bool) {
    eventually_or(|| what.to_owned(), is_so);
}

/// Like [`eventually`]; what was waited for is put into words at the deadline, so that it can say how far it got.
pub(crate) fn eventually_or(what: impl Fn() -> String, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE * patience();
    while !is_so() {
        assert!(Instant::now() < deadline, "waited in vain for {}", what());
        thread::yield_now();
    }
}

/// More for machines whose every instruction is emulated (`cargo xtask vm`).
fn patience() -> u32 {
    let factor = std::env::var_os("MOXIE_TEST_PATIENCE").and_then(|factor| factor.to_str()?.parse().ok());
    factor.unwrap_or(1).max(1)
}

/// Ids of Moxie's programs in the kernel.
pub(crate) fn programs() -> Vec<u32> {
    let programs = aya::programs::loaded_programs().flatten();
    programs
        .filter(|program| program.name_as_str().is_some_and(|name| name.starts_with("moxie_")))
        .map(|p| p.id())
        .collect()
}

/// The namespaces and the servers; gone when dropped.
pub(crate) struct Lab {
    near: String,
    far: String,
    rooms: Mutex<Vec<String>>,
    served: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
    servers: Vec<JoinHandle<()>>,
    _alone: MutexGuard<'static, ()>,
}

impl Lab {
    /// `None`, and the reason printed, where this host cannot run it; that fails with `CI=true`.
    pub(crate) fn new() -> Option<Self> {
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(lack) = lack() {
            assert!(std::env::var_os("CI").is_none_or(|ci| ci != "true"), "cannot run, and CI=true: {lack}");
            eprintln!("cannot run: {lack}");
            return None;
        }
        let pid = std::process::id();
        let (near, far) = (format!("moxie-near-{pid}"), format!("moxie-far-{pid}"));
        let stop = Arc::new(AtomicBool::new(false));
        let mut lab = Self {
            near,
            far,
            rooms: Mutex::default(),
            served: Arc::default(),
            stop,
            servers: Vec::new(),
            _alone: alone,
        };
        lab.lay_cable();
        lab.serve();
        Some(lab)
    }

    /// No default route on either side: what is not diverted reaches the other side, and nothing reaches further.
    fn lay_cable(&self) {
        let (near, far) = (&self.near, &self.far);
        for name in [near, far] {
            ip(&format!("netns add {name}"));
            ip(&format!("-n {name} link set lo up"));
        }
        ip(&format!("link add mxa netns {near} type veth peer name mxb netns {far}"));
        ip(&format!("-n {near} addr add 10.9.8.1/24 dev mxa"));
        ip(&format!("-n {far} addr add 10.9.8.7/24 dev mxb"));
        ip(&format!("-n {near} link set mxa up"));
        ip(&format!("-n {far} link set mxb up"));
        ip(&format!("-n {far} -6 addr add fd12::7/64 dev mxb nodad"));
        self.add_v6();
    }

    pub(crate) fn add_v6(&self) {
        ip(&format!("-n {} -6 addr add fd12::1/64 dev mxa nodad", self.near));
    }

    pub(crate) fn remove_v6(&self) {
        ip(&format!("-n {} -6 addr del fd12::1/64 dev mxa", self.near));
    }

    /// The name of the agent's namespace.
    pub(crate) fn near(&self) -> &str {
        &self.near
    }

    /// Whether the kernel has MPTCP.
    pub(crate) fn has_mptcp(&self) -> bool {
        Path::new("/proc/sys/net/mptcp/enabled").exists()
    }

    /// Connections that the servers have accepted.
    pub(crate) fn served(&self) -> usize {
        self.served.load(Ordering::Relaxed)
    }

    /// The near end of the cable.
    pub(crate) fn device(&self) -> &'static str {
        "mxa"
    }

    fn serve(&mut self) {
        for port in [443, 8443] {
            for namespace in [&self.near, &self.far] {
                let listener = within(namespace, || TcpListener::bind(("::", port))).unwrap();
                let (stop, served) = (Arc::clone(&self.stop), Arc::clone(&self.served));
                self.servers.push(thread::spawn(move || {
                    accept_from(
                        &mut vec![listener],
                        &stop,
                        |_| {},
                        |mut stream, _| {
                            served.fetch_add(1, Ordering::Relaxed);
                            // A client that has gone already wants no answer.
                            let _ = stream.write_all(DIRECT.as_bytes());
                        },
                    );
                }));
            }
        }
    }

    /// Runs `work` on a thread in the near namespace.
    pub(crate) fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        within(self.near(), work)
    }

    /// Listeners without Moxie's mark.
    pub(crate) fn squat(&self, ports: std::ops::Range<u16>) -> Vec<TcpListener> {
        self.inside(|| ports.map(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap()).collect())
    }

    /// Another namespace with a cable of its own to the far one, in which the far one has the address `10.9.8.7` too, and with
    /// loopback as it is in a new namespace: down.
    pub(crate) fn room(&self) -> Room {
        let mut rooms = self.rooms.lock().unwrap();
        let number = rooms.len();
        let name = format!("{}-{number}", self.near);
        let (inside, outside) = (format!("mxr{number}"), format!("mxo{number}"));
        ip(&format!("netns add {name}"));
        rooms.push(name.clone());
        ip(&format!("link add {inside} netns {name} type veth peer name {outside} netns {}", self.far));
        ip(&format!("-n {name} addr add 10.9.{}.1/24 dev {inside}", 20 + number));
        ip(&format!("-n {} addr add 10.9.{}.7/24 dev {outside}", self.far, 20 + number));
        ip(&format!("-n {} link set {outside} up", self.far));
        ip(&format!("-n {name} link set {inside} up"));
        ip(&format!("-n {name} route add 10.9.8.7 via 10.9.{}.7", 20 + number));
        Room { name, outside, far: self.far.clone() }
    }

    /// A process in the near namespace, in `cgroup` from its first instruction on.
    pub(crate) fn client(&self, cgroup: Option<&RunCgroup>) -> Client {
        Client::start(&self.near, cgroup)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for server in self.servers.drain(..) {
            let _ = server.join();
        }
        let rooms = std::mem::take(&mut *self.rooms.lock().unwrap());
        for name in rooms.iter().chain([&self.near, &self.far]) {
            let _ = Command::new("ip").args(["netns", "del", name]).status();
        }
    }
}

/// A namespace beside the agent's, as a container has one.
pub(crate) struct Room {
    name: String,
    /// Its cable's other end, which goes when the namespace does.
    outside: String,
    far: String,
}

impl Room {
    /// A process in it.
    pub(crate) fn client(&self, cgroup: &RunCgroup) -> Client {
        Client::start(&self.name, Some(cgroup))
    }

    /// Runs `work` on a thread in it.
    pub(crate) fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        within(&self.name, work)
    }

    /// As a container runtime does, before the container's first instruction.
    pub(crate) fn loopback_up(&self) {
        self.ip("link set lo up");
    }

    /// `ip` in it.
    pub(crate) fn ip(&self, arguments: &str) {
        ip(&format!("-n {} {arguments}", self.name));
    }

    /// Lets go of it, as a container runtime does when the container has ended.
    pub(crate) fn forget(&self) {
        ip(&format!("netns del {}", self.name));
    }

    /// Whether the kernel has taken it down.
    pub(crate) fn is_gone(&self) -> bool {
        let mut show = Command::new("ip");
        show.args(format!("-n {} link show {}", self.far, self.outside).split(' '));
        !show.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap().success()
    }
}

/// What this host lacks to run these tests.
fn lack() -> Option<&'static str> {
    if !nix::unistd::geteuid().is_root() {
        return Some("needs root");
    }
    if Hierarchy::find().is_err() {
        return Some("needs a cgroup2 mount");
    }
    let has_ip = Command::new("ip").arg("-V").stdout(Stdio::null()).status().is_ok_and(|status| status.success());
    (!has_ip).then_some("needs `ip` (iproute2)")
}

fn ip(arguments: &str) {
    let status = Command::new("ip").args(arguments.split(' ')).status().unwrap();
    assert!(status.success(), "ip {arguments}");
}

/// The namespace is a thread's own, so the work gets a thread.
fn within<T: Send>(namespace: &str, work: impl FnOnce() -> T + Send) -> T {
    let namespace = File::open(Path::new("/run/netns").join(namespace)).unwrap();
    thread::scope(|scope| {
        let worker = scope.spawn(|| {
            setns(namespace, CloneFlags::CLONE_NEWNET).unwrap();
            work()
        });
        worker.join().unwrap()
    })
}
