//! Running other programs: from the workspace's root, with what cargo installs on the path, as root where it must be.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

/// The workspace's directory.
pub(crate) fn root() -> Result<PathBuf> {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.parent().map(Path::to_path_buf).context("xtask has no workspace around it")
}

/// A program, with the directory of `cargo install` on its path.
pub(crate) fn program(name: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(name);
    if let Ok(path) = std::env::join_paths(search_path()) {
        command.env("PATH", path);
    }
    command
}

/// The cargo that runs this.
pub(crate) fn cargo(arguments: &[&str]) -> Command {
    let mut command = program("cargo");
    command.args(arguments);
    // What cargo tells this program about itself would have build scripts run anew that ask for the same names.
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
            command.env_remove(&name);
        }
    }
    command
}

/// `name arguments`, by sudo if this is not root.
pub(crate) fn as_root(name: &str, arguments: &[&str]) -> Result<Command> {
    if is_root() {
        let mut command = program(name);
        command.args(arguments);
        return Ok(command);
    }
    if !is_installed("sudo") {
        bail!("`{name} {}` needs root, and there is no sudo: run this as root", arguments.join(" "));
    }
    let mut command = program("sudo");
    command.arg(name).args(arguments);
    Ok(command)
}

/// Runs it in sight of the user.
pub(crate) fn show(mut command: Command) -> Result<()> {
    let line = line(&command);
    let status = command.status().with_context(|| format!("cannot run {line}"))?;
    ensure!(status.success(), "{line} ended with {status}");
    Ok(())
}

/// What it prints; its complaints go to the user.
pub(crate) fn read(mut command: Command) -> Result<String> {
    let line = line(&command);
    let output = command.stderr(Stdio::inherit()).output().with_context(|| format!("cannot run {line}"))?;
    ensure!(output.status.success(), "{line} ended with {}", output.status);
    Ok(String::from_utf8(output.stdout)?)
}

/// How a user would type it.
pub(crate) fn line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

/// Whether the path has such a program.
pub(crate) fn is_installed(name: &str) -> bool {
    search_path().iter().any(|directory| directory.join(name).is_file())
}

/// Whether this process may do anything.
pub(crate) fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
}

/// Whether a skipped step is a failure.
pub(crate) fn is_ci() -> bool {
    std::env::var_os("CI").is_some_and(|value| !value.is_empty() && value != *"false")
}

/// The time now, to measure from.
#[expect(clippy::disallowed_methods, reason = "nothing here pauses time")]
pub(crate) fn now() -> std::time::Instant {
    std::time::Instant::now()
}

fn search_path() -> Vec<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cargo")));
    let system = ["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from);
    let mut directories: Vec<PathBuf> = std::env::split_paths(&OsString::from(&path)).collect();
    for directory in home.map(|home| home.join("bin")).into_iter().chain(system) {
        if !directories.contains(&directory) {
            directories.push(directory);
        }
    }
    directories
}
