//! Wiring. To be written.

use std::sync::Arc;

use crate::clock::Clock;
use crate::journal::Journal;
use crate::rulebook::RuleBook;
use crate::scope::Scopes;

/// What an agent is built from.
#[derive(Debug)]
pub struct Options {
    /// Everything that can be set.
    pub config: crate::config::Config,
    /// Where its files are.
    pub state: crate::paths::StateDir,
    /// URL of the store.
    pub store: String,
    /// Which doors its admin API has.
    pub admin: AdminDoors,
    /// Where it reads the time.
    pub clock: Clock,
}

/// Which doors the admin API has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AdminDoors {
    /// The Unix socket and TCP.
    Open,
    /// None: `moxie run`.
    Closed,
}

/// Why there is no agent.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// Replaced by the real list.
    #[error("app")]
    Unwritten,
}

/// A running agent.
#[derive(Debug)]
pub struct App {
    /// The rules in force.
    pub rules: Arc<RuleBook>,
    /// The scopes in force.
    pub scopes: Arc<Scopes>,
    /// What happened.
    pub journal: Arc<Journal>,
    /// The authority's certificate.
    pub authority_pem: String,
}

impl App {
    /// Builds and starts every part; on return it diverts.
    ///
    /// # Errors
    /// What could not be built.
    pub async fn start(options: Options) -> Result<Self, AppError> {
        let _ = options;
        todo!()
    }

    /// Drains, flushes, detaches.
    pub async fn stop(self) {
        todo!()
    }

    /// What does not work as it should.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        todo!()
    }
}
