//! Two network namespaces joined by a cable, an agent and its applications in one, servers in the other.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::iter;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd as _;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use moxie_agent::divert::ebpf::{Ebpf, EbpfOptions};
use moxie_agent::divert::{Attachment, Divert, DivertError, Listening, Origin, Terms};
use moxie_agent::namespace::Namespace;
use moxie_agent::scope::cgroup::{Hierarchy, RunCgroup, move_process};
use moxie_common::PORTS_PER_LISTENER_SET;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, setns};
use nix::sys::socket::{Backlog, listen};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::client::ANSWER;

/// What the agent says to whoever it accepts.
pub(crate) const DIVERTED: &str = "diverted";
/// What servers say.
pub(crate) const DIRECT: &str = "direct";

/// How long a condition may take; far above what any takes.
const DEADLINE: Duration = Duration::from_secs(20);
/// How long the agent and the servers wait before they look at their flags again.
const TURN_MS: u8 = 20;

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
        Self::client_in(&self.near, cgroup)
    }

    fn client_in(namespace: &str, cgroup: Option<&RunCgroup>) -> Client {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "client_process", "--ignored", "--nocapture"]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        if let Some(cgroup) = cgroup {
            cgroup.enter(&mut command).unwrap();
        }
        let mut process = within(namespace, || command.spawn()).unwrap();
        let (commands, answers) = (process.stdin.take().unwrap(), BufReader::new(process.stdout.take().unwrap()));
        Client { process, commands: Some(commands), answers }
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
        Lab::client_in(&self.name, Some(cgroup))
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

/// Accepts until told to stop; `each_turn` is called at least every [`TURN_MS`].
fn accept_from<L: Listens>(
    listeners: &mut Vec<L>,
    stop: &AtomicBool,
    mut each_turn: impl FnMut(&mut Vec<L>),
    accepted: impl Fn(TcpStream, &L),
) {
    while !stop.load(Ordering::Relaxed) {
        each_turn(listeners);
        let mut waiting: Vec<_> =
            listeners.iter().map(|it| PollFd::new(it.socket().as_fd(), PollFlags::POLLIN)).collect();
        poll(&mut waiting, PollTimeout::from(TURN_MS)).unwrap();
        for listener in listeners.iter() {
            listener.socket().set_nonblocking(true).unwrap();
            // A bounded batch, so that a flood does not keep the heart from beating.
            for _ in 0..64 {
                match listener.socket().accept() {
                    Ok((stream, _)) => accepted(stream, listener),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(error) => panic!("accept: {error}"),
                }
            }
        }
    }
}

trait Listens {
    fn socket(&self) -> &TcpListener;
}

impl Listens for TcpListener {
    fn socket(&self) -> &TcpListener {
        self
    }
}

/// A listener of the agent's.
struct Served {
    socket: TcpListener,
    namespace: Arc<Namespace>,
    closing: CancellationToken,
}

impl Listens for Served {
    fn socket(&self) -> &TcpListener {
        &self.socket
    }
}

impl From<Listening> for Served {
    fn from(listening: Listening) -> Self {
        Self { socket: listening.socket.into(), namespace: listening.namespace, closing: listening.closing }
    }
}

type Loaded = Result<Ebpf, DivertError>;
type Load<'a> = Box<dyn FnOnce() -> Loaded + Send + 'a>;

/// Loads the eBPF way, accepts what it diverts, and remembers the origins.
pub(crate) struct Agent {
    divert: Arc<Ebpf>,
    seen: Arc<Seen>,
    stop: Arc<AtomicBool>,
    acceptor: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Seen {
    origins: Mutex<Vec<Option<Origin>>>,
    is_wedged: AtomicBool,
    /// The agent accepts nobody, and the kernel keeps one connection for each of its listeners.
    is_deaf: AtomicBool,
}

impl Agent {
    pub(crate) fn start(lab: &Lab, options: EbpfOptions) -> Self {
        Self::start_in(|work| lab.inside(work), options)
    }

    /// In the namespace that `inside` runs its work in.
    pub(crate) fn start_in(inside: impl FnOnce(Load<'_>) -> Loaded, mut options: EbpfOptions) -> Self {
        // An agent that gets no processor for a second fails open, as it should; that is not what most tests are about.
        options.max_beat_age *= patience();
        let loaded = inside(Box::new(|| Ebpf::load(&options)));
        let divert = Arc::new(loaded.unwrap_or_else(|error| panic!("{}", chain(&error))));
        let mut waiting = divert.take_listeners().expect("given out once");
        let mut listeners: Vec<Served> = iter::from_fn(|| waiting.try_recv().ok()).map(Served::from).collect();
        assert_eq!(listeners.len(), 2 * usize::from(PORTS_PER_LISTENER_SET));
        assert!(divert.take_listeners().is_none(), "given out once");
        let (seen, stop) = (Arc::new(Seen::default()), Arc::new(AtomicBool::new(false)));
        divert.beat();
        let acceptor = thread::spawn({
            let (divert, seen, stop) = (Arc::clone(&divert), Arc::clone(&seen), Arc::clone(&stop));
            move || {
                let mut unheard = Vec::new();
                let turn = |listeners: &mut Vec<Served>| {
                    listeners.extend(iter::from_fn(|| waiting.try_recv().ok()).map(Served::from));
                    listeners.retain(|listener| !listener.closing.is_cancelled());
                    seen.hear_or_not(listeners, &mut unheard);
                    if !seen.is_wedged.load(Ordering::Relaxed) {
                        divert.beat();
                    }
                };
                accept_from(&mut listeners, &stop, turn, |stream, from| seen.meet(stream, &from.namespace, &divert));
            }
        });
        Self { divert, seen, stop, acceptor: Some(acceptor) }
    }

    pub(crate) fn divert(&self) -> &Arc<Ebpf> {
        &self.divert
    }

    pub(crate) fn first_port(&self) -> u16 {
        self.divert.first_listener_port()
    }

    /// A new cgroup, on path.
    pub(crate) fn scope(&self) -> (RunCgroup, Box<dyn Attachment>) {
        let cgroup = RunCgroup::create().unwrap();
        let held =
            self.divert.attach(cgroup.path(), Terms::default()).unwrap_or_else(|error| panic!("{}", chain(&error)));
        (cgroup, held)
    }

    pub(crate) fn count(&self, name: &str) -> u64 {
        self.divert.counters().iter().find(|(counter, _)| *counter == name).expect("a counter of that name").1
    }

    pub(crate) fn accepted(&self) -> usize {
        self.seen.origins().len()
    }

    pub(crate) fn missing(&self) -> usize {
        self.seen.origins().iter().filter(|origin| origin.is_none()).count()
    }

    pub(crate) fn wrong(&self, expected: SocketAddr) -> usize {
        self.seen.origins().iter().flatten().filter(|origin| origin.destination != expected).count()
    }

    pub(crate) fn last_origin(&self) -> Option<Origin> {
        self.seen.origins().last().expect("a connection").clone()
    }

    /// Whether a connection to `destination` was accepted.
    pub(crate) fn has_seen(&self, destination: std::net::SocketAddr) -> bool {
        self.seen.origins().iter().flatten().any(|origin| origin.destination == destination)
    }

    pub(crate) fn origins(&self) -> Vec<Option<Origin>> {
        self.seen.origins().clone()
    }

    /// An origin holds its namespace.
    pub(crate) fn forget_origins(&self) {
        self.seen.origins().clear();
    }

    /// From a turn on handshakes with its listeners do not end, but for one of each; or they do again.
    pub(crate) fn be_deaf(&self, is_deaf: bool) {
        self.seen.is_deaf.store(is_deaf, Ordering::Relaxed);
    }

    pub(crate) fn stop_beating(&self) {
        self.seen.is_wedged.store(true, Ordering::Relaxed);
    }

    /// As when the accept loop has died and the rest has not: nobody listens, the heart beats. Gives the ports.
    pub(crate) fn close_listeners(&mut self) -> std::ops::Range<u16> {
        self.end();
        self.divert.beat();
        self.first_port()..self.first_port() + PORTS_PER_LISTENER_SET
    }

    fn end(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.end();
    }
}

impl Seen {
    fn hear_or_not(&self, heard: &mut Vec<Served>, unheard: &mut Vec<Served>) {
        let is_deaf = self.is_deaf.load(Ordering::Relaxed);
        let (from, to) = if is_deaf { (heard, unheard) } else { (unheard, heard) };
        for listener in from.drain(..) {
            // Of a socket that listens already this changes how many may wait.
            listen(&listener.socket, if is_deaf { Backlog::new(0).unwrap() } else { Backlog::MAXCONN }).unwrap();
            to.push(listener);
        }
    }

    fn origins(&self) -> MutexGuard<'_, Vec<Option<Origin>>> {
        self.origins.lock().unwrap()
    }

    fn meet(&self, mut stream: TcpStream, namespace: &Arc<Namespace>, divert: &Ebpf) {
        let origin = divert.origin_of(stream.as_fd(), namespace).unwrap();
        self.origins().push(origin);
        // A client that has gone already wants no answer.
        let _ = stream.write_all(DIVERTED.as_bytes());
    }
}

/// An application: see `client.rs`.
pub(crate) struct Client {
    process: Child,
    commands: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Client {
    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    pub(crate) fn move_to(&self, cgroup: &Path) {
        move_process(self.pid(), cgroup).unwrap();
    }

    pub(crate) fn ask(&mut self, command: &str) -> String {
        self.send(command);
        self.answer()
    }

    pub(crate) fn send(&mut self, command: &str) {
        writeln!(self.commands.as_mut().unwrap(), "{command}").unwrap();
    }

    pub(crate) fn answer(&mut self) -> String {
        loop {
            let mut line = String::new();
            assert_ne!(self.answers.read_line(&mut line).unwrap(), 0, "the client is gone");
            if let Some(answer) = line.trim_end().strip_prefix(ANSWER) {
                return answer.to_owned();
            }
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        drop(self.commands.take());
        // Its standard output has no reader any more once this is dropped; it may be in the middle of a call.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
