//! `moxie agent`: the daemon, in the foreground.

mod supervisor;

use std::path::{Path, PathBuf};

use clap::Args;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::exit::{Exit, Failure, chain};
use super::settings::{self, ConfigFile};
use super::{Context, output, privilege};
use crate::app::{AdminDoors, App, Options};
use crate::clock::Clock;
use crate::config::{self, Config, Flags};
use crate::divert::{Via, Way};
use crate::{paths, telemetry};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    file: ConfigFile,
    /// Where the admin API listens [default: 127.0.0.1:8480]
    #[arg(long, value_name = "IP:PORT")]
    admin: Option<String>,
    /// Where rules live: sqlite:///PATH or sqlite::memory: [default: moxie.db in the state directory]
    #[arg(long, value_name = "URL")]
    store: Option<String>,
    /// How connections come on path [default: auto]
    #[arg(long, value_enum, value_name = "WAY")]
    via: Option<Via>,
    /// PEM file of roots that destinations are verified with, besides the system's; may be repeated
    #[arg(long, value_name = "FILE")]
    upstream_ca: Vec<PathBuf>,
    /// Seed of rules with a percentage, so that a run can be repeated
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
}

pub(super) async fn run(arguments: Arguments, context: &Context) -> Result<Exit, Failure> {
    settings::warn_of_unknown_variables(context);
    let Arguments { file, admin, store, via, upstream_ca, seed } = arguments;
    let config = settings::load(&file, &Flags { admin, store, via, upstream_ca, seed }, context)?;
    admit(&config, Path::new(paths::ENVIRONMENT_OVERRIDE))?;
    if let Via::Only(way @ (Way::Ebpf | Way::Netfilter)) = config.divert.via {
        privilege::require("moxie agent", way)?;
    }
    telemetry::init(config.log.format, &config.log.filter).map_err(|error| Failure::because("cannot log", &error))?;
    let mut ends = Ends::listen().map_err(|error| Failure::because("cannot wait for signals", &error))?;

    let state = settings::state_dir(context);
    let ready = ready_line(&config, &state);
    let store = settings::store_url(&config, &state);
    let starting = App::start(Options { config, state, store, admin: AdminDoors::Open, clock: Clock::system() });
    let app = tokio::select! {
        app = Box::pin(starting) => app.map_err(refused)?,
        () = ends.next() => return Ok(Exit::Done),
    };
    tracing::info!("on path by {}", app.on_path);
    for warning in app.warnings() {
        tracing::warn!("{warning}");
    }
    output::print(&ready)?;
    supervisor::ready();
    let watchdog = supervisor::feed_watchdog();
    ends.next().await;
    supervisor::stopping();
    drop(watchdog);
    tokio::select! {
        () = app.stop() => Ok(Exit::Done),
        () = ends.next() => Err(Failure::failed("ended at once by a second signal; open connections were cut")),
    }
}

/// The guard: an agent must not appear where services have users.
fn admit(config: &Config, override_file: &Path) -> Result<(), Failure> {
    config::admit(config.environment.as_ref(), override_file).map_err(|error| {
        Failure::failed(format!("the agent does not start: {}", chain(&error))).next(format!(
            "MOXIE_ENVIRONMENT=dev moxie agent (or `environment = \"dev\"` in {}); \
             root may allow any environment with: touch {}",
            paths::CONFIG_FILE,
            override_file.display()
        ))
    })
}

fn refused(error: crate::app::AppError) -> Failure {
    Failure::because("the agent does not start", &error).next("moxie doctor")
}

fn ready_line(config: &Config, state: &paths::StateDir) -> String {
    format!("ready: admin API at unix:{} and http://{}", state.admin_socket().display(), config.admin.addr)
}

/// The signals that end the daemon.
struct Ends {
    terminate: Signal,
    interrupt: Signal,
}

impl Ends {
    fn listen() -> std::io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_environment_says_what_to_type() {
        let of = |name: &str| {
            config::read("", |key| (key == "MOXIE_ENVIRONMENT").then(|| name.to_owned()), &Flags::default())
        };
        let nowhere = Path::new("/nonexistent/allow-environment");
        assert!(admit(&of("dev").unwrap(), nowhere).is_ok());
        for name in ["prod", "LIVE", ""] {
            let failure = admit(&of(name).unwrap(), nowhere).unwrap_err();
            assert_eq!(failure.exit(), Exit::Failed);
            assert!(failure.to_string().contains("MOXIE_ENVIRONMENT=dev moxie agent"), "{failure}");
        }
    }
}
