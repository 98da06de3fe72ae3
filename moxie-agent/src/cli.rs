//! The command line: one file per command, each from parsed arguments to an [`Exit`] or a [`Failure`].

mod agent;
mod ca;
pub mod client;
mod completions;
mod cover;
mod destination;
mod divert;
mod doctor;
mod env;
pub mod exit;
mod launch;
mod man;
mod openapi;
mod output;
mod privilege;
mod rule;
pub mod rulefile;
mod run;
mod scope;
mod settings;
mod status;
mod switch;
mod traffic;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, CommandFactory, Parser, Subcommand};

use env::Env;
use exit::{Exit, Failure};

/// Makes the outside calls of chosen services fail, slow down or answer as told; everything else passes untouched.
#[derive(Debug, Parser)]
#[command(name = "moxie", version, propagate_version = true, arg_required_else_help = true, after_help = EXIT_CODES)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

const EXIT_CODES: &str =
    "Exit codes: 0 done, 1 failed, 2 wrong use, 3 no agent reachable, 4 not permitted; `moxie run` gives CMD's own.";

/// What every command takes.
#[derive(Clone, Debug, Default, Args)]
struct Global {
    /// The agent to talk to: http://HOST:PORT or unix:/PATH [default: the state directory's socket]
    #[arg(long, global = true, env = "MOXIE_URL", value_name = "URL")]
    url: Option<String>,
    /// Where the agent keeps its store, authority and token
    #[arg(long, global = true, env = "MOXIE_STATE_DIR", value_name = "DIR")]
    state_dir: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the agent of this host in the foreground
    Agent(agent::Arguments),
    /// Run a command with its outside calls under rules
    Run(run::Arguments),
    /// Opt processes in and out
    #[command(subcommand)]
    Scope(scope::Command),
    /// Manage rules
    #[command(subcommand)]
    Rule(rule::Command),
    /// See what happened
    #[command(subcommand)]
    Traffic(traffic::Command),
    /// Make programs trust Moxie's authority
    #[command(subcommand)]
    Ca(ca::Command),
    /// Kill switch: send every new connection direct, at once
    Off,
    /// Undo `moxie off`
    On,
    /// See and set which destinations are diverted
    #[command(subcommand)]
    Divert(divert::Command),
    /// What the agent is doing
    Status(status::Arguments),
    /// What this host can and cannot do, and what to type next
    Doctor(doctor::Arguments),
    /// Print a completion script for a shell
    Completions(completions::Arguments),
    /// Print the manual page
    Man,
    /// Print the OpenAPI description of the admin API
    #[command(hide = true)]
    Openapi,
    /// Become a command inside a cgroup (`moxie run` uses this)
    #[command(hide = true)]
    Launch(launch::Arguments),
    /// Show files in place of others in a mount namespace (`moxie ca install --container` uses this)
    #[command(hide = true)]
    Cover(cover::Arguments),
}

/// What a command works with besides its own arguments.
struct Context {
    global: Global,
    env: Env,
}

/// Runs the command that `args` name.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => {
            // A closed stdout or stderr leaves nobody to tell.
            let _ = error.print();
            return if error.use_stderr() { Exit::Usage } else { Exit::Done }.into();
        }
    };
    let context = Context { global: cli.global, env: Env::of_this_process() };
    match dispatch(cli.command, &context) {
        Ok(exit) => exit.into(),
        Err(failure) => {
            failure.tell();
            failure.exit().into()
        }
    }
}

fn dispatch(command: Command, context: &Context) -> Result<Exit, Failure> {
    match command {
        Command::Agent(arguments) => on_threads(agent::run(arguments, context)),
        Command::Run(arguments) => on_threads(run::run(arguments, context)),
        Command::Scope(command) => on_this_thread(scope::run(command, context)),
        Command::Rule(command) => on_this_thread(rule::run(command, context)),
        Command::Traffic(command) => on_this_thread(traffic::run(command, context)),
        Command::Ca(command) => on_this_thread(ca::run(command, context)),
        Command::Off => on_this_thread(switch::run(switch::Divert::Off, context)),
        Command::On => on_this_thread(switch::run(switch::Divert::On, context)),
        Command::Divert(command) => on_this_thread(divert::run(command, context)),
        Command::Status(arguments) => on_this_thread(status::run(arguments, context)),
        Command::Doctor(arguments) => on_this_thread(doctor::run(arguments, context)),
        Command::Completions(arguments) => completions::run(&arguments, &Cli::command()),
        Command::Man => man::run(&Cli::command()),
        Command::Openapi => openapi::run(),
        Command::Launch(arguments) => Err(launch::run(arguments)),
        Command::Cover(arguments) => cover::run(&arguments),
    }
}

/// For commands that carry traffic.
fn on_threads(command: impl Future<Output = Result<Exit, Failure>>) -> Result<Exit, Failure> {
    block_on(tokio::runtime::Builder::new_multi_thread(), command)
}

/// For commands that ask the agent something.
fn on_this_thread(command: impl Future<Output = Result<Exit, Failure>>) -> Result<Exit, Failure> {
    block_on(tokio::runtime::Builder::new_current_thread(), command)
}

fn block_on(
    mut builder: tokio::runtime::Builder,
    command: impl Future<Output = Result<Exit, Failure>>,
) -> Result<Exit, Failure> {
    let runtime = builder.enable_all().build();
    let runtime = runtime.map_err(|error| Failure::failed(format!("cannot start the runtime: {error}")))?;
    let done = runtime.block_on(command);
    // A task that hangs in a blocking call must not hold the exit up.
    runtime.shutdown_background();
    done
}

#[cfg(test)]
mod tests;
