//! What systemd says of a unit that no cgroup is named after.

use std::io::Read as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tokio::time::Instant;

/// How long systemd may take. It answers in milliseconds unless it is in trouble itself.
const PATIENCE: Duration = Duration::from_secs(2);
/// From one look whether systemctl has ended to the next.
const PACE: Duration = Duration::from_millis(5);

/// A unit as systemd knows it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unit {
    /// Its cgroup from the root of the hierarchy; `None` while it has none.
    pub(super) control_group: Option<String>,
    /// Why it will have none, for people.
    pub(super) problem: Option<String>,
}

/// Asks for a unit by any of its names. `None`: there is no systemd here, or it did not answer. Blocks for [`PATIENCE`] at most.
pub(super) fn unit(name: &str) -> Option<Unit> {
    if !Path::new("/run/systemd/system").exists() {
        return None;
    }
    let mut show = Command::new("systemctl");
    show.args(["show", "--property=LoadState,ControlGroup", "--", name]).stdin(Stdio::null());
    let mut child = show.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().ok()?;
    if !ends(&mut child) {
        // Both fail only if it has ended meanwhile.
        let _ = child.kill();
        let _ = child.wait();
        return None;
    }
    let mut text = String::new();
    child.stdout.take()?.read_to_string(&mut text).ok()?;
    Some(read(&text, name))
}

fn ends(child: &mut Child) -> bool {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return status.success(),
            Ok(None) if Instant::now() < deadline => std::thread::sleep(PACE),
            _ => return false,
        }
    }
}

fn read(text: &str, name: &str) -> Unit {
    let value = |key: &str| {
        let of = |line: &'_ str| Some(line.strip_prefix(key)?.strip_prefix('=')?.to_owned());
        text.lines().find_map(of).filter(|value| !value.is_empty())
    };
    // The root is everybody's: a unit has its own cgroup or none.
    let control_group = value("ControlGroup").filter(|group| group != "/");
    let problem = match value("LoadState").as_deref() {
        Some("not-found") if control_group.is_none() => {
            Some(format!("systemd knows no unit {name}; `systemctl list-units` shows those it knows"))
        }
        Some("masked") if control_group.is_none() => Some(format!("unit {name} is masked, so it does not start")),
        _ => None,
    };
    Unit { control_group, problem }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read() {
        let unit = |group: Option<&str>| Unit { control_group: group.map(str::to_owned), problem: None };
        let running = "LoadState=loaded\nControlGroup=/system.slice/shop.service\n";
        assert_eq!(read(running, "alias.service"), unit(Some("/system.slice/shop.service")));
        assert_eq!(read("LoadState=loaded\nControlGroup=\n", "shop.service"), unit(None));
        assert_eq!(read("ControlGroup=/\n", "-.slice"), unit(None));
        let nobody = read("LoadState=not-found\nControlGroup=\n", "shpo.service");
        assert!(nobody.problem.unwrap().contains("knows no unit shpo.service"));
    }
}
