//! `moxie agent`: the daemon, in the foreground.

mod supervisor;

use std::path::{Path, PathBuf};

use clap::Args;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::exit::{Exit, Failure, chain};
use super::settings::{self, ConfigFile};
use super::{Context, output, privilege};
use crate::app::{AdminDoors, App, Handed, Options};
use crate::clock::Clock;
use crate::config::{self, Config, Flags};
use crate::divert::{Via, Way};
use crate::handover::Predecessor;
use crate::{paths, telemetry, unused};

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
    /// Take over from the agent that is on the other end of stdin: how an agent starts its successor
    #[arg(long, hide = true)]
    take_over: bool,
}

pub(super) async fn run(arguments: Arguments, context: &Context) -> Result<Exit, Failure> {
    settings::warn_of_unknown_variables(context);
    let Arguments { file, admin, store, via, upstream_ca, seed, take_over } = arguments;
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
    let options = Options { config, state, store, admin: AdminDoors::Open, clock: Clock::system() };
    let app = tokio::select! {
        app = Box::pin(start(options, take_over)) => app?,
        () = ends.next() => return Ok(Exit::Done),
    };
    tracing::info!("on path by {}", app.on_path);
    for warning in app.warnings() {
        tracing::warn!("{warning}");
    }
    output::print(&ready)?;
    if !take_over {
        // Systemd does not listen to a successor before its predecessor has named it, and that says the same.
        supervisor::ready();
    }
    let watchdog = supervisor::feed_watchdog();
    unused::unload_code();
    unused::free_heap();
    let (app, handed) = serve(app, &mut ends).await;
    drop(watchdog);
    let ending = async {
        match handed {
            Some(handed) => app.retire(handed).await,
            None => app.stop().await,
        }
    };
    tokio::select! {
        () = ending => Ok(Exit::Done),
        () = ends.next() => Err(Failure::failed("ended at once by a second signal; open connections were cut")),
    }
}

async fn start(options: Options, take_over: bool) -> Result<App, Failure> {
    if !take_over {
        return App::start(options).await.map_err(refused);
    }
    let predecessor = Predecessor::on_stdin()
        .map_err(|error| Failure::because("--take-over is for an agent that another agent starts", &error))?;
    App::take_over(options, predecessor).await.map_err(refused)
}

/// Until the agent is told to end, or another has taken over.
async fn serve(mut app: App, ends: &mut Ends) -> (App, Option<Handed>) {
    loop {
        if ends.next_or_upgrade().await == Told::End {
            break;
        }
        let handed = tokio::select! {
            handed = Box::pin(app.hand_over()) => handed,
            () = ends.next() => break,
        };
        match handed {
            Ok(handed) => {
                tracing::info!(pid = handed.pid, "handed over; the connections that are open here go on");
                supervisor::succeeded_by(handed.pid);
                return (app, Some(handed));
            }
            Err(error) => {
                tracing::error!("the upgrade failed, this agent goes on: {}", chain(&error));
                supervisor::upgrade_failed();
            }
        }
    }
    supervisor::stopping();
    (app, None)
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

/// What a signal says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    End,
    Upgrade,
}

/// The signals that end the daemon, or have it replaced.
struct Ends {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

impl Ends {
    fn listen() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }

    async fn next_or_upgrade(&mut self) -> Told {
        tokio::select! {
            _ = self.terminate.recv() => Told::End,
            _ = self.interrupt.recv() => Told::End,
            _ = self.hang_up.recv() => Told::Upgrade,
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
