//! The agent of this host and its files.

use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use serde_json::Value;

use super::{Check, hints};
use crate::cli::client::Client;
use crate::cli::exit::{Exit, Failure};
use crate::cli::output::field;
use crate::cli::{Context, settings};

pub(super) async fn checks(context: &Context) -> Vec<Check> {
    let (status, scopes) = match Client::locate(context) {
        Ok(client) => (client.get("/api/v1/status").await, client.items("/api/v1/scopes").await),
        Err(failure) => (Err(failure), Ok(Vec::new())),
    };
    let mut checks = vec![agent(&status)];
    if let Ok(status) = &status {
        checks.push(store(status));
        checks.extend(scopes.ok().map(|scopes| hints::check(status, &scopes)));
    }
    checks.push(authority(&settings::state_dir(context).authority()));
    checks
}

fn agent(status: &Result<Value, Failure>) -> Check {
    match status {
        Ok(status) if status.get("ready") == Some(&Value::Bool(true)) => {
            Check::ok("agent", format!("version {}, ready, by {}", field(status, "/version"), field(status, "/way")))
        }
        Ok(status) => {
            let reasons = status.get("reasons").and_then(Value::as_array).into_iter().flatten();
            let reasons: Vec<&str> = reasons.filter_map(Value::as_str).collect();
            Check::warn("agent", format!("not ready: {}", reasons.join("; ")), "moxie status")
        }
        Err(failure) if failure.exit() == Exit::Denied => Check::warn(
            "agent",
            "this user may not talk to it",
            format!("sudo usermod --append --groups {} $USER", crate::paths::GROUP),
        ),
        Err(_) => Check::warn("agent", "not running; `moxie run` does without", "sudo systemctl start moxie"),
    }
}

fn store(status: &Value) -> Check {
    match status.get("store_trouble").and_then(Value::as_str) {
        None => Check::ok("store", "in order"),
        Some(trouble) => Check::warn("store", trouble, "journalctl -u moxie"),
    }
}

fn authority(dir: &Path) -> Check {
    let certificate = dir.join("ca.pem");
    match std::fs::metadata(dir.join("ca.key")) {
        Ok(key) if key.mode() & 0o077 != 0 => {
            let key = dir.join("ca.key").display().to_string();
            Check::blocks("authority", format!("{key} can be read by others"), format!("sudo chmod 600 {key}"))
        }
        Ok(_) if !certificate.exists() => {
            let dir = dir.display();
            Check::blocks(
                "authority",
                format!("{dir} has a key without its certificate"),
                format!("sudo rm -r {dir} (a new authority is made)"),
            )
        }
        Ok(_) => Check::ok("authority", format!("{}", certificate.display())),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            Check::ok("authority", "none yet: it is made at the first start")
        }
        Err(error) => {
            Check::warn("authority", format!("cannot look into {}: {error}", dir.display()), "sudo moxie doctor")
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{Permissions, set_permissions, write};
    use std::os::unix::fs::PermissionsExt;

    use super::super::Verdict;
    use super::*;

    #[test]
    fn the_authoritys_files_are_judged() {
        let dir = tempfile::tempdir().unwrap();
        let check = || authority(dir.path());
        assert_eq!(check().verdict, Verdict::Ok);
        let key = dir.path().join("ca.key");
        write(&key, "").unwrap();
        set_permissions(&key, Permissions::from_mode(0o600)).unwrap();
        assert_eq!(check().verdict, Verdict::Blocks);
        write(dir.path().join("ca.pem"), "").unwrap();
        assert_eq!(check().verdict, Verdict::Ok);
        set_permissions(&key, Permissions::from_mode(0o640)).unwrap();
        assert!(check().fix.unwrap().starts_with("sudo chmod 600"));
    }

    #[test]
    fn no_agent_is_a_warning_and_one_that_is_not_ready_says_why() {
        let absent = agent(&Err(Failure::new(Exit::Unreachable, "x")));
        assert_eq!((absent.verdict, absent.fix.as_deref()), (Verdict::Warn, Some("sudo systemctl start moxie")));
        let off = agent(&Ok(serde_json::json!({"ready": false, "reasons": ["off"]})));
        assert_eq!((off.verdict, off.found.as_str()), (Verdict::Warn, "not ready: off"));
    }
}
