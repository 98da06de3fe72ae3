//! Wiring: builds every part from the configuration, starts them in order, and ends them in the reverse order.

mod parts;
mod succession;
mod token;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::task::spawn_blocking;

use crate::admin::{Doors, ServeError};
use crate::clock::Clock;
use crate::config::Config;
use crate::datapath::{Context, accept};
use crate::divert::{self, Divert, NoWay};
use crate::drain::Drain;
use crate::handover::WireError;
use crate::journal::Journal;
use crate::paths::StateDir;
use crate::rulebook::RuleBook;
use crate::scope::cgroup::Hierarchy;
use crate::scope::watch::Watch;
use crate::scope::{Scopes, process};
use crate::store::StoreError;
use crate::tls::authority::AuthorityError;
use crate::tls::originate::RootsError;
use parts::{Ground, Parts};
pub use succession::Handed;

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
    /// The admin API's socket cannot be served.
    #[error("the admin API cannot be served")]
    Admin(#[source] ServeError),
    /// The agent that was to be taken over from is gone, or goes on itself.
    #[error("nothing to take over; `moxie agent` starts an agent without --take-over")]
    TakeOver(#[source] WireError),
    /// The kernel half did not take the switch.
    #[error("the kernel half could not be switched")]
    Switch(#[source] divert::DivertError),
    /// The way on path of the other agent cannot be had.
    #[error("only an agent on path by ebpf can take over, and this one would be by {name}")]
    OtherWay {
        /// The way on path that works.
        name: &'static str,
    },
    /// Without the rules, taking over would end them.
    #[error("the store cannot be read, so the rules in force cannot be taken over")]
    StoreUnread,
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
    parts: Parts,
    cx: Arc<Context>,
    config: Config,
    state: StateDir,
    store_url: String,
    /// None in `moxie run`.
    doors: Option<Doors>,
    ready: Arc<AtomicBool>,
    admin_drain: Drain,
    /// Cgroups as they appear; an agent without doors has no scope that could match a later one.
    watch: Option<Watch>,
}

impl App {
    /// Builds and starts every part on the way that the configuration asks for; on return it diverts.
    ///
    /// # Errors
    /// What could not be built.
    pub async fn start(options: Options) -> Result<Self, AppError> {
        if options.admin == AdminDoors::Open {
            // Before this agent is in one of the cgroups that it removes, or makes one.
            sweep_trees().await;
        }
        let (divert, on_path) = open(&options.config).await?;
        let mut app = Self::start_on(divert, options).await?;
        app.on_path = on_path;
        Ok(app)
    }

    /// Builds and starts every part on the given way.
    ///
    /// # Errors
    /// What could not be built.
    pub async fn start_on(divert: Arc<dyn Divert>, options: Options) -> Result<Self, AppError> {
        let admin = options.admin;
        let ground = Ground::open(&options).await?;
        let mut app = Self::build(divert, ground, options).await?;
        if admin == AdminDoors::Open {
            let doors = Doors::open(&app.state.admin_socket(), app.config.admin.addr).await.map_err(AppError::Admin)?;
            app.doors = Some(doors);
        }
        app.open_doors()?;
        let restored = app.parts.restore_scopes().await;
        app.warnings.extend(restored);
        app.watch = (admin == AdminDoors::Open).then(|| Watch::start(&app.scopes)).flatten();
        app.ready.store(true, Ordering::Release);
        Ok(app)
    }

    /// Every part, with the accept loops running and nothing opted in.
    async fn build(divert: Arc<dyn Divert>, ground: Ground, options: Options) -> Result<Self, AppError> {
        let Options { config, state, store, admin, clock } = options;
        let parts = Parts::build(divert, ground, &config, &state, admin, clock).await;
        if parts.divert.door().is_some() {
            parts.scopes.welcome_guests();
        }
        let own = parts::own_sockets(&*parts.divert, admin, &config);
        let cx = Arc::new(parts.context(&config, own)?);
        accept::serve(&cx).map_err(AppError::Accept)?;
        cx.divert.beat();
        Ok(Self {
            rules: Arc::clone(&parts.rules),
            scopes: Arc::clone(&parts.scopes),
            journal: Arc::clone(&parts.journal),
            authority_pem: parts.authority.pem().to_owned(),
            on_path: parts.divert.name().to_owned(),
            door: parts.divert.door(),
            warnings: parts.troubles.clone(),
            parts,
            cx,
            config,
            state,
            store_url: store,
            doors: None,
            ready: Arc::new(AtomicBool::new(false)),
            admin_drain: Drain::new(),
            watch: None,
        })
    }

    /// Answers the API, if it has doors, and looks after scopes, until the admin drain starts.
    fn open_doors(&mut self) -> Result<(), AppError> {
        self.admin_drain = Drain::new();
        if let Some(doors) = &self.doors {
            let router = self.parts.router(&self.config, &self.state, &self.ready, &self.admin_drain)?;
            doors.serve(&router, &self.admin_drain).map_err(AppError::Admin)?;
        }
        self.parts.keep_scopes_fresh(&self.admin_drain);
        if self.doors.is_some() {
            self.parts.follow_runtimes(&self.config, &self.admin_drain);
        }
        Ok(())
    }

    /// Sends new connections direct, lets open ones end (bounded), then writes what is still to be written.
    pub async fn stop(self) {
        if let Err(error) = self.parts.divert.set_enabled(false) {
            tracing::warn!(%error, "new connections are still diverted while the agent ends");
        }
        self.admin_drain.start();
        if !self.cx.drain.finish(self.config.drain.timeout).await {
            tracing::warn!(open = self.cx.drain.running(), "ended with connections still open");
        }
        self.admin_drain.finish(ADMIN_DRAIN).await;
        if let Some(doors) = self.doors {
            doors.close();
        }
        self.parts.write_down().await;
    }

    /// What does not work as it should, for people.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }
}

/// Moves back the process trees of agents that have died.
async fn sweep_trees() {
    let swept = spawn_blocking(|| {
        // Without a hierarchy there are none.
        if let Ok(hierarchy) = Hierarchy::find() {
            process::sweep(hierarchy.root());
        }
    });
    swept.await.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()));
}

/// The way that the configuration asks for, and in words why not another.
async fn open(config: &Config) -> Result<(Arc<dyn Divert>, String), AppError> {
    let settings = config.divert.clone();
    let opened = spawn_blocking(move || divert::open(settings.via, &settings)).await;
    let opened = opened.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()));
    let opened = opened.map_err(AppError::Divert)?;
    let on_path = opened.to_string();
    Ok((opened.divert, on_path))
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
