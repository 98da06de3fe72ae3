//! The variables that a service is started with, and a file of variables as systemd reads it.
//!
//! Files win over `Environment=` and later files over earlier ones, whatever the order in the unit (systemd.exec(5)). So the file of
//! the drop-in, which is read last, wins over all of them, and a preset that it replaces has to be known from all of them.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::path::{Path, PathBuf};

use super::systemctl::Service;

/// What a service's own configuration sets, and what its running process has beside that.
#[derive(Debug, Default)]
pub(super) struct Effective {
    /// Variables by name.
    pub(super) variables: BTreeMap<String, String>,
    /// What the user should know.
    pub(super) notes: Vec<String>,
}

/// The variables among `wanted`, as they would be without Moxie's own file `own` and its directory `dir`.
pub(super) fn effective(
    service: &Service,
    manager: Vec<(String, String)>,
    own: &Path,
    dir: &Path,
    wanted: impl Fn(&str) -> bool,
) -> Effective {
    let Effective { mut variables, mut notes } = Effective::default();
    for (name, value) in manager.into_iter().chain(service.environment.iter().cloned()) {
        if wanted(&name) {
            variables.insert(name, value);
        }
    }
    let mut is_before_own = true;
    for file in &service.files {
        if file == own {
            is_before_own = false;
            continue;
        }
        // One that is missing or a pattern sets nothing here; what the process has is looked at below.
        for (name, value) in parse(&std::fs::read_to_string(file).unwrap_or_default()) {
            if !wanted(&name) {
                continue;
            }
            if !is_before_own {
                notes.push(format!("{name} is set by {}, which is read after Moxie's file and wins", file.display()));
            }
            variables.insert(name, value);
        }
    }
    let text = dir.to_string_lossy();
    for (name, value) in running(service).into_iter().filter(|(name, value)| wanted(name) && !value.contains(&*text)) {
        let Entry::Vacant(unset) = variables.entry(name) else { continue };
        let says = format!("the running process has {}={value}, which its unit does not say", unset.key());
        let wins = "if a script sets it, the script wins, and has to name a file in";
        notes.push(format!("{says}: {wins} {}", dir.display()));
        unset.insert(value);
    }
    Effective { variables, notes }
}

/// The variables that the main process was started with.
fn running(service: &Service) -> Vec<(String, String)> {
    let path = service.pid.map(|pid| PathBuf::from(format!("/proc/{pid}/environ")));
    let content = path.and_then(|path| std::fs::read(path).ok()).unwrap_or_default();
    let entries = content.split(|byte| *byte == 0).map(String::from_utf8_lossy);
    entries.filter_map(|entry| entry.split_once('=').map(|(name, value)| (name.into(), value.into()))).collect()
}

/// Reads a file as `EnvironmentFile=` does: comments, quotes, lines that go on behind a backslash; nothing is expanded.
pub(super) fn parse(text: &str) -> Vec<(String, String)> {
    let joined = text.replace("\\\n", "");
    let lines = joined.lines().map(str::trim_start).filter(|line| !line.starts_with(['#', ';']));
    lines
        .filter_map(|line| line.split_once('='))
        .map(|(name, value)| (name.trim().to_owned(), unquoted(value.trim())))
        .filter(|(name, _)| !name.is_empty())
        .collect()
}

fn unquoted(value: &str) -> String {
    let mut text = String::new();
    let mut quote = None;
    let mut characters = value.chars();
    while let Some(character) = characters.next() {
        match (character, quote) {
            ('\\', None) => text.extend(characters.next()),
            ('\\', Some('"')) => match characters.next() {
                Some(escaped @ ('"' | '\\' | '`' | '$')) => text.push(escaped),
                other => {
                    text.push('\\');
                    text.extend(other);
                }
            },
            ('"' | '\'', None) => quote = Some(character),
            (closing, Some(open)) if closing == open => quote = None,
            (other, _) => text.push(other),
        }
    }
    text
}

/// Writes variables so that systemd reads them back.
pub(super) fn render(variables: &[(String, String)]) -> String {
    let quoted = |value: &str| {
        let escaped = value.chars().flat_map(|character| {
            let backslash = matches!(character, '"' | '\\' | '`' | '$').then_some('\\');
            backslash.into_iter().chain([character])
        });
        escaped.collect::<String>()
    };
    variables.iter().map(|(name, value)| format!("{name}=\"{}\"\n", quoted(value))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(of: &[(&str, &str)]) -> Vec<(String, String)> {
        of.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn a_file_is_read_as_systemd_reads_it() {
        let text = "# comment\n ; too\nA=b c  \nB=\"x \\\"y\\\" \\n $z\"\nC='it''s \\q'\nD=one\\\n two\nE=a\\ b\nnothing\nF=\n";
        let expected =
            [("A", "b c"), ("B", "x \"y\" \\n $z"), ("C", "its \\q"), ("D", "one two"), ("E", "a b"), ("F", "")];
        assert_eq!(parse(text), pairs(&expected));
    }

    #[test]
    fn what_is_written_is_read_back() {
        let values = pairs(&[("A", "-Da=\"b c\" 'd' $e `f` \\g"), ("B", "/plain"), ("C", "")]);
        assert_eq!(parse(&render(&values)), values);
    }

    #[test]
    fn files_win_over_settings_and_moxies_own_is_left_out() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            std::fs::write(dir.path().join(name), text).unwrap();
            dir.path().join(name)
        };
        let service = Service {
            environment: pairs(&[("A", "setting"), ("B", "setting"), ("C", "setting"), ("OTHER", "x")]),
            files: vec![write("first", "B=first\nC=first\n"), write("own", "A=own\n"), write("last", "C=last\n")],
            ..Service::default()
        };
        let own = dir.path().join("own");
        let wanted = |name: &str| name.len() == 1;
        let manager = pairs(&[("A", "manager"), ("D", "manager")]);
        let found = effective(&service, manager, &own, Path::new("/trust"), wanted);
        let expected = pairs(&[("A", "setting"), ("B", "first"), ("C", "last"), ("D", "manager")]);
        assert_eq!(found.variables, expected.into_iter().collect());
        assert!(found.notes.len() == 1 && found.notes[0].contains("last"), "{:?}", found.notes);
    }

    #[test]
    fn a_variable_of_the_process_that_no_unit_sets_is_said() {
        let service = Service { pid: Some(std::process::id()), ..Service::default() };
        let of = |dir: &str| effective(&service, vec![], Path::new("/own"), Path::new(dir), |name| name == "PATH");
        let path = std::env::vars().find(|(name, _)| name == "PATH").unwrap().1;
        assert_eq!(of("/nothing/of/it").variables["PATH"], path);
        assert_eq!(of("/nothing/of/it").notes.len(), 1);
        // What comes from the trust set itself is no preset.
        assert!(of(path.split(':').next().unwrap()).variables.is_empty());
    }
}
