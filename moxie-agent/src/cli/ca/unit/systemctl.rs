//! Asking systemd, by systemctl(1): what a unit is, what its processes are started with.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::cli::exit::{Exit, Failure};

/// sd_booted(3).
const BOOTED: &str = "/run/systemd/system";
const PROPERTIES: &str = "Id,LoadState,ActiveState,MainPID,Environment,EnvironmentFiles,RootDirectory,RootImage,\
    ExecMainStartTimestampMonotonic,NeedDaemonReload";

/// A service unit as systemd knows it.
#[derive(Clone, Debug, Default)]
pub(in crate::cli::ca) struct Service {
    /// Its own name, whatever alias it was asked for by.
    pub(super) name: String,
    pub(super) is_active: bool,
    /// The main process, if there is one.
    pub(super) pid: Option<u32>,
    /// When the main process was started, in microseconds of CLOCK_MONOTONIC.
    pub(super) started: u64,
    /// `Environment=`, all assignments.
    pub(super) environment: Vec<(String, String)>,
    /// `EnvironmentFile=`, in the order in which they are read.
    pub(super) files: Vec<PathBuf>,
    /// A root directory or image of its own.
    pub(super) root: Option<String>,
}

/// Fails where systemd is not the init of this host.
pub(super) fn require() -> Result<(), Failure> {
    if Path::new(BOOTED).is_dir() {
        return Ok(());
    }
    Err(Failure::failed(format!("systemd does not run here ({BOOTED} is no directory), so there are no units"))
        .next("moxie ca env, for whatever starts the service"))
}

/// The unit's name as systemd wants it.
pub(super) fn full_name(name: &str) -> Result<String, Failure> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b":-_.\\@".contains(&byte);
    if name.is_empty() || name.starts_with(['.', '-']) || !name.bytes().all(allowed) {
        return Err(Failure::usage(format!("{name:?} is no name of a unit"))
            .next("a name as systemctl lists it, such as payments.service"));
    }
    match name.rsplit_once('.') {
        Some((_, "service")) => Ok(name.to_owned()),
        Some((_, "socket" | "timer" | "slice" | "scope" | "target" | "mount" | "path" | "device" | "swap")) => {
            Err(Failure::usage(format!("{name} is no service: it has no environment of its own"))
                .next("name the services that run in or by it, each with --unit"))
        }
        _ => Ok(format!("{name}.service")),
    }
}

/// The service of that name; fails where there is none.
pub(super) fn service(name: &str) -> Result<Service, Failure> {
    let service = look(name)?;
    service.ok_or_else(|| {
        Failure::failed(format!("systemd knows no unit {name}")).next("systemctl list-units --type=service --all")
    })
}

/// The service of that name, if systemd has it.
pub(super) fn look(name: &str) -> Result<Option<Service>, Failure> {
    let shown = ask(&["show", "--no-pager", "--property", PROPERTIES, "--", name])?;
    Ok(parse(&shown))
}

/// The variables that systemd itself hands to every service.
pub(super) fn manager_environment() -> Result<Vec<(String, String)>, Failure> {
    let shown = ask(&["show-environment", "--no-pager"])?;
    Ok(shown.lines().flat_map(assignments).collect())
}

pub(super) fn reload() -> Result<(), Failure> {
    ask(&["daemon-reload"]).map(drop)
}

pub(super) fn restart(name: &str) -> Result<(), Failure> {
    ask(&["restart", "--", name]).map(drop)
}

fn ask(arguments: &[&str]) -> Result<String, Failure> {
    let line = format!("systemctl {}", arguments.first().copied().unwrap_or_default());
    let done = Command::new("systemctl").args(arguments).output();
    let done = done.map_err(|error| Failure::because(format_args!("cannot run {line}"), &error))?;
    if done.status.success() {
        return Ok(String::from_utf8_lossy(&done.stdout).into_owned());
    }
    let told = String::from_utf8_lossy(&done.stderr);
    let failure = Failure::failed(format!("{line} failed: {}", done.status));
    let denied = told.contains("Access denied") || told.contains("authentication required");
    let failure = if denied { failure.with_exit(Exit::Denied) } else { failure };
    Err(failure.details(told.lines().map(str::to_owned)))
}

/// Reads what `systemctl show` prints: `NAME=VALUE` lines, a list of files as one line each.
fn parse(shown: &str) -> Option<Service> {
    let mut all: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (name, value) in shown.lines().filter_map(|line| line.split_once('=')) {
        all.entry(name).or_default().push(value);
    }
    let one = |name: &str| all.get(name).and_then(|values| values.first()).copied().unwrap_or_default();
    if matches!(one("LoadState"), "" | "not-found" | "masked" | "error") {
        return None;
    }
    let roots = ["RootDirectory", "RootImage"].map(one);
    Some(Service {
        name: one("Id").to_owned(),
        is_active: matches!(one("ActiveState"), "active" | "reloading" | "activating" | "deactivating"),
        pid: one("MainPID").parse().ok().filter(|pid| *pid > 0),
        started: one("ExecMainStartTimestampMonotonic").parse().unwrap_or(0),
        environment: assignments(one("Environment")),
        files: all.get("EnvironmentFiles").into_iter().flatten().map(|file| environment_file(file)).collect(),
        root: roots.into_iter().find(|root| !root.is_empty() && *root != "/").map(str::to_owned),
    })
}

/// `/etc/default/x (ignore_errors=yes)`
fn environment_file(shown: &str) -> PathBuf {
    PathBuf::from(shown.rsplit_once(" (ignore_errors=").map_or(shown, |(path, _)| path))
}

/// Words quoted as for a shell; systemd writes `$'…'` where a word needs it.
fn assignments(shown: &str) -> Vec<(String, String)> {
    let words = shlex::split(&shown.replace("$'", "'")).unwrap_or_default();
    words.iter().filter_map(|word| word.split_once('=')).map(|(name, value)| (name.into(), value.into())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_services() {
        assert_eq!(full_name("payments").unwrap(), "payments.service");
        assert_eq!(full_name("payments@1.service").unwrap(), "payments@1.service");
        assert_eq!(full_name("node-18.2").unwrap(), "node-18.2.service");
        for wrong in ["", "../x", "a/b", "-x", ".x", "a b", "web.socket", "user.slice"] {
            assert_eq!(full_name(wrong).unwrap_err().exit(), Exit::Usage, "{wrong}");
        }
    }

    #[test]
    fn what_systemctl_shows_is_read() {
        let shown = "Id=payments.service\nLoadState=loaded\nActiveState=active\nMainPID=42\n\
            Environment=A=b \"JAVA_TOOL_OPTIONS=-Xmx1g -Da=\\\"b\\\"\" C=$'d e'\n\
            EnvironmentFiles=/etc/default/payments (ignore_errors=yes)\nEnvironmentFiles=/x y (ignore_errors=no)\n\
            RootDirectory=\nRootImage=\nExecMainStartTimestampMonotonic=123456\n";
        let service = parse(shown).unwrap();
        assert_eq!((service.name.as_str(), service.is_active, service.pid), ("payments.service", true, Some(42)));
        assert_eq!((service.started, service.root), (123_456, None));
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let expected = [pair("A", "b"), pair("JAVA_TOOL_OPTIONS", "-Xmx1g -Da=\"b\""), pair("C", "d e")];
        assert_eq!(service.environment, expected);
        assert_eq!(service.files, [Path::new("/etc/default/payments"), Path::new("/x y")]);
        assert!(parse("Id=x.service\nLoadState=not-found\n").is_none());
        let jailed = parse("Id=x.service\nLoadState=loaded\nRootDirectory=/srv/x\n").unwrap();
        assert_eq!((jailed.root.as_deref(), jailed.pid), (Some("/srv/x"), None));
    }
}
