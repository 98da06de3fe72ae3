//! The table in `docs/trust-table.md`: every client, in every way, measured; written anew with `MOXIE_WRITE_TABLE=1`.

use std::fmt::Write;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use moxie_tests::Lab;
use moxie_tests::clients::{Kit, RUNTIMES, Runtime, took_429};
use moxie_tests::lab::{Place, Run, process};

use super::{MOCKED, PROGRAMS, host_with_agent, moxie, must, on_path, rule, service};

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

Debian's certifi is the system's bundle. One that pip installed is a file of its own: it is reached by the variables, so not in a running
container.
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

    // One container for all: starting it takes longer than the calls.
    let new = on_path(lab.origins(), agent.rest(), |_| {
        podman.run(&["--device", "moxie.dev/ca=all"], kit.directory(), &one_after_the_other(kit))
    })?;
    let new: Vec<&str> = new.stdout.split(NEXT).skip(1).collect();
    ensure!(new.len() == RUNTIMES.len(), "{new:?}");
    let mut rows = Vec::new();
    for (runtime, new) in RUNTIMES.iter().zip(new) {
        let call = runtime.call(kit.directory(), MOCKED);
        let [program, words @ ..] = call.as_slice() else { anyhow::bail!("no program") };
        let bare = on_path(lab.origins(), agent.rest(), |_| {
            let mut bare = lab.bare_command(program, Place::Inside)?;
            bare.args(words);
            process::run(bare)
        })?;
        ensure!(!took_429(&bare.stdout), "{} trusts Moxie as it is: {bare:?}", runtime.name);
        let run = on_path(lab.origins(), agent.rest(), |_| Run::of(moxie(&agent)?, &[], &call))?.finished;
        let running = on_path(lab.origins(), agent.rest(), |_| podman.exec("running", &call))?;
        let printed =
            [(&run.stdout, &run.stderr), (&new.to_owned(), &String::new()), (&running.stdout, &running.stderr)];
        rows.push(printed.map(|(out, err)| told(runtime, out, err)));
    }
    Ok(rows)
}

/// What a shell prints before each call.
const NEXT: &str = "--next--\n";

/// One shell that makes every client's call.
fn one_after_the_other(kit: &Kit) -> Vec<String> {
    let calls = RUNTIMES.iter().map(|runtime| runtime.call(kit.directory(), MOCKED).join("' '"));
    let lines = calls.map(|call| format!("printf %s '{NEXT}'; '{call}' 2>&1\n"));
    vec!["/bin/sh".into(), "-c".into(), lines.collect()]
}

fn told(runtime: &Runtime, out: &str, err: &str) -> bool {
    let took = took_429(out);
    if !took {
        // A test that passes does not show this.
        eprintln!("{} does not trust Moxie: {out}{err}", runtime.name);
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
    let rest = host.rest();
    let outcome = |name: &str| {
        on_path(host.origins(), &rest, |_| {
            // A client that does not trust fails, and so does its unit.
            host.run(&["systemctl", "start", name])?;
            let text = |end: &str| std::fs::read_to_string(host.path(&format!("/run/{name}.{end}")));
            Ok((text("out")?, text("err")?))
        })
    };
    let rows = RUNTIMES.iter().zip(&names).map(|(runtime, name)| {
        let (out, _) = outcome(name)?;
        ensure!(!took_429(&out), "{} trusts Moxie as it is: {out}", runtime.name);
        host.must(&["moxie", "ca", "install", "--unit", name])?;
        let (out, err) = outcome(name)?;
        Ok(told(runtime, &out, &err))
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
