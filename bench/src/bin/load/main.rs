//! `load`: makes the traffic of one run and measures it, with what the processes under test used meanwhile.
//!
//! One thread, so that it can be kept on one processor. Requests are written by hand and answers read as far as they have to be: what
//! the generator costs is taken from the destination, which shares its processor. Certificates are not verified for the same reason;
//! that the right one is shown is looked at before (see `bench`'s preflight).

mod answer;
mod dial;
mod idle;
mod keep;
mod tally;
mod watch;

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Args, Parser, Subcommand};
use moxie_bench::report::Report;
use tokio::task::LocalSet;

use dial::Errand;
use tally::Tally;

/// One run of traffic.
#[derive(Debug, Parser)]
struct Cli {
    /// Processes whose processor time is measured.
    #[arg(long, value_delimiter = ',')]
    proxy: Vec<u32>,
    /// Processes that work for the run too.
    #[arg(long, value_delimiter = ',')]
    own: Vec<u32>,
    /// Seconds to measure.
    #[arg(long, default_value_t = 1.0)]
    seconds: f64,
    /// Seconds before that.
    #[arg(long, default_value_t = 0.2)]
    warm_up: f64,
    #[command(subcommand)]
    kind: Kind,
}

/// Whom to ask for what.
#[derive(Debug, Args)]
struct Request {
    /// Address that is dialled.
    #[arg(long)]
    to: SocketAddr,
    /// Name that is asked for.
    #[arg(long)]
    host: String,
    /// Inside TLS.
    #[arg(long)]
    tls: bool,
    /// Path and query.
    #[arg(long, default_value = "/")]
    path: String,
    /// Status that every answer must have.
    #[arg(long, default_value_t = 200)]
    expect: u16,
    /// Connections at a time.
    #[arg(long, default_value_t = 1)]
    connections: usize,
}

#[derive(Debug, Subcommand)]
enum Kind {
    /// Requests one after the other on connections that are kept.
    Keep {
        #[command(flatten)]
        request: Request,
        /// Milliseconds after which each answer is due; latencies are then the distance from it.
        #[arg(long, default_value_t = 0)]
        delay: u64,
    },
    /// A connection for each request.
    Fresh {
        #[command(flatten)]
        request: Request,
    },
    /// Connections that are opened, used once and held until this is ended; says so when all are open.
    Idle {
        #[command(flatten)]
        request: Request,
    },
    /// Another generator: what it prints is kept.
    Watch {
        /// Program and arguments.
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<String>,
    },
}

fn main() -> Result<()> {
    let cli = Cli::parse();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let report = runtime.block_on(LocalSet::new().run_until(run(cli)))?;
    println!("{}", serde_json::to_string(&report)?);
    Ok(())
}

async fn run(cli: Cli) -> Result<Report> {
    let tally = Tally::new(cli.proxy, cli.own);
    let (warm_up, measured) = (Duration::try_from_secs_f64(cli.warm_up)?, Duration::try_from_secs_f64(cli.seconds)?);
    match cli.kind {
        Kind::Keep { request, delay } => {
            let (errand, connections) = (Errand::new(&request, dial::End::Kept)?, request.connections);
            keep::start(&errand, &tally, connections, Duration::from_millis(delay));
            Ok(tally.measure(warm_up, measured).await)
        }
        Kind::Fresh { request } => {
            let (errand, connections) = (Errand::new(&request, dial::End::Closed)?, request.connections);
            keep::start_fresh(&errand, &tally, connections);
            Ok(tally.measure(warm_up, measured).await)
        }
        Kind::Idle { request } => idle::hold(Errand::new(&request, dial::End::Kept)?, request.connections).await,
        Kind::Watch { command } => {
            watch::run(&command, &tally).await.with_context(|| format!("cannot run {}", command.join(" ")))
        }
    }
}
