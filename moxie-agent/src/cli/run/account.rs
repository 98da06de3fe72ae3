//! What CMD called, and what became of it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::host::Host;
use crate::cli::exit::Failure;
use crate::cli::output::{field, note};

/// How often it is looked whether CMD's connections have closed.
const LOOK: Duration = Duration::from_millis(20);

/// The records of a run, oldest first, and its rules as they are in the end.
#[derive(Debug, Default)]
pub(super) struct Account {
    pub(super) exchanges: Vec<Value>,
    pub(super) connections: Vec<Value>,
    pub(super) rules: Vec<Value>,
}

/// What became of the calls to one host.
#[derive(Debug, Default, PartialEq, Eq)]
struct Calls {
    mocked: u64,
    passed: u64,
    failed: u64,
    /// Connections that nobody looked into.
    untouched: u64,
}

impl Account {
    /// Waits, at most `settling`, until CMD's connections have closed and so are recorded, then reads the records.
    pub(super) async fn take(host: &dyn Host, settling: Duration) -> Self {
        let deadline = Instant::now() + settling;
        while Instant::now() < deadline && host.open_connections().await.is_ok_and(|open| open > 0) {
            sleep(LOOK).await;
        }
        Self {
            exchanges: oldest_first(host.exchanges().await),
            connections: oldest_first(host.connections().await),
            rules: told(host.rules().await),
        }
    }

    /// Says on stderr what was called.
    pub(super) fn tell(&self, door: Option<SocketAddr>) {
        for line in self.lines(door) {
            note(&line);
        }
    }

    fn lines(&self, door: Option<SocketAddr>) -> Vec<String> {
        let mut lines: Vec<String> =
            self.calls().iter().map(|(host, calls)| format!("{host}: {}", calls.tell())).collect();
        if lines.is_empty() {
            lines.push(match door {
                None => "the command called nobody on the diverted ports".to_owned(),
                Some(_) => {
                    "the command called nobody through the proxy; what does not read HTTPS_PROXY is not seen".to_owned()
                }
            });
        }
        lines.extend(self.rules.iter().map(fired));
        lines
    }

    fn calls(&self) -> BTreeMap<String, Calls> {
        let mut hosts: BTreeMap<String, Calls> = BTreeMap::new();
        for exchange in &self.exchanges {
            hosts.entry(host_of(&field(exchange, "/url"))).or_default().count_exchange(exchange);
        }
        for connection in &self.connections {
            hosts_entry(&mut hosts, connection).count_connection(connection);
        }
        hosts.retain(|_, calls| *calls != Calls::default());
        hosts
    }
}

fn hosts_entry<'a>(hosts: &'a mut BTreeMap<String, Calls>, connection: &Value) -> &'a mut Calls {
    let name =
        ["/server_name", "/original_dst"].map(|place| field(connection, place)).into_iter().find(|name| name != "-");
    hosts.entry(name.unwrap_or_else(|| "unknown destination".to_owned())).or_default()
}

impl Calls {
    fn count_exchange(&mut self, exchange: &Value) {
        let is_whole = exchange.get("error").is_none_or(Value::is_null);
        match field(exchange, "/outcome").as_str() {
            "responded" | "rewritten" if is_whole => self.mocked += 1,
            "forwarded" if is_whole => self.passed += 1,
            _ => self.failed += 1,
        }
    }

    /// Connections that were looked into are told by their exchanges.
    fn count_connection(&mut self, connection: &Value) {
        match field(connection, "/verdict").as_str() {
            "passthrough" if field(connection, "/reason") == "upstream_failed" => self.failed += 1,
            "passthrough" => self.untouched += 1,
            "fault" => self.failed += 1,
            _ => {}
        }
    }

    fn tell(&self) -> String {
        let calls = [(self.mocked, "mocked"), (self.passed, "passed"), (self.failed, "failed")];
        let mut parts: Vec<String> =
            calls.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}")).collect();
        if self.untouched > 0 {
            let noun = if self.untouched == 1 { "connection" } else { "connections" };
            parts.push(format!("{} {noun} passed untouched", self.untouched));
        }
        parts.join(", ")
    }
}

/// `host:port` of a URL.
fn host_of(url: &str) -> String {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest.split(['/', '?']).next().unwrap_or(rest).to_owned()
}

/// One line about a rule: how often it fired, of how many times.
fn fired(rule: &Value) -> String {
    let name = match rule.get("name").and_then(Value::as_str) {
        None | Some("") => field(rule, "/url"),
        Some(name) => name.to_owned(),
    };
    let hits = rule.get("hits").and_then(Value::as_u64).unwrap_or(0);
    let of = match rule.get("mock_count").and_then(Value::as_i64) {
        Some(count) if count >= 0 => format!(" of {count}"),
        _ => String::new(),
    };
    match hits {
        0 => format!("rule `{name}` hit nothing"),
        hits => format!("rule `{name}` fired {hits}{of}"),
    }
}

fn oldest_first(records: Result<Vec<Value>, Failure>) -> Vec<Value> {
    let mut records = told(records);
    records.reverse();
    records
}

/// Records that cannot be had are told; CMD has run all the same.
fn told(records: Result<Vec<Value>, Failure>) -> Vec<Value> {
    records.unwrap_or_else(|failure| {
        note(&format!("the account is not whole: {failure}"));
        Vec::new()
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn calls_are_told_by_host_and_rules_by_what_they_did() {
        let exchange = |url: &str, outcome: &str, error: Value| json!({"url": url, "outcome": outcome, "error": error});
        let account = Account {
            exchanges: vec![
                exchange("https://api.customer.io/v1/a?x=1", "responded", Value::Null),
                exchange("https://api.customer.io/v1/a", "responded", Value::Null),
                exchange("https://api.customer.io/v1/a", "forwarded", Value::Null),
                exchange("http://b:8080?q", "forwarded", json!("upstream_broke")),
                exchange("http://b:8080", "faulted", Value::Null),
            ],
            connections: vec![
                json!({"server_name": "api.customer.io", "verdict": "intercept"}),
                json!({"server_name": null, "original_dst": "192.0.2.1:22", "verdict": "passthrough"}),
            ],
            rules: vec![
                json!({"url": "api.customer.io/v1/.*", "name": "", "hits": 2, "mock_count": 3}),
                json!({"url": "x", "name": "slow", "hits": 5, "mock_count": -1}),
                json!({"url": "never", "name": "", "hits": 0, "mock_count": 1}),
            ],
        };
        assert_eq!(
            account.lines(None),
            [
                "192.0.2.1:22: 1 connection passed untouched",
                "api.customer.io: 2 mocked, 1 passed",
                "b:8080: 2 failed",
                "rule `api.customer.io/v1/.*` fired 2 of 3",
                "rule `slow` fired 5",
                "rule `never` hit nothing",
            ]
        );
        assert_eq!(Account::default().lines(None), ["the command called nobody on the diverted ports"]);
        assert!(Account::default().lines(Some(([127, 0, 0, 1], 1).into()))[0].contains("HTTPS_PROXY"));
    }
}
