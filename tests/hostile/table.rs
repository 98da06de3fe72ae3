//! `verdicts.txt`: for each case its bytes, and who sees what; readers that see the same share a line.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use anyhow::{Context, Result, ensure};

use super::moxie;
use super::oracles::Measured;

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/hostile/verdicts.txt");
/// What to type when the table is not what is.
pub const HOW: &str = "If this is meant: MOXIE_WRITE_TABLE=1 cargo test -p moxie-tests --test hostile";

const HEAD: &str = "\
# What servers make of hostile HTTP/1, and what Moxie makes of it. Written by `MOXIE_WRITE_TABLE=1 cargo test -p moxie-tests --test hostile`.
# A case: its name and bytes; then each view with the readers that have it. A view: the requests (method, target, host, body; `-` is
# nothing, `…` has not ended, %xx is a byte), and how it ended: done (after an answer that closes), dropped (closed without saying so), waits
# for more, refused, or Moxie's doubt.
# Not here: the sentinel `GET /sentinel` that follows every case's bytes.
";
/// Before the versions of the servers, as `name version` with a comma between them.
const SERVERS: &str = "# Servers: ";

/// One case of the table.
#[derive(Clone, Debug, Default)]
pub struct Row {
    pub bytes: String,
    /// By reader.
    pub views: BTreeMap<String, String>,
}

/// Bytes as the table has them.
pub fn shown(bytes: &[u8]) -> String {
    let bytes = bytes.strip_suffix(super::cases::SENTINEL).unwrap_or(bytes);
    if bytes.len() > 2000 {
        return format!("{}… {} bytes", bytes[..60].escape_ascii(), bytes.len());
    }
    bytes.escape_ascii().to_string()
}

fn text() -> Result<String> {
    std::fs::read_to_string(FILE).with_context(|| format!("cannot read {FILE}; {HOW}"))
}

/// The committed table, by case.
pub fn read() -> Result<BTreeMap<String, Row>> {
    let text = text()?;
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
    let line = text.lines().find_map(|line| line.strip_prefix(SERVERS)).context("the table names no versions")?;
    let split = |server: &str| server.split_once(' ').map(|(name, version)| (name.to_owned(), version.to_owned()));
    line.split(", ").map(|server| split(server).with_context(|| format!("no version: {server:?}"))).collect()
}

/// Compares what was measured with the table, or writes it. Which servers were not compared, and why.
///
/// # Errors
/// Every case of which a server sees something else.
pub fn hold(measured: &Measured) -> Result<Vec<String>> {
    if std::env::var_os("MOXIE_WRITE_TABLE").is_some() {
        std::fs::write(FILE, render(measured)?)?;
    }
    let Held { wrong, compared, left } = compare(measured, &versions(&text()?)?, &read()?);
    ensure!(wrong.is_empty(), "{}\n{HOW}", wrong.join("\n"));
    // It is of Cargo.lock, as the table is of this repository: a table that is about another one is old.
    ensure!(compared.contains(&"hyper"), "{}\n{HOW}", left.join("\n"));
    Ok(left)
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

fn render(measured: &Measured) -> Result<String> {
    let versions: Vec<_> = measured.versions.iter().map(|(server, version)| format!("{server} {version}")).collect();
    let mut text = format!("{HEAD}{SERVERS}{}\n", versions.join(", "));
    for (case, theirs) in &measured.views {
        let mut readers: BTreeMap<String, Vec<&str>> = BTreeMap::new();
        for (reader, view) in theirs {
            readers.entry(view.to_string()).or_default().push(reader);
        }
        readers.entry(moxie::view(&case.bytes).to_string()).or_default().push("moxie");
        write!(text, "\n{}\n  {}\n", case.name, shown(&case.bytes))?;
        for (view, readers) in readers {
            writeln!(text, "  {}: {view}", readers.join(" "))?;
        }
    }
    Ok(text)
}

#[test]
fn only_servers_that_the_table_is_about_are_compared() {
    let case = super::cases::all().remove(0);
    let view = moxie::view(&case.bytes);
    let measured = Measured {
        versions: [("go", "1.24".to_owned()), ("hyper", "1.12.0".to_owned())].into(),
        views: vec![(case.clone(), [("go", view.clone()), ("hyper", view.clone())].into())],
    };
    let row = |hyper: &str| {
        let views = [("go".to_owned(), "refused".to_owned()), ("hyper".to_owned(), hyper.to_owned())];
        BTreeMap::from([(case.name.clone(), Row { bytes: shown(&case.bytes), views: views.into() })])
    };
    let named = versions("# x\n# Servers: go 1.19.8, hyper 1.12.0\n\nplain/get\n").unwrap();
    let held = compare(&measured, &named, &row(&view.to_string()));
    assert_eq!((held.wrong.len(), held.compared, held.left.len()), (0, vec!["hyper"], 1));
    assert_eq!(compare(&measured, &named, &row("refused")).wrong.len(), 1, "hyper sees more");
    let all = BTreeMap::from([("go".to_owned(), "1.24".to_owned())]);
    assert_eq!(compare(&measured, &all, &row("refused")).wrong.len(), 1, "go sees more");
    let mut more = row(&view.to_string());
    more.insert("gone".to_owned(), Row::default());
    assert_eq!(compare(&measured, &named, &more).wrong.len(), 1, "a case that is gone");
}
