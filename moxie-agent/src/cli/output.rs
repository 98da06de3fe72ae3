//! What commands print: results on stdout, notes on stderr.

use std::borrow::Cow;
use std::io::{self, IsTerminal, Write};

use comfy_table::{Cell, CellAlignment, Color, Table, presets};
use serde_json::Value;

use super::env::Env;
use super::exit::{Exit, Failure};

/// Whether a listing is for people or for programs; every listing command takes it.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(super) struct Form {
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
}

/// Prints `text` and a line end on stdout.
pub(super) fn print(text: &str) -> Result<(), Failure> {
    write_to(&mut io::stdout().lock(), text)
}

/// Prints a JSON value, readable, on stdout.
pub(super) fn print_json(value: &Value) -> Result<(), Failure> {
    print(&format!("{value:#}"))
}

/// Says something on stderr; a stderr that is closed has no reader to miss it.
pub(super) fn note(text: &str) {
    let _ = writeln!(io::stderr().lock(), "moxie: {text}");
}

fn write_to(out: &mut impl Write, text: &str) -> Result<(), Failure> {
    let written = out.write_all(text.as_bytes()).and_then(|()| out.write_all(b"\n")).and_then(|()| out.flush());
    written.map_err(|error| match error.kind() {
        // `moxie traffic ls | head`: the reader has what it wanted.
        io::ErrorKind::BrokenPipe => Failure::new(Exit::Done, ""),
        _ => Failure::failed(format!("cannot write the output: {error}")),
    })
}

/// A listing for people.
pub(super) struct Listing {
    table: Table,
    colour: bool,
    rows: usize,
}

impl Listing {
    pub(super) fn new(header: &[&str], env: &Env) -> Self {
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        table.set_header(header.iter().map(Cell::new));
        let terminal = io::stdout().is_terminal();
        if !terminal {
            // A program or file gets whole lines; a terminal gets its own width.
            table.force_no_tty();
        }
        Self { table, colour: terminal && env.text("NO_COLOR").is_none(), rows: 0 }
    }

    pub(super) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        let colour = self.colour;
        self.table.add_row(cells.into_iter().map(|text| paint(&shown(&text), colour)));
        self.rows += 1;
    }

    /// Aligns a column of numbers.
    pub(super) fn numbers(&mut self, column: usize) {
        if let Some(column) = self.table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }

    /// Prints the listing; an empty one prints only a note with the next thing to type.
    pub(super) fn print(self, empty: &str) -> Result<(), Failure> {
        if self.rows == 0 {
            note(empty);
            return Ok(());
        }
        print(&self.table.trim_fmt())
    }
}

/// Words that stand for a state keep their colour in every listing.
fn paint(text: &str, colour: bool) -> Cell {
    let cell = Cell::new(text);
    let tint = match text {
        "armed" | "delivered" | "ok" | "forwarded" | "passthrough" => Color::Green,
        "exhausted" | "expired" | "no-traffic" | "warn" | "responded" | "rewritten" | "intercept" => Color::Yellow,
        "faulted" | "fault" | "blocks" => Color::Red,
        "disabled" => Color::DarkGrey,
        _ => return cell,
    };
    if colour { cell.fg(tint) } else { cell }
}

/// A text that others chose as a terminal may have it: control characters are escaped.
pub(super) fn shown(text: &str) -> Cow<'_, str> {
    if !text.contains(char::is_control) {
        return text.into();
    }
    let escaped = |char: char| if char.is_control() { char.escape_default().to_string() } else { char.into() };
    text.chars().map(escaped).collect::<String>().into()
}

/// A field of a JSON object as a table shows it: texts bare, null as `-`.
pub(super) fn field(object: &Value, pointer: &str) -> String {
    match object.pointer(pointer) {
        None | Some(Value::Null) => "-".to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_escaped() {
        assert_eq!(shown("shöp-1"), "shöp-1");
        assert_eq!(shown("a\u{1b}[2Jb\r\n\tc\u{9b}\u{7f}"), r"a\u{1b}[2Jb\r\n\tc\u{9b}\u{7f}");
        let mut listing = Listing::new(&["NAME"], &Env::from([]));
        listing.row(["two\nlines\u{7}".to_owned()]);
        assert!(listing.table.trim_fmt().ends_with(r"two\nlines\u{7}"), "{}", listing.table);
    }
}
