//! A dockerd of the test's own, in the laboratory's near namespace: own state, own socket, no way out.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use moxie_agent::divert::{Attachment, Divert as _, Terms};
use moxie_agent::scope::cgroup::Hierarchy;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::os::fd::AsFd as _;

use crate::evidence;
use crate::lab::agent::Agent;
use crate::lab::{Lab, eventually};

const NETWORK: &str = "mxinternal";
const GATEWAY: &str = "10.77.0.1";
const SUBNET: &str = "10.77.0.0/24";
const IMAGE: &str = "mxbusybox";
/// How long a container that says one thing may take to end, on a host that is busy.
const CONTAINER_ENDS: Duration = Duration::from_secs(60);

/// The daemon; ended, with all that it has made, when dropped.
pub(crate) struct Daemon {
    process: Child,
    directory: tempfile::TempDir,
    /// Where the cgroups of its containers appear.
    cgroups: PathBuf,
    namespace: String,
}

impl Daemon {
    /// `None`, and the reason printed, where this host has no dockerd; that fails with `CI=true`.
    pub(crate) fn start(lab: &Lab) -> Option<Self> {
        if let Some(lack) = lack() {
            assert!(std::env::var_os("CI").is_none_or(|ci| ci != "true"), "cannot run, and CI=true: {lack}");
            eprintln!("cannot run: {lack}");
            return None;
        }
        let directory = tempfile::Builder::new().prefix("mxd").tempdir_in("/tmp").unwrap();
        let at = |name: &str| directory.path().join(name);
        let parent = format!("moxie-docker-{}", std::process::id());
        let cgroups = Hierarchy::find().unwrap().root().join(&parent);
        fs::create_dir_all(&cgroups).unwrap();
        let log = fs::File::create(at("log")).unwrap();
        let mut dockerd = Command::new("dockerd");
        dockerd.arg("--data-root").arg(at("data")).arg("--exec-root").arg(at("exec"));
        dockerd.arg("--pidfile").arg(at("pid")).arg("--host").arg(format!("unix://{}", at("socket").display()));
        dockerd.args(["--bridge=none", "--iptables=false", "--ip6tables=false", "--ip-forward=false"]);
        dockerd.args(["--ip-masq=false", "--storage-driver=vfs", "--exec-opt", "native.cgroupdriver=cgroupfs"]);
        dockerd.arg(format!("--cgroup-parent=/{parent}"));
        dockerd.stdout(log.try_clone().unwrap()).stderr(log).stdin(Stdio::null());
        let process = lab.inside(|| dockerd.spawn()).unwrap();
        let daemon = Self { process, directory, cgroups, namespace: lab.near().to_owned() };
        eventually("dockerd", || daemon.docker(&["version"]).is_ok());
        daemon.import();
        let made = daemon.docker(&[
            "network",
            "create",
            "--internal",
            "--subnet",
            SUBNET,
            "--gateway",
            GATEWAY,
            "-o",
            "com.docker.network.bridge.name=mxbr0",
            NETWORK,
        ]);
        made.expect("a network");
        Some(daemon)
    }

    /// An image of a static busybox and nothing else.
    fn import(&self) {
        let root = self.directory.path().join("root");
        fs::create_dir_all(root.join("bin")).unwrap();
        fs::copy("/bin/busybox", root.join("bin/busybox")).unwrap();
        symlink("busybox", root.join("bin/sh")).unwrap();
        let archive = self.directory.path().join("image.tar");
        let mut tar = Command::new("tar");
        tar.arg("-C").arg(&root).arg("-cf").arg(&archive).arg(".");
        assert!(tar.status().unwrap().success());
        self.docker(&["import", archive.to_str().unwrap(), IMAGE]).expect("an image");
    }

    pub(crate) fn network(&self) -> &'static str {
        NETWORK
    }

    /// The bridge's own address; the laboratory's servers are behind it.
    pub(crate) fn gateway(&self) -> &'static str {
        GATEWAY
    }

    /// Runs a container to its end, and gives what it said. One that does not end fails the test with all that is known of it.
    pub(crate) fn run(&self, network: &str, command: &[&str], agent: &Agent) -> String {
        let mut docker = self.client(&["run", "--rm", "--network", network, IMAGE]);
        let docker = docker.args(command).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let client = Pid::from_raw(docker.id().try_into().unwrap());
        let (ended, end) = channel();
        thread::spawn(move || ended.send(docker.wait_with_output()));
        let Ok(output) = end.recv_timeout(CONTAINER_ENDS) else {
            eprintln!("{}", self.evidence(agent));
            let _ = kill(client, Signal::SIGKILL);
            panic!("a container does not end");
        };
        said(&output.unwrap()).unwrap_or_else(|error| error)
    }

    /// What the daemon, its containers, the kernel and the agent can say of what goes on now.
    pub(crate) fn evidence(&self, agent: &Agent) -> String {
        let host = format!("unix://{}", self.at("socket").display());
        let mut told = format!("{:?}\naccepted: {}\n", agent.divert().counters(), agent.accepted());
        told += &evidence::said("docker", &["--host", &host, "ps", "--all", "--no-trunc"]);
        told += &evidence::of_cgroup(&self.cgroups);
        told += &evidence::of_command(&self.directory.path().to_string_lossy());
        told + &evidence::of_process(std::process::id()) + &evidence::tail(&self.at("log"))
    }

    fn at(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The containers' cables that are on the bridge.
    pub(crate) fn cables(&self) -> usize {
        let output = Command::new("ip").args(["-n", &self.namespace, "-o", "link", "show", "type", "veth"]).output();
        let output = String::from_utf8(output.unwrap().stdout).unwrap();
        output.lines().filter(|line| line.contains("master mxbr0")).count()
    }

    /// Puts the cgroup of every container on path as its directory appears, and off path as it goes.
    pub(crate) fn attach_what_appears(&self, agent: &Agent) -> Attaching {
        let (divert, cgroups, stop) =
            (Arc::clone(agent.divert()), self.cgroups.clone(), Arc::new(AtomicBool::new(false)));
        let ended = Arc::clone(&stop);
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC).unwrap();
        inotify.add_watch(&cgroups, AddWatchFlags::IN_CREATE | AddWatchFlags::IN_DELETE).unwrap();
        let thread = thread::spawn(move || {
            let mut held: Vec<(PathBuf, Box<dyn Attachment>)> = Vec::new();
            while !ended.load(Ordering::Relaxed) {
                let mut waiting = [PollFd::new(inotify.as_fd(), PollFlags::POLLIN)];
                poll(&mut waiting, PollTimeout::from(20_u8)).unwrap();
                for event in inotify.read_events().unwrap_or_default() {
                    let path = cgroups.join(event.name.unwrap());
                    if event.mask.contains(AddWatchFlags::IN_CREATE) {
                        let attached = divert.attach(&path, Terms::default());
                        held.push((path, attached.expect("attached")));
                    } else {
                        held.retain(|(other, _)| *other != path);
                    }
                }
            }
        });
        Attaching { stop, thread }
    }

    fn docker(&self, arguments: &[&str]) -> Result<String, String> {
        said(&self.client(arguments).output().unwrap())
    }

    fn client(&self, arguments: &[&str]) -> Command {
        let mut docker = Command::new("docker");
        docker.arg("--host").arg(format!("unix://{}", self.at("socket").display()));
        docker.env("DOCKER_CONFIG", self.directory.path());
        docker.args(arguments).stdin(Stdio::null());
        docker
    }
}

fn said(output: &Output) -> Result<String, String> {
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() { Ok(said) } else { Err(said + &String::from_utf8_lossy(&output.stderr)) }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let pid = Pid::from_raw(self.process.id().try_into().unwrap());
        let _ = kill(pid, Signal::SIGTERM);
        let _ = self.process.wait();
        for left in fs::read_dir(&self.cgroups).into_iter().flatten().flatten() {
            let _ = fs::remove_dir(left.path());
        }
        let _ = fs::remove_dir(&self.cgroups);
        if thread::panicking() {
            eprintln!("{}", evidence::tail(&self.at("log")));
        }
    }
}

/// The thread that attaches.
pub(crate) struct Attaching {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Attaching {
    /// Takes every container off path.
    pub(crate) fn finish(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap();
    }
}

fn lack() -> Option<&'static str> {
    let runs = |name: &str| {
        Command::new(name).arg("--version").stdout(Stdio::null()).status().is_ok_and(|status| status.success())
    };
    if !runs("dockerd") || !runs("docker") {
        return Some("needs dockerd and docker");
    }
    (!Path::new("/bin/busybox").exists()).then_some("needs a static busybox")
}
