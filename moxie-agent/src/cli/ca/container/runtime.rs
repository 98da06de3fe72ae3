//! Asking whichever container runtime is here about one container, by its own program.

use std::io::ErrorKind;
use std::process::Command;

use serde_json::Value;

use crate::cli::exit::Failure;

/// Programs that take `container inspect NAME` and print the same JSON.
const PROGRAMS: [&str; 3] = ["docker", "podman", "nerdctl"];

/// A container as its runtime knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::cli::ca) struct Container {
    /// The program that knows it.
    pub(super) runtime: &'static str,
    pub(super) id: String,
    pub(super) name: String,
    /// Its first process, if it runs.
    pub(super) pid: Option<u32>,
    /// The variables that it was made with.
    pub(super) environment: Vec<(String, String)>,
}

/// The container of that name or id; fails where there is none, saying who was asked.
pub(super) fn find(name: &str) -> Result<Container, Failure> {
    if name.is_empty() || name.starts_with('-') || name.contains('/') {
        return Err(Failure::usage(format!("{name:?} is no name of a container")));
    }
    let mut told = Vec::new();
    for program in PROGRAMS {
        match inspect(program, name) {
            Asked::Known(container) => return Ok(*container),
            Asked::Unknown(why) => told.push(format!("{program}: {why}")),
            Asked::NotHere => {}
        }
    }
    if told.is_empty() {
        return Err(Failure::failed(format!("there is none of {} here to ask about a container", PROGRAMS.join(", ")))
            .next("for a container elsewhere: moxie ca env --docker"));
    }
    Err(Failure::failed(format!("there is no container {name}, or it cannot be asked for"))
        .details(told)
        .next("docker ps --all, or podman ps --all"))
}

enum Asked {
    Known(Box<Container>),
    Unknown(String),
    NotHere,
}

fn inspect(program: &'static str, name: &str) -> Asked {
    let done = match Command::new(program).args(["container", "inspect", name]).output() {
        Ok(done) => done,
        Err(error) if error.kind() == ErrorKind::NotFound => return Asked::NotHere,
        Err(error) => return Asked::Unknown(error.to_string()),
    };
    let found = serde_json::from_slice::<Value>(&done.stdout).ok();
    match found.as_ref().and_then(|found| read(program, found.get(0)?)) {
        Some(container) if done.status.success() => Asked::Known(Box::new(container)),
        _ => {
            let told = String::from_utf8_lossy(&done.stderr);
            // Warnings come first; what it came to is last.
            Asked::Unknown(told.lines().last().unwrap_or("it says nothing of use").to_owned())
        }
    }
}

fn read(runtime: &'static str, inspected: &Value) -> Option<Container> {
    let text = |pointer| inspected.pointer(pointer).and_then(Value::as_str);
    let is_running = inspected.pointer("/State/Running").and_then(Value::as_bool).unwrap_or(false);
    let pid = inspected.pointer("/State/Pid").and_then(Value::as_u64).and_then(|pid| u32::try_from(pid).ok());
    let variables = inspected.pointer("/Config/Env").and_then(Value::as_array).into_iter().flatten();
    let pairs = variables.filter_map(|variable| variable.as_str()?.split_once('='));
    Some(Container {
        runtime,
        id: text("/Id")?.to_owned(),
        name: text("/Name")?.trim_start_matches('/').to_owned(),
        pid: pid.filter(|pid| is_running && *pid > 0),
        environment: pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_a_runtime_says_is_read() {
        let mut inspected = json!({"Id": "5e3a", "Name": "/web", "State": {"Running": true, "Pid": 42},
            "Config": {"Env": ["PATH=/bin", "A=b=c", "nothing"]}});
        let found = read("docker", &inspected).unwrap();
        assert_eq!((found.id.as_str(), found.name.as_str(), found.pid), ("5e3a", "web", Some(42)));
        assert_eq!(found.environment, [("PATH".into(), "/bin".into()), ("A".into(), "b=c".into())]);
        inspected["State"]["Running"] = json!(false);
        assert_eq!(read("docker", &inspected).unwrap().pid, None);
        assert_eq!(read("docker", &json!({})), None);
    }

    #[test]
    fn a_name_is_no_option_and_no_path() {
        for wrong in ["", "--help", "a/b"] {
            assert_eq!(find(wrong).unwrap_err().exit(), crate::cli::exit::Exit::Usage, "{wrong}");
        }
    }
}
