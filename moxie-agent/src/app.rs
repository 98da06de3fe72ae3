//! Wiring: builds every part from the configuration, starts them in order, and ends them in the reverse order.

mod parts;
mod token;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::task::spawn_blocking;

use crate::admin::ServeError;
use crate::clock::Clock;
use crate::config::Config;
use crate::datapath::{Context, accept};
use crate::descriptors;
use crate::divert::{self, Divert, NoWay};
use crate::drain::Drain;
use crate::journal::{Journal, Writer};
use crate::paths::StateDir;
use crate::rulebook::RuleBook;
use crate::scope::Scopes;
use crate::scope::watch::Watch;
use crate::store::{Store, StoreError};
use crate::tls::authority::AuthorityError;
use crate::tls::originate::RootsError;
use parts::Parts;

/// How long the admin API may take to finish its last answers.
const ADMIN_DRAIN: Duration = Duration::from_secs(1);

/// What an agent is built from.
#[derive(Debug)]
pub struct Options {
    /// Everything that can be set.
    pub config: Config,
    /// Where its files are.
    pub state: StateDir,
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
    /// No way on path.
    #[error("cannot divert connections")]
    Divert(#[source] NoWay),
    /// The state directory cannot be made.
    #[error("cannot make the state directory {}", path.display())]
    StateDir {
        /// Which.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The store's URL is not one.
    #[error("no store")]
    Store(#[source] StoreError),
    /// No authority.
    #[error("the authority of this host cannot be used")]
    Authority(#[source] AuthorityError),
    /// No roots to verify destinations with.
    #[error("destinations could not be verified")]
    Roots(#[source] RootsError),
    /// A listener was not taken.
    #[error("cannot accept diverted connections")]
    Accept(#[source] io::Error),
    /// The admin token cannot be read or made.
    #[error("cannot read or make the admin token {}", path.display())]
    Token {
        /// Which file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The admin API's TCP address cannot be bound.
    #[error("the admin API cannot listen on {addr}; give another address with --admin")]
    AdminAddr {
        /// Which address.
        addr: SocketAddr,
        /// What the kernel said.
        source: io::Error,
    },
    /// The admin API's socket cannot be served.
    #[error("the admin API cannot be served")]
    Admin(#[source] ServeError),
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
    /// The way on path, and why not the ones that were tried before it; for people, on one line.
    pub on_path: String,
    /// Where clients have to be told to connect, if the way on path wants that.
    pub door: Option<SocketAddr>,
    warnings: Vec<String>,
    writer: Writer,
    store: Arc<dyn Store>,
    divert: Arc<dyn Divert>,
    drain: Drain,
    drain_timeout: Duration,
    admin_drain: Drain,
    /// Cgroups as they appear; an agent without doors has no scope that could match a later one.
    _watch: Option<Watch>,
}

impl App {
    /// Builds and starts every part on the way that the configuration asks for; on return it diverts.
    ///
    /// # Errors
    /// What could not be built.
    pub async fn start(options: Options) -> Result<Self, AppError> {
        let settings = options.config.divert.clone();
        let opened = spawn_blocking(move || divert::open(settings.via, &settings)).await;
        let opened = opened.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()));
        let opened = opened.map_err(AppError::Divert)?;
        let on_path = opened.to_string();
        let mut app = Self::start_on(opened.divert, options).await?;
        app.on_path = on_path;
        Ok(app)
    }

    /// Builds and starts every part on the given way.
    ///
    /// # Errors
    /// What could not be built.
    pub async fn start_on(divert: Arc<dyn Divert>, options: Options) -> Result<Self, AppError> {
        let Options { config, state, store, admin, clock } = options;
        descriptors::raise();
        make_state_dir(state.root())?;
        let parts = Parts::build(divert, &config, &state, &store, admin, clock).await?;
        if parts.divert.door().is_some() {
            parts.scopes.welcome_guests();
        }
        let own = parts::own_sockets(&*parts.divert, admin, &config);
        let cx = Arc::new(parts.context(&config, own)?);
        accept::serve(&cx).map_err(AppError::Accept)?;
        cx.divert.beat();

        let ready = Arc::new(AtomicBool::new(false));
        let admin_drain = Drain::new();
        if admin == AdminDoors::Open {
            parts.open_doors(&config, &state, Arc::clone(&ready), &admin_drain).await?;
        }
        let mut warnings = parts.troubles.clone();
        warnings.extend(parts.restore_scopes().await);
        parts.keep_scopes_fresh(&admin_drain);
        if admin == AdminDoors::Open {
            parts.follow_runtimes(&config, &admin_drain);
        }
        let watch = (admin == AdminDoors::Open).then(|| Watch::start(&parts.scopes)).flatten();
        ready.store(true, Ordering::Release);
        Ok(Self::of(parts, &cx, &config, admin_drain, warnings, watch))
    }

    fn of(
        parts: Parts,
        cx: &Context,
        config: &Config,
        admin_drain: Drain,
        warnings: Vec<String>,
        watch: Option<Watch>,
    ) -> Self {
        Self {
            rules: parts.rules,
            scopes: parts.scopes,
            journal: parts.journal,
            authority_pem: parts.authority.pem().to_owned(),
            on_path: parts.divert.name().to_owned(),
            door: parts.divert.door(),
            warnings,
            writer: parts.writer,
            store: parts.store,
            divert: parts.divert,
            drain: cx.drain.clone(),
            drain_timeout: config.drain.timeout,
            admin_drain,
            _watch: watch,
        }
    }

    /// Sends new connections direct, lets open ones end (bounded), then writes what is still to be written.
    pub async fn stop(self) {
        if let Err(error) = self.divert.set_enabled(false) {
            tracing::warn!(%error, "new connections are still diverted while the agent ends");
        }
        self.admin_drain.start();
        if !self.drain.finish(self.drain_timeout).await {
            tracing::warn!(open = self.drain.running(), "ended with connections still open");
        }
        self.admin_drain.finish(ADMIN_DRAIN).await;
        self.rules.flush().await;
        self.writer.flush().await;
        self.store.close().await;
    }

    /// What does not work as it should, for people.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }
}

/// Makes the state directory, if it is not there: others may pass through it, to the admin socket and the trust set, and see
/// nothing else. What is secret in it has a mode of its own.
fn make_state_dir(path: &std::path::Path) -> Result<(), AppError> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o711)
        .create(path)
        .map_err(|source| AppError::StateDir { path: path.to_owned(), source })
}
