//! The real agent, as a process of the lab.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use super::{Lab, Place, process};
use crate::programs::{PYTHON, Session};
use crate::rest::{Reply, Rest};
use crate::{bounds, wait};

/// Where the lab's agents offer the admin API over TCP, inside the clients' namespace.
pub const ADMIN: &str = "127.0.0.1:8480";

/// The same for the second of two agents.
const ADMIN_BESIDE: &str = "127.0.0.1:8490";

/// What agents have unless they are told otherwise.
const HEARTBEAT: Duration = Duration::from_secs(1);

/// An agent that runs; stopped when dropped, and then its log is printed: who is not interested stops it.
#[derive(Debug)]
pub struct Agent<'lab> {
    lab: &'lab Lab,
    state: PathBuf,
    log: PathBuf,
    child: Child,
    /// The process that is the agent now; the child's, until an upgrade.
    pid: Pid,
    rest: Rest,
}

impl Lab {
    /// Starts an agent with an empty state directory and waits until it diverts.
    ///
    /// # Errors
    /// It does not get ready.
    pub fn agent(&self) -> Result<Agent<'_>> {
        self.agent_in(&self.state_directory()?)
    }

    /// A new directory that an agent can keep its state in.
    ///
    /// # Errors
    /// The file system's.
    pub fn state_directory(&self) -> Result<PathBuf> {
        let path = self.files().join("state");
        fs::create_dir_all(&path)?;
        Ok(path)
    }

    /// Ends come soon, though clients keep their connections.
    fn configuration(&self, settings: &str) -> Result<PathBuf> {
        let path = self.files().join("moxie.toml");
        // An agent that gets no processor for as long as this fails open, as it should; that is not what most tests are about.
        let heartbeat = format!("[divert]\nheartbeat = \"{}s\"\n", wait::patient(HEARTBEAT).as_secs());
        let settings = match settings.split_once("[divert]\n") {
            Some((_, after)) if after.contains("heartbeat = ") => settings.to_owned(),
            Some((before, after)) => format!("{before}{heartbeat}{after}"),
            None => format!("{settings}\n{heartbeat}"),
        };
        fs::write(&path, format!("[drain]\ntimeout = \"1s\"\n{settings}"))?;
        Ok(path)
    }

    /// Starts an agent on the state directory `state` and waits until it diverts.
    ///
    /// # Errors
    /// It does not get ready.
    pub fn agent_in(&self, state: &Path) -> Result<Agent<'_>> {
        self.agent_by(self.moxie()?, state, "")
    }

    /// Like [`Lab::agent`], with `settings` at the end of its configuration file.
    ///
    /// # Errors
    /// It does not get ready.
    pub fn agent_with(&self, settings: &str) -> Result<Agent<'_>> {
        self.agent_by(self.moxie()?, &self.state_directory()?, settings)
    }

    /// Like [`Lab::agent`], beside an agent that there is, with everything of its own.
    ///
    /// # Errors
    /// It does not get ready.
    pub fn agent_beside(&self) -> Result<Agent<'_>> {
        let state = self.files().join("beside");
        fs::create_dir_all(&state)?;
        self.start(self.moxie()?, ADMIN_BESIDE, &state, "")
    }

    /// Like [`Lab::agent_in`], with `command` to become the agent once it is given its arguments.
    ///
    /// # Errors
    /// It does not get ready.
    pub fn agent_by(&self, command: Command, state: &Path, settings: &str) -> Result<Agent<'_>> {
        self.start(command, ADMIN, state, settings)
    }

    fn start(&self, mut command: Command, admin: &str, state: &Path, settings: &str) -> Result<Agent<'_>> {
        let log = self.files().join("agent.log");
        let output = File::options().create(true).append(true).open(&log)?;
        command
            .args(["agent", "--admin", admin, "--config"])
            .arg(self.configuration(settings)?)
            .arg("--state-dir")
            .arg(state)
            .arg("--upstream-ca")
            .arg(self.trusted())
            .env("MOXIE_ENVIRONMENT", "test")
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output);
        let child = process::spawn(&mut command)?;
        let pid = process::pid(&child)?;
        let rest = rest_of(pid, state)?;
        let mut agent = Agent { lab: self, state: state.to_path_buf(), log, child, pid, rest };
        agent.await_ready()?;
        Ok(agent)
    }
}

/// The socket is reached through the process, which may see mounts that this one does not.
fn rest_of(pid: Pid, state: &Path) -> Result<Rest> {
    let socket = PathBuf::from(format!("/proc/{pid}/root")).join(state.join("admin.sock").strip_prefix("/")?);
    Ok(Rest::unix(socket))
}

impl Agent<'_> {
    /// Has the agent hand over to the program that is now in its place, and waits until that is the agent.
    ///
    /// # Errors
    /// It does not become it.
    pub fn upgrade(&mut self) -> Result<()> {
        let old = self.pid;
        self.signal(Signal::SIGHUP)?;
        let new = wait::until("the new agent to answer", bounds::PROGRAM, || {
            let Ok(reply) = self.rest.get("/api/v1/status") else { return Ok(None) };
            let status = reply.json()?;
            let pid = status["pid"].as_i64().and_then(|pid| i32::try_from(pid).ok()).map(Pid::from_raw);
            Ok(pid.filter(|pid| *pid != old && status["ready"] == true))
        });
        let new = new.with_context(|| self.logged())?;
        self.pid = new;
        self.rest = rest_of(new, &self.state)?;
        Ok(())
    }

    /// The process that is the agent now.
    #[must_use]
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// Whether it has ended.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        is_gone(self.pid)
    }

    /// What it has logged so far.
    #[must_use]
    pub fn logged(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Where it logs to.
    #[must_use]
    pub fn log_file(&self) -> PathBuf {
        self.log.clone()
    }

    fn await_ready(&mut self) -> Result<()> {
        wait::until("the agent to be ready", bounds::SOON, || {
            if let Some(status) = self.child.try_wait()? {
                bail!("the agent ended with {status}");
            }
            let Ok(reply) = self.rest.get("/api/v1/status") else { return Ok(None) };
            // Not /readyz: an agent with a store in trouble diverts too.
            let starting = reply.json()?["reasons"].to_string().contains("starting");
            Ok((reply.status == 200 && !starting).then_some(()))
        })
    }

    /// Its admin API over the unix socket.
    #[must_use]
    pub fn rest(&self) -> &Rest {
        &self.rest
    }

    /// Its admin API over TCP, without a token.
    ///
    /// # Errors
    /// Never here; dialling fails later.
    pub fn tcp(&self) -> Rest {
        Rest::tcp(ADMIN)
    }

    /// Asks over TCP from inside the clients' namespace.
    ///
    /// # Errors
    /// It does not answer.
    pub fn ask_tcp(&self, method: &str, path: &str, headers: &[(&str, &str)], body: Option<&Value>) -> Result<Reply> {
        self.tcp().over(self.lab.dial(ADMIN)?, method, path, headers, body)
    }

    /// The token that TCP wants.
    ///
    /// # Errors
    /// There is no such file.
    pub fn token(&self) -> Result<String> {
        Ok(fs::read_to_string(self.visible("admin.token"))?.trim().to_owned())
    }

    /// Path to a file of its state directory, for this process.
    #[must_use]
    pub fn visible(&self, file: &str) -> PathBuf {
        let inside = self.state.join(file);
        let relative = inside.strip_prefix("/").unwrap_or(&inside);
        PathBuf::from(format!("/proc/{}/root", self.pid)).join(relative)
    }

    /// What a `moxie` command is to find this agent by.
    #[must_use]
    pub fn url(&self) -> String {
        format!("unix:{}", self.state.join("admin.sock").display())
    }

    /// Opts the lab's [`Place::Inside`] in, in mode `observe`: everything comes, whatever rules there are.
    ///
    /// # Errors
    /// The agent refused.
    pub fn opt_in(&self) -> Result<String> {
        self.opt_in_as("observe")
    }

    /// Opts the lab's [`Place::Inside`] in.
    ///
    /// # Errors
    /// The agent refused.
    pub fn opt_in_as(&self, mode: &str) -> Result<String> {
        let cgroup = self.lab.cgroup(Place::Inside);
        let reply = self.rest.post("/api/v1/scopes", &json!({"cgroup": cgroup, "mode": mode}))?;
        ensure!(reply.status == 201 || reply.status == 200, "opting in: {reply:?}");
        text(&reply.json()?, "id")
    }

    /// Stores a rule and gives its id.
    ///
    /// # Errors
    /// The agent refused it.
    pub fn rule(&self, rule: &Value) -> Result<String> {
        let reply = self.rest.post("/api/v1/rules", rule)?;
        ensure!(reply.status == 201, "storing {rule}: {reply:?}");
        text(&reply.json()?, "id")
    }

    /// Changes a rule.
    ///
    /// # Errors
    /// The agent refused.
    pub fn patch(&self, rule: &str, change: &Value) -> Result<Value> {
        let reply = self.rest.call("PATCH", &format!("/api/v1/rules/{rule}"), &[], Some(change))?;
        ensure!(reply.status == 200, "changing {rule} by {change}: {reply:?}");
        reply.json()
    }

    /// A rule as it is now.
    ///
    /// # Errors
    /// There is none.
    pub fn show(&self, rule: &str) -> Result<Value> {
        let reply = self.rest.get(&format!("/api/v1/rules/{rule}"))?;
        ensure!(reply.status == 200, "{rule}: {reply:?}");
        reply.json()
    }

    /// A listing's items, newest first where the API says so.
    ///
    /// # Errors
    /// The agent refused.
    pub fn list(&self, path: &str) -> Result<Vec<Value>> {
        let reply = self.rest.get(path)?;
        ensure!(reply.status == 200, "{path}: {reply:?}");
        let items = reply.json()?.get("items").and_then(Value::as_array).cloned();
        items.with_context(|| format!("{path} is not a list: {reply:?}"))
    }

    /// Waits for a record of `path` that `wanted` accepts; records may follow the traffic by a moment.
    ///
    /// # Errors
    /// None came.
    pub fn record(&self, path: &str, wanted: impl Fn(&Value) -> bool) -> Result<Value> {
        wait::until(&format!("a record of {path}"), bounds::SOON, || Ok(self.list(path)?.into_iter().find(&wanted)))
            .with_context(|| format!("there are {:?}", self.list(path)))
    }

    /// A bundle with the lab's authority and this agent's, for a client that trusts both.
    ///
    /// # Errors
    /// The agent does not give its certificate.
    pub fn bundle(&self) -> Result<PathBuf> {
        let reply = self.rest.get("/api/v1/ca.pem")?;
        ensure!(reply.status == 200, "the authority: {reply:?}");
        let path = self.lab.files().join("bundle.pem");
        fs::write(&path, fs::read_to_string(self.lab.trusted())? + &reply.body)?;
        Ok(path)
    }

    /// A client program in the opted-in place that trusts the lab's authority and this agent's.
    ///
    /// # Errors
    /// The place or the authority cannot be had.
    pub fn client(&self, program: &str) -> Result<Command> {
        let mut command = self.lab.command(program, Place::Inside)?;
        super::trust(&mut command, &self.bundle()?);
        Ok(command)
    }

    /// A `moxie` command that talks to this agent.
    ///
    /// # Errors
    /// It was not built.
    pub fn moxie(&self) -> Result<Command> {
        let mut command = self.lab.moxie()?;
        command.env("MOXIE_URL", self.url());
        Ok(command)
    }

    /// A client session in the opted-in place that trusts the lab's authority and this agent's.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn session(&self) -> Result<Session> {
        Session::start(self.client(PYTHON)?, "session.py", &[])
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// It is gone.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        Ok(kill(self.pid, signal)?)
    }

    /// Kills it and waits until it is gone.
    ///
    /// # Errors
    /// It cannot be killed.
    pub fn kill(mut self) -> Result<()> {
        self.signal(Signal::SIGKILL)?;
        if process::pid(&self.child)? == self.pid {
            self.child.wait()?;
        }
        wait::until("the agent to be gone", bounds::SOON, || Ok(is_gone(self.pid).then_some(())))
    }

    /// Asks it to end and waits.
    ///
    /// # Errors
    /// It does not end.
    pub fn stop(mut self) -> Result<ExitStatus> {
        self.signal(Signal::SIGTERM)?;
        wait::until("the agent to end", bounds::SOON, || Ok(self.child.try_wait()?))
    }
}

impl Drop for Agent<'_> {
    fn drop(&mut self) {
        if process::pid(&self.child).is_ok_and(|pid| pid != self.pid) {
            self.end_successor();
        } else if matches!(self.child.try_wait(), Ok(None)) {
            // A test that passes does not show this.
            eprintln!("--- the agent's log:\n{}---", fs::read_to_string(&self.log).unwrap_or_default());
            // It may be stopped by a signal; killing works then too.
            let _ = self.signal(Signal::SIGCONT);
            let _ = self.signal(Signal::SIGTERM);
            let ended = wait::until("the agent to end", bounds::SOON, || Ok(self.child.try_wait()?));
            if ended.is_err() {
                let _ = self.child.kill();
                let _ = self.child.wait();
            }
        }
    }
}

impl Agent<'_> {
    /// It is no child of this process; the first agent may still be there for its connections.
    fn end_successor(&mut self) {
        if is_gone(self.pid) {
            return;
        }
        // A test that passes does not show this.
        eprintln!("--- the agents' log:\n{}---", self.logged());
        let _ = self.signal(Signal::SIGTERM);
        let _ = self.child.kill();
        let _ = self.child.wait();
        if wait::until("the agent to end", bounds::SOON, || Ok(is_gone(self.pid).then_some(()))).is_err() {
            let _ = self.signal(Signal::SIGKILL);
        }
    }
}

/// Whether a process has ended, even if nobody has waited for it yet: its last thread too, with which its files go.
fn is_gone(pid: Pid) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"));
    let is_over = |stat: String| stat.rsplit_once(") ").is_some_and(|(_, fields)| fields.starts_with('Z'));
    // The first thread may be over before the others.
    let is_last = || fs::read_dir(format!("/proc/{pid}/task")).map_or(true, |threads| threads.count() <= 1);
    stat.map_or(true, is_over) && is_last()
}

/// A text field of an object.
///
/// # Errors
/// It is missing or no text.
pub fn text(object: &Value, field: &str) -> Result<String> {
    object.get(field).and_then(Value::as_str).map(str::to_owned).with_context(|| format!("no {field} in {object}"))
}

/// The `moxie` program: `MOXIE_BIN`, else the one that was built beside this test.
///
/// # Errors
/// It was not built.
pub fn program() -> Result<PathBuf> {
    if let Some(given) = std::env::var_os("MOXIE_BIN") {
        return fs::canonicalize(&given).with_context(|| format!("MOXIE_BIN={}", given.to_string_lossy()));
    }
    let own = std::env::current_exe()?;
    let built = own.ancestors().skip(1).map(|directory| directory.join("moxie")).find(|path| path.is_file());
    built.context("there is no moxie program; build it: cargo build -p moxie-agent")
}
