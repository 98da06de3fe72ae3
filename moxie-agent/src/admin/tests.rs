//! The API as its callers meet it: the whole router, asked through one door or the other.

mod access;
mod document;
mod legacy;
mod rules;
mod scopes;
mod serve;
mod surroundings;
mod ui;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::ConnectInfo;
use axum::http::{HeaderMap, Request, StatusCode};
use serde_json::Value;
use tower::ServiceExt;

use super::{Access, AdminState, Door, Facts, router};
use crate::clock::Clock;
use crate::datapath::learned::Learned;
use crate::datapath::load::{Bounds, Load};
use crate::divert::paper::Paper;
use crate::divert::{AddressLists, Divert};
use crate::drain::Drain;
use crate::events::Events;
use crate::journal::Journal;
use crate::rulebook::RuleBook;
use crate::scope::Scopes;
use crate::store::Store;
use crate::switchboard::Switchboard;
use crate::telemetry::Metrics;

const TOKEN: &str = "a-token-of-the-tests";

/// An agent's admin side, with the handles a test turns.
struct Agent {
    router: Router,
    journal: Arc<Journal>,
    rules: Arc<RuleBook>,
    scopes: Arc<Scopes>,
    store: Arc<dyn Store>,
    learned: Arc<Learned>,
    load: Arc<Load>,
    ready: Arc<AtomicBool>,
    drain: Drain,
}

async fn agent() -> Agent {
    agent_with(crate::store::open("sqlite::memory:").await.unwrap()).await
}

async fn agent_with(store: Arc<dyn Store>) -> Agent {
    let (events, clock) = (Events::default(), Clock::system());
    let rules = RuleBook::open(Arc::clone(&store), clock.clone(), events.clone(), 1).await;
    let divert: Arc<dyn Divert> = Arc::new(Paper::default());
    let metrics: Arc<Metrics> = Arc::default();
    let journal = Arc::new(Journal::new(1 << 20, events.clone(), Arc::clone(&metrics)));
    let scopes = Arc::new(Scopes::new(Arc::clone(&divert)));
    let (ready, drain) = (Arc::new(AtomicBool::new(true)), Drain::new());
    let learned: Arc<Learned> = Arc::default();
    let bounds = Bounds { connections: 2, memory: None, kept_descriptors: 0 };
    let load = Arc::new(Load::new(bounds, Arc::default()));
    let state = AdminState {
        rules: Arc::clone(&rules),
        scopes: Arc::clone(&scopes),
        journal: Arc::clone(&journal),
        metrics,
        learned: Arc::clone(&learned),
        load: Arc::clone(&load),
        events,
        switchboard: Arc::new(Switchboard::open(Arc::clone(&divert), None, AddressLists::default()).0),
        divert,
        store: Arc::clone(&store),
        authority_pem: "-----BEGIN CERTIFICATE-----\n".into(),
        facts: Facts {
            version: "0.0.0".into(),
            environment: Some("test".into()),
            netns: 4,
            upstream_ca: Vec::new(),
            pid: 4711,
            started_at: clock.now(),
        },
        clock,
        access: Access::new(TOKEN, &["moxie.test".into()]),
        ready: Arc::clone(&ready),
        upgrade: Arc::default(),
        ports: crate::divert::PortSet::default(),
        drain: drain.clone(),
    };
    Agent { router: router(state), journal, rules, scopes, store, learned, load, ready, drain }
}

/// An answer, read whole.
#[derive(Debug)]
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// The stable code of a problem; the body must be one.
    #[track_caller]
    fn code(&self) -> String {
        assert_eq!(self.header("content-type"), "application/problem+json", "{self:?}");
        let problem = self.json();
        assert_eq!(problem["status"], self.status.as_u16(), "{problem}");
        assert_eq!(problem["request_id"], self.header("x-request-id"), "{problem}");
        assert_eq!(problem["type"], format!("urn:moxie:problem:{}", problem["code"].as_str().unwrap()));
        problem["code"].as_str().unwrap().to_owned()
    }
}

impl Agent {
    /// Asks through the Unix socket.
    async fn ask(&self, method: &str, path: &str, body: Option<Value>) -> Answer {
        self.ask_with(method, path, body, &[]).await
    }

    /// Asks through the Unix socket, with headers.
    async fn ask_with(&self, method: &str, path: &str, body: Option<Value>, headers: &[(&str, &str)]) -> Answer {
        let mut request = Request::builder().method(method).uri(path).extension(ConnectInfo(Door::Unix));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let body = match body {
            Some(body) => {
                request = request.header("content-type", "application/json");
                Body::from(body.to_string())
            }
            None => Body::empty(),
        };
        self.send(request.body(body).unwrap()).await
    }

    /// Asks over TCP, with exactly these headers.
    async fn ask_tcp(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let door = Door::Tcp("127.0.0.1:8480".parse().unwrap());
        let mut request = Request::builder().method(method).uri(path).extension(ConnectInfo(door));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.send(request.body(Body::from(body.to_owned())).unwrap()).await
    }

    async fn send(&self, request: Request<Body>) -> Answer {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
        Answer { status: parts.status, headers: parts.headers, body }
    }
}
