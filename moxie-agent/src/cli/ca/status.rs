//! `moxie ca status`: everything that Moxie has installed, for whom, and whether it is what it should be, by looking.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::{cdi, container, host, unit};
use crate::cli::Context;
use crate::cli::exit::Failure;
use crate::cli::output::{self, Form, Listing};

/// How something installed is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// In place, and of this authority.
    Ok,
    /// In place, but what runs began before it.
    Restart,
    /// Of another authority, or made of roots that have changed.
    Outdated,
    /// Was installed and is not there any more.
    Gone,
    /// It cannot be looked at.
    Unknown,
}

impl State {
    fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Restart => "restart",
            Self::Outdated => "outdated",
            Self::Gone => "gone",
            Self::Unknown => "unknown",
        }
    }
}

/// One thing that was installed.
#[derive(Clone, Debug)]
pub(super) struct Item {
    target: &'static str,
    name: String,
    /// What was written or covered for it.
    pub(super) files: Vec<PathBuf>,
    state: State,
    detail: String,
    next: Option<String>,
}

impl Item {
    pub(super) fn new(target: &'static str, name: &str, files: Vec<PathBuf>) -> Self {
        Self { target, name: name.to_owned(), files, state: State::Unknown, detail: String::new(), next: None }
    }

    /// What looking at it has shown.
    pub(super) fn found(self, state: State, detail: impl Into<String>, next: Option<String>) -> Self {
        Self { state, detail: detail.into(), next, ..self }
    }

    fn to_json(&self) -> Value {
        json!({"target": self.target, "name": self.name, "state": self.state.word(), "detail": self.detail,
            "files": self.files, "next": self.next})
    }
}

pub(super) fn run(form: Form, authority: &str, trust: &Path, context: &Context) -> Result<(), Failure> {
    let mut items = host::items(authority);
    items.extend(unit::items(authority, trust));
    items.extend(container::items(authority, trust));
    items.extend(cdi::items(authority, trust));
    if form.json {
        let items: Vec<Value> = items.iter().map(Item::to_json).collect();
        return output::print_json(&json!({"items": items, "next": null}));
    }
    let mut listing = Listing::new(&["FOR", "NAME", "STATE", "WHAT", "NEXT"], &context.env);
    for item in items {
        let next = item.next.unwrap_or_else(|| "-".into());
        listing.row([item.target.into(), item.name, item.state.word().into(), item.detail, next]);
    }
    listing.print("nothing is installed; `moxie run` needs nothing installed\n  next: moxie ca install --unit NAME")
}
