//! An agent on the nftables way: in this process, or in one of its own that can be killed.

use std::io::{self, BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd as _;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};

use moxie_agent::divert::netfilter::{Netfilter, NetfilterOptions};
use moxie_agent::divert::{Attachment, Divert as _, Listening, Origin, Terms};
use moxie_agent::namespace::Namespace;
use moxie_agent::scope::cgroup::RunCgroup;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio_util::sync::CancellationToken;

use crate::lab::{DIVERTED, Lab};

/// How long the agent waits before it looks at its flags again.
const TURN_MS: u8 = 20;
/// What the process of its own says once it diverts.
const READY: &str = "ready";

/// Accepts what is diverted, and remembers the origins.
pub(crate) struct Agent {
    divert: Arc<Netfilter>,
    seen: Arc<Seen>,
    stop: Arc<AtomicBool>,
    acceptor: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Seen {
    origins: Mutex<Vec<Option<Origin>>>,
    is_wedged: AtomicBool,
    /// Says nothing until told to.
    is_silent: AtomicBool,
    silent: Mutex<Vec<TcpStream>>,
}

struct Open {
    listener: TcpListener,
    namespace: Arc<Namespace>,
    closing: CancellationToken,
}

impl Agent {
    pub(crate) fn start(lab: &Lab, options: NetfilterOptions) -> Self {
        Self::start_with(lab, options, Seen::default())
    }

    /// One that keeps who calls waiting.
    pub(crate) fn start_silent(lab: &Lab, options: NetfilterOptions) -> Self {
        Self::start_with(lab, options, Seen { is_silent: true.into(), ..Seen::default() })
    }

    fn start_with(lab: &Lab, options: NetfilterOptions, seen: Seen) -> Self {
        let divert = lab.inside(|| Netfilter::open(options)).unwrap_or_else(|error| panic!("{}", chain(&error)));
        let divert = Arc::new(divert);
        let waiting = divert.take_listeners().expect("given out once");
        assert!(divert.take_listeners().is_none(), "given out once");
        let (seen, stop) = (Arc::new(seen), Arc::new(AtomicBool::new(false)));
        divert.beat();
        let acceptor = thread::spawn({
            let (divert, seen, stop) = (Arc::clone(&divert), Arc::clone(&seen), Arc::clone(&stop));
            move || accept(waiting, &divert, &seen, &stop)
        });
        Self { divert, seen, stop, acceptor: Some(acceptor) }
    }

    pub(crate) fn divert(&self) -> &Netfilter {
        &self.divert
    }

    pub(crate) fn first_port(&self) -> u16 {
        self.divert.listener_addresses().first().expect("a listener").port()
    }

    /// A new cgroup, on path.
    pub(crate) fn scope(&self) -> (RunCgroup, Box<dyn Attachment>) {
        let cgroup = RunCgroup::create().unwrap();
        let held = self.attach(cgroup.path(), Terms::default());
        (cgroup, held)
    }

    pub(crate) fn attach(&self, cgroup: &Path, terms: Terms) -> Box<dyn Attachment> {
        self.divert.attach(cgroup, terms).unwrap_or_else(|error| panic!("{}", chain(&error)))
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

    /// Lets go of the origins, and with them of the namespaces that they hold.
    pub(crate) fn forget(&self) {
        self.seen.origins().clear();
    }

    /// Answers those that wait.
    pub(crate) fn speak(&self) {
        for mut stream in self.seen.silent.lock().unwrap().drain(..) {
            stream.write_all(DIVERTED.as_bytes()).unwrap();
        }
    }

    pub(crate) fn stop_beating(&self) {
        self.seen.is_wedged.store(true, Ordering::Relaxed);
    }

    pub(crate) fn beat_again(&self) {
        self.seen.is_wedged.store(false, Ordering::Relaxed);
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
    }
}

impl Seen {
    fn origins(&self) -> MutexGuard<'_, Vec<Option<Origin>>> {
        self.origins.lock().unwrap()
    }

    fn meet(&self, mut stream: TcpStream, open: &Open, divert: &Netfilter) {
        let origin = divert.origin_of(stream.as_fd(), &open.namespace).unwrap();
        self.origins().push(origin);
        if self.is_silent.load(Ordering::Relaxed) {
            self.silent.lock().unwrap().push(stream);
            return;
        }
        // A client that has gone already wants no answer.
        let _ = stream.write_all(DIVERTED.as_bytes());
    }
}

/// As the agent does: takes listeners as they come, ends them when they are to be closed, and beats.
fn accept(mut waiting: UnboundedReceiver<Listening>, divert: &Netfilter, seen: &Seen, stop: &AtomicBool) {
    let mut open: Vec<Open> = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        while let Ok(Listening { socket, namespace, closing }) = waiting.try_recv() {
            let listener = TcpListener::from(socket);
            listener.set_nonblocking(true).unwrap();
            open.push(Open { listener, namespace, closing });
        }
        if !seen.is_wedged.load(Ordering::Relaxed) {
            divert.beat();
        }
        let mut ready: Vec<_> = open.iter().map(|it| PollFd::new(it.listener.as_fd(), PollFlags::POLLIN)).collect();
        poll(&mut ready, PollTimeout::from(TURN_MS)).unwrap();
        for open in &open {
            // A bounded batch, so that a flood does not keep the heart from beating.
            for _ in 0..64 {
                match open.listener.accept() {
                    Ok((stream, _)) => seen.meet(stream, open, divert),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(error) => panic!("accept: {error}"),
                }
            }
        }
        open.retain(|open| !open.closing.is_cancelled());
    }
}

/// An agent in a process of its own, which holds what it accepts and says nothing.
pub(crate) struct AgentProcess {
    process: Child,
    _commands: ChildStdin,
}

impl AgentProcess {
    /// With `cgroup` on path.
    pub(crate) fn start(lab: &Lab, cgroup: &Path) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "agent_process", "--ignored", "--nocapture"]);
        command.env("MOXIE_TEST_CGROUP", cgroup).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = lab.inside(|| command.spawn()).unwrap();
        let commands = process.stdin.take().unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap().ends_with(READY)), "the agent is gone");
        Self { process, _commands: commands }
    }

    pub(crate) fn pid(&self) -> nix::unistd::Pid {
        nix::unistd::Pid::from_raw(self.process.id().try_into().unwrap())
    }

    /// Kills it, and waits until it is gone.
    pub(crate) fn kill(mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

impl Drop for AgentProcess {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The body of [`AgentProcess`].
pub(crate) fn serve() {
    let divert = Netfilter::open(NetfilterOptions::default()).unwrap_or_else(|error| panic!("{}", chain(&error)));
    let cgroup = std::env::var_os("MOXIE_TEST_CGROUP").unwrap();
    let mut waiting = divert.take_listeners().unwrap();
    let listeners: Vec<TcpListener> =
        std::iter::from_fn(|| waiting.try_recv().ok()).map(|listening| listening.socket.into()).collect();
    divert.beat();
    let _held = divert.attach(Path::new(&cgroup), Terms::default()).unwrap();
    println!("\n{READY}");
    let mut held = Vec::new();
    loop {
        divert.beat();
        let mut ready: Vec<_> = listeners.iter().map(|it| PollFd::new(it.as_fd(), PollFlags::POLLIN)).collect();
        poll(&mut ready, PollTimeout::from(TURN_MS)).unwrap();
        for listener in &listeners {
            listener.set_nonblocking(true).unwrap();
            while let Ok((stream, _)) = listener.accept() {
                held.push(stream);
            }
        }
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
