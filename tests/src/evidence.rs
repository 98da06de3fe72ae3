//! What a test that fails has to tell: processes as the kernel sees them, their sockets, ends of logs.
//!
//! On its own, for tests of other crates take it by its path. Nothing here waits for long: what is looked at may hang.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

/// Lines of a log that are told.
const LINES: usize = 60;
/// How long a program may take to tell something, in seconds.
const PATIENCE: &str = "10";
/// Where a thread sleeps that has nothing to do; of others the stack is told.
const AT_REST: [&str; 6] = ["futex", "poll", "select", "nanosleep", "wait4", "pipe_read"];

/// The end of a file.
#[must_use]
pub fn tail(path: &Path) -> String {
    let text = fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    section(&format!("the end of {}", path.display()), &lines[lines.len().saturating_sub(LINES)..].join("\n"))
}

/// What a program says, whether it fails or not.
#[must_use]
pub fn said(program: &str, arguments: &[&str]) -> String {
    let mut bounded = Command::new("timeout");
    bounded.args(["--kill-after=1", PATIENCE, program]).args(arguments).stdin(Stdio::null());
    let said = bounded.output().map_or_else(
        |error| error.to_string(),
        |output| format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr)),
    );
    section(&format!("{program} {}", arguments.join(" ")), said.trim_end())
}

/// Every process of a cgroup directory and of those below it, and the sockets of their network namespaces.
#[must_use]
pub fn of_cgroup(directory: &Path) -> String {
    let mut told = String::new();
    let mut namespaces = Vec::new();
    for pid in processes(directory) {
        told += &of_process(pid);
        let namespace = fs::read_link(format!("/proc/{pid}/ns/net")).unwrap_or_default();
        if !namespaces.contains(&namespace) {
            told += &sockets(pid);
            namespaces.push(namespace);
        }
    }
    section(&format!("processes in {}", directory.display()), &told)
}

/// Every process whose command line has `word` in it: a daemon, and what it has started.
#[must_use]
pub fn of_command(word: &str) -> String {
    let all = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = all.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let told: String = pids.filter(|pid| command_line(*pid).contains(word)).map(of_process).collect();
    section(&format!("processes of {word}"), &told)
}

/// Sockets, routes and addresses of the network namespace that a process is in.
#[must_use]
pub fn sockets(pid: u32) -> String {
    let target = pid.to_string();
    let inside = |words: &[&str]| said("nsenter", &[&["--target", &target, "--net", "--"], words].concat());
    inside(&["ss", "-tanpemo"]) + &inside(&["ip", "addr"]) + &inside(&["ip", "route", "show", "table", "all"])
}

/// One process, with each of its threads.
#[must_use]
pub fn of_process(pid: u32) -> String {
    let status = read(pid, "status");
    let wanted = ["Name", "State", "PPid", "NSpid", "SigPnd", "ShdPnd", "SigBlk", "SigCgt"];
    let kept = status.lines().filter(|line| line.split_once(':').is_some_and(|(name, _)| wanted.contains(&name)));
    let status = kept.collect::<Vec<_>>().join(" ").replace('\t', " ");
    let mut told = format!("process {pid}: {}\n  {status}\n", command_line(pid));
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    for thread in threads.filter_map(|entry| entry.file_name().into_string().ok()) {
        told += &of_thread(pid, &thread);
    }
    told
}

fn of_thread(pid: u32, thread: &str) -> String {
    let of = |file: &str| read(pid, &format!("task/{thread}/{file}"));
    let stack = of("stack");
    let mut told = format!("  {thread} {}: {} syscall {}\n", of("comm").trim(), of("wchan"), of("syscall").trim());
    let top = stack.lines().next().unwrap_or_default();
    if !AT_REST.iter().any(|rest| top.contains(rest)) {
        for line in stack.lines() {
            // Writing to a string does not fail.
            let _ = writeln!(told, "      {line}");
        }
    }
    told
}

fn processes(directory: &Path) -> Vec<u32> {
    let here = fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
    let mut found: Vec<u32> = here.lines().filter_map(|line| line.parse().ok()).collect();
    for below in fs::read_dir(directory).into_iter().flatten().flatten() {
        if below.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.extend(processes(&below.path()));
        }
    }
    found
}

fn command_line(pid: u32) -> String {
    read(pid, "cmdline").replace('\0', " ")
}

fn read(pid: u32, file: &str) -> String {
    let bytes = fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

fn section(title: &str, text: &str) -> String {
    format!("--- {title}:\n{text}\n")
}
