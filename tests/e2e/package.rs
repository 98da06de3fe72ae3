//! The package on a booted systemd: installed, at work for a unit, upgraded under calls, hung, removed, purged.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use moxie_agent::paths::CAPABILITIES;
use moxie_tests::lab::{Running, agent, process};
use moxie_tests::programs::script;
use moxie_tests::systemd::Host;
use moxie_tests::{bounds, wait};
use serde_json::{Value, json};

const UNIT: &str = "moxie.service";
const SERVICE: &str = "payments.service";
const URL: &str = "https://api.customer.io/v1/activities";
/// What the service has met, one line a call.
const LOG: &str = "/root/payments.log";
/// systemd's bound for a hung agent, and the restart after it.
const WATCHDOG: Duration = Duration::from_secs(40);

#[test]
fn a_host_boots_and_reaches_the_stand_ins_and_nothing_else() -> Result<()> {
    let host = Host::boot()?;
    let answer = host.must(&["curl", "--silent", "--show-error", URL])?;
    assert!(answer.contains("api.customer.io"), "{answer}");
    assert_eq!(host.origins().seen("api.customer.io").len(), 1);
    assert_eq!(host.must(&["ip", "route", "show", "default"])?, "");
    Ok(())
}

#[test]
fn the_package_from_its_installation_to_its_purge() -> Result<()> {
    let (first, second) = (package("0.1.0-1")?, package("0.1.0-2")?);
    let host = Host::boot()?;
    let before = Traces::now(&host)?;

    install(&host, &first)?;
    starts_only_where_the_environment_is_named(&host)?;
    has_the_capabilities_of_the_table_and_no_others(&host)?;

    start_service(&host)?;
    opt_in(&host)?;
    let rule = rule(&host)?;
    meets_the_rule(&host, &rule)?;
    host.must(&["systemctl", "restart", SERVICE])?;
    meets_the_rule(&host, &rule).context("after a restart of the service")?;

    diverts_a_unit_with_a_network_of_its_own(&host)?;
    upgrades_under_calls(&host, &second)?;
    meets_the_rule(&host, &rule).context("after the upgrade")?;
    a_hung_agent_is_started_anew(&host)?;
    meets_the_rule(&host, &rule).context("after the watchdog")?;

    removes(&host, &before)?;
    purges(&host, &before)
}

#[test]
fn the_script_of_the_tarball_puts_in_place_and_takes_away() -> Result<()> {
    let host = Host::boot()?;
    let before = Traces::now(&host)?;
    unpacked(&host)?;
    host.must(&["/root/moxie/install.sh"])?;
    host.write("/etc/moxie/moxie.env", "MOXIE_ENVIRONMENT=test\n")?;
    host.must(&["systemctl", "start", UNIT])?;
    host.must(&["moxie", "status"])?;
    let pid = host.property(UNIT, "MainPID")?;
    let told = host.run(&["/root/moxie/install.sh"])?;
    ensure!(host.property(UNIT, "MainPID")? != pid, "no newer version took over: {told:?}{}", host.journal(UNIT)?);
    host.must(&["/root/moxie/install.sh", "remove"])?;
    assert!(host.path("/var/lib/moxie/moxie.db").exists(), "what it knows stays");
    host.must(&["/root/moxie/install.sh", "purge"])?;
    fs::remove_dir_all(host.path("/root/moxie"))?;
    before.nothing_is_left(&host)
}

/// What is in the tarball, with the program that was built beside this test instead of a static one.
fn unpacked(host: &Host) -> Result<()> {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    for directory in ["systemd", "completions"] {
        fs::create_dir_all(host.path("/root/moxie").join(directory))?;
    }
    for (file, inside) in [
        ("systemd/moxie.service", "systemd/moxie.service"),
        ("systemd/moxie.sysusers.conf", "systemd/moxie.sysusers.conf"),
        ("systemd/moxie.tmpfiles.conf", "systemd/moxie.tmpfiles.conf"),
        ("systemd/moxie.toml", "moxie.toml"),
        ("systemd/tarball/install.sh", "install.sh"),
    ] {
        host.copy(&sources.join(file), &format!("/root/moxie/{inside}"))?;
    }
    host.copy(&agent::program()?, "/root/moxie/moxie")?;
    for file in ["moxie.1.gz", "completions/moxie.bash", "completions/_moxie", "completions/moxie.fish"] {
        host.write(&format!("/root/moxie/{file}"), "")?;
    }
    Ok(())
}

/// A package of the program that was built beside this test.
fn package(version: &str) -> Result<PathBuf> {
    let out = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/package/test");
    let mut xtask = Command::new(env!("CARGO"));
    xtask
        .args(["xtask", "package", "--deb-version", version, "--program"])
        .arg(agent::program()?)
        .arg("--out")
        .arg(&out);
    xtask.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(".."));
    let done = Running::start(xtask)?.finish(bounds::BUILD)?;
    ensure!(done.status.success(), "{}\n{}", done.stdout, done.stderr);
    let made = done.stdout.lines().last().map(PathBuf::from).context("no package was named")?;
    fs::canonicalize(Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(made)).context("there is no package")
}

fn install(host: &Host, package: &Path) -> Result<String> {
    host.copy(package, "/root/moxie.deb")?;
    let done = host.run(&["dpkg", "--install", "/root/moxie.deb"])?;
    ensure!(done.status.success(), "{}{}", done.stdout, done.stderr);
    Ok(done.stderr)
}

fn starts_only_where_the_environment_is_named(host: &Host) -> Result<()> {
    assert_eq!(host.property(UNIT, "UnitFileState")?, "enabled");
    assert_eq!(host.property(UNIT, "ActiveState")?, "inactive", "nobody has named the environment");
    let told = host.journal(UNIT)?;
    assert!(told.contains("no environment is named"), "{told}");
    assert_eq!(host.must(&["stat", "-c", "%a %U", "/etc/moxie/moxie.env"])?.trim(), "600 root");
    host.write("/etc/moxie/moxie.env", "MOXIE_ENVIRONMENT=test\n")?;
    host.must(&["systemctl", "start", UNIT])?;
    assert_eq!(host.property(UNIT, "ActiveState")?, "active");
    let told = host.journal(UNIT)?;
    assert!(told.contains("ready: admin API"), "{told}");
    assert_eq!(host.must(&["stat", "-c", "%a %G", "/run/moxie/admin.sock"])?.trim(), "660 moxie");
    host.must(&["moxie", "status"])?;
    Ok(())
}

fn has_the_capabilities_of_the_table_and_no_others(host: &Host) -> Result<()> {
    let status = host.must(&["cat", &format!("/proc/{}/status", host.property(UNIT, "MainPID")?)])?;
    let set = |name: &str| -> Result<u64> {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).context("no such line")?;
        Ok(u64::from_str_radix(line.trim(), 16)?)
    };
    let named = CAPABILITIES.iter().fold(0, |set, capability| set | 1 << capability.bit);
    assert_eq!(set("CapEff:")? & !named, 0, "{status}");
    assert_ne!(set("CapEff:")?, 0, "{status}");
    assert_eq!(set("NoNewPrivs:")?, 1);
    Ok(())
}

/// A real unit, made to trust the authority for good.
fn start_service(host: &Host) -> Result<()> {
    host.copy(Path::new(&script("payments.py")), "/root/payments.py")?;
    let run = format!("ExecStart=/usr/bin/python3 /root/payments.py {URL} {LOG}");
    host.unit(SERVICE, &format!("[Service]\n{run}\n"))?;
    host.must(&["systemctl", "start", SERVICE])?;
    host.must(&["moxie", "ca", "install", "--unit", SERVICE, "--persist", "--restart"])?;
    Ok(())
}

fn opt_in(host: &Host) -> Result<()> {
    host.must(&["moxie", "scope", "add", "--unit", SERVICE])?;
    Ok(())
}

fn rule(host: &Host) -> Result<String> {
    let rule = json!({"url": "api.customer.io/v1/activities", "status_code": 429, "mock_count": 0});
    let reply = host.rest().post("/api/v1/rules", &rule)?;
    ensure!(reply.status == 201, "{reply:?}");
    agent::text(&reply.json()?, "id")
}

/// The unit of the agent lets it enter other network namespaces, and look at processes that are not its own.
fn diverts_a_unit_with_a_network_of_its_own(host: &Host) -> Result<()> {
    const APART: &str = "apart.service";
    host.must(&["ip", "netns", "add", "apart"])?;
    host.must(&["ip", "-n", "apart", "link", "set", "lo", "up"])?;
    let rule = json!({"url": "api.customer.io/v1/apart", "status_code": 503});
    ensure!(host.rest().post("/api/v1/rules", &rule)?.status == 201, "no rule for {APART}");
    host.must(&["moxie", "scope", "add", "--unit", APART])?;
    let run = "ExecStart=/usr/bin/python3 /root/payments.py http://api.customer.io/v1/apart /tmp/apart.log";
    let network = "User=nobody\nNetworkNamespacePath=/run/netns/apart";
    host.unit(APART, &format!("[Service]\n{network}\n{run}\n"))?;
    host.must(&["chmod", "a+rx", "/root", "/root/payments.py"])?;
    host.must(&["systemctl", "start", APART])?;
    let log = || fs::read_to_string(host.path("/tmp/apart.log")).unwrap_or_default();
    wait::until("a call out of another network namespace to meet its rule", bounds::SOON, || {
        Ok(log().contains("503").then_some(()))
    })
    .with_context(|| format!("{}\n{}", log(), status(host)))?;
    host.must(&["systemctl", "stop", APART])?;
    host.must(&["sh", "-c", "ip netns delete apart && umount /run/netns && rmdir /run/netns"])?;
    fs::remove_file(host.path(&format!("/etc/systemd/system/{APART}")))?;
    Ok(fs::remove_file(host.path("/tmp/apart.log"))?)
}

/// Three calls of the service are answered by the rule, and then its destination answers again.
fn meets_the_rule(host: &Host, rule: &str) -> Result<()> {
    let seen = calls(host)?.len();
    let path = format!("/api/v1/rules/{rule}");
    let reply = host.rest().call("PATCH", &path, &[], Some(&json!({"mock_count": 3})))?;
    ensure!(reply.status == 200, "{reply:?}");
    let statuses = wait::until("three calls to meet the rule, and one its destination", bounds::SOON, || {
        let statuses: Vec<Option<u64>> = calls(host)?.iter().skip(seen).map(|call| call["status"].as_u64()).collect();
        let met = statuses.iter().position(|status| *status == Some(429));
        Ok(met.filter(|first| statuses.len() > first + 3).map(|first| statuses[first..first + 4].to_vec()))
    })
    .with_context(|| format!("{:?}\n{}", calls(host).map(|calls| calls[seen..].to_vec()), status(host)))?;
    assert_eq!(statuses, [Some(429), Some(429), Some(429), Some(200)]);
    Ok(())
}

/// What the agent says of itself, for a test that fails.
fn status(host: &Host) -> String {
    let words: [&[&str]; 3] =
        [&["moxie", "scope", "ls"], &["moxie", "status"], &["journalctl", "--no-pager", "-n", "30", "-u", UNIT]];
    words.iter().filter_map(|words| host.run(words).ok()).map(|done| done.stdout + &done.stderr).collect()
}

/// Every call of the service so far.
fn calls(host: &Host) -> Result<Vec<Value>> {
    let text = fs::read_to_string(host.path(LOG)).unwrap_or_default();
    // The last line may be half written.
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    whole.lines().map(|line| serde_json::from_str(line).with_context(|| format!("{line:?}"))).collect()
}

fn upgrades_under_calls(host: &Host, package: &Path) -> Result<()> {
    let (seen, pid) = (calls(host)?.len(), host.property(UNIT, "MainPID")?);
    let told = install(host, package)?;
    assert_eq!(host.must(&["dpkg-query", "--show", "--showformat", "${Version}", "moxie"])?, "0.1.0-2");
    let now = host.property(UNIT, "MainPID")?;
    ensure!(now != pid && host.property(UNIT, "ActiveState")? == "active", "{told}{}", host.journal(UNIT)?);
    let after = calls(host)?.len();
    wait::until("calls after the upgrade", bounds::SOON, || Ok((calls(host)?.len() > after + 20).then_some(())))?;
    let failed: Vec<Value> = calls(host)?.split_off(seen).into_iter().filter(|call| call["status"] != 200).collect();
    assert_eq!(failed, Vec::<Value>::new(), "{}", host.journal(UNIT)?);
    Ok(())
}

fn a_hung_agent_is_started_anew(host: &Host) -> Result<()> {
    let pid = host.property(UNIT, "MainPID")?;
    host.must(&["systemctl", "kill", "--kill-whom=main", "--signal=STOP", UNIT])?;
    let seen = calls(host)?.len();
    wait::until("the service to call on while the agent hangs", WATCHDOG, || {
        let well = calls(host)?.split_off(seen).into_iter().filter(|call| call["status"] == 200).count();
        Ok((well > 5).then_some(()))
    })?;
    wait::until("systemd to start a hung agent anew", WATCHDOG, || {
        let is_back = host.property(UNIT, "ActiveState")? == "active" && host.property(UNIT, "MainPID")? != pid;
        Ok(is_back.then_some(()))
    })?;
    let told = host.must(&["journalctl", "--no-pager", "--unit", UNIT])?;
    assert!(told.contains("Watchdog timeout"), "{told}");
    Ok(())
}

/// Without its files nothing of the agent runs; what it was told and what it knows stays.
fn removes(host: &Host, before: &Traces) -> Result<()> {
    let seen = calls(host)?.len();
    host.must(&["dpkg", "--remove", "moxie"])?;
    wait::until("calls after the removal", bounds::SOON, || Ok((calls(host)?.len() > seen + 20).then_some(())))?;
    let last = calls(host)?.split_off(seen + 10);
    assert!(last.iter().all(|call| call["status"] == 200), "{last:?}");
    host.must(&["systemctl", "stop", SERVICE])?;
    for (path, stays) in [
        ("/usr/bin/moxie", false),
        ("/run/moxie", false),
        ("/etc/moxie/moxie.toml", true),
        ("/etc/moxie/moxie.env", true),
        ("/var/lib/moxie/moxie.db", true),
    ] {
        assert_eq!(host.path(path).exists(), stays, "{path}");
    }
    before.nothing_runs(host)
}

fn purges(host: &Host, before: &Traces) -> Result<()> {
    host.must(&["dpkg", "--purge", "moxie"])?;
    for path in ["/root/payments.py", LOG, "/root/moxie.deb"] {
        fs::remove_file(host.path(path)).with_context(|| path.to_owned())?;
    }
    fs::remove_file(host.path(&format!("/etc/systemd/system/{SERVICE}")))?;
    host.must(&["systemctl", "daemon-reload"])?;
    before.nothing_is_left(host)
}

/// What a package can leave on a host.
#[derive(Debug)]
struct Traces {
    files: BTreeSet<String>,
    groups: String,
    links: BTreeSet<u64>,
    cgroups: BTreeSet<PathBuf>,
}

impl Traces {
    fn now(host: &Host) -> Result<Self> {
        // Logs, dpkg's own books and what systemd keeps of boots change by themselves.
        let passed_over = ["/var/log", "/var/lib/dpkg", "/var/lib/systemd", "/var/cache", "/run/systemd", "/run/log"];
        let mut words: Vec<&str> = vec!["find", "/", "/run", "/tmp", "-xdev", "("];
        for (number, path) in passed_over.iter().enumerate() {
            words.extend(if number == 0 { vec!["-path", path] } else { vec!["-o", "-path", path] });
        }
        words.extend([")", "-prune", "-o", "-print"]);
        let files = host.must(&words)?.lines().map(str::to_owned).collect();
        let groups = host.must(&["cat", "/etc/group", "/etc/gshadow", "/etc/passwd"])?;
        let cgroups = below(host.cgroup());
        Ok(Self { files, groups, links: links_of(&cgroups)?, cgroups })
    }

    fn nothing_is_left(&self, host: &Host) -> Result<()> {
        let now = Self::now(host)?;
        let more: Vec<_> = now.files.difference(&self.files).collect();
        assert!(more.is_empty(), "files that were not there before: {more:#?}");
        let lost: Vec<_> = self.files.difference(&now.files).collect();
        assert!(lost.is_empty(), "files that are gone: {lost:#?}");
        assert_eq!(now.groups, self.groups);
        self.nothing_runs(host)
    }

    /// The kernel lets go of links and cgroups a moment after the process that held them is gone.
    fn nothing_runs(&self, host: &Host) -> Result<()> {
        let rest = || -> Result<(Vec<PathBuf>, Vec<u64>, String)> {
            let cgroups = below(host.cgroup());
            let named = |path: &&PathBuf| path.to_string_lossy().contains("moxie.service");
            let more = cgroups.difference(&self.cgroups).filter(named).cloned().collect();
            let links = links_of(&cgroups)?.difference(&self.links).copied().collect();
            let processes = host.run(&["sh", "-c", "grep -l '^moxie' /proc/[0-9]*/comm; true"])?.stdout;
            Ok((more, links, processes))
        };
        let gone = wait::until("all traces to be gone", bounds::SOON, || {
            let (cgroups, links, processes) = rest()?;
            Ok((cgroups.is_empty() && links.is_empty() && processes.is_empty()).then_some(()))
        });
        gone.with_context(|| format!("{:?}", rest()))
    }
}

fn below(root: &Path) -> BTreeSet<PathBuf> {
    let Ok(entries) = fs::read_dir(root) else { return BTreeSet::new() };
    let directories = entries.filter_map(Result::ok).filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    let mut found: BTreeSet<PathBuf> = directories.flat_map(|entry| below(&entry.path())).collect();
    found.insert(root.to_path_buf());
    found
}

/// Ids of the links whose cgroup is one of these.
fn links_of(cgroups: &BTreeSet<PathBuf>) -> Result<BTreeSet<u64>> {
    use std::os::unix::fs::MetadataExt;
    // The id of a cgroup is the inode number of its directory.
    let ids: BTreeSet<u64> =
        cgroups.iter().filter_map(|path| fs::metadata(path).ok()).map(|found| found.ino()).collect();
    let mut command = Command::new("bpftool");
    command.args(["--json", "link", "show"]);
    let shown: Value = serde_json::from_str(&process::run(command)?.stdout).context("bpftool shows no links")?;
    let links = shown.as_array().context("bpftool shows no list")?;
    let ours = links.iter().filter(|link| link["cgroup_id"].as_u64().is_some_and(|id| ids.contains(&id)));
    Ok(ours.filter_map(|link| link["id"].as_u64()).collect())
}
