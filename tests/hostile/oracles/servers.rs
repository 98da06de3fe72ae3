//! Starting the servers, and reading what they say.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};
use moxie_tests::{bounds, wait};
use serde_json::Value;
use tempfile::TempDir;

use super::super::view::{self, Body, Seen};
use super::{Replied, drive, hyper};

const PROGRAMS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/hostile/oracles");

/// One server that takes connections.
pub(super) struct Server {
    name: &'static str,
    address: SocketAddr,
    says: Says,
}

enum Says {
    /// A program with its directory, where `said.log` grows; more than one program where one stands behind the other.
    InFile {
        directory: TempDir,
        _programs: Vec<Program>,
    },
    InMemory(hyper::Said),
}

/// Ends with its owner.
struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// All servers.
pub(super) async fn start() -> Result<Vec<Server>> {
    let (address, said) = hyper::start().await?;
    let program = |name: &str| format!("{PROGRAMS}/{name}");
    Ok(vec![
        nginx()?,
        haproxy()?,
        Server::start("node", "nodejs", |directory, port| {
            said_by(command("node", &[&program("node.mjs"), port]), directory)
        })?,
        Server::start("go", "golang-go", |directory, port| {
            let built = directory.join("server");
            let mut build = command("go", &["build", "-o", built.to_str().context("odd path")?, &program("main.go")]);
            build.env("GOCACHE", directory.join("cache")).env("HOME", directory).env("GO111MODULE", "off");
            ensure!(
                build.status().context("go cannot be run; cargo xtask setup installs it")?.success(),
                "go build failed"
            );
            said_by(command(built.to_str().context("odd path")?, &[port]), directory)
        })?,
        Server::start("h11", "python3-h11", |directory, port| {
            said_by(command("/usr/bin/python3", &[&program("h11_server.py"), port]), directory)
        })?,
        Server { name: "hyper", address, says: Says::InMemory(said) },
    ])
}

fn nginx() -> Result<Server> {
    Server::start("nginx", "nginx-light", |directory, port| {
        configured("nginx.conf", directory, port, directory.join("behind").to_str().context("odd path")?)?;
        let mut nginx = Command::new("nginx");
        nginx.arg("-p").arg(directory).args(["-e", "stderr", "-c"]).arg(directory.join("nginx.conf"));
        nginx.stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(directory.join("stderr"))?);
        Ok(vec![nginx])
    })
}

fn haproxy() -> Result<Server> {
    Server::start("haproxy", "haproxy", |directory, port| {
        let behind = free_port()?.to_string();
        configured("haproxy.cfg", directory, port, &behind)?;
        let recorder = said_by(command("/usr/bin/python3", &[&format!("{PROGRAMS}/recorder.py"), &behind]), directory)?;
        let mut haproxy = Command::new("haproxy");
        haproxy.arg("-f").arg(directory.join("haproxy.cfg")).stdin(Stdio::null());
        haproxy.stdout(Stdio::null()).stderr(File::create(directory.join("stderr"))?);
        Ok(recorder.into_iter().chain([haproxy]).collect())
    })
}

/// Puts a configuration into `directory` with its addresses filled in.
fn configured(file: &str, directory: &Path, port: &str, behind: &str) -> Result<()> {
    let text = fs::read_to_string(Path::new(PROGRAMS).join(file))?;
    Ok(fs::write(directory.join(file), text.replace("PORT", port).replace("BEHIND", behind))?)
}

/// A program without this shell's environment.
pub(crate) fn command(program: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(arguments).env_clear().env("PATH", "/usr/bin:/bin:/usr/sbin:/sbin").stdin(Stdio::null());
    command
}

/// A program that says on its standard output what it sees.
fn said_by(mut command: Command, directory: &Path) -> Result<Vec<Command>> {
    command.stdout(File::create(directory.join("said.log"))?).stderr(File::create(directory.join("stderr"))?);
    Ok(vec![command])
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

impl Server {
    fn start(
        name: &'static str,
        package: &str,
        programs: impl FnOnce(&Path, &str) -> Result<Vec<Command>>,
    ) -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let port = free_port()?;
        let commands = programs(directory.path(), &port.to_string())?;
        let hint = || format!("{name} cannot be run; Debian's package {package} has it (cargo xtask setup)");
        let started = commands.into_iter().map(|mut command| Ok(Program(command.spawn().with_context(hint)?)));
        let programs = started.collect::<Result<_>>()?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        wait::until(&format!("{name} to listen"), bounds::PROGRAM, || Ok(listens(port)?.then_some(())))
            .with_context(|| fs::read_to_string(directory.path().join("stderr")).unwrap_or_default())?;
        Ok(Self { name, address, says: Says::InFile { directory, _programs: programs } })
    }

    pub(super) fn name(&self) -> &'static str {
        self.name
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it saw of each case.
    pub(super) fn said(&self, replies: &[Replied]) -> Result<Vec<Vec<Seen>>> {
        wait::until(&format!("{} to say what it saw", self.name), bounds::SOON, || {
            let said = self.so_far()?;
            let by_case: Vec<Vec<Seen>> = (0..replies.len())
                .map(|case| {
                    let source = drive::source(case).to_string();
                    said.iter().filter(|(from, _)| *from == source).map(|(_, seen)| seen.clone()).collect()
                })
                .collect();
            // nginx says it after its answer, the others before.
            let mut pairs = by_case.iter().zip(replies);
            let complete = self.name != "nginx" || pairs.all(|(said, reply)| said.len() >= reply.answered);
            Ok(complete.then_some(by_case))
        })
    }

    fn so_far(&self) -> Result<Vec<(String, Seen)>> {
        match &self.says {
            Says::InMemory(said) => Ok(said.lock().unwrap().clone()),
            Says::InFile { directory, .. } => {
                let said = fs::read(directory.path().join("said.log"))?;
                // nginx writes bytes as they came; the others take each for a character and write that.
                let text = if self.name == "nginx" { view::letters(&said) } else { String::from_utf8(said)? };
                let text = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
                text.lines().filter_map(|line| seen(line).transpose()).collect()
            }
        }
    }
}

/// A request that was said; none for one that nginx refused.
fn seen(line: &str) -> Result<Option<(String, Seen)>> {
    let said: Value = serde_json::from_str(line).with_context(|| format!("no JSON: {line}"))?;
    let text = |field: &str| said[field].as_str().unwrap_or_default().to_owned();
    if said["status"].as_str().is_some_and(|status| !status.starts_with('2')) {
        return Ok(None);
    }
    let seen = Seen {
        method: text("method"),
        target: Seen::path_of(&text("target")),
        host: text("host"),
        body: Body::Whole(text("body")),
    };
    Ok(Some((text("case"), seen)))
}

/// Whether someone listens on a loopback port, without a connection that the server would have to make something of.
fn listens(port: u16) -> Result<bool> {
    let wanted = format!("0100007F:{port:04X}");
    let is_it = |line: &str| {
        let mut words = line.split_whitespace().skip(1);
        words.next() == Some(&wanted) && words.nth(1) == Some("0A")
    };
    Ok(fs::read_to_string("/proc/net/tcp")?.lines().any(is_it))
}
