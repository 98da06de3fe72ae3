//! The web UI: one page of rules and recent traffic, rendered here, kept fresh by the events; and the login that a browser needs over TCP.

use std::sync::Arc;

use askama::Template;
use axum::Router;
use axum::extract::{ConnectInfo, Extension, Form, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, SET_COOKIE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{Html, IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use serde::Deserialize;

use crate::admin::AdminState;
use crate::admin::access::{Door, SESSION_COOKIE};
use crate::admin::problem::Refusal;
use crate::admin::status::{self, Status};

mod view;

use view::{CallRow, RuleRow};

/// How much traffic the page shows.
const RECENT: usize = 50;
/// The browser may keep the files, but asks each time: they change with the agent's version only.
const ASSET_CACHE: &str = "no-cache";

/// The UI's routes.
pub(crate) fn router() -> Router<Arc<AdminState>> {
    Router::new()
        .route("/", get(start))
        .route("/login", post(log_in))
        .route("/logout", post(log_out))
        .route("/assets/moxie.css", get(|| async { asset("text/css", include_str!("ui/assets/moxie.css")) }))
        .route("/assets/moxie.js", get(|| async { asset("text/javascript", include_str!("ui/assets/moxie.js")) }))
}

#[derive(Template)]
#[template(path = "start.html")]
struct Start {
    status: Status,
    rules: Vec<RuleRow>,
    traffic: Vec<CallRow>,
    can_log_out: bool,
}

#[derive(Template)]
#[template(path = "login.html")]
struct Login<'a> {
    problem: Option<&'a str>,
}

async fn start(
    State(state): State<Arc<AdminState>>,
    door: Option<Extension<ConnectInfo<Door>>>,
) -> Result<Html<String>, Refusal> {
    let now = state.clock.now();
    let filter = crate::journal::Filter { limit: Some(RECENT), ..Default::default() };
    let page = Start {
        status: status::observe(&state),
        rules: state.rules.list().iter().map(|rule| RuleRow::of(rule, now)).collect(),
        traffic: state.journal.exchanges(&filter).items.into_iter().map(CallRow::of).collect(),
        can_log_out: !matches!(door, Some(Extension(ConnectInfo(Door::Unix)))),
    };
    page.render().map(Html).map_err(|_| Refusal::Broken)
}

/// The page that asks for the token.
pub(crate) fn login_page(problem: Option<&str>) -> Response {
    match (Login { problem }).render() {
        Ok(page) => (StatusCode::UNAUTHORIZED, Html(page)).into_response(),
        Err(_) => Refusal::Broken.into_response(),
    }
}

#[derive(Deserialize)]
struct Credentials {
    token: String,
}

/// Gives a session for the token, so that the token itself is not kept by the browser.
async fn log_in(State(state): State<Arc<AdminState>>, Form(credentials): Form<Credentials>) -> Response {
    let Some(session) = state.access.log_in(&credentials.token, state.clock.now()) else {
        tracing::warn!("a login with a wrong token");
        return login_page(Some("That is not the token."));
    };
    let cookie = format!("{SESSION_COOKIE}={session}; Path=/; HttpOnly; SameSite=Strict");
    ([(SET_COOKIE, cookie)], Redirect::to("/")).into_response()
}

async fn log_out(State(state): State<Arc<AdminState>>, headers: HeaderMap) -> Response {
    state.access.log_out(&headers);
    let cookie = format!("{SESSION_COOKIE}=; Path=/; HttpOnly; SameSite=Strict; Max-Age=0");
    ([(SET_COOKIE, cookie)], Redirect::to("/")).into_response()
}

fn asset(media_type: &'static str, text: &'static str) -> impl IntoResponse {
    ([(CONTENT_TYPE, media_type), (CACHE_CONTROL, ASSET_CACHE)], text)
}
