//! One running container: the bundle bound over the roots that its image brings, inside its mount namespace.
//!
//! What is read anew from these files is trusted at once, without a restart; the variables of a running container cannot be set, so what
//! takes variables is named. A container that starts anew has lost the mount: for a lasting way see [`super::cdi`].

mod runtime;

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::record::{self, Moment, Record};
use super::status::{Item, State};
use super::users;
use crate::cli::exit::Failure;
use crate::cli::launch::Bind;
use crate::cli::output::{note, print};
use crate::cli::{ca, cover};
use crate::tls::trust::{self, Place, Trust, View};
use runtime::Container;

/// What no file inside a running container can bring about.
const NEEDS_VARIABLES: &str = "Node (NODE_EXTRA_CA_CERTS), Java (JAVA_TOOL_OPTIONS), Deno, and Python packages that bring roots of their own \
    (REQUESTS_CA_BUNDLE, SSL_CERT_FILE)";

fn directory(id: &str, trust: &Path) -> PathBuf {
    trust.join("containers").join(id)
}

fn record_file(id: &str, trust: &Path) -> PathBuf {
    trust.join("containers").join(format!("{id}.json"))
}

/// The container's own variables, of those that name roots.
fn preset(container: &Container) -> std::collections::BTreeMap<String, String> {
    container.environment.iter().filter(|(name, _)| trust::is_variable(name)).cloned().collect()
}

pub(super) fn install(name: &str, authority: &str, trust: &Path) -> Result<(), Failure> {
    let container = runtime::find(name)?;
    let Some(pid) = container.pid else {
        return Err(Failure::failed(format!("{} does not run, so there is nothing to bind in", container.name))
            .next("for its next start: moxie ca install --cdi, or moxie ca env --docker"));
    };
    let dir = directory(&container.id, trust);
    // What was bound before would be taken for the container's own.
    let before: Vec<PathBuf> = users::mounts(pid, &dir).into_iter().map(|mount| mount.over).collect();
    enter(pid, &[], &before)?;

    let (prepared, view) = prepare(&container, pid, &dir, authority)?;
    let binds = covered(&prepared, &container, &dir, &view);
    if binds.is_empty() {
        record::remove_dir(&dir)?;
        return Err(Failure::failed(format!("{} has no bundle of roots where distributions keep one", container.name))
            .next("for a new container: moxie ca env --docker"));
    }
    let files = binds.iter().map(|bind| bind.over.clone()).collect();
    let record = Record {
        name: container.name.clone(),
        preset: preset(&container),
        changed: Moment::now(),
        id: Some(container.id.clone()),
        files,
    };
    record.write(&record_file(&container.id, trust))?;
    enter(pid, &binds, &[])?;
    for bind in &binds {
        print(&format!("{}: {} shows its own roots and Moxie's authority", container.name, bind.over.display()))?;
    }
    print("programs that read them from now on trust Moxie, until the container is restarted")?;
    print(&format!(
        "not reached, since variables are read at start: {NEEDS_VARIABLES}\n  next, for these: make the container anew with what \
         `moxie ca env --docker --container {}` prints",
        container.name
    ))
}

/// The trust set of a running container, made of its own roots, and the view that they were found in.
fn prepare(container: &Container, pid: u32, dir: &Path, authority: &str) -> Result<(Trust, View), Failure> {
    let view = view(pid)?;
    let preset = preset(container);
    let place = Place { dir, shown: Path::new(ca::SHOWN), view: &view };
    let prepared = trust::prepare_at(place, authority, |name| preset.get(name).cloned())
        .map_err(|error| Failure::because("cannot write the bundle of roots", &error))?;
    prepared.warnings.iter().for_each(|text| note(text));
    Ok((prepared, view))
}

fn view(pid: u32) -> Result<View, Failure> {
    let root = PathBuf::from(format!("/proc/{pid}/root"));
    View::inside(&root).map_err(|error| record::refused("look into", &root, &error))
}

/// The bundles of its distribution, and files that its own variables name.
fn covered(prepared: &Trust, container: &Container, dir: &Path, view: &View) -> Vec<Bind> {
    let mut binds: Vec<Bind> =
        prepared.binds.iter().map(|(what, over)| Bind { source: what.clone(), over: over.clone() }).collect();
    for (name, over) in preset(container).into_iter().filter(|(name, _)| trust::names_a_file(name)) {
        let over = PathBuf::from(over);
        let source = prepared.variable(&name).and_then(|shown| Some(dir.join(Path::new(shown).file_name()?)));
        let is_new = !binds.iter().any(|bind| view.is_same(&bind.over, &over));
        if let Some(source) = source.filter(|_| is_new && view.is_file(&over)) {
            binds.push(Bind { source, over });
        }
    }
    binds
}

/// Binds and unbinds in the mount namespace of `pid`, by a process of its own.
fn enter(pid: u32, binds: &[Bind], uncover: &[PathBuf]) -> Result<(), Failure> {
    if binds.is_empty() && uncover.is_empty() {
        return Ok(());
    }
    let arguments = cover::Arguments { pid, bind: binds.to_vec(), uncover: uncover.to_vec() };
    // The file that this process runs, even if it was replaced meanwhile.
    let mut command = Command::new("/proc/self/exe");
    command.arg0("moxie").args(arguments.to_argv());
    let done = command.output().map_err(|error| Failure::because("cannot start the helper", &error))?;
    if done.status.success() {
        return Ok(());
    }
    let told = String::from_utf8_lossy(&done.stderr);
    let lines: Vec<String> = told.lines().map(|line| line.trim_start_matches("moxie: ").to_owned()).collect();
    Err(Failure::failed("cannot change what the container sees").details(lines).next("the same as root"))
}

pub(super) fn uninstall(name: &str, trust: &Path) -> Result<(), Failure> {
    let known = names(trust).into_iter().filter_map(|id| Record::read(&record_file(&id, trust)));
    let recorded =
        known.into_iter().find(|record| record.name == name || record.id.as_ref().is_some_and(|id| is_id(name, id)));
    let found = runtime::find(name);
    let id = match (&recorded, &found) {
        (Some(record), _) => record.id.clone().unwrap_or_default(),
        (None, Ok(container)) => container.id.clone(),
        (None, Err(_)) => return found.map(drop),
    };
    let dir = directory(&id, trust);
    let running = found.ok().filter(|container| container.id == id).and_then(|container| container.pid);
    let mounts = running.map(|pid| users::mounts(pid, &dir)).unwrap_or_default();
    if let Some(pid) = running {
        let over: Vec<PathBuf> = mounts.iter().map(|mount| mount.over.clone()).collect();
        enter(pid, &[], &over)?;
    }
    for mount in &mounts {
        print(&format!("{name}: {} shows what the image brings", mount.over.display()))?;
    }
    if recorded.is_none() && mounts.is_empty() {
        return print(&format!("nothing of Moxie is installed for {name}: nothing to undo"));
    }
    record::remove_dir(&dir)?;
    record::remove(&record_file(&id, trust))?;
    record::tidy(&record_file(&id, trust));
    print(&format!("removed {}", dir.display()))
}

/// Ids may be shortened, as everywhere.
fn is_id(name: &str, id: &str) -> bool {
    name.len() >= 4 && id.starts_with(name)
}

/// The ids of the containers that something was installed for.
pub(super) fn names(trust: &Path) -> Vec<String> {
    record::names(&trust.join("containers"))
}

pub(super) fn items(authority: &str, trust: &Path) -> Vec<Item> {
    names(trust).iter().map(|id| item(id, authority, trust)).collect()
}

fn item(id: &str, authority: &str, trust: &Path) -> Item {
    let record = Record::read(&record_file(id, trust)).unwrap_or_default();
    let dir = directory(id, trust);
    let item = Item::new("container", &record.name, record.files.clone());
    let undo = format!("moxie ca uninstall --container {}", record.name);
    let again = format!("moxie ca install --container {}", record.name);
    // By its id: another container may have taken the name.
    let pid = match runtime::find(id) {
        Ok(container) => container.pid,
        Err(_) => return item.found(State::Gone, "no runtime knows it any more", Some(undo)),
    };
    let Some(pid) = pid else { return item.found(State::Gone, "it does not run", Some(undo)) };
    let mounts = users::mounts(pid, &dir);
    if mounts.is_empty() {
        return item.found(State::Gone, "it was restarted, which takes the mounts away", Some(again));
    }
    let holds = std::fs::read_to_string(dir.join("ca.pem")).is_ok_and(|held| held == authority);
    if !holds || mounts.iter().any(|mount| mount.is_stale) {
        return item.found(State::Outdated, "it shows another authority than this host's", Some(again));
    }
    item.found(State::Ok, "bound in its mount namespace", None)
}

/// The trust set for a new container like this one, made of its own roots and variables, and the directory that it is in.
pub(super) fn like(name: &str, authority: &str, trust: &Path) -> Result<(Trust, PathBuf), Failure> {
    let container = runtime::find(name)?;
    let Some(pid) = container.pid else {
        return Err(Failure::failed(format!("{} does not run, so its roots cannot be looked at", container.name))
            .next("start it, or leave --container out: the host's roots then take their place"));
    };
    // Apart from what is bound into the one that runs: both may be in use.
    let dir = directory(&format!("{}.next", container.name), trust);
    if !users::mounts(pid, &directory(&container.id, trust)).is_empty() {
        return Err(Failure::failed(format!("{} shows Moxie's bundle now, not its own roots", container.name))
            .next(format!("moxie ca uninstall --container {}, then try again", container.name)));
    }
    prepare(&container, pid, &dir, authority).map(|(prepared, _)| (prepared, dir))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_its_variables_name_are_covered_too() {
        let root = tempfile::tempdir().unwrap();
        let certs = root.path().join("etc/ssl/certs");
        std::fs::create_dir_all(&certs).unwrap();
        std::fs::write(certs.join("ca-certificates.crt"), "# system\n").unwrap();
        std::fs::write(root.path().join("own.pem"), "# own\n").unwrap();
        let variables = [
            ("SSL_CERT_FILE", "/own.pem"),
            ("CURL_CA_BUNDLE", "/etc/ssl/certs/ca-certificates.crt"),
            ("REQUESTS_CA_BUNDLE", "/missing.pem"),
            ("NODE_EXTRA_CA_CERTS", "/own.pem"),
            ("JAVA_TOOL_OPTIONS", "/own.pem"),
            ("PATH", "/own.pem"),
        ];
        let container = Container {
            runtime: "docker",
            id: "5e3a".into(),
            name: "web".into(),
            pid: None,
            environment: variables.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec(),
        };
        let dir = root.path().join("trust");
        let view = View::inside(root.path()).unwrap();
        let authority = crate::tls::authority::Authority::ephemeral().unwrap();
        let wanted = preset(&container);
        let place = Place { dir: &dir, shown: Path::new(ca::SHOWN), view: &view };
        let prepared = trust::prepare_at(place, authority.pem(), |name| wanted.get(name).cloned()).unwrap();
        let binds = covered(&prepared, &container, &dir, &view);
        let over: Vec<&str> = binds.iter().filter_map(|bind| bind.over.to_str()).collect();
        assert_eq!(over, ["/etc/ssl/certs/ca-certificates.crt", "/own.pem"]);
        for (bind, own) in binds.iter().zip(["# system", "# own"]) {
            let text = std::fs::read_to_string(&bind.source).unwrap();
            assert!(text.starts_with(own) && text.ends_with(authority.pem()), "{text}");
        }
    }
}
