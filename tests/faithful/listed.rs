//! `docs/differences.md` against the tests: every row is pinned by a test that is there, and every known difference has its row.

use std::path::{Path, PathBuf};

use crate::known::KNOWN;

/// A row of the table: its id, and the tests that pin it.
struct Row {
    id: String,
    tests: Vec<String>,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

/// The rows of every table whose first column is an id.
fn rows() -> Vec<Row> {
    let text = std::fs::read_to_string(root().join("docs/differences.md")).unwrap();
    let rows = text.lines().filter(|line| line.starts_with("| `"));
    let rows = rows.map(|line| {
        let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        let ticked = |cell: &str| cell.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>();
        Row { id: ticked(cells.first().unwrap()).remove(0), tests: ticked(cells.last().unwrap()) }
    });
    rows.collect()
}

#[test]
fn every_known_difference_is_told_to_users() {
    let rows = rows();
    assert!(rows.len() > 5, "the tables have no ids");
    let untold: Vec<_> = KNOWN.iter().filter(|known| !rows.iter().any(|row| row.id == known.id)).collect();
    assert!(untold.is_empty(), "not in docs/differences.md: {untold:?}");
    for row in &rows {
        assert_eq!(rows.iter().filter(|other| other.id == row.id).count(), 1, "{} is there twice", row.id);
    }
}

#[test]
fn every_row_names_tests_that_are_there() {
    for Row { id, tests } in rows() {
        assert!(!tests.is_empty(), "{id}: no test pins it");
        for test in tests {
            let (file, name) = test.split_once("::").unwrap_or_else(|| panic!("{id}: {test} is no `file::test`"));
            let text =
                std::fs::read_to_string(root().join(file)).unwrap_or_else(|error| panic!("{id}: {file}: {error}"));
            let (function, case) = (format!("fn {name}("), format!("\"{name}\""));
            assert!(text.contains(&function) || text.contains(&case), "{id}: {file} has no {name}");
            // A row without a known difference is about time alone, which no case compares.
            if file.contains("faithful/cases/") && KNOWN.iter().any(|known| known.id == id) {
                assert!(
                    KNOWN.iter().any(|known| known.id == id && known.case == name),
                    "{id}: {name} is not known to differ so"
                );
            }
        }
    }
}
