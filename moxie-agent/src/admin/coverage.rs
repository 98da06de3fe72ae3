//! `/api/v1/coverage`: what Moxie sees of each caller's calls to each destination, and what keeps it from seeing more.
//!
//! Made on demand from what is known already: records, what connections have taught, and the sockets that scopes have open.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::AdminState;
use super::problem::Refusal;
use crate::divert::Share;
use crate::journal::{Connection, ConnectionVerdict, Filter, Page, Protocol, Reason};
use crate::scope::{Scope, sockets};

/// Entries that are listed at most; those seen last go first.
const ENTRIES: usize = 1000;
/// Pages of records that are looked at.
const PAGES: usize = 20;
/// Records of a page.
const PAGE: usize = 1000;

pub(super) fn router() -> OpenApiRouter<Arc<AdminState>> {
    OpenApiRouter::new().routes(routes!(coverage))
}

/// One caller's calls to one destination.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub(super) struct Coverage {
    /// The caller's scope.
    pub scope: Option<String>,
    /// Its systemd unit.
    pub unit: Option<String>,
    /// Its container.
    pub container: Option<String>,
    /// Its short name.
    pub comm: Option<String>,
    /// Name of the destination, else its address.
    pub destination: String,
    /// Whether its connections come to the agent.
    pub on_path: bool,
    /// Whether the agent sees requests and answers; null where that cannot be told.
    pub decrypted: Option<bool>,
    /// Whether the caller takes the authority's certificates; null where it has not been shown one.
    pub authority_trusted: Option<bool>,
    /// What keeps the agent from seeing more; null where nothing does.
    pub bypass: Option<Bypass>,
    /// Until when it stays so; null where that has no end of its own.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub until: Option<Timestamp>,
    /// Connections on record.
    pub connections: u64,
    /// When the last of them began; null where there is none.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub last_seen: Option<Timestamp>,
    /// Seconds that the connection has been open at least, where it was opened before it could be diverted.
    pub open_for_s: Option<i64>,
}

/// What keeps the agent from seeing more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Bypass {
    /// The caller refuses the authority: it pins the destination's certificate, or does not trust the authority yet.
    Pinned,
    /// The destination's certificate does not verify, or it wants a certificate that only the caller has.
    DestinationRefuses,
    /// UDP to port 443 (HTTP/3) was refused, so that the caller falls back to TCP.
    Udp,
    /// The connection was opened before it could be diverted; a new one is diverted.
    OpenedBefore,
    /// No rule can name the destination.
    NotNameable,
    /// What is spoken is no HTTP that the agent knows.
    NotHttp,
    /// The connection failed before it could be looked into.
    Failed,
}

/// Shows what is covered
///
/// For each caller and destination: whether its connections come to the agent, whether they are decrypted, and what keeps the
/// agent from seeing more. From the records there are, what connections have taught, and the connections that scopes have open
/// without the agent. Those seen last go first.
#[utoipa::path(
    get, path = "/api/v1/coverage", tag = "agent", operation_id = "getCoverage",
    responses((status = 200, description = "One caller and destination each", body = Page<Coverage>))
)]
async fn coverage(State(state): State<Arc<AdminState>>) -> Result<Json<Page<Coverage>>, Refusal> {
    let gathered = tokio::task::spawn_blocking(move || gather(&state)).await;
    let items = gathered.map_err(|_| Refusal::Broken)?;
    Ok(Json(Page { items, next: None }))
}

/// Blocks for a look at the sockets of every process on path.
fn gather(state: &AdminState) -> Vec<Coverage> {
    let now = state.clock.now();
    let mut found = Found::default();
    let mut filter = Filter { limit: Some(PAGE), ..Filter::default() };
    for _ in 0..PAGES {
        let page = state.journal.connections(&filter);
        page.items.iter().for_each(|connection| found.record(connection));
        filter.cursor = page.next;
        if filter.cursor.is_none() {
            break;
        }
    }
    for (client, left) in state.learned.refused.members() {
        let until = SignedDuration::try_from(left).ok().and_then(|left| now.checked_add(left).ok());
        let (scope, container, comm) = (client.scope, client.container, client.comm);
        found.each_of(Who { scope, unit: None, container, comm, destination: client.server_name }, |entry| {
            (entry.bypass, entry.authority_trusted, entry.decrypted) = (Some(Bypass::Pinned), Some(false), Some(false));
            entry.until = until;
        });
    }
    for scope in state.scopes.list() {
        found.outside(&scope, state, now);
    }
    found.list()
}

/// Whose calls, and whom to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Who {
    scope: Option<String>,
    unit: Option<String>,
    container: Option<String>,
    comm: Option<String>,
    destination: String,
}

#[derive(Debug, Default)]
struct Found(HashMap<Who, Coverage>);

impl Found {
    fn entry(&mut self, who: Who) -> &mut Coverage {
        let unseen = unseen(&who);
        self.0.entry(who).or_insert(unseen)
    }

    /// Changes what is known of a client whose unit is not; there is an entry of it in any case.
    fn each_of(&mut self, who: Who, change: impl Fn(&mut Coverage)) {
        let is_it = |known: &Who| Who { unit: None, ..known.clone() } == who;
        let mut is_known = false;
        for (_, entry) in self.0.iter_mut().filter(|(known, _)| is_it(known)) {
            is_known = true;
            change(entry);
        }
        if !is_known {
            change(self.entry(who));
        }
    }

    /// Records come newest first: the first says how it stands.
    fn record(&mut self, connection: &Connection) {
        let caller = &connection.caller;
        let Some(destination) = connection.server_name.as_ref().or(connection.original_dst.as_ref()) else { return };
        let entry = self.entry(Who {
            scope: caller.scope.as_ref().map(|scope| scope.0.clone()),
            unit: caller.unit.clone(),
            container: caller.container.clone(),
            comm: caller.comm.clone(),
            destination: destination.clone(),
        });
        entry.connections += 1;
        if entry.connections > 1 {
            return;
        }
        let is_clear = matches!(connection.protocol, Protocol::Http1 | Protocol::Http2);
        let is_looked_into = connection.verdict == ConnectionVerdict::Intercept;
        entry.last_seen = Some(connection.started_at);
        entry.bypass = bypass(connection.reason);
        entry.decrypted = Some(is_looked_into && connection.reason != Reason::AuthorityRefused);
        entry.authority_trusted = match connection.reason {
            Reason::AuthorityRefused | Reason::ClientRefusedAuthority => Some(false),
            _ => (is_looked_into && !is_clear).then_some(true),
        };
    }

    /// What a scope does without the agent.
    fn outside(&mut self, scope: &Scope, state: &AdminState, now: Timestamp) {
        let since = scope.created_at.max(state.facts.started_at);
        for place in &scope.matches {
            let container = place.container.as_ref();
            let container = container.map(|container| container.name.as_ref().unwrap_or(&container.id).clone());
            let who = |comm: Option<String>, destination: String| Who {
                scope: Some(scope.id.0.clone()),
                unit: place.unit.clone(),
                container: container.clone(),
                comm,
                destination,
            };
            if place.quic_refused > 0 {
                let entry = self.entry(who(None, "UDP port 443".into()));
                (entry.on_path, entry.bypass) = (false, Some(Bypass::Udp));
            }
            let open = sockets::open_below(&place.cgroup).into_iter();
            for socket in open.filter(|socket| state.ports.contains(socket.peer.port())) {
                let entry = self.entry(who(socket.comm, socket.peer.to_string()));
                let is_direct =
                    place.diverted == Share::None || state.scopes.knows(&place.cgroup, socket.peer.ip().to_canonical());
                let bypass = if is_direct { Bypass::NotNameable } else { Bypass::OpenedBefore };
                (entry.on_path, entry.bypass) = (false, Some(bypass));
                entry.open_for_s = Some(now.duration_since(since).as_secs());
            }
        }
    }

    fn list(self) -> Vec<Coverage> {
        let mut entries: Vec<Coverage> = self.0.into_values().collect();
        entries.sort_by(|a, b| (Reverse(a.last_seen), &a.destination).cmp(&(Reverse(b.last_seen), &b.destination)));
        entries.truncate(ENTRIES);
        entries
    }
}

fn unseen(who: &Who) -> Coverage {
    Coverage {
        scope: who.scope.clone(),
        unit: who.unit.clone(),
        container: who.container.clone(),
        comm: who.comm.clone(),
        destination: who.destination.clone(),
        on_path: true,
        decrypted: None,
        authority_trusted: None,
        bypass: None,
        until: None,
        connections: 0,
        last_seen: None,
        open_for_s: None,
    }
}

fn bypass(reason: Reason) -> Option<Bypass> {
    match reason {
        Reason::RuleCanName | Reason::RuleSpent | Reason::Inspected | Reason::ProxyRequests => None,
        Reason::NoRule | Reason::ExcludedAddress => Some(Bypass::NotNameable),
        Reason::NotHttp | Reason::ServerFirst | Reason::SniffBound | Reason::Uninterpreted | Reason::OtherAlpn => {
            Some(Bypass::NotHttp)
        }
        Reason::ClientRefusedAuthority | Reason::AuthorityRefused => Some(Bypass::Pinned),
        Reason::UpstreamUntrusted => Some(Bypass::DestinationRefuses),
        Reason::MintFailed
        | Reason::UpstreamFailed
        | Reason::NoOriginalDst
        | Reason::OwnSocket
        | Reason::NotServed
        | Reason::SwitchedOff
        | Reason::ClientClosed => Some(Bypass::Failed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::fixture;

    fn tls(reason: Reason, verdict: ConnectionVerdict) -> Connection {
        Connection { reason, verdict, protocol: Protocol::Tls, ..fixture::connection("a") }
    }

    #[test]
    fn the_newest_record_says_how_it_stands_and_all_are_counted() {
        let mut found = Found::default();
        found.record(&tls(Reason::ClientRefusedAuthority, ConnectionVerdict::Passthrough));
        found.record(&tls(Reason::RuleCanName, ConnectionVerdict::Intercept));
        let [entry] = found.list().try_into().unwrap();
        assert_eq!((entry.connections, entry.bypass), (2, Some(Bypass::Pinned)));
        assert_eq!((entry.decrypted, entry.authority_trusted), (Some(false), Some(false)));
    }

    #[test]
    fn what_is_looked_into_has_no_bypass() {
        let mut found = Found::default();
        found.record(&tls(Reason::RuleCanName, ConnectionVerdict::Intercept));
        let [entry] = found.list().try_into().unwrap();
        assert_eq!((entry.bypass, entry.decrypted, entry.authority_trusted), (None, Some(true), Some(true)));
    }

    #[test]
    fn a_pinned_client_is_found_by_what_is_known_of_it() {
        let connection = tls(Reason::NoRule, ConnectionVerdict::Passthrough);
        let mut found = Found::default();
        found.record(&connection);
        let known = found.0.keys().next().unwrap().clone();
        found.each_of(Who { unit: None, ..known.clone() }, |entry| entry.bypass = Some(Bypass::Pinned));
        found.each_of(Who { destination: "b.example".into(), unit: None, ..known }, |entry| entry.connections = 9);
        let listed = found.list();
        assert_eq!(listed.len(), 2);
        assert_eq!(listed.first().unwrap().bypass, Some(Bypass::Pinned));
    }
}
