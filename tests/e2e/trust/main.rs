//! Trust in the authority: real clients, started in each of the ways that Moxie prepares, and each way undone.

mod container;
mod host;
mod table;
mod unit;

use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use moxie_tests::clients::Kit;
use moxie_tests::lab::{Finished, Origins, agent, process};
use moxie_tests::systemd::{Host, Image};
use moxie_tests::{Agent, Rest, bounds, wait};
use serde_json::{Value, json};

/// What a rule answers by 429, once its certificate is trusted.
const MOCKED: &str = "https://api.customer.io/v1/activities";
/// What no rule names.
const OTHER: &str = "https://api.github.com/zen";
/// Where a booted host has the clients' programs.
const PROGRAMS: &str = "/opt/status";
/// The variables that the lab's programs are given, and a service is not.
const PRESET: [&str; 4] = ["SSL_CERT_FILE", "CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "NODE_EXTRA_CA_CERTS"];

fn rule() -> Value {
    json!({"method": "*", "url": "api.customer.io/.*", "status_code": 429})
}

/// A `moxie` command that talks to the agent, with nothing in its environment that names roots.
fn moxie(agent: &Agent<'_>) -> Result<Command> {
    let mut command = agent.moxie()?;
    for variable in PRESET {
        command.env_remove(variable);
    }
    Ok(command)
}

/// Runs it with these words; it has to succeed.
fn must(mut command: Command, words: &[&str]) -> Result<Finished> {
    command.args(words);
    let done = process::run(command)?;
    ensure!(done.status.success(), "{words:?}: {done:?}");
    Ok(done)
}

/// A booted host with the clients, an agent as a service and a rule. Services in `clients.slice` are opted in.
fn host_with_agent(kit: &Kit) -> Result<Host> {
    let host = Host::boot_from(Image::Runtimes)?;
    host.must(&["mkdir", PROGRAMS])?;
    for file in kit.files()? {
        let name = file.file_name().and_then(|name| name.to_str()).context("a program without a name")?;
        host.copy(&file, &format!("{PROGRAMS}/{name}"))?;
    }
    host.copy(&agent::program()?, "/usr/bin/moxie")?;
    host.unit(
        "moxie.service",
        "[Service]\nType=notify\nExecStart=/usr/bin/moxie agent\nEnvironment=MOXIE_ENVIRONMENT=test\n\
         StateDirectory=moxie\nRuntimeDirectory=moxie\n",
    )?;
    // A slice has a cgroup while something runs in it.
    host.unit("idle.service", "[Service]\nSlice=clients.slice\nExecStart=/bin/sleep infinity\n")?;
    host.must(&["systemctl", "start", "moxie.service", "idle.service"])?;
    let cgroup = format!("/sys/fs/cgroup{}", host.property("clients.slice", "ControlGroup")?);
    host.must(&["moxie", "scope", "add", "--cgroup", &cgroup])?;
    let reply = host.rest().post("/api/v1/rules", &rule())?;
    ensure!(reply.status == 201, "{reply:?}");
    Ok(host)
}

/// The words of a shell that lets every client's call be heard in `/run/NAME.out`, with what went wrong in `/run/NAME.err`.
fn service(name: &str, settings: &str, start: &str) -> String {
    format!(
        "[Service]\nSlice=clients.slice\nStandardOutput=truncate:/run/{name}.out\n\
         StandardError=truncate:/run/{name}.err\n{settings}ExecStart={start}\n"
    )
}

/// What a call to [`MOCKED`] comes to once it is on path. While a machine is too busy for the agent's heartbeat, connections go direct and
/// say nothing of trust: the stand-in has then seen the request, and the call is made again; `call` is told how often it was.
fn on_path<T>(origins: &Origins, rest: &Rest, mut call: impl FnMut(u32) -> Result<T>) -> Result<T> {
    for attempt in 0..20 {
        let before = origins.seen("api.customer.io").len();
        let done = call(attempt)?;
        if origins.seen("api.customer.io").len() == before {
            return Ok(done);
        }
        // A client that refused once is left alone, which is the other way past the agent.
        rest.call("DELETE", "/api/v1/refusals", &[], None)?;
    }
    bail!("this machine is too busy: the connections go direct")
}

/// What `moxie ca status` finds on the host, as (for whom, name, state).
fn installed(host: &Host) -> Result<Vec<(String, String, String)>> {
    states(&host.must(&["moxie", "ca", "status", "--json"])?)
}

fn states(printed: &str) -> Result<Vec<(String, String, String)>> {
    let listed: Value = serde_json::from_str(printed)?;
    let items = listed["items"].as_array().with_context(|| format!("no items in {printed}"))?;
    let text = |item: &Value, field: &str| item[field].as_str().unwrap_or_default().to_owned();
    Ok(items.iter().map(|item| (text(item, "target"), text(item, "name"), text(item, "state"))).collect())
}

/// The one thing that is listed, as `for whom NAME state`.
fn only(listed: Vec<(String, String, String)>) -> String {
    let all: Vec<String> = listed.into_iter().map(|(target, name, state)| format!("{target} {name} {state}")).collect();
    all.join("; ")
}

/// Waits until a file of the host has as many lines as calls were made, and gives them.
fn lines(host: &Host, file: &str, count: usize) -> Result<Vec<String>> {
    wait::until(&format!("{count} lines in {file}"), bounds::PROGRAM, || {
        let text = std::fs::read_to_string(host.path(file)).unwrap_or_default();
        let lines: Vec<String> = text.lines().map(str::to_owned).collect();
        Ok((lines.len() >= count).then_some(lines))
    })
}
