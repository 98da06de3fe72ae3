//! Tables: for each case its bytes, and who sees what; readers that see the same share a line.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use anyhow::{Context, Result, ensure};

use super::cases::Case;
use super::oracles::Measured;
use super::view::View;

/// What to type when the table is not what is.
const HOW: &str = "If this is meant: MOXIE_WRITE_TABLE=1 cargo test -p moxie-tests --test hostile";
/// Before the versions of the readers, as `name version` with a comma between them.
const READERS: &str = "# Readers: ";

/// One table.
pub struct Table {
    /// Where it is.
    pub file: &'static str,
    /// What it says of itself, in lines that begin with `#`.
    pub head: &'static str,
    /// What follows every case's bytes, and is not shown.
    pub behind: &'static [u8],
    /// What Moxie makes of a case.
    pub ours: fn(&Case) -> View,
    /// The reader that comes with Cargo.lock, as the table comes with this repository: a table that is about another one is old.
    pub pinned: &'static str,
}

/// One case of the table.
#[derive(Clone, Debug, Default)]
struct Row {
    bytes: String,
    /// By reader.
    views: BTreeMap<String, String>,
}

impl Table {
    fn text(&self) -> Result<String> {
        std::fs::read_to_string(self.file).with_context(|| format!("cannot read {}; {HOW}", self.file))
    }

    /// Holds Moxie against the table: what it sees now, and what every reader has seen.
    ///
    /// # Errors
    /// Every case in which Moxie sees something else than the table says, or something that `disagreement` tells of.
    pub fn check(&self, cases: &[Case], disagreement: fn(&View, &View) -> Option<String>) -> Result<()> {
        let rows = rows(&self.text()?)?;
        let mut wrong = Vec::new();
        for case in cases {
            let (name, ours) = (&case.name, (self.ours)(case));
            let Some(row) = rows.get(name).filter(|row| row.bytes == self.shown(&case.bytes)) else {
                wrong.push(format!("{name}: not in the table as it is"));
                continue;
            };
            let told = row.views.get("moxie");
            if told != Some(&ours.to_string()) {
                wrong.push(format!("{name}: the table says that Moxie sees {told:?}; now it sees {ours}"));
            }
            for (reader, theirs) in row.views.iter().filter(|(reader, _)| *reader != "moxie") {
                let why = disagreement(&ours, &theirs.parse()?);
                wrong.extend(why.map(|why| format!("{name} {reader}: {why}")));
            }
        }
        ensure!(wrong.is_empty(), "{}\n{HOW}", wrong.join("\n"));
        Ok(())
    }

    /// Compares what was measured with the table, or writes it. Which readers were not compared, and why.
    ///
    /// # Errors
    /// Every case of which a reader sees something else.
    pub fn hold(&self, measured: &Measured) -> Result<Vec<String>> {
        if std::env::var_os("MOXIE_WRITE_TABLE").is_some() {
            std::fs::write(self.file, self.render(measured)?)?;
        }
        let text = self.text()?;
        let Held { wrong, compared, left } = compare(measured, &versions(&text)?, &rows(&text)?);
        ensure!(wrong.is_empty(), "{}\n{HOW}", wrong.join("\n"));
        ensure!(compared.contains(&self.pinned), "{}\n{HOW}", left.join("\n"));
        Ok(left)
    }

    fn render(&self, measured: &Measured) -> Result<String> {
        let versions: Vec<_> = measured.versions.iter().map(|(name, version)| format!("{name} {version}")).collect();
        let mut text = format!("{}{READERS}{}\n", self.head, versions.join(", "));
        for (case, theirs) in &measured.views {
            let mut readers: BTreeMap<String, Vec<&str>> = BTreeMap::new();
            for (reader, view) in theirs {
                readers.entry(view.to_string()).or_default().push(reader);
            }
            readers.entry((self.ours)(case).to_string()).or_default().push("moxie");
            write!(text, "\n{}\n  {}\n", case.name, self.shown(&case.bytes))?;
            for (view, readers) in readers {
                writeln!(text, "  {}: {view}", readers.join(" "))?;
            }
        }
        Ok(text)
    }

    /// Bytes as the table has them.
    fn shown(&self, bytes: &[u8]) -> String {
        let bytes = bytes.strip_suffix(self.behind).unwrap_or(bytes);
        if bytes.len() > 2000 {
            return format!("{}… {} bytes", bytes[..60].escape_ascii(), bytes.len());
        }
        bytes.escape_ascii().to_string()
    }
}

/// The cases of a table.
fn rows(text: &str) -> Result<BTreeMap<String, Row>> {
    let mut rows = BTreeMap::new();
    for block in text.split("\n\n").skip(1) {
        let mut lines = block.lines();
        let name = lines.next().unwrap_or_default().to_owned();
        let bytes = lines.next().and_then(|line| line.strip_prefix("  ")).unwrap_or_default().to_owned();
        let mut row = Row { bytes, views: BTreeMap::new() };
        for line in lines {
            let (readers, view) = line.trim_start().split_once(": ").with_context(|| format!("{name}: {line:?}"))?;
            row.views.extend(readers.split(' ').map(|reader| (reader.to_owned(), view.to_owned())));
        }
        rows.insert(name, row);
    }
    Ok(rows)
}

/// The versions that a table is about.
fn versions(text: &str) -> Result<BTreeMap<String, String>> {
    let line = text.lines().find_map(|line| line.strip_prefix(READERS)).context("the table names no versions")?;
    let split = |server: &str| server.split_once(' ').map(|(name, version)| (name.to_owned(), version.to_owned()));
    line.split(", ").map(|server| split(server).with_context(|| format!("no version: {server:?}"))).collect()
}

/// How the table stands to what was measured.
struct Held {
    wrong: Vec<String>,
    /// Servers that are of the version that the table names.
    compared: Vec<&'static str>,
    /// The others, in words.
    left: Vec<String>,
}

fn compare(measured: &Measured, named: &BTreeMap<String, String>, rows: &BTreeMap<String, Row>) -> Held {
    let mut held = Held { wrong: Vec::new(), compared: Vec::new(), left: Vec::new() };
    for (server, version) in &measured.versions {
        match named.get(*server) {
            Some(named) if named == version => held.compared.push(server),
            named => {
                let named = named.map_or("none of it", String::as_str);
                held.left.push(format!("{server} is {version} here, and the table is about {named}"));
            }
        }
    }
    for (case, theirs) in &measured.views {
        let row = rows.get(&case.name).cloned().unwrap_or_default();
        for server in &held.compared {
            let (told, seen) = (row.views.get(*server), theirs.get(server).map(ToString::to_string));
            if told != seen.as_ref() {
                held.wrong.push(format!("{} {server}: the table says {told:?}, it sees {seen:?}", case.name));
            }
        }
    }
    let names: BTreeSet<_> = measured.views.iter().map(|(case, _)| &case.name).collect();
    let old = rows.keys().filter(|name| !names.contains(name));
    held.wrong.extend(old.map(|name| format!("{name}: there is no such case any more")));
    held
}

#[test]
fn only_readers_that_the_table_is_about_are_compared() {
    let case = super::cases::all().remove(0);
    let view = super::moxie::view(&case.bytes);
    let measured = Measured {
        versions: [("go", "1.24".to_owned()), ("hyper", "1.12.0".to_owned())].into(),
        views: vec![(case.clone(), [("go", view.clone()), ("hyper", view.clone())].into())],
    };
    let row = |hyper: &str| {
        let views = [("go".to_owned(), "refused".to_owned()), ("hyper".to_owned(), hyper.to_owned())];
        BTreeMap::from([(case.name.clone(), Row { bytes: String::new(), views: views.into() })])
    };
    let named = versions("# x\n# Readers: go 1.19.8, hyper 1.12.0\n\nplain/get\n").unwrap();
    let held = compare(&measured, &named, &row(&view.to_string()));
    assert_eq!((held.wrong.len(), held.compared, held.left.len()), (0, vec!["hyper"], 1));
    assert_eq!(compare(&measured, &named, &row("refused")).wrong.len(), 1, "hyper sees more");
    let all = BTreeMap::from([("go".to_owned(), "1.24".to_owned())]);
    assert_eq!(compare(&measured, &all, &row("refused")).wrong.len(), 1, "go sees more");
    let mut more = row(&view.to_string());
    more.insert("gone".to_owned(), Row::default());
    assert_eq!(compare(&measured, &named, &more).wrong.len(), 1, "a case that is gone");
}
