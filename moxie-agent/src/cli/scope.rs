//! `moxie scope add|ls|rm`: opting in and out at run time.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand, ValueEnum};
use http::{Method, StatusCode};
use serde_json::{Map, Value, json};

use super::Context;
use super::client::{Client, encode};
use super::exit::{Exit, Failure};
use super::output::{self, Form, Listing, field, shown};

const SCOPES: &str = "/api/v1/scopes";

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
    /// What comes to the agent
    #[arg(long, value_enum, default_value_t = Mode::Rules)]
    mode: Mode,
    /// With --mode inspect: regex of a host whose TLS is ended, so that what is said is on record; may be given several times
    #[arg(long = "host", value_name = "REGEX")]
    hosts: Vec<String>,
    /// Refuse UDP to port 443, so that clients of HTTP/3 fall back to TCP; unless given, the agent's configuration decides
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    refuse_quic: Option<bool>,
    #[command(flatten)]
    form: Form,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct Target {
    /// A systemd unit, also a slice, also one that starts later
    #[arg(long, value_name = "NAME")]
    unit: Option<String>,
    /// A container by name, id or at least the first eight digits of that, also one that starts later
    #[arg(long, value_name = "NAME")]
    container: Option<String>,
    /// Every container with this label, now and later
    #[arg(long, value_name = "KEY[=VALUE]")]
    label: Option<String>,
    /// A cgroup v2 directory and everything below it
    #[arg(long, value_name = "PATH")]
    cgroup: Option<PathBuf>,
    /// A process and its descendants
    #[arg(long, value_name = "PID", value_parser = process_id, allow_hyphen_values = true)]
    pid: Option<u32>,
}

fn process_id(text: &str) -> Result<u32, &'static str> {
    text.parse().ok().filter(|pid| *pid > 0).ok_or("write a process id, such as 4711")
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Mode {
    /// What an enabled rule can name
    Rules,
    /// Everything; TLS that no rule names stays untouched
    Observe,
    /// Everything; TLS is ended for the hosts given with --host, and for those that rules name
    Inspect,
}

impl Mode {
    fn as_str(self) -> &'static str {
        match self {
            Self::Rules => "rules",
            Self::Observe => "observe",
            Self::Inspect => "inspect",
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
                remove(&id, &client).await?;
            }
        }
    }
    Ok(Exit::Done)
}

async fn add(arguments: &Add, client: &Client) -> Result<(), Failure> {
    let answer = client.call(Method::POST, SCOPES, Some(&arguments.to_json()?)).await?;
    if arguments.form.json {
        return output::print_json(&answer.json);
    }
    let is_new = answer.status == StatusCode::CREATED;
    let already = if is_new { "is in" } else { "was in already" };
    output::print(&format!("{} {already}: {}", field(&answer.json, "/id"), shown(&matched(&answer.json))))?;
    problem(&answer.json).map_or(Ok(()), |problem| output::print(&format!("  {}", shown(&problem))))
}

/// Opting out works whatever the listings say; these only tell what became of the calls.
async fn remove(id: &str, client: &Client) -> Result<(), Failure> {
    let before = client.items(SCOPES).await.unwrap_or_default();
    client.call(Method::DELETE, &format!("{SCOPES}/{}", encode(id)), None).await?;
    let rest = client.items(SCOPES).await.ok();
    let removed = before.iter().find(|scope| field(scope, "/id") == id);
    let heirs = removed.zip(rest.as_ref()).map(|(removed, rest)| heirs(removed, rest));
    output::print(&heirs.map_or_else(|| format!("{id} is out"), |heirs| format!("{id} is out: {}", shown(&heirs))))
}

/// Whose the calls are that were a removed scope's.
fn heirs(removed: &Value, rest: &[Value]) -> String {
    let own = cgroups(removed);
    // A scope that somebody asked for goes before the configuration's.
    let (configured, asked): (Vec<&Value>, Vec<&Value>) =
        rest.iter().partition(|scope| scope.get("configured") == Some(&Value::Bool(true)));
    let others: Vec<(&Path, String)> = asked
        .into_iter()
        .chain(configured)
        .flat_map(|scope| cgroups(scope).into_iter().map(|cgroup| (cgroup, field(scope, "/id"))))
        .collect();
    let around = |cgroup: &Path| {
        let around = others.iter().rev().filter(|(other, _)| cgroup.starts_with(other));
        around.max_by_key(|(other, _)| other.components().count())
    };
    let kept: Vec<Option<&(&Path, String)>> = own.iter().map(|cgroup| around(cgroup)).collect();
    let mut scopes: Vec<&str> = kept.iter().flatten().map(|(_, id)| id.as_str()).collect();
    scopes.sort_unstable();
    scopes.dedup();
    if !own.is_empty() && kept.iter().all(Option::is_some) {
        return format!("its cgroup is still in by scope {}", scopes.join(", "));
    }
    let still = own.iter().zip(&kept).filter_map(|(cgroup, kept)| Some((*cgroup, &kept.as_ref()?.1)));
    let inside =
        others.iter().filter(|(other, _)| own.iter().any(|cgroup| other.starts_with(cgroup) && other != cgroup));
    let still: Vec<String> = still
        .chain(inside.map(|(cgroup, id)| (*cgroup, id)))
        .map(|(cgroup, id)| format!("{}, which is still in by scope {id}", cgroup.display()))
        .collect();
    let direct = "its new connections go direct";
    if still.is_empty() { direct.into() } else { format!("{direct}, but for {}", still.join("; ")) }
}

/// The cgroups that a scope matches now.
fn cgroups(scope: &Value) -> Vec<&Path> {
    let matches = scope.pointer("/matches").and_then(Value::as_array).into_iter().flatten();
    matches.filter_map(|one| one.get("cgroup")?.as_str().map(Path::new)).collect()
}

impl Add {
    fn to_json(&self) -> Result<Value, Failure> {
        let mut scope = self.target.to_json()?;
        scope.insert("mode".into(), self.mode.as_str().into());
        if !self.hosts.is_empty() {
            scope.insert("inspect".into(), json!(self.hosts));
        }
        if let Some(refuse) = self.refuse_quic {
            scope.insert("refuse_quic".into(), refuse.into());
        }
        Ok(Value::Object(scope))
    }
}

impl Target {
    fn to_json(&self) -> Result<Map<String, Value>, Failure> {
        let cgroup = match &self.cgroup {
            // The agent has its own working directory.
            Some(path) => {
                Some(json!(std::path::absolute(path).map_err(|error| Failure::because("no such path", &error))?))
            }
            None => None,
        };
        let fields = [
            ("cgroup", cgroup),
            ("unit", self.unit.as_deref().map(Value::from)),
            ("container", self.container.as_deref().map(Value::from)),
            ("label", self.label.as_deref().map(Value::from)),
            ("pid", self.pid.map(Value::from)),
        ];
        Ok(fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect())
    }
}

async fn list(form: Form, client: &Client, context: &Context) -> Result<(), Failure> {
    let scopes = client.items(SCOPES).await?;
    if form.json {
        return output::print_json(&json!({"items": scopes, "next": null}));
    }
    let mut listing = Listing::new(&["ID", "TARGET", "MODE", "OPEN", "SINCE", "MATCHES"], &context.env);
    listing.numbers(3);
    for scope in &scopes {
        let of = |pointer| field(scope, pointer);
        listing.row([
            of("/id"),
            target(scope),
            of("/mode"),
            of("/active_connections"),
            of("/created_at"),
            matched(scope),
        ]);
    }
    listing.print("nobody is opted in\n  next: moxie scope add --unit NAME.service")?;
    let status = client.call(Method::GET, "/api/v1/status", None).await?.json;
    let warnings = status.pointer("/warnings").and_then(Value::as_array).into_iter().flatten();
    let warnings = warnings.filter_map(Value::as_str).map(|warning| format!("warning: {warning}"));
    let problems = scopes.iter().filter_map(|scope| Some(format!("{}: {}", target(scope), problem(scope)?)));
    let direct = scopes.iter().filter(|scope| is_direct(scope)).map(|scope| {
        format!("{}: direct, for no rule could act on it now; a rule, or mode observe, brings it here", target(scope))
    });
    for line in problems.chain(direct).chain(warnings) {
        output::print(&shown(&line))?;
    }
    Ok(())
}

/// `unit shop.service`.
fn target(scope: &Value) -> String {
    let kinds = ["cgroup", "unit", "container", "label", "pid"];
    let given = kinds.iter().find(|kind| scope.get(**kind).is_some());
    given.map(|kind| format!("{kind} {}", field(scope, &format!("/{kind}")))).unwrap_or_default()
}

/// Whether it matches something, and nothing of that is diverted.
fn is_direct(scope: &Value) -> bool {
    let matches = scope.pointer("/matches").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    !matches.is_empty() && matches.iter().all(|one| one.get("diverted").and_then(Value::as_str) == Some("none"))
}

/// What a scope matches now: containers by their names, everything else by its cgroup.
fn matched(scope: &Value) -> String {
    let matches = scope.pointer("/matches").and_then(Value::as_array).into_iter().flatten();
    let named = matches.map(|one| match one.pointer("/container/name").and_then(Value::as_str) {
        Some(name) => name.to_owned(),
        None => field(one, "/cgroup"),
    });
    let named: Vec<String> = named.collect();
    if named.is_empty() { "nothing now".into() } else { named.join(", ") }
}

/// What is wrong with a scope, and what keeps those that it matches from being diverted.
fn problem(scope: &Value) -> Option<String> {
    let of = |value: &Value| value.as_str().map(str::to_owned);
    let obstacles = |one: &Value| one.pointer("/obstacles").and_then(Value::as_array).cloned().unwrap_or_default();
    let matches = scope.pointer("/matches").and_then(Value::as_array).into_iter().flatten();
    let all = scope.pointer("/problem").cloned().into_iter().chain(matches.flat_map(obstacles));
    let all: Vec<String> = all.filter_map(|problem| of(&problem)).collect();
    (!all.is_empty()).then(|| all.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_removed_scopes_calls_are_said_to_be_whose_they_are() {
        let scope = |id: &str, cgroups: &[&str]| {
            let matches: Vec<Value> = cgroups.iter().map(|cgroup| json!({"cgroup": cgroup})).collect();
            json!({"id": id, "matches": matches, "configured": id == "label"})
        };
        let check = |removed: &[&str], rest: &[(&str, &[&str])], says: &str| {
            let rest: Vec<Value> = rest.iter().map(|(id, cgroups)| scope(id, cgroups)).collect();
            assert_eq!(heirs(&scope("gone", removed), &rest), says, "{removed:?} {rest:?}");
        };
        let direct = "its new connections go direct";
        check(&["/a"], &[], direct);
        check(&[], &[("one", &["/a"])], direct);
        check(&["/a"], &[("one", &["/ab"])], direct);
        check(&["/a"], &[("one", &["/a"])], "its cgroup is still in by scope one");
        check(&["/a/b"], &[("one", &["/a"]), ("two", &["/"])], "its cgroup is still in by scope one");
        check(
            &["/a"],
            &[("label", &["/a"]), ("one", &["/a"]), ("two", &["/a"])],
            "its cgroup is still in by scope one",
        );
        check(&["/a"], &[("one", &["/a/b"])], &format!("{direct}, but for /a/b, which is still in by scope one"));
        check(&["/a", "/c"], &[("one", &["/c"])], &format!("{direct}, but for /c, which is still in by scope one"));
    }
}
