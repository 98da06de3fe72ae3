//! One service unit: a drop-in that gives it variables of its own and shows it the bundle where distributions keep theirs.
//!
//! Nothing of it can keep the unit from starting: were Moxie's files gone, systemd would leave the drop-in's settings out. And nothing is
//! taken away from a running process: files that it was started with stay until it has ended.

mod environment;
mod systemctl;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::Args;

use super::record::{self, Moment, Record};
use super::status::{Item, State};
use super::users;
use crate::cli::exit::Failure;
use crate::cli::output::{note, print};
use crate::tls::trust::{self, Freshness, Place, Trust, View};
use systemctl::Service;

/// Where drop-ins are, the lasting ones first: they hide others of the same name.
const DIRECTORIES: [&str; 2] = ["/etc/systemd/system", "/run/systemd/system"];
const DROP_IN: &str = "50-moxie.conf";
const OURS: &str = "# Written by `moxie ca install --unit";

/// How a unit is to be made to trust the authority.
#[derive(Clone, Copy, Debug, Default, Args)]
pub(super) struct Options {
    /// With --unit: keep it over a reboot of the host (in /etc, not /run)
    #[arg(long, requires = "unit")]
    persist: bool,
    /// With --unit: restart the unit, so that it takes effect now
    #[arg(long, requires = "unit")]
    restart: bool,
    /// With --unit: only set variables; for a service that mounts file systems for others, which a bind would hide
    #[arg(long, requires = "unit")]
    variables_only: bool,
}

impl Options {
    /// For undoing: the restart is all there is to choose.
    pub(super) fn restarting(restart: bool) -> Self {
        Self { restart, ..Self::default() }
    }
}

/// Where everything about one unit is.
#[derive(Debug)]
struct Files {
    /// The trust set, readable by everyone, seen by the unit under the same name.
    dir: PathBuf,
    /// The variables; for systemd alone, since options of a JVM may hold a password.
    environment: PathBuf,
    record: PathBuf,
}

impl Files {
    fn of(name: &str, trust: &Path) -> Self {
        let units = trust.join("units");
        Self {
            dir: units.join(name),
            environment: units.join(format!("{name}.env")),
            record: units.join(format!("{name}.json")),
        }
    }
}

pub(super) fn install(name: &str, options: Options, authority: &str, trust: &Path) -> Result<(), Failure> {
    systemctl::require()?;
    let service = systemctl::service(&systemctl::full_name(name)?)?;
    refuse_others(&service.name)?;
    let prepared = prepare(&service, options, authority, trust)?;
    let directory = Path::new(if options.persist { DIRECTORIES[0] } else { DIRECTORIES[1] });
    let file = drop_in(directory, &service.name);
    prepared.record(&service.name, &Files::of(&service.name, trust))?;
    record::write_public(&file, &prepared.lines)?;
    // One of the two places is enough, and the one not asked for now may be older.
    for other in DIRECTORIES.iter().map(Path::new).filter(|other| *other != directory) {
        remove_drop_in(&drop_in(other, &service.name))?;
    }
    systemctl::reload()?;
    print(&format!("wrote {}", file.display()))?;
    if service.is_active && options.restart {
        systemctl::restart(&service.name)?;
        print(&format!("restarted {}: it trusts Moxie", service.name))
    } else if service.is_active && needs_restart(&service, &Files::of(&service.name, trust), prepared.freshness) {
        print(&format!("it takes effect when the unit starts anew\n  next: systemctl restart {}", service.name))
    } else if service.is_active {
        print(&format!("{} runs with it already", service.name))
    } else {
        print(&format!("{} is not running: it will trust Moxie once it starts", service.name))
    }
}

/// What `install` would write, for whoever keeps drop-ins by other means.
pub(super) fn drop_in_text(name: &str, authority: &str, trust: &Path) -> Result<String, Failure> {
    systemctl::require()?;
    let service = systemctl::service(&systemctl::full_name(name)?)?;
    let prepared = prepare(&service, Options::default(), authority, trust)?;
    super::env::hand_out(&Files::of(&service.name, trust).dir);
    Ok(prepared.lines)
}

/// A drop-in for a unit that nothing is known about, with the variables in plain sight.
pub(super) fn plain_drop_in(prepared: &Trust, dir: &Path) -> Result<String, Failure> {
    let environment = prepared.variables.iter().map(|(name, value)| {
        let value = value.replace('\\', r"\\").replace('"', "\\\"").replace('%', "%%");
        format!("Environment=\"{name}={value}\"\n")
    });
    Ok(format!("[Service]\n{}{}", environment.collect::<String>(), binds(prepared, dir)?))
}

/// What a drop-in needs, on disk; and its text.
struct Prepared {
    lines: String,
    /// The unit's own variables that were continued.
    preset: BTreeMap<String, String>,
    freshness: Freshness,
}

impl Prepared {
    /// Notes what was done; the time stays where nothing was changed.
    fn record(&self, name: &str, files: &Files) -> Result<(), Failure> {
        let changed = match (self.freshness, Record::read(&files.record)) {
            (Freshness::Unchanged, Some(before)) => before.changed,
            _ => Moment::now(),
        };
        let (name, preset) = (name.to_owned(), self.preset.clone());
        Record { name, preset, changed, ..Record::default() }.write(&files.record)
    }
}

/// Writes the trust set and the variables, and gives the drop-in's text.
fn prepare(service: &Service, options: Options, authority: &str, trust: &Path) -> Result<Prepared, Failure> {
    if let Some(root) = &service.root {
        return Err(Failure::failed(format!("{} runs in a root of its own, {root}", service.name))
            .next("add the output of `moxie ca show` to the roots in there"));
    }
    let files = Files::of(&service.name, trust);
    let manager = systemctl::manager_environment()?;
    let found = environment::effective(service, manager, &files.environment, &files.dir, trust::is_variable);
    found.notes.iter().for_each(|text| note(text));
    let place = Place { dir: &files.dir, shown: &files.dir, view: &View::Host };
    let mut prepared = trust::prepare_at(place, authority, |name| found.variables.get(name).cloned())
        .map_err(|error| Failure::because("cannot write the bundle of roots", &error))?;
    prepared.warnings.iter().for_each(|text| note(text));
    if options.variables_only {
        prepared.binds.clear();
    }
    let rendered = environment::render(&prepared.variables);
    let is_new = std::fs::read_to_string(&files.environment).ok().as_ref() != Some(&rendered);
    if is_new {
        prepared.freshness = Freshness::Changed;
        record::write_private(&files.environment, &rendered)?;
    }
    let lines = drop_in_lines(service, &prepared, &files)?;
    Ok(Prepared { lines, preset: found.variables, freshness: prepared.freshness })
}

fn drop_in_lines(service: &Service, prepared: &Trust, files: &Files) -> Result<String, Failure> {
    let name = &service.name;
    Ok(format!(
        "{OURS} {name}`; `moxie ca uninstall --unit {name}` removes it.\n\
         # The dashes: were these files gone, the unit would start as if this one were not here.\n\
         [Service]\n\
         EnvironmentFile=-{}\n{}",
        path_text(&files.environment)?,
        binds(prepared, &files.dir)?
    ))
}

/// The directory itself too: a unit may hide the place where it is.
fn binds(prepared: &Trust, dir: &Path) -> Result<String, Failure> {
    if prepared.binds.is_empty() {
        return Ok(String::new());
    }
    let mut lines = format!("BindReadOnlyPaths=-{}\n", path_text(dir)?);
    for (what, over) in &prepared.binds {
        lines.push_str(&format!("BindReadOnlyPaths=-{}:{}\n", path_text(what)?, path_text(over)?));
    }
    Ok(lines)
}

/// A path that means itself in a unit file.
fn path_text(path: &Path) -> Result<String, Failure> {
    let text = path.to_str().filter(|text| !text.contains(|c: char| c.is_whitespace() || "\"'\\:".contains(c)));
    let text = text.ok_or_else(|| {
        Failure::usage(format!("{} cannot be named in a unit file", path.display()))
            .next("a state directory without blanks, quotes and colons, by --state-dir")
    })?;
    Ok(text.replace('%', "%%"))
}

fn drop_in(directory: &Path, name: &str) -> PathBuf {
    directory.join(format!("{name}.d")).join(DROP_IN)
}

fn is_ours(file: &Path) -> bool {
    std::fs::read_to_string(file).is_ok_and(|text| text.starts_with(OURS))
}

fn refuse_others(name: &str) -> Result<(), Failure> {
    let mut files = DIRECTORIES.iter().map(|directory| drop_in(Path::new(directory), name));
    match files.find(|file| file.exists() && !is_ours(file)) {
        None => Ok(()),
        Some(file) => Err(Failure::failed(format!("{} is there and not Moxie's: it stays", file.display()))
            .next("rename that file, then try again")),
    }
}

/// Removes a drop-in that is Moxie's, and the directory if nothing else is in it. Says whether there was one.
fn remove_drop_in(file: &Path) -> Result<bool, Failure> {
    if !is_ours(file) {
        return Ok(false);
    }
    std::fs::remove_file(file).map_err(|error| record::refused("remove", file, &error))?;
    if let Some(directory) = file.parent() {
        // Somebody else's drop-in in there keeps it.
        let _ = std::fs::remove_dir(directory);
    }
    Ok(true)
}

pub(super) fn uninstall(name: &str, options: Options, trust: &Path) -> Result<(), Failure> {
    let asked = systemctl::full_name(name)?;
    let here = systemctl::require().is_ok();
    let service = if here { systemctl::look(&asked)? } else { None }.unwrap_or_default();
    let name = if service.name.is_empty() { asked } else { service.name.clone() };
    let mut removed = Vec::new();
    for file in DIRECTORIES.iter().map(|directory| drop_in(Path::new(directory), &name)) {
        if remove_drop_in(&file)? {
            removed.push(file.display().to_string());
        }
    }
    let files = Files::of(&name, trust);
    // Files without a record are those that `moxie ca env` handed out.
    if removed.is_empty() && !files.record.exists() {
        return print(&format!("nothing of Moxie is installed for {name}: nothing to undo"));
    }
    if here && !removed.is_empty() {
        systemctl::reload()?;
    }
    if service.is_active && options.restart {
        systemctl::restart(&name)?;
    }
    removed.iter().try_for_each(|file| print(&format!("removed {file}")))?;
    let users = users::of(&files.dir);
    if !users.is_empty() {
        return print(&format!(
            "{} stays: the unit still runs with it\n  next: systemctl restart {name}, then once more: moxie ca uninstall --unit {name}",
            files.dir.display()
        ));
    }
    if super::env::is_handed_out(&files.dir) {
        record::remove(&files.record)?;
        return print(&format!("{} stays: `moxie ca env` has handed it out", files.dir.display()));
    }
    record::remove_dir(&files.dir)?;
    record::remove(&files.environment)?;
    record::remove(&files.record)?;
    record::tidy(&files.record);
    print(&format!("removed {}", files.dir.display()))
}

/// Whether the main process began before the files became what they are.
fn needs_restart(service: &Service, files: &Files, freshness: Freshness) -> bool {
    if service.pid.is_none() {
        return false;
    }
    let changed = Record::read(&files.record).map(|record| record.changed);
    let is_older = changed.is_some_and(|changed| changed.is_after(service.started));
    freshness == Freshness::Changed || is_older || !users::is_user(service.pid, &files.dir)
}

/// Every unit that Moxie has something installed for, as it is found.
pub(super) fn items(authority: &str, trust: &Path) -> Vec<Item> {
    names(trust).iter().map(|name| item(name, authority, trust)).collect()
}

/// Units with a drop-in of Moxie's, and units that files are kept for.
pub(super) fn names(trust: &Path) -> Vec<String> {
    let mut names = record::names(&trust.join("units"));
    let directories = DIRECTORIES.iter().flat_map(|directory| std::fs::read_dir(directory).into_iter().flatten());
    for directory in directories.filter_map(Result::ok).map(|entry| entry.path()) {
        let name = directory.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_suffix(".d"));
        names.extend(name.filter(|_| is_ours(&directory.join(DROP_IN))).map(str::to_owned));
    }
    names.sort();
    names.dedup();
    names
}

fn item(name: &str, authority: &str, trust: &Path) -> Item {
    let files = Files::of(name, trust);
    let drop_ins = DIRECTORIES.iter().map(|directory| drop_in(Path::new(directory), name));
    let found: Vec<PathBuf> = drop_ins.filter(|file| is_ours(file)).collect();
    let mut item = Item::new("unit", name, found.clone());
    item.files.extend(files.dir.exists().then(|| files.dir.clone()));
    let again = format!("moxie ca install --unit {name}");
    if found.is_empty() {
        let (detail, next) =
            ("its drop-in is gone, as after a reboot", format!("{again}, or moxie ca uninstall --unit {name}"));
        return item.found(State::Gone, detail, Some(next));
    }
    let record = Record::read(&files.record).unwrap_or_default();
    let place = Place { dir: &files.dir, shown: &files.dir, view: &View::Host };
    match trust::is_current(place, authority, |name| record.preset.get(name).cloned()) {
        Ok(true) if files.environment.is_file() => {}
        Ok(_) => return item.found(State::Outdated, "the authority or the unit's own roots have changed", Some(again)),
        Err(error) => return item.found(State::Outdated, crate::cli::exit::chain(&error), Some(again)),
    }
    match systemctl::look(name) {
        Ok(Some(service)) if service.pid.is_none() => item.found(State::Ok, "not running", None),
        Ok(Some(service)) if needs_restart(&service, &files, Freshness::Unchanged) => {
            let next = format!("systemctl restart {name}");
            item.found(State::Restart, "the running process began before it", Some(next))
        }
        Ok(Some(_)) => item.found(State::Ok, "in effect", None),
        Ok(None) => {
            item.found(State::Gone, "systemd knows no such unit", Some(format!("moxie ca uninstall --unit {name}")))
        }
        Err(failure) => item.found(State::Unknown, failure.what(), None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prepared() -> Trust {
        Trust {
            variables: vec![("A".into(), "50% \"x\"".into())],
            binds: vec![("/state/b.pem".into(), "/etc/ssl/certs/ca-certificates.crt".into())],
            warnings: vec![],
            freshness: Freshness::Changed,
        }
    }

    #[test]
    fn nothing_in_the_drop_in_can_keep_the_unit_from_starting() {
        let service = Service { name: "pay.service".into(), ..Service::default() };
        let files = Files::of("pay.service", Path::new("/state/trust"));
        let lines = drop_in_lines(&service, &prepared(), &files).unwrap();
        assert!(lines.starts_with(OURS), "{lines}");
        let settings: Vec<&str> = lines.lines().filter(|line| !line.starts_with(['#', '['])).collect();
        assert_eq!(
            settings,
            [
                "EnvironmentFile=-/state/trust/units/pay.service.env",
                "BindReadOnlyPaths=-/state/trust/units/pay.service",
                "BindReadOnlyPaths=-/state/b.pem:/etc/ssl/certs/ca-certificates.crt",
            ]
        );
    }

    #[test]
    fn what_has_a_meaning_in_a_unit_file_is_escaped_or_refused() {
        let text = plain_drop_in(&prepared(), Path::new("/state")).unwrap();
        assert!(text.contains(r#"Environment="A=50%% \"x\"""#), "{text}");
        assert_eq!(path_text(Path::new("/a%b")).unwrap(), "/a%%b");
        for wrong in ["/a b", "/a:b", "/a\"b", "/a\\b"] {
            assert!(path_text(Path::new(wrong)).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_drop_in_of_somebody_else_stays() {
        let dir = tempfile::tempdir().unwrap();
        let file = drop_in(dir.path(), "pay.service");
        record::write_public(&file, "[Service]\n").unwrap();
        assert!(!remove_drop_in(&file).unwrap() && file.exists());
        record::write_public(&file, &format!("{OURS} pay.service`\n")).unwrap();
        assert!(remove_drop_in(&file).unwrap() && !file.parent().unwrap().exists());
        assert!(!remove_drop_in(&file).unwrap());
    }
}
