//! Settings as they were written, and the one way from there to values: [`Section::take`], which keeps the problems.

use std::collections::BTreeMap;
use std::path::PathBuf;

use toml::{Table, Value};

use super::variables::{Shape, VARIABLES};
use super::{Flags, Problem, suggest};

/// Names of the sections.
const SECTIONS: [&str; 11] =
    ["admin", "divert", "scopes", "sniff", "tls", "store", "limits", "records", "rules", "log", "drain"];

/// A type that a setting can have.
pub(super) trait Setting: Sized {
    /// The value, or what to write instead.
    fn read(value: &Value) -> Result<Self, String>;
}

/// The whole configuration as written; a later source replaces what an earlier one said.
pub(super) struct Raw {
    table: Table,
    /// Where a key's value came from, unless from the file.
    origins: BTreeMap<String, String>,
}

/// One section as written.
pub(super) struct Section {
    name: &'static str,
    values: Table,
    origins: BTreeMap<String, String>,
    known: Vec<&'static str>,
    problems: Vec<Problem>,
}

impl Raw {
    pub(super) fn parse(text: &str) -> Result<Self, Problem> {
        let table = text.parse::<Table>().map_err(|error| Problem {
            key: String::new(),
            message: format!("the file is no TOML: {}", error.to_string().trim_end()),
        })?;
        Ok(Self { table, origins: BTreeMap::new() })
    }

    pub(super) fn overlay_variables(&mut self, env: impl Fn(&str) -> Option<String>) {
        for variable in &VARIABLES {
            let Some(key) = variable.key else { continue };
            if let Some(text) = env(variable.name).filter(|text| !text.is_empty()) {
                self.set(key, variable.shape.value(&text), variable.name);
            }
        }
        // Not Moxie's own variable, so the file goes before it; a Docker on another host has no containers here.
        let is_set = self.table.get("scopes").and_then(|scopes| scopes.get("docker")).is_some();
        if let Some(host) = env("DOCKER_HOST").filter(|host| !is_set && host.starts_with("unix://")) {
            self.set("scopes.docker", Value::String(host), "DOCKER_HOST");
        }
    }

    pub(super) fn overlay_flags(&mut self, flags: &Flags) {
        if let Some(addr) = &flags.admin {
            self.set("admin.addr", Value::String(addr.clone()), "--admin");
        }
        if let Some(url) = &flags.store {
            self.set("store.url", Value::String(url.clone()), "--store");
        }
        if let Some(via) = flags.via {
            self.set("divert.via", Value::String(via.to_string()), "--via");
        }
        if let Some(seed) = flags.seed {
            self.set("rules.seed", Shape::Number.value(&seed.to_string()), "--seed");
        }
        if !flags.upstream_ca.is_empty() {
            let mut files = self.list("tls", "upstream_ca");
            files.extend(flags.upstream_ca.iter().map(|file| Value::String(file.display().to_string())));
            self.set("tls.upstream_ca", Value::Array(files), "--upstream-ca");
        }
    }

    /// The values of one section; `""` is what stands outside every section.
    pub(super) fn section(&mut self, name: &'static str) -> Section {
        let mut problems = Vec::new();
        let values = if name.is_empty() {
            let loose = |(key, value): &(String, Value)| !value.is_table() && !SECTIONS.contains(&key.as_str());
            self.table.clone().into_iter().filter(loose).collect()
        } else {
            match self.table.remove(name) {
                Some(Value::Table(values)) => values,
                None => Table::new(),
                Some(_) => {
                    problems.push(Problem { key: name.into(), message: format!("is a section: write [{name}]") });
                    Table::new()
                }
            }
        };
        Section { name, values, origins: self.origins.clone(), known: Vec::new(), problems }
    }

    /// What is left after every section was read.
    pub(super) fn unknown_sections(&self) -> Vec<Problem> {
        let left = self.table.iter().filter(|(_, value)| value.is_table());
        left.map(|(name, _)| Problem {
            key: name.clone(),
            message: format!("is no section{}", suggest::did_you_mean(name, &SECTIONS)),
        })
        .collect()
    }

    fn set(&mut self, key: &str, value: Value, origin: &str) {
        self.origins.insert(key.to_owned(), origin.to_owned());
        match key.split_once('.') {
            None => {
                self.table.insert(key.to_owned(), value);
            }
            Some((section, key)) => {
                let section = self.table.entry(section).or_insert_with(|| Value::Table(Table::new()));
                // A section that is no table is reported when it is read.
                if let Some(section) = section.as_table_mut() {
                    section.insert(key.to_owned(), value);
                }
            }
        }
    }

    fn list(&self, section: &str, key: &str) -> Vec<Value> {
        let value = self.table.get(section).and_then(|section| section.get(key));
        value.and_then(Value::as_array).cloned().unwrap_or_default()
    }
}

impl Section {
    /// The value of `key`; `None` if it is not set or cannot be used (which [`Section::finish`] will tell).
    pub(super) fn take<T: Setting>(&mut self, key: &'static str) -> Option<T> {
        self.known.push(key);
        let value = self.values.remove(key)?;
        T::read(&value).map_err(|message| self.refuse(key, message)).ok()
    }

    /// Whether the file, and not a variable or flag, sets `key`.
    pub(super) fn is_in_file(&self, key: &str) -> bool {
        self.values.contains_key(key) && !self.origins.contains_key(&self.path(key))
    }

    /// Notes that `key` cannot be what it is.
    pub(super) fn refuse(&mut self, key: &str, message: impl Into<String>) {
        let path = self.path(key);
        let key = self.origins.get(&path).cloned().unwrap_or(path);
        self.problems.push(Problem { key, message: message.into() });
    }

    /// `value`, unless something was refused or a key is left that nobody knows.
    pub(super) fn finish<T>(mut self, value: T) -> Result<T, Vec<Problem>> {
        let unknown: Vec<String> = self.values.keys().cloned().collect();
        for key in unknown {
            let guess = suggest::did_you_mean(&key, &self.known);
            self.refuse(&key, format!("is no setting{guess}"));
        }
        if self.problems.is_empty() { Ok(value) } else { Err(self.problems) }
    }

    fn path(&self, key: &str) -> String {
        if self.name.is_empty() { key.to_owned() } else { format!("{}.{key}", self.name) }
    }
}

impl Setting for bool {
    fn read(value: &Value) -> Result<Self, String> {
        value.as_bool().ok_or_else(|| format!("is {value}: write true or false"))
    }
}

impl Setting for u64 {
    fn read(value: &Value) -> Result<Self, String> {
        let number = value.as_integer().and_then(|number| Self::try_from(number).ok());
        number.ok_or_else(|| format!("is {value}: write a whole number, 0 or more"))
    }
}

impl Setting for String {
    fn read(value: &Value) -> Result<Self, String> {
        value.as_str().map(str::to_owned).ok_or_else(|| format!("is {value}: write a text in quotes"))
    }
}

impl Setting for PathBuf {
    fn read(value: &Value) -> Result<Self, String> {
        String::read(value).map(Self::from)
    }
}

impl<T: Setting> Setting for Vec<T> {
    fn read(value: &Value) -> Result<Self, String> {
        let items = value.as_array().ok_or_else(|| format!("is {value}: write a list, such as [\"…\"]"))?;
        items.iter().map(T::read).collect()
    }
}
