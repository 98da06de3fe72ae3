//! `/api/v1/scopes`: who is opted in.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::http::header::LOCATION;
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::AdminState;
use super::problem::{Refusal, wrong};
use super::request::{JsonBody, Paging, Params, ensure_id, page_size};
use crate::chain::Chain;
use crate::events::Kind;
use crate::journal::Page;
use crate::rules::HostList;
use crate::rules::spec::Problem;
use crate::scope::spec::{Label, UnitName, container_name};
use crate::scope::{Mode, Scope, ScopeId, ScopeSpec, Scopes, Target};
use crate::store::{Store, StoreError, StoredScope};

pub(super) fn router() -> OpenApiRouter<Arc<AdminState>> {
    OpenApiRouter::new().routes(routes!(list, add)).routes(routes!(remove))
}

/// What to opt in: exactly one of `unit`, `container`, `label`, `cgroup` and `pid`.
#[derive(Debug, ToSchema)]
#[schema(example = json!({"unit": "shop.service", "mode": "rules"}))]
#[expect(dead_code, reason = "describes the body in the OpenAPI document; the body is read field by field")]
struct NewScope {
    /// A systemd unit, also a slice, also one that does not run yet; without a kind it is a service. Restored when the agent starts again.
    #[schema(nullable = false, min_length = 1)]
    unit: Option<String>,
    /// A container by its name, its id or at least the first eight digits of that, also one that does not run yet. Restored.
    #[schema(nullable = false, min_length = 1)]
    container: Option<String>,
    /// Every container with this label, `KEY=VALUE` or `KEY`, now and later. Restored.
    #[schema(nullable = false, min_length = 1)]
    label: Option<String>,
    /// A cgroup v2 directory, absolute; everything below it comes along. Restored when the agent starts again.
    #[schema(nullable = false)]
    cgroup: Option<String>,
    /// A process and its descendants. Not restored.
    #[schema(nullable = false, minimum = 1)]
    pid: Option<u32>,
    /// How much of its traffic comes to the agent.
    #[schema(nullable = false, default = "rules")]
    mode: Option<Mode>,
    /// With mode `inspect`: regexes of the hosts whose TLS is ended, so that what is said is on record; each is held against the whole
    /// host, with its port where that is not the scheme's own. Absent, null or empty with every other mode.
    inspect: Option<Vec<String>>,
    /// Whether UDP to port 443 is refused, so that clients of HTTP/3 fall back to TCP; absent or null: as the configuration says.
    refuse_quic: Option<bool>,
}

/// Lists the scopes
///
/// Oldest first.
#[utoipa::path(
    get, path = "/api/v1/scopes", tag = "scopes", operation_id = "listScopes", params(Paging),
    responses((status = 200, description = "The scopes in force", body = Page<Scope>), (status = 400, description = "The query does not read"))
)]
async fn list(
    State(state): State<Arc<AdminState>>,
    Params(paging): Params<Paging>,
) -> Result<Json<Page<Scope>>, Refusal> {
    let size = page_size(paging.limit)?;
    ensure_id(paging.cursor.as_deref())?;
    let scopes = state.scopes.list();
    let start = match &paging.cursor {
        None => 0,
        Some(last) => scopes.iter().position(|scope| scope.id.0 == *last).map_or(scopes.len(), |at| at + 1),
    };
    let items: Vec<Scope> = scopes.iter().skip(start).take(size).cloned().collect();
    let more = start + items.len() < scopes.len();
    let next = items.last().filter(|_| more).map(|scope| scope.id.0.clone());
    Ok(Json(Page { items, next }))
}

/// Opts in
///
/// Connections made from then on are diverted; those that are open already are left alone. An equal scope again gives the existing one.
/// A unit, container or label that matches nothing yet is in force all the same: whatever starts and matches is on path from its first connection.
#[utoipa::path(
    post, path = "/api/v1/scopes", tag = "scopes", operation_id = "addScope", request_body = NewScope,
    responses(
        (status = 201, description = "Opted in", body = Scope, headers(("Location" = String, description = "Where the scope is"))),
        (status = 200, description = "An equal scope is in force already: here it is", body = Scope),
        (status = 400, description = "The body is not JSON"),
        (status = 409, description = "The same is opted in on other terms"),
        (status = 413, description = "The body is too large"),
        (status = 415, description = "The body is not declared as JSON"),
        (status = 422, description = "Not a scope, or one that cannot be had: every problem"),
        (status = 503, description = "The kernel or the store did not take it; nothing is changed"),
    )
)]
async fn add(State(state): State<Arc<AdminState>>, JsonBody(body): JsonBody) -> Result<Response, Refusal> {
    let spec = read(&body).map_err(Refusal::Invalid)?;
    let stored = spec_json(&spec);
    let now = state.clock.now();
    let worker = Arc::clone(&state);
    let added = tokio::task::spawn_blocking(move || worker.scopes.add(spec, now)).await;
    let (scope, is_new) = added.map_err(|_| Refusal::Broken)?.map_err(Refusal::Scope)?;
    if !is_new {
        return Ok(Json(scope).into_response());
    }
    if let Some(spec) = stored {
        persist(&state, &scope, spec).await?;
    }
    state.events.send(Kind::Scope, &scope);
    let location = format!("/api/v1/scopes/{}", scope.id);
    Ok((StatusCode::CREATED, [(LOCATION, location)], Json(scope)).into_response())
}

/// Writes a scope down; one that cannot be written down is taken back, so that the answer is true after a restart too.
async fn persist(state: &Arc<AdminState>, scope: &Scope, spec: Value) -> Result<(), Refusal> {
    let row = StoredScope { id: scope.id.0.clone(), spec, created_at: scope.created_at };
    let Err(source) = state.store.put_scope(&row).await else { return Ok(()) };
    let _ = take_off(state, scope.id.clone()).await?;
    Err(Refusal::Store("the store did not take the scope; nothing is changed", source))
}

/// Opts out
///
/// Connections that are open are finished as they began.
#[utoipa::path(
    delete, path = "/api/v1/scopes/{id}", tag = "scopes", operation_id = "removeScope",
    params(("id" = String, Path, description = "The scope's id")),
    responses(
        (status = 204, description = "Opted out"),
        (status = 404, description = "No such scope"),
        (status = 409, description = "The scope is the configuration's"),
        (status = 503, description = "Opted out now, but the store did not take it: the scope would come back at the next start"),
    )
)]
async fn remove(State(state): State<Arc<AdminState>>, Path(id): Path<String>) -> Result<StatusCode, Refusal> {
    // Off path first, whatever the store says: opting out must always work.
    let removed = take_off(&state, ScopeId(id.clone())).await?;
    if removed.is_some() {
        state.events.send(Kind::Scope, &json!({"id": id, "removed": true}));
    }
    let was_stored = state.store.delete_scope(&id).await.map_err(|source| {
        Refusal::Store(
            "opted out, but the store did not take it: repeat this, or the scope comes back at the next start",
            source,
        )
    })?;
    if removed.is_none() && !was_stored {
        return Err(Refusal::NoScope(id));
    }
    Ok(StatusCode::NO_CONTENT)
}

async fn take_off(state: &Arc<AdminState>, id: ScopeId) -> Result<Option<Scope>, Refusal> {
    let worker = Arc::clone(state);
    let removed = tokio::task::spawn_blocking(move || worker.scopes.remove(&id)).await;
    removed.map_err(|_| Refusal::Broken)?.map_err(Refusal::Scope)
}

/// Opts in again what was opted in when the agent last ran, also what matches nothing yet.
///
/// # Errors
/// The store could not be read or written; what could be opted in is.
pub async fn restore(scopes: &Arc<Scopes>, store: &dyn Store) -> Result<(), StoreError> {
    for row in store.scopes().await? {
        let Ok(spec) = read(&row.spec) else {
            tracing::warn!(scope = row.id, spec = %row.spec, "a stored scope does not read; it is left alone");
            continue;
        };
        let (worker, id, created_at) = (Arc::clone(scopes), ScopeId(row.id.clone()), row.created_at);
        match tokio::task::spawn_blocking(move || worker.restore(spec, id, created_at)).await {
            Ok(Ok(scope)) => drop_double(store, row, scope.id).await?,
            Ok(Err(error)) => tracing::warn!(spec = %row.spec, cause = %Chain(&error), "not opted in again"),
            Err(error) => tracing::error!(spec = %row.spec, %error, "not opted in again"),
        }
    }
    Ok(())
}

/// Of two rows for one scope the later goes, so that removing the scope removes its row.
async fn drop_double(store: &dyn Store, row: StoredScope, id: ScopeId) -> Result<(), StoreError> {
    if row.id != id.0 {
        store.delete_scope(&row.id).await?;
    }
    Ok(())
}

/// The row that brings a scope back; none for a process, which will not be there again.
fn spec_json(spec: &ScopeSpec) -> Option<Value> {
    let mut row = match &spec.target {
        Target::Cgroup(path) => json!({"cgroup": path}),
        Target::Unit(unit) => json!({"unit": unit}),
        Target::Container(container) => json!({"container": container}),
        Target::Label(label) => json!({"label": label}),
        Target::Pid(_) => return None,
    };
    if let Some(fields) = row.as_object_mut() {
        fields.insert("mode".into(), json!(spec.mode));
        if spec.mode == Mode::Inspect {
            fields.insert("inspect".into(), json!(spec.inspect.sources()));
        }
        if let Some(refuse) = spec.refuse_quic {
            fields.insert("refuse_quic".into(), refuse.into());
        }
    }
    Some(row)
}

/// Reads one target with a mode; every problem at once.
///
/// # Errors
/// Every field that is wrong.
pub fn read(body: &Value) -> Result<ScopeSpec, Vec<Problem>> {
    let Some(fields) = body.as_object() else {
        return Err(vec![wrong("", "write an object such as {\"unit\": \"shop.service\"}")]);
    };
    let mut problems = Vec::new();
    let targets: Vec<Target> = fields.iter().filter_map(|(name, value)| target(name, value, &mut problems)).collect();
    let mode = mode(fields, &mut problems);
    let inspect = inspect(fields, mode, &mut problems);
    let refuse_quic = refuse_quic(fields, &mut problems);
    let is_told = |problem: &Problem| !is_term(problem.field.split('[').next().unwrap_or_default());
    if targets.len() != 1 && !problems.iter().any(is_told) {
        problems.push(wrong("", "give exactly one of `unit`, `container`, `label`, `cgroup` and `pid`"));
    }
    match targets.into_iter().next() {
        Some(target) if problems.is_empty() => Ok(ScopeSpec { target, mode, inspect: Arc::new(inspect), refuse_quic }),
        _ => Err(problems),
    }
}

/// Whether a field says how, and not what.
fn is_term(name: &str) -> bool {
    matches!(name, "mode" | "inspect" | "refuse_quic")
}

fn target(name: &str, value: &Value, problems: &mut Vec<Problem>) -> Option<Target> {
    if is_term(name) {
        return None;
    }
    read_target(name, value).map_err(|message| problems.push(wrong(name, message))).ok()
}

/// The target, or what to write instead.
fn read_target(name: &str, value: &Value) -> Result<Target, String> {
    let text = || value.as_str().filter(|text| !text.is_empty());
    match name {
        "cgroup" => text().map(|path| Target::Cgroup(path.into())).ok_or_else(|| "write a path as a string".into()),
        "unit" => UnitName::parse(text().unwrap_or_default()).map(Target::Unit),
        "container" => container_name(text().unwrap_or_default()).map(Target::Container),
        "label" => Label::parse(text().unwrap_or_default()).map(Target::Label),
        "pid" => {
            let pid = value.as_u64().and_then(|pid| u32::try_from(pid).ok()).filter(|pid| *pid > 0);
            pid.map(Target::Pid).ok_or_else(|| "write a process id, such as 4711".into())
        }
        _ => Err("no such field: a scope has one of `unit`, `container`, `label`, `cgroup` and `pid`, and `mode`, `inspect` and `refuse_quic`".into()),
    }
}

fn mode(fields: &Map<String, Value>, problems: &mut Vec<Problem>) -> Mode {
    let Some(value) = fields.get("mode") else { return Mode::default() };
    value.as_str().and_then(Mode::named).unwrap_or_else(|| {
        problems.push(wrong("mode", "write \"rules\", \"observe\" or \"inspect\""));
        Mode::default()
    })
}

fn inspect(fields: &Map<String, Value>, mode: Mode, problems: &mut Vec<Problem>) -> HostList {
    let shape = "write a list of host regexes, such as [\"api\\\\.example\\\\.com\"]";
    let hosts = match fields.get("inspect") {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::Array(hosts)) if hosts.iter().all(Value::is_string) => {
            hosts.iter().filter_map(Value::as_str).collect()
        }
        Some(_) => {
            problems.push(wrong("inspect", shape));
            return HostList::default();
        }
    };
    match (mode, hosts.is_empty()) {
        (Mode::Inspect, true) => problems.push(wrong(
            "inspect",
            format!(
                "mode \"inspect\" needs the hosts that it is for: {shape}; mode \"observe\" ends no TLS and needs none"
            ),
        )),
        (Mode::Rules | Mode::Observe, false) if !problems.iter().any(|problem| problem.field == "mode") => {
            problems.push(wrong(
                "inspect",
                "goes with mode \"inspect\" only: write \"mode\": \"inspect\", or leave it out",
            ));
        }
        _ => {}
    }
    HostList::parse(&hosts).unwrap_or_else(|wrong_ones| {
        problems.extend(wrong_ones.into_iter().map(|(place, message)| wrong(&format!("inspect[{place}]"), message)));
        HostList::default()
    })
}

fn refuse_quic(fields: &Map<String, Value>, problems: &mut Vec<Problem>) -> Option<bool> {
    let value = fields.get("refuse_quic").filter(|value| !value.is_null())?;
    let read = value.as_bool();
    if read.is_none() {
        problems.push(wrong("refuse_quic", "write true or false"));
    }
    read
}
