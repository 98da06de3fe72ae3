//! The command line as a whole: it parses, and it ends with the documented codes.

use clap::error::ErrorKind;

use super::*;

#[test]
fn the_definition_is_sound() {
    Cli::command().debug_assert();
}

#[test]
fn every_documented_command_parses() {
    for line in [
        "agent --config F --admin 127.0.0.1:1 --store sqlite::memory: --state-dir D",
        "run --rule R --rules F --via ebpf --trust none --report F --upstream-ca F --seed 7 -- cmd -x --y",
        "run curl -s http://a",
        "scope add --cgroup /sys/fs/cgroup/a --mode observe",
        "scope add --pid 7 --json",
        "scope ls --json",
        "scope rm 1",
        "rule ls --json",
        "rule show 1",
        "rule set 1 status_code=429 --mock-count -1",
        "rule set 1 --mock-count 3",
        "rule enable 1",
        "rule disable 1 2",
        "rule rm 1",
        "rule import -",
        "rule export",
        "traffic ls --outcome faulted --json",
        "traffic ls --connections --verdict passthrough",
        "traffic tail --connections",
        "traffic show 1",
        "traffic export",
        "ca show",
        "ca env --shell",
        "ca install",
        "ca uninstall",
        "off --url unix:/x",
        "on",
        "status --json",
        "doctor --json",
        "completions bash",
        "man",
    ] {
        let argv = ["moxie"].into_iter().chain(line.split(' '));
        if let Err(error) = Cli::try_parse_from(argv) {
            panic!("moxie {line}: {error}");
        }
    }
}

#[test]
fn what_cannot_be_meant_is_refused() {
    for line in [
        "scope add",
        "scope add --pid 7 --cgroup /x",
        "rule set 1",
        "rule add",
        "run",
        "traffic ls --verdict fault",
        "explode",
    ] {
        let argv = ["moxie"].into_iter().chain(line.split(' '));
        let error = Cli::try_parse_from(argv).expect_err(line);
        assert_ne!(error.kind(), ErrorKind::DisplayHelp, "{line}");
        assert!(error.use_stderr(), "{line}");
    }
}

#[test]
fn what_is_no_process_id_is_told_what_to_write() {
    for pid in ["-1", "0", "abc", "", "4294967296"] {
        let error = Cli::try_parse_from(["moxie", "scope", "add", "--pid", pid]).expect_err(pid);
        assert!(error.to_string().contains("write a process id, such as 4711"), "{error}");
    }
}

#[test]
fn exits_have_the_documented_codes() {
    let exits = [
        Exit::Done,
        Exit::Failed,
        Exit::Usage,
        Exit::Unreachable,
        Exit::Denied,
        exit::MOXIE_FAILED,
        exit::NOT_EXECUTABLE,
        exit::NOT_FOUND,
    ];
    assert_eq!(exits.map(Exit::code), [0, 1, 2, 3, 4, 125, 126, 127]);
}

#[test]
fn the_manual_names_every_command() {
    let page = man::page(&Cli::command()).unwrap();
    for command in ["MOXIE RULE ADD", "MOXIE TRAFFIC TAIL", "MOXIE RUN", "MOXIE CA UNINSTALL"] {
        assert!(page.contains(command), "{command} is missing");
    }
    assert!(!page.contains("LAUNCH"));
}
