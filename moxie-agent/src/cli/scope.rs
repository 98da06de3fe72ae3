//! `moxie scope add|ls|rm`: opting in and out at run time.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::Context;
use super::client::{Client, encode};
use super::exit::{Exit, Failure};
use super::output::{self, Form, Listing, field};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Opt in: connections made from now on come under the rules
    Add(Add),
    /// List what is opted in
    #[command(visible_alias = "list")]
    Ls(Form),
    /// Opt out: connections made from now on go direct
    Rm {
        /// The scope's id
        #[arg(required = true)]
        ids: Vec<String>,
    },
}

#[derive(Debug, Args)]
pub(super) struct Add {
    #[command(flatten)]
    target: Target,
    /// What comes to the agent: what an enabled rule can name, or everything (TLS that no rule names stays untouched)
    #[arg(long, value_enum, default_value_t = Mode::Rules)]
    mode: Mode,
    #[command(flatten)]
    form: Form,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct Target {
    /// A cgroup v2 directory and everything below it
    #[arg(long, value_name = "PATH")]
    cgroup: Option<PathBuf>,
    /// A process and its descendants
    #[arg(long, value_name = "PID")]
    pid: Option<u32>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Mode {
    Rules,
    Observe,
}

impl Mode {
    fn as_str(self) -> &'static str {
        match self {
            Self::Rules => "rules",
            Self::Observe => "observe",
        }
    }
}

pub(super) async fn run(command: Command, context: &Context) -> Result<Exit, Failure> {
    let client = Client::locate(context)?;
    match command {
        Command::Add(arguments) => add(&arguments, &client).await?,
        Command::Ls(form) => list(form, &client, context).await?,
        Command::Rm { ids } => {
            for id in ids {
                client.call(Method::DELETE, &format!("/api/v1/scopes/{}", encode(&id)), None).await?;
                output::print(&format!("{id} is out: its new connections go direct"))?;
            }
        }
    }
    Ok(Exit::Done)
}

async fn add(arguments: &Add, client: &Client) -> Result<(), Failure> {
    let answer = client.call(Method::POST, "/api/v1/scopes", Some(&arguments.to_json()?)).await?;
    if arguments.form.json {
        return output::print_json(&answer.json);
    }
    let is_new = answer.status == StatusCode::CREATED;
    let already = if is_new { "is in" } else { "was in already" };
    output::print(&format!("{} {already}: {}", field(&answer.json, "/id"), field(&answer.json, "/path")))
}

impl Add {
    fn to_json(&self) -> Result<Value, Failure> {
        let mode = self.mode.as_str();
        match (&self.target.cgroup, self.target.pid) {
            (Some(cgroup), _) => {
                // The agent has its own working directory.
                let cgroup = std::path::absolute(cgroup).map_err(|error| Failure::because("no such path", &error))?;
                Ok(json!({"cgroup": cgroup, "mode": mode}))
            }
            (None, pid) => Ok(json!({"pid": pid, "mode": mode})),
        }
    }
}

async fn list(form: Form, client: &Client, context: &Context) -> Result<(), Failure> {
    let scopes = client.items("/api/v1/scopes").await?;
    if form.json {
        return output::print_json(&json!({"items": scopes, "next": null}));
    }
    let mut listing = Listing::new(&["ID", "MODE", "OPEN", "SINCE", "CGROUP"], &context.env);
    listing.numbers(2);
    for scope in &scopes {
        let of = |pointer| field(scope, pointer);
        listing.row([of("/id"), of("/mode"), of("/active_connections"), of("/created_at"), of("/path")]);
    }
    listing.print("nobody is opted in\n  next: moxie scope add --cgroup /sys/fs/cgroup/system.slice/NAME.service")
}
