//! Stage 4 of 6: passthrough or intercept. The failure bias is here: in doubt a connection passes.
//!
//! In: `Sniffed`. Out: a `Verdict`. Never: fires a rule; it only asks what rules could name.

use super::Context;
use super::learned::Client;
use super::sniff::{FirstBytes, Sniffed, client_hello::ClientHello, http1};
use crate::divert::{Form, Origin};
use crate::journal::{ConnectionVerdict, Reason};
use crate::rules::set::{Naming, normal_authority};
use crate::scope::Caller;

/// What becomes of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Bytes untouched, and why.
    Passthrough(Reason),
    /// HTTP is ended here, and why.
    Intercept(Reason),
}

/// Decides a connection and notes it in its record.
#[must_use]
pub fn connection(conn: &Sniffed, cx: &Context) -> Verdict {
    let verdict = judge(conn, cx);
    let (told, reason) = match verdict {
        Verdict::Passthrough(reason) => (ConnectionVerdict::Passthrough, reason),
        Verdict::Intercept(reason) => (ConnectionVerdict::Intercept, reason),
    };
    conn.log.decided(told, reason);
    verdict
}

fn judge(conn: &Sniffed, cx: &Context) -> Verdict {
    match conn.origin.asked.as_ref().map(|asked| asked.form) {
        Some(Form::Requests) => requests(conn, cx),
        Some(Form::Tunnel) if !cx.divert.is_enabled() => Verdict::Passthrough(Reason::SwitchedOff),
        Some(Form::Tunnel) | None if cx.switchboard.leaves_alone(conn.origin.destination.ip()) => {
            Verdict::Passthrough(Reason::ExcludedAddress)
        }
        Some(Form::Tunnel) | None => bytes(conn, cx),
    }
}

/// What is asked of a proxy in absolute-form can only be understood; which rules there are changes nothing but the reason.
fn requests(conn: &Sniffed, cx: &Context) -> Verdict {
    match clear(clear_authority(&conn.first), conn, cx) {
        _ if !cx.divert.is_enabled() => Verdict::Intercept(Reason::SwitchedOff),
        Verdict::Intercept(reason) => Verdict::Intercept(reason),
        Verdict::Passthrough(_) => Verdict::Intercept(Reason::ProxyRequests),
    }
}

fn bytes(conn: &Sniffed, cx: &Context) -> Verdict {
    match &conn.first {
        FirstBytes::Opaque(reason) => Verdict::Passthrough(*reason),
        FirstBytes::Tls(hello) => tls(hello, conn, cx),
        // Who knows what its destination makes of it.
        FirstBytes::Http1(http1::Head { doubt: Some(_), .. }) => Verdict::Passthrough(Reason::Uninterpreted),
        FirstBytes::Http1(_) | FirstBytes::Http2(Some(_)) => clear(clear_authority(&conn.first), conn, cx),
        // It asks only after the server has spoken, so its host cannot be known yet.
        FirstBytes::Http2(None) if cx.rules.current().is_armed(&conn.log.caller(), cx.clock.now()) => {
            Verdict::Intercept(Reason::RuleCanName)
        }
        FirstBytes::Http2(None) if conn.log.caller().inspect.is_some() => Verdict::Intercept(Reason::Inspected),
        FirstBytes::Http2(None) => Verdict::Passthrough(Reason::NoRule),
    }
}

/// A request whose host is missing or ambiguous is nobody's but the destination's.
fn clear(authority: Option<String>, conn: &Sniffed, cx: &Context) -> Verdict {
    match authority {
        Some(authority) => {
            let caller = conn.log.caller();
            named(&authority, &caller, &Client::new(&caller, &authority), cx)
        }
        None => Verdict::Passthrough(Reason::NoRule),
    }
}

fn tls(hello: &ClientHello, conn: &Sniffed, cx: &Context) -> Verdict {
    if !speaks_http(hello) {
        return Verdict::Passthrough(Reason::OtherAlpn);
    }
    let name = server_name(hello, &conn.origin);
    let caller = conn.log.caller();
    let client = Client::new(&caller, &name);
    match named(&tls_authority(&name, conn.origin.port()), &caller, &client, cx) {
        Verdict::Intercept(_) if cx.learned.refused.contains(&client) => {
            Verdict::Passthrough(Reason::ClientRefusedAuthority)
        }
        verdict => verdict,
    }
}

/// A client that a rule has answered is looked into for a while after the rule is spent, since what it does next is what its
/// user wants to know. For every other client a spent rule changes nothing.
fn named(authority: &str, caller: &Caller, client: &Client, cx: &Context) -> Verdict {
    match cx.rules.current().naming(authority, caller, cx.clock.now()) {
        Naming::Armed => Verdict::Intercept(Reason::RuleCanName),
        Naming::Spent if cx.learned.answered.contains(client) => Verdict::Intercept(Reason::RuleSpent),
        Naming::Spent | Naming::Unnamed if caller.inspects(authority) => Verdict::Intercept(Reason::Inspected),
        Naming::Spent | Naming::Unnamed => Verdict::Passthrough(Reason::NoRule),
    }
}

/// Whether the client would speak HTTP inside: it offers no protocol at all, or one of HTTP's.
fn speaks_http(hello: &ClientHello) -> bool {
    hello.alpn.is_empty() || hello.alpn.iter().any(|protocol| protocol == b"h2" || protocol == b"http/1.1")
}

/// The name a TLS client asked for: its SNI, else the address it dialled, else what it told an explicit proxy.
#[must_use]
pub fn server_name(hello: &ClientHello, origin: &Origin) -> String {
    hello.server_name.clone().unwrap_or_else(|| origin.host())
}

/// The authority that the first request in the clear names.
#[must_use]
pub fn clear_authority(first: &FirstBytes) -> Option<String> {
    let asked = match first {
        FirstBytes::Http1(head) => head.authority.as_deref(),
        FirstBytes::Http2(head) => head.as_ref()?.authority.as_deref(),
        FirstBytes::Tls(_) | FirstBytes::Opaque(_) => None,
    };
    asked.map(|asked| normal_authority(asked, "http"))
}

/// The authority that a request inside TLS will most likely name.
fn tls_authority(name: &str, port: u16) -> String {
    let host = if name.contains(':') { format!("[{name}]") } else { name.to_owned() };
    normal_authority(&format!("{host}:{port}"), "https")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_http_is_looked_into() {
        let with = |alpn: &[&[u8]]| ClientHello {
            server_name: None,
            alpn: alpn.iter().map(|protocol| protocol.to_vec()).collect(),
        };
        assert!(speaks_http(&with(&[])));
        assert!(speaks_http(&with(&[b"h2", b"http/1.1"])));
        assert!(speaks_http(&with(&[b"acme-tls/1", b"http/1.1"])));
        assert!(!speaks_http(&with(&[b"postgresql"])));
    }
}
