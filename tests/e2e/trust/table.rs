//! The table in `docs/trust-table.md`: every client, in every way, measured; written anew with `MOXIE_WRITE_TABLE=1`.

use std::fmt::Write;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use moxie_tests::Lab;
use moxie_tests::lab::{Place, Run, process};
use moxie_tests::runtimes::{Kit, RUNTIMES, Runtime, took_429};

use super::{MOCKED, PROGRAMS, host_with_agent, moxie, must, rule, service};

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/trust-table.md");
/// The ways, in the order of the columns.
const WAYS: [&str; 4] = ["`moxie run`", "unit", "new container", "running container"];
const RUNNING: usize = 3;

const HEAD: &str = "# Who trusts Moxie's certificates

Measured: `cargo test -p moxie-tests --test trust` runs every client with an empty environment, first as it is (none trusts Moxie), then
in each way, against a rule that answers 429. It fails where this page says something else, and writes it anew with
`MOXIE_WRITE_TABLE=1`. How each way works: [trust](guide/trust.md).

- `moxie run`: `moxie run -- CLIENT`.
- unit: `moxie ca install --unit NAME` on a booted systemd, then a start.
- new container: `moxie ca install --cdi`, then `podman run --device moxie.dev/ca=all`.
- running container: `moxie ca install --container NAME`, then a new process in it.

";
const TAIL: &str = "
.NET is not measured: Debian does not package it. It documents `SSL_CERT_FILE`, which the first three ways set.
";

#[test]
fn the_table_in_the_docs_is_what_clients_do() -> Result<()> {
    let kit = Kit::make()?;
    let in_lab = in_lab(&kit)?;
    let by_unit = by_unit(&kit)?;
    let rows = RUNTIMES.iter().zip(in_lab).zip(by_unit);
    let table = rows.map(|((runtime, [run, new, running]), unit)| (runtime, [run, unit, new, running]));
    let measured = render(&table.collect::<Vec<_>>())?;
    if std::env::var_os("MOXIE_WRITE_TABLE").is_some() {
        std::fs::write(FILE, &measured)?;
    }
    let told = std::fs::read_to_string(FILE).unwrap_or_default();
    ensure!(
        told == measured,
        "docs/trust-table.md says:\n{told}\nMOXIE_WRITE_TABLE=1 writes what was measured:\n{measured}"
    );
    Ok(())
}

/// By `moxie run`, in a new container, in a running one.
fn in_lab(kit: &Kit) -> Result<Vec<[bool; 3]>> {
    let lab = Lab::new()?;
    let agent = lab.agent()?;
    agent.opt_in()?;
    agent.rule(&rule())?;
    let podman = lab.podman()?;
    must(moxie(&agent)?, &["ca", "install", "--cdi"])?;
    podman.start("running", &[], kit.directory())?;
    let mut install = moxie(&agent)?;
    install.envs(podman.variables().iter().map(|(name, value)| (name, value)));
    must(install, &["ca", "install", "--container", "running"])?;

    let mut rows = Vec::new();
    for runtime in RUNTIMES {
        let call = runtime.call(kit.directory(), MOCKED);
        let [program, words @ ..] = call.as_slice() else { anyhow::bail!("no program") };
        let mut bare = lab.bare_command(program, Place::Inside)?;
        bare.args(words);
        let bare = process::run(bare)?;
        ensure!(!took_429(&bare), "{} trusts Moxie as it is: {bare:?}", runtime.name);
        let run = Run::of(moxie(&agent)?, &["--rule", "* api.customer.io/.* -> 429"], &call)?.finished;
        let new = podman.run(&["--device", "moxie.dev/ca=all"], kit.directory(), &call)?;
        let running = podman.exec("running", &call)?;
        rows.push([run, new, running].map(|done| told(runtime, &done)));
    }
    Ok(rows)
}

fn told(runtime: &Runtime, done: &process::Finished) -> bool {
    let took = took_429(done);
    if !took {
        // A test that passes does not show this.
        eprintln!("{} does not trust Moxie: {done:?}", runtime.name);
    }
    took
}

/// As units of a booted systemd.
fn by_unit(kit: &Kit) -> Result<Vec<bool>> {
    let host = host_with_agent(kit)?;
    let names: Vec<String> = (0..RUNTIMES.len()).map(|number| format!("client-{number}")).collect();
    for (runtime, name) in RUNTIMES.iter().zip(&names) {
        let start = runtime.call(Path::new(PROGRAMS), MOCKED).join(" ");
        // The first word has to be a path.
        let start = if start.starts_with('/') { start } else { format!("/usr/bin/{start}") };
        host.unit(&format!("{name}.service"), &service(name, "Type=oneshot\n", &start))?;
    }
    let start: Vec<&str> = ["systemctl", "start"].into_iter().chain(names.iter().map(String::as_str)).collect();
    let outcome = |name: &String| {
        let text = |end: &str| std::fs::read_to_string(host.path(&format!("/run/{name}.{end}")));
        anyhow::Ok((text("out")?, text("err")?))
    };
    // Clients that do not trust fail, and so do their units.
    host.run(&start)?;
    for (runtime, name) in RUNTIMES.iter().zip(&names) {
        let (out, _) = outcome(name)?;
        ensure!(!out.contains("429"), "{} trusts Moxie as it is: {out}", runtime.name);
    }
    for name in &names {
        host.must(&["moxie", "ca", "install", "--unit", name])?;
    }
    host.run(&start)?;
    let rows = RUNTIMES.iter().zip(&names).map(|(runtime, name)| {
        let (out, err) = outcome(name)?;
        if !out.contains("429") {
            eprintln!("{} as a unit does not trust Moxie: {out}{err}", runtime.name);
        }
        Ok(out.contains("429"))
    });
    rows.collect()
}

/// Why a client cannot be reached in a way.
fn reason(runtime: &Runtime, way: usize) -> Option<&'static str> {
    match (runtime.name, way) {
        ("Go with a pool of its own" | "Node that hands `ca` over" | "curl with `--cacert`", _) => Some(
            "The program brings its own roots; no setting of the process reaches them. Rules can act on the connection only.",
        ),
        ("Node", RUNNING) => Some(
            "Its roots are compiled in, and the variable that adds to them is read at start: make the container anew with the variables.",
        ),
        ("Java 17", RUNNING) => Some(
            "It reads a key store, no PEM, and the variable that names another is read at start: make the container anew with it.",
        ),
        _ => None,
    }
}

fn render(rows: &[(&Runtime, [bool; 4])]) -> Result<String> {
    let mut notes: Vec<&str> = Vec::new();
    let mut text = format!("{HEAD}| client | finds its roots in | {} |\n|---|---|---|---|---|---|\n", WAYS.join(" | "));
    for (runtime, ways) in rows {
        let mut cells = Vec::new();
        for (way, trusted) in ways.iter().enumerate() {
            let why = reason(runtime, way);
            let told = || format!("{} by {}", runtime.name, WAYS[way]);
            cells.push(match (trusted, why) {
                (true, None) => "yes".to_owned(),
                (false, Some(why)) => {
                    let number = notes.iter().position(|note| *note == why).unwrap_or_else(|| {
                        notes.push(why);
                        notes.len() - 1
                    });
                    format!("cannot ({})", number + 1)
                }
                (true, Some(why)) => anyhow::bail!("{} does trust Moxie, though: {why}", told()),
                (false, None) => anyhow::bail!("{} does not trust Moxie, and nobody knows why", told()),
            });
        }
        writeln!(text, "| {} | {} | {} |", runtime.name, runtime.roots, cells.join(" | ")).context("no text")?;
    }
    text.push('\n');
    for (number, note) in notes.iter().enumerate() {
        writeln!(text, "{}. {note}", number + 1).context("no text")?;
    }
    Ok(text + TAIL)
}
