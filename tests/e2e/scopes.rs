//! Units, containers, labels and processes are opted in while they run, before they run, and each time they run again.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use moxie_tests::lab::{Place, agent, origins, process};
use moxie_tests::runtimes::{Containerd, Docker, IMAGE, Podman};
use moxie_tests::systemd::Host;
use moxie_tests::{Agent, Lab, Rest, bounds, wait};
use serde_json::{Value, json};

const PLAIN: &str = "http://plain.example/load";

/// An agent with a rule that always answers 429 for [`PLAIN`], and nobody opted in.
fn always_429(lab: &Lab) -> Result<Agent<'_>> {
    let agent = lab.agent()?;
    agent.rule(&json!({"url": "plain.example/load", "status_code": 429, "name": "busy"}))?;
    Ok(agent)
}

fn add(agent: &Agent<'_>, scope: &Value) -> Result<Value> {
    let reply = agent.rest().post("/api/v1/scopes", scope)?;
    ensure!(reply.status == 201, "{scope}: {reply:?}");
    reply.json()
}

fn await_matches(agent: &Agent<'_>, id: &Value, count: usize) -> Result<Value> {
    wait::until(&format!("{count} matches"), bounds::SOON, || {
        let scopes = agent.list("/api/v1/scopes")?;
        let scope = scopes.into_iter().find(|scope| scope["id"] == *id).context("the scope is gone")?;
        Ok((scope["matches"].as_array().map(Vec::len) == Some(count)).then_some(scope))
    })
}

/// A unit's cgroup as systemd makes and removes it: by hand, since tests have no systemd.
struct Unit {
    path: PathBuf,
}

impl Unit {
    fn start(lab: &Lab, path: &str) -> Result<Self> {
        let root = lab.cgroup(Place::Outside);
        let path = root.parent().context("no root")?.join(path);
        fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(Self { path })
    }

    /// What a process of this unit is answered at [`PLAIN`].
    fn call(&self, lab: &Lab) -> Result<String> {
        let script = format!(
            "echo 0 > {}/cgroup.procs && exec curl -s -o /dev/null -w '%{{http_code}}' {PLAIN}",
            self.path.display()
        );
        let mut shell = lab.command("sh", Place::Outside)?;
        shell.args(["-c", &script]);
        Ok(process::run(shell)?.stdout)
    }

    fn stop(self) -> Result<()> {
        wait::until("an empty cgroup", bounds::SOON, || Ok(fs::remove_dir(&self.path).is_ok().then_some(())))
    }
}

#[test]
fn a_unit_is_opted_in_by_name_before_it_starts_and_after_each_restart() -> Result<()> {
    let lab = Lab::new()?;
    let agent = always_429(&lab)?;
    let scope = add(&agent, &json!({"unit": "moxie-lab-shop"}))?;
    assert_eq!((&scope["unit"], &scope["path"]), (&json!("moxie-lab-shop.service"), &Value::Null));
    let mut inode = 0;
    for _ in 0..5 {
        let unit = Unit::start(&lab, "system.slice/moxie-lab-shop.service")?;
        let shown = await_matches(&agent, &scope["id"], 1)?;
        assert_eq!(shown["matches"][0]["unit"], "moxie-lab-shop.service");
        assert_eq!(Path::new(shown["path"].as_str().unwrap_or_default()), unit.path);
        assert_eq!(unit.call(&lab)?, "429");
        let before = std::mem::replace(&mut inode, ino(&unit.path)?);
        assert_ne!(before, inode, "a restart makes another directory");
        unit.stop()?;
        await_matches(&agent, &scope["id"], 0)?;
    }
    let record = agent.record("/api/v1/exchanges", |record| record["status"] == 429)?;
    let caller = &record["caller"];
    assert_eq!((&caller["unit"], &caller["comm"]), (&json!("moxie-lab-shop.service"), &json!("curl")));
    assert_eq!((&caller["scope"], &caller["container"]), (&scope["id"], &Value::Null));
    ensure!(agent.stop()?.success(), "the agent ended badly");
    Ok(())
}

fn ino(path: &Path) -> Result<u64> {
    use std::os::unix::fs::MetadataExt as _;
    Ok(fs::metadata(path)?.ino())
}

#[test]
fn a_slice_opts_in_its_units_and_nobody_else() -> Result<()> {
    let lab = Lab::new()?;
    let agent = always_429(&lab)?;
    let scope = add(&agent, &json!({"unit": "moxielab.slice"}))?;
    let inside = Unit::start(&lab, "moxielab.slice/moxielab-a.slice/a.service")?;
    let outside = Unit::start(&lab, "system.slice/a.service")?;
    await_matches(&agent, &scope["id"], 1)?;
    assert_eq!(inside.call(&lab)?, "429");
    assert_eq!(outside.call(&lab)?, "200");
    let path = format!("/api/v1/scopes/{}", agent::text(&scope, "id")?);
    assert_eq!(agent.rest().call("DELETE", &path, &[], None)?.status, 204);
    assert_eq!(inside.call(&lab)?, "200", "opted out");
    ensure!(agent.stop()?.success(), "the agent ended badly");
    Ok(())
}

#[test]
fn scopes_outlive_the_agent_also_those_that_match_nothing_yet() -> Result<()> {
    let lab = Lab::new()?;
    let state = lab.state_directory()?;
    let agent = lab.agent_in(&state)?;
    agent.rule(&json!({"url": "plain.example/load", "status_code": 429}))?;
    let sleeper = moxie_tests::lab::Running::start({
        let mut sleep = lab.command("sleep", Place::Outside)?;
        sleep.arg("1000");
        sleep
    })?;
    let asked = [
        json!({"unit": "moxie-lab-later"}),
        json!({"container": "no-such-container"}),
        json!({"label": "no.such=label", "mode": "observe", "refuse_quic": true}),
        json!({"pid": sleeper.id()}),
    ];
    for scope in &asked {
        add(&agent, scope)?;
    }
    let before = agent.list("/api/v1/scopes")?;
    ensure!(agent.stop()?.success(), "the agent ended badly");

    let agent = lab.agent_in(&state)?;
    let after = agent.list("/api/v1/scopes")?;
    assert_eq!(after.len(), 3, "a process is not restored: {after:?}");
    for (before, after) in before.iter().zip(&after) {
        for field in ["id", "unit", "container", "label", "mode", "refuse_quic", "path"] {
            assert_eq!(before[field], after[field], "{field}");
        }
    }
    let unit = Unit::start(&lab, "system.slice/moxie-lab-later.service")?;
    await_matches(&agent, &after[0]["id"], 1)?;
    assert_eq!(unit.call(&lab)?, "429");
    ensure!(agent.stop()?.success(), "the agent ended badly");
    Ok(())
}

#[test]
fn the_command_line_opts_in_by_unit_and_says_what_it_matches() -> Result<()> {
    let lab = Lab::new()?;
    let agent = always_429(&lab)?;
    let moxie = |words: &[&str]| {
        let mut command = agent.moxie()?;
        command.args(words);
        process::run(command)
    };
    let done = moxie(&["scope", "add", "--unit", "moxie-lab-cli", "--refuse-quic"])?;
    ensure!(done.code() == Some(0) && done.stdout.contains("is in: nothing now"), "{done:?}");
    let unit = Unit::start(&lab, "system.slice/moxie-lab-cli.service")?;
    let id = agent.list("/api/v1/scopes")?.remove(0)["id"].clone();
    let shown = await_matches(&agent, &id, 1)?;
    assert_eq!(shown["matches"][0]["refuse_quic"], true);
    let done = moxie(&["scope", "ls"])?;
    let line = done.stdout.lines().find(|line| line.contains("moxie-lab-cli")).context("not listed")?;
    ensure!(line.contains("unit moxie-lab-cli.service") && line.contains(&*unit.path.to_string_lossy()), "{done:?}");
    let refused = moxie(&["scope", "add", "--unit", "a.timer"])?;
    ensure!(refused.code() == Some(2) && refused.stderr.contains("no processes"), "{refused:?}");
    ensure!(agent.stop()?.success(), "the agent ended badly");
    Ok(())
}

/// An agent with `settings`, and with a rule that always answers 429 for what containers call: they have no names for hosts.
fn always_429_for<'lab>(lab: &'lab Lab, settings: &str) -> Result<(Agent<'lab>, String)> {
    let agent = lab.agent_with(settings)?;
    let address = origins::place("plain.example")?.address;
    agent.rule(&json!({"url": format!("{address}/load"), "status_code": 429, "name": "busy"}))?;
    let ask = format!("GET /load HTTP/1.1\\r\\nHost: {address}\\r\\nConnection: close\\r\\n\\r\\n");
    // A client that closes its half at once may find the stand-in gone before it answers.
    Ok((agent, format!("(echo -ne '{ask}'; sleep 0.3) | nc -w 5 {address} 80")))
}

/// The same from a client that is silent for so long that its destination is dialled first.
fn late(call: &str) -> String {
    call.replacen("(echo", "(sleep 0.2; echo", 1)
}

/// A container's whole life: its entrypoint's first act is one call, which has to be answered with `status`.
fn first_call(call: &str, options: &[&str], status: &str, docker: &Docker<'_>, agent: &Agent<'_>) -> Result<()> {
    let mut arguments = vec!["run", "--rm"];
    arguments.extend(options);
    arguments.extend([IMAGE, "sh", "-c", call]);
    let done = docker.run_watched(&arguments, agent)?;
    let answered = done.stdout.lines().find_map(|line| line.trim().strip_prefix("HTTP/1.1 "));
    ensure!(
        answered.is_some_and(|answered| answered.starts_with(status)),
        "not {status}: {done:?} with {options:?}\n{}",
        docker.evidence(agent)
    );
    Ok(())
}

#[test]
fn a_labelled_container_is_on_path_from_its_first_connect_on_every_network() -> Result<()> {
    let lab = Lab::new()?;
    let docker = Docker::start(&lab)?;
    let (agent, ask) = always_429_for(&lab, &docker.settings())?;
    docker.done(&["network", "create", "--internal", "--subnet", "192.0.2.0/24", "inside"])?;
    let mut calls = 0;
    for (network, starts) in [("host", 3), ("none", 5), ("inside", 20)] {
        for number in 0..starts {
            let name = format!("shop-{network}-{number}");
            let options = ["--network", network, "--name", &name, "--label", "moxie.intercept=true"];
            first_call(&ask, &options, "429", &docker, &agent)?;
            calls += 1;
        }
    }
    let records = agent.list("/api/v1/exchanges?limit=1000")?;
    assert_eq!(records.len(), calls, "each call came once");
    let caller = records[0]["caller"].clone();
    for network in ["inside", "none"] {
        let options = ["--network", network, "--label", "moxie.intercept=true"];
        // From the one its way to the destination ends in nothing, from the other it has none.
        first_call(&late(&ask), &options, "429", &docker, &agent)?;
    }
    assert_eq!((&caller["container"], &caller["image"]), (&json!("shop-inside-19"), &json!(IMAGE)));
    assert_eq!(caller["container_id"].as_str().map(str::len), Some(64));
    assert_eq!((&caller["comm"], &caller["scope"]), (&json!("nc"), &json!("configured-label")));
    for (names, status) in [("busy,other", "429"), ("other", "200"), ("", "200")] {
        let rules = format!("moxie.rules={names}");
        let options = ["--network", "host", "--label", "moxie.intercept=true", "--label", &rules];
        first_call(&ask, &options, status, &docker, &agent)?;
    }
    let of_one = agent.list("/api/v1/exchanges?container=shop-inside-3")?;
    assert_eq!(of_one.len(), 1, "{of_one:?}");
    let id = agent::text(&of_one[0]["caller"], "container_id")?;
    assert_eq!(agent.list(&format!("/api/v1/exchanges?container={}", &id[..12]))?, of_one);
    for options in [&["--network", "host"][..], &["--network", "host", "--label", "moxie.intercept=false"]] {
        // Nobody opted these in.
        first_call(&ask, options, "200", &docker, &agent)?;
    }
    ensure!(agent.stop()?.success(), "the agent ended badly");
    Ok(())
}

#[test]
fn containers_are_opted_in_by_name_id_and_label_while_they_run_and_by_name_before() -> Result<()> {
    let lab = Lab::new()?;
    let mut docker = Docker::start(&lab)?;
    let (agent, ask) = always_429_for(&lab, &docker.settings())?;
    let start = |name: &str| {
        let label = format!("team={name}-team");
        let options = ["run", "--detach", "--network", "host", "--name", name, "--label", &label];
        docker.done(&[&options[..], &[IMAGE, "sleep", "1000"]].concat())
    };
    let call = |docker: &Docker<'_>, name: &str| -> Result<bool> {
        let done = docker.run(&["exec", name, "sh", "-c", &ask])?;
        ensure!(done.stdout.contains("HTTP/1.1"), "{name}: {done:?}");
        Ok(done.stdout.contains("HTTP/1.1 429"))
    };
    let later = add(&agent, &json!({"container": "later"}))?;
    let (one, two) = (start("one")?, start("two")?);
    start("three")?;
    for name in ["one", "two", "three"] {
        ensure!(!call(&docker, name)?, "{name} is not opted in");
    }
    let by_name = add(&agent, &json!({"container": "one"}))?;
    assert_eq!(by_name["matches"][0]["container"]["id"], json!(one));
    let by_id = add(&agent, &json!({"container": two[..12]}))?;
    assert_eq!(by_id["matches"][0]["container"]["name"], "two");
    let by_label = add(&agent, &json!({"label": "team=three-team"}))?;
    assert_eq!(by_label["matches"][0]["container"]["name"], "three");
    start("later")?;
    for name in ["one", "two", "three", "later"] {
        ensure!(call(&docker, name)?, "{name} is opted in");
    }
    assert_eq!(await_matches(&agent, &later["id"], 1)?["problem"], Value::Null);
    docker.done(&["rename", "one", "other"])?;
    await_matches(&agent, &by_name["id"], 0)?;
    docker.done(&["rename", "other", "one"])?;
    await_matches(&agent, &by_name["id"], 1)?;
    docker.done(&["restart", "--time", "0", "one"])?;
    wait::until("the container to be in again", bounds::SOON, || Ok(call(&docker, "one")?.then_some(())))?;

    // The daemon goes and comes; its containers go on, and so do their scopes.
    let warnings = || Ok(agent.rest().get("/api/v1/status")?.json()?["warnings"].to_string());
    docker.down()?;
    wait::until("the agent to notice", bounds::SOON, || {
        let warnings: Result<String> = warnings();
        Ok(warnings?.contains("docker does not tell").then_some(()))
    })?;
    for words in [&["status"][..], &["scope", "ls"]] {
        let mut command = agent.moxie()?;
        command.args(words);
        let done = process::run(command)?;
        ensure!(done.stdout.contains("warning: docker does not tell"), "{words:?}: {done:?}");
    }
    assert_eq!(await_matches(&agent, &by_label["id"], 1)?["matches"][0]["container"]["name"], "three");
    docker.up()?;
    wait::until("the agent to notice", bounds::SOON, || {
        let warnings: Result<String> = warnings();
        Ok((warnings? == "[]").then_some(()))
    })?;
    ensure!(call(&docker, "three")?, "still opted in");
    docker.done(&["rm", "--force", "three"])?;
    await_matches(&agent, &by_label["id"], 0)?;
    ensure!(agent.stop()?.success(), "the agent ended badly");
    Ok(())
}

#[test]
fn podmans_containers_are_on_path_within_a_second_of_their_start() -> Result<()> {
    let lab = Lab::new()?;
    let podman = Podman::start(&lab)?;
    let (agent, ask) = always_429_for(&lab, &podman.settings())?;
    // Podman tells of a container when its log of events is read, which may be after its start.
    let ask = format!("sleep 1; {ask}");
    let labelled = "--label=moxie.intercept=true";
    wait::until("podman to be listened to", bounds::PROGRAM, || {
        Ok(podman.run(&["--rm", labelled], &ask)?.stdout.contains("HTTP/1.1 429").then_some(()))
    })
    .with_context(|| format!("{:?}", agent.rest().get("/api/v1/status")))?;
    for number in 0..5 {
        let done = podman.run(&[&format!("--name=pod-{number}"), labelled], &ask)?;
        ensure!(done.stdout.contains("HTTP/1.1 429"), "start {number}: {done:?}");
    }
    let caller =
        agent.record("/api/v1/exchanges", |record| record["caller"]["container"] == "pod-4")?["caller"].clone();
    assert_eq!(caller["container_id"].as_str().map(str::len), Some(64));
    add(&agent, &json!({"container": "named"}))?;
    let done = podman.run(&["--name=named"], &ask)?;
    ensure!(done.stdout.contains("HTTP/1.1 429"), "{done:?}");
    let done = podman.run(&["--name=unnamed"], &ask)?;
    ensure!(done.stdout.contains("HTTP/1.1 200"), "{done:?}");
    ensure!(agent.stop()?.success(), "the agent ended badly");
    Ok(())
}

#[test]
fn containerds_containers_are_on_path_from_their_first_connect() -> Result<()> {
    let lab = Lab::new()?;
    let containerd = Containerd::start(&lab)?;
    let (agent, ask) = always_429_for(&lab, &containerd.settings())?;
    for number in 0..10 {
        let name = format!("web-{number}");
        let done = containerd.run(&name, &["--label", "moxie.intercept=true"], &ask)?;
        ensure!(done.stdout.contains("HTTP/1.1 429"), "start {number}: {done:?}");
    }
    let caller = agent.record("/api/v1/exchanges", |record| record["status"] == 429)?["caller"].clone();
    assert_eq!((&caller["container"], &caller["container_id"]), (&json!("web-9"), &json!("web-9")));
    let labels = ["--label", "moxie.intercept=true", "--label", "moxie.rules=other"];
    let done = containerd.run("spared", &labels, &ask)?;
    ensure!(done.stdout.contains("HTTP/1.1 200"), "{done:?}");
    add(&agent, &json!({"container": "named"}))?;
    ensure!(containerd.run("named", &[], &ask)?.stdout.contains("HTTP/1.1 429"), "opted in by name");
    ensure!(containerd.run("unnamed", &[], &ask)?.stdout.contains("HTTP/1.1 200"), "not opted in");
    ensure!(agent.stop()?.success(), "the agent ended badly");
    Ok(())
}

/// An agent as a service of a real systemd, with a rule for [`PLAIN`].
fn agent_on(host: &Host) -> Result<Rest> {
    host.copy(&agent::program()?, "/usr/local/bin/moxie")?;
    let run = "ExecStart=/usr/local/bin/moxie agent --state-dir /var/lib/under-test";
    host.unit("under-test.service", &format!("[Service]\nType=notify\nEnvironment=MOXIE_ENVIRONMENT=test\n{run}\n"))?;
    host.must(&["systemctl", "start", "under-test.service"])?;
    let rest = Rest::unix(host.path("/var/lib/under-test/admin.sock"));
    let reply = rest.post("/api/v1/rules", &json!({"url": "plain.example/load", "status_code": 429}))?;
    ensure!(reply.status == 201, "{reply:?}");
    Ok(rest)
}

/// Why connections went direct, and what the agent has logged.
fn direct(host: &Host, rest: &Rest) -> Result<String> {
    let metrics = rest.get("/metrics")?.body;
    let counted = metrics.lines().filter(|line| line.starts_with("moxie_kernel") && !line.ends_with(" 0"));
    let logged = host.must(&["journalctl", "--no-pager", "--output=short-precise"])?;
    Ok(counted.chain([logged.as_str()]).collect::<Vec<_>>().join("\n"))
}

#[test]
fn a_real_systemds_units_are_on_path_from_their_first_connect_each_time_they_start() -> Result<()> {
    let host = Host::boot()?;
    let rest = agent_on(&host)?;
    let scope = |spec: Value| -> Result<Value> {
        let reply = rest.post("/api/v1/scopes", &spec)?;
        ensure!(reply.status == 201, "{spec}: {reply:?}");
        reply.json()
    };
    let call = format!("/usr/bin/curl -s -o /dev/null -w '%%{{http_code}} ' {PLAIN}");
    let service = |name: &str, settings: &str| {
        let run = format!("ExecStart=/bin/sh -c \"{call} >> /tmp/{name}.log\"");
        host.unit(&format!("{name}.service"), &format!("[Unit]\n{settings}\n[Service]\nType=oneshot\n{run}\n"))
    };
    let log = |name: &str| fs::read_to_string(host.path(&format!("/tmp/{name}.log"))).unwrap_or_default();

    let unknown = scope(json!({"unit": "nobody-knows"}))?;
    ensure!(unknown["problem"].to_string().contains("systemd knows no unit nobody-knows.service"), "{unknown}");
    service("shop", "")?;
    let shop = scope(json!({"unit": "shop"}))?;
    assert_eq!((&shop["problem"], &shop["path"]), (&Value::Null, &Value::Null));
    for _ in 0..20 {
        host.must(&["systemctl", "start", "shop.service"])?;
    }
    ensure!(
        log("shop") == "429 ".repeat(20),
        "each start's first connect is diverted, not {}: {}",
        log("shop"),
        direct(&host, &rest)?
    );

    service("other", "")?;
    host.must(&["systemctl", "start", "other.service"])?;
    assert_eq!(log("other"), "200 ", "nobody opted this one in");

    // A slice, and a unit that runs on under another of its names.
    host.unit("pay.slice", "[Slice]\n")?;
    let run = "ExecStart=/bin/sleep 1000\nSlice=pay.slice";
    host.unit("payd.service", &format!("[Service]\n{run}\n[Install]\nAlias=billing.service\n"))?;
    host.must(&["systemctl", "enable", "payd.service"])?;
    host.must(&["systemctl", "start", "payd.service"])?;
    let slice = scope(json!({"unit": "pay.slice"}))?;
    ensure!(slice["path"].to_string().contains("/pay.slice"), "{slice}");
    let alias = scope(json!({"unit": "billing.service"}))?;
    let first = alias["matches"][0]["unit"].clone();
    assert_eq!(first, "payd.service", "{alias}");
    host.must(&["systemctl", "restart", "payd.service"])?;
    wait::until("the alias to be in again", bounds::SOON, || {
        let all = rest.get("/api/v1/scopes")?.json()?;
        let scopes = all["items"].as_array().cloned().unwrap_or_default();
        let found = scopes.into_iter().find(|scope| scope["id"] == alias["id"]).context("gone")?;
        Ok((found["matches"][0]["unit"] == "payd.service").then_some(()))
    })?;

    // The agent's own slice would come back to the agent without end.
    let own = rest.post("/api/v1/scopes", &json!({"unit": "system.slice"}))?;
    assert_eq!((own.status, own.json()?["code"].clone()), (422, json!("scope_refused")), "{own:?}");
    Ok(())
}
