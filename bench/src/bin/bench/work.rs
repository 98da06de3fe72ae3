//! The scenarios: who is asked for what, what is read off it, and what is asked of Moxie.

use crate::What;
use crate::moxie::State;
use crate::peers::{Kind, Role};
use crate::table::Shape;

/// How requests are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manner {
    /// HTTP/1.1 on connections that are kept.
    Keep,
    /// A connection for each request.
    Fresh,
    /// HTTP/2, this many streams at a time on each connection.
    Streams(u16),
    /// Like [`Manner::Keep`], each answer due after 50 ms.
    Due,
}

/// What a target's figures are divided by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Base {
    /// The same without a proxy.
    Direct,
    /// What nginx makes of it: there is no direct way to a mock.
    Nginx,
}

/// What `PERFORMANCE` asks for; a figure that is not asked for is none.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Bar {
    /// Least ratio to the base.
    pub(crate) ratio: Option<f64>,
    /// Most processor time for a request (microseconds) or a gigabyte (seconds).
    pub(crate) cpu: Option<f64>,
    /// Most of the median latency, in microseconds.
    pub(crate) p50: Option<f64>,
}

/// One row of the table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scenario {
    pub(crate) id: &'static str,
    pub(crate) what: What,
    pub(crate) title: &'static str,
    pub(crate) shape: Shape,
    pub(crate) role: Role,
    pub(crate) state: State,
    pub(crate) base: Base,
    pub(crate) manner: Manner,
    pub(crate) is_tls: bool,
    pub(crate) path: &'static str,
    pub(crate) status: u16,
    pub(crate) connections: usize,
    pub(crate) asked: &'static str,
    pub(crate) bar: Bar,
}

impl Scenario {
    /// The peers that can do it, Moxie aside.
    pub(crate) fn peers(&self) -> impl Iterator<Item = Kind> + '_ {
        Kind::ALL.into_iter().filter(|kind| kind.can(self.role))
    }
}

const fn bar(ratio: Option<f64>, cpu: Option<f64>, p50: Option<f64>) -> Bar {
    Bar { ratio, cpu, p50 }
}

/// What most passthrough rows have in common.
const PASS: Scenario = Scenario {
    id: "",
    what: What::Passthrough,
    title: "",
    shape: Shape::Rate,
    role: Role::PassTls,
    state: State::Observing,
    base: Base::Direct,
    manner: Manner::Keep,
    is_tls: true,
    path: "/",
    status: 200,
    connections: 32,
    asked: "",
    bar: bar(None, None, None),
};

const INTERCEPT: Scenario =
    Scenario { what: What::Intercept, role: Role::Intercept, state: State::Intercepting, ..PASS };

const MOCK: Scenario =
    Scenario { what: What::Mock, role: Role::Mock, state: State::Mocking, base: Base::Nginx, status: 429, ..PASS };

/// Rows whose short runs show that everything which makes a row works.
pub(crate) const QUICK: [&str; 6] = ["P1", "P4", "P7", "P10", "P11", "P12"];

/// Every row that is targets side by side under one kind of traffic.
pub(crate) const SCENARIOS: &[Scenario] = &[
    Scenario {
        id: "P1",
        title: "TLS passthrough, 32 kept connections",
        asked: ">= 0.95; <= 15 µs",
        bar: bar(Some(0.95), Some(15.0), None),
        ..PASS
    },
    Scenario {
        id: "P2",
        title: "the same, 1 connection",
        shape: Shape::Latency,
        connections: 1,
        asked: "<= 125 µs",
        bar: bar(None, None, Some(125.0)),
        ..PASS
    },
    Scenario {
        id: "P3",
        title: "TLS passthrough, 100 MB answers",
        shape: Shape::Bulk,
        path: "/bulk",
        connections: 1,
        asked: ">= 0.85; <= 0.40 s/GB",
        bar: bar(Some(0.85), Some(0.40), None),
        ..PASS
    },
    Scenario {
        id: "P4",
        title: "passthrough in the clear, 100 MB answers",
        shape: Shape::Bulk,
        role: Role::PassPlain,
        is_tls: false,
        path: "/bulk",
        connections: 1,
        asked: ">= 1.0; <= 0.30 s/GB",
        bar: bar(Some(1.0), Some(0.30), None),
        ..PASS
    },
    Scenario {
        id: "P5",
        title: "a connection for each request, in the clear, 16 at a time",
        role: Role::PassPlain,
        manner: Manner::Fresh,
        is_tls: false,
        connections: 16,
        asked: ">= 0.91; <= 80 µs; not diverted >= 0.98",
        bar: bar(Some(0.91), Some(80.0), None),
        ..PASS
    },
    Scenario {
        id: "P6",
        title: "the same, TLS passthrough",
        manner: Manner::Fresh,
        connections: 16,
        asked: ">= 0.93; <= 180 µs",
        bar: bar(Some(0.93), Some(180.0), None),
        ..PASS
    },
    Scenario {
        id: "P7",
        title: "interception, HTTP/1, 32 kept connections",
        asked: ">= 0.96; <= 20 µs",
        bar: bar(Some(0.96), Some(20.0), None),
        ..INTERCEPT
    },
    Scenario {
        id: "P8",
        title: "the same, 1 connection",
        shape: Shape::Latency,
        connections: 1,
        asked: "<= 150 µs",
        bar: bar(None, None, Some(150.0)),
        ..INTERCEPT
    },
    Scenario {
        id: "P9",
        title: "interception, 100 MB answers",
        shape: Shape::Bulk,
        path: "/bulk",
        connections: 1,
        asked: ">= 0.82; <= 0.95 s/GB",
        bar: bar(Some(0.82), Some(0.95), None),
        ..INTERCEPT
    },
    Scenario {
        id: "P10",
        title: "mocked 429, HTTP/1 over TLS, 32 kept connections",
        asked: ">= 1.0; <= 10.5 µs",
        bar: bar(Some(1.0), Some(10.5), None),
        ..MOCK
    },
    Scenario {
        id: "P11",
        title: "mocked 429, HTTP/2, 8 connections of 10 streams",
        manner: Manner::Streams(10),
        connections: 8,
        asked: ">= 1.5",
        bar: bar(Some(1.5), None, None),
        ..MOCK
    },
    Scenario {
        id: "P12",
        title: "mocked 429, a TLS connection for each request, 16 at a time",
        manner: Manner::Fresh,
        connections: 16,
        asked: ">= 1.05; <= 260 µs",
        bar: bar(Some(1.05), Some(260.0), None),
        ..MOCK
    },
    Scenario {
        id: "P14",
        what: What::Delay,
        title: "a delay of 50 ms, 500 at a time: distance of the answer from when it was due",
        shape: Shape::Delay,
        role: Role::Delay,
        state: State::Delaying,
        manner: Manner::Due,
        connections: 500,
        asked: "never early; p50 <= 2.0 ms, p99 <= 5 ms",
        ..MOCK
    },
];
