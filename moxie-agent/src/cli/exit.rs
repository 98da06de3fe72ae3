//! How a command ends: an exit code, and on failure what happened, why, and the next thing to type.

use std::fmt::{self, Write as _};
use std::process::ExitCode;

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Exit {
    /// 0.
    Done,
    /// 1.
    Failed,
    /// 2: what was typed cannot be meant.
    Usage,
    /// 3: no agent answers.
    Unreachable,
    /// 4: this user may not.
    Denied,
    /// The code of the command that `moxie run` ran, or what stands for it (125 to 127).
    Command(u8),
}

/// Moxie itself failed before the command ran, as with env(1) and docker-run(1).
pub(super) const MOXIE_FAILED: Exit = Exit::Command(125);
/// The command exists but cannot be executed.
pub(super) const NOT_EXECUTABLE: Exit = Exit::Command(126);
/// There is no such command.
pub(super) const NOT_FOUND: Exit = Exit::Command(127);

impl Exit {
    pub(super) fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Unreachable => 3,
            Self::Denied => 4,
            Self::Command(code) => code,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// Why a command did not do what was asked.
#[derive(Debug)]
pub struct Failure {
    exit: Exit,
    what: String,
    details: Vec<String>,
    next: Option<String>,
}

impl Failure {
    pub(super) fn new(exit: Exit, what: impl Into<String>) -> Self {
        Self { exit, what: what.into(), details: Vec::new(), next: None }
    }

    /// What happened, without its details and what to type next.
    pub(super) fn what(&self) -> &str {
        &self.what
    }

    /// Exit 1.
    pub(super) fn failed(what: impl Into<String>) -> Self {
        Self::new(Exit::Failed, what)
    }

    /// Exit 2.
    pub(super) fn usage(what: impl Into<String>) -> Self {
        Self::new(Exit::Usage, what)
    }

    /// Exit 1: `what` could not be done, and `error` with all that caused it says why.
    pub(super) fn because(what: impl fmt::Display, error: &(dyn std::error::Error + 'static)) -> Self {
        Self::failed(format!("{what}: {}", chain(error)))
    }

    /// The next thing to type.
    pub(super) fn next(mut self, next: impl Into<String>) -> Self {
        self.next = Some(next.into());
        self
    }

    /// Lines below the first, one for each thing that is wrong.
    pub(super) fn details(mut self, details: impl IntoIterator<Item = String>) -> Self {
        self.details.extend(details);
        self
    }

    /// The same failure with another exit code.
    pub(super) fn with_exit(mut self, exit: Exit) -> Self {
        self.exit = exit;
        self
    }

    pub(super) fn exit(&self) -> Exit {
        self.exit
    }

    /// Prints it on stderr, unless there is nothing to say (the reader of stdout went away).
    pub(super) fn tell(&self) {
        if !self.what.is_empty() {
            super::output::note(&self.to_string());
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        for detail in &self.details {
            write!(f, "\n  {detail}")?;
        }
        if let Some(next) = &self.next {
            write!(f, "\n  next: {next}")?;
        }
        Ok(())
    }
}

/// An error and everything that caused it, in one line.
pub(super) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        // Writing to a String does not fail.
        let _ = write!(text, ": {error}");
        cause = error.source();
    }
    text
}
