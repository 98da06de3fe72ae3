//! Records for tests.

use jiff::Timestamp;

use super::{Connection, ConnectionVerdict, Exchange, Outcome, Protocol, Reason};
use crate::rules::RuleId;
use crate::scope::{Caller, ScopeId};

pub(crate) fn exchange(id: &str) -> Exchange {
    Exchange {
        id: id.into(),
        connection_id: "connection".into(),
        started_at: Timestamp::UNIX_EPOCH,
        caller: Caller { scope: Some(ScopeId("shop".into())), ..Caller::default() }.into(),
        method: "GET".into(),
        url: "https://api.example/v1?a=b".into(),
        protocol: Protocol::Http1,
        status: Some(429),
        outcome: Outcome::Responded,
        rule_id: Some(RuleId("rule".into())),
        injected_delay_ms: 250,
        duration_ms: 260,
        request_bytes: 0,
        response_bytes: 2,
        error: None,
    }
}

pub(crate) fn connection(id: &str) -> Connection {
    Connection {
        id: id.into(),
        started_at: Timestamp::UNIX_EPOCH,
        caller: Caller { scope: Some(ScopeId("shop".into())), ..Caller::default() }.into(),
        original_dst: Some("198.51.100.7:443".into()),
        server_name: Some("api.example".into()),
        protocol: Protocol::Tls,
        verdict: ConnectionVerdict::Intercept,
        reason: Reason::RuleCanName,
        doubt: None,
        bytes_up: 1,
        bytes_down: 2,
        duration_ms: 3,
    }
}
