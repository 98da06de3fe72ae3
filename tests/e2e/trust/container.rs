//! `moxie ca install --container` and what `moxie ca env` prints for containers, with a real runtime.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use moxie_tests::clients::{Kit, Runtime};
use moxie_tests::lab::process;
use moxie_tests::podman::Podman;
use moxie_tests::{Agent, Lab};

use super::{MOCKED, OTHER, moxie, must, on_path, only, rule, states};

const SYSTEM: &str = "/etc/ssl/certs/ca-certificates.crt";
/// Where a container has roots of its own: the lab's authority and no other.
const OWN: &str = "/etc/own.pem";
const OWN_VARIABLE: &str = "--env=SSL_CERT_FILE=/etc/own.pem";

fn own(lab: &Lab) -> String {
    format!("--volume={}:{OWN}:ro", lab.trusted().display())
}

fn told_of(agent: &Agent<'_>, podman: &Podman<'_>) -> Result<Command> {
    let mut command = moxie(agent)?;
    command.envs(podman.variables().iter().map(|(name, value)| (name, value)));
    Ok(command)
}

#[test]
fn a_running_container_trusts_the_authority_until_it_is_restarted_or_it_is_undone() -> Result<()> {
    let kit = Kit::make()?;
    let lab = Lab::new()?;
    let agent = lab.agent()?;
    agent.opt_in()?;
    agent.rule(&rule())?;
    let podman = lab.podman()?;
    podman.start("web", &[&own(&lab), OWN_VARIABLE], kit.directory())?;
    let ca = |words: &[&str]| must(told_of(&agent, &podman)?, &[&["ca"], words].concat()).map(|done| done.stdout);
    let listed = || Ok::<_, anyhow::Error>(only(states(&ca(&["status", "--json"])?)?));
    let curl = Runtime::named("curl")?;
    let asked = |url: &str| {
        let call = |_| podman.exec("web", &curl.call(kit.directory(), url));
        let done = if url == MOCKED { on_path(lab.origins(), agent.rest(), call)? } else { call(0)? };
        Ok::<_, anyhow::Error>(done.stdout.trim().to_owned())
    };
    let read = |path: &str| podman.exec("web", &["cat".to_owned(), path.to_owned()]).map(|done| done.stdout);
    let (before, own_before) = (read(SYSTEM)?, read(OWN)?);
    assert_eq!((asked(MOCKED)?.as_str(), asked(OTHER)?.as_str()), ("000", "200"));

    let said = ca(&["install", "--container", "web"])?;
    ensure!(said.contains(SYSTEM) && said.contains("JAVA_TOOL_OPTIONS"), "{said}");
    assert_eq!((asked(MOCKED)?.as_str(), asked(OTHER)?.as_str()), ("429", "200"));
    assert_eq!(listed()?, "container web ok");
    let authority = ca(&["show"])?;
    assert_eq!(read(SYSTEM)?, before.clone() + &authority, "its own roots and the authority");
    assert_eq!(read(OWN)?, own_before.clone() + &authority);
    let write = ["sh", "-c", "echo >> /etc/ssl/certs/ca-certificates.crt"].map(str::to_owned);
    ensure!(!podman.exec("web", &write)?.status.success(), "root inside can write to a file of the host");
    ca(&["install", "--container", "web"])?;
    assert_eq!(read(SYSTEM)?, before.clone() + &authority, "once more is the same");

    podman.restart("web")?;
    assert_eq!((asked(MOCKED)?.as_str(), listed()?.as_str()), ("000", "container web gone"));
    ca(&["install", "--container", "web"])?;
    assert_eq!((asked(MOCKED)?.as_str(), listed()?.as_str()), ("429", "container web ok"));
    ca(&["uninstall", "--container", "web"])?;
    assert_eq!((asked(MOCKED)?.as_str(), asked(OTHER)?.as_str(), listed()?.as_str()), ("000", "200", ""));
    assert_eq!((read(SYSTEM)?, read(OWN)?), (before, own_before));
    let mounts = read("/proc/1/mountinfo")?;
    ensure!(!mounts.contains("no-agent/trust/"), "{mounts}");
    ensure!(!lab.files().join("no-agent/trust/containers").exists(), "files are left");
    Ok(())
}

#[test]
fn the_options_that_are_printed_make_a_container_that_trusts_the_authority() -> Result<()> {
    let kit = Kit::make()?;
    let lab = Lab::new()?;
    let agent = lab.agent()?;
    agent.opt_in()?;
    agent.rule(&rule())?;
    let podman = lab.podman()?;
    let options = |words: &[&str]| -> Result<Vec<String>> {
        let printed = must(told_of(&agent, &podman)?, &[&["ca", "env", "--docker"], words].concat())?.stdout;
        // A shell takes them apart.
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", &format!("printf '%s\\n' {printed}")]);
        Ok(process::run(shell)?.stdout.lines().map(str::to_owned).collect())
    };
    let asked = |options: &[String], client: &str, url: &str| {
        let options: Vec<&str> = options.iter().map(String::as_str).collect();
        let words = Runtime::named(client)?.call(kit.directory(), url);
        let call = |_| podman.run(&options, kit.directory(), &words);
        let done = if url == MOCKED { on_path(lab.origins(), agent.rest(), call)? } else { call(0)? };
        ensure!(!done.stdout.is_empty(), "{client}: {done:?}");
        Ok(done.stdout.trim().to_owned())
    };
    let any = options(&[])?;
    for client in ["curl", "Node", "Java 17"] {
        assert_eq!(asked(&any, client, MOCKED)?, "429", "{client}: {any:?}");
    }

    // Made of what one that runs has: its roots are those of the new one.
    podman.start("like", &[&own(&lab), OWN_VARIABLE, "--env=JAVA_TOOL_OPTIONS=-Da=b"], kit.directory())?;
    let like = options(&["--container", "like"])?;
    ensure!(like.iter().any(|word| word.starts_with("JAVA_TOOL_OPTIONS=-Da=b -Djavax")), "{like:?}");
    assert_eq!(asked(&like, "curl", OTHER)?, "200", "its own roots: {like:?}");
    assert_eq!(asked(&like, "curl", MOCKED)?, "429", "{like:?}");
    Ok(())
}

#[test]
fn where_there_is_nothing_to_ask_it_is_said() -> Result<()> {
    let lab = Lab::new()?;
    let agent = lab.agent()?;
    let refused = |words: &[&str]| {
        let mut command = moxie(&agent)?;
        command.env("PATH", "/nonexistent").arg("ca").args(words);
        let done = process::run(command)?;
        ensure!(done.code() == Some(1), "{words:?}: {done:?}");
        Ok(done.stderr)
    };
    let said = refused(&["install", "--container", "web"])?;
    ensure!(said.contains("none of docker, podman, nerdctl") && said.contains("moxie ca env --docker"), "{said}");
    if Path::new("/run/systemd").is_dir() {
        lab.small_disk(Path::new("/run/systemd"), 1 << 20)?;
    }
    let said = refused(&["install", "--unit", "pay"])?;
    ensure!(said.contains("systemd does not run here") && said.contains("moxie ca env"), "{said}");
    let specification = lab.files().join("moxie.json");
    std::fs::write(&specification, "{\"kind\": \"another.example/device\"}")?;
    let path = specification.display().to_string();
    let said = refused(&["install", "--cdi", &path])?;
    ensure!(said.contains("it stays"), "{said}");
    let kept = std::fs::read_to_string(&specification).context("it is gone")?;
    assert_eq!(kept, "{\"kind\": \"another.example/device\"}");
    Ok(())
}
