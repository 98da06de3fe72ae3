//! The parts of an agent, built one from another.

use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use axum::Router;
use jiff::Timestamp;

use super::{AdminDoors, AppError, Options, make_state_dir, token};
use crate::admin::{self, Access, AdminState, Facts};
use crate::chain::Chain;
use crate::clock::Clock;
use crate::config::Config;
use crate::datapath::learned::Learned;
use crate::datapath::load::Load;
use crate::datapath::relay::Pipes;
use crate::datapath::{Context, load, sniff};
use crate::descriptors;
use crate::divert::Divert;
use crate::drain::Drain;
use crate::events::Events;
use crate::journal::{Journal, Writer};
use crate::paths::StateDir;
use crate::rulebook::RuleBook;
use crate::scope::runtime::containerd::Containerd;
use crate::scope::runtime::docker::DockerLike;
use crate::scope::runtime::{Runtime, follow};
use crate::scope::{Defaults, Scopes};
use crate::store::{self, Store};
use crate::switchboard::Switchboard;
use crate::telemetry::Metrics;
use crate::tls::authority::Authority;
use crate::tls::leaf_cache::LeafCache;
use crate::tls::originate::Originate;
use crate::upstream::Upstream;

/// How often scopes are looked after.
const REFRESH: Duration = Duration::from_secs(1);

/// Each kind of record may have one part in so many of the memory that the agent may have.
const SHARE_OF_RECORDS: u64 = 16;
/// But so many bytes at least.
const LEAST_RECORDS: usize = 64 << 10;

/// What stands before anything is taken over from an earlier agent.
#[derive(Debug)]
pub(super) struct Ground {
    store: Arc<dyn Store>,
    journal: Arc<Journal>,
    writer: Writer,
    authority: Arc<Authority>,
    metrics: Arc<Metrics>,
    events: Events,
}

impl Ground {
    pub(super) async fn open(options: &Options) -> Result<Self, AppError> {
        let Options { config, state, store, .. } = options;
        descriptors::raise();
        make_state_dir(state.root())?;
        let events = Events::default();
        let metrics = Arc::new(Metrics::default());
        let authority = Arc::new(Authority::open(&state.authority()).map_err(AppError::Authority)?);
        let store = store::open_or_down(store).await.map_err(AppError::Store)?;
        let bytes = room_for_records(config);
        let journal = Arc::new(Journal::new(bytes, events.clone(), Arc::clone(&metrics)));
        if let Err(error) = journal.preload(&*store).await {
            tracing::warn!("earlier records cannot be listed: {}", Chain(&error));
        }
        let writer = journal.writer(Arc::clone(&store), bytes as u64);
        Ok(Self { store, journal, writer, authority, metrics, events })
    }
}

/// What each kind of record may have: what is configured, unless that would leave little memory to connections.
fn room_for_records(config: &Config) -> usize {
    let share = load::memory_limit(config.limits.memory).map_or(u64::MAX, |limit| limit / SHARE_OF_RECORDS);
    let most = usize::try_from(share).unwrap_or(usize::MAX).max(LEAST_RECORDS);
    if most < config.records.bytes {
        tracing::info!(
            bytes = most,
            "fewer records are kept than records.bytes says, by the memory that the agent may have"
        );
    }
    config.records.bytes.min(most)
}

/// Everything that is built before the first connection.
#[derive(Debug)]
pub(super) struct Parts {
    pub(super) divert: Arc<dyn Divert>,
    pub(super) switchboard: Arc<Switchboard>,
    /// What did not work and keeps no agent from starting, for people.
    pub(super) troubles: Vec<String>,
    pub(super) store: Arc<dyn Store>,
    pub(super) rules: Arc<RuleBook>,
    pub(super) scopes: Arc<Scopes>,
    pub(super) journal: Arc<Journal>,
    pub(super) writer: Writer,
    pub(super) authority: Arc<Authority>,
    /// What connections have taught.
    learned: Arc<Learned>,
    metrics: Arc<Metrics>,
    load: Arc<Load>,
    events: Events,
    clock: Clock,
    started_at: Timestamp,
    /// What became of the last upgrade, if it failed.
    pub(super) upgrade: Arc<ArcSwapOption<String>>,
}

impl Parts {
    pub(super) async fn build(
        divert: Arc<dyn Divert>,
        ground: Ground,
        config: &Config,
        state: &StateDir,
        doors: AdminDoors,
        clock: Clock,
    ) -> Self {
        let kept = (doors == AdminDoors::Open).then(|| state.switchboard());
        let (switchboard, troubles) = Switchboard::open(Arc::clone(&divert), kept, config.divert.addresses.clone());
        let switchboard = Arc::new(switchboard);
        let Ground { store, journal, writer, authority, metrics, events } = ground;
        let seed = config.rules.seed.unwrap_or_else(rand::random);
        tracing::info!(seed, "percentages are drawn from this seed");
        let rules =
            RuleBook::open_with_files(Arc::clone(&store), clock.clone(), events.clone(), seed, state.files()).await;
        let label = (doors == AdminDoors::Open).then(|| config.scopes.label.clone()).flatten();
        let defaults = Defaults { label, refuse_quic: config.divert.refuse_quic };
        let scopes = Arc::new(Scopes::with(Arc::clone(&divert), defaults));
        follow_rules(&rules, &scopes, &divert);
        let (started_at, upgrade) = (clock.now(), Arc::default());
        let learned = Arc::default();
        let bounds = load::Bounds {
            connections: config.limits.connections,
            memory: config.limits.memory,
            kept_descriptors: Pipes::within(descriptors::limit()).descriptors(),
        };
        let load = Arc::new(Load::new(bounds, Arc::clone(&metrics)));
        Self {
            divert,
            switchboard,
            troubles,
            store,
            rules,
            scopes,
            journal,
            writer,
            authority,
            learned,
            metrics,
            load,
            events,
            clock,
            started_at,
            upgrade,
        }
    }

    /// What connections use; `own` are the addresses that are never dialled.
    pub(super) fn context(&self, config: &Config, own: Vec<SocketAddr>) -> Result<Context, AppError> {
        let roots = Originate::load(&config.tls.upstream_ca).map_err(AppError::Roots)?;
        let authority = Arc::clone(&self.authority);
        Ok(Context {
            divert: Arc::clone(&self.divert),
            rules: Arc::clone(&self.rules),
            scopes: Arc::clone(&self.scopes),
            switchboard: Arc::clone(&self.switchboard),
            journal: Arc::clone(&self.journal),
            metrics: Arc::clone(&self.metrics),
            leaves: LeafCache::new(authority, config.tls.leaf_cache, Arc::clone(&self.metrics), self.clock.clone()),
            upstream: Upstream::new(Arc::clone(&self.divert), own, roots),
            load: Arc::clone(&self.load),
            pipes: Pipes::within(descriptors::limit()),
            learned: Arc::clone(&self.learned),
            sniff: sniff::Bounds {
                first_byte: config.sniff.first_byte,
                timeout: config.sniff.timeout,
                max_bytes: config.sniff.max_bytes,
            },
            clock: self.clock.clone(),
            drain: Drain::new(),
        })
    }

    /// The admin API.
    pub(super) fn router(
        &self,
        config: &Config,
        state: &StateDir,
        ready: &Arc<AtomicBool>,
        drain: &Drain,
    ) -> Result<Router, AppError> {
        let token = match &config.admin.token {
            Some(token) => token.expose().to_owned(),
            None => {
                let path = state.admin_token();
                token::open(&path).map_err(|source| AppError::Token { path, source })?
            }
        };
        Ok(admin::router(AdminState {
            rules: Arc::clone(&self.rules),
            scopes: Arc::clone(&self.scopes),
            journal: Arc::clone(&self.journal),
            metrics: Arc::clone(&self.metrics),
            learned: Arc::clone(&self.learned),
            load: Arc::clone(&self.load),
            events: self.events.clone(),
            switchboard: Arc::clone(&self.switchboard),
            divert: Arc::clone(&self.divert),
            store: Arc::clone(&self.store),
            authority_pem: self.authority.pem().to_owned(),
            clock: self.clock.clone(),
            access: Access::new(&token, &config.admin.hosts),
            facts: self.facts(config),
            ready: Arc::clone(ready),
            upgrade: Arc::clone(&self.upgrade),
            ports: config.divert.ports.clone(),
            drain: drain.clone(),
        }))
    }

    fn facts(&self, config: &Config) -> Facts {
        Facts {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            environment: config.environment.as_ref().map(|environment| environment.as_str().to_owned()),
            netns: std::fs::metadata("/proc/self/ns/net").map_or(0, |namespace| namespace.ino()),
            upstream_ca: config.tls.upstream_ca.iter().map(|file| canonical(file)).collect(),
            pid: std::process::id(),
            started_at: self.started_at,
        }
    }

    /// Writes what is still to be written, for good.
    pub(super) async fn write_down(&self) {
        self.rules.flush().await;
        self.writer.flush().await;
        self.store.close().await;
    }

    /// Looks every now and then at what scopes match, and whenever somebody has learned something.
    pub(super) fn keep_scopes_fresh(&self, drain: &Drain) {
        let (scopes, stop) = (Arc::clone(&self.scopes), drain.clone());
        drain.spawn(async move {
            let mut tick = tokio::time::interval(REFRESH);
            loop {
                tokio::select! {
                    () = stop.started() => return,
                    _ = tick.tick() => {}
                    () = scopes.nudged() => {}
                }
                let scopes = Arc::clone(&scopes);
                // A panic there has been reported already; the next look is a new task.
                let _ = tokio::task::spawn_blocking(move || scopes.refresh()).await;
            }
        });
    }

    /// Asks the container runtimes of this host, now and as long as the agent runs.
    pub(super) fn follow_runtimes(&self, config: &Config, drain: &Drain) {
        let sockets = &config.scopes;
        let runtimes: [Option<Arc<dyn Runtime>>; 3] = [
            sockets.docker.clone().map(|socket| Arc::new(DockerLike::docker(socket)) as _),
            sockets.podman.clone().map(|socket| Arc::new(DockerLike::podman(socket)) as _),
            sockets.containerd.clone().map(|socket| Arc::new(Containerd::new(socket)) as _),
        ];
        for runtime in runtimes.into_iter().flatten() {
            follow::spawn(runtime, Arc::clone(&self.scopes), drain);
        }
    }

    /// Puts the stored scopes back on path.
    pub(super) async fn restore_scopes(&self) -> Vec<String> {
        match admin::scopes::restore(&self.scopes, &*self.store).await {
            Ok(()) => Vec::new(),
            Err(error) => vec![format!("the stored scopes could not all be opted in again: {}", Chain(&error))],
        }
    }
}

/// Has the kernel half divert what rules could act on, from the first connect after a change of them was answered.
fn follow_rules(rules: &Arc<RuleBook>, scopes: &Arc<Scopes>, divert: &Arc<dyn Divert>) {
    if let Err(error) = divert.heed_names(Arc::clone(rules) as _) {
        tracing::warn!(error = %Chain(&error), "no connection is left direct for the sake of its name");
    }
    scopes.heed(Arc::clone(rules) as _);
    let (scopes, divert) = (Arc::downgrade(scopes), Arc::downgrade(divert));
    rules.follow(move || {
        if let Some(Err(error)) = divert.upgrade().map(|divert| divert.forget_names()) {
            tracing::error!(error = %Chain(&error), "connections may be left direct that a new rule names");
        }
        if let Some(scopes) = scopes.upgrade() {
            scopes.weigh();
        }
    });
}

/// A file by the one name that everyone finds it by.
fn canonical(file: &Path) -> String {
    file.canonicalize().as_deref().unwrap_or(file).display().to_string()
}

/// The addresses of the agent's own sockets: listeners of the way on path, and the admin API's.
pub(super) fn own_sockets(divert: &dyn Divert, admin: AdminDoors, config: &Config) -> Vec<SocketAddr> {
    let mut own = divert.listener_addresses();
    if admin == AdminDoors::Open {
        own.push(config.admin.addr);
    }
    own
}
