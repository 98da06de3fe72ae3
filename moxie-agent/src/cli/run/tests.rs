//! What a run reads before it changes anything.

use clap::Parser;

use super::*;
use crate::cli::{Cli, Command};

fn parse(argv: &[&str]) -> Arguments {
    let cli = Cli::try_parse_from(["moxie", "run"].iter().chain(argv)).unwrap();
    let Command::Run(arguments) = cli.command else { panic!("not run") };
    arguments
}

#[test]
fn rules_come_from_specs_and_files_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let json = dir.path().join("a.json");
    let lines = dir.path().join("b.rules");
    std::fs::write(&json, r#"{"rules": [{"url": "json/.*", "status_code": 500}]}"#).unwrap();
    std::fs::write(&lines, "# two\n\nGET one/a -> 429 x3\nGET two/a -> 503\n").unwrap();
    let arguments = parse(&[
        "--rule",
        "GET spec/a -> 404",
        "--rules",
        json.to_str().unwrap(),
        "--rules",
        lines.to_str().unwrap(),
        "--",
        "true",
    ]);
    let rules = arguments.read_rules().unwrap();
    let urls: Vec<&str> = rules.iter().filter_map(|rule| rule["url"].as_str()).collect();
    assert_eq!(urls, ["spec/a", "json/.*", "one/a", "two/a"]);
    assert_eq!(rules[2]["mock_count"], 3);
}

#[test]
fn every_problem_of_every_rule_is_wrong_use() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("rules.json");
    std::fs::write(&file, r#"[{"url": "a", "status_code": 99}, {"url": "b"}, {"stattus": 1}]"#).unwrap();
    let failure = parse(&["--rules", file.to_str().unwrap(), "true"]).read_rules().unwrap_err();
    assert_eq!(failure.exit(), Exit::Usage);
    let told = failure.to_string();
    assert!(told.contains("rule 1: status_code: ") && told.contains("rule 3: stattus: "), "{told}");
    assert!(!told.contains("rule 2: "), "{told}");
    let lines = dir.path().join("lines.rules");
    std::fs::write(&lines, "GET b/ -> 999\nGET c/ -> x\n").unwrap();
    let (file, lines) = (file.to_str().unwrap(), lines.to_str().unwrap());
    let options = ["--rule", "bad", "--rules", lines, "--rules", "/nonexistent", "--rules", file, "true"];
    let told = parse(&options).read_rules().unwrap_err().to_string();
    let expected = [
        "`bad`: ".to_owned(),
        format!("{lines}: line 1: status_code: "),
        format!("{lines}: line 2: "),
        "/nonexistent: cannot be read: ".to_owned(),
        format!("{file}: rule 1: status_code: "),
        format!("{file}: rule 3: stattus: "),
    ];
    let mut places: Vec<usize> = expected.iter().map(|part| told.find(part).expect(part)).collect();
    assert!(places.is_sorted(), "{told}");
    places.dedup();
    assert_eq!(places.len(), expected.len(), "{told}");
    assert_eq!(parse(&["--rules", "/nonexistent", "true"]).read_rules().unwrap_err().exit(), Exit::Usage);
    assert_eq!(parse(&["--rule", "nothing", "true"]).read_rules().unwrap_err().exit(), Exit::Usage);
}

#[test]
fn a_failure_before_cmd_is_moxies_own() {
    for (exit, expected) in [
        (Exit::Failed, MOXIE_FAILED),
        (Exit::Unreachable, MOXIE_FAILED),
        (Exit::Usage, Exit::Usage),
        (Exit::Denied, Exit::Denied),
    ] {
        assert_eq!(before_cmd(Failure::new(exit, "x")).exit(), expected);
    }
}

#[test]
fn everything_after_cmd_is_cmds() {
    let arguments = parse(&["--trust", "none", "curl", "-s", "--", "--rule"]);
    assert_eq!(arguments.command, ["curl", "-s", "--", "--rule"].map(OsString::from));
    assert!(!arguments.needs_own_agent());
    assert!(parse(&["--seed", "7", "true"]).needs_own_agent());
}
