//! `tidy`: what no compiler checks, file by file and file against file.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::openapi;

mod exposure;
mod repeated;
mod source;

/// Directories whose files are the house's own.
const ROOMS: [&str; 9] =
    ["moxie-agent", "moxie-common", "moxie-ebpf", "tests", "fuzz", "xtask", "migrations", "systemd", "docs"];
/// What each file that is looked at ends in.
const ENDINGS: [&str; 8] = ["rs", "toml", "md", "py", "mjs", "sh", "sql", "service"];

/// One file.
pub(crate) struct Text {
    path: String,
    text: String,
}

/// Says what is wrong, everything at once.
pub(crate) fn run() -> Result<()> {
    let files = files()?;
    let mut findings: Vec<String> = files.iter().flat_map(source::check).collect();
    findings.extend(source::stages(&files));
    findings.extend(repeated::migrations(&files));
    findings.extend(repeated::paths(&files));
    findings.extend(exposure::check()?);
    findings.extend(description()?);
    for long in source::long(&files) {
        println!("note: {long}");
    }
    if findings.is_empty() {
        return Ok(());
    }
    bail!("{} to tidy:\n{}", findings.len(), findings.join("\n"))
}

fn files() -> Result<Vec<Text>> {
    let mut paths: Vec<PathBuf> = ROOMS.iter().flat_map(|room| below(Path::new(room))).collect();
    paths.extend(fs::read_dir(".")?.filter_map(|entry| Some(entry.ok()?.path())).filter(|path| path.is_file()));
    paths.sort();
    let wanted = paths
        .into_iter()
        .filter(|path| path.extension().is_some_and(|ending| ENDINGS.iter().any(|wanted| ending == *wanted)));
    wanted
        .map(|path| {
            let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
            Ok(Text { path: path.to_string_lossy().trim_start_matches("./").to_owned(), text })
        })
        .collect()
}

/// Every file below a directory, except what is built.
fn below(directory: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path())).filter(|path| !path.ends_with("target"));
    paths.flat_map(|path| if path.is_dir() { below(&path) } else { vec![path] }).collect()
}

/// The description of the admin API against the code.
fn description() -> Result<Option<String>> {
    let kept = fs::read_to_string(openapi::FILE).unwrap_or_default();
    let stale = kept.trim_end() != openapi::from_code()?.trim_end();
    Ok(stale.then(|| format!("{}: not what the code says; `cargo xtask openapi` refreshes it", openapi::FILE)))
}
