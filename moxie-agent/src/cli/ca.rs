//! `moxie ca show|env|install|uninstall|status`: making programs trust the authority.

mod cdi;
mod container;
mod env;
mod host;
mod record;
mod status;
mod unit;
mod users;

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use http::Method;

use super::client::Client;
use super::exit::{Exit, Failure};
use super::output::Form;
use super::{Context, output, settings};

/// Where a trust set is inside a container.
const SHOWN: &str = "/etc/moxie/trust";

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Print the authority's certificate (PEM)
    Show,
    /// Print what makes the common runtimes trust the authority: eval "$(moxie ca env --shell)"
    Env(env::Arguments),
    /// Make a unit, a container, containers to come, or the whole host trust the authority
    Install(Install),
    /// Undo `moxie ca install`
    Uninstall(Uninstall),
    /// What is installed, for whom, and whether it is what it should be
    Status(Form),
}

#[derive(Debug, Args)]
pub(super) struct Install {
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    options: unit::Options,
}

#[derive(Debug, Args)]
pub(super) struct Uninstall {
    #[command(flatten)]
    target: Target,
    /// With --unit: restart the unit, so that it takes effect now
    #[arg(long, requires = "unit")]
    restart: bool,
    /// Everything that `moxie ca status` lists
    #[arg(long, conflicts_with = "Target")]
    all: bool,
}

/// Who is to trust the authority.
#[derive(Debug, Args)]
#[group(multiple = false)]
struct Target {
    /// The host's own roots, and with them every program that reads these (also if nothing is named)
    #[arg(long)]
    host: bool,
    /// A service unit; takes effect when it starts anew
    #[arg(long, value_name = "NAME")]
    unit: Option<String>,
    /// A running container of Docker, Podman or containerd, until it is restarted
    #[arg(long, value_name = "NAME")]
    container: Option<String>,
    /// Containers to come that are made with --device moxie.dev/ca=all
    #[arg(long, value_name = "FILE", num_args = 0..=1, default_missing_value = cdi::FILE)]
    cdi: Option<PathBuf>,
}

pub(super) async fn run(command: Command, context: &Context) -> Result<Exit, Failure> {
    let trust = settings::state_dir(context).root().join("trust");
    match command {
        Command::Show => output::print(authority(context).await?.trim_end())?,
        Command::Env(arguments) => env::run(&arguments, &authority(context).await?, &trust, context)?,
        Command::Install(arguments) => {
            let authority = authority(context).await?;
            // Before, for a unit that is restarted on the way; behind, for what was refused meanwhile.
            forget_refusals(context).await;
            install(&arguments, &authority, &trust)?;
            forget_refusals(context).await;
        }
        Command::Uninstall(arguments) => uninstall(&arguments, &trust)?,
        Command::Status(form) => status::run(form, &authority(context).await?, &trust, context)?,
    }
    Ok(Exit::Done)
}

/// The authority's certificate: from the state directory of this host, else from the agent.
async fn authority(context: &Context) -> Result<String, Failure> {
    if context.global.url.is_none() {
        let file = settings::state_dir(context).authority().join("ca.pem");
        if let Ok(pem) = std::fs::read_to_string(file) {
            return Ok(pem);
        }
    }
    Client::locate(context)?.text("/api/v1/ca.pem").await
}

/// Who refused the authority may trust it now; without this the agent would leave it alone for ten minutes more.
async fn forget_refusals(context: &Context) {
    // An agent that is not running has nothing to forget.
    let Ok(client) = Client::locate(context) else { return };
    let _ = client.call(Method::DELETE, "/api/v1/refusals", None).await;
}

fn install(arguments: &Install, authority: &str, trust: &Path) -> Result<(), Failure> {
    match &arguments.target {
        Target { unit: Some(name), .. } => unit::install(name, arguments.options, authority, trust),
        Target { container: Some(name), .. } => container::install(name, authority, trust),
        Target { cdi: Some(file), .. } => cdi::install(file, authority, trust),
        Target { .. } => host::install(authority),
    }
}

fn uninstall(arguments: &Uninstall, trust: &Path) -> Result<(), Failure> {
    match &arguments.target {
        _ if arguments.all => uninstall_all(trust),
        Target { unit: Some(name), .. } => unit::uninstall(name, unit::Options::restarting(arguments.restart), trust),
        Target { container: Some(name), .. } => container::uninstall(name, trust),
        Target { cdi: Some(file), .. } => {
            // Without a file: every specification, wherever it is.
            let file = Some(file.as_path()).filter(|file| *file != Path::new(cdi::FILE));
            cdi::uninstall(file, trust)
        }
        Target { .. } => host::uninstall(),
    }
}

/// Goes on where one cannot be undone, and then says so.
fn uninstall_all(trust: &Path) -> Result<(), Failure> {
    let mut failures = Vec::new();
    let mut done = |result: Result<(), Failure>| failures.extend(result.err());
    for name in unit::names(trust) {
        done(unit::uninstall(&name, unit::Options::default(), trust));
    }
    for id in container::names(trust) {
        done(container::uninstall(&id, trust));
    }
    done(cdi::uninstall(None, trust));
    done(host::uninstall_if_there());
    // What `moxie ca env` has handed out stays, and the directory with it.
    let _ = std::fs::remove_dir(trust);
    match failures.pop() {
        None => Ok(()),
        Some(last) => {
            failures.iter().for_each(Failure::tell);
            Err(last)
        }
    }
}
