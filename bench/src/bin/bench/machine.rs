//! What the figures were made on, and with which versions.

use std::fs;
use std::process::Command;

use moxie_bench::processors;

use crate::Options;
use crate::peers::Kind;

/// One paragraph.
pub(crate) fn described(options: &Options) -> String {
    let today = jiff::Zoned::now().strftime("%Y-%m-%d").to_string();
    let kernel = first_line("/proc/sys/kernel/osrelease");
    let pinned = if processors::usable().len() < 2 {
        "one processor for everything, so that ratios say little"
    } else {
        "the proxy on one processor, generator and destination on another"
    };
    let versions: Vec<String> = Kind::ALL.into_iter().filter_map(|kind| version(options, kind)).collect();
    format!(
        "{today}, {} × {}, Linux {kernel}; {pinned}; {} repeats of {} s each. {}.",
        processors::usable().len(),
        model(),
        options.repeats(),
        options.seconds(),
        versions.join(", ")
    )
}

fn model() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let line = info.lines().find(|line| line.starts_with("model name"));
    line.and_then(|line| line.split_once(": ")).map_or("processor", |(_, model)| model).trim().to_owned()
}

fn first_line(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default().lines().next().unwrap_or_default().to_owned()
}

/// The first thing in what a peer says of itself that looks like a version.
fn version(options: &Options, kind: Kind) -> Option<String> {
    let mut command = Command::new(options.find(kind.program())?);
    let output = command.arg(kind.version_flag()).env("LD_LIBRARY_PATH", options.libraries()).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    let is_version = |word: &&str| word.matches('.').count() >= 2 && word.starts_with(|c: char| c.is_ascii_digit());
    let found = text.split(|c: char| !c.is_ascii_digit() && c != '.').find(is_version)?.to_owned();
    Some(format!("{} {}", kind.name(), found.trim_end_matches('.')))
}
