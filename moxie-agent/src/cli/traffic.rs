//! `moxie traffic ls|tail|show|export`: what happened.

use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value, json};

use super::Context;
use super::client::{Client, encode};
use super::exit::{Exit, Failure};
use super::output::{self, Form, Listing, field};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// List what happened, newest first
    #[command(visible_alias = "list")]
    Ls {
        #[command(flatten)]
        filter: Filter,
        /// How many
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=1000))]
        limit: u16,
        #[command(flatten)]
        form: Form,
    },
    /// Follow what happens; with --json, one object a line
    Tail {
        #[command(flatten)]
        filter: Filter,
        #[command(flatten)]
        form: Form,
    },
    /// Show an exchange
    Show {
        /// The exchange's id
        id: String,
    },
    /// Print everything that is kept, one JSON object a line, oldest first
    Export {
        #[command(flatten)]
        filter: Filter,
    },
}

/// Which records; every given condition must hold.
#[derive(Debug, Default, Args)]
pub(super) struct Filter {
    /// Connections instead of exchanges
    #[arg(long, conflicts_with_all = ["rule", "outcome", "method", "status", "connection"])]
    connections: bool,
    /// Only of this scope
    #[arg(long, value_name = "ID")]
    scope: Option<String>,
    /// Only exchanges that this rule fired for
    #[arg(long, value_name = "ID")]
    rule: Option<String>,
    /// Only exchanges with this outcome
    #[arg(long, value_enum)]
    outcome: Option<Outcome>,
    /// Only exchanges with this method
    #[arg(long)]
    method: Option<String>,
    /// Only exchanges with this status
    #[arg(long, value_name = "CODE")]
    status: Option<u16>,
    /// Only exchanges of this connection
    #[arg(long, value_name = "ID")]
    connection: Option<String>,
    /// Only connections with this verdict
    #[arg(long, value_enum, requires = "connections")]
    verdict: Option<Verdict>,
    /// Only where the URL, server name or destination contains this
    #[arg(long, value_name = "TEXT")]
    contains: Option<String>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Outcome {
    Forwarded,
    Responded,
    Rewritten,
    Faulted,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Verdict {
    Passthrough,
    Intercept,
    Fault,
}

pub(super) async fn run(command: Command, context: &Context) -> Result<Exit, Failure> {
    let client = Client::locate(context)?;
    match command {
        Command::Ls { filter, limit, form } => list(&filter, limit, form, &client, context).await?,
        Command::Tail { filter, form } => tail(&filter, form, &client).await?,
        Command::Show { id } => {
            output::print_json(&client.get(&format!("/api/v1/exchanges/{}", encode(&id))).await?)?;
        }
        Command::Export { filter } => {
            for record in client.items(&filter.path()).await?.iter().rev() {
                output::print(&record.to_string())?;
            }
        }
    }
    Ok(Exit::Done)
}

async fn list(filter: &Filter, limit: u16, form: Form, client: &Client, context: &Context) -> Result<(), Failure> {
    let page = client.page(&filter.path(), usize::from(limit), None).await?;
    if form.json {
        return output::print_json(&json!({"items": page.items, "next": page.next}));
    }
    let mut listing = Listing::new(filter.header(), &context.env);
    for record in &page.items {
        listing.row(filter.row(record));
    }
    listing.print(if page.items.is_empty() { nothing(filter, client).await } else { "" })
}

/// What to say where no record was found. Connections without exchanges are on record where TLS is not ended, say.
async fn nothing(filter: &Filter, client: &Client) -> &'static str {
    let connections = Filter {
        connections: true,
        scope: filter.scope.clone(),
        contains: filter.contains.clone(),
        ..Filter::default()
    };
    let found = if filter.connections { None } else { client.page(&connections.path(), 1, None).await.ok() };
    if found.is_some_and(|page| !page.items.is_empty()) {
        "no exchange was recorded, but connections were\n  next: moxie traffic ls --connections: why they were not looked into"
    } else {
        "nothing was recorded\n  next: moxie status, moxie scope ls: is the caller opted in?"
    }
}

async fn tail(filter: &Filter, form: Form, client: &Client) -> Result<(), Failure> {
    let mut events = client.follow("/api/v1/events").await?;
    while let Some(event) = events.next().await? {
        if event.kind == "missed" {
            output::note(&format!("{} events came too fast to be shown: `moxie traffic ls` has them", event.data));
        } else if event.kind == filter.kind() && filter.holds(&event.data) {
            output::print(&if form.json {
                event.data.to_string()
            } else {
                output::shown(&filter.row(&event.data).join("  ")).into_owned()
            })?;
        }
    }
    Err(Failure::failed("the agent ended the stream").next("moxie status"))
}

impl Filter {
    /// The event and listing that records come from.
    fn kind(&self) -> &'static str {
        if self.connections { "connection" } else { "exchange" }
    }

    /// The listing, with the conditions as its query.
    fn path(&self) -> String {
        let query: Vec<String> =
            self.conditions().iter().map(|(name, value)| format!("{name}={}", encode(value))).collect();
        let separator = if query.is_empty() { "" } else { "?" };
        format!("/api/v1/{}s{separator}{}", self.kind(), query.join("&"))
    }

    /// The conditions by the names that the API gives them.
    fn conditions(&self) -> Vec<(&'static str, String)> {
        let named = |value: Option<clap::builder::PossibleValue>| value.map(|value| value.get_name().to_owned());
        let all = [
            ("scope", self.scope.clone()),
            ("rule_id", self.rule.clone()),
            ("outcome", named(self.outcome.and_then(|outcome| outcome.to_possible_value()))),
            ("method", self.method.clone()),
            ("status", self.status.map(|status| status.to_string())),
            ("connection_id", self.connection.clone()),
            ("verdict", named(self.verdict.and_then(|verdict| verdict.to_possible_value()))),
            ("contains", self.contains.clone()),
        ];
        all.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
    }

    /// Whether a record that came as an event meets the conditions, as the listing would have it.
    fn holds(&self, record: &Value) -> bool {
        self.conditions().iter().all(|(name, wanted)| match *name {
            "scope" => field(record, "/caller/scope") == *wanted,
            "contains" => ["/url", "/server_name", "/original_dst"]
                .iter()
                .any(|place| field(record, place).contains(wanted.as_str())),
            name => record.get(name).is_some() && field(record, &format!("/{name}")) == *wanted,
        })
    }

    fn header(&self) -> &'static [&'static str] {
        if self.connections {
            &["STARTED", "ID", "CALLER", "VERDICT", "REASON", "PROTOCOL", "UP", "DOWN", "DESTINATION", "NAME"]
        } else {
            &["STARTED", "ID", "CALLER", "OUTCOME", "STATUS", "TOOK", "METHOD", "URL"]
        }
    }

    fn row(&self, record: &Value) -> Vec<String> {
        let of = |pointer| field(record, pointer);
        let mut row = vec![of("/started_at"), of("/id"), caller(record)];
        if self.connections {
            let pointers =
                ["/verdict", "/reason", "/protocol", "/bytes_up", "/bytes_down", "/original_dst", "/server_name"];
            row.extend(pointers.map(of));
        } else {
            let took = format!("{} ms", of("/duration_ms"));
            row.extend([of("/outcome"), of("/status"), took, of("/method"), of("/url")]);
        }
        row
    }
}

/// The shortest name of who made the call.
fn caller(record: &Value) -> String {
    let known = ["/caller/unit", "/caller/container", "/caller/comm", "/caller/pid"];
    let name = known.iter().map(|place| field(record, place)).find(|name| name != "-");
    name.map_or_else(|| "-".to_owned(), |name| name.chars().take(24).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_become_a_query() {
        assert_eq!(Filter::default().path(), "/api/v1/exchanges");
        let filter = Filter { outcome: Some(Outcome::Faulted), contains: Some("a b&c".into()), ..Filter::default() };
        assert_eq!(filter.path(), "/api/v1/exchanges?outcome=faulted&contains=a%20b%26c");
        let filter = Filter { connections: true, verdict: Some(Verdict::Intercept), ..Filter::default() };
        assert_eq!(filter.path(), "/api/v1/connections?verdict=intercept");
    }

    #[tokio::test]
    async fn connections_without_exchanges_are_pointed_to() {
        let listed = |uri: http::Uri| async move {
            let items = if uri.query().is_some_and(|query| query.contains("scope=s1")) { vec![1] } else { vec![] };
            axum::Json(json!({"items": items, "next": null}))
        };
        let dir = tempfile::tempdir().unwrap();
        let listener = tokio::net::UnixListener::bind(dir.path().join("admin.sock")).unwrap();
        let router = axum::Router::new().route("/api/v1/connections", axum::routing::get(listed));
        tokio::spawn(async move { axum::serve(listener, router).await });
        let global = crate::cli::Global { url: None, state_dir: Some(dir.path().to_path_buf()) };
        let client = Client::locate(&Context { global, env: crate::cli::env::Env::from([]) }).unwrap();
        let of = |scope: &str| Filter { scope: Some(scope.into()), ..Filter::default() };
        assert!(nothing(&of("s1"), &client).await.contains("traffic ls --connections"));
        assert!(nothing(&of("s2"), &client).await.contains("is the caller opted in?"));
        let connections = Filter { connections: true, ..of("s1") };
        assert!(nothing(&connections, &client).await.contains("is the caller opted in?"));
    }

    #[test]
    fn events_are_held_against_the_same_conditions() {
        let record = json!({"url": "https://a/b", "outcome": "responded", "status": 429, "method": "GET",
            "connection_id": "c1", "rule_id": null, "caller": {"scope": "s1", "unit": null, "comm": "curl"}});
        let all = Filter {
            scope: Some("s1".into()),
            outcome: Some(Outcome::Responded),
            status: Some(429),
            contains: Some("a/b".into()),
            ..Filter::default()
        };
        assert!(all.holds(&record));
        assert!(!Filter { status: Some(200), ..Filter::default() }.holds(&record));
        assert!(!Filter { rule: Some("r".into()), ..Filter::default() }.holds(&record));
        assert!(!Filter { contains: Some("zzz".into()), ..Filter::default() }.holds(&record));
        assert_eq!(caller(&record), "curl");
    }
}
