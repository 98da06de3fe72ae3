//! Who may talk to the agent: the door a request came through, the Host it named, the origin that made it, its token.
//!
//! The Unix socket is guarded by its file mode and by peer credentials when it is accepted from. TCP is open to every local process
//! and, through a browser, to every web page; so here each request proves itself, and the order of the checks is the order of cost.

use std::collections::VecDeque;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::extract::{ConnectInfo, Request, State};
use axum::http::header::{AUTHORIZATION, COOKIE, HOST, ORIGIN};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, Uri};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use jiff::Timestamp;
use rand::RngCore;
use subtle::ConstantTimeEq;

use super::AdminState;
use super::problem::Refusal;
use crate::ui;

/// Name of the session cookie.
pub const SESSION_COOKIE: &str = "moxie_session";
/// How long a browser stays logged in.
const SESSION_LIFE: Duration = Duration::from_secs(12 * 60 * 60);
/// More sessions than this log the oldest out.
const MAX_SESSIONS: usize = 64;

/// The door a request came through; set for each connection by the server that accepted it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    /// The Unix socket: the peer has been checked already.
    Unix,
    /// TCP, accepted at this address.
    Tcp(SocketAddr),
}

/// A secret that is compared in constant time and never shown.
#[derive(Clone)]
struct Secret(String);

impl Secret {
    fn random() -> Self {
        let mut bytes = [0; 32];
        rand::rng().fill_bytes(&mut bytes);
        Self(BASE64_URL_SAFE_NO_PAD.encode(bytes))
    }

    /// Only the length of the secret can be learnt from the time this takes; an empty secret matches nothing.
    fn is(&self, given: &str) -> bool {
        !self.0.is_empty() && bool::from(self.0.as_bytes().ct_eq(given.as_bytes()))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// What TCP callers are held against.
#[derive(Debug)]
pub struct Access {
    token: Secret,
    hosts: Vec<String>,
    sessions: Mutex<VecDeque<(Secret, Timestamp)>>,
}

impl Access {
    /// `token` opens TCP (an empty one: nothing does); `hosts` are the names, without port, that the agent is also known by (`admin.hosts`).
    #[must_use]
    pub fn new(token: &str, hosts: &[String]) -> Self {
        let hosts = hosts.iter().map(|host| host.to_ascii_lowercase()).collect();
        Self { token: Secret(token.trim().into()), hosts, sessions: Mutex::default() }
    }

    /// A new session for who knows the token.
    pub(crate) fn log_in(&self, token: &str, now: Timestamp) -> Option<String> {
        if !self.token.is(token.trim()) {
            return None;
        }
        let session = Secret::random();
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        sessions.push_back((session.clone(), now + SESSION_LIFE));
        if sessions.len() > MAX_SESSIONS {
            sessions.pop_front();
        }
        Some(session.0)
    }

    /// Ends the session of this request, if it has one.
    pub(crate) fn log_out(&self, headers: &HeaderMap) {
        if let Some(given) = session_cookie(headers) {
            self.sessions.lock().unwrap_or_else(PoisonError::into_inner).retain(|(session, _)| !session.is(given));
        }
    }

    fn knows(&self, headers: &HeaderMap, now: Timestamp) -> bool {
        bearer(headers).is_some_and(|given| self.token.is(given))
            || session_cookie(headers).is_some_and(|given| self.has_session(given, now))
    }

    fn has_session(&self, given: &str, now: Timestamp) -> bool {
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        sessions.retain(|(_, until)| *until > now);
        sessions.iter().any(|(session, _)| session.is(given))
    }

    /// An IP address cannot be rebound by DNS; a name can, so only known ones are taken.
    fn allows_host(&self, host: &str, bound: Option<SocketAddr>) -> bool {
        let Ok(authority) = host.parse::<Authority>() else { return false };
        let name = authority.host().trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
        match name.parse::<IpAddr>() {
            Ok(ip) => ip.is_loopback() || bound.is_some_and(|bound| bound.ip() == ip) || self.hosts.contains(&name),
            Err(_) => name == "localhost" || self.hosts.contains(&name),
        }
    }
}

/// Lets a request in or refuses it.
pub(super) async fn guard(State(state): State<Arc<AdminState>>, request: Request, next: Next) -> Response {
    let door = request.extensions().get::<ConnectInfo<Door>>().map(|ConnectInfo(door)| *door);
    if door == Some(Door::Unix) {
        return next.run(request).await;
    }
    let bound = if let Some(Door::Tcp(bound)) = door { Some(bound) } else { None };
    let (uri, headers) = (request.uri(), request.headers());
    if let Err(refusal) = check_browser(&state.access, uri, headers, bound) {
        return refusal.into_response();
    }
    if is_open(uri.path()) || state.access.knows(headers, state.clock.now()) {
        return next.run(request).await;
    }
    if uri.path() == "/" { ui::login_page(None) } else { Refusal::Unauthorized.into_response() }
}

/// Refuses what a page of another origin could make a browser send.
fn check_browser(access: &Access, uri: &Uri, headers: &HeaderMap, bound: Option<SocketAddr>) -> Result<(), Refusal> {
    let named = headers.get(HOST).and_then(|host| host.to_str().ok());
    let host = named.or_else(|| uri.authority().map(Authority::as_str)).unwrap_or_default();
    let is_one = headers.get_all(HOST).iter().count() <= 1;
    if !is_one || !access.allows_host(host, bound) {
        return Err(Refusal::HostNotAllowed(host.chars().take(256).collect()));
    }
    let site = headers.get("sec-fetch-site").map(|site| site.as_bytes());
    let foreign = matches!(site, Some(site) if site != b"same-origin" && site != b"none");
    if foreign || headers.get(ORIGIN).is_some_and(|origin| !is_same_origin(origin.as_bytes(), host)) {
        return Err(Refusal::CrossOrigin);
    }
    Ok(())
}

/// The scheme is left out: a proxy in front may speak TLS.
fn is_same_origin(origin: &[u8], host: &str) -> bool {
    let origin = std::str::from_utf8(origin).unwrap_or_default();
    let authority = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
    authority.is_some_and(|authority| authority.eq_ignore_ascii_case(host))
}

/// What needs no token: probes, the documentation, and what the login page is made of.
fn is_open(path: &str) -> bool {
    matches!(path, "/healthz" | "/readyz" | "/metrics" | "/docs" | "/api/openapi.json" | "/login")
        || path.starts_with("/docs/")
        || path.starts_with("/assets/")
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

fn session_cookie(headers: &HeaderMap) -> Option<&str> {
    let cookies = headers.get_all(COOKIE).into_iter().filter_map(|value| value.to_str().ok());
    let mut pairs = cookies.flat_map(|value| value.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(name, _)| *name == SESSION_COOKIE).map(|(_, value)| value)
}
