//! The running agent of this host, with a scope and rules that are only this run's.

use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use http::Method;
use serde_json::{Value, json};

use super::host::Host;
use crate::cli::Context;
use crate::cli::client::{Client, encode};
use crate::cli::exit::{Exit, Failure};
use crate::cli::output::{field, note};
use crate::cli::rulefile;
use crate::divert::{Via, Way};
use crate::tls::trust;

pub(super) struct Shared {
    client: Client,
    way: String,
    scope: String,
    rules: Vec<String>,
}

/// Why the running agent is not used.
pub(super) enum Unusable {
    /// There is none.
    Absent,
    /// There is one, but.
    Because(String),
}

impl From<Failure> for Unusable {
    fn from(failure: Failure) -> Self {
        if failure.exit() == Exit::Unreachable { Self::Absent } else { Self::Because(failure.to_string()) }
    }
}

impl Shared {
    pub(super) async fn open(via: Via, rules: &[Value], cgroup: &Path, context: &Context) -> Result<Self, Unusable> {
        let client = Client::locate(context)?;
        let status = client.get("/api/v1/status").await?;
        let roots = trust::private_bundles(|name| context.env.text(name));
        if let Some(why) = unfit(&status, via, own_netns(), &roots) {
            return Err(Unusable::Because(why));
        }
        let body = json!({"cgroup": cgroup, "mode": "observe"});
        let scope = client.call(Method::POST, "/api/v1/scopes", Some(&body)).await?;
        let mut shared =
            Self { client, way: field(&status, "/way"), scope: field(&scope.json, "/id"), rules: Vec::new() };
        match shared.add(rules).await {
            Ok(()) => Ok(shared),
            Err(failure) => {
                Box::new(shared).close().await;
                Err(failure.into())
            }
        }
    }

    async fn add(&mut self, rules: &[Value]) -> Result<(), Failure> {
        if rules.is_empty() {
            return Ok(());
        }
        let rules: Vec<Value> = rules.iter().map(|rule| rulefile::for_scope(rule.clone(), &self.scope)).collect();
        let answer = self.client.call(Method::POST, "/api/v1/rules/import", Some(&json!({"rules": rules}))).await?;
        let saved = answer.json.get("rules").and_then(Value::as_array).into_iter().flatten();
        self.rules = saved.map(|rule| field(rule, "/id")).collect();
        Ok(())
    }

    async fn records(&self, kind: &str) -> Result<Vec<Value>, Failure> {
        self.client.items(&format!("/api/v1/{kind}?scope={}", encode(&self.scope))).await
    }
}

/// What keeps this run from going through the agent with this status.
fn unfit(status: &Value, via: Via, own_netns: Option<u64>, roots: &[PathBuf]) -> Option<String> {
    let says = |name: &str| status.get(name).and_then(Value::as_bool).unwrap_or(false);
    if status.get("netns").and_then(Value::as_u64) != own_netns {
        return Some("it lives in another network namespace".to_owned());
    }
    if let Some(why) = other_way(&field(status, "/way"), via) {
        return Some(why);
    }
    if !says("diverting") {
        return Some("it is switched off (`moxie on` switches it on)".to_owned());
    }
    let known = status.get("upstream_ca").and_then(Value::as_array).into_iter().flatten();
    let known: Vec<&Path> = known.filter_map(Value::as_str).map(Path::new).collect();
    if let Some(unknown) = roots.iter().find(|root| !known.contains(&root.as_path())) {
        return Some(format!("it does not verify with {}, which the environment names", unknown.display()));
    }
    (!says("ready")).then(|| "it is not ready (`moxie status` says why)".to_owned())
}

/// A run has its own proxy, which only CMD is told of; and it goes the way that was asked for.
fn other_way(way: &str, via: Via) -> Option<String> {
    let is_asked_for = via.ways().iter().any(|one| *one != Way::Proxy && one.name() == way);
    (!is_asked_for).then(|| format!("it is on path by {way}"))
}

/// Inode of this process's network namespace.
fn own_netns() -> Option<u64> {
    std::fs::metadata("/proc/self/ns/net").ok().map(|namespace| namespace.ino())
}

#[async_trait]
impl Host for Shared {
    fn name(&self) -> &'static str {
        "the agent of this host"
    }

    fn on_path(&self) -> &str {
        &self.way
    }

    fn door(&self) -> Option<SocketAddr> {
        None
    }

    async fn authority_pem(&self) -> Result<String, Failure> {
        self.client.text("/api/v1/ca.pem").await
    }

    async fn open_connections(&self) -> Result<u64, Failure> {
        let scopes = self.client.items("/api/v1/scopes").await?;
        let own = scopes.iter().find(|scope| field(scope, "/id") == self.scope);
        Ok(own.and_then(|scope| scope.get("active_connections")?.as_u64()).unwrap_or(0))
    }

    async fn exchanges(&self) -> Result<Vec<Value>, Failure> {
        self.records("exchanges").await
    }

    async fn connections(&self) -> Result<Vec<Value>, Failure> {
        self.records("connections").await
    }

    async fn rules(&self) -> Result<Vec<Value>, Failure> {
        let mut rules = Vec::new();
        for id in &self.rules {
            rules.push(self.client.get(&format!("/api/v1/rules/{}", encode(id))).await?);
        }
        Ok(rules)
    }

    async fn close(self: Box<Self>) {
        let scope = format!("/api/v1/scopes/{}", encode(&self.scope));
        let rules = self.rules.iter().map(|id| format!("/api/v1/rules/{}", encode(id)));
        for path in [scope].into_iter().chain(rules) {
            if let Err(failure) = self.client.call(Method::DELETE, &path, None).await {
                note(&format!("{path} of this run is left behind: {failure}"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_ready_agent_in_the_same_network_is_used() {
        let status = |netns: u64, diverting: bool, ready: bool| json!({"way": "ebpf", "netns": netns, "diverting": diverting, "ready": ready});
        assert_eq!(unfit(&status(7, true, true), Via::Auto, Some(7), &[]), None);
        let with_roots =
            json!({"way": "ebpf", "netns": 7, "diverting": true, "ready": true, "upstream_ca": ["/lab/a.pem"]});
        assert_eq!(unfit(&with_roots, Via::Auto, Some(7), &["/lab/a.pem".into()]), None);
        let roots = ["/lab/a.pem".into(), "/lab/b.pem".into()];
        assert!(unfit(&with_roots, Via::Auto, Some(7), &roots).unwrap().contains("/lab/b.pem"));
        for (status, expected) in [
            (status(8, true, true), "another network namespace"),
            (status(7, false, false), "switched off"),
            (status(7, true, false), "not ready"),
            (json!({}), "another network namespace"),
        ] {
            assert!(unfit(&status, Via::Auto, Some(7), &[]).unwrap().contains(expected), "{status}");
        }
    }

    #[test]
    fn the_agent_is_on_path_as_was_asked_for() {
        assert_eq!(other_way("ebpf", Via::Auto), None);
        assert_eq!(other_way("netfilter", Via::Only(Way::Netfilter)), None);
        assert!(other_way("ebpf", Via::Only(Way::Netfilter)).is_some());
        assert!(other_way("proxy", Via::Auto).is_some());
    }
}
