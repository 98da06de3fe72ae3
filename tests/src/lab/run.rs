//! `moxie run` in the lab, with its report read back.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::Value;

use super::{Finished, process};
use crate::programs::{self, Answer};

/// What one `moxie run` did.
#[derive(Clone, Debug)]
pub struct Run {
    /// The process.
    pub finished: Finished,
    /// Its report.
    pub report: Value,
}

impl Run {
    /// Lets `moxie`, which has no arguments yet, run `words` with `options`.
    ///
    /// # Errors
    /// It does not start, does not end or writes no report.
    pub fn of(mut moxie: Command, options: &[&str], words: &[String]) -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let file = directory.path().join("report.json");
        moxie.arg("run").arg("--report").arg(&file).args(options).arg("--").args(words);
        let finished = process::run(moxie)?;
        let report = fs::read_to_string(&file).with_context(|| format!("no report: {finished:?}"))?;
        Ok(Self { report: serde_json::from_str(&report)?, finished })
    }

    /// What the client inside reported.
    ///
    /// # Errors
    /// It reported something else.
    pub fn answers(&self) -> Result<Vec<Answer>> {
        programs::answers(&self.finished.stdout).with_context(|| format!("{:?}", self.finished))
    }

    /// The exchanges of the report, oldest first.
    #[must_use]
    pub fn exchanges(&self) -> Vec<Value> {
        self.oldest_first("exchanges")
    }

    /// The connections of the report, oldest first.
    #[must_use]
    pub fn connections(&self) -> Vec<Value> {
        self.oldest_first("connections")
    }

    fn oldest_first(&self, list: &str) -> Vec<Value> {
        let mut records = self.report[list].as_array().cloned().unwrap_or_default();
        records.sort_by_key(|record| record["id"].as_str().unwrap_or_default().to_owned());
        records
    }
}
