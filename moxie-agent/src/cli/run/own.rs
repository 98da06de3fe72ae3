//! An agent inside this process: in-memory store, no admin API, gone with the run.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use async_trait::async_trait;
use serde::Serialize;
use serde_json::Value;

use super::Arguments;
use super::host::Host;
use super::place::Place;
use crate::app::{AdminDoors, App, Options};
use crate::cli::exit::Failure;
use crate::cli::output::note;
use crate::cli::{Context, settings};
use crate::clock::Clock;
use crate::config::{Config, Flags};
use crate::journal::{Filter, Page};
use crate::rulebook::BookError;
use crate::rules::{RuleId, view};
use crate::scope::{GUESTS, Mode, ScopeId, ScopeSpec, Target};
use crate::telemetry;
use crate::tls::trust;

/// How long connections that outlive CMD may hold its end up.
const DRAIN: Duration = Duration::from_secs(1);

pub(super) struct Own {
    app: App,
    on_path: String,
    scope: ScopeId,
    rules: Vec<RuleId>,
}

impl Own {
    pub(super) async fn start(
        mut config: Config,
        rules: &[Value],
        place: &Place,
        context: &Context,
    ) -> Result<Self, Failure> {
        config.divert.via = place.via();
        // Any port: more than one run may go on at a time.
        config.divert.proxy = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        if context.env.text("MOXIE_LOG").is_some() {
            telemetry::init(config.log.format, &config.log.filter)
                .map_err(|error| Failure::because("cannot log", &error))?;
        }
        let clock = Clock::system();
        let options = Options {
            config,
            state: settings::state_dir(context),
            store: "sqlite::memory:".to_owned(),
            admin: AdminDoors::Closed,
            clock: clock.clone(),
        };
        let app = Box::pin(App::start(options)).await;
        let app = app.map_err(|error| Failure::because("cannot start an agent", &error).next("moxie doctor"))?;
        for warning in app.warnings() {
            note(warning);
        }
        let on_path = place.tell(&app.on_path);
        match opt_in(&app, rules, place, &clock).await {
            Ok((scope, rules)) => Ok(Self { app, on_path, scope, rules }),
            Err(failure) => {
                app.stop().await;
                Err(failure)
            }
        }
    }

    fn filter(&self, cursor: Option<String>) -> Filter {
        Filter { scope: Some(self.scope.0.clone()), limit: Some(1000), cursor, ..Filter::default() }
    }

    /// Every record of the run, page by page.
    fn all<T: Serialize>(&self, page: impl Fn(&Filter) -> Page<T>) -> Result<Vec<Value>, Failure> {
        let (mut records, mut cursor) = (Vec::new(), None);
        loop {
            let Page { items, next } = page(&self.filter(cursor));
            records.extend(to_json(items)?);
            if next.is_none() {
                return Ok(records);
            }
            cursor = next;
        }
    }
}

fn to_json(items: impl IntoIterator<Item = impl Serialize>) -> Result<Vec<Value>, Failure> {
    let items = items.into_iter().map(serde_json::to_value).collect::<Result<_, _>>();
    items.map_err(|error| Failure::because("a record is no JSON", &error))
}

/// The configuration of an agent of the run's own.
pub(super) fn configuration(arguments: &Arguments, context: &Context) -> Result<Config, Failure> {
    let flags = Flags {
        upstream_ca: arguments.upstream_ca.clone(),
        seed: arguments.seed,
        via: arguments.via,
        ..Flags::default()
    };
    let mut config = settings::load(&arguments.file, &flags, context)?;
    config.tls.upstream_ca.extend(trust::preset_bundles(|name| context.env.text(name)));
    config.drain.timeout = config.drain.timeout.min(DRAIN);
    Ok(config)
}

async fn opt_in(app: &App, rules: &[Value], place: &Place, clock: &Clock) -> Result<(ScopeId, Vec<RuleId>), Failure> {
    let saved = app.rules.import(rules).await.map_err(refused)?;
    let rules = saved.into_iter().map(|saved| saved.rule.id.clone()).collect();
    let Some(cgroup) = place.cgroup().filter(|_| app.door.is_none()) else {
        return Ok((ScopeId(GUESTS.to_owned()), rules));
    };
    let target = Target::Cgroup(cgroup.display().to_string());
    let (scopes, now) = (app.scopes.clone(), clock.now());
    let added = tokio::task::spawn_blocking(move || {
        scopes.add(ScopeSpec { mode: Mode::Observe, ..ScopeSpec::of(target) }, now)
    })
    .await;
    let (scope, _) = added
        .map_err(|error| Failure::because("cannot opt the command in", &error))?
        .map_err(|error| Failure::because("cannot opt the command in", &error).next("moxie doctor"))?;
    Ok((scope.id, rules))
}

fn refused(error: BookError) -> Failure {
    match error {
        BookError::Invalid(problems) => {
            Failure::usage("the rules are not valid").details(problems.iter().map(crate::cli::client::line))
        }
        other => Failure::because("the rules were not taken", &other),
    }
}

#[async_trait]
impl Host for Own {
    fn name(&self) -> &'static str {
        "an agent of its own"
    }

    fn on_path(&self) -> &str {
        &self.on_path
    }

    fn door(&self) -> Option<SocketAddr> {
        self.app.door
    }

    async fn authority_pem(&self) -> Result<String, Failure> {
        Ok(self.app.authority_pem.clone())
    }

    async fn open_connections(&self) -> Result<u64, Failure> {
        if self.app.door.is_some() {
            return Ok(self.app.scopes.open_guests());
        }
        let scopes = self.app.scopes.list();
        Ok(scopes.iter().find(|scope| scope.id == self.scope).map_or(0, |scope| scope.active_connections))
    }

    async fn exchanges(&self) -> Result<Vec<Value>, Failure> {
        self.all(|filter| self.app.journal.exchanges(filter))
    }

    async fn connections(&self) -> Result<Vec<Value>, Failure> {
        self.all(|filter| self.app.journal.connections(filter))
    }

    async fn rules(&self) -> Result<Vec<Value>, Failure> {
        let now = Clock::system().now();
        let rules = self.rules.iter().filter_map(|id| self.app.rules.find(id));
        to_json(rules.map(|rule| view(&rule, now, &[])))
    }

    async fn close(self: Box<Self>) {
        self.app.stop().await;
    }
}
