//! Files that say the same thing must say the same.

use std::collections::BTreeSet;

use super::Text;

/// Both stores have the same migrations, by number and name.
pub(super) fn migrations(files: &[Text]) -> Vec<String> {
    let of = |store: &str| -> BTreeSet<String> {
        let directory = format!("migrations/{store}/");
        files.iter().filter_map(|file| file.path.strip_prefix(&directory).map(str::to_owned)).collect()
    };
    let (sqlite, postgres) = (of("sqlite"), of("postgres"));
    if sqlite.is_empty() {
        return vec!["migrations/sqlite: there are no migrations".into()];
    }
    let alone = |mine: &BTreeSet<String>, theirs: &BTreeSet<String>, store: &str| -> Vec<String> {
        mine.difference(theirs).map(|name| format!("migrations/{store}/{name}: has no twin")).collect()
    };
    [alone(&sqlite, &postgres, "sqlite"), alone(&postgres, &sqlite, "postgres")].concat()
}

/// The unit names the directories and capabilities of `paths.rs`.
pub(super) fn paths(files: &[Text]) -> Vec<String> {
    let source = "moxie-agent/src/paths.rs";
    let text = |path: &str| files.iter().find(|file| file.path == path).map(|file| file.text.as_str());
    let (Some(paths), Some(unit)) = (text(source), text("systemd/moxie.service")) else {
        return vec![format!("{source} or systemd/moxie.service: is not there")];
    };
    let wanted = [("STATE_DIR", "/var/lib/", "StateDirectory="), ("RUNTIME_DIR", "/run/", "RuntimeDirectory=")];
    let directories = wanted.into_iter().filter_map(|(name, base, key)| {
        let Some(own) = constant(paths, name).and_then(|path| path.strip_prefix(base)) else {
            return Some(format!("{source}: {name} is not below {base}"));
        };
        let said = unit.lines().any(|line| line.strip_prefix(key) == Some(own));
        (!said).then(|| format!("systemd/moxie.service: says no {key}{own}, as {source} does"))
    });
    let granted = unit.lines().find_map(|line| line.strip_prefix("CapabilityBoundingSet=")).unwrap_or_default();
    let (granted, needed) = (capabilities(granted), capabilities(paths));
    let differ = (granted != needed)
        .then(|| format!("systemd/moxie.service: grants {granted:?}, and {source} names {needed:?}"));
    directories.chain(differ).collect()
}

/// Every word that is the name of a capability.
fn capabilities(text: &str) -> BTreeSet<&str> {
    let is_part = |letter: char| letter.is_ascii_uppercase() || letter == '_';
    // A comment may say what a capability is like; only code counts.
    let code = text.lines().map(|line| line.split("//").next().unwrap_or_default());
    let words = code.flat_map(|line| line.split(|letter| !is_part(letter)));
    words.filter(|word| word.starts_with("CAP_")).collect()
}

/// The value of `pub const NAME: &str = "value";`.
fn constant<'text>(text: &'text str, name: &str) -> Option<&'text str> {
    let declared = format!("pub const {name}: &str = \"");
    text.lines().find_map(|line| line.strip_prefix(&declared)?.strip_suffix("\";"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, text: &str) -> Text {
        Text { path: path.into(), text: text.into() }
    }

    #[test]
    fn a_migration_without_its_twin_is_found() {
        let both = ["sqlite", "postgres"].map(|store| file(&format!("migrations/{store}/0001_rules.sql"), ""));
        assert_eq!(migrations(&both), Vec::<String>::new());
        let mut more = Vec::from(both);
        more.push(file("migrations/sqlite/0002_more.sql", ""));
        assert_eq!(migrations(&more), ["migrations/sqlite/0002_more.sql: has no twin"]);
        assert_eq!(migrations(&[]).len(), 1);
    }

    #[test]
    fn a_unit_that_names_another_directory_or_capability_is_found() {
        let source = "pub const STATE_DIR: &str = \"/var/lib/moxie\";\npub const RUNTIME_DIR: &str = \"/run/moxie\";\n\
            // not CAP_CHOWN\n[\"CAP_BPF\"]\n";
        let check =
            |unit: &str| paths(&[file("moxie-agent/src/paths.rs", source), file("systemd/moxie.service", unit)]);
        let good = "[Service]\nStateDirectory=moxie\nRuntimeDirectory=moxie\nCapabilityBoundingSet=CAP_BPF\n";
        assert_eq!(check(good), Vec::<String>::new());
        assert_eq!(check(&good.replace("RuntimeDirectory=moxie", "RuntimeDirectory=other")).len(), 1);
        assert_eq!(check(&good.replace("CAP_BPF", "CAP_BPF CAP_CHOWN")).len(), 1);
        assert_eq!(check("").len(), 3);
    }
}
