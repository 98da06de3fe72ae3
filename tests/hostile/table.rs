//! `verdicts.txt`: for each case its bytes, and who sees what; readers that see the same share a line.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anyhow::{Context, Result, ensure};

use super::cases::Case;
use super::moxie;
use super::view::View;

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

/// The committed table, by case.
pub fn read() -> Result<BTreeMap<String, Row>> {
    let text = std::fs::read_to_string(FILE).with_context(|| format!("cannot read {FILE}; {HOW}"))?;
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

/// Compares what was measured with the table, or writes it.
pub fn hold(measured: &[(Case, BTreeMap<&'static str, View>)]) -> Result<()> {
    let measured = render(measured)?;
    if std::env::var_os("MOXIE_WRITE_TABLE").is_some() {
        std::fs::write(FILE, &measured)?;
    }
    let told = std::fs::read_to_string(FILE).unwrap_or_default();
    let differing = told.split("\n\n").filter(|block| !measured.contains(block)).count();
    let new: Vec<_> = measured.split("\n\n").filter(|block| !told.contains(block)).collect();
    ensure!(told == measured, "{differing} cases of the table are not so. Measured:\n{}\n{HOW}", new.join("\n\n"));
    Ok(())
}

fn render(measured: &[(Case, BTreeMap<&'static str, View>)]) -> Result<String> {
    let mut text = HEAD.to_owned();
    for (case, theirs) in measured {
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
