//! `/api/v1/divert`: the kill switch, and which destinations are diverted.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tokio::task::spawn_blocking;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::AdminState;
use super::problem::{Refusal, wrong};
use super::request::JsonBody;
use crate::divert::Network;
use crate::events::Kind;
use crate::rules::spec::Problem;
use crate::switchboard::{Change, ListChange, Setting, SwitchError};

pub(super) fn router() -> OpenApiRouter<Arc<AdminState>> {
    OpenApiRouter::new().routes(routes!(show, change))
}

/// What is diverted.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[schema(example = json!({"enabled": true, "allow": [], "deny": ["10.0.0.0/8", "2001:db8::/32"]}))]
pub struct Diverting {
    /// Whether new connections of the scopes are diverted: the kill switch.
    pub enabled: bool,
    /// Destination networks that are diverted; if there are any, everything else is direct.
    #[schema(value_type = Vec<String>)]
    pub allow: Vec<Network>,
    /// Destination networks that are direct. Of both lists, the longest prefix decides.
    #[schema(value_type = Vec<String>)]
    pub deny: Vec<Network>,
}

/// What to change of it; what is absent stays, and a list that is null becomes what the configuration says.
#[derive(ToSchema)]
#[schema(example = json!({"enabled": false}))]
#[expect(dead_code, reason = "describes the body, which is read by hand so that every problem is told at once")]
struct DivertChange {
    enabled: Option<bool>,
    #[schema(value_type = Option<Vec<String>>)]
    allow: Option<Vec<Network>>,
    #[schema(value_type = Option<Vec<String>>)]
    deny: Option<Vec<Network>>,
}

impl From<Setting> for Diverting {
    fn from(setting: Setting) -> Self {
        Self { enabled: setting.enabled, allow: setting.lists.allow, deny: setting.lists.deny }
    }
}

/// Shows what is diverted
#[utoipa::path(
    get, path = "/api/v1/divert", tag = "agent", operation_id = "getDivert",
    responses((status = 200, description = "The switch and the lists", body = Diverting))
)]
async fn show(State(state): State<Arc<AdminState>>) -> Json<Diverting> {
    Json(state.switchboard.setting().into())
}

/// Switches diversion off or on, and sets which destinations are diverted
///
/// The kill switch: off sends every new connection direct, at once. The lists hold from the next connection on. Connections that are
/// open are finished as they began. All of it is kept over a restart of the agent.
#[utoipa::path(
    put, path = "/api/v1/divert", tag = "agent", operation_id = "setDivert", request_body = DivertChange,
    responses(
        (status = 200, description = "The switch and the lists as they are now", body = Diverting),
        (status = 400, description = "The body is not JSON"),
        (status = 415, description = "The body is not declared as JSON"),
        (status = 422, description = "Not a change: every problem"),
        (status = 503, description = "The kernel did not take it, or it is not kept"),
    )
)]
async fn change(State(state): State<Arc<AdminState>>, JsonBody(body): JsonBody) -> Result<Json<Diverting>, Refusal> {
    let change = read(&body).map_err(Refusal::Invalid)?;
    let board = Arc::clone(&state.switchboard);
    let changed = spawn_blocking(move || board.change(change)).await.map_err(|_| Refusal::Broken)?;
    let setting = changed.map_err(|error| match error {
        SwitchError::Lists(message) => Refusal::field("deny", message),
        SwitchError::Divert(error) => Refusal::Divert(error),
        error @ SwitchError::NotKept { .. } => Refusal::NotKept(error),
    });
    let diverting = Diverting::from(setting?);
    tracing::info!(
        enabled = diverting.enabled,
        allow = diverting.allow.len(),
        deny = diverting.deny.len(),
        "diversion set"
    );
    state.events.send(Kind::Divert, &diverting);
    Ok(Json(diverting))
}

/// Reads what is to change; every problem at once.
///
/// # Errors
/// Every field that is wrong.
pub fn read(body: &Value) -> Result<Change, Vec<Problem>> {
    let shape = || vec![wrong("", "write any of {\"enabled\": false, \"allow\": [\"10.0.0.0/8\"], \"deny\": []}")];
    let fields = body.as_object().filter(|fields| !fields.is_empty()).ok_or_else(shape)?;
    let mut problems: Vec<Problem> = fields
        .keys()
        .filter(|name| !matches!(name.as_str(), "enabled" | "allow" | "deny"))
        .map(|name| wrong(name, "no such field: there are `enabled`, `allow` and `deny`"))
        .collect();
    let enabled = fields.get("enabled").and_then(|value| {
        let enabled = value.as_bool();
        if enabled.is_none() {
            problems.push(wrong("enabled", "write true or false"));
        }
        enabled
    });
    let change =
        Change { enabled, allow: list(fields, "allow", &mut problems), deny: list(fields, "deny", &mut problems) };
    if problems.is_empty() { Ok(change) } else { Err(problems) }
}

fn list(fields: &Map<String, Value>, name: &str, problems: &mut Vec<Problem>) -> Option<ListChange> {
    let items = match fields.get(name)? {
        Value::Null => return Some(ListChange::AsConfigured),
        Value::Array(items) => items,
        _ => {
            problems.push(wrong(
                name,
                "write a list of networks, such as [\"10.0.0.0/8\"], or null for what the configuration says",
            ));
            return None;
        }
    };
    let mut networks = Vec::new();
    for (index, item) in items.iter().enumerate() {
        let text = item.as_str().map_or_else(|| item.to_string(), str::to_owned);
        match text.parse::<Network>() {
            Ok(network) => networks.push(network),
            Err(error) => problems.push(wrong(&format!("{name}[{index}]"), error.to_string())),
        }
    }
    Some(ListChange::To(networks))
}
