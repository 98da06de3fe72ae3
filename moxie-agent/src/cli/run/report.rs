//! The report of a run: `{"exit_code", "exchanges", "connections"}`, oldest first.

use std::path::{Path, PathBuf};

use serde_json::json;

use super::account::Account;
use crate::cli::destination::Destination;
use crate::cli::exit::Failure;

/// A report that is going to be written.
pub(super) struct Report {
    path: PathBuf,
    file: Destination,
}

impl Report {
    /// Opens it, so that a report that cannot be written is known before CMD runs.
    pub(super) fn reserve(path: &Path) -> Result<Self, Failure> {
        let file = Destination::open(path).map_err(|error| refused(path, &error))?;
        Ok(Self { path: path.to_path_buf(), file })
    }

    pub(super) fn write(self, account: &Account, exit_code: u8) -> Result<(), Failure> {
        let report = json!({
            "exit_code": exit_code,
            "exchanges": account.exchanges,
            "connections": account.connections,
        });
        self.file.write(format!("{report:#}\n").as_bytes()).map_err(|error| refused(&self.path, &error))
    }
}

fn refused(path: &Path, error: &std::io::Error) -> Failure {
    Failure::because(format_args!("cannot write the report {}", path.display()), error)
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn the_report_appears_whole_and_leaves_no_draft() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("report.json");
        let report = Report::reserve(&path).unwrap();
        assert!(!path.exists());
        let account = Account { exchanges: vec![json!({"id": "1"})], connections: vec![], rules: vec![] };
        report.write(&account, 3).unwrap();
        let read: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        assert_eq!(read, json!({"exit_code": 3, "exchanges": [{"id": "1"}], "connections": []}));
        drop(Report::reserve(&path).unwrap());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_place_that_cannot_be_written_is_known_before() {
        assert!(Report::reserve(Path::new("/nonexistent/report.json")).is_err());
        assert!(Report::reserve(tempfile::tempdir().unwrap().path()).is_err());
    }
}
