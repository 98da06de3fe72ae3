//! `openapi`: the description of the admin API, as the code gives it, kept in the documentation.

use std::fs;

use anyhow::{Context, Result};

use crate::command;

/// Where the description is kept.
pub(crate) const FILE: &str = "docs/openapi.json";

/// Writes it anew.
pub(crate) fn refresh() -> Result<()> {
    fs::write(FILE, from_code()?).with_context(|| format!("cannot write {FILE}"))?;
    println!("{FILE} is as the code says");
    Ok(())
}

/// What the code says it is.
pub(crate) fn from_code() -> Result<String> {
    command::read(command::cargo(&["run", "--quiet", "-p", "moxie-agent", "--bin", "moxie", "--", "openapi"]))
}
