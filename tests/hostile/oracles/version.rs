//! Which versions of the readers are here: another may see other things, and the table is about those that it names.

use std::process::Command;

use anyhow::{Context, Result};

use super::servers::command;

/// The version that a server's program says it is, such as `1.22.1`.
pub(crate) fn of(server: &str) -> Result<String> {
    let said = match server {
        "hyper" => return locked("hyper"),
        "nginx" => said(Command::new("nginx").arg("-v")),
        "haproxy" => said(Command::new("haproxy").arg("-v")),
        "node" => said(&mut command("node", &["--version"])),
        "go" => said(&mut command("go", &["version"])),
        "curl" => said(&mut command("curl", &["--version"])),
        "http.client" => said(&mut command("/usr/bin/python3", &["--version"])),
        "aiohttp" => python("aiohttp"),
        _ => python("h11"),
    };
    let said = said.with_context(|| format!("{server} does not say its version; cargo xtask setup installs it"))?;
    number(&said).with_context(|| format!("{server} says no version: {said:?}"))
}

/// A package of Python's.
fn python(package: &str) -> Result<String> {
    said(&mut command("/usr/bin/python3", &["-c", &format!("import {package}; print({package}.__version__)")]))
}

/// nginx says it on its standard error.
fn said(program: &mut Command) -> Result<String> {
    let output = program.output()?;
    Ok(String::from_utf8([output.stdout, output.stderr].concat())?)
}

/// The first two or three numbers with dots between them.
fn number(text: &str) -> Option<String> {
    let words = text.split(|letter: char| !letter.is_ascii_digit() && letter != '.');
    let mut words = words.map(|word| word.trim_matches('.'));
    words.find(|word| word.contains('.')).map(str::to_owned)
}

/// What this program was built with.
fn locked(name: &str) -> Result<String> {
    const LOCK: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.lock"));
    let wanted = format!("name = \"{name}\"\nversion = \"");
    let version = LOCK.split_once(&wanted).and_then(|(_, rest)| rest.split_once('"'));
    Ok(version.with_context(|| format!("Cargo.lock has no {name}"))?.0.to_owned())
}

#[test]
fn versions_are_read_off_what_programs_say() {
    for (said, version) in [
        ("nginx version: nginx/1.22.1\n", "1.22.1"),
        ("HAProxy version 2.6.12-1+deb12u4 2026/10/17 - https://haproxy.org/\n", "2.6.12"),
        ("v20.20.2\n", "20.20.2"),
        ("go version go1.24 linux/amd64\n", "1.24"),
        ("0.14.0\n", "0.14.0"),
    ] {
        assert_eq!(number(said).as_deref(), Some(version));
    }
    assert_eq!(number("command not found"), None);
}
