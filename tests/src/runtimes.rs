//! Container runtimes of a lab's own, in its namespaces: their containers reach the stand-ins and nothing else.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::lab::{Finished, Lab, Place, Running, process, sweep};
use crate::{bounds, wait};

mod failure;

/// The image of every container: a busybox and nothing else.
pub const IMAGE: &str = "moxie-lab/busybox:1";
/// Neither bridges nor packet filter rules of its own; one that belongs to the lab's network namespace.
const OPTIONS: [&str; 9] = [
    "--bridge=none",
    "--iptables=false",
    "--ip6tables=false",
    "--ip-forward=false",
    "--ip-masq=false",
    "--storage-driver=vfs",
    "--exec-opt=native.cgroupdriver=cgroupfs",
    "--shutdown-timeout=2",
    "--log-level=warn",
];

/// Makes the tree of a container's root: a busybox under the names that tests use.
///
/// # Errors
/// There is no static busybox.
pub fn root(lab: &Lab) -> Result<PathBuf> {
    let root = lab.files().join("root");
    let programs = root.join("bin");
    fs::create_dir_all(&programs)?;
    for directory in ["proc", "sys", "dev", "etc", "tmp"] {
        fs::create_dir_all(root.join(directory))?;
    }
    let busybox = programs.join("busybox");
    fs::copy("/bin/busybox", &busybox).context("no /bin/busybox: install busybox-static")?;
    for name in ["sh", "nc", "sleep", "cat", "echo", "true"] {
        let link = programs.join(name);
        if !link.exists() {
            std::os::unix::fs::symlink("busybox", link)?;
        }
    }
    Ok(root)
}

/// A Docker daemon; ended, with its containers, when dropped.
#[derive(Debug)]
pub struct Docker<'lab> {
    lab: &'lab Lab,
    name: String,
    daemon: Option<Running>,
}

impl<'lab> Docker<'lab> {
    /// Starts one that has [`IMAGE`].
    ///
    /// # Errors
    /// It does not start.
    pub fn start(lab: &'lab Lab) -> Result<Self> {
        let place = lab.cgroup(Place::Outside);
        let name =
            place.parent().and_then(Path::file_name).context("a lab without a name")?.to_string_lossy().into_owned();
        let mut docker = Self { lab, name, daemon: None };
        docker.up()?;
        let root = root(lab)?;
        let archive = lab.files().join("root.tar");
        let mut tar = Command::new("tar");
        tar.arg("--create").arg("--file").arg(&archive).arg("--directory").arg(&root).arg(".");
        ensure!(process::run(tar)?.status.success(), "tar failed");
        docker.done(&["import", &archive.to_string_lossy(), IMAGE])?;
        Ok(docker)
    }

    /// Where it listens.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.lab.files().join("docker.sock")
    }

    /// The settings of an agent that asks this daemon and no other runtime.
    #[must_use]
    pub fn settings(&self) -> String {
        format!("[scopes]\ndocker = \"{}\"\npodman = \"\"\ncontainerd = \"\"\n", self.socket().display())
    }

    /// Starts the daemon again, or for the first time.
    ///
    /// # Errors
    /// It does not get ready.
    pub fn up(&mut self) -> Result<()> {
        let files = self.lab.files();
        let settings = files.join("dockerd.json");
        fs::write(&settings, "{\"live-restore\": true}")?;
        let log = File::options().create(true).append(true).open(files.join("dockerd.log"))?;
        let mut command = self.lab.command("dockerd", Place::Outside)?;
        command
            .args(OPTIONS)
            .arg(format!("--host=unix://{}", self.socket().display()))
            .arg(format!("--cgroup-parent=/{}/docker", self.name))
            .arg("--config-file")
            .arg(settings)
            .arg("--data-root")
            .arg(files.join("docker"))
            .arg("--exec-root")
            .arg(files.join("exec"))
            .arg("--pidfile")
            .arg(files.join(sweep::DAEMON))
            .stdout(log.try_clone()?)
            .stderr(log);
        self.daemon = Some(Running::start_as_is(command)?);
        wait::until("the container daemon", bounds::PROGRAM, || {
            Ok(self.run(&["version", "--format", "{{.Server.Version}}"])?.status.success().then_some(()))
        })
        .with_context(|| fs::read_to_string(files.join("dockerd.log")).unwrap_or_default())
    }

    /// Ends the daemon; its containers go on.
    ///
    /// # Errors
    /// It does not end.
    pub fn down(&mut self) -> Result<()> {
        let Some(daemon) = self.daemon.take() else { return Ok(()) };
        daemon.signal(nix::sys::signal::Signal::SIGTERM)?;
        daemon.finish(bounds::PROGRAM)?;
        Ok(())
    }

    /// The client with these arguments.
    ///
    /// # Errors
    /// The lab's.
    pub fn command(&self, arguments: &[&str]) -> Result<Command> {
        let mut command = self.lab.command("docker", Place::Outside)?;
        command.env("DOCKER_HOST", format!("unix://{}", self.socket().display())).args(arguments);
        Ok(command)
    }

    /// Runs the client.
    ///
    /// # Errors
    /// It cannot be started or does not end.
    pub fn run(&self, arguments: &[&str]) -> Result<Finished> {
        process::run(self.command(arguments)?)
    }

    /// Runs the client, which has to succeed, and gives what it prints.
    ///
    /// # Errors
    /// It failed.
    pub fn done(&self, arguments: &[&str]) -> Result<String> {
        let finished = self.run(arguments)?;
        ensure!(finished.status.success(), "docker {arguments:?}: {finished:?}");
        Ok(finished.stdout.trim().to_owned())
    }
}

impl Drop for Docker<'_> {
    fn drop(&mut self) {
        // Containers outlive a daemon that restores them, so they go first.
        if let Ok(all) = self.run(&["ps", "--all", "--quiet"]) {
            let mut remove = vec!["rm", "--force"];
            remove.extend(all.stdout.split_whitespace());
            if remove.len() > 2 {
                let _ = self.run(&remove);
            }
        }
        sweep::daemon(&self.name);
        self.daemon = None;
        let parent = self.lab.cgroup(Place::Outside).with_file_name("docker");
        let _ = wait::until("the containers' cgroup to be empty", bounds::SOON, || {
            Ok((fs::remove_dir(&parent).is_ok() || !parent.exists()).then_some(()))
        });
        sweep::other_cgroups(&self.name);
    }
}

/// A Podman whose service talks like Docker; its containers go when it is dropped.
#[derive(Debug)]
pub struct Podman<'lab> {
    lab: &'lab Lab,
    _service: Running,
}

impl<'lab> Podman<'lab> {
    /// Starts its service.
    ///
    /// # Errors
    /// It does not start.
    pub fn start(lab: &'lab Lab) -> Result<Self> {
        let socket = format!("unix://{}", lab.files().join("podman.sock").display());
        let service = Running::start(Self::base(lab, &["system", "service", "--time=0", &socket])?)?;
        let up = || Ok(lab.files().join("podman.sock").exists().then_some(()));
        wait::until("podman's service", bounds::PROGRAM, up)?;
        Ok(Self { lab, _service: service })
    }

    /// The settings of an agent that asks this Podman and no other runtime.
    #[must_use]
    pub fn settings(&self) -> String {
        let socket = self.lab.files().join("podman.sock");
        format!("[scopes]\ndocker = \"\"\npodman = \"{}\"\ncontainerd = \"\"\n", socket.display())
    }

    fn base(lab: &Lab, arguments: &[&str]) -> Result<Command> {
        let files = lab.files();
        let mut command = lab.command("podman", Place::Outside)?;
        for (option, directory) in [("--root", "pod/graph"), ("--runroot", "pod/run"), ("--tmpdir", "pod/tmp")] {
            command.arg(option).arg(files.join(directory));
        }
        // On a host with both versions of cgroups crun gives up; runc, which comes with Docker, does not.
        command.args(["--cgroup-manager=cgroupfs", "--storage-driver=vfs", "--events-backend=file", "--runtime=runc"]);
        command.args(arguments);
        Ok(command)
    }

    /// A container in the lab's own network namespace that runs `script`; with options of `podman run`.
    ///
    /// # Errors
    /// It cannot be started or does not end.
    pub fn run(&self, options: &[&str], script: &str) -> Result<Finished> {
        let root = root(self.lab)?;
        let place = self.lab.cgroup(Place::Outside);
        let name = place.parent().and_then(Path::file_name).context("a lab without a name")?;
        let parent = format!("--cgroup-parent=/{}/podman", name.to_string_lossy());
        let mut command = Self::base(
            self.lab,
            &["run", "--network=host", "--ulimit=nofile=1024:1024", "--ulimit=nproc=1024:1024", &parent],
        )?;
        command.args(options).arg("--rootfs").arg(root).args(["sh", "-c", script]);
        process::run(command)
    }
}

impl Drop for Podman<'_> {
    fn drop(&mut self) {
        if let Ok(remove) = Self::base(self.lab, &["rm", "--all", "--force", "--time=0"]) {
            let _ = process::run(remove);
        }
        forget(self.lab);
    }
}

/// A containerd without anything above it.
#[derive(Debug)]
pub struct Containerd<'lab> {
    lab: &'lab Lab,
    _daemon: Running,
}

impl<'lab> Containerd<'lab> {
    /// Starts one.
    ///
    /// # Errors
    /// It does not start.
    pub fn start(lab: &'lab Lab) -> Result<Self> {
        let files = lab.files();
        let settings = files.join("containerd.toml");
        fs::write(&settings, "version = 2\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n")?;
        let log = File::create(files.join("containerd.log"))?;
        let mut command = lab.command("containerd", Place::Outside)?;
        command.arg("--config").arg(&settings).arg("--address").arg(files.join("containerd.sock"));
        command.arg("--root").arg(files.join("containerd")).arg("--state").arg(files.join("containerd-state"));
        command.stdout(log.try_clone()?).stderr(log);
        let started = Self { lab, _daemon: Running::start_as_is(command)? };
        wait::until("containerd", bounds::PROGRAM, || Ok(started.ctr(&["version"])?.status.success().then_some(())))
            .with_context(|| fs::read_to_string(files.join("containerd.log")).unwrap_or_default())?;
        Ok(started)
    }

    /// The settings of an agent that asks this containerd and no other runtime.
    #[must_use]
    pub fn settings(&self) -> String {
        let socket = self.lab.files().join("containerd.sock");
        format!("[scopes]\ndocker = \"\"\npodman = \"\"\ncontainerd = \"{}\"\n", socket.display())
    }

    /// Its client.
    ///
    /// # Errors
    /// It cannot be started or does not end.
    pub fn ctr(&self, arguments: &[&str]) -> Result<Finished> {
        let mut command = self.lab.command("ctr", Place::Outside)?;
        command.arg("--address").arg(self.lab.files().join("containerd.sock")).args(arguments);
        process::run(command)
    }

    /// A container called `name` in the lab's own network namespace that runs `script`; with options of `ctr run`.
    ///
    /// # Errors
    /// It cannot be started or does not end.
    pub fn run(&self, name: &str, options: &[&str], script: &str) -> Result<Finished> {
        let root = root(self.lab)?;
        let place = self.lab.cgroup(Place::Outside);
        let parent = place.parent().and_then(Path::file_name).context("a lab without a name")?;
        let cgroup = format!("/{}/ctr/{name}", parent.to_string_lossy());
        let fifos = self.lab.files().join("fifos");
        let (root, fifos) = (root.to_string_lossy(), fifos.to_string_lossy());
        let fixed = ["run", "--rm", "--net-host", "--cgroup", &cgroup, "--fifo-dir", &fifos, "--rootfs"];
        self.ctr(&[&fixed[..], options, &[&root, name, "/bin/sh", "-c", script]].concat())
    }
}

impl Drop for Containerd<'_> {
    fn drop(&mut self) {
        forget(self.lab);
    }
}

/// Removes what runtimes have made for a lab in the hierarchies of cgroup version 1.
fn forget(lab: &Lab) {
    let place = lab.cgroup(Place::Outside);
    if let Some(name) = place.parent().and_then(Path::file_name) {
        sweep::other_cgroups(&name.to_string_lossy());
    }
}
