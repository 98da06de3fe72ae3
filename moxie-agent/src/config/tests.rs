//! Tables and properties of reading the configuration.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use proptest::prelude::*;

use crate::divert::{PortSet, Via};

use super::*;

fn read_with(text: &str, env: &[(&str, &str)], flags: &Flags) -> Result<Config, Invalid> {
    let env: BTreeMap<&str, &str> = env.iter().copied().collect();
    read(text, |name| env.get(name).map(|value| (*value).to_owned()), flags)
}

fn problems(text: &str, env: &[(&str, &str)]) -> Vec<String> {
    let Invalid(problems) = read_with(text, env, &Flags::default()).unwrap_err();
    problems.iter().map(ToString::to_string).collect()
}

#[test]
fn nothing_set_gives_the_documented_values() {
    let config = read_with("", &[], &Flags::default()).unwrap();
    assert_eq!(config.environment, None);
    assert_eq!(config.admin.addr.to_string(), crate::paths::ADMIN_ADDR);
    assert_eq!((config.divert.ports, config.divert.via), (PortSet::default(), Via::Auto));
    assert_eq!(config.sniff.first_byte, Duration::from_millis(50));
    assert_eq!(config.sniff.timeout, Duration::from_secs(3));
    assert_eq!(config.sniff.max_bytes, 65_536);
    assert_eq!(config.records.bytes, 64 << 20);
    assert_eq!((config.limits.connections, config.limits.memory), (16_384, None));
    assert_eq!(config.log.format, crate::telemetry::LogFormat::Human);
    assert!(config.store.url.is_none() && config.rules.seed.is_none() && config.admin.token.is_none());
}

#[test]
fn the_shipped_file_reads_and_sets_nothing_but_what_is_the_default() {
    let shipped = include_str!("../../../systemd/moxie.toml");
    let uncommented: String = shipped
        .lines()
        .filter_map(|line| line.strip_prefix("#: "))
        .fold(String::new(), |text, line| text + line + "\n");
    assert!(uncommented.contains("[sniff]"), "the shipped file shows every setting behind `#: `");
    let read_back = read_with(&uncommented, &[], &Flags::default()).unwrap();
    let defaults = read_with("environment = \"dev\"", &[], &Flags::default()).unwrap();
    assert_eq!(format!("{read_back:?}"), format!("{defaults:?}"));
    read_with(shipped, &[], &Flags::default()).unwrap();
}

#[test]
fn flags_go_before_variables_and_variables_before_the_file() {
    let text = "environment = \"dev\"\n[admin]\naddr = \"127.0.0.1:1\"\n[tls]\nupstream_ca = [\"/file.pem\"]";
    let env = [("MOXIE_ADMIN_ADDR", "127.0.0.1:2"), ("MOXIE_ENVIRONMENT", "stg")];
    let of_file = read_with(text, &[], &Flags::default()).unwrap();
    let of_env = read_with(text, &env, &Flags::default()).unwrap();
    let flags = Flags { admin: Some("127.0.0.1:3".into()), upstream_ca: vec!["/flag.pem".into()], ..Flags::default() };
    let of_flags = read_with(text, &env, &flags).unwrap();
    assert_eq!([of_file.admin.addr.port(), of_env.admin.addr.port(), of_flags.admin.addr.port()], [1, 2, 3]);
    assert_eq!(of_env.environment.unwrap().as_str(), "stg");
    assert_eq!(of_flags.tls.upstream_ca, [PathBuf::from("/file.pem"), PathBuf::from("/flag.pem")]);
}

#[test]
fn every_problem_is_told_at_once_with_its_key_or_variable() {
    let text = r#"
        evironment = "dev"
        store = "x"
        [sniff]
        timeout = 3
        max_bytes = "64"
        first_bite = "50ms"
        [divert]
        ports = [0]
        [logs]
    "#;
    let told = problems(text, &[("MOXIE_ADMIN_ADDR", "here"), ("MOXIE_SEED", "many"), ("MOXIE_LOG", "a=b=c")]);
    for expected in [
        "evironment: is no setting (did you mean `environment`?)",
        "store: is a section: write [store]",
        "sniff.timeout: is 3: write a number and its unit",
        "sniff.max_bytes: is \"64\": write a number and its unit",
        "sniff.first_bite: is no setting (did you mean `first_byte`?)",
        "divert.ports: is [0]: write a list of ports",
        "logs: is no section (did you mean `log`?)",
        "MOXIE_ADMIN_ADDR: is \"here\": write IP:PORT",
        "MOXIE_SEED: is \"many\": write a whole number",
        "MOXIE_LOG: is no list of directives",
    ] {
        assert!(told.iter().any(|line| line.starts_with(expected)), "{expected} is not among {told:#?}");
    }
    assert_eq!(told.len(), 10, "{told:#?}");
}

#[test]
fn limits_between_settings_hold() {
    assert_eq!(
        problems("[sniff]\nfirst_byte = \"4s\"", &[]),
        ["sniff.timeout: must not be shorter than sniff.first_byte"]
    );
    assert_eq!(problems("[divert]\nheartbeat = \"1ms\"", &[]).len(), 1);
    assert!(problems("[sniff\n", &[])[0].starts_with("the file is no TOML"));
}

#[test]
fn secrets_come_from_the_environment_and_are_never_shown() {
    assert!(problems("[admin]\ntoken = \"t0p\"", &[])[0].contains("MOXIE_TOKEN"));
    let env = [("MOXIE_TOKEN", "t0p"), ("MOXIE_STORE", "postgres://u:s3cret@db/moxie")];
    let config = read_with("", &env, &Flags::default()).unwrap();
    assert_eq!(config.admin.token.as_ref().unwrap().expose(), "t0p");
    assert_eq!(config.store.url.as_ref().unwrap().expose(), "postgres://u:s3cret@db/moxie");
    let shown = format!("{config:?}");
    assert!(!shown.contains("t0p") && !shown.contains("s3cret"), "{shown}");
}

#[test]
fn an_unknown_variable_is_a_warning_with_a_guess() {
    let warnings = unknown_variables(["MOXIE_URL", "MOXIE_STROE", "PATH", "MOXIE_STATE_DIR"]);
    assert_eq!(warnings, ["MOXIE_STROE sets nothing (did you mean `MOXIE_STORE`?)"]);
}

#[test]
fn the_daemon_stays_out_of_production() {
    let dir = tempfile::tempdir().unwrap();
    let override_file = dir.path().join("allow-environment");
    let of = |name: &str| read_with("", &[("MOXIE_ENVIRONMENT", name)], &Flags::default()).unwrap().environment;
    for name in ["dev", "stg", "production-like"] {
        assert!(admit(of(name).as_ref(), &override_file).is_ok(), "{name}");
    }
    for name in ["prod", "Production", "LIVE", " live "] {
        assert!(matches!(admit(of(name).as_ref(), &override_file), Err(EnvironmentError::Refused(_))), "{name}");
    }
    assert!(matches!(admit(of("").as_ref(), &override_file), Err(EnvironmentError::Unnamed)));

    std::fs::write(&override_file, "").unwrap();
    std::fs::set_permissions(&override_file, std::fs::Permissions::from_mode(0o666)).unwrap();
    assert!(matches!(admit(None, &override_file), Err(EnvironmentError::Override(_))));
    std::fs::set_permissions(&override_file, std::fs::Permissions::from_mode(0o644)).unwrap();
    let owned_by_root = nix::unistd::geteuid().is_root();
    assert_eq!(admit(None, &override_file).is_ok(), owned_by_root);
}

proptest! {
    #[test]
    fn each_broken_setting_is_told_however_many_there_are(broken in proptest::sample::subsequence(vec![
        ("sniff", "timeout"), ("sniff", "max_bytes"), ("divert", "heartbeat"), ("records", "bytes"),
        ("log", "format"), ("drain", "timeout"), ("tls", "leaf_cache"), ("rules", "seed"),
        ("limits", "connections"), ("limits", "memory"),
    ], 1..10)) {
        let mut sections: BTreeMap<&str, String> = BTreeMap::new();
        for (section, key) in &broken {
            *sections.entry(section).or_default() += &format!("{key} = true\n");
        }
        let text: String = sections.iter().map(|(section, keys)| format!("[{section}]\n{keys}")).collect();
        let Invalid(told) = read_with(&text, &[], &Flags::default()).unwrap_err();
        let told: std::collections::BTreeSet<String> = told.into_iter().map(|problem| problem.key).collect();
        let expected = broken.iter().map(|(section, key)| format!("{section}.{key}")).collect();
        prop_assert_eq!(told, expected);
    }

    #[test]
    fn any_text_is_read_or_refused_without_a_panic(text in ".{0,200}", value in ".{0,20}") {
        let _ = read_with(&text, &[("MOXIE_LOG", &value), ("MOXIE_STORE", &value)], &Flags::default());
    }
}
